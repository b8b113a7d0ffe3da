//! `/api/openmem/v1/*`: the dialect of MemOS' published SDK and of its plugins.
//!
//! Requests become requests of the product API, and its answers what these clients read. The cube is the one of the user's (or
//! the agent's) name.

mod answer;
mod document;
mod knowledge;
mod profiles;
mod request;

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use mos::product::{
    AddRequest, AsyncMode, ChatCompleteRequest, ChatRequest, DeleteMemoryRequest, DeletionStatus, ExtractMemoryRequest,
    FeedbackRequest, GetMemoryRequest, GetMessagesRequest, Product, Request, RerankRequest, SchedulerStatusRequest,
    SearchRequest, UpdateMemoryRequest,
};
use serde_json::{Value, json};

use crate::audit::Notes;
use crate::error::ApiError;
use crate::extract::{InPath, JsonBody, Operations};
use crate::routes::{Routes, get, post};
use crate::sse::frames;
use request::{OpenMem, Task};

pub(crate) use document::document;

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
        .route("/get/message", post(get_message))
        .route("/update/memory", post(update_memory))
        .route("/delete/memory", post(delete_memory))
        .route("/extract/memory", post(extract_memory))
        .route("/rerank", post(rerank))
        .route("/get/status", post(get_status))
        .route("/add/feedback", post(add_feedback))
        .route("/chat", post(chat))
        .route("/create/knowledgebase", post(knowledge::create))
        .route("/delete/knowledgebase", post(knowledge::delete))
        .route("/add/knowledgebase-file", post(knowledge::add_files))
        .route("/delete/knowledgebase-file", post(knowledge::delete_files))
        .route("/get/knowledgebase-file", post(knowledge::get_files))
        .route("/bind/profile_template", post(profiles::bind))
        .route("/edit/profile", post(profiles::edit))
        .route("/delete/profile", post(profiles::delete));
    Routes::new().nest(document::PREFIX, routes)
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
    let rows = product.add_with_knowledge(request, &body.list("allow_knowledgebase_ids")?).await?.data;
    let mut told = json!({"success": true, "task_id": task.to_string(), "status": status});
    let quarantined = answer::quarantined(&rows);
    if !quarantined.is_empty() {
        told["quarantined"] = json!(quarantined);
    }
    ok(told)
}

async fn search_memory(Operations(product): Operations, JsonBody(body): JsonBody) -> Answer {
    let body = OpenMem::read(&body, product.caller())?;
    let request = SearchRequest::from_json(&body.search()?)?;
    let (n_memories, bases) = (request.top_k, body.list("knowledgebase_ids")?);
    let found = product.search_with_knowledge(request, &bases, body.knowledge_filter()?).await?;
    ok(answer::found(&found.data, n_memories))
}

async fn get_memory(Operations(product): Operations, JsonBody(body): JsonBody) -> Answer {
    let body = OpenMem::read(&body, product.caller())?;
    let (page, size) = body.page()?;
    let listed = product.get_memory(GetMemoryRequest::from_json(&body.get(page, size)?)?).await?;
    ok(answer::listed(&json!(listed.data), page, size))
}

async fn get_memory_by_id(Operations(product): Operations, InPath(id): InPath) -> Answer {
    match product.get_memory_by_id(&id).await?.data {
        Some(node) => ok(answer::memory(&node)),
        None => Err(ApiError::new(StatusCode::NOT_FOUND, format!("Memory with ID {id} not found"))),
    }
}

async fn get_message(Operations(product): Operations, JsonBody(body): JsonBody) -> Answer {
    let body = OpenMem::read(&body, product.caller())?;
    let request = body.of_subject(&["conversation_id", "conversation_limit_number", "message_limit_number"])?;
    let messages = product.get_messages(GetMessagesRequest::from_json(&request)?).await?;
    ok(json!({"message_detail_list": messages.data}))
}

async fn update_memory(
    Operations(product): Operations,
    notes: Option<Extension<Notes>>,
    JsonBody(body): JsonBody,
) -> Answer {
    let node = product.update_memory(UpdateMemoryRequest::from_json(&body)?).await?.data;
    if let (Some(Extension(notes)), Some(cube)) = (notes, node["metadata"]["mem_cube_id"].as_str()) {
        notes.cube(cube);
    }
    ok(answer::memory(&node))
}

async fn extract_memory(Operations(product): Operations, JsonBody(body): JsonBody) -> Answer {
    let extracted = product.extract_memory(ExtractMemoryRequest::from_json(&body)?).await?.data;
    ok(answer::extracted(&extracted.memories, &extracted.preferences))
}

async fn rerank(Operations(product): Operations, JsonBody(body): JsonBody) -> Answer {
    ok(product.rerank(RerankRequest::from_json(&body)?).await?.data)
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
    let bases = body.list("knowledgebase_ids")?;
    let request = if bases.is_empty() {
        body.chat()?
    } else {
        let cubes = product.cubes_with_knowledge(body.subject()?, &bases).await?;
        body.chat_with_knowledge(&bases, &cubes)?
    };
    if body.is_streamed()? {
        return Ok(frames(product.chat_stream(ChatRequest::from_json(&request)?).await?));
    }
    let completed = product.chat_complete(ChatCompleteRequest::from_json(&request)?).await?;
    ok(json!({"response": completed.data.response}))
}
