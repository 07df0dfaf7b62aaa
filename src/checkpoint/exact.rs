//! Floats that survive JSON with every bit.
//!
//! A float is printed with as many digits as tell it from its neighbours, but the reader takes a faster way that is off by the last
//! bit for some numbers of seventeen digits. A run that goes on from such a number would not be the run that was never interrupted.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer};
use serde_json::{Value, json};

/// The key under which a float is kept as text.
const KEY: &str = "float";

/// Replaces each float that would be read back as another one by `{"float": "its digits"}`.
pub(super) fn protect(json: &mut Value) {
    match json {
        Value::Array(items) => items.iter_mut().for_each(protect),
        Value::Object(entries) => entries.values_mut().for_each(protect),
        Value::Number(number) if number.is_f64() => {
            let digits = number.to_string();
            let read = serde_json::from_str::<f64>(&digits).ok();
            if read.map(f64::to_bits) != number.as_f64().map(f64::to_bits) {
                *json = json!({ KEY: digits });
            }
        }
        _ => {}
    }
}

/// Undoes [`protect`]: Rust's own reading of a float is exact.
pub(super) fn restore(json: &mut Value) {
    match json {
        Value::Array(items) => items.iter_mut().for_each(restore),
        Value::Object(entries) => {
            let digits = if entries.len() == 1 { entries.get(KEY).and_then(Value::as_str) } else { None };
            match digits.and_then(|digits| digits.parse::<f64>().ok()) {
                Some(float) => *json = json!(float),
                None => entries.values_mut().for_each(restore),
            }
        }
        _ => {}
    }
}

/// A float; JSON has `null` for one that is no number.
pub(super) fn float<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    Ok(Option::<f64>::deserialize(deserializer)?.unwrap_or(f64::NAN))
}

/// Floats by name, likewise.
pub(super) fn floats<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeMap<String, f64>, D::Error> {
    let floats = BTreeMap::<String, Option<f64>>::deserialize(deserializer)?;
    Ok(floats.into_iter().map(|(name, float)| (name, float.unwrap_or(f64::NAN))).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_bit_of_a_float_survives() {
        // A generator of its own: bits of all exponents that loss sums and learning rates have.
        let mut bits = 0x9E37_79B9_7F4A_7C15_u64;
        let mut lost = 0;
        for _ in 0..20_000 {
            bits = bits.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let exponent = 1023 - 40 + bits % 60;
            let float = f64::from_bits((bits >> 12) | (exponent << 52));
            let mut json = json!({ "sums": { "loss": float }, "list": [float, 1, "text"] });
            let before = json.clone();
            lost += u64::from(serde_json::from_str::<f64>(&float.to_string()).unwrap().to_bits() != float.to_bits());
            protect(&mut json);
            let mut read: Value = serde_json::from_str(&json.to_string()).unwrap();
            restore(&mut read);
            assert_eq!(read["sums"]["loss"].as_f64().unwrap().to_bits(), float.to_bits());
            assert_eq!(read, before);
        }
        // Otherwise none of this would be needed.
        assert!(lost > 0);
    }
}
