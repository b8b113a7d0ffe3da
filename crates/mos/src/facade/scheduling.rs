//! Work in the background: the scheduler starts and stops, and cubes begin and end with it.

use std::sync::Arc;

use mos_config::StoreConfig;
use mos_core::{Cube, CubeId, Scope, StateStore};
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

/// What is kept of the work for cubes that come and go.
impl Mos {
    /// Makes a cube whose work begins with nothing: what an earlier one of its id left behind is forgotten.
    pub(super) async fn make_cube(&self, cube: &Cube) -> Result<()> {
        let Some(state) = self.state_that_knows_no_cubes() else {
            return Ok(self.parts.users.create_cube(cube).await?);
        };
        // Nobody finds that there is no such cube, and forgets its work, when there is one.
        let _forgetting = self.parts.forgetting.lock().await;
        self.forget_unless_known(state, &cube.cube_id).await?;
        Ok(self.parts.users.create_cube(cube).await?)
    }

    /// Forgets the work for a cube when there is no such cube: documents and events that are kept beside the record, which erases
    /// its own (and all jobs); also what a handler wrote while the cube was deleted.
    pub(crate) async fn forget_work_of_deleted(&self, cube: &CubeId) -> Result<()> {
        let Some(state) = self.state_that_knows_no_cubes() else { return Ok(()) };
        let _forgetting = self.parts.forgetting.lock().await;
        self.forget_unless_known(state, cube).await
    }

    /// The caller lets nobody else make or forget meanwhile.
    async fn forget_unless_known(&self, state: &Arc<dyn StateStore>, cube: &CubeId) -> Result<()> {
        if self.parts.users.cube(cube).await?.is_some() {
            return Ok(());
        }
        Ok(state.remove_scope(&Scope::of(cube)).await?)
    }

    /// Documents on a server, which take what is written for a cube that is gone; embedded stores do not.
    fn state_that_knows_no_cubes(&self) -> Option<&Arc<dyn StateStore>> {
        let is_embedded = matches!(self.parts.settings.store, StoreConfig::Sqlite(_) | StoreConfig::Memory(_));
        self.parts.state.as_ref().filter(|_| !is_embedded)
    }
}
