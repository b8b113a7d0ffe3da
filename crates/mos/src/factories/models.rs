//! Constructors of chat models and encoders, from settings to options.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use mos_config::embedder::{CommonEmbedder, LocalEmbedder as LocalEmbedderConfig};
use mos_config::llm::{BackupServer, CommonLlm, HttpLimits, HuggingFaceLlm, LocalLlm};
use mos_config::{ChatModelConfig, EmbedderConfig, Headers, Secret};
use mos_core::{ChatModel, Embedder, ModelError, Sampling};
use mos_engine::{ChatModelOptions, ComputeDevice, EmbedderOptions, LocalChatModel, LocalEmbedder};
use mos_models::{
    BackupChat, BackupEmbedder, EmbedLimits, HttpOptions, OllamaChat, OllamaEmbedder, OllamaOptions, OpenAiChat,
    OpenAiEmbedder, OpenAiOptions, RemoteEmbedderOptions, ServerOptions, fetch,
};
use serde_json::{Map, Value, json};

use super::devices::compute_device;
use super::{Factories, ModelContext};
use crate::activation::{ActivationBackend, KvCaches, ServerPrompts};

type Model<T> = Result<Arc<T>, ModelError>;

pub(super) fn add_chat_models(factories: &mut Factories) {
    for key in
        ["local", "openai", "qwen", "deepseek", "minimax", "ollama", "vllm", "huggingface", "huggingface_singleton"]
    {
        factories.add_chat_model(key, Arc::new(|config, context| chat_model(config, context).boxed()));
    }
}

pub(super) fn add_embedders(factories: &mut Factories) {
    for key in ["local", "openai", "ollama", "sentence_transformer", "universal_api"] {
        factories.add_embedder(key, Arc::new(|config, context| embedder(config, context).boxed()));
    }
}

/// The services that speak OpenAI's format have configurations of the same fields and different types.
macro_rules! openai_shape {
    ($c:ident) => {{
        let (key, backup) = (Some(&$c.api_key), Some(&$c.backup));
        openai_chat(&$c.common, &$c.api_base, key, &$c.extra_body, $c.enable_thinking, &$c.limits, backup)
    }};
}

pub(super) fn add_activation_memories(factories: &mut Factories) {
    factories.add_activation_memory(
        "kv_cache",
        Arc::new(|parts| {
            let (config, context) = (parts.settings.chat_model.clone(), parts.context.clone());
            let open = move || local_chat_model(config.clone(), context.clone()).boxed();
            ActivationBackend::Kv(Arc::new(KvCaches::new(parts, Box::new(open))))
        }),
    );
    factories.add_activation_memory(
        "vllm_kv_cache",
        Arc::new(|parts| ActivationBackend::Prompts(Arc::new(ServerPrompts::new(parts)))),
    );
}

/// The configured chat model as what it is in this process. One that is in use already is shared.
async fn local_chat_model(config: ChatModelConfig, context: ModelContext) -> Result<Arc<LocalChatModel>, ModelError> {
    let options = match &config {
        ChatModelConfig::Local(local) => local_chat_options(local, &context)?,
        ChatModelConfig::HuggingFace(hub) | ChatModelConfig::HuggingFaceSingleton(hub) => {
            hub_chat_options(hub, &context)?
        }
        other => {
            return Err(ModelError::Invalid(format!(
                "caches can be kept of a model that computes in this process only, and chat_model is `{}`; use the                  backend `local`",
                other.backend()
            )));
        }
    };
    open_local_chat(options).await
}

async fn chat_model(config: ChatModelConfig, context: ModelContext) -> Model<dyn ChatModel> {
    match config {
        ChatModelConfig::Local(_) | ChatModelConfig::HuggingFace(_) | ChatModelConfig::HuggingFaceSingleton(_) => {
            Ok(local_chat_model(config, context).await?)
        }
        ChatModelConfig::OpenAi(c) => openai_shape!(c),
        ChatModelConfig::Qwen(c) => openai_shape!(c),
        ChatModelConfig::DeepSeek(c) => openai_shape!(c),
        ChatModelConfig::Minimax(c) => openai_shape!(c),
        ChatModelConfig::Vllm(c) => {
            let thinking = c.enable_thinking.then_some(true);
            openai_chat(&c.common, &c.api_base, Some(&c.api_key), &c.extra_body, thinking, &c.limits, None)
        }
        ChatModelConfig::Ollama(c) => OllamaChat::open(OllamaOptions {
            sampling: sampling(&c.common),
            enable_thinking: c.enable_thinking,
            remove_think_prefix: c.common.remove_think_prefix,
            ..OllamaOptions::new(
                server(&c.api_base, None, c.common.default_headers.as_ref(), &c.limits),
                &c.common.model_name_or_path,
            )
        }),
        other => {
            Err(ModelError::NotFound(format!("this build cannot run the chat model backend `{}`", other.backend())))
        }
    }
}

