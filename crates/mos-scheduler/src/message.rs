//! Messages: what the scheduler is told.

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use mos_core::id::MAX_ID_BYTES;
use mos_core::{Clock, CubeId, IdSource, Message, UserId};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

/// How often a message may lead to another one, counted from the message that somebody submitted.
pub const MAX_DEPTH: u8 = 8;

/// Who asked for something, in an application that asks for others.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct UserContext {
    /// The user.
    pub user_id: Option<String>,
    /// The cube.
    pub mem_cube_id: Option<String>,
    /// The conversation.
    pub session_id: Option<String>,
    /// What is done.
    pub operation: Option<String>,
    /// The user who manages others.
    pub manager_user_id: Option<String>,
    /// The project.
    pub project_id: Option<String>,
}

/// Something that is to be done in the background for a user and a cube. Its JSON is that of MemOS' `ScheduleMessageItem`,
/// with `depth` besides when it is not 0.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ScheduleMessage {
    /// Names the message within its cube: a second one of the same name is the same message.
    pub item_id: String,
    /// Kept for MemOS' form; always empty.
    #[serde(default)]
    pub redis_message_id: String,
    /// Kept for MemOS' form; always empty.
    #[serde(default)]
    pub stream_key: String,
    /// For whom.
    pub user_id: UserId,
    /// Names the request that led to it, through every message that follows from it.
    #[serde(default)]
    pub trace_id: String,
    /// For which cube.
    pub mem_cube_id: CubeId,
    /// In which conversation; empty for none.
    #[serde(default)]
    pub session_id: String,
    /// What is to be done; see [`label`](crate::label).
    pub label: String,
    /// With what: a text, or JSON, as the label wants it.
    pub content: String,
    /// When it was made, in UTC; written without an offset.
    #[serde(with = "naive")]
    pub timestamp: Timestamp,
    /// The user's name.
    #[serde(default)]
    pub user_name: String,
    /// Data for the handler.
    #[serde(default)]
    pub info: Option<Map<String, Value>>,
    /// The operation of the server that led to it.
    #[serde(default)]
    pub api_path: Option<String>,
    /// The task of the application that it belongs to.
    #[serde(default)]
    pub task_id: Option<String>,
    /// The conversation so far.
    #[serde(default)]
    pub chat_history: Option<Vec<Message>>,
    /// Who asked.
    #[serde(default)]
    pub user_context: Option<UserContext>,
    /// How many messages led to this one.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub depth: u8,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde calls it with a reference")]
fn is_zero(depth: &u8) -> bool {
    *depth == 0
}

impl ScheduleMessage {
    /// Returns a message with a new id and trace.
    pub fn new(
        label: impl Into<String>,
        user: impl Into<UserId>,
        cube: impl Into<CubeId>,
        content: impl Into<String>,
        clock: &dyn Clock,
        ids: &dyn IdSource,
    ) -> Self {
        Self {
            item_id: ids.next_uuid(),
            redis_message_id: String::new(),
            stream_key: String::new(),
            user_id: user.into(),
            trace_id: ids.next_uuid().replace('-', ""),
            mem_cube_id: cube.into(),
            session_id: String::new(),
            label: label.into(),
            content: content.into(),
            timestamp: clock.now(),
            user_name: String::new(),
            info: None,
            api_path: None,
            task_id: None,
            chat_history: None,
            user_context: None,
            depth: 0,
        }
    }

    /// Returns a copy under another label: for a handler that hands its message on. Its name follows from this one's, so
    /// that handing it on twice is doing it once; its depth is one more.
    #[must_use]
    pub fn with_label(&self, label: impl Into<String>) -> Self {
        let label = label.into();
        let content = self.content.clone();
        self.following(label, content)
    }

    /// Returns a message that follows from this one, with other content. Its name follows from this one's and the label: a
    /// handler that sends several of one label gives each an [`item_id`](Self::item_id) of its own.
    #[must_use]
    pub fn following(&self, label: impl Into<String>, content: impl Into<String>) -> Self {
        let label = label.into();
        Self {
            item_id: following_id(&self.item_id, &label),
            label,
            content: content.into(),
            depth: self.depth.saturating_add(1),
            ..self.clone()
        }
    }

    /// The text of a field of [`info`](Self::info).
    pub fn info_text(&self, key: &str) -> Option<&str> {
        self.info.as_ref()?.get(key)?.as_str()
    }

