//! From the driver's errors to errors that say what to do. The driver's texts hold no secrets.

use std::io::ErrorKind;

use mos_core::StoreError;
use neo4rs::{Error, Neo4jClientErrorKind, Neo4jErrorKind};

pub(super) const BACKEND: &str = "neo4j";

/// Why a statement or a transaction did not do what it should.
#[derive(Debug)]
pub(super) enum Fault {
    /// It was refused, for a reason of the caller's.
    Store(StoreError),
    /// The server or the connection failed; nothing was committed.
    Driver(Error),
    /// There was no answer in time; nothing was committed.
    TimedOut(Stage),
    /// The connection was lost after the commit was asked for: it may have happened or not.
    Unknown(String),
}

/// What was waited for in vain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    Connection,
    Answer,
}

impl From<StoreError> for Fault {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Self::Driver(error)
    }
}

impl From<neo4rs::DeError> for Fault {
    fn from(error: neo4rs::DeError) -> Self {
        Self::Driver(Error::DeserializationError(error))
    }
}

impl Fault {
    /// Whether the same work may succeed in a moment. `is_repeatable`: done twice, it does the same as once.
    pub(super) fn may_pass(&self, is_repeatable: bool) -> bool {
        match self {
            Self::Store(_) | Self::TimedOut(_) => false,
            Self::Unknown(_) => is_repeatable,
            Self::Driver(error) => may_pass(error),
        }
    }

    /// Returns the error for the caller.
    pub(super) fn into_store_error(self, address: &str) -> StoreError {
        match self {
            Self::Store(error) => error,
            Self::Driver(error) => store_error(error, address),
            Self::TimedOut(Stage::Connection) => unavailable(format!(
                "there was no connection to {address} in time; check the server and the network, or allow more connections"
            )),
            Self::TimedOut(Stage::Answer) => {
                unavailable(format!("the server at {address} did not answer in time; check its load and its log"))
            }
            Self::Unknown(text) => unavailable(format!(
                "the connection to {address} was lost while a write was being committed ({text}): it may have happened or \
                 not. Read before you repeat it; a write with an idempotency key can simply be repeated"
            )),
        }
    }
}

fn unavailable(text: String) -> StoreError {
    StoreError::Unavailable { backend: BACKEND, source: text.into() }
}

fn may_pass(error: &Error) -> bool {
    match error {
        Error::IOError { .. }
        | Error::ConnectionTimedOut
        | Error::ConnectionError
        | Error::IncompleteBoltExchange
        | Error::Ignored(_)
        | Error::RequestIgnoredError
        | Error::ServerUnavailableError(_) => true,
        Error::Neo4j(error) => matches!(
            error.kind(),
            Neo4jErrorKind::Transient | Neo4jErrorKind::Client(Neo4jClientErrorKind::SessionExpired)
        ),
        _ => false,
    }
}

fn store_error(error: Error, address: &str) -> StoreError {
    match error {
        Error::IOError { detail } if detail.kind() == ErrorKind::ConnectionRefused => unavailable(format!(
            "nothing answers at {address} ({detail}); start the Neo4j server, or correct the address"
        )),
        Error::IOError { detail } if detail.to_string().contains("certificate") => unavailable(format!(
            "the certificate of the server at {address} is not trusted ({detail}); name the file of its authority, or take \
             the name that the certificate is for"
        )),
        Error::IOError { detail } => unavailable(format!(
            "the connection to {address} failed ({detail}); nothing was changed. Check the server and the network"
        )),
        Error::ConnectionTimedOut => {
            unavailable(format!("the server at {address} did not answer in time; check the server and the network"))
        }
        Error::AuthenticationError(text) => unavailable(format!(
            "the server at {address} refuses the user name or password ({text}); correct them in the settings"
        )),
        Error::UnsupportedVersion(..) | Error::ProtocolMismatch(_) => StoreError::Invalid(format!(
            "what answers at {address} does not speak Bolt as Neo4j does ({error}); give the address of the Bolt port, \
             usually 7687"
        )),
        Error::UrlParseError(_) | Error::UnsupportedScheme(_) | Error::InvalidDnsName(_) | Error::InvalidConfig => {
            StoreError::Invalid(format!(
                "the address of the Neo4j server cannot be read ({error}); write it as bolt://host:7687"
            ))
        }
        Error::Neo4j(error) => server_error(error.code(), error.message(), address),
        other => StoreError::Backend { backend: BACKEND, source: format!("the server at {address}: {other}").into() },
    }
}

