//! Which format a file has, by its content and never by its name.

use crate::torch::zip::{self, Zip};
use crate::{
    Content, Error, ErrorKind, Format, Map, ModuleTree, OnnxSummary, Result, burnpack, npy, onnx, safetensors, torch,
};

/// Files that are mistaken for models, by their first bytes.
const OTHERS: &[(&[u8], &str)] = &[
    (b"\x1f\x8b", "gzip data: unpack it with gunzip first"),
    (b"BZh", "bzip2 data: unpack it with bunzip2 first"),
    (b"\xfd7zXZ\0", "xz data: unpack it with unxz first"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive: unpack it first"),
    (b"Rar!", "a RAR archive: unpack it first"),
    (b"\x28\xb5\x2f\xfd", "zstd data: unpack it with unzstd first"),
    (
        b"\x89HDF\r\n\x1a\n",
        "an HDF5 file, as Keras writes; PyTorch, safetensors, burnpack, numpy and ONNX files are read",
    ),
    (b"GGUF", "a GGUF file; PyTorch, safetensors, burnpack, numpy and ONNX files are read"),
    (b"\x89PNG", "a PNG picture"),
    (b"\xff\xd8\xff", "a JPEG picture"),
    (b"%PDF", "a PDF document"),
    (b"\x7fELF", "a program or library (ELF)"),
];

/// A file that was read.
pub(crate) struct Found {
    pub format: Format,
    pub content: Content,
    /// The class tree of a TorchScript archive.
    pub script: Option<ModuleTree>,
    /// Inputs, outputs and operators of an ONNX model.
    pub onnx: Option<OnnxSummary>,
}

impl Found {
    fn new(format: Format, content: Content) -> Self {
        Self { format, content, script: None, onnx: None }
    }
}

/// Finds the format and reads the file.
pub(crate) fn read(map: &Map) -> Result<Found> {
    let bytes = map.bytes();
    if bytes.is_empty() {
        return Err(unknown("the file is empty: download or save it again"));
    }
    // First: the length of a header may begin with the bytes that a pickle or an archive begins with.
    if is_safetensors(bytes) {
        return Ok(Found::new(Format::Safetensors, safetensors::read_safetensors(map)?));
    }
    if bytes.starts_with(b"PK\x03\x04") || bytes.starts_with(b"PK\x05\x06") {
        return read_zip(map);
    }
    if bytes[0] == 0x80 || looks_like_text_pickle(bytes) {
        if torch::is_legacy(bytes) {
            return Ok(Found::new(Format::TorchLegacy, torch::read_legacy(map)?));
        }
        return Ok(Found::new(Format::Pickle, torch::read_pickle(map)?));
    }
    if torch::is_tar(bytes) {
        return Ok(Found::new(Format::TorchTar, torch::read_tar(map)?));
    }
    match other_format(bytes) {
        Some(Format::Burnpack) => Ok(Found::new(Format::Burnpack, burnpack::read_burnpack(map)?)),
        Some(Format::Npy) => Ok(Found::new(Format::Npy, npy::read_npy(map)?)),
        Some(Format::Onnx) => {
            let (content, summary) = onnx::read_onnx(map)?;
            Ok(Found { onnx: Some(summary), ..Found::new(Format::Onnx, content) })
        }
        _ => Err(unknown_content(bytes)),
    }
}

/// Eight bytes of length, of which the upper are 0, then JSON: no pickle goes on like that.
fn is_safetensors(bytes: &[u8]) -> bool {
    matches!(bytes, [_, _, _, _, 0, 0, 0, 0, b'{', ..])
}

/// Formats that are not PyTorch's, by their first bytes.
fn other_format(bytes: &[u8]) -> Option<Format> {
    match bytes {
        [b'N', b'R', b'U', b'B', ..] => Some(Format::Burnpack),
        [0x93, b'N', b'U', b'M', b'P', b'Y', ..] => Some(Format::Npy),
        _ if onnx::is_onnx(bytes) => Some(Format::Onnx),
        _ => None,
    }
}

fn read_zip(map: &Map) -> Result<Found> {
    let zip = Zip::open(map)?;
    let arrays = zip.entries().iter().filter(|entry| !entry.name.ends_with('/'));
    if arrays.clone().next().is_some() && arrays.clone().all(|entry| entry.name.ends_with(".npy")) {
        return Ok(Found::new(Format::Npz, npy::read_npz(map)?));
    }
    if torch::is_exported(&zip) {
        return Ok(Found::new(Format::TorchZip, torch::read_exported(&zip)?));
    }
    if torch::is_script(&zip) {
        let (content, script) = torch::read_script(&zip)?;
        return Ok(Found { script, ..Found::new(Format::TorchScript, content) });
    }
    Ok(Found::new(Format::TorchZip, torch::read_zip(&zip)?))
}

/// Protocols 0 and 1 have no mark at the beginning: the first opcode makes a container or names a class.
fn looks_like_text_pickle(bytes: &[u8]) -> bool {
    match bytes {
        [b'(' | b']' | b'}' | b')', next, ..] => b"(]})dlpqNIJKMLSUVXTFGcr.".contains(next),
        // The legacy format in protocol 0 begins with its magic number in digits.
        [b'L', b'0'..=b'9', ..] => true,
        [b'c', next, ..] => {
            let line = bytes.iter().take(200).position(|&byte| byte == b'\n').unwrap_or(0);
            (next.is_ascii_alphabetic() || *next == b'_')
                && bytes[..line].iter().all(|&byte| byte.is_ascii_alphanumeric() || b"._".contains(&byte))
                && line > 1
        }
        _ => false,
    }
}

fn unknown(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::UnknownFormat, message)
}

