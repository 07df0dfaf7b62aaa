//! Zip archives over a mapped file: the directory is read, entries are found in place, nothing is unpacked unasked.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::io::Read;
use std::ops::Range;
use std::sync::OnceLock;

use super::crc::crc32;
use crate::{Error, Map, MapSlice, Result, Source, Storage};

/// How many bytes a deflated entry that is read whole (a pickle, source text) may have.
const INFLATE_LIMIT: u64 = 32 << 20;
/// Storages that would grow more than [`BOMB_RATIO`] times, to more than this, are not inflated.
const BOMB_SIZE: u64 = 16 << 20;
const BOMB_RATIO: u64 = 200;
/// How much of a deflated storage is inflated when it is opened, to see that it is deflated at all.
const PROBE: usize = 64 << 10;

const END: [u8; 4] = *b"PK\x05\x06";
const END_LEN: usize = 22;
const END64: [u8; 4] = *b"PK\x06\x06";
const LOCATOR64: [u8; 4] = *b"PK\x06\x07";
const LOCATOR64_LEN: usize = 20;
const CENTRAL: [u8; 4] = *b"PK\x01\x02";
const CENTRAL_LEN: usize = 46;
const LOCAL: [u8; 4] = *b"PK\x03\x04";
const LOCAL_LEN: usize = 30;
/// The flag of entries whose checksum and sizes stand behind their bytes.
const DESCRIBED_AFTER: u16 = 1 << 3;
const DESCRIPTOR: [u8; 4] = *b"PK\x07\x08";

/// One entry of the directory, as it is declared there.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    /// The name; bytes that are not UTF-8 are replaced.
    pub name: String,
    /// Bytes when unpacked.
    pub size: u64,
    packed: u64,
    header: u64,
    crc: u32,
    method: u16,
    flags: u16,
}

/// A zip archive: its directory, and the file it is in.
#[derive(Debug)]
pub(crate) struct Zip {
    map: Map,
    entries: Vec<Entry>,
    index: HashMap<String, usize>,
    duplicates: HashSet<String>,
}

/// Whether a file has a zip's end record somewhere near its end.
pub(crate) fn has_end_record(bytes: &[u8]) -> bool {
    find_end(bytes).is_some()
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(bytes.get(at..at.checked_add(2)?)?.try_into().ok()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at.checked_add(4)?)?.try_into().ok()?))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at.checked_add(8)?)?.try_into().ok()?))
}

/// The end record: the last one whose comment fits in the file.
fn find_end(bytes: &[u8]) -> Option<usize> {
    let last = bytes.len().checked_sub(END_LEN)?;
    let first = last.saturating_sub(usize::from(u16::MAX));
    (first..=last).rev().find(|&at| {
        bytes[at..at + 4] == END
            && u16_at(bytes, at + 20).is_some_and(|comment| at + END_LEN + usize::from(comment) <= bytes.len())
    })
}

impl Zip {
    /// Reads the directory of a zip archive.
    pub fn open(map: &Map) -> Result<Self> {
        let bytes = map.bytes();
        let Some(end) = find_end(bytes) else {
            return Err(Error::damaged(format!(
                "the zip archive has no end record: the file is cut short after {} bytes; download or copy it again",
                bytes.len()
            )));
        };
        let (count, size, offset) = directory(bytes, end)?;
        let stop = offset.checked_add(size).filter(|&stop| stop <= end as u64);
        let Some(stop) = stop else {
            return Err(Error::damaged(format!(
                "the zip directory is declared at byte {offset} with {size} bytes, outside the file of {} bytes",
                bytes.len()
            )));
        };
        let table = &bytes[offset as usize..stop as usize];
        if count > table.len() as u64 / CENTRAL_LEN as u64 {
            return Err(Error::damaged(format!(
                "the zip end record declares {count} entries, more than its directory of {size} bytes holds"
            )));
        }
        let mut zip = Self {
            map: map.clone(),
            entries: Vec::with_capacity(count as usize),
            index: HashMap::new(),
            duplicates: HashSet::new(),
        };
        let mut at = 0;
        for number in 0..count {
            let Some((entry, next)) = central_entry(table, at) else {
                return Err(Error::damaged(format!("entry {number} of {count} in the zip directory is broken")));
            };
            at = next;
            if zip.index.insert(entry.name.clone(), zip.entries.len()).is_some() {
                zip.duplicates.insert(entry.name.clone());
            }
            zip.entries.push(entry);
        }
        Ok(zip)
    }

    /// The entries in the order of the directory.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Whether an entry of that name exists.
    pub fn contains(&self, name: &str) -> bool {
        self.index.contains_key(name)
    }

