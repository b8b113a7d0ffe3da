//! Chats with memory, as a whole and in pieces, and what might be asked next.
//!
//! A stream is made while it is read: who goes away ends the work behind it.

use axum::Json;
use axum::response::Response;
use mos::product::{
    ChatBusinessRequest, ChatCompleteRequest, ChatCompleted, ChatPlaygroundRequest, ChatRequest, SuggestionRequest,
    Suggestions,
};

use super::{Answer, answering, refused_on};
use crate::error::ApiError;
use crate::extract::{Body, Operations};
use crate::openapi::{Section, events};
use crate::routes::{Routes, post};
use crate::sse;

const COMPLETE: &str = "/product/chat/complete";
const STREAM: &str = "/product/chat/stream";
const PLAYGROUND: &str = "/product/chat/stream/playground";
const BUSINESS: &str = "/product/chat/stream/business_user";
const SUGGESTIONS: &str = "/product/suggestions";

pub(super) fn routes() -> Routes {
    Routes::new()
        .route(COMPLETE, post(complete))
        .route(STREAM, post(stream))
        .route(PLAYGROUND, post(playground))
        .route(BUSINESS, post(business_user))
        .route(SUGGESTIONS, post(suggestions))
}

async fn complete(Operations(product): Operations, Body(request): Body<ChatCompleteRequest>) -> Answer<ChatCompleted> {
    product.chat_complete(request).await.map(Json).map_err(refused_on(COMPLETE))
}

async fn stream(Operations(product): Operations, Body(request): Body<ChatRequest>) -> Result<Response, ApiError> {
    product.chat_stream(request).await.map(sse::frames).map_err(refused_on(STREAM))
}

async fn playground(
    Operations(product): Operations,
    Body(request): Body<ChatPlaygroundRequest>,
) -> Result<Response, ApiError> {
    product.chat_stream_playground(request).await.map(sse::frames).map_err(refused_on(PLAYGROUND))
}

async fn business_user(
    Operations(product): Operations,
    Body(request): Body<ChatBusinessRequest>,
) -> Result<Response, ApiError> {
    product.chat_stream_business_user(request).await.map(sse::frames).map_err(refused_on(BUSINESS))
}

async fn suggestions(Operations(product): Operations, Body(request): Body<SuggestionRequest>) -> Answer<Suggestions> {
    Ok(Json(product.suggestions(request).await?))
}

pub(super) fn document(section: &mut Section) {
    let operation = section.with_body::<ChatCompleteRequest>();
    let completed = section.of::<ChatCompleted>();
    let operation = answering(section, operation, "ChatCompleteResponse", completed);
    section.post(COMPLETE, "chat_complete", "Answers a question with memories, as a whole.", operation);

    let frames =
        "Frames `{\"type\", \"data\"}`; one that ends the stream with an error has `content` instead of `data`.";
    let operation = section.with_body::<ChatRequest>().response("200", events(frames));
    section.post(STREAM, "chat_stream", "Answers a question with memories, in pieces.", operation);
    let operation = section.with_body::<ChatPlaygroundRequest>().response("200", events(frames));
    let summary = "Answers a question in pieces, and tells what the answer was made from.";
    section.post(PLAYGROUND, "chat_stream_playground", summary, operation);
    let operation = section.with_body::<ChatBusinessRequest>().response("200", events(frames));
    let summary = "Answers a question in pieces, for those who have a key of a business.";
    section.post(BUSINESS, "chat_stream_business_user", summary, operation);

    let operation = section.with_body::<SuggestionRequest>();
    let suggested = section.of::<Suggestions>();
    let operation = answering(section, operation, "SuggestionResponse", suggested);
    section.post(SUGGESTIONS, "get_suggestion_queries", "Says what might be asked next.", operation);
}
