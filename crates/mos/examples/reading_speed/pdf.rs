//! Writes a report as PDF: pages of paragraphs in a standard font, content streams packed.

use std::io::{self, Write};

use flate2::Compression;
use flate2::write::ZlibEncoder;

/// Letters of a line, at most; a longer word stands alone.
const LINE_LETTERS: usize = 84;

/// Returns a PDF with one page per list of paragraphs, all of them in ASCII.
pub(crate) fn of_pages(pages: &[Vec<String>]) -> io::Result<Vec<u8>> {
    let kids: Vec<String> = (0..pages.len()).map(|page| format!("{} 0 R", 4 + 2 * page)).collect();
    let mut objects: Vec<Vec<u8>> = vec![
        b"<< /Type /Catalog /Pages 2 0 R >>".to_vec(),
        format!("<< /Type /Pages /Kids [{}] /Count {} >>", kids.join(" "), pages.len()).into_bytes(),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding >>".to_vec(),
    ];
    for (number, paragraphs) in pages.iter().enumerate() {
        let page = format!(
            "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Resources << /Font << /F1 3 0 R >> >> \
             /Contents {} 0 R >>",
            5 + 2 * number
        );
        objects.push(page.into_bytes());
        objects.push(stream(&content(paragraphs))?);
    }
    Ok(file_of(&objects))
}

fn stream(content: &str) -> io::Result<Vec<u8>> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(content.as_bytes())?;
    let packed = encoder.finish()?;
    let mut object = format!("<< /Length {} /Filter /FlateDecode >>\nstream\n", packed.len()).into_bytes();
    object.extend(packed);
    object.extend_from_slice(b"\nendstream");
    Ok(object)
}

/// What draws a page; a gap stands behind every paragraph.
fn content(paragraphs: &[String]) -> String {
    let mut content = "BT /F1 10 Tf 14 TL 72 740 Td\n".to_owned();
    for paragraph in paragraphs {
        for line in lines(paragraph) {
            let line = line.replace('\\', "\\\\").replace('(', "\\(").replace(')', "\\)");
            content.push_str(&format!("({line}) Tj T*\n"));
        }
        content.push_str("0 -12 Td\n");
    }
    content.push_str("ET");
    content
}

fn lines(paragraph: &str) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in paragraph.split_whitespace() {
        let is_full = lines.last().is_some_and(|line| !line.is_empty() && line.len() + 1 + word.len() > LINE_LETTERS);
        if is_full {
            lines.push(String::new());
        }
        if let Some(line) = lines.last_mut() {
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
    }
    lines
}

/// Objects are numbered from 1; the first is the catalog.
fn file_of(objects: &[Vec<u8>]) -> Vec<u8> {
    let mut out = b"%PDF-1.5\n%\xe2\xe3\xcf\xd3\n".to_vec();
    let mut offsets = Vec::with_capacity(objects.len());
    for (index, object) in objects.iter().enumerate() {
        offsets.push(out.len());
        out.extend(format!("{} 0 obj\n", index + 1).into_bytes());
        out.extend_from_slice(object);
        out.extend_from_slice(b"\nendobj\n");
    }
    let (start, size) = (out.len(), objects.len() + 1);
    out.extend(format!("xref\n0 {size}\n0000000000 65535 f \n").into_bytes());
    for offset in offsets {
        out.extend(format!("{offset:010} 00000 n \n").into_bytes());
    }
    out.extend(format!("trailer\n<< /Size {size} /Root 1 0 R >>\nstartxref\n{start}\n%%EOF\n").into_bytes());
    out
}
