//! Calling hooks: one plugin after the other, each for a bounded time, so that none of them harms an operation.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use mos_core::{MemoryItem, RawItem};
use mos_scheduler::{Event, ScheduleMessage};
use tokio::task::JoinSet;
use tracing::Instrument;

use super::registry::{Chosen, Known, PluginInfo};
use super::{
    AddContent, AddedMemories, AnsweredChat, ChatHook, ContextHook, HookContext, HookError, HookResult, Plugin,
    PluginContext, SearchHook,
};
use crate::error::{Error, Result};
use crate::facade::{Remembered, SearchResult};

/// How long one hook may take, unless the program says otherwise.
pub(crate) const USUAL_LIMIT: Duration = Duration::from_secs(5);

/// How long a plugin may take to load, and to end.
const LOADING_LIMIT: Duration = Duration::from_secs(60);

tokio::task_local! {
    /// The plugins in whose hooks this task is, so that what a hook does leads to no endless circle.
    static WITHIN: Vec<String>;
}

/// The plugins that a facade has.
#[derive(Debug)]
pub(crate) struct Plugins {
    enabled: Vec<Loaded>,
    disabled: Vec<PluginInfo>,
    renderer: Option<usize>,
    limit: Duration,
    is_shut_down: AtomicBool,
}

/// A plugin that is on.
#[derive(Debug)]
struct Loaded {
    plugin: Arc<dyn Plugin>,
    info: PluginInfo,
    n_failed: AtomicU64,
}

/// What came of one call of a hook.
enum Outcome<T> {
    Done(T),
    Refused(String),
    /// It is in the log.
    Failed,
}

impl Plugins {
    pub(crate) fn new(chosen: Chosen, limit: Duration) -> Self {
        let loaded = |Known { plugin, info }: Known| Loaded { plugin, info, n_failed: AtomicU64::new(0) };
        Self {
            enabled: chosen.enabled.into_iter().map(loaded).collect(),
            disabled: chosen.disabled.into_iter().map(|known| known.info).collect(),
            renderer: chosen.renderer,
            limit,
            is_shut_down: AtomicBool::new(false),
        }
    }

    /// Whether no plugin is on.
    pub(crate) fn is_empty(&self) -> bool {
        self.enabled.is_empty()
    }

    /// Returns all plugins: those that are on in the order in which they are called, then the others.
    pub(crate) fn infos(&self) -> Vec<PluginInfo> {
        let of =
            |loaded: &Loaded| PluginInfo { n_failed: loaded.n_failed.load(Ordering::Relaxed), ..loaded.info.clone() };
        self.enabled.iter().map(of).chain(self.disabled.iter().cloned()).collect()
    }

    /// Loads every plugin that is on.
    ///
    /// # Errors
    /// [`Error::Plugin`] of the first one that does not load.
    pub(crate) async fn load(&self, context: &PluginContext) -> Result<()> {
        for loaded in &self.enabled {
            let (plugin, context) = (Arc::clone(&loaded.plugin), context.clone());
            let loading = async move { plugin.on_load(context).await }.boxed();
            let reason = match attempt(loaded, LOADING_LIMIT, loading).await {
                Ok(()) => continue,
                Err(HookError::Refuse(reason) | HookError::Failed(reason)) => reason,
            };
            return Err(Error::Plugin {
                name: loaded.info.name.clone(),
                reason: format!("it could not be loaded: {reason}"),
            });
        }
        Ok(())
    }

    /// Tells every plugin that the program ends, the last one first; a second call does nothing.
    pub(crate) async fn shut_down(&self) {
        if self.is_shut_down.swap(true, Ordering::Relaxed) {
            return;
        }
        for loaded in self.enabled.iter().rev() {
            let plugin = Arc::clone(&loaded.plugin);
            let ending = async move {
                plugin.on_shutdown().await;
                Ok::<(), HookError>(())
            };
            if let Err(error) = attempt(loaded, LOADING_LIMIT, ending.boxed()).await {
                loaded.failed("on_shutdown", &error.to_string());
            }
        }
    }

    pub(crate) async fn before_add(&self, context: HookContext, content: AddContent) -> Result<AddContent> {
        let call = |plugin: Arc<dyn Plugin>, context: Arc<HookContext>, content| {
            async move { plugin.before_add(&context, content).await }.boxed()
        };
        self.pipe("before_add", context, content, call).await
    }

