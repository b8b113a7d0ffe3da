//! Whose chat it is, and how memory takes part in it.

use serde_json::{Map, Value};

use super::error::{OpenAiError, OpenAiResult, text_of};

/// What a request says besides its body; over HTTP it comes in headers. It goes before what the body says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CompletionContext {
    /// Who speaks (`X-Mos-User`).
    pub user: Option<String>,
    /// The cubes, with commas between them (`X-Mos-Cube`). Memories are recalled from all of them, and the turn is remembered
    /// in the first one.
    pub cubes: Option<String>,
    /// The conversation (`X-Mos-Session`).
    pub session: Option<String>,
    /// `off`, `read`, `write` or `on` (`X-Mos-Memory`).
    pub memory: Option<String>,
    /// `on`, or `off` for answers without the field `mos` (`X-Mos-Explain`).
    pub explain: Option<String>,
}

/// How memory takes part in a chat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum MemoryUse {
    /// Not at all.
    Off,
    /// Memories are recalled, and the turn is not remembered.
    Read,
    /// The turn is remembered, and nothing is recalled.
    Write,
    /// Both.
    On,
    /// Both, as far as it is allowed: what is meant when nothing is said.
    Usual,
}

impl MemoryUse {
    pub(super) fn recalls(self) -> bool {
        matches!(self, Self::Read | Self::On | Self::Usual)
    }

    pub(super) fn remembers(self) -> bool {
        matches!(self, Self::Write | Self::On | Self::Usual)
    }
}

/// What a request says of users, cubes and memory, in its body or beside it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct About {
    /// Who speaks, as it was said beside the body.
    pub(super) named_user: Option<String>,
    /// Who speaks, as the body says; keys of one user do not heed it.
    pub(super) user: Option<String>,
    pub(super) cubes: Option<Vec<String>>,
    pub(super) session: Option<String>,
    pub(super) memory: MemoryUse,
    pub(super) explains: bool,
}

impl About {
    /// Reads what a request says.
    pub(super) fn read(body: &Map<String, Value>, context: CompletionContext) -> OpenAiResult<Self> {
        let no_metadata = Map::new();
        let metadata = match body.get("metadata") {
            None | Some(Value::Null) => &no_metadata,
            Some(Value::Object(metadata)) => metadata,
            Some(_) => return Err(OpenAiError::field("metadata", "`metadata` should be an object of strings")),
        };
        let of_body = |key: &str| match metadata.get(key) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => text_of(value, &format!("metadata.{key}")).map(|text| Some(text.to_owned())),
        };
        let said = |beside: Option<String>, key: &str| match beside {
            Some(text) => Ok(Some(text)),
            None => of_body(key),
        };
        let user = match body.get("user") {
            None | Some(Value::Null) => None,
            Some(value) => Some(text_of(value, "user")?.to_owned()),
        };
        let cubes = said(context.cubes, "mos_cube")?.map(|listed| names(&listed)).filter(|cubes| !cubes.is_empty());
        let memory = match said(context.memory, "mos_memory")?.as_deref().map(str::trim) {
            None | Some("") => MemoryUse::Usual,
            Some("off") => MemoryUse::Off,
            Some("read") => MemoryUse::Read,
            Some("write") => MemoryUse::Write,
            Some("on") => MemoryUse::On,
            Some(_) => {
                let message = "memory (`X-Mos-Memory`, `metadata.mos_memory`) should be `off`, `read`, `write` or `on`";
                return Err(OpenAiError::field("metadata.mos_memory", message));
            }
        };
        let explains = match said(context.explain, "mos_explain")?.as_deref().map(str::trim) {
            None | Some("" | "on") => true,
            Some("off") => false,
            Some(_) => {
                let message = "explaining (`X-Mos-Explain`, `metadata.mos_explain`) should be `on` or `off`";
                return Err(OpenAiError::field("metadata.mos_explain", message));
            }
        };
        let session = said(context.session, "session_id")?.filter(|session| !session.is_empty());
        let named_user = context.user.filter(|user| !user.is_empty());
        Ok(Self { named_user, user: user.filter(|user| !user.is_empty()), cubes, session, memory, explains })
    }
}

/// The names of a list with commas.
fn names(listed: &str) -> Vec<String> {
    listed.split(',').map(str::trim).filter(|name| !name.is_empty()).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(body: &Value, context: CompletionContext) -> OpenAiResult<About> {
        About::read(body.as_object().unwrap(), context)
    }

    #[test]
    fn what_is_said_beside_the_body_goes_before_what_it_says() {
        let body = json!({"user": "ann", "metadata": {
            "mos_cube": "a, b,", "session_id": "s", "mos_memory": "read", "mos_explain": "off"}});
        let about = read(&body, CompletionContext::default()).unwrap();
        assert_eq!(about.cubes, Some(vec!["a".to_owned(), "b".to_owned()]));
        assert_eq!((about.session.as_deref(), about.memory, about.explains), (Some("s"), MemoryUse::Read, false));
        assert_eq!((about.user.as_deref(), about.named_user), (Some("ann"), None));
        let context = CompletionContext {
            user: Some("bob".to_owned()),
            cubes: Some("c".to_owned()),
            session: Some("t".to_owned()),
            memory: Some("off".to_owned()),
            explain: Some("on".to_owned()),
        };
        let about = read(&body, context).unwrap();
        assert_eq!(about.cubes, Some(vec!["c".to_owned()]));
        assert_eq!((about.session.as_deref(), about.memory, about.explains), (Some("t"), MemoryUse::Off, true));
        assert_eq!(about.named_user.as_deref(), Some("bob"));
    }

    #[test]
    fn other_words_are_refused_by_the_name_of_their_field() {
        for (body, param) in [
            (json!({"metadata": {"mos_memory": "maybe"}}), "metadata.mos_memory"),
            (json!({"metadata": {"mos_cube": 7}}), "metadata.mos_cube"),
            (json!({"metadata": "x"}), "metadata"),
            (json!({"user": 7}), "user"),
        ] {
            let error = read(&body, CompletionContext::default()).unwrap_err();
            assert_eq!((error.status, error.param.as_deref()), (400, Some(param)), "{body}");
        }
        let plain = read(&json!({"metadata": null}), CompletionContext::default()).unwrap();
        assert!(plain.memory.recalls() && plain.memory.remembers() && plain.explains && plain.cubes.is_none());
    }
}
