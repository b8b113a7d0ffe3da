//! Administration: keys, users, and what was changed by whom.
//!
//! Everything but the health needs the scope `admin`. A program administers as `root`; a key of a user may do what its user's
//! role allows.

mod document;
mod keys;
mod users;

use axum::Json;
use axum::extract::{FromRequestParts, State};
use axum::http::StatusCode;
use axum::http::request::Parts;
use mos::Mos;
use mos::product::{Identity, ProductError, Request, RequestFields, Scope};
use mos_core::UserId;
use serde_json::{Map, Value, json};

use crate::error::ApiError;
use crate::extract::{Authenticated, QueryOf};
use crate::routes::{Routes, delete, get, post, put};
use crate::state::ServerState;

pub(crate) use document::document;

/// The most entries that one page holds.
const MAX_PAGE: usize = 500;

/// The entries of a page, when nothing else is asked for.
const USUAL_PAGE: usize = 100;

pub(crate) fn routes() -> Routes {
    Routes::new()
        .route("/admin/health", get(health))
        .route("/admin/keys", post(keys::create).get(keys::list))
        .route("/admin/keys/{key_id}", delete(keys::revoke))
        .route("/admin/generate-master-key", post(keys::generate_master_key))
        .route("/admin/users", post(users::create).get(users::list))
        .route("/admin/users/{user_id}", delete(users::remove))
        .route("/admin/users/{user_id}/role", put(users::set_role))
        .route("/admin/audit", get(audit))
}

async fn health() -> Json<Value> {
    Json(json!({"status": "ok", "message": "the administration answers"}))
}

/// Who administers: the user in whose name it is done.
#[derive(Clone, Debug)]
struct Administrator {
    /// The user whose role counts.
    actor: UserId,
    /// Whether a program does it, which is not bound to one user.
    is_program: bool,
}

impl FromRequestParts<ServerState> for Administrator {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &ServerState) -> Result<Self, ApiError> {
        let Authenticated(caller) = Authenticated::from_request_parts(parts, state).await?;
        caller.check(Scope::Admin)?;
        if caller.cubes.is_some() {
            return Err(ProductError::forbidden("a key that is restricted to cubes administers nothing").into());
        }
        let administrator = match caller.identity {
            Identity::Program => Self { actor: Mos::root_user(), is_program: true },
            Identity::User(actor) => Self { actor, is_program: false },
        };
        state.app().mos().check_administrator(&administrator.actor).await.map_err(told)?;
        Ok(administrator)
    }
}

/// Errors of the facade as the API tells them.
fn told(error: mos::Error) -> ApiError {
    ProductError::from(error).into()
}

/// Which part of a long list is wanted.
#[derive(Clone, Copy, Debug)]
struct PageRequest {
    before: Option<u64>,
    offset: usize,
    limit: usize,
}

impl Request for PageRequest {
    fn read(map: &Map<String, Value>, fields: &mut RequestFields<'_>) -> Option<Self> {
        let before = fields.optional::<usize>(map, "before");
        let offset = fields.optional::<usize>(map, "offset");
        let limit = fields.optional::<usize>(map, "limit");
        Some(Self {
            before: before?.map(|before| before as u64),
            offset: offset?.unwrap_or(0),
            limit: limit?.unwrap_or(USUAL_PAGE).clamp(1, MAX_PAGE),
        })
    }
}

/// `{message, entries, next}`: `next` is what `before` has to be for the page after this one; null at the end.
async fn audit(
    State(state): State<ServerState>,
    _: Administrator,
    QueryOf(page): QueryOf<PageRequest>,
) -> Result<Json<Value>, ApiError> {
    let entries = state.audit().newest(page.before, page.limit).await.map_err(|error| {
        tracing::error!(%error, "the audit log cannot be read");
        ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "the audit log cannot be read; the log of the server tells why")
    })?;
    let next = entries.last().map(|entry| entry.number).filter(|_| entries.len() == page.limit);
    Ok(Json(json!({"message": "Audit log retrieved successfully", "entries": entries, "next": next})))
}
