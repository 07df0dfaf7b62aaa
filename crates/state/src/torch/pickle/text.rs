//! The arguments of the old text opcodes: numbers and quoted strings up to the end of a line.

use num_bigint::BigInt;

/// The most digits that a decimal integer may have: conversion takes quadratic time.
const DIGITS: usize = 10_000;

/// A decimal integer, small or of any size.
pub(super) enum Number {
    Int(i64),
    Big(BigInt),
}

/// `INT` and `LONG`: decimal digits, an optional sign, an optional `L`.
pub(super) fn integer(line: &[u8]) -> Result<Number, String> {
    let text = std::str::from_utf8(line).map_err(|_| "an integer that is no text".to_string())?.trim();
    let text = text.strip_suffix('L').unwrap_or(text);
    if text.len() > DIGITS {
        return Err(format!("an integer of {} digits (at most {DIGITS} are read)", text.len()));
    }
    if let Ok(int) = text.parse() {
        return Ok(Number::Int(int));
    }
    text.parse().map(Number::Big).map_err(|_| format!("'{}', which is no integer", text.escape_debug()))
}

/// `FLOAT`: as Python's `repr` writes it.
pub(super) fn float(line: &[u8]) -> Result<f64, String> {
    let text = std::str::from_utf8(line).map_err(|_| "a float that is no text".to_string())?.trim();
    text.parse().map_err(|_| format!("'{}', which is no float", text.escape_debug()))
}

/// `STRING`: Python 2's `repr` of a byte string, with its quotes and escapes.
pub(super) fn quoted(line: &[u8]) -> Result<Vec<u8>, String> {
    let line = line.trim_ascii();
    let inner = match line {
        [b'\'', inner @ .., b'\''] | [b'"', inner @ .., b'"'] => inner,
        _ => return Err("a string without quotes".to_string()),
    };
    let mut out = Vec::with_capacity(inner.len());
    let mut rest = inner.iter().copied();
    while let Some(byte) = rest.next() {
        if byte != b'\\' {
            out.push(byte);
            continue;
        }
        match rest.next() {
            Some(b'n') => out.push(b'\n'),
            Some(b't') => out.push(b'\t'),
            Some(b'r') => out.push(b'\r'),
            Some(b'0') => out.push(0),
            Some(b'a') => out.push(7),
            Some(b'b') => out.push(8),
            Some(b'f') => out.push(12),
            Some(b'v') => out.push(11),
            Some(b'x') => {
                let digits = [rest.next().unwrap_or(b'?'), rest.next().unwrap_or(b'?')];
                let code = std::str::from_utf8(&digits).ok().and_then(|digits| u8::from_str_radix(digits, 16).ok());
                out.push(code.ok_or("a broken \\x escape in a string")?);
            }
            Some(other @ (b'\\' | b'\'' | b'"')) => out.push(other),
            Some(other) => out.extend([b'\\', other]),
            None => return Err("a string that ends in a backslash".to_string()),
        }
    }
    Ok(out)
}

/// `UNICODE`: raw-unicode-escape, in which only `\uXXXX` and `\UXXXXXXXX` are escapes and bytes are Latin-1.
pub(super) fn raw_unicode(line: &[u8]) -> Result<String, String> {
    let mut out = String::with_capacity(line.len());
    let mut at = 0;
    while let Some(&byte) = line.get(at) {
        let digits = match line.get(at + 1) {
            Some(b'u') if byte == b'\\' => 4,
            Some(b'U') if byte == b'\\' => 8,
            _ => {
                out.push(char::from(byte));
                at += 1;
                continue;
            }
        };
        let code = line
            .get(at + 2..at + 2 + digits)
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u32::from_str_radix(digits, 16).ok())
            .ok_or("a broken \\u escape in a text")?;
        out.push(char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER));
        at += 2 + digits;
    }
    Ok(out)
}
