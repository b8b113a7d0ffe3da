//! Tests of the scheduler as others see it.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should say where")]

mod killed;
mod monitor;
mod promote;
mod simulation;
mod support;
mod turn;
mod turn_support;
