//! Where the server is, and how connections to it are made.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use mos_core::StoreError;
use sqlx::postgres::{PgConnectOptions, PgSslMode};
use sqlx::{ConnectOptions, Connection};

use super::fault::ServerName;

/// What every connection asks of the server unless the address says otherwise: a statement, a wait for a lock and an
/// idle transaction end by themselves, so that a program that hangs holds nobody up for ever.
const LIMITS: [(&str, &str); 3] =
    [("statement_timeout", "30s"), ("lock_timeout", "10s"), ("idle_in_transaction_session_timeout", "60s")];

/// The longest name of a schema that the server does not cut.
const MAX_SCHEMA_BYTES: usize = 63;

/// How far a connection is protected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SslMode {
    /// Never by TLS.
    Disable,
    /// By TLS when the server has it; its certificate is not checked.
    #[default]
    Prefer,
    /// By TLS; the certificate is not checked.
    Require,
    /// By TLS, and the certificate must come from a known authority.
    VerifyCa,
    /// As `VerifyCa`, and the certificate must be the host's.
    VerifyFull,
}

impl From<SslMode> for PgSslMode {
    fn from(mode: SslMode) -> Self {
        match mode {
            SslMode::Disable => Self::Disable,
            SslMode::Prefer => Self::Prefer,
            SslMode::Require => Self::Require,
            SslMode::VerifyCa => Self::VerifyCa,
            SslMode::VerifyFull => Self::VerifyFull,
        }
    }
}

/// The address of a server. `Debug` shows no password.
#[derive(Clone)]
pub enum PostgresServer {
    /// `postgres://USER:PASSWORD@HOST:PORT/DATABASE`, with libpq's parameters after a `?`.
    Url(String),
    /// The parts of the address.
    Parts {
        /// Host, or the folder of its socket.
        host: String,
        /// Port.
        port: u16,
        /// User.
        username: String,
        /// Password of the user; empty for the one in `PGPASSWORD` or `~/.pgpass`, or none.
        password: String,
        /// Database.
        database: String,
        /// How far the connection is protected; `None` for what `PGSSLMODE` says, else [`SslMode::Prefer`].
        ssl_mode: Option<SslMode>,
        /// Certificates of the authorities that are trusted; `None` for the system's.
        ssl_root_cert: Option<PathBuf>,
    },
}

impl fmt::Debug for PostgresServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Url(_) => f.write_str("Url(********)"),
            Self::Parts { host, port, username, database, ssl_mode, ssl_root_cert, password: _ } => f
                .debug_struct("Parts")
                .field("host", host)
                .field("port", port)
                .field("username", username)
                .field("database", database)
                .field("ssl_mode", ssl_mode)
                .field("ssl_root_cert", ssl_root_cert)
                .finish_non_exhaustive(),
        }
    }
}

/// Where users are kept, and how many connections that may take.
#[derive(Clone, Debug)]
pub struct PostgresOptions {
    /// The server.
    pub server: PostgresServer,
    /// The schema of the tables, made when it is missing: small letters, digits and `_`. `None` for the one that the
    /// server gives to this user (mostly `public`).
    pub schema: Option<String>,
    /// The most connections.
    pub max_connections: u32,
    /// How long a call waits for a connection before it is [`StoreError::Unavailable`].
    pub connect_timeout: Duration,
}

impl PostgresOptions {
    /// Returns the default options for a server.
    pub fn new(server: PostgresServer) -> Self {
        Self { server, schema: None, max_connections: 10, connect_timeout: Duration::from_secs(5) }
    }

    /// Returns the driver's options, and the name of the server for errors.
    ///
    /// # Errors
    /// [`StoreError::Invalid`] for an address or a schema that cannot be one.
    pub(super) fn connect_options(&self) -> Result<(PgConnectOptions, ServerName), StoreError> {
        let mut options = self.server_options()?.disable_statement_logging();
        if options.get_application_name().is_none() {
            options = options.application_name("mos");
        }
        let given = options.get_options().unwrap_or_default().to_owned();
        options = options.options(LIMITS.into_iter().filter(|(key, _)| !is_set(&given, key)));
        if let Some(schema) = &self.schema {
            check_schema(schema)?;
            options = options.options([("search_path", schema)]);
        }
        let name = ServerName {
            address: match options.get_socket() {
                Some(folder) => folder.display().to_string(),
                None => format!("{}:{}", options.get_host(), options.get_port()),
            },
            database: options.get_database().unwrap_or(options.get_username()).to_owned(),
            username: options.get_username().to_owned(),
            connect_timeout: self.connect_timeout,
        };
        Ok((options, name))
    }

