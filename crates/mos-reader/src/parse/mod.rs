//! Files to text: what a file says, as Markdown blocks that know where in the file they stand.
//!
//! What a file is, its content decides; its name only where the content leaves a choice. Everything here is for files
//! that others wrote: sizes, depths and times are bounded ([`ParseLimits`]), and a file that cannot be read gives a
//! [`ParseError`] that says why.
//!
//! Not here: fetching, images, chat exports (which are messages, not documents).

mod archive;
mod csv_file;
mod docx;
mod epub;
mod error;
mod guard;
mod html;
mod images;
mod json;
pub(crate) mod markdown;
mod package;
mod pdf;
mod pptx;
mod sniff;
mod table;
mod text;
mod xlsx;
mod xml;

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub(crate) use archive::n_told_parts;
pub use error::ParseError;

use guard::Stop;
use sniff::Sniffed;

/// Between two blocks in [`Document::text`].
pub const BLOCK_SEPARATOR: &str = "\n\n";

/// The most notes of one document; what is left out is counted in the last one.
const MAX_NOTES: usize = 20;

/// The most blocks that stand by themselves.
const MAX_BLOCKS: usize = 500_000;

/// The longest title that is kept.
const MAX_TITLE_BYTES: usize = 1_000;

/// What a file turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum DocumentKind {
    /// Plain text, source code too.
    Text,
    /// Markdown.
    Markdown,
    /// A page of the web.
    Html,
    /// PDF.
    Pdf,
    /// A Word document.
    Docx,
    /// A PowerPoint presentation.
    Pptx,
    /// An Excel workbook.
    Xlsx,
    /// Values separated by commas, semicolons or tabs.
    Csv,
    /// JSON, or one JSON value per line.
    Json,
    /// An electronic book.
    Epub,
}

impl DocumentKind {
    /// Returns the word for it, in lower case: `markdown`, `pdf`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Markdown => "markdown",
            Self::Html => "html",
            Self::Pdf => "pdf",
            Self::Docx => "docx",
            Self::Pptx => "pptx",
            Self::Xlsx => "xlsx",
            Self::Csv => "csv",
            Self::Json => "json",
            Self::Epub => "epub",
        }
    }
}

impl fmt::Display for DocumentKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a file says.
#[derive(Clone, Debug, PartialEq)]
pub struct Document {
    /// Its title, where it says one.
    pub title: Option<String>,
    /// What it turned out to be.
    pub kind: DocumentKind,
    /// Its text in reading order. No block is empty.
    pub blocks: Vec<Block>,
    /// Its images, in reading order.
    pub images: Vec<DocumentImage>,
    /// How many images there are besides: too many, too large, or damaged.
    pub n_images_left_out: usize,
    /// What is worth knowing about the reading: pages without text, a guessed encoding; a sentence each.
    pub notes: Vec<String>,
}

/// An image in a document.
#[derive(Clone, Debug, PartialEq)]
pub struct DocumentImage {
    /// What the document says that it shows; may be empty.
    pub alt: String,
    /// Its content, or where that is.
    pub source: ImageSource,
    /// Where it stands.
    pub position: Position,
    /// What stands for it in the text, as Markdown; empty where the document does not tell between which words it stands.
    pub mark: String,
}

/// Where the content of an image is.
#[derive(Clone, Debug, PartialEq)]
pub enum ImageSource {
    /// In the document.
    Bytes(Vec<u8>),
    /// At an address, as the document writes it.
    Address(String),
}

/// A paragraph, heading, list, table or the like.
#[derive(Clone, Debug, PartialEq)]
pub struct Block {
    /// Markdown, without space around it.
    pub text: String,
    /// Where it stands.
    pub position: Position,
    /// Whether it is a heading.
    pub is_heading: bool,
}

/// Where in a document something stands, as far as its kind knows such places.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Position {
    /// The page, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub page: Option<u32>,
    /// The headings it stands under, outermost first. A heading's own text is the last of its own.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub headings: Vec<String>,
    /// The sheet of a workbook.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sheet: Option<String>,
    /// The slide, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slide: Option<u32>,
    /// The first row of a table, or the entry of a list, from 1 as the file counts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub row: Option<u32>,
}

