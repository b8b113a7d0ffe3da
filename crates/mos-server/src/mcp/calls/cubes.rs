//! Cubes: made, registered, dumped, shared and taken back.

use std::path::PathBuf;

use mos::product::{ProductError, ProductResult};
use mos::{CubeSource, NewCube};
use mos_core::{Access, CubeId, IdSource, RandomIds, UserId};
use serde_json::json;

use super::super::answers::Answer;
use super::super::call::Call;
use super::exports;

/// Makes a cube for a user.
pub(super) async fn create(call: &Call<'_>) -> ProductResult<Answer> {
    let arguments = &call.arguments;
    let owner = UserId::parse(arguments.needed("owner_id")?)?;
    call.caller.check_user(&owner)?;
    let cube_id = match arguments.text("cube_id") {
        Some(id) => CubeId::parse(id)?,
        None => CubeId::new(RandomIds.next_uuid()),
    };
    call.caller.check_cube(&cube_id)?;
    call.app().product_as(call.caller.clone()).check_cube_name(&cube_id).await?;
    let name = arguments.needed("cube_name")?;
    let cube = match arguments.text("cube_path") {
        Some(path) => {
            call.check_path("cube_path")?;
            call.ensure(&owner).await?;
            // A cube that exists would keep its own memories.
            let known = call.mos().list_cubes(&owner).await?;
            if known.iter().any(|cube| cube.cube_id == cube_id) {
                return Err(ProductError::bad_value(format!(
                    "there is a cube `{cube_id}` already; give another `cube_id`"
                )));
            }
            call.mos().register_mem_cube(&owner, CubeSource::Directory(PathBuf::from(path)), Some(&cube_id)).await?
        }
        None => {
            call.ensure(&owner).await?;
            let new = NewCube { name: Some(name.to_owned()), ..NewCube::new(cube_id) };
            call.mos().create_cube(&owner, new).await?
        }
    };
    let told = format!("Cube created successfully: {}", cube.cube_id);
    Ok(Answer::sentence(told, json!({"cube_id": cube.cube_id, "cube_name": cube.cube_name, "owner_id": cube.owner_id})))
}

/// Has searches and chats use a cube.
pub(super) async fn register(call: &Call<'_>) -> ProductResult<Answer> {
    let (arguments, user) = (&call.arguments, call.user()?);
    let named = arguments.needed("cube_name_or_path")?;
    let id = arguments.text("cube_id").map(CubeId::parse).transpose()?;
    let (source, cube_id) = if call.takes_paths && PathBuf::from(named).is_dir() {
        (CubeSource::Directory(PathBuf::from(named)), id)
    } else {
        let known = CubeId::parse(named)?;
        if id.as_ref().is_some_and(|id| *id != known) {
            return Err(ProductError::bad_value(
                "`cube_name_or_path` is a cube, which keeps its id; leave `cube_id` out, or make it the same",
            ));
        }
        (CubeSource::Known, Some(known))
    };
    match &cube_id {
        Some(cube) => call.caller.check_cube(cube)?,
        None => call.caller.check_cube(&CubeId::parse(named)?)?,
    }
    let cube = call.mos().register_mem_cube(&user, source, cube_id.as_ref()).await?;
    let told = format!("Cube registered successfully: {}", cube.cube_id);
    Ok(Answer::sentence(told, json!({"cube_id": cube.cube_id})))
}

/// Takes a cube out of searches and chats.
pub(super) async fn unregister(call: &Call<'_>) -> ProductResult<Answer> {
    let user = call.user()?;
    let cube = call.cube(&user).await?;
    call.mos().unregister_mem_cube(&user, &cube).await?;
    Ok(Answer::sentence(format!("Cube unregistered successfully: {cube}"), json!({"cube_id": cube})))
}

/// Writes a cube to a new folder of the exports.
pub(super) async fn dump(call: &Call<'_>) -> ProductResult<Answer> {
    let user = call.user()?;
    let cube = call.cube(&user).await?;
    // Before anything is made on the disk.
    if !call.mos().list_cubes(&user).await?.iter().any(|known| known.cube_id == cube) {
        return Err(mos::Error::NoAccess { user, cube }.into());
    }
    let export = exports::place(call.mos().data_dir(), &user, call.arguments.needed("dump_dir")?).await?;
    call.mos().dump(&user, Some(&cube), &export.path).await?;
    let told = format!("Cube dumped successfully to: {}", export.shown);
    Ok(Answer::sentence(told, json!({"cube_id": cube, "directory": export.shown})))
}

/// Lets another user use a cube.
pub(super) async fn share(call: &Call<'_>) -> ProductResult<Answer> {
    let user = call.user()?;
    let cube = call.cube(&user).await?;
    let target = UserId::parse(call.arguments.needed("target_user_id")?)?;
    let access = match call.arguments.text("access") {
        Some("read") => Access::Reader,
        _ => Access::Member,
    };
    call.mos().share_cube_with(&user, &cube, &target, access).await?;
    let told = format!("Cube {cube} shared successfully with user {target}");
    Ok(Answer::sentence(told, json!({"cube_id": cube, "user_id": target, "access": access})))
}

/// Takes back what sharing gave a user.
pub(super) async fn unshare(call: &Call<'_>) -> ProductResult<Answer> {
    let user = call.user()?;
    let cube = call.cube(&user).await?;
    let target = UserId::parse(call.arguments.needed("target_user_id")?)?;
    call.mos().unshare_cube(&user, &cube, &target).await?;
    let told = format!("Cube {cube} is not shared with user {target} any more");
    Ok(Answer::sentence(told, json!({"cube_id": cube, "user_id": target})))
}
