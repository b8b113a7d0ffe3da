//! A chat model that begins with activation memory.
//!
//! The model is shown the messages that an item was made from and then the conversation; what the item, or anything
//! else that is stored, has computed of that text is not computed again. So the answer is, token for token, that of
//! the same messages without a cache.

use std::sync::Arc;

use async_trait::async_trait;
use mos_core::{ActivationId, ChatModel, ChatRequest, ChatStream, Message, ModelError};
use mos_engine::{CancelToken, KvPrefix, LocalChatModel};

use crate::error::KvError;
use crate::item::KvCacheItem;
use crate::memory::{KvCacheMemory, check_one_model};
use crate::merge::{MergeChoice, MergeStrategy, common};

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
        self.stream_with(ids.to_vec(), choice.unwrap_or(self.options.merge), request).await
    }

    fn model(&self) -> &Arc<LocalChatModel> {
        self.memory.model()
    }

    async fn stream_with(
        &self,
        ids: Vec<ActivationId>,
        choice: MergeChoice,
        request: ChatRequest,
    ) -> Result<ChatStream, ModelError> {
        if request.messages.is_empty() {
            return Err(ModelError::Invalid("the conversation is empty; give at least one message".to_owned()));
        }
        let (memory, doubled) = (Arc::clone(&self.memory), self.options.doubled_template);
        let heads: Vec<KvCacheItem> = ids.iter().filter_map(|id| memory.tiers.peek(&memory.scope, id)).collect();
        if heads.is_empty() {
            return self.model().stream(request).await;
        }
        if request.no_cache && !doubled {
            let all = conversation(&self.memory, &heads, &request.messages)?;
            let plain = ChatRequest { messages: all, prefix: None, stable_messages: 0, ..request };
            return self.model().stream(plain).await;
        }
        let (cancel, messages) = (CancelToken::default(), request.messages);
        // Whoever stops waiting needs no layout.
        let on_drop = CancelOnDrop(cancel.clone());
        let work = move || lay_out(&memory, &heads, choice, doubled, &messages, &cancel);
        let Layout { prefix, rest } = blocking(work).await?;
        drop(on_drop);
        // Items may have come from a file: what is computed after them serves nobody who does not use them.
        let cache_scope = format!("{}\n{}", request.cache_scope, self.memory.scope);
        self.model().continue_from(prefix, rest, request.sampling, cache_scope).await
    }
}

/// Ends a computation that nobody waits for any more.
pub(crate) struct CancelOnDrop(pub(crate) CancelToken);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.cancel();
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

/// Lays a conversation out after items, of which only the heads are given: what need not be loaded is not.
fn lay_out(
    memory: &KvCacheMemory,
    heads: &[KvCacheItem],
    choice: MergeChoice,
    doubled: bool,
    messages: &[Message],
    cancel: &CancelToken,
) -> Result<Layout, KvError> {
    check_one_model(heads, memory.identity())?;
    let model = memory.model();
    let choice = match choice {
        MergeChoice::Named(MergeStrategy::PrefixTree) if !doubled => {
            return lay_out_exactly(memory, heads, messages, None, cancel);
        }
        MergeChoice::Auto if !doubled => match memory.passed_strategy().filter(|_| heads.len() > 1) {
            Some(passed) if !is_computed(memory, heads)? => passed.into(),
            _ => return lay_out_exactly(memory, heads, messages, None, cancel),
        },
        other => other,
    };
    let ids: Vec<&ActivationId> = heads.iter().map(|head| &head.id).collect();
    let items: Vec<KvCacheItem> = memory.get_by_ids(&ids)?.into_iter().flatten().collect();
    let prefix = memory.merge_items(&items, choice, cancel)?;
    if doubled {
        let rest = model.prompt_tokens(messages, true)?;
        return Ok(Layout { prefix, rest });
    }
    if prefix.is_exact() {
        return lay_out_exactly(memory, heads, messages, Some(prefix), cancel);
    }
    let before = items.last().map(|last| memory.extractor().messages_of(last)).transpose()?.unwrap_or_default();
    // Where a template rewrites earlier turns, only a beginning of its own can follow.
    let rest = model.turn_tokens(&before, messages)?;
    Ok(Layout { prefix, rest })
}

/// Whether an exact beginning with all items is there already.
fn is_computed(memory: &KvCacheMemory, heads: &[KvCacheItem]) -> Result<bool, KvError> {
    let tokens = memory.model().prompt_tokens(&conversation(memory, heads, &[])?, false)?;
    Ok(memory.longest_exact_prefix(&tokens)?.len() == tokens.len())
}

/// The conversation as it is without caches. Its beginning is `merged`, which is exact; without that, what stands up
/// to the end of the items is taken from what is kept, or computed and kept.
fn lay_out_exactly(
    memory: &KvCacheMemory,
    heads: &[KvCacheItem],
    messages: &[Message],
    merged: Option<KvPrefix>,
    cancel: &CancelToken,
) -> Result<Layout, KvError> {
    let model = memory.model();
    let tokens = model.prompt_tokens(&conversation(memory, heads, messages)?, true)?;
    // The last token is computed in any case: its logits choose the answer's first.
    let most = tokens.len().saturating_sub(1);
    let prefix = match merged {
        Some(merged) => merged.truncated(common(&merged, &tokens[..most])),
        None => memory.exact_prefix(&tokens[..n_shared(memory, heads, &tokens[..most])?], cancel)?,
    };
    let stored = memory.longest_exact_prefix(&tokens[..most])?;
    let prefix = if stored.len() > prefix.len() { stored } else { prefix };
    let rest = tokens[prefix.len()..].to_vec();
    Ok(Layout { prefix, rest })
}

/// How many of a conversation's first tokens stand there whatever follows the items.
fn n_shared(memory: &KvCacheMemory, heads: &[KvCacheItem], tokens: &[u32]) -> Result<usize, KvError> {
    // Some templates refuse what holds no question. Then nothing is computed ahead, and what is stored still serves.
    let messages = conversation(memory, heads, &[])?;
    let alone = memory.model().prompt_tokens(&messages, false).unwrap_or_else(|error| {
        tracing::debug!(%error, "the items cannot be rendered alone");
        Vec::new()
    });
    Ok(alone.iter().zip(tokens).take_while(|(a, b)| a == b).count())
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
        if self.memory.tiers.peek(&self.memory.scope, &id).is_none() {
            return Err(ModelError::Invalid(format!(
                "there is no activation memory `{id}` here; promote it first, or ask without"
            )));
        }
        self.stream_with(vec![id], self.options.merge, request).await
    }
}
