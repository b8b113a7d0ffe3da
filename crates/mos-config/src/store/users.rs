//! Where users are kept.

use std::path::PathBuf;

use crate::read::Fields;
use crate::secret::Secret;

section! {
    /// Users in SQLite.
    pub struct SqliteUsers {
        /// The first user.
        default user_id: String = "root".to_owned(),
        /// The file that MemOS keeps users in. They are in the record here, whatever it says.
        default db_path: Option<PathBuf> = None,
    }
    check: check_sqlite_users;
}

fn check_sqlite_users(users: &SqliteUsers, fields: &mut Fields<'_, '_>) {
    if users.db_path.is_some() {
        fields.warn("db_path of the user manager has no effect: users are kept in the record (store.config.path)");
    }
}

section! {
    /// Users in MySQL.
    pub struct MySqlUsers {
        /// The first user.
        default user_id: String = "root".to_owned(),
        /// Host of the server.
        default host: String = "localhost".to_owned(),
        /// Port of the server.
        default port: u16 = 3306,
        /// User of the server.
        default username: String = "root".to_owned(),
        /// Password of the user.
        default password: Secret = Secret::default(),
        /// Name of the database.
        default database: String = "memos_users".to_owned(),
        /// Character set.
        default charset: String = "utf8mb4".to_owned(),
    }
}

section! {
    /// Users in Redis.
    pub struct RedisUsers {
        /// The first user.
        default user_id: String = "root".to_owned(),
        /// Host of the server.
        default host: String = "localhost".to_owned(),
        /// Port of the server.
        default port: u16 = 6379,
        /// User of the server.
        default username: String = "root".to_owned(),
        /// Password of the user.
        default password: Secret = Secret::default(),
        /// Name of the database.
        default database: String = "memos_users".to_owned(),
        /// Character set.
        default charset: String = "utf8mb4".to_owned(),
    }
}

section! {
    /// Users in PostgreSQL.
    pub struct PostgresUsers {
        /// The first user.
        default user_id: String = "root".to_owned(),
        /// Address of the server, `postgres://USER:PASSWORD@HOST:PORT/DATABASE`; then no other part of it may be given.
        default url: Option<Secret> = None,
        /// Host of the server, or the folder of its socket. Absent: `localhost`.
        default host: Option<String> = None,
        /// Port of the server. Absent: 5432.
        default port: Option<u16> = None,
        /// User of the server. Absent: `postgres`.
        default username: Option<String> = None,
        /// Password of the user. Absent: `PGPASSWORD`, else what `~/.pgpass` says.
        default password: Option<Secret> = None,
        /// Name of the database. Absent: `memos_users`.
        default database: Option<String> = None,
        /// `disable`, `prefer`, `require`, `verify-ca` or `verify-full`. Absent: `PGSSLMODE`, else
        /// `prefer`.
        default ssl_mode: Option<String> = None,
        /// File with the certificates of trusted authorities. Absent: the system's.
        default ssl_root_cert: Option<PathBuf> = None,
        /// Schema of the tables, made when it is missing. Absent: the one the server gives to the user.
        default schema_name: Option<String> = None,
        /// The most connections.
        default max_connections: usize = 10,
        /// Seconds to wait for a connection, 1 to 3600.
        default connection_wait_timeout: u64 = 5,
    }
    check: check_postgres_users;
}

/// How far a connection to PostgreSQL can be protected.
const SSL_MODES: [&str; 5] = ["disable", "prefer", "require", "verify-ca", "verify-full"];

fn check_postgres_users(users: &PostgresUsers, fields: &mut Fields<'_, '_>) {
    let parts = [
        ("host", users.host.is_some()),
        ("port", users.port.is_some()),
        ("username", users.username.is_some()),
        ("password", users.password.is_some()),
        ("database", users.database.is_some()),
        ("ssl_mode", users.ssl_mode.is_some()),
        ("ssl_root_cert", users.ssl_root_cert.is_some()),
    ];
    for (key, _) in parts.into_iter().filter(|(_, is_given)| *is_given && users.url.is_some()) {
        fields.refuse(key, "cannot be given beside url; write it into the url, or leave the url out");
    }
    if let Some(mode) = users.ssl_mode.as_deref().filter(|mode| !SSL_MODES.contains(mode)) {
        fields.refuse("ssl_mode", format!("unknown mode `{mode}` (allowed: {})", SSL_MODES.join(", ")));
    }
    if users.max_connections == 0 || u32::try_from(users.max_connections).is_err() {
        fields.refuse("max_connections", "must be at least 1");
    }
    if !(1..=3600).contains(&users.connection_wait_timeout) {
        fields.refuse("connection_wait_timeout", "must be from 1 to 3600 seconds");
    }
}

backends! {
    /// Where users are kept.
    pub enum UserManagerConfig {
        /// SQLite.
        Sqlite(SqliteUsers) = "sqlite",
        /// PostgreSQL.
        Postgres(PostgresUsers) = "postgres",
        /// MySQL.
        MySql(MySqlUsers) = "mysql",
        /// Redis.
        Redis(RedisUsers) = "redis",
    }
    absent backend: "sqlite";
}
