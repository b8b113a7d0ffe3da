//! Where records, vectors, graphs and users are kept.

use std::path::PathBuf;

use crate::read::Fields;
use crate::secret::{OneOrMany, Secret};

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

/// Distances that MemOS knows.
const DISTANCES: [&str; 3] = ["cosine", "euclidean", "dot"];

fn check_distance(distance: Option<&str>, fields: &mut Fields<'_, '_>) {
    if let Some(distance) = distance.filter(|distance| !DISTANCES.contains(distance)) {
        fields.refuse("distance_metric", format!("unknown distance `{distance}` (allowed: {})", DISTANCES.join(", ")));
    }
}

section! {
    /// Vectors in the record itself, searched exactly.
    pub struct EmbeddedVectors {
        /// Length of the vectors. Absent: the encoder's.
        omitted vector_dimension: Option<usize>,
    }
}

section! {
    /// A Qdrant server, or a local Qdrant folder.
    pub struct QdrantVectors {
        /// Name of the collection; here, what the names of the collections begin with.
        required collection_name: String,
        /// Length of the vectors. Absent: the encoder's.
        default vector_dimension: Option<usize> = None,
        /// `cosine`, `euclidean` or `dot`.
        default distance_metric: Option<String> = None,
        /// Host of the server.
        default host: Option<String> = None,
        /// Port of the server: that of gRPC, or 6333, which stands for 6334.
        default port: Option<u16> = None,
        /// A local folder instead of a server.
        default path: Option<String> = None,
        /// Address of the server, `http://HOST:PORT` or with TLS `https://HOST:PORT`; wins over host and port.
        default url: Option<String> = None,
        /// The server's key.
        default api_key: Option<Secret> = None,
        /// Port of gRPC, where it is another than `port`, the url's, or 6334.
        omitted grpc_port: Option<u16>,
        /// File with the certificates of trusted authorities. Absent: the system's.
        omitted ca_certificate: Option<PathBuf>,
        /// Seconds to wait for an answer, 1 to 3600. Absent: 30.
        omitted timeout: Option<u64>,
    }
    check: check_qdrant;
}

fn check_qdrant(vectors: &QdrantVectors, fields: &mut Fields<'_, '_>) {
    check_distance(vectors.distance_metric.as_deref(), fields);
    if vectors.timeout.is_some_and(|seconds| !(1..=3600).contains(&seconds)) {
        fields.refuse("timeout", "must be from 1 to 3600 seconds");
    }
}

section! {
    /// A Milvus server or file.
    pub struct MilvusVectors {
        /// Names of the collections.
        required collection_name: Vec<String>,
        /// Length of the vectors.
        default vector_dimension: Option<usize> = None,
        /// `cosine`, `euclidean` or `dot`.
        default distance_metric: Option<String> = None,
        /// Address of the server, or path of the file.
        required uri: String,
        /// The most bytes of a text.
        default max_length: usize = 65_535,
        /// User of the server.
        default user_name: String = String::new(),
        /// Password of the user.
        default password: Secret = Secret::default(),
    }
    check: check_milvus;
}

fn check_milvus(vectors: &MilvusVectors, fields: &mut Fields<'_, '_>) {
    check_distance(vectors.distance_metric.as_deref(), fields);
}

backends! {
    /// Where vectors are searched.
    pub enum VectorStoreConfig {
        /// In the record itself.
        Embedded(EmbeddedVectors) = "embedded",
        /// Qdrant.
        Qdrant(QdrantVectors) = "qdrant",
        /// Milvus.
        Milvus(MilvusVectors) = "milvus",
    }
}

section! {
    /// A graph in the record itself.
    pub struct SqliteGraph {
        /// The file. Absent: the record of the installation.
        omitted path: Option<PathBuf>,
        /// Length of the vectors. Absent: the encoder's.
        omitted embedding_dimension: Option<usize>,
    }
}

