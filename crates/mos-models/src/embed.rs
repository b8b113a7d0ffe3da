//! Embeddings over HTTP, in OpenAI's format and Ollama's.

use std::borrow::Cow;
use std::sync::{Arc, OnceLock};

use async_trait::async_trait;
use mos_core::{Embedder, EmbeddingSpace, ModelError};
use serde_json::{Map, Value};

use crate::http::{Server, ServerOptions};
use crate::ollama::missing;
use crate::text::{add_extra, cut};

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
}

impl Default for EmbedLimits {
    fn default() -> Self {
        Self { batch_size: 64, batch_bytes: 512 << 10, max_tokens: Some(8192) }
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
    /// How much is sent at once.
    pub limits: EmbedLimits,
    /// Keys that are added to every request, for example `{"dimensions": 256}` for models that can shorten vectors.
    pub extra_body: Map<String, Value>,
}

impl RemoteEmbedderOptions {
    /// Returns options for a model at a server, with the defaults of everything else.
    pub fn new(server: ServerOptions, model: impl Into<String>) -> Self {
        Self { server, model: model.into(), dimension: None, limits: EmbedLimits::default(), extra_body: Map::new() }
    }
}

#[derive(Clone, Copy, Debug)]
enum Format {
    OpenAi,
    Ollama,
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

#[derive(Debug)]
struct RemoteEmbedder {
    server: Server,
    options: RemoteEmbedderOptions,
    format: Format,
    /// Configured, or learned from the first answer.
    dimension: OnceLock<usize>,
}

impl RemoteEmbedder {
    fn open(options: RemoteEmbedderOptions, format: Format, remedy: String) -> Result<Arc<dyn Embedder>, ModelError> {
        if options.model.trim().is_empty() {
            return Err(ModelError::Invalid("the name of the embedding model is empty".to_owned()));
        }
        if options.limits.batch_size == 0 || options.limits.max_tokens == Some(0) || options.dimension == Some(0) {
            return Err(ModelError::Invalid("batch size, token limit and dimension must be at least 1".to_owned()));
        }
        let server = Server::open(&options.server, remedy)?;
        let dimension = options.dimension.map_or_else(OnceLock::new, OnceLock::from);
        Ok(Arc::new(Self { server, options, format, dimension }))
    }

    async fn embed_batch(&self, texts: &[Cow<'_, str>]) -> Result<Vec<Vec<f32>>, ModelError> {
        let mut body = Map::new();
        body.insert("model".to_owned(), self.options.model.clone().into());
        body.insert("input".to_owned(), texts.iter().map(|text| Value::from(text.as_ref())).collect());
        let path = match self.format {
            Format::OpenAi => {
                body.insert("encoding_format".to_owned(), "float".into());
                "embeddings"
            }
            // Ollama refuses texts that are too long unless it may cut them.
            Format::Ollama => {
                body.insert("truncate".to_owned(), true.into());
                "api/embed"
            }
        };
        add_extra(&mut body, &self.options.extra_body);
        let answer = self.server.ask(path, &Value::Object(body)).await?;
        let mut vectors = vec![None; texts.len()];
        for (index, vector) in self.entries(&answer)? {
            let slot = vectors.get_mut(index).filter(|slot| slot.is_none());
            let slot = slot.ok_or_else(|| self.bad(&format!("has an unexpected entry with index {index}")))?;
            *slot = Some(self.vector(vector)?);
        }
        let n_answered = vectors.iter().flatten().count();
        vectors
            .into_iter()
            .collect::<Option<Vec<_>>>()
            .ok_or_else(|| self.bad(&format!("has {n_answered} embeddings for {} texts", texts.len())))
    }

    /// Returns the entries of an answer with their places among the texts.
    fn entries<'a>(&self, answer: &'a Value) -> Result<Vec<(usize, &'a Value)>, ModelError> {
        let list = match self.format {
            Format::OpenAi => &answer["data"],
            Format::Ollama => &answer["embeddings"],
        };
        let list = list.as_array().ok_or_else(|| self.bad("holds no embeddings; is it a model server?"))?;
        list.iter()
            .enumerate()
            .map(|(place, entry)| match self.format {
                Format::Ollama => Ok((place, entry)),
                Format::OpenAi => match &entry["index"] {
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

#[async_trait]
impl Embedder for RemoteEmbedder {
    async fn embed(&self, texts: &[String]) -> Result<Vec<Vec<f32>>, ModelError> {
        let limits = &self.options.limits;
        let texts: Vec<Cow<'_, str>> = texts.iter().map(|text| cut(text, limits.max_tokens)).collect();
        let mut vectors = Vec::with_capacity(texts.len());
        let mut rest = texts.as_slice();
        while !rest.is_empty() {
            let mut n_bytes = 0;
            let fitting = rest.iter().take(limits.batch_size).take_while(|text| {
                n_bytes += text.len();
                n_bytes <= limits.batch_bytes
            });
            let (batch, later) = rest.split_at(fitting.count().max(1));
            vectors.extend(self.embed_batch(batch).await?);
            rest = later;
        }
        Ok(vectors)
    }

    async fn space(&self) -> Result<EmbeddingSpace, ModelError> {
        let dimension = match self.dimension.get() {
            Some(dimension) => *dimension,
            None => {
                let vectors = self.embed_batch(&[Cow::Borrowed("dimension")]).await?;
                vectors.first().map(Vec::len).ok_or_else(|| self.bad("holds no embeddings"))?
            }
        };
        Ok(EmbeddingSpace { model: self.options.model.clone(), dimension })
    }
}
