//! Memories that a language model finds in a conversation.

use std::sync::Arc;

use mos_core::language::Language;
use mos_core::memory::{MetadataForm, SourceKind, SourceMessage, TreeFields};
use mos_core::{ChatModel, Clock, IdSource, MemoryError, MemoryId, MemoryItem, MemoryType, Message, Role};
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::answer;
use crate::ask::ask_json;
use crate::conversation::{self, Piece};
use crate::schema;

/// How often a model is asked about the same piece of a conversation until its answer can be read.
pub(crate) const ATTEMPTS: usize = 3;

/// What extraction needs.
#[derive(Clone, Debug)]
pub struct Extractor {
    /// The model that reads conversations.
    pub model: Arc<dyn ChatModel>,
    /// Names new memories.
    pub ids: Arc<dyn IdSource>,
    /// The time of their making.
    pub clock: Arc<dyn Clock>,
}

/// The form in which a memory is asked for; both are read from any answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AnswerForm {
    /// `{"memory list": [{key, value, tags}]}`
    General,
    /// `{"memories": [{memory, metadata: {type}}]}`
    Naive,
}

impl AnswerForm {
    fn prompt(self, language: Language) -> &'static str {
        match (self, language) {
            (Self::General, Language::English) => include_str!("general_english.txt"),
            (Self::General, Language::Chinese) => include_str!("general_chinese.txt"),
            (Self::Naive, Language::English) => include_str!("naive_english.txt"),
            (Self::Naive, Language::Chinese) => include_str!("naive_chinese.txt"),
        }
    }

    fn schema(self) -> Value {
        let (text, texts) = (schema::text(), schema::list(schema::text()));
        let messages = schema::list(schema::number());
        let (name, element) = match self {
            Self::General => {
                let fields = [("key", text.clone()), ("value", text), ("tags", texts), ("messages", messages)];
                ("memory list", schema::object(&fields))
            }
            Self::Naive => {
                let metadata = schema::object(&[("type", text.clone())]);
                ("memories", schema::object(&[("memory", text), ("metadata", metadata), ("messages", messages)]))
            }
        };
        schema::object(&[(name, schema::list(element))])
    }
}

/// The error of a memory that has no model to extract with.
pub(crate) fn no_model(backend: &str) -> MemoryError {
    MemoryError::Unsupported(format!(
        "`{backend}` has no language model to read conversations with; set chat_model in the settings, or extractor_llm in \
         the cube's configuration"
    ))
}

impl Extractor {
    /// Returns the memories that the model finds in a conversation, in its order, each text once.
    pub(crate) async fn memories(
        &self,
        messages: &[Message],
        form: AnswerForm,
    ) -> Result<Vec<MemoryItem>, MemoryError> {
        let mut items: Vec<MemoryItem> = Vec::new();
        for piece in conversation::pieces(messages)? {
            let prompt = form.prompt(piece.language());
            let question = vec![Message::system(prompt.trim_end()), Message::user(piece.text())];
            let answer: Answer = ask_json(self.model.as_ref(), question, &form.schema(), ATTEMPTS).await?;
            for found in answer.found {
                // The message that two pieces share may have been noted twice.
                if !items.iter().any(|known| known.memory == found.text) {
                    items.push(self.item(found, &piece, answer.summary.as_deref()));
                }
            }
        }
        Ok(items)
    }

    fn item(&self, found: Found, piece: &Piece, summary: Option<&str>) -> MemoryItem {
        let now = self.clock.now_text();
        let sources = piece.sources(&found.messages);
        let fields = TreeFields {
            memory_type: memory_type(&sources),
            sources: Some(sources),
            created_at: Some(now.clone()),
            background: Some(summary.unwrap_or_default().to_owned()),
            ..TreeFields::default()
        };
        let mut item = MemoryItem::new(MemoryId::new(self.ids.next_uuid()), found.text);
        item.metadata.key = found.key;
        item.metadata.kind = found.kind;
        item.metadata.tags = Some(found.tags);
        item.metadata.source = Some(SourceKind::Conversation);
        item.metadata.updated_at = Some(now);
        item.metadata.form = MetadataForm::Tree(Box::new(fields));
        item
    }
}

/// What only the user said is about the user.
fn memory_type(sources: &[SourceMessage]) -> MemoryType {
    let is_by_user = |source: &SourceMessage| source.role.as_deref() == Some(Role::User.as_str());
    if sources.iter().all(is_by_user) { MemoryType::User } else { MemoryType::LongTerm }
}

/// One memory of an answer.
#[derive(Debug)]
struct Found {
    text: String,
    key: Option<String>,
    kind: Option<String>,
    tags: Vec<String>,
    messages: Vec<usize>,
}

/// An answer in any of the forms.
#[derive(Debug, Deserialize)]
#[serde(try_from = "Value")]
struct Answer {
    found: Vec<Found>,
    summary: Option<String>,
}

impl TryFrom<Value> for Answer {
    type Error = String;

    fn try_from(value: Value) -> Result<Self, String> {
        let summary = value.as_object().and_then(|map| answer::text(map, &["summary"]));
        let found = answer::read_elements(
            value,
            answer::MEMORY_LIST,
            "the text of a memory (`value` or `memory`)",
            read_element,
        )?;
        Ok(Self { found, summary })
    }
}