async fn embedder(config: EmbedderConfig, context: ModelContext) -> Model<dyn Embedder> {
    match config {
        EmbedderConfig::Local(local) => open_local_embedder(&local, &context).await,
        EmbedderConfig::SentenceTransformer(c) => {
            let local = LocalEmbedderConfig {
                model_name_or_path: c.common.model_name_or_path,
                max_tokens: c.common.max_tokens,
            };
            open_local_embedder(&local, &context).await
        }
        EmbedderConfig::OpenAi(c) => {
            let server = server(&c.api_base, c.api_key.as_ref(), c.common.headers_extra.as_ref(), &c.limits);
            let mut options = remote_embedder(&c.common, server);
            options.limits.batch_size = c.batch_size;
            OpenAiEmbedder::open(options)
        }
        EmbedderConfig::Ollama(c) => {
            let server = server(&c.api_base, None, c.common.headers_extra.as_ref(), &c.limits);
            OllamaEmbedder::open(remote_embedder(&c.common, server))
        }
        EmbedderConfig::UniversalApi(c) if c.provider == "openai" => universal_embedder(&c),
        EmbedderConfig::UniversalApi(c) => Err(ModelError::NotFound(format!(
            "this build cannot run the embedding provider `{}`; use openai",
            c.provider
        ))),
        other => Err(ModelError::NotFound(format!("this build cannot run the embedder backend `{}`", other.backend()))),
    }
}

fn local_chat_options(local: &LocalLlm, context: &ModelContext) -> Result<ChatModelOptions, ModelError> {
    let device = compute_device(&local.device)?;
    let path = fetch::resolve(&local.model_name_or_path, &context.models_dir)?;
    let defaults = ChatModelOptions::new(path);
    Ok(ChatModelOptions {
        name: Some(local.model_name_or_path.clone()),
        sampling: Sampling {
            temperature: local.temperature,
            top_p: local.top_p,
            top_k: local.top_k,
            seed: local.seed,
            max_tokens: local.max_tokens,
            stop: local.stop.clone(),
        },
        threads: local.threads,
        device,
        context_length: local.context_length,
        kept_state_bytes: local.kept_state_bytes.unwrap_or(defaults.kept_state_bytes),
        ..defaults
    })
}

fn hub_chat_options(hub: &HuggingFaceLlm, context: &ModelContext) -> Result<ChatModelOptions, ModelError> {
    let mut sampling = sampling(&hub.common);
    if !hub.do_sample {
        sampling.temperature = 0.0;
    }
    Ok(ChatModelOptions {
        name: Some(hub.common.model_name_or_path.clone()),
        sampling,
        device: ComputeDevice::Auto,
        ..ChatModelOptions::new(fetch::resolve(&hub.common.model_name_or_path, &context.models_dir)?)
    })
}

async fn open_local_chat(options: ChatModelOptions) -> Result<Arc<LocalChatModel>, ModelError> {
    blocking(move || LocalChatModel::open(&options)).await
}

async fn open_local_embedder(config: &LocalEmbedderConfig, context: &ModelContext) -> Model<dyn Embedder> {
    let path: PathBuf = fetch::resolve(&config.model_name_or_path, &context.models_dir)?;
    let options = EmbedderOptions { max_tokens: config.max_tokens, ..EmbedderOptions::new(path) };
    let encoder: Arc<LocalEmbedder> = blocking(move || LocalEmbedder::open(&options)).await?;
    Ok(encoder)
}

/// Reading weights takes its time; it must not hold the async runtime up.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ModelError> + Send + 'static,
) -> Result<T, ModelError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(ModelError::Internal { context: "loading a model", source: error.into() }),
    }
}

