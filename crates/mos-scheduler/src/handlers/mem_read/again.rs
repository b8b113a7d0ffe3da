//! Raw memories as the input that they were made of.

use mos_core::memory::SourceMessage;
use mos_core::{
    Content, CubeId, FileData, MemoryItem, Message, RawFile, RawItem, ReadInput, Role, SessionId, Sources, UserId,
};
use serde_json::{Map, Value, json};

/// How many messages that are memories of their own are read as one conversation, and how many characters they have.
const MAX_TOGETHER: usize = 20;
const MAX_TOGETHER_CHARS: usize = 12_000;

/// The tag of memories of files.
const FILE: &str = "multimodal:file";

/// Before the calls in a source that quotes them.
const TOOL_CALLS: &str = "[tool_calls]: ";

/// What data of the application describes one message, and not the conversation.
const OF_MESSAGE: [&str; 6] = ["role", "name", "chat_time", "message_id", "tool_call_id", "file_id"];

/// What raw memories are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// What was said, or a text.
    Said,
    /// A piece of a file.
    Chunk,
    /// That there was a file or an image, whose content is elsewhere.
    Reference,
}

/// Raw memories that are read together.
#[derive(Debug)]
pub(super) struct Portion {
    pub(super) kind: Kind,
    pub(super) raws: Vec<MemoryItem>,
    pub(super) items: Vec<RawItem>,
    n_chars: usize,
    /// Whether further messages may join.
    is_open: bool,
}

impl Portion {
    /// Returns what a reader is given. Where a raw memory does not say whose it is, it is `user`'s.
    pub(super) fn input(&self, user: &UserId, cube: &CubeId, custom_tags: Vec<String>) -> ReadInput {
        let metadata = self.raws.first().map(|raw| &raw.metadata);
        let owner = metadata.and_then(|metadata| metadata.user_id.as_deref());
        let mut info = metadata.and_then(|metadata| metadata.info.clone()).unwrap_or_default();
        for key in OF_MESSAGE {
            info.shift_remove(key);
        }
        ReadInput {
            items: self.items.clone(),
            user: Some(owner.map_or_else(|| user.clone(), UserId::from)),
            session: metadata.and_then(|metadata| metadata.session_id.as_deref()).map(SessionId::from),
            cube: Some(cube.clone()),
            info,
            custom_tags,
            sources: Sources::of_request(),
            ..ReadInput::default()
        }
    }

    fn takes(&self, kind: Kind, raw: &MemoryItem, n_chars: usize) -> bool {
        let same_place = self.raws.first().is_some_and(|first| {
            let (first, raw) = (&first.metadata, &raw.metadata);
            (&first.user_id, &first.session_id) == (&raw.user_id, &raw.session_id)
        });
        let has_room = self.raws.len() < MAX_TOGETHER && self.n_chars + n_chars <= MAX_TOGETHER_CHARS;
        self.is_open && self.kind == kind && same_place && has_room
    }
}

/// Returns raw memories in portions, in order. Messages that are memories of their own and follow each other in one session
/// are read together: one alone is seldom understood. What cannot be read again (an image whose data was not kept) is left
/// out.
pub(super) fn portions(raws: Vec<MemoryItem>) -> Vec<Portion> {
    let mut portions: Vec<Portion> = Vec::new();
    for raw in raws {
        let Some((kind, mut items)) = read_again(&raw) else { continue };
        let n_chars = raw.memory.chars().count();
        let is_open = matches!(items.as_slice(), [RawItem::Message(_)]);
        match portions.last_mut() {
            Some(last) if is_open && last.takes(kind, &raw, n_chars) => {
                last.items.append(&mut items);
                last.raws.push(raw);
                last.n_chars += n_chars;
            }
            _ => portions.push(Portion { kind, raws: vec![raw], items, n_chars, is_open }),
        }
    }
    portions
}

fn read_again(raw: &MemoryItem) -> Option<(Kind, Vec<RawItem>)> {
    let sources = raw.metadata.tree().and_then(|fields| fields.sources.as_deref()).unwrap_or_default();
    let first = sources.first();
    if raw.metadata.tags.iter().flatten().any(|tag| tag == FILE) {
        return match first {
            Some(source) if source.extra.contains_key("not_read") => {
                Some((Kind::Reference, vec![RawItem::File(named_file(source)?)]))
            }
            _ => Some((Kind::Chunk, vec![RawItem::File(chunk(raw))])),
        };
    }
    match first.map(|source| source.kind.as_str()) {
        Some("image") => Some((Kind::Reference, vec![image(first?)?])),
        Some("audio") => None,
        _ => Some((Kind::Said, said(raw, sources))),
    }
}

