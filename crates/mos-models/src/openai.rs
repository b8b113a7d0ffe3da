//! Chat in OpenAI's format.

use std::sync::Arc;

use async_trait::async_trait;
use futures::{StreamExt, TryStreamExt, stream};
use mos_core::{ChatModel, ChatRequest, ChatStream, FinishReason, Message, ModelError, Sampling};
use reqwest::Response;
use serde_json::{Map, Value, json};
use sse_stream::SseByteStream;

use crate::answer::{Delta, Deltas, answer, bounded_bytes};
use crate::http::{Refusal, Server, ServerOptions, is_media};
use crate::text::{add_extra, estimate_tokens};

/// How to chat with a server in OpenAI's format.
#[derive(Clone, Debug, PartialEq)]
pub struct OpenAiOptions {
    /// The server.
    pub server: ServerOptions,
    /// The model's name there.
    pub model: String,
    /// How tokens are chosen when a request does not say. `top_k` is not part of the format and is not sent (put it
    /// into `extra_body` for servers that know it); a seed of 0 is not sent.
    pub sampling: Sampling,
    /// The most tokens of conversation and answer, when it is known.
    pub context_length: Option<usize>,
    /// Keys that are added to every request, over those that are there; null removes one, for example
    /// `{"stream_options": null}` for servers that refuse it.
    pub extra_body: Map<String, Value>,
    /// Leaves reasoning out of answers instead of wrapping it in `<think>` tags.
    pub remove_think_prefix: bool,
}

impl OpenAiOptions {
    /// Returns options for a model at a server, with the defaults of everything else.
    pub fn new(server: ServerOptions, model: impl Into<String>) -> Self {
        Self {
            server,
            model: model.into(),
            sampling: Sampling::default(),
            context_length: None,
            extra_body: Map::new(),
            remove_think_prefix: false,
        }
    }
}

/// A chat model behind a server in OpenAI's format.
#[derive(Debug)]
pub struct OpenAiChat {
    server: Arc<Server>,
    options: OpenAiOptions,
}

impl OpenAiChat {
    /// Returns the model. No request is made.
    ///
    /// # Errors
    /// [`ModelError::Invalid`] for an address or a header that cannot be one, or an empty model name.
    pub fn open(options: OpenAiOptions) -> Result<Arc<dyn ChatModel>, ModelError> {
        if options.model.trim().is_empty() {
            return Err(ModelError::Invalid("the name of the model is empty".to_owned()));
        }
        let remedy = format!(
            "check the model name `{}` and that the address ends where `/chat/completions` follows (usually /v1)",
            options.model
        );
        let server = Arc::new(Server::open(&options.server, remedy)?);
        Ok(Arc::new(Self { server, options }))
    }

    fn body(&self, request: &ChatRequest) -> Value {
        let sampling = request.sampling.as_ref().unwrap_or(&self.options.sampling);
        let mut body = Map::new();
        body.insert("model".to_owned(), self.options.model.clone().into());
        body.insert("messages".to_owned(), request.messages.iter().map(wire_message).collect());
        body.insert("stream".to_owned(), true.into());
        body.insert("stream_options".to_owned(), json!({"include_usage": true}));
        body.insert("temperature".to_owned(), sampling.temperature.into());
        body.insert("top_p".to_owned(), sampling.top_p.into());
        body.insert("max_tokens".to_owned(), sampling.max_tokens.into());
        if sampling.seed != 0 {
            body.insert("seed".to_owned(), sampling.seed.into());
        }
        if !sampling.stop.is_empty() {
            body.insert("stop".to_owned(), sampling.stop.clone().into());
        }
        add_extra(&mut body, &self.options.extra_body);
        Value::Object(body)
    }

    async fn open_deltas(&self, body: &Value) -> Result<Deltas, Refusal> {
        let response = self.server.post("chat/completions", body).await?;
        if is_media(&response, "application/json") {
            return self.whole(response).await;
        }
        if is_media(&response, "text/html") {
            return Err(Refusal::lasting(ModelError::BadAnswer(format!(
                "{} answered with a web page; the address usually ends in /v1",
                self.server.place()
            ))));
        }
        Ok(self.streamed(response))
    }

    /// Reads an answer that came whole although a stream was asked for.
    async fn whole(&self, response: Response) -> Result<Deltas, Refusal> {
        let limit = self.server.options.max_body_bytes;
        let started = std::time::Instant::now();
        let body = self.server.body(response, started, limit).await.map_err(Refusal::lasting)?;
        let chunk: Value = serde_json::from_slice(&body).map_err(|error| {
            Refusal::lasting(ModelError::BadAnswer(format!(
                "the answer of {} is not JSON ({error}); is it a model server?",
                self.server.place()
            )))
        })?;
        if !chunk["choices"].is_array() && chunk["error"].is_null() {
            return Err(Refusal::lasting(not_understood(&self.server)));
        }
        let mut deltas = read_chunk(&self.server, &chunk)?;
        deltas.push(Delta::End);
        Ok(stream::iter(deltas.into_iter().map(Ok)).boxed())
    }