    fn server_options(&self) -> Result<PgConnectOptions, StoreError> {
        match &self.server {
            PostgresServer::Url(url) => read_url(url),
            PostgresServer::Parts { host, port, username, password, database, ssl_mode, ssl_root_cert } => {
                // As a url, so that the driver looks a missing password up for this server and user.
                let [host, username, database] = [host, username, database].map(|part| percent_encoded(part));
                let mut options =
                    read_url(&format!("postgres:///?host={host}&port={port}&user={username}&dbname={database}"))?;
                if let Some(mode) = ssl_mode {
                    options = options.ssl_mode((*mode).into());
                }
                if !password.is_empty() {
                    options = options.password(password);
                }
                if let Some(path) = ssl_root_cert {
                    options = options.ssl_root_cert(path);
                }
                Ok(options)
            }
        }
    }
}

/// Whether options of a connection (`-c KEY=VALUE`, `-cKEY=VALUE`, `--KEY=VALUE`) set a key.
fn is_set(options: &str, key: &str) -> bool {
    options.split_whitespace().any(|word| {
        let word = word.strip_prefix("--").or_else(|| word.strip_prefix("-c")).unwrap_or(word);
        word.strip_prefix(key).is_some_and(|rest| rest.starts_with('='))
    })
}

fn read_url(url: &str) -> Result<PgConnectOptions, StoreError> {
    // What is wrong is told without the url: it holds the password.
    let invalid = |detail: String| {
        StoreError::Invalid(format!(
            "the url of PostgreSQL cannot be used: {detail}; write postgres://USER:PASSWORD@HOST:PORT/DATABASE, with \
             special characters of the password percent-encoded"
        ))
    };
    if !["postgres://", "postgresql://"].iter().any(|scheme| url.starts_with(scheme)) {
        return Err(invalid("it does not begin with postgres://".to_owned()));
    }
    // The driver passes over what it does not know, and a misspelt `sslmode` would leave a connection unprotected.
    if url.split_once('?').is_some_and(|(_, parameters)| !parameters.split('&').all(is_known_parameter)) {
        let known = PARAMETERS.join(", ");
        return Err(invalid(format!("a parameter after the `?` is not known (known: {known}, options[NAME])")));
    }
    let options: PgConnectOptions = url.parse().map_err(|error: sqlx::Error| invalid(error.to_string()))?;
    if matches!(options.get_ssl_mode(), PgSslMode::Allow) {
        // The driver would never try TLS.
        return Err(invalid("sslmode `allow` is not known; take `prefer`, `require` or `verify-full`".to_owned()));
    }
    Ok(options)
}

/// What may stand after the `?` of a url.
const PARAMETERS: [&str; 13] = [
    "application_name",
    "dbname",
    "host",
    "hostaddr",
    "options",
    "password",
    "port",
    "sslcert",
    "sslkey",
    "sslmode",
    "sslrootcert",
    "statement-cache-capacity",
    "user",
];

fn is_known_parameter(parameter: &str) -> bool {
    let key = parameter.split('=').next().unwrap_or_default();
    let is_option = ["options[", "options%5B", "options%5b"].iter().any(|begin| key.starts_with(begin));
    key.is_empty() || is_option || PARAMETERS.contains(&key)
}

