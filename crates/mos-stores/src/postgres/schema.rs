//! Tables, and how older ones become today's.

use mos_core::users::ROOT_USER;
use mos_core::{StoreError, UserRole};
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Connection, query, query_scalar, raw_sql};

use super::fault::{BACKEND, Fault, ServerName};

/// The newest format of the tables that this program knows.
pub const USERS_SCHEMA_VERSION: i64 = 3;

/// One step from the version before to `to`.
#[derive(Debug)]
struct Migration {
    to: i64,
    sql: &'static str,
}

/// Every step since the first release, in order. A step that was released is never changed again.
const MIGRATIONS: &[Migration] = &[
    Migration { to: 1, sql: include_str!("schema_v1.sql") },
    Migration { to: 2, sql: include_str!("schema_v2.sql") },
    Migration { to: USERS_SCHEMA_VERSION, sql: include_str!("schema_v3.sql") },
];

/// What tables of MemOS have at least. Tables of these names that lack any of it belong to another program.
const UPSTREAM_COLUMNS: &[(&str, &str)] = &[
    ("users", "user_id"),
    ("users", "user_name"),
    ("users", "role"),
    ("users", "created_at"),
    ("users", "updated_at"),
    ("users", "is_active"),
    ("cubes", "cube_id"),
    ("cubes", "cube_name"),
    ("cubes", "cube_path"),
    ("cubes", "owner_id"),
    ("cubes", "created_at"),
    ("cubes", "updated_at"),
    ("cubes", "is_active"),
    ("user_cube_association", "user_id"),
    ("user_cube_association", "cube_id"),
    ("user_cube_association", "created_at"),
];

/// The oldest server, as servers number themselves: the oldest release that still gets corrections.
const OLDEST_SERVER: i32 = 140_000;

/// Refuses a server that is too old.
async fn check_version(connection: &mut PgConnection, server: &ServerName) -> Result<(), Fault> {
    let number: String = query_scalar("SELECT current_setting('server_version_num')").fetch_one(connection).await?;
    match too_old(&number) {
        false => Ok(()),
        true => Err(Fault::Store(StoreError::Refused {
            backend: BACKEND,
            detail: format!("{server} has version {number}; {OLDEST_SERVER} (14.0) or later is needed"),
        })),
    }
}

/// Servers of other makers that speak the protocol say which version they are like.
fn too_old(number: &str) -> bool {
    number.parse::<i32>().unwrap_or(0) < OLDEST_SERVER
}

/// Makes the schema and the tables, or brings them to the newest version; refuses newer ones. Writes nothing where
/// nothing is to be done, so that a read-only server can be read.
///
/// # Errors
/// [`StoreError::Newer`]; [`StoreError::Invalid`] for another program's tables; what a write can meet.
pub(super) async fn bring_up_to_date(
    connection: &mut PgConnection,
    schema: Option<&str>,
    server: &ServerName,
    now: &str,
) -> Result<(), Fault> {
    check_version(connection, server).await?;
    if let Some(schema) = schema {
        make_schema(connection, schema).await?;
    }
    if is_current(connection, server).await? {
        return Ok(());
    }
    let mut transaction = connection.begin().await?;
    // A null would lock nothing.
    query("SELECT pg_advisory_xact_lock(hashtextextended('mos users ' || coalesce($1, current_schema(), ''), 0))")
        .bind(schema)
        .execute(&mut *transaction)
        .await?;
    // Read again under the lock: another process may have been faster.
    if is_current(&mut transaction, server).await? {
        return Ok(());
    }
    let found = version(&mut transaction).await?;
    if found == 0 {
        refuse_strangers(&mut transaction).await?;
    }
    raw_sql(
        "CREATE TABLE IF NOT EXISTS mos_users_version (
             only_row BOOLEAN PRIMARY KEY DEFAULT true CHECK (only_row),
             version BIGINT NOT NULL
         )",
    )
    .execute(&mut *transaction)
    .await?;
    for step in MIGRATIONS.iter().filter(|step| step.to > found) {
        raw_sql(step.sql).execute(&mut *transaction).await?;
    }
    query(
        "INSERT INTO mos_users_version (version) VALUES ($1)
         ON CONFLICT (only_row) DO UPDATE SET version = excluded.version",
    )
    .bind(USERS_SCHEMA_VERSION)
    .execute(&mut *transaction)
    .await?;
    query(
        "INSERT INTO users (user_id, user_name, role, created_at, updated_at, is_active, created_text)
         VALUES ($1, $1, $2, now() AT TIME ZONE 'UTC', now() AT TIME ZONE 'UTC', true, $3) ON CONFLICT DO NOTHING",
    )
    .bind(ROOT_USER)
    .bind(UserRole::Root.as_str())
    .bind(now)
    .execute(&mut *transaction)
    .await?;
    Ok(transaction.commit().await?)
}

