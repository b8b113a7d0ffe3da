//! Requests of chats out of OpenAI's JSON. Fields that nobody here knows are passed over.

use mos_core::{Content, Message, Part, Role, Sampling, ToolChoice};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use super::context::{About, CompletionContext};
use super::error::{OpenAiError, OpenAiResult, text_of};

/// The most messages of a conversation.
const MAX_MESSAGES: usize = 4096;

/// The most tools of a request.
const MAX_TOOLS: usize = 128;

/// The most texts that an answer may end before.
const MAX_STOPS: usize = 16;

/// A chat as it is asked for.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    pub(super) model: String,
    /// Oldest first.
    pub(super) messages: Vec<Message>,
    pub(super) is_streamed: bool,
    /// Whether a stream ends with what the answer took.
    pub(super) includes_usage: bool,
    pub(super) sampling: AskedSampling,
    pub(super) answer_schema: Option<Value>,
    pub(super) tools: Vec<Value>,
    /// What of them must be called.
    pub(super) tool_choice: Option<ToolChoice>,
    pub(super) about: About,
}

/// What a request says of how words are chosen.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct AskedSampling {
    temperature: Option<f64>,
    top_p: Option<f64>,
    max_tokens: Option<usize>,
    seed: Option<u64>,
    stop: Option<Vec<String>>,
}

impl Asked {
    /// Reads a request.
    pub(super) fn read(body: &Value, context: CompletionContext) -> OpenAiResult<Self> {
        let Some(map) = body.as_object() else {
            return Err(OpenAiError::new(400, "the body should be a JSON object"));
        };
        check_undone(map)?;
        let model = field::<String>(map, "model", "a string")?;
        let Some(model) = model.filter(|model| !model.trim().is_empty()) else {
            return Err(OpenAiError::field("model", "name a model in `model`; `/v1/models` lists them"));
        };
        let options = field::<Map<String, Value>>(map, "stream_options", "an object")?.unwrap_or_default();
        let (tools, tool_choice) = tools(map)?;
        Ok(Self {
            model,
            messages: messages(map)?,
            is_streamed: field(map, "stream", "true or false")?.unwrap_or(false),
            includes_usage: options.get("include_usage").and_then(Value::as_bool).unwrap_or(false),
            sampling: AskedSampling::read(map)?,
            answer_schema: answer_schema(map)?,
            tools,
            tool_choice,
            about: About::read(map, context)?,
        })
    }

    /// The last words of the user; empty when there are none.
    pub(super) fn question(&self) -> String {
        let last = self.messages.iter().rfind(|message| message.role == Role::User);
        last.map(Message::text).unwrap_or_default()
    }

    /// Refuses what a model in this process cannot do.
    pub(super) fn check_local(&self, model: &str) -> OpenAiResult<()> {
        let remedy = "name a model that is reached over HTTP";
        if !self.tools.is_empty() {
            let message = format!("the model `{model}` runs in this process and calls no tools; {remedy}");
            return Err(OpenAiError::unsupported("tools", message));
        }
        if self.answer_schema.is_some() {
            let message = format!("the model `{model}` runs in this process and keeps to no schema; {remedy}");
            return Err(OpenAiError::unsupported("response_format", message));
        }
        let is_more = |message: &Message| match &message.content {
            Some(Content::Parts(parts)) => parts.iter().any(|part| matches!(part, Part::Other(_))),
            Some(Content::Text(_)) | None => false,
        };
        if self.messages.iter().any(is_more) {
            let message = format!("the model `{model}` runs in this process and reads text only; {remedy}");
            return Err(OpenAiError::unsupported("messages", message));
        }
        Ok(())
    }
}

impl AskedSampling {
    fn read(map: &Map<String, Value>) -> OpenAiResult<Self> {
        let within = |name: &str, least: f64, most: f64| match field::<f64>(map, name, "a number")? {
            Some(value) if !(least..=most).contains(&value) => {
                Err(OpenAiError::field(name, format!("`{name}` is {value}; it should be from {least} to {most}")))
            }
            value => Ok(value),
        };
        let count = |name: &str| match field::<usize>(map, name, "a whole number")? {
            Some(0) => Err(OpenAiError::field(name, format!("`{name}` should be at least 1"))),
            count => Ok(count),
        };
        let (newer, older) = (count("max_completion_tokens")?, count("max_tokens")?);
        Ok(Self {
            temperature: within("temperature", 0.0, 2.0)?,
            top_p: within("top_p", 0.0, 1.0)?,
            max_tokens: newer.or(older),
            seed: field::<i64>(map, "seed", "a whole number")?.map(i64::unsigned_abs),
            stop: stops(map)?,
        })
    }

