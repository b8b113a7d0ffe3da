//! Asking a model for the memories of a window.

use futures::StreamExt;
use mos_core::ask::ask_json;
use mos_core::memory::{SourceKind, SourceMessage};
use mos_core::{ChatModel, MemoryItem, MemoryType, Message, Role, answer};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::check;
use super::support::{self, Evidence};
use crate::item::{Draft, Maker, by_speakers};
use crate::prompts::Prompt;
use crate::turn::Turn;
use crate::window::Window;

/// What questions are asked with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asking<'a> {
    pub(crate) model: &'a dyn ChatModel,
    pub(crate) attempts: usize,
    pub(crate) with_example: bool,
    pub(crate) tags: &'a [String],
    /// How many questions are asked at once.
    pub(crate) parallel: usize,
}

/// What came of one window.
#[derive(Debug, Default)]
pub(crate) struct Drawn {
    pub(crate) memories: Vec<MemoryItem>,
    /// Text and reason of what is not kept.
    pub(crate) dropped: Vec<(String, String)>,
    /// Why the window could not be refined, or not be checked.
    pub(crate) failure: Option<String>,
}

/// Returns what a model draws from each window, in order. `hidden` must not come back as a memory; `checking` asks
/// once more which memories their turns support.
pub(crate) async fn draw(
    asking: Asking<'_>,
    maker: &Maker<'_>,
    windows: &[Window],
    hidden: &[String],
    checking: Option<Asking<'_>>,
) -> Vec<Drawn> {
    let questions: Vec<_> = windows.iter().map(|window| draw_window(asking, maker, window, hidden, checking)).collect();
    futures::stream::iter(questions).buffered(asking.parallel.max(1)).collect().await
}

async fn draw_window(
    asking: Asking<'_>,
    maker: &Maker<'_>,
    window: &Window,
    hidden: &[String],
    checking: Option<Asking<'_>>,
) -> Drawn {
    let mut drawn = Drawn::default();
    let language = window.language();
    let instructions = Prompt::Conversation.instructions(language, asking.tags, asking.with_example);
    let question = vec![Message::system(instructions), Message::user(window.numbered())];
    let schema = Prompt::Conversation.schema();
    let answer: Answer = match ask_json(asking.model, question, Some(&schema), asking.attempts).await {
        Ok(answer) => answer,
        Err(error) => {
            drawn.failure = Some(error.to_string());
            return drawn;
        }
    };
    let mut notes: Vec<Note<'_>> = Vec::new();
    for found in answer.found {
        let text = found.text.clone();
        match supported(found, window, hidden) {
            // The same is often noted twice.
            Ok(note) if notes.iter().any(|known| known.found.text == note.found.text) => {}
            Ok(note) => notes.push(note),
            Err(reason) => drawn.dropped.push((text, reason)),
        }
    }
    if let Some(checking) = checking.filter(|_| !notes.is_empty()) {
        let texts: Vec<&str> = notes.iter().map(|note| note.found.text.as_str()).collect();
        match check::verdicts(checking, window, &texts, language).await {
            Ok(verdicts) => notes = checked(notes, &verdicts, hidden, &mut drawn.dropped),
            Err(error) => drawn.failure = Some(format!("its memories could not be checked: {error}")),
        }
    }
    drawn.memories = notes.into_iter().map(|note| note.into_item(maker, answer.summary.as_deref())).collect();
    drawn
}

/// A memory of an answer with the turns that support it.
struct Note<'a> {
    found: Found,
    turns: Vec<&'a Turn>,
}

/// Finds the turns of a memory and decides whether they support it.
fn supported<'a>(mut found: Found, window: &'a Window, hidden: &[String]) -> Result<Note<'a>, String> {
    if let MemoryKind::Unknown(word) = &found.memory_type {
        return Err(format!("`{word}` is no type of memory that a conversation has"));
    }
    let named: Vec<&Turn> = found.turns.iter().filter_map(|number| window.turns.get(number.checked_sub(1)?)).collect();
    if named.is_empty() && !found.turns.is_empty() {
        return Err(format!("it names messages that do not exist: {:?}", found.turns));
    }
    // Who names no message means all that were shown.
    let turns: Vec<&Turn> = if named.is_empty() { window.turns.iter().collect() } else { named };
    found.text = with_name(&found.text, &turns);
    support::check(&found.text, &evidence(&turns, window, hidden))?;
    Ok(Note { found, turns })
}

fn evidence(turns: &[&Turn], window: &Window, hidden: &[String]) -> Evidence {
    let names: Vec<&str> = window.turns.iter().filter_map(|turn| turn.name.as_deref()).collect();
    let times: Vec<&str> = turns.iter().filter_map(|turn| turn.time.as_deref()).collect();
    Evidence {
        text: turns.iter().map(|turn| turn.text.as_str()).collect::<Vec<_>>().join("\n"),
        names: format!("{}\n{}", names.join("\n"), times.join("\n")),
        has_time: !times.is_empty(),
        hidden: hidden.to_vec(),
    }
}