    fn entry(&self, name: &str) -> Result<&Entry> {
        if self.duplicates.contains(name) {
            return Err(Error::damaged(format!(
                "the zip archive has two entries named '{name}': which one counts is ambiguous"
            )));
        }
        match self.index.get(name) {
            Some(&index) => Ok(&self.entries[index]),
            None => Err(Error::damaged(format!("the zip archive has no entry '{name}'"))),
        }
    }

    /// Where the packed bytes of an entry lie, after checks of both headers.
    fn range(&self, entry: &Entry) -> Result<Range<u64>> {
        let name = &entry.name;
        if entry.flags & 1 != 0 {
            return Err(Error::unsupported(format!(
                "the zip entry '{name}' is encrypted: unpack the archive with its password first"
            )));
        }
        if entry.method != 0 && entry.method != 8 {
            return Err(Error::unsupported(format!(
                "the zip entry '{name}' uses compression method {}; stored (0) and deflated (8) are read",
                entry.method
            )));
        }
        let bytes = self.map.bytes();
        let outside =
            || Error::damaged(format!("the zip entry '{name}' lies outside the file of {} bytes", bytes.len()));
        let header = usize::try_from(entry.header).map_err(|_| outside())?;
        let local = bytes.get(header..).and_then(|rest| rest.get(..LOCAL_LEN)).ok_or_else(outside)?;
        if local[..4] != LOCAL {
            return Err(Error::damaged(format!(
                "the zip entry '{name}' has no header at byte {header}, where the directory places it"
            )));
        }
        let name_len = u16_at(local, 26).map_or(0, usize::from);
        let extra_len = u16_at(local, 28).map_or(0, usize::from);
        let local_name = bytes.get(header + LOCAL_LEN..header + LOCAL_LEN + name_len).ok_or_else(outside)?;
        if String::from_utf8_lossy(local_name) != name.as_str() {
            return Err(Error::damaged(format!(
                "the zip directory says '{name}', the entry's own header '{}': the archive is ambiguous",
                String::from_utf8_lossy(local_name)
            )));
        }
        let start = (header + LOCAL_LEN + name_len + extra_len) as u64;
        let end = start.checked_add(entry.packed).filter(|&end| end <= bytes.len() as u64);
        let Some(end) = end else {
            return Err(Error::damaged(format!(
                "the zip entry '{name}' claims {} bytes, the file ends before",
                entry.packed
            )));
        };
        if entry.method == 0 && entry.packed != entry.size {
            return Err(Error::damaged(format!(
                "the stored zip entry '{name}' has two sizes, {} and {}",
                entry.packed, entry.size
            )));
        }
        Ok(start..end)
    }

    /// A small entry, whole: a pickle or a text. Its checksum is checked.
    pub fn read(&self, name: &str) -> Result<Cow<'_, [u8]>> {
        let entry = self.entry(name)?;
        let range = self.range(entry)?;
        let stored = &self.map.bytes()[range.start as usize..range.end as usize];
        if entry.method == 0 {
            check_crc(name, stored, entry.crc)?;
            return Ok(Cow::Borrowed(stored));
        }
        if entry.size > INFLATE_LIMIT {
            return Err(Error::unsupported(format!(
                "the zip entry '{name}' inflates to {} bytes; at most {INFLATE_LIMIT} are read: store it without compression",
                entry.size
            )));
        }
        let bytes = inflate(name, stored, entry.size)?;
        check_crc(name, &bytes, entry.crc)?;
        Ok(Cow::Owned(bytes))
    }

    /// An entry as a file of its own: in place where it is stored, inflated into memory otherwise. The checksum of a stored
    /// entry is not checked: its own reader checks what it reads.
    pub fn file(&self, name: &str) -> Result<Map> {
        let entry = self.entry(name)?;
        if entry.method == 0 {
            let range = self.range(entry)?;
            return self
                .map
                .part(range)
                .ok_or_else(|| Error::damaged(format!("the zip entry '{name}' lies outside the file")));
        }
        let (storage, _) = self.storage(name, "")?;
        Ok(Map::from_bytes(self.map.path(), storage.bytes()?.into_owned()))
    }

    /// An entry as a storage whose bytes are read, inflated and checked when they are asked for.
    pub fn storage(&self, name: &str, key: &str) -> Result<(Storage, Range<u64>)> {
        let entry = self.entry(name)?;
        let range = self.range(entry)?;
        let Some(slice) = self.map.slice(range.clone()) else {
            return Err(Error::damaged(format!("the zip entry '{name}' lies outside the file")));
        };
        if entry.method == 8 {
            probe(name, &slice.bytes()?, entry.size)?;
        }
        let packed = Packed {
            name: name.to_string(),
            slice,
            size: entry.size,
            crc: entry.crc,
            deflated: entry.method == 8,
            checked: OnceLock::new(),
        };
        Ok((Storage::new(packed, key), range))
    }
}

