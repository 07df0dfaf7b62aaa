//! Whether bytes look like an ONNX model, without decoding them.

/// Whether bytes are the outline of a model: fields 1 (a version below 100) and 7 (a graph), each field within the file.
pub(super) fn has_outline(bytes: &[u8]) -> bool {
    let (mut rest, mut version, mut graph) = (bytes, false, false);
    while !rest.is_empty() {
        let Some((tag, after)) = varint(rest) else { return false };
        let (field, wire) = (tag >> 3, tag & 7);
        rest = match wire {
            0 => {
                let Some((value, after)) = varint(after) else { return false };
                version |= field == 1 && (1..100).contains(&value);
                after
            }
            2 => {
                let Some((length, after)) = varint(after) else { return false };
                let Some(after) = usize::try_from(length).ok().and_then(|length| after.get(length..)) else {
                    return false;
                };
                graph |= field == 7 && length > 0;
                after
            }
            _ => return false, // No field of a model has another wire type.
        };
        if !(1..=30).contains(&field) {
            return false;
        }
    }
    version && graph
}

fn varint(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let mut value = 0_u64;
    for (index, &byte) in bytes.iter().take(10).enumerate() {
        value |= u64::from(byte & 0x7f).checked_shl(7 * index as u32)?;
        if byte & 0x80 == 0 {
            return Some((value, &bytes[index + 1..]));
        }
    }
    None
}
