//! The format of PyTorch 0.1.10 to 1.5: pickles one after the other, then the storages.

use num_bigint::BigInt;

use super::pickle_write::Pickler;
use super::storage_plan::StoragePlan;
use crate::{AtomicFile, Result, StateDict, Value};

/// `MAGIC_NUMBER` of `torch/serialization.py`.
const MAGIC: [u8; 10] = [0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19];
const PROTOCOL_VERSION: i64 = 1001;

/// Writes a pickle and its storages.
pub(super) fn write_legacy(mut file: AtomicFile, pickle: &[u8], plan: &StoragePlan) -> Result<AtomicFile> {
    file.put(&Pickler::plain(&Value::BigInt(BigInt::from_signed_bytes_le(&MAGIC)))?)?;
    file.put(&Pickler::plain(&Value::Int(PROTOCOL_VERSION))?)?;
    file.put(&Pickler::plain(&Value::Dict(system()))?)?;
    file.put(pickle)?;
    let keys = (0..plan.storages.len()).map(|key| Value::Str(key.to_string())).collect();
    file.put(&Pickler::plain(&Value::List(keys))?)?;
    for storage in &plan.storages {
        file.put(&(storage.nbytes / storage.element_size).to_le_bytes())?;
        storage.with_bytes(|bytes| bytes.chunks(1 << 22).try_for_each(|chunk| file.put(chunk)))?;
    }
    Ok(file)
}

/// What `torch.save` said of the machine; readers look at the byte order.
fn system() -> StateDict {
    let sizes: StateDict = [("short", 2_i64), ("int", 4), ("long", 4)].into_iter().collect();
    let mut system = StateDict::new();
    system.insert("protocol_version", PROTOCOL_VERSION);
    system.insert("little_endian", true);
    system.insert("type_sizes", sizes);
    system
}
