//! Embeddings over HTTP, in the formats of OpenAI (and Azure), Ollama and Ark.

use std::borrow::Cow;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use async_trait::async_trait;
use futures::future::try_join_all;
use mos_core::{EmbedUse, Embedded, Embedder, EmbeddingSpace, ModelError};
use serde_json::{Map, Value, json};

use crate::http::Server;
use crate::ollama::missing;
use crate::options::ServerOptions;
use crate::text::{add_extra, cut, estimate_tokens};

/// How much is sent at once.
#[derive(Clone, Debug, PartialEq)]
pub struct EmbedLimits {
    /// Texts per request.
    pub batch_size: usize,
    /// Bytes of text per request; a longer single text goes alone.
    pub batch_bytes: usize,
    /// Texts are cut at about this many tokens; `None` sends them whole. Without the model's tokenizer an ASCII
    /// character counts a third of a token and any other character one.
    pub max_tokens: Option<usize>,
    /// Requests at the same time, for services that take few texts per request.
    pub parallel: usize,
}

impl Default for EmbedLimits {
    fn default() -> Self {
        Self { batch_size: 64, batch_bytes: 512 << 10, max_tokens: Some(8192), parallel: 1 }
    }
}

/// How to get embeddings from a server.
#[derive(Clone, Debug, PartialEq)]
pub struct RemoteEmbedderOptions {
    /// The server.
    pub server: ServerOptions,
    /// The model's name there.
    pub model: String,
    /// Length of its vectors. `None`: learned from the first answer.
    pub dimension: Option<usize>,
    /// Asks the server for vectors of this length, when one is given (`dimensions`, OpenAI's format only). A server that
    /// refuses is asked without from then on.
    pub sends_dimension: bool,
    /// How much is sent at once.
    pub limits: EmbedLimits,
    /// Keys that are added to every request.
    pub extra_body: Map<String, Value>,
}

impl RemoteEmbedderOptions {
    /// Returns options for a model at a server, with the defaults of everything else.
    pub fn new(server: ServerOptions, model: impl Into<String>) -> Self {
        Self {
            server,
            model: model.into(),
            dimension: None,
            sends_dimension: false,
            limits: EmbedLimits::default(),
            extra_body: Map::new(),
        }
    }
}

/// The key by which a length of vectors is asked for.
const DIMENSIONS: &str = "dimensions";

#[derive(Clone, Copy, Debug)]
enum Format {
    OpenAi,
    Ollama,
    /// Ark's interface for texts and images: one vector for all that a request holds.
    ArkMultimodal,
}

/// An embedding model behind a server in OpenAI's format.
#[derive(Debug)]
pub struct OpenAiEmbedder;

impl OpenAiEmbedder {
    /// Returns the model. No request is made.
    ///
    /// # Errors
    /// [`ModelError::Invalid`] for options that cannot work.
    pub fn open(options: RemoteEmbedderOptions) -> Result<Arc<dyn Embedder>, ModelError> {
        let remedy = format!(
            "check the model name `{}` and that the address ends where `/embeddings` follows (usually /v1)",
            options.model
        );
        RemoteEmbedder::open(options, Format::OpenAi, remedy)
    }
}

/// An embedding model behind an Ollama server.
#[derive(Debug)]
pub struct OllamaEmbedder;

impl OllamaEmbedder {
    /// Returns the model. No request is made.
    ///
    /// # Errors
    /// [`ModelError::Invalid`] for options that cannot work.
    pub fn open(options: RemoteEmbedderOptions) -> Result<Arc<dyn Embedder>, ModelError> {
        let remedy = missing(&options.model);
        RemoteEmbedder::open(options, Format::Ollama, remedy)
    }
}

/// An embedding model behind Volcengine's Ark service.
#[derive(Debug)]
pub struct ArkEmbedder;

impl ArkEmbedder {
    /// Returns the model, by the interface for texts or by the one for texts and images, which takes one text per
    /// request. No request is made.
    ///
    /// # Errors
    /// [`ModelError::Invalid`] for options that cannot work.
    pub fn open(mut options: RemoteEmbedderOptions, is_multimodal: bool) -> Result<Arc<dyn Embedder>, ModelError> {
        let remedy = format!("check the model name `{}` (or the id of your endpoint) and the address", options.model);
        if !is_multimodal {
            return RemoteEmbedder::open(options, Format::OpenAi, remedy);
        }
        options.limits.batch_size = 1;
        RemoteEmbedder::open(options, Format::ArkMultimodal, remedy)
    }
}

