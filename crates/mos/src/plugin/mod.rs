//! Plugins: code of a program that looks at what is added, searched, said and done in the background, and may change it.
//!
//! A [`Plugin`] is given to [`MosBuilder::plugin`](crate::MosBuilder::plugin); the settings' `plugins` switches it on and off
//! by name. Values go from plugin to plugin, those of higher priority first, then by name.
//!
//! Invariant: a hook that fails, panics or takes too long changes nothing: it is told in the log and counted, and the operation
//! goes on with the value that the hook was given. Only [`HookError::Refuse`] ends an operation, and only before it is done.
//!
//! Not here: what is done with the values (the facade).

mod background;
mod calling;
mod hooks;
mod registry;

use std::fmt;
use std::sync::{Arc, Weak};

/// For plugins outside of this crate: their hooks are written in blocks that have this attribute.
pub use async_trait::async_trait;
use mos_core::{MemoryItem, RawItem};
use mos_scheduler::{Event, ScheduleMessage};

use crate::facade::{Mos, Parts, Remembered, SearchResult};

pub(crate) use background::{PluginSink, around};
pub(crate) use calling::{Plugins, USUAL_LIMIT};
pub use hooks::{
    AddContent, AddedMemories, AnsweredChat, ChatHook, ContextHook, HookContext, HookError, HookResult, SearchHook,
    change_raw_texts, change_texts,
};
pub use registry::PluginInfo;
pub(crate) use registry::choose;

/// What a plugin works with: it may be kept.
#[derive(Clone)]
pub struct PluginContext {
    parts: Weak<Parts>,
}

impl PluginContext {
    pub(crate) fn new(parts: &Arc<Parts>) -> Self {
        Self { parts: Arc::downgrade(parts) }
    }

    /// Returns the facade; `None` once the program has let go of it. It is to be asked for when it is needed, not kept: while it
    /// is there, its stores stay open. It does not keep the scheduler running.
    ///
    /// What a hook does with it goes through the hooks of the other plugins, not through those of its own.
    pub fn mos(&self) -> Option<Mos> {
        self.parts.upgrade().map(Mos::within)
    }
}

impl fmt::Debug for PluginContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PluginContext").finish_non_exhaustive()
    }
}

/// Code of a program that looks at operations, and may change or refuse them.
///
/// Every hook does nothing unless it is written. The `before_` hooks and [`Plugin::after_search`] return the value that the next
/// plugin gets; the other `after_` hooks only look, and what they refuse has been done already, so it counts as a failure. A
/// hook that computes for long without waiting should do so in [`tokio::task::spawn_blocking`].
///
/// ```
/// use mos::plugin::{AddContent, HookContext, HookError, HookResult, Plugin, async_trait};
///
/// #[derive(Debug)]
/// struct NoSecrets;
///
/// #[async_trait]
/// impl Plugin for NoSecrets {
///     fn name(&self) -> &str {
///         "no-secrets"
///     }
///
///     async fn before_add(&self, _: &HookContext, content: AddContent) -> HookResult<AddContent> {
///         match &content {
///             AddContent::Text(text) if text.contains("password") => Err(HookError::refuse("passwords are not remembered")),
///             _ => Ok(content),
///         }
///     }
/// }
/// ```
#[async_trait]
pub trait Plugin: fmt::Debug + Send + Sync {
    /// Its name, by which the settings know it.
    fn name(&self) -> &str;

    /// Its version, for people.
    fn version(&self) -> &str {
        ""
    }

    /// What it does, in a sentence.
    fn description(&self) -> &str {
        ""
    }

    /// Plugins of a higher priority come first. Of two plugins of one name, the one of the higher priority is taken.
    fn priority(&self) -> i32 {
        0
    }

    /// Whether it is on when the settings do not name it.
    fn enabled_by_default(&self) -> bool {
        true
    }

    /// Whether [`Plugin::render_context`] is to be asked; of the plugins that are on, one at most may say so.
    fn renders_context(&self) -> bool {
        false
    }

    /// Called once, when the facade is ready. The facade is not built when this fails or takes longer than a minute: what a
    /// plugin is to guard is not left unguarded.
    ///
    /// # Errors
    /// Why it cannot work.
    async fn on_load(&self, context: PluginContext) -> HookResult<()> {
        let _ = context;
        Ok(())
    }

    /// Called once, by [`Mos::stop`], after the work in the background has ended.
    async fn on_shutdown(&self) {}

