//! Markdown cut into blocks: headings, and what empty lines separate; fenced code stays whole.

use std::cell::Cell;
use std::ops::Range;

use super::{Document, DocumentKind, MAX_BLOCKS, Position};

/// The deepest level of a heading.
const MAX_LEVEL: u8 = 6;

/// The longest heading, in bytes; a longer line is a paragraph. Headings stand beside every piece of what is under them.
const MAX_HEADING_BYTES: usize = 1_000;

/// A block of a text.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct MarkdownBlock {
    /// Its bytes, without the line end of its last line.
    pub(crate) range: Range<usize>,
    /// The level of a heading; `None` for everything else.
    pub(crate) level: Option<u8>,
    /// The headings it stands under, outermost first, its own included.
    pub(crate) headings: Vec<String>,
}

/// Reads Markdown; a title in its front matter is taken.
pub(super) fn parse(text: &str) -> Document {
    let mut document = Document::new(DocumentKind::Markdown);
    document.title = front_matter(text).and_then(title_in);
    document.push_markdown(text, &Position::default());
    document
}

/// Returns what stands between two lines `---` at the beginning.
fn front_matter(text: &str) -> Option<&str> {
    let rest = text.strip_prefix("---\n")?;
    let ends = |at: &usize| rest[at + "\n---".len()..].chars().next().is_none_or(|next| next == '\n');
    rest.match_indices("\n---").map(|(at, _)| at).find(ends).map(|end| &rest[..end])
}

fn title_in(front_matter: &str) -> Option<String> {
    let title = front_matter.lines().find_map(|line| line.strip_prefix("title:"))?;
    Some(title.trim().trim_matches(['"', '\'']).to_owned())
}

/// Whether a text of unknown kind is Markdown: it opens with a heading, has several, or has links, tables or fenced code.
pub(super) fn is_likely(text: &str) -> bool {
    let (mut n_headings, mut n_fences, mut is_first, mut opens) = (0, 0, true, false);
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        let next_is_empty = lines.peek().is_none_or(|next| next.trim().is_empty());
        if fence(line).is_some() {
            n_fences += 1;
        } else if n_fences % 2 == 0 && atx(line).is_some() {
            n_headings += 1;
            opens |= is_first && next_is_empty;
        } else if is_table_rule(line) || has_link(line) {
            return true;
        }
        is_first &= line.trim().is_empty();
    }
    opens || n_headings >= 2 || n_fences >= 2
}

/// Whether a line is `| --- | :-: |`.
fn is_table_rule(line: &str) -> bool {
    line.contains('|')
        && line.contains("--")
        && line.trim().chars().all(|letter| matches!(letter, '|' | '-' | ':' | ' '))
}

fn has_link(line: &str) -> bool {
    let Some(at) = line.find("](") else { return false };
    let target = &line[at + 2..];
    line[..at].contains('[')
        && target.contains(')')
        && (target.starts_with("http") || target.starts_with(['.', '/', '#']))
}

/// Returns level and text of a heading `## Text`.
fn atx(line: &str) -> Option<(u8, &str)> {
    let rest = line.trim_start_matches(' ');
    if line.len() - rest.len() > 3 {
        return None;
    }
    let text = rest.trim_start_matches('#');
    let level = u8::try_from(rest.len() - text.len()).ok().filter(|level| (1..=MAX_LEVEL).contains(level))?;
    if !text.is_empty() && !text.starts_with([' ', '\t']) {
        return None;
    }
    (text.len() <= MAX_HEADING_BYTES).then(|| (level, text.trim().trim_end_matches('#').trim_end()))
}

/// Returns the mark that opens or closes fenced code.
fn fence(line: &str) -> Option<&str> {
    let line = line.trim_start();
    ['`', '~'].into_iter().find_map(|mark| {
        let n = line.len() - line.trim_start_matches(mark).len();
        // Code inside one line is no fence.
        (n >= 3 && !(mark == '`' && line[n..].contains('`'))).then(|| &line[..n])
    })
}

/// Returns the level of the heading that a line underlines.
fn underline(line: &str) -> Option<u8> {
    let line = line.trim();
    if line.len() >= 2 && line.bytes().all(|byte| byte == b'=') {
        return Some(1);
    }
    (line.len() >= 3 && line.bytes().all(|byte| byte == b'-')).then_some(2)
}

