//! Tables, and how older ones become today's.

use std::path::Path;

use mos_core::users::ROOT_USER;
use mos_core::{StoreError, UserRole};
use rusqlite::{Connection, TransactionBehavior, params};

use super::fault::{Fault, store_error};

/// The newest format of the database this program knows; it is kept in the file's `user_version`.
pub const SCHEMA_VERSION: i64 = 11;

/// One step from the version before to `to`.
#[derive(Debug)]
pub(super) struct Migration {
    pub(super) to: i64,
    pub(super) sql: &'static str,
}

/// Every step since the first release, in order. A step that was released is never changed again.
pub(super) const MIGRATIONS: &[Migration] = &[
    Migration { to: 1, sql: include_str!("schema_v1.sql") },
    Migration { to: 2, sql: include_str!("schema_v2.sql") },
    Migration { to: 3, sql: include_str!("schema_v3.sql") },
    Migration { to: 4, sql: include_str!("schema_v4.sql") },
    Migration { to: 5, sql: include_str!("schema_v5.sql") },
    Migration { to: 6, sql: include_str!("schema_v6.sql") },
    Migration { to: 7, sql: include_str!("schema_v7.sql") },
    Migration { to: 8, sql: include_str!("schema_v8.sql") },
    Migration { to: 9, sql: include_str!("schema_v9.sql") },
    Migration { to: 10, sql: include_str!("schema_v10.sql") },
    Migration { to: 11, sql: include_str!("schema_v11.sql") },
];

/// Brings the database to the newest version: makes a new one, copies an older one aside and migrates it, refuses a
/// newer one.
///
/// # Errors
/// [`StoreError::Newer`], [`StoreError::Invalid`] for another program's database, and what a write can meet.
pub(super) fn bring_up_to_date(
    connection: &mut Connection,
    path: &Path,
    migrations: &[Migration],
    now: &str,
) -> Result<(), StoreError> {
    let fail = |fault: Fault| store_error(fault, path);
    let known = migrations.last().map_or(0, |last| last.to);
    let found = version(connection).map_err(fail)?;
    if found > known {
        return Err(StoreError::Newer { path: path.display().to_string(), found, known });
    }
    if found == known {
        return Ok(());
    }
    if found == 0 {
        refuse_strangers(connection, path)?;
    } else {
        back_up(connection, path, found).map_err(fail)?;
    }
    migrate(connection, migrations, now).map_err(fail)
}

/// Returns the version in the file; 0 for a new one.
pub(super) fn version(connection: &Connection) -> Result<i64, Fault> {
    Ok(connection.query_row("PRAGMA user_version", [], |row| row.get(0))?)
}

fn refuse_strangers(connection: &Connection, path: &Path) -> Result<(), StoreError> {
    let n_tables: i64 = connection
        .query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))
        .map_err(|error| store_error(error.into(), path))?;
    // Another process may have made the tables since the version was read.
    let found = version(connection).map_err(|fault| store_error(fault, path))?;
    if n_tables > 0 && found == 0 {
        return Err(StoreError::Invalid(format!(
            "{} is a database of another program; choose another data directory, or move the file away",
            path.display()
        )));
    }
    Ok(())
}

/// Writes a copy of the database beside it, named with its version.
fn back_up(connection: &Connection, path: &Path, found: i64) -> Result<(), Fault> {
    let name = |attempt: u32| {
        let mut name = path.as_os_str().to_owned();
        name.push(match attempt {
            0 => format!(".v{found}.backup"),
            _ => format!(".v{found}.backup.{attempt}"),
        });
        std::path::PathBuf::from(name)
    };
    let free = (0..1000).map(name).find(|copy| !copy.exists());
    let Some(copy) = free else {
        return Err(Fault::Store(StoreError::Storage {
            path: name(0).display().to_string(),
            detail: "there are a thousand backups of this version already; move them away".to_owned(),
        }));
    };
    connection.execute("VACUUM INTO ?1", params![copy.to_string_lossy()])?;
    tracing::info!(from = found, copy = %copy.display(), "copied the database before bringing it up to date");
    Ok(())
}

/// All steps happen in one transaction: a crash leaves the old version.
fn migrate(connection: &mut Connection, migrations: &[Migration], now: &str) -> Result<(), Fault> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Exclusive)?;
    // Read again under the lock: another process may have been faster.
    let found = version(&transaction)?;
    for step in migrations.iter().filter(|step| step.to > found) {
        transaction.execute_batch(step.sql)?;
        transaction.pragma_update(None, "user_version", step.to)?;
    }
    transaction.execute(
        "INSERT OR IGNORE INTO users (user_id, user_name, role, created_at, is_active) VALUES (?1, ?1, ?2, ?3, 1)",
        params![ROOT_USER, UserRole::Root.as_str(), now],
    )?;
    transaction.commit()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: &[Migration] = &[Migration { to: 1, sql: include_str!("schema_v1.sql") }];
    const NEXT: &[Migration] = &[
        Migration { to: 1, sql: include_str!("schema_v1.sql") },
        Migration { to: 2, sql: "ALTER TABLE nodes ADD COLUMN colour TEXT NOT NULL DEFAULT 'blue';" },
    ];
    const BROKEN: &[Migration] = &[
        Migration { to: 1, sql: include_str!("schema_v1.sql") },
        Migration { to: 2, sql: "ALTER TABLE nodes ADD COLUMN colour TEXT; SELECT * FROM nowhere;" },
    ];

    fn open(path: &Path, migrations: &[Migration]) -> Result<Connection, StoreError> {
        let mut connection = Connection::open(path).unwrap();
        bring_up_to_date(&mut connection, path, migrations, "now")?;
        Ok(connection)
    }

    #[test]
    fn an_older_database_is_copied_and_migrated() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("mos.db");
        drop(open(&path, FIRST).unwrap());
        let connection = open(&path, NEXT).unwrap();
        assert_eq!(version(&connection).unwrap(), 2);
        assert!(connection.prepare("SELECT colour FROM nodes").is_ok());
        let copy = Connection::open(folder.path().join("mos.db.v1.backup")).unwrap();
        assert_eq!(version(&copy).unwrap(), 1);
        let roots: i64 = copy.query_row("SELECT count(*) FROM users", [], |row| row.get(0)).unwrap();
        assert_eq!(roots, 1);
    }

    #[test]
    fn a_failed_migration_leaves_the_old_version() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("mos.db");
        drop(open(&path, FIRST).unwrap());
        assert!(open(&path, BROKEN).is_err());
        let connection = open(&path, FIRST).unwrap();
        assert!(connection.prepare("SELECT colour FROM nodes").is_err());
        drop(open(&path, NEXT).unwrap());
        assert!(folder.path().join("mos.db.v1.backup.1").exists(), "the second try has its own copy");
    }

    #[test]
    fn a_newer_database_is_refused_unchanged() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("mos.db");
        drop(open(&path, NEXT).unwrap());
        let error = open(&path, FIRST).unwrap_err();
        assert!(matches!(error, StoreError::Newer { found: 2, known: 1, .. }), "{error}");
    }

    #[test]
    fn another_programs_database_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("mos.db");
        Connection::open(&path).unwrap().execute_batch("CREATE TABLE photos (name TEXT)").unwrap();
        assert!(matches!(open(&path, FIRST), Err(StoreError::Invalid(_))));
    }
}