    /// Sees what is to be added before memories are made of it, and may change or refuse it.
    ///
    /// # Errors
    /// [`HookError::Refuse`]: nothing is stored; [`HookError::Failed`].
    async fn before_add(&self, context: &HookContext, content: AddContent) -> HookResult<AddContent> {
        let _ = context;
        Ok(content)
    }

    /// Sees memories before they are stored: those of an add, those that were read from raw input, those that replace others. It
    /// may change or refuse them, and leave some of an add out; an id that changes is changed back.
    ///
    /// # Errors
    /// [`HookError::Refuse`]: nothing is stored; [`HookError::Failed`].
    async fn before_store(&self, context: &HookContext, items: Vec<MemoryItem>) -> HookResult<Vec<MemoryItem>> {
        let _ = context;
        Ok(items)
    }

    /// Sees what was added.
    ///
    /// # Errors
    /// What went wrong, for the log.
    async fn after_add(&self, context: &HookContext, added: &AddedMemories) -> HookResult<()> {
        let _ = (context, added);
        Ok(())
    }

    /// Sees raw input before it is read, and may change or refuse it.
    ///
    /// # Errors
    /// [`HookError::Refuse`]: nothing is read; [`HookError::Failed`].
    async fn before_remember(&self, context: &HookContext, items: Vec<RawItem>) -> HookResult<Vec<RawItem>> {
        let _ = context;
        Ok(items)
    }

    /// Sees what came of raw input.
    ///
    /// # Errors
    /// What went wrong, for the log.
    async fn after_remember(&self, context: &HookContext, remembered: &Remembered) -> HookResult<()> {
        let _ = (context, remembered);
        Ok(())
    }

    /// Sees what is looked for, and may change or refuse it. A request that cannot be searched for is an error, as it is from a
    /// caller.
    ///
    /// # Errors
    /// [`HookError::Refuse`]: nothing is searched; [`HookError::Failed`].
    async fn before_search(&self, context: &HookContext, search: SearchHook) -> HookResult<SearchHook> {
        let _ = context;
        Ok(search)
    }

    /// Sees what was found, and may change, reorder and drop it.
    ///
    /// # Errors
    /// [`HookError::Refuse`]: nothing is returned; [`HookError::Failed`].
    async fn after_search(&self, context: &HookContext, found: SearchResult) -> HookResult<SearchResult> {
        let _ = context;
        Ok(found)
    }

    /// Sees what the user says in a chat, and may change or refuse it.
    ///
    /// # Errors
    /// [`HookError::Refuse`]: nothing is answered; [`HookError::Failed`].
    async fn before_chat(&self, context: &HookContext, chat: ChatHook) -> HookResult<ChatHook> {
        let _ = context;
        Ok(chat)
    }

    /// Returns the text that stands in the prompt for the memories. Asked only of the plugin that
    /// [renders the context](Plugin::renders_context).
    ///
    /// # Errors
    /// [`HookError::Refuse`]: nothing is answered; [`HookError::Failed`]: the memories stand there as they do without a plugin.
    async fn render_context(&self, context: &HookContext, found: &ContextHook) -> HookResult<String> {
        let _ = (context, found);
        Err(HookError::failed("`render_context` is not written, though `renders_context` says so"))
    }

    /// Sees the whole answer of a chat, after the user got it; off the path of the chat.
    ///
    /// # Errors
    /// What went wrong, for the log.
    async fn after_chat(&self, context: &HookContext, chat: &AnsweredChat) -> HookResult<()> {
        let _ = (context, chat);
        Ok(())
    }

    /// Sees messages before the scheduler handles them; they are of one user, cube and label. It may change what they say
    /// (`content`, `info`, `chat_history`; the rest stays as it is), or refuse them.
    ///
    /// # Errors
    /// [`HookError::Refuse`]: the messages are given up with this reason; [`HookError::Failed`].
    async fn before_handle(
        &self,
        context: &HookContext,
        messages: Vec<ScheduleMessage>,
    ) -> HookResult<Vec<ScheduleMessage>> {
        let _ = context;
        Ok(messages)
    }

    /// Sees messages that the scheduler has handled.
    ///
    /// # Errors
    /// What went wrong, for the log.
    async fn after_handle(&self, context: &HookContext, messages: &[ScheduleMessage]) -> HookResult<()> {
        let _ = (context, messages);
        Ok(())
    }

    /// Sees an event of the scheduler, after it was written down; in the order in which they were.
    ///
    /// # Errors
    /// What went wrong, for the log.
    async fn on_event(&self, event: &Event) -> HookResult<()> {
        let _ = event;
        Ok(())
    }
}