/// Number of entries, size and offset of the directory, from the end record and its 64-bit form.
fn directory(bytes: &[u8], end: usize) -> Result<(u64, u64, u64)> {
    let broken = || Error::damaged("the zip end record is broken");
    let count = u16_at(bytes, end + 10).ok_or_else(broken)?;
    let size = u32_at(bytes, end + 12).ok_or_else(broken)?;
    let offset = u32_at(bytes, end + 16).ok_or_else(broken)?;
    if count != u16::MAX && size != u32::MAX && offset != u32::MAX {
        return Ok((u64::from(count), u64::from(size), u64::from(offset)));
    }
    let locator = end.checked_sub(LOCATOR64_LEN).filter(|&at| bytes[at..at + 4] == LOCATOR64);
    let Some(locator) = locator else {
        return Ok((u64::from(count), u64::from(size), u64::from(offset)));
    };
    let at = u64_at(bytes, locator + 8).and_then(|at| usize::try_from(at).ok()).ok_or_else(broken)?;
    if bytes.get(at..).and_then(|rest| rest.get(..4)) != Some(&END64[..]) {
        return Err(Error::damaged(format!(
            "the zip archive has no 64-bit end record at byte {at}, where its locator points"
        )));
    }
    let field = |offset| u64_at(bytes, at + offset).ok_or_else(broken);
    Ok((field(32)?, field(40)?, field(48)?))
}

/// One entry of the directory and where the next begins.
fn central_entry(table: &[u8], at: usize) -> Option<(Entry, usize)> {
    let head = table.get(at..)?.get(..CENTRAL_LEN)?;
    if head[..4] != CENTRAL {
        return None;
    }
    let name_len = usize::from(u16_at(head, 28)?);
    let extra_len = usize::from(u16_at(head, 30)?);
    let comment_len = usize::from(u16_at(head, 32)?);
    let name = table.get(at + CENTRAL_LEN..)?.get(..name_len)?;
    let extra = table.get(at + CENTRAL_LEN + name_len..)?.get(..extra_len)?;
    let mut entry = Entry {
        name: String::from_utf8_lossy(name).into_owned(),
        size: u64::from(u32_at(head, 24)?),
        packed: u64::from(u32_at(head, 20)?),
        header: u64::from(u32_at(head, 42)?),
        crc: u32_at(head, 16)?,
        method: u16_at(head, 10)?,
        flags: u16_at(head, 8)?,
    };
    // The 64-bit field holds, in this order, those of the three that do not fit in 32 bits.
    let mut rest = extra;
    while rest.len() >= 4 {
        let (id, len) = (u16_at(rest, 0)?, usize::from(u16_at(rest, 2)?));
        let Some(field) = rest.get(4..4 + len) else { break };
        if id == 1 {
            let mut wide = field.chunks_exact(8).map(|chunk| u64_at(chunk, 0).unwrap_or(u64::MAX));
            for value in [&mut entry.size, &mut entry.packed, &mut entry.header] {
                if *value == u64::from(u32::MAX) {
                    *value = wide.next()?;
                }
            }
        }
        rest = &rest[4 + len..];
    }
    Some((entry, at + CENTRAL_LEN + name_len + extra_len + comment_len))
}

/// Makes the checksums of stored entries right whose bytes were changed, in archives inside of entries first.
///
/// # Errors
/// When the archive has no directory, or an entry lies outside of it.
pub(crate) fn restore_checksums(bytes: &mut [u8], changed: &[Range<usize>]) -> Result<()> {
    restore(bytes, changed, 0)
}

/// How deep archives may lie inside each other.
const NESTED: usize = 4;

fn restore(bytes: &mut [u8], changed: &[Range<usize>], depth: usize) -> Result<()> {
    let broken = || Error::damaged("the zip directory is broken");
    let end = find_end(bytes).ok_or_else(broken)?;
    let (count, size, offset) = directory(bytes, end)?;
    let table =
        offset as usize..offset.checked_add(size).filter(|&end| end <= bytes.len() as u64).ok_or_else(broken)? as usize;
    let mut at = 0;
    for _ in 0..count {
        let (entry, next) = central_entry(&bytes[table.clone()], at).ok_or_else(broken)?;
        let record = table.start + at;
        at = next;
        let header = entry.header as usize;
        let local = bytes.get(header..).and_then(|rest| rest.get(..LOCAL_LEN)).ok_or_else(broken)?;
        let names = u16_at(local, 26).map_or(0, usize::from) + u16_at(local, 28).map_or(0, usize::from);
        let start = header + LOCAL_LEN + names;
        let end = start.checked_add(entry.packed as usize).filter(|&end| end <= bytes.len()).ok_or_else(broken)?;
        let inside: Vec<Range<usize>> = changed
            .iter()
            .filter(|part| part.start < end && part.end > start)
            .map(|part| part.start.saturating_sub(start)..part.end.min(end) - start)
            .collect();
        if inside.is_empty() {
            continue;
        }
        if entry.method != 0 {
            return Err(Error::unsupported(format!("the zip entry '{}' is deflated", entry.name)));
        }
        let content = &mut bytes[start..end];
        if depth < NESTED && content.starts_with(&LOCAL) && find_end(content).is_some() {
            restore(content, &inside, depth + 1)?;
        }
        if entry.crc == 0 {
            continue;
        }
        let crc = crc32(content).to_le_bytes();
        bytes[record + 16..record + 20].copy_from_slice(&crc);
        let told = &mut bytes[header + 14..header + 18];
        if *told == entry.crc.to_le_bytes() {
            told.copy_from_slice(&crc);
        }
        if entry.flags & DESCRIBED_AFTER != 0 && bytes.get(end..end + 4) == Some(&DESCRIPTOR[..]) {
            bytes.get_mut(end + 4..end + 8).ok_or_else(broken)?.copy_from_slice(&crc);
        }
    }
    Ok(())
}

