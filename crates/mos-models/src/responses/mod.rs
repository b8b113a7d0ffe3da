//! Chat by OpenAI's "responses" interface.
//!
//! Nothing is kept on the server (`store` is false): the conversation is sent whole each time. The interface has no stop
//! texts; answers are cut here before the first of them.

mod stops;
mod wire;

use std::sync::Arc;

use async_trait::async_trait;
use mos_core::{ChatModel, ChatRequest, ChatStream, ModelError, Sampling, ToolChoice};
use serde_json::{Map, Value, json};

use crate::answer::Deltas;
use crate::events::read_answer;
use crate::http::{Refusal, Server};
use crate::options::ServerOptions;
use crate::request::{Asked, SCHEMA_NAME, ask, check_request, is_strict};
use crate::text::add_extra;

/// How to chat by the "responses" interface.
#[derive(Clone, Debug, PartialEq)]
pub struct ResponsesOptions {
    /// The server.
    pub server: ServerOptions,
    /// The model's name there.
    pub model: String,
    /// How tokens are chosen when a request does not say. The interface knows no `top_k` and no seed.
    pub sampling: Sampling,
    /// The most tokens of conversation and answer, when it is known.
    pub context_length: Option<usize>,
    /// Lets models that can reason do so, with a summary of their reasoning.
    pub enable_thinking: bool,
    /// Leaves reasoning out of answers instead of wrapping it in `<think>` tags.
    pub remove_think_prefix: bool,
    /// Keys that are added to every request, over those that are there; null removes one, for example
    /// `{"temperature": null}` for models that refuse it.
    pub extra_body: Map<String, Value>,
}

impl ResponsesOptions {
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

/// A chat model behind the "responses" interface.
#[derive(Debug)]
pub struct ResponsesChat {
    server: Arc<Server>,
    options: ResponsesOptions,
}

impl ResponsesChat {
    /// Returns the model. No request is made.
    ///
    /// # Errors
    /// [`ModelError::Invalid`] for an address or a header that cannot be one, or an empty model name.
    pub fn open(options: ResponsesOptions) -> Result<Arc<dyn ChatModel>, ModelError> {
        if options.model.trim().is_empty() {
            return Err(ModelError::Invalid("the name of the model is empty".to_owned()));
        }
        let remedy = format!(
            "check the model name `{}` and that the address ends where `/responses` follows (usually /v1); servers \
             without that interface take the backend `openai`",
            options.model
        );
        let server = Arc::new(Server::open(&options.server, remedy)?);
        Ok(Arc::new(Self { server, options }))
    }

    fn body(&self, request: &ChatRequest) -> Result<Map<String, Value>, ModelError> {
        let sampling = self.sampling(request);
        let mut body = Map::new();
        body.insert("model".to_owned(), self.options.model.clone().into());
        body.insert("input".to_owned(), wire::input(&request.messages)?.into());
        body.insert("stream".to_owned(), true.into());
        body.insert("store".to_owned(), false.into());
        body.insert("temperature".to_owned(), sampling.temperature.into());
        body.insert("top_p".to_owned(), sampling.top_p.into());
        body.insert("max_output_tokens".to_owned(), sampling.max_tokens.into());
        if self.options.enable_thinking {
            body.insert("reasoning".to_owned(), json!({"effort": "low", "summary": "auto"}));
        }
        if let Some(schema) = &request.answer_schema {
            let mut format = json!({"type": "json_schema", "name": SCHEMA_NAME, "schema": schema});
            format["strict"] = is_strict(schema).into();
            body.insert("text".to_owned(), json!({"format": format}));
        }
        if !request.tools.is_empty() {
            body.insert("tools".to_owned(), request.tools.iter().map(wire::tool).collect());
            match &request.tool_choice {
                None => {}
                Some(ToolChoice::Any) => drop(body.insert("tool_choice".to_owned(), "required".into())),
                Some(ToolChoice::Named(name)) => {
                    body.insert("tool_choice".to_owned(), json!({"type": "function", "name": name}));
                }
            }
        }
        add_extra(&mut body, &self.options.extra_body);
        Ok(body)
    }

    fn sampling<'a>(&'a self, request: &'a ChatRequest) -> &'a Sampling {
        request.sampling.as_ref().unwrap_or(&self.options.sampling)
    }
}

/// One request, with the texts that end its answer.
struct Question<'a> {
    chat: &'a ResponsesChat,
    stop: Vec<String>,
}

#[async_trait]
impl Asked for Question<'_> {
    fn server(&self) -> &Arc<Server> {
        &self.chat.server
    }

    fn removes_reasoning(&self) -> bool {
        self.chat.options.remove_think_prefix
    }

    async fn start(&self, body: &Value) -> Result<Deltas, Refusal> {
        let response = self.chat.server.post("responses", body).await?;
        let deltas = read_answer(&self.chat.server, response, wire::read_event, wire::read_whole).await?;
        Ok(stops::cut(deltas, self.stop.clone()))
    }
}

#[async_trait]
impl ChatModel for ResponsesChat {
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
        let question = Question { chat: self, stop: self.sampling(&request).stop.clone() };
        ask(&question, estimated, self.body(&request)?).await
    }
}
