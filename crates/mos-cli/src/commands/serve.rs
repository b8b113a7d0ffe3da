//! `mos serve`

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, ensure};
use mos::Environment;
use mos::product::App;
use mos_config::{Purpose, process_environment};
use mos_core::{Embedder, KeyHash};
use mos_server::{AuthMode, Server, ServerOptions, ServerState};
use serde_json::json;

#[cfg(feature = "opentelemetry")]
use crate::arguments::Command;
use crate::arguments::{Arguments, ServeArguments};
use crate::context::Context;
use crate::logging::{Sending, Traces};
use crate::output::{Output, describe};

/// The name that tells where the settings are.
const CONFIG_VARIABLE: &str = "MOS_CONFIG";

/// The name that tells the SHA-256 of a key that may do everything and is in no store, as MemOS calls it.
const MASTER_VARIABLE: &str = "MASTER_KEY_HASH";

pub(super) async fn run(context: &Context, arguments: ServeArguments) -> anyhow::Result<()> {
    if let Some(listen) = arguments.listen {
        // Before anything is opened.
        check_address(listen, arguments.compat_open)?;
    }
    let app = open(context, &arguments).await?;
    let served = serve(context, arguments, app.clone()).await;
    // A server that could not begin leaves work in the background that must end, too.
    app.stop().await;
    served
}

async fn serve(context: &Context, arguments: ServeArguments, app: App) -> anyhow::Result<()> {
    let mut options = ServerOptions::from_settings(app.mos().settings());
    options.listen = arguments.listen.unwrap_or(options.listen);
    options.auth = if arguments.compat_open { AuthMode::Open } else { AuthMode::Keys };
    options.cors_origins.extend(arguments.cors_origin);
    options.allowed_hosts.extend(arguments.allow_host);
    let listen = options.listen;
    check_address(listen, arguments.compat_open)?;
    // Before a key is made for a server that cannot begin.
    mos_server::check(&options).map_err(anyhow::Error::msg)?;
    let encoder = app.mos().embedder();
    let state = ServerState::with_master_key(app, options, master_key()?);
    if arguments.compat_open {
        context.output.note(
            "warning: --compat-open lets everybody on this machine, and every web page opened on it, read and change \
             everything as any user; for tests only",
        );
    }
    if let Some(key) = mos_server::first_key(&state).await? {
        context.output.note(&format!(
            "no key was there, so one was made that may do everything. It is shown this once; keep it:\n\n    {key}\n"
        ));
        ensure!(
            listen.ip().is_loopback(),
            "{listen} can be reached by others, and nobody had a key until now; keep the key above and start again"
        );
    }
    let server = Server::bind(state)
        .await
        .with_context(|| format!("cannot listen on {listen}; choose another address with --listen"))?;
    let address = server.address()?;
    // Before it is told where: whoever reads that may end the server at once.
    let stop = signals::stop()?;
    if context.output.json {
        context.output.json_line(&json!({"listening": format!("http://{address}")}))?;
    } else {
        context.output.line(&format!("listening on http://{address}"))?;
    }
    tokio::spawn(open_encoder(context.output, encoder));
    server.serve(stop).await.context("the server ended")?;
    context.output.note("stopped");
    Ok(())
}

/// Opens the encoder while nobody waits for it yet. Without one nearly nothing works, so whoever started the server is told.
async fn open_encoder(output: Output, encoder: Arc<dyn Embedder>) {
    if let Err(error) = encoder.space().await {
        let why = describe(&error.into());
        output.note(&format!("warning: memories can neither be added nor found: {why}"));
    }
}

/// Refuses to be open to everybody where others can reach it.
fn check_address(listen: SocketAddr, is_open: bool) -> anyhow::Result<()> {
    ensure!(
        !is_open || listen.ip().is_loopback(),
        "--compat-open asks nobody for a key, and {listen} can be reached by others; listen on 127.0.0.1, or leave \
         --compat-open out"
    );
    Ok(())
}

/// Returns the hash of the key that the environment names.
fn master_key() -> anyhow::Result<Option<KeyHash>> {
    let found = std::env::var(MASTER_VARIABLE).unwrap_or_default();
    if found.trim().is_empty() {
        return Ok(None);
    }
    let hash = KeyHash::parse(found.trim());
    hash.map(Some).with_context(|| format!("{MASTER_VARIABLE} is no SHA-256 of 64 hexadecimal digits"))
}

