//! Ordering what was found, and finding on the internet.

use std::collections::BTreeMap;

use crate::read::Fields;
use crate::reader::MemReaderConfig;
use crate::secret::{Free, Headers, Secret};

section! {
    /// A reranking model behind HTTP.
    pub struct HttpReranker {
        /// Address of the server; `endpoint` and `reranker_url` are other names for it.
        omitted url: Option<String>,
        /// Another name for `url`.
        omitted endpoint: Option<String>,
        /// Another name for `url`.
        omitted reranker_url: Option<String>,
        /// Name of the model.
        default model: String = "bge-reranker-v2-m3".to_owned(),
        /// Seconds to wait.
        default timeout: f64 = 10.0,
        /// The most characters of a query.
        default max_query_tokens: usize = 8000,
        /// The most characters of context that are joined to a memory.
        default concate_len: usize = 1000,
        /// Headers that are sent with every request.
        omitted headers_extra: Option<Headers>,
        /// What is joined to a memory when there is no strategy: `background`, `sources`, or kinds of sources separated
        /// by commas.
        omitted rerank_source: Option<String>,
        /// How memories are put together for the model: one of [`RERANKER_STRATEGIES`].
        omitted reranker_strategy: Option<String>,
        /// The key of the account, sent as a bearer token; `token` is another name for it.
        omitted api_key: Option<Secret>,
        /// Another name for `api_key`.
        omitted token: Option<Secret>,
        /// Texts per request. Absent: the client's default.
        omitted batch_size: Option<usize>,
        /// What happens when the server fails: `keep_order` keeps the order of recall and warns, `error` fails the
        /// search. Absent: `keep_order`.
        omitted on_failure: Option<String>,
        /// Other keys, kept as they are.
        rest extra: Free,
    }
    check: check_http_reranker;
}

impl HttpReranker {
    /// Returns the address under any of its names.
    pub fn address(&self) -> Option<&str> {
        self.url.as_deref().or(self.endpoint.as_deref()).or(self.reranker_url.as_deref())
    }

    /// Returns the key under any of its names.
    pub fn key(&self) -> Option<&Secret> {
        self.api_key.as_ref().or(self.token.as_ref())
    }

    /// Whether a failure of the server fails the search.
    pub fn fails_the_search(&self) -> bool {
        self.on_failure.as_deref() == Some("error")
    }
}

/// How memories may be put together for a reranking model: with each turn of their conversation (MemOS has two names
/// for it, and a third one is understood), with the situation they arose in, with the files they were drawn from.
pub const RERANKER_STRATEGIES: &[&str] =
    &["single_turn", "singleturn_outmem", "singleturn_outputmem", "concat_background", "concat_docsource"];

fn check_http_reranker(reranker: &HttpReranker, fields: &mut Fields<'_, '_>) {
    if reranker.address().is_none() {
        fields.refuse("url", "is missing (`endpoint` and `reranker_url` are other names for it)");
    }
    check_timeout(Some(reranker.timeout), fields);
    check_word("reranker_strategy", reranker.reranker_strategy.as_deref(), RERANKER_STRATEGIES, fields);
    check_word("on_failure", reranker.on_failure.as_deref(), &["keep_order", "error"], fields);
    if reranker.batch_size == Some(0) {
        fields.refuse("batch_size", "must be at least 1");
    }
}

fn check_timeout(seconds: Option<f64>, fields: &mut Fields<'_, '_>) {
    if seconds.is_some_and(|seconds| !(seconds > 0.0 && seconds <= 86_400.0)) {
        fields.refuse("timeout", "must be more than 0 and at most 86400 (a day)");
    }
}

fn check_word(key: &str, word: Option<&str>, allowed: &[&str], fields: &mut Fields<'_, '_>) {
    if let Some(word) = word.filter(|word| !allowed.contains(word)) {
        fields.refuse(key, format!("`{word}` is not known (allowed: {})", allowed.join(", ")));
    }
}

section! {
    /// A cross-encoder (BERT or XLM-RoBERTa) that runs in this process.
    pub struct CrossEncoderReranker {
        /// Name of a fetched model, or the path of its folder.
        required model_name_or_path: String,
        /// Question and memory together are cut at this many tokens. Absent: the model's own limit.
        omitted max_tokens: Option<usize>,
        /// The most characters of context that are joined to a memory.
        default concate_len: usize = 1000,
        /// What is joined to a memory when there is no strategy, as for `http_bge`.
        omitted rerank_source: Option<String>,
        /// How memories are put together for the model: one of [`RERANKER_STRATEGIES`].
        omitted reranker_strategy: Option<String>,
    }
    check: check_cross_encoder;
}

fn check_cross_encoder(reranker: &CrossEncoderReranker, fields: &mut Fields<'_, '_>) {
    check_word("reranker_strategy", reranker.reranker_strategy.as_deref(), RERANKER_STRATEGIES, fields);
}

section! {
    /// Orders by the vectors that are there already.
    pub struct CosineReranker {
        /// Weight of each level: a type of memories (`UserMemory`) or a kind of them (`topic`, `fact`). What has none
        /// weighs 1.
        omitted level_weights: Option<BTreeMap<String, f64>>,
        /// Accepted for compatibility: MemOS looks the level up in a field that never holds one.
        default level_field: String = "background".to_owned(),
        /// Other keys, kept as they are.
        rest extra: Free,
    }
    check: check_cosine_reranker;
}

