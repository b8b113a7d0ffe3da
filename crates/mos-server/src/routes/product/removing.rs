//! Removing memories, and taking it back.

use axum::Json;
use mos::product::{DeleteMemoryByRecordIdRequest, DeleteMemoryRequest, Deletion, RecoverMemoryByRecordIdRequest};

use super::{Answer, answering, refused_on};
use crate::extract::{Body, Operations};
use crate::openapi::{Section, object, text};
use crate::routes::{Routes, post};

const DELETE: &str = "/product/delete_memory";
const DELETE_BY_RECORD: &str = "/product/delete_memory_by_record_id";
const RECOVER_BY_RECORD: &str = "/product/recover_memory_by_record_id";

pub(super) fn routes() -> Routes {
    Routes::new()
        .route(DELETE, post(delete_memory))
        .route(DELETE_BY_RECORD, post(delete_memory_by_record_id))
        .route(RECOVER_BY_RECORD, post(recover_memory_by_record_id))
}

async fn delete_memory(Operations(product): Operations, Body(request): Body<DeleteMemoryRequest>) -> Answer<Deletion> {
    product.delete_memory(request).await.map(Json).map_err(refused_on(DELETE))
}

async fn delete_memory_by_record_id(
    Operations(product): Operations,
    Body(request): Body<DeleteMemoryByRecordIdRequest>,
) -> Answer<Deletion> {
    Ok(Json(product.delete_memory_by_record_id(request).await?))
}

async fn recover_memory_by_record_id(
    Operations(product): Operations,
    Body(request): Body<RecoverMemoryByRecordIdRequest>,
) -> Answer<Deletion> {
    Ok(Json(product.recover_memory_by_record_id(request).await?))
}

pub(super) fn document(section: &mut Section) {
    let done = object([("status", text().enum_values(Some(["success", "failure"])).into())]);

    let operation = section.with_body::<DeleteMemoryRequest>();
    let operation = answering(section, operation, "DeleteMemoryResponse", done.clone());
    section.post(DELETE, "delete_memories", "Removes memories.", operation);

    let operation = section.with_body::<DeleteMemoryByRecordIdRequest>();
    let operation = answering(section, operation, "DeleteMemoryByRecordIdResponse", done.clone());
    let summary = "Marks the memories of a cube as deleted, or removes those for good.";
    section.post(DELETE_BY_RECORD, "delete_memory_by_record_id", summary, operation);

    let operation = section.with_body::<RecoverMemoryByRecordIdRequest>();
    let operation = answering(section, operation, "RecoverMemoryByRecordIdResponse", done);
    section.post(RECOVER_BY_RECORD, "recover_memory_by_record_id", "Takes a deletion back.", operation);
}
