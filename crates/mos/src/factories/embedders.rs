//! Constructors of encoders, from settings to options.

use std::path::PathBuf;
use std::sync::Arc;

use futures::FutureExt;
use mos_config::embedder::{ArkEmbedder as ArkConfig, CommonEmbedder, Pooling, Prefixes, UniversalApiEmbedder};
use mos_config::{EmbedderConfig, Secret};
use mos_core::Embedder;
use mos_engine::{EmbedderOptions, LocalEmbedder, Pooling as EnginePooling};
use mos_models::{
    ArkEmbedder, BackupEmbedder, EmbedLimits, OllamaEmbedder, OpenAiEmbedder, PrefixedEmbedder, RemoteEmbedderOptions,
    ServerOptions, fetch,
};

use super::models::{Azure, Model, azure_server, blocking, server};
use super::{Factories, ModelContext};

/// The address of OpenAI, which is meant when none is configured.
const OPENAI: &str = "https://api.openai.com/v1";

/// The version of Azure's interface that MemOS asks for.
const AZURE_VERSION: &str = "2024-03-01-preview";

/// Requests at the same time to a service that takes one text each.
const PARALLEL: usize = 4;

pub(super) fn add_embedders(factories: &mut Factories) {
    for key in EmbedderConfig::KEYS {
        factories.add_embedder(*key, Arc::new(|config, context| embedder(config, context).boxed()));
    }
}

async fn embedder(config: EmbedderConfig, context: ModelContext) -> Model<dyn Embedder> {
    match config {
        EmbedderConfig::Local(c) => {
            let encoder = open_local(&c.model_name_or_path, c.max_tokens, &c.pooling, &context).await?;
            Ok(prefixed(encoder, &c.prefixes))
        }
        EmbedderConfig::SentenceTransformer(c) => {
            let encoder = open_local(&c.common.model_name_or_path, c.common.max_tokens, &c.pooling, &context).await?;
            Ok(prefixed(encoder, &c.common.prefixes))
        }
        EmbedderConfig::OpenAi(c) => {
            let server = server(&c.api_base, c.api_key.as_ref(), c.common.headers_extra.as_ref(), &c.limits);
            let options = remote(&c.common, server, Some(c.batch_size));
            Ok(prefixed(OpenAiEmbedder::open(options)?, &c.common.prefixes))
        }
        EmbedderConfig::Ollama(c) => {
            let server = server(&c.api_base, None, c.common.headers_extra.as_ref(), &c.limits);
            Ok(prefixed(OllamaEmbedder::open(remote(&c.common, server, c.batch_size))?, &c.common.prefixes))
        }
        EmbedderConfig::UniversalApi(c) => Ok(prefixed(universal(&c)?, &c.common.prefixes)),
        EmbedderConfig::Ark(c) => Ok(prefixed(ark(&c)?, &c.common.prefixes)),
    }
}

fn prefixed(encoder: Arc<dyn Embedder>, prefixes: &Prefixes) -> Arc<dyn Embedder> {
    let prefixes = mos_models::Prefixes {
        query: prefixes.query_prefix.clone().unwrap_or_default(),
        passage: prefixes.passage_prefix.clone().unwrap_or_default(),
    };
    PrefixedEmbedder::open(encoder, prefixes)
}

async fn open_local(
    name: &str,
    max_tokens: Option<usize>,
    pooling: &Pooling,
    context: &ModelContext,
) -> Model<dyn Embedder> {
    let path: PathBuf = fetch::resolve(name, &context.models_dir)?;
    let pooling = match pooling.pooling.as_deref() {
        Some("cls") => Some(EnginePooling::FirstToken),
        Some(_) => Some(EnginePooling::Mean),
        None => None,
    };
    let options = EmbedderOptions { max_tokens, pooling, ..EmbedderOptions::new(path) };
    let encoder: Arc<LocalEmbedder> = blocking(move || LocalEmbedder::open(&options)).await?;
    Ok(encoder)
}

/// MemOS' client for OpenAI and Azure asks for vectors of the configured length.
fn universal(c: &UniversalApiEmbedder) -> Model<dyn Embedder> {
    let first = match c.provider.as_str() {
        "azure" => universal_azure(c),
        _ => universal_openai(c, c.base_url.as_deref(), Some(&c.api_key)),
    };
    let encoder = OpenAiEmbedder::open(first.clone())?;
    if !c.backup_client {
        return Ok(encoder);
    }
    // The second server speaks OpenAI's format, whatever the first one is.
    let base = c.backup_base_url.as_deref().or(c.base_url.as_deref());
    // What lets in at the first one is nobody else's business.
    let is_same_host = first.server.is_host_of(base.unwrap_or(OPENAI));
    let key = c.backup_api_key.as_ref().or(is_same_host.then_some(&c.api_key));
    let mut second = universal_openai(c, base, key);
    if c.backup_headers_extra.is_some() || !is_same_host {
        second.server.headers = server(OPENAI, None, c.backup_headers_extra.as_ref(), &c.limits).headers;
    }
    if let Some(model) = &c.backup_model_name_or_path {
        second.model.clone_from(model);
    }
    Ok(BackupEmbedder::open(encoder, OpenAiEmbedder::open(second)?))
}

fn universal_openai(c: &UniversalApiEmbedder, base: Option<&str>, key: Option<&Secret>) -> RemoteEmbedderOptions {
    let server = server(base.unwrap_or(OPENAI), key, c.common.headers_extra.as_ref(), &c.limits);
    RemoteEmbedderOptions { sends_dimension: true, ..remote(&c.common, server, c.batch_size) }
}

fn universal_azure(c: &UniversalApiEmbedder) -> RemoteEmbedderOptions {
    let address = Azure {
        // The settings were checked: the provider needs an address.
        base_url: c.base_url.as_deref().unwrap_or_default(),
        deployment: &c.common.model_name_or_path,
        version: c.api_version.as_deref().unwrap_or(AZURE_VERSION),
    };
    let server = azure_server(&address, &c.api_key, c.common.headers_extra.as_ref(), &c.limits);
    RemoteEmbedderOptions { sends_dimension: true, ..remote(&c.common, server, c.batch_size) }
}

fn ark(c: &ArkConfig) -> Model<dyn Embedder> {
    let server = server(&c.api_base, Some(&c.api_key), c.common.headers_extra.as_ref(), &c.limits);
    let mut options = remote(&c.common, server, Some(c.chunk_size));
    options.limits.parallel = PARALLEL;
    ArkEmbedder::open(options, c.multi_modal)
}

fn remote(common: &CommonEmbedder, server: ServerOptions, batch_size: Option<usize>) -> RemoteEmbedderOptions {
    let defaults = EmbedLimits::default();
    RemoteEmbedderOptions {
        dimension: common.embedding_dims,
        limits: EmbedLimits {
            max_tokens: common.max_tokens,
            batch_size: batch_size.unwrap_or(defaults.batch_size),
            ..defaults
        },
        ..RemoteEmbedderOptions::new(server, &common.model_name_or_path)
    }
}