/// Says what a file of no known format seems to be.
fn unknown_content(bytes: &[u8]) -> Error {
    if bytes.starts_with(b"version https://git-lfs.github.com/spec/") {
        return unknown("it is a Git LFS pointer, not the file itself: fetch that with 'git lfs pull'");
    }
    if let Some((_, what)) = OTHERS.iter().find(|(magic, _)| bytes.starts_with(magic)) {
        return unknown(format!("it is no model file but {what}"));
    }
    if b"PK\x03\x04".starts_with(bytes) {
        return unknown(format!("it is cut short after {} bytes; download or copy it again", bytes.len()));
    }
    let head = &bytes[..bytes.len().min(1024)];
    let start = head.trim_ascii_start().to_ascii_lowercase();
    if start.starts_with(b"<!doctype html") || start.starts_with(b"<html") || start.starts_with(b"<?xml") {
        return unknown(
            "it is a web page, not a model file: the download gave an error or login page; download it again",
        );
    }
    if head.iter().all(|&byte| byte == 0) {
        return unknown("it begins with zero bytes only: the download or copy did not finish; get it again");
    }
    if head.iter().all(|&byte| byte.is_ascii_graphic() || byte.is_ascii_whitespace()) {
        return unknown("it is plain text, not a model file");
    }
    if zip::has_end_record(bytes) {
        return unknown(
            "it ends like a zip archive but does not begin like one: its beginning is damaged; download or copy it again",
        );
    }
    let first: Vec<_> = bytes.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    unknown(format!(
        "it is of no known format (it begins with {}); PyTorch, safetensors, burnpack, numpy and ONNX files are read",
        first.join(" ")
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A header of 128 bytes begins with the byte of a pickle, one of 640 even with a protocol after it.
    #[test]
    fn the_length_of_a_header_is_no_magic_number() {
        for length in [128_u64, 640, 2 + 0x80 + (4 << 8)] {
            let mut bytes = length.to_le_bytes().to_vec();
            bytes.extend(br#"{"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}"#);
            bytes.resize(8 + length as usize, b' ');
            bytes.extend(1_f32.to_le_bytes());
            let found = read(&Map::from_bytes(std::path::Path::new("w"), bytes)).unwrap();
            assert_eq!(
                (found.format, found.content.root.as_dict().unwrap().len()),
                (Format::Safetensors, 1),
                "{length}"
            );
        }
    }
}
