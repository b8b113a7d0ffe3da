//! Contracts, fakes and scripted servers for tests of the mos memory system.

pub mod chat;
pub mod clock;
pub mod contracts;
pub mod embedder;
pub mod json_server;
pub mod model_server;
pub mod power_loss;
pub mod qdrant_server;
pub mod recorded;
pub mod services;
