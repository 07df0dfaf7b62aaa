//! The formats of model files: one `impl Format` each, found by content, written by the extension of a file's name.

use std::cell::OnceCell;
use std::fmt::Debug;
use std::path::Path;

use crate::torch::zip::{self, Zip};
use crate::{
    Content, Error, ErrorKind, Map, ModuleTree, OnnxSummary, Result, SaveOptions, Value, burnpack, npy, onnx,
    safetensors, sharded, torch,
};

/// Every format, in the order in which a file is asked whether it is one. To add a format: its file and a row here.
pub static FORMATS: &[&dyn Format] = &[
    &sharded::ShardIndex,
    &torch::Distributed,
    &torch::TorchScript,
    &torch::ModelZip,
    &torch::TorchZip,
    &safetensors::Safetensors,
    &burnpack::Burnpack,
    &npy::Npz,
    &npy::Npy,
    &torch::TorchLegacy,
    &torch::Pickle,
    &torch::TorchTar,
    &onnx::Onnx,
];

/// A function that writes a tree of values as a file, which appears whole or not at all, and gives notes on what the format
/// could not say.
pub type Writer = fn(&Path, &Value, &SaveOptions) -> Result<Vec<String>>;

/// A file format.
pub trait Format: Debug + Send + Sync {
    /// The name that `inspect` prints.
    fn name(&self) -> &'static str;

    /// The extensions, without a dot, that ask for this format when a file is written; the usual one first.
    fn extensions(&self) -> &'static [&'static str] {
        &[]
    }

    /// Whether a file or folder is of this format, by its content. Cheap, and never an error.
    fn recognizes(&self, file: &Probe<'_>) -> bool;

    /// Reads the structure of a file that [`Format::recognizes`] said yes to.
    ///
    /// # Errors
    /// When the file is damaged, or holds something that is not supported.
    fn read(&self, file: &Probe<'_>) -> Result<Opened>;

    /// How files of this format are written; `None` for a format that is only read.
    fn writer(&self) -> Option<Writer> {
        None
    }

    /// Whether text can be stored beside the tensors ([`SaveOptions::metadata`]).
    fn keeps_metadata(&self) -> bool {
        false
    }
}

impl PartialEq for dyn Format {
    fn eq(&self, other: &Self) -> bool {
        self.name() == other.name()
    }
}

/// A file or folder that formats look at.
pub struct Probe<'a> {
    map: Option<&'a Map>,
    path: &'a Path,
    zip: OnceCell<Option<Zip>>,
}

impl<'a> Probe<'a> {
    pub(crate) fn file(map: &'a Map) -> Self {
        Self { map: Some(map), path: map.path(), zip: OnceCell::new() }
    }

    pub(crate) fn folder(path: &'a Path) -> Self {
        Self { map: None, path, zip: OnceCell::new() }
    }

    /// Where it is; empty for bytes in memory.
    pub fn path(&self) -> &'a Path {
        self.path
    }

    /// Whether it is a folder.
    pub fn is_folder(&self) -> bool {
        self.map.is_none()
    }

    /// The file, mapped.
    ///
    /// # Errors
    /// When it is a folder.
    pub fn map(&self) -> Result<&'a Map> {
        self.map.ok_or_else(|| Error::io("read", self.path, std::io::ErrorKind::IsADirectory.into()))
    }

    /// The bytes of the file; none for a folder.
    pub fn bytes(&self) -> &'a [u8] {
        self.map.map(Map::bytes).unwrap_or_default()
    }

    /// Whether it begins like a zip archive.
    pub(crate) fn is_zip(&self) -> bool {
        let bytes = self.bytes();
        // The length of a safetensors header may begin with the same bytes.
        (bytes.starts_with(b"PK\x03\x04") || bytes.starts_with(b"PK\x05\x06")) && !safetensors::has_header(bytes)
    }

    /// The zip archive, if it is one that is whole.
    pub(crate) fn zip(&self) -> Option<&Zip> {
        self.zip.get_or_init(|| self.map.filter(|_| self.is_zip()).and_then(|map| Zip::open(map).ok())).as_ref()
    }
}

/// What a format read from a file.
#[derive(Debug)]
pub struct Opened {
    /// The values.
    pub content: Content,
    /// The class tree of a TorchScript archive.
    pub script: Option<ModuleTree>,
    /// Inputs, outputs and operators of an ONNX model.
    pub onnx: Option<OnnxSummary>,
    /// The format, where it is that of files inside.
    pub format: Option<&'static dyn Format>,
    /// Number of files and bytes of all of them, where it is not the one file.
    pub files: Option<(u64, u64)>,
}

impl From<Content> for Opened {
    fn from(content: Content) -> Self {
        Self { content, script: None, onnx: None, format: None, files: None }
    }
}

/// Finds the format of a file or folder.
pub(crate) fn find(file: &Probe<'_>) -> Result<&'static dyn Format> {
    if let Some(format) = FORMATS.iter().find(|format| format.recognizes(file)) {
        return Ok(*format);
    }
    if file.is_folder() {
        return Err(unknown(
            "this folder is no model: expected an index of shards (*.index.json), one model file such as \
             model.safetensors, or a torch.distributed.checkpoint (.metadata)",
        ));
    }
    if file.bytes().is_empty() {
        return Err(unknown("the file is empty: download or save it again"));
    }
    Err(unknown_content(file.bytes()))
}

/// The format that the extension of a file's name stands for when it is written.
///
/// # Errors
/// When it stands for none that is written.
pub fn format_for(path: &Path) -> Result<&'static dyn Format> {
    let extension = path.extension().map(|extension| extension.to_string_lossy().to_lowercase()).unwrap_or_default();
    if let Some(format) = FORMATS.iter().find(|format| format.extensions().contains(&extension.as_str())) {
        return Ok(*format);
    }
    let found = if extension.is_empty() { "no extension".to_string() } else { format!("the extension .{extension}") };
    let known: Vec<_> =
        FORMATS.iter().filter_map(|format| format.extensions().first()).map(|name| format!(".{name}")).collect();
    let known = match known.split_last() {
        Some((last, others)) => format!("{} or {last}", others.join(", ")),
        None => String::new(),
    };
    Err(Error::unsupported(format!("{found} says no format that is written: name it {known}")).at(path))
}

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
    (b"\x89PNG", "a PNG image"),
    (b"\xff\xd8\xff", "a JPEG image"),
    (b"%PDF", "a PDF document"),
    (b"\x7fELF", "a program or library (ELF)"),
];

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
            let found = crate::read(&Map::from_bytes(Path::new("w"), bytes)).unwrap();
            assert_eq!(
                (found.format.name(), found.content.root.as_dict().unwrap().len()),
                ("safetensors", 1),
                "{length}"
            );
        }
    }
}
