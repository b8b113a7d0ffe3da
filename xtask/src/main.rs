//! `cargo xtask ...`: what a developer or CI runs.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command line tool")]

mod bench;
mod clients;
mod compat;
mod dist;
mod docs;
mod fuzz;
mod kv;
mod models;
mod services;
mod shell;
mod test;

use clap::{Parser, Subcommand};

#[derive(Debug, Parser)]
#[command(name = "cargo xtask", about = "Tests, benchmarks, models and services of the mos workspace")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Fetch the small models, start the servers of `services`, run every test, and end what was started.
    Test {
        /// Also the long ones: many kills, many power cuts, real downloads, every model. Where there is no Qdrant server, one
        /// over Qdrant's engine is built, which takes minutes once.
        #[arg(long)]
        long: bool,
        /// Start no servers; tests of real ones run only with those that the environment names.
        #[arg(long)]
        no_services: bool,
        /// Only suites whose name holds this text.
        filter: Option<String>,
    },
    /// Measure speed and print the figures.
    Bench {
        /// Only this part: engine, kv, stores, memory, reader, scheduler, server or neo4j (which starts a server). kv compares
        /// with transformers, writes docs/benchmarks.md and docs/kv-cache.svg, and takes about twenty minutes. kv, stores,
        /// reader, server and neo4j fail when a target is missed.
        part: Option<String>,
        /// Load the server for so many minutes more, and fail when its memory grows.
        #[arg(long)]
        minutes: Option<u64>,
    },
    /// Try inputs that nobody thought of on what reads what others wrote; see fuzz/README.md. Needs cargo-fuzz and GNU tar.
    Fuzz {
        /// Only this target.
        target: Option<String>,
        /// Minutes for each target; 0 tries what is known and nothing else.
        #[arg(long, default_value_t = 5)]
        minutes: u64,
    },
    /// Run the tests that prove what MemOS can do (tests/compatibility.json), and write the table of docs/compatibility.md.
    /// Fails when one of them does not pass, or fewer than 140 of the 156 rows are the same or better.
    Compat,
    /// Build the program for release and write target/dist/mos-VERSION-PLATFORM.tar.gz (.zip for Windows) with README, license,
    /// configurations and completions, and its SHA-256 beside it.
    Dist {
        /// The platform, for example aarch64-unknown-linux-gnu; default: this one. Its toolchain must be installed.
        #[arg(long)]
        target: Option<String>,
    },
    /// Write what is made from code: docs/configuration.md.
    Docs,
    /// Fetch the small models that tests use.
    Models,
    /// The servers that tests of real stores talk to: Neo4j, Redis, PostgreSQL, and Qdrant where it can be had.
    ///
    /// What NEO4J_URI, REDIS_URL, DATABASE_URL or QDRANT_URL names is used and not started.
    Services {
        #[command(subcommand)]
        action: Action,
    },
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Start what is not there and wait until it is healthy. What can be had no other way is built, which takes minutes
    /// once.
    Up {
        /// Print the variables for `eval "$(cargo xtask services up --export)"`.
        #[arg(long)]
        export: bool,
    },
    /// End what was started, and remove its data.
    Down,
    /// Tell for each service its address, whether it answers, and who gives it.
    Status,
}

fn main() -> anyhow::Result<()> {
    match Arguments::parse().task {
        Task::Test { long, no_services, filter } => test::run(long, !no_services, filter.as_deref()),
        Task::Bench { part, minutes } => bench::run(part.as_deref(), minutes),
        Task::Fuzz { target, minutes } => fuzz::run(target.as_deref(), minutes),
        Task::Compat => compat::run(),
        Task::Dist { target } => dist::run(target.as_deref()),
        Task::Docs => docs::run(),
        Task::Models => models::fetch(|| shell::mos(&[])),
        Task::Services { action: Action::Up { export } } => services::up(export),
        Task::Services { action: Action::Down } => services::down(),
        Task::Services { action: Action::Status } => services::status(),
    }
}