/// Whether there is nothing to do.
async fn is_current(connection: &mut PgConnection, server: &ServerName) -> Result<bool, Fault> {
    let found = version(connection).await?;
    if found > USERS_SCHEMA_VERSION {
        return Err(StoreError::Newer { path: server.to_string(), found, known: USERS_SCHEMA_VERSION }.into());
    }
    if found < USERS_SCHEMA_VERSION {
        return Ok(false);
    }
    Ok(query_scalar("SELECT EXISTS (SELECT 1 FROM users WHERE user_id = $1 OR user_name = $1)")
        .bind(ROOT_USER)
        .fetch_one(connection)
        .await?)
}

/// Returns the version of the tables; 0 where there are none of ours.
pub(super) async fn version(connection: &mut PgConnection) -> Result<i64, Fault> {
    // Not by `to_regclass`: within a transaction it may answer from before the others' tables were made.
    let exists: bool = query_scalar(
        "SELECT EXISTS (SELECT 1 FROM pg_class WHERE relname = 'mos_users_version' AND relkind IN ('r', 'p')
                        AND pg_table_is_visible(oid))",
    )
    .fetch_one(&mut *connection)
    .await?;
    if !exists {
        return Ok(0);
    }
    let version = query_scalar("SELECT version FROM mos_users_version").fetch_optional(connection).await?;
    Ok(version.unwrap_or(0))
}

async fn make_schema(connection: &mut PgConnection, schema: &str) -> Result<(), Fault> {
    let exists: bool = query_scalar("SELECT EXISTS (SELECT 1 FROM pg_namespace WHERE nspname = $1)")
        .bind(schema)
        .fetch_one(&mut *connection)
        .await?;
    if exists {
        return Ok(());
    }
    let mut transaction = connection.begin().await?;
    // Two that make it at once would meet in the server's catalogue, which knows no IF NOT EXISTS.
    query("SELECT pg_advisory_xact_lock(hashtextextended('mos schema ' || $1, 0))")
        .bind(schema)
        .execute(&mut *transaction)
        .await?;
    // The server quotes the name itself.
    let statement: String = query_scalar("SELECT format('CREATE SCHEMA IF NOT EXISTS %I', $1)")
        .bind(schema)
        .fetch_one(&mut *transaction)
        .await?;
    raw_sql(AssertSqlSafe(statement)).execute(&mut *transaction).await?;
    Ok(transaction.commit().await?)
}

async fn refuse_strangers(connection: &mut PgConnection) -> Result<(), Fault> {
    let schema: Option<String> = query_scalar("SELECT current_schema()::text").fetch_one(&mut *connection).await?;
    let Some(schema) = schema else {
        let detail = "the user has no schema to make tables in; set schema_name".to_owned();
        return Err(StoreError::Refused { backend: BACKEND, detail }.into());
    };
    let columns: Vec<(String, String)> = sqlx::query_as(
        "SELECT relname::text, attname::text FROM pg_class JOIN pg_attribute ON attrelid = pg_class.oid
         WHERE relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = current_schema())
         AND relkind IN ('r', 'p', 'v', 'm', 'f') AND relname IN ('users', 'cubes', 'user_cube_association')
         AND attnum > 0 AND NOT attisdropped",
    )
    .fetch_all(connection)
    .await?;
    let has = |table: &str, column: &str| columns.iter().any(|(of, name)| of == table && name == column);
    let exists = |table: &str| columns.iter().any(|(of, _)| of == table);
    let strange = UPSTREAM_COLUMNS.iter().find(|(table, column)| exists(table) && !has(table, column));
    match strange {
        None => Ok(()),
        Some((table, column)) => Err(StoreError::Invalid(format!(
            "the schema `{schema}` has a table `{table}` of another program (it lacks the column `{column}`); set \
             schema_name to a schema of its own"
        ))
        .into()),
    }
}

#[cfg(test)]
mod tests {
    use super::too_old;

    #[test]
    fn old_servers_are_known_by_their_number() {
        assert!(["90624", "100023", "139999", "", "Redshift"].into_iter().all(too_old));
        assert!(!["140000", "150018", "180001"].into_iter().any(too_old));
    }
}
