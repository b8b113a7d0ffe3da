//! Reads a file in a thread of its own, so that what the libraries below cannot promise is promised here: no panic gets
//! out, and nobody waits longer than is allowed.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use super::{Document, DocumentKind, ParseError};

/// Room for deeply nested files; only what is used of it takes memory.
const STACK_BYTES: usize = 256 << 20;

/// The most files that are read at once. Files that were given up count until their thread ends.
const MAX_RUNNING: usize = 32;

static RUNNING: AtomicUsize = AtomicUsize::new(0);

/// Tells a reader that nobody waits for it any more.
#[derive(Clone, Debug, Default)]
pub(super) struct Stop(Arc<AtomicBool>);

impl Stop {
    /// # Errors
    /// When nobody waits any more; the error itself is seen by nobody.
    pub(super) fn check(&self, kind: DocumentKind) -> Result<(), ParseError> {
        if self.0.load(Ordering::Relaxed) { Err(ParseError::TimedOut { kind, seconds: 0.0 }) } else { Ok(()) }
    }
}

/// A place among those that run; it is free again when this is dropped.
struct Place;

impl Place {
    fn take() -> Result<Self, ParseError> {
        let place = Self;
        // Counted first: two that come at once cannot both take the last place. Dropping `place` uncounts it.
        let running = RUNNING.fetch_add(1, Ordering::AcqRel);
        if running < MAX_RUNNING { Ok(place) } else { Err(ParseError::Busy { running }) }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        RUNNING.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Returns what `read` returns.
///
/// # Errors
/// What `read` says; [`ParseError::Corrupt`] when it panics, [`ParseError::TimedOut`] when it takes too long, and
/// [`ParseError::Busy`] when too many run.
pub(super) fn run(
    kind: DocumentKind,
    timeout: Duration,
    read: impl FnOnce(&Stop) -> Result<Document, ParseError> + Send + 'static,
) -> Result<Document, ParseError> {
    let place = Place::take()?;
    let stop = Stop::default();
    let own_stop = stop.clone();
    let (sender, receiver) = mpsc::sync_channel(1);
    let work = move || {
        let result = catch_unwind(AssertUnwindSafe(|| read(&own_stop)));
        drop(place);
        // Nobody listens to what was given up.
        let _ = sender.send(result);
    };
    let thread = thread::Builder::new().name(format!("read-{kind}")).stack_size(STACK_BYTES);
    // The place went into the closure, and is free again when that is dropped.
    thread.spawn(work).map_err(|_| ParseError::Busy { running: RUNNING.load(Ordering::Acquire) })?;
    match receiver.recv_timeout(timeout) {
        Ok(Ok(result)) => result,
        Ok(Err(_)) | Err(mpsc::RecvTimeoutError::Disconnected) => {
            Err(ParseError::corrupt(kind, "its structure is not what the format allows"))
        }
        Err(mpsc::RecvTimeoutError::Timeout) => {
            stop.0.store(true, Ordering::Relaxed);
            Err(ParseError::TimedOut { kind, seconds: timeout.as_secs_f64() })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_an_error_and_frees_its_place() {
        for _ in 0..2 * MAX_RUNNING {
            let error = run(DocumentKind::Pdf, Duration::from_secs(60), |_| panic!("a broken file")).unwrap_err();
            assert!(matches!(error, ParseError::Corrupt { kind: DocumentKind::Pdf, .. }), "{error}");
        }
    }

    #[test]
    fn what_takes_too_long_is_told_to_stop() {
        let (told, heard) = mpsc::channel();
        let error = run(DocumentKind::Html, Duration::from_millis(20), move |stop| {
            while stop.check(DocumentKind::Html).is_ok() {
                thread::yield_now();
            }
            told.send(()).unwrap();
            Ok(Document::new(DocumentKind::Html))
        })
        .unwrap_err();
        assert!(matches!(error, ParseError::TimedOut { .. }), "{error}");
        heard.recv().unwrap();
    }
}
