//! Whether a new preference is known already, contradicts a known one, or is new.

use mos_core::language::{self, Language};
use mos_core::{ChatModel, MemoryError, MemoryItem, Message};
use serde::Deserialize;
use serde_json::Value;

use super::AddMode;
use super::words::{same_terms, same_words};
use crate::answer;
use crate::ask::ask_json;
use crate::extract::ATTEMPTS;
use crate::schema;

/// Known preferences that are less similar have to do with something else; no model is asked about them.
const MIN_JUDGED_SIMILARITY: f32 = 0.3;

/// Without a model, preferences of the same terms that are at least so similar are the same.
const MIN_SAME_SIMILARITY: f32 = 0.95;

/// A known preference and its similarity with the new one.
#[derive(Clone, Debug)]
pub(super) struct Neighbour {
    pub(super) item: MemoryItem,
    pub(super) similarity: f32,
}

/// What is done with a new preference. Indices are those of the neighbours.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Decision {
    /// This one says the same, and says this from now on (without a text: what the newer of both says). Otherwise the new
    /// preference is stored.
    pub(super) same: Option<(usize, Option<String>)>,
    /// These do not hold any longer.
    pub(super) outdated: Vec<usize>,
}

impl Decision {
    fn same(index: usize) -> Self {
        Self { same: Some((index, None)), outdated: Vec::new() }
    }
}

/// Decides about a new preference whose neighbours come most similar first.
///
/// The same words are decided without a model. A model that fails is told of in the log, and the rule for no model
/// applies: the preference is kept.
///
/// # Errors
/// Errors that do not come from the model.
pub(super) async fn decide(
    model: Option<&dyn ChatModel>,
    mode: AddMode,
    new: &MemoryItem,
    neighbours: &[Neighbour],
) -> Result<Decision, MemoryError> {
    if let Some(index) = neighbours.iter().position(|known| same_words(&known.item.memory, &new.memory)) {
        return Ok(Decision::same(index));
    }
    let n_near = neighbours.iter().take_while(|known| known.similarity >= MIN_JUDGED_SIMILARITY).count();
    if let Some(model) = model.filter(|_| n_near > 0) {
        let judged = match mode {
            AddMode::Fast => fast(model, new, &neighbours[0]).await,
            AddMode::Fine => fine(model, new, &neighbours[..n_near]).await,
        };
        match judged {
            Ok(decision) => return Ok(decision),
            // The error may quote the model's answer, which is none of the log's business.
            Err(MemoryError::Model(_)) => {
                tracing::warn!(id = %new.id, "a new preference was compared by its words alone: the model failed");
            }
            Err(error) => return Err(error),
        }
    }
    let is_same =
        |known: &Neighbour| known.similarity >= MIN_SAME_SIMILARITY && same_terms(&known.item.memory, &new.memory);
    Ok(neighbours.iter().position(is_same).map(Decision::same).unwrap_or_default())
}

fn relation_schema() -> Value {
    schema::object(&[("relation", schema::one_of(&["same", "contradicts", "different"]))])
}

fn operations_schema() -> Value {
    let operation = schema::object(&[
        ("action", schema::one_of(&["update", "delete", "insert"])),
        ("number", schema::number()),
        ("preference", schema::text()),
    ]);
    schema::object(&[("operations", schema::list(operation))])
}

async fn fast(model: &dyn ChatModel, new: &MemoryItem, best: &Neighbour) -> Result<Decision, MemoryError> {
    let prompt = match language::detect(&new.memory) {
        Language::English => include_str!("fast_english.txt"),
        Language::Chinese => include_str!("fast_chinese.txt"),
    };
    let pair = format!("known: {}\nnew: {}", one_line(&best.item), one_line(new));
    let question = vec![Message::system(prompt.trim_end()), Message::user(pair)];
    Ok(match ask_json::<Relation>(model, question, &relation_schema(), ATTEMPTS).await? {
        Relation::Same => Decision::same(0),
        Relation::Contradicts => Decision { same: None, outdated: vec![0] },
        Relation::Different => Decision::default(),
    })
}

