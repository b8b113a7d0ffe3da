//! Users, what they may use, and the scheduler.

use mos::UserInfo;
use mos::product::{Identity, ProductError, ProductResult};
use mos_core::{UserId, UserRole};
use serde_json::json;

use super::super::answers::Answer;
use super::super::call::Call;

/// Makes a user.
pub(super) async fn create(call: &Call<'_>) -> ProductResult<Answer> {
    let arguments = &call.arguments;
    let id = UserId::parse(arguments.needed("user_id")?)?;
    let name = arguments.text("user_name");
    let role = match arguments.text("role") {
        Some(word) => UserRole::parse(word)
            .ok_or_else(|| ProductError::bad_value("there is no such role; give USER, GUEST or ADMIN"))?,
        None => UserRole::User,
    };
    let user = match &call.caller.identity {
        Identity::Program => call.mos().create_user_with_role(id, name, role).await?,
        Identity::User(actor) => call.mos().create_user_as(actor, id, name, role).await?,
    };
    Ok(Answer::sentence(format!("User created successfully: {}", user.user_id), json!({"user": user})))
}

/// Returns who a user is, and the cubes that it may use.
pub(super) async fn info(call: &Call<'_>) -> ProductResult<Answer> {
    let info = seen(call, call.user()?).await?;
    Ok(Answer::object(json!(info)))
}

/// Returns the cubes that a user may use.
pub(super) async fn list_cubes(call: &Call<'_>) -> ProductResult<Answer> {
    let info = seen(call, call.user()?).await?;
    Ok(Answer::object(json!({"user_id": info.user_id, "cubes": info.accessible_cubes})))
}

/// A user as the caller may see it: with the cubes of the key, and without the folders of this machine.
async fn seen(call: &Call<'_>, user: UserId) -> ProductResult<UserInfo> {
    let mut info = call.mos().user_info(&user).await?;
    info.accessible_cubes.retain(|cube| call.caller.check_cube(&cube.cube_id).is_ok());
    if !call.takes_paths {
        info.accessible_cubes.iter_mut().for_each(|cube| cube.cube_path = None);
    }
    Ok(info)
}

/// Starts or stops the work in the background.
pub(super) async fn control_scheduler(call: &Call<'_>) -> ProductResult<Answer> {
    if let Identity::User(user) = &call.caller.identity {
        // A key outlives the role that it was made for.
        call.mos().check_administrator(user).await?;
    }
    match call.arguments.needed("action")? {
        "start" => {
            call.mos().mem_scheduler_on()?;
            Ok(Answer::sentence("Memory scheduler started successfully", json!({})))
        }
        _ => {
            let stopped = call.mos().mem_scheduler_off().await;
            Ok(Answer::sentence("Memory scheduler stopped successfully", json!({"unfinished": stopped.unfinished})))
        }
    }
}
