//! Work in the background that somebody may want to wait for.

use std::sync::Arc;

use tokio::sync::watch;

/// Counts tasks.
#[derive(Debug)]
pub(crate) struct Tasks {
    n_running: Arc<watch::Sender<usize>>,
    limit: usize,
}

impl Tasks {
    /// For at most `limit` tasks at the same time.
    pub(crate) fn new(limit: usize) -> Self {
        Self { n_running: Arc::new(watch::Sender::new(0)), limit }
    }

    /// Counts a task until what is returned is dropped; `None` when there are as many as may be.
    pub(crate) fn begin(&self) -> Option<Task> {
        let is_counted = self.n_running.send_if_modified(|n_running| {
            let has_room = *n_running < self.limit;
            *n_running += usize::from(has_room);
            has_room
        });
        is_counted.then(|| Task { n_running: Arc::clone(&self.n_running) })
    }

    /// Waits until no task is running.
    pub(crate) async fn wait(&self) {
        let mut n_running = self.n_running.subscribe();
        // The sender lives as long as `self`, so this ends only when nothing runs.
        let _is_idle = n_running.wait_for(|n_running| *n_running == 0).await.is_ok();
    }
}

/// A task that is counted.
#[derive(Debug)]
pub(crate) struct Task {
    n_running: Arc<watch::Sender<usize>>,
}

impl Drop for Task {
    fn drop(&mut self) {
        self.n_running.send_modify(|n_running| *n_running -= 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn tasks_are_bounded_and_waited_for() {
        let tasks = Tasks::new(2);
        tasks.wait().await;
        let (first, second) = (tasks.begin().unwrap(), tasks.begin().unwrap());
        assert!(tasks.begin().is_none());
        let mut waiting = Box::pin(tasks.wait());
        assert!(futures::poll!(&mut waiting).is_pending());
        drop(first);
        assert!(futures::poll!(&mut waiting).is_pending());
        drop(second);
        waiting.await;
        assert!(tasks.begin().is_some(), "there is room again");
    }
}
