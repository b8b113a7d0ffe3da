//! What chats begin with when memories of their cube were promoted: instructions, then the memories, in one system message.
//!
//! Invariant: [`memories`] reads back what [`compose`] wrote, so that a chat knows what it need not be told again.

use mos_core::{MemoryItem, Message};
use mos_kv::DEFAULT_LEAD_IN;

use crate::prompt::{self, Notes};

/// Returns the instructions of a chat as they stand at its very beginning: what changes with the question stands elsewhere.
pub(crate) fn instructions(base: Option<&str>) -> String {
    base.unwrap_or(prompt::BASE_PROMPT).replace(prompt::MEMORIES_PLACEHOLDER, "").trim_end().to_owned()
}

/// Returns the messages with which chats begin that have these instructions and these memories.
pub(crate) fn compose(base: Option<&str>, texts: &[String]) -> Vec<Message> {
    let lines: Vec<String> = texts.iter().map(|text| prompt::one_line(text)).filter(|line| !line.is_empty()).collect();
    let mut text = instructions(base);
    if !lines.is_empty() {
        text = format!("{}{}", head(&text), lines.iter().map(|line| format!("\n- {line}")).collect::<String>());
    }
    vec![Message::system(text)]
}

/// Returns the memories in the messages that chats with these instructions begin with; `None` for those of a chat that has
/// others.
pub(crate) fn memories(base: Option<&str>, messages: &[Message]) -> Option<Vec<String>> {
    let [only] = messages else { return None };
    let text = only.text();
    let list = text.strip_prefix(&head(&instructions(base)))?.strip_prefix('\n')?;
    list.split('\n').map(|line| line.strip_prefix("- ").map(str::to_owned)).collect()
}

/// Everything before the list.
fn head(instructions: &str) -> String {
    if instructions.is_empty() { DEFAULT_LEAD_IN.to_owned() } else { format!("{instructions}\n\n{DEFAULT_LEAD_IN}") }
}

/// What a chat begins with.
#[derive(Clone, Debug)]
pub(crate) struct Beginning {
    /// Its messages, word for word as their state was computed.
    pub(crate) messages: Vec<Message>,
    /// The memories in them.
    pub(crate) memories: Vec<String>,
}

impl Beginning {
    /// Whether it says all that the notes of a question would say of a memory, but for its source: what strangers wrote is
    /// never promoted, and the text must not change from chat to chat.
    pub(crate) fn tells(&self, item: &MemoryItem, notes: &Notes) -> bool {
        let line = prompt::one_line(&item.memory);
        self.memories.contains(&line) && notes.text(item) == line
    }

    /// Returns the conversation that goes on after it: earlier turns as they were sent, then what was recalled besides, the
    /// preferences and the question.
    pub(crate) fn prompt(&self, earlier: &[Message], memories: &str, preferences: &str, query: &str) -> Vec<Message> {
        let mut messages = self.messages.clone();
        messages.extend_from_slice(earlier);
        messages.push(Message::user(prompt::paragraphs(&[memories, preferences, query])));
        messages
    }
}

#[cfg(test)]
mod tests {
    use mos_core::MemoryId;

    use super::*;

    fn texts(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|text| (*text).to_owned()).collect()
    }

    #[test]
    fn what_was_composed_is_read_back() {
        for base in [None, Some("Be kind. {memories}"), Some("{memories}")] {
            let told = texts(&["The dog is Max", "two\nlines - and a dash", "  "]);
            let messages = compose(base, &told);
            assert_eq!(messages.len(), 1);
            assert_eq!(memories(base, &messages).unwrap(), ["The dog is Max", "two lines - and a dash"]);
            assert!(memories(Some("Other instructions."), &messages).is_none());
        }
        assert!(compose(None, &texts(&["a"]))[0].text().starts_with(&instructions(None)));
        assert!(memories(None, &compose(None, &[])).is_none(), "there is nothing to begin with");
    }

    #[test]
    fn a_memory_is_told_again_when_the_question_needs_more_of_it() {
        let beginning = Beginning { messages: compose(None, &texts(&["likes tea"])), memories: texts(&["likes tea"]) };
        let mut item = MemoryItem::new(MemoryId::new("00000000-0000-4000-8000-000000000001"), "likes\ntea");
        item.metadata.info = serde_json::json!({"chat_time": "2024-05-08"}).as_object().cloned();
        let notes = |question: &str| Notes::on(question, "2026-01-01T00:00:00+00:00");
        assert!(beginning.tells(&item, &notes("what does she drink?")));
        assert!(!beginning.tells(&item, &notes("since when does she drink tea?")), "the question asks for a time");
        item.memory = "likes coffee".to_owned();
        assert!(!beginning.tells(&item, &notes("what does she drink?")));
    }

    #[test]
    fn the_conversation_goes_on_after_it_word_for_word() {
        let beginning = Beginning { messages: compose(Some("base"), &texts(&["a"])), memories: texts(&["a"]) };
        let earlier = [Message::user("hi"), Message::assistant("hello")];
        let prompt = beginning.prompt(&earlier, "", "- tea", "name?");
        assert!(prompt.starts_with(&beginning.messages));
        assert_eq!(&prompt[1..3], &earlier);
        assert_eq!(prompt[3].text(), "- tea\n\nname?");
    }
}