/// How many times the length of a text its headings may take, told at every place under them; ordinary texts need less
/// than once. Without a bound, a long heading over many short paragraphs takes their number times its length.
const MAX_TOLD_TIMES: usize = 8;

/// What headings may take in any text, in bytes.
const MIN_TOLD_BYTES: usize = 1 << 20;

/// The headings that hold at a place, outermost first.
#[derive(Debug)]
pub(crate) struct Outline {
    entries: Vec<(u8, String)>,
    /// How many bytes of headings may still be told.
    left: Cell<usize>,
}

impl Outline {
    /// Returns the outline of a text of so many bytes, before its first heading.
    pub(crate) fn of(text_bytes: usize) -> Self {
        let left = text_bytes.saturating_mul(MAX_TOLD_TIMES).max(MIN_TOLD_BYTES);
        Self { entries: Vec::new(), left: Cell::new(left) }
    }

    /// A heading ends those of its level and below.
    pub(crate) fn enter(&mut self, level: u8, text: &str) {
        while self.entries.last().is_some_and(|(above, _)| *above >= level) {
            self.entries.pop();
        }
        self.entries.push((level, text[..text.floor_char_boundary(MAX_HEADING_BYTES)].to_owned()));
    }

    /// Returns the headings; none once they were told so often that they would take much more than the text.
    pub(crate) fn headings(&self) -> Vec<String> {
        let n_bytes: usize = self.entries.iter().map(|(_, text)| text.len()).sum();
        let Some(left) = self.left.get().checked_sub(n_bytes) else { return Vec::new() };
        self.left.set(left);
        self.entries.iter().map(|(_, text)| text.clone()).filter(|text| !text.is_empty()).collect()
    }
}

/// What is collected while a text is cut.
struct Cutter {
    blocks: Vec<MarkdownBlock>,
    outline: Outline,
    /// The block that grows.
    open: Option<Range<usize>>,
    n_lines: usize,
}

impl Cutter {
    fn grow(&mut self, line: Range<usize>) {
        match &mut self.open {
            Some(open) => open.end = line.end,
            None => self.open = Some(line),
        }
        self.n_lines += 1;
    }

    fn close(&mut self) {
        self.n_lines = 0;
        if let Some(range) = self.open.take() {
            let headings = self.outline.headings();
            self.add(MarkdownBlock { range, level: None, headings });
        }
    }

    /// Adds a block; after very many the last one reaches over what follows.
    fn add(&mut self, block: MarkdownBlock) {
        let is_full = self.blocks.len() >= MAX_BLOCKS;
        match self.blocks.last_mut().filter(|_| is_full) {
            Some(last) => last.range.end = block.range.end,
            None => self.blocks.push(block),
        }
    }

    fn heading(&mut self, range: Range<usize>, level: u8, text: &str) {
        self.outline.enter(level, text);
        let headings = self.outline.headings();
        self.add(MarkdownBlock { range, level: Some(level), headings });
    }
}

