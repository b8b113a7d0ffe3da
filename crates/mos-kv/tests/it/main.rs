//! Activation memory on real and on tiny models.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod activation;
mod bench;
mod calibration;
mod chat;
mod example;
mod files;
mod memory;
mod merging;
mod support;
mod templates;
mod tiers;
mod unreadable;
mod vllm;
