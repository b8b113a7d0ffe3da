//! Images in documents: where their texts name them, and what stands for them there.

use super::{Document, DocumentImage, ImageSource, ParseLimits, Position};
use crate::fetch::data_url;

/// The longest description of an image in a text; also how far its closing bracket may be from its address.
const MAX_ALT_BYTES: usize = 1_000;

/// The longest address of an image, unless it is the image itself.
const MAX_TARGET_BYTES: usize = 4_096;

/// How a text names an image.
#[derive(Debug, PartialEq)]
struct Named<'a> {
    /// Its place in the text.
    start: usize,
    end: usize,
    alt: &'a str,
    target: &'a str,
}

impl Document {
    /// Takes an image, unless there are enough or it is too large; what is left out is counted. Returns whether it was taken.
    pub(super) fn add_image(&mut self, image: DocumentImage, limits: &ParseLimits) -> bool {
        let fits = match &image.source {
            ImageSource::Bytes(bytes) => !bytes.is_empty() && bytes.len() <= limits.max_image_bytes,
            ImageSource::Address(_) => true,
        };
        if !fits || self.images.len() >= limits.max_images {
            self.n_images_left_out += 1;
            return false;
        }
        self.images.push(image);
        true
    }

    /// Takes the images that the texts of all blocks from `first` on name, as Markdown or as HTML. An image that stands in the
    /// text as a data URL is taken out of it; `resolve` returns the content of those that lie beside the text.
    pub(super) fn take_images(
        &mut self,
        first: usize,
        limits: &ParseLimits,
        resolve: &mut dyn FnMut(&str) -> Option<Vec<u8>>,
    ) {
        let mut blocks = std::mem::take(&mut self.blocks);
        for block in blocks.iter_mut().skip(first) {
            // Code speaks about images, it does not show them.
            if !block.text.starts_with("```") && !block.text.starts_with("~~~") {
                block.text = self.images_of(&block.text, &block.position, limits, resolve);
            }
        }
        self.blocks = blocks;
    }

    fn images_of(
        &mut self,
        text: &str,
        position: &Position,
        limits: &ParseLimits,
        resolve: &mut dyn FnMut(&str) -> Option<Vec<u8>>,
    ) -> String {
        let (mut out, mut copied) = (String::new(), 0);
        for one in named(text) {
            let written = &text[one.start..one.end];
            out.push_str(&text[copied..one.start]);
            copied = one.end;
            let is_inline = is_data(one.target);
            let mark = if is_inline { mark(one.alt, self.images.len() + 1) } else { written.to_owned() };
            let source = if is_inline {
                let decoded = data_url(one.target, limits.max_image_bytes);
                ImageSource::Bytes(decoded.map(|file| file.bytes).unwrap_or_default())
            } else {
                let is_wanted = self.images.len() < limits.max_images;
                let beside = if is_wanted { resolve(one.target) } else { None };
                beside.map_or_else(|| ImageSource::Address(one.target.to_owned()), ImageSource::Bytes)
            };
            let image =
                DocumentImage { alt: one.alt.to_owned(), source, position: position.clone(), mark: mark.clone() };
            let was_taken = self.add_image(image, limits);
            out.push_str(&if was_taken || !is_inline { mark } else { format!("![{}](image left out)", one.alt) });
        }
        out.push_str(&text[copied..]);
        out
    }
}

/// Returns what stands in a text for the image of this number, which has no address.
pub(super) fn mark(alt: &str, number: usize) -> String {
    let alt = alt.replace(['[', ']', '\n'], " ");
    format!("![{}](image {number})", alt.trim())
}

fn is_data(target: &str) -> bool {
    target.get(..5).is_some_and(|scheme| scheme.eq_ignore_ascii_case("data:"))
}

/// Returns the images that a text names, in order. Every byte is looked at a bounded number of times.
fn named(text: &str) -> Vec<Named<'_>> {
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(step) = text[at..].find(['!', '<']) {
        let start = at + step;
        let rest = &text[start..];
        let read = if rest.starts_with("![") {
            markdown_image(rest)
        } else if is_img(rest) {
            html_image(rest)
        } else {
            Err(1)
        };
        match read {
            Ok((len, alt, target)) => {
                at = start + len;
                found.push(Named { start, end: at, alt, target });
            }
            Err(len) => at = start + len,
        }
    }
    found
}

/// Returns length, description and address of the `![description](address "title")` that a text begins with, else how much of
/// it is to be passed over.
fn markdown_image(rest: &str) -> Result<(usize, &str, &str), usize> {
    let middle = head(rest, MAX_ALT_BYTES).find("](").ok_or(2_usize)?;
    let alt = &rest[2..middle];
    if alt.contains("![") {
        return Err(2);
    }
    let body = &rest[middle + 2..];
    let is_inline = is_data(body.trim_start_matches('<'));
    let looked_at = if is_inline { body } else { head(body, MAX_TARGET_BYTES) };
    let (target, after) = target(looked_at).ok_or(middle + 2 + looked_at.len())?;
    let close = head(&body[after..], MAX_ALT_BYTES).find(')').ok_or(middle + 2)?;
    if target.is_empty() {
        return Err(middle + 2);
    }
    Ok((middle + 2 + after + close + 1, alt, target))
}

