//! From pieces of text with their places on the page to paragraphs: a PDF knows neither words nor lines.

/// A gap between two pieces wider than this share of the size is a space.
const SPACE_GAP: f32 = 0.2;

/// A piece further from the line than this share of the size begins another line.
const LINE_GAP: f32 = 0.5;

/// A line further from the last than this many sizes begins another paragraph.
const PARAGRAPH_GAP: f32 = 1.8;

/// A line shorter than this share of the longest was ended on purpose.
const FULL_LINE: f32 = 0.7;

/// Where a piece of text lies: along its line, and across the lines, downwards.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Place {
    pub(super) start: f32,
    pub(super) end: f32,
    pub(super) down: f32,
    pub(super) size: f32,
}

/// The text of a page while it is read.
#[derive(Debug, Default)]
pub(super) struct Layout {
    text: String,
    last: Option<Place>,
}

impl Layout {
    /// Adds a piece of text.
    pub(super) fn push(&mut self, text: &str, place: Place) {
        if let Some(last) = self.last {
            let size = place.size.max(last.size).max(f32::EPSILON);
            let down = place.down - last.down;
            if down.abs() > LINE_GAP * size {
                // Upwards: the next column, or something else altogether.
                let is_paragraph = down < 0.0 || down > PARAGRAPH_GAP * size;
                self.text.push_str(if is_paragraph { "\n\n" } else { "\n" });
            } else {
                let gap = place.start - last.end;
                let is_apart = gap > SPACE_GAP * size || gap < -size;
                if is_apart && !self.text.ends_with(char::is_whitespace) && !text.starts_with(char::is_whitespace) {
                    self.text.push(' ');
                }
            }
        }
        self.text.push_str(text);
        self.last = Some(place);
    }

    /// Returns the number of bytes so far.
    pub(super) fn len(&self) -> usize {
        self.text.len()
    }

    /// Returns the paragraphs in order, none of them empty.
    pub(super) fn paragraphs(&self) -> Vec<String> {
        super::super::text::paragraphs(&self.text).map(joined).filter(|paragraph| !paragraph.is_empty()).collect()
    }
}

/// Joins the lines of a paragraph, except where a line was ended on purpose.
fn joined(paragraph: &str) -> String {
    let lines: Vec<String> = paragraph
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
        .filter(|line| !line.is_empty())
        .collect();
    let longest = lines.iter().map(|line| line.chars().count()).max().unwrap_or(0) as f32;
    let mut out = String::new();
    let mut is_full = true;
    for line in &lines {
        if !out.is_empty() {
            join(&mut out, line, is_full);
        }
        out.push_str(line);
        is_full = line.chars().count() as f32 >= longest * FULL_LINE;
    }
    out
}

/// Puts between two lines what belongs there, and mends a word that was broken.
fn join(out: &mut String, next: &str, is_full: bool) {
    let begins_low = next.starts_with(char::is_lowercase);
    if out.ends_with('-') && begins_low && out[..out.len() - 1].ends_with(char::is_alphabetic) {
        out.pop();
        return;
    }
    if !is_full || next.starts_with(['•', '▪', '◦', '–', '-', '*']) {
        out.push('\n');
        return;
    }
    // Chinese and Japanese have no spaces; Korean, which lies between them, has.
    let is_wide = |letter: Option<char>| {
        matches!(letter, Some('\u{2e80}'..='\u{9fff}' | '\u{f900}'..='\u{faff}' | '\u{ff00}'..='\u{ffef}'))
    };
    if !(is_wide(out.chars().next_back()) && is_wide(next.chars().next())) {
        out.push(' ');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(start: f32, end: f32, down: f32) -> Place {
        Place { start, end, down, size: 10.0 }
    }

    #[test]
    fn gaps_become_spaces_lines_and_paragraphs() {
        let mut layout = Layout::default();
        layout.push("Wor", place(0.0, 20.0, 0.0));
        layout.push("ds", place(20.5, 30.0, 0.0));
        layout.push("apart there", place(34.0, 60.0, 0.0));
        layout.push("and another line", place(0.0, 80.0, 12.0));
        layout.push("Next.", place(0.0, 25.0, 40.0));
        layout.push("Column", place(300.0, 340.0, 0.0));
        assert_eq!(layout.paragraphs(), ["Words apart there and another line", "Next.", "Column"]);
    }

    #[test]
    fn broken_words_are_mended_and_lists_kept() {
        assert_eq!(joined("It was a mem-\norable day in the\ncity"), "It was a memorable day in the city");
        assert_eq!(joined("今天天气\n很好"), "今天天气很好");
        assert_eq!(joined("• first thing here\n• second thing here"), "• first thing here\n• second thing here");
        assert_eq!(joined("Title\nThe text under it is longer"), "Title\nThe text under it is longer");
    }
}