fn check_cosine_reranker(reranker: &CosineReranker, fields: &mut Fields<'_, '_>) {
    let weights = reranker.level_weights.iter().flatten();
    for (level, _) in weights.filter(|(_, weight)| !(weight.is_finite() && **weight >= 0.0)) {
        fields.refuse(&format!("level_weights.{level}"), "must not be negative");
    }
}

section! {
    /// Keeps the order.
    pub struct NoReranker {
        /// Other keys, kept as they are.
        rest extra: Free,
    }
}

backends! {
    /// How found memories are ordered.
    pub enum RerankerConfig {
        /// A model behind HTTP.
        HttpBge(HttpReranker) = "http_bge",
        /// The same under its short name.
        Bge(HttpReranker) = "bge",
        /// A model behind HTTP, with a strategy.
        HttpBgeStrategy(HttpReranker) = "http_bge_strategy",
        /// The same under its short name.
        BgeStrategy(HttpReranker) = "bge_strategy",
        /// Cosine similarity.
        CosineLocal(CosineReranker) = "cosine_local",
        /// The same under its short name.
        Cosine(CosineReranker) = "cosine",
        /// A cross-encoder in this process.
        CrossEncoder(CrossEncoderReranker) = "cross_encoder",
        /// Keeps the order.
        Noop(NoReranker) = "noop",
        /// The same under another name.
        None(NoReranker) = "none",
        /// The same under another name.
        Disabled(NoReranker) = "disabled",
    }
}

section! {
    /// Google's custom search.
    pub struct GoogleSearch {
        /// The key of the account.
        required api_key: Secret,
        /// The search engine.
        required search_engine_id: String,
        /// Address of the service. Absent: the public one.
        omitted endpoint: Option<String>,
        /// The most results.
        default max_results: usize = 20,
        /// Results per request.
        default num_per_request: usize = 10,
        /// Seconds to wait. Absent: the client's default.
        omitted timeout: Option<f64>,
    }
    check: check_google;
}

fn check_google(search: &GoogleSearch, fields: &mut Fields<'_, '_>) {
    check_timeout(search.timeout, fields);
}

section! {
    /// Bing's search.
    pub struct BingSearch {
        /// The key of the account.
        required api_key: Secret,
        /// Not used by this service.
        default search_engine_id: Option<String> = None,
        /// Address of the service.
        default endpoint: String = "https://api.bing.microsoft.com/v7.0/search".to_owned(),
        /// The most results.
        default max_results: usize = 20,
        /// Results per request.
        default num_per_request: usize = 10,
        /// Seconds to wait. Absent: the client's default.
        omitted timeout: Option<f64>,
    }
    check: check_bing;
}

fn check_bing(search: &BingSearch, fields: &mut Fields<'_, '_>) {
    check_timeout(search.timeout, fields);
}

/// Xinyu and Bocha have the same settings.
macro_rules! search_with_reader {
    ($(#[doc = $doc:literal])* $name:ident, $check:ident, $engine:literal) => {
        section! {
            $(#[doc = $doc])*
            pub struct $name {
                /// The key of the account.
                required api_key: Secret,
                #[doc = $engine]
                default search_engine_id: Option<String> = None,
                /// Address of the service. Absent: the public one, where there is one.
                omitted endpoint: Option<String>,
                /// The most results.
                default max_results: usize = 20,
                /// Results per request.
                default num_per_request: usize = 10,
                /// Accepted for compatibility: each page becomes one memory without a reader.
                omitted reader: Option<MemReaderConfig>,
                /// Seconds to wait. Absent: the client's default.
                omitted timeout: Option<f64>,
            }
            check: $check;
        }

        fn $check(search: &$name, fields: &mut Fields<'_, '_>) {
            check_timeout(search.timeout, fields);
        }
    };
}

search_with_reader!(
    /// Xinyu's search.
    XinyuSearch,
    check_xinyu,
    "MemOS' place for the address of the service; `endpoint` is the better one."
);
search_with_reader!(
    /// Bocha's search.
    BochaSearch,
    check_bocha,
    "Not used by this service."
);

section! {
    /// Tavily's search.
    pub struct TavilySearch {
        /// The key of the account.
        required api_key: Secret,
        /// Not used by this service.
        default search_engine_id: Option<String> = None,
        /// The most results.
        default max_results: usize = 10,
        /// `basic`, `advanced`, or another depth that the service knows.
        default search_depth: String = "basic".to_owned(),
        /// Lets the service write an answer too.
        default include_answer: bool = false,
        /// Address of the service. Absent: the public one.
        omitted endpoint: Option<String>,
        /// Seconds to wait. Absent: the client's default.
        omitted timeout: Option<f64>,
    }
    check: check_tavily;
}

fn check_tavily(search: &TavilySearch, fields: &mut Fields<'_, '_>) {
    check_timeout(search.timeout, fields);
}

backends! {
    /// How the internet is searched.
    pub enum InternetRetrieverConfig {
        /// Google.
        Google(GoogleSearch) = "google",
        /// Bing.
        Bing(BingSearch) = "bing",
        /// Xinyu.
        Xinyu(XinyuSearch) = "xinyu",
        /// Bocha.
        Bocha(BochaSearch) = "bocha",
        /// Tavily.
        Tavily(TavilySearch) = "tavily",
    }
    null backend: retriever;
}