fn server_error(code: &str, message: &str, address: &str) -> StoreError {
    let short = code.strip_prefix("Neo.").unwrap_or(code);
    match short {
        "ClientError.Database.DatabaseNotFound" => StoreError::Invalid(format!(
            "the server at {address} has no such database ({message}); make it, or correct `db_name` in the settings"
        )),
        "ClientError.General.ForbiddenOnReadOnlyDatabase"
        | "ClientError.General.WriteOnReadOnlyAccessDatabase"
        | "ClientError.Statement.AccessMode"
        | "ClientError.Cluster.NotALeader" => unavailable(format!(
            "the database at {address} is read-only ({message}); make it writable, or give the address of the server that \
             takes writes"
        )),
        _ if short.starts_with("ClientError.Security.") => unavailable(format!(
            "the user of the server at {address} may not do this ({message}); correct the user, or grant it reading, \
             writing and the making of indexes"
        )),
        _ if short.starts_with("TransientError.General.") && short.contains("Memory") => unavailable(format!(
            "the server at {address} has not enough memory for this ({message}); give it more, or write in smaller parts"
        )),
        _ if short.starts_with("TransientError.") => unavailable(format!(
            "the server at {address} could not do it now ({short}: {message}); nothing was changed. Repeat it later"
        )),
        _ => StoreError::Backend {
            backend: BACKEND,
            source: format!("the server at {address} answers {short}: {message}").into(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(error: &StoreError) -> String {
        let cause = std::error::Error::source(error).map(ToString::to_string).unwrap_or_default();
        format!("{error}: {cause}")
    }

    #[test]
    fn errors_of_the_server_say_what_to_do() {
        let cases = [
            ("Neo.ClientError.Database.DatabaseNotFound", "db_name"),
            ("Neo.ClientError.General.ForbiddenOnReadOnlyDatabase", "writable"),
            ("Neo.ClientError.Security.Forbidden", "grant"),
            ("Neo.TransientError.General.MemoryPoolOutOfMemoryError", "smaller parts"),
            ("Neo.TransientError.Transaction.DeadlockDetected", "Repeat it later"),
        ];
        for (code, advice) in cases {
            let shown = text(&server_error(code, "the message", "here:1"));
            assert!(shown.contains(advice) && shown.contains("the message") && shown.contains("here:1"), "{shown}");
        }
        let other = server_error("Neo.DatabaseError.General.UnknownError", "it broke", "here:1");
        assert!(matches!(&other, StoreError::Backend { backend: "neo4j", .. }), "{other}");
        assert!(text(&other).contains("DatabaseError.General.UnknownError"));
    }

    #[test]
    fn only_what_did_not_happen_is_repeated() {
        let lost = || Fault::Driver(std::io::Error::from(ErrorKind::ConnectionReset).into());
        assert!(lost().may_pass(false));
        assert!(!Fault::Unknown(String::new()).may_pass(false));
        assert!(Fault::Unknown(String::new()).may_pass(true));
        assert!(!Fault::Store(StoreError::Invalid(String::new())).may_pass(true));
        assert!(!Fault::TimedOut(Stage::Answer).may_pass(true));
        assert!(!Fault::Driver(Error::AuthenticationError(String::new())).may_pass(true));
    }
}
