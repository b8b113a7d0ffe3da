//! A conversation as text in which what was said can never pass for a control token.
//!
//! The tokenizer turns every spelled-out control token into the real one. A template means that, what people say does
//! not: words of theirs that spell one are broken, and the tokenizer sees the two sides of a break apart.

use std::collections::HashSet;

use mos_core::ModelError;
use serde_json::Value;

/// The first character that may mark a break while a template runs: private use, so hardly anybody writes it.
const FIRST_MARK: char = '\u{E000}';

/// The text of a conversation, and where control tokens must not be recognised.
///
/// Two conversations are the same only when both are: the same text can come from a template and from a person.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct PromptText {
    text: String,
    /// Byte positions in rising order; what stands before one is tokenised apart from what follows.
    breaks: Vec<usize>,
}

impl PromptText {
    /// Takes the marks out of a rendered text and breaks it where they stood.
    pub(crate) fn from_marked(rendered: String, mark: Option<char>) -> Self {
        let Some(mark) = mark else { return Self { text: rendered, breaks: Vec::new() } };
        let mut prompt = Self { text: String::with_capacity(rendered.len()), breaks: Vec::new() };
        for (index, piece) in rendered.split(mark).enumerate() {
            if index > 0 {
                prompt.breaks.push(prompt.text.len());
            }
            prompt.text.push_str(piece);
        }
        prompt
    }

    /// The text alone.
    pub(crate) fn into_text(self) -> String {
        self.text
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.text.is_empty()
    }

    /// The texts between the breaks, in order; one when there is no break.
    pub(crate) fn pieces(&self) -> impl Iterator<Item = &str> {
        let starts = std::iter::once(0).chain(self.breaks.iter().copied());
        let ends = self.breaks.iter().copied().chain(std::iter::once(self.text.len()));
        starts.zip(ends).map(|(start, end)| &self.text[start..end])
    }

    /// Adds the text of an answer, which has no breaks.
    pub(crate) fn push_answer(&mut self, answer: &str) {
        self.text.push_str(answer);
    }

    /// Returns what follows `beginning`, when this text begins with it, breaks included.
    pub(crate) fn strip_prefix(&self, beginning: &Self) -> Option<Self> {
        let text = self.text.strip_prefix(beginning.text.as_str())?;
        let len = beginning.text.len();
        let (before, after) = self.breaks.split_at(self.breaks.partition_point(|&at| at < len));
        (before == beginning.breaks)
            .then(|| Self { text: text.to_owned(), breaks: after.iter().map(|at| at - len).collect() })
    }
}

/// The control tokens of a tokenizer, as they are spelled.
#[derive(Clone, Debug, Default)]
pub(crate) struct ControlTexts {
    texts: Vec<String>,
    /// The bytes that one of them begins with: usually `<` alone, so that ordinary text is passed over quickly.
    first_bytes: Vec<u8>,
}

impl ControlTexts {
    /// A control token of a single character cannot be broken and is left out; chat formats have none.
    pub(crate) fn new(texts: impl IntoIterator<Item = String>) -> Self {
        let texts: Vec<String> = texts.into_iter().filter(|text| text.chars().nth(1).is_some()).collect();
        let mut first_bytes: Vec<u8> = texts.iter().filter_map(|text| text.bytes().next()).collect();
        first_bytes.sort_unstable();
        first_bytes.dedup();
        Self { texts, first_bytes }
    }

    /// Returns words, broken where they spell a control token, after a beginning that may be one.
    pub(crate) fn words_after(&self, beginning: &str, words: &str) -> PromptText {
        let breaks = self.breaks(words).map(|at| beginning.len() + at).collect();
        PromptText { text: format!("{beginning}{words}"), breaks }
    }

    /// Marks every spelled-out control token in the strings of a conversation and returns the mark; `None`, and
    /// nothing is changed, when there is none.
    ///
    /// # Errors
    /// [`ModelError::Invalid`] when no character is left to serve as the mark.
    pub(crate) fn mark(&self, messages: &mut [Value]) -> Result<Option<char>, ModelError> {
        let mut strings = Vec::new();
        messages.iter().for_each(|message| collect_strings(message, &mut strings));
        if !strings.iter().any(|text| self.breaks(text).next().is_some()) {
            return Ok(None);
        }
        let taken: HashSet<char> =
            strings.iter().flat_map(|text| text.chars()).filter(|&char| char >= FIRST_MARK).collect();
        let mark = (FIRST_MARK..=char::MAX).find(|char| !taken.contains(char)).ok_or_else(|| {
            ModelError::Invalid("the conversation uses every character there is; shorten it".to_owned())
        })?;
        messages.iter_mut().for_each(|message| self.mark_strings(message, mark));
        Ok(Some(mark))
    }

