//! Tests of the stores through their public interface.

#![allow(clippy::unwrap_used, reason = "what fails here fails a test")]

mod contracts;
mod copies;
mod equality;
mod kill;
#[cfg(feature = "neo4j")]
mod neo4j;
mod old_versions;
#[cfg(feature = "postgres")]
mod postgres;
mod power_loss;
#[cfg(feature = "qdrant")]
mod qdrant;
mod queue_equality;
mod queue_kill;
#[cfg(feature = "redis")]
mod queue_redis;
mod queue_sqlite;
#[cfg(feature = "rabbitmq")]
mod rabbitmq;
#[cfg(feature = "redis")]
mod redis_server;
mod several_processes;
#[cfg(feature = "redis")]
mod state_redis;
mod state_sqlite;
mod support;
mod trouble;