    pub(crate) async fn before_store(&self, context: HookContext, items: Vec<MemoryItem>) -> Result<Vec<MemoryItem>> {
        let call = |plugin: Arc<dyn Plugin>, context: Arc<HookContext>, items| {
            async move { plugin.before_store(&context, items).await }.boxed()
        };
        self.pipe("before_store", context, items, call).await
    }

    pub(crate) async fn after_add(&self, context: HookContext, added: AddedMemories) {
        let call = |plugin: Arc<dyn Plugin>, context: Arc<HookContext>, added: Arc<AddedMemories>| {
            async move { plugin.after_add(&context, &added).await }.boxed()
        };
        self.tell("after_add", context, added, call).await;
    }

    pub(crate) async fn before_remember(&self, context: HookContext, items: Vec<RawItem>) -> Result<Vec<RawItem>> {
        let call = |plugin: Arc<dyn Plugin>, context: Arc<HookContext>, items| {
            async move { plugin.before_remember(&context, items).await }.boxed()
        };
        self.pipe("before_remember", context, items, call).await
    }

    pub(crate) async fn after_remember(&self, context: HookContext, remembered: Remembered) {
        let call = |plugin: Arc<dyn Plugin>, context: Arc<HookContext>, remembered: Arc<Remembered>| {
            async move { plugin.after_remember(&context, &remembered).await }.boxed()
        };
        self.tell("after_remember", context, remembered, call).await;
    }

    pub(crate) async fn before_search(&self, context: HookContext, search: SearchHook) -> Result<SearchHook> {
        let call = |plugin: Arc<dyn Plugin>, context: Arc<HookContext>, search| {
            async move { plugin.before_search(&context, search).await }.boxed()
        };
        self.pipe("before_search", context, search, call).await
    }

    pub(crate) async fn after_search(&self, context: HookContext, found: SearchResult) -> Result<SearchResult> {
        let call = |plugin: Arc<dyn Plugin>, context: Arc<HookContext>, found| {
            async move { plugin.after_search(&context, found).await }.boxed()
        };
        self.pipe("after_search", context, found, call).await
    }

    pub(crate) async fn before_chat(&self, context: HookContext, chat: ChatHook) -> Result<ChatHook> {
        let call = |plugin: Arc<dyn Plugin>, context: Arc<HookContext>, chat| {
            async move { plugin.before_chat(&context, chat).await }.boxed()
        };
        self.pipe("before_chat", context, chat, call).await
    }

    pub(crate) async fn after_chat(&self, context: HookContext, chat: AnsweredChat) {
        let call = |plugin: Arc<dyn Plugin>, context: Arc<HookContext>, chat: Arc<AnsweredChat>| {
            async move { plugin.after_chat(&context, &chat).await }.boxed()
        };
        self.tell("after_chat", context, chat, call).await;
    }

    pub(crate) async fn before_handle(
        &self,
        context: HookContext,
        messages: Vec<ScheduleMessage>,
    ) -> Result<Vec<ScheduleMessage>> {
        let call = |plugin: Arc<dyn Plugin>, context: Arc<HookContext>, messages| {
            async move { plugin.before_handle(&context, messages).await }.boxed()
        };
        self.pipe("before_handle", context, messages, call).await
    }

    pub(crate) async fn after_handle(&self, context: HookContext, messages: Vec<ScheduleMessage>) {
        let call = |plugin: Arc<dyn Plugin>, context: Arc<HookContext>, messages: Arc<Vec<ScheduleMessage>>| {
            async move { plugin.after_handle(&context, messages.as_slice()).await }.boxed()
        };
        self.tell("after_handle", context, messages, call).await;
    }

    pub(super) async fn on_event(&self, event: Event) {
        let context = HookContext::new(&event.user_id, [event.mem_cube_id.clone()], None);
        let call = |plugin: Arc<dyn Plugin>, _: Arc<HookContext>, event: Arc<Event>| {
            async move { plugin.on_event(&event).await }.boxed()
        };
        self.tell("on_event", context, event, call).await;
    }

    /// Whether a plugin says how memories stand in the prompt.
    pub(crate) fn renders_context(&self) -> bool {
        self.renderer.is_some()
    }

