//! A chat model that begins with activation memory.
//!
//! The model is shown the messages that an item was made from and then the conversation; what the item, or anything
//! else that is stored, has computed of that text is not computed again. So the answer is, token for token, that of
//! the same messages without a cache.

use std::sync::Arc;

use async_trait::async_trait;
use mos_core::{ActivationId, ChatModel, ChatRequest, ChatStream, Message, ModelError};
use mos_engine::{KvPrefix, LocalChatModel};

use crate::error::KvError;
use crate::item::KvCacheItem;
use crate::memory::KvCacheMemory;
use crate::merge::{MergeChoice, common};

/// How conversations are laid out after activation memory.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct KvChatOptions {
    /// Renders the conversation as if nothing came before it, and puts that after the cache, as upstream does: most
    /// templates then show a second beginning. Off, the conversation goes on after the item's own turns.
    pub doubled_template: bool,
    /// How several items become one prefix when a call does not say.
    pub merge: MergeChoice,
}

/// Answers with the items of one memory before the conversation.
#[derive(Debug)]
pub struct KvChatModel {
    memory: Arc<KvCacheMemory>,
    options: KvChatOptions,
}

/// What is computed already, and the tokens that follow.
struct Layout {
    prefix: KvPrefix,
    rest: Vec<u32>,
}

impl KvChatModel {
    /// Returns a chat model over a memory's model and items.
    pub fn new(memory: Arc<KvCacheMemory>, options: KvChatOptions) -> Self {
        Self { memory, options }
    }

    /// Returns the memory.
    pub fn memory(&self) -> &Arc<KvCacheMemory> {
        &self.memory
    }

    /// Starts an answer after several items, in the order of their ids. Unknown ids are skipped; `request.prefix` is
    /// ignored. Without `choice` the model's own setting counts.
    ///
    /// With an exact way of merging the answer is that of the same messages without a cache.
    ///
    /// # Errors
    /// As [`ChatModel::stream`].
    pub async fn stream_after(
        &self,
        ids: &[ActivationId],
        choice: Option<MergeChoice>,
        mut request: ChatRequest,
    ) -> Result<ChatStream, ModelError> {
        request.prefix = None;
        let (memory, options, ids) = (Arc::clone(&self.memory), self.options, ids.to_vec());
        let choice = choice.unwrap_or(options.merge);
        let items = blocking(move || Ok(memory.get_by_ids(&ids)?.into_iter().flatten().collect::<Vec<_>>())).await?;
        if items.is_empty() {
            return self.model().stream(request).await;
        }
        self.stream_with(items, choice, request).await
    }

    fn model(&self) -> &Arc<LocalChatModel> {
        self.memory.model()
    }

    async fn stream_with(
        &self,
        items: Vec<KvCacheItem>,
        choice: MergeChoice,
        request: ChatRequest,
    ) -> Result<ChatStream, ModelError> {
        if request.messages.is_empty() {
            return Err(ModelError::Invalid("the conversation is empty; give at least one message".to_owned()));
        }
        let (memory, doubled) = (Arc::clone(&self.memory), self.options.doubled_template);
        let (messages, no_cache) = (request.messages.clone(), request.no_cache && !doubled);
        if no_cache {
            let all = conversation(&self.memory, &items, &messages)?;
            let plain = ChatRequest { messages: all, prefix: None, stable_messages: 0, ..request };
            return self.model().stream(plain).await;
        }
        let Layout { prefix, rest } = blocking(move || lay_out(&memory, &items, choice, doubled, &messages)).await?;
        self.model().continue_from(prefix, rest, request.sampling).await
    }
}

/// Does what blocks where blocking is allowed.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, KvError> + Send + 'static,
) -> Result<T, ModelError> {
    let done = tokio::task::spawn_blocking(work).await;
    Ok(done.map_err(|error| KvError::internal("preparing a conversation", error))??)
}

/// The items' messages, then the conversation; a conversation that begins with them stays as it is.
fn conversation(memory: &KvCacheMemory, items: &[KvCacheItem], messages: &[Message]) -> Result<Vec<Message>, KvError> {
    let mut all = Vec::new();
    for item in items {
        all.extend(memory.extractor().messages_of(item)?);
    }
    if !messages.starts_with(&all) {
        all.extend_from_slice(messages);
        return Ok(all);
    }
    Ok(messages.to_vec())
}

fn lay_out(
    memory: &KvCacheMemory,
    items: &[KvCacheItem],
    choice: MergeChoice,
    doubled: bool,
    messages: &[Message],
) -> Result<Layout, KvError> {
    let model = memory.model();
    let prefix = memory.merge_items(items, choice)?;
    if doubled {
        let rest = model.prompt_tokens(messages, true)?;
        return Ok(Layout { prefix, rest });
    }
    if !prefix.is_exact() {
        let before = items.last().map(|last| memory.extractor().messages_of(last)).transpose()?.unwrap_or_default();
        // Where a template rewrites earlier turns, only a beginning of its own can follow.
        let rest = model.turn_tokens(&before, messages)?;
        return Ok(Layout { prefix, rest });
    }
    let tokens = model.prompt_tokens(&conversation(memory, items, messages)?, true)?;
    // The last token is computed in any case: its logits choose the answer's first.
    let most = tokens.len().saturating_sub(1);
    let own = common(&prefix, &tokens);
    let stored = memory.longest_exact_prefix(&tokens)?;
    let prefix = if stored.len() > own { stored.truncated(most) } else { prefix.truncated(own.min(most)) };
    let rest = tokens[prefix.len()..].to_vec();
    Ok(Layout { prefix, rest })
}

#[async_trait]
impl ChatModel for KvChatModel {
    fn name(&self) -> &str {
        self.model().name()
    }

    fn is_local(&self) -> bool {
        true
    }

    fn context_length(&self) -> Option<usize> {
        self.model().context_length()
    }

    /// Starts an answer; `request.prefix` names an item of the memory.
    async fn stream(&self, mut request: ChatRequest) -> Result<ChatStream, ModelError> {
        let Some(id) = request.prefix.take() else { return self.model().stream(request).await };
        let (memory, wanted) = (Arc::clone(&self.memory), id.clone());
        let item = blocking(move || memory.get(wanted.as_str())).await?.ok_or_else(|| {
            ModelError::Invalid(format!("there is no activation memory `{id}` here; promote it first, or ask without"))
        })?;
        self.stream_with(vec![item], self.options.merge, request).await
    }
}
