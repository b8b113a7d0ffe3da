//! Reranking, and embeddings as Volcengine's Ark has them.

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::State as Shared;
use axum::http::{HeaderMap, Uri};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::wire::{dimension, receive, refuse, text_of};
use super::{DIMENSION, State, toy_embedding};

/// Scores documents by the cosine of the toy embeddings, best first.
pub(super) async fn rerank(Shared(state): Shared<Arc<State>>, uri: Uri, headers: HeaderMap, body: Bytes) -> Response {
    let (body, fault) = receive(&state, &uri, &headers, &body);
    if let Some(refusal) = refuse(fault.as_ref()).await {
        return refusal;
    }
    let query = toy_embedding(&text_of(&body["query"]), DIMENSION);
    let documents = body["documents"].as_array().into_iter().flatten();
    let mut scores: Vec<(usize, f32)> = documents
        .map(|text| {
            let document = toy_embedding(&text_of(text), DIMENSION);
            query.iter().zip(&document).map(|(a, b)| a * b).sum::<f32>()
        })
        .enumerate()
        .collect();
    scores.sort_by(|a, b| b.1.total_cmp(&a.1));
    let results: Vec<Value> =
        scores.into_iter().map(|(index, score)| json!({"index": index, "relevance_score": score})).collect();
    Json(json!({"model": body["model"], "results": results})).into_response()
}

/// One vector for all parts of a request together, as the service has it.
pub(super) async fn ark_multimodal(
    Shared(state): Shared<Arc<State>>,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let (body, fault) = receive(&state, &uri, &headers, &body);
    if let Some(refusal) = refuse(fault.as_ref()).await {
        return refusal;
    }
    let embedding = toy_embedding(&text_of(&body["input"]), dimension(fault.as_ref()));
    Json(json!({"object": "list", "model": body["model"], "data": {"object": "embedding", "embedding": embedding}}))
        .into_response()
}
