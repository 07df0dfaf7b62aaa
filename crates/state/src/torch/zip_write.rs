//! A zip archive as PyTorch reads it: stored entries, contents aligned to 64 bytes, zip64 where sizes ask for it.

use crate::{AtomicFile, Error, Result};

/// Contents begin at multiples of this, as PyTorch's do, so that a mapped file can be used as it is.
const ALIGNMENT: u64 = 64;
/// Names are in UTF-8.
const FLAGS: u16 = 1 << 11;
/// 1 January 1980, the first day that zip knows: archives do not depend on the clock.
const DATE: u16 = (1 << 5) | 1;
/// What 32-bit fields hold when the value is in the zip64 field.
const IN_ZIP64: u32 = u32::MAX;
/// Up to this many bytes the checksum is computed first; beyond, beside the writing.
const BESIDE: usize = 4 << 20;

struct Entry {
    name: String,
    crc: u32,
    size: u64,
    header: u64,
}

/// Writes entries one after the other.
pub(crate) struct ZipWriter {
    file: AtomicFile,
    entries: Vec<Entry>,
    /// Sizes from here on are written in 64 bits.
    limit: u64,
}

impl ZipWriter {
    pub fn new(file: AtomicFile) -> Self {
        Self { file, entries: Vec::new(), limit: u64::from(u32::MAX) }
    }

    /// Lowers what counts as large, so that a test needs no file of 4 GiB.
    #[cfg(test)]
    pub fn with_limit(mut self, limit: u64) -> Self {
        self.limit = limit;
        self
    }

    /// Adds an entry.
    pub fn add(&mut self, name: &str, bytes: &[u8]) -> Result<()> {
        self.add_parts(name, &[], bytes)
    }

    /// Adds an entry whose content is a short beginning and the rest.
    pub fn add_parts(&mut self, name: &str, head: &[u8], bytes: &[u8]) -> Result<()> {
        let header = self.file.position();
        let size = head.len() as u64 + bytes.len() as u64;
        let checksum = || {
            let mut hasher = crc32fast::Hasher::new();
            hasher.update(head);
            hasher.update(bytes);
            hasher.finalize()
        };
        let early = if bytes.len() <= BESIDE { checksum() } else { 0 };
        let local = self.local_header(name, early, size, header)?;
        self.file.put(&local)?;
        self.file.put(head)?;
        let crc = if bytes.len() <= BESIDE {
            self.file.put(bytes)?;
            early
        } else {
            let file = &mut self.file;
            let (crc, written) = std::thread::scope(|scope| {
                let crc = scope.spawn(checksum);
                let written = bytes.chunks(BESIDE).try_for_each(|chunk| file.put(chunk));
                (crc.join(), written)
            });
            written?;
            let crc = crc.map_err(|_| Error::unsupported("the checksum of an entry could not be computed"))?;
            self.file.patch(header + 14, &crc.to_le_bytes())?;
            crc
        };
        self.entries.push(Entry { name: name.to_string(), crc, size, header });
        Ok(())
    }

    fn local_header(&self, name: &str, crc: u32, size: u64, at: u64) -> Result<Vec<u8>> {
        let zip64 = size >= self.limit;
        let mut extra = Vec::new();
        if zip64 {
            extra.extend(1_u16.to_le_bytes());
            extra.extend(16_u16.to_le_bytes());
            extra.extend(size.to_le_bytes());
            extra.extend(size.to_le_bytes());
        }
        // PyTorch's padding: an extra field `FB` that fills up to the alignment.
        let content = at + 30 + name.len() as u64 + extra.len() as u64 + 4;
        let padding = (content.next_multiple_of(ALIGNMENT) - content) as u16;
        extra.extend(b"FB");
        extra.extend(padding.to_le_bytes());
        extra.resize(extra.len() + usize::from(padding), b'Z');

        let mut header = b"PK\x03\x04".to_vec();
        header.extend(version(zip64).to_le_bytes());
        header.extend(FLAGS.to_le_bytes());
        header.extend([0; 4]); // stored; midnight
        header.extend(DATE.to_le_bytes());
        header.extend(crc.to_le_bytes());
        let short = if zip64 { IN_ZIP64 } else { size as u32 };
        header.extend(short.to_le_bytes());
        header.extend(short.to_le_bytes());
        header.extend(name_length(name)?.to_le_bytes());
        header.extend((extra.len() as u16).to_le_bytes());
        header.extend(name.as_bytes());
        header.extend(extra);
        Ok(header)
    }

