//! Users.

use mos_core::users::ROOT_USER;
use mos_core::{StoreError, User, UserId, UserRole};
use sqlx::postgres::{PgPool, PgRow};
use sqlx::{Row, query};

use super::fault::Fault;
use crate::prepare::{check_role, name_is_taken, was_deleted};

/// How often a decision is made anew because somebody else changed what it was based on.
pub(super) const MAX_ATTEMPTS: usize = 16;

/// Columns that [`read_user`] reads.
macro_rules! user_columns {
    () => {
        "user_id, user_name, role, is_active,
         coalesce(created_text, to_char(created_at, 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"+00:00\"')) AS created"
    };
}
pub(super) use user_columns;

pub(super) fn not_found(what: &'static str, id: &str) -> Fault {
    Fault::Store(StoreError::NotFound { what, id: id.to_owned() })
}

pub(super) fn unsettled(what: &str, id: &str) -> Fault {
    Fault::Store(StoreError::Busy {
        what: format!("{what} `{id}`"),
        detail: "others change it again and again; try again".to_owned(),
    })
}

pub(super) fn read_user(row: &PgRow) -> Result<User, Fault> {
    read_user_made(row, "created")
}

/// As [`read_user`], where the time has a column of another name.
pub(super) fn read_user_made(row: &PgRow, created: &str) -> Result<User, Fault> {
    let (user_id, role): (String, String) = (row.try_get("user_id")?, row.try_get("role")?);
    let role = UserRole::parse(&role).ok_or_else(|| {
        Fault::Store(StoreError::Corrupt {
            what: format!("user `{user_id}`"),
            detail: format!("its role `{role}` is not known; set it to ROOT, ADMIN, USER or GUEST"),
        })
    })?;
    Ok(User {
        user_id: UserId::new(user_id),
        user_name: row.try_get("user_name")?,
        role,
        created_at: row.try_get(created)?,
        is_active: row.try_get("is_active")?,
    })
}

async fn by_name(pool: &PgPool, name: &str) -> Result<Option<User>, Fault> {
    let sql = concat!("SELECT ", user_columns!(), " FROM users WHERE user_name = $1");
    query(sql).bind(name).fetch_optional(pool).await?.as_ref().map(read_user).transpose()
}

/// Returns a user, deleted or not.
pub(super) async fn by_id(pool: &PgPool, id: &UserId) -> Result<Option<User>, Fault> {
    let sql = concat!("SELECT ", user_columns!(), " FROM users WHERE user_id = $1");
    query(sql).bind(id.as_str()).fetch_optional(pool).await?.as_ref().map(read_user).transpose()
}

/// Returns the new user, `None` when its id or its name is taken by now.
async fn insert(pool: &PgPool, id: &UserId, name: &str, role: UserRole, at: &str) -> Result<Option<User>, Fault> {
    let sql = concat!(
        "INSERT INTO users (user_id, user_name, role, created_at, updated_at, is_active, created_text)
         VALUES ($1, $2, $3, now() AT TIME ZONE 'UTC', now() AT TIME ZONE 'UTC', true, $4)
         ON CONFLICT DO NOTHING RETURNING ",
        user_columns!()
    );
    let row = query(sql).bind(id.as_str()).bind(name).bind(role.as_str()).bind(at).fetch_optional(pool).await?;
    row.as_ref().map(read_user).transpose()
}

/// A deleted user that is created again has its cubes back. Returns `None` when it is not deleted any more.
async fn reactivate(pool: &PgPool, user: &User, role: UserRole) -> Result<Option<User>, Fault> {
    let sql = concat!(
        "UPDATE users SET is_active = true, role = $2, updated_at = now() AT TIME ZONE 'UTC'
         WHERE user_id = $1 AND NOT is_active RETURNING ",
        user_columns!()
    );
    let row = query(sql).bind(user.user_id.as_str()).bind(role.as_str()).fetch_optional(pool).await?;
    row.as_ref().map(read_user).transpose()
}

pub(super) async fn create(pool: &PgPool, id: &UserId, name: &str, role: UserRole, at: &str) -> Result<User, Fault> {
    for _ in 0..MAX_ATTEMPTS {
        match by_name(pool, name).await? {
            Some(user) if user.is_active => return Ok(user),
            Some(user) if user.user_id != *id => {
                return Err(Fault::Store(StoreError::Conflict(format!(
                    "the name `{name}` belongs to the deleted user `{}`; create that id again, or choose another name",
                    user.user_id
                ))));
            }
            Some(user) => {
                if let Some(user) = reactivate(pool, &user, role).await? {
                    return Ok(user);
                }
                continue;
            }
            None => {}
        }
        if let Some(user) = insert(pool, id, name, role, at).await? {
            return Ok(user);
        }
        if let Some(other) = by_id(pool, id).await?.filter(|other| other.user_name != name) {
            return Err(Fault::Store(StoreError::Conflict(format!(
                "the user id `{id}` belongs to a user named `{}`; choose another id",
                other.user_name
            ))));
        }
        // Somebody made it between the question and the insertion: the next round finds it.
    }
    Err(unsettled("user", id.as_str()))
}

pub(super) async fn ensure(pool: &PgPool, id: &UserId, at: &str) -> Result<User, Fault> {
    for _ in 0..MAX_ATTEMPTS {
        match by_id(pool, id).await? {
            Some(user) if user.is_active => return Ok(user),
            Some(user) => return Err(Fault::Store(was_deleted(&user))),
            None => {}
        }
        if let Some(user) = insert(pool, id, id.as_str(), UserRole::User, at).await? {
            return Ok(user);
        }
        if let Some(other) = by_name(pool, id.as_str()).await?.filter(|other| other.user_id != *id) {
            return Err(Fault::Store(name_is_taken(id, &other)));
        }
    }
    Err(unsettled("user", id.as_str()))
}

pub(super) async fn user(pool: &PgPool, id: &UserId) -> Result<Option<User>, Fault> {
    Ok(by_id(pool, id).await?.filter(|user| user.is_active))
}

pub(super) async fn users(pool: &PgPool) -> Result<Vec<User>, Fault> {
    let sql = concat!("SELECT ", user_columns!(), " FROM users WHERE is_active ORDER BY arrival");
    query(sql).fetch_all(pool).await?.iter().map(read_user).collect()
}

pub(super) async fn delete(pool: &PgPool, id: &UserId) -> Result<(), Fault> {
    if id.as_str() == ROOT_USER {
        return Err(Fault::Store(StoreError::Invalid(format!("the user `{ROOT_USER}` cannot be deleted"))));
    }
    let done = query("UPDATE users SET is_active = false, updated_at = now() AT TIME ZONE 'UTC' WHERE user_id = $1")
        .bind(id.as_str())
        .execute(pool)
        .await?;
    if done.rows_affected() == 0 { Err(not_found("user", id.as_str())) } else { Ok(()) }
}

/// Removes a user for good, with its shares. Its cubes must be gone: the database refuses otherwise.
pub(super) async fn erase(pool: &PgPool, id: &UserId) -> Result<(), Fault> {
    if id.as_str() == ROOT_USER {
        return Err(Fault::Store(StoreError::Invalid(format!("the user `{ROOT_USER}` cannot be erased"))));
    }
    let owned =
        query("SELECT count(*) AS n_cubes FROM cubes WHERE owner_id = $1").bind(id.as_str()).fetch_one(pool).await?;
    let n_cubes: i64 = owned.try_get("n_cubes")?;
    if n_cubes > 0 {
        return Err(Fault::Store(StoreError::Conflict(format!(
            "the user `{id}` still owns {n_cubes} cubes; delete them first"
        ))));
    }
    // One statement is one transaction. The first part is done whether or not the second uses it.
    let done = query(
        "WITH shares AS (DELETE FROM user_cube_association WHERE user_id = $1)
         DELETE FROM users WHERE user_id = $1",
    )
    .bind(id.as_str())
    .execute(pool)
    .await?;
    if done.rows_affected() == 0 { Err(not_found("user", id.as_str())) } else { Ok(()) }
}

pub(super) async fn set_role(pool: &PgPool, id: &UserId, role: UserRole) -> Result<User, Fault> {
    check_role(id, role)?;
    query("UPDATE users SET role = $2, updated_at = now() AT TIME ZONE 'UTC' WHERE user_id = $1 AND is_active")
        .bind(id.as_str())
        .bind(role.as_str())
        .execute(pool)
        .await?;
    user(pool, id).await?.ok_or_else(|| not_found("user", id.as_str()))
}
