//! Presentations: slides in their order, titles as headings, tables, notes of the speaker.

use std::collections::BTreeMap;

use super::archive::Archive;
use super::guard::Stop;
use super::images::mark;
use super::markdown::Outline;
use super::package::{self, Relation};
use super::xml::{Grids, Node, attribute, attribute_with_prefix, grid_markdown, walk};
use super::{Document, DocumentImage, DocumentKind, ImageSource, ParseError, ParseLimits, Position};

const KIND: DocumentKind = DocumentKind::Pptx;
const PRESENTATION: &str = "ppt/presentation.xml";

/// Slides stand beside each other.
const TITLE_LEVEL: u8 = 1;

/// # Errors
/// [`ParseError`] for a damaged, locked or oversized file.
pub(super) fn parse(bytes: Vec<u8>, limits: &ParseLimits, stop: &Stop) -> Result<Document, ParseError> {
    // Titles stand beside all that is on their slides: together they take no more than some times the file.
    let mut outline = Outline::of(bytes.len());
    let mut archive = Archive::open(KIND, bytes, limits)?;
    let mut document = Document::new(KIND);
    document.title = package::title(&mut archive, KIND)?;
    let slides = slides(&mut archive, limits)?;
    for (slide, name) in (1_u32..).zip(&slides) {
        stop.check(KIND)?;
        let Some(xml) = package::part(&mut archive, name)? else {
            document.note(format!("slide {slide} is missing"));
            continue;
        };
        let n_before = document.blocks.len();
        let relations = package::relations(&mut archive, KIND, name)?;
        outline.enter(TITLE_LEVEL, "");
        let mut has_title = false;
        for shape in shapes(&xml)? {
            if shape.is_title && !has_title {
                has_title = true;
                let title = shape.text.replace('\n', " ");
                outline.enter(TITLE_LEVEL, &title);
                document.push(&format!("## {title}"), position(slide, &outline), true);
                document.title.get_or_insert(title);
                continue;
            }
            let position = position(slide, &outline);
            match &shape.image {
                None => document.push(&shape.text, position, false),
                Some(id) => {
                    let part = relations.get(id).filter(|relation| relation.what == "image");
                    if let Some(Relation { target, .. }) = part {
                        picture(&mut archive, target, shape.text, position, &mut document, limits);
                    }
                }
            }
        }
        notes(&mut archive, relations, position(slide, &outline), &mut document)?;
        if document.blocks.len() == n_before {
            document.note(format!("slide {slide} has no text"));
        }
    }
    Ok(document)
}

fn position(slide: u32, outline: &Outline) -> Position {
    Position { slide: Some(slide), headings: outline.headings(), ..Position::default() }
}

/// Returns the slides' names in their order.
///
/// # Errors
/// [`ParseError`] for a damaged file, and for too many slides, as soon as there are.
fn slides(archive: &mut Archive<'_>, limits: &ParseLimits) -> Result<Vec<String>, ParseError> {
    let xml = package::required_part(archive, KIND, PRESENTATION)?;
    let relations = package::relations(archive, KIND, PRESENTATION)?;
    let mut slides = Vec::new();
    walk(KIND, &xml, |node| {
        if let Node::Open("sldId", tag) = node
            && let Some(relation) = attribute_with_prefix(tag, "r:id").and_then(|id| relations.get(&id))
        {
            if slides.len() >= limits.max_pages {
                return Err(ParseError::TooMuch { kind: KIND, what: "slides", limit: limits.max_pages });
            }
            slides.push(relation.target.clone());
        }
        Ok(())
    })?;
    Ok(slides)
}

fn notes(
    archive: &mut Archive<'_>,
    relations: BTreeMap<String, Relation>,
    position: Position,
    document: &mut Document,
) -> Result<(), ParseError> {
    let Some(Relation { target, .. }) = relations.into_values().find(|relation| relation.what == "notesSlide") else {
        return Ok(());
    };
    let Some(xml) = package::part(archive, &target)? else { return Ok(()) };
    let with_text = shapes(&xml)?.into_iter().filter(|shape| shape.image.is_none());
    let texts: Vec<String> = with_text.map(|shape| shape.text).collect();
    if !texts.is_empty() {
        document.push(&format!("Notes: {}", texts.join("\n")), position, false);
    }
    Ok(())
}