fn sampling(common: &CommonLlm) -> Sampling {
    Sampling {
        temperature: common.temperature,
        top_p: common.top_p,
        top_k: common.top_k,
        max_tokens: common.max_tokens,
        ..Sampling::default()
    }
}

fn openai_chat(
    common: &CommonLlm,
    base: &str,
    key: Option<&Secret>,
    extra_body: &Value,
    enable_thinking: Option<bool>,
    limits: &HttpLimits,
    backup: Option<&BackupServer>,
) -> Model<dyn ChatModel> {
    let mut extra: Map<String, Value> = extra_body.as_object().cloned().unwrap_or_default();
    if let Some(thinking) = enable_thinking {
        extra.entry("enable_thinking").or_insert(json!(thinking));
    }
    let options = OpenAiOptions {
        sampling: sampling(common),
        extra_body: extra,
        remove_think_prefix: common.remove_think_prefix,
        ..OpenAiOptions::new(server(base, key, common.default_headers.as_ref(), limits), &common.model_name_or_path)
    };
    let first = OpenAiChat::open(options.clone())?;
    let Some(backup) = backup.filter(|backup| backup.backup_client) else { return Ok(first) };
    let base = backup.backup_api_base.as_deref().unwrap_or(base);
    let headers = backup.backup_headers.as_ref().or(common.default_headers.as_ref());
    let second = OpenAiChat::open(OpenAiOptions {
        server: server(base, backup.backup_api_key.as_ref().or(key), headers, limits),
        model: backup.backup_model_name_or_path.clone().unwrap_or_else(|| options.model.clone()),
        ..options
    })?;
    Ok(BackupChat::open(first, second))
}

fn universal_embedder(c: &mos_config::embedder::UniversalApiEmbedder) -> Model<dyn Embedder> {
    const OPENAI: &str = "https://api.openai.com/v1";
    let base = c.base_url.as_deref().unwrap_or(OPENAI);
    let headers = c.common.headers_extra.as_ref();
    let options = remote_embedder(&c.common, server(base, Some(&c.api_key), headers, &c.limits));
    let first = OpenAiEmbedder::open(options.clone())?;
    if !c.backup_client {
        return Ok(first);
    }
    let base = c.backup_base_url.as_deref().unwrap_or(base);
    let headers = c.backup_headers_extra.as_ref().or(headers);
    let second = OpenAiEmbedder::open(RemoteEmbedderOptions {
        server: server(base, c.backup_api_key.as_ref().or(Some(&c.api_key)), headers, &c.limits),
        model: c.backup_model_name_or_path.clone().unwrap_or_else(|| options.model.clone()),
        ..options
    })?;
    Ok(BackupEmbedder::open(first, second))
}

fn remote_embedder(common: &CommonEmbedder, server: ServerOptions) -> RemoteEmbedderOptions {
    RemoteEmbedderOptions {
        dimension: common.embedding_dims,
        limits: EmbedLimits { max_tokens: common.max_tokens, ..EmbedLimits::default() },
        ..RemoteEmbedderOptions::new(server, &common.model_name_or_path)
    }
}

fn server(base: &str, key: Option<&Secret>, headers: Option<&Headers>, limits: &HttpLimits) -> ServerOptions {
    let defaults = HttpOptions::default();
    let seconds = |given: Option<f64>, default: Duration| given.map_or(default, Duration::from_secs_f64);
    let hide = |secret: &Secret| mos_models::Secret::new(secret.expose());
    ServerOptions {
        api_key: key.filter(|key| !key.is_empty()).map(hide),
        headers: headers.iter().flat_map(|all| &all.0).map(|(name, value)| (name.clone(), hide(value))).collect(),
        http: HttpOptions {
            connect_timeout: seconds(limits.connect_timeout_seconds, defaults.connect_timeout),
            first_byte_timeout: seconds(limits.first_byte_timeout_seconds, defaults.first_byte_timeout),
            idle_timeout: seconds(limits.idle_timeout_seconds, defaults.idle_timeout),
            total_timeout: seconds(limits.total_timeout_seconds, defaults.total_timeout),
            max_retries: limits.max_retries.unwrap_or(defaults.max_retries),
            ..defaults
        },
        ..ServerOptions::new(base)
    }
}
