//! The header of a `.npy` file: a Python dictionary in text, of which nothing but literals is read.

use crate::{DType, Error, Result};

const MAGIC: &[u8; 6] = b"\x93NUMPY";
/// The longest header that is read; numpy's own limit is a hundredth of it.
const MAX_HEADER: usize = 1 << 20;
const MAX_AXES: usize = 64;

/// What a header says.
#[derive(Debug, PartialEq)]
pub(super) struct Header {
    /// The element type: `<f4`.
    pub descr: String,
    /// Whether the first axis varies fastest.
    pub fortran_order: bool,
    /// The shape.
    pub shape: Vec<u64>,
    /// Bytes before the elements.
    pub length: u64,
}

impl Header {
    /// Reads the header at the beginning of a file.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        let rest = bytes.strip_prefix(MAGIC).ok_or_else(|| Error::damaged("it does not begin as a .npy file does"))?;
        let (length, start) = match rest {
            [1, _, a, b, ..] => (usize::from(u16::from_le_bytes([*a, *b])), 10),
            [2 | 3, _, a, b, c, d, ..] => (u32::from_le_bytes([*a, *b, *c, *d]) as usize, 12),
            [1..=3, ..] | [] => return Err(Error::damaged("the .npy header is cut short")),
            [version, ..] => {
                return Err(Error::unsupported(format!(
                    "version {version} of the .npy format is not known, 1 to 3 are"
                )));
            }
        };
        if length > MAX_HEADER {
            return Err(Error::damaged(format!("the .npy header claims {length} bytes, the limit is {MAX_HEADER}")));
        }
        let text = bytes.get(start..start + length).ok_or_else(|| Error::damaged("the .npy header is cut short"))?;
        let text = String::from_utf8_lossy(text);
        let (descr, fortran_order, shape) = Parser { rest: &text }.header()?;
        Ok(Self { descr, fortran_order, shape, length: (start + length) as u64 })
    }

    /// Whether elements are stored with the highest byte first.
    pub fn is_big_endian(&self) -> bool {
        self.descr.starts_with('>')
    }

    /// PyTorch's element type, if it has this one.
    pub fn dtype(&self) -> Option<DType> {
        let kind = self.descr.strip_prefix(['<', '>', '|', '='])?;
        DType::ALL.iter().copied().find(|dtype| super::descr(*dtype).is_some_and(|descr| &descr[1..] == kind))
    }

    /// Bytes of an element, for types that are kept as raw bytes too.
    pub fn item_size(&self) -> Option<u64> {
        let kind = self.descr.strip_prefix(['<', '>', '|', '='])?;
        if kind.starts_with("M8") || kind.starts_with("m8") {
            return Some(8);
        }
        let number: u64 = kind.get(1..)?.parse().ok().filter(|number| *number < 1 << 32)?;
        match kind.chars().next()? {
            'U' => Some(4 * number),
            'S' | 'V' | 'f' | 'c' | 'i' | 'u' | 'b' => Some(number),
            _ => None,
        }
    }
}

/// A header text for a row-major array, padded as numpy pads it.
pub(super) fn format(descr: &str, shape: &[u64]) -> Vec<u8> {
    let axes: Vec<String> = shape.iter().map(u64::to_string).collect();
    let tuple = if let [only] = axes.as_slice() { format!("({only},)") } else { format!("({})", axes.join(", ")) };
    let mut text = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': {tuple}, }}");
    // The second version has a longer length, for shapes of very many axes.
    let long = text.len() + 80 > usize::from(u16::MAX);
    let start = if long { 12 } else { 10 };
    let length = (start + text.len() + 1).next_multiple_of(64) - start;
    text.push_str(&" ".repeat(length - text.len() - 1));
    text.push('\n');
    let mut header = MAGIC.to_vec();
    header.extend([if long { 2 } else { 1 }, 0]);
    if long {
        header.extend((length as u32).to_le_bytes());
    } else {
        header.extend((length as u16).to_le_bytes());
    }
    header.extend(text.into_bytes());
    header
}

/// Reads the few literals that a header has.
struct Parser<'a> {
    rest: &'a str,
}

