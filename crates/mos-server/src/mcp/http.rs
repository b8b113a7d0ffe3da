//! The tools at `/mcp`: streamable HTTP, one answer for each request.
//!
//! Sessions are not kept. A client gets no session id, one that it sends is not looked at, and every request counts for the
//! key that it brings; so nobody can go on with what somebody else began, and nothing has to be bounded or to expire.

use std::sync::Arc;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::{StatusCode, Uri};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use rmcp::transport::streamable_http_server::session::never::NeverSessionManager;
use rmcp::transport::streamable_http_server::{StreamableHttpServerConfig, StreamableHttpService};

use super::McpServer;
use crate::error::ApiError;
use crate::extract::{check_depth, check_values};
use crate::options::ServerOptions;
use crate::routes::Routes;
use crate::state::ServerState;

/// Returns the route of the tools. A layer has to put a [`Caller`](mos::product::Caller) into its requests.
pub(crate) fn routes(state: &ServerState) -> Routes {
    let (app, options) = (state.app().clone(), state.options());
    let config = StreamableHttpServerConfig::default()
        .with_legacy_session_mode(false)
        .with_json_response(true)
        // A layer around all routes looks at names; it knows patterns and addresses that this list cannot say.
        .disable_allowed_hosts()
        .with_max_request_body_bytes(options.max_body_bytes);
    let config = match origins(options) {
        Some(origins) => config.with_allowed_origins(origins).enforce_origin_validation(),
        None => config.disable_allowed_origins(),
    };
    let server = move || Ok(McpServer::of_requests(app.clone()));
    let service = StreamableHttpService::new(server, Arc::new(NeverSessionManager::default()), config);
    let router: Router<ServerState> = Router::new().route_service("/mcp", service);
    let router = router.layer(from_fn_with_state((options.max_body_bytes, options.max_json_depth), counted));
    // Without sessions the service refuses every other method.
    Routes::new().foreign(router, &[("POST", "/mcp")])
}

/// Refuses bodies of too many values, and those that are nested too deeply, which the service would read.
async fn counted(State((longest, deepest)): State<(usize, usize)>, request: Request, next: Next) -> Response {
    let (parts, body) = request.into_parts();
    let Ok(bytes) = to_bytes(body, longest).await else {
        let message = format!("the body of the request is longer than {longest} bytes, or broke off");
        return ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, message).into_response();
    };
    match check_values(&bytes).and_then(|()| check_depth(&bytes, deepest)) {
        Ok(()) => next.run(Request::from_parts(parts, Body::from(bytes))).await,
        Err(refused) => refused.into_response(),
    }
}

/// The origins of pages that may call, each with its port; `None` when any may.
fn origins(options: &ServerOptions) -> Option<Vec<String>> {
    if options.cors_origins.iter().any(|origin| origin == "*") {
        return None;
    }
    Some(options.cors_origins.iter().map(|origin| with_port(origin)).collect())
}

/// An origin without a port is that of its scheme.
fn with_port(origin: &str) -> String {
    let origin = origin.trim_end_matches('/');
    let Ok(uri) = origin.parse::<Uri>() else { return origin.to_owned() };
    match (uri.port_u16(), uri.scheme_str()) {
        (None, Some("https")) => format!("{origin}:443"),
        (None, Some("http")) => format!("{origin}:80"),
        _ => origin.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_have_ports_and_any_is_only_what_was_asked_for() {
        let with = |origins: &[&str]| {
            let cors_origins = origins.iter().map(|origin| (*origin).to_owned()).collect();
            super::origins(&ServerOptions { cors_origins, ..ServerOptions::default() })
        };
        assert_eq!(with(&[]), Some(Vec::new()));
        let told = with(&["https://app.example.com/", "http://localhost:3000", "http://localhost"]).unwrap();
        assert_eq!(told, ["https://app.example.com:443", "http://localhost:3000", "http://localhost:80"]);
        assert_eq!(with(&["*"]), None);
    }
}
