//! Word documents: headings by style, lists, tables, text boxes, notes. What was deleted with tracked changes is not
//! read.

use std::collections::BTreeMap;

use super::archive::Archive;
use super::guard::Stop;
use super::images::mark;
use super::markdown::Outline;
use super::package::{self, Relation};
use super::xml::{Grids, Node, attribute, grid_markdown, walk};
use super::{Document, DocumentImage, DocumentKind, ImageSource, ParseError, ParseLimits, Position};

const KIND: DocumentKind = DocumentKind::Docx;

/// The part that is read first.
const BODY: &str = "word/document.xml";

/// The most images whose places are noted.
const MAX_PICTURES: usize = 10_000;

/// The deepest level of a heading.
const MAX_LEVEL: u8 = 6;

/// # Errors
/// [`ParseError`] for a damaged, locked or oversized file.
pub(super) fn parse(bytes: Vec<u8>, limits: &ParseLimits, stop: &Stop) -> Result<Document, ParseError> {
    let mut archive = Archive::open(KIND, bytes, limits)?;
    let mut document = Document::new(KIND);
    document.title = package::title(&mut archive, KIND)?;
    let styles = match package::part(&mut archive, "word/styles.xml")? {
        Some(xml) => styles(&xml)?,
        None => BTreeMap::new(),
    };
    let body = package::required_part(&mut archive, KIND, BODY)?;
    // Only images need them: without them the text is still there.
    let relations = package::relations(&mut archive, KIND, BODY).unwrap_or_default();
    let mut walker = Walker::new(&mut document, &styles, stop);
    walker.relations = Some(&relations);
    let pictures = walker.walk(&body)?;
    for notes in ["word/footnotes.xml", "word/endnotes.xml"] {
        if let Some(xml) = package::part(&mut archive, notes)? {
            Walker::new(&mut document, &styles, stop).walk(&xml)?;
        }
    }
    for Picture { part, alt, mark, position } in pictures {
        let is_wanted = document.images.len() < limits.max_images;
        let bytes = if is_wanted { archive.read_image(&part, limits.max_image_bytes) } else { None };
        let source = ImageSource::Bytes(bytes.unwrap_or_default());
        document.add_image(DocumentImage { alt, source, position, mark }, limits);
    }
    Ok(document)
}

/// An image whose content is still packed.
struct Picture {
    part: String,
    alt: String,
    mark: String,
    position: Position,
}

/// What a style makes of a paragraph.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Style {
    Title,
    Heading(u8),
}

/// Returns the styles of titles and headings by their ids: their ids are in the writer's language, their names are not.
fn styles(xml: &str) -> Result<BTreeMap<String, Style>, ParseError> {
    let mut found = BTreeMap::new();
    let mut id: Option<String> = None;
    walk(KIND, xml, |node| {
        match node {
            Node::Open("style", tag) => id = attribute(tag, "styleId"),
            Node::Open("name", tag) => {
                let name = attribute(tag, "val").unwrap_or_default().to_lowercase();
                if let (Some(id), Some(style)) = (&id, named(&name)) {
                    found.insert(id.clone(), style);
                }
            }
            Node::Open("outlineLvl", tag) => {
                if let (Some(id), Some(style)) = (&id, outline_level(attribute(tag, "val"))) {
                    found.entry(id.clone()).or_insert(style);
                }
            }
            _ => {}
        }
        Ok(())
    })?;
    Ok(found)
}

fn named(name: &str) -> Option<Style> {
    if name == "title" {
        return Some(Style::Title);
    }
    let level: u8 = name.strip_prefix("heading ")?.trim().parse().ok()?;
    (level >= 1).then(|| Style::Heading(level.min(MAX_LEVEL)))
}

/// Level 9 stands for text.
fn outline_level(value: Option<String>) -> Option<Style> {
    let level: u8 = value?.parse().ok()?;
    (level < 9).then(|| Style::Heading((level + 1).min(MAX_LEVEL)))
}

#[derive(Debug, Default)]
struct Paragraph {
    text: String,
    style: Option<Style>,
    /// How deep in a list, from 0.
    list: Option<usize>,
}

struct Walker<'a> {
    document: &'a mut Document,
    styles: &'a BTreeMap<String, Style>,
    stop: &'a Stop,
    outline: Outline,
    /// The paragraph that is open, after those that its text boxes stand in.
    open: Vec<Paragraph>,
    grids: Grids,
    /// Items of the list that is open.
    list: String,
    is_text: bool,
    is_run: bool,
    /// Elements that are left out and not closed yet.
    n_skipped: usize,
    /// What the part refers to; without them its images are passed over.
    relations: Option<&'a BTreeMap<String, Relation>>,
    /// What the next image is said to show.
    alt: String,
    pictures: Vec<Picture>,
}

impl<'a> Walker<'a> {
    fn new(document: &'a mut Document, styles: &'a BTreeMap<String, Style>, stop: &'a Stop) -> Self {
        Self {
            document,
            styles,
            stop,
            outline: Outline::of(0),
            open: Vec::new(),
            grids: Grids::default(),
            list: String::new(),
            is_text: false,
            is_run: false,
            n_skipped: 0,
            relations: None,
            alt: String::new(),
            pictures: Vec::new(),
        }
    }

