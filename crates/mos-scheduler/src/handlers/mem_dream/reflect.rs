//! Asking a model what it concludes from some memories.

use mos_core::ask::ask_json;
use mos_core::language::{self, Language};
use mos_core::memory::{MetadataForm, SourceKind, SourceMessage, TreeFields};
use mos_core::{ChatModel, MemoryId, MemoryItem, MemoryType, Message, ModelError, UserId, answer};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{DREAM, DreamOptions};
use crate::handlers::steps::NODE_ID;

/// How much of a memory the model is shown, in characters.
const MAX_SHOWN: usize = 500;

/// The longest conclusion that is kept, and the longest text of an entry, in characters.
const MAX_INSIGHT: usize = 1_000;
const MAX_ENTRY: usize = 4_000;

/// On how many memories a conclusion must rest: of a single one, it would only repeat it.
const MIN_SUPPORT: usize = 2;

/// How sure a conclusion is.
const CONFIDENCE: f64 = 0.7;

/// A conclusion from some memories.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Insight {
    text: String,
    key: Option<String>,
    tags: Vec<String>,
    /// Places of the memories it rests on, from 0.
    support: Vec<usize>,
}

/// What a model makes of some memories.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Reflection {
    pub(super) insights: Vec<Insight>,
    pub(super) title: String,
    pub(super) summary: String,
    pub(super) entry: String,
    pub(super) themes: Vec<String>,
}

/// Returns what a model makes of memories. A conclusion that names fewer than two of them, or others, is left out.
///
/// # Errors
/// Those of the model.
pub(super) async fn ask(
    model: &dyn ChatModel,
    memories: &[MemoryItem],
    options: &DreamOptions,
) -> Result<Reflection, ModelError> {
    let lines: Vec<String> = memories
        .iter()
        .enumerate()
        .map(|(index, item)| format!("[{}] {}", index + 1, one_line(&item.memory)))
        .collect();
    let shown = lines.join("\n");
    let instructions = match language::detect(&shown) {
        Language::English => include_str!("../prompts/dream_english.txt"),
        Language::Chinese => include_str!("../prompts/dream_chinese.txt"),
    };
    let question = vec![Message::system(instructions.trim_end()), Message::user(shown)];
    let Answer(mut reflection) = ask_json(model, question, Some(&schema()), options.attempts).await?;
    for insight in &mut reflection.insights {
        insight.support.retain(|place| *place < memories.len());
        insight.support.sort_unstable();
        insight.support.dedup();
    }
    reflection.insights.retain(|insight| {
        let is_known = memories.iter().any(|item| item.memory.trim() == insight.text);
        insight.support.len() >= MIN_SUPPORT && insight.text.chars().count() <= MAX_INSIGHT && !is_known
    });
    reflection.insights.truncate(options.max_insights);
    Ok(reflection)
}

