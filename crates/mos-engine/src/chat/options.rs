//! Settings of a local chat model.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use mos_core::{Clock, Sampling, SystemClock};

use crate::device::ComputeDevice;

/// Which model to load and how to run it.
#[derive(Clone)]
pub struct ChatModelOptions {
    /// A `.gguf` file, or a directory with `config.json`, `*.safetensors`, `tokenizer.json` and, for the chat
    /// template, `tokenizer_config.json` or `chat_template.jinja`.
    pub path: PathBuf,
    /// The name to show; without it the name in the file, or the file's own.
    pub name: Option<String>,
    /// How to choose tokens when a request does not say.
    pub sampling: Sampling,
    /// Threads that compute; without it, one per core. More do not help: decoding is bound by memory.
    pub threads: Option<usize>,
    /// Where it computes; the processor by default.
    pub device: ComputeDevice,
    /// The most tokens of conversation and answer; without it, the model's own limit. A larger number is cut to it.
    pub context_length: Option<usize>,
    /// The most bytes of keys and values to keep for later conversations, in memory or on the device.
    pub kept_state_bytes: usize,
    /// The date that some chat templates print.
    pub clock: Arc<dyn Clock>,
}

impl ChatModelOptions {
    /// Returns the default settings for the model at `path`.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            name: None,
            sampling: Sampling::default(),
            threads: None,
            device: ComputeDevice::Processor,
            context_length: None,
            kept_state_bytes: 512 << 20,
            clock: Arc::new(SystemClock),
        }
    }
}

impl fmt::Debug for ChatModelOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChatModelOptions")
            .field("path", &self.path)
            .field("name", &self.name)
            .field("sampling", &self.sampling)
            .field("threads", &self.threads)
            .field("device", &self.device)
            .field("context_length", &self.context_length)
            .field("kept_state_bytes", &self.kept_state_bytes)
            .finish_non_exhaustive()
    }
}
