//! Tests of the stores through their public interface.

#![allow(clippy::unwrap_used, reason = "what fails here fails a test")]

mod contracts;
mod equality;
mod kill;
mod old_versions;
mod power_loss;
mod several_processes;
mod trouble;