    /// Returns what stands in the prompt for the memories; `None` when they stand there as they do without a plugin.
    pub(crate) async fn render_context(&self, context: HookContext, found: ContextHook) -> Result<Option<String>> {
        let Some(loaded) = self.renderer.and_then(|place| self.enabled.get(place)).filter(|one| one.is_open()) else {
            return Ok(None);
        };
        let plugin = Arc::clone(&loaded.plugin);
        let rendering = async move { plugin.render_context(&context, &found).await };
        match self.call(loaded, "render_context", rendering.boxed()).await {
            Outcome::Done(text) => Ok(Some(text)),
            Outcome::Refused(reason) => Err(loaded.refusal(reason)),
            Outcome::Failed => Ok(None),
        }
    }

    /// Gives a value to every plugin in turn; each gets what the one before it returned. What a plugin has failed with, it has not
    /// changed.
    async fn pipe<V, F>(&self, hook: &'static str, context: HookContext, mut value: V, call: F) -> Result<V>
    where
        V: Clone + Send + 'static,
        F: Fn(Arc<dyn Plugin>, Arc<HookContext>, V) -> BoxFuture<'static, HookResult<V>> + Send + Sync,
    {
        let context = Arc::new(context);
        for loaded in &self.enabled {
            if !loaded.is_open() {
                continue;
            }
            let calling = call(Arc::clone(&loaded.plugin), Arc::clone(&context), value.clone());
            match self.call(loaded, hook, calling).await {
                Outcome::Done(changed) => value = changed,
                Outcome::Refused(reason) => return Err(loaded.refusal(reason)),
                Outcome::Failed => {}
            }
        }
        Ok(value)
    }

    /// Shows every plugin what was done.
    async fn tell<V, F>(&self, hook: &'static str, context: HookContext, value: V, call: F)
    where
        V: Send + Sync + 'static,
        F: Fn(Arc<dyn Plugin>, Arc<HookContext>, Arc<V>) -> BoxFuture<'static, HookResult<()>> + Send + Sync,
    {
        let (context, value) = (Arc::new(context), Arc::new(value));
        for loaded in &self.enabled {
            if !loaded.is_open() {
                continue;
            }
            let calling = call(Arc::clone(&loaded.plugin), Arc::clone(&context), Arc::clone(&value));
            if let Outcome::Refused(reason) = self.call(loaded, hook, calling).await {
                loaded.failed(hook, &format!("it refused what was done already: {reason}"));
            }
        }
    }

    async fn call<T: Send + 'static>(
        &self,
        loaded: &Loaded,
        hook: &'static str,
        calling: BoxFuture<'static, HookResult<T>>,
    ) -> Outcome<T> {
        match attempt(loaded, self.limit, calling).await {
            Ok(value) => Outcome::Done(value),
            Err(HookError::Refuse(reason)) => Outcome::Refused(reason),
            Err(HookError::Failed(reason)) => {
                loaded.failed(hook, &reason);
                Outcome::Failed
            }
        }
    }
}

impl Loaded {
    /// Whether this task is in none of its hooks.
    fn is_open(&self) -> bool {
        WITHIN.try_with(|names| !names.contains(&self.info.name)).unwrap_or(true)
    }

    fn refusal(&self, reason: String) -> Error {
        Error::Plugin { name: self.info.name.clone(), reason }
    }

    fn failed(&self, hook: &'static str, reason: &str) {
        self.n_failed.fetch_add(1, Ordering::Relaxed);
        tracing::warn!(plugin = %self.info.name, hook, reason, "a hook of a plugin failed; the operation goes on without it");
    }
}

/// Runs a hook as a task of its own, so that a panic stays there and one that never waits holds up nothing else; it ends when
/// the operation does.
async fn attempt<T: Send + 'static>(
    loaded: &Loaded,
    limit: Duration,
    calling: BoxFuture<'static, HookResult<T>>,
) -> HookResult<T> {
    let mut within = WITHIN.try_with(Vec::clone).unwrap_or_default();
    within.push(loaded.info.name.clone());
    let mut task = JoinSet::new();
    task.spawn(WITHIN.scope(within, calling).in_current_span());
    match tokio::time::timeout(limit, task.join_next()).await {
        Ok(Some(Ok(returned))) => returned,
        Ok(Some(Err(error))) if error.is_panic() => Err(HookError::failed("it panicked")),
        Ok(Some(Err(_)) | None) => Err(HookError::failed("it was ended before it returned")),
        Err(_) => Err(HookError::failed(format!("it took longer than {} s", limit.as_secs_f64()))),
    }
}