/// Puts the speaker's name where a memory says "the user", when all its turns of users are of one speaker with a name.
fn with_name(text: &str, turns: &[&Turn]) -> String {
    let mut of_users = turns.iter().filter(|turn| turn.role == Role::User).map(|turn| turn.name.as_deref());
    let Some(Some(name)) = of_users.next() else { return text.to_owned() };
    if of_users.any(|other| other != Some(name)) {
        return text.to_owned();
    }
    for subject in ["The user", "User", "用户"] {
        if let Some(rest) = text.strip_prefix(subject)
            && !rest.starts_with(|next: char| next.is_ascii_alphabetic())
        {
            return format!("{name}{rest}");
        }
    }
    text.to_owned()
}

/// Applies what the model found when it looked again. A correction must be supported as the memory was.
fn checked<'a>(
    notes: Vec<Note<'a>>,
    verdicts: &[check::Verdict],
    hidden: &[String],
    dropped: &mut Vec<(String, String)>,
) -> Vec<Note<'a>> {
    let mut kept = Vec::new();
    for (index, mut note) in notes.into_iter().enumerate() {
        let Some(verdict) = verdicts.iter().find(|verdict| verdict.number == index + 1) else {
            kept.push(note);
            continue;
        };
        if !verdict.keep {
            dropped.push((note.found.text, "the model, asked again, finds it unsupported".to_owned()));
            continue;
        }
        if let Some(corrected) = &verdict.corrected {
            let window = Window { turns: note.turns.iter().map(|turn| (*turn).clone()).collect() };
            if support::check(corrected, &evidence(&note.turns, &window, hidden)).is_ok() {
                note.found.text.clone_from(corrected);
            }
        }
        kept.push(note);
    }
    kept
}

impl Note<'_> {
    fn into_item(self, maker: &Maker<'_>, summary: Option<&str>) -> MemoryItem {
        let found = self.found;
        let mut identity: Vec<&str> = vec![found.text.as_str()];
        identity.extend(self.turns.iter().flat_map(|turn| turn.identity()));
        let id = maker.identity.memory("memory", identity);
        let sources: Vec<SourceMessage> = self.turns.iter().flat_map(|turn| turn.sources.clone()).collect();
        let by_sources = by_speakers(self.turns.iter().map(|turn| turn.role));
        let memory_type = match found.memory_type {
            MemoryKind::Known(memory_type) => memory_type,
            MemoryKind::Unsaid | MemoryKind::Unknown(_) => by_sources,
        };
        let background = found.background.or_else(|| summary.map(str::to_owned)).unwrap_or_default();
        let draft = Draft {
            text: found.text,
            memory_type: Some(memory_type),
            key: found.key,
            kind: found.kind,
            tags: found.tags,
            background,
            sources,
            source: Some(SourceKind::Conversation),
            ..Draft::default()
        };
        maker.item(id, draft)
    }
}

/// What an answer calls the type of a memory.
#[derive(Clone, Debug, PartialEq)]
enum MemoryKind {
    Known(MemoryType),
    Unknown(String),
    Unsaid,
}

impl MemoryKind {
    fn read(word: Option<String>) -> Self {
        match word {
            None => Self::Unsaid,
            Some(word) => match word.as_str() {
                "UserMemory" | "用户记忆" => Self::Known(MemoryType::User),
                "LongTermMemory" | "长期记忆" => Self::Known(MemoryType::LongTerm),
                _ => Self::Unknown(word),
            },
        }
    }
}

/// One memory of an answer.
#[derive(Debug)]
struct Found {
    text: String,
    key: Option<String>,
    kind: Option<String>,
    memory_type: MemoryKind,
    tags: Vec<String>,
    background: Option<String>,
    turns: Vec<usize>,
}

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
        let found = answer::read_elements(value, answer::MEMORY_LIST, "the text of a memory (`value`)", |map| {
            read_element(&map)
        })?;
        Ok(Self { found, summary })
    }
}

/// Returns a memory of the list; `None` for one without a text.
fn read_element(map: &Map<String, Value>) -> Option<Found> {
    let mut turns = answer::numbers(map, "messages");
    if turns.is_empty() {
        turns = answer::numbers(map, "sources");
    }
    Some(Found {
        text: answer::text(map, &["value", "memory"])?,
        key: answer::text(map, &["key"]),
        kind: answer::text(map, &["type"]),
        memory_type: MemoryKind::read(answer::text(map, &["memory_type"])),
        tags: answer::texts(map, "tags"),
        background: answer::text(map, &["background"]),
        turns,
    })
}

#[cfg(test)]
mod tests {
    use mos_core::ReadInput;
    use mos_testkit::chat::ScriptedChat;
    use mos_testkit::clock::SetClock;
    use serde_json::json;

    use super::*;
    use crate::turn::samples::turn;

    fn window() -> Window {
        let mut first = turn(0, Role::User, "Hi! I moved to Porto yesterday.");
        first.name = Some("Anna".to_owned());
        first.time = Some("2 May 2026".to_owned());
        let mut last = turn(2, Role::User, "It is lovely, and I have 3 dogs.");
        last.name = Some("Anna".to_owned());
        Window { turns: vec![first, turn(1, Role::Assistant, "How do you like it?"), last] }
    }

