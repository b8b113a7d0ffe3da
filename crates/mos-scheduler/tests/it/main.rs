//! Tests of the scheduler as others see it.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should say where")]

mod dream;
mod feedback;
mod killed;
mod leases;
mod mem_read;
mod mix_search;
mod monitor;
mod organize;
mod promote;
mod simulation;
mod support;
mod support_work;
mod trouble;
mod turn;
mod turn_support;
