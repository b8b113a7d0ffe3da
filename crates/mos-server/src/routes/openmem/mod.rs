//! `/api/openmem/v1/*`: the dialect of MemOS' published SDK and of its plugins.
//!
//! Requests become requests of the product API, and its answers what these clients read. The cube is the one of the user's (or
//! the agent's) name.

mod answer;
mod request;

use axum::Json;
use axum::extract::Path;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use mos::product::{
    AddRequest, AsyncMode, ChatCompleteRequest, ChatRequest, DeleteMemoryRequest, DeletionStatus, FeedbackRequest,
    GetMemoryRequest, Product, Request, SchedulerStatusRequest, SearchRequest,
};
use serde_json::{Value, json};

use crate::error::ApiError;
use crate::extract::{JsonBody, Operations};
use crate::routes::{Routes, get, post};
use crate::sse::frames;
use request::{OpenMem, Task};

/// What an add or a correction is called while work of it waits.
const RUNNING: &str = "running";

/// What it is called afterwards.
const COMPLETED: &str = "completed";

type Answer = Result<Response, ApiError>;

pub(crate) fn routes() -> Routes {
    let routes = Routes::new()
        .route("/add/message", post(add_message))
        .route("/search/memory", post(search_memory))
        .route("/get/memory", post(get_memory))
        .route("/get/memory/{id}", get(get_memory_by_id))
        .route("/delete/memory", post(delete_memory))
        .route("/get/status", post(get_status))
        .route("/add/feedback", post(add_feedback))
        .route("/chat", post(chat));
    Routes::new().nest("/api/openmem/v1", routes)
}

/// The envelope that these clients look into.
fn ok(data: Value) -> Answer {
    Ok(Json(json!({"code": 200, "message": "ok", "data": data})).into_response())
}

async fn add_message(Operations(product): Operations, JsonBody(body): JsonBody) -> Answer {
    let body = OpenMem::read(&body, product.caller())?;
    let task = Task::new(body.subject()?);
    let request = AddRequest::from_json(&body.add(&task)?)?;
    let status = if request.async_mode == AsyncMode::Async { RUNNING } else { COMPLETED };
    product.add(request).await?;
    ok(json!({"success": true, "task_id": task.to_string(), "status": status}))
}

async fn search_memory(Operations(product): Operations, JsonBody(body): JsonBody) -> Answer {
    let body = OpenMem::read(&body, product.caller())?;
    let found = product.search(SearchRequest::from_json(&body.search()?)?).await?;
    ok(answer::found(&found.data))
}

async fn get_memory(Operations(product): Operations, JsonBody(body): JsonBody) -> Answer {
    let body = OpenMem::read(&body, product.caller())?;
    let (page, size) = body.page()?;
    let listed = product.get_memory(GetMemoryRequest::from_json(&body.get(page, size)?)?).await?;
    ok(answer::listed(&json!(listed.data), page, size))
}

async fn get_memory_by_id(Operations(product): Operations, Path(id): Path<String>) -> Answer {
    match product.get_memory_by_id(&id).await?.data {
        Some(node) => ok(answer::memory(&node)),
        None => Err(ApiError::new(StatusCode::NOT_FOUND, format!("Memory with ID {id} not found"))),
    }
}

async fn delete_memory(Operations(product): Operations, JsonBody(body): JsonBody) -> Answer {
    let body = OpenMem::read(&body, product.caller())?;
    let deleted = product.delete_memory(DeleteMemoryRequest::from_json(&body.delete()?)?).await?;
    match deleted.data.status {
        DeletionStatus::Success => ok(json!({"success": true})),
        DeletionStatus::Failure => Err(ApiError::new(StatusCode::BAD_REQUEST, deleted.message)),
    }
}

async fn get_status(Operations(product): Operations, JsonBody(body): JsonBody) -> Answer {
    let task_id = body["task_id"].as_str().unwrap_or_default();
    let Some(task) = Task::parse(task_id) else {
        return Err(ApiError::new(StatusCode::NOT_FOUND, format!("Task {task_id} not found")));
    };
    ok(json!({"task_id": task_id, "status": state_of(&product, &task).await?}))
}

/// Where a task stands. Work that nobody knows of is not waiting for anything any more.
async fn state_of(product: &Product, task: &Task) -> Result<&'static str, ApiError> {
    let request = json!({"user_id": task.user(), "task_id": task.to_string()});
    match product.scheduler_status(SchedulerStatusRequest::from_json(&request)?).await {
        Ok(states) => {
            let state = states.data.first().map(|state| json!(state.status));
            Ok(match state.as_ref().and_then(Value::as_str) {
                Some("waiting" | "in_progress") => RUNNING,
                Some("failed" | "cancelled") => "failed",
                _ => COMPLETED,
            })
        }
        Err(error) if error.status == StatusCode::NOT_FOUND.as_u16() => Ok(COMPLETED),
        Err(error) => Err(error.into()),
    }
}

async fn add_feedback(Operations(product): Operations, JsonBody(body): JsonBody) -> Answer {
    let body = OpenMem::read(&body, product.caller())?;
    let task = Task::new(body.subject()?);
    product.feedback(FeedbackRequest::from_json(&body.feedback(&task)?)?).await?;
    ok(json!({"success": true, "task_id": task.to_string(), "status": RUNNING}))
}

async fn chat(Operations(product): Operations, JsonBody(body): JsonBody) -> Answer {
    let body = OpenMem::read(&body, product.caller())?;
    let request = body.chat()?;
    if body.is_streamed() {
        return Ok(frames(product.chat_stream(ChatRequest::from_json(&request)?).await?));
    }
    let completed = product.chat_complete(ChatCompleteRequest::from_json(&request)?).await?;
    ok(json!({"response": completed.data.response}))
}
