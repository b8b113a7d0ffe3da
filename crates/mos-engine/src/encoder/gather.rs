//! Texts of several callers, computed together.
//!
//! One thread computes as long as texts wait, and sleeps otherwise: a text that comes alone is computed at once. What comes
//! meanwhile waits in one of two lines, short requests and long ones, and the next run takes what there is, up to a
//! number of tokens. Nothing waits for company.
//!
//! Invariant: a text's outcome is that of the text alone, and only its own caller learns it; a run that fails is
//! repeated text by text. Texts whose callers have gone are not computed.
//!
//! Not here: tokens, and how they are computed.

use std::collections::VecDeque;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use mos_core::ModelError;
use tokio::sync::{Semaphore, SemaphorePermit, oneshot};

use crate::error::internal;

/// Texts of short requests that may wait; further ones wait for a place.
const SHORT_PLACES: usize = 4096;

/// Texts of long requests that may wait.
const LONG_PLACES: usize = 16_384;

/// A run that begins with a long request keeps this part of its tokens (a half, a third ...) for such, when short ones wait.
const LONG_PART: usize = 2;

/// What became of a text.
type Outcome = Result<Vec<f32>, ModelError>;

/// Where the texts of a request wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Line {
    /// First come, first served.
    Short,
    /// In turns: a request gives what a run has room for, then stands behind the others.
    Long,
}

/// The way to the thread that computes. The thread ends when this is dropped.
pub(super) struct Gatherer {
    shared: Arc<Shared>,
    short_places: Semaphore,
    long_places: Semaphore,
}

/// Places for the texts of a request; they are free again when this is dropped.
#[must_use]
pub(super) struct Places<'a> {
    gatherer: &'a Gatherer,
    line: Line,
    _permit: SemaphorePermit<'a>,
}

struct Shared {
    lines: Mutex<Lines>,
    arrived: Condvar,
}

#[derive(Default)]
struct Lines {
    short: VecDeque<Job>,
    long: VecDeque<VecDeque<Job>>,
    /// Whether the latest run began with a long request.
    began_long: bool,
    has_ended: bool,
}

/// A text that somebody waits for.
struct Job {
    tokens: Vec<u32>,
    answer: oneshot::Sender<Outcome>,
}

impl fmt::Debug for Gatherer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gatherer").finish_non_exhaustive()
    }
}

impl Gatherer {
    /// Starts the thread. `compute` is given at most `limit` tokens at once, unless one text alone has more, and returns a
    /// vector per text.
    ///
    /// # Errors
    /// When the system refuses a thread.
    pub(super) fn start(
        limit: usize,
        compute: impl Fn(&[&[u32]]) -> Result<Vec<Vec<f32>>, ModelError> + Send + 'static,
    ) -> Result<Self, ModelError> {
        let shared = Arc::new(Shared { lines: Mutex::default(), arrived: Condvar::new() });
        let of_thread = Arc::clone(&shared);
        std::thread::Builder::new()
            .name("mos-encoder".to_owned())
            .spawn(move || {
                // Also when a defect ends the thread: nobody waits for it then.
                let ending = Ending(&of_thread);
                while let Some(run) = ending.0.next_run(limit) {
                    answer(run, &compute);
                }
            })
            .map_err(|error| internal("starting the thread of an encoder", error))?;
        Ok(Self { shared, short_places: Semaphore::new(SHORT_PLACES), long_places: Semaphore::new(LONG_PLACES) })
    }

    /// Waits for places for `n_texts`.
    ///
    /// # Errors
    /// None that a caller could cause.
    pub(super) async fn places(&self, line: Line, n_texts: usize) -> Result<Places<'_>, ModelError> {
        let (places, most) = match line {
            Line::Short => (&self.short_places, SHORT_PLACES),
            Line::Long => (&self.long_places, LONG_PLACES),
        };
        let n_places = u32::try_from(n_texts.min(most)).unwrap_or(u32::MAX);
        let permit = places.acquire_many(n_places).await.map_err(|error| internal("waiting for an encoder", error))?;
        Ok(Places { gatherer: self, line, _permit: permit })
    }
}

impl Drop for Gatherer {
    fn drop(&mut self) {
        self.shared.end();
    }
}

impl Places<'_> {
    /// Returns the vectors of texts, given as tokens, in their order. Texts that are not computed yet when the call is
    /// dropped are left out.
    ///
    /// # Errors
    /// What the computation of one of these texts alone says.
    pub(super) async fn vectors(self, texts: Vec<Vec<u32>>) -> Result<Vec<Vec<f32>>, ModelError> {
        let mut vectors = Vec::with_capacity(texts.len());
        for answer in self.gatherer.shared.submit(self.line, texts) {
            let outcome = answer.await;
            vectors.push(outcome.map_err(|_| internal("computing embeddings", "the encoder's thread has ended"))??);
        }
        Ok(vectors)
    }
}

/// Ends the lines.
struct Ending<'a>(&'a Shared);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.0.end();
    }
}