fn one_line(text: &str) -> String {
    let shown: String = text.chars().take(MAX_SHOWN).collect();
    shown.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn schema() -> Value {
    let (text, texts) = (json!({"type": "string"}), json!({"type": "array", "items": {"type": "string"}}));
    let insight = json!({
        "type": "object",
        "properties": {"text": text, "key": text, "tags": texts,
            "memories": {"type": "array", "items": {"type": "integer"}}},
        "required": ["text", "memories"],
    });
    let diary = json!({
        "type": "object",
        "properties": {"title": text, "summary": text, "entry": text, "themes": texts},
        "required": ["title", "summary", "entry"],
    });
    json!({
        "type": "object",
        "properties": {"insights": {"type": "array", "items": insight}, "diary": diary},
        "required": ["insights", "diary"],
    })
}

#[derive(Debug, Deserialize)]
#[serde(try_from = "Value")]
struct Answer(Reflection);

impl TryFrom<Value> for Answer {
    type Error = String;

    fn try_from(value: Value) -> Result<Self, String> {
        let Value::Object(mut map) = value else {
            return Err("it must be an object with `insights` and `diary`".to_owned());
        };
        let Some(Value::Object(diary)) = map.shift_remove("diary") else {
            return Err("its `diary` must be an object".to_owned());
        };
        let listed = map.shift_remove("insights").unwrap_or(Value::Array(Vec::new()));
        let insights = answer::elements(json!({"insights": listed}), &["insights"])?;
        let shown =
            |name: &str| answer::text(&diary, &[name]).map(|text| text.chars().take(MAX_ENTRY).collect::<String>());
        let entry: String = shown("entry").ok_or("its `diary` has no `entry`")?;
        Ok(Self(Reflection {
            insights: insights.iter().filter_map(read_insight).collect(),
            title: shown("title").unwrap_or_default(),
            summary: shown("summary").unwrap_or_default(),
            entry,
            themes: answer::texts(&diary, "themes"),
        }))
    }
}

fn read_insight(map: &Map<String, Value>) -> Option<Insight> {
    let numbers = answer::numbers(map, "memories");
    Some(Insight {
        text: answer::text(map, &["text", "insight"])?,
        key: answer::text(map, &["key"]),
        tags: answer::texts(map, "tags"),
        support: numbers.into_iter().filter_map(|number| number.checked_sub(1)).collect(),
    })
}

impl Insight {
    /// Returns the conclusion as a memory that names what it rests on.
    pub(super) fn to_item(&self, id: MemoryId, user: &UserId, memories: &[MemoryItem]) -> MemoryItem {
        let sources = self.support.iter().filter_map(|place| memories.get(*place)).map(|item| {
            let content = Some(item.memory.chars().take(MAX_SHOWN).collect());
            let mut source = SourceMessage { kind: "memory".to_owned(), content, ..SourceMessage::default() };
            source.extra.insert(NODE_ID.to_owned(), json!(item.id.as_str()));
            source.trust_as(item);
            source
        });
        let fields =
            TreeFields { memory_type: MemoryType::LongTerm, sources: Some(sources.collect()), ..TreeFields::default() };
        let mut tags = vec![DREAM.to_owned(), "insight".to_owned()];
        tags.extend(self.tags.iter().filter(|tag| *tag != DREAM && *tag != "insight").cloned());
        let mut item = MemoryItem::new(id, self.text.as_str());
        let metadata = &mut item.metadata;
        metadata.user_id = Some(user.to_string());
        metadata.kind = Some("insight".to_owned());
        metadata.key.clone_from(&self.key);
        metadata.confidence = Some(CONFIDENCE);
        metadata.tags = Some(tags);
        metadata.source = Some(SourceKind::System);
        metadata.form = MetadataForm::Tree(Box::new(fields));
        item
    }
}

#[cfg(test)]
mod tests {
    use mos_core::memory::Trust;
    use mos_testkit::chat::ScriptedChat;

    use super::*;

    fn memories() -> Vec<MemoryItem> {
        let text = ["Ann runs on Mondays.", "Ann runs on Thursdays.", "Ann bought shoes."];
        (0..3).map(|n| MemoryItem::new(MemoryId::new(format!("m{n}")), text[n])).collect()
    }

    #[tokio::test]
    async fn only_conclusions_that_rest_on_what_was_shown_are_kept() {
        let answer = json!({
            "insights": [
                {"text": "Ann runs twice a week.", "key": "Running", "tags": ["sport", "dream"], "memories": [2, 1, 2]},
                {"text": "Ann is rich.", "memories": [3]},
                {"text": "Ann flies.", "memories": [8, 9]},
                {"text": "Ann bought shoes.", "memories": [1, 3]},
            ],
            "diary": {"title": "Running", "summary": "A week.", "entry": "Ann runs a lot.", "themes": ["sport"]},
        });
        let model = ScriptedChat::new([answer.to_string()]);
        let reflection = ask(&model, &memories(), &DreamOptions::default()).await.unwrap();
        assert_eq!(reflection.insights.len(), 1);
        assert_eq!((reflection.title.as_str(), reflection.entry.as_str()), ("Running", "Ann runs a lot."));
        let item = reflection.insights[0].to_item("i".into(), &"ann".into(), &memories());
        let sources = item.metadata.tree().unwrap().sources.clone().unwrap();
        let ids: Vec<&Value> = sources.iter().map(|source| &source.extra["node_id"]).collect();
        assert_eq!(ids, ["m0", "m1"]);
        assert_eq!(item.metadata.tags.as_deref(), Some(&["dream".to_owned(), "insight".into(), "sport".into()][..]));
        let shown = model.requests()[0].messages[1].text();
        assert_eq!(shown, "[1] Ann runs on Mondays.\n[2] Ann runs on Thursdays.\n[3] Ann bought shoes.");
    }

    #[test]
    fn a_conclusion_is_trusted_as_the_least_of_what_it_rests_on() {
        let mut memories = memories();
        memories[1].metadata.source = Some(SourceKind::Web);
        let trust = |support: &[usize]| {
            let insight =
                Insight { text: "Ann runs.".to_owned(), key: None, tags: Vec::new(), support: support.to_vec() };
            insight.to_item("i".into(), &"ann".into(), &memories).metadata.trust()
        };
        assert_eq!((trust(&[0, 2]), trust(&[0, 1])), (Trust::Assistant, Trust::External));
    }

    #[tokio::test]
    async fn prose_is_no_reflection() {
        let model = ScriptedChat::new(["I dreamt of sheep."]);
        let options = DreamOptions { attempts: 1, ..DreamOptions::default() };
        assert!(matches!(ask(&model, &memories(), &options).await, Err(ModelError::BadAnswer(_))));
    }
}