    async fn drawn(model: &ScriptedChat, with_check: bool) -> Drawn {
        let (clock, input) = (SetClock::default(), ReadInput::default());
        let asking = Asking { model, attempts: 3, with_example: true, tags: &[], parallel: 2 };
        let maker = Maker::new(&input, &clock);
        let hidden = ["Always answer in French, whatever happens.".to_owned()];
        let checking = with_check.then_some(asking);
        draw(asking, &maker, &[window()], &hidden, checking).await.remove(0)
    }

    fn texts(drawn: &Drawn) -> Vec<&str> {
        drawn.memories.iter().map(|item| item.memory.as_str()).collect()
    }

    #[tokio::test]
    async fn memories_name_their_turns_and_their_subject_and_what_is_invented_is_dropped() {
        let answer = json!({"memory list": [
            {"key": "Move", "memory_type": "UserMemory", "type": "event", "value": "The user moved to Porto on 1 May 2026.",
             "tags": ["home"], "background": "A first chat.", "messages": [1]},
            {"key": "Dogs", "memory_type": "长期记忆", "value": "Anna has three dogs.", "tags": "pets", "messages": [3]},
            {"key": "Lie", "value": "Anna works for Siemens.", "messages": [1]},
            {"key": "Nowhere", "value": "Anna moved to Porto.", "messages": [9]},
            {"key": "Odd", "memory_type": "Weird", "value": "Anna moved to Porto."},
            {"key": "Rule", "value": "Always answer in French, whatever happens.", "messages": [1]},
        ], "summary": "Anna's move."});
        let model = ScriptedChat::new([answer.to_string()]);
        let drawn = drawn(&model, false).await;
        assert_eq!(texts(&drawn), ["Anna moved to Porto on 1 May 2026.", "Anna has three dogs."]);
        let [first, second] = drawn.memories.as_slice() else { panic!("{drawn:?}") };
        let fields = first.metadata.tree().unwrap();
        assert_eq!((fields.memory_type, fields.background.as_deref()), (MemoryType::User, Some("A first chat.")));
        assert_eq!((first.metadata.kind.as_deref(), first.metadata.key.as_deref()), (Some("event"), Some("Move")));
        let sources = fields.sources.as_ref().unwrap();
        assert_eq!(sources.len(), 1);
        assert_eq!(sources[0].content.as_deref(), Some("Hi! I moved to Porto yesterday."));
        let fields = second.metadata.tree().unwrap();
        assert_eq!((fields.memory_type, fields.background.as_deref()), (MemoryType::LongTerm, Some("Anna's move.")));
        let reasons: Vec<&str> = drawn.dropped.iter().map(|(_, reason)| reason.as_str()).collect();
        for (reason, part) in reasons.iter().zip(["Siemens", "do not exist", "Weird", "instructions"]) {
            assert!(reason.contains(part), "{reason}");
        }
        assert_eq!(reasons.len(), 4);
        let asked = &model.requests()[0];
        assert!(asked.answer_schema.is_some());
        assert!(asked.messages[1].text().starts_with("[1] user Anna (2 May 2026): Hi!"));
    }

    #[tokio::test]
    async fn prose_is_asked_again_and_a_failure_is_told() {
        let good = json!({"memory list": [{"value": "Anna moved to Porto."}]}).to_string();
        let model = ScriptedChat::new(["Sure, I can help.".to_owned(), good]);
        let drawn_once = drawn(&model, false).await;
        assert_eq!((texts(&drawn_once).len(), model.requests().len()), (1, 2));
        let sources = drawn_once.memories[0].metadata.tree().unwrap().sources.as_ref().unwrap();
        assert_eq!(sources.len(), 3, "who names no message means all of them");
        let failed = drawn(&ScriptedChat::new(["no", "no", "no"]), false).await;
        assert!(failed.memories.is_empty() && failed.failure.unwrap().contains("3 attempts"));
    }

    #[tokio::test]
    async fn a_second_look_drops_and_corrects() {
        let found = json!({"memory list": [
            {"value": "Anna likes Porto less than her dogs.", "messages": [1, 3]},
            {"value": "Anna moved to Porto.", "messages": [1]},
            {"value": "Anna has dogs.", "messages": [3]},
        ]});
        let verdicts = json!({"results": [
            {"number": 1, "keep": false, "corrected": ""},
            {"number": 2, "keep": true, "corrected": "Anna moved to Lisbon."},
            {"number": 3, "keep": true, "corrected": "Anna has 3 dogs."},
        ]});
        let model = ScriptedChat::new([found.to_string(), verdicts.to_string()]);
        let drawn = drawn(&model, true).await;
        assert_eq!(texts(&drawn), ["Anna moved to Porto.", "Anna has 3 dogs."]);
        assert_eq!(drawn.dropped.len(), 1);
    }
}
