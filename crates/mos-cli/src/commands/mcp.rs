//! `mos mcp`

use std::io;

use anyhow::Context as _;
use mos::Mos;
use mos::product::{App, Caller, ProductOptions, Scope};
use mos_server::{McpServer, serve_stdio};

use crate::arguments::McpArguments;
use crate::context::Context;

/// Answers on standard input and output until the client goes. `is_one_user` says whether a user was named, who is then the
/// only one that the client acts for.
pub(super) async fn run(context: &Context, is_one_user: bool, arguments: &McpArguments) -> anyhow::Result<()> {
    let mos = open(context).await?;
    if !arguments.read_only {
        context.ensure_cube(&mos).await?;
    }
    let app = App::new(mos, ProductOptions::default());
    let server = McpServer::new(app.clone(), caller(context, is_one_user, arguments.read_only)).with_local_paths();
    let served = serve_stdio(server, told_to_end()).await;
    app.stop().await;
    served.context("the tools could not be served")
}

/// Opens the facade, with the scheduler that the settings ask for: this command runs for a long time.
async fn open(context: &Context) -> anyhow::Result<Mos> {
    let mut builder = Mos::builder(context.settings.clone());
    if let Some(folder) = &context.data_dir {
        builder = builder.data_dir(folder);
    }
    builder.build().await.context("cannot open the memories")
}

/// Who calls: whoever starts this program may do everything, unless the arguments ask for less.
fn caller(context: &Context, is_one_user: bool, is_read_only: bool) -> Caller {
    let mut caller = if is_one_user { Caller::user(context.user.clone()) } else { Caller::program() };
    if is_read_only {
        caller.scopes = [Scope::Read].into();
    }
    caller.cubes = context.cube.clone().map(|cube| [cube].into());
    caller
}

/// Is ready when the program is told to end.
async fn told_to_end() {
    if let Err(error) = signal().await {
        tracing::warn!(%error, "signals cannot be heard; the client ends this program by closing its input");
        std::future::pending::<()>().await;
    }
}

#[cfg(unix)]
async fn signal() -> io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};

    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    Ok(())
}

#[cfg(not(unix))]
async fn signal() -> io::Result<()> {
    tokio::signal::ctrl_c().await
}
