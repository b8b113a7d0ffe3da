//! Asking a model once more which of its memories their turns support.

use mos_core::ask::ask_json;
use mos_core::language::Language;
use mos_core::{Message, ModelError, answer};
use serde::Deserialize;
use serde_json::Value;

use super::Asking;
use crate::prompts::Prompt;
use crate::window::Window;

/// What a model says about one memory.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Verdict {
    /// Which one, from 1.
    pub(super) number: usize,
    pub(super) keep: bool,
    pub(super) corrected: Option<String>,
}

/// Returns the verdicts on the memories of a window; memories without one are kept.
pub(super) async fn verdicts(
    asking: Asking<'_>,
    window: &Window,
    memories: &[&str],
    language: Language,
) -> Result<Vec<Verdict>, ModelError> {
    let notes = memories.iter().enumerate().map(|(index, text)| format!("({}) {}", index + 1, text.replace('\n', " ")));
    let notes = notes.collect::<Vec<_>>().join("\n");
    let (messages, heading) = match language {
        Language::English => ("Messages:", "Notes:"),
        Language::Chinese => ("消息：", "笔记："),
    };
    let text = format!("{messages}\n{}\n\n{heading}\n{notes}", window.numbered());
    let question = vec![Message::system(Prompt::Check.instructions(language, &[], false)), Message::user(text)];
    let schema = Prompt::Check.schema();
    let answer: Answer = ask_json(asking.model, question, Some(&schema), asking.attempts).await?;
    Ok(answer.0)
}

#[derive(Debug, Deserialize)]
#[serde(try_from = "Value")]
struct Answer(Vec<Verdict>);

impl TryFrom<Value> for Answer {
    type Error = String;

    fn try_from(value: Value) -> Result<Self, String> {
        let elements = answer::elements(value, &["results"])?;
        let verdicts = elements.iter().filter_map(|map| {
            let number = *answer::numbers(map, "number").first()?;
            let keep = match map.get("keep")? {
                Value::Bool(keep) => *keep,
                Value::String(word) => !["false", "no", "否"].contains(&word.trim().to_lowercase().as_str()),
                _ => return None,
            };
            Some(Verdict { number, keep, corrected: answer::text(map, &["corrected", "rewritten"]) })
        });
        let verdicts: Vec<Verdict> = verdicts.collect();
        if verdicts.is_empty() && !elements.is_empty() {
            return Err("no entry has a `number` and a `keep`".to_owned());
        }
        Ok(Self(verdicts))
    }
}
