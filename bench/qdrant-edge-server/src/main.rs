//! Qdrant's gRPC protocol over `qdrant-edge`, the engine of Qdrant as a library.
//!
//! The services are those of `mos_testkit::qdrant_server`. The address goes to standard output once calls are taken; calls
//! must name the key that `QDRANT_API_KEY` holds, if it does. SIGTERM ends the program.

mod answers;
mod collection;
mod engine;
mod filter;
mod health;
mod requests;

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context;
use clap::Parser;
use mos_testkit::qdrant_server::{Engine, serve};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

use engine::EdgeEngine;

/// The variable that holds the key.
const KEY: &str = "QDRANT_API_KEY";

#[derive(Debug, Parser)]
#[command(about = "Qdrant's gRPC protocol over qdrant-edge, on this machine only, for tests")]
struct Arguments {
    /// Where the collections are kept; made when it is missing.
    #[arg(long)]
    folder: PathBuf,
    /// The port for gRPC; 0 takes any that is free.
    #[arg(long, default_value_t = 0)]
    port: u16,
    /// The port on which `GET /readyz` is answered, as Qdrant does; without one it is not.
    #[arg(long)]
    http_port: Option<u16>,
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let key = std::env::var(KEY).ok().filter(|key| !key.is_empty());
    let engine: Arc<dyn Engine> = Arc::new(EdgeEngine::open(&arguments.folder)?);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    // What the engine holds is written when it goes, with the last call.
    runtime.block_on(run(&arguments, engine, key))
}

async fn run(arguments: &Arguments, engine: Arc<dyn Engine>, key: Option<String>) -> anyhow::Result<()> {
    let mut terminated = signal(SignalKind::terminate())?;
    let mut interrupted = signal(SignalKind::interrupt())?;
    let listener = listen(arguments.port).await?;
    if let Some(port) = arguments.http_port {
        tokio::spawn(health::answer(listen(port).await?));
    }
    println!("http://{}", listener.local_addr()?);
    let end = async move {
        tokio::select! {
            _ = terminated.recv() => {}
            _ = interrupted.recv() => {}
        }
    };
    serve(engine, key, listener, end).await.context("the server broke")
}

async fn listen(port: u16) -> anyhow::Result<TcpListener> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await.with_context(|| format!("cannot listen on port {port}"))
}
