//! Forms with files (`multipart/form-data`), read out of a body that is bounded already.

use axum::body::Bytes;

/// The most parts of a form.
const MAX_PARTS: usize = 64;

/// The longest head of a part, in bytes.
const MAX_HEAD_BYTES: usize = 8 * 1024;

/// The longest text between parts, in bytes; the standard's number.
const MAX_BOUNDARY_BYTES: usize = 70;

/// One part of a form.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Part {
    /// The name of the field.
    pub(super) name: String,
    /// What the file is called, when it is one.
    pub(super) file_name: Option<String>,
    /// What it holds.
    pub(super) bytes: Bytes,
}

/// Whether a content type is that of a form with files.
pub(super) fn is_form(content_type: &str) -> bool {
    let kind = content_type.split(';').next().unwrap_or_default();
    kind.trim().eq_ignore_ascii_case("multipart/form-data")
}

/// Returns the parts of a form, in order.
///
/// # Errors
/// What is wrong with it, in words.
pub(super) fn parts(content_type: &str, body: &Bytes) -> Result<Vec<Part>, String> {
    let boundary = parameters(content_type).into_iter().find(|(name, _)| name == "boundary").map(|(_, text)| text);
    let boundary = boundary.filter(|text| !text.is_empty() && text.len() <= MAX_BOUNDARY_BYTES);
    let boundary = boundary.ok_or("the content type of the form names no boundary")?;
    let (first, between) = (format!("--{boundary}"), format!("\r\n--{boundary}"));
    let mut at = match body.starts_with(first.as_bytes()) {
        true => first.len(),
        false => find(body, between.as_bytes(), 0).map(|place| place + between.len()).ok_or("the form has no parts")?,
    };
    let mut parts = Vec::new();
    loop {
        if body[at..].starts_with(b"--") {
            return Ok(parts);
        }
        if parts.len() == MAX_PARTS {
            return Err(format!("a form has at most {MAX_PARTS} parts"));
        }
        let head_from = find(body, b"\r\n", at).map(|place| place + 2).ok_or("the form breaks off")?;
        // The line break before the head ends it too, when it is empty.
        let head_to = find(body, b"\r\n\r\n", head_from - 2).ok_or("the head of a part breaks off")?;
        if head_to.saturating_sub(head_from) > MAX_HEAD_BYTES {
            return Err(format!("the head of a part has at most {MAX_HEAD_BYTES} bytes"));
        }
        let content_from = head_to + 4;
        // The content may be empty, so that its end is the one of the head.
        let content_to = find(body, between.as_bytes(), content_from - 2).ok_or("a part of the form breaks off")?;
        let head = String::from_utf8_lossy(body.get(head_from..head_to).unwrap_or_default()).into_owned();
        let bytes = body.slice(content_from.min(content_to)..content_to);
        parts.push(part(&head, bytes)?);
        at = content_to + between.len();
    }
}

fn part(head: &str, bytes: Bytes) -> Result<Part, String> {
    let disposition = head.split("\r\n").find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.trim().eq_ignore_ascii_case("content-disposition").then_some(value)
    });
    let parameters = parameters(disposition.unwrap_or_default());
    let named = |wanted: &str| parameters.iter().find(|(name, _)| name == wanted).map(|(_, text)| text.clone());
    let name = named("name").ok_or("a part of the form has no name")?;
    let spelt = named("filename*").and_then(|text| text.split("''").nth(1).map(percent_decoded));
    Ok(Part { name, file_name: spelt.or_else(|| named("filename")), bytes })
}

/// Returns what stands behind the semicolons of a header, names in lower case, without quotes.
fn parameters(header: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut rest = header.split_once(';').map(|(_, rest)| rest).unwrap_or_default();
    while let Some((name, value)) = rest.split_once('=') {
        let name = name.trim().trim_start_matches(';').trim().to_ascii_lowercase();
        let value = value.trim_start();
        let (text, left) = match value.strip_prefix('"') {
            Some(quoted) => unquoted(quoted),
            None => {
                let (text, left) = value.split_once(';').unwrap_or((value, ""));
                (text.trim().to_owned(), left)
            }
        };
        found.push((name, text));
        rest = left;
    }
    found
}

/// Returns a text up to the quote that ends it, and what follows.
fn unquoted(quoted: &str) -> (String, &str) {
    let mut text = String::new();
    let mut letters = quoted.char_indices();
    while let Some((place, letter)) = letters.next() {
        match letter {
            '"' => return (text, &quoted[place + 1..]),
            '\\' => text.extend(letters.next().map(|(_, escaped)| escaped)),
            letter => text.push(letter),
        }
    }
    (text, "")
}

fn percent_decoded(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        let code = bytes.get(at + 1..at + 3).and_then(|code| std::str::from_utf8(code).ok());
        match code.and_then(|code| u8::from_str_radix(code, 16).ok()).filter(|_| byte == b'%') {
            Some(code) => {
                decoded.push(code);
                at += 3;
            }
            None => {
                decoded.push(byte);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

/// Returns where bytes are first found, from a place on.
fn find(body: &[u8], wanted: &[u8], from: usize) -> Option<usize> {
    let rest = body.get(from..)?;
    rest.windows(wanted.len()).position(|window| window == wanted).map(|place| from + place)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TYPE: &str = "multipart/form-data; boundary=\"x y\"";

    fn read(body: &str) -> Result<Vec<Part>, String> {
        parts(TYPE, &Bytes::copy_from_slice(body.as_bytes()))
    }

    #[test]
    fn parts_have_names_and_what_stands_between_the_boundaries() {
        let body = "--x y\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a \\\"b\\\".md\"\r\n\
                    Content-Type: text/markdown\r\n\r\n# A\r\n--x\r\n\r\n--x y\r\n\
                    content-disposition: form-data; name=file; filename*=utf-8''%C3%A4.txt\r\n\r\n\r\n--x y--\r\n";
        let read = read(body).unwrap();
        assert_eq!((read[0].name.as_str(), read[0].file_name.as_deref()), ("file", Some("a \"b\".md")));
        assert_eq!(read[0].bytes, "# A\r\n--x\r\n".as_bytes());
        assert_eq!((read[1].file_name.as_deref(), read[1].bytes.len()), (Some("ä.txt"), 0));
        assert_eq!(read.len(), 2);
    }

    #[test]
    fn what_is_no_form_is_refused() {
        for bad in [
            "",
            "--x y",
            "--x y\r\n",
            "--x y\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\nbreaks off",
            "--x y\r\nContent-Type: text/plain\r\n\r\nnameless\r\n--x y--",
        ] {
            assert!(read(bad).is_err(), "{bad}");
        }
        assert!(parts("multipart/form-data", &Bytes::from_static(b"--\r\n")).is_err());
        let one = "--x y\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\n1\r\n";
        assert!(read(&format!("{}--x y--", one.repeat(MAX_PARTS + 1))).unwrap_err().contains("at most"));
        assert!(is_form(TYPE) && !is_form("application/json"));
    }
}
