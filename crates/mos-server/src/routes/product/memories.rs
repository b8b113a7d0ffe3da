//! Adding memories, finding them, and correcting them in words.

use axum::Json;
use mos::product::{AddRequest, FeedbackRequest, ProductError, SearchRequest};
use serde_json::Value;

use super::{Answer, answering, lists_of_cubes, refused_on};
use crate::extract::{Body, Operations};
use crate::openapi::{Section, any_object, list, object, text};
use crate::routes::{Routes, post};

const ADD: &str = "/product/add";
const SEARCH: &str = "/product/search";
const FEEDBACK: &str = "/product/feedback";

pub(super) fn routes() -> Routes {
    Routes::new().route(ADD, post(add)).route(SEARCH, post(search)).route(FEEDBACK, post(feedback))
}

async fn add(Operations(product): Operations, Body(request): Body<AddRequest>) -> Answer<Vec<Value>> {
    if request.doc_path.as_deref().is_some_and(|path| !path.is_empty()) {
        let why = "this server reads no files for its clients; send the content as a part of `messages`";
        return Err(ProductError::bad_value(why).into());
    }
    product.add(request).await.map(Json).map_err(refused_on(ADD))
}

async fn search(Operations(product): Operations, Body(request): Body<SearchRequest>) -> Answer<Value> {
    product.search(request).await.map(Json).map_err(refused_on(SEARCH))
}

async fn feedback(Operations(product): Operations, Body(request): Body<FeedbackRequest>) -> Answer<Vec<Value>> {
    product.feedback(request).await.map(Json).map_err(refused_on(FEEDBACK))
}

pub(super) fn document(section: &mut Section) {
    let operation = section.with_body::<AddRequest>();
    let operation = answering(section, operation, "MemoryResponse", list(any_object()));
    section.post(ADD, "add_memories", "Adds memories.", operation);

    let operation = section.with_body::<SearchRequest>();
    let lists = lists_of_cubes(section);
    let found = object([
        ("text_mem", lists.clone()),
        ("act_mem", list(any_object())),
        ("para_mem", list(any_object())),
        ("pref_mem", lists.clone()),
        ("tool_mem", lists.clone()),
        ("skill_mem", lists),
        ("pref_note", text().into()),
    ]);
    let operation = answering(section, operation, "SearchResponse", found);
    section.post(SEARCH, "search_memories", "Finds memories that fit a question.", operation);

    let operation = section.with_body::<FeedbackRequest>();
    // Each is a record of what was done in a cube; work that is done later is an empty list.
    let record =
        utoipa::openapi::schema::ObjectBuilder::new().schema_type(utoipa::openapi::schema::SchemaType::AnyValue);
    let operation = answering(section, operation, "FeedbackResponse", list(record));
    section.post(FEEDBACK, "feedback_memories", "Corrects memories in plain words.", operation);
}
