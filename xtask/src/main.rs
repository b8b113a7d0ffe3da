//! `cargo xtask ...`: what a developer or CI runs.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command line tool")]

mod bench;
mod kv;
mod models;
mod shell;
mod test;

use clap::{Parser, Subcommand};

#[derive(Debug, Parser)]
#[command(name = "cargo xtask", about = "Tests, benchmarks and models of the mos workspace")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Fetch the small models and run every test; prints the time of each suite.
    Test {
        /// Also the long ones: many kills, many power cuts, real downloads, every model.
        #[arg(long)]
        long: bool,
        /// Only suites whose name holds this text.
        filter: Option<String>,
    },
    /// Measure speed and print the figures.
    Bench {
        /// Only this part: engine, kv, stores or memory. kv compares with transformers, writes docs/benchmarks.md and
        /// docs/kv-cache.svg, and fails when a target is missed; it takes about twenty minutes.
        part: Option<String>,
    },
    /// Fetch the small models that tests use.
    Models,
}

fn main() -> anyhow::Result<()> {
    match Arguments::parse().task {
        Task::Test { long, filter } => test::run(long, filter.as_deref()),
        Task::Bench { part } => bench::run(part.as_deref()),
        Task::Models => models::fetch(),
    }
}
