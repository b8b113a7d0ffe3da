//! Who is signed in, and which cubes there are.

use axum::Json;
use axum::extract::{FromRequestParts, State};
use axum::http::request::Parts;
use mos::NewCube;
use mos::product::{Caller, Identity, Scope};
use mos_config::{GeneralMemCubeConfig, Setting};
use mos_core::{Cube, UserId};
use serde::Deserialize;
use serde_json::{Value, json};

use super::asking::{self, Asking};
use super::{Answer, Refused};
use crate::error::ApiError;
use crate::extract::{Authenticated, JsonBody};
use crate::state::ServerState;

/// The most users that a program is offered.
const MAX_USERS: usize = 500;

/// Who asks; a program need not say for whom.
#[derive(Debug)]
pub(super) struct Visitor {
    caller: Caller,
    user: Option<UserId>,
}

impl FromRequestParts<ServerState> for Visitor {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &ServerState) -> Result<Self, ApiError> {
        let Authenticated(caller) = Authenticated::from_request_parts(parts, state).await?;
        caller.check(Scope::Read)?;
        let pairs = asking::pairs_of(parts)?;
        let user = match (&caller.identity, asking::named(&pairs, "user_id")) {
            (Identity::Program, None) => None,
            (_, named) => Some(asking::user_of(&caller, named)?),
        };
        Ok(Self { caller, user })
    }
}

/// Tells who is signed in, with which rights, and which cubes there are.
pub(super) async fn session(State(state): State<ServerState>, visitor: Visitor) -> Answer {
    let mos = state.app().mos();
    let Visitor { caller, user } = visitor;
    let is_program = caller.identity == Identity::Program;
    let mut users = Vec::new();
    if is_program && caller.check(Scope::Admin).is_ok() {
        users = mos.list_users().await?.into_iter().map(|user| user.user_id).take(MAX_USERS).collect();
    }
    let mut cubes = Vec::new();
    if let Some(user) = &user
        && mos.has_user(user).await?
    {
        for cube in mos.list_cubes(user).await? {
            if caller.check_cube(&cube.cube_id).is_ok() {
                let access = mos.cube_access(user, &cube.cube_id).await?;
                cubes.push(shown(&cube, json!(access)));
            }
        }
    }
    Ok(Json(json!({
        "identity": if is_program { "program" } else { "user" },
        "user_id": user,
        "users": users,
        "scopes": caller.scopes,
        "cubes": cubes,
        "has_scheduler": mos.scheduler().is_some(),
        "version": env!("CARGO_PKG_VERSION"),
    })))
}

fn shown(cube: &Cube, access: Value) -> Value {
    let backend = |path: &str| cube.config.pointer(path).and_then(Value::as_str).map(str::to_owned);
    json!({
        "cube_id": cube.cube_id,
        "cube_name": cube.cube_name,
        "owner_id": cube.owner_id,
        "created_at": cube.created_at,
        "is_registered": cube.is_registered,
        "access": access,
        "text_memory": backend("/text_mem/backend"),
        "preference_memory": backend("/pref_mem/backend"),
    })
}

#[derive(Debug, Deserialize)]
struct Wanted {
    cube_id: String,
    #[serde(default)]
    name: Option<String>,
}

/// Makes a cube with a tree of memories and preferences.
pub(super) async fn create_cube(State(state): State<ServerState>, asking: Asking, JsonBody(body): JsonBody) -> Answer {
    asking.to_write()?;
    let wanted: Wanted = asking::read(body)?;
    let cube_id = asking.cube_named(wanted.cube_id.trim())?;
    state.app().product_as(asking.caller.clone()).check_cube_name(&cube_id).await?;
    let config = cube_config(&state, &asking.user, cube_id.as_str())?;
    asking.mos.ensure_user(&asking.user).await?;
    let name = wanted.name.filter(|name| !name.trim().is_empty());
    let new = NewCube { name, config: Some(config), ..NewCube::new(cube_id) };
    let cube = asking.mos.create_cube(&asking.user, new).await?;
    Ok(Json(shown(&cube, json!(mos_core::Access::Owner))))
}

/// What cubes are that are made here: as those that the product API makes, but that memories are stored as they are told.
fn cube_config(state: &ServerState, user: &UserId, cube_id: &str) -> Result<GeneralMemCubeConfig, Refused> {
    if let Some(config) = &state.app().options().cube_config {
        let cube_id = Some(cube_id.to_owned());
        return Ok(GeneralMemCubeConfig { user_id: user.to_string(), cube_id, ..config.clone() });
    }
    let config = json!({
        "user_id": user, "cube_id": cube_id,
        "text_mem": {"backend": "tree_text", "config": {}},
        "pref_mem": {"backend": "pref_text", "config": {"memory_filename": "preference_textual_memories.json"}},
    });
    Ok(GeneralMemCubeConfig::from_json(&config).map_err(mos::Error::from)?)
}
