//! What a model would draw from messages; nothing is stored.

use mos_config::{Secrets, Setting};
use mos_core::{
    ConversationInfo, Cube, CubeId, MemoryItem, Message, Outcome, RawItem, ReadInput, ReadMode, Sources, UserId,
};
use serde::Serialize;
use serde_json::Value;

use super::super::app::Product;
use super::super::caller::Scope;
use super::super::error::{ProductError, ProductResult};
use super::super::hits::node_value;
use super::super::reply::Reply;
use crate::plugin::HookContext;

/// The most messages of a request.
const MAX_MESSAGES: usize = 200;

request! {
    /// Messages that are read without storing anything.
    pub struct ExtractMemoryRequest as ExtractMemoryRequest {
        /// The conversation, oldest first.
        #[schema(value_type = Vec<Object>)]
        required messages: Vec<Message>;
        /// What is looked for: words that begin with `pref` mean preferences, all others memories; without this memories.
        optional extraction_types: Vec<String>;
        /// Accepted and not used: the model that reads is a matter of the settings.
        optional model: String;
    }
}

/// What was drawn from messages, each as `{"id", "memory", "metadata"}`.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Extracted {
    /// What is worth remembering.
    pub memories: Vec<Value>,
    /// What the speaker likes.
    pub preferences: Vec<Value>,
}

impl Product {
    /// Returns what a model finds worth remembering in messages, as adding them would. Nothing is stored.
    ///
    /// # Errors
    /// Status 400 without messages and for too many; 403 without the right to read; 503 when the model that reads cannot be
    /// asked.
    pub async fn extract_memory(&self, request: ExtractMemoryRequest) -> ProductResult<Reply<Extracted>> {
        self.caller.check(Scope::Read)?;
        if request.messages.is_empty() || request.messages.len() > MAX_MESSAGES {
            return Err(ProductError::bad_value(format!("give 1 to {MAX_MESSAGES} messages")));
        }
        let user = self.mos().user_or_default(self.acting(None)?.as_ref());
        // It need not exist: what models take is on its account.
        let cube = CubeId::parse(user.as_str())?;
        let messages = self.seen_by_plugins(&user, &cube, request.messages).await?;
        let types = request.extraction_types.unwrap_or_default();
        let is_preference = |word: &String| word.to_ascii_lowercase().starts_with("pref");
        let mut extracted = Extracted::default();
        if types.is_empty() || !types.iter().all(is_preference) {
            let drawn = self.drawn(&user, &cube, &messages).await?;
            extracted.memories = drawn.iter().map(|item| node_value(item, &cube)).collect();
        }
        if types.iter().any(is_preference) {
            let liked = self.liked(&user, &cube, &messages).await?;
            extracted.preferences = liked.iter().map(|item| node_value(item, &cube)).collect();
        }
        Ok(Reply::new("Memories extracted successfully", extracted))
    }

    /// Lets plugins change what models get to read, as they do when it is added.
    async fn seen_by_plugins(
        &self,
        user: &UserId,
        cube: &CubeId,
        messages: Vec<Message>,
    ) -> ProductResult<Vec<Message>> {
        let plugins = &self.mos().parts.plugins;
        if plugins.is_empty() {
            return Ok(messages);
        }
        let items = messages.into_iter().map(RawItem::Message).collect();
        let place = HookContext::new(user, [cube.clone()], None);
        let items = plugins.before_remember(place, items).await?;
        let messages = items.into_iter().filter_map(|item| match item {
            RawItem::Message(message) => Some(message),
            _ => None,
        });
        Ok(messages.collect())
    }

    async fn drawn(&self, user: &UserId, cube: &CubeId, messages: &[Message]) -> ProductResult<Vec<MemoryItem>> {
        let input = ReadInput {
            items: messages.iter().cloned().map(RawItem::Message).collect(),
            user: Some(user.clone()),
            cube: Some(cube.clone()),
            sources: Sources::of_request(),
            ..ReadInput::default()
        };
        if input.items.is_empty() {
            return Ok(Vec::new());
        }
        let reading = self.mos().mem_reader(user, cube, None)?.read(input, ReadMode::Fine).await?;
        let n_raw = reading.report.count(Outcome::Raw);
        if reading.memories.is_empty() && n_raw > 0 {
            // The reasons may quote what a model said about the messages.
            tracing::warn!(n_raw, "messages could not be read by a model");
            return Err(ProductError::new(503, "the model that reads could not be asked, or gave no usable answer"));
        }
        Ok(reading.memories)
    }

    async fn liked(&self, user: &UserId, cube: &CubeId, messages: &[Message]) -> ProductResult<Vec<MemoryItem>> {
        let config = self.cube_config(user, cube)?.to_json(Secrets::Omitted);
        let usual = Cube {
            cube_id: cube.clone(),
            cube_name: cube.to_string(),
            cube_path: None,
            owner_id: user.clone(),
            created_at: self.mos().now_text(),
            is_registered: true,
            config,
        };
        let Some(memory) = self.mos().preference_memory(&usual)? else { return Ok(Vec::new()) };
        let info = ConversationInfo { user: Some(user.clone()), session: None };
        Ok(memory.extract(messages, &info).await?)
    }
}
