//! Forms (`multipart/form-data`): the files in them.

/// A form may have this many parts.
const MOST_PARTS: usize = 1024;

/// The files of a form, in order.
///
/// # Errors
/// When it is malformed, or has no file.
pub fn files<'b>(content_type: &str, body: &'b [u8]) -> Result<Vec<&'b [u8]>, String> {
    let boundary = boundary(content_type).ok_or("the form's Content-Type has no boundary")?;
    let delimiter = format!("--{boundary}").into_bytes();
    let malformed = || "the form is malformed".to_string();
    // The first delimiter may stand behind a preamble, the others behind a line break.
    let mut rest = match body.starts_with(&delimiter) {
        true => &body[delimiter.len()..],
        false => after(body, &[b"\r\n", delimiter.as_slice()].concat()).ok_or_else(malformed)?.1,
    };
    let delimiter = [b"\r\n", delimiter.as_slice()].concat();
    let (mut files, mut parts) = (Vec::new(), 0);
    while !rest.starts_with(b"--") {
        parts += 1;
        if parts > MOST_PARTS {
            return Err(format!("the form has more than {MOST_PARTS} parts"));
        }
        let (head, content) = after(rest, b"\r\n\r\n").ok_or_else(malformed)?;
        let (content, next) = after(content, &delimiter).ok_or_else(malformed)?;
        if is_file(head) {
            files.push(content);
        }
        rest = next;
    }
    if files.is_empty() { Err("the form has no file".into()) } else { Ok(files) }
}

/// What stands before and behind the first place of some bytes.
fn after<'b>(bytes: &'b [u8], sought: &[u8]) -> Option<(&'b [u8], &'b [u8])> {
    let mut from = 0;
    loop {
        let at = from + bytes.get(from..)?.iter().position(|byte| *byte == sought[0])?;
        if bytes[at..].starts_with(sought) {
            return Some((&bytes[..at], &bytes[at + sought.len()..]));
        }
        from = at + 1;
    }
}

fn boundary(content_type: &str) -> Option<&str> {
    let mut parameters = content_type.split(';').skip(1).filter_map(|parameter| parameter.trim().split_once('='));
    let (_, value) = parameters.find(|(name, _)| name.eq_ignore_ascii_case("boundary"))?;
    let value = value.trim_matches('"');
    (1..=70).contains(&value.len()).then_some(value)
}

/// Whether a part is a file and not a field of text.
fn is_file(head: &[u8]) -> bool {
    let head = String::from_utf8_lossy(head).to_ascii_lowercase();
    head.lines().any(|line| line.starts_with("content-disposition:") && line.contains("filename"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TYPE: &str = "multipart/form-data; boundary=\"xx\"";

    #[test]
    fn files_are_found_between_fields() {
        let body = b"--xx\r\nContent-Disposition: form-data; name=\"top\"\r\n\r\n3\r\n--xx\r\nContent-Disposition: form-data; \
                     name=\"a\"; filename=\"a.png\"\r\nContent-Type: image/png\r\n\r\nA\r\n-B\r\n--xx\r\n\
                     content-disposition: form-data; filename=b\r\n\r\n\r\n--xx--\r\n";
        assert_eq!(files(TYPE, body).unwrap(), [&b"A\r\n-B"[..], b""]);
        assert_eq!(files("multipart/form-data; boundary=xx", &[b"preamble\r\n", &body[..]].concat()).unwrap().len(), 2);
    }

    #[test]
    fn malformed_forms_are_errors() {
        for body in [
            &b""[..],
            b"--xx",
            b"--xx\r\n",
            b"--xx\r\nContent-Disposition: form-data; filename=a\r\n\r\nA",
            b"--xx--",
            b"nothing",
        ] {
            assert!(files(TYPE, body).is_err(), "{}", String::from_utf8_lossy(body));
        }
        assert!(files("multipart/form-data", b"--xx--").is_err());
    }
}
