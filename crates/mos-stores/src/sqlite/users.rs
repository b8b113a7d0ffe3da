//! Users, cubes and shares.

use mos_core::users::ROOT_USER;
use mos_core::{Access, Cube, CubeId, Scope, Standing, StoreError, User, UserId, UserRole};
use rusqlite::{Connection, OptionalExtension, Row, params};
use serde_json::Value;

use super::apply::erase_scope;
use super::fault::Fault;
use crate::prepare::{check_role, check_share, name_is_taken, was_deleted};

pub(super) fn not_found(what: &'static str, id: &str) -> Fault {
    Fault::Store(StoreError::NotFound { what, id: id.to_owned() })
}

pub(super) fn read_user(row: &Row<'_>) -> rusqlite::Result<User> {
    let (user_id, role): (String, String) = (row.get(0)?, row.get(2)?);
    let role = UserRole::parse(&role).ok_or_else(|| {
        rusqlite::Error::FromSqlConversionFailure(2, rusqlite::types::Type::Text, format!("role `{role}`").into())
    })?;
    Ok(User {
        user_id: UserId::new(user_id),
        user_name: row.get(1)?,
        role,
        created_at: row.get(3)?,
        is_active: row.get(4)?,
    })
}

pub(super) fn create(
    connection: &Connection,
    id: &UserId,
    name: &str,
    role: UserRole,
    at: &str,
) -> Result<User, Fault> {
    let by_name = connection
        .prepare_cached("SELECT user_id, user_name, role, created_at, is_active FROM users WHERE user_name = ?1")?
        .query_row([name], read_user)
        .optional()?;
    match by_name {
        Some(user) if user.is_active => return Ok(user),
        Some(user) if user.user_id == *id => return reactivate(connection, user, role),
        Some(user) => {
            return Err(Fault::Store(StoreError::Conflict(format!(
                "the name `{name}` belongs to the deleted user `{}`; create that id again, or choose another name",
                user.user_id
            ))));
        }
        None => {}
    }
    let other: Option<String> = connection
        .prepare_cached("SELECT user_name FROM users WHERE user_id = ?1")?
        .query_row([id.as_str()], |row| row.get(0))
        .optional()?;
    if let Some(other) = other {
        return Err(Fault::Store(StoreError::Conflict(format!(
            "the user id `{id}` belongs to a user named `{other}`; choose another id"
        ))));
    }
    connection
        .prepare_cached(
            "INSERT INTO users (user_id, user_name, role, created_at, is_active) VALUES (?1, ?2, ?3, ?4, 1)",
        )?
        .execute(params![id.as_str(), name, role.as_str(), at])?;
    Ok(User { user_id: id.clone(), user_name: name.to_owned(), role, created_at: at.to_owned(), is_active: true })
}

pub(super) fn ensure(connection: &Connection, id: &UserId, at: &str) -> Result<User, Fault> {
    match known_user(connection, id)? {
        Some(user) if user.is_active => return Ok(user),
        Some(user) => return Err(Fault::Store(was_deleted(&user))),
        None => {}
    }
    let user = create(connection, id, id.as_str(), UserRole::User, at)?;
    if user.user_id == *id { Ok(user) } else { Err(Fault::Store(name_is_taken(id, &user))) }
}

/// A deleted user that is created again has its cubes back.
fn reactivate(connection: &Connection, user: User, role: UserRole) -> Result<User, Fault> {
    connection
        .prepare_cached("UPDATE users SET is_active = 1, role = ?2 WHERE user_id = ?1")?
        .execute(params![user.user_id.as_str(), role.as_str()])?;
    Ok(User { role, is_active: true, ..user })
}

pub(super) fn user(connection: &Connection, id: &UserId) -> Result<Option<User>, Fault> {
    let mut statement = connection.prepare_cached(
        "SELECT user_id, user_name, role, created_at, is_active FROM users WHERE user_id = ?1 AND is_active",
    )?;
    Ok(statement.query_row([id.as_str()], read_user).optional()?)
}