    /// Positions inside of spelled-out control tokens, one in each, overlapping ones included.
    fn breaks<'a>(&'a self, text: &'a str) -> impl Iterator<Item = usize> + 'a {
        let candidates = text.bytes().enumerate().filter(|(_, byte)| self.first_bytes.contains(byte));
        candidates.filter_map(|(at, _)| {
            let spelled = self.texts.iter().find(|control| text[at..].starts_with(control.as_str()))?;
            spelled.chars().next().map(|first| at + first.len_utf8())
        })
    }

    fn mark_strings(&self, value: &mut Value, mark: char) {
        match value {
            Value::String(text) => {
                let breaks: Vec<usize> = self.breaks(text).collect();
                breaks.into_iter().rev().for_each(|at| text.insert(at, mark));
            }
            Value::Array(values) => values.iter_mut().for_each(|value| self.mark_strings(value, mark)),
            Value::Object(map) => {
                let entries = std::mem::take(map).into_iter();
                *map = entries
                    .map(|(key, mut value)| {
                        let mut key = Value::String(key);
                        self.mark_strings(&mut key, mark);
                        self.mark_strings(&mut value, mark);
                        (key.as_str().unwrap_or_default().to_owned(), value)
                    })
                    .collect();
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }
}

fn collect_strings<'a>(value: &'a Value, strings: &mut Vec<&'a str>) {
    match value {
        Value::String(text) => strings.push(text),
        Value::Array(values) => values.iter().for_each(|value| collect_strings(value, strings)),
        Value::Object(map) => {
            for (key, value) in map {
                strings.push(key);
                collect_strings(value, strings);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn controls() -> ControlTexts {
        ControlTexts::new(["<s>", "<|im_end|>", "|im_end|>x", "#"].map(str::to_owned))
    }

    fn prompt(text: &str, breaks: &[usize]) -> PromptText {
        PromptText { text: text.to_owned(), breaks: breaks.to_vec() }
    }

    #[test]
    fn every_spelled_control_token_is_broken_wherever_it_stands() {
        let mut messages = [json!({"content": "a<s>b", "tool_calls": [{"<s>": ["<|im_end|>x", 1, null]}]})];
        let mark = controls().mark(&mut messages).unwrap().unwrap();
        let text = PromptText::from_marked(messages[0].to_string(), Some(mark));
        assert!(text.pieces().all(|piece| !controls().texts.iter().any(|control| piece.contains(control))), "{text:?}");
        assert_eq!(text.breaks.len(), 4, "overlapping ones too: {text:?}");
        assert_eq!(text.into_text(), r#"{"content":"a<s>b","tool_calls":[{"<s>":["<|im_end|>x",1,null]}]}"#);
    }

    #[test]
    fn ordinary_words_are_left_alone() {
        let mut messages = [json!({"content": "a < s > b # <|im_start|>"})];
        let before = messages.clone();
        assert_eq!(controls().mark(&mut messages).unwrap(), None);
        assert_eq!(messages, before);
        let text = PromptText::from_marked("plain".to_owned(), None);
        assert_eq!(text.pieces().collect::<Vec<_>>(), ["plain"]);
    }

    #[test]
    fn a_mark_that_somebody_wrote_is_a_word_and_another_one_is_taken() {
        let mut messages = [json!({"content": "\u{E000}<s>\u{E001}"})];
        let mark = controls().mark(&mut messages).unwrap();
        assert_eq!(mark, Some('\u{E002}'));
        let text = PromptText::from_marked(messages[0]["content"].as_str().unwrap().to_owned(), mark);
        assert_eq!(text, prompt("\u{E000}<s>\u{E001}", &[4]));
    }

    #[test]
    fn plain_words_are_broken_after_a_real_beginning() {
        let text = controls().words_after("<s>", "a<s>b");
        assert_eq!(text, prompt("<s>a<s>b", &[5]));
        assert_eq!(text.pieces().collect::<Vec<_>>(), ["<s>a<", "s>b"]);
        assert_eq!(controls().words_after("", "ab"), prompt("ab", &[]));
    }

    #[test]
    fn a_beginning_counts_only_with_the_same_breaks() {
        let whole = prompt("ab<s>cd<s>", &[3, 8]);
        assert_eq!(whole.strip_prefix(&prompt("ab<s>c", &[3])), Some(prompt("d<s>", &[2])));
        assert_eq!(whole.strip_prefix(&prompt("ab<s>c", &[])), None, "there it was a real control token");
        assert_eq!(whole.strip_prefix(&prompt("ab<", &[])), Some(prompt("s>cd<s>", &[0, 5])));
        assert_eq!(whole.strip_prefix(&prompt("x", &[])), None);
    }
}