/// Returns a text as it may stand in a url.
fn percent_encoded(text: &str) -> String {
    text.bytes().fold(String::new(), |mut encoded, byte| {
        if byte.is_ascii_alphanumeric() {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
        encoded
    })
}

/// A schema that needs no quoting means the same wherever it is written.
fn check_schema(schema: &str) -> Result<(), StoreError> {
    let starts_well = schema.starts_with(|first: char| first.is_ascii_lowercase() || first == '_');
    let is_plain = |one: char| one.is_ascii_lowercase() || one.is_ascii_digit() || one == '_';
    if starts_well && schema.chars().all(is_plain) && schema.len() <= MAX_SCHEMA_BYTES && !schema.starts_with("pg_") {
        return Ok(());
    }
    Err(StoreError::Invalid(format!(
        "`{schema}` cannot be the name of a schema: use small letters, digits and `_`, at most {MAX_SCHEMA_BYTES} of \
         them, not beginning with a digit or `pg_`"
    )))
}

/// Connects once, apart from the pool: the pool waits for a server that is down and forgets why it did.
pub(super) async fn try_to_connect(options: &PgConnectOptions, timeout: Duration) -> Result<(), sqlx::Error> {
    match tokio::time::timeout(timeout, options.connect()).await {
        Ok(connected) => connected?.close().await,
        Err(_) => Err(sqlx::Error::PoolTimedOut),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(url: &str) -> PostgresOptions {
        PostgresOptions::new(PostgresServer::Url(url.to_owned()))
    }

    #[test]
    fn addresses_are_read_and_never_shown_with_their_password() {
        let options = PostgresOptions {
            schema: Some("mos_users".to_owned()),
            ..at("postgres://ann:geheim%40@db:5433/memos?application_name=x")
        };
        assert!(!format!("{options:?}").contains("geheim"));
        let (driver, name) = options.connect_options().unwrap();
        assert_eq!(name.to_string(), "PostgreSQL at db:5433, database `memos`");
        assert_eq!((driver.get_username(), driver.get_application_name()), ("ann", Some("x")));
        let asked = driver.get_options().unwrap();
        assert!(asked.contains("search_path=mos_users") && asked.contains("lock_timeout=10s"), "{asked}");
        let parts = PostgresServer::Parts {
            host: "db".to_owned(),
            port: 1,
            username: "ann".to_owned(),
            password: "geheim".to_owned(),
            database: "memos".to_owned(),
            ssl_mode: Some(SslMode::VerifyFull),
            ssl_root_cert: None,
        };
        assert!(!format!("{parts:?}").contains("geheim"));
    }

    #[test]
    fn parts_of_an_address_may_hold_any_character() {
        for (host, shown) in [("db", "db:5433"), ("::1", "::1:5433"), ("/run/my sockets", "/run/my sockets")] {
            let parts = PostgresServer::Parts {
                host: host.to_owned(),
                port: 5433,
                username: "ann & bob@home/é".to_owned(),
                password: "?&#@/%41".to_owned(),
                database: "what? a=b+c#1".to_owned(),
                ssl_mode: Some(SslMode::VerifyCa),
                ssl_root_cert: None,
            };
            let (driver, name) = PostgresOptions::new(parts).connect_options().unwrap();
            assert_eq!(name.to_string(), format!("PostgreSQL at {shown}, database `what? a=b+c#1`"));
            assert_eq!(driver.get_username(), "ann & bob@home/é");
            assert!(matches!(driver.get_ssl_mode(), PgSslMode::VerifyCa));
        }
    }

    #[test]
    fn what_an_address_cannot_mean_is_no_address() {
        for parameters in ["ssl_mode=verify-full", "sslmode=verify-full&x", "sslmode=allow", "sslmode=geheim", "geheim"]
        {
            let error = at(&format!("postgres://db/x?{parameters}")).connect_options().unwrap_err();
            assert!(matches!(error, StoreError::Invalid(_)), "{parameters}: {error}");
        }
        for parameters in
            ["", "sslmode=verify-full&sslrootcert=/a.pem", "options%5Block_timeout%5D=1s", "port=1&user=a"]
        {
            at(&format!("postgres://db/x?{parameters}")).connect_options().unwrap();
        }
    }

    #[test]
    fn limits_of_the_address_win() {
        let (driver, _) = at("postgres://db/x?options[lock_timeout]=1s").connect_options().unwrap();
        let asked = driver.get_options().unwrap();
        assert!(asked.contains("lock_timeout=1s") && !asked.contains("lock_timeout=10s"), "{asked}");
        let (driver, _) = at("postgres://db/x?options[deadlock_timeout]=2s").connect_options().unwrap();
        let asked = driver.get_options().unwrap();
        assert!(asked.contains(" lock_timeout=10s"), "another option is no limit: {asked}");
    }

    #[test]
    fn what_cannot_be_an_address_is_refused_without_showing_it() {
        let unescaped = "postgres://ann:1?geheim@db/x";
        for url in ["mysql://ann:geheim@db/x", "geheim", "", "postgres://ann:geheim@db:99999/x", unescaped] {
            let error = at(url).connect_options().unwrap_err();
            assert!(matches!(error, StoreError::Invalid(_)) && !error.to_string().contains("geheim"), "{error}");
        }
        for schema in ["", "1a", "A", "a-b", "a b", "x; DROP TABLE users", "\"", "pg_x", &"a".repeat(64)] {
            let options = PostgresOptions { schema: Some(schema.to_owned()), ..at("postgres://db/x") };
            assert!(matches!(options.connect_options(), Err(StoreError::Invalid(_))), "{schema}");
        }
    }
}