    fn streamed(&self, response: Response) -> Deltas {
        let server = Arc::clone(&self.server);
        let bytes = bounded_bytes(&self.server, response).map_ok(std::io::Cursor::new).map_err(Carried);
        SseByteStream::new(Box::pin(bytes))
            .map(move |event| {
                let data = match event {
                    Ok(event) => event.data.unwrap_or_default(),
                    Err(error) => return Err(carried(&server, error)),
                };
                match data.trim() {
                    "" => Ok(Vec::new()),
                    "[DONE]" => Ok(vec![Delta::End]),
                    text => {
                        let chunk: Value =
                            serde_json::from_str(text).map_err(|_| Refusal::lasting(not_understood(&server)))?;
                        read_chunk(&server, &chunk)
                    }
                }
            })
            .map_ok(|deltas| stream::iter(deltas.into_iter().map(Ok)))
            .try_flatten()
            .boxed()
    }
}

/// Carries a refusal through the stream of events, whose errors must be `std` errors.
struct Carried(Refusal);

impl std::fmt::Debug for Carried {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.error.fmt(f)
    }
}

impl std::fmt::Display for Carried {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.error.fmt(f)
    }
}

impl std::error::Error for Carried {}

fn carried(server: &Server, error: sse_stream::Error) -> Refusal {
    match error {
        sse_stream::Error::Body(error) => match error.downcast::<Carried>() {
            Ok(carried) => carried.0,
            Err(_) => Refusal::lasting(not_understood(server)),
        },
        _ => Refusal::lasting(not_understood(server)),
    }
}

fn not_understood(server: &Server) -> ModelError {
    ModelError::BadAnswer(format!("the answer of {} is not in OpenAI's chat format", server.place()))
}

/// Returns what one chunk of a stream, or a whole answer, says.
fn read_chunk(server: &Server, chunk: &Value) -> Result<Vec<Delta>, Refusal> {
    let error = &chunk["error"];
    if !error.is_null() {
        let status = [&error["code"], &error["status"]].into_iter().find_map(Value::as_u64);
        let said = server.message(chunk, &[]);
        return Err(match status.and_then(|status| u16::try_from(status).ok()) {
            Some(status) if status >= 400 => server.sort(status, chunk, &said, None),
            _ => Refusal::lasting(ModelError::BadAnswer(format!("{} failed while answering: {said}", server.place()))),
        });
    }
    let mut deltas = Vec::new();
    let choice = &chunk["choices"][0];
    let said = if choice["delta"].is_object() { &choice["delta"] } else { &choice["message"] };
    for key in ["reasoning_content", "reasoning"] {
        if let Some(text) = said[key].as_str().filter(|text| !text.is_empty()) {
            deltas.push(Delta::Reasoning(text.to_owned()));
            break;
        }
    }
    if let Some(text) = said["content"].as_str().filter(|text| !text.is_empty()) {
        deltas.push(Delta::Text(text.to_owned()));
    }
    match choice["finish_reason"].as_str() {
        None => {}
        Some("content_filter") => {
            return Err(Refusal::lasting(ModelError::Invalid(format!(
                "{} refused to go on: its content filter stopped the answer",
                server.place()
            ))));
        }
        Some("length") => deltas.push(Delta::Finish(FinishReason::Length)),
        Some(_) => deltas.push(Delta::Finish(FinishReason::Stop)),
    }
    let usage = &chunk["usage"];
    if usage.is_object() {
        let count = |value: &Value| value.as_u64().and_then(|count| usize::try_from(count).ok());
        deltas.push(Delta::Usage {
            prompt: count(&usage["prompt_tokens"]),
            cached: count(&usage["prompt_tokens_details"]["cached_tokens"]),
            completion: count(&usage["completion_tokens"]),
        });
    }
    Ok(deltas)
}

/// Returns a message with the keys of the format only: servers refuse others.
fn wire_message(message: &Message) -> Value {
    let mut value = json!({"role": message.role.as_str(), "content": message.content});
    if let Some(calls) = &message.tool_calls {
        value["tool_calls"] = Value::from(calls.clone());
    }
    if let Some(id) = &message.tool_call_id {
        value["tool_call_id"] = id.clone().into();
    }
    if let Some(name) = &message.name {
        value["name"] = name.clone().into();
    }
    value
}

/// Refuses conversations that no server can answer, and estimates the tokens of others.
pub(crate) fn check_request(request: &ChatRequest) -> Result<usize, ModelError> {
    if request.messages.is_empty() {
        return Err(ModelError::Invalid("the conversation is empty".to_owned()));
    }
    if request.prefix.is_some() {
        return Err(ModelError::Invalid(
            "a remote model cannot start from activation memory; use a model that runs in this process".to_owned(),
        ));
    }
    Ok(request.messages.iter().map(|message| estimate_tokens(&message.text())).sum())
}

#[async_trait]
impl ChatModel for OpenAiChat {
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
        let body = self.body(&request);
        let removed = self.options.remove_think_prefix;
        answer(&self.server, removed, estimated, || Box::pin(self.open_deltas(&body))).await
    }
}