    /// Returns how words are chosen where a model usually chooses them like this; `None` when the request says nothing.
    pub(super) fn over(&self, usual: Sampling) -> Option<Sampling> {
        if *self == Self::default() {
            return None;
        }
        Some(Sampling {
            temperature: self.temperature.unwrap_or(usual.temperature),
            top_p: self.top_p.unwrap_or(usual.top_p),
            top_k: usual.top_k,
            seed: self.seed.unwrap_or(usual.seed),
            max_tokens: self.max_tokens.unwrap_or(usual.max_tokens),
            stop: self.stop.clone().unwrap_or(usual.stop),
        })
    }
}

/// Returns a field; `None` when it is absent or null.
pub(super) fn field<T: DeserializeOwned>(map: &Map<String, Value>, name: &str, what: &str) -> OpenAiResult<Option<T>> {
    match map.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => match serde_json::from_value(value.clone()) {
            Ok(read) => Ok(Some(read)),
            Err(_) => Err(OpenAiError::field(name, format!("`{name}` should be {what}"))),
        },
    }
}

/// Refuses what would change the answer and is not done here.
fn check_undone(map: &Map<String, Value>) -> OpenAiResult<()> {
    if field::<u64>(map, "n", "a whole number")?.is_some_and(|n| n != 1) {
        return Err(OpenAiError::unsupported("n", "one answer is given at a time; leave `n` out, or send 1"));
    }
    if field::<bool>(map, "logprobs", "true or false")?.unwrap_or(false) {
        return Err(OpenAiError::unsupported("logprobs", "probabilities of tokens are not told; leave `logprobs` out"));
    }
    for old in ["functions", "function_call"] {
        if map.get(old).is_some_and(|value| !value.is_null()) {
            return Err(OpenAiError::unsupported(old, format!("`{old}` is not known here; use `tools`")));
        }
    }
    Ok(())
}

fn messages(map: &Map<String, Value>) -> OpenAiResult<Vec<Message>> {
    let Some(given) = map.get("messages").and_then(Value::as_array).filter(|given| !given.is_empty()) else {
        return Err(OpenAiError::field("messages", "`messages` should be a list with at least one message"));
    };
    if given.len() > MAX_MESSAGES {
        let message = format!("`messages` has {} messages; at most {MAX_MESSAGES} are taken", given.len());
        return Err(OpenAiError::field("messages", message));
    }
    given.iter().enumerate().map(|(at, value)| message(value, &format!("messages.{at}"))).collect()
}

fn message(value: &Value, at: &str) -> OpenAiResult<Message> {
    let role = match value.get("role").and_then(Value::as_str) {
        Some("system" | "developer") => Role::System,
        Some("user") => Role::User,
        Some("assistant") => Role::Assistant,
        Some("tool") => Role::Tool,
        _ => {
            let place = format!("{at}.role");
            let roles = "`system`, `developer`, `user`, `assistant` or `tool`";
            return Err(OpenAiError::field(&place, format!("`{place}` should be {roles}")));
        }
    };
    let text = |key: &str| match value.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => text_of(value, &format!("{at}.{key}")).map(|text| Some(text.to_owned())),
    };
    let tool_calls = match value.get("tool_calls") {
        None | Some(Value::Null) => None,
        Some(Value::Array(calls)) => Some(calls.clone()).filter(|calls| !calls.is_empty()),
        Some(_) => {
            let place = format!("{at}.tool_calls");
            return Err(OpenAiError::field(&place, format!("`{place}` should be a list")));
        }
    };
    let content = content(value.get("content").unwrap_or(&Value::Null), &format!("{at}.content"))?;
    if content.is_none() && role != Role::Assistant {
        let place = format!("{at}.content");
        return Err(OpenAiError::field(&place, format!("`{place}` should be a string, or a list of parts")));
    }
    let (tool_call_id, name) = (text("tool_call_id")?, text("name")?);
    if role == Role::Tool && tool_call_id.is_none() {
        let place = format!("{at}.tool_call_id");
        return Err(OpenAiError::field(&place, format!("`{place}` should name the call that this is the result of")));
    }
    Ok(Message { content, tool_calls, tool_call_id, name, ..Message::new(role, "") })
}

fn content(value: &Value, at: &str) -> OpenAiResult<Option<Content>> {
    match value {
        Value::Null => Ok(None),
        Value::String(text) => Ok(Some(Content::Text(text.clone()))),
        Value::Array(parts) => {
            let parts = parts.iter().enumerate().map(|(index, value)| part(value, &format!("{at}.{index}")));
            Ok(Some(Content::Parts(parts.collect::<OpenAiResult<_>>()?)))
        }
        _ => Err(OpenAiError::field(at, format!("`{at}` should be a string, or a list of parts"))),
    }
}

