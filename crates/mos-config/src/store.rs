//! Where records, vectors, graphs and users are kept.

mod graph;
mod users;
mod vectors;

use std::path::PathBuf;

use crate::read::Fields;
use crate::secret::Secret;

pub use graph::{GraphStoreConfig, Neo4jCommunityGraph, Neo4jGraph, PolarDbGraph, PostgresGraph, SqliteGraph};
pub use users::{MySqlUsers, PostgresUsers, RedisUsers, SqliteUsers, UserManagerConfig};
pub use vectors::{EmbeddedVectors, MilvusVectors, QdrantVectors, VectorStoreConfig};

section! {
    /// One SQLite file that holds everything.
    pub struct SqliteStore {
        /// The file. Absent: `mos.db` in the data directory.
        omitted path: Option<PathBuf>,
    }
}

section! {
    /// Nothing is kept when the process ends.
    pub struct MemoryStore {}
}

section! {
    /// A Neo4j server whose vectors are elsewhere, as MemOS' graph database of this name: the same as the store `neo4j`
    /// with `vectors`.
    pub struct Neo4jCommunityStore {
        /// The server.
        group neo4j: Neo4jStore,
        /// Where the vectors are.
        required vec_config: VectorStoreConfig,
    }
    check: check_neo4j_community_store;
}

fn check_neo4j_community_store(store: &Neo4jCommunityStore, fields: &mut Fields<'_, '_>) {
    if store.neo4j.own_database {
        fields.refuse("own_database", "needs Neo4j Enterprise; leave it out, or take the store `neo4j`");
    }
}

section! {
    /// A Neo4j server, 5.26 or later. Users and cubes need a server, too (`user_manager`).
    pub struct Neo4jStore {
        /// Address of the server: `bolt://host:7687`, with TLS `bolt+s://host:7687`.
        required uri: String,
        /// User of the server.
        default user: String = "neo4j".to_owned(),
        /// Password of the user.
        required password: Secret,
        /// Name of the database. Absent: the user's default one.
        default db_name: Option<String> = None,
        /// The database is this installation's own and made when it is missing, which needs Neo4j Enterprise; otherwise it
        /// may be shared with other programs.
        default own_database: bool = false,
        /// File with the certificates of trusted authorities. Absent: the system's.
        default ca_certificate: Option<PathBuf> = None,
        /// The most connections.
        default max_connections: usize = 16,
        /// Seconds to wait for a connection, 1 to 3600.
        default connection_wait_timeout: u64 = 10,
    }
    check: check_neo4j_store;
}

fn check_neo4j_store(store: &Neo4jStore, fields: &mut Fields<'_, '_>) {
    if store.own_database && store.db_name.as_deref().is_none_or(str::is_empty) {
        fields.refuse("db_name", "must be set when own_database is true: it is the name of that database");
    }
    if !(1..=1000).contains(&store.max_connections) {
        fields.refuse("max_connections", "must be from 1 to 1000");
    }
    if !(1..=3600).contains(&store.connection_wait_timeout) {
        fields.refuse("connection_wait_timeout", "must be from 1 to 3600 seconds");
    }
}

backends! {
    /// The record of users, cubes and memories.
    pub enum StoreConfig {
        /// One SQLite file.
        Sqlite(SqliteStore) = "sqlite",
        /// Only in memory.
        Memory(MemoryStore) = "memory",
        /// Memories on a Neo4j server.
        Neo4j(Neo4jStore) = "neo4j",
        /// Memories on a Neo4j server, vectors elsewhere.
        Neo4jCommunity(Neo4jCommunityStore) = "neo4j-community",
    }
}

section! {
    /// The queue of a record that keeps jobs itself, in the transaction of the write that they belong to.
    pub struct SqliteQueue {}
}

section! {
    /// Jobs in this process. They are forgotten when it ends.
    pub struct MemoryQueue {}
}

section! {
    /// A Redis server, 7.0 or later.
    pub struct RedisQueue {
        /// Address of the server, `redis://USER:PASSWORD@HOST:PORT/NUMBER` (`rediss` for TLS); then no other part of it may
        /// be given.
        default url: Option<Secret> = None,
        /// Host of the server. Absent: `localhost`.
        default host: Option<String> = None,
        /// Port of the server. Absent: 6379.
        default port: Option<u16> = None,
        /// Number of the database. Absent: 0.
        default db: Option<u16> = None,
        /// User of the server. Absent: its default one.
        default username: Option<String> = None,
        /// Password of the user.
        default password: Option<Secret> = None,
        /// Begins every key: installations of different prefixes do not know each other's jobs.
        default prefix: String = "mos".to_owned(),
    }
    check: check_redis_queue;
}

fn check_redis_queue(queue: &RedisQueue, fields: &mut Fields<'_, '_>) {
    let parts = [
        ("host", queue.host.is_some()),
        ("port", queue.port.is_some()),
        ("db", queue.db.is_some()),
        ("username", queue.username.is_some()),
        ("password", queue.password.is_some()),
    ];
    for (key, _) in parts.into_iter().filter(|(_, is_given)| *is_given && queue.url.is_some()) {
        fields.refuse(key, "cannot be given beside url; write it into the url, or leave the url out");
    }
    if queue.username.is_some() && queue.password.is_none() {
        fields.refuse("password", "must be given with a username");
    }
    let is_good = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if queue.prefix.is_empty() || !queue.prefix.chars().all(is_good) {
        fields.refuse("prefix", "must be letters, digits, `-`, `_` and `.`");
    }
}

backends! {
    /// Where jobs for later are kept.
    pub enum QueueConfig {
        /// In the record.
        Sqlite(SqliteQueue) = "sqlite",
        /// Only in memory.
        Memory(MemoryQueue) = "memory",
        /// On a Redis server.
        Redis(RedisQueue) = "redis",
    }
}
