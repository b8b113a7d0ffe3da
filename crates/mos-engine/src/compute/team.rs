//! A few threads that share the steps of one computation.
//!
//! One token of a small model is hundreds of steps of some microseconds each; waking a sleeping thread costs more
//! than such a step. So the members wait for the next step with their eyes open for a moment, then sleep.

#![allow(unsafe_code, reason = "a borrowed closure is lent to other threads, which give it back before the call ends")]

use std::cell::UnsafeCell;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;

/// Looks at the step counter this often before a member goes to sleep: some ten microseconds.
const LOOKS_BEFORE_SLEEP: u32 = 3000;

type Work = dyn Fn(usize) + Sync;

#[derive(Clone, Copy)]
struct Step {
    work: *const Work,
    tasks: usize,
}

struct Shared {
    /// Counts the steps; a change calls the members.
    epoch: AtomicU64,
    /// Whether members may take tasks of the current step.
    open: AtomicBool,
    /// Members that look at the current step.
    inside: AtomicUsize,
    next: AtomicUsize,
    step: UnsafeCell<Option<Step>>,
    panicked: AtomicBool,
    stop: AtomicBool,
    sleepers: AtomicUsize,
    bed: Mutex<()>,
    wake: Condvar,
}

// SAFETY: `step` is written only while `open` is false and nobody is inside past the check of `open`; it is read only
// after `open` was seen true by a member that is counted in `inside`, which the writer waits for.
unsafe impl Sync for Shared {}
// SAFETY: as above; the pointer in `step` is dereferenced only while the lender waits.
unsafe impl Send for Shared {}

/// The calling thread and its helpers.
pub(crate) struct Team {
    shared: Arc<Shared>,
    helpers: Vec<JoinHandle<()>>,
    /// One computation at a time.
    turn: Mutex<()>,
}

impl fmt::Debug for Team {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Team").field("threads", &self.threads()).finish()
    }
}

impl Team {
    /// Starts a team of `threads` in all, the caller included.
    ///
    /// # Errors
    /// When the system refuses a thread.
    pub(crate) fn new(threads: usize) -> std::io::Result<Self> {
        let shared = Arc::new(Shared {
            epoch: AtomicU64::new(0),
            open: AtomicBool::new(false),
            inside: AtomicUsize::new(0),
            next: AtomicUsize::new(0),
            step: UnsafeCell::new(None),
            panicked: AtomicBool::new(false),
            stop: AtomicBool::new(false),
            sleepers: AtomicUsize::new(0),
            bed: Mutex::new(()),
            wake: Condvar::new(),
        });
        let mut team = Self { shared, helpers: Vec::new(), turn: Mutex::new(()) };
        for number in 1..threads {
            let shared = Arc::clone(&team.shared);
            let builder = std::thread::Builder::new().name(format!("mos-compute-{number}"));
            team.helpers.push(builder.spawn(move || shared.help())?);
        }
        Ok(team)
    }

    /// Number of threads, the caller included.
    pub(crate) fn threads(&self) -> usize {
        self.helpers.len() + 1
    }

    /// Calls `work` once for every number below `tasks`, in any order and on any member; returns when all are done.
    pub(crate) fn run(&self, tasks: usize, work: &(dyn Fn(usize) + Sync)) {
        if tasks <= 1 || self.helpers.is_empty() {
            (0..tasks).for_each(work);
            return;
        }
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let shared = &*self.shared;
        // SAFETY: only the lifetime is forgotten; `Closing` waits for all members before this call ends.
        let work_pointer: *const Work = unsafe { std::mem::transmute::<&(dyn Fn(usize) + Sync), *const Work>(work) };
        // SAFETY: `open` is false here (the last call closed it), so no member reads `step`.
        unsafe { *shared.step.get() = Some(Step { work: work_pointer, tasks }) };
        shared.next.store(0, SeqCst);
        // A step in which the caller panicked as well did not come to take this back.
        shared.panicked.store(false, SeqCst);
        shared.open.store(true, SeqCst);
        shared.epoch.fetch_add(1, SeqCst);
        if shared.sleepers.load(SeqCst) > 0 {
            let _bed = shared.bed.lock().unwrap_or_else(PoisonError::into_inner);
            shared.wake.notify_all();
        }
        let closing = Closing(shared);
        take_tasks(shared, tasks, work);
        drop(closing);
        if shared.panicked.swap(false, SeqCst) {
            resume_unwind(Box::new("a compute thread panicked"));
        }
    }
}

/// Ends a step, also when the caller's own task panics: no member keeps the closure.
struct Closing<'a>(&'a Shared);

impl Drop for Closing<'_> {
    fn drop(&mut self) {
        self.0.open.store(false, SeqCst);
        let mut looks = 0_u32;
        while self.0.inside.load(SeqCst) > 0 {
            looks += 1;
            if looks < LOOKS_BEFORE_SLEEP { std::hint::spin_loop() } else { std::thread::yield_now() }
        }
    }
}

fn take_tasks(shared: &Shared, tasks: usize, work: &(dyn Fn(usize) + Sync)) {
    loop {
        let task = shared.next.fetch_add(1, SeqCst);
        if task >= tasks {
            return;
        }
        work(task);
    }
}