impl Shared {
    /// The lines are whole between any two statements, so those that somebody left in panic are as good as any.
    fn lines(&self) -> MutexGuard<'_, Lines> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts texts in line; returns where their outcomes arrive.
    fn submit(&self, line: Line, texts: Vec<Vec<u32>>) -> Vec<oneshot::Receiver<Outcome>> {
        let mut answers = Vec::with_capacity(texts.len());
        let jobs = texts.into_iter().map(|tokens| {
            let (answer, receiver) = oneshot::channel();
            answers.push(receiver);
            Job { tokens, answer }
        });
        let jobs: VecDeque<Job> = jobs.collect();
        let mut lines = self.lines();
        if !lines.has_ended {
            match line {
                Line::Short => lines.short.extend(jobs),
                Line::Long => lines.long.push_back(jobs),
            }
        }
        drop(lines);
        self.arrived.notify_one();
        answers
    }

    /// Waits for texts and takes those of the next run; `None` when there will be no more.
    fn next_run(&self, limit: usize) -> Option<Vec<Job>> {
        let mut lines = self.lines();
        loop {
            if lines.has_ended {
                return None;
            }
            let run = lines.next_run(limit);
            if !run.is_empty() {
                return Some(run);
            }
            lines = self.arrived.wait(lines).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Lets the thread end, and whoever waits know it.
    fn end(&self) {
        let mut lines = self.lines();
        lines.has_ended = true;
        let left = (std::mem::take(&mut lines.short), std::mem::take(&mut lines.long));
        drop(lines);
        drop(left);
        self.arrived.notify_one();
    }
}

impl Lines {
    /// Takes texts of at most `limit` tokens (and at least one text, where there is one).
    fn next_run(&mut self, limit: usize) -> Vec<Job> {
        let mut run = Vec::new();
        let mut n_tokens = 0;
        // Of two runs one begins with a long request: neither line can hold up the other for ever.
        self.began_long = !self.began_long && !self.long.is_empty();
        if self.began_long {
            let part = if self.short.is_empty() { limit } else { limit / LONG_PART };
            n_tokens += take_in_turns(&mut self.long, part, &mut run);
        }
        n_tokens += take(&mut self.short, limit.saturating_sub(n_tokens), &mut run);
        take_in_turns(&mut self.long, limit.saturating_sub(n_tokens), &mut run);
        run
    }
}

/// Moves the first texts of a line to a run, as long as there is room for their tokens; an empty run has room for any text.
/// Returns how many tokens were moved.
fn take(line: &mut VecDeque<Job>, room: usize, run: &mut Vec<Job>) -> usize {
    let mut n_tokens = 0;
    while let Some(job) = line.pop_front() {
        if job.answer.is_closed() {
            continue;
        }
        if !run.is_empty() && n_tokens + job.tokens.len() > room {
            line.push_front(job);
            break;
        }
        n_tokens += job.tokens.len();
        run.push(job);
    }
    n_tokens
}

/// As [`take`], from each request in turn; whose texts were taken stands behind the others.
fn take_in_turns(requests: &mut VecDeque<VecDeque<Job>>, room: usize, run: &mut Vec<Job>) -> usize {
    let mut n_tokens = 0;
    for _ in 0..requests.len() {
        let Some(mut request) = requests.pop_front() else { break };
        let n_before = run.len();
        n_tokens += take(&mut request, room.saturating_sub(n_tokens), run);
        if request.is_empty() {
            continue;
        }
        // Its next text needs more room than there is.
        if run.len() == n_before {
            requests.push_front(request);
        } else {
            requests.push_back(request);
        }
        break;
    }
    n_tokens
}

/// Computes a run and tells everybody what became of their text.
fn answer(run: Vec<Job>, compute: &impl Fn(&[&[u32]]) -> Result<Vec<Vec<f32>>, ModelError>) {
    let outcome = {
        let texts: Vec<&[u32]> = run.iter().map(|job| job.tokens.as_slice()).collect();
        guarded(compute, &texts)
    };
    match outcome {
        Ok(vectors) => {
            for (job, vector) in run.into_iter().zip(vectors) {
                tell(job.answer, Ok(vector));
            }
        }
        // One of them is to blame; the others have their vectors.
        Err(_) if run.len() > 1 => run.into_iter().for_each(|job| answer_alone(job, compute)),
        Err(error) => {
            if let Some(job) = run.into_iter().next() {
                tell(job.answer, Err(error));
            }
        }
    }
}

fn answer_alone(job: Job, compute: &impl Fn(&[&[u32]]) -> Result<Vec<Vec<f32>>, ModelError>) {
    if job.answer.is_closed() {
        return;
    }
    let outcome = guarded(compute, &[job.tokens.as_slice()]).and_then(|vectors| {
        vectors.into_iter().next().ok_or_else(|| internal("computing embeddings", "a text got no vector"))
    });
    tell(job.answer, outcome);
}

fn tell(answer: oneshot::Sender<Outcome>, outcome: Outcome) {
    // Who has gone needs no answer.
    drop(answer.send(outcome));
}

/// A defect that one text shows must not end the thread.
fn guarded(
    compute: &impl Fn(&[&[u32]]) -> Result<Vec<Vec<f32>>, ModelError>,
    texts: &[&[u32]],
) -> Result<Vec<Vec<f32>>, ModelError> {
    catch_unwind(AssertUnwindSafe(|| compute(texts))).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref().copied());
        Err(internal("computing embeddings", text.unwrap_or("a panic without text")))
    })
}

#[cfg(test)]
mod tests;
