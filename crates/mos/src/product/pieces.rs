//! Answers in pieces of any size: where the reasoning ends, and where a piece may end.

const OPEN: &str = "<think>";
const CLOSE: &str = "</think>";

/// The longest mark of a source, in bytes; what is longer is text.
const MAX_CITATION: usize = 80;

/// A piece of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Piece {
    /// What the model thinks before it answers.
    Reasoning(String),
    /// What it answers.
    Text(String),
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Stage {
    /// Nothing but white space came, or the start of a tag.
    #[default]
    Start,
    /// In the block that opens the answer.
    Inside,
    /// Behind the block; white space is left out.
    Behind,
    Text,
}

/// Tells the `<think>` block that opens an answer from the answer.
#[derive(Debug, Default)]
pub(super) struct ThinkSplitter {
    stage: Stage,
    held: String,
}

impl ThinkSplitter {
    /// Returns what can be told of more text.
    pub(super) fn push(&mut self, more: &str) -> Vec<Piece> {
        let mut pieces = Vec::new();
        self.held.push_str(more);
        loop {
            match self.stage {
                Stage::Start => {
                    let begun = self.held.trim_start();
                    if let Some(inside) = begun.strip_prefix(OPEN) {
                        self.held = inside.to_owned();
                        self.stage = Stage::Inside;
                    } else if OPEN.starts_with(begun) {
                        return pieces;
                    } else {
                        self.stage = Stage::Text;
                    }
                }
                Stage::Inside => {
                    let Some(end) = self.held.find(CLOSE) else {
                        let told = self.held.len() - kept_of_close(&self.held);
                        let held = self.held.split_off(told);
                        add(&mut pieces, Piece::Reasoning, std::mem::replace(&mut self.held, held));
                        return pieces;
                    };
                    let behind = self.held.split_off(end + CLOSE.len());
                    self.held.truncate(end);
                    add(&mut pieces, Piece::Reasoning, std::mem::replace(&mut self.held, behind));
                    self.stage = Stage::Behind;
                }
                Stage::Behind => {
                    let begun = self.held.trim_start();
                    if begun.is_empty() {
                        self.held.clear();
                        return pieces;
                    }
                    self.held = begun.to_owned();
                    self.stage = Stage::Text;
                }
                Stage::Text => {
                    add(&mut pieces, Piece::Text, std::mem::take(&mut self.held));
                    return pieces;
                }
            }
        }
    }

    /// Returns what is left at the end of the answer.
    pub(super) fn finish(&mut self) -> Vec<Piece> {
        let mut pieces = Vec::new();
        let kind: fn(String) -> Piece = if self.stage == Stage::Inside { Piece::Reasoning } else { Piece::Text };
        add(&mut pieces, kind, std::mem::take(&mut self.held));
        pieces
    }
}

fn add(pieces: &mut Vec<Piece>, kind: fn(String) -> Piece, text: String) {
    if !text.is_empty() {
        pieces.push(kind(text));
    }
}

/// How many bytes at the end may be the start of the closing tag.
fn kept_of_close(text: &str) -> usize {
    (1..CLOSE.len()).rev().find(|length| text.ends_with(&CLOSE[..*length])).unwrap_or(0)
}

/// Returns the reasoning of a whole answer, when it has some, and the answer.
pub fn split(answer: &str) -> (Option<String>, String) {
    let mut splitter = ThinkSplitter::default();
    let (mut reasoning, mut text) = (String::new(), String::new());
    for piece in splitter.push(answer).into_iter().chain(splitter.finish()) {
        match piece {
            Piece::Reasoning(more) => reasoning.push_str(&more),
            Piece::Text(more) => text.push_str(&more),
        }
    }
    let reasoning = reasoning.trim();
    ((!reasoning.is_empty()).then(|| reasoning.to_owned()), text)
}

/// Holds text back that may be the beginning of a mark `[n:ref]`, so that every mark comes as a whole.
#[derive(Debug, Default)]
pub(super) struct Citations {
    held: String,
}

