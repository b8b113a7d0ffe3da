//! Models that answer conversations.

use serde_json::Value;

use crate::device::Device;
use crate::read::Fields;
use crate::secret::{Headers, Secret};

section! {
    /// What every model has in common, with MemOS' names and defaults.
    pub struct CommonLlm {
        /// Name of the model at its server or on the hub, or a path.
        required model_name_or_path: String,
        /// Randomness; 0 always takes the likeliest token.
        default temperature: f64 = 0.7,
        /// The most tokens of an answer.
        default max_tokens: usize = 8192,
        /// Keep the likeliest tokens whose probabilities sum to this.
        default top_p: f64 = 0.95,
        /// Keep this many of the likeliest tokens.
        default top_k: usize = 50,
        /// Leaves the model's reasoning out of the answer.
        default remove_think_prefix: bool = false,
        /// Headers that are sent with every request.
        default default_headers: Option<Headers> = None,
    }
    check: check_sampling;
}

fn check_sampling(llm: &CommonLlm, fields: &mut Fields<'_, '_>) {
    check_probabilities(llm.temperature, llm.top_p, fields);
    if llm.max_tokens == 0 {
        fields.refuse("max_tokens", "must be at least 1");
    }
}

fn check_probabilities(temperature: f64, top_p: f64, fields: &mut Fields<'_, '_>) {
    if temperature < 0.0 {
        fields.refuse("temperature", "must not be negative");
    }
    if !(0.0..=1.0).contains(&top_p) {
        fields.refuse("top_p", "must be from 0 to 1");
    }
}

section! {
    /// How long to wait for a server and how often to ask again. Absent values take the client's defaults.
    pub struct HttpLimits {
        /// Seconds until a connection must stand.
        omitted connect_timeout_seconds: Option<f64>,
        /// Seconds until the first piece of an answer must be there. Long: a big prompt is computed first.
        omitted first_byte_timeout_seconds: Option<f64>,
        /// Seconds that may pass between two pieces of an answer.
        omitted idle_timeout_seconds: Option<f64>,
        /// Seconds that a whole answer may take.
        omitted total_timeout_seconds: Option<f64>,
        /// How often a request is repeated before the first text, when the server is busy or away.
        omitted max_retries: Option<usize>,
    }
    check: check_limits;
}

fn check_limits(limits: &HttpLimits, fields: &mut Fields<'_, '_>) {
    let waits = [
        ("connect_timeout_seconds", limits.connect_timeout_seconds),
        ("first_byte_timeout_seconds", limits.first_byte_timeout_seconds),
        ("idle_timeout_seconds", limits.idle_timeout_seconds),
        ("total_timeout_seconds", limits.total_timeout_seconds),
    ];
    for (key, seconds) in waits {
        if seconds.is_some_and(|seconds| !(seconds > 0.0 && seconds <= 86_400.0)) {
            fields.refuse(key, "must be more than 0 and at most 86400 (a day)");
        }
    }
    if limits.max_retries.is_some_and(|retries| retries > 10) {
        fields.refuse("max_retries", "must be at most 10");
    }
}

section! {
    /// A second server that is asked once when the first one fails.
    pub struct BackupServer {
        /// Whether to use it.
        default backup_client: bool = false,
        /// Its key.
        default backup_api_key: Option<Secret> = None,
        /// Its address.
        default backup_api_base: Option<String> = None,
        /// Its model.
        default backup_model_name_or_path: Option<String> = None,
        /// Headers that are sent to it.
        default backup_headers: Option<Headers> = None,
    }
}

