//! Asking every server that the settings name, one by one, when not all of them can be used.

use std::sync::Arc;

use mos_config::{QueueConfig, Settings, StoreConfig};
use mos_core::{StoreError, SystemClock};
use mos_stores::{Neo4jStore, QdrantVectors, RedisOptions, RedisQueue};

use crate::builder::{neo4j_options, redis_options};
use crate::doctor::{Report, whole};
use crate::error::{Error, Result};
use crate::factories::{users, vectors};
use crate::scheduling;

/// Asks every server that the settings name whether it can be used, and says what is wrong with each. For when
/// [`MosBuilder::build`](crate::MosBuilder::build) has failed, which tells of the first one only.
pub async fn check_services(settings: &Settings) -> Report {
    let mut report = Report::default();
    let clock = Arc::new(SystemClock);
    let neo4j = match &settings.store {
        StoreConfig::Neo4j(config) => Some(config.as_ref()),
        StoreConfig::Neo4jCommunity(config) => Some(&config.neo4j),
        StoreConfig::Sqlite(_) | StoreConfig::Memory(_) => None,
    };
    if let Some(config) = neo4j {
        let found = Neo4jStore::open(neo4j_options(config), clock.clone()).await;
        note(&mut report, "store", &format!("Neo4j at {}", config.uri), found.map_err(Error::from).map(drop));
    }
    let (part, options) = redis(settings);
    let found = match options {
        Ok(None) => None,
        Ok(Some(options)) => Some(RedisQueue::open(options, clock).await.map_err(Error::from).map(drop)),
        Err(error) => Some(Err(error)),
    };
    if let Some(found) = found {
        note(&mut report, part, "Redis", found);
    }
    let qdrant = match vectors::server(settings) {
        Ok(None) => None,
        Ok(Some(options)) => Some(QdrantVectors::reach(&options).await.map_err(Error::from).map(drop)),
        Err(error) => Some(Err(error)),
    };
    if let Some(found) = qdrant {
        note(&mut report, "vectors", "Qdrant", found);
    }
    if let Some(found) = users::reach(&settings.user_manager).await {
        let name = found.as_ref().map_or_else(|_| "PostgreSQL".to_owned(), |name| format!("PostgreSQL at {name}"));
        note(&mut report, "user_manager", &name, found.map_err(Error::from).map(drop));
    }
    if let Some(found) = scheduling::rabbitmq::reach(settings).await {
        let name = found.as_ref().map_or_else(|_| "RabbitMQ".to_owned(), |address| format!("RabbitMQ at {address}"));
        note(&mut report, "mem_scheduler.config.rabbitmq", &name, found.map(drop));
    }
    report
}

/// Returns the Redis server that is the queue, and which part of the settings names it.
fn redis(settings: &Settings) -> (&'static str, Result<Option<RedisOptions>>) {
    match &settings.queue {
        Some(QueueConfig::Redis(config)) => ("queue", redis_options(config).map(Some)),
        Some(_) => ("queue", Ok(None)),
        None => {
            let named = scheduling::redis_of(settings);
            let options = named.and_then(|config| config.as_ref().map(redis_options).transpose());
            ("mem_scheduler.config.redis_config", options)
        }
    }
}

fn note(report: &mut Report, part: &str, server: &str, found: Result<()>) {
    match found {
        Ok(()) => report.fact(&format!("{part}: {server}"), "can be used"),
        Err(error) => {
            let remedy = match &error {
                Error::Memory(mos_core::MemoryError::Store(StoreError::NotBuilt { feature })) => {
                    format!("build mos with `--features {feature}`, or configure another")
                }
                _ => format!("start the server, or correct `{part}` in the settings"),
            };
            report.finding(format!("{part}: {server}"), whole(&error), remedy);
        }
    }
}
