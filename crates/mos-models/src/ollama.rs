//! Chat with Ollama.
//!
//! Its own `/api/chat` is used and not its OpenAI-compatible endpoint: only there the context length can be set (the
//! other silently cuts long prompts at the model's default), thinking can be switched, and the last line says
//! unmistakably that the answer is whole.

use std::collections::HashMap;
use std::sync::Arc;

use async_trait::async_trait;
use futures::{StreamExt, stream};
use mos_core::{ChatModel, ChatRequest, ChatStream, Content, FinishReason, Message, ModelError, Part, Sampling};
use serde_json::{Map, Value, json};

use crate::answer::{Delta, Deltas, ToolCallPiece, bounded_bytes};
use crate::events::count;
use crate::http::{Refusal, Server};
use crate::options::ServerOptions;
use crate::request::{Asked, ToolCall, ask, check_request};
use crate::text::add_extra;

/// How to chat with an Ollama server.
#[derive(Clone, Debug, PartialEq)]
pub struct OllamaOptions {
    /// The server; its address has no path.
    pub server: ServerOptions,
    /// The model's name there.
    pub model: String,
    /// How tokens are chosen when a request does not say.
    pub sampling: Sampling,
    /// The most tokens of conversation and answer. `None`: the server's default, which is often small.
    pub context_length: Option<usize>,
    /// Lets models that can think do so.
    pub enable_thinking: bool,
    /// Leaves reasoning out of answers instead of wrapping it in `<think>` tags.
    pub remove_think_prefix: bool,
    /// Keys that are added to every request, over those that are there; null removes one.
    pub extra_body: Map<String, Value>,
}

impl OllamaOptions {
    /// Returns options for a model at a server, with the defaults of everything else.
    pub fn new(server: ServerOptions, model: impl Into<String>) -> Self {
        Self {
            server,
            model: model.into(),
            sampling: Sampling::default(),
            context_length: None,
            enable_thinking: false,
            remove_think_prefix: false,
            extra_body: Map::new(),
        }
    }
}

/// A chat model behind an Ollama server.
#[derive(Debug)]
pub struct OllamaChat {
    server: Arc<Server>,
    options: OllamaOptions,
}

impl OllamaChat {
    /// Returns the model. No request is made.
    ///
    /// # Errors
    /// [`ModelError::Invalid`] for an address or a header that cannot be one, or an empty model name.
    pub fn open(options: OllamaOptions) -> Result<Arc<dyn ChatModel>, ModelError> {
        if options.model.trim().is_empty() {
            return Err(ModelError::Invalid("the name of the model is empty".to_owned()));
        }
        let server = Arc::new(Server::open(&options.server, missing(&options.model))?);
        Ok(Arc::new(Self { server, options }))
    }

    fn body(&self, request: &ChatRequest) -> Result<Map<String, Value>, ModelError> {
        if request.tool_choice.is_some() {
            let message = "Ollama's models decide themselves which tools they call; leave the choice of a tool out";
            return Err(ModelError::Invalid(message.to_owned()));
        }
        let sampling = request.sampling.as_ref().unwrap_or(&self.options.sampling);
        let mut options = json!({
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "top_k": sampling.top_k,
            "num_predict": sampling.max_tokens,
        });
        if sampling.seed != 0 {
            options["seed"] = sampling.seed.into();
        }
        if !sampling.stop.is_empty() {
            options["stop"] = sampling.stop.clone().into();
        }
        if let Some(length) = self.options.context_length {
            options["num_ctx"] = length.into();
        }
        let mut names = HashMap::new();
        let messages = request
            .messages
            .iter()
            .map(|message| wire_message(message, &mut names))
            .collect::<Result<Vec<Value>, _>>()?;
        let mut body = Map::new();
        body.insert("model".to_owned(), self.options.model.clone().into());
        body.insert("messages".to_owned(), messages.into());
        body.insert("stream".to_owned(), true.into());
        body.insert("think".to_owned(), self.options.enable_thinking.into());
        body.insert("options".to_owned(), options);
        if let Some(schema) = &request.answer_schema {
            body.insert("format".to_owned(), schema.clone());
        }
        if !request.tools.is_empty() {
            body.insert("tools".to_owned(), request.tools.clone().into());
        }
        add_extra(&mut body, &self.options.extra_body);
        Ok(body)
    }
}

#[async_trait]
impl Asked for OllamaChat {
    fn server(&self) -> &Arc<Server> {
        &self.server
    }

    fn removes_reasoning(&self) -> bool {
        self.options.remove_think_prefix
    }