section! {
    /// A Neo4j server.
    pub struct Neo4jGraph {
        /// Address of the server, or several of a cluster.
        required uri: OneOrMany,
        /// User of the server.
        required user: String,
        /// Password of the user.
        required password: Secret,
        /// Name of the database.
        required db_name: String,
        /// Makes the database when it is missing.
        default auto_create: bool = false,
        /// Each tenant has its own database; otherwise all share one and `user_name` parts them.
        default use_multi_db: bool = true,
        /// The tenant in a shared database.
        default user_name: Option<String> = None,
        /// Length of the vectors.
        default embedding_dimension: usize = 768,
    }
    check: check_neo4j;
}

fn check_neo4j(graph: &Neo4jGraph, fields: &mut Fields<'_, '_>) {
    check_tenant(graph.use_multi_db, graph.user_name.as_deref(), fields);
}

/// Tenants of a shared database must be told apart.
fn check_tenant(use_multi_db: bool, user_name: Option<&str>, fields: &mut Fields<'_, '_>) {
    if !use_multi_db && user_name.is_none_or(str::is_empty) {
        fields.refuse("user_name", "must be set when use_multi_db is false: it keeps tenants of one database apart");
    }
}

section! {
    /// A Neo4j community server, with its vectors elsewhere.
    pub struct Neo4jCommunityGraph {
        /// The server.
        group neo4j: Neo4jGraph,
        /// Where the vectors are.
        required vec_config: VectorStoreConfig,
    }
    check: check_community;
}

fn check_community(graph: &Neo4jCommunityGraph, fields: &mut Fields<'_, '_>) {
    if graph.neo4j.use_multi_db {
        fields.warn("the community edition of Neo4j has one database only: use_multi_db will fail on it");
    }
}

section! {
    /// A PolarDB server.
    pub struct PolarDbGraph {
        /// Host of the server.
        required host: String,
        /// Port of the server.
        default port: u16 = 5432,
        /// User of the server.
        required user: String,
        /// Password of the user.
        required password: Secret,
        /// Name of the database.
        required db_name: String,
        /// The tenant in a shared database.
        default user_name: Option<String> = None,
        /// Makes the database when it is missing.
        default auto_create: bool = false,
        /// Each tenant has its own database.
        default use_multi_db: bool = true,
        /// Length of the vectors.
        default embedding_dimension: usize = 1024,
        /// The most connections.
        default maxconn: usize = 100,
        /// Seconds to wait for a free connection, 1 to 3600.
        default connection_wait_timeout: u64 = 30,
        /// Does not try a connection before it is used.
        default skip_connection_health_check: bool = false,
        /// Opens all connections at the start.
        default warm_up_on_startup_by_full: bool = true,
        /// Asks every table at the start.
        default warm_up_on_startup_by_all: bool = false,
    }
    check: check_polardb;
}

fn check_polardb(graph: &PolarDbGraph, fields: &mut Fields<'_, '_>) {
    check_tenant(graph.use_multi_db, graph.user_name.as_deref(), fields);
    if !(1..=3600).contains(&graph.connection_wait_timeout) {
        fields.refuse("connection_wait_timeout", "must be from 1 to 3600 seconds");
    }
}

section! {
    /// A Postgres server with pgvector.
    pub struct PostgresGraph {
        /// Host of the server.
        required host: String,
        /// Port of the server.
        default port: u16 = 5432,
        /// User of the server.
        required user: String,
        /// Password of the user.
        required password: Secret,
        /// Name of the database.
        required db_name: String,
        /// Schema of the tables.
        default schema_name: String = "memos".to_owned(),
        /// The tenant in a shared database.
        default user_name: Option<String> = None,
        /// Each tenant has its own database.
        default use_multi_db: bool = false,
        /// Length of the vectors.
        default embedding_dimension: usize = 768,
        /// The most connections.
        default maxconn: usize = 20,
    }
}

backends! {
    /// Where nodes and edges are kept.
    pub enum GraphStoreConfig {
        /// In the record itself.
        Sqlite(SqliteGraph) = "sqlite",
        /// Neo4j.
        Neo4j(Neo4jGraph) = "neo4j",
        /// Neo4j community edition.
        Neo4jCommunity(Neo4jCommunityGraph) = "neo4j-community",
        /// PolarDB.
        PolarDb(PolarDbGraph) = "polardb",
        /// Postgres.
        Postgres(PostgresGraph) = "postgres",
    }
}

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
