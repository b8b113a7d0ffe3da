//! Whose turn it is to organise a cube, and what waits to be organised off the path of requests.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use mos_core::{Analyzer, Cube, CubeId, MemoryId};
use mos_memory::organize::Report;
use mos_stores::TextAnalyzer;
use serde::Serialize;
use tokio::sync::Semaphore;

use crate::tasks::{Task, Tasks};

/// How many cubes are remembered; beyond it those with nothing under way are forgotten.
const MAX_CUBES: usize = 1024;

/// How many memories of a cube wait one by one; when there are more the whole cube is due.
const MAX_WAITING: usize = 1000;

/// How many cubes are organised in the background at the same time.
const MAX_AT_ONCE: usize = 2;

/// What organising in the background has done for a cube since the program began, and what it has to do.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct OrganizeStatus {
    /// How many new memories wait.
    pub n_waiting: usize,
    /// Whether more than can wait one by one were added, or a run was cut short: the whole cube is looked at next.
    pub is_whole_cube_due: bool,
    /// Whether it is at work or about to be.
    pub is_running: bool,
    /// How many times it has ended its work.
    pub n_runs: usize,
    /// What it has done the last time; `None` before, and when it failed as a whole.
    pub last_report: Option<Report>,
    /// Why it failed as a whole the last time. No memory is lost; the next run over the whole cube does what is missing.
    pub last_error: Option<String>,
}

/// What is to be organised.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Waiting {
    /// These memories.
    Memories(Vec<MemoryId>),
    /// All of them.
    Everything,
}

/// The cubes that are being organised.
#[derive(Debug)]
pub(crate) struct Organizing {
    /// By id and time of making: a cube that is made anew under an id knows nothing of the earlier one.
    cubes: Mutex<HashMap<(CubeId, String), Arc<CubeWork>>>,
    /// What the program said of organising after adding; without it the cubes' configurations count.
    switch: Mutex<Option<bool>>,
    tasks: Tasks,
    /// Turns of tasks in the background.
    pub(crate) at_once: Semaphore,
    pub(crate) analyzer: Arc<dyn Analyzer>,
}

impl Default for Organizing {
    fn default() -> Self {
        Self {
            cubes: Mutex::default(),
            switch: Mutex::default(),
            // One for each cube at most.
            tasks: Tasks::new(usize::MAX),
            at_once: Semaphore::new(MAX_AT_ONCE),
            analyzer: Arc::new(TextAnalyzer::new()),
        }
    }
}

impl Organizing {
    /// Returns the work of a cube.
    pub(crate) fn of(&self, cube: &Cube) -> Arc<CubeWork> {
        let mut cubes = self.cubes.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (cube.cube_id.clone(), cube.created_at.clone());
        if cubes.len() >= MAX_CUBES && !cubes.contains_key(&key) {
            cubes.retain(|_, work| Arc::strong_count(work) > 1);
        }
        Arc::clone(cubes.entry(key).or_default())
    }

    /// Switches organising after adding on or off for all cubes.
    pub(crate) fn switch(&self, is_on: bool) {
        *self.switch.lock().unwrap_or_else(PoisonError::into_inner) = Some(is_on);
    }

    /// Whether a cube is organised after adding whose configuration says so or not.
    pub(crate) fn is_wanted(&self, is_configured: bool) -> bool {
        self.switch.lock().unwrap_or_else(PoisonError::into_inner).unwrap_or(is_configured)
    }

    /// Counts a task over a cube until what is returned is dropped.
    pub(crate) fn busy(&self, work: &Arc<CubeWork>) -> Busy {
        Busy { work: Arc::clone(work), is_done: false, _task: self.tasks.begin() }
    }

    /// Waits until no task is at work.
    pub(crate) async fn wait(&self) {
        self.tasks.wait().await;
    }
}

/// What waits for a cube and what was done for it.
#[derive(Debug, Default)]
pub(crate) struct CubeWork {
    /// Held by whoever organises the cube.
    pub(crate) turn: tokio::sync::Mutex<()>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    waiting: Vec<MemoryId>,
    is_whole_cube_due: bool,
    is_running: bool,
    n_runs: usize,
    last: Option<Result<Report, String>>,
}

impl CubeWork {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets memories wait. Returns whether a task has to be started for them.
    pub(crate) fn add(&self, ids: &[MemoryId]) -> bool {
        let mut state = self.state();
        if state.waiting.len() + ids.len() > MAX_WAITING {
            state.waiting.clear();
            state.is_whole_cube_due = true;
        } else if !state.is_whole_cube_due {
            state.waiting.extend_from_slice(ids);
        }
        !std::mem::replace(&mut state.is_running, true)
    }