/// Cuts a text into blocks, in order. What is not in any block is space.
pub(crate) fn blocks(text: &str) -> Vec<MarkdownBlock> {
    let mut cutter = Cutter { blocks: Vec::new(), outline: Outline::of(text.len()), open: None, n_lines: 0 };
    let mut fenced: Option<&str> = None;
    let mut at = 0;
    if let Some(front) = front_matter(text) {
        at = "---\n".len() + front.len() + "\n---".len();
        cutter.grow(0..at);
        cutter.close();
        at += text[at..].find('\n').map_or(text.len() - at, |end| end + 1);
    }
    for line in text[at..].split_inclusive('\n') {
        let body = line.trim_end_matches('\n');
        let range = at..at + body.len();
        at += line.len();
        if let Some(mark) = fenced {
            cutter.grow(range);
            if fence(body).is_some_and(|closing| closing.starts_with(mark)) {
                fenced = None;
            }
        } else if let Some(mark) = fence(body) {
            fenced = Some(mark);
            cutter.grow(range);
        } else if body.trim().is_empty() {
            cutter.close();
        } else if let Some((level, heading)) = atx(body) {
            cutter.close();
            cutter.heading(range, level, heading);
        } else if let Some(level) = underline(body).filter(|_| cutter.n_lines == 1)
            && let Some(open) = cutter.open.take_if(|open| open.len() <= MAX_HEADING_BYTES)
        {
            let heading = text[open.clone()].trim();
            cutter.n_lines = 0;
            cutter.heading(open.start..range.end, level, heading);
        } else {
            cutter.grow(range);
        }
    }
    cutter.close();
    cutter.blocks
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(text: &str) -> Vec<(&str, Option<u8>, String)> {
        blocks(text).into_iter().map(|block| (&text[block.range], block.level, block.headings.join("/"))).collect()
    }

    #[test]
    fn a_long_heading_does_not_take_its_length_times_the_paragraphs() {
        let text = format!("# {}\n\n{}", "long ".repeat(180), "a\n\n".repeat(20_000));
        let found = blocks(&text);
        assert_eq!(found.len(), 20_001);
        assert_eq!(found[1].headings, found[0].headings, "as long as it is bearable, all is told");
        let told: usize = found.iter().flat_map(|block| &block.headings).map(String::len).sum();
        assert!(told <= MIN_TOLD_BYTES, "{told} bytes");
        for line in [format!("# {}", "long ".repeat(300)), format!("{}\n===", "long ".repeat(300))] {
            let found = blocks(&line);
            assert!(found.iter().all(|block| block.level.is_none() && block.headings.is_empty()), "no heading");
            assert_eq!(found.iter().map(|block| block.range.len()).sum::<usize>(), line.len(), "and nothing is lost");
        }
    }

    #[test]
    fn very_many_headings_share_the_last_block() {
        let text = "# a\n".repeat(MAX_BLOCKS + 3);
        let found = blocks(&text);
        assert_eq!(
            (found.len(), found[MAX_BLOCKS - 1].range.clone()),
            (MAX_BLOCKS, 4 * (MAX_BLOCKS - 1)..text.len() - 1)
        );
    }

    #[test]
    fn headings_make_a_path() {
        let text = "before\n# One\ntext\nmore\n\n## Two ##\n- a\n- b\n\nThree\n=====\nlast";
        assert_eq!(
            cut(text),
            [
                ("before", None, String::new()),
                ("# One", Some(1), "One".to_owned()),
                ("text\nmore", None, "One".to_owned()),
                ("## Two ##", Some(2), "One/Two".to_owned()),
                ("- a\n- b", None, "One/Two".to_owned()),
                ("Three\n=====", Some(1), "Three".to_owned()),
                ("last", None, "Three".to_owned()),
            ]
        );
    }

    #[test]
    fn code_and_rules_are_no_headings() {
        let text = "```sh\n# comment\n\nls\n```\n\n#hashtag\n\n---\n\n    # far in\n";
        let levels: Vec<Option<u8>> = blocks(text).iter().map(|block| block.level).collect();
        assert_eq!(levels, [None; 4]);
        assert_eq!(cut(text)[0].0, "```sh\n# comment\n\nls\n```");
        assert_eq!(cut("~~~\nnever closed\n# x"), [("~~~\nnever closed\n# x", None, String::new())]);
    }

    #[test]
    fn front_matter_names_the_title() {
        let document = parse("---\ntitle: \"A day\"\n---\n# Morning\nSun.\n");
        assert_eq!(document.title.as_deref(), Some("A day"));
        assert_eq!(document.blocks.len(), 3);
        assert_eq!(document.blocks[2].position.headings, ["Morning"]);
        assert_eq!(parse("# Morning\nSun.").title.as_deref(), Some("Morning"));
        assert_eq!(cut("---\nnot closed"), [("---\nnot closed", None, String::new())]);
    }

    #[test]
    fn texts_are_told_from_markdown() {
        for text in ["# A\n\nb", "a\n\n```\nx\n```", "see [x](https://example.org)", "a|b\n-|--\n1|2", "x\n# A\ny\n# B"]
        {
            assert!(is_likely(text), "{text}");
        }
        for text in ["", "a\nb", "# comment\ncode", "array[0](x)", "#1 is best", "a -- b"] {
            assert!(!is_likely(text), "{text}");
        }
    }
}