impl Document {
    /// Returns the texts of all blocks, joined by [`BLOCK_SEPARATOR`]. Offsets of chunks are bytes in it.
    pub fn text(&self) -> String {
        let texts: Vec<&str> = self.blocks.iter().map(|block| block.text.as_str()).collect();
        texts.join(BLOCK_SEPARATOR)
    }

    fn new(kind: DocumentKind) -> Self {
        Self { title: None, kind, blocks: Vec::new(), images: Vec::new(), n_images_left_out: 0, notes: Vec::new() }
    }

    /// Adds a block, unless it is empty. After very many the last one takes what follows: a block takes much more memory than a
    /// short text.
    fn push(&mut self, text: &str, position: Position, is_heading: bool) {
        let text = text.trim();
        if text.is_empty() {
            return;
        }
        let is_full = self.blocks.len() >= MAX_BLOCKS;
        match self.blocks.last_mut().filter(|_| is_full) {
            Some(last) => {
                last.text.push_str(BLOCK_SEPARATOR);
                last.text.push_str(text);
            }
            None => self.blocks.push(Block { text: text.to_owned(), position, is_heading }),
        }
    }

    /// Adds Markdown whose headings stand under those of `base`. Without a title, the first heading of the first level
    /// becomes it.
    fn push_markdown(&mut self, text: &str, base: &Position) {
        for block in markdown::blocks(text) {
            if self.title.is_none() && block.level == Some(1) {
                self.title = block.headings.last().cloned();
            }
            let headings = base.headings.iter().chain(&block.headings).cloned().collect();
            let position = Position { headings, ..base.clone() };
            self.push(&text[block.range], position, block.level.is_some());
        }
    }

    fn note(&mut self, note: impl Into<String>) {
        self.notes.push(note.into());
    }

    fn finish(mut self) -> Self {
        // It stands in every question about the document.
        let short = |title: &str| title[..title.floor_char_boundary(MAX_TITLE_BYTES)].to_owned();
        self.title = self.title.map(|title| short(title.trim())).filter(|title| !title.is_empty());
        if self.blocks.is_empty() {
            self.note(format!("there is no text in this {} file", self.kind));
        }
        if self.notes.len() > MAX_NOTES {
            let n_more = self.notes.len() - MAX_NOTES + 1;
            self.notes.truncate(MAX_NOTES - 1);
            self.note(format!("{n_more} more notes are left out"));
        }
        self
    }
}

/// How much a file may ask for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParseLimits {
    /// Bytes of the file; a larger one is refused unread.
    pub max_bytes: usize,
    /// Bytes of all blocks together.
    pub max_text_bytes: usize,
    /// Pages of a PDF, chapters of a book, slides, sheets.
    pub max_pages: usize,
    /// Files in a packed file.
    pub max_entries: usize,
    /// Bytes that a packed file may unpack to, all its parts together.
    pub max_unpacked_bytes: usize,
    /// How many times larger than packed a part may be, once it is larger than a mebibyte.
    pub max_ratio: usize,
    /// Elements of a page of the web.
    pub max_elements: usize,
    /// Cells of all sheets together.
    pub max_cells: usize,
    /// Images of a document that are kept; the others are counted.
    pub max_images: usize,
    /// Bytes of one of its images.
    pub max_image_bytes: usize,
    /// Time for one file.
    pub timeout: Duration,
}

impl Default for ParseLimits {
    fn default() -> Self {
        Self {
            max_bytes: 64 << 20,
            max_text_bytes: 32 << 20,
            max_pages: 5_000,
            max_entries: 10_000,
            max_unpacked_bytes: 256 << 20,
            max_ratio: 300,
            max_elements: 500_000,
            max_cells: 2_000_000,
            max_images: 20,
            max_image_bytes: 4 << 20,
            timeout: Duration::from_secs(60),
        }
    }
}

