//! Heads of requests.

use httparse::Status;

use super::super::http::Failure;
use super::MOST_HEAD;

/// The most headers.
const MOST_HEADERS: usize = 64;

/// The head of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// GET, POST, ….
    pub method: String,
    /// The path as it was sent.
    pub path: String,
    /// What follows the question mark.
    pub query: String,
    /// Whether the client wants to send another request after this one.
    pub(in crate::serve) keeps: bool,
    pub(super) headers: Vec<(String, String)>,
}

impl Head {
    /// The value of a header, its name in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// The parts of the path between slashes, without percent codes.
    pub fn segments(&self) -> Vec<String> {
        self.path.split('/').filter(|part| !part.is_empty()).map(decoded).collect()
    }

    /// The value of a name in the query.
    pub fn parameter(&self, name: &str) -> Option<String> {
        let mut pairs = self.query.split('&').filter_map(|pair| pair.split_once('='));
        pairs.find(|(key, _)| *key == name).map(|(_, value)| decoded(value))
    }
}

/// Text without percent codes. A code that is none stays as it is.
fn decoded(text: &str) -> String {
    let digit = |byte: Option<&u8>| byte.and_then(|byte| char::from(*byte).to_digit(16));
    let bytes = text.as_bytes();
    let (mut out, mut at) = (Vec::with_capacity(bytes.len()), 0);
    while at < bytes.len() {
        match (bytes[at], digit(bytes.get(at + 1)), digit(bytes.get(at + 2))) {
            (b'%', Some(high), Some(low)) => {
                out.push((high * 16 + low) as u8);
                at += 3;
            }
            (byte, ..) => {
                out.push(byte);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// A head and its length, when it is whole.
pub(super) fn head(bytes: &[u8]) -> Result<Option<(Head, usize)>, Failure> {
    let mut headers = [httparse::EMPTY_HEADER; MOST_HEADERS];
    let mut request = httparse::Request::new(&mut headers);
    let length = match request.parse(bytes) {
        Ok(Status::Complete(length)) if length <= MOST_HEAD => length,
        Ok(Status::Partial) if bytes.len() <= MOST_HEAD => return Ok(None),
        Ok(_) => return Err(Failure(431, format!("the head of the request has more than {MOST_HEAD} bytes"))),
        Err(httparse::Error::TooManyHeaders) => {
            return Err(Failure(431, format!("the request has more than {MOST_HEADERS} headers")));
        }
        Err(error) => return Err(Failure::wrong(format!("this is no HTTP request: {error}"))),
    };
    let target = request.path.unwrap_or_default();
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let headers: Vec<(String, String)> = request
        .headers
        .iter()
        .map(|header| (header.name.to_ascii_lowercase(), String::from_utf8_lossy(header.value).trim().to_string()))
        .collect();
    let wants = |word: &str| {
        let connection = headers.iter().filter(|(name, _)| name == "connection");
        connection.flat_map(|(_, value)| value.split(',')).any(|value| value.trim().eq_ignore_ascii_case(word))
    };
    let keeps = !wants("close") && (request.version == Some(1) || wants("keep-alive"));
    let method = request.method.unwrap_or_default().to_string();
    Ok(Some((Head { method, path: path.to_string(), query: query.to_string(), keeps, headers }, length)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_are_whole_or_wrong() {
        let text = b"POST /models/a%20b/predict?top=3 HTTP/1.1\r\nHost: x\r\nContent-Type: image/png\r\n\r\nrest";
        let (head_, length) = head(text).unwrap().unwrap();
        assert_eq!(&text[length..], b"rest");
        assert_eq!(
            (head_.segments(), head_.parameter("top")),
            (vec!["models".into(), "a b".into(), "predict".into()], Some("3".into()))
        );
        assert_eq!((head_.header("content-type"), head_.keeps), (Some("image/png"), true));
        assert_eq!(head(&text[..20]).unwrap(), None);
        assert_eq!(head(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03").unwrap_err().0, 400);
        assert_eq!(head(&[b"GET / HTTP/1.1\r\nA: ".to_vec(), vec![b'a'; MOST_HEAD]].concat()).unwrap_err().0, 431);
        let many: String = (0..=MOST_HEADERS).map(|i| format!("H{i}: x\r\n")).collect();
        assert_eq!(head(format!("GET / HTTP/1.1\r\n{many}\r\n").as_bytes()).unwrap_err().0, 431);
        assert!(!head(b"GET / HTTP/1.0\r\n\r\n").unwrap().unwrap().0.keeps);
    }

    #[test]
    fn percent_codes_that_are_none_stay() {
        assert_eq!(decoded("a%2Fb%zz%4"), "a/b%zz%4");
    }
}
