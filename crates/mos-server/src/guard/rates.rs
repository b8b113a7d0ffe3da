//! How often a caller may call.
//!
//! Who has shown a key has a bucket of its own; who has none shares one with its network. What was used comes back evenly over the
//! window. The table of buckets is bounded: when there are too many networks, further ones share one bucket.

use std::fmt;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use axum::Json;
use axum::extract::{Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use governor::clock::{Clock as _, DefaultClock};
use governor::middleware::StateInformationMiddleware;
use governor::state::keyed::DashMapStateStore;
use governor::{Quota, RateLimiter};
use mos_core::{Clock as _, SystemClock};
use serde_json::json;

use super::{client, is_exempt};
use crate::auth::KeyUsed;
use crate::options::RateLimit;
use crate::state::ServerState;

/// The header with the number of requests in a window.
pub(super) const LIMIT: &str = "x-ratelimit-limit";
/// The header with the number of requests that are left now.
pub(super) const REMAINING: &str = "x-ratelimit-remaining";
/// The header with the time at which all are there again, in seconds since 1970.
pub(super) const RESET: &str = "x-ratelimit-reset";

/// The most buckets; with it the table takes some megabytes.
const MAX_BUCKETS: usize = 50_000;

/// After how many requests unused buckets are cleared away.
const TIDY_AFTER: u64 = 1_024;

/// Whose requests are counted together.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Bucket {
    Key(String),
    Network(IpAddr),
    /// All networks for which the table has no room, and requests without a connection.
    Rest,
}

/// What became of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Verdict {
    limit: u32,
    remaining: u32,
    /// Until everything is there again.
    reset: Duration,
    /// Until one request is there again, when there was none.
    wait: Option<Duration>,
}

/// The rates of callers, and of those who only try keys.
pub(crate) struct Rates {
    callers: Option<Limiter>,
    strangers: Option<Limiter>,
}

impl fmt::Debug for Rates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rates").field("is_limited", &self.callers.is_some()).finish()
    }
}

impl Rates {
    pub(crate) fn new(limit: Option<RateLimit>) -> Self {
        Self { callers: limit.map(Limiter::new), strangers: limit.map(Limiter::new) }
    }
}

/// Buckets of one kind.
struct Limiter {
    buckets: RateLimiter<Bucket, DashMapStateStore<Bucket>, DefaultClock, StateInformationMiddleware>,
    limit: u32,
    /// The time after which one request is there again.
    interval: Duration,
    n_requests: AtomicU64,
    is_full: AtomicBool,
}

impl Limiter {
    fn new(limit: RateLimit) -> Self {
        let burst = NonZeroU32::new(limit.requests).unwrap_or(NonZeroU32::MIN);
        let interval = (limit.window / burst.get()).max(Duration::from_nanos(1));
        let quota = Quota::with_period(interval).expect("the interval is not zero").allow_burst(burst);
        Self {
            buckets: RateLimiter::dashmap(quota).with_middleware::<StateInformationMiddleware>(),
            limit: burst.get(),
            interval,
            n_requests: AtomicU64::new(0),
            is_full: AtomicBool::new(false),
        }
    }

    /// Counts a request.
    fn count(&self, bucket: Bucket) -> Verdict {
        if self.n_requests.fetch_add(1, Ordering::Relaxed) % TIDY_AFTER == TIDY_AFTER - 1 {
            self.tidy();
        }
        // Keys are as many as were made; networks are as many as somebody has.
        let bucket = match bucket {
            Bucket::Network(_) if self.is_full.load(Ordering::Relaxed) => Bucket::Rest,
            bucket => bucket,
        };
        match self.buckets.check_key(&bucket) {
            Ok(left) => {
                let remaining = left.remaining_burst_capacity().min(self.limit);
                Verdict { limit: self.limit, remaining, reset: self.interval * (self.limit - remaining), wait: None }
            }
            Err(refused) => {
                let wait = refused.wait_time_from(self.buckets.clock().now());
                Verdict { limit: self.limit, remaining: 0, reset: self.interval * self.limit, wait: Some(wait) }
            }
        }
    }

    /// Forgets buckets that are full again.
    fn tidy(&self) {
        self.buckets.retain_recent();
        self.is_full.store(self.buckets.len() >= MAX_BUCKETS, Ordering::Relaxed);
    }
}

/// Refuses requests of a caller that calls too often, and tells every caller how much is left. It is inside of the layer that
/// looks at keys.
pub(super) async fn of_callers(State(state): State<ServerState>, request: Request, next: Next) -> Response {
    let Some(limiter) = &state.rates().callers else { return next.run(request).await };
    if is_exempt(request.method(), request.uri().path()) {
        return next.run(request).await;
    }
    let verdict = limiter.count(bucket_of(&state, &request));
    let mut response = match verdict.wait {
        Some(wait) => refusal(wait),
        None => next.run(request).await,
    };
    tell(&mut response, verdict);
    response
}

