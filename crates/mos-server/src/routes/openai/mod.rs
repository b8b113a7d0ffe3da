//! `/v1/*`: what clients of OpenAI's API ask for.

mod answer;
mod document;

use axum::Json;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use mos::product::{ChatCompletion, CompletionContext, OpenAiError};

pub(crate) use answer::shaped;
pub(crate) use document::document;

use crate::extract::{InPath, JsonBody, Operations};
use crate::routes::{Routes, get, post};
use answer::{Refusal, streamed};

/// Where the routes begin.
pub(crate) const PREFIX: &str = "/v1/";

/// The header that names who speaks.
pub(crate) const USER: &str = "x-mos-user";
/// The header that names cubes, with commas between them.
pub(crate) const CUBE: &str = "x-mos-cube";
const SESSION: &str = "x-mos-session";
const MEMORY: &str = "x-mos-memory";
const EXPLAIN: &str = "x-mos-explain";

pub(crate) fn routes() -> Routes {
    Routes::new()
        .route("/v1/chat/completions", post(chat_completions))
        .route("/v1/embeddings", post(embeddings))
        .route("/v1/models", get(models))
        // Names of models may have slashes.
        .route("/v1/models/{*id}", get(model))
}

async fn chat_completions(
    Operations(product): Operations,
    headers: HeaderMap,
    JsonBody(body): JsonBody,
) -> Result<Response, Refusal> {
    match product.chat_completion(&body, context(&headers)?).await? {
        ChatCompletion::Whole(whole) => Ok(Json(whole).into_response()),
        ChatCompletion::Stream(events) => Ok(streamed(events)),
    }
}

async fn embeddings(
    Operations(product): Operations,
    headers: HeaderMap,
    JsonBody(body): JsonBody,
) -> Result<Response, Refusal> {
    Ok(Json(product.openai_embeddings(&body, context(&headers)?).await?).into_response())
}

async fn models(Operations(product): Operations) -> Response {
    Json(product.openai_models().await).into_response()
}

async fn model(Operations(product): Operations, InPath(id): InPath) -> Result<Response, Refusal> {
    Ok(Json(product.openai_model(&id).await?).into_response())
}

/// What the headers say of users, cubes and memory.
fn context(headers: &HeaderMap) -> Result<CompletionContext, Refusal> {
    let text = |name: &str| {
        let Some(value) = headers.get(name) else { return Ok(None) };
        // Names may have letters beyond ASCII.
        match std::str::from_utf8(value.as_bytes()) {
            Ok(text) => Ok(Some(text.to_owned())),
            Err(_) => {
                let message = format!("the header `{name}` should be text in UTF-8");
                Err(Refusal::from(OpenAiError::new(StatusCode::BAD_REQUEST.as_u16(), message)))
            }
        }
    };
    Ok(CompletionContext {
        user: text(USER)?,
        cubes: text(CUBE)?,
        session: text(SESSION)?,
        memory: text(MEMORY)?,
        explain: text(EXPLAIN)?,
    })
}
