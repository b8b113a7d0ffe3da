//! What the XML of packed documents has in common: elements by their local names, texts with entities resolved.

use std::borrow::Cow;

use quick_xml::XmlVersion;
use quick_xml::events::{BytesRef, BytesStart, Event};
use quick_xml::reader::Reader;

use super::{DocumentKind, ParseError};

/// Elements inside elements; documents have a few dozens.
const MAX_DEPTH: usize = 1_000;

/// A step through a file.
pub(super) enum Node<'a> {
    /// An element begins. Its name has no prefix.
    Open(&'a str, &'a BytesStart<'a>),
    /// An element ends.
    Close(&'a str),
    /// Text inside an element.
    Text(&'a str),
}

/// Walks through a file.
///
/// # Errors
/// [`ParseError::Corrupt`] for what is no XML or ends too soon, and what `step` returns.
pub(super) fn walk(
    kind: DocumentKind,
    text: &str,
    mut step: impl FnMut(Node<'_>) -> Result<(), ParseError>,
) -> Result<(), ParseError> {
    let mut reader = Reader::from_str(text);
    let mut depth = 0_usize;
    loop {
        let event = reader.read_event().map_err(|error| ParseError::corrupt(kind, format!("damaged XML ({error})")))?;
        match event {
            Event::Start(tag) => {
                depth += 1;
                if depth > MAX_DEPTH {
                    return Err(ParseError::TooMuch { kind, what: "elements inside each other", limit: MAX_DEPTH });
                }
                step(Node::Open(tag.local_name().into_inner(), &tag))?;
            }
            Event::Empty(tag) => {
                step(Node::Open(tag.local_name().into_inner(), &tag))?;
                step(Node::Close(tag.local_name().into_inner()))?;
            }
            Event::End(tag) => {
                depth = depth.saturating_sub(1);
                step(Node::Close(tag.local_name().into_inner()))?;
            }
            Event::Text(content) => step(Node::Text(&content.xml10_content()))?,
            Event::CData(content) => step(Node::Text(&content.into_inner()))?,
            Event::GeneralRef(reference) => step(Node::Text(&resolve(&reference)))?,
            Event::Eof if depth > 0 => return Err(ParseError::corrupt(kind, "it is incomplete")),
            Event::Eof => return Ok(()),
            Event::Comment(_) | Event::Decl(_) | Event::PI(_) | Event::DocType(_) => {}
        }
    }
}

/// Entities that a file declares itself are not followed; their names stay.
fn resolve(reference: &BytesRef<'_>) -> String {
    if let Ok(Some(letter)) = reference.resolve_char_ref() {
        return letter.to_string();
    }
    let name = reference.xml10_content();
    match name.as_ref() {
        "lt" => "<".to_owned(),
        "gt" => ">".to_owned(),
        "amp" => "&".to_owned(),
        "quot" => "\"".to_owned(),
        "apos" => "'".to_owned(),
        "nbsp" => " ".to_owned(),
        other => format!("&{other};"),
    }
}

/// Returns an attribute by its name without prefix.
pub(super) fn attribute(tag: &BytesStart<'_>, name: &str) -> Option<String> {
    find(tag, |attribute| attribute.local_name().into_inner() == name)
}

/// Returns an attribute by its whole name.
pub(super) fn attribute_with_prefix(tag: &BytesStart<'_>, name: &str) -> Option<String> {
    find(tag, |attribute| attribute.into_inner() == name)
}

fn find(tag: &BytesStart<'_>, is_it: impl Fn(quick_xml::name::QName<'_>) -> bool) -> Option<String> {
    for attribute in tag.attributes().with_checks(false).flatten() {
        if is_it(attribute.key) {
            return attribute.normalized_value(XmlVersion::Implicit1_0).ok().map(Cow::into_owned);
        }
    }
    None
}

/// A table that is being read, and those around it.
#[derive(Debug, Default)]
pub(super) struct Grids(Vec<Grid>);

#[derive(Debug, Default)]
struct Grid {
    rows: Vec<Vec<String>>,
    row: Vec<String>,
    cell: String,
}

impl Grids {
    /// Heeds `tbl`, `tr` and `tc`. Returns the outermost table when it ends.
    pub(super) fn step(&mut self, node: &Node<'_>) -> Option<Vec<Vec<String>>> {
        match node {
            Node::Open("tbl", _) => self.0.push(Grid::default()),
            Node::Close("tc") => {
                if let Some(grid) = self.0.last_mut() {
                    let cell = std::mem::take(&mut grid.cell);
                    grid.row.push(cell);
                }
            }
            Node::Close("tr") => {
                if let Some(grid) = self.0.last_mut() {
                    let row = std::mem::take(&mut grid.row);
                    grid.rows.push(row);
                }
            }
            Node::Close("tbl") => {
                let grid = self.0.pop()?;
                if self.0.is_empty() {
                    return Some(grid.rows);
                }
                // A table in a cell becomes its text.
                let text: Vec<String> = grid.rows.iter().map(|row| row.join(", ")).collect();
                self.text(&text.join("; "));
            }
            _ => {}
        }
        None
    }

    /// Adds a paragraph to the cell that is open. Returns whether there is one.
    pub(super) fn text(&mut self, paragraph: &str) -> bool {
        let Some(grid) = self.0.last_mut() else { return false };
        if !grid.cell.is_empty() && !paragraph.is_empty() {
            grid.cell.push(' ');
        }
        grid.cell.push_str(paragraph);
        true
    }
}

/// Returns a table as Markdown: the first row is the head.
pub(super) fn grid_markdown(rows: &[Vec<String>]) -> String {
    match rows {
        // A frame around text is no table.
        [row] if row.len() == 1 => row[0].clone(),
        [head, rows @ ..] => super::table::markdown(head, rows),
        [] => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(xml: &str) -> Result<String, ParseError> {
        let mut out = String::new();
        walk(DocumentKind::Docx, xml, |node| {
            match node {
                Node::Open(name, tag) => {
                    out.push_str(&format!("<{name}{}", attribute(tag, "id").unwrap_or_default()));
                }
                Node::Close(name) => out.push_str(&format!("/{name}>")),
                Node::Text(text) => out.push_str(text),
            }
            Ok(())
        })
        .map(|()| out)
    }

    #[test]
    fn names_lose_prefixes_and_entities_are_resolved() {
        let xml = "<?xml version=\"1.0\"?><w:a r:id=\"1 &amp; 2\">x &lt;&#x4e2d;&own;<![CDATA[<raw>]]><b/></w:a>";
        assert_eq!(told(xml).unwrap(), "<a1 & 2x <中&own;<raw><b/b>/a>");
    }

    #[test]
    fn damage_is_an_error() {
        for xml in ["<a>", "<a></b>", "<a", "<a><![CDATA[x"] {
            assert!(matches!(told(xml), Err(ParseError::Corrupt { .. })), "{xml}");
        }
        assert!(matches!(told(&"<a>".repeat(2_000)), Err(ParseError::TooMuch { .. })));
    }
}
