//! From the driver's errors to errors that say what to do.

use std::fmt;
use std::io::ErrorKind;
use std::time::Duration;

use mos_core::StoreError;

pub(super) const BACKEND: &str = "postgres";

/// What can go wrong, before the server is named.
#[derive(Debug)]
pub(super) enum Fault {
    /// An error of the request, or of the record.
    Store(StoreError),
    /// An error of the driver.
    Sqlx(sqlx::Error),
}

impl From<StoreError> for Fault {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<sqlx::Error> for Fault {
    fn from(error: sqlx::Error) -> Self {
        Self::Sqlx(error)
    }
}

impl Fault {
    /// Whether the server takes no writes, which reading does not need.
    pub(super) fn is_read_only(&self) -> bool {
        let Self::Sqlx(sqlx::Error::Database(error)) = self else { return false };
        error.code().is_some_and(|code| code == READ_ONLY)
    }

    /// Whether the connection went away under the work, so that another one may do it.
    pub(super) fn is_lost_connection(&self) -> bool {
        let Self::Sqlx(error) = self else { return false };
        match error {
            sqlx::Error::Io(error) => !matches!(error.kind(), ErrorKind::ConnectionRefused | ErrorKind::InvalidData),
            sqlx::Error::WorkerCrashed => true,
            sqlx::Error::Database(error) => error.code().is_some_and(|code| is_lost(&code)),
            _ => false,
        }
    }
}

/// The server's word for a transaction that may only read.
const READ_ONLY: &str = "25006";

/// The server ended the connection (a person, a restart, a time limit), or it broke.
fn is_lost(code: &str) -> bool {
    matches!(code, "57P01" | "57P02" | "25P03" | "57P05") || code.starts_with("08")
}

/// The server as people know it; no secrets.
#[derive(Clone, Debug)]
pub(super) struct ServerName {
    /// `HOST:PORT`.
    pub(super) address: String,
    pub(super) database: String,
    pub(super) username: String,
    pub(super) connect_timeout: Duration,
}

impl fmt::Display for ServerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PostgreSQL at {}, database `{}`", self.address, self.database)
    }
}

impl ServerName {
    /// Returns the error for the caller.
    pub(super) fn store_error(&self, fault: Fault) -> StoreError {
        match fault {
            Fault::Store(error) => error,
            Fault::Sqlx(sqlx::Error::Database(error)) => {
                self.database_error(error.code().as_deref().unwrap_or_default(), error.message())
            }
            Fault::Sqlx(error) => self.driver_error(&error),
        }
    }

    fn driver_error(&self, error: &sqlx::Error) -> StoreError {
        match error {
            // Over TCP only certificates and keys are files.
            sqlx::Error::Io(io) if io.kind() == ErrorKind::NotFound && !self.address.starts_with('/') => {
                self.refused(format!("a certificate or key is not there ({io}); correct ssl_root_cert"))
            }
            sqlx::Error::Io(io) if matches!(io.kind(), ErrorKind::ConnectionRefused | ErrorKind::NotFound) => {
                self.unavailable(format!("no server answers: {io}; start it, or correct the host and the port"))
            }
            // What TLS has against the other side.
            sqlx::Error::Io(io) if io.kind() == ErrorKind::InvalidData => {
                self.refused(format!("no TLS connection: {io}; correct ssl_mode and ssl_root_cert"))
            }
            sqlx::Error::Io(io) => self.unavailable(format!("the connection failed: {io}; try again")),
            sqlx::Error::PoolTimedOut => self.unavailable(format!(
                "no connection within {} s: the server does not answer, or all connections are in use; start it, or \
                 raise max_connections",
                self.connect_timeout.as_secs_f64()
            )),
            sqlx::Error::PoolClosed | sqlx::Error::WorkerCrashed => {
                self.unavailable(format!("{error}; open the store again"))
            }
            sqlx::Error::Tls(source) => {
                self.refused(format!("no TLS connection: {source}; correct ssl_mode and ssl_root_cert"))
            }
            sqlx::Error::Configuration(source) => self.refused(format!("{source}; correct the settings")),
            sqlx::Error::Protocol(detail) => self.refused(format!(
                "what answers does not speak PostgreSQL's protocol ({detail}); correct the host and the port"
            )),
            sqlx::Error::Decode(_) | sqlx::Error::ColumnDecode { .. } | sqlx::Error::ColumnNotFound(_) => {
                StoreError::Corrupt {
                    what: self.to_string(),
                    detail: format!("{error}; restore the tables from a backup"),
                }
            }
            other => StoreError::Backend { backend: BACKEND, source: format!("{self}: {other}").into() },
        }
    }

