//! What browsers are told about every answer.

use axum::extract::Request;
use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use axum::middleware::Next;
use axum::response::Response;

use super::trace;

/// Data is never a page: nothing of it runs or is shown in another page.
const DATA_POLICY: &str = "default-src 'none'; frame-ancestors 'none'";

/// What holds for pages that say nothing stricter themselves.
const PAGE_POLICY: &str = "frame-ancestors 'none'; base-uri 'self'; object-src 'none'; form-action 'self'";

/// The header that says whether a reverse proxy may collect an answer.
const BUFFERING: &str = "x-accel-buffering";

/// Adds headers to an answer, where a route has not set them itself.
pub(super) async fn add(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    let is_page = headers.get(header::CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(b"text/html"));
    let policy = if is_page { PAGE_POLICY } else { DATA_POLICY };
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, policy),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::REFERRER_POLICY, "no-referrer"),
        // Memories stay in no cache on the way.
        (header::CACHE_CONTROL, "no-store"),
    ] {
        set_absent(headers, name, value);
    }
    if trace::is_stream(&response) {
        // Some reverse proxies collect an answer before they pass it on, unless they are told not to.
        response.headers_mut().insert(BUFFERING, HeaderValue::from_static("no"));
    }
    response
}

fn set_absent(headers: &mut HeaderMap, name: HeaderName, value: &'static str) {
    if !headers.contains_key(&name) {
        headers.insert(name, HeaderValue::from_static(value));
    }
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::body::Body;
    use axum::middleware::from_fn;
    use axum::response::Html;
    use axum::routing::get;
    use tower::ServiceExt;

    use super::*;

    async fn policy(path: &str) -> String {
        let router: Router = Router::new()
            .route("/data", get(|| async { "{}" }))
            .route("/page", get(|| async { Html("<p>") }))
            .route("/own", get(|| async { ([(header::CONTENT_SECURITY_POLICY, "default-src 'self'")], Html("<p>")) }))
            .layer(from_fn(add));
        let response = router.oneshot(Request::builder().uri(path).body(Body::empty()).unwrap()).await.unwrap();
        assert_eq!(response.headers()[header::X_CONTENT_TYPE_OPTIONS], "nosniff");
        assert_eq!(response.headers()[header::CACHE_CONTROL], "no-store");
        response.headers()[header::CONTENT_SECURITY_POLICY].to_str().unwrap().to_owned()
    }

    #[tokio::test]
    async fn data_never_runs_and_pages_keep_what_they_say_themselves() {
        assert!(policy("/data").await.starts_with("default-src 'none'"));
        assert!(policy("/page").await.starts_with("frame-ancestors 'none'"));
        assert_eq!(policy("/own").await, "default-src 'self'");
    }
}
