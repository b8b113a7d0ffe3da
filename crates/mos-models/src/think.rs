//! Reasoning in answers: wrapped in tags, or left out.

const OPEN: &str = "<think>";
const CLOSE: &str = "</think>";

/// Turns text and reasoning into what the caller sees.
///
/// Kept, reasoning from its own field is wrapped in `<think>` tags before the answer. Removed, it is left out, and so
/// is a `<think>...</think>` block that opens the text itself, with the white space after it.
#[derive(Debug)]
pub(crate) struct Think {
    is_removed: bool,
    /// Whether a tag was opened for reasoning from its own field.
    is_open: bool,
    stage: Stage,
    held: String,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Stage {
    /// Nothing but white space came, or the start of a tag.
    Start,
    /// Inside the block that opens the text.
    Inside,
    /// Behind the block; white space is still left out.
    Behind,
    Text,
}

impl Think {
    pub(crate) fn new(is_removed: bool) -> Self {
        let stage = if is_removed { Stage::Start } else { Stage::Text };
        Self { is_removed, is_open: false, stage, held: String::new() }
    }

    /// Returns what is shown of a piece of reasoning.
    pub(crate) fn reasoning(&mut self, piece: &str) -> String {
        if self.is_removed || piece.is_empty() {
            return String::new();
        }
        let tag = if self.is_open { "" } else { OPEN };
        self.is_open = true;
        format!("{tag}{piece}")
    }

    /// Returns what is shown of a piece of text.
    pub(crate) fn text(&mut self, piece: &str) -> String {
        if piece.is_empty() {
            return String::new();
        }
        let mut shown = if std::mem::take(&mut self.is_open) { CLOSE.to_owned() } else { String::new() };
        self.held.push_str(piece);
        loop {
            match self.stage {
                Stage::Text => {
                    shown.push_str(&std::mem::take(&mut self.held));
                    return shown;
                }
                Stage::Behind => {
                    let trimmed = self.held.trim_start();
                    if trimmed.is_empty() {
                        self.held.clear();
                        return shown;
                    }
                    self.held = trimmed.to_owned();
                    self.stage = Stage::Text;
                }
                Stage::Inside => {
                    let Some(end) = self.held.find(CLOSE) else {
                        self.keep_possible_close();
                        return shown;
                    };
                    self.held.drain(..end + CLOSE.len());
                    self.stage = Stage::Behind;
                }
                Stage::Start => {
                    let trimmed = self.held.trim_start();
                    if let Some(inside) = trimmed.strip_prefix(OPEN) {
                        self.held = inside.to_owned();
                        self.stage = Stage::Inside;
                    } else if OPEN.starts_with(trimmed) {
                        return shown;
                    } else {
                        self.stage = Stage::Text;
                    }
                }
            }
        }
    }

    /// Drops thoughts that are over, but keeps what may be the start of the closing tag.
    fn keep_possible_close(&mut self) {
        let keep = (1..CLOSE.len()).rev().find(|length| self.held.ends_with(&CLOSE[..*length])).unwrap_or(0);
        self.held.drain(..self.held.len() - keep);
    }

    /// Returns what is still to be shown at the end.
    pub(crate) fn finish(&mut self) -> String {
        if std::mem::take(&mut self.is_open) {
            return CLOSE.to_owned();
        }
        let held = std::mem::take(&mut self.held);
        if self.stage == Stage::Start { held } else { String::new() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(is_removed: bool, pieces: &[&str]) -> String {
        let mut think = Think::new(is_removed);
        let mut shown: String = pieces.iter().map(|piece| think.text(piece)).collect();
        shown.push_str(&think.finish());
        shown
    }

    #[test]
    fn a_block_at_the_start_is_removed_wherever_it_is_cut() {
        let text = " <think>a < b </thin k</think>\n\nThe <think>answer";
        for cut in (0..=text.len()).filter(|cut| text.is_char_boundary(*cut)) {
            assert_eq!(shown(true, &[&text[..cut], &text[cut..]]), "The <think>answer", "cut at {cut}");
        }
        let letters: Vec<String> = text.chars().map(String::from).collect();
        assert_eq!(shown(true, &letters.iter().map(String::as_str).collect::<Vec<_>>()), "The <think>answer");
    }

    #[test]
    fn text_without_a_block_is_not_changed() {
        assert_eq!(shown(true, &["<thi", "s> is no tag"]), "<this> is no tag");
        assert_eq!(shown(true, &[" <th"]), " <th");
        assert_eq!(shown(true, &["<think>never closed"]), "");
        assert_eq!(shown(false, &["<think>a</think>b"]), "<think>a</think>b");
    }

    #[test]
    fn reasoning_of_its_own_field_is_wrapped_or_left_out() {
        let mut kept = Think::new(false);
        let shown = [kept.reasoning("a"), kept.reasoning("b"), kept.text("c"), kept.finish()].concat();
        assert_eq!(shown, "<think>ab</think>c");
        let mut only = Think::new(false);
        assert_eq!([only.reasoning("a"), only.finish()].concat(), "<think>a</think>");
        let mut removed = Think::new(true);
        assert_eq!([removed.reasoning("a"), removed.text("c"), removed.finish()].concat(), "c");
    }
}
