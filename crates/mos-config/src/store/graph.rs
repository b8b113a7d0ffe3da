//! Where nodes and edges are kept.

use std::path::PathBuf;

use super::VectorStoreConfig;
use crate::read::Fields;
use crate::secret::{OneOrMany, Secret};

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