/// Returns what sends the traces of a server to where its settings say, and what must be kept meanwhile; nothing for other
/// commands. Must be called within a runtime. What is wrong with the settings is told of when the server begins.
#[cfg(feature = "opentelemetry")]
pub(crate) fn traces(arguments: &Arguments) -> anyhow::Result<(Option<Traces>, Option<Sending>)> {
    if !matches!(arguments.command, Command::Serve(_)) {
        return Ok((None, None));
    }
    let Ok(environment) = environment(arguments.config.as_deref()) else { return Ok((None, None)) };
    let Some(telemetry) = ServerOptions::from_settings(&environment.settings).telemetry else {
        return Ok((None, None));
    };
    let (traces, sending) = mos_server::telemetry::layer(&telemetry).map_err(anyhow::Error::msg)?;
    Ok((Some(traces), Some(Box::new(sending))))
}

/// This build sends none; a server whose settings ask for them is refused when it begins.
#[cfg(not(feature = "opentelemetry"))]
pub(crate) fn traces(_: &Arguments) -> anyhow::Result<(Option<Traces>, Option<Sending>)> {
    Ok((None, None))
}

/// Returns what a settings file and the environment of this process say.
fn environment(settings_file: Option<&Path>) -> mos::Result<Environment> {
    let mut variables: Vec<(String, String)> = process_environment()
        .into_iter()
        .filter(|(name, _)| name != CONFIG_VARIABLE && name != MASTER_VARIABLE)
        .collect();
    if let Some(file) = settings_file {
        variables.push((CONFIG_VARIABLE.to_owned(), file.display().to_string()));
    }
    Environment::read(Purpose::Service, variables)
}

/// Opens the product API as settings, arguments and the environment say.
async fn open(context: &Context, arguments: &ServeArguments) -> anyhow::Result<App> {
    let environment = environment(context.settings_file.as_deref())?;
    for warning in &environment.warnings {
        context.output.note(&format!("warning: {warning}"));
    }
    let mut builder = environment.builder();
    if let Some(folder) = &context.data_dir {
        builder = builder.data_dir(folder);
    }
    let mos = builder.build().await.context("cannot open the memories")?;
    let mut options = environment.options;
    options.is_open |= arguments.compat_open;
    options.chats &= !arguments.no_chat;
    Ok(App::new(mos, options))
}

mod signals {
    //! What tells the program to end: once in good order, a second time at once.

    use std::future::Future;

    /// Returns what is ready when the program is told to end. Afterwards the same ends it at once.
    #[cfg(unix)]
    pub(super) fn stop() -> std::io::Result<impl Future<Output = ()> + Send + 'static> {
        use tokio::signal::unix::{SignalKind, signal};

        let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
        Ok(async move {
            let first = tokio::select! {
                _ = interrupt.recv() => "SIGINT",
                _ = terminate.recv() => "SIGTERM",
            };
            tracing::info!(signal = first, "stopping; the same again ends at once");
            tokio::spawn(async move {
                let code = tokio::select! {
                    _ = interrupt.recv() => 128 + 2,
                    _ = terminate.recv() => 128 + 15,
                };
                std::process::exit(code);
            });
        })
    }

    /// Returns what is ready when the program is told to end. Afterwards the same ends it at once.
    #[cfg(not(unix))]
    pub(super) fn stop() -> std::io::Result<impl Future<Output = ()> + Send + 'static> {
        Ok(async move {
            // Without a console there is nobody to tell; the server runs until it is killed.
            if tokio::signal::ctrl_c().await.is_err() {
                std::future::pending::<()>().await;
            }
            tokio::spawn(async move {
                if tokio::signal::ctrl_c().await.is_ok() {
                    std::process::exit(1);
                }
            });
        })
    }
}

#[cfg(test)]
mod tests {
    use super::check_address;

    #[test]
    fn only_this_machine_may_use_a_server_that_asks_nobody() {
        for (listen, is_open, is_allowed) in [
            ("127.0.0.1:8000", true, true),
            ("[::1]:8000", true, true),
            ("0.0.0.0:8000", true, false),
            ("[::]:0", true, false),
            ("192.168.1.7:80", true, false),
            ("0.0.0.0:8000", false, true),
        ] {
            assert_eq!(check_address(listen.parse().unwrap(), is_open).is_ok(), is_allowed, "{listen}");
        }
    }
}
