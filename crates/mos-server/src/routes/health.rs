//! Whether the server lives, and whether it can work.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use mos::Mos;
use serde_json::{Value, json};
use utoipa::openapi::content::ContentBuilder;
use utoipa::openapi::path::OperationBuilder;
use utoipa::openapi::security::SecurityRequirement;
use utoipa::openapi::{OpenApi, ResponseBuilder};

use crate::openapi::{Section, answer, object, text};
use crate::routes::{Routes, get};
use crate::state::ServerState;

pub(crate) fn routes() -> Routes {
    Routes::new().route("/health", get(health)).route("/ready", get(ready))
}

async fn health() -> Json<Value> {
    Json(json!({"status": "healthy", "service": "memos", "version": env!("CARGO_PKG_VERSION")}))
}

/// Asks the store of users, which every operation needs.
async fn ready(State(state): State<ServerState>) -> Response {
    match state.app().mos().has_user(&Mos::root_user()).await {
        Ok(_) => Json(json!({"status": "ready"})).into_response(),
        Err(error) => {
            tracing::error!(%error, "the store cannot be read");
            let body = Json(json!({"status": "unavailable", "reason": "the store cannot be read; the log tells why"}));
            (StatusCode::SERVICE_UNAVAILABLE, body).into_response()
        }
    }
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
    let ready = || object([("status", text().into())]);
    let operation =
        public().response("200", answer("It can work.", ready())).response("503", answer("It cannot.", ready()));
    section.get("/ready", "ready", "Says whether the server can work.", operation);
    let numbers = ResponseBuilder::new().description("Numbers in the text format of Prometheus.");
    let numbers = numbers.content("text/plain", ContentBuilder::new().build()).build();
    let operation = OperationBuilder::new().response("200", numbers);
    section.get("/metrics", "metrics", "Tells administrators what the server does, in numbers.", operation);
    section.finish()
}
