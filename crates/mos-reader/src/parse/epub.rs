//! Electronic books: chapters in their order, each a page of the web.

use std::collections::BTreeMap;

use super::archive::Archive;
use super::guard::Stop;
use super::package::{self, MAX_NAME_BYTES, text_of};
use super::xml::{Node, attribute, walk};
use super::{Document, DocumentKind, ParseError, ParseLimits, Position, html};

const KIND: DocumentKind = DocumentKind::Epub;

/// # Errors
/// [`ParseError`] for a damaged, locked or oversized file.
pub(super) fn parse(bytes: Vec<u8>, limits: &ParseLimits, stop: &Stop) -> Result<Document, ParseError> {
    let mut archive = Archive::open(KIND, bytes, limits)?;
    if archive.read("META-INF/rights.xml")?.is_some() {
        return Err(ParseError::Encrypted { kind: KIND.as_str() });
    }
    let container = package::required_part(&mut archive, KIND, "META-INF/container.xml")?;
    let root = root(&container)?;
    let contents = package::required_part(&mut archive, KIND, &root)?;
    let mut document = Document::new(KIND);
    document.title = text_of(KIND, &contents, "title");
    let chapters = chapters(&contents, &root, limits)?;
    let mut n_bytes = 0;
    for name in chapters {
        stop.check(KIND)?;
        let Some(page) = package::part(&mut archive, &name)? else {
            document.note(format!("the chapter {name} is missing"));
            continue;
        };
        let text = html::markdown(&page, limits)?;
        n_bytes += text.len();
        limits.check_text(KIND, n_bytes)?;
        let first = document.blocks.len();
        document.push_markdown(&text, &Position::default());
        let folder = name.rsplit_once('/').map_or("", |(folder, _)| folder);
        document.take_images(first, limits, &mut |target| {
            let part = package::join(folder, &unescaped(target));
            archive.read_image(&part, limits.max_image_bytes)
        });
    }
    Ok(document)
}

/// Returns the name of the part that lists the others.
fn root(container: &str) -> Result<String, ParseError> {
    let mut root = None;
    walk(KIND, container, |node| {
        if let Node::Open("rootfile", tag) = node
            && root.is_none()
        {
            root = attribute(tag, "full-path").filter(|root| root.len() <= MAX_NAME_BYTES);
        }
        Ok(())
    })?;
    root.ok_or_else(|| ParseError::corrupt(KIND, "it does not say where its contents are"))
}

/// Returns the names of the chapters in reading order.
///
/// # Errors
/// [`ParseError`] for a damaged list, and for too many chapters, as soon as there are.
fn chapters(contents: &str, root: &str, limits: &ParseLimits) -> Result<Vec<String>, ParseError> {
    let folder = root.rsplit_once('/').map_or("", |(folder, _)| folder);
    let mut names: BTreeMap<String, String> = BTreeMap::new();
    let mut order: Vec<String> = Vec::new();
    walk(KIND, contents, |node| {
        match node {
            Node::Open("item", tag) => {
                if let (Some(id), Some(target)) = (attribute(tag, "id"), attribute(tag, "href"))
                    && target.len() <= MAX_NAME_BYTES
                {
                    names.insert(id, package::join(folder, &unescaped(&target)));
                }
            }
            Node::Open("itemref", tag) => {
                if order.len() >= limits.max_pages {
                    return Err(ParseError::TooMuch { kind: KIND, what: "chapters", limit: limits.max_pages });
                }
                order.extend(attribute(tag, "idref"));
            }
            _ => {}
        }
        Ok(())
    })?;
    Ok(order.iter().filter_map(|id| names.get(id).cloned()).collect())
}

/// Resolves `%20` and the like.
fn unescaped(target: &str) -> String {
    let bytes = crate::fetch::percent_decoded(target);
    String::from_utf8_lossy(&bytes).into_owned()
}
