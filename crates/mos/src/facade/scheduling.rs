//! Work in the background: the scheduler starts and stops, and cubes begin and end with it.

use mos_scheduler::{Scheduler, Stopped};

use super::Mos;
use crate::error::{Error, Result};
use crate::scheduling::{new_scheduler, options};

/// Starting and stopping.
impl Mos {
    /// Returns the scheduler; `None` unless `enable_mem_scheduler` is on, or [`Mos::mem_scheduler_on`] was called.
    pub fn scheduler(&self) -> Option<Scheduler> {
        self.parts.scheduler.get().cloned()
    }

    /// Refuses when the scheduler is not there, and says how to get it.
    ///
    /// # Errors
    /// [`Error::Invalid`].
    pub fn require_scheduler(&self) -> Result<Scheduler> {
        self.scheduler().ok_or_else(|| {
            Error::Invalid("there is no scheduler; set `enable_mem_scheduler: true` in the settings".to_owned())
        })
    }

    /// Starts to handle messages in this program; makes the scheduler first when there is none. A second call changes nothing.
    /// Must be called within a tokio runtime.
    ///
    /// # Errors
    /// [`Error::Invalid`] when the store keeps no jobs.
    pub fn mem_scheduler_on(&self) -> Result<()> {
        self.open_scheduler()?.start();
        Ok(())
    }

    /// Stops to handle messages in this program, when what is being handled has ended; see [`Scheduler::stop`]. Messages are
    /// still taken, and handled after [`Mos::mem_scheduler_on`] or by another program.
    pub async fn mem_scheduler_off(&self) -> Stopped {
        match self.parts.scheduler.get() {
            Some(scheduler) => scheduler.stop().await,
            None => Stopped::default(),
        }
    }

    /// Ends the work in the background in good order: what was to be sent is sent, what is being handled may end, what is
    /// being learned or organised beside is waited for, and events reach their sinks. Dropping every [`Mos`] without this loses nothing either: what
    /// is in a durable queue is handled after the next start.
    pub async fn stop(&self) -> Stopped {
        self.parts.sending.wait().await;
        let stopped = self.mem_scheduler_off().await;
        self.wait_for_learning().await;
        self.wait_for_organizing().await;
        for sink in &self.parts.event_sinks {
            sink.flush().await;
        }
        self.parts.plugins.shut_down().await;
        stopped
    }

    /// Waits until every message is in the queue that answers of chats lead to.
    pub async fn wait_for_sending(&self) {
        self.parts.sending.wait().await;
    }

    /// Returns the scheduler, making it first when needed.
    pub(crate) fn open_scheduler(&self) -> Result<&Scheduler> {
        if let Some(scheduler) = self.parts.scheduler.get() {
            return Ok(scheduler);
        }
        let scheduler = new_scheduler(&self.parts)?;
        Ok(self.parts.scheduler.get_or_init(|| scheduler))
    }

    /// The scheduler, when it handles a label.
    pub(super) fn scheduler_of(&self, label: &str) -> Option<&Scheduler> {
        let scheduler = self.parts.scheduler.get()?;
        let is_disabled = options::is_disabled(&self.parts.settings, label);
        (!is_disabled && scheduler.handlers().iter().any(|known| known == label)).then_some(scheduler)
    }

    /// Whether messages of a label are handled in the background.
    pub(super) fn is_scheduled(&self, label: &str) -> bool {
        self.scheduler_of(label).is_some()
    }

    /// Has the dispatcher look into the queue: a write has put jobs there.
    pub(super) fn wake_scheduler(&self) {
        if let Some(scheduler) = self.parts.scheduler.get() {
            scheduler.wake();
        }
    }
}