#[derive(Debug)]
struct RemoteEmbedder {
    server: Server,
    options: RemoteEmbedderOptions,
    format: Format,
    /// Configured, or learned from the first answer.
    dimension: OnceLock<usize>,
    /// Whether the server was found not to take `dimensions`.
    refuses_dimension: AtomicBool,
}

impl RemoteEmbedder {
    fn open(options: RemoteEmbedderOptions, format: Format, remedy: String) -> Result<Arc<dyn Embedder>, ModelError> {
        if options.model.trim().is_empty() {
            return Err(ModelError::Invalid("the name of the embedding model is empty".to_owned()));
        }
        let limits = &options.limits;
        if limits.batch_size == 0
            || limits.parallel == 0
            || limits.max_tokens == Some(0)
            || options.dimension == Some(0)
        {
            return Err(ModelError::Invalid(
                "batch size, requests at the same time, token limit and dimension must be at least 1".to_owned(),
            ));
        }
        let server = Server::open(&options.server, remedy)?;
        let dimension = options.dimension.map_or_else(OnceLock::new, OnceLock::from);
        Ok(Arc::new(Self { server, options, format, dimension, refuses_dimension: AtomicBool::new(false) }))
    }

    /// The path and the body of a request.
    fn request(&self, texts: &[Cow<'_, str>]) -> (&'static str, Map<String, Value>) {
        let mut body = Map::new();
        body.insert("model".to_owned(), self.options.model.clone().into());
        body.insert("input".to_owned(), texts.iter().map(|text| Value::from(text.as_ref())).collect());
        let path = match self.format {
            Format::OpenAi => {
                body.insert("encoding_format".to_owned(), "float".into());
                let wanted = self.options.dimension.filter(|_| self.options.sends_dimension);
                if let Some(wanted) = wanted.filter(|_| !self.refuses_dimension.load(Ordering::Relaxed)) {
                    body.insert(DIMENSIONS.to_owned(), wanted.into());
                }
                "embeddings"
            }
            Format::ArkMultimodal => {
                body.insert("encoding_format".to_owned(), "float".into());
                let parts = texts.iter().map(|text| json!({"type": "text", "text": text.as_ref()}));
                body.insert("input".to_owned(), parts.collect());
                "embeddings/multimodal"
            }
            // Ollama refuses texts that are too long unless it may cut them.
            Format::Ollama => {
                body.insert("truncate".to_owned(), true.into());
                "api/embed"
            }
        };
        add_extra(&mut body, &self.options.extra_body);
        (path, body)
    }

    /// Asks, once more without the length of vectors when the server refuses it.
    async fn ask(&self, texts: &[Cow<'_, str>]) -> Result<Value, ModelError> {
        let (path, mut body) = self.request(texts);
        let has_dimension = body.contains_key(DIMENSIONS);
        let answered = self.server.ask(path, &Value::Object(body.clone())).await;
        match answered {
            Err(ModelError::Invalid(reason)) if has_dimension && reason.to_lowercase().contains("dimension") => {
                body.shift_remove(DIMENSIONS);
                let answer = self.server.ask(path, &Value::Object(body)).await?;
                tracing::warn!(server = %self.server.place(), "the server takes no `dimensions`; the model's own length is used");
                self.refuses_dimension.store(true, Ordering::Relaxed);
                Ok(answer)
            }
            answered => answered,
        }
    }

    /// Returns the vectors of some texts, and how many tokens these have.
    async fn embed_batch(&self, texts: &[Cow<'_, str>]) -> Result<(Vec<Vec<f32>>, u64), ModelError> {
        let answer = self.ask(texts).await?;
        let n_tokens = self.n_tokens(&answer, texts);
        let mut vectors = vec![None; texts.len()];
        for (index, vector) in self.entries(&answer)? {
            let slot = vectors.get_mut(index).filter(|slot| slot.is_none());
            let slot = slot.ok_or_else(|| self.bad(&format!("has an unexpected entry with index {index}")))?;
            *slot = Some(self.vector(vector)?);
        }
        let n_answered = vectors.iter().flatten().count();
        let vectors = vectors
            .into_iter()
            .collect::<Option<Vec<_>>>()
            .ok_or_else(|| self.bad(&format!("has {n_answered} embeddings for {} texts", texts.len())))?;
        Ok((vectors, n_tokens))
    }

    /// The tokens that an answer says the texts have, else about how many they have.
    fn n_tokens(&self, answer: &Value, texts: &[Cow<'_, str>]) -> u64 {
        let told = match self.format {
            Format::OpenAi | Format::ArkMultimodal => {
                let usage = &answer["usage"];
                usage["prompt_tokens"].as_u64().or_else(|| usage["total_tokens"].as_u64())
            }
            Format::Ollama => answer["prompt_eval_count"].as_u64(),
        };
        told.unwrap_or_else(|| texts.iter().map(|text| estimate_tokens(text) as u64).sum())
    }

    /// Returns the entries of an answer with their places among the texts.
    fn entries<'a>(&self, answer: &'a Value) -> Result<Vec<(usize, &'a Value)>, ModelError> {
        let list = match self.format {
            Format::OpenAi | Format::ArkMultimodal => &answer["data"],
            Format::Ollama => &answer["embeddings"],
        };
        // One vector stands without a list around it.
        if list["embedding"].is_array() {
            return Ok(vec![(0, &list["embedding"])]);
        }
        let list = list.as_array().ok_or_else(|| self.bad("holds no embeddings; is it a model server?"))?;
        list.iter()
            .enumerate()
            .map(|(place, entry)| match self.format {
                Format::Ollama => Ok((place, entry)),
                Format::OpenAi | Format::ArkMultimodal => match &entry["index"] {
                    Value::Null => Ok((place, &entry["embedding"])),
                    index => {
                        let index = index.as_u64().and_then(|index| usize::try_from(index).ok());
                        let index = index.ok_or_else(|| self.bad("has an entry whose index is no number"))?;
                        Ok((index, &entry["embedding"]))
                    }
                },
            })
            .collect()
    }

    /// Returns a vector of unit length.
    fn vector(&self, value: &Value) -> Result<Vec<f32>, ModelError> {
        let numbers: Option<Vec<f64>> =
            value.as_array().map(|numbers| numbers.iter().map(Value::as_f64).collect()).unwrap_or_default();
        let numbers = numbers.ok_or_else(|| self.bad("has an embedding with something that is not a number"))?;
        let length = numbers.iter().map(|number| number * number).sum::<f64>().sqrt();
        if !length.is_finite() || length == 0.0 {
            return Err(self.bad("has an embedding without a direction (all zero, or too large)"));
        }
        let dimension = *self.dimension.get_or_init(|| numbers.len());
        if numbers.len() != dimension {
            return Err(self.bad(&format!(
                "has an embedding of {} dimensions where {dimension} were expected; correct the configured dimension \
                 or the model",
                numbers.len()
            )));
        }
        Ok(numbers.iter().map(|number| (number / length) as f32).collect())
    }

    fn bad(&self, what: &str) -> ModelError {
        ModelError::BadAnswer(format!("the answer of {} {what}", self.server.place()))
    }
}

/// Cuts texts into batches within the limits, each of one text at least.
fn batches<'a, 'b>(texts: &'a [Cow<'b, str>], limits: &EmbedLimits) -> Vec<&'a [Cow<'b, str>]> {
    let mut batches = Vec::new();
    let mut rest = texts;
    while !rest.is_empty() {
        let mut n_bytes = 0;
        let fitting = rest.iter().take(limits.batch_size).take_while(|text| {
            n_bytes += text.len();
            n_bytes <= limits.batch_bytes
        });
        let (batch, later) = rest.split_at(fitting.count().max(1));
        batches.push(batch);
        rest = later;
    }
    batches
}

#[async_trait]
impl Embedder for RemoteEmbedder {
    async fn embed(&self, texts: &[String]) -> Result<Vec<Vec<f32>>, ModelError> {
        Ok(self.embed_counted(EmbedUse::Passage, texts).await?.vectors)
    }

