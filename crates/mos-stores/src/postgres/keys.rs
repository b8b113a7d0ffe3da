//! Keys in PostgreSQL.

use async_trait::async_trait;
use jiff::Timestamp;
use mos_core::keys::{MAX_KEYS, MAX_LISTED_KEYS, full_of_keys};
use mos_core::{ApiKey, KeyHash, KeyId, KeyStore, StoreError, UserId};
use sqlx::postgres::{PgConnection, PgPool, PgRow};
use sqlx::{Row, query, query_scalar};

use super::PostgresUsers;
use super::fault::Fault;
use super::users::not_found;
use crate::keys::{KeyRow, stored_hash};
use crate::prepare::key_is_taken;

/// Columns that [`read_key`] reads.
macro_rules! key_columns {
    () => {
        "key_id, prefix, user_id, scopes, cubes, description, created_us, last_used_us, expires_us, is_active"
    };
}

fn read_key(row: &PgRow) -> Result<ApiKey, Fault> {
    let row = KeyRow {
        id: row.try_get("key_id")?,
        prefix: row.try_get("prefix")?,
        user: row.try_get("user_id")?,
        scopes: row.try_get("scopes")?,
        cubes: row.try_get("cubes")?,
        description: row.try_get("description")?,
        created_us: row.try_get("created_us")?,
        last_used_us: row.try_get("last_used_us")?,
        expires_us: row.try_get("expires_us")?,
        is_active: row.try_get("is_active")?,
    };
    Ok(row.key()?)
}

async fn n_usable(connection: &mut PgConnection, at_us: i64) -> Result<usize, Fault> {
    let n: i64 =
        query_scalar("SELECT count(*) FROM mos_api_keys WHERE is_active AND (expires_us IS NULL OR expires_us > $1)")
            .bind(at_us)
            .fetch_one(connection)
            .await?;
    Ok(usize::try_from(n).unwrap_or(usize::MAX))
}

/// Returns whether it was kept: not, when only the first one is wanted and there are others.
async fn create(pool: &PgPool, row: &KeyRow, hash: &str, only_first: bool) -> Result<bool, Fault> {
    let mut transaction = pool.begin().await?;
    // Whoever counts is alone, so that there are never too many, nor two first ones.
    query("LOCK TABLE mos_api_keys IN SHARE ROW EXCLUSIVE MODE").execute(&mut *transaction).await?;
    if only_first && n_usable(&mut transaction, row.created_us).await? > 0 {
        return Ok(false);
    }
    let n_keys: i64 = query_scalar("SELECT count(*) FROM mos_api_keys").fetch_one(&mut *transaction).await?;
    if usize::try_from(n_keys).unwrap_or(usize::MAX) >= MAX_KEYS {
        return Err(Fault::Store(full_of_keys()));
    }
    let done = query(concat!(
        "INSERT INTO mos_api_keys (hash, ",
        key_columns!(),
        ") VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) ON CONFLICT DO NOTHING"
    ))
    .bind(hash)
    .bind(row.id.as_str())
    .bind(row.prefix.as_str())
    .bind(row.user.as_deref())
    .bind(row.scopes.as_str())
    .bind(row.cubes.as_deref())
    .bind(row.description.as_deref())
    .bind(row.created_us)
    .bind(row.last_used_us)
    .bind(row.expires_us)
    .bind(row.is_active)
    .execute(&mut *transaction)
    .await?;
    if done.rows_affected() == 0 {
        return Err(Fault::Store(key_is_taken(&KeyId::new(row.id.as_str()))));
    }
    transaction.commit().await?;
    Ok(true)
}

async fn find(pool: &PgPool, hash: &str) -> Result<Option<ApiKey>, Fault> {
    let sql = concat!("SELECT ", key_columns!(), " FROM mos_api_keys WHERE hash = $1");
    query(sql).bind(hash).fetch_optional(pool).await?.as_ref().map(read_key).transpose()
}