    fn database_error(&self, code: &str, message: &str) -> StoreError {
        let busy = |advice: &str| StoreError::Busy { what: self.to_string(), detail: format!("{message}; {advice}") };
        let storage =
            |advice: &str| StoreError::Storage { path: self.to_string(), detail: format!("{message}; {advice}") };
        match code {
            "28P01" | "28000" => self.refused(format!(
                "the server refuses the user `{}` ({message}); correct the user name and the password in the settings, \
                 or the server's pg_hba.conf",
                self.username
            )),
            "3D000" => self.refused(format!("{message}; make it with `createdb`, or correct its name")),
            "3F000" => self.refused(format!("{message}; correct schema_name")),
            "42501" => self.refused(format!("{message}; grant the right to the user `{}`", self.username)),
            READ_ONLY => storage("the server takes no writes: connect to the one that does, or end its read-only mode"),
            "53100" => storage("free some space on the server's disk, then try again"),
            "53300" => self.unavailable(format!("{message}; raise the server's limit, or lower max_connections")),
            "55P03" | "40P01" | "40001" => busy("try again"),
            "57014" => self.unavailable(format!("{message}; the server is overloaded, try again")),
            "57P03" => self.unavailable(format!("{message}; wait until it has started, then try again")),
            "22021" | "22P05" => StoreError::Invalid(format!(
                "a text holds a character that PostgreSQL cannot keep ({message}); leave the character out"
            )),
            "22001" | "54000" => {
                StoreError::Invalid(format!("a text is too long for PostgreSQL ({message}); shorten it"))
            }
            _ if is_lost(code) => self.unavailable(format!("{message}; try again")),
            _ => StoreError::Backend { backend: BACKEND, source: format!("{self}: {message} ({code})").into() },
        }
    }

    fn unavailable(&self, detail: String) -> StoreError {
        StoreError::Unavailable { backend: BACKEND, source: format!("{self}: {detail}").into() }
    }

    fn refused(&self, detail: String) -> StoreError {
        StoreError::Refused { backend: BACKEND, detail: format!("{self}: {detail}") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_refusal_has_its_reaction() {
        let name = ServerName {
            address: "db:5432".to_owned(),
            database: "memos".to_owned(),
            username: "ann".to_owned(),
            connect_timeout: Duration::from_secs(5),
        };
        let kind = |code: &str| match name.database_error(code, "said the server") {
            StoreError::Refused { .. } => "refused",
            StoreError::Storage { .. } => "storage",
            StoreError::Unavailable { .. } => "unavailable",
            StoreError::Busy { .. } => "busy",
            StoreError::Invalid(_) => "invalid",
            _ => "backend",
        };
        let expected = [
            ("28P01", "refused"),
            ("3D000", "refused"),
            ("42501", "refused"),
            ("25006", "storage"),
            ("53100", "storage"),
            ("53300", "unavailable"),
            ("08006", "unavailable"),
            ("57P01", "unavailable"),
            ("55P03", "busy"),
            ("40P01", "busy"),
            ("22021", "invalid"),
            ("XX000", "backend"),
        ];
        for (code, wanted) in expected {
            assert_eq!(kind(code), wanted, "{code}");
            let error = name.database_error(code, "said the server");
            let text = format!("{error} {:?}", std::error::Error::source(&error));
            assert!(text.contains("said the server"), "{code}: {text}");
        }
        let told = |name: &ServerName, kind: ErrorKind| match name.driver_error(&sqlx::Error::Io(kind.into())) {
            StoreError::Refused { .. } => "refused",
            StoreError::Unavailable { .. } => "unavailable",
            _ => "backend",
        };
        let socket = ServerName { address: "/run/postgresql".to_owned(), ..name.clone() };
        assert_eq!(told(&socket, ErrorKind::NotFound), "unavailable", "the server is down");
        assert_eq!(told(&name, ErrorKind::NotFound), "refused", "the certificate is not there");
        assert_eq!(told(&name, ErrorKind::InvalidData), "refused", "the certificate is not trusted");
        assert_eq!(told(&name, ErrorKind::ConnectionReset), "unavailable");
        let lost = Fault::Sqlx(sqlx::Error::Io(ErrorKind::UnexpectedEof.into()));
        assert!(lost.is_lost_connection());
        assert!(!Fault::Sqlx(sqlx::Error::PoolTimedOut).is_lost_connection());
    }
}