    /// Returns the flat form in which MemOS puts messages into Redis: every value a text.
    pub fn to_redis_map(&self) -> Map<String, Value> {
        let history =
            self.chat_history.as_ref().map_or_else(|| "[]".to_owned(), |history| python_json(&json!(history)));
        let info = self.info.clone().map_or_else(|| "{}".to_owned(), |info| python_json(&Value::Object(info)));
        let context = self.user_context.as_ref().map_or_else(String::new, |context| {
            let mut fields = json!(context);
            if let Some(fields) = fields.as_object_mut() {
                fields.retain(|_, value| !value.is_null());
            }
            python_json(&fields)
        });
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        let pairs = [
            ("item_id", self.item_id.clone()),
            ("user_id", self.user_id.to_string()),
            ("cube_id", self.mem_cube_id.to_string()),
            ("trace_id", self.trace_id.clone()),
            ("session_id", self.session_id.clone()),
            ("label", self.label.clone()),
            ("cube", "Not Applicable".to_owned()),
            ("content", self.content.clone()),
            ("timestamp", naive::text(self.timestamp)),
            ("user_name", self.user_name.clone()),
            ("info", info),
            ("task_id", text(&self.task_id)),
            ("api_path", text(&self.api_path)),
            ("chat_history", history),
            ("user_context", context),
        ];
        pairs.into_iter().map(|(key, value)| (key.to_owned(), Value::String(value))).collect()
    }

    /// Reads what [`ScheduleMessage::to_redis_map`], or MemOS, wrote.
    ///
    /// # Errors
    /// A sentence that says which field is missing or wrong.
    pub fn from_redis_map(map: &Map<String, Value>) -> Result<Self, String> {
        let text = |key: &str| map.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
        let needed = |key: &str| {
            let value = text(key);
            if value.is_empty() { Err(format!("the message lacks `{key}`")) } else { Ok(value) }
        };
        let parsed = |key: &str| match text(key).as_str() {
            "" => Ok(None),
            json => serde_json::from_str::<Value>(json)
                .map(Some)
                .map_err(|error| format!("`{key}` of the message is no JSON: {error}")),
        };
        let info = match parsed("info")? {
            Some(Value::Object(info)) if !info.is_empty() => Some(info),
            _ => None,
        };
        let history = match parsed("chat_history")? {
            Some(Value::Array(messages)) if !messages.is_empty() => Some(
                serde_json::from_value(Value::Array(messages))
                    .map_err(|error| format!("`chat_history` of the message holds no messages: {error}"))?,
            ),
            _ => None,
        };
        let context = match parsed("user_context")? {
            Some(fields @ Value::Object(_)) => Some(
                serde_json::from_value(fields).map_err(|error| format!("`user_context` of the message: {error}"))?,
            ),
            _ => None,
        };
        let timestamp = naive::parse(&needed("timestamp")?)?;
        let optional = |key: &str| Some(text(key)).filter(|text| !text.is_empty());
        Ok(Self {
            item_id: needed("item_id")?,
            redis_message_id: String::new(),
            stream_key: String::new(),
            user_id: UserId::new(needed("user_id")?),
            trace_id: text("trace_id"),
            mem_cube_id: CubeId::new(needed("cube_id")?),
            session_id: text("session_id"),
            label: text("label"),
            content: text("content"),
            timestamp,
            user_name: text("user_name"),
            info,
            api_path: optional("api_path"),
            task_id: optional("task_id"),
            chat_history: history,
            user_context: context,
            depth: 0,
        })
    }
}

/// Names what follows from a message. Of a name that leaves no room for the label, its hash stands there.
fn following_id(item_id: &str, label: &str) -> String {
    let name = format!("{item_id}/{label}");
    if name.len() <= MAX_ID_BYTES { name } else { format!("#{}/{label}", blake3::hash(item_id.as_bytes()).to_hex()) }
}

/// JSON as Python's `json.dumps` spaces it, in characters as they are.
pub(crate) fn python_json(value: &Value) -> String {
    match value {
        Value::Array(values) => {
            let inner: Vec<String> = values.iter().map(python_json).collect();
            format!("[{}]", inner.join(", "))
        }
        Value::Object(fields) => {
            let inner: Vec<String> = fields
                .iter()
                .map(|(key, value)| format!("{}: {}", Value::from(key.as_str()), python_json(value)))
                .collect();
            format!("{{{}}}", inner.join(", "))
        }
        plain => plain.to_string(),
    }
}

/// Times as MemOS writes them: UTC without an offset.
pub(crate) mod naive {
    use super::{DateTime, TimeZone, Timestamp};
    use serde::{Deserialize, Deserializer, Serializer};

    pub(crate) fn text(at: Timestamp) -> String {
        at.to_zoned(TimeZone::UTC).datetime().to_string()
    }

    pub(crate) fn parse(text: &str) -> Result<Timestamp, String> {
        if let Ok(at) = text.parse::<Timestamp>() {
            return Ok(at);
        }
        let civil: DateTime = text.parse().map_err(|error| format!("`{text}` is no time: {error}"))?;
        let zoned = civil.to_zoned(TimeZone::UTC).map_err(|error| format!("`{text}` is no time: {error}"))?;
        Ok(zoned.timestamp())
    }

    pub(crate) fn serialize<S: Serializer>(at: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&text(*at))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Timestamp, D::Error> {
        parse(&String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}
