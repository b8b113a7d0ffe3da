//! What a model says about two memories.

use std::fmt::Write as _;

use mos_core::language::{Language, detect};
use mos_core::{ChatModel, ChatRequest, MemoryError, MemoryItem, Message, ModelError};
use serde_json::Value;

use super::budget::BoundedModel;
use super::facts::{InTime, begin_text, speaker};
use super::prompts;

/// How two memories stand to each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Both cannot be true at one time.
    Contradictory,
    /// One says nothing that the other does not say.
    Redundant,
    /// Neither.
    Independent,
}

/// The longest merged text, in bytes.
const MAX_MERGED: usize = 1 << 16;

/// The longest answer that means that two memories cannot be merged, in characters.
const MAX_NO: usize = 10;

/// Asks which of the three it is.
pub(super) async fn verdict(model: &BoundedModel, pair: &InTime, attempts: usize) -> Result<Verdict, MemoryError> {
    let messages = vec![Message::system(prompts::verdict(language(pair))), Message::user(cards(pair))];
    let what = "whether two memories agree (contradictory, redundant or independent)";
    ask(model, &messages, attempts, what, read_verdict).await
}

/// Asks for one text that says what both say; `None` when the model finds that only the newer one counts.
pub(super) async fn merged(
    model: &BoundedModel,
    pair: &InTime,
    verdict: Verdict,
    attempts: usize,
) -> Result<Option<String>, MemoryError> {
    let is_contradiction = verdict == Verdict::Contradictory;
    let instructions = prompts::merge(language(pair), is_contradiction);
    let messages = vec![Message::system(instructions), Message::user(cards(pair))];
    ask(model, &messages, attempts, "one memory made of two (inside <answer> tags)", read_merged).await
}

fn language(pair: &InTime) -> Language {
    detect(&format!("{} {}", pair.older.memory, pair.newer.memory))
}

/// Asks until an answer can be read. Errors of the model are not asked over: its client does that.
async fn ask<T>(
    model: &BoundedModel,
    messages: &[Message],
    attempts: usize,
    what: &str,
    read: impl Fn(&str) -> Option<T>,
) -> Result<T, MemoryError> {
    for _ in 0..attempts.max(1) {
        let request = ChatRequest { messages: messages.to_vec(), ..ChatRequest::default() };
        let (answer, _) = model.complete(request).await?;
        // What a model thought before its answer is none of it.
        let answer = answer.split_once("</think>").map_or(answer.as_str(), |(_, answer)| answer);
        if let Some(read) = read(answer) {
            return Ok(read);
        }
    }
    let reason = format!("model `{}` did not say {what}; asked {attempts} times", model.name());
    Err(ModelError::BadAnswer(reason).into())
}

/// The one verdict that an answer names; an answer that names several (an echo of the question) or none says nothing.
fn read_verdict(answer: &str) -> Option<Verdict> {
    let answer = answer.to_lowercase();
    let named = [
        ("contradictory", Verdict::Contradictory),
        ("redundant", Verdict::Redundant),
        ("independent", Verdict::Independent),
    ];
    let mut found = named.iter().filter(|(word, _)| answer.contains(word));
    let (_, verdict) = found.next()?;
    found.next().is_none().then_some(*verdict)
}

/// The text between the tags, or the `answer` of a JSON object; `Some(None)` for a plain "no".
fn read_merged(answer: &str) -> Option<Option<String>> {
    let text = between_tags(answer).or_else(|| in_json(answer))?;
    let text = text.trim();
    let is_placeholder = text.is_empty() || text == "..." || (text.starts_with('<') && text.ends_with('>'));
    if is_placeholder || text.len() > MAX_MERGED {
        return None;
    }
    let is_no = text.chars().count() <= MAX_NO
        && text.split(|c: char| !c.is_alphanumeric()).any(|word| word.eq_ignore_ascii_case("no") || word == "否");
    Some((!is_no).then(|| text.to_owned()))
}

fn between_tags(answer: &str) -> Option<String> {
    let (_, rest) = answer.split_once("<answer>")?;
    let (text, _) = rest.split_once("</answer>")?;
    Some(text.to_owned())
}

fn in_json(answer: &str) -> Option<String> {
    let (start, end) = (answer.find('{')?, answer.rfind('}')?);
    let value: Value = serde_json::from_str(answer.get(start..=end)?).ok()?;
    value.get("answer").and_then(Value::as_str).map(str::to_owned)
}

fn cards(pair: &InTime) -> String {
    format!("A (older):\n{}\nB (newer):\n{}", card(&pair.older), card(&pair.newer))
}

/// What a model is told of a memory, one field per line, texts as JSON strings so that none can pose as a field.
pub(super) fn card(item: &MemoryItem) -> String {
    let tree = item.metadata.tree();
    let mut card = format!("text: {}\n", Value::from(item.memory.as_str()));
    let mut field = |name: &str, value: Option<String>| {
        if let Some(value) = value.filter(|value| !value.trim().is_empty()) {
            // Writing to a string cannot fail.
            let _ = writeln!(card, "{name}: {}", Value::from(value));
        }
    };
    field("said by", Some(speaker(item)));
    field("key", item.metadata.key.clone());
    field("background", tree.and_then(|tree| tree.background.clone()));
    field("true from", begin_text(item));
    field("confidence", item.metadata.confidence.map(|confidence| confidence.to_string()));
    field("updated", item.metadata.updated_at.clone());
    card
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verdict_is_one_of_three_words_and_nothing_else() {
        for (answer, verdict) in [
            ("contradictory", Some(Verdict::Contradictory)),
            ("**Redundant**.", Some(Verdict::Redundant)),
            ("{\"relation\": \"independent\"}", Some(Verdict::Independent)),
            ("contradictory | redundant | independent", None),
            ("I think they agree.", None),
            ("contradic", None),
            ("", None),
        ] {
            assert_eq!(read_verdict(answer), verdict, "{answer}");
        }
    }

    #[test]
    fn a_merged_text_is_taken_only_when_it_is_complete() {
        let text = |text: &str| Some(Some(text.to_owned()));
        for (answer, read) in [
            ("<answer>Ann lives in Berlin.</answer>", text("Ann lives in Berlin.")),
            ("Sure:\n<answer>\nAnn has no car.\n</answer>", text("Ann has no car.")),
            ("{\"answer\": \"Ann lives in Berlin.\"}", text("Ann lives in Berlin.")),
            ("<answer>No.</answer>", Some(None)),
            ("<answer>No</answer>", Some(None)),
            ("<answer>否</answer>", Some(None)),
            ("<answer>Nobody</answer>", text("Nobody")),
            ("<answer>Ann lives in", None),
            ("<answer></answer>", None),
            ("<answer><the merged memory></answer>", None),
            ("Ann lives in Berlin.", None),
            ("{\"answer\": \"Ann li", None),
            ("", None),
        ] {
            assert_eq!(read_merged(answer), read, "{answer}");
        }
    }
}
