//! A text that holds its own hash, so that a change of any byte of it is found.

use rekindle_state::fs::sha256;

/// How the hash begins; 64 digits follow.
const KEY: &str = "\"sealed\": \"";
const DIGITS: usize = 64;

/// Puts the hash of an indented JSON object into it, as its first entry.
pub(super) fn seal(object: &str) -> String {
    let rest = object.strip_prefix('{').unwrap_or(object);
    let open = format!("{{\n  {KEY}{}\",{rest}", "0".repeat(DIGITS));
    let hash = sha256(open.as_bytes());
    open.replacen(&"0".repeat(DIGITS), &hash, 1)
}

/// Checks a sealed text.
///
/// # Errors
/// With what differs.
pub(super) fn check(text: &[u8]) -> Result<(), String> {
    let key = KEY.as_bytes();
    let at = text.windows(key.len()).position(|window| window == key).map(|at| at + key.len());
    let Some((start, digits)) = at.and_then(|start| Some((start, text.get(start..start + DIGITS)?))) else {
        return Err("it does not hold its own hash".into());
    };
    let mut open = text.to_vec();
    open[start..start + DIGITS].fill(b'0');
    let found = sha256(&open);
    if found.as_bytes() == digits {
        return Ok(());
    }
    Err(format!("its sha256 is {found}, it says {}", String::from_utf8_lossy(digits)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_changed_byte_is_found() {
        let sealed = seal("{\n  \"format\": 1,\n  \"step\": 12\n}");
        assert!(serde_json::from_str::<serde_json::Value>(&sealed).unwrap()["step"] == 12);
        check(sealed.as_bytes()).unwrap();
        for at in 0..sealed.len() {
            for bit in 0..8 {
                let mut changed = sealed.clone().into_bytes();
                changed[at] ^= 1 << bit;
                assert!(check(&changed).is_err(), "byte {at}, bit {bit}");
            }
            assert!(check(&sealed.as_bytes()[..at]).is_err(), "cut at {at}");
        }
    }
}
