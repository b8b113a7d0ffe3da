//! From the driver's errors to errors that say what to do. The driver's texts hold no secrets.

use mos_core::StoreError;
use redis::{ErrorKind, RedisError, ServerErrorKind};

pub(super) const BACKEND: &str = "redis";

fn unavailable(text: String) -> StoreError {
    StoreError::Unavailable { backend: BACKEND, source: text.into() }
}

/// Returns the error for the caller.
pub(super) fn store_error(error: &RedisError, address: &str) -> StoreError {
    let code = error.code().unwrap_or_default();
    match (error.kind(), code) {
        (ErrorKind::AuthenticationFailed, _) | (_, "NOAUTH" | "WRONGPASS") => unavailable(format!(
            "the server at {address} refuses the user name or password; correct them in the settings"
        )),
        (ErrorKind::Server(ServerErrorKind::ReadOnly), _) => unavailable(format!(
            "the server at {address} is a read-only copy; give the address of the one that takes writes"
        )),
        (ErrorKind::Server(ServerErrorKind::BusyLoading), _) => {
            unavailable(format!("the server at {address} is still loading its data; wait a moment"))
        }
        (ErrorKind::Server(ServerErrorKind::NoPerm), _) => unavailable(format!(
            "the user of the server at {address} may not run the queue's commands ({error}); allow it scripts, streams \
             and sorted sets"
        )),
        (_, "OOM") => unavailable(format!(
            "the memory of the server at {address} is full; raise `maxmemory`, or wait until jobs are done"
        )),
        (_, "MISCONF") => unavailable(format!(
            "the server at {address} cannot write its data to disk and takes no writes; check its disk and its log"
        )),
        (_, "BUSY") => unavailable(format!("the server at {address} is busy with a long script; wait a moment")),
        (ErrorKind::Io, _) => unavailable(connection_failure(error, address)),
        _ => StoreError::Backend { backend: BACKEND, source: format!("the server at {address}: {error}").into() },
    }
}

fn connection_failure(error: &RedisError, address: &str) -> String {
    if error.is_connection_refusal() {
        format!("nothing answers at {address} ({error}); start the server, or correct the address")
    } else if error.is_timeout() {
        format!("the server at {address} did not answer in time; check the server and the network")
    } else {
        format!("the connection to {address} failed ({error}); check the server and the network")
    }
}

/// Whether the same call may succeed in a moment.
pub(super) fn may_pass(error: &RedisError) -> bool {
    match error.kind() {
        ErrorKind::Io => true,
        ErrorKind::Server(kind) => {
            matches!(kind, ServerErrorKind::BusyLoading | ServerErrorKind::TryAgain | ServerErrorKind::MasterDown)
        }
        _ => false,
    }
}
