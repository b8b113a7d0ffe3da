//! Models and searches over HTTP, and fetching of model files.
//!
//! [`OpenAiChat`] and [`OpenAiEmbedder`] talk to any server in OpenAI's format and to Azure, [`ResponsesChat`] to OpenAI's
//! "responses" interface, [`OllamaChat`] and [`OllamaEmbedder`] to Ollama in its own, [`ArkEmbedder`] to Volcengine's Ark,
//! [`HttpReranker`] to reranking servers; [`GoogleSearch`], [`BingSearch`],
//! [`BochaSearch`], [`TavilySearch`] and [`XinyuSearch`] search the internet; [`HttpFetcher`] fetches files that stand at
//! an address; [`fetch`] brings small models onto this machine.
//!
//! Invariants: a request is repeated only before the first text of its answer; every wait, body and retry is
//! bounded; dropping a stream drops its connection; credentials appear in no error, log or `Debug` output.
//!
//! Not here: running models in this process (the engine), settings files.

mod answer;
mod backup;
mod embed;
mod events;
pub mod fetch;
mod fetch_url;
mod http;
mod ollama;
mod openai;
mod options;
mod prefix;
mod reasoning;
mod request;
mod rerank;
mod responses;
mod secret;
mod text;
mod think;
mod web;

pub use backup::{BackupChat, BackupEmbedder};
pub use embed::{ArkEmbedder, EmbedLimits, OllamaEmbedder, OpenAiEmbedder, RemoteEmbedderOptions};
pub use fetch_url::{HttpFetcher, HttpFetcherOptions};
pub use ollama::{OllamaChat, OllamaOptions};
pub use openai::{OpenAiChat, OpenAiOptions, SchemaForm};
pub use options::{HttpOptions, ServerOptions};
pub use prefix::{PrefixedEmbedder, Prefixes};
pub use reasoning::WithoutReasoning;
pub use rerank::{HttpReranker, HttpRerankerOptions, RerankLimits};
pub use responses::{ResponsesChat, ResponsesOptions};
pub use secret::Secret;
pub use web::{BingSearch, BochaSearch, GoogleSearch, TavilyOptions, TavilySearch, WebSearchOptions, XinyuSearch};

/// Makes `ring` the cryptography of this process' TLS connections, unless another was chosen before.
///
/// Every constructor here calls it; a program may call it first thing. Calling it again does nothing.
pub fn install_crypto() {
    // An error means that a provider is installed already, which is all that is needed.
    let _ = rustls::crypto::ring::default_provider().install_default();
}
