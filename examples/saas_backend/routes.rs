//! What the service answers.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use mos::keys::{KeyError, NewKey};
use mos::{Add, Chat, Error, Mos, NewCube, Search};
use mos_core::{CubeId, MemoryError, Message, StoreError, UserId};
use serde::Deserialize;
use serde_json::{Value, json};

/// The facade, which knows whose key is whose, and the key that makes users.
pub(crate) struct Backend {
    mos: Mos,
    operator_key: String,
}

/// An answer that tells what went wrong.
pub(crate) struct Refused(StatusCode, String);

type Answer = Result<Json<Value>, Refused>;

#[derive(Deserialize)]
struct NewUser {
    user_id: String,
}

#[derive(Deserialize)]
struct OfCube {
    cube_id: String,
}

#[derive(Deserialize)]
struct Share {
    cube_id: String,
    user_id: String,
}

#[derive(Deserialize)]
struct AddBody {
    cube_id: String,
    messages: Vec<Message>,
}

#[derive(Deserialize)]
struct Question {
    query: String,
    cube_ids: Option<Vec<String>>,
}

impl Question {
    fn cubes(&self) -> Option<Vec<CubeId>> {
        let ids = self.cube_ids.as_ref()?;
        Some(ids.iter().map(|id| CubeId::from(id.as_str())).collect())
    }
}

impl Backend {
    pub(crate) fn new(mos: Mos, operator_key: String) -> Self {
        Self { mos, operator_key }
    }

    /// Who asks.
    async fn user(&self, headers: &HeaderMap) -> Result<UserId, Refused> {
        let key = self.mos.find_key(key_of(headers).ok_or(KeyError::Malformed)?).await?;
        // The key of a program acts for any user; here everybody has one of their own.
        key.user.ok_or_else(|| KeyError::Unknown.into())
    }
}

fn key_of(headers: &HeaderMap) -> Option<&str> {
    headers.get(header::AUTHORIZATION)?.to_str().ok()?.strip_prefix("Bearer ")
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        (self.0, Json(json!({"error": self.1}))).into_response()
    }
}

impl From<Error> for Refused {
    fn from(error: Error) -> Self {
        let status = match &error {
            Error::NoAccess { .. } | Error::NotOwner { .. } | Error::NotWriter { .. } | Error::NotAllowed { .. } => {
                StatusCode::FORBIDDEN
            }
            Error::UnknownUser(_) | Error::NoCube(_) | Error::NotRegistered(_) => StatusCode::NOT_FOUND,
            Error::Invalid(_) => StatusCode::BAD_REQUEST,
            Error::Memory(MemoryError::Store(StoreError::Conflict(_))) => StatusCode::CONFLICT,
            _ => {
                // Who asks learns nothing about the inside.
                println!("error: {error}");
                let told = "something went wrong in the service; try again later".to_owned();
                return Self(StatusCode::INTERNAL_SERVER_ERROR, told);
            }
        };
        Self(status, error.to_string())
    }
}

impl From<KeyError> for Refused {
    fn from(error: KeyError) -> Self {
        match error {
            KeyError::Failed(error) => error.into(),
            refused => Self(StatusCode::UNAUTHORIZED, refused.to_string()),
        }
    }
}

pub(crate) fn router(backend: Arc<Backend>) -> Router {
    Router::new()
        .route("/users", post(create_user))
        .route("/cubes", post(create_cube))
        .route("/share", post(share))
        .route("/add", post(add))
        .route("/search", post(search))
        .route("/chat", post(chat))
        .with_state(backend)
}

async fn create_user(State(backend): State<Arc<Backend>>, headers: HeaderMap, Json(body): Json<NewUser>) -> Answer {
    if key_of(&headers) != Some(backend.operator_key.as_str()) {
        return Err(Refused(StatusCode::UNAUTHORIZED, "only the operator makes users".to_owned()));
    }
    let user = backend.mos.create_user(body.user_id.as_str(), None).await?;
    // Only its hash is kept: who loses it gets another one.
    let made = backend.mos.create_key(NewKey::user(user.user_id.clone())).await?;
    Ok(Json(json!({"user_id": user.user_id, "key": made.text.expose()})))
}

async fn create_cube(State(backend): State<Arc<Backend>>, headers: HeaderMap, Json(body): Json<OfCube>) -> Answer {
    let user = backend.user(&headers).await?;
    let cube = backend.mos.create_cube(&user, NewCube::new(body.cube_id.as_str())).await?;
    Ok(Json(json!({"cube_id": cube.cube_id})))
}

async fn share(State(backend): State<Arc<Backend>>, headers: HeaderMap, Json(body): Json<Share>) -> Answer {
    let owner = backend.user(&headers).await?;
    let (cube, target) = (CubeId::from(body.cube_id.as_str()), UserId::from(body.user_id.as_str()));
    backend.mos.share_cube_with_user(&owner, &cube, &target).await?;
    Ok(Json(json!({"cube_id": cube, "user_id": target})))
}

async fn add(State(backend): State<Arc<Backend>>, headers: HeaderMap, Json(body): Json<AddBody>) -> Answer {
    let user = backend.user(&headers).await?;
    let ids = backend.mos.add(Add::messages(body.messages).user(user).cube(body.cube_id.as_str())).await?;
    Ok(Json(json!({"ids": ids})))
}

async fn search(State(backend): State<Arc<Backend>>, headers: HeaderMap, Json(body): Json<Question>) -> Answer {
    let user = backend.user(&headers).await?;
    let mut search = Search::new(body.query.as_str()).user(user);
    if let Some(cubes) = body.cubes() {
        search = search.cubes(cubes);
    }
    let found = backend.mos.search(search).await?;
    Ok(Json(json!(found)))
}

async fn chat(State(backend): State<Arc<Backend>>, headers: HeaderMap, Json(body): Json<Question>) -> Answer {
    let user = backend.user(&headers).await?;
    let mut chat = Chat::new(body.query.as_str()).user(user);
    if let Some(cubes) = body.cubes() {
        chat = chat.cubes(cubes);
    }
    let reply = backend.mos.chat(chat).await?;
    let memories: Vec<Value> =
        reply.memories.iter().map(|(cube, found)| json!({"cube_id": cube, "memory": found.item.memory})).collect();
    let (answer, _) = reply.complete().await?;
    Ok(Json(json!({"answer": answer, "memories": memories})))
}
