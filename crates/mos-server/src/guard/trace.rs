//! The name by which a request is known in logs, messages and other programs.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::body::{Body, BodyDataStream, Bytes};
use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderMap, HeaderValue, header};
use axum::middleware::Next;
use axum::response::Response;
use futures::Stream;
use mos::trace::{in_trace, with_trace_id};
use mos_core::{IdSource, RandomIds};
use tracing::{Instrument, Span};

use crate::metrics::Open;
use crate::state::ServerState;

/// The header of answers that names the request.
pub(super) const HEADER: &str = "x-trace-id";

/// The headers in which a caller can name its request, the first that is there counts.
const NAMES: [&str; 3] = ["g-trace-id", "x-trace-id", "trace-id"];

/// The header of the W3C in which programs hand traces on.
const PARENT: &str = "traceparent";

/// The longest name.
const MAX_BYTES: usize = 64;

/// The name of a request, for handlers that hand it on.
#[derive(Clone, Debug)]
pub(crate) struct TraceId(pub(crate) Arc<str>);

/// Gives a request its name: in a span around everything that is done for it, in what is sent to the scheduler, and in the answer.
pub(super) async fn named(State(state): State<ServerState>, mut request: Request, next: Next) -> Response {
    let id: Arc<str> = told(request.headers()).unwrap_or_else(fresh).into();
    let route = request.extensions().get::<MatchedPath>().map_or("unmatched", MatchedPath::as_str);
    let span = tracing::info_span!(
        "request", trace_id = %id, method = %request.method(), route, status = tracing::field::Empty
    );
    #[cfg(feature = "opentelemetry")]
    crate::telemetry::continue_trace(&span, request.headers());
    request.extensions_mut().insert(TraceId(Arc::clone(&id)));
    let answered = with_trace_id(Arc::clone(&id), next.run(request)).instrument(span.clone());
    let mut response = answered.await;
    span.record("status", response.status().as_u16());
    if let Ok(value) = HeaderValue::from_str(&id) {
        response.headers_mut().insert(HEADER, value);
    }
    if is_stream(&response) {
        let open = state.metrics().stream();
        response =
            response.map(|body| Body::from_stream(Streaming { body: body.into_data_stream(), span, id, _open: open }));
    }
    response
}

/// Returns the name that a caller gave its request, when it is one: what stands in logs and files is not for callers to choose
/// freely.
fn told(headers: &HeaderMap) -> Option<String> {
    let texts = NAMES.iter().filter_map(|name| headers.get(*name)?.to_str().ok());
    let plain = texts.map(str::trim).find(|text| is_plain(text));
    plain.map(str::to_owned).or_else(|| parent(headers.get(PARENT)?.to_str().ok()?))
}

fn is_plain(text: &str) -> bool {
    (1..=MAX_BYTES).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
}

/// Returns the trace that a request is a part of: `00-<32 digits>-<16 digits>-<2 digits>`.
fn parent(text: &str) -> Option<String> {
    let mut parts = text.trim().split('-');
    let (version, trace, span, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let is_hex = |part: &str, n: usize| part.len() == n && part.bytes().all(|byte| byte.is_ascii_hexdigit());
    let is_whole = is_hex(version, 2) && is_hex(trace, 32) && is_hex(span, 16) && is_hex(flags, 2);
    let is_named = trace.bytes().any(|byte| byte != b'0');
    (is_whole && is_named).then(|| trace.to_ascii_lowercase())
}

fn fresh() -> String {
    RandomIds.next_uuid().replace('-', "")
}

/// Whether an answer is a stream of events.
pub(crate) fn is_stream(response: &Response) -> bool {
    let kind = response.headers().get(header::CONTENT_TYPE);
    kind.is_some_and(|kind| kind.as_bytes().starts_with(b"text/event-stream"))
}

/// The body of a stream, whose work belongs to its request as well.
struct Streaming {
    body: BodyDataStream,
    span: Span,
    id: Arc<str>,
    _open: Open,
}

impl Stream for Streaming {
    type Item = Result<Bytes, axum::Error>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let Self { body, span, id, .. } = self.get_mut();
        let _entered = span.enter();
        in_trace(id, || Pin::new(body).poll_next(context))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
    }

    const PARENT_OF: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn names_are_taken_in_their_order() {
        let all = [("traceparent", PARENT_OF), ("trace-id", "c"), ("x-trace-id", "b"), ("g-trace-id", "a")];
        let taken: Vec<Option<String>> = (0..=4).rev().map(|n| told(&headers(&all[..n]))).collect();
        let expected = [Some("a"), Some("b"), Some("c"), Some("4bf92f3577b34da6a3ce929d0e0e4736"), None];
        assert_eq!(taken, expected.map(|name| name.map(str::to_owned)));
    }

    #[test]
    fn what_is_no_name_is_passed_over() {
        let long = "x".repeat(MAX_BYTES + 1);
        for odd in ["", "a b", "a\"b", "../../etc", "a;b", long.as_str()] {
            assert_eq!(told(&headers(&[("x-trace-id", odd), ("trace-id", "good")])).as_deref(), Some("good"), "{odd}");
        }
        for odd in
            ["00-00000000000000000000000000000000-00f067aa0ba902b7-01", "00-4bf9-00f067aa0ba902b7-01", "nonsense"]
        {
            assert_eq!(told(&headers(&[("traceparent", odd)])), None, "{odd}");
        }
        assert!(is_plain(&fresh()) && fresh() != fresh());
    }
}
