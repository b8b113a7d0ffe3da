//! Preferences that a language model finds in a conversation: stated ones and concluded ones, asked for apart.

use mos_core::language::Language;
use mos_core::memory::{MetadataForm, SourceKind, TreeFields};
use mos_core::{
    ChatModel, Clock, ConversationInfo, IdSource, MemoryError, MemoryId, MemoryItem, MemoryType, Message,
    PreferenceType,
};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::same_words;
use crate::answer;
use crate::ask::ask_json;
use crate::conversation::{self, Piece};
use crate::extract::ATTEMPTS;
use crate::schema;

/// What new items are made with.
pub(super) struct Making<'a> {
    pub(super) model: &'a dyn ChatModel,
    pub(super) ids: &'a dyn IdSource,
    pub(super) clock: &'a dyn Clock,
    pub(super) info: &'a ConversationInfo,
    /// The cube, as MemOS notes it in preferences.
    pub(super) cube: &'a str,
}

fn prompt(kind: PreferenceType, language: Language) -> &'static str {
    match (kind, language) {
        (PreferenceType::Explicit, Language::English) => include_str!("explicit_english.txt"),
        (PreferenceType::Explicit, Language::Chinese) => include_str!("explicit_chinese.txt"),
        (PreferenceType::Implicit, Language::English) => include_str!("implicit_english.txt"),
        (PreferenceType::Implicit, Language::Chinese) => include_str!("implicit_chinese.txt"),
    }
}

fn answer_schema() -> Value {
    let preference = schema::object(&[
        ("preference", schema::text()),
        ("topic", schema::text()),
        ("context", schema::text()),
        ("evidence", schema::text()),
        ("reasoning", schema::text()),
        ("messages", schema::list(schema::number())),
    ]);
    schema::object(&[("preferences", schema::list(preference))])
}

/// Returns the preferences of a conversation, piece by piece, stated ones before concluded ones, each once.
///
/// What the model calls stated counts as concluded unless the user did say its evidence.
pub(super) async fn preferences(making: &Making<'_>, messages: &[Message]) -> Result<Vec<MemoryItem>, MemoryError> {
    let mut items: Vec<MemoryItem> = Vec::new();
    for piece in conversation::pieces(messages)? {
        let (explicit, implicit) = futures::try_join!(
            ask(making, &piece, PreferenceType::Explicit),
            ask(making, &piece, PreferenceType::Implicit),
        )?;
        let stated = explicit.into_iter().map(|found| {
            let is_said = found.evidence.as_deref().is_some_and(|words| piece.user_said(words));
            (if is_said { PreferenceType::Explicit } else { PreferenceType::Implicit }, found)
        });
        let concluded = implicit.into_iter().map(|found| (PreferenceType::Implicit, found));
        let mut all: Vec<(PreferenceType, Found)> = stated.chain(concluded).collect();
        all.sort_by_key(|(kind, _)| *kind);
        for (kind, found) in all {
            if !items.iter().any(|known| same_words(&known.memory, &found.preference)) {
                items.push(making.item(kind, found, &piece));
            }
        }
    }
    Ok(items)
}

async fn ask(making: &Making<'_>, piece: &Piece, kind: PreferenceType) -> Result<Vec<Found>, MemoryError> {
    let prompt = prompt(kind, piece.language());
    let question = vec![Message::system(prompt.trim_end()), Message::user(piece.text())];
    let answer: Answer = ask_json(making.model, question, &answer_schema(), ATTEMPTS).await?;
    Ok(answer.0)
}

impl Making<'_> {
    fn item(&self, kind: PreferenceType, found: Found, piece: &Piece) -> MemoryItem {
        let now = self.clock.now_text();
        let fields = TreeFields {
            memory_type: MemoryType::Preference,
            sources: Some(piece.sources(&found.messages)),
            created_at: Some(now.clone()),
            background: Some(found.context.unwrap_or_default()),
            ..TreeFields::default()
        };
        let mut item = MemoryItem::new(MemoryId::new(self.ids.next_uuid()), found.preference);
        let metadata = &mut item.metadata;
        metadata.user_id = self.info.user.as_ref().map(ToString::to_string);
        metadata.session_id = self.info.session.as_ref().map(ToString::to_string);
        metadata.key.clone_from(&found.topic);
        metadata.tags = Some(found.topic.clone().into_iter().collect());
        metadata.source = Some(SourceKind::Conversation);
        metadata.updated_at = Some(now);
        metadata.form = MetadataForm::Tree(Box::new(fields));
        let extra = [
            ("preference_type", Some(kind.as_str().to_owned())),
            ("preference", Some(item.memory.clone())),
            ("reasoning", found.reasoning),
            ("topic", found.topic),
            ("original_text", found.evidence),
            ("mem_cube_id", Some(self.cube.to_owned())),
        ];
        let extra = extra.into_iter().filter_map(|(key, value)| Some((key.to_owned(), Value::String(value?))));
        metadata.extra.extend(extra);
        item
    }
}

/// One preference of an answer.
#[derive(Debug)]
struct Found {
    preference: String,
    topic: Option<String>,
    context: Option<String>,
    evidence: Option<String>,
    reasoning: Option<String>,
    messages: Vec<usize>,
}

#[derive(Debug, Deserialize)]
#[serde(try_from = "Value")]
struct Answer(Vec<Found>);

impl TryFrom<Value> for Answer {
    type Error = String;

    fn try_from(value: Value) -> Result<Self, String> {
        answer::read_elements(value, &["preferences"], "a `preference`", read_element).map(Self)
    }
}

