//! PDF, page by page. What a stream may unpack to, how deep forms may lie in forms and how much a page may do are
//! bounded; a page that cannot be read is a note, not the end.

mod font;
mod layout;
mod letters;
mod page;

use std::collections::HashSet;

use lopdf::{Document as Pdf, Error as PdfError, LoadOptions, Object, ObjectId};

use super::guard::Stop;
use super::{Document, DocumentImage, DocumentKind, ImageSource, ParseError, ParseLimits, Position};

use page::{Pages, Reading};

const KIND: DocumentKind = DocumentKind::Pdf;

/// Streams up to this size may be packed to any degree.
const ANY_RATIO_BELOW: usize = 1 << 20;

/// Images with a shorter side are logos and ornaments, in pixels.
const MIN_IMAGE_SIDE: i64 = 64;

/// # Errors
/// [`ParseError`] for a damaged, locked or oversized file.
pub(super) fn parse(bytes: &[u8], limits: &ParseLimits, stop: &Stop) -> Result<Document, ParseError> {
    let by_ratio = bytes.len().saturating_mul(limits.max_ratio).max(ANY_RATIO_BELOW);
    let options = LoadOptions::with_max_decompressed_size(limits.max_unpacked_bytes.min(by_ratio));
    let pdf = Pdf::load_mem_with_options(bytes, options).map_err(|error| sorted(&error, limits))?;
    // Without its password, a file is loaded and has nothing in it.
    if pdf.trailer.has(b"Encrypt") && !pdf.was_encrypted() {
        return Err(ParseError::Encrypted { kind: KIND.as_str() });
    }
    stop.check(KIND)?;
    let ids = pdf.get_pages();
    if ids.is_empty() {
        return Err(ParseError::corrupt(KIND, "it has no pages"));
    }
    if ids.len() > limits.max_pages {
        return Err(ParseError::TooMuch { kind: KIND, what: "pages", limit: limits.max_pages });
    }
    let mut document = Document::new(KIND);
    document.title = title(&pdf);
    let mut pages = Pages::new(&pdf, limits, stop);
    let (mut n_failed, n_pages, mut n_bytes) = (0, ids.len(), 0);
    let mut shown: HashSet<ObjectId> = HashSet::new();
    for (number, id) in ids {
        stop.check(KIND)?;
        let reading = match pages.read(id) {
            Ok(reading) => reading,
            Err(page::PageError::Damaged(detail)) => {
                n_failed += 1;
                document.note(format!("page {number} cannot be read: {detail}"));
                continue;
            }
            Err(page::PageError::Fatal(error)) => return Err(error),
        };
        n_bytes += reading.paragraphs.iter().map(String::len).sum::<usize>();
        limits.check_text(KIND, n_bytes)?;
        add(&mut document, number, &reading);
        add_images(&mut document, &pdf, (number, id), &mut shown, limits);
    }
    if n_failed == n_pages {
        return Err(ParseError::corrupt(KIND, "none of its pages can be read"));
    }
    Ok(document)
}

fn add(document: &mut Document, number: u32, reading: &Reading) {
    if reading.has_unknown_letters {
        document.note(format!("page {number}: some text is in a font that does not say which letters it shows"));
    } else if reading.paragraphs.is_empty() {
        document.note(format!("page {number} has no text; if it is a scan, add its images"));
    }
    for paragraph in &reading.paragraphs {
        document.push(paragraph, Position { page: Some(number), ..Position::default() }, false);
    }
}

/// Takes the photographs of a page, each once; what is drawn in other ways cannot be taken out as it is. A page whose images
/// are damaged has none.
fn add_images(
    document: &mut Document,
    pdf: &Pdf,
    (number, id): (u32, ObjectId),
    shown: &mut HashSet<ObjectId>,
    limits: &ParseLimits,
) {
    for image in pdf.get_page_images(id).unwrap_or_default() {
        let is_jpeg = image.filters.as_deref().is_some_and(|filters| filters == ["DCTDecode"]);
        let is_large = image.width.min(image.height) >= MIN_IMAGE_SIDE;
        if is_jpeg && is_large && shown.insert(image.id) {
            let source = ImageSource::Bytes(image.content.to_vec());
            let position = Position { page: Some(number), ..Position::default() };
            document.add_image(DocumentImage { alt: String::new(), source, position, mark: String::new() }, limits);
        }
    }
}

fn sorted(error: &PdfError, limits: &ParseLimits) -> ParseError {
    match error {
        PdfError::InvalidPassword | PdfError::Decryption(_) | PdfError::UnsupportedSecurityHandler(_) => {
            ParseError::Encrypted { kind: KIND.as_str() }
        }
        PdfError::Decompress(lopdf::DecompressError::MemoryLimitExceeded { .. }) => {
            let limit = limits.max_unpacked_bytes;
            ParseError::TooMuch { kind: KIND, what: "bytes when it is unpacked", limit }
        }
        other => ParseError::corrupt(KIND, other.to_string()),
    }
}

fn title(pdf: &Pdf) -> Option<String> {
    let info = pdf.trailer.get_deref(b"Info", pdf).and_then(Object::as_dict).ok()?;
    let title = info.get_deref(b"Title", pdf).and_then(lopdf::decode_text_string).ok()?;
    Some(title).filter(|title| !title.trim().is_empty())
}
