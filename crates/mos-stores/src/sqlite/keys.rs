//! Keys in the database.

use async_trait::async_trait;
use jiff::Timestamp;
use mos_core::keys::{MAX_KEYS, MAX_LISTED_KEYS, full_of_keys};
use mos_core::{ApiKey, KeyHash, KeyId, KeyStore, StoreError, UserId};
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::SqliteStore;
use super::fault::Fault;
use super::users::not_found;
use crate::keys::{KeyRow, stored_hash};
use crate::prepare::key_is_taken;

/// Columns that [`read_row`] reads.
macro_rules! key_columns {
    () => {
        "key_id, prefix, user_id, scopes, cubes, description, created_us, last_used_us, expires_us, is_active"
    };
}

fn read_row(row: &Row<'_>) -> rusqlite::Result<KeyRow> {
    Ok(KeyRow {
        id: row.get(0)?,
        prefix: row.get(1)?,
        user: row.get(2)?,
        scopes: row.get(3)?,
        cubes: row.get(4)?,
        description: row.get(5)?,
        created_us: row.get(6)?,
        last_used_us: row.get(7)?,
        expires_us: row.get(8)?,
        is_active: row.get(9)?,
    })
}

fn create(connection: &Connection, row: &KeyRow, hash: &str) -> Result<(), Fault> {
    let is_known: bool = connection
        .prepare_cached("SELECT EXISTS (SELECT 1 FROM api_keys WHERE key_id = ?1 OR hash = ?2)")?
        .query_row(params![row.id, hash], |row| row.get(0))?;
    if is_known {
        return Err(Fault::Store(key_is_taken(&KeyId::new(row.id.as_str()))));
    }
    let n_keys: i64 = connection.prepare_cached("SELECT count(*) FROM api_keys")?.query_row([], |row| row.get(0))?;
    if usize::try_from(n_keys).unwrap_or(usize::MAX) >= MAX_KEYS {
        return Err(Fault::Store(full_of_keys()));
    }
    connection
        .prepare_cached(concat!(
            "INSERT INTO api_keys (hash, ",
            key_columns!(),
            ") VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)"
        ))?
        .execute(params![
            hash,
            row.id,
            row.prefix,
            row.user,
            row.scopes,
            row.cubes,
            row.description,
            row.created_us,
            row.last_used_us,
            row.expires_us,
            row.is_active
        ])?;
    Ok(())
}

fn n_usable(connection: &Connection, at_us: i64) -> Result<usize, Fault> {
    let n: i64 = connection
        .prepare_cached(
            "SELECT count(*) FROM api_keys WHERE is_active = 1 AND (expires_us IS NULL OR expires_us > ?1)",
        )?
        .query_row([at_us], |row| row.get(0))?;
    Ok(usize::try_from(n).unwrap_or(usize::MAX))
}

fn create_first(connection: &Connection, row: &KeyRow, hash: &str) -> Result<bool, Fault> {
    if n_usable(connection, row.created_us)? > 0 {
        return Ok(false);
    }
    create(connection, row, hash)?;
    Ok(true)
}

fn find(connection: &Connection, hash: &str) -> Result<Option<ApiKey>, Fault> {
    let row = connection
        .prepare_cached(concat!("SELECT ", key_columns!(), " FROM api_keys WHERE hash = ?1"))?
        .query_row([hash], read_row)
        .optional()?;
    Ok(row.map(KeyRow::key).transpose()?)
}

fn list(connection: &Connection, user: Option<&str>) -> Result<Vec<ApiKey>, Fault> {
    let sql = concat!(
        "SELECT ",
        key_columns!(),
        " FROM api_keys WHERE ?1 IS NULL OR user_id = ?1 ORDER BY row_key DESC LIMIT ?2"
    );
    let limit = i64::try_from(MAX_LISTED_KEYS).unwrap_or(i64::MAX);
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query(params![user, limit])?;
    let mut keys = Vec::new();
    while let Some(row) = rows.next()? {
        keys.push(read_row(row)?.key()?);
    }
    Ok(keys)
}