/// Returns a memory of the list; `None` for one without a text.
fn read_element(map: Map<String, Value>) -> Option<Found> {
    let nested = map.get("metadata").and_then(Value::as_object);
    let kind = answer::text(&map, &["type"]).or_else(|| nested.and_then(|inner| answer::text(inner, &["type"])));
    Some(Found {
        text: answer::text(&map, &["value", "memory"])?,
        key: answer::text(&map, &["key"]),
        kind,
        tags: answer::texts(&map, "tags"),
        messages: answer::numbers(&map, "messages"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use mos_core::MemoryError;
    use mos_testkit::chat::ScriptedChat;
    use mos_testkit::clock::{CountingIds, SetClock};
    use serde_json::json;

    fn extractor(model: ScriptedChat) -> (Arc<ScriptedChat>, Extractor) {
        let model = Arc::new(model);
        let clock = Arc::new(SetClock::default());
        (Arc::clone(&model), Extractor { model, ids: Arc::new(CountingIds::default()), clock })
    }

    fn conversation() -> Vec<Message> {
        serde_json::from_value(json!([
            {"role": "system", "content": "be brief"},
            {"role": "user", "content": "My dog Max is three.", "message_id": "m1", "chat_time": "2 May 2026"},
            {"role": "assistant", "content": "Nice! A terrier?", "message_id": "m2"},
            {"role": "user", "content": "Yes, a terrier.", "message_id": "m3"},
        ]))
        .unwrap()
    }

    #[tokio::test]
    async fn two_answers_that_are_no_json_are_asked_again_and_the_third_gives_memories() {
        let good = json!({"memory list": [
            {"key": "Dog", "memory_type": "UserMemory", "value": "Max is three years old.", "tags": ["pets"], "messages": [1]},
            {"key": "Breed", "value": "Max is a terrier.", "tags": "pets, dogs"},
            {"key": "no value"},
        ], "summary": "About a dog."});
        let (model, extractor) =
            extractor(ScriptedChat::new(["Let me think.".to_owned(), "{\"memory".to_owned(), good.to_string()]));
        let items = extractor.memories(&conversation(), AnswerForm::General).await.unwrap();
        assert_eq!(model.requests().len(), 3);
        assert_eq!(items.len(), 2);
        let first = &items[0];
        assert_eq!(first.memory, "Max is three years old.");
        assert_eq!(first.metadata.key.as_deref(), Some("Dog"));
        assert_eq!(first.metadata.tags.as_deref(), Some(["pets".to_owned()].as_slice()));
        let fields = first.metadata.tree().unwrap();
        assert_eq!((fields.memory_type, fields.background.as_deref()), (MemoryType::User, Some("About a dog.")));
        let [source] = fields.sources.as_deref().unwrap() else { panic!("one message: {fields:?}") };
        assert_eq!(source.message_id.as_deref(), Some("m1"));
        assert_eq!((source.role.as_deref(), source.chat_time.as_deref()), (Some("user"), Some("2 May 2026")));
        let all = items[1].metadata.tree().unwrap();
        assert_eq!((all.memory_type, all.sources.as_ref().map(Vec::len)), (MemoryType::LongTerm, Some(3)));
        assert_eq!(items[1].metadata.tags.as_ref().map(Vec::len), Some(2));
    }

    #[tokio::test]
    async fn the_naive_form_has_types_and_a_bare_list_is_read_too() {
        let answer = r#"[{"memory": "Max is a terrier.", "metadata": {"type": "fact"}, "messages": [3]}]"#;
        let (model, extractor) = extractor(ScriptedChat::new([answer]));
        let items = extractor.memories(&conversation(), AnswerForm::Naive).await.unwrap();
        assert_eq!((items[0].memory.as_str(), items[0].metadata.kind.as_deref()), ("Max is a terrier.", Some("fact")));
        assert_eq!(model.requests()[0].answer_schema, Some(AnswerForm::Naive.schema()));
        let asked = &model.requests()[0].messages;
        assert!(asked[0].text().contains("\"metadata\"") && asked[1].text().contains("[3] user: Yes, a terrier."));
        assert!(!asked[1].text().contains("be brief"), "instructions are not read as conversation");
    }

    #[tokio::test]
    async fn chinese_is_asked_about_in_chinese_and_nothing_is_a_good_answer() {
        let (model, extractor) = extractor(ScriptedChat::new([r#"{"memory list": []}"#]));
        let items = extractor.memories(&[Message::user("我喜欢踢足球")], AnswerForm::General).await.unwrap();
        assert!(items.is_empty());
        assert!(model.requests()[0].messages[0].text().contains("只用 JSON 回答"));
    }

    #[tokio::test]
    async fn a_repeated_prompt_or_elements_without_text_are_no_answer() {
        let echo = include_str!("general_english.txt").to_owned();
        let (model, extractor) =
            extractor(ScriptedChat::new([echo, r#"{"memory list": [{"key": "x"}]}"#.to_owned(), String::new()]));
        let error = extractor.memories(&conversation(), AnswerForm::General).await.unwrap_err();
        assert!(matches!(error, MemoryError::Model(_)) && error.to_string().contains("3 attempts"), "{error}");
        let reasons: Vec<String> = model.requests()[1..].iter().map(|r| r.messages[3].text()).collect();
        assert!(reasons[0].contains("repeats the format"), "{reasons:?}");
        assert!(reasons[1].contains("no element of the list"), "{reasons:?}");
    }

    #[test]
    fn the_forms_that_prompts_show_are_the_forms_that_are_read() {
        for form in [AnswerForm::General, AnswerForm::Naive] {
            for language in [Language::English, Language::Chinese] {
                let shown = form.prompt(language).trim_end().lines().last().unwrap();
                schema::assert_shows(&form.schema(), &serde_json::from_str(shown).unwrap());
                let answer: Answer = serde_json::from_str(shown).unwrap();
                assert_eq!((answer.found.len(), answer.found[0].messages.as_slice()), (1, [1].as_slice()), "{shown}");
            }
        }
    }
}
