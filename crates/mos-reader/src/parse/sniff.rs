//! What a file is: its content says it, and its name where the content leaves a choice.

use super::archive;
use super::text::{self, Decoded};
use super::{DocumentKind, ParseError, csv_file, json, markdown};

/// A kind, with the text where the file is one.
#[derive(Debug)]
pub(super) enum Sniffed {
    /// A format of bytes.
    Binary(DocumentKind),
    /// A format of text.
    Text(DocumentKind, Decoded),
}

/// Where the mark of a PDF may stand, for those that begin with something else.
const PDF_MARK_WITHIN: usize = 1024;

/// What begins so is known, and not read.
const UNREADABLE: [(&[u8], &str, &str); 17] = [
    (b"\x89PNG\r\n\x1a\n", "a PNG image", "add it as an image"),
    (b"\xff\xd8\xff", "a JPEG image", "add it as an image"),
    (b"GIF8", "a GIF image", "add it as an image"),
    (b"BM", "a bitmap image", "add it as an image"),
    (b"II*\0", "a TIFF image", "add it as an image"),
    (b"MM\0*", "a TIFF image", "add it as an image"),
    (b"{\\rtf", "an RTF document", "save it as .docx"),
    (b"\x1f\x8b", "a gzip file", "unpack it and add what is in it"),
    (b"BZh", "a bzip2 file", "unpack it and add what is in it"),
    (b"\xfd7zXZ\0", "an xz file", "unpack it and add what is in it"),
    (b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive", "unpack it and add what is in it"),
    (b"Rar!\x1a\x07", "a RAR archive", "unpack it and add what is in it"),
    (b"ID3", "an audio file", "add its transcript"),
    (b"OggS", "an audio file", "add its transcript"),
    (b"fLaC", "an audio file", "add its transcript"),
    (b"\x7fELF", "a program", "add a document"),
    (b"SQLite format 3\0", "a database", "export its tables as .csv"),
];

/// What stands in packed files of these kinds, wherever they are cut off.
const PACKED_PARTS: [(&[u8], DocumentKind); 4] = [
    (b"word/", DocumentKind::Docx),
    (b"ppt/", DocumentKind::Pptx),
    (b"xl/", DocumentKind::Xlsx),
    (b"application/epub+zip", DocumentKind::Epub),
];

/// The longest list of parts that is read to tell what a packed file is. Whoever reads the file says that it has too many.
const MAX_LISTED: u64 = 100_000;

/// What all Office files before 2007 begin with, and those with a password.
const COMPOUND: &[u8] = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1";

/// Names of files whose `#` begins comments, not headings.
const PLAIN_NAMES: [&str; 26] = [
    "txt", "log", "conf", "ini", "toml", "yaml", "yml", "env", "py", "sh", "rb", "rs", "c", "h", "cpp", "go", "java",
    "js", "ts", "css", "sql", "r", "pl", "lua", "xml", "svg",
];

/// # Errors
/// [`ParseError::Unsupported`] and [`ParseError::Encrypted`] for what is recognised and cannot be read.
pub(super) fn sniff(name: Option<&str>, bytes: &[u8]) -> Result<Sniffed, ParseError> {
    let extension = extension(name);
    if is_pdf(bytes, &extension) {
        return Ok(Sniffed::Binary(DocumentKind::Pdf));
    }
    if bytes.starts_with(b"PK\x03\x04") || bytes.starts_with(b"PK\x05\x06") {
        return packed(bytes);
    }
    if bytes.starts_with(COMPOUND) {
        return Err(compound(bytes));
    }
    let Some(decoded) = text::decode(bytes) else { return Err(unreadable(bytes)) };
    if bytes.starts_with(b"{\\rtf") {
        return Err(unreadable(bytes));
    }
    let kind = text_kind(&extension, &decoded.text);
    Ok(Sniffed::Text(kind, decoded))
}

/// Returns what stands after the last dot, in lower case.
fn extension(name: Option<&str>) -> String {
    let name = name.unwrap_or_default();
    let file = name.rsplit(['/', '\\']).next().unwrap_or_default();
    file.rsplit_once('.').map(|(_, extension)| extension.to_ascii_lowercase()).unwrap_or_default()
}

fn is_pdf(bytes: &[u8], extension: &str) -> bool {
    let start = bytes.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(bytes).trim_ascii_start();
    if start.starts_with(b"%PDF-") {
        return true;
    }
    // A text about PDF holds its mark too.
    let head = &bytes[..bytes.len().min(PDF_MARK_WITHIN)];
    extension == "pdf" && contains(head, b"%PDF-") && contains(bytes, b"startxref")
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

fn packed(bytes: &[u8]) -> Result<Sniffed, ParseError> {
    if archive::n_told_parts(bytes) > MAX_LISTED {
        let (_, kind) = PACKED_PARTS.iter().find(|(part, _)| contains(bytes, part)).ok_or_else(archive_of_others)?;
        return Ok(Sniffed::Binary(*kind));
    }
    let names = archive::names(bytes).unwrap_or_default();
    let has = |name: &str| names.iter().any(|known| known == name);
    let kind = if has("word/document.xml") {
        DocumentKind::Docx
    } else if has("ppt/presentation.xml") {
        DocumentKind::Pptx
    } else if has("xl/workbook.xml") {
        DocumentKind::Xlsx
    } else if has("META-INF/container.xml") {
        DocumentKind::Epub
    } else if names.is_empty() {
        // Cut off in the middle: the list of names stands at the end. The parts' own names tell what it was.
        let cut = PACKED_PARTS.iter().find(|(part, _)| contains(bytes, part));
        return Err(cut.map_or_else(archive_of_others, |(_, kind)| ParseError::corrupt(*kind, "it is incomplete")));
    } else {
        return Err(archive_of_others());
    };
    Ok(Sniffed::Binary(kind))
}

fn archive_of_others() -> ParseError {
    ParseError::Unsupported { what: "a zip archive", remedy: "unpack it and add what is in it" }
}

/// Why an Office file of the old shape is not read.
fn compound(bytes: &[u8]) -> ParseError {
    let wide = |text: &str| -> Vec<u8> { text.encode_utf16().flat_map(u16::to_le_bytes).collect() };
    if contains(bytes, &wide("EncryptedPackage")) {
        return ParseError::Encrypted { kind: "Office" };
    }
    ParseError::Unsupported { what: "an Office file of before 2007", remedy: "save it as .docx, .xlsx or .pptx" }
}

fn unreadable(bytes: &[u8]) -> ParseError {
    if bytes.starts_with(b"RIFF") && bytes.get(8..12) == Some(b"WEBP") {
        return ParseError::Unsupported { what: "a WebP image", remedy: "add it as an image" };
    }
    let known = UNREADABLE.iter().find(|(mark, _, _)| bytes.starts_with(mark));
    let (what, remedy) =
        known.map_or(("no text and of no known kind", "save it as text"), |(_, what, remedy)| (*what, *remedy));
    ParseError::Unsupported { what, remedy }
}

/// What a text is.
fn text_kind(extension: &str, text: &str) -> DocumentKind {
    let start = text.trim_start();
    if is_html(start) {
        return DocumentKind::Html;
    }
    if json::is_json(start, extension) {
        return DocumentKind::Json;
    }
    match extension {
        "md" | "markdown" | "mdx" | "mkd" => return DocumentKind::Markdown,
        "html" | "htm" | "xhtml" if start.contains("</") => return DocumentKind::Html,
        "csv" | "tsv" | "tab" if csv_file::delimiter(text).is_some() => return DocumentKind::Csv,
        _ => {}
    }
    let is_plain = PLAIN_NAMES.contains(&extension);
    if !is_plain && markdown::is_likely(text) {
        return DocumentKind::Markdown;
    }
    if !is_plain && csv_file::is_likely(text) {
        return DocumentKind::Csv;
    }
    DocumentKind::Text
}

fn is_html(start: &str) -> bool {
    let mut rest = start;
    // A declaration and comments may stand before it.
    while rest.starts_with("<?xml") || rest.starts_with("<!--") {
        let end = if rest.starts_with("<?") { "?>" } else { "-->" };
        match rest.find(end) {
            Some(at) => rest = rest[at + end.len()..].trim_start(),
            None => return false,
        }
    }
    let begins = |mark: &str| {
        rest.get(..mark.len()).is_some_and(|head| head.eq_ignore_ascii_case(mark))
            && rest[mark.len()..].chars().next().is_none_or(|next| !next.is_ascii_alphanumeric())
    };
    ["<!doctype html", "<html", "<head", "<body"].into_iter().any(begins)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(name: Option<&str>, text: &str) -> DocumentKind {
        match sniff(name, text.as_bytes()).unwrap() {
            Sniffed::Binary(kind) | Sniffed::Text(kind, _) => kind,
        }
    }

    #[test]
    fn content_decides_before_the_name() {
        for (name, text, expected) in [
            (Some("report.pdf"), "# Report\n\nAll is well.\n", DocumentKind::Markdown),
            (Some("report.docx"), "<!DOCTYPE HTML>\n<p>All is well", DocumentKind::Html),
            (None, "<?xml version=\"1.0\"?><!-- x --><html><body>a</body></html>", DocumentKind::Html),
            (Some("page.txt"), "<html>", DocumentKind::Html),
            (Some("a.txt"), "{\"a\": 1}", DocumentKind::Json),
            (Some("a.md"), "[a link](http://example.org) begins it", DocumentKind::Markdown),
            (Some("a.csv"), "a,b\n1,2\n", DocumentKind::Csv),
            (Some("a.csv"), "just one sentence\nand another", DocumentKind::Text),
            (Some("a.pdf"), "name,age,city\nAnn,3,Rome\nBo,4,Oslo\n", DocumentKind::Csv),
            (Some("run.sh"), "# comment\necho one\n# another\n", DocumentKind::Text),
            (None, "%PDF-1.4\n", DocumentKind::Pdf),
            (None, "A file begins with %PDF-1.4 when it is one.", DocumentKind::Text),
            (None, "", DocumentKind::Text),
        ] {
            assert_eq!(kind(name, text), expected, "{name:?} {text}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        let error = |bytes: &[u8]| sniff(Some("a.txt"), bytes).unwrap_err().to_string();
        assert!(error(b"\x89PNG\r\n\x1a\n\0\0").contains("PNG image"));
        assert!(error(b"PK\x05\x06\0\0\0\0").contains("zip archive"));
        assert!(error(b"{\\rtf1\\ansi hello}").contains("RTF"));
        assert!(error(b"\0\x01\x02\x03").contains("no known kind"));
        assert!(error(COMPOUND).contains("before 2007"));
        let locked: Vec<u8> =
            COMPOUND.iter().copied().chain("EncryptedPackage".encode_utf16().flat_map(u16::to_le_bytes)).collect();
        assert!(matches!(sniff(None, &locked), Err(ParseError::Encrypted { .. })));
    }
}
