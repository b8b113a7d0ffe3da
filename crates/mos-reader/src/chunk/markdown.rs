//! Chunks by headings.

use std::ops::Range;

use super::boundary::Level;
use super::pack::Packer;
use super::{Chunk, ChunkSize, Chunker, Joined, chunk_of};
use crate::parse::markdown::{Outline, blocks};
use crate::parse::{Document, Position};

/// From so many headings on, it is odd that all have the first level.
const MANY_HEADINGS: usize = 5;

/// Each section under a heading is a chunk.
#[derive(Clone, Debug)]
pub struct MarkdownChunker {
    /// The size of chunks; it bounds sections only with `recursive`.
    pub size: ChunkSize,
    /// The levels of headings that begin a section, 1 to 6.
    pub levels: Vec<u8>,
    /// Leaves headings out of the chunks; their positions name them.
    pub strip_headers: bool,
    /// Cuts sections that are too large at the ends of sentences.
    pub recursive: bool,
}

/// Returns the levels of marks such as `##`.
pub(super) fn levels(marks: &[&str]) -> Vec<u8> {
    let is_mark = |mark: &&&str| !mark.is_empty() && mark.bytes().all(|byte| byte == b'#');
    marks.iter().filter(is_mark).filter_map(|mark| u8::try_from(mark.len()).ok()).collect()
}

/// A heading and what stands under it.
struct Section {
    heading: Option<Range<usize>>,
    content: Range<usize>,
    path: Vec<String>,
}

impl MarkdownChunker {
    fn sections(&self, text: &str, breaks: &[usize]) -> Vec<Section> {
        let blocks = blocks(text);
        let headings = blocks.iter().filter_map(|block| block.level);
        let (n_headings, n_first) = headings.fold((0, 0), |(n, first), level| (n + 1, first + usize::from(level == 1)));
        // Converters give every heading the first level; numbers tell the true ones.
        let by_number = n_headings >= MANY_HEADINGS && n_first * 10 >= n_headings * 9;
        let mut sections: Vec<Section> = Vec::new();
        let mut outline = Outline::of(text.len());
        let mut next_break = breaks.iter().copied().peekable();
        for block in blocks {
            let is_break = next_break.next_if(|at| *at <= block.range.start).is_some();
            while next_break.next_if(|at| *at <= block.range.start).is_some() {}
            let title = block.headings.last().map_or("", String::as_str);
            let level = block.level.map(|level| if by_number { numbered_level(title).unwrap_or(level) } else { level });
            let splits = level.filter(|level| self.levels.contains(level));
            if let Some(level) = splits {
                outline.enter(level, title);
            }
            if splits.is_some() || is_break || sections.is_empty() {
                let heading = splits.map(|_| block.range.clone());
                let start = if heading.is_some() { block.range.end } else { block.range.start };
                sections.push(Section { heading, content: start..block.range.end, path: outline.headings() });
            } else if let Some(section) = sections.last_mut() {
                section.content.end = block.range.end;
            }
        }
        sections
    }

    /// Returns the ranges of chunks with the headings over them.
    fn ranges(&self, text: &str, breaks: &[usize]) -> Vec<(Range<usize>, Vec<String>)> {
        let packer = Packer::new(text, &self.size);
        let sections = self.sections(text, breaks);
        let mut found = Vec::new();
        for (index, section) in sections.iter().enumerate() {
            let is_over_next = sections.get(index + 1).is_some_and(|next| next.path.len() > section.path.len());
            let whole = match (packer.trimmed(section.content.clone()), &section.heading) {
                (Some(content), Some(heading)) if !self.strip_headers => heading.start..content.end,
                (Some(content), _) => content,
                // A heading over other headings is in their paths; one over nothing is all there is.
                (None, Some(heading)) if !(is_over_next && self.strip_headers) => heading.clone(),
                _ => continue,
            };
            let Some(whole) = packer.trimmed(whole) else { continue };
            if self.recursive && packer.count(&whole) > self.size.size {
                let levels = &[Level::Sentence, Level::Word, Level::Letter];
                found.extend(packer.ranges(whole, levels, &[]).into_iter().map(|range| (range, section.path.clone())));
            } else {
                found.push((whole, section.path.clone()));
            }
        }
        found
    }
}