    /// Returns the images that were passed.
    fn walk(mut self, xml: &str) -> Result<Vec<Picture>, ParseError> {
        self.outline = Outline::of(xml.len());
        walk(KIND, xml, |node| self.step(&node))?;
        self.end_list();
        Ok(self.pictures)
    }

    fn step(&mut self, node: &Node<'_>) -> Result<(), ParseError> {
        match node {
            // Older programs' version of what stands beside it, and text that was moved away.
            Node::Open("Fallback" | "moveFrom" | "del", _) => self.n_skipped += 1,
            Node::Close("Fallback" | "moveFrom" | "del") => self.n_skipped = self.n_skipped.saturating_sub(1),
            _ if self.n_skipped > 0 => {}
            Node::Open("p", _) => {
                self.stop.check(KIND)?;
                self.open.push(Paragraph::default());
            }
            Node::Close("p") => self.end_paragraph(),
            Node::Open("r", _) => self.is_run = true,
            Node::Close("r") => self.is_run = false,
            Node::Open("t", _) => self.is_text = true,
            Node::Close("t") => self.is_text = false,
            Node::Text(text) if self.is_text => self.push(text),
            Node::Open("tab", _) if self.is_run => self.push("\t"),
            Node::Open("br" | "cr", _) if self.is_run => self.push("\n"),
            Node::Open("noBreakHyphen", _) => self.push("-"),
            Node::Open("docPr", tag) => {
                let said = attribute(tag, "descr").or_else(|| attribute(tag, "title"));
                self.alt = said.unwrap_or_default();
            }
            Node::Open("blip", tag) => self.picture(attribute(tag, "embed")),
            Node::Open(name, tag) => {
                self.property(name, attribute(tag, "val"));
                self.grids.step(node);
            }
            Node::Close(_) => {
                if let Some(rows) = self.grids.step(node) {
                    self.end_list();
                    let position = self.position();
                    self.document.push(&grid_markdown(&rows), position, false);
                }
            }
            Node::Text(_) => {}
        }
        Ok(())
    }

    /// Notes an image at its place in the text.
    fn picture(&mut self, id: Option<String>) {
        let relation = id.and_then(|id| self.relations?.get(&id));
        let Some(relation) = relation.filter(|relation| relation.what == "image") else { return };
        if self.pictures.len() >= MAX_PICTURES {
            self.document.n_images_left_out += 1;
            return;
        }
        let part = relation.target.clone();
        let alt = std::mem::take(&mut self.alt);
        let mark = mark(&alt, self.pictures.len() + 1);
        self.push(&mark);
        let position = self.position();
        self.pictures.push(Picture { part, alt, mark, position });
    }

    fn push(&mut self, text: &str) {
        if let Some(paragraph) = self.open.last_mut() {
            paragraph.text.push_str(text);
        }
    }

    fn property(&mut self, name: &str, value: Option<String>) {
        let Some(paragraph) = self.open.last_mut() else { return };
        match name {
            "pStyle" => {
                let style = value.and_then(|id| self.styles.get(&id)).copied();
                paragraph.style = paragraph.style.or(style);
            }
            "outlineLvl" => paragraph.style = paragraph.style.or(outline_level(value)),
            "numPr" => paragraph.list = paragraph.list.or(Some(0)),
            "ilvl" => paragraph.list = value.and_then(|level| level.parse().ok()).map(|level: usize| level.min(9)),
            // Number 0 takes a paragraph out of its list.
            "numId" if value.as_deref() == Some("0") => paragraph.list = None,
            _ => {}
        }
    }

    fn position(&self) -> Position {
        Position { headings: self.outline.headings(), ..Position::default() }
    }

    fn end_list(&mut self) {
        if !self.list.is_empty() {
            let list = std::mem::take(&mut self.list);
            let position = self.position();
            self.document.push(&list, position, false);
        }
    }

    fn end_paragraph(&mut self) {
        let Some(paragraph) = self.open.pop() else { return };
        let text = paragraph.text.trim();
        if self.grids.text(text) || text.is_empty() {
            return;
        }
        if let (Some(depth), None) = (paragraph.list, paragraph.style) {
            self.list.push_str(&format!("{}- {text}\n", "  ".repeat(depth)));
            return;
        }
        self.end_list();
        match paragraph.style {
            Some(style) => {
                let level = if let Style::Heading(level) = style { level } else { 1 };
                let line = text.replace('\n', " ");
                if self.document.title.is_none() && (style == Style::Title || level == 1) {
                    self.document.title = Some(line.clone());
                }
                // The title of the document is not above its headings: they would all bear it.
                if style != Style::Title {
                    self.outline.enter(level, &line);
                }
                let position = self.position();
                self.document.push(&format!("{} {line}", "#".repeat(usize::from(level))), position, true);
            }
            None => {
                let position = self.position();
                self.document.push(text, position, false);
            }
        }
    }
}
