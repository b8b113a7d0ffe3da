//! Keys: made, listed, revoked.

use std::collections::BTreeSet;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use mos::keys::{NewKey, new_text, scopes_of};
use mos::product::{ProductError, Request, RequestFields};
use mos_core::clock::timestamp_text;
use mos_core::{ApiKey, CubeId, KeyId, KeyScope, UserId};
use serde_json::{Map, Value, json};

use super::{Administrator, told};
use crate::error::ApiError;
use crate::extract::{Body, InPath, QueryOf};
use crate::state::ServerState;

/// The name of a program, which acts for any user.
const PROGRAM: &str = "*";

/// The longest name of a user, in characters.
const MAX_NAME: usize = 255;

/// The longest description, in characters.
const MAX_DESCRIPTION: usize = 500;

/// The longest life of a key that ends, in days.
const MAX_DAYS: i64 = 365;

/// A key that is asked for.
#[derive(Clone, Debug)]
pub(super) struct CreateKeyRequest {
    user_name: String,
    scopes: BTreeSet<KeyScope>,
    cubes: Option<Vec<String>>,
    description: Option<String>,
    expires_in_days: Option<i64>,
}

impl Request for CreateKeyRequest {
    fn read(map: &Map<String, Value>, fields: &mut RequestFields<'_>) -> Option<Self> {
        let user_name = fields.required::<String>(map, "user_name");
        let scopes = fields.optional::<Vec<String>>(map, "scopes");
        let cubes = fields.optional::<Option<Vec<String>>>(map, "cubes");
        let description = fields.optional::<Option<String>>(map, "description");
        let expires_in_days = fields.optional::<Option<i64>>(map, "expires_in_days");
        if let Some(name) = &user_name {
            check_length(fields, "user_name", name, 1, MAX_NAME);
        }
        if let Some(Some(Some(description))) = &description {
            check_length(fields, "description", description, 0, MAX_DESCRIPTION);
        }
        if let Some(Some(Some(days))) = expires_in_days {
            check_days(fields, days);
        }
        let words = scopes?.unwrap_or_else(|| vec!["read".to_owned()]);
        let Some(scopes) = scopes_of(words.iter().map(String::as_str)) else {
            let msg = "Input should be 'read', 'write', 'admin' or 'all'";
            let ctx = json!({"expected": "'read', 'write', 'admin' or 'all'"});
            fields.within("scopes", |fields| fields.refuse_with("literal_error", msg, &json!(words), Some(ctx)));
            return None;
        };
        let (cubes, description) = (cubes?.flatten(), description?.flatten());
        Some(Self { user_name: user_name?, scopes, cubes, description, expires_in_days: expires_in_days?.flatten() })
    }
}

fn check_length(fields: &mut RequestFields<'_>, field: &str, text: &str, least: usize, most: usize) {
    let n = text.chars().count();
    let plural = |n: usize| if n == 1 { "" } else { "s" };
    let (kind, msg, ctx) = if n < least {
        let msg = format!("String should have at least {least} character{}", plural(least));
        ("string_too_short", msg, json!({"min_length": least}))
    } else if n > most {
        let msg = format!("String should have at most {most} character{}", plural(most));
        ("string_too_long", msg, json!({"max_length": most}))
    } else {
        return;
    };
    fields.within(field, |fields| fields.refuse_with(kind, msg, &json!(text), Some(ctx)));
}

fn check_days(fields: &mut RequestFields<'_>, days: i64) {
    let (kind, msg, ctx) = if days < 1 {
        ("greater_than_equal", "Input should be greater than or equal to 1".to_owned(), json!({"ge": 1}))
    } else if days > MAX_DAYS {
        let msg = format!("Input should be less than or equal to {MAX_DAYS}");
        ("less_than_equal", msg, json!({"le": MAX_DAYS}))
    } else {
        return;
    };
    fields.within("expires_in_days", |fields| fields.refuse_with(kind, msg, &json!(days), Some(ctx)));
}

