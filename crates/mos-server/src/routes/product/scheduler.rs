//! Where the work in the background stands, and waiting for it.

use axum::Json;
use axum::extract::State;
use axum::response::Response;
use mos::product::{
    AllStatus, SchedulerStatusRequest, SchedulerWaitRequest, TaskQueue, TaskQueueRequest, TaskState, Waited,
};
use utoipa::openapi::path::OperationBuilder;

use super::{Answer, answering};
use crate::error::ApiError;
use crate::extract::{Operations, QueryOf};
use crate::openapi::{Section, events, list, object, text, with_query};
use crate::routes::{Routes, get, post};
use crate::sse;
use crate::state::ServerState;

const STATUS: &str = "/product/scheduler/status";
const ALL_STATUS: &str = "/product/scheduler/allstatus";
const TASK_QUEUE: &str = "/product/scheduler/task_queue_status";
const WAIT: &str = "/product/scheduler/wait";
const WAIT_STREAM: &str = "/product/scheduler/wait/stream";

/// The part of the time that a request may take which it may wait: the answer needs some too.
const PART_FOR_WAITING: f64 = 0.9;

pub(super) fn routes() -> Routes {
    Routes::new()
        .route(STATUS, get(status))
        .route(ALL_STATUS, get(all_status))
        .route(TASK_QUEUE, get(task_queue_status))
        .route(WAIT, post(wait))
        .route(WAIT_STREAM, get(wait_stream))
}

async fn status(
    Operations(product): Operations,
    QueryOf(request): QueryOf<SchedulerStatusRequest>,
) -> Answer<Vec<TaskState>> {
    Ok(Json(product.scheduler_status(request).await?))
}

async fn all_status(Operations(product): Operations) -> Answer<AllStatus> {
    Ok(Json(product.scheduler_allstatus().await?))
}

async fn task_queue_status(
    Operations(product): Operations,
    QueryOf(request): QueryOf<TaskQueueRequest>,
) -> Answer<TaskQueue> {
    Ok(Json(product.scheduler_task_queue_status(request).await?))
}

/// Tells that the time was up before the server would break the request off.
async fn wait(
    State(state): State<ServerState>,
    Operations(product): Operations,
    QueryOf(mut request): QueryOf<SchedulerWaitRequest>,
) -> Answer<Waited> {
    let longest = state.options().request_timeout.as_secs_f64() * PART_FOR_WAITING;
    request.timeout_seconds = request.timeout_seconds.min(longest);
    Ok(Json(product.scheduler_wait(request).await?))
}

async fn wait_stream(
    Operations(product): Operations,
    QueryOf(request): QueryOf<SchedulerWaitRequest>,
) -> Result<Response, ApiError> {
    Ok(sse::frames(product.scheduler_wait_stream(request).await?))
}

pub(super) fn document(section: &mut Section) {
    let status = "Where it stands: waiting, in_progress, completed, failed or cancelled.";
    let task = object([("task_id", text().into()), ("status", text().description(Some(status)).into())]);
    let operation = answering(section, with_query::<SchedulerStatusRequest>(), "StatusResponse", list(task));
    section.get(STATUS, "scheduler_status", "Says where a task stands, or all of a user.", operation);

    let all = section.of::<AllStatus>();
    let operation = answering(section, OperationBuilder::new(), "AllStatusResponse", all);
    section.get(ALL_STATUS, "scheduler_allstatus", "Counts the work of the last 24 hours.", operation);

    let queue = section.of::<TaskQueue>();
    let operation = answering(section, with_query::<TaskQueueRequest>(), "TaskQueueResponse", queue);
    section.get(TASK_QUEUE, "scheduler_task_queue_status", "Says what waits for a user.", operation);

    let waited = section.of::<Waited>();
    let operation = answering(section, with_query::<SchedulerWaitRequest>(), "WaitResponse", waited);
    section.post(WAIT, "scheduler_wait", "Waits until the work for a user is done.", operation);

    let frames = "Frames of what is left each time it is looked; the last has the status idle, timeout or error.";
    let operation = with_query::<SchedulerWaitRequest>().response("200", events(frames));
    let summary = "Waits until the work for a user is done, and tells what is left.";
    section.get(WAIT_STREAM, "scheduler_wait_stream", summary, operation);
}
