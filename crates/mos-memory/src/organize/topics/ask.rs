//! What a model says about which memories belong together, and what they are about.

use std::collections::{BTreeSet, HashMap};

use mos_core::language::{Language, detect};
use mos_core::{MemoryError, MemoryItem, Message, ModelError};
use serde::Deserialize;
use serde_json::Value;

use super::super::budget::BoundedModel;
use super::super::prompts;
use super::Heading;
use crate::ask::ask_json;
use crate::schema;

/// How many characters of memories a model is shown at most.
const MAX_SHOWN: usize = 15_000;

/// The longest title, in characters.
const MAX_KEY: usize = 200;

/// The most tags of a topic.
const MAX_TAGS: usize = 10;

#[derive(Debug, Deserialize)]
struct Clusters {
    clusters: Vec<Cluster>,
}

#[derive(Debug, Deserialize)]
struct Cluster {
    ids: Vec<Value>,
}

fn clusters_schema() -> Value {
    let cluster = schema::object(&[("ids", schema::list(schema::number()))]);
    schema::object(&[("clusters", schema::list(cluster))])
}

/// Returns the schema of a [`Heading`].
pub(in super::super) fn heading_schema() -> Value {
    schema::object(&[
        ("key", schema::text()),
        ("value", schema::text()),
        ("tags", schema::list(schema::text())),
        ("summary", schema::text()),
    ])
}

/// Asks which of some memories belong together. Returns indexes of `items`, each in at most one cluster of at least two.
pub(super) async fn clusters(
    model: &BoundedModel,
    items: &[&MemoryItem],
    attempts: usize,
) -> Result<Vec<Vec<usize>>, MemoryError> {
    let messages = vec![Message::system(prompts::clusters(language(items))), Message::user(lines(items))];
    let answer: Clusters = ask_json(model, messages, &clusters_schema(), attempts).await?;
    let n_named = answer.clusters.len();
    let found = checked(answer, items);
    if found.is_empty() && n_named > 0 {
        let reason = "the model named no two memories of those that it was shown; try again or use another model";
        return Err(ModelError::BadAnswer(reason.to_owned()).into());
    }
    Ok(found)
}

/// Keeps known memories, each where it is named first.
fn checked(answer: Clusters, items: &[&MemoryItem]) -> Vec<Vec<usize>> {
    let numbers: HashMap<String, usize> = (0..items.len())
        .flat_map(|index| [((index + 1).to_string(), index), (items[index].id.to_string(), index)])
        .collect();
    let mut taken = BTreeSet::new();
    let mut found = Vec::new();
    for cluster in answer.clusters {
        let mut members: Vec<usize> = cluster
            .ids
            .iter()
            .filter_map(|id| match id {
                Value::String(text) => numbers.get(text.trim()).copied(),
                Value::Number(number) => numbers.get(&number.to_string()).copied(),
                _ => None,
            })
            .filter(|index| taken.insert(*index))
            .collect();
        if members.len() >= 2 {
            members.sort_unstable();
            found.push(members);
        }
    }
    found
}

/// Asks what some memories are about.
pub(super) async fn heading(
    model: &BoundedModel,
    items: &[&MemoryItem],
    attempts: usize,
) -> Result<Heading, MemoryError> {
    let messages = vec![Message::system(prompts::topic(language(items))), Message::user(lines(items))];
    let heading: Heading = ask_json(model, messages, &heading_schema(), attempts).await?;
    tidy(heading).ok_or_else(|| {
        let reason = "the model gave a topic without a title or a text; try again or use another model";
        ModelError::BadAnswer(reason.to_owned()).into()
    })
}

/// Brings a heading into bounds; `None` when it says nothing.
pub(in super::super) fn tidy(mut heading: Heading) -> Option<Heading> {
    let said = |text: &str| {
        let text = text.trim();
        !text.is_empty() && text != "..." && !(text.starts_with('<') && text.ends_with('>'))
    };
    if !said(&heading.key) || !said(&heading.value) {
        return None;
    }
    heading.key = heading.key.trim().chars().take(MAX_KEY).collect();
    heading.value = heading.value.trim().chars().take(MAX_SHOWN).collect();
    heading.summary = heading.summary.trim().chars().take(MAX_SHOWN).collect();
    heading.tags.retain(|tag| said(tag));
    heading.tags.truncate(MAX_TAGS);
    Some(heading)
}

pub(in super::super) fn language(items: &[&MemoryItem]) -> Language {
    detect(&items.iter().map(|item| item.memory.as_str()).collect::<Vec<_>>().join(" "))
}

/// One line for each memory: number, title, text. Each has its share of what may be shown, so that none is left out.
pub(in super::super) fn lines(items: &[&MemoryItem]) -> String {
    let share = MAX_SHOWN / items.len().max(1);
    let mut lines = String::new();
    for (index, item) in items.iter().enumerate() {
        let key = item.metadata.key.as_deref().unwrap_or_default();
        let text = item.memory.split_whitespace().collect::<Vec<_>>().join(" ");
        let line = format!("{} | {key} | {text}", index + 1);
        lines.extend(line.chars().take(share.saturating_sub(1)));
        lines.push('\n');
    }
    lines
}

#[cfg(test)]
mod tests {
    use mos_core::MemoryId;
    use serde_json::json;

    use super::*;

    fn items(n: usize) -> Vec<MemoryItem> {
        (0..n).map(|at| MemoryItem::new(MemoryId::new(format!("id-{at}")), format!("text {at}"))).collect()
    }

    fn check(answer: Value) -> Vec<Vec<usize>> {
        let items = items(6);
        checked(serde_json::from_value(answer).unwrap(), &items.iter().collect::<Vec<_>>())
    }

    #[test]
    fn memories_are_named_by_number_or_id_and_the_first_mention_counts() {
        let answer = json!({"clusters": [{"ids": [2, "1", "id-2"]}, {"ids": [1, 4, 5, 99, null]}, {"ids": [6]}]});
        assert_eq!(check(answer), [vec![0, 1, 2], vec![3, 4]]);
        assert!(check(json!({"clusters": [{"ids": ["<number>", "<number>"]}]})).is_empty());
    }

    #[test]
    fn what_is_shown_is_bounded_and_shows_every_memory() {
        let long: Vec<MemoryItem> =
            (0..20).map(|at| MemoryItem::new(MemoryId::new(format!("{at}")), "字 ".repeat(9_000))).collect();
        let shown = lines(&long.iter().collect::<Vec<_>>());
        assert!(shown.chars().count() <= MAX_SHOWN);
        assert_eq!(shown.lines().count(), 20);
        assert!(shown.lines().last().unwrap().starts_with("20 | "));
    }

    #[test]
    fn a_heading_that_repeats_the_form_says_nothing() {
        let heading = |key: &str, value: &str| Heading {
            key: key.to_owned(),
            value: value.to_owned(),
            tags: vec!["dogs".to_owned(), "<word>".to_owned()],
            summary: String::new(),
        };
        assert!(tidy(heading("<title of a few words>", "x")).is_none() && tidy(heading("x", " ")).is_none());
        assert_eq!(tidy(heading("Dogs", "About dogs")).unwrap().tags, ["dogs"]);
    }
}
