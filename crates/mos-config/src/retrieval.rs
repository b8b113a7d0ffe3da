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
        /// Which kind of source is joined to a memory.
        omitted rerank_source: Option<String>,
        /// How memories are put together for the model.
        omitted reranker_strategy: Option<String>,
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
}

fn check_http_reranker(reranker: &HttpReranker, fields: &mut Fields<'_, '_>) {
    if reranker.address().is_none() {
        fields.refuse("url", "is missing (`endpoint` and `reranker_url` are other names for it)");
    }
}

section! {
    /// Orders by the vectors that are there already.
    pub struct CosineReranker {
        /// Weight of each level.
        omitted level_weights: Option<BTreeMap<String, f64>>,
        /// The metadata field that holds the level.
        default level_field: String = "background".to_owned(),
        /// Other keys, kept as they are.
        rest extra: Free,
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
        /// The most results.
        default max_results: usize = 20,
        /// Results per request.
        default num_per_request: usize = 10,
    }
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
    }
}

/// Xinyu and Bocha have the same settings.
macro_rules! search_with_reader {
    ($(#[$meta:meta])* $name:ident) => {
        section! {
            $(#[$meta])*
            pub struct $name {
                /// The key of the account.
                required api_key: Secret,
                /// The search engine, where there are several.
                default search_engine_id: Option<String> = None,
                /// The most results.
                default max_results: usize = 20,
                /// Results per request.
                default num_per_request: usize = 10,
                /// How pages become memories.
                required reader: MemReaderConfig,
            }
        }
    };
}

search_with_reader!(
    /// Xinyu's search.
    XinyuSearch
);
search_with_reader!(
    /// Bocha's search.
    BochaSearch
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
        /// `basic` or `advanced`.
        default search_depth: String = "basic".to_owned(),
        /// Lets the service write an answer too.
        default include_answer: bool = false,
    }
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
