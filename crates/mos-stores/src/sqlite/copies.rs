//! A copy of the whole database while others write to it, and a database without what was removed from it.

use std::path::Path;
use std::time::{Duration, Instant};

use mos_core::StoreError;
use rusqlite::{Connection, params};

use super::SqliteStore;
use super::fault::{Fault, store_error};

/// How long it is waited before the write-ahead log is carried over again.
const PAUSE: Duration = Duration::from_millis(20);

impl SqliteStore {
    /// Writes the database as it is at one moment to a new file, which is on disk when this returns. Writers go on meanwhile;
    /// whatever was acknowledged before the call is in the copy.
    ///
    /// # Errors
    /// [`StoreError::Storage`] when the file cannot be written, exists already, or the disk is full.
    pub async fn copy_to(&self, file: &Path) -> Result<(), StoreError> {
        let (options, file) = (self.options.clone(), file.to_owned());
        super::blocking(move || {
            let copy = || -> Result<(), Fault> {
                let connection = options.connect()?;
                connection.execute("VACUUM INTO ?1", params![file.to_string_lossy()])?;
                Ok(())
            };
            copy().map_err(|fault| store_error(fault, &options.path))?;
            // SQLite leaves it to others to bring the copy to the disk.
            let synced = std::fs::File::options().write(true).open(&file).and_then(|copy| copy.sync_all());
            synced.map_err(|error| StoreError::Storage { path: file.display().to_string(), detail: error.to_string() })
        })
        .await?
    }

    /// Rewrites the database and its log so that no byte of what was removed stays in them. Takes as much free space on the
    /// disk as the database has.
    ///
    /// # Errors
    /// [`StoreError::Busy`] when another program keeps reading or writing; [`StoreError::Storage`] on a full disk.
    pub async fn compact(&self) -> Result<(), StoreError> {
        // Words of removed memories stand in the full-text index until its parts are joined.
        self.write(|connection| {
            connection.execute("INSERT INTO terms (terms) VALUES ('optimize')", [])?;
            Ok(())
        })
        .await?;
        let options = self.options.clone();
        super::blocking(move || {
            let rewrite = || -> Result<(), Fault> {
                let connection = options.connect()?;
                connection.execute_batch("VACUUM")?;
                empty_log(&connection, options.busy_timeout, &options.path)
            };
            rewrite().map_err(|fault| store_error(fault, &options.path))
        })
        .await?
    }
}

/// Carries the write-ahead log over into the file and cuts it to nothing.
fn empty_log(connection: &Connection, patience: Duration, path: &Path) -> Result<(), Fault> {
    let deadline = Instant::now() + patience;
    loop {
        let is_in_use: i64 = connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0))?;
        if is_in_use == 0 {
            return Ok(());
        }
        if Instant::now() >= deadline {
            return Err(Fault::Store(StoreError::Busy {
                what: path.display().to_string(),
                detail: "another program keeps reading it, so that its log cannot be emptied; end it and try again"
                    .to_owned(),
            }));
        }
        std::thread::sleep(PAUSE);
    }
}
