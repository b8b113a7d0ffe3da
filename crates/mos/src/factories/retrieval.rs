//! Constructors of rerankers and internet retrievers, from settings to options.

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use mos_config::retrieval::{CosineReranker as CosineConfig, CrossEncoderReranker, HttpReranker as HttpConfig};
use mos_config::{InternetRetrieverConfig, RerankerConfig};
use mos_core::{InternetRetriever, ModelError, Reranker};
use mos_engine::{CrossEncoderOptions, LocalCrossEncoder};
use mos_memory::rerank::{CosineReranker, DocumentStrategy, KeepOrderOnFailure, NoReranker, StrategyReranker};
use mos_models::{
    BingSearch, BochaSearch, GoogleSearch, HttpOptions, HttpReranker, HttpRerankerOptions, Secret, ServerOptions,
    TavilyOptions, TavilySearch, WebSearchOptions, XinyuSearch, fetch,
};

use super::models::blocking;
use super::{Factories, RerankerParts};

type Model<T> = Result<Arc<T>, ModelError>;

pub(super) fn add_rerankers(factories: &mut Factories) {
    for key in RerankerConfig::KEYS {
        factories.add_reranker(*key, Arc::new(|config, parts| reranker(config, parts).boxed()));
    }
}

pub(super) fn add_internet_retrievers(factories: &mut Factories) {
    for key in InternetRetrieverConfig::KEYS {
        factories.add_internet_retriever(*key, Arc::new(internet_retriever));
    }
}

async fn reranker(config: RerankerConfig, parts: RerankerParts) -> Model<dyn Reranker> {
    match config {
        RerankerConfig::HttpBge(c) | RerankerConfig::Bge(c) => http_reranker(&c, None),
        // MemOS' own default strategy.
        RerankerConfig::HttpBgeStrategy(c) | RerankerConfig::BgeStrategy(c) => http_reranker(&c, Some("single_turn")),
        RerankerConfig::CosineLocal(c) | RerankerConfig::Cosine(c) => cosine_reranker(&c, parts),
        RerankerConfig::CrossEncoder(c) => cross_encoder(&c, parts).await,
        RerankerConfig::Noop(_) | RerankerConfig::None(_) | RerankerConfig::Disabled(_) => Ok(Arc::new(NoReranker)),
    }
}

fn cosine_reranker(config: &CosineConfig, parts: RerankerParts) -> Model<dyn Reranker> {
    let weights = config.level_weights.clone().unwrap_or_default();
    Ok(Arc::new(KeepOrderOnFailure::new(Arc::new(CosineReranker::new(parts.embedder, weights)?))))
}

fn http_reranker(config: &HttpConfig, default_strategy: Option<&str>) -> Model<dyn Reranker> {
    let address = config.address().ok_or_else(|| ModelError::Invalid("the reranker's `url` is missing".to_owned()))?;
    let hide = |secret: &mos_config::Secret| Secret::new(secret.expose());
    let headers = config.headers_extra.iter().flat_map(|headers| &headers.0);
    let server = ServerOptions {
        api_key: config.key().filter(|key| !key.is_empty()).map(hide),
        headers: headers.map(|(name, value)| (name.clone(), hide(value))).collect(),
        http: HttpOptions::within(Duration::from_secs_f64(config.timeout)),
        ..ServerOptions::new(address)
    };
    let mut options = HttpRerankerOptions::new(server, &config.model);
    options.limits.max_query_chars = config.max_query_tokens;
    options.limits.batch_size = config.batch_size.unwrap_or(options.limits.batch_size);
    let strategy = config.reranker_strategy.as_deref().or(default_strategy);
    let reranker = HttpReranker::open(options)?;
    let reranker = with_strategy(reranker, strategy, config.rerank_source.as_deref(), config.concate_len)?;
    Ok(if config.fails_the_search() { reranker } else { Arc::new(KeepOrderOnFailure::new(reranker)) })
}

async fn cross_encoder(config: &CrossEncoderReranker, parts: RerankerParts) -> Model<dyn Reranker> {
    let path = fetch::resolve(&config.model_name_or_path, &parts.context.models_dir)?;
    let options = CrossEncoderOptions {
        name: Some(config.model_name_or_path.clone()),
        max_tokens: config.max_tokens,
        ..CrossEncoderOptions::new(path)
    };
    let reranker = blocking(move || LocalCrossEncoder::open(&options)).await?;
    let strategy = config.reranker_strategy.as_deref();
    let reranker = with_strategy(reranker, strategy, config.rerank_source.as_deref(), config.concate_len)?;
    Ok(Arc::new(KeepOrderOnFailure::new(reranker)))
}

/// Wraps a model that reads texts, when more than the memories' own texts are to be read.
fn with_strategy(
    reranker: Arc<dyn Reranker>,
    strategy: Option<&str>,
    source: Option<&str>,
    max_context_chars: usize,
) -> Model<dyn Reranker> {
    let strategy = match strategy {
        None => source.map_or(DocumentStrategy::Plain, DocumentStrategy::of_sources),
        Some(name) => DocumentStrategy::parse(name).ok_or_else(|| {
            let known = DocumentStrategy::NAMES.join(", ");
            ModelError::Invalid(format!("the reranker's strategy `{name}` is not known; use one of {known}"))
        })?,
    };
    Ok(match strategy {
        DocumentStrategy::Plain => reranker,
        strategy => Arc::new(StrategyReranker::new(reranker, strategy, max_context_chars)),
    })
}

fn internet_retriever(config: InternetRetrieverConfig) -> Model<dyn InternetRetriever> {
    match config {
        InternetRetrieverConfig::Google(c) => {
            let options = search(&c.api_key, c.endpoint.as_deref(), c.max_results, c.num_per_request, c.timeout);
            GoogleSearch::open(options, &c.search_engine_id)
        }
        InternetRetrieverConfig::Bing(c) => {
            BingSearch::open(&search(&c.api_key, Some(&c.endpoint), c.max_results, c.num_per_request, c.timeout))
        }
        InternetRetrieverConfig::Xinyu(c) => {
            let endpoint = c.endpoint.as_deref().or(c.search_engine_id.as_deref());
            XinyuSearch::open(&search(&c.api_key, endpoint, c.max_results, c.num_per_request, c.timeout))
        }
        InternetRetrieverConfig::Bocha(c) => {
            let endpoint = c.endpoint.as_deref();
            BochaSearch::open(&search(&c.api_key, endpoint, c.max_results, c.num_per_request, c.timeout))
        }
        InternetRetrieverConfig::Tavily(c) => TavilySearch::open(TavilyOptions {
            search: search(&c.api_key, c.endpoint.as_deref(), c.max_results, c.max_results, c.timeout),
            search_depth: c.search_depth,
            include_answer: c.include_answer,
        }),
    }
}

fn search(
    key: &mos_config::Secret,
    endpoint: Option<&str>,
    max_results: usize,
    per_request: usize,
    timeout: Option<f64>,
) -> WebSearchOptions {
    let defaults = WebSearchOptions::new(Secret::new(key.expose()));
    WebSearchOptions {
        endpoint: endpoint.map(str::to_owned),
        http: timeout
            .map_or_else(|| defaults.http.clone(), |seconds| HttpOptions::within(Duration::from_secs_f64(seconds))),
        max_results,
        per_request,
        ..defaults
    }
}