fn part(value: &Value, at: &str) -> OpenAiResult<Part> {
    let Some(map) = value.as_object() else {
        return Err(OpenAiError::field(at, format!("`{at}` should be an object with a `type`")));
    };
    match map.get("type").and_then(Value::as_str) {
        Some(kind @ ("text" | "refusal")) => {
            let text = map.get(kind).unwrap_or(&Value::Null);
            text_of(text, &format!("{at}.{kind}")).map(Part::text)
        }
        Some(_) => Ok(Part::Other(map.clone())),
        None => Err(OpenAiError::field(at, format!("`{at}` should be an object with a `type`"))),
    }
}

fn stops(map: &Map<String, Value>) -> OpenAiResult<Option<Vec<String>>> {
    let stops = match map.get("stop") {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::String(one)) => vec![one.clone()],
        Some(_) => field::<Vec<String>>(map, "stop", "a string, or a list of strings")?.unwrap_or_default(),
    };
    if stops.len() > MAX_STOPS || stops.iter().any(String::is_empty) {
        let message = format!("`stop` should be at most {MAX_STOPS} strings, none of them empty");
        return Err(OpenAiError::field("stop", message));
    }
    Ok(Some(stops))
}

/// The schema that the answer should fit: the one that is given, or that of any object.
fn answer_schema(map: &Map<String, Value>) -> OpenAiResult<Option<Value>> {
    let Some(format) = field::<Map<String, Value>>(map, "response_format", "an object")? else { return Ok(None) };
    match format.get("type").and_then(Value::as_str) {
        Some("text") => Ok(None),
        Some("json_object") => Ok(Some(json!({"type": "object"}))),
        Some("json_schema") => {
            let schema = format.get("json_schema").and_then(|named| named.get("schema"));
            let Some(schema) = schema.filter(|schema| schema.is_object()) else {
                let place = "response_format.json_schema.schema";
                return Err(OpenAiError::field(place, format!("`{place}` should be a JSON schema")));
            };
            Ok(Some(schema.clone()))
        }
        _ => {
            let message = "`response_format.type` should be `text`, `json_object` or `json_schema`";
            Err(OpenAiError::field("response_format.type", message))
        }
    }
}

/// The tools that may be called, none when the request says that none should be, and what of them must be called.
fn tools(map: &Map<String, Value>) -> OpenAiResult<(Vec<Value>, Option<ToolChoice>)> {
    let tools = field::<Vec<Value>>(map, "tools", "a list")?.unwrap_or_default();
    if tools.len() > MAX_TOOLS {
        return Err(OpenAiError::field("tools", format!("at most {MAX_TOOLS} tools can be given")));
    }
    let is_function =
        |tool: &Value| tool["type"] == "function" && tool.pointer("/function/name").is_some_and(Value::is_string);
    if let Some(at) = tools.iter().position(|tool| !is_function(tool)) {
        let place = format!("tools.{at}");
        return Err(OpenAiError::field(&place, format!("`{place}` should be of the type `function` and have a name")));
    }
    let choice = match map.get("tool_choice") {
        None | Some(Value::Null) => None,
        Some(choice) if choice == "auto" => None,
        Some(choice) if choice == "none" => return Ok((Vec::new(), None)),
        Some(choice) => Some(tool_choice(choice, &tools)?),
    };
    Ok((tools, choice))
}

