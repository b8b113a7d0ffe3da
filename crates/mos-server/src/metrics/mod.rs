//! What the server does, in numbers: `/metrics` in the text format of Prometheus.
//!
//! Invariant: no label holds the id of a user, a cube, a key or a memory. Paths are the templates of routes.

mod installation;
mod sheet;

use std::fmt;
use std::time::{Duration, Instant};

use axum::extract::{MatchedPath, Request, State};
use axum::http::{Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use mos::product::{Identity, ProductError, Scope};
use prometheus::{HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, Opts, Registry, TextEncoder};
use tokio::sync::Mutex;

use crate::error::ApiError;
use crate::extract::Authenticated;
use crate::routes::{Routes, get};
use crate::state::ServerState;

/// The text format, as Prometheus names it.
const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Bounds of the latencies, in seconds: from a search in memory to a long chat.
const SECONDS: &[f64] =
    &[0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0];

/// How long numbers that have to be asked for are told again.
const FRESH: Duration = Duration::from_secs(2);

/// What the server counts itself.
pub(crate) struct Metrics {
    registry: Registry,
    requests: IntCounterVec,
    seconds: HistogramVec,
    under_way: IntGauge,
    streams: IntGauge,
    connections: IntGauge,
    refused_connections: IntCounter,
    /// What the installation told, and when.
    told: Mutex<Option<(Instant, String)>>,
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

/// Something that is counted for as long as it is open.
#[derive(Debug)]
pub(crate) struct Open(IntGauge);

impl Open {
    fn new(gauge: &IntGauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.dec();
    }
}

impl Metrics {
    pub(crate) fn new() -> Self {
        Self::build().expect("the names of metrics are right, which a test checks")
    }

    fn build() -> prometheus::Result<Self> {
        let requests = Opts::new("mos_http_requests_total", "Answered requests.");
        let seconds = HistogramOpts::new("mos_http_request_seconds", "Seconds until an answer began.");
        let metrics = Self {
            registry: Registry::new(),
            requests: IntCounterVec::new(requests, &["method", "route", "status"])?,
            seconds: HistogramVec::new(seconds.buckets(SECONDS.to_vec()), &["method", "route"])?,
            under_way: IntGauge::new("mos_http_requests_under_way", "Requests that are worked on.")?,
            streams: IntGauge::new("mos_http_streams", "Streams of events that are open.")?,
            connections: IntGauge::new("mos_http_connections", "Connections that are open.")?,
            refused_connections: IntCounter::new(
                "mos_http_connections_refused_total",
                "Connections of addresses that had all they may.",
            )?,
            told: Mutex::new(None),
        };
        let Self { registry, requests, seconds, under_way, streams, connections, refused_connections, .. } = &metrics;
        registry.register(Box::new(requests.clone()))?;
        registry.register(Box::new(seconds.clone()))?;
        registry.register(Box::new(refused_connections.clone()))?;
        for gauge in [under_way, streams, connections] {
            registry.register(Box::new(gauge.clone()))?;
        }
        Ok(metrics)
    }

    /// Counts a stream until the result is dropped.
    pub(crate) fn stream(&self) -> Open {
        Open::new(&self.streams)
    }

    /// Counts a connection until the result is dropped.
    pub(crate) fn connection(&self) -> Open {
        Open::new(&self.connections)
    }

    /// Counts a connection that was one too many of its address.
    pub(crate) fn refused_connection(&self) {
        self.refused_connections.inc();
    }
}

/// Counts a request, and says in the log that it was answered.
pub(crate) async fn observe(State(state): State<ServerState>, request: Request, next: Next) -> Response {
    let metrics = state.metrics();
    let route = request.extensions().get::<MatchedPath>().map_or("unmatched", MatchedPath::as_str).to_owned();
    let method = known(request.method());
    let under_way = Open::new(&metrics.under_way);
    let started = Instant::now();
    let response = next.run(request).await;
    drop(under_way);
    let took = started.elapsed();
    let status = response.status();
    metrics.requests.with_label_values(&[method, route.as_str(), status.as_str()]).inc();
    metrics.seconds.with_label_values(&[method, route.as_str()]).observe(took.as_secs_f64());
    tracing::info!(status = status.as_u16(), ms = took.as_secs_f64() * 1_000.0, "answered");
    response
}

/// Methods that callers invent are told together.
fn known(method: &Method) -> &'static str {
    match method.as_str() {
        "GET" => "GET",
        "HEAD" => "HEAD",
        "POST" => "POST",
        "PUT" => "PUT",
        "PATCH" => "PATCH",
        "DELETE" => "DELETE",
        "OPTIONS" => "OPTIONS",
        _ => "other",
    }
}

pub(crate) fn routes() -> Routes {
    Routes::new().route("/metrics", get(show))
}

/// Shows the numbers to who may see those of all users.
async fn show(State(state): State<ServerState>, caller: Result<Authenticated, ApiError>) -> Result<Response, ApiError> {
    if !state.options().metrics_open {
        let Authenticated(caller) = caller?;
        caller.check(Scope::Admin)?;
        if let Identity::User(user) = &caller.identity {
            // A key outlives the role that it was made for.
            state.app().mos().check_administrator(user).await.map_err(ProductError::from)?;
        }
    }
    let text = text(&state).await.map_err(|error| {
        tracing::error!(%error, "the metrics could not be written");
        ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "the metrics could not be written; the log tells why")
    })?;
    Ok(([(header::CONTENT_TYPE, TEXT)], text).into_response())
}

async fn text(state: &ServerState) -> prometheus::Result<String> {
    let metrics = state.metrics();
    let mut text = TextEncoder::new().encode_to_string(&metrics.registry.gather())?;
    // Held while the installation is asked: whoever asks meanwhile gets the same numbers.
    let mut told = metrics.told.lock().await;
    let known = told.as_ref().filter(|(when, _)| when.elapsed() < FRESH).map(|(_, text)| text.clone());
    let fresh = match known {
        Some(known) => known,
        None => {
            let new = installation::text(state.app().mos()).await?;
            *told = Some((Instant::now(), new.clone()));
            new
        }
    };
    text.push_str(&fresh);
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_counted_is_written_and_what_has_ended_is_not_open() {
        let metrics = Metrics::new();
        metrics.requests.with_label_values(&["GET", "/health", "200"]).inc();
        metrics.seconds.with_label_values(&["GET", "/health"]).observe(0.002);
        let open = metrics.stream();
        let text = || TextEncoder::new().encode_to_string(&metrics.registry.gather()).unwrap();
        assert!(text().contains(r#"mos_http_requests_total{method="GET",route="/health",status="200"} 1"#));
        assert!(text().contains(r#"mos_http_request_seconds_bucket{method="GET",route="/health",le="0.0025"} 1"#));
        assert!(text().contains("mos_http_streams 1"));
        drop(open);
        assert!(text().contains("mos_http_streams 0"));
    }

    #[test]
    fn invented_methods_are_told_together() {
        assert_eq!((known(&Method::POST), known(&Method::from_bytes(b"BREW").unwrap())), ("POST", "other"));
    }
}
