//! Cubes and shares, as they are read and changed; how cubes come and go is in `lifecycle`.

use mos_core::{Access, Cube, CubeId, Standing, StoreError, UserId};
use serde_json::Value;
use sqlx::postgres::{PgPool, PgRow};
use sqlx::{Row, query, query_scalar};

use super::fault::Fault;
use super::lifecycle::Eligible;
use super::users::{not_found, read_user_made, user_columns};
use crate::prepare::check_share;

/// A cube that is seen.
#[derive(Debug)]
pub(super) struct Seen<T> {
    pub(super) what: T,
    /// The cube's generation when it is asked just now whether the cube may go; whoever sees it settles that first.
    pub(super) discarding: Option<i64>,
}

fn discarding(row: &PgRow) -> Result<Option<i64>, Fault> {
    let is_discarding = row.try_get::<String, _>("phase")? == "discarding";
    Ok(if is_discarding { Some(row.try_get("generation")?) } else { None })
}

/// Columns that [`read_cube`] reads. Cubes that are being made or deleted are seen by nobody.
macro_rules! seen_cubes {
    () => {
        "SELECT cube_id, cube_name, cube_path, owner_id, is_registered, config, phase, generation,
                coalesce(created_text, to_char(created_at, 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"+00:00\"')) AS created
         FROM cubes WHERE is_active AND phase IN ('ready', 'discarding') "
    };
}

/// Newest first, in whatever order the server's language sorts.
macro_rules! newest_first {
    () => {
        " ORDER BY coalesce(created_text, to_char(created_at, 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"+00:00\"'))
          COLLATE \"C\" DESC, arrival DESC"
    };
}

/// What a user has to do with a cube. What is not there is null.
macro_rules! standing {
    () => {
        concat!(
            "SELECT known.user_id, known.user_name, known.role, known.is_active, known.created AS user_created,
                    seen.cube_id, seen.cube_name, seen.cube_path, seen.owner_id, seen.is_registered, seen.config,
                    seen.phase, seen.generation, seen.created,
                    share.user_id IS NOT NULL AS is_shared, share.access AS access
             FROM (VALUES (1)) AS one (number)
             LEFT JOIN (SELECT ",
            user_columns!(),
            " FROM users WHERE user_id = $1 AND is_active) AS known ON true
             LEFT JOIN (",
            seen_cubes!(),
            "AND cube_id = $2) AS seen ON true
             LEFT JOIN user_cube_association AS share
                    ON share.user_id = known.user_id AND share.cube_id = seen.cube_id"
        )
    };
}

fn read_cube(row: &PgRow) -> Result<Seen<Cube>, Fault> {
    let cube_id: String = row.try_get("cube_id")?;
    let config = match row.try_get::<Option<String>, _>("config")? {
        // MemOS keeps configurations elsewhere.
        None => Value::Null,
        Some(text) => serde_json::from_str(&text).map_err(|error| {
            Fault::Store(StoreError::Corrupt {
                what: format!("the configuration of cube `{cube_id}`"),
                detail: format!("{error}; restore the table `cubes` from a backup"),
            })
        })?,
    };
    let what = Cube {
        cube_name: row.try_get("cube_name")?,
        cube_path: row.try_get("cube_path")?,
        owner_id: UserId::new(row.try_get::<String, _>("owner_id")?),
        created_at: row.try_get("created")?,
        is_registered: row.try_get("is_registered")?,
        config,
        cube_id: CubeId::new(cube_id),
    };
    Ok(Seen { what, discarding: discarding(row)? })
}

pub(super) async fn cube(pool: &PgPool, id: &CubeId) -> Result<Option<Seen<Cube>>, Fault> {
    let row = query(concat!(seen_cubes!(), "AND cube_id = $1")).bind(id.as_str()).fetch_optional(pool).await?;
    row.as_ref().map(read_cube).transpose()
}

pub(super) async fn cubes(pool: &PgPool, user: Option<&UserId>) -> Result<Vec<Seen<Cube>>, Fault> {
    let rows = match user {
        None => query(concat!(seen_cubes!(), newest_first!())).fetch_all(pool).await?,
        Some(user) => {
            let sql = concat!(
                seen_cubes!(),
                "AND EXISTS (SELECT 1 FROM users WHERE user_id = $1 AND users.is_active)
                 AND (owner_id = $1 OR EXISTS (SELECT 1 FROM user_cube_association AS share
                                               WHERE share.cube_id = cubes.cube_id AND share.user_id = $1))",
                newest_first!()
            );
            query(sql).bind(user.as_str()).fetch_all(pool).await?
        }
    };
    rows.iter().map(read_cube).collect()
}

pub(super) async fn access(pool: &PgPool, user: &UserId, id: &CubeId) -> Result<Option<Seen<Access>>, Fault> {
    let row = query(
        "SELECT owner_id = $2 AS owns, share.access AS access, phase, generation
         FROM cubes LEFT JOIN user_cube_association AS share
                    ON share.cube_id = cubes.cube_id AND share.user_id = $2
         WHERE cubes.cube_id = $1 AND cubes.is_active AND phase IN ('ready', 'discarding')
         AND EXISTS (SELECT 1 FROM users WHERE users.user_id = $2 AND users.is_active)
         AND (owner_id = $2 OR share.user_id IS NOT NULL)",
    )
    .bind(id.as_str())
    .bind(user.as_str())
    .fetch_optional(pool)
    .await?;
    let Some(row) = row else { return Ok(None) };
    let what = if row.try_get("owns")? { Access::Owner } else { read_access(&row)? };
    Ok(Some(Seen { what, discarding: discarding(&row)? }))
}

/// Returns a user, a cube and the right together, as they are at one moment.
pub(super) async fn standing(pool: &PgPool, user: &UserId, id: &CubeId) -> Result<Seen<Standing>, Fault> {
    let row = query(standing!()).bind(user.as_str()).bind(id.as_str()).fetch_one(pool).await?;
    let is_there = |column: &str| Ok::<_, Fault>(row.try_get::<Option<String>, _>(column)?.is_some());
    let user = if is_there("user_id")? { Some(read_user_made(&row, "user_created")?) } else { None };
    let seen = if is_there("cube_id")? { Some(read_cube(&row)?) } else { None };
    let is_shared: bool = row.try_get("is_shared")?;
    let access = match (&user, &seen) {
        (Some(user), Some(cube)) if cube.what.owner_id == user.user_id => Some(Access::Owner),
        _ if is_shared => Some(read_access(&row)?),
        _ => None,
    };
    let discarding = seen.as_ref().and_then(|cube| cube.discarding);
    Ok(Seen { what: Standing { user, cube: seen.map(|cube| cube.what), access }, discarding })
}

/// Reads the right in the column `access` of a share; where MemOS has written the row, there is none.
fn read_access(row: &PgRow) -> Result<Access, Fault> {
    let Some(word) = row.try_get::<Option<String>, _>("access")? else { return Ok(Access::Member) };
    Access::parse(&word).filter(|access| *access != Access::Owner).ok_or_else(|| {
        Fault::Store(StoreError::Corrupt {
            what: "a share of a cube".to_owned(),
            detail: format!(
                "its right `{word}` is not known; set `access` in `user_cube_association` to reader or member"
            ),
        })
    })
}

/// With whom a cube is shared, without its owner, by id.
pub(super) async fn shares(pool: &PgPool, id: &CubeId, with: Eligible) -> Result<Vec<(UserId, Access)>, Fault> {
    let rows = query(
        "SELECT share.user_id AS user_id, share.access AS access FROM user_cube_association AS share
         JOIN cubes ON cubes.cube_id = share.cube_id JOIN users ON users.user_id = share.user_id
         WHERE share.cube_id = $1 AND share.user_id <> owner_id AND (users.is_active OR $2)
         ORDER BY share.user_id COLLATE \"C\"",
    )
    .bind(id.as_str())
    .bind(with == Eligible::Any)
    .fetch_all(pool)
    .await?;
    rows.iter().map(|row| Ok((UserId::new(row.try_get::<String, _>("user_id")?), read_access(row)?))).collect()
}

/// Returns whether there was a cube to change.
pub(super) async fn set_registered(pool: &PgPool, id: &CubeId, is_registered: bool) -> Result<bool, Fault> {
    let done = query(
        "UPDATE cubes SET is_registered = $2, updated_at = now() AT TIME ZONE 'UTC'
         WHERE cube_id = $1 AND is_active AND phase = 'ready'",
    )
    .bind(id.as_str())
    .bind(is_registered)
    .execute(pool)
    .await?;
    Ok(done.rows_affected() > 0)
}

/// Returns whether there was a cube to change.
pub(super) async fn set_config(pool: &PgPool, id: &CubeId, config: &Value) -> Result<bool, Fault> {
    let done = query(
        "UPDATE cubes SET config = $2, updated_at = now() AT TIME ZONE 'UTC'
         WHERE cube_id = $1 AND is_active AND phase = 'ready'",
    )
    .bind(id.as_str())
    .bind(config.to_string())
    .execute(pool)
    .await?;
    Ok(done.rows_affected() > 0)
}

/// Returns whether there was a cube to share.
pub(super) async fn share(
    pool: &PgPool,
    id: &CubeId,
    user: &UserId,
    access: Access,
    eligible: Eligible,
) -> Result<bool, Fault> {
    check_share(access)?;
    let mut transaction = pool.begin().await?;
    // Both stay as they are until the share stands.
    let cube: Option<i32> =
        query_scalar("SELECT 1 FROM cubes WHERE cube_id = $1 AND is_active AND phase = 'ready' FOR SHARE")
            .bind(id.as_str())
            .fetch_optional(&mut *transaction)
            .await?;
    if cube.is_none() {
        return Ok(false);
    }
    let known: Option<i32> = query_scalar("SELECT 1 FROM users WHERE user_id = $1 AND (is_active OR $2) FOR SHARE")
        .bind(user.as_str())
        .bind(eligible == Eligible::Any)
        .fetch_optional(&mut *transaction)
        .await?;
    if known.is_none() {
        return Err(not_found("user", user.as_str()));
    }
    query(
        "INSERT INTO user_cube_association (user_id, cube_id, created_at, access)
         VALUES ($1, $2, now() AT TIME ZONE 'UTC', $3)
         ON CONFLICT (user_id, cube_id) DO UPDATE SET access = excluded.access",
    )
    .bind(user.as_str())
    .bind(id.as_str())
    .bind(access.as_str())
    .execute(&mut *transaction)
    .await?;
    transaction.commit().await?;
    Ok(true)
}

pub(super) async fn unshare(pool: &PgPool, id: &CubeId, user: &UserId) -> Result<(), Fault> {
    let owned: Option<i32> = query_scalar(
        "SELECT 1 FROM cubes WHERE cube_id = $1 AND owner_id = $2 AND is_active AND phase IN ('ready', 'discarding')",
    )
    .bind(id.as_str())
    .bind(user.as_str())
    .fetch_optional(pool)
    .await?;
    if owned.is_some() {
        return Err(Fault::Store(StoreError::Invalid(format!(
            "`{user}` owns the cube `{id}` and keeps the right to it; delete the cube instead"
        ))));
    }
    query("DELETE FROM user_cube_association WHERE cube_id = $1 AND user_id = $2")
        .bind(id.as_str())
        .bind(user.as_str())
        .execute(pool)
        .await?;
    Ok(())
}
