//! Packed documents whose parts name each other: relations, and the properties of the whole.

use std::collections::BTreeMap;

use super::archive::Archive;
use super::xml::{Node, attribute, walk};
use super::{DocumentKind, ParseError, text};

/// The longest name of a part that is followed. It stands wherever the part is referred to.
pub(super) const MAX_NAME_BYTES: usize = 1_000;

/// What a part refers to.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Relation {
    /// The last word of its type, for example `slide`.
    pub(super) what: String,
    /// The other part's name in the archive.
    pub(super) target: String,
}

/// Returns a part as text, or `None` when there is no such part.
///
/// # Errors
/// As [`Archive::read`].
pub(super) fn part(archive: &mut Archive<'_>, name: &str) -> Result<Option<String>, ParseError> {
    let bytes = archive.read(name)?;
    Ok(bytes.and_then(|bytes| text::decode(&bytes)).map(|decoded| decoded.text))
}

/// Returns a part that must be there.
///
/// # Errors
/// As [`Archive::read`], and [`ParseError::Corrupt`] when it is missing.
pub(super) fn required_part(archive: &mut Archive<'_>, kind: DocumentKind, name: &str) -> Result<String, ParseError> {
    part(archive, name)?.ok_or_else(|| ParseError::corrupt(kind, format!("its part {name} is missing or no text")))
}

/// Returns what a part refers to, by the ids that it uses.
///
/// # Errors
/// As [`Archive::read`]; a part without relations has none.
pub(super) fn relations(
    archive: &mut Archive<'_>,
    kind: DocumentKind,
    name: &str,
) -> Result<BTreeMap<String, Relation>, ParseError> {
    let (folder, file) = name.rsplit_once('/').unwrap_or(("", name));
    let mut found = BTreeMap::new();
    let Some(xml) = part(archive, &join(folder, &format!("_rels/{file}.rels")))? else { return Ok(found) };
    walk(kind, &xml, |node| {
        if let Node::Open("Relationship", tag) = node
            && attribute(tag, "TargetMode").as_deref() != Some("External")
            && let (Some(id), Some(target)) = (attribute(tag, "Id"), attribute(tag, "Target"))
            && target.len() <= MAX_NAME_BYTES
        {
            let what = attribute(tag, "Type").unwrap_or_default();
            let what = what.rsplit('/').next().unwrap_or_default().to_owned();
            found.insert(id, Relation { what, target: join(folder, &target) });
        }
        Ok(())
    })?;
    Ok(found)
}

/// Returns the name of a part that `folder` refers to as `target`.
pub(super) fn join(folder: &str, target: &str) -> String {
    let target = target.split(['#', '?']).next().unwrap_or_default();
    let from = if target.starts_with('/') { "" } else { folder };
    let mut names: Vec<&str> = Vec::new();
    for name in from.split('/').chain(target.split('/')) {
        match name {
            "" | "." => {}
            ".." => {
                names.pop();
            }
            _ => names.push(name),
        }
    }
    names.join("/")
}

/// Returns the title in the properties of an Office file.
///
/// # Errors
/// As [`Archive::read`]; damaged properties have no title.
pub(super) fn title(archive: &mut Archive<'_>, kind: DocumentKind) -> Result<Option<String>, ParseError> {
    let Some(xml) = part(archive, "docProps/core.xml")? else { return Ok(None) };
    Ok(text_of(kind, &xml, "title").filter(|title| !title.trim().is_empty()))
}

/// Returns the text of the first element of this name.
pub(super) fn text_of(kind: DocumentKind, xml: &str, name: &str) -> Option<String> {
    let (mut is_in, mut is_done, mut out) = (false, false, String::new());
    let walked = walk(kind, xml, |node| {
        match node {
            Node::Open(open, _) if open == name && !is_done => is_in = true,
            Node::Close(close) if close == name && is_in => (is_in, is_done) = (false, true),
            Node::Text(text) if is_in => out.push_str(text),
            _ => {}
        }
        Ok(())
    });
    (walked.is_ok() && is_done).then_some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_resolved() {
        assert_eq!(join("ppt", "slides/slide1.xml"), "ppt/slides/slide1.xml");
        assert_eq!(join("ppt/slides", "../notesSlides/n.xml"), "ppt/notesSlides/n.xml");
        assert_eq!(join("ppt/slides", "/word/a.xml#x"), "word/a.xml");
        assert_eq!(join("", "../../a"), "a");
    }
}
