//! Reflecting on memories, and the diary of it: `/dream/*`. As in MemOS two answers have no envelope.

use axum::Json;
use mos::product::{Diary, DiaryQueryRequest, DreamHealth, DreamTriggerRequest, DreamTriggered, Reply};
use utoipa::openapi::OpenApi;
use utoipa::openapi::path::OperationBuilder;

use crate::error::ApiError;
use crate::extract::{Body, Operations, QueryOf};
use crate::openapi::{Section, answer, envelope, list, with_query};
use crate::routes::{Routes, get, post};

const TRIGGER: &str = "/dream/trigger/cube";
const HEALTH: &str = "/dream/diary/health";
const DIARY: &str = "/dream/diary";

/// Returns the operations.
pub(crate) fn routes() -> Routes {
    Routes::new().route(TRIGGER, post(trigger_cube)).route(HEALTH, get(health)).route(DIARY, post(diary))
}

async fn trigger_cube(
    Operations(product): Operations,
    QueryOf(request): QueryOf<DreamTriggerRequest>,
) -> Result<Json<DreamTriggered>, ApiError> {
    Ok(Json(product.dream_trigger_cube(request).await?))
}

async fn health(Operations(product): Operations) -> Result<Json<DreamHealth>, ApiError> {
    Ok(Json(product.dream_diary_health()?))
}

async fn diary(
    Operations(product): Operations,
    Body(request): Body<DiaryQueryRequest>,
) -> Result<Json<Reply<Vec<Diary>>>, ApiError> {
    Ok(Json(product.dream_diary(request).await?))
}

/// Returns what the document says about the operations.
pub(crate) fn document() -> OpenApi {
    let mut section = Section::new("Dream");
    let triggered = section.of::<DreamTriggered>();
    let operation = with_query::<DreamTriggerRequest>().response("200", answer("It will be done.", triggered));
    section.post(TRIGGER, "trigger_cube", "Has the memories of a cube reflected on.", operation);

    let health = section.of::<DreamHealth>();
    let operation = OperationBuilder::new().response("200", answer("Whether it works.", health));
    section.get(HEALTH, "health", "Says whether reflecting works here.", operation);

    let operation = section.with_body::<DiaryQueryRequest>();
    let entry = section.of::<Diary>();
    let operation = operation.response("200", answer("The newest first.", envelope(list(entry))));
    section.post(DIARY, "query_diaries", "Reads the diary of a cube.", operation);
    section.finish()
}