async fn fine(model: &dyn ChatModel, new: &MemoryItem, near: &[Neighbour]) -> Result<Decision, MemoryError> {
    let prompt = match language::detect(&new.memory) {
        Language::English => include_str!("fine_english.txt"),
        Language::Chinese => include_str!("fine_chinese.txt"),
    };
    let known: Vec<String> =
        near.iter().enumerate().map(|(index, known)| format!("{}. {}", index + 1, one_line(&known.item))).collect();
    let all = format!("known:\n{}\nnew: {}", known.join("\n"), one_line(new));
    let question = vec![Message::system(prompt.trim_end()), Message::user(all)];
    let Operations(operations) = ask_json(model, question, &operations_schema(), ATTEMPTS).await?;
    let mut decision = Decision::default();
    for operation in operations {
        // A number that does not exist names nothing.
        match operation {
            Operation::Update(number, text) if (1..=near.len()).contains(&number) && decision.same.is_none() => {
                decision.same = Some((number - 1, text));
            }
            Operation::Delete(number) if (1..=near.len()).contains(&number) => decision.outdated.push(number - 1),
            Operation::Update(..) | Operation::Delete(_) | Operation::Insert => {}
        }
    }
    if let Some((kept, _)) = decision.same {
        decision.outdated.retain(|index| *index != kept);
    }
    decision.outdated.sort_unstable();
    decision.outdated.dedup();
    Ok(decision)
}

/// No text can pose as another line of the question.
fn one_line(item: &MemoryItem) -> String {
    item.memory.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// How a new preference stands to a known one.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq)]
#[serde(try_from = "Value")]
enum Relation {
    Same,
    Contradicts,
    Different,
}

impl TryFrom<Value> for Relation {
    type Error = &'static str;

    fn try_from(value: Value) -> Result<Self, &'static str> {
        let word = value.get("relation").and_then(Value::as_str).unwrap_or_default().trim().to_lowercase();
        match word.as_str() {
            "same" => Ok(Self::Same),
            "contradicts" => Ok(Self::Contradicts),
            "different" => Ok(Self::Different),
            _ => Err("`relation` must be \"same\", \"contradicts\" or \"different\""),
        }
    }
}

/// One thing to do; numbers count the known preferences from 1.
#[derive(Clone, Debug, PartialEq)]
enum Operation {
    Insert,
    Update(usize, Option<String>),
    Delete(usize),
}

#[derive(Debug, Deserialize)]
#[serde(try_from = "Value")]
struct Operations(Vec<Operation>);

impl TryFrom<Value> for Operations {
    type Error = String;