impl<'a> Parser<'a> {
    fn header(mut self) -> Result<(String, bool, Vec<u64>)> {
        let (mut descr, mut fortran, mut shape) = (None, None, None);
        self.expect('{')?;
        while !self.take('}') {
            let key = self.text()?;
            self.expect(':')?;
            match key {
                "descr" => descr = Some(self.descr()?),
                "fortran_order" => fortran = Some(self.truth()?),
                "shape" => shape = Some(self.shape()?),
                other => return Err(broken(&format!("the key '{other}' is not known"))),
            }
            if !self.take(',') {
                self.expect('}')?;
                break;
            }
        }
        match (descr, fortran, shape) {
            (Some(descr), Some(fortran), Some(shape)) => Ok((descr, fortran, shape)),
            _ => Err(broken("descr, fortran_order or shape is missing")),
        }
    }

    fn skip(&mut self) {
        self.rest = self.rest.trim_start();
    }

    fn take(&mut self, wanted: char) -> bool {
        self.skip();
        match self.rest.strip_prefix(wanted) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn expect(&mut self, wanted: char) -> Result<()> {
        if self.take(wanted) { Ok(()) } else { Err(broken(&format!("'{wanted}' is missing"))) }
    }

    fn text(&mut self) -> Result<&'a str> {
        self.skip();
        let quote = self
            .rest
            .chars()
            .next()
            .filter(|quote| matches!(quote, '\'' | '"'))
            .ok_or_else(|| broken("a text is missing"))?;
        let (text, rest) = self.rest[1..].split_once(quote).ok_or_else(|| broken("a text has no end"))?;
        self.rest = rest;
        Ok(text)
    }

    fn descr(&mut self) -> Result<String> {
        self.skip();
        if self.rest.starts_with('[') {
            return Err(Error::unsupported(
                "an array of records (a structured type) is not read: save its fields as arrays of their own",
            ));
        }
        let descr = self.text()?;
        if descr.contains('O') {
            return Err(Error::unsupported(
                "an array of Python objects is not read: reading it would run code; save plain arrays",
            ));
        }
        Ok(descr.to_string())
    }

    fn truth(&mut self) -> Result<bool> {
        self.skip();
        for (word, value) in [("True", true), ("False", false)] {
            if let Some(rest) = self.rest.strip_prefix(word) {
                self.rest = rest;
                return Ok(value);
            }
        }
        Err(broken("fortran_order is neither True nor False"))
    }

    fn shape(&mut self) -> Result<Vec<u64>> {
        self.expect('(')?;
        let mut shape = Vec::new();
        while !self.take(')') {
            self.skip();
            let digits = self.rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(self.rest.len());
            let axis = self.rest[..digits].parse().map_err(|_| broken("the shape has something that is no size"))?;
            // Python 2 wrote long integers with an L.
            self.rest = self.rest[digits..].trim_start_matches('L');
            shape.push(axis);
            if shape.len() > MAX_AXES {
                return Err(broken(&format!("the shape has more than {MAX_AXES} axes")));
            }
            if !self.take(',') {
                self.expect(')')?;
                break;
            }
        }
        Ok(shape)
    }
}

fn broken(why: &str) -> Error {
    Error::damaged(format!("the .npy header is not valid: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_read_back() {
        for shape in [vec![], vec![3], vec![2, 0, 7]] {
            let text = format("<f4", &shape);
            assert_eq!(text.len() % 64, 0);
            let header = Header::parse(&text).unwrap();
            assert_eq!(header, Header { descr: "<f4".into(), fortran_order: false, shape, length: text.len() as u64 });
        }
    }

    #[test]
    fn objects_and_records_are_refused() {
        for descr in ["'|O'", "[('a', '<f4')]"] {
            let text = format!("{{'descr': {descr}, 'fortran_order': False, 'shape': (1,), }}");
            let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
            bytes.extend((text.len() as u16).to_le_bytes());
            bytes.extend(text.as_bytes());
            assert_eq!(Header::parse(&bytes).unwrap_err().kind(), crate::ErrorKind::Unsupported);
        }
    }
}