fn said(raw: &MemoryItem, sources: &[SourceMessage]) -> Vec<RawItem> {
    let own = message_of(raw).filter(|_| sources.len() <= 1);
    let messages = own.map_or_else(|| messages_of(sources), |message| vec![message]);
    if messages.is_empty() {
        return vec![RawItem::Text(raw.memory.clone())];
    }
    messages.into_iter().map(RawItem::Message).collect()
}

/// The turns that sources tell of; several sources of one turn become one message again.
fn messages_of(sources: &[SourceMessage]) -> Vec<Message> {
    let mut turns: Vec<(Option<i64>, Message)> = Vec::new();
    for source in sources {
        let content = source.content.as_deref().filter(|content| !content.trim().is_empty());
        let (Some(role), Some(content)) = (source.role.as_deref().and_then(role_of), content) else { continue };
        let index = source.extra.get("index").and_then(Value::as_i64);
        let goes_on = turns.last().is_some_and(|(last, turn)| index.is_some() && *last == index && turn.role == role);
        if !goes_on {
            let text = |key: &str| source.extra.get(key).and_then(Value::as_str).map(str::to_owned);
            let turn = Message {
                content: None,
                name: text("name"),
                tool_call_id: text("tool_call_id"),
                chat_time: source.chat_time.clone(),
                message_id: source.message_id.clone(),
                ..Message::new(role, "")
            };
            turns.push((index, turn));
        }
        if let Some((_, turn)) = turns.last_mut() {
            say(turn, &source.kind, content);
        }
    }
    turns.into_iter().map(|(_, turn)| turn).collect()
}

fn say(turn: &mut Message, kind: &str, content: &str) {
    let calls = content.strip_prefix(TOOL_CALLS).filter(|_| kind == "tool_calls");
    if let Some(Ok(calls)) = calls.map(serde_json::from_str::<Vec<Value>>) {
        turn.tool_calls = Some(calls);
        return;
    }
    let said = if kind == "refusal" { format!("[refusal]: {content}") } else { content.to_owned() };
    let before = turn.text();
    let text = if before.is_empty() { said } else { format!("{before}\n{said}") };
    turn.content = Some(Content::Text(text));
}

/// The message that a memory is the text of.
fn message_of(raw: &MemoryItem) -> Option<Message> {
    let info = raw.metadata.info.as_ref()?;
    let text = |key: &str| info.get(key).and_then(Value::as_str).map(str::to_owned);
    let role = role_of(text("role")?.as_str())?;
    Some(Message {
        name: text("name"),
        tool_call_id: text("tool_call_id"),
        chat_time: text("chat_time"),
        message_id: text("message_id"),
        ..Message::new(role, raw.memory.as_str())
    })
}

fn role_of(word: &str) -> Option<Role> {
    [Role::System, Role::User, Role::Assistant, Role::Tool].into_iter().find(|role| role.as_str() == word)
}

/// A piece of a file as a file of text.
fn chunk(raw: &MemoryItem) -> RawFile {
    let fields = raw.metadata.tree();
    let id = fields.and_then(|fields| fields.file_ids.first().cloned());
    // What is drawn from a stranger's page is a stranger's, too.
    let source = fields.and_then(|fields| fields.sources.as_deref()?.first());
    let url = source.and_then(|source| source.extra.get("url")?.as_str()).map(str::to_owned);
    // The name of the whole file may promise another format.
    RawFile { id, name: Some("piece.txt".to_owned()), url, data: FileData::Bytes(raw.memory.as_bytes().to_vec()) }
}

/// A file that was not read, when it says where it is.
fn named_file(source: &SourceMessage) -> Option<RawFile> {
    let info = |key: &str| source.file_info.as_ref()?.get(key)?.as_str();
    let url = info("file_data").or(source.doc_path.as_deref()).filter(|url| is_url(url))?;
    Some(RawFile {
        id: info("file_id").map(str::to_owned),
        name: info("filename").map(str::to_owned),
        url: None,
        data: FileData::Text(url.to_owned()),
    })
}

fn image(source: &SourceMessage) -> Option<RawItem> {
    let url = source.image_info.as_ref()?.get("url")?.as_str().filter(|url| is_url(url))?;
    let detail = source.extra.get("detail").and_then(Value::as_str).unwrap_or("auto");
    let mut part = Map::new();
    part.insert("type".to_owned(), json!("image_url"));
    part.insert("image_url".to_owned(), json!({"url": url, "detail": detail}));
    Some(RawItem::Part(part))
}

