//! Models that turn texts into vectors.

use crate::llm::HttpLimits;
use crate::read::Fields;
use crate::secret::{Headers, Secret};

section! {
    /// What every embedding model of MemOS has in common.
    pub struct CommonEmbedder {
        /// Name of the model at its server or on the hub, or a path.
        required model_name_or_path: String,
        /// Length of the vectors. Absent: learned from the first answer.
        default embedding_dims: Option<usize> = None,
        /// Texts are cut at this many tokens; null sends them whole.
        default max_tokens: Option<usize> = Some(8192),
        /// Headers that are sent with every request.
        default headers_extra: Option<Headers> = None,
        /// What stands before questions and memories when they are embedded.
        group prefixes: Prefixes,
    }
    check: check_common;
}

fn check_common(embedder: &CommonEmbedder, fields: &mut Fields<'_, '_>) {
    for (key, value) in [("embedding_dims", embedder.embedding_dims), ("max_tokens", embedder.max_tokens)] {
        if value == Some(0) {
            fields.refuse(key, "must be at least 1");
        }
    }
}

section! {
    /// Texts that a model was trained to see before questions and before what may answer them; models of the E5 family
    /// want `query: ` and `passage: `. A cube remembers the prefix of its memories: with another it must be embedded anew.
    pub struct Prefixes {
        /// Before questions. Absent: nothing.
        omitted query_prefix: Option<String>,
        /// Before memories. Absent: nothing.
        omitted passage_prefix: Option<String>,
    }
}

/// How the vectors of a text's tokens become one.
pub const POOLINGS: &[&str] = &["mean", "cls"];

section! {
    /// How a sentence encoder computes in this process.
    pub struct Pooling {
        /// `mean` of all tokens, or the first one (`cls`). Absent: what the model's folder says, else `mean`.
        omitted pooling: Option<String>,
    }
    check: check_pooling;
}

fn check_pooling(pooling: &Pooling, fields: &mut Fields<'_, '_>) {
    if let Some(word) = pooling.pooling.as_deref().filter(|word| !POOLINGS.contains(word)) {
        fields.refuse("pooling", format!("`{word}` is not known (allowed: {})", POOLINGS.join(", ")));
    }
}

section! {
    /// A sentence encoder (BERT or XLM-RoBERTa) that runs in this process.
    pub struct LocalEmbedder {
        /// Name of a fetched model, or the path of its folder.
        required model_name_or_path: String,
        /// Texts are cut at this many tokens. Absent: the model's own limit.
        omitted max_tokens: Option<usize>,
        /// How the vectors of tokens become one.
        group pooling: Pooling,
        /// What stands before questions and memories when they are embedded.
        group prefixes: Prefixes,
    }
}

section! {
    /// An Ollama server.
    pub struct OllamaEmbedder {
        /// Model and limits.
        group common: CommonEmbedder,
        /// Address of the server.
        default api_base: String = "http://localhost:11434".to_owned(),
        /// Texts per request. Absent: the client's default.
        omitted batch_size: Option<usize>,
        /// Time-outs and retries.
        group limits: HttpLimits,
    }
    check: check_ollama;
}

fn check_ollama(embedder: &OllamaEmbedder, fields: &mut Fields<'_, '_>) {
    check_batch_size(embedder.batch_size, fields);
}

section! {
    /// A model of the sentence-transformers library; it runs in this process.
    pub struct SentenceTransformerEmbedder {
        /// Model and limits.
        group common: CommonEmbedder,
        /// Accepted for compatibility: code of a model repository is never run.
        default trust_remote_code: bool = true,
        /// How the vectors of tokens become one.
        group pooling: Pooling,
    }
}

