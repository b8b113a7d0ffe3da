//! Making cubes, and asking which there are.

use axum::Json;
use mos::product::{CreateCubeRequest, ExistMemCubeIdRequest, GetUserNamesByMemoryIdsRequest, RegisterCubeRequest};
use serde_json::Value;

use super::{Answer, answering};
use crate::extract::{Body, Operations};
use crate::openapi::{Section, any_object, object, text};
use crate::routes::{Routes, post};

const CREATE: &str = "/product/create_cube";
const REGISTER: &str = "/product/register_cube";
const EXISTS: &str = "/product/exist_mem_cube_id";
const CUBES_OF_MEMORIES: &str = "/product/get_user_names_by_memory_ids";

pub(super) fn routes() -> Routes {
    Routes::new()
        .route(CREATE, post(create_cube))
        .route(REGISTER, post(register_cube))
        .route(EXISTS, post(exist_mem_cube_id))
        .route(CUBES_OF_MEMORIES, post(get_user_names_by_memory_ids))
}

async fn create_cube(Operations(product): Operations, Body(request): Body<CreateCubeRequest>) -> Answer<Value> {
    Ok(Json(product.create_cube(request).await?))
}

async fn register_cube(Operations(product): Operations, Body(request): Body<RegisterCubeRequest>) -> Answer<Value> {
    Ok(Json(product.register_cube(request).await?))
}

async fn exist_mem_cube_id(
    Operations(product): Operations,
    Body(request): Body<ExistMemCubeIdRequest>,
) -> Answer<Value> {
    Ok(Json(product.exist_mem_cube_id(request).await?))
}

async fn get_user_names_by_memory_ids(
    Operations(product): Operations,
    Body(request): Body<GetUserNamesByMemoryIdsRequest>,
) -> Answer<Value> {
    Ok(Json(product.get_user_names_by_memory_ids(request).await?))
}

pub(super) fn document(section: &mut Section) {
    let operation = section.with_body::<CreateCubeRequest>();
    let cube = object([("cube_id", text().into()), ("cube_name", text().into()), ("owner_id", text().into())]);
    let operation = answering(section, operation, "CreateCubeResponse", cube);
    section.post(CREATE, "create_cube", "Makes a cube.", operation);

    let operation = section.with_body::<RegisterCubeRequest>();
    let cube = object([("cube_id", text().into()), ("cube_name_or_path", text().into())]);
    let operation = answering(section, operation, "RegisterCubeResponse", cube);
    section.post(REGISTER, "register_cube", "Says which cube is meant by a name.", operation);

    let operation = section.with_body::<ExistMemCubeIdRequest>();
    let operation = answering(section, operation, "ExistMemCubeIdResponse", any_object());
    section.post(EXISTS, "exist_mem_cube_id", "Says whether a cube exists.", operation);

    let operation = section.with_body::<GetUserNamesByMemoryIdsRequest>();
    let operation = answering(section, operation, "GetUserNamesByMemoryIdsResponse", any_object());
    let summary = "Says in which cubes memories are.";
    section.post(CUBES_OF_MEMORIES, "get_user_names_by_memory_ids", summary, operation);
}
