//! The server over real HTTP on loopback.
#![allow(clippy::unwrap_used, reason = "a test that panics has failed, which is what it is for")]

mod admin;
mod audit;
mod dashboard;
mod document;
mod guarded;
mod guards;
mod house;
mod isolation;
mod keys;
mod limits;
mod mcp;
mod metrics;
mod openai;
mod openmem;
mod openmem_knowledge;
mod openmem_memories;
mod python;
mod ready;
mod scenarios;
mod schema_check;
mod serving;
mod streaming;
mod traces;
