//! Users, cubes and shares that move to another store or come from one.

use async_trait::async_trait;
use mos_core::{Access, Cube, CubeId, StoreError, User, UserArchive, UserId};
use sqlx::postgres::PgPool;
use sqlx::query;

use super::fault::Fault;
use super::lifecycle::Eligible;
use super::users::{MAX_ATTEMPTS, read_user, unsettled, user_columns};
use super::{PostgresUsers, cubes};
use crate::prepare::other_user;

#[async_trait]
impl UserArchive for PostgresUsers {
    async fn archived_users(&self) -> Result<Vec<User>, StoreError> {
        self.read(|| users(&self.pool)).await
    }

    async fn import_user(&self, user: &User) -> Result<bool, StoreError> {
        self.write(import_user(&self.pool, user)).await
    }

    async fn import_cube(&self, cube: &Cube) -> Result<(), StoreError> {
        self.write(async {
            self.lifecycle().finish_left_over().await?;
            self.lifecycle().create(cube, Eligible::Any).await
        })
        .await
    }

    async fn archived_shares(&self, cube: &CubeId) -> Result<Vec<(UserId, Access)>, StoreError> {
        self.read(|| cubes::shares(&self.pool, cube, Eligible::Any)).await
    }

    async fn import_share(&self, cube: &CubeId, user: &UserId, access: Access) -> Result<(), StoreError> {
        self.write(self.change(cube, || cubes::share(&self.pool, cube, user, access, Eligible::Any))).await
    }
}

async fn users(pool: &PgPool) -> Result<Vec<User>, Fault> {
    let sql = concat!("SELECT ", user_columns!(), " FROM users ORDER BY arrival");
    query(sql).fetch_all(pool).await?.iter().map(read_user).collect()
}

async fn import_user(pool: &PgPool, user: &User) -> Result<bool, Fault> {
    for _ in 0..MAX_ATTEMPTS {
        let sql = concat!("SELECT ", user_columns!(), " FROM users WHERE user_id = $1 OR user_name = $2");
        let rows = query(sql).bind(user.user_id.as_str()).bind(&user.user_name).fetch_all(pool).await?;
        let known = rows.iter().map(read_user).collect::<Result<Vec<User>, Fault>>()?;
        if let Some(error) = known.iter().find_map(|known| other_user(user, known)) {
            return Err(error.into());
        }
        if !known.is_empty() {
            return Ok(false);
        }
        let done = query(
            "INSERT INTO users (user_id, user_name, role, created_at, updated_at, is_active, created_text)
             VALUES ($1, $2, $3, now() AT TIME ZONE 'UTC', now() AT TIME ZONE 'UTC', $4, $5) ON CONFLICT DO NOTHING",
        )
        .bind(user.user_id.as_str())
        .bind(&user.user_name)
        .bind(user.role.as_str())
        .bind(user.is_active)
        .bind(&user.created_at)
        .execute(pool)
        .await?;
        if done.rows_affected() > 0 {
            return Ok(true);
        }
        // Somebody made it between the question and the insertion: the next round finds it.
    }
    Err(unsettled("user", user.user_id.as_str()))
}