/// Returns a user, deleted or not.
pub(super) fn known_user(connection: &Connection, id: &UserId) -> Result<Option<User>, Fault> {
    let mut statement = connection
        .prepare_cached("SELECT user_id, user_name, role, created_at, is_active FROM users WHERE user_id = ?1")?;
    Ok(statement.query_row([id.as_str()], read_user).optional()?)
}

pub(super) fn users(connection: &Connection) -> Result<Vec<User>, Fault> {
    let mut statement = connection.prepare_cached(
        "SELECT user_id, user_name, role, created_at, is_active FROM users WHERE is_active ORDER BY row_key",
    )?;
    let rows = statement.query_map([], read_user)?;
    Ok(rows.collect::<Result<_, _>>()?)
}

pub(super) fn delete_user(connection: &Connection, id: &UserId) -> Result<(), Fault> {
    if id.as_str() == ROOT_USER {
        return Err(Fault::Store(StoreError::Invalid(format!("the user `{ROOT_USER}` cannot be deleted"))));
    }
    let n_changed =
        connection.prepare_cached("UPDATE users SET is_active = 0 WHERE user_id = ?1")?.execute([id.as_str()])?;
    if n_changed == 0 { Err(not_found("user", id.as_str())) } else { Ok(()) }
}

pub(super) fn set_role(connection: &Connection, id: &UserId, role: UserRole) -> Result<User, Fault> {
    check_role(id, role)?;
    let n_changed = connection
        .prepare_cached("UPDATE users SET role = ?2 WHERE user_id = ?1 AND is_active")?
        .execute(params![id.as_str(), role.as_str()])?;
    let changed = if n_changed == 0 { None } else { user(connection, id)? };
    changed.ok_or_else(|| not_found("user", id.as_str()))
}

fn active_user_key(connection: &Connection, id: &UserId) -> Result<Option<i64>, Fault> {
    let mut statement = connection.prepare_cached("SELECT row_key FROM users WHERE user_id = ?1 AND is_active")?;
    Ok(statement.query_row([id.as_str()], |row| row.get(0)).optional()?)
}

pub(super) fn cube_key(connection: &Connection, id: &CubeId) -> Result<Option<i64>, Fault> {
    let mut statement = connection.prepare_cached("SELECT row_key FROM cubes WHERE cube_id = ?1")?;
    Ok(statement.query_row([id.as_str()], |row| row.get(0)).optional()?)
}

pub(super) fn create_cube(connection: &Connection, cube: &Cube) -> Result<(), Fault> {
    let owner =
        active_user_key(connection, &cube.owner_id)?.ok_or_else(|| not_found("user", cube.owner_id.as_str()))?;
    insert_cube(connection, cube, owner)
}

