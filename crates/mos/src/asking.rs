//! What models are asked around a question: to make it clear alone, to split it, to judge what was found for it.

use mos_core::Message;
use mos_core::language::Language;

use crate::prompt;

/// The most characters of one message or memory that a model is shown.
const MAX_SHOWN: usize = 1_000;

/// The most characters of a conversation that a model is shown; the end counts.
const MAX_CONVERSATION: usize = 6_000;

/// Instructions of the files in `prompts/`, one in each language.
macro_rules! instructions {
    ($($(#[doc = $doc:literal])* $name:ident = $file:literal;)*) => {$(
        $(#[doc = $doc])*
        pub(crate) fn $name(language: Language) -> &'static str {
            let text = match language {
                Language::English => include_str!(concat!("prompts/", $file, ".en.txt")),
                Language::Chinese => include_str!(concat!("prompts/", $file, ".zh.txt")),
            };
            text.trim_end()
        }
    )*};
}

instructions! {
    /// Makes a question clear to somebody who has not heard the conversation.
    rewrite = "rewrite";
    /// Splits a question into smaller ones.
    decompose = "decompose";
    /// Answers a smaller question from memories.
    sub_answer = "sub_answer";
    /// Judges whether what was found is enough.
    reflect = "reflect";
    /// Answers a question from everything that was found.
    deep_answer = "deep_answer";
}

/// Returns the end of a conversation, one message a line.
pub(crate) fn conversation(messages: &[Message]) -> String {
    let mut lines: Vec<String> = Vec::new();
    let mut n_characters = 0;
    for message in messages.iter().rev() {
        let line = format!("{}: {}", message.role.as_str(), shown(&message.text()));
        n_characters += line.chars().count();
        if n_characters > MAX_CONVERSATION {
            break;
        }
        lines.push(line);
    }
    lines.reverse();
    lines.join("\n")
}

/// Returns a question behind what belongs to it, with the words of the language for both.
pub(crate) fn question(language: Language, beside: Beside, context: &str, question: &str) -> Message {
    let asked = match language {
        Language::English => "Question:",
        Language::Chinese => "问题：",
    };
    if context.is_empty() {
        return Message::user(format!("{asked} {question}"));
    }
    let heading = match (beside, language) {
        (Beside::Conversation, Language::English) => "Conversation:",
        (Beside::Conversation, Language::Chinese) => "对话：",
        (Beside::Memories, Language::English) => "Memories:",
        (Beside::Memories, Language::Chinese) => "记忆：",
    };
    Message::user(format!("{heading}\n{context}\n\n{asked} {question}"))
}

/// What a question is shown with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Beside {
    /// What was said before.
    Conversation,
    /// What is remembered.
    Memories,
}

/// Returns a text on one line, cut when it is long.
pub(crate) fn shown(text: &str) -> String {
    let line = prompt::one_line(text);
    match line.char_indices().nth(MAX_SHOWN) {
        Some((end, _)) => format!("{} ...", &line[..end]),
        None => line,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_conversation_is_shown_and_bounded() {
        let turns: Vec<Message> = (0..100).map(|turn| Message::user(format!("{turn} {}", "x".repeat(500)))).collect();
        let text = conversation(&turns);
        assert!(text.chars().count() <= MAX_CONVERSATION + 100 && text.contains("user: 99 x"), "{text}");
        assert!(!text.contains("user: 0 x"), "the oldest goes first");
        assert!(conversation(&[]).is_empty());
        assert_eq!(conversation(&[Message::user("a\nb"), Message::assistant("c")]), "user: a b\nassistant: c");
        assert!(shown(&"y".repeat(2_000)).ends_with("y ..."));
    }

    #[test]
    fn instructions_are_written_in_both_languages() {
        for instructions in [rewrite, decompose, sub_answer, reflect, deep_answer] {
            let (english, chinese) = (instructions(Language::English), instructions(Language::Chinese));
            assert_eq!(mos_core::language::detect(chinese), Language::Chinese, "{chinese}");
            assert_eq!(mos_core::language::detect(english), Language::English, "{english}");
        }
    }
}
