//! The server over real HTTP on loopback.

mod admin;
mod audit;
mod document;
mod guarded;
mod guards;
mod house;
mod keys;
mod limits;
mod metrics;
mod scenarios;
mod schema_check;
mod serving;
mod streaming;
mod traces;