/// Makes a cube of the user of the key `owner`.
pub(super) fn insert_cube(connection: &Connection, cube: &Cube, owner: i64) -> Result<(), Fault> {
    if cube_key(connection, &cube.cube_id)?.is_some() {
        return Err(Fault::Store(StoreError::Conflict(format!("a cube `{}` exists already", cube.cube_id))));
    }
    // Whatever stands under this id without a cube must never become the new owner's.
    erase_scope(connection, &Scope::of(&cube.cube_id), &cube.created_at, false)?;
    connection
        .prepare_cached(
            "INSERT INTO cubes (cube_id, cube_name, cube_path, owner, created_at, is_registered, config)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        )?
        .execute(params![
            cube.cube_id.as_str(),
            cube.cube_name,
            cube.cube_path,
            owner,
            cube.created_at,
            cube.is_registered,
            cube.config.to_string()
        ])?;
    Ok(())
}

/// Columns that [`read_cube`] reads, in its order.
macro_rules! cube_columns {
    () => {
        "SELECT cube_id, cube_name, cube_path, user_id, cubes.created_at, is_registered, config
         FROM cubes JOIN users ON users.row_key = owner "
    };
}

fn read_cube(row: &Row<'_>) -> rusqlite::Result<Cube> {
    let (cube_id, owner_id, config): (String, String, String) = (row.get(0)?, row.get(3)?, row.get(6)?);
    let config: Value = serde_json::from_str(&config)
        .map_err(|error| rusqlite::Error::FromSqlConversionFailure(6, rusqlite::types::Type::Text, error.into()))?;
    Ok(Cube {
        cube_id: CubeId::new(cube_id),
        cube_name: row.get(1)?,
        cube_path: row.get(2)?,
        owner_id: UserId::new(owner_id),
        created_at: row.get(4)?,
        is_registered: row.get(5)?,
        config,
    })
}

pub(super) fn cube(connection: &Connection, id: &CubeId) -> Result<Option<Cube>, Fault> {
    let mut statement = connection.prepare_cached(concat!(cube_columns!(), "WHERE cube_id = ?1"))?;
    Ok(statement.query_row([id.as_str()], read_cube).optional()?)
}

pub(super) fn cubes(connection: &Connection, user: Option<&UserId>) -> Result<Vec<Cube>, Fault> {
    let Some(user) = user else {
        let sql = concat!(cube_columns!(), "ORDER BY cubes.created_at DESC, cubes.row_key DESC");
        let mut statement = connection.prepare_cached(sql)?;
        let rows = statement.query_map([], read_cube)?;
        return Ok(rows.collect::<Result<_, _>>()?);
    };
    let Some(user) = active_user_key(connection, user)? else { return Ok(Vec::new()) };
    let sql = concat!(
        cube_columns!(),
        "WHERE owner = ?1 OR EXISTS (SELECT 1 FROM shares WHERE cube = cubes.row_key AND user = ?1)
         ORDER BY cubes.created_at DESC, cubes.row_key DESC"
    );
    let mut statement = connection.prepare_cached(sql)?;
    let rows = statement.query_map([user], read_cube)?;
    Ok(rows.collect::<Result<_, _>>()?)
}

pub(super) fn set_registered(connection: &Connection, id: &CubeId, is_registered: bool) -> Result<(), Fault> {
    let n_changed = connection
        .prepare_cached("UPDATE cubes SET is_registered = ?2 WHERE cube_id = ?1")?
        .execute(params![id.as_str(), is_registered])?;
    if n_changed == 0 { Err(not_found("cube", id.as_str())) } else { Ok(()) }
}

pub(super) fn set_config(connection: &Connection, id: &CubeId, config: &Value) -> Result<(), Fault> {
    let n_changed = connection
        .prepare_cached("UPDATE cubes SET config = ?2 WHERE cube_id = ?1")?
        .execute(params![id.as_str(), config.to_string()])?;
    if n_changed == 0 { Err(not_found("cube", id.as_str())) } else { Ok(()) }
}

pub(super) fn delete_cube(connection: &Connection, id: &CubeId, at: &str) -> Result<(), Fault> {
    let key = cube_key(connection, id)?.ok_or_else(|| not_found("cube", id.as_str()))?;
    connection.prepare_cached("DELETE FROM cubes WHERE row_key = ?1")?.execute([key])?;
    erase_scope(connection, &Scope::of(id), at, true)
}

pub(super) fn discard_cube(connection: &Connection, id: &CubeId, at: &str) -> Result<bool, Fault> {
    let is_left_over: bool = connection
        .prepare_cached(
            "SELECT EXISTS (SELECT 1 FROM cubes WHERE cube_id = ?1 AND NOT is_registered)
             AND NOT EXISTS (SELECT 1 FROM nodes JOIN scopes ON scope_key = scope WHERE cube_id = ?1)",
        )?
        .query_row([id.as_str()], |row| row.get(0))?;
    if is_left_over {
        delete_cube(connection, id, at)?;
    }
    Ok(is_left_over)
}

pub(super) fn share(connection: &Connection, id: &CubeId, user: &UserId, access: Access) -> Result<(), Fault> {
    let cube = cube_key(connection, id)?.ok_or_else(|| not_found("cube", id.as_str()))?;
    let user_key = active_user_key(connection, user)?.ok_or_else(|| not_found("user", user.as_str()))?;
    insert_share(connection, cube, user_key, access)
}

/// Shares the cube of the key `cube` with the user of the key `user`.
pub(super) fn insert_share(connection: &Connection, cube: i64, user: i64, access: Access) -> Result<(), Fault> {
    check_share(access)?;
    connection
        .prepare_cached(
            "INSERT INTO shares (cube, user, access) VALUES (?1, ?2, ?3)
             ON CONFLICT (cube, user) DO UPDATE SET access = excluded.access",
        )?
        .execute(params![cube, user, access.as_str()])?;
    Ok(())
}

/// Reads the right in a column of a share.
pub(super) fn read_access(row: &Row<'_>, column: usize) -> rusqlite::Result<Access> {
    let word: String = row.get(column)?;
    Access::parse(&word).ok_or_else(|| {
        rusqlite::Error::FromSqlConversionFailure(
            column,
            rusqlite::types::Type::Text,
            format!("the right `{word}`").into(),
        )
    })
}

pub(super) fn shares(connection: &Connection, id: &CubeId) -> Result<Vec<(UserId, Access)>, Fault> {
    let cube = cube(connection, id)?.ok_or_else(|| not_found("cube", id.as_str()))?;
    let mut statement = connection.prepare_cached(
        "SELECT user_id, shares.access FROM shares
         JOIN users ON users.row_key = shares.user JOIN cubes ON cubes.row_key = shares.cube
         WHERE cube_id = ?1 AND users.row_key <> cubes.owner AND users.is_active ORDER BY user_id COLLATE BINARY",
    )?;
    let rows =
        statement.query_map([id.as_str()], |row| Ok((UserId::new(row.get::<_, String>(0)?), read_access(row, 1)?)))?;
    let mut all = vec![(cube.owner_id, Access::Owner)];
    for row in rows {
        all.push(row?);
    }
    Ok(all)
}

pub(super) fn unshare(connection: &Connection, id: &CubeId, user: &UserId) -> Result<(), Fault> {
    if cube(connection, id)?.is_some_and(|cube| cube.owner_id == *user) {
        return Err(Fault::Store(StoreError::Invalid(format!(
            "`{user}` owns the cube `{id}` and keeps the right to it; delete the cube instead"
        ))));
    }
    connection
        .prepare_cached(
            "DELETE FROM shares WHERE cube = (SELECT row_key FROM cubes WHERE cube_id = ?1)
             AND user = (SELECT row_key FROM users WHERE user_id = ?2)",
        )?
        .execute(params![id.as_str(), user.as_str()])?;
    Ok(())
}

pub(super) fn access(connection: &Connection, user: &UserId, id: &CubeId) -> Result<Option<Access>, Fault> {
    let Some(user_key) = active_user_key(connection, user)? else { return Ok(None) };
    let mut statement = connection.prepare_cached(
        "SELECT CASE WHEN owner = ?2 THEN 'owner'
                ELSE (SELECT access FROM shares WHERE cube = cubes.row_key AND user = ?2) END AS right_of_user
         FROM cubes WHERE cube_id = ?1 AND right_of_user IS NOT NULL",
    )?;
    Ok(statement.query_row(params![id.as_str(), user_key], |row| read_access(row, 0)).optional()?)
}

pub(super) fn standing(connection: &Connection, user_id: &UserId, cube_id: &CubeId) -> Result<Standing, Fault> {
    let (user, cube) = (user(connection, user_id)?, cube(connection, cube_id)?);
    Ok(Standing { user, cube, access: access(connection, user_id, cube_id)? })
}
