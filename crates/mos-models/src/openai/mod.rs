//! Chat in OpenAI's format.

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

/// How a server in OpenAI's format is asked for answers that fit a schema.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SchemaForm {
    /// By the schema itself (`response_format` of the type `json_schema`).
    #[default]
    Schema,
    /// By asking for any JSON object (`response_format` of the type `json_object`), for servers that know no schemas.
    AnyObject,
}

/// How to chat with a server in OpenAI's format.
#[derive(Clone, Debug, PartialEq)]
pub struct OpenAiOptions {
    /// The server.
    pub server: ServerOptions,
    /// The model's name there.
    pub model: String,
    /// How tokens are chosen when a request does not say. A seed of 0 is not sent.
    pub sampling: Sampling,
    /// Sends `top_k` too, when it is not 0. It is not part of the format; vLLM and others know it.
    pub sends_top_k: bool,
    /// The most tokens of conversation and answer, when it is known.
    pub context_length: Option<usize>,
    /// Keys that are added to every request, over those that are there; null removes one, for example
    /// `{"stream_options": null}` for servers that refuse it.
    pub extra_body: Map<String, Value>,
    /// How answers that fit a schema are asked for. A server that refuses is asked again without.
    pub schema_form: SchemaForm,
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
            sends_top_k: false,
            context_length: None,
            extra_body: Map::new(),
            schema_form: SchemaForm::default(),
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

    fn body(&self, request: &ChatRequest) -> Map<String, Value> {
        let sampling = request.sampling.as_ref().unwrap_or(&self.options.sampling);
        let mut body = Map::new();
        body.insert("model".to_owned(), self.options.model.clone().into());
        body.insert("messages".to_owned(), request.messages.iter().map(wire::message).collect());
        body.insert("stream".to_owned(), true.into());
        body.insert("stream_options".to_owned(), json!({"include_usage": true}));
        body.insert("temperature".to_owned(), sampling.temperature.into());
        body.insert("top_p".to_owned(), sampling.top_p.into());
        body.insert("max_tokens".to_owned(), sampling.max_tokens.into());
        if self.options.sends_top_k && sampling.top_k > 0 {
            body.insert("top_k".to_owned(), sampling.top_k.into());
        }
        if sampling.seed != 0 {
            body.insert("seed".to_owned(), sampling.seed.into());
        }
        if !sampling.stop.is_empty() {
            body.insert("stop".to_owned(), sampling.stop.clone().into());
        }
        if let Some(schema) = &request.answer_schema {
            body.insert("response_format".to_owned(), self.response_format(schema));
        }
        if !request.tools.is_empty() {
            body.insert("tools".to_owned(), request.tools.clone().into());
            match &request.tool_choice {
                None => {}
                Some(ToolChoice::Any) => drop(body.insert("tool_choice".to_owned(), "required".into())),
                Some(ToolChoice::Named(name)) => {
                    let named = json!({"type": "function", "function": {"name": name}});
                    body.insert("tool_choice".to_owned(), named);
                }
            }
        }
        add_extra(&mut body, &self.options.extra_body);
        body
    }

    fn response_format(&self, schema: &Value) -> Value {
        match self.options.schema_form {
            SchemaForm::AnyObject => json!({"type": "json_object"}),
            SchemaForm::Schema => {
                let mut named = json!({"name": SCHEMA_NAME, "schema": schema});
                if is_strict(schema) {
                    named["strict"] = true.into();
                }
                json!({"type": "json_schema", "json_schema": named})
            }
        }
    }
}

#[async_trait]
impl Asked for OpenAiChat {
    fn server(&self) -> &Arc<Server> {
        &self.server
    }

    fn removes_reasoning(&self) -> bool {
        self.options.remove_think_prefix
    }

    async fn start(&self, body: &Value) -> Result<Deltas, Refusal> {
        let response = self.server.post("chat/completions", body).await?;
        read_answer(&self.server, response, wire::read_chunk, wire::read_whole).await
    }
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
        ask(self, estimated, self.body(&request)).await
    }
}
