//! Event files that TensorBoard reads, beside `metrics.jsonl`.
//!
//! A file is a list of records: the length (64 bits, little-endian), its checksum, an `Event` message of TensorFlow, its checksum. The
//! few fields that scalars need are encoded here: the message has not changed since 2015.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use super::events::{EpochReport, Event, Observer};

/// Writes the numbers of epochs.
pub(super) struct TensorBoard {
    /// None after an error.
    file: Option<File>,
}

impl TensorBoard {
    /// A new file for a training that goes on from a step; what earlier files say of later steps no longer counts.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(super) fn create(run: &Path, step: u64) -> io::Result<Self> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        // TensorBoard reads files in the order of their names.
        let name =
            format!("events.out.tfevents.{}.rekindle.{}.{}", now.as_secs(), std::process::id(), now.subsec_nanos());
        let mut file = File::create_new(run.join(name))?;
        file.write_all(&record(&event(0, 3, b"brain.Event:2")))?;
        if step > 0 {
            // SessionLog { status: START } at the next step.
            file.write_all(&record(&event(step + 1, 7, &[0x08, 0x01])))?;
        }
        Ok(Self { file: Some(file) })
    }

    fn write(&mut self, report: &EpochReport) -> io::Result<()> {
        let Some(file) = &mut self.file else { return Ok(()) };
        let more = [("lr", report.lr), ("seconds", report.seconds), ("epoch", report.epoch as f64)];
        let more = more.into_iter().map(|(name, value)| (name.to_string(), value));
        // `train/loss` and `train/accuracy` are shown together.
        let metrics = report.metrics.iter().map(|(name, value)| (name.replace('.', "/"), *value));
        let mut summary = Vec::new();
        for (tag, value) in metrics.chain(more) {
            let mut one = field(1, tag.as_bytes());
            one.push(2 << 3 | 5);
            one.extend((value as f32).to_le_bytes());
            summary.extend(field(1, &one));
        }
        file.write_all(&record(&event(report.step, 5, &summary)))
    }
}

impl Observer for TensorBoard {
    fn event(&mut self, event: &Event) {
        let Event::EpochEnded(report) = event else { return };
        if self.write(report).is_err() {
            // A half record would hide those behind it. The numbers are in metrics.jsonl, whose errors end the training.
            self.file = None;
        }
    }
}

/// An `Event`: when, at which step, and one field more.
fn event(step: u64, number: u8, content: &[u8]) -> Vec<u8> {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
    let mut bytes = vec![1 << 3 | 1];
    bytes.extend(seconds.to_le_bytes());
    bytes.push(2 << 3);
    bytes.extend(varint(step));
    bytes.extend(field(number, content));
    bytes
}

/// A field of bytes.
fn field(number: u8, content: &[u8]) -> Vec<u8> {
    let mut bytes = vec![number << 3 | 2];
    bytes.extend(varint(content.len() as u64));
    bytes.extend(content);
    bytes
}

fn varint(mut value: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
    bytes
}

/// A message as it is in a file.
fn record(message: &[u8]) -> Vec<u8> {
    let length = (message.len() as u64).to_le_bytes();
    let mut bytes = length.to_vec();
    bytes.extend(masked(&length).to_le_bytes());
    bytes.extend(message);
    bytes.extend(masked(message).to_le_bytes());
    bytes
}

/// CRC-32C, turned and shifted: a checksum of bytes that hold checksums is bad at its work.
fn masked(bytes: &[u8]) -> u32 {
    crc32c(bytes).rotate_right(15).wrapping_add(0xa282_ead8)
}

/// CRC-32C (Castagnoli), bit by bit: a few hundred bytes an epoch.
fn crc32c(bytes: &[u8]) -> u32 {
    let step = |crc: u32| if crc & 1 == 1 { crc >> 1 ^ 0x82f6_3b78 } else { crc >> 1 };
    !bytes.iter().fold(!0, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), |crc, _| step(crc)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 3720, B.4.
    #[test]
    fn checksums_are_those_of_the_standard() {
        assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
        assert_eq!(crc32c(&[0xff; 32]), 0x62a8_ab43);
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
    }

    /// As `tf.data.TFRecordDataset` writes them: the length 0 has this masked checksum.
    #[test]
    fn records_have_lengths_and_checksums() {
        let bytes = record(b"a");
        assert_eq!((bytes.len(), &bytes[..8]), (17, &1_u64.to_le_bytes()[..]));
        assert_eq!(varint(300), [0xac, 0x02]);
    }
}