fn archived(connection: &Connection) -> Result<Vec<(KeyHash, ApiKey)>, Fault> {
    let sql = concat!("SELECT ", key_columns!(), ", hash FROM api_keys ORDER BY row_key LIMIT ?1");
    let limit = i64::try_from(MAX_KEYS).unwrap_or(i64::MAX);
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query([limit])?;
    let mut keys = Vec::new();
    while let Some(row) = rows.next()? {
        let key = read_row(row)?.key()?;
        let hash: String = row.get("hash")?;
        keys.push((stored_hash(&key, &hash)?, key));
    }
    Ok(keys)
}

fn revoke(connection: &Connection, id: &str) -> Result<ApiKey, Fault> {
    let row = connection
        .prepare_cached(concat!("SELECT ", key_columns!(), " FROM api_keys WHERE key_id = ?1"))?
        .query_row([id], read_row)
        .optional()?;
    let was = row.ok_or_else(|| not_found("key", id))?.key()?;
    connection.prepare_cached("UPDATE api_keys SET is_active = 0 WHERE key_id = ?1")?.execute([id])?;
    Ok(was)
}

fn touch(connection: &Connection, id: &str, at_us: i64) -> Result<(), Fault> {
    connection
        .prepare_cached("UPDATE api_keys SET last_used_us = ?2 WHERE key_id = ?1")?
        .execute(params![id, at_us])?;
    Ok(())
}

fn remove_of(connection: &Connection, user: &str) -> Result<usize, Fault> {
    Ok(connection.prepare_cached("DELETE FROM api_keys WHERE user_id = ?1")?.execute([user])?)
}

#[async_trait]
impl KeyStore for SqliteStore {
    async fn create_key(&self, key: &ApiKey, hash: &KeyHash) -> Result<(), StoreError> {
        key.check()?;
        let (row, hash) = (KeyRow::of(key), hash.hex());
        self.writer.write(move |connection| create(connection, &row, &hash)).await
    }

    async fn create_first_key(&self, key: &ApiKey, hash: &KeyHash) -> Result<bool, StoreError> {
        key.check()?;
        let (row, hash) = (KeyRow::of(key), hash.hex());
        self.writer.write(move |connection| create_first(connection, &row, &hash)).await
    }

    async fn find_key(&self, hash: &KeyHash) -> Result<Option<ApiKey>, StoreError> {
        let hash = hash.hex();
        self.readers.read(move |connection| find(connection, &hash)).await
    }

    async fn list_keys(&self, user: Option<&UserId>) -> Result<Vec<ApiKey>, StoreError> {
        let user = user.map(ToString::to_string);
        self.readers.read(move |connection| list(connection, user.as_deref())).await
    }

    async fn archived_keys(&self) -> Result<Vec<(KeyHash, ApiKey)>, StoreError> {
        self.readers.read(archived).await
    }

    async fn revoke_key(&self, id: &KeyId) -> Result<ApiKey, StoreError> {
        let id = id.to_string();
        self.writer.write(move |connection| revoke(connection, &id)).await
    }

    async fn touch_key(&self, id: &KeyId, at: Timestamp) -> Result<(), StoreError> {
        let (id, at_us) = (id.to_string(), at.as_microsecond());
        self.writer.write(move |connection| touch(connection, &id, at_us)).await
    }

    async fn count_usable_keys(&self, at: Timestamp) -> Result<usize, StoreError> {
        let at_us = at.as_microsecond();
        self.readers.read(move |connection| n_usable(connection, at_us)).await
    }

    async fn remove_keys_of(&self, user: &UserId) -> Result<usize, StoreError> {
        let user = user.to_string();
        self.writer.write(move |connection| remove_of(connection, &user)).await
    }
}
