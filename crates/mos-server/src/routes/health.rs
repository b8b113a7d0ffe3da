//! Whether the server lives, and whether it can work.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use utoipa::openapi::content::ContentBuilder;
use utoipa::openapi::path::OperationBuilder;
use utoipa::openapi::security::SecurityRequirement;
use utoipa::openapi::{OpenApi, ResponseBuilder};

use crate::openapi::{Section, answer, list, object, text};
use crate::routes::{Routes, get};
use crate::state::ServerState;

pub(crate) fn routes() -> Routes {
    Routes::new().route("/health", get(health)).route("/ready", get(ready))
}

async fn health() -> Json<Value> {
    Json(json!({"status": "healthy", "service": "memos", "version": env!("CARGO_PKG_VERSION")}))
}

/// Asks every store that operations need. Which one does not answer is told to everybody, where it is and why is not.
async fn ready(State(state): State<ServerState>) -> Response {
    if state.is_leaving() {
        let body = Json(json!({"status": "stopping", "reason": "the server was told to stop", "unreachable": []}));
        return (StatusCode::SERVICE_UNAVAILABLE, body).into_response();
    }
    let stores = state.app().mos().reachable().await;
    let away: Vec<&str> = stores.into_iter().filter(|(_, answers)| !answers).map(|(store, _)| store).collect();
    if away.is_empty() {
        return Json(json!({"status": "ready"})).into_response();
    }
    let reason = format!("not reached: {}; the log tells why", away.join(", "));
    let body = Json(json!({"status": "unavailable", "reason": reason, "unreachable": away}));
    (StatusCode::SERVICE_UNAVAILABLE, body).into_response()
}

/// Returns what the document says about these operations and the metrics; only those need a key.
pub(crate) fn document() -> OpenApi {
    let mut section = Section::new("Server");
    let public = || OperationBuilder::new().securities(Some(Vec::<SecurityRequirement>::new()));
    let health = object([("status", text().into()), ("service", text().into()), ("version", text().into())]);
    section.get(
        "/health",
        "health_check",
        "Says that the server lives.",
        public().response("200", answer("It lives.", health)),
    );
    let ready = object([("status", text().into())]);
    let away = object([("status", text().into()), ("reason", text().into()), ("unreachable", list(text()))]);
    let operation = public().response("200", answer("It can work.", ready)).response("503", answer("It cannot.", away));
    section.get("/ready", "ready", "Says whether the server can work.", operation);
    let numbers = ResponseBuilder::new().description("Numbers in the text format of Prometheus.");
    let numbers = numbers.content("text/plain", ContentBuilder::new().build()).build();
    let operation = OperationBuilder::new().response("200", numbers);
    section.get("/metrics", "metrics", "Tells administrators what the server does, in numbers.", operation);
    section.finish()
}