/// What of the tools must be called.
fn tool_choice(choice: &Value, tools: &[Value]) -> OpenAiResult<ToolChoice> {
    let name_of = |tool: &Value| tool.pointer("/function/name").and_then(Value::as_str).map(str::to_owned);
    if choice == "required" && !tools.is_empty() {
        return Ok(ToolChoice::Any);
    }
    let named = name_of(choice).filter(|_| choice["type"] == "function");
    match named.filter(|name| tools.iter().any(|tool| name_of(tool).as_ref() == Some(name))) {
        Some(name) => Ok(ToolChoice::Named(name)),
        None => {
            let message = "`tool_choice` should be `auto`, `none`, `required` or a function that is one of `tools`";
            Err(OpenAiError::unsupported("tool_choice", message))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(more: Value) -> Value {
        let mut body = json!({"model": "mos", "messages": [{"role": "user", "content": "hi"}]});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        body
    }

    fn read(more: Value) -> OpenAiResult<Asked> {
        Asked::read(&body(more), CompletionContext::default())
    }

    #[test]
    fn every_kind_of_message_is_read_and_unknown_fields_are_passed_over() {
        let messages = json!([
            {"role": "developer", "content": "be kind", "shade": "blue"},
            {"role": "user", "content": [{"type": "text", "text": "look"},
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}]},
            {"role": "assistant", "content": null, "tool_calls": [
                {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}]},
            {"role": "tool", "tool_call_id": "c", "content": "22"},
        ]);
        let asked = read(json!({"messages": messages, "service_tier": "auto", "store": true})).unwrap();
        let roles: Vec<Role> = asked.messages.iter().map(|message| message.role).collect();
        assert_eq!(roles, [Role::System, Role::User, Role::Assistant, Role::Tool]);
        assert_eq!(asked.question(), "look");
        assert_eq!(asked.messages[2].tool_calls.as_ref().unwrap()[0]["id"], "c");
        assert_eq!(asked.messages[3].tool_call_id.as_deref(), Some("c"));
        assert_eq!(asked.check_local("small").unwrap_err().param.as_deref(), Some("messages"));
    }

    #[test]
    fn sampling_is_the_usual_one_but_for_what_is_asked() {
        assert_eq!(read(json!({})).unwrap().sampling.over(Sampling::default()), None);
        let asked =
            read(json!({"temperature": 0.5, "max_tokens": 5, "max_completion_tokens": 7, "seed": -3, "stop": "END",
            "top_p": null}));
        let usual = Sampling { top_p: 0.25, top_k: 9, ..Sampling::default() };
        let sampling = asked.unwrap().sampling.over(usual).unwrap();
        let expected =
            Sampling { temperature: 0.5, top_p: 0.25, top_k: 9, seed: 3, max_tokens: 7, stop: vec!["END".to_owned()] };
        assert_eq!(sampling, expected);
    }

    #[test]
    fn what_cannot_be_is_refused_by_the_name_of_its_field() {
        for (more, param) in [
            (json!({"model": " "}), "model"),
            (json!({"model": null}), "model"),
            (json!({"messages": []}), "messages"),
            (json!({"messages": [{"role": "robot", "content": "hi"}]}), "messages.0.role"),
            (json!({"messages": [{"role": "user"}]}), "messages.0.content"),
            (json!({"messages": [{"role": "user", "content": [{"text": "hi"}]}]}), "messages.0.content.0"),
            (json!({"messages": [{"role": "tool", "content": "hi"}]}), "messages.0.tool_call_id"),
            (json!({"temperature": 3}), "temperature"),
            (json!({"temperature": "warm"}), "temperature"),
            (json!({"top_p": -1}), "top_p"),
            (json!({"max_tokens": 0}), "max_tokens"),
            (json!({"n": 2}), "n"),
            (json!({"logprobs": true}), "logprobs"),
            (json!({"stream": "yes"}), "stream"),
            (json!({"stop": [""]}), "stop"),
            (json!({"functions": []}), "functions"),
            (json!({"tools": [{"type": "web"}]}), "tools.0"),
            (json!({"tool_choice": "required"}), "tool_choice"),
            (json!({"response_format": {"type": "xml"}}), "response_format.type"),
            (json!({"response_format": {"type": "json_schema"}}), "response_format.json_schema.schema"),
        ] {
            let error = read(more.clone()).unwrap_err();
            assert_eq!((error.status, error.param.as_deref()), (400, Some(param)), "{more}");
        }
        assert_eq!(Asked::read(&json!([]), CompletionContext::default()).unwrap_err().status, 400);
    }

    #[test]
    fn formats_and_tools_are_taken_as_they_are() {
        let tool = json!({"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}});
        let schema = json!({"type": "object", "properties": {"city": {"type": "string"}}});
        let format = json!({"type": "json_schema", "json_schema": {"name": "x", "schema": schema}});
        let asked = read(json!({"tools": [tool], "response_format": format, "n": 1})).unwrap();
        assert_eq!((asked.tools.as_slice(), asked.answer_schema.as_ref()), ([tool.clone()].as_slice(), Some(&schema)));
        assert_eq!(asked.check_local("small").unwrap_err().param.as_deref(), Some("tools"));
        let none = read(json!({"tools": [tool], "tool_choice": "none", "response_format": {"type": "text"}})).unwrap();
        assert!(none.tools.is_empty() && none.answer_schema.is_none() && none.check_local("small").is_ok());
    }

    #[test]
    fn what_must_be_called_is_one_of_the_tools() {
        let tool = json!({"type": "function", "function": {"name": "weather"}});
        let choice =
            |choice: Value| read(json!({"tools": [tool], "tool_choice": choice})).map(|asked| asked.tool_choice);
        assert_eq!(choice(json!("auto")).unwrap(), None);
        assert_eq!(choice(json!("required")).unwrap(), Some(ToolChoice::Any));
        let named = json!({"type": "function", "function": {"name": "weather"}});
        assert_eq!(choice(named).unwrap(), Some(ToolChoice::Named("weather".to_owned())));
        for other in
            [json!({"type": "function", "function": {"name": "time"}}), json!({"name": "weather"}), json!("weather")]
        {
            let error = choice(other.clone()).unwrap_err();
            assert_eq!((error.status, error.param.as_deref()), (400, Some("tool_choice")), "{other}");
        }
    }
}