/// Counts requests that were refused for want of a good key, and puts off who has too many of them. Nobody else of the same
/// network is put off with them.
pub(super) async fn of_strangers(State(state): State<ServerState>, request: Request, next: Next) -> Response {
    let Some(limiter) = &state.rates().strangers else { return next.run(request).await };
    let network = network_of(&state, &request);
    let response = next.run(request).await;
    if response.status() != StatusCode::UNAUTHORIZED {
        return response;
    }
    let verdict = limiter.count(network);
    match verdict.wait {
        Some(wait) => {
            let mut refused = refusal(wait);
            tell(&mut refused, verdict);
            refused
        }
        None => response,
    }
}

/// Returns whose request it is: the key's, without one the network's.
pub(super) fn bucket_of(state: &ServerState, request: &Request) -> Bucket {
    let key = request.extensions().get::<KeyUsed>().and_then(KeyUsed::name);
    key.map_or_else(|| network_of(state, request), Bucket::Key)
}

fn network_of(state: &ServerState, request: &Request) -> Bucket {
    let address = client::address(request.extensions(), request.headers(), &state.options().trusted_proxies);
    address.map_or(Bucket::Rest, |address| Bucket::Network(client::network(address)))
}

/// Whole seconds, rounded up: who waits that long is not too early.
fn seconds(time: Duration) -> u64 {
    time.as_secs() + u64::from(time.subsec_nanos() > 0)
}

fn refusal(wait: Duration) -> Response {
    refused(&format!("too many requests; come again in {} seconds", seconds(wait).max(1)), wait)
}

/// Answers a caller that has to wait, with a message that says why.
pub(super) fn refused(message: &str, wait: Duration) -> Response {
    let seconds = seconds(wait).max(1);
    let body = json!({"code": 429, "message": message, "data": null, "detail": message, "retry_after": seconds});
    let mut response = (StatusCode::TOO_MANY_REQUESTS, Json(body)).into_response();
    response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    response
}

fn tell(response: &mut Response, verdict: Verdict) {
    let now = u64::try_from(SystemClock.now().as_second()).unwrap_or(0);
    let headers = response.headers_mut();
    headers.insert(LIMIT, HeaderValue::from(verdict.limit));
    headers.insert(REMAINING, HeaderValue::from(verdict.remaining));
    headers.insert(RESET, HeaderValue::from(now + seconds(verdict.reset)));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limiter(requests: u32) -> Limiter {
        Limiter::new(RateLimit { requests, window: Duration::from_secs(86_400) })
    }

    fn key(name: &str) -> Bucket {
        Bucket::Key(name.to_owned())
    }

    #[test]
    fn a_caller_that_has_used_its_requests_waits_and_others_do_not() {
        let limiter = limiter(2);
        let first = limiter.count(key("one"));
        assert_eq!((first.limit, first.remaining, first.wait), (2, 1, None));
        assert_eq!(limiter.count(key("one")).remaining, 0);
        let refused = limiter.count(key("one"));
        let wait = refused.wait.expect("the third of two is refused");
        assert!(wait > Duration::from_secs(43_000) && wait <= Duration::from_secs(43_200), "{wait:?}");
        assert_eq!(limiter.count(key("two")).wait, None);
        assert_eq!(limiter.count(Bucket::Network([1, 2, 3, 4].into())).wait, None);
    }

    #[test]
    fn networks_beyond_the_table_share_a_bucket_and_keys_keep_theirs() {
        let limiter = limiter(1);
        limiter.is_full.store(true, Ordering::Relaxed);
        assert_eq!(limiter.count(Bucket::Network([1, 2, 3, 4].into())).wait, None);
        assert!(limiter.count(Bucket::Network([5, 6, 7, 8].into())).wait.is_some());
        assert_eq!(limiter.count(key("one")).wait, None);
    }

    #[test]
    fn buckets_that_are_full_again_are_forgotten() {
        let limiter = Limiter::new(RateLimit { requests: 1_000_000, window: Duration::from_millis(1) });
        for number in 0..100_u8 {
            limiter.count(Bucket::Network([10, 0, 0, number].into()));
        }
        std::thread::sleep(Duration::from_millis(20));
        limiter.tidy();
        assert!(limiter.buckets.is_empty());
    }

    #[test]
    fn a_refusal_says_when_to_come_again() {
        let refused = refusal(Duration::from_millis(1_200));
        assert_eq!(
            (refused.status(), &refused.headers()[header::RETRY_AFTER]),
            (StatusCode::TOO_MANY_REQUESTS, &HeaderValue::from(2))
        );
    }
}