    async fn embed_counted(&self, _: EmbedUse, texts: &[String]) -> Result<Embedded, ModelError> {
        let limits = &self.options.limits;
        let texts: Vec<Cow<'_, str>> = texts.iter().map(|text| cut(text, limits.max_tokens)).collect();
        let (mut vectors, mut n_tokens) = (Vec::with_capacity(texts.len()), 0_u64);
        for together in batches(&texts, limits).chunks(limits.parallel) {
            for (batch, n_of_batch) in try_join_all(together.iter().map(|batch| self.embed_batch(batch))).await? {
                vectors.extend(batch);
                n_tokens = n_tokens.saturating_add(n_of_batch);
            }
        }
        Ok(Embedded { vectors, tokens: Some(n_tokens) })
    }

    async fn max_tokens(&self) -> Result<Option<usize>, ModelError> {
        Ok(self.options.limits.max_tokens)
    }

    async fn space(&self) -> Result<EmbeddingSpace, ModelError> {
        let dimension = match self.dimension.get() {
            Some(dimension) => *dimension,
            None => {
                let (vectors, _) = self.embed_batch(&[Cow::Borrowed("dimension")]).await?;
                vectors.first().map(Vec::len).ok_or_else(|| self.bad("holds no embeddings"))?
            }
        };
        Ok(EmbeddingSpace { model: self.options.model.clone(), dimension })
    }
}
