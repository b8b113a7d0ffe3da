//! Stores of the mos memory system.
//!
//! - [`SqliteStore`]: the record, the users, the jobs and the full-text index in one `SQLite` file, one transaction per
//!   write.
//! - [`InMemoryStore`]: the same behaviour without a disk, for tests and throw-away use.
//! - [`ExactVectors`]: exact nearest-neighbour search, a derived index that follows any record.
//! - `RedisQueue` (feature `redis`): jobs on a Redis server, shared by several machines.
//! - `PostgresUsers` (feature `postgres`): users, cubes and shares in a PostgreSQL server, beside any record.
//! - [`TextAnalyzer`]: how text becomes the terms that full-text search compares.
//!
//! Invariant: every query of every store names its scope; nothing that a caller sends becomes part of an SQL text.
//!
//! Not here: settings (options are plain structs), memory kinds, models.

mod bm25;
mod codec;
mod exact;
mod graph;
mod memory;
#[cfg(feature = "postgres")]
mod postgres;
mod prepare;
mod queue;
mod sqlite;
mod text;

pub use exact::{ExactVectors, ExactVectorsOptions};
pub use memory::InMemoryStore;
#[cfg(feature = "postgres")]
pub use postgres::{PostgresOptions, PostgresServer, PostgresUsers, SslMode, USERS_SCHEMA_VERSION};
pub use queue::QueueLimits;
#[cfg(feature = "redis")]
pub use queue::redis::{RedisOptions, RedisQueue};
pub use sqlite::{Finding, SCHEMA_VERSION, SqliteOptions, SqliteStore, Statistics, UNKNOWN_CUBE};
pub use text::TextAnalyzer;
