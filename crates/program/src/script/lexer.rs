//! Words of TorchScript's text, with lines and indentation.

use crate::{Error, Result};

/// A word.
#[derive(Debug, Clone, PartialEq)]
pub enum Token {
    Name(String),
    Int(i64),
    Float(f64),
    Str(String),
    /// A sign of punctuation, `->` included.
    Sign(&'static str),
    /// The end of a statement.
    End,
    Indent,
    Dedent,
}

const SIGNS: [&str; 15] = ["->", "(", ")", "[", "]", "{", "}", ",", ":", ".", "=", "-", "@", "*", "^"];

/// The words of a text, each with its line.
pub fn words(text: &str) -> Result<Vec<(usize, Token)>> {
    let mut words = Vec::new();
    let mut indents = vec![0];
    let mut depth = 0_usize;
    for (number, line) in text.lines().enumerate() {
        let number = number + 1;
        let rest = line.trim_start_matches(' ');
        if depth == 0 {
            if rest.trim().is_empty() || rest.starts_with('#') {
                continue;
            }
            let indent = line.len() - rest.len();
            if indent > indents.last().copied().unwrap_or(0) {
                indents.push(indent);
                words.push((number, Token::Indent));
            }
            while indent < indents.last().copied().unwrap_or(0) {
                indents.pop();
                words.push((number, Token::Dedent));
            }
            if Some(&indent) != indents.last() {
                return Err(Error::invalid(format!("line {number} is indented like no line around it")));
            }
        }
        line_words(rest, number, &mut depth, &mut words)?;
        if depth == 0 {
            words.push((number, Token::End));
        }
    }
    let last = text.lines().count();
    words.extend((1..indents.len()).map(|_| (last, Token::Dedent)));
    Ok(words)
}

fn line_words(line: &str, number: usize, depth: &mut usize, words: &mut Vec<(usize, Token)>) -> Result<()> {
    let mut rest = line;
    loop {
        rest = rest.trim_start();
        let Some(first) = rest.chars().next() else { return Ok(()) };
        if first == '#' {
            return Ok(());
        }
        let token;
        if first.is_ascii_alphabetic() || first == '_' {
            let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
            token = Token::Name(rest[..end].to_string());
            rest = &rest[end..];
        } else if first.is_ascii_digit() || first == '.' && rest[1..].starts_with(|c: char| c.is_ascii_digit()) {
            let (value, left) = numeral(rest, number)?;
            token = value;
            rest = left;
        } else if first == '"' || first == '\'' {
            let (value, left) = string(rest, first, number)?;
            token = Token::Str(value);
            rest = left;
        } else {
            let sign = SIGNS.iter().find(|sign| rest.starts_with(**sign));
            let sign = sign.ok_or_else(|| Error::invalid(format!("line {number}: '{first}' is not expected")))?;
            match *sign {
                "(" | "[" | "{" => *depth += 1,
                ")" | "]" | "}" => *depth = depth.saturating_sub(1),
                _ => {}
            }
            token = Token::Sign(sign);
            rest = &rest[sign.len()..];
        }
        words.push((number, token));
    }
}

fn numeral(text: &str, line: usize) -> Result<(Token, &str)> {
    let bytes = text.as_bytes();
    let (mut end, mut float) = (0, false);
    while let Some(&byte) = bytes.get(end) {
        match byte {
            b'0'..=b'9' => {}
            b'.' | b'e' | b'E' => float = true,
            b'+' | b'-' if end > 0 && matches!(bytes[end - 1], b'e' | b'E') => {}
            _ => break,
        }
        end += 1;
    }
    let (number, mut rest) = text.split_at(end);
    let wrong = || Error::invalid(format!("line {line}: '{number}' is no number"));
    if rest.starts_with('j') {
        return Err(Error::beyond("a complex number"));
    }
    // Integers beyond 64 bits do not occur; a suffix of older writers is passed over.
    rest = rest.strip_prefix('L').unwrap_or(rest);
    let token = if float {
        Token::Float(number.parse().map_err(|_| wrong())?)
    } else {
        // The least integer is written as minus one beyond the greatest.
        match number.parse::<u64>() {
            Ok(int) if int <= i64::MAX as u64 => Token::Int(int as i64),
            Ok(int) if int == 1 << 63 => Token::Int(i64::MIN),
            _ => return Err(wrong()),
        }
    };
    Ok((token, rest))
}

fn string(text: &str, quote: char, line: usize) -> Result<(String, &str)> {
    let mut value = Vec::new();
    let mut bytes = text.bytes().enumerate().skip(1);
    while let Some((at, byte)) = bytes.next() {
        if byte == quote as u8 {
            return Ok((String::from_utf8_lossy(&value).into_owned(), &text[at + 1..]));
        }
        if byte != b'\\' {
            value.push(byte);
            continue;
        }
        let Some((_, escaped)) = bytes.next() else { break };
        value.push(match escaped {
            b'n' => b'\n',
            b't' => b'\t',
            b'r' => b'\r',
            b'a' => 7,
            b'b' => 8,
            b'f' => 12,
            b'v' => 11,
            b'0'..=b'7' => {
                let mut code = u32::from(escaped - b'0');
                for _ in 0..2 {
                    match bytes.clone().next() {
                        Some((_, digit @ b'0'..=b'7')) => {
                            code = code * 8 + u32::from(digit - b'0');
                            bytes.next();
                        }
                        _ => break,
                    }
                }
                code as u8
            }
            b'x' => {
                let digits: String = bytes.by_ref().take(2).map(|(_, byte)| byte as char).collect();
                u8::from_str_radix(&digits, 16)
                    .map_err(|_| Error::invalid(format!("line {line}: an escape in a text is broken")))?
            }
            other => other,
        });
    }
    Err(Error::invalid(format!("line {line}: a text has no end")))
}