async fn list(pool: &PgPool, user: Option<&UserId>) -> Result<Vec<ApiKey>, Fault> {
    let sql = concat!(
        "SELECT ",
        key_columns!(),
        " FROM mos_api_keys WHERE $1::varchar IS NULL OR user_id = $1 ORDER BY row_key DESC LIMIT $2"
    );
    let limit = i64::try_from(MAX_LISTED_KEYS).unwrap_or(i64::MAX);
    let rows = query(sql).bind(user.map(UserId::as_str)).bind(limit).fetch_all(pool).await?;
    rows.iter().map(read_key).collect()
}

async fn archived(pool: &PgPool) -> Result<Vec<(KeyHash, ApiKey)>, Fault> {
    let sql = concat!("SELECT ", key_columns!(), ", hash FROM mos_api_keys ORDER BY row_key LIMIT $1");
    let limit = i64::try_from(MAX_KEYS).unwrap_or(i64::MAX);
    let rows = query(sql).bind(limit).fetch_all(pool).await?;
    rows.iter()
        .map(|row| {
            let (key, hash): (ApiKey, String) = (read_key(row)?, row.try_get("hash")?);
            Ok((stored_hash(&key, &hash)?, key))
        })
        .collect()
}

async fn revoke(pool: &PgPool, id: &KeyId) -> Result<ApiKey, Fault> {
    let sql = concat!("SELECT ", key_columns!(), " FROM mos_api_keys WHERE key_id = $1");
    let row = query(sql).bind(id.as_str()).fetch_optional(pool).await?;
    let was = read_key(&row.ok_or_else(|| not_found("key", id.as_str()))?)?;
    query("UPDATE mos_api_keys SET is_active = false WHERE key_id = $1").bind(id.as_str()).execute(pool).await?;
    Ok(was)
}

async fn touch(pool: &PgPool, id: &KeyId, at_us: i64) -> Result<(), Fault> {
    let sql = "UPDATE mos_api_keys SET last_used_us = $2 WHERE key_id = $1";
    query(sql).bind(id.as_str()).bind(at_us).execute(pool).await?;
    Ok(())
}

async fn count(pool: &PgPool, at_us: i64) -> Result<usize, Fault> {
    let mut connection = pool.acquire().await?;
    n_usable(&mut connection, at_us).await
}

async fn remove_of(pool: &PgPool, user: &UserId) -> Result<usize, Fault> {
    let done = query("DELETE FROM mos_api_keys WHERE user_id = $1").bind(user.as_str()).execute(pool).await?;
    Ok(usize::try_from(done.rows_affected()).unwrap_or(usize::MAX))
}

#[async_trait]
impl KeyStore for PostgresUsers {
    async fn create_key(&self, key: &ApiKey, hash: &KeyHash) -> Result<(), StoreError> {
        key.check()?;
        let row = KeyRow::of(key);
        self.write(create(&self.pool, &row, &hash.hex(), false)).await.map(drop)
    }

    async fn create_first_key(&self, key: &ApiKey, hash: &KeyHash) -> Result<bool, StoreError> {
        key.check()?;
        let row = KeyRow::of(key);
        self.write(create(&self.pool, &row, &hash.hex(), true)).await
    }

    async fn find_key(&self, hash: &KeyHash) -> Result<Option<ApiKey>, StoreError> {
        let hash = hash.hex();
        self.read(|| find(&self.pool, &hash)).await
    }

    async fn list_keys(&self, user: Option<&UserId>) -> Result<Vec<ApiKey>, StoreError> {
        self.read(|| list(&self.pool, user)).await
    }

    async fn archived_keys(&self) -> Result<Vec<(KeyHash, ApiKey)>, StoreError> {
        self.read(|| archived(&self.pool)).await
    }

    async fn revoke_key(&self, id: &KeyId) -> Result<ApiKey, StoreError> {
        self.write(revoke(&self.pool, id)).await
    }

    async fn touch_key(&self, id: &KeyId, at: Timestamp) -> Result<(), StoreError> {
        self.write(touch(&self.pool, id, at.as_microsecond())).await
    }

    async fn count_usable_keys(&self, at: Timestamp) -> Result<usize, StoreError> {
        self.read(|| count(&self.pool, at.as_microsecond())).await
    }

    async fn remove_keys_of(&self, user: &UserId) -> Result<usize, StoreError> {
        self.write(remove_of(&self.pool, user)).await
    }
}