impl CreateKeyRequest {
    fn new_key(self) -> Result<NewKey, ApiError> {
        let user = (self.user_name != PROGRAM).then(|| UserId::parse(self.user_name)).transpose();
        let cubes = self
            .cubes
            .map(|cubes| cubes.into_iter().map(CubeId::parse).collect::<Result<BTreeSet<_>, _>>())
            .transpose();
        let expires_in =
            self.expires_in_days.map(|days| Duration::from_secs(days.unsigned_abs().saturating_mul(24 * 3600)));
        Ok(NewKey {
            user: user.map_err(ProductError::from)?,
            scopes: self.scopes,
            cubes: cubes.map_err(ProductError::from)?,
            description: self.description,
            expires_in,
        })
    }
}

fn words(scopes: &BTreeSet<KeyScope>) -> Vec<&'static str> {
    scopes.iter().map(|scope| scope.as_str()).collect()
}

fn name_of(key: &ApiKey) -> &str {
    key.user.as_ref().map_or(PROGRAM, UserId::as_str)
}

/// A key as listings show it.
fn shown(key: &ApiKey) -> Value {
    json!({
        "id": key.id,
        "key_prefix": key.prefix,
        "user_name": name_of(key),
        "scopes": words(&key.scopes),
        "cubes": key.cubes,
        "description": key.description,
        "created_at": timestamp_text(key.created_at),
        "last_used_at": key.last_used_at.map(timestamp_text),
        "expires_at": key.expires_at.map(timestamp_text),
        "is_active": key.is_active,
    })
}

/// Makes a key; its text is in this answer and nowhere else.
pub(super) async fn create(
    State(state): State<ServerState>,
    administrator: Administrator,
    Body(request): Body<CreateKeyRequest>,
) -> Result<Json<Value>, ApiError> {
    let made = state.app().mos().create_key_as(&administrator.actor, request.new_key()?).await.map_err(told)?;
    Ok(Json(json!({
        "message": "API key created successfully. Save the key, it is not shown again.",
        "key": made.text.expose(),
        "key_prefix": made.key.prefix,
        "user_name": name_of(&made.key),
        "scopes": words(&made.key.scopes),
        "id": made.key.id,
    })))
}

/// Whose keys are listed.
#[derive(Clone, Debug)]
pub(super) struct ListKeysRequest {
    user_name: Option<String>,
}

impl Request for ListKeysRequest {
    fn read(map: &Map<String, Value>, fields: &mut RequestFields<'_>) -> Option<Self> {
        Some(Self { user_name: fields.optional::<String>(map, "user_name")? })
    }
}

pub(super) async fn list(
    State(state): State<ServerState>,
    _: Administrator,
    QueryOf(request): QueryOf<ListKeysRequest>,
) -> Result<Json<Value>, ApiError> {
    let named = request.user_name.filter(|name| !name.is_empty());
    let user = named.map(UserId::parse).transpose().map_err(ProductError::from)?;
    let mut keys = match &user {
        Some(user) if user.as_str() == PROGRAM => state.app().mos().list_keys(None).await.map_err(told)?,
        user => state.app().mos().list_keys(user.as_ref()).await.map_err(told)?,
    };
    if user.is_some_and(|user| user.as_str() == PROGRAM) {
        keys.retain(|key| key.user.is_none());
    }
    let keys: Vec<Value> = keys.iter().map(shown).collect();
    Ok(Json(json!({"message": format!("Found {} key(s)", keys.len()), "keys": keys})))
}

pub(super) async fn revoke(
    State(state): State<ServerState>,
    administrator: Administrator,
    InPath(id): InPath,
) -> Result<Json<Value>, ApiError> {
    let id = KeyId::parse(id).map_err(ProductError::from)?;
    state.app().mos().revoke_key_as(&administrator.actor, &id).await.map_err(told)?;
    state.auth().forget_key(&id);
    Ok(Json(json!({"message": "API key revoked successfully", "success": true})))
}

/// Makes the text of a master key. It opens a server that is started with its hash; nothing is kept here.
pub(super) async fn generate_master_key(administrator: Administrator) -> Result<Json<Value>, ApiError> {
    if !administrator.is_program {
        return Err(ProductError::forbidden("only a program's key makes master keys").into());
    }
    let (text, hash) = new_text(true).map_err(told)?;
    let hash = hash.hex();
    Ok(Json(json!({
        "message": "Master key generated. Save the key, it is not shown again; start the server with its hash.",
        "key": text.expose(),
        "key_hash": hash,
        "env_line": format!("MASTER_KEY_HASH={hash}"),
    })))
}
