//! A service for several users over one facade: every request carries a key, the key says who asks, and the facade decides what
//! that user may do.
//!
//! Run `cargo run --release -- models pull` once, then
//! `cargo run --release --example saas_backend [-- --config FILE] [--model NAME] [--data-dir FOLDER]`; it listens on port 8400 of this
//! machine (`SAAS_BACKEND_PORT` names another) and prints the key that makes users. `--check` starts it on a free port, plays a short
//! session against itself over HTTP, and ends.
//!
//! | route (all `POST`, JSON) | body | answer |
//! |---|---|---|
//! | `/users` (the operator's key) | `user_id` | `user_id`, `key` |
//! | `/cubes` | `cube_id` | `cube_id` |
//! | `/share` | `cube_id`, `user_id` | `cube_id`, `user_id` |
//! | `/add` | `cube_id`, `messages` | `ids` |
//! | `/search` | `query`, `cube_ids`? | what `mos search --json` prints |
//! | `/chat` | `query`, `cube_ids`? | `answer`, `memories` |
#![allow(clippy::print_stdout, reason = "an example shows its results")]

mod check;
mod routes;

use std::sync::Arc;

use anyhow::Context;
use mos_core::{IdSource, RandomIds};
use mos_examples::Arguments;
use tokio::net::TcpListener;

use routes::{Backend, router};

const PORT: u16 = 8400;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::read("embedded.yaml", &["--check"])?;
    let house = arguments.open().await?;
    let operator_key = RandomIds.next_uuid();
    let app = router(Arc::new(Backend::new(house.mos.clone(), operator_key.clone())));
    if arguments.has("--check") {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let server = tokio::spawn(async move { axum::serve(listener, app).await });
        let checked = check::play(address, &operator_key).await;
        server.abort();
        return checked;
    }
    let port = match std::env::var("SAAS_BACKEND_PORT") {
        Ok(port) => port.parse().with_context(|| format!("SAAS_BACKEND_PORT is `{port}`, which is no port"))?,
        Err(_) => PORT,
    };
    let listener = TcpListener::bind(("127.0.0.1", port)).await.with_context(|| format!("port {port} is taken"))?;
    println!("Listening on http://127.0.0.1:{port}. The operator's key is {operator_key}; Ctrl-C ends.");
    let stop = async {
        if let Err(error) = tokio::signal::ctrl_c().await {
            println!("Ctrl-C cannot be waited for ({error}); the service ends.");
        }
    };
    axum::serve(listener, app).with_graceful_shutdown(stop).await?;
    println!("Stopped.");
    Ok(())
}