/// Returns a preference of the list; `None` for one that says nothing. MemOS' names for the fields are read too.
fn read_element(map: Map<String, Value>) -> Option<Found> {
    Some(Found {
        preference: answer::text(&map, &["preference", "explicit_preference", "implicit_preference"])?,
        topic: answer::text(&map, &["topic"]),
        context: answer::text(&map, &["context", "context_summary"]),
        evidence: answer::text(&map, &["evidence", "original_text"]),
        reasoning: answer::text(&map, &["reasoning"]),
        messages: answer::numbers(&map, "messages"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use mos_testkit::chat::ScriptedChat;
    use mos_testkit::clock::{CountingIds, SetClock};
    use serde_json::json;

    /// Answers the question for stated preferences with one text and the other with another.
    fn model(explicit: Value, implicit: Value) -> ScriptedChat {
        ScriptedChat::answering(move |request| {
            let asks_stated = request.messages[0].text().contains("in so many words. \"evidence\"");
            if asks_stated { explicit.to_string() } else { implicit.to_string() }
        })
    }

    async fn extract(model: &ScriptedChat, messages: &[Message]) -> Result<Vec<MemoryItem>, MemoryError> {
        let info = ConversationInfo { user: Some("ann".into()), session: Some("s1".into()) };
        let (ids, clock) = (CountingIds::default(), SetClock::default());
        preferences(&Making { model, ids: &ids, clock: &clock, info: &info, cube: "notes" }, messages).await
    }

    fn hotel() -> Vec<Message> {
        vec![
            Message::user("I plan to travel to Guangzhou. Which chain hotels are there?"),
            Message::assistant("You can consider 7 Days Inn, Ji Hotel or Hilton."),
            Message { message_id: Some("m3".to_owned()), ..Message::user("I’ll choose 7 Days Inn.") },
        ]
    }

    #[tokio::test]
    async fn stated_and_concluded_preferences_carry_evidence_and_sources() {
        let explicit = json!({"preferences": [{"preference": "The user prefers 7 Days Inn.", "topic": "hotels",
            "context": "A trip to Guangzhou.", "evidence": "I'll choose 7 Days Inn", "reasoning": "a choice",
            "messages": [3]}]});
        let implicit =
            json!([{"preference": "The user seems to prefer cheap chain hotels.", "evidence": "asks for chains"}]);
        let items = extract(&model(explicit, implicit), &hotel()).await.unwrap();
        assert_eq!(items.len(), 2);
        let metadata = &items[0].metadata;
        assert_eq!(items[0].memory, "The user prefers 7 Days Inn.");
        assert_eq!(metadata.extra["preference_type"], "explicit_preference");
        assert_eq!(metadata.extra["original_text"], "I'll choose 7 Days Inn");
        assert_eq!((metadata.user_id.as_deref(), metadata.session_id.as_deref()), (Some("ann"), Some("s1")));
        let fields = metadata.tree().unwrap();
        assert_eq!(fields.memory_type, MemoryType::Preference);
        let sources = fields.sources.as_ref().unwrap();
        assert_eq!((sources.len(), sources[0].message_id.as_deref()), (1, Some("m3")));
        assert_eq!(items[1].metadata.extra["preference_type"], "implicit_preference");
        let stored = MemoryItem::from_value(items[0].to_value(), String::new).unwrap();
        assert_eq!(stored, items[0], "nothing is lost on the way through JSON");
    }

    #[tokio::test]
    async fn what_the_user_did_not_say_is_not_stated_and_nothing_comes_twice() {
        let invented = json!({"preferences": [
            {"preference": "The user prefers Hilton.", "evidence": "I love Hilton"},
            {"preference": "The user prefers 7 Days Inn.", "evidence": "7 days inn"},
        ]});
        let again = json!({"preferences": [{"preference": "the user prefers 7 Days Inn"}]});
        let items = extract(&model(invented, again), &hotel()).await.unwrap();
        let kinds: Vec<(&str, &Value)> =
            items.iter().map(|item| (item.memory.as_str(), &item.metadata.extra["preference_type"])).collect();
        assert_eq!(
            kinds,
            [
                ("The user prefers 7 Days Inn.", &json!("explicit_preference")),
                ("The user prefers Hilton.", &json!("implicit_preference")),
            ]
        );
    }

    #[tokio::test]
    async fn long_conversations_are_asked_about_in_pieces() {
        let none = json!({"preferences": []});
        let model = model(none.clone(), none);
        let messages: Vec<Message> = (0..30).map(|n| Message::user(format!("{n} {}", "word ".repeat(200)))).collect();
        assert!(extract(&model, &messages).await.unwrap().is_empty());
        let longest = model.requests().iter().map(|request| request.messages[1].text().len()).max().unwrap();
        assert!(model.requests().iter().all(|request| request.answer_schema == Some(answer_schema())));
        assert!(model.requests().len() >= 6 && longest < 14_500, "{longest}");
    }

    #[test]
    fn the_forms_that_prompts_show_are_the_forms_that_are_read() {
        for kind in [PreferenceType::Explicit, PreferenceType::Implicit] {
            for language in [Language::English, Language::Chinese] {
                let shown = prompt(kind, language).trim_end().lines().last().unwrap();
                schema::assert_shows(&answer_schema(), &serde_json::from_str(shown).unwrap());
                let Answer(found) = serde_json::from_str(shown).unwrap();
                assert!(found.len() == 1 && found[0].evidence.is_some() && found[0].context.is_some(), "{shown}");
            }
        }
    }
}
