//! Embeddings in OpenAI's shape, by the encoder that memories are embedded with.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use mos_core::EmbedUse;
use serde_json::{Map, Value, json};

use super::super::app::Product;
use super::super::caller::Scope;
use super::context::{About, CompletionContext, MemoryUse};
use super::error::{OpenAiError, OpenAiResult};
use super::models::USUAL;
use super::request::field;
use crate::usage::Payer;

/// The most texts of a request.
const MAX_TEXTS: usize = 2048;

impl Product {
    /// Returns the embeddings of texts in OpenAI's shape, in their order. `input_type` `query` has them embedded as questions,
    /// which some encoders tell apart.
    ///
    /// # Errors
    /// [`OpenAiError`]: 404 for another model than the encoder, 400 for what cannot be embedded, 403 without rights.
    pub async fn openai_embeddings(&self, body: &Value, context: CompletionContext) -> OpenAiResult<Value> {
        self.caller.check(Scope::Read)?;
        let Some(map) = body.as_object() else {
            return Err(OpenAiError::new(400, "the body should be a JSON object"));
        };
        let (texts, as_base64, purpose) = (texts(map)?, is_base64(map)?, purpose(map)?);
        // No memory is asked, so that a program needs to name nobody.
        let about = About { memory: MemoryUse::Off, ..About::read(map, context)? };
        let user = self.payer(&about)?;
        let model = field::<String>(map, "model", "a string")?;
        let Some(model) = model.filter(|model| !model.is_empty()) else {
            return Err(OpenAiError::field("model", "name a model in `model`; `mos` is the encoder"));
        };
        let payer = Payer { user, cube: None };
        let embedder = self.mos().parts.usage.metered_embedder(self.mos().embedder(), payer);
        let space = embedder.space().await?;
        if model != USUAL && model != space.model {
            return Err(OpenAiError::unknown_model(&model, &[USUAL.to_owned(), space.model]));
        }
        check_dimensions(map, space.dimension)?;
        let embedded = embedder.embed_counted(purpose, &texts).await?;
        let n_tokens = embedded.tokens.unwrap_or_else(|| texts.iter().map(|text| estimated_tokens(text)).sum());
        let data = embedded.vectors.iter().enumerate().map(|(index, vector)| {
            let embedding = if as_base64 { json!(STANDARD.encode(bytes(vector))) } else { json!(vector) };
            json!({"object": "embedding", "index": index, "embedding": embedding})
        });
        let usage = json!({"prompt_tokens": n_tokens, "total_tokens": n_tokens});
        Ok(json!({"object": "list", "data": data.collect::<Vec<_>>(), "model": space.model, "usage": usage}))
    }
}

/// Little-endian, which is what clients unpack.
fn bytes(vector: &[f32]) -> Vec<u8> {
    vector.iter().flat_map(|value| value.to_le_bytes()).collect()
}

fn texts(map: &Map<String, Value>) -> OpenAiResult<Vec<String>> {
    let refuse = |message: &str| Err(OpenAiError::field("input", message));
    let texts = match map.get("input") {
        Some(Value::String(text)) => vec![text.clone()],
        Some(Value::Array(items)) if items.iter().any(|item| item.is_number() || item.is_array()) => {
            return refuse("`input` should be text; lists of tokens of another model mean nothing here");
        }
        _ => field::<Vec<String>>(map, "input", "a string, or a list of strings")?.unwrap_or_default(),
    };
    if texts.is_empty() || texts.len() > MAX_TEXTS {
        return refuse(&format!("`input` should have from 1 to {MAX_TEXTS} texts; it has {}", texts.len()));
    }
    if texts.iter().any(String::is_empty) {
        return refuse("`input` should have no empty text");
    }
    Ok(texts)
}

fn is_base64(map: &Map<String, Value>) -> OpenAiResult<bool> {
    match field::<String>(map, "encoding_format", "a string")?.as_deref() {
        None | Some("float") => Ok(false),
        Some("base64") => Ok(true),
        Some(_) => Err(OpenAiError::field("encoding_format", "`encoding_format` should be `float` or `base64`")),
    }
}

fn purpose(map: &Map<String, Value>) -> OpenAiResult<EmbedUse> {
    match field::<String>(map, "input_type", "a string")?.as_deref() {
        None | Some("passage" | "document" | "search_document") => Ok(EmbedUse::Passage),
        Some("query" | "search_query") => Ok(EmbedUse::Query),
        Some(_) => Err(OpenAiError::field("input_type", "`input_type` should be `passage` or `query`")),
    }
}

fn check_dimensions(map: &Map<String, Value>, dimension: usize) -> OpenAiResult<()> {
    match field::<usize>(map, "dimensions", "a whole number")? {
        Some(asked) if asked != dimension => {
            let message = format!("the encoder gives {dimension} dimensions and no others; leave `dimensions` out");
            Err(OpenAiError::unsupported("dimensions", message))
        }
        _ => Ok(()),
    }
}

/// About how many tokens a text has, for encoders that do not count.
fn estimated_tokens(text: &str) -> u64 {
    u64::try_from(text.chars().count().div_ceil(4)).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_taken_and_tokens_are_not() {
        let read = |input: Value| texts(json!({"input": input}).as_object().unwrap());
        assert_eq!(read(json!("a")).unwrap(), ["a"]);
        assert_eq!(read(json!(["a", "b"])).unwrap(), ["a", "b"]);
        for bad in [json!([1, 2]), json!([[1], [2]]), json!([]), json!([""]), json!(null), json!(7)] {
            let error = read(bad.clone()).unwrap_err();
            assert_eq!((error.status, error.param.as_deref()), (400, Some("input")), "{bad}");
        }
    }

    #[test]
    fn numbers_are_packed_as_clients_unpack_them() {
        assert_eq!(STANDARD.encode(bytes(&[1.0, -0.5])), "AACAPwAAAL8=");
    }
}