    /// Takes everything that waits. After `None` the task is over: who adds something starts another.
    pub(crate) fn take(&self) -> Option<Waiting> {
        let mut state = self.state();
        let waiting = if std::mem::take(&mut state.is_whole_cube_due) {
            Some(Waiting::Everything)
        } else if state.waiting.is_empty() {
            None
        } else {
            Some(Waiting::Memories(std::mem::take(&mut state.waiting)))
        };
        state.is_running = waiting.is_some();
        waiting
    }

    /// Notes how it ended.
    pub(crate) fn end(&self, result: Result<Report, String>) {
        let mut state = self.state();
        state.n_runs += 1;
        state.last = Some(result);
    }

    pub(crate) fn status(&self) -> OrganizeStatus {
        let state = self.state();
        let (last_report, last_error) = match &state.last {
            Some(Ok(report)) => (Some(report.clone()), None),
            Some(Err(error)) => (None, Some(error.clone())),
            None => (None, None),
        };
        OrganizeStatus {
            n_waiting: state.waiting.len(),
            is_whole_cube_due: state.is_whole_cube_due,
            is_running: state.is_running,
            n_runs: state.n_runs,
            last_report,
            last_error,
        }
    }

    /// A task went without having ended.
    fn was_cut_short(&self) {
        let mut state = self.state();
        state.is_running = false;
        state.is_whole_cube_due = true;
    }
}

/// A task at work, seen by [`Organizing::wait`] until this is dropped.
#[derive(Debug)]
pub(crate) struct Busy {
    work: Arc<CubeWork>,
    is_done: bool,
    _task: Option<Task>,
}

impl Busy {
    /// The task has ended by itself.
    pub(crate) fn done(mut self) {
        self.is_done = true;
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        if !self.is_done {
            self.work.was_cut_short();
        }
    }
}

#[cfg(test)]
mod tests {
    use mos_core::UserId;
    use serde_json::Value;

    use super::*;

    fn ids(range: std::ops::Range<usize>) -> Vec<MemoryId> {
        range.map(|number| MemoryId::new(format!("00000000-0000-4000-8000-{number:012}"))).collect()
    }

    fn cube(id: &str, created_at: &str) -> Cube {
        Cube {
            cube_id: CubeId::from(id),
            cube_name: id.to_owned(),
            cube_path: None,
            owner_id: UserId::from("ann"),
            created_at: created_at.to_owned(),
            is_registered: true,
            config: Value::Null,
        }
    }

    #[test]
    fn what_is_added_meanwhile_waits_for_the_same_task() {
        let work = CubeWork::default();
        assert!(work.add(&ids(0..2)), "somebody has to begin");
        assert!(!work.add(&ids(2..3)), "somebody is about to");
        assert_eq!(work.take(), Some(Waiting::Memories(ids(0..3))));
        assert!(!work.add(&ids(3..4)) && work.status().n_waiting == 1);
        assert_eq!(work.take(), Some(Waiting::Memories(ids(3..4))));
        assert!(work.take().is_none() && !work.status().is_running);
        assert!(work.add(&ids(4..5)));
    }

    #[test]
    fn what_does_not_fit_is_found_by_a_run_over_everything() {
        let work = CubeWork::default();
        work.add(&ids(0..MAX_WAITING));
        work.add(&ids(0..1));
        work.add(&ids(1..2));
        assert!(work.status().is_whole_cube_due && work.status().n_waiting == 0);
        assert_eq!(work.take(), Some(Waiting::Everything));
        assert!(work.take().is_none());
    }

    #[tokio::test]
    async fn waiting_ends_with_the_last_task_and_a_task_that_is_cut_short_leaves_the_whole_cube() {
        let organizing = Organizing::default();
        organizing.wait().await;
        let work = organizing.of(&cube("a", "2026"));
        work.add(&ids(0..1));
        let first = organizing.busy(&work);
        let second = organizing.busy(&organizing.of(&cube("b", "2026")));
        let mut waiting = Box::pin(organizing.wait());
        assert!(futures::poll!(&mut waiting).is_pending());
        drop(first);
        assert!(futures::poll!(&mut waiting).is_pending());
        second.done();
        waiting.await;
        let status = organizing.of(&cube("a", "2026")).status();
        assert!(status.is_whole_cube_due && !status.is_running, "{status:?}");
        assert!(!organizing.of(&cube("b", "2026")).status().is_whole_cube_due);
        let anew = organizing.of(&cube("a", "2027")).status();
        assert_eq!(anew, OrganizeStatus::default(), "another cube of the same id");
    }

    #[test]
    fn the_number_of_cubes_is_bounded_and_none_at_work_is_forgotten() {
        let organizing = Organizing::default();
        let held = organizing.of(&cube("held", "2026"));
        held.add(&ids(0..1));
        (0..2 * MAX_CUBES).for_each(|number| drop(organizing.of(&cube(&number.to_string(), "2026"))));
        assert!(organizing.cubes.lock().unwrap().len() <= MAX_CUBES);
        assert_eq!(organizing.of(&cube("held", "2026")).status().n_waiting, 1);
    }
}
