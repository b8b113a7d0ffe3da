//! Knowledge bases and their files.

use std::collections::HashMap;

use axum::Extension;
use axum::extract::multipart::MultipartError;
use axum::extract::{FromRequest, Multipart, Query, Request as HttpRequest, State};
use axum::http::{StatusCode, header};
use mos::product::{CreateKnowledgeBaseRequest, GetKnowledgeFilesRequest, KnowledgeFile, Request};
use serde_json::{Value, json};

use super::{Answer, ok};
use crate::audit::Notes;
use crate::error::ApiError;
use crate::extract::{JsonBody, Operations};
use crate::state::ServerState;

/// The field that names a knowledge base.
const BASE: &str = "knowledgebase_id";

/// What a form calls a file.
const FILE: &str = "file";

/// The most parts of a form.
const MAX_PARTS: usize = 64;

pub(super) async fn create(Operations(product): Operations, JsonBody(body): JsonBody) -> Answer {
    let made = product.create_knowledge_base(CreateKnowledgeBaseRequest::from_json(&body)?).await?;
    ok(json!(made.data))
}

pub(super) async fn delete(Operations(product): Operations, JsonBody(body): JsonBody) -> Answer {
    product.delete_knowledge_base(base_of(&body)?).await?;
    ok(json!({"success": true}))
}

/// Takes files as JSON, or as a form whose query names the knowledge base.
pub(super) async fn add_files(
    Operations(product): Operations,
    State(state): State<ServerState>,
    notes: Option<Extension<Notes>>,
    request: HttpRequest,
) -> Answer {
    let content_type = request.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let content_type = content_type.unwrap_or_default().to_owned();
    let (base, files) = if is_form(&content_type) {
        let (base, files) = of_form(request, &state).await?;
        if let Some(Extension(notes)) = notes {
            notes.cube(&base);
        }
        (base, files)
    } else {
        let JsonBody(body) = JsonBody::from_request(request, &state).await?;
        let files = body[FILE].as_array().ok_or_else(|| bad("file should be a list of files"))?;
        let files = files.iter().map(KnowledgeFile::from_value).collect::<Result<Vec<_>, _>>()?;
        (base_of(&body)?.to_owned(), files)
    };
    ok(json!(product.add_knowledge_files(&base, files).await?.data))
}

pub(super) async fn delete_files(
    Operations(product): Operations,
    notes: Option<Extension<Notes>>,
    JsonBody(body): JsonBody,
) -> Answer {
    let ids = body["file_ids"].as_array().ok_or_else(|| bad("file_ids should be a list of ids"))?;
    let ids: Option<Vec<String>> = ids.iter().map(|id| id.as_str().map(str::to_owned)).collect();
    let ids = ids.ok_or_else(|| bad("file_ids should be a list of ids"))?;
    if let Some(Extension(notes)) = notes {
        ids.iter().filter_map(|id| id.rsplit_once(':')).for_each(|(base, _)| notes.cube(base));
    }
    product.delete_knowledge_files(ids).await?;
    ok(json!({"success": true}))
}

pub(super) async fn get_files(Operations(product): Operations, JsonBody(body): JsonBody) -> Answer {
    let mut body = body;
    if let Some(map) = body.as_object_mut() {
        // The SDK sends null for what it was not given.
        map.retain(|_, value| !value.is_null());
    }
    let found = product.knowledge_files(GetKnowledgeFilesRequest::from_json(&body)?).await?.data;
    let mut answer = json!({
        "file_detail_list": found.files,
        "total": found.total,
        "page": found.page,
        "page_size": found.page_size,
    });
    if let Some(base) = found.knowledge_base {
        answer["knowledgebase"] = json!(base);
    }
    ok(answer)
}

/// Returns the knowledge base and the files of a form.
async fn of_form(request: HttpRequest, state: &ServerState) -> Result<(String, Vec<KnowledgeFile>), ApiError> {
    let query =
        Query::<HashMap<String, String>>::try_from_uri(request.uri()).map_err(|refused| bad(refused.body_text()))?;
    let mut base = query.0.get(BASE).cloned();
    let mut form = Multipart::from_request(request, state).await.map_err(|refused| bad(refused.body_text()))?;
    let broken = |error: MultipartError| ApiError::new(error.status(), error.body_text());
    let (mut files, mut n_parts) = (Vec::new(), 0);
    while let Some(part) = form.next_field().await.map_err(broken)? {
        n_parts += 1;
        if n_parts > MAX_PARTS {
            return Err(bad(format!("a form has at most {MAX_PARTS} parts")));
        }
        match part.name() {
            Some(FILE) => {
                let name = part.file_name().map(str::to_owned);
                files.push(KnowledgeFile::of_bytes(name.as_deref(), part.bytes().await.map_err(broken)?.to_vec()));
            }
            Some(BASE) if base.is_none() => base = Some(part.text().await.map_err(broken)?.trim().to_owned()),
            Some(_) => {}
            None => return Err(bad("a part of the form has no name")),
        }
    }
    let base = base.filter(|base| !base.is_empty()).ok_or_else(|| bad(format!("{BASE} is required")))?;
    Ok((base, files))
}

/// Whether a content type is that of a form with files.
fn is_form(content_type: &str) -> bool {
    let kind = content_type.split(';').next().unwrap_or_default();
    kind.trim().eq_ignore_ascii_case("multipart/form-data")
}

fn base_of(body: &Value) -> Result<&str, ApiError> {
    let named = body[BASE].as_str().filter(|base| !base.is_empty());
    named.ok_or_else(|| bad(format!("{BASE} is required")))
}

fn bad(message: impl Into<String>) -> ApiError {
    ApiError::new(StatusCode::BAD_REQUEST, message)
}
