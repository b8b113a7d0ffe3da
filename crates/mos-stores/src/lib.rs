//! Stores of the mos memory system.
//!
//! - [`SqliteStore`]: the record, the users, the jobs, documents and logs, and the full-text index in one `SQLite` file,
//!   one transaction per write.
//! - [`InMemoryStore`]: the same behaviour without a disk, for tests and throw-away use.
//! - [`ExactVectors`]: exact nearest-neighbour search, a derived index that follows any record.
//! - `Neo4jStore` (feature `neo4j`): the record on a Neo4j server, in MemOS' layout, with exact vector search.
//! - `QdrantVectors` (feature `qdrant`): nearest-neighbour search on a Qdrant server, which follows any record, too.
//! - `RedisQueue` and `RedisState` (feature `redis`): jobs, and documents and logs, on a Redis server, shared by several
//!   machines.
//! - `PostgresUsers` (feature `postgres`): users, cubes and shares in a PostgreSQL server, beside any record.
//! - `RabbitPublisher` (feature `rabbitmq`): what happened, told to a RabbitMQ broker.
//! - [`RecordAndState`]: a record and the documents beside it, which learn of cubes together.
//! - [`TextAnalyzer`]: how text becomes the terms that full-text search compares.
//!
//! Invariant: every query of every store names its scope; nothing that a caller sends becomes part of an SQL or Cypher
//! text.
//!
//! Not here: settings (options are plain structs), memory kinds, models.

mod archive;
mod blocking;
mod bm25;
mod codec;
#[cfg(feature = "rabbitmq")]
mod events;
mod exact;
mod graph;
mod keys;
mod listed;
mod memory;
#[cfg(feature = "neo4j")]
mod neo4j;
#[cfg(feature = "postgres")]
mod postgres;
mod prepare;
#[cfg(feature = "qdrant")]
mod qdrant;
mod queue;
#[cfg(any(feature = "neo4j", feature = "qdrant", feature = "redis"))]
mod server_version;
#[cfg(any(feature = "neo4j", feature = "qdrant"))]
mod similar;
mod sqlite;
mod state;
mod text;
mod together;

#[cfg(feature = "rabbitmq")]
pub use events::rabbitmq::{Delivered, ExchangeType, RabbitOptions, RabbitPublisher};
pub use exact::{ExactVectors, ExactVectorsOptions};
pub use memory::InMemoryStore;
#[cfg(feature = "neo4j")]
pub use neo4j::{NEO4J_SCHEMA_VERSION, Neo4jOptions, Neo4jStore, Tenancy};
#[cfg(feature = "postgres")]
pub use postgres::{PostgresOptions, PostgresServer, PostgresUsers, SslMode, USERS_SCHEMA_VERSION};
#[cfg(feature = "qdrant")]
pub use qdrant::{Drift, QdrantOptions, QdrantVectors};
pub use queue::QueueLimits;
#[cfg(feature = "redis")]
pub use queue::redis::{RedisOptions, RedisQueue, RedisState};
pub use sqlite::{Finding, SCHEMA_VERSION, SqliteOptions, SqliteStore, Statistics, Traces, UNKNOWN_CUBE};
pub use text::TextAnalyzer;
pub use together::{RecordAndState, StateWithScopes};
