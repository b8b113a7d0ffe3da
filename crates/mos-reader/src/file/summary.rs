//! What a model says about the chunks of a file.

use std::sync::atomic::{AtomicUsize, Ordering};

use mos_core::ask::ask_json;
use mos_core::language::detect;
use mos_core::{Message, answer};
use serde::Deserialize;
use serde_json::Value;

use super::read::Read;
use crate::chunk::Chunk;
use crate::fine::Asking;
use crate::fine::support::Evidence;
use crate::prompts::Prompt;

/// After so many failures in a row a model is not asked about the rest of a file.
const MAX_FAILURES: usize = 3;

/// Returns what a summary of a chunk may rest on.
pub(super) fn evidence(read: &Read, chunk: &Chunk) -> Evidence {
    let names = [read.name.as_deref().unwrap_or_default(), read.title.as_deref().unwrap_or_default()];
    Evidence {
        text: chunk.text.clone(),
        names: format!("{}\n{}", names.join("\n"), chunk.position.headings.join("\n")),
        has_time: false,
        hidden: Vec::new(),
    }
}

/// Asks about one chunk; `None` when it says nothing.
pub(super) async fn summary(
    asking: Asking<'_>,
    read: &Read,
    chunk: &Chunk,
    failures: &AtomicUsize,
) -> Result<Option<Summary>, String> {
    if failures.load(Ordering::Relaxed) >= MAX_FAILURES {
        return Err("the model failed too often".to_owned());
    }
    let instructions = Prompt::Document.instructions(detect(&chunk.text), asking.tags, asking.with_example);
    let name = read.name.as_deref().or(read.title.as_deref()).unwrap_or(&read.id);
    let text = format!("{name}\n{}\n\n{}", chunk.position.headings.join(" > "), chunk.text);
    let question = vec![Message::system(instructions), Message::user(text)];
    let schema = Prompt::Document.schema();
    match ask_json::<Answer>(asking.model, question, Some(&schema), asking.attempts).await {
        Ok(answer) => {
            failures.store(0, Ordering::Relaxed);
            Ok(answer.0)
        }
        Err(error) => {
            failures.fetch_add(1, Ordering::Relaxed);
            Err(error.to_string())
        }
    }
}

/// What a model says about a chunk.
#[derive(Debug)]
pub(super) struct Summary {
    pub(super) key: Option<String>,
    pub(super) value: String,
    pub(super) tags: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(try_from = "Value")]
struct Answer(Option<Summary>);

impl TryFrom<Value> for Answer {
    type Error = String;

    fn try_from(value: Value) -> Result<Self, String> {
        let elements = answer::elements(value, answer::MEMORY_LIST)?;
        let Some(map) = elements.first() else { return Ok(Self(None)) };
        if !map.contains_key("value") && !map.contains_key("memory") {
            return Err("it has no `value`".to_owned());
        }
        let summary = answer::text(map, &["value", "memory"]).map(|value| Summary {
            key: answer::text(map, &["key"]),
            value,
            tags: answer::texts(map, "tags"),
        });
        Ok(Self(summary))
    }
}
