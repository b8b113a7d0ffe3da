//! The time, injected wherever it is needed.

use std::fmt;

use jiff::Timestamp;

/// Tells the time.
pub trait Clock: fmt::Debug + Send + Sync {
    /// Returns the current moment.
    fn now(&self) -> Timestamp;

    /// Returns the current moment as stored in memories: ISO 8601, UTC, microseconds,
    /// for example `2026-01-02T03:04:05.678901+00:00`.
    fn now_text(&self) -> String {
        timestamp_text(self.now())
    }
}

/// The machine's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

#[allow(clippy::disallowed_methods, reason = "this is the one place that asks the machine")]
impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }
}

/// Returns `at` as ISO 8601 text in UTC with microseconds and an explicit offset.
pub fn timestamp_text(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%S%.6f+00:00").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_has_microseconds_and_offset() {
        let at = Timestamp::from_microsecond(1_767_323_045_678_901).unwrap();
        assert_eq!(timestamp_text(at), "2026-01-02T03:04:05.678901+00:00");
    }
}
