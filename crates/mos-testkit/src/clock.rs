//! A clock that stands still until it is told otherwise, and ids that can be foreseen.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use mos_core::{Clock, IdSource};

/// A clock that shows the time it was set to.
#[derive(Debug)]
pub struct SetClock {
    microseconds: AtomicI64,
}

impl SetClock {
    /// Returns a clock that shows so many seconds after 1970.
    pub fn at_unix_s(seconds: i64) -> Self {
        Self { microseconds: AtomicI64::new(seconds * 1_000_000) }
    }

    /// Moves the clock forward.
    ///
    /// # Panics
    /// When the time does not fit.
    pub fn advance(&self, by: Duration) {
        let microseconds = i64::try_from(by.as_micros()).expect("a test moves its clock by less than ages");
        self.microseconds.fetch_add(microseconds, Ordering::SeqCst);
    }
}

impl Default for SetClock {
    /// 2026-01-02T03:04:05Z.
    fn default() -> Self {
        Self::at_unix_s(1_767_323_045)
    }
}

impl Clock for SetClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_microsecond(self.microseconds.load(Ordering::SeqCst))
            .expect("a test sets its clock within the calendar")
    }
}

/// UUIDs that count up from 1.
#[derive(Debug, Default)]
pub struct CountingIds {
    last: AtomicU64,
}

impl IdSource for CountingIds {
    fn next_uuid(&self) -> String {
        let number = self.last.fetch_add(1, Ordering::SeqCst) + 1;
        format!("00000000-0000-4000-8000-{number:012x}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_moves_only_when_told() {
        let clock = SetClock::default();
        assert_eq!(clock.now_text(), "2026-01-02T03:04:05.000000+00:00");
        clock.advance(Duration::from_millis(1500));
        assert_eq!(clock.now_text(), "2026-01-02T03:04:06.500000+00:00");
    }

    #[test]
    fn ids_count_up() {
        let ids = CountingIds::default();
        assert_eq!(ids.next_uuid(), "00000000-0000-4000-8000-000000000001");
        assert_eq!(ids.next_uuid(), "00000000-0000-4000-8000-000000000002");
    }
}