    fn try_from(value: Value) -> Result<Self, String> {
        let elements = answer::elements(value, &["operations"])?;
        let operations = elements.iter().map(|map| {
            let number = answer::numbers(map, "number").first().copied().unwrap_or(0);
            match answer::text(map, &["action"]).unwrap_or_default().to_lowercase().as_str() {
                "insert" | "add" => Ok(Operation::Insert),
                "update" => Ok(Operation::Update(number, answer::text(map, &["preference"]))),
                "delete" => Ok(Operation::Delete(number)),
                _ => Err("each `action` must be \"update\", \"delete\" or \"insert\"".to_owned()),
            }
        });
        operations.collect::<Result<_, _>>().map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mos_core::MemoryId;
    use mos_testkit::chat::ScriptedChat;

    fn item(number: u32, text: &str) -> MemoryItem {
        MemoryItem::new(MemoryId::new(format!("00000000-0000-4000-8000-{number:012}")), text)
    }

    fn near(known: &[(&str, f32)]) -> Vec<Neighbour> {
        let known = known.iter().enumerate();
        known
            .map(|(number, (text, similarity))| Neighbour { item: item(number as u32, text), similarity: *similarity })
            .collect()
    }

    async fn decided(model: Option<&ScriptedChat>, mode: AddMode, new: &str, known: &[(&str, f32)]) -> Decision {
        let model = model.map(|model| model as &dyn ChatModel);
        decide(model, mode, &item(99, new), &near(known)).await.unwrap()
    }

    #[tokio::test]
    async fn the_same_words_need_no_model_and_far_ones_none_either() {
        let model = ScriptedChat::new(Vec::<String>::new());
        let known = [("likes trains", 0.96), ("Likes tea.", 0.95)];
        assert_eq!(decided(Some(&model), AddMode::Fine, "likes tea", &known).await, Decision::same(1));
        assert_eq!(decided(Some(&model), AddMode::Fast, "x", &[("likes tea", 0.2)]).await, Decision::default());
        assert!(model.requests().is_empty());
    }

    #[tokio::test]
    async fn without_a_model_only_near_and_equal_terms_are_the_same() {
        for (new, similarity, is_same) in [
            ("likes a red car", 0.96, true),
            ("likes a red car", 0.94, false),
            ("likes no red car", 0.99, false),
            ("likes red car 2", 0.99, false),
        ] {
            let decision = decided(None, AddMode::Fast, new, &[("likes the red car", similarity)]).await;
            assert_eq!(decision.same.is_some(), is_same, "{new} {similarity}");
        }
    }

    #[tokio::test]
    async fn fast_judges_the_nearest_one() {
        let known = [("likes the aisle seat", 0.8), ("likes tea", 0.5)];
        for (word, decision) in [
            ("same", Decision::same(0)),
            ("Contradicts", Decision { same: None, outdated: vec![0] }),
            ("different", Decision::default()),
        ] {
            let model = ScriptedChat::new(["perhaps".to_owned(), format!("{{\"relation\": \"{word}\"}}")]);
            assert_eq!(decided(Some(&model), AddMode::Fast, "likes the window seat", &known).await, decision);
            assert_eq!(
                model.requests()[0].messages[1].text(),
                "known: likes the aisle seat\nnew: likes the window seat"
            );
        }
    }

    #[tokio::test]
    async fn fine_looks_at_all_near_ones_and_numbers_that_do_not_exist_name_nothing() {
        let known = [("likes the aisle seat", 0.8), ("hates windows", 0.7), ("likes tea", 0.1)];
        let answer = r#"{"operations": [{"action": "delete", "number": 2}, {"action": "delete", "number": 3},
            {"action": "update", "number": "1", "preference": "likes any seat"}, {"action": "delete", "number": 1}]}"#;
        let model = ScriptedChat::new([answer]);
        let decision = decided(Some(&model), AddMode::Fine, "likes the window seat", &known).await;
        assert_eq!(decision, Decision { same: Some((0, Some("likes any seat".to_owned()))), outdated: vec![1] });
        let asked = model.requests()[0].messages[1].text();
        assert!(asked.contains("2. hates windows") && !asked.contains("tea"), "{asked}");
    }

    #[tokio::test]
    async fn the_forms_that_prompts_show_are_those_of_the_schemas() {
        for prompt in [include_str!("fine_english.txt"), include_str!("fine_chinese.txt")] {
            let shown = prompt.trim_end().lines().last().unwrap();
            schema::assert_shows(&operations_schema(), &serde_json::from_str(shown).unwrap());
        }
        for (mode, schema) in [(AddMode::Fast, relation_schema()), (AddMode::Fine, operations_schema())] {
            let model = ScriptedChat::new([r#"{"relation": "different", "operations": []}"#]);
            decided(Some(&model), mode, "likes the window seat", &[("likes seats", 0.8)]).await;
            assert_eq!(model.requests()[0].answer_schema, Some(schema));
        }
    }

    #[tokio::test]
    async fn a_model_that_fails_loses_nothing() {
        for answers in [vec![], vec!["no", "no", "{\"relation\": \"<same, contradicts or different>\"}"]] {
            let model = ScriptedChat::new(answers);
            let decision = decided(Some(&model), AddMode::Fast, "likes the window seat", &[("likes seats", 0.8)]).await;
            assert_eq!(decision, Decision::default());
        }
    }
}
