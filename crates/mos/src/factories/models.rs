//! Constructors of chat models, from settings to options.

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use mos_config::llm::{
    AzureLlm, BackupServer, CommonLlm, HttpLimits, HuggingFaceLlm, LocalLlm, OpenAiResponsesLlm, VllmLlm,
};
use mos_config::{ChatModelConfig, Headers, Secret};
use mos_core::{ChatModel, ModelError, Sampling};
use mos_engine::{ChatModelOptions, ComputeDevice, LocalChatModel};
use mos_models::{
    BackupChat, HttpOptions, OllamaChat, OllamaOptions, OpenAiChat, OpenAiOptions, ResponsesChat, ResponsesOptions,
    SchemaForm, ServerOptions, WithoutReasoning, fetch,
};
use serde_json::{Map, Value, json};

use super::devices::compute_device;
use super::{Factories, ModelContext};
use crate::activation::{ActivationBackend, KvCaches, ServerPrompts};

pub(super) type Model<T> = Result<Arc<T>, ModelError>;

pub(super) fn add_chat_models(factories: &mut Factories) {
    for key in ChatModelConfig::KEYS {
        factories.add_chat_model(*key, Arc::new(|config, context| chat_model(config, context).boxed()));
    }
}

/// The services that speak OpenAI's format have configurations of the same fields and different types.
macro_rules! openai_shape {
    ($c:ident, $schema_form:expr) => {{
        let headers = $c.common.default_headers.as_ref();
        let mut options = openai_options(&$c.common, server(&$c.api_base, Some(&$c.api_key), headers, &$c.limits));
        options.extra_body = extra_body(&$c.extra_body, $c.enable_thinking.map(|on| ("enable_thinking", json!(on))));
        options.schema_form = $schema_form;
        with_backup(options, &$c.backup, &$c.limits)
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
                "caches can be kept of a model that computes in this process only, and chat_model is `{}`; use the backend `local`",
                other.backend()
            )));
        }
    };
    open_local_chat(options).await
}

/// Returns a model of this process as its configuration wants its answers: with its reasoning, or without. Clients of
/// servers see to that themselves.
pub(crate) fn as_configured(config: &ChatModelConfig, model: Arc<dyn ChatModel>) -> Arc<dyn ChatModel> {
    let removes_reasoning = match config {
        ChatModelConfig::Local(local) => local.remove_think_prefix,
        ChatModelConfig::HuggingFace(hub) | ChatModelConfig::HuggingFaceSingleton(hub) => {
            hub.common.remove_think_prefix
        }
        _ => false,
    };
    if removes_reasoning { WithoutReasoning::open(model) } else { model }
}