fn is_url(text: &str) -> bool {
    text.starts_with("https://") || text.starts_with("http://")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(number: u32, text: &str, metadata: Value) -> MemoryItem {
        let id = format!("00000000-0000-4000-8000-{number:012}");
        MemoryItem::from_value(json!({"id": id, "memory": text, "metadata": metadata}), String::new).unwrap()
    }

    fn said(number: u32, session: &str) -> MemoryItem {
        let info = json!({"role": "user", "name": "Ann", "chat_time": "2 May 2026", "project": "x"});
        raw(number, "I moved to Porto.", json!({"info": info, "session_id": session, "user_id": "ann"}))
    }

    #[test]
    fn a_window_becomes_its_messages_again() {
        let window = raw(
            1,
            "user: Hi\nassistant: [tool_calls]: []\n",
            json!({"tags": ["mode:fast"], "sources": [
                {"type": "chat", "role": "user", "content": "Hi", "chat_time": "2 May 2026", "message_id": "m1", "index": 0},
                {"type": "chat", "role": "assistant", "content": "I look.", "index": 1},
                {"type": "tool_calls", "role": "assistant", "content": "[tool_calls]: [{\"id\": \"c\"}]", "index": 1},
                {"type": "chat", "role": "tool", "content": "found", "tool_call_id": "c", "index": 2},
            ]}),
        );
        let all = portions(vec![window]);
        assert_eq!((all.len(), all[0].kind), (1, Kind::Said));
        let messages: Vec<&Message> = all[0]
            .items
            .iter()
            .map(|item| match item {
                RawItem::Message(message) => message,
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(messages.len(), 3);
        assert_eq!((messages[0].text().as_str(), messages[0].message_id.as_deref()), ("Hi", Some("m1")));
        assert_eq!(messages[0].chat_time.as_deref(), Some("2 May 2026"));
        assert_eq!((messages[1].text().as_str(), messages[1].tool_calls.as_ref().unwrap().len()), ("I look.", 1));
        assert_eq!((messages[2].role, messages[2].tool_call_id.as_deref()), (Role::Tool, Some("c")));
    }

    #[test]
    fn messages_of_one_session_are_read_together() {
        let all = portions(vec![said(1, "s"), said(2, "s"), said(3, "t")]);
        assert_eq!(all.iter().map(|portion| portion.raws.len()).collect::<Vec<_>>(), [2, 1]);
        let input = all[0].input(&"bob".into(), &"cube".into(), Vec::new());
        assert_eq!((input.user, input.session), (Some("ann".into()), Some("s".into())));
        assert_eq!(Value::from(input.info), json!({"project": "x"}), "what describes one message is not everybody's");
        let many: Vec<MemoryItem> = (0..50).map(|number| said(number, "s")).collect();
        assert_eq!(portions(many).len(), 3, "a conversation is bounded");
    }

    #[test]
    fn files_and_images_are_read_where_they_are() {
        let tags = json!(["mode:fast", "multimodal:file"]);
        let not_read = json!({"type": "file", "content": "[File URL: https://example.org/a.pdf]", "not_read": "refused",
            "file_info": {"file_id": "f", "filename": "a.pdf", "file_data": "https://example.org/a.pdf"}});
        let reference = raw(1, "[File URL]", json!({"tags": tags, "sources": [not_read]}));
        let chunk = raw(2, "A piece.", json!({"tags": tags, "file_ids": ["g"], "sources": [{"type": "file"}]}));
        let image = |url: &str| json!({"sources": [{"type": "image", "image_info": {"url": url}}]});
        let there = raw(3, "[image_url]", image("https://example.org/a.png"));
        let gone = raw(4, "[image_url]", image("data:image/png;base64, about 3 bytes"));
        let all = portions(vec![reference, chunk, there, gone]);
        let kinds: Vec<Kind> = all.iter().map(|portion| portion.kind).collect();
        assert_eq!(kinds, [Kind::Reference, Kind::Chunk, Kind::Reference]);
        let [RawItem::File(file)] = all[0].items.as_slice() else { panic!("{:?}", all[0]) };
        assert_eq!(file.data, FileData::Text("https://example.org/a.pdf".to_owned()));
        let [RawItem::File(file)] = all[1].items.as_slice() else { panic!("{:?}", all[1]) };
        assert_eq!((file.id.as_deref(), &file.data), (Some("g"), &FileData::Bytes(b"A piece.".to_vec())));
    }

    #[test]
    fn a_text_is_a_text() {
        let all = portions(vec![raw(1, "A note.", json!({}))]);
        assert_eq!(all[0].items, [RawItem::Text("A note.".to_owned())]);
    }
}