impl ParseLimits {
    /// # Errors
    /// [`ParseError::TooMuch`] when a document has more text than may be.
    fn check_text(&self, kind: DocumentKind, bytes: usize) -> Result<(), ParseError> {
        if bytes > self.max_text_bytes {
            return Err(ParseError::TooMuch { kind, what: "bytes of text", limit: self.max_text_bytes });
        }
        Ok(())
    }
}

/// Returns what the file says. `name` helps only where the content leaves a choice: it may be wrong or missing.
///
/// Texts are read at once, everything else in a thread of its own: what panics there is an error here, and what takes
/// too long is given up.
///
/// # Errors
/// [`ParseError`], always with what to do about it.
pub fn parse(name: Option<&str>, bytes: &[u8], limits: &ParseLimits) -> Result<Document, ParseError> {
    if bytes.len() > limits.max_bytes {
        return Err(ParseError::TooLarge { bytes: bytes.len(), limit: limits.max_bytes });
    }
    let document = match sniff::sniff(name, bytes)? {
        Sniffed::Binary(kind) => binary(kind, bytes, limits)?,
        Sniffed::Text(kind, decoded) => {
            let mut document = textual(kind, decoded.text, limits)?;
            if matches!(kind, DocumentKind::Markdown | DocumentKind::Html) {
                document.take_images(0, limits, &mut |_| None);
            }
            document.notes.extend(decoded.note);
            document
        }
    };
    finished(document, limits)
}

/// Returns what a text says that is known to be Markdown, whatever it looks like.
///
/// # Errors
/// As [`parse`]; also for what is no text.
pub fn parse_markdown(bytes: &[u8], limits: &ParseLimits) -> Result<Document, ParseError> {
    if bytes.len() > limits.max_bytes {
        return Err(ParseError::TooLarge { bytes: bytes.len(), limit: limits.max_bytes });
    }
    let kind = DocumentKind::Markdown;
    let decoded = text::decode(bytes).ok_or_else(|| ParseError::corrupt(kind, "it is no text"))?;
    let mut document = markdown::parse(&decoded.text);
    document.take_images(0, limits, &mut |_| None);
    document.notes.extend(decoded.note);
    finished(document, limits)
}

/// Checks how much a document says, and notes what is left out of it.
fn finished(mut document: Document, limits: &ParseLimits) -> Result<Document, ParseError> {
    if document.n_images_left_out > 0 {
        let (n, most, bytes) = (document.n_images_left_out, limits.max_images, limits.max_image_bytes);
        document.note(format!("{n} images are left out: at most {most} are looked at, of at most {bytes} bytes each"));
    }
    limits.check_text(document.kind, document.blocks.iter().map(|block| block.text.len()).sum())?;
    Ok(document.finish())
}

fn binary(kind: DocumentKind, bytes: &[u8], limits: &ParseLimits) -> Result<Document, ParseError> {
    let bytes = bytes.to_vec();
    let own_limits = limits.clone();
    guard::run(kind, limits.timeout, move |stop: &Stop| match kind {
        DocumentKind::Pdf => pdf::parse(&bytes, &own_limits, stop),
        DocumentKind::Docx => docx::parse(bytes, &own_limits, stop),
        DocumentKind::Pptx => pptx::parse(bytes, &own_limits, stop),
        DocumentKind::Xlsx => xlsx::parse(bytes, &own_limits, stop),
        DocumentKind::Epub => epub::parse(bytes, &own_limits, stop),
        _ => Err(ParseError::corrupt(kind, "it is not the packed file that it seemed to be")),
    })
}

fn textual(kind: DocumentKind, text: String, limits: &ParseLimits) -> Result<Document, ParseError> {
    match kind {
        DocumentKind::Html => {
            let own_limits = limits.clone();
            guard::run(kind, limits.timeout, move |_| html::parse(&text, &own_limits))
        }
        DocumentKind::Markdown => Ok(markdown::parse(&text)),
        DocumentKind::Csv => csv_file::parse(&text, limits),
        DocumentKind::Json => json::parse(&text, limits),
        _ => Ok(text::parse(&text)),
    }
}
