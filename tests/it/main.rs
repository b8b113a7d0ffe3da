//! Whole-house tests.
#![allow(clippy::unwrap_used, reason = "a test that panics has failed, which is what it is for")]

mod golden_flow;
mod golden_items;
mod layering;
mod links;
mod python_golden;
mod rabbitmq;