    /// Writes the directory; the file is whole, and not yet in its place.
    pub fn finish(mut self) -> Result<AtomicFile> {
        let start = self.file.position();
        let mut directory = Vec::new();
        for entry in &self.entries {
            self.central_header(entry, &mut directory)?;
        }
        let size = directory.len() as u64;
        let count = self.entries.len() as u64;
        if count >= u64::from(u16::MAX) || start >= self.limit || size >= self.limit {
            let end = start + size;
            directory.extend(b"PK\x06\x06");
            directory.extend(44_u64.to_le_bytes());
            directory.extend(version(true).to_le_bytes());
            directory.extend(version(true).to_le_bytes());
            directory.extend([0; 8]); // this disk, the directory's disk
            directory.extend(count.to_le_bytes());
            directory.extend(count.to_le_bytes());
            directory.extend(size.to_le_bytes());
            directory.extend(start.to_le_bytes());
            directory.extend(b"PK\x06\x07");
            directory.extend([0; 4]);
            directory.extend(end.to_le_bytes());
            directory.extend(1_u32.to_le_bytes());
        }
        let short_count = u16::try_from(count).unwrap_or(u16::MAX);
        directory.extend(b"PK\x05\x06");
        directory.extend([0; 4]);
        directory.extend(short_count.to_le_bytes());
        directory.extend(short_count.to_le_bytes());
        directory.extend(self.short(size).to_le_bytes());
        directory.extend(self.short(start).to_le_bytes());
        directory.extend([0; 2]);
        self.file.put(&directory)?;
        Ok(self.file)
    }

    fn short(&self, value: u64) -> u32 {
        if value >= self.limit { IN_ZIP64 } else { value as u32 }
    }

    fn central_header(&self, entry: &Entry, out: &mut Vec<u8>) -> Result<()> {
        let mut extra = Vec::new();
        if entry.size >= self.limit {
            extra.extend(entry.size.to_le_bytes());
            extra.extend(entry.size.to_le_bytes());
        }
        if entry.header >= self.limit {
            extra.extend(entry.header.to_le_bytes());
        }
        let zip64 = !extra.is_empty();
        out.extend(b"PK\x01\x02");
        out.extend(version(zip64).to_le_bytes());
        out.extend(version(zip64).to_le_bytes());
        out.extend(FLAGS.to_le_bytes());
        out.extend([0; 4]);
        out.extend(DATE.to_le_bytes());
        out.extend(entry.crc.to_le_bytes());
        out.extend(self.short(entry.size).to_le_bytes());
        out.extend(self.short(entry.size).to_le_bytes());
        out.extend(name_length(&entry.name)?.to_le_bytes());
        out.extend((if zip64 { extra.len() as u16 + 4 } else { 0 }).to_le_bytes());
        out.extend([0; 10]); // no comment; disk 0; attributes
        out.extend(self.short(entry.header).to_le_bytes());
        out.extend(entry.name.as_bytes());
        if zip64 {
            out.extend(1_u16.to_le_bytes());
            out.extend((extra.len() as u16).to_le_bytes());
            out.extend(extra);
        }
        Ok(())
    }
}

/// The version of zip that a reader has to know: 4.5 for 64-bit sizes.
fn version(zip64: bool) -> u16 {
    if zip64 { 45 } else { 20 }
}

fn name_length(name: &str) -> Result<u16> {
    u16::try_from(name.len())
        .map_err(|_| Error::unsupported(format!("a name of {} bytes does not go into a zip archive", name.len())))
}

#[cfg(test)]
mod tests {
    use super::super::zip::Zip;
    use super::*;
    use crate::Map;

    /// The archive of a limit, read back; `with_limit` stands for files of 4 GiB.
    fn round_trip(limit: u64, large: usize) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.zip");
        let mut zip = ZipWriter::new(AtomicFile::create(&path).unwrap()).with_limit(limit);
        let content: Vec<u8> = (0..large).map(|i| i as u8).collect();
        zip.add("root/small", b"abc").unwrap();
        zip.add("root/large", &content).unwrap();
        zip.add_parts("root/parts", b"head", &content).unwrap();
        zip.finish().unwrap().commit().unwrap();
        let map = Map::open(&path).unwrap();
        let zip = Zip::open(&map).unwrap();
        assert_eq!(zip.read("root/small").unwrap().as_ref(), b"abc");
        let (storage, range) = zip.storage("root/large", "").unwrap();
        assert_eq!(range.start % ALIGNMENT, 0);
        assert!(storage.bytes().unwrap().as_ref() == content);
        assert_eq!(zip.read("root/parts").unwrap().len(), large + 4);
    }

    #[test]
    fn entries_read_back() {
        round_trip(u64::from(u32::MAX), 1000);
        round_trip(u64::from(u32::MAX), BESIDE + 1);
    }

    #[test]
    fn wide_sizes_and_offsets_read_back() {
        round_trip(0, 1000);
        round_trip(500, 1000);
        round_trip(1200, 1000);
    }
}