/// Returns the address that a text begins with, and where what follows it begins.
fn target(body: &str) -> Option<(&str, usize)> {
    if let Some(inner) = body.strip_prefix('<') {
        let end = inner.find('>')?;
        return Some((&inner[..end], end + 2));
    }
    let mut depth = 0_usize;
    for (at, letter) in body.char_indices() {
        match letter {
            '(' => depth += 1,
            ')' if depth == 0 => return Some((&body[..at], at)),
            ')' => depth -= 1,
            other if other.is_whitespace() => return Some((&body[..at], at)),
            _ => {}
        }
    }
    None
}

fn is_img(rest: &str) -> bool {
    rest.get(..4).is_some_and(|tag| tag.eq_ignore_ascii_case("<img"))
        && rest[4..].starts_with(|next: char| next.is_whitespace())
}

/// As [`markdown_image`], for `<img src="address" alt="description">`.
fn html_image(rest: &str) -> Result<(usize, &str, &str), usize> {
    let end = rest.find('>').ok_or(rest.len())?;
    let tag = &rest[..end];
    let target = attribute(tag, "src").filter(|target| !target.is_empty()).ok_or(end)?;
    Ok((end + 1, attribute(tag, "alt").unwrap_or_default(), target))
}

fn attribute<'a>(tag: &'a str, name: &str) -> Option<&'a str> {
    let value = tag.match_indices(name).find_map(|(at, _)| {
        let is_start = tag[..at].ends_with(|before: char| before.is_whitespace());
        tag[at + name.len()..].trim_start().strip_prefix('=').filter(|_| is_start)
    })?;
    let value = value.trim_start();
    match value.chars().next() {
        Some(quote @ ('"' | '\'')) => value[1..].split(quote).next(),
        _ => value.split_whitespace().next(),
    }
}

/// Returns the beginning of a text, at most `n_bytes` of it.
fn head(text: &str, n_bytes: usize) -> &str {
    let mut end = n_bytes.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse::DocumentKind;

    fn found(text: &str) -> Vec<(&str, &str, &str)> {
        named(text).into_iter().map(|one| (&text[one.start..one.end], one.alt, one.target)).collect()
    }

    #[test]
    fn images_are_found_in_both_ways_of_writing() {
        let text = "a ![a cat](cat(1).png \"Tom\") [![b](b.svg)](https://example.org) <IMG alt='c d' data-src=no src=c.png/> e";
        let expected = [
            ("![a cat](cat(1).png \"Tom\")", "a cat", "cat(1).png"),
            ("![b](b.svg)", "b", "b.svg"),
            ("<IMG alt='c d' data-src=no src=c.png/>", "c d", "c.png/"),
        ];
        assert_eq!(found(text), expected);
        assert_eq!(found("![](<a b.png>)"), [("![](<a b.png>)", "", "a b.png")]);
        for none in ["no! [x](y)", "![x]", "![x](", "![x]()", "<image src=x>", "<img alt=x>", "<img", "记！<忆"] {
            assert!(found(none).is_empty(), "{none}");
        }
    }

    #[test]
    fn images_inside_the_text_are_taken_out_of_it() {
        let mut document = Document::new(DocumentKind::Markdown);
        let text = "Before ![cat](data:image/png;base64,iVBORw0KGgo=) and ![dog](img/dog.png) after ![x](data:,)";
        document.push(text, Position::default(), false);
        document.push("```\n![no](x.png)\n```", Position::default(), false);
        document.take_images(0, &ParseLimits::default(), &mut |_| None);
        let expected = "Before ![cat](image 1) and ![dog](img/dog.png) after ![x](image left out)";
        assert_eq!(document.blocks[0].text, expected);
        assert_eq!(document.images[0].source, ImageSource::Bytes(b"\x89PNG\r\n\x1a\n".to_vec()));
        assert_eq!(document.images[1].source, ImageSource::Address("img/dog.png".to_owned()));
        assert_eq!(document.images[1].mark, "![dog](img/dog.png)");
        assert_eq!((document.images.len(), document.n_images_left_out), (2, 1));
    }

    #[test]
    fn there_are_not_more_images_than_may_be() {
        let mut document = Document::new(DocumentKind::Markdown);
        document.push(&"![x](x.png) ".repeat(5), Position::default(), false);
        document.take_images(0, &ParseLimits { max_images: 2, ..ParseLimits::default() }, &mut |_| None);
        assert_eq!((document.images.len(), document.n_images_left_out), (2, 3));
    }
}
