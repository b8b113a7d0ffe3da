//! How often addresses sent keys that were refused.
//!
//! Keys cannot be guessed; this keeps those who try from filling the store's time. An address may be that of many, so that a few
//! keys of it are looked up all the same: nobody is kept out for long by what others behind it send.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Refused keys of an address in a window, after which few more are looked up until the window's end.
const MAX_REFUSED: u32 = 20;

/// How often one more is.
const EVERY: Duration = Duration::from_secs(1);

/// The window.
const WINDOW: Duration = Duration::from_secs(60);

/// The most addresses that are remembered; the one whose window began first goes first.
const MAX_ADDRESSES: usize = 10_000;

#[derive(Clone, Copy, Debug)]
struct Refused {
    since: Instant,
    n: u32,
    /// When a key was looked up last, as far as it matters.
    last: Instant,
}

/// Refused keys by address; bounded.
#[derive(Debug, Default)]
pub(super) struct Attempts {
    by_address: Mutex<HashMap<IpAddr, Refused>>,
}

impl Attempts {
    fn lock(&self) -> MutexGuard<'_, HashMap<IpAddr, Refused>> {
        self.by_address.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns how long an address has to wait before another key of it is looked up; `None` when one is now. After many refused
    /// ones that is one at a time: others wait from then on.
    pub(super) fn must_wait(&self, address: IpAddr) -> Option<Duration> {
        let mut by_address = self.lock();
        let refused = by_address.get_mut(&address)?;
        if refused.n < MAX_REFUSED || refused.since.elapsed() >= WINDOW {
            return None;
        }
        let left = EVERY.saturating_sub(refused.last.elapsed());
        if left.is_zero() {
            refused.last = Instant::now();
            return None;
        }
        Some(left)
    }

    /// Counts a refused key.
    pub(super) fn note(&self, address: IpAddr) {
        let mut by_address = self.lock();
        let now = Instant::now();
        let fresh = Refused { since: now, n: 0, last: now };
        if by_address.len() >= MAX_ADDRESSES && !by_address.contains_key(&address) {
            by_address.retain(|_, refused| refused.since.elapsed() < WINDOW);
            let oldest = by_address.iter().min_by_key(|(_, refused)| refused.since).map(|(address, _)| *address);
            if by_address.len() >= MAX_ADDRESSES
                && let Some(oldest) = oldest
            {
                by_address.remove(&oldest);
            }
        }
        let refused = by_address.entry(address).or_insert(fresh);
        if refused.since.elapsed() >= WINDOW {
            *refused = fresh;
        }
        refused.n = refused.n.saturating_add(1);
        refused.last = now;
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn address(number: u32) -> IpAddr {
        IpAddr::V4(Ipv4Addr::from(number))
    }

    #[tokio::test(start_paused = true)]
    async fn who_was_refused_often_is_looked_up_once_a_second_until_the_end_of_the_window() {
        let attempts = Attempts::default();
        for _ in 0..MAX_REFUSED {
            assert_eq!(attempts.must_wait(address(1)), None);
            attempts.note(address(1));
        }
        assert_eq!(attempts.must_wait(address(1)), Some(EVERY));
        assert_eq!(attempts.must_wait(address(2)), None, "others do not wait");
        tokio::time::advance(EVERY).await;
        assert_eq!(attempts.must_wait(address(1)), None);
        assert_eq!(attempts.must_wait(address(1)), Some(EVERY), "one key, not all that come then");
        tokio::time::advance(EVERY / 2).await;
        attempts.note(address(1));
        assert_eq!(attempts.must_wait(address(1)), Some(EVERY), "that one was refused");
        tokio::time::advance(WINDOW).await;
        assert_eq!(attempts.must_wait(address(1)), None);
        assert_eq!(attempts.must_wait(address(1)), None);
        attempts.note(address(1));
        assert_eq!(attempts.must_wait(address(1)), None, "it begins anew");
    }

    #[tokio::test(start_paused = true)]
    async fn it_is_bounded() {
        let attempts = Attempts::default();
        for number in 0..u32::try_from(MAX_ADDRESSES).unwrap() + 5 {
            attempts.note(address(number));
        }
        assert_eq!(attempts.lock().len(), MAX_ADDRESSES);
    }
}
