//! From the driver's errors to errors that say what to do.

use std::path::Path;

use mos_core::StoreError;
use rusqlite::ErrorCode;

pub(super) const BACKEND: &str = "sqlite";

/// What can go wrong inside a transaction, before the file is named.
#[derive(Debug)]
pub(super) enum Fault {
    /// An error of the request.
    Store(StoreError),
    /// An error of the driver.
    Sqlite(rusqlite::Error),
}

impl From<StoreError> for Fault {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<rusqlite::Error> for Fault {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

/// Returns the error for the caller.
pub(super) fn store_error(fault: Fault, path: &Path) -> StoreError {
    match fault {
        Fault::Store(error) => error,
        Fault::Sqlite(error) => driver_error(&error, path),
    }
}

/// Returns the error for a caller whose request shared a transaction with the one that failed.
pub(super) fn driver_error(error: &rusqlite::Error, path: &Path) -> StoreError {
    let shown = path.display().to_string();
    let storage = |advice: &str| StoreError::Storage { path: shown.clone(), detail: format!("{error}; {advice}") };
    let rusqlite::Error::SqliteFailure(failure, _) = error else {
        return StoreError::Backend { backend: BACKEND, source: error.to_string().into() };
    };
    match failure.code {
        ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked | ErrorCode::FileLockingProtocolFailed => {
            StoreError::Busy {
                what: shown,
                detail: format!("{error}; wait until it is done or end it, then try again"),
            }
        }
        ErrorCode::DiskFull => storage("free some space on this disk, then try again"),
        ErrorCode::ReadOnly | ErrorCode::PermissionDenied => {
            storage("make the file and its folder writable for this user, or choose another data directory")
        }
        ErrorCode::CannotOpen => {
            storage("check that its folder exists and is writable for this user, or choose another data directory")
        }
        ErrorCode::SystemIoFailure => storage("check the disk's health, free space and mount, then try again"),
        ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase => StoreError::Corrupt {
            what: shown,
            detail: format!("{error}; run `mos doctor`, and restore the file from a backup if it cannot be read"),
        },
        ErrorCode::OutOfMemory => StoreError::Unavailable { backend: BACKEND, source: error.to_string().into() },
        _ => StoreError::Backend { backend: BACKEND, source: error.to_string().into() },
    }
}