impl Chunker for MarkdownChunker {
    fn chunk(&self, document: &Document) -> Vec<Chunk> {
        let joined = Joined::new(document);
        let ranges = self.ranges(&joined.text, &joined.breaks);
        ranges
            .into_iter()
            .map(|(range, path)| {
                let mut chunk = joined.chunk(range);
                if !path.is_empty() {
                    chunk.position.headings = path;
                }
                chunk
            })
            .collect()
    }

    fn chunk_text(&self, text: &str) -> Vec<Chunk> {
        let ranges = self.ranges(text, &[]);
        ranges
            .into_iter()
            .map(|(range, headings)| chunk_of(text, range, Position { headings, ..Position::default() }))
            .collect()
    }
}

/// Returns the level that the number of a heading tells: `2` is 1, `2.1` is 2, `第三节` is 2.
fn numbered_level(title: &str) -> Option<u8> {
    let number = title.split_whitespace().next()?.trim_end_matches(['.', ')', '、']);
    if number.starts_with('第') {
        return match number.chars().find(|letter| matches!(letter, '章' | '节' | '條' | '条'))? {
            '章' => Some(1),
            '节' => Some(2),
            _ => Some(3),
        };
    }
    let parts: Vec<&str> = number.split('.').collect();
    let is_number = parts.iter().all(|part| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit()));
    is_number.then(|| u8::try_from(parts.len()).unwrap_or(6).min(6))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::Characters;
    use super::*;

    fn chunker(strip_headers: bool, recursive: bool) -> MarkdownChunker {
        let size = ChunkSize::new(Arc::new(Characters), 20, 0);
        MarkdownChunker { size, levels: vec![1, 2], strip_headers, recursive }
    }

    fn chunks(chunker: &MarkdownChunker, text: &str) -> Vec<(String, String)> {
        let chunks = chunker.chunk_text(text);
        chunks.into_iter().map(|chunk| (chunk.position.headings.join("/"), chunk.text)).collect()
    }

    fn pair(path: &str, text: &str) -> (String, String) {
        (path.to_owned(), text.to_owned())
    }

    #[test]
    fn sections_are_chunks() {
        let text = "intro\n\n# A\n\n## B\n\ntext of b\n\n### c\n\nstays with b\n\n# D";
        assert_eq!(
            chunks(&chunker(true, false), text),
            [pair("", "intro"), pair("A/B", "text of b\n\n### c\n\nstays with b"), pair("D", "# D")]
        );
        assert_eq!(
            chunks(&chunker(false, false), text),
            [
                pair("", "intro"),
                pair("A", "# A"),
                pair("A/B", "## B\n\ntext of b\n\n### c\n\nstays with b"),
                pair("D", "# D")
            ]
        );
    }

    #[test]
    fn large_sections_are_cut_when_asked_for() {
        let text = "# A\nFirst sentence. Second one. Third.";
        assert_eq!(chunks(&chunker(true, true), text), [pair("A", "First sentence."), pair("A", "Second one. Third.")]);
    }

    #[test]
    fn numbers_tell_levels_where_marks_do_not() {
        let text = "# 1 One\na\n# 1.1 Two\nb\n# 1.2 Three\nc\n# 2 Four\nd\n# 2.1. Five\ne";
        let paths: Vec<String> = chunks(&chunker(true, false), text).into_iter().map(|(path, _)| path).collect();
        assert_eq!(paths, ["1 One", "1 One/1.1 Two", "1 One/1.2 Three", "2 Four", "2 Four/2.1. Five"]);
        assert_eq!((numbered_level("第三节 开始"), numbered_level("Intro")), (Some(2), None));
    }
}
