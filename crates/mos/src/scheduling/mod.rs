//! The facade's side of work in the background: the scheduler is put together here, from the facade's parts.
//!
//! Who holds what: a [`Mos`](crate::Mos) that a program has keeps the scheduler running; handlers reach the parts through a
//! weak link and get a facade that does not. So the scheduler stops when the program lets go of its last facade, and what
//! was being handled goes back into the queue.

pub(crate) mod beginning;
pub(crate) mod cubes;
pub(crate) mod options;
pub(crate) mod promoted;
pub(crate) mod rabbitmq;
mod reader;

use std::fmt;
use std::sync::{Arc, OnceLock};

use mos_config::store::RedisQueue;
use mos_config::{ConfigError, Settings, StoreConfig};
use mos_core::{JobQueue, StateStore};
use mos_scheduler::{Scheduler, SchedulerParts};

use crate::error::{Error, Result};
use crate::facade::Parts;
use crate::plugin;

/// Stops the scheduler when it is dropped.
pub(crate) struct Keeper {
    pub(crate) scheduler: Arc<OnceLock<Scheduler>>,
}

impl fmt::Debug for Keeper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_running = self.scheduler.get().is_some_and(Scheduler::is_running);
        f.debug_struct("Keeper").field("is_running", &is_running).finish()
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        if let Some(scheduler) = self.scheduler.get() {
            scheduler.abandon();
        }
    }
}

/// Returns a scheduler over the facade's parts, with the built-in handlers and then those of the program; it handles nothing
/// before it is started.
///
/// # Errors
/// [`Error::Invalid`] when there is no place for jobs; as [`Scheduler::register_handlers`].
pub(crate) fn new_scheduler(parts: &Arc<Parts>) -> Result<Scheduler> {
    let (queue, state) = places(parts)?;
    let cubes = Arc::new(cubes::FacadeCubes { parts: Arc::downgrade(parts) });
    let options = options::scheduler_options(&parts.settings);
    let (clock, ids) = (Arc::clone(&parts.clock), Arc::clone(&parts.ids));
    let sinks = parts.event_sinks.clone();
    let scheduler = Scheduler::new(SchedulerParts { queue, state, cubes, clock, ids, sinks, options });
    mos_scheduler::register_turn(&scheduler, options::turn_options(&parts.settings))?;
    mos_scheduler::register_work(&scheduler, options::work_options(&parts.settings))?;
    scheduler.register_handlers(parts.handlers.clone())?;
    if !parts.plugins.is_empty() {
        scheduler.wrap_handlers(|handler| plugin::around(handler, Arc::clone(&parts.plugins)));
    }
    Ok(scheduler)
}

/// Where jobs are, and what must be known after a restart.
fn places(parts: &Parts) -> Result<(Arc<dyn JobQueue>, Arc<dyn StateStore>)> {
    match (&parts.queue, &parts.state) {
        (Some(queue), Some(state)) => Ok((Arc::clone(queue), Arc::clone(state))),
        _ => Err(Error::Invalid(format!(
            "the store `{}` keeps no jobs, which the scheduler needs; set `queue` to `redis` in the settings (or \
             `use_redis_queue` in those of mem_scheduler), or switch enable_mem_scheduler off",
            parts.settings.store.backend()
        ))),
    }
}

/// Refuses settings whose jobs would be in another place than the one that their store writes them to.
///
/// # Errors
/// [`Error::Invalid`], which says what to change.
pub(crate) fn check_queue(settings: &Settings) -> Result<()> {
    let wants_redis = settings.enable_mem_scheduler
        && settings.mem_scheduler.as_ref().is_some_and(|scheduler| scheduler.settings().common.use_redis_queue);
    let has_own_queue = matches!(settings.store, StoreConfig::Sqlite(_) | StoreConfig::Memory(_));
    if wants_redis && has_own_queue {
        return Err(Error::Invalid(format!(
            "mem_scheduler.config.use_redis_queue cannot be on with the store `{}`, which keeps the jobs of a write with it; \
             switch it off (jobs are as durable without it), or set `store` to `neo4j`",
            settings.store.backend()
        )));
    }
    Ok(())
}

/// Returns the Redis server that the scheduler's settings name for jobs; `None` when they name none.
///
/// # Errors
/// [`Error::Invalid`] for values that say no server.
pub(crate) fn redis_of(settings: &Settings) -> Result<Option<RedisQueue>> {
    let common = settings.mem_scheduler.as_ref().map(|scheduler| &scheduler.settings().common);
    let Some(common) = common.filter(|common| settings.enable_mem_scheduler && common.use_redis_queue) else {
        return Ok(None);
    };
    let wrong = |error: ConfigError| {
        Error::Invalid(format!("mem_scheduler.config.redis_config: {error}; correct it in the settings"))
    };
    common.redis().map(Some).map_err(wrong)
}
