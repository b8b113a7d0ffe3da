//! The models that can be named.

use std::sync::Arc;
use std::time::Duration;

use mos_config::ChatModelConfig;
use mos_core::{ChatModel, EmbeddingSpace};
use serde_json::{Value, json};

use super::super::app::Product;
use super::error::{OpenAiError, OpenAiResult};

/// The name under which every client reaches the usual model: the first of those that can be named, else that of the
/// settings; for embeddings, the encoder.
pub(super) const USUAL: &str = "mos";

/// How long the encoder may take to tell its name for a list.
const ENCODER_PATIENCE: Duration = Duration::from_secs(5);

/// A chat model that was named.
pub(super) struct NamedModel {
    pub(super) name: String,
    pub(super) model: Arc<dyn ChatModel>,
    pub(super) config: ChatModelConfig,
}

impl Product {
    /// Returns the models that can be named, in OpenAI's shape: chat models first, then the encoder.
    pub async fn openai_models(&self) -> Value {
        let mut names = self.chat_names();
        if let Ok(space) = self.encoder().await
            && !names.contains(&space.model)
        {
            names.push(space.model);
        }
        json!({"object": "list", "data": names.iter().map(|name| described(name)).collect::<Vec<_>>()})
    }

    /// Returns one of the models that can be named.
    ///
    /// # Errors
    /// [`OpenAiError`] with status 404.
    pub async fn openai_model(&self, name: &str) -> OpenAiResult<Value> {
        let mut names = self.chat_names();
        if !names.iter().any(|known| known == name)
            && let Ok(space) = self.encoder().await
        {
            names.push(space.model);
        }
        if names.iter().any(|known| known == name) {
            Ok(described(name))
        } else {
            Err(OpenAiError::unknown_model(name, &names))
        }
    }

    /// Returns the chat model of this name.
    pub(super) fn named_model(&self, name: &str) -> OpenAiResult<NamedModel> {
        let (reading, listed) = (&self.mos().parts.reading, &self.app.options().chat_models);
        let of_settings = reading.of_settings();
        let found = match name {
            USUAL => listed.first(),
            name => listed.iter().find(|(known, _)| known == name),
        };
        if let Some((name, config)) = found {
            let (model, config) = (reading.of_config(config), config.clone());
            return Ok(NamedModel { name: name.clone(), model, config });
        }
        if name == USUAL || name == of_settings.name() {
            let config = self.mos().settings().chat_model.clone();
            return Ok(NamedModel { name: of_settings.name().to_owned(), model: of_settings, config });
        }
        Err(OpenAiError::unknown_model(name, &self.chat_names()))
    }

    /// The names of chat models, the usual one first.
    fn chat_names(&self) -> Vec<String> {
        let mut names = vec![USUAL.to_owned()];
        if self.app.options().chats {
            let of_settings = self.mos().parts.reading.of_settings();
            let listed = self.app.options().chat_models.iter().map(|(name, _)| name.as_str());
            for name in listed.chain([of_settings.name()]) {
                if !name.is_empty() && !names.iter().any(|known| known == name) {
                    names.push(name.to_owned());
                }
            }
        }
        names
    }

    /// What the encoder calls itself, when it says so in time.
    async fn encoder(&self) -> OpenAiResult<EmbeddingSpace> {
        let embedder = self.mos().embedder();
        match tokio::time::timeout(ENCODER_PATIENCE, embedder.space()).await {
            Ok(space) => Ok(space?),
            Err(_) => Err(OpenAiError::new(503, "the encoder does not answer; try again later")),
        }
    }
}

fn described(name: &str) -> Value {
    json!({"id": name, "object": "model", "created": 0, "owned_by": "mos"})
}
