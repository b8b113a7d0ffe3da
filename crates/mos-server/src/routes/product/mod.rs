//! MemOS' own dialect: `/product/*`. Each module has its handlers, their routes, and what the document says about them.

mod chat;
mod cubes;
mod memories;
mod reading;
mod removing;
mod scheduler;

use axum::Json;
use mos::product::{ProductError, Reply};
use utoipa::openapi::path::OperationBuilder;
use utoipa::openapi::{OpenApi, RefOr, Schema};

use crate::error::ApiError;
use crate::openapi::{Section, answer, any_object, envelope, list, number, object, text};
use crate::routes::Routes;

/// What most operations answer.
type Answer<T> = Result<Json<Reply<T>>, ApiError>;

/// Returns every operation of the dialect.
pub(crate) fn routes() -> Routes {
    Routes::new()
        .merge(memories::routes())
        .merge(reading::routes())
        .merge(removing::routes())
        .merge(cubes::routes())
        .merge(chat::routes())
        .merge(scheduler::routes())
}

/// Returns what the document says about the dialect.
pub(crate) fn document() -> OpenApi {
    let mut section = Section::new("Server API");
    memories::document(&mut section);
    reading::document(&mut section);
    removing::document(&mut section);
    cubes::document(&mut section);
    chat::document(&mut section);
    scheduler::document(&mut section);
    section.finish()
}

/// Names the operation in an error of a request that is refused as a whole.
fn refused_on(path: &'static str) -> impl FnOnce(ProductError) -> ApiError {
    move |error| ApiError::from(error).on("POST", path)
}

/// Says that an operation answers with an envelope of this name around this form.
fn answering(
    section: &mut Section,
    operation: OperationBuilder,
    name: &str,
    data: impl Into<RefOr<Schema>>,
) -> OperationBuilder {
    let schema = section.named(name, envelope(data));
    operation.response("200", answer("What came of it.", schema))
}

/// The form of a memory.
fn memory(section: &mut Section) -> RefOr<Schema> {
    let form = object([("id", text().into()), ("memory", text().into()), ("metadata", any_object())]);
    section.named("MemoryNode", form)
}

/// The form of a list of the memories of each cube.
fn lists_of_cubes(section: &mut Section) -> RefOr<Schema> {
    let memory = memory(section);
    let form = object([("cube_id", text().into()), ("memories", list(memory)), ("total_nodes", number())]);
    list(section.named("MemoryList", form))
}
