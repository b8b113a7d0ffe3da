//! What a model's file says about itself, without loading it.

use std::path::Path;

use mos_core::ModelError;

use crate::weights::gguf::{self, GgufFile};

/// What a GGUF file holds.
#[derive(Clone, Debug, PartialEq)]
pub struct GgufSummary {
    /// The architecture, for example `llama`.
    pub architecture: String,
    /// The model's name, if the file has one.
    pub name: Option<String>,
    /// Number of weights.
    pub parameters: u64,
    /// The type that most weights have, for example `Q4_1`.
    pub quantization: String,
    /// The most tokens that the model was made for, if the file says.
    pub context_length: Option<usize>,
    /// Whether the file has a chat template.
    pub chat: bool,
}

/// Reads the head of a GGUF file.
///
/// # Errors
/// [`ModelError::NotFound`] when there is no file, [`ModelError::BadModel`] when it is none, truncated or damaged.
pub fn gguf_summary(path: &Path) -> Result<GgufSummary, ModelError> {
    let file = GgufFile::open(path)?;
    let architecture = file.text("general.architecture").unwrap_or("unknown").to_owned();
    let mut parameters = 0;
    let mut types: Vec<(String, u64)> = Vec::new();
    for info in file.tensors() {
        let count = info.shape.elem_count() as u64;
        parameters += count;
        let name = type_name(&format!("{:?}", info.ggml_dtype));
        match types.iter_mut().find(|(known, _)| *known == name) {
            Some((_, sum)) => *sum += count,
            None => types.push((name, count)),
        }
    }
    let most = types.into_iter().max_by_key(|(_, count)| *count);
    Ok(GgufSummary {
        context_length: file.integer(&format!("{architecture}.context_length")),
        name: file.text("general.name").map(str::to_owned),
        chat: file.text("tokenizer.chat_template").is_some(),
        quantization: most.map_or_else(|| "none".to_owned(), |(name, _)| name),
        architecture,
        parameters,
    })
}

/// Reads all that a GGUF file holds, each part also when another is damaged, and computes two tokens with it: for
/// tests of the readers. Programs open models.
///
/// # Errors
/// [`ModelError`], which says what is wrong with one of the parts.
#[doc(hidden)]
pub fn read_gguf(path: &Path) -> Result<(), ModelError> {
    gguf::read_apart(path)
}

/// The usual spelling: `Q4_K`, not `Q4K`.
fn type_name(name: &str) -> String {
    match name.strip_suffix('K') {
        Some(start) => format!("{start}_K"),
        None => name.to_owned(),
    }
}
