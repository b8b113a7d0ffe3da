//! Listing memories, and reading them by their ids.

use axum::Json;
use mos::product::{
    DrawnCube, Field, GetMemoryDashboardRequest, GetMemoryPlaygroundRequest, GetMemoryRequest, MemoriesById,
    MemoryDashboard, MemoryLists, ProductError, RequestFields,
};
use serde_json::Value;
use utoipa::openapi::path::{OperationBuilder, ParameterBuilder, ParameterIn};
use utoipa::openapi::{RefOr, Required, Schema};

use super::{Answer, answering, lists_of_cubes, memory};
use crate::error::ApiError;
use crate::extract::{Body, InPath, JsonBody, Operations};
use crate::openapi::{Section, any_object, asking, body, list, nullable, number, object, text};
use crate::routes::{Routes, get, post};

const LIST: &str = "/product/get_memory";
const BY_ID: &str = "/product/get_memory/{memory_id}";
const BY_IDS: &str = "/product/get_memory_by_ids";
const DASHBOARD: &str = "/product/get_memory_dashboard";
const DRAW: &str = "/product/get_all";

pub(super) fn routes() -> Routes {
    Routes::new()
        .route(LIST, post(get_memory))
        .route(BY_ID, get(get_memory_by_id))
        .route(BY_IDS, post(get_memory_by_ids))
        .route(DASHBOARD, post(get_memory_dashboard))
        .route(DRAW, post(get_all))
}

async fn get_memory(Operations(product): Operations, Body(request): Body<GetMemoryRequest>) -> Answer<MemoryLists> {
    Ok(Json(product.get_memory(request).await?))
}

async fn get_memory_by_id(Operations(product): Operations, InPath(memory_id): InPath) -> Answer<Option<Value>> {
    Ok(Json(product.get_memory_by_id(&memory_id).await?))
}

/// The body is a list, as in MemOS.
async fn get_memory_by_ids(Operations(product): Operations, JsonBody(body): JsonBody) -> Answer<MemoriesById> {
    let mut issues = Vec::new();
    let ids = Vec::<String>::read(&body, &mut RequestFields::at("body", &mut issues));
    let Some(ids) = ids else {
        return Err(ApiError::from(ProductError::refused(issues)).on("POST", BY_IDS));
    };
    Ok(Json(product.get_memory_by_ids(ids).await?))
}

async fn get_memory_dashboard(
    Operations(product): Operations,
    Body(request): Body<GetMemoryDashboardRequest>,
) -> Answer<MemoryDashboard> {
    Ok(Json(product.get_memory_dashboard(request).await?))
}

async fn get_all(
    Operations(product): Operations,
    Body(request): Body<GetMemoryPlaygroundRequest>,
) -> Answer<Vec<DrawnCube>> {
    Ok(Json(product.get_all(request).await?))
}

pub(super) fn document(section: &mut Section) {
    let operation = section.with_body::<GetMemoryRequest>();
    let lists = lists_of_cubes(section);
    let operation = answering(section, operation, "GetMemoryResponse", object(by_kind(&lists)));
    section.post(LIST, "get_memories", "Lists the memories of a cube.", operation);

    let id = ParameterBuilder::new().name("memory_id").parameter_in(ParameterIn::Path).required(Required::True);
    let operation = asking(None).parameter(id.schema(Some(text())).build());
    let found = nullable(memory(section));
    let operation = answering(section, operation, "GetMemoryByIdResponse", found);
    section.get(BY_ID, "get_memory_by_id", "Reads a memory.", operation);

    let operation = asking(Some(body(list(text()))));
    let found = object([("memories", list(memory(section)))]);
    let operation = answering(section, operation, "GetMemoryByIdsResponse", found);
    section.post(BY_IDS, "get_memory_by_ids", "Reads memories.", operation);

    let operation = dashboard(section, &lists);
    section.post(DASHBOARD, "get_memories_dashboard", "Lists and counts the memories of cubes.", operation);

    let operation = section.with_body::<GetMemoryPlaygroundRequest>();
    let drawn = object([("nodes", list(memory(section))), ("tree_structure", any_object())]);
    let cube = object([("cube_id", text().into()), ("memories", list(drawn)), ("memory_statistics", any_object())]);
    let operation = answering(section, operation, "GetAllResponse", list(cube));
    section.post(DRAW, "get_all_memories", "Draws the memories of a cube as a tree.", operation);
}

fn dashboard(section: &mut Section, lists: &RefOr<Schema>) -> OperationBuilder {
    let operation = section.with_body::<GetMemoryDashboardRequest>();
    let statistics = object([
        ("total_text_nodes", number()),
        ("total_tool_nodes", number()),
        ("total_skill_nodes", number()),
        ("total_preference_nodes", number()),
    ]);
    let [text_mem, pref_mem, tool_mem, skill_mem] = by_kind(lists);
    let all = object([text_mem, pref_mem, tool_mem, skill_mem, ("statistics", statistics)]);
    answering(section, operation, "GetMemoryDashboardResponse", all)
}

fn by_kind(lists: &RefOr<Schema>) -> [(&'static str, RefOr<Schema>); 4] {
    ["text_mem", "pref_mem", "tool_mem", "skill_mem"].map(|kind| (kind, lists.clone()))
}