/// PyTorch can write archives without checksums: then the field is 0 whatever the data.
fn check_crc(name: &str, bytes: &[u8], crc: u32) -> Result<()> {
    let found = if crc == 0 { 0 } else { crc32(bytes) };
    if found == crc {
        return Ok(());
    }
    Err(Error::damaged(format!(
        "the zip entry '{name}' is damaged: its checksum is {found:08x}, the archive says {crc:08x}; download or copy the file again"
    )))
}

fn inflate(name: &str, packed: &[u8], size: u64) -> Result<Vec<u8>> {
    let wanted = usize::try_from(size)
        .map_err(|_| Error::unsupported(format!("the zip entry '{name}' is too large for this machine")))?;
    let mut bytes = Vec::new();
    // A deflated stream grows at most 1032 times, so what it can hold is known before anything is allocated.
    if size / 1032 > packed.len() as u64 {
        return Err(short(name, packed.len() as u64 * 1032, size));
    }
    bytes
        .try_reserve_exact(wanted)
        .map_err(|_| Error::unsupported(format!("not enough memory for the zip entry '{name}' of {size} bytes")))?;
    flate2::read::DeflateDecoder::new(packed)
        .take(size.saturating_add(1))
        .read_to_end(&mut bytes)
        .map_err(|error| broken(name, &error))?;
    if bytes.len() != wanted {
        return Err(short(name, bytes.len() as u64, size));
    }
    Ok(bytes)
}

/// Inflates the beginning of a storage, so that a stream that is none is found when the file is opened.
fn probe(name: &str, packed: &[u8], size: u64) -> Result<()> {
    let mut decoder = flate2::read::DeflateDecoder::new(packed);
    let mut buffer = vec![0; PROBE.min(size.saturating_add(1) as usize)];
    let mut filled = 0;
    while filled < buffer.len() {
        match decoder.read(&mut buffer[filled..]).map_err(|error| broken(name, &error))? {
            0 => break,
            n => filled += n,
        }
    }
    if filled < buffer.len() && filled as u64 != size || filled as u64 > size {
        return Err(short(name, filled as u64, size));
    }
    Ok(())
}

fn broken(name: &str, error: &std::io::Error) -> Error {
    Error::damaged(format!("the zip entry '{name}' is no valid deflated stream: {error}"))
}

fn short(name: &str, found: u64, size: u64) -> Error {
    Error::damaged(format!("the zip entry '{name}' inflates to {found} bytes, the archive says {size}"))
}

/// The bytes of an entry, read when they are asked for.
struct Packed {
    name: String,
    slice: MapSlice,
    size: u64,
    crc: u32,
    deflated: bool,
    /// Set once the checksum of a stored entry was found right: it is not computed again.
    checked: OnceLock<()>,
}

impl Source for Packed {
    fn len(&self) -> u64 {
        self.size
    }

    fn bytes(&self) -> Result<Cow<'_, [u8]>> {
        let stored = self.slice.bytes()?;
        if !self.deflated {
            if self.checked.get().is_none() {
                check_crc(&self.name, &stored, self.crc)?;
                let _ = self.checked.set(());
            }
            return Ok(stored);
        }
        if self.size > BOMB_SIZE && self.size / BOMB_RATIO > self.slice.len() {
            return Err(Error::unsupported(format!(
                "the zip entry '{}' would inflate from {} to {} bytes, as only a zip bomb does: it is not read",
                self.name,
                self.slice.len(),
                self.size
            )));
        }
        let bytes = inflate(&self.name, &stored, self.size)?;
        check_crc(&self.name, &bytes, self.crc)?;
        Ok(Cow::Owned(bytes))
    }

    fn resident(&self) -> Option<&[u8]> {
        if self.deflated { None } else { self.slice.resident() }
    }
}