section! {
    /// MemOS' client for OpenAI's or Azure's embeddings.
    pub struct UniversalApiEmbedder {
        /// Model and limits.
        group common: CommonEmbedder,
        /// `openai` or `azure`.
        required provider: String,
        /// The key of the account.
        required api_key: Secret,
        /// Address of the server. Absent: the provider's own.
        default base_url: Option<String> = None,
        /// Whether a second server is asked once when the first one fails.
        default backup_client: bool = false,
        /// Its address.
        default backup_base_url: Option<String> = None,
        /// Its key.
        default backup_api_key: Option<Secret> = None,
        /// Headers that are sent to it.
        default backup_headers_extra: Option<Headers> = None,
        /// Its model.
        default backup_model_name_or_path: Option<String> = None,
        /// Version of Azure's interface. Absent: MemOS' one, `2024-03-01-preview`.
        omitted api_version: Option<String>,
        /// Texts per request. Absent: the client's default.
        omitted batch_size: Option<usize>,
        /// Time-outs and retries.
        group limits: HttpLimits,
    }
    check: check_provider;
}

fn check_provider(embedder: &UniversalApiEmbedder, fields: &mut Fields<'_, '_>) {
    if !["openai", "azure"].contains(&embedder.provider.as_str()) {
        fields.refuse("provider", format!("unknown provider `{}` (allowed: openai, azure)", embedder.provider));
    }
    if embedder.provider == "azure" && embedder.base_url.is_none() {
        fields.refuse("base_url", "is missing: with the provider `azure` it is the address of your resource");
    }
    check_batch_size(embedder.batch_size, fields);
}

fn check_batch_size(batch_size: Option<usize>, fields: &mut Fields<'_, '_>) {
    if batch_size == Some(0) {
        fields.refuse("batch_size", "must be at least 1");
    }
}

section! {
    /// Volcengine's Ark service.
    pub struct ArkEmbedder {
        /// Model and limits.
        group common: CommonEmbedder,
        /// The key of the account.
        required api_key: Secret,
        /// Address of the server.
        default api_base: String = "https://ark.cn-beijing.volces.com/api/v3/".to_owned(),
        /// Texts per request; the interface for texts and images takes one, whatever stands here.
        default chunk_size: usize = 1,
        /// Uses the interface for texts and images.
        default multi_modal: bool = false,
        /// Time-outs and retries.
        group limits: HttpLimits,
    }
    check: check_ark;
}

fn check_ark(embedder: &ArkEmbedder, fields: &mut Fields<'_, '_>) {
    if embedder.chunk_size == 0 {
        fields.refuse("chunk_size", "must be at least 1");
    }
}

section! {
    /// Any server that speaks OpenAI's embeddings format.
    pub struct OpenAiEmbedder {
        /// Model and limits.
        group common: CommonEmbedder,
        /// The key, when the server wants one.
        default api_key: Option<Secret> = None,
        /// Address of the server, up to and including `/v1`.
        default api_base: String = "https://api.openai.com/v1".to_owned(),
        /// Texts per request: more is faster, and more is lost when a request fails.
        default batch_size: usize = 64,
        /// Time-outs and retries.
        group limits: HttpLimits,
    }
    check: check_openai;
}

fn check_openai(embedder: &OpenAiEmbedder, fields: &mut Fields<'_, '_>) {
    check_batch_size(Some(embedder.batch_size), fields);
}

backends! {
    /// A model that turns texts into vectors.
    pub enum EmbedderConfig {
        /// A sentence encoder in this process.
        Local(LocalEmbedder) = "local",
        /// Any server that speaks OpenAI's embeddings format.
        OpenAi(OpenAiEmbedder) = "openai",
        /// An Ollama server.
        Ollama(OllamaEmbedder) = "ollama",
        /// A sentence-transformers model in this process.
        SentenceTransformer(SentenceTransformerEmbedder) = "sentence_transformer",
        /// MemOS' client for OpenAI or Azure.
        UniversalApi(UniversalApiEmbedder) = "universal_api",
        /// Volcengine's Ark service.
        Ark(ArkEmbedder) = "ark",
    }
}
