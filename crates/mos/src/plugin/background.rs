//! Plugins and the work in the background: events on their way to them, and handlers with hooks around them.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use mos_core::{BoxError, SessionId};
use mos_scheduler::{Event, EventSink, Handler, HandlerContext, HandlerError, ScheduleMessage};
use tokio::sync::{mpsc, oneshot};

use super::{HookContext, Plugins};
use crate::error::Error;

/// Events that may wait for plugins; further ones are told in the log only.
const CAPACITY: usize = 256;

/// How long the end of a program waits for plugins that are still told of events.
const PATIENCE: Duration = Duration::from_secs(5);

/// What is on its way to the plugins.
enum Told {
    Event(Box<Event>),
    /// Everything before this has been told.
    Flushed(oneshot::Sender<()>),
}

/// Tells plugins of events, beside the handlers that wrote them down.
pub(crate) struct PluginSink {
    sender: mpsc::Sender<Told>,
}

impl PluginSink {
    /// Must be called within a tokio runtime. What tells the plugins ends with the sink.
    pub(crate) fn new(plugins: Arc<Plugins>) -> Self {
        let (sender, mut told) = mpsc::channel(CAPACITY);
        tokio::spawn(async move {
            while let Some(next) = told.recv().await {
                match next {
                    Told::Event(event) => plugins.on_event(*event).await,
                    // Who asked may have stopped waiting.
                    Told::Flushed(done) => {
                        let _ = done.send(());
                    }
                }
            }
        });
        Self { sender }
    }
}

impl fmt::Debug for PluginSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PluginSink").finish_non_exhaustive()
    }
}

#[async_trait]
impl EventSink for PluginSink {
    async fn publish(&self, event: &Event) -> Result<(), BoxError> {
        let told = Told::Event(Box::new(event.clone()));
        self.sender.try_send(told).map_err(|_| BoxError::from("too many events are waiting for the plugins"))
    }

    async fn flush(&self) {
        let (done, is_done) = oneshot::channel();
        let flushing = async {
            if self.sender.send(Told::Flushed(done)).await.is_ok() {
                // It is dropped only when nobody is left who could be told.
                let _ = is_done.await;
            }
        };
        if tokio::time::timeout(PATIENCE, flushing).await.is_err() {
            tracing::warn!("the program ends before its plugins were told of all events; they are in the event log");
        }
    }
}

/// Returns a handler with the hooks of plugins around it.
pub(crate) fn around(handler: Arc<dyn Handler>, plugins: Arc<Plugins>) -> Arc<dyn Handler> {
    Arc::new(HookedHandler { handler, plugins })
}

struct HookedHandler {
    handler: Arc<dyn Handler>,
    plugins: Arc<Plugins>,
}

#[async_trait]
impl Handler for HookedHandler {
    async fn handle(&self, context: HandlerContext, messages: Vec<ScheduleMessage>) -> Result<(), HandlerError> {
        let Some(first) = messages.first() else { return self.handler.handle(context, messages).await };
        let session = Some(first.session_id.as_str()).filter(|session| !session.is_empty()).map(SessionId::new);
        let place = HookContext::new(&first.user_id, [first.mem_cube_id.clone()], session.as_ref());
        let given = messages.clone();
        let changed = self.plugins.before_handle(place.clone(), messages).await.map_err(given_up)?;
        if changed.len() != given.len() {
            return Err(HandlerError::give_up(
                "a plugin has left messages out or added some; it should refuse them instead",
            ));
        }
        // Whose they are was checked, and what has effect once is known by their names.
        let said = |(given, changed): (ScheduleMessage, ScheduleMessage)| ScheduleMessage {
            content: changed.content,
            info: changed.info,
            chat_history: changed.chat_history,
            ..given
        };
        let messages: Vec<ScheduleMessage> = given.into_iter().zip(changed).map(said).collect();
        let handled = messages.clone();
        self.handler.handle(context, messages).await?;
        self.plugins.after_handle(place, handled).await;
        Ok(())
    }
}

fn given_up(error: Error) -> HandlerError {
    HandlerError::give_up(error)
}