    async fn start(&self, body: &Value) -> Result<Deltas, Refusal> {
        let response = self.server.post("api/chat", body).await?;
        let server = Arc::clone(&self.server);
        let bytes = Box::pin(bounded_bytes(&self.server, response));
        // Lines are cut as bytes: a piece of the body may end inside a character.
        let lines =
            stream::try_unfold((bytes, Vec::<u8>::new(), false), |(mut bytes, mut held, mut is_over)| async move {
                loop {
                    if let Some(end) = held.iter().position(|byte| *byte == b'\n') {
                        let rest = held.split_off(end + 1);
                        return Ok(Some((held, (bytes, rest, is_over))));
                    }
                    if is_over {
                        return Ok::<_, Refusal>((!held.is_empty()).then(|| (held, (bytes, Vec::new(), true))));
                    }
                    match bytes.next().await.transpose()? {
                        Some(more) => held.extend_from_slice(&more),
                        None => is_over = true,
                    }
                }
            });
        let deltas = lines.map(move |line| match line {
            Ok(line) if line.trim_ascii().is_empty() => Ok(Vec::new()),
            Ok(line) => read_line(&server, &line),
            Err(refusal) => Err(refusal),
        });
        Ok(deltas
            .flat_map(|deltas| {
                stream::iter(match deltas {
                    Ok(deltas) => deltas.into_iter().map(Ok).collect::<Vec<_>>(),
                    Err(refusal) => vec![Err(refusal)],
                })
            })
            .boxed())
    }
}

/// What to do when a model is not there.
pub(crate) fn missing(model: &str) -> String {
    format!("fetch the model on the server with `ollama pull {model}`")
}

/// Returns what one line of an answer says.
fn read_line(server: &Server, line: &[u8]) -> Result<Vec<Delta>, Refusal> {
    let bad = |what: &str| Refusal::lasting(ModelError::BadAnswer(format!("the answer of {} {what}", server.place())));
    let line: Value = serde_json::from_slice(line).map_err(|_| bad("is not in Ollama's chat format"))?;
    if !line["error"].is_null() {
        return Err(bad(&format!("broke off: {}", server.message(&line, &[]))));
    }
    if !line["message"].is_object() && line["done"] != true {
        return Err(bad("is not in Ollama's chat format"));
    }
    let mut deltas = Vec::new();
    if let Some(text) = line["message"]["thinking"].as_str().filter(|text| !text.is_empty()) {
        deltas.push(Delta::Reasoning(text.to_owned()));
    }
    if let Some(text) = line["message"]["content"].as_str().filter(|text| !text.is_empty()) {
        deltas.push(Delta::Text(text.to_owned()));
    }
    deltas.extend(line["message"]["tool_calls"].as_array().into_iter().flatten().map(|call| {
        let function = &call["function"];
        Delta::ToolCall(ToolCallPiece {
            index: None,
            id: call["id"].as_str().map(str::to_owned),
            name: function["name"].as_str().map(str::to_owned),
            arguments: match &function["arguments"] {
                Value::Null => String::new(),
                Value::String(text) => text.clone(),
                other => other.to_string(),
            },
        })
    }));
    if line["done"] == true {
        let is_cut = line["done_reason"] == "length";
        deltas.push(Delta::Finish(if is_cut { FinishReason::Length } else { FinishReason::Stop }));
        deltas.push(Delta::Usage {
            prompt: count(&line["prompt_eval_count"]),
            cached: None,
            completion: count(&line["eval_count"]),
        });
        deltas.push(Delta::End);
    }
    Ok(deltas)
}

/// Returns a message in Ollama's shape: text, images as base64 beside it, and tools by their names. `names` remembers
/// which tool a call was of, because results name the call only.
fn wire_message<'a>(message: &'a Message, names: &mut HashMap<&'a str, &'a str>) -> Result<Value, ModelError> {
    let mut value = json!({"role": message.role.as_str(), "content": message.text()});
    let images = match &message.content {
        Some(Content::Parts(parts)) => images(parts)?,
        _ => Vec::new(),
    };
    if !images.is_empty() {
        value["images"] = images.into();
    }
    let calls: Vec<ToolCall<'a>> = message.tool_calls.iter().flatten().filter_map(ToolCall::read).collect();
    names.extend(calls.iter().filter_map(|call| Some((call.id?, call.name))));
    if !calls.is_empty() {
        let calls = calls.into_iter().map(|call| json!({"function": {"name": call.name, "arguments": call.arguments}}));
        value["tool_calls"] = calls.collect();
    }
    let called = message.tool_call_id.as_deref().and_then(|id| names.get(id).copied());
    if let Some(name) = message.name.as_deref().or(called) {
        value["tool_name"] = name.into();
    }
    Ok(value)
}

/// Returns the images among the parts of a message as base64.
fn images(parts: &[Part]) -> Result<Vec<Value>, ModelError> {
    let others = parts.iter().filter(|part| matches!(part, Part::Other(_)));
    others
        .map(|part| {
            let data = part.image_url().and_then(|url| url.strip_prefix("data:")?.split_once(";base64,"));
            data.map(|(_, data)| Value::from(data)).ok_or_else(|| {
                ModelError::Invalid(
                    "Ollama takes text and images that are part of the message (data: addresses), nothing else"
                        .to_owned(),
                )
            })
        })
        .collect()
}

#[async_trait]
impl ChatModel for OllamaChat {
    fn name(&self) -> &str {
        &self.options.model
    }

    fn is_local(&self) -> bool {
        false
    }

    fn context_length(&self) -> Option<usize> {
        self.options.context_length
    }

    async fn stream(&self, request: ChatRequest) -> Result<ChatStream, ModelError> {
        let estimated = check_request(&request)?;
        ask(self, estimated, self.body(&request)?).await
    }
}