/// The servers that speak OpenAI's chat format differ only in their address.
macro_rules! openai_shape {
    ($(#[doc = $doc:literal])* $name:ident, $base:literal) => {
        section! {
            $(#[doc = $doc])*
            pub struct $name {
                /// Model and sampling.
                group common: CommonLlm,
                /// The key of the account.
                required api_key: Secret,
                /// Address of the server, up to and including `/v1`.
                default api_base: String = $base.to_owned(),
                /// Fields that are added to every request.
                default extra_body: Value = Value::Null,
                /// Asks models that can think to do so, or not to.
                default enable_thinking: Option<bool> = None,
                /// What to do when the server fails.
                group backup: BackupServer,
                /// Time-outs and retries.
                group limits: HttpLimits,
            }
        }
    };
}

openai_shape!(
    /// Any server that speaks OpenAI's chat format.
    OpenAiLlm,
    "https://api.openai.com/v1"
);
openai_shape!(
    /// Qwen's service.
    QwenLlm,
    "https://dashscope-intl.aliyuncs.com/compatible-mode/v1"
);
openai_shape!(
    /// DeepSeek's service.
    DeepSeekLlm,
    "https://api.deepseek.com"
);
openai_shape!(
    /// MiniMax' service.
    MinimaxLlm,
    "https://api.minimax.io/v1"
);

section! {
    /// OpenAI's "responses" interface.
    pub struct OpenAiResponsesLlm {
        /// Model and sampling.
        group common: CommonLlm,
        /// The key of the account.
        required api_key: Secret,
        /// Address of the server.
        default api_base: String = "https://api.openai.com/v1".to_owned(),
        /// Fields that are added to every request.
        default extra_body: Value = Value::Null,
        /// Asks models that can think to do so.
        default enable_thinking: bool = false,
        /// Time-outs and retries.
        group limits: HttpLimits,
    }
}

section! {
    /// OpenAI's models as Azure serves them.
    pub struct AzureLlm {
        /// Model (the deployment's name) and sampling.
        group common: CommonLlm,
        /// Address of the resource.
        default base_url: String = "https://api.openai.azure.com/".to_owned(),
        /// Version of the interface.
        default api_version: String = "2024-03-01-preview".to_owned(),
        /// The key of the resource.
        required api_key: Secret,
        /// Fields that are added to every request.
        default extra_body: Value = Value::Null,
        /// Asks models that can think to do so, or not to.
        default enable_thinking: Option<bool> = None,
        /// Time-outs and retries.
        group limits: HttpLimits,
    }
}

section! {
    /// An Ollama server.
    pub struct OllamaLlm {
        /// Model and sampling.
        group common: CommonLlm,
        /// Address of the server.
        default api_base: String = "http://localhost:11434".to_owned(),
        /// Asks models that can think to do so.
        default enable_thinking: bool = false,
        /// Time-outs and retries.
        group limits: HttpLimits,
    }
}

section! {
    /// A vLLM server.
    pub struct VllmLlm {
        /// Model and sampling.
        group common: CommonLlm,
        /// The key, when the server wants one.
        default api_key: Secret = Secret::default(),
        /// Address of the server, up to and including `/v1`.
        default api_base: String = "http://localhost:8088/v1".to_owned(),
        /// Asks models that can think to do so.
        default enable_thinking: bool = false,
        /// Fields that are added to every request.
        default extra_body: Value = Value::Null,
        /// Time-outs and retries.
        group limits: HttpLimits,
    }
}

section! {
    /// A model of the hub that runs in this process.
    pub struct HuggingFaceLlm {
        /// Model and sampling.
        group common: CommonLlm,
        /// Draws tokens at random; without it the likeliest is taken, whatever the temperature.
        default do_sample: bool = false,
        /// Ends the prompt with the start of an answer.
        default add_generation_prompt: bool = true,
    }
}

section! {
    /// A model file (GGUF or safetensors) that runs in this process.
    pub struct LocalLlm {
        /// Name of a fetched model, or the path of a file or folder.
        required model_name_or_path: String,
        /// Threads that compute. Absent: as many as the machine has cores.
        omitted threads: Option<usize>,
        /// Where it computes: `auto`, `cpu`, `cuda:N` or `metal`; see [`Device`].
        default device: String = "auto".to_owned(),
        /// The most tokens of conversation and answer together. Absent: what the model was trained for.
        omitted context_length: Option<usize>,
        /// Randomness; 0 always takes the likeliest token, and answers are reproducible.
        default temperature: f64 = 0.0,
        /// Keep the likeliest tokens whose probabilities sum to this; 1 keeps all.
        default top_p: f64 = 1.0,
        /// Keep this many of the likeliest tokens; 0 keeps all.
        default top_k: usize = 0,
        /// Seed of the random choice.
        default seed: u64 = 0,
        /// The most tokens of an answer.
        default max_tokens: usize = 512,
        /// The answer ends before the first of these texts.
        default stop: Vec<String> = Vec::new(),
        /// Leaves the model's reasoning out of the answer.
        default remove_think_prefix: bool = false,
        /// Bytes that may hold the computed state of earlier prompts: answers start sooner, memory is used.
        omitted kept_state_bytes: Option<usize>,
    }
    check: check_local;
}

fn check_local(llm: &LocalLlm, fields: &mut Fields<'_, '_>) {
    check_probabilities(llm.temperature, llm.top_p, fields);
    if let Err(error) = llm.device.parse::<Device>() {
        fields.refuse("device", error.to_string());
    }
    for (key, value) in
        [("max_tokens", Some(llm.max_tokens)), ("threads", llm.threads), ("context_length", llm.context_length)]
    {
        if value == Some(0) {
            fields.refuse(key, "must be at least 1");
        }
    }
}

backends! {
    /// A model that answers conversations.
    pub enum ChatModelConfig {
        /// A model file in this process.
        Local(LocalLlm) = "local",
        /// Any server that speaks OpenAI's chat format.
        OpenAi(OpenAiLlm) = "openai",
        /// OpenAI's "responses" interface.
        OpenAiResponses(OpenAiResponsesLlm) = "openai_new",
        /// Qwen's service.
        Qwen(QwenLlm) = "qwen",
        /// DeepSeek's service.
        DeepSeek(DeepSeekLlm) = "deepseek",
        /// MiniMax' service.
        Minimax(MinimaxLlm) = "minimax",
        /// OpenAI's models on Azure.
        Azure(AzureLlm) = "azure",
        /// An Ollama server.
        Ollama(OllamaLlm) = "ollama",
        /// A model of the hub in this process.
        HuggingFace(HuggingFaceLlm) = "huggingface",
        /// The same, loaded once per process.
        HuggingFaceSingleton(HuggingFaceLlm) = "huggingface_singleton",
        /// A vLLM server.
        Vllm(VllmLlm) = "vllm",
    }
}
