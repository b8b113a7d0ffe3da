//! Making memories.

use mos_core::memory::{MetadataForm, SourceKind, SourceMessage, TreeFields};
use mos_core::{Clock, MemoryId, MemoryItem, MemoryType, ReadInput, Role};
use serde_json::{Map, Value};

use crate::identity::Identity;
use crate::window::Window;

/// The tag of memories that are what was given, as it was.
pub(crate) const FAST: &str = "mode:fast";

/// How sure a reader is of what it notes; MemOS' number.
const CONFIDENCE: f64 = 0.99;

/// The longest title, in characters.
const MAX_KEY_CHARS: usize = 80;

/// A memory that is about to be made.
#[derive(Debug, Default)]
pub(crate) struct Draft {
    pub(crate) text: String,
    pub(crate) memory_type: Option<MemoryType>,
    /// Without one the beginning of the text is taken.
    pub(crate) key: Option<String>,
    /// `fact` unless something else is said.
    pub(crate) kind: Option<String>,
    pub(crate) tags: Vec<String>,
    pub(crate) background: String,
    pub(crate) sources: Vec<SourceMessage>,
    pub(crate) source: Option<SourceKind>,
    pub(crate) file_id: Option<String>,
    pub(crate) extra: Map<String, Value>,
}

/// Makes the memories of one input.
pub(crate) struct Maker<'a> {
    pub(crate) identity: Identity,
    clock: &'a dyn Clock,
    user: Option<String>,
    session: Option<String>,
    info: Map<String, Value>,
}

impl<'a> Maker<'a> {
    pub(crate) fn new(input: &ReadInput, clock: &'a dyn Clock) -> Self {
        let mut info = input.info.clone();
        info.shift_remove("user_id");
        info.shift_remove("session_id");
        Self {
            identity: Identity::of(input),
            clock,
            user: input.user.as_ref().map(ToString::to_string),
            session: input.session.as_ref().map(ToString::to_string),
            info,
        }
    }

    /// Returns a memory.
    pub(crate) fn item(&self, id: MemoryId, draft: Draft) -> MemoryItem {
        let now = self.clock.now_text();
        let last_said = draft.sources.iter().rev().find_map(|source| source.chat_time.clone());
        let fields = TreeFields {
            memory_type: draft.memory_type.unwrap_or(MemoryType::LongTerm),
            sources: Some(draft.sources),
            created_at: Some(now.clone()),
            background: Some(draft.background),
            file_ids: draft.file_id.iter().cloned().collect(),
            ..TreeFields::default()
        };
        let mut info = self.info.clone();
        if let Some(file_id) = draft.file_id {
            info.insert("file_id".to_owned(), Value::String(file_id));
        }
        // Indexes know nothing of sources, and a conversation that is read today may be of long ago.
        if let Some(time) = last_said {
            info.entry("chat_time").or_insert(Value::String(time));
        }
        let key = draft.key.filter(|key| !key.trim().is_empty()).unwrap_or_else(|| derived_key(&draft.text));
        let mut item = MemoryItem::new(id, draft.text);
        let metadata = &mut item.metadata;
        metadata.user_id.clone_from(&self.user);
        metadata.session_id.clone_from(&self.session);
        metadata.kind = Some(draft.kind.unwrap_or_else(|| "fact".to_owned()));
        metadata.key = Some(key);
        metadata.confidence = Some(CONFIDENCE);
        metadata.source = draft.source;
        metadata.tags = Some(draft.tags);
        metadata.updated_at = Some(now);
        metadata.info = Some(info);
        metadata.extra = draft.extra;
        metadata.form = MetadataForm::Tree(Box::new(fields));
        item
    }

    /// Returns the memory of a window as it was.
    pub(crate) fn window(&self, window: &Window) -> MemoryItem {
        let identity = window.turns.iter().flat_map(|turn| turn.identity());
        let id = self.identity.memory("window", identity);
        let draft = Draft {
            text: window.text(),
            memory_type: Some(by_speakers(window.turns.iter().map(|turn| turn.role))),
            tags: vec![FAST.to_owned()],
            sources: window.turns.iter().flat_map(|turn| turn.sources.clone()).collect(),
            source: Some(SourceKind::Conversation),
            ..Draft::default()
        };
        self.item(id, draft)
    }
}

/// What only the user said is about the user.
pub(crate) fn by_speakers(roles: impl IntoIterator<Item = Role>) -> MemoryType {
    if roles.into_iter().all(|role| role == Role::User) { MemoryType::User } else { MemoryType::LongTerm }
}

/// Returns the first sentence or line of a text, at most 80 characters of it; a full stop ends no sentence here, because
/// times and numbers have them.
pub(crate) fn derived_key(text: &str) -> String {
    let text = text.trim();
    let first = text.split(['。', '！', '？', '!', '?', '\n']).next().unwrap_or_default();
    let cut: String = first.chars().take(MAX_KEY_CHARS).collect();
    cut.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use mos_testkit::clock::SetClock;
    use serde_json::json;

    use super::*;

    #[test]
    fn keys_are_those_of_memos() {
        assert_eq!(derived_key("What hotel? In Guangzhou"), "What hotel");
        assert_eq!(derived_key("line one\nline two. more"), "line one");
        assert_eq!(derived_key("GPT-4 and the 3 dogs' food"), "GPT-4 and the 3 dogs' food");
        assert_eq!(derived_key(&"x".repeat(100)).len(), 80);
        assert_eq!(derived_key(""), "");
    }

    #[test]
    fn memories_tell_when_their_last_message_was_said() {
        let (clock, mut input) = (SetClock::default(), ReadInput::default());
        let said = |time: &str| SourceMessage { chat_time: Some(time.to_owned()), ..SourceMessage::default() };
        let draft = || Draft {
            text: "Anna moved.".to_owned(),
            sources: vec![said("2023-05-08"), said("2023-05-09"), SourceMessage::default()],
            ..Draft::default()
        };
        let told = |input: &ReadInput, draft: Draft| {
            let item = Maker::new(input, &clock).item(MemoryId::from("a"), draft);
            item.metadata.info.unwrap_or_default().get("chat_time").cloned()
        };
        assert_eq!(told(&input, draft()), Some(json!("2023-05-09")));
        assert_eq!(told(&input, Draft::default()), None, "nothing is made up");
        input.info.insert("chat_time".to_owned(), json!("2023-05-10"));
        assert_eq!(told(&input, draft()), Some(json!("2023-05-10")), "the application knows better");
    }

    #[test]
    fn what_only_the_user_said_is_about_the_user() {
        assert_eq!(by_speakers([Role::User, Role::User]), MemoryType::User);
        assert_eq!(by_speakers([Role::User, Role::Assistant]), MemoryType::LongTerm);
    }
}
