//! Following in the background, so that searches seldom have to wait, and so that what nobody searches any more goes.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use mos_core::{Scope, StoreError};
use tokio::runtime::Handle;
use tokio::sync::mpsc::{self, Receiver, Sender};
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

use super::fault::{BACKEND, Fault};
use super::follow::{MAX_ROUNDS, News};
use super::point::{CURSOR_OF, cursor_cube};
use super::{Inner, collections, condition};

/// The most cubes that wait to be followed. What finds no room is followed when it is searched.
const MAX_WAITING: usize = 4096;
/// Waits after a failure: the first, and the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// The task in the background. It ends with this value.
#[derive(Debug)]
pub(super) struct Worker {
    notices: Sender<Scope>,
    task: JoinHandle<()>,
}

impl Drop for Worker {
    fn drop(&mut self) {
        // Whatever it is doing can be done again.
        self.task.abort();
    }
}

impl Worker {
    pub(super) fn start(runtime: &Handle, inner: Arc<Inner>, sweep_every: Duration) -> Self {
        let (notices, received) = mpsc::channel(MAX_WAITING);
        let task = runtime.spawn(async move { Round::new(inner).run(received, sweep_every).await });
        Self { notices, task }
    }

    /// Has a cube followed soon.
    pub(super) fn notice(&self, scope: &Scope) {
        if self.notices.try_send(scope.clone()).is_err() {
            tracing::debug!(backend = BACKEND, %scope.cube, "too many cubes wait; it is followed when it is searched");
        }
    }
}

/// What there is to do.
struct Round {
    inner: Arc<Inner>,
    waiting: BTreeSet<Scope>,
    is_sweep_due: bool,
    n_failures: u32,
    pause_until: Instant,
}

impl Round {
    fn new(inner: Arc<Inner>) -> Self {
        Self { inner, waiting: BTreeSet::new(), is_sweep_due: false, n_failures: 0, pause_until: Instant::now() }
    }

    async fn run(mut self, mut received: Receiver<Scope>, sweep_every: Duration) {
        let mut sweeps = interval(sweep_every.max(Duration::from_secs(1)));
        sweeps.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let has_room = self.waiting.len() < MAX_WAITING;
            let has_work = self.is_sweep_due || !self.waiting.is_empty();
            tokio::select! {
                notice = received.recv(), if has_room => match notice {
                    Some(scope) => drop(self.waiting.insert(scope)),
                    None => return,
                },
                _ = sweeps.tick() => self.is_sweep_due = true,
                () = sleep_until(self.pause_until), if has_work => self.work().await,
            }
        }
    }

    /// Does what there is to do, until something fails that may pass.
    async fn work(&mut self) {
        while let Some(scope) = self.waiting.first().cloned() {
            if self.has_failed(self.inner.follow_any(&scope).await) {
                return;
            }
            self.waiting.remove(&scope);
        }
        if self.is_sweep_due && !self.has_failed(self.inner.sweep().await) {
            self.is_sweep_due = false;
        }
    }

    /// Whether it is to be tried again later.
    fn has_failed(&mut self, result: Result<(), StoreError>) -> bool {
        match result {
            Ok(()) => {
                if self.n_failures > 0 {
                    tracing::info!(backend = BACKEND, "the server is followed again");
                }
                self.n_failures = 0;
                false
            }
            Err(StoreError::Unavailable { backend, source }) => {
                if self.n_failures == 0 {
                    tracing::warn!(backend, error = %source, "cannot follow; trying again until it is back");
                }
                let pause = FIRST_PAUSE.saturating_mul(1 << self.n_failures.min(10)).min(LONGEST_PAUSE);
                self.n_failures += 1;
                self.pause_until = Instant::now() + pause;
                true
            }
            Err(error) => {
                // Searches meet the same error and tell it to somebody who can act.
                tracing::warn!(backend = BACKEND, %error, "a cube cannot be followed");
                false
            }
        }
    }
}

impl Inner {
    /// Follows a cube in the space that it has, or removes it where it has none.
    pub(super) async fn follow_any(self: &Arc<Self>, scope: &Scope) -> Result<(), StoreError> {
        for _ in 0..MAX_ROUNDS {
            let Some(space) = self.record.embedding_space(scope).await? else {
                for collection in collections::ours(&self.connection, &self.prefix).await? {
                    self.leave(scope, &collection).await?;
                }
                return Ok(());
            };
            if self.follow(scope, &space).await? == News::None {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Follows every cube that the server has a cursor of, and removes those that the record has not, or not in that
    /// space.
    pub(super) async fn sweep(self: &Arc<Self>) -> Result<(), StoreError> {
        for collection in collections::ours(&self.connection, &self.prefix).await? {
            let cursors = match self.calls(&collection).all(&condition::cursors(), &[CURSOR_OF]).await {
                Ok(cursors) => cursors,
                Err(Fault::NoCollection) => continue,
                Err(Fault::Store(error)) => return Err(error),
            };
            for scope in cursors.iter().filter_map(|cursor| cursor_cube(&cursor.payload)) {
                let space = self.record.embedding_space(&scope).await?;
                match space.filter(|space| collections::name(&self.prefix, space) == collection) {
                    Some(space) => drop(self.follow(&scope, &space).await?),
                    None => self.leave(&scope, &collection).await?,
                }
            }
        }
        Ok(())
    }
}
