//! Which pages may call from a browser.

use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::{HeaderName, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use tower_http::cors::{AllowHeaders, AllowOrigin, CorsLayer};

use super::{host, rates, trace};
use crate::error::ApiError;
use crate::options::{AuthMode, ServerOptions};
use crate::state::ServerState;

/// How long a browser may remember what a page may do.
const MAX_AGE: Duration = Duration::from_secs(600);

/// Refuses requests of pages that are neither the server's own nor listed. Programs that are no browsers name no page.
pub(super) async fn check(State(state): State<ServerState>, request: Request, next: Next) -> Response {
    let options = state.options();
    let mut origins = request.headers().get_all(header::ORIGIN).iter();
    let is_welcome = match (origins.next(), origins.next()) {
        (None, _) => true,
        (Some(_), _) if options.auth == AuthMode::Open => true,
        (Some(origin), None) => {
            let host = host::named(request.headers(), request.uri());
            origin.to_str().is_ok_and(|origin| is_own(origin, host.as_deref()) || is_listed(origin, options))
        }
        (Some(_), Some(_)) => false,
    };
    if is_welcome {
        return next.run(request).await;
    }
    tracing::warn!("a request of a foreign page was refused");
    let message = "this page may not call the server; list its origin under `server.cors_origins`";
    ApiError::new(StatusCode::FORBIDDEN, message).into_response()
}

/// Whether a page came from this server: a proxy may have taken the encryption off, so that schemes do not matter.
fn is_own(origin: &str, host: Option<&str>) -> bool {
    let place = origin.strip_prefix("https://").or_else(|| origin.strip_prefix("http://"));
    place.is_some_and(|place| !place.is_empty() && host.is_some_and(|host| place.eq_ignore_ascii_case(host)))
}

fn is_listed(origin: &str, options: &ServerOptions) -> bool {
    options.cors_origins.iter().any(|listed| listed.eq_ignore_ascii_case(origin))
}

/// Returns the layer that tells browsers what pages may do: those that are listed, or all of them when everybody may call. Pages
/// send keys themselves, so that no credentials of the browser are ever taken.
pub(super) fn cors(options: &ServerOptions) -> CorsLayer {
    let origins = match options.auth {
        AuthMode::Open => AllowOrigin::any(),
        AuthMode::Keys => {
            let options = options.clone();
            AllowOrigin::predicate(move |origin, _| origin.to_str().is_ok_and(|origin| is_listed(origin, &options)))
        }
    };
    CorsLayer::new()
        .allow_origin(origins)
        .allow_methods([Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::PATCH, Method::DELETE])
        .allow_headers(AllowHeaders::mirror_request())
        .expose_headers(exposed())
        .max_age(MAX_AGE)
}

/// The headers of answers that pages may read.
fn exposed() -> Vec<HeaderName> {
    let ours = [trace::HEADER, rates::LIMIT, rates::REMAINING, rates::RESET, "mcp-session-id"];
    let mut names: Vec<HeaderName> = ours.into_iter().map(HeaderName::from_static).collect();
    names.push(header::RETRY_AFTER);
    names
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::body::Body;
    use axum::routing::get;
    use tower::ServiceExt;

    use super::*;

    #[test]
    fn a_page_of_the_server_itself_is_known_by_its_place() {
        assert!(is_own("http://localhost:8000", Some("localhost:8000")));
        assert!(is_own("https://Mos.example.com", Some("mos.example.com")));
        assert!(!is_own("http://localhost:3000", Some("localhost:8000")), "another port is another page");
        assert!(!is_own("null", Some("localhost:8000")) && !is_own("http://localhost:8000", None));
    }

    #[tokio::test]
    async fn only_listed_origins_are_told_that_they_may() {
        let listed = "https://app.example.com";
        let keys = ServerOptions { cors_origins: vec![listed.to_owned()], ..ServerOptions::default() };
        let open = ServerOptions { auth: AuthMode::Open, ..ServerOptions::default() };
        for (options, origin, allowed) in [
            (&keys, listed, Some(listed)),
            (&keys, "https://evil.example", None),
            (&open, "https://evil.example", Some("*")),
        ] {
            let router: Router = Router::new().route("/", get(|| async { "" })).layer(cors(options));
            let request = Request::builder().uri("/").header("origin", origin).body(Body::empty()).unwrap();
            let response = router.oneshot(request).await.unwrap();
            let told = response.headers().get(header::ACCESS_CONTROL_ALLOW_ORIGIN);
            assert_eq!(told.map(|told| told.to_str().unwrap()), allowed, "{origin}");
            assert!(!response.headers().contains_key(header::ACCESS_CONTROL_ALLOW_CREDENTIALS));
        }
    }
}