/// Notes an image of a slide; one that is damaged is left out.
fn picture(
    archive: &mut Archive<'_>,
    part: &str,
    alt: String,
    position: Position,
    document: &mut Document,
    limits: &ParseLimits,
) {
    let is_wanted = document.images.len() < limits.max_images;
    let bytes = if is_wanted { archive.read_image(part, limits.max_image_bytes) } else { None };
    let mark = mark(&alt, document.images.len() + 1);
    let source = ImageSource::Bytes(bytes.unwrap_or_default());
    let image = DocumentImage { alt, source, position: position.clone(), mark: mark.clone() };
    if document.add_image(image, limits) {
        document.push(&mark, position, false);
    }
}

/// Text that stands together on a slide, or an image.
#[derive(Debug, Default)]
struct Shape {
    /// Of an image, what it is said to show.
    text: String,
    is_title: bool,
    /// The id of the image.
    image: Option<String>,
}

/// Returns the shapes of a slide that have text, and its images; titles first.
fn shapes(xml: &str) -> Result<Vec<Shape>, ParseError> {
    let mut shapes: Vec<Shape> = Vec::new();
    let mut shape = Shape::default();
    let mut grids = Grids::default();
    let (mut paragraph, mut level) = (String::new(), 0_usize);
    let (mut is_text, mut is_left_out, mut n_skipped) = (false, false, 0_usize);
    let mut alt: Option<String> = None;
    walk(KIND, xml, |node| {
        match node {
            Node::Open("Fallback", _) => n_skipped += 1,
            Node::Close("Fallback") => n_skipped = n_skipped.saturating_sub(1),
            _ if n_skipped > 0 => {}
            Node::Open("sp", _) => {
                is_left_out = false;
                shape = Shape::default();
            }
            Node::Open("pic", _) => alt = Some(String::new()),
            Node::Close("pic") => alt = None,
            Node::Open("cNvPr", tag) if alt.is_some() => alt = attribute(tag, "descr").or(Some(String::new())),
            Node::Open("blip", tag) if alt.is_some() => {
                if let Some(id) = attribute(tag, "embed") {
                    let text = alt.as_mut().map(std::mem::take).unwrap_or_default();
                    shapes.push(Shape { text, is_title: false, image: Some(id) });
                }
            }
            Node::Open("ph", tag) => match attribute(tag, "type").as_deref() {
                Some("title" | "ctrTitle") => shape.is_title = true,
                Some("sldNum" | "dt" | "ftr" | "hdr" | "sldImg") => is_left_out = true,
                _ => {}
            },
            Node::Close("sp") => {
                let done = std::mem::take(&mut shape);
                if !is_left_out && !done.text.trim().is_empty() {
                    shapes.push(Shape { text: done.text.trim().to_owned(), ..done });
                }
            }
            Node::Open("pPr", tag) => level = attribute(tag, "lvl").and_then(|level| level.parse().ok()).unwrap_or(0),
            Node::Open("t", _) => is_text = true,
            Node::Close("t") => is_text = false,
            Node::Open("br", _) => paragraph.push('\n'),
            Node::Text(text) if is_text => paragraph.push_str(text),
            Node::Close("p") => {
                let done = std::mem::take(&mut paragraph);
                let indent = std::mem::take(&mut level);
                if !grids.text(done.trim()) && !done.trim().is_empty() {
                    let mark = if indent > 0 { format!("{}- ", "  ".repeat(indent.min(9) - 1)) } else { String::new() };
                    shape.text.push_str(&format!("{mark}{}\n", done.trim()));
                }
            }
            _ => {
                if let Some(rows) = grids.step(&node) {
                    shapes.push(Shape { text: grid_markdown(&rows), ..Shape::default() });
                }
            }
        }
        Ok(())
    })?;
    shapes.sort_by_key(|shape| !shape.is_title);
    Ok(shapes)
}
