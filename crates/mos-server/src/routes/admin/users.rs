//! Users and their roles.

use axum::Json;
use axum::extract::State;
use mos::product::{Field, ProductError, Request, RequestFields};
use mos_core::{UserId, UserRole};
use serde_json::{Map, Value, json};

use super::{Administrator, PageRequest, told};
use crate::error::ApiError;
use crate::extract::{Body, InPath, QueryOf};
use crate::state::ServerState;

/// A role, in any case.
#[derive(Clone, Copy, Debug)]
struct Role(UserRole);

impl Field for Role {
    fn read(value: &Value, fields: &mut RequestFields<'_>) -> Option<Self> {
        let role = value.as_str().and_then(UserRole::parse).map(Self);
        if role.is_none() {
            let expected = "'ROOT', 'ADMIN', 'USER' or 'GUEST'";
            let ctx = json!({"expected": expected});
            fields.refuse_with("literal_error", format!("Input should be {expected}"), value, Some(ctx));
        }
        role
    }
}

/// A user that is asked for.
#[derive(Clone, Debug)]
pub(super) struct CreateUserRequest {
    user_id: String,
    user_name: Option<String>,
    role: Option<Role>,
}

impl Request for CreateUserRequest {
    fn read(map: &Map<String, Value>, fields: &mut RequestFields<'_>) -> Option<Self> {
        let user_id = fields.required::<String>(map, "user_id");
        let user_name = fields.optional::<Option<String>>(map, "user_name");
        let role = fields.optional::<Option<Role>>(map, "role");
        Some(Self { user_id: user_id?, user_name: user_name?.flatten(), role: role?.flatten() })
    }
}

/// A role that a user is given.
#[derive(Clone, Debug)]
pub(super) struct SetRoleRequest {
    role: Role,
}

impl Request for SetRoleRequest {
    fn read(map: &Map<String, Value>, fields: &mut RequestFields<'_>) -> Option<Self> {
        Some(Self { role: fields.required::<Role>(map, "role")? })
    }
}

fn user_id(text: String) -> Result<UserId, ApiError> {
    UserId::parse(text).map_err(|error| ProductError::from(error).into())
}

pub(super) async fn create(
    State(state): State<ServerState>,
    administrator: Administrator,
    Body(request): Body<CreateUserRequest>,
) -> Result<Json<Value>, ApiError> {
    let id = user_id(request.user_id)?;
    let role = request.role.map_or(UserRole::User, |Role(role)| role);
    let mos = state.app().mos();
    let user = mos.create_user_as(&administrator.actor, id, request.user_name.as_deref(), role).await.map_err(told)?;
    Ok(Json(json!({"message": "User created successfully", "user": user})))
}

/// `{message, users, total}`, the oldest first.
pub(super) async fn list(
    State(state): State<ServerState>,
    administrator: Administrator,
    QueryOf(page): QueryOf<PageRequest>,
) -> Result<Json<Value>, ApiError> {
    let users = state.app().mos().list_users_as(&administrator.actor).await.map_err(told)?;
    let total = users.len();
    let users: Vec<_> = users.into_iter().skip(page.offset).take(page.limit).collect();
    Ok(Json(json!({"message": "Users retrieved successfully", "users": users, "total": total})))
}

pub(super) async fn set_role(
    State(state): State<ServerState>,
    administrator: Administrator,
    InPath(id): InPath,
    Body(request): Body<SetRoleRequest>,
) -> Result<Json<Value>, ApiError> {
    let (id, Role(role)) = (user_id(id)?, request.role);
    let user = state.app().mos().set_user_role(&administrator.actor, &id, role).await.map_err(told)?;
    Ok(Json(json!({"message": "Role changed successfully", "user": user})))
}

/// Deactivates a user, whose keys are gone at once. Its cubes stay.
pub(super) async fn remove(
    State(state): State<ServerState>,
    administrator: Administrator,
    InPath(id): InPath,
) -> Result<Json<Value>, ApiError> {
    let id = user_id(id)?;
    state.app().mos().delete_user_as(&administrator.actor, &id).await.map_err(told)?;
    state.auth().forget_user(&id);
    Ok(Json(json!({"message": "User deleted successfully", "success": true})))
}