impl Citations {
    /// Returns what can be told of more text.
    pub(super) fn push(&mut self, more: &str) -> String {
        self.held.push_str(more);
        let end = match self.held.rfind('[') {
            Some(start) if may_become_citation(&self.held[start..]) => start,
            _ => self.held.len(),
        };
        let rest = self.held.split_off(end);
        std::mem::replace(&mut self.held, rest)
    }

    /// Returns what is left at the end of the answer.
    pub(super) fn finish(&mut self) -> String {
        std::mem::take(&mut self.held)
    }
}

/// Whether text that begins with a bracket can go on to be a mark.
fn may_become_citation(text: &str) -> bool {
    let Some(inside) = text.strip_prefix('[').filter(|_| text.len() < MAX_CITATION) else { return false };
    let (number, reference) = inside.split_once(':').unwrap_or((inside, ""));
    let is_of_reference = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    let has_number = !number.is_empty() || !inside.contains(':');
    has_number && number.chars().all(|c| c.is_ascii_digit()) && reference.chars().all(is_of_reference)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANSWER: &str = " <think>a < b </thin k</think>\n\nThe <think>answer";

    fn split_at(cuts: &[&str]) -> (String, String) {
        let mut splitter = ThinkSplitter::default();
        let mut pieces: Vec<Piece> = cuts.iter().flat_map(|cut| splitter.push(cut)).collect();
        pieces.extend(splitter.finish());
        let (mut reasoning, mut text) = (String::new(), String::new());
        for piece in pieces {
            match piece {
                Piece::Reasoning(more) => reasoning.push_str(&more),
                Piece::Text(more) => text.push_str(&more),
            }
        }
        (reasoning, text)
    }

    #[test]
    fn the_block_that_opens_an_answer_is_reasoning_wherever_it_is_cut() {
        let expected = ("a < b </thin k".to_owned(), "The <think>answer".to_owned());
        for cut in (0..=ANSWER.len()).filter(|cut| ANSWER.is_char_boundary(*cut)) {
            assert_eq!(split_at(&[&ANSWER[..cut], &ANSWER[cut..]]), expected, "cut at {cut}");
        }
        let letters: Vec<String> = ANSWER.chars().map(String::from).collect();
        assert_eq!(split_at(&letters.iter().map(String::as_str).collect::<Vec<_>>()), expected);
        assert_eq!(split(ANSWER), (Some(expected.0), expected.1));
    }

    #[test]
    fn other_answers_stay_as_they_are() {
        assert_eq!(split("<this> is no tag"), (None, "<this> is no tag".to_owned()));
        assert_eq!(split("a <think>b</think>"), (None, "a <think>b</think>".to_owned()));
        assert_eq!(split(" <th"), (None, " <th".to_owned()));
        assert_eq!(split("<think>\n</think>\nyes"), (None, "yes".to_owned()));
        assert_eq!(split("<think>for ever"), (Some("for ever".to_owned()), String::new()));
    }

    #[test]
    fn a_mark_of_a_source_comes_as_a_whole_wherever_it_is_cut() {
        let text = "He is Max [1:9f2c11aa][2:0b] and [sic] a[3] dog [12:aa-b_c].";
        for size in 1..text.len() {
            let mut citations = Citations::default();
            let mut told: Vec<String> = Vec::new();
            for piece in text.as_bytes().chunks(size) {
                told.push(citations.push(std::str::from_utf8(piece).unwrap()));
            }
            told.push(citations.finish());
            assert_eq!(told.concat(), text, "pieces of {size}");
            for mark in ["[1:9f2c11aa]", "[2:0b]", "[12:aa-b_c]"] {
                assert!(told.iter().any(|one| one.contains(mark)), "{mark} in pieces of {size}: {told:?}");
            }
        }
    }

    #[test]
    fn what_cannot_be_a_mark_is_not_held_back() {
        let mut citations = Citations::default();
        assert_eq!(citations.push("a [b"), "a [b");
        assert_eq!(citations.push(" [1:"), " ");
        assert_eq!(citations.push(&"x".repeat(MAX_CITATION)), format!("[1:{}", "x".repeat(MAX_CITATION)));
    }
}