async fn chat_model(config: ChatModelConfig, context: ModelContext) -> Model<dyn ChatModel> {
    match config {
        ChatModelConfig::Local(_) | ChatModelConfig::HuggingFace(_) | ChatModelConfig::HuggingFaceSingleton(_) => {
            let model = local_chat_model(config.clone(), context).await?;
            Ok(as_configured(&config, model))
        }
        ChatModelConfig::OpenAi(c) => openai_shape!(c, SchemaForm::Schema),
        ChatModelConfig::Qwen(c) => openai_shape!(c, SchemaForm::Schema),
        ChatModelConfig::DeepSeek(c) => openai_shape!(c, SchemaForm::AnyObject),
        ChatModelConfig::Minimax(c) => openai_shape!(c, SchemaForm::Schema),
        ChatModelConfig::OpenAiResponses(c) => ResponsesChat::open(responses_options(&c)),
        ChatModelConfig::Azure(c) => OpenAiChat::open(azure_options(&c)),
        ChatModelConfig::Vllm(c) => OpenAiChat::open(vllm_options(&c)),
        ChatModelConfig::Ollama(c) => OllamaChat::open(OllamaOptions {
            sampling: sampling(&c.common),
            enable_thinking: c.enable_thinking,
            remove_think_prefix: c.common.remove_think_prefix,
            ..OllamaOptions::new(
                server(&c.api_base, None, c.common.default_headers.as_ref(), &c.limits),
                &c.common.model_name_or_path,
            )
        }),
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

fn openai_options(common: &CommonLlm, server: ServerOptions) -> OpenAiOptions {
    OpenAiOptions {
        sampling: sampling(common),
        remove_think_prefix: common.remove_think_prefix,
        ..OpenAiOptions::new(server, &common.model_name_or_path)
    }
}

/// The configured keys of every request, and one that stands for another setting unless it is configured too.
fn extra_body(configured: &Value, implied: Option<(&str, Value)>) -> Map<String, Value> {
    let mut extra = configured.as_object().cloned().unwrap_or_default();
    if let Some((key, value)) = implied {
        extra.entry(key).or_insert(value);
    }
    extra
}

fn responses_options(c: &OpenAiResponsesLlm) -> ResponsesOptions {
    let server = server(&c.api_base, Some(&c.api_key), c.common.default_headers.as_ref(), &c.limits);
    ResponsesOptions {
        sampling: sampling(&c.common),
        enable_thinking: c.enable_thinking,
        remove_think_prefix: c.common.remove_think_prefix,
        extra_body: extra_body(&c.extra_body, None),
        ..ResponsesOptions::new(server, &c.common.model_name_or_path)
    }
}

fn azure_options(c: &AzureLlm) -> OpenAiOptions {
    let address = Azure { base_url: &c.base_url, deployment: &c.common.model_name_or_path, version: &c.api_version };
    let server = azure_server(&address, &c.api_key, c.common.default_headers.as_ref(), &c.limits);
    let thinking = c.enable_thinking.map(|on| ("enable_thinking", json!(on)));
    OpenAiOptions { extra_body: extra_body(&c.extra_body, thinking), ..openai_options(&c.common, server) }
}

/// vLLM knows more than the format has: `top_k`, and what the model's template is told.
fn vllm_options(c: &VllmLlm) -> OpenAiOptions {
    let server = server(&c.api_base, Some(&c.api_key), c.common.default_headers.as_ref(), &c.limits);
    let thinking = c.enable_thinking.then(|| ("chat_template_kwargs", json!({"enable_thinking": true})));
    OpenAiOptions {
        extra_body: extra_body(&c.extra_body, thinking),
        sends_top_k: true,
        ..openai_options(&c.common, server)
    }
}

fn with_backup(options: OpenAiOptions, backup: &BackupServer, limits: &HttpLimits) -> Model<dyn ChatModel> {
    let first = OpenAiChat::open(options.clone())?;
    if !backup.backup_client {
        return Ok(first);
    }
    let base = backup.backup_api_base.as_deref().unwrap_or(&options.server.base_url);
    let mut second = server(base, backup.backup_api_key.as_ref(), backup.backup_headers.as_ref(), limits);
    // What lets in here is nobody else's business.
    let is_same_host = options.server.is_host_of(base);
    if backup.backup_api_key.is_none() && is_same_host {
        second.api_key.clone_from(&options.server.api_key);
    }
    if backup.backup_headers.is_none() && is_same_host {
        second.headers.clone_from(&options.server.headers);
    }
    let model = backup.backup_model_name_or_path.clone().unwrap_or_else(|| options.model.clone());
    let second = OpenAiChat::open(OpenAiOptions { server: second, model, ..options })?;
    Ok(BackupChat::open(first, second))
}

/// Where a model is on Azure.
pub(super) struct Azure<'a> {
    pub(super) base_url: &'a str,
    pub(super) deployment: &'a str,
    pub(super) version: &'a str,
}

pub(super) fn azure_server(
    azure: &Azure<'_>,
    key: &Secret,
    headers: Option<&Headers>,
    limits: &HttpLimits,
) -> ServerOptions {
    let own = mos_models::Secret::new(key.expose());
    let mut options = ServerOptions::azure(azure.base_url, azure.deployment, azure.version, own);
    let other = server(azure.base_url, None, headers, limits);
    options.headers.extend(other.headers);
    options.http = other.http;
    options
}

pub(super) fn server(
    base: &str,
    key: Option<&Secret>,
    headers: Option<&Headers>,
    limits: &HttpLimits,
) -> ServerOptions {
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

#[cfg(test)]
mod tests {
    use mos_config::Setting;
    use mos_core::{ChatRequest, Message};
    use mos_testkit::chat::ScriptedChat;

    use super::*;

    #[tokio::test]
    async fn models_of_this_process_leave_their_reasoning_out_when_they_are_told_to() {
        for (backend, removes, expected) in [
            ("local", true, "Max."),
            ("huggingface", true, "Max."),
            ("huggingface_singleton", false, "<think>Who?</think>Max."),
            ("local", false, "<think>Who?</think>Max."),
        ] {
            let config = json!({"backend": backend, "config": {
                "model_name_or_path": "any", "remove_think_prefix": removes}});
            let config = ChatModelConfig::from_json(&config).unwrap();
            let model = as_configured(&config, Arc::new(ScriptedChat::new(["<think>Who?</think>Max."])));
            let request = ChatRequest { messages: vec![Message::user("Who?")], ..ChatRequest::default() };
            assert_eq!(model.complete(request).await.unwrap().0, expected, "{backend}");
        }
    }
}
