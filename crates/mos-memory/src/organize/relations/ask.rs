//! What a model says about how memories are related.

use mos_core::{MemoryError, MemoryItem, Message, ModelError};
use serde::Deserialize;
use serde_json::Value;

use super::super::budget::BoundedModel;
use super::super::facts::InTime;
use super::super::judge::card;
use super::super::prompts;
use super::super::topics::{Heading, heading_schema, language, lines, tidy};
use crate::ask::ask_json;
use crate::schema;

/// The longest conclusion, in characters.
const MAX_FACT: usize = 2_000;

/// How two memories are related.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub(super) enum Kind {
    #[serde(alias = "cause", alias = "Cause")]
    Cause,
    #[serde(alias = "condition", alias = "Condition")]
    Condition,
    #[serde(alias = "relate", alias = "Relate")]
    Relate,
    #[serde(alias = "conflict", alias = "Conflict")]
    Conflict,
    #[serde(alias = "none", alias = "None")]
    None,
}

#[derive(Debug, Deserialize)]
struct Answer {
    relation: Kind,
    from: Option<Value>,
}

/// How two memories are related, and which comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Link {
    pub(super) kind: Kind,
    pub(super) is_from_newer: bool,
}

#[derive(Debug, Deserialize)]
struct Conclusion {
    fact: Option<String>,
}

fn answer_schema() -> Value {
    let relation = schema::one_of(&["CAUSE", "CONDITION", "CONFLICT", "RELATE", "NONE"]);
    // Only a cause and a condition have a direction.
    schema::object(&[("relation", relation), ("from", schema::one_of(&["A", "B", ""]))])
}

fn conclusion_schema() -> Value {
    schema::object(&[("fact", schema::text())])
}

/// Asks how two memories are related.
pub(super) async fn link(model: &BoundedModel, pair: &InTime, attempts: usize) -> Result<Link, MemoryError> {
    let items = [&pair.older, &pair.newer];
    let messages = vec![Message::system(prompts::relation(language(&items))), Message::user(cards(pair))];
    let answer: Answer = ask_json(model, messages, &answer_schema(), attempts).await?;
    let is_from_newer = answer.from.as_ref().and_then(Value::as_str).is_some_and(|from| from.trim() == "B");
    Ok(Link { kind: answer.relation, is_from_newer })
}

/// Asks what follows from two linked memories; `None` when nothing does.
pub(super) async fn conclusion(
    model: &BoundedModel,
    pair: &InTime,
    kind: &str,
    attempts: usize,
) -> Result<Option<String>, MemoryError> {
    let items = [&pair.older, &pair.newer];
    let shown = format!("{}Link: {kind}\n", cards(pair));
    let messages = vec![Message::system(prompts::inference(language(&items))), Message::user(shown)];
    let answer: Conclusion = ask_json(model, messages, &conclusion_schema(), attempts).await?;
    let fact = answer.fact.unwrap_or_default();
    let fact: String = fact.trim().chars().take(MAX_FACT).collect();
    let is_form = fact.starts_with('<') && fact.ends_with('>');
    let says_something =
        !fact.is_empty() && !is_form && !["none", "nothing", "null"].contains(&fact.to_lowercase().as_str());
    Ok(says_something.then_some(fact))
}

/// Asks what some memories say together; `None` when that is nothing more.
pub(super) async fn sum(
    model: &BoundedModel,
    items: &[&MemoryItem],
    attempts: usize,
) -> Result<Option<Heading>, MemoryError> {
    let messages = vec![Message::system(prompts::aggregate(language(items))), Message::user(lines(items))];
    let heading: Heading = ask_json(model, messages, &heading_schema(), attempts).await?;
    if heading.value.trim().is_empty() {
        return Ok(None);
    }
    let reason = || "the model summed memories up without a title; try again or use another model".to_owned();
    tidy(heading).map(Some).ok_or_else(|| ModelError::BadAnswer(reason()).into())
}

fn cards(pair: &InTime) -> String {
    format!("A (older):\n{}\nB (newer):\n{}", card(&pair.older), card(&pair.newer))
}

#[cfg(test)]
mod tests {
    use mos_core::language::Language;
    use serde_json::json;

    use super::*;

    #[test]
    fn the_forms_that_prompts_show_are_those_of_the_schemas() {
        for language in [Language::English, Language::Chinese] {
            for (prompt, schema) in [
                (prompts::relation(language), answer_schema()),
                (prompts::inference(language), conclusion_schema()),
                (prompts::aggregate(language), heading_schema()),
                (prompts::topic(language), heading_schema()),
            ] {
                let shown = prompt.trim_end().lines().last().unwrap();
                schema::assert_shows(&schema, &serde_json::from_str(shown).unwrap());
            }
        }
    }

    #[test]
    fn relations_are_one_of_five() {
        let read = |value: Value| serde_json::from_value::<Answer>(value).map(|answer| answer.relation);
        assert_eq!(read(json!({"relation": "CAUSE", "from": "A"})).unwrap(), Kind::Cause);
        assert_eq!(read(json!({"relation": "none"})).unwrap(), Kind::None);
        assert!(read(json!({"relation": "<one of the five>", "from": "<A or B>"})).is_err());
        assert!(read(json!({"relation": "CAUSE|CONDITION"})).is_err() && read(json!({})).is_err());
    }
}