impl Shared {
    fn help(&self) {
        let mut seen = 0;
        while let Some(epoch) = self.await_step(seen) {
            seen = epoch;
            self.inside.fetch_add(1, SeqCst);
            if self.open.load(SeqCst) {
                // SAFETY: counted in `inside` and seen open: the lender waits for this member.
                let step = unsafe { *self.step.get() };
                if let Some(Step { work, tasks }) = step {
                    // SAFETY: the closure lives until the lender's call ends, which waits for this member.
                    let work = unsafe { &*work };
                    if catch_unwind(AssertUnwindSafe(|| take_tasks(self, tasks, work))).is_err() {
                        self.panicked.store(true, SeqCst);
                    }
                }
            }
            self.inside.fetch_sub(1, SeqCst);
        }
    }

    /// Waits until the counter differs from `seen`; `None` when the team ends.
    fn await_step(&self, seen: u64) -> Option<u64> {
        let mut looks = 0_u32;
        loop {
            if self.stop.load(SeqCst) {
                return None;
            }
            let epoch = self.epoch.load(SeqCst);
            if epoch != seen {
                return Some(epoch);
            }
            looks += 1;
            if looks < LOOKS_BEFORE_SLEEP {
                std::hint::spin_loop();
                continue;
            }
            let bed = self.bed.lock().unwrap_or_else(PoisonError::into_inner);
            self.sleepers.fetch_add(1, SeqCst);
            // Whoever starts a step after this count sees a sleeper and must take the bed's lock to wake it.
            if self.epoch.load(SeqCst) == seen && !self.stop.load(SeqCst) {
                drop(self.wake.wait(bed).unwrap_or_else(PoisonError::into_inner));
            }
            self.sleepers.fetch_sub(1, SeqCst);
            looks = 0;
        }
    }
}

impl Drop for Team {
    fn drop(&mut self) {
        self.shared.stop.store(true, SeqCst);
        {
            let _bed = self.shared.bed.lock().unwrap_or_else(PoisonError::into_inner);
            self.shared.wake.notify_all();
        }
        for helper in self.helpers.drain(..) {
            // A helper cannot panic outside of `catch_unwind`; nothing is left to report while dropping.
            let _ = helper.join();
        }
    }
}

/// A buffer of which the tasks of one step write disjoint parts.
#[derive(Clone, Copy)]
pub(crate) struct SharedMut<'a> {
    start: *mut f32,
    len: usize,
    owner: std::marker::PhantomData<&'a mut [f32]>,
}

// SAFETY: parts are handed out by an unsafe method whose callers promise disjoint ranges.
unsafe impl Send for SharedMut<'_> {}
// SAFETY: as above.
unsafe impl Sync for SharedMut<'_> {}

impl<'a> SharedMut<'a> {
    /// Borrows a whole buffer.
    pub(crate) fn new(buffer: &'a mut [f32]) -> Self {
        Self { start: buffer.as_mut_ptr(), len: buffer.len(), owner: std::marker::PhantomData }
    }

    /// Returns `len` elements from `from` on.
    ///
    /// # Safety
    /// No two parts that live at the same time may overlap.
    #[allow(clippy::mut_from_ref, reason = "disjointness is the caller's promise")]
    pub(crate) unsafe fn part(&self, from: usize, len: usize) -> &'a mut [f32] {
        assert!(from <= self.len && len <= self.len - from, "{from}+{len} of {}", self.len);
        // SAFETY: in bounds, as asserted; exclusive, as promised.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(from), len) }
    }

    /// Returns the address of element `at`, for strided writes of disjoint columns.
    pub(crate) fn address(&self, at: usize) -> *mut f32 {
        assert!(at <= self.len);
        // SAFETY: in bounds, as asserted.
        unsafe { self.start.add(at) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_task_runs_exactly_once_in_many_short_steps() {
        let team = Team::new(3).unwrap();
        for step in 0..2000_usize {
            let tasks = step % 7;
            let counts: Vec<AtomicUsize> = (0..tasks).map(|_| AtomicUsize::new(0)).collect();
            team.run(tasks, &|task| {
                counts[task].fetch_add(1, SeqCst);
            });
            assert!(counts.iter().all(|count| count.load(SeqCst) == 1), "step {step}");
        }
    }

    #[test]
    fn members_that_sleep_are_not_waited_for_and_wake_again() {
        let team = Team::new(2).unwrap();
        for _ in 0..3 {
            std::thread::sleep(std::time::Duration::from_millis(20));
            let sum = AtomicUsize::new(0);
            team.run(100, &|task| {
                sum.fetch_add(task, SeqCst);
            });
            assert_eq!(sum.load(SeqCst), 4950);
        }
    }

    #[test]
    fn a_panic_in_a_task_reaches_the_caller_and_the_team_lives_on() {
        let team = Team::new(2).unwrap();
        let outcome = catch_unwind(AssertUnwindSafe(|| team.run(8, &|task| assert!(task != 5))));
        assert!(outcome.is_err());
        let sum = AtomicUsize::new(0);
        team.run(10, &|task| {
            sum.fetch_add(task, SeqCst);
        });
        assert_eq!(sum.load(SeqCst), 45);
    }

    #[test]
    fn a_panic_of_all_members_at_once_does_not_fail_the_next_step() {
        let team = Team::new(2).unwrap();
        let together = std::sync::Barrier::new(2);
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            // Each member has one of the tasks: neither goes on before the other is there.
            team.run(2, &|task| {
                together.wait();
                panic!("task {task}");
            });
        }));
        assert!(outcome.is_err());
        let sum = AtomicUsize::new(0);
        team.run(10, &|task| {
            sum.fetch_add(task, SeqCst);
        });
        assert_eq!(sum.load(SeqCst), 45);
    }
}
