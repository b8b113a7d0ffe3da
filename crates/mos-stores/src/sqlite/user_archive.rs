//! Users, cubes and shares that move to another store or come from one.

use async_trait::async_trait;
use mos_core::{Access, Cube, CubeId, StoreError, User, UserArchive, UserId};
use rusqlite::{Connection, OptionalExtension, params};

use super::SqliteStore;
use super::fault::Fault;
use super::users::{cube_key, insert_cube, insert_share, not_found, read_access, read_user};
use crate::prepare::other_user;

#[async_trait]
impl UserArchive for SqliteStore {
    async fn archived_users(&self) -> Result<Vec<User>, StoreError> {
        self.read(users).await
    }

    async fn import_user(&self, user: &User) -> Result<bool, StoreError> {
        let user = user.clone();
        self.write(move |connection| import_user(connection, &user)).await
    }

    async fn import_cube(&self, cube: &Cube) -> Result<(), StoreError> {
        let cube = cube.clone();
        self.write(move |connection| {
            let owner = user_key(connection, &cube.owner_id)?;
            insert_cube(connection, &cube, owner)
        })
        .await
    }

    async fn archived_shares(&self, cube: &CubeId) -> Result<Vec<(UserId, Access)>, StoreError> {
        let cube = cube.clone();
        self.read(move |connection| shares(connection, &cube)).await
    }

    async fn import_share(&self, cube: &CubeId, user: &UserId, access: Access) -> Result<(), StoreError> {
        let (cube, user) = (cube.clone(), user.clone());
        self.write(move |connection| share(connection, &cube, &user, access)).await
    }
}

fn users(connection: &Connection) -> Result<Vec<User>, Fault> {
    let mut statement = connection
        .prepare_cached("SELECT user_id, user_name, role, created_at, is_active FROM users ORDER BY row_key")?;
    let rows = statement.query_map([], read_user)?;
    Ok(rows.collect::<Result<_, _>>()?)
}

fn import_user(connection: &Connection, user: &User) -> Result<bool, Fault> {
    let known = connection
        .prepare_cached(
            "SELECT user_id, user_name, role, created_at, is_active FROM users WHERE user_id = ?1 OR user_name = ?2",
        )?
        .query_map(params![user.user_id.as_str(), user.user_name], read_user)?
        .collect::<Result<Vec<User>, _>>()?;
    if let Some(error) = known.iter().find_map(|known| other_user(user, known)) {
        return Err(error.into());
    }
    if !known.is_empty() {
        return Ok(false);
    }
    connection
        .prepare_cached(
            "INSERT INTO users (user_id, user_name, role, created_at, is_active) VALUES (?1, ?2, ?3, ?4, ?5)",
        )?
        .execute(params![user.user_id.as_str(), user.user_name, user.role.as_str(), user.created_at, user.is_active])?;
    Ok(true)
}

fn user_key(connection: &Connection, id: &UserId) -> Result<i64, Fault> {
    let mut statement = connection.prepare_cached("SELECT row_key FROM users WHERE user_id = ?1")?;
    let key = statement.query_row([id.as_str()], |row| row.get(0)).optional()?;
    key.ok_or_else(|| not_found("user", id.as_str()))
}

fn shares(connection: &Connection, cube: &CubeId) -> Result<Vec<(UserId, Access)>, Fault> {
    let mut statement = connection.prepare_cached(
        "SELECT user_id, shares.access FROM shares
         JOIN users ON users.row_key = shares.user JOIN cubes ON cubes.row_key = shares.cube
         WHERE cube_id = ?1 AND users.row_key <> cubes.owner ORDER BY user_id COLLATE BINARY",
    )?;
    let rows = statement
        .query_map([cube.as_str()], |row| Ok((UserId::new(row.get::<_, String>(0)?), read_access(row, 1)?)))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

fn share(connection: &Connection, cube: &CubeId, user: &UserId, access: Access) -> Result<(), Fault> {
    let key = cube_key(connection, cube)?.ok_or_else(|| not_found("cube", cube.as_str()))?;
    let user = user_key(connection, user)?;
    insert_share(connection, key, user, access)
}
