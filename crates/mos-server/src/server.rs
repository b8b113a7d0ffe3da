//! The router, and the server around it.

use std::future::Future;
use std::io;
use std::net::SocketAddr;

use axum::Router;
use axum::http::{Method, StatusCode, Uri};
use axum::middleware;
use tokio::net::TcpListener;

use crate::error::ApiError;
use crate::guard;
use crate::options::check;
use crate::routes::{self, Route, Routes};
use crate::state::ServerState;
use crate::{audit, auth, mcp};

/// Paths that need no key, as they stand in the router. The files of the dashboard hold no data.
pub const PUBLIC: &[&str] = &[
    "/",
    "/assets/{*path}",
    "/health",
    "/ready",
    "/admin/health",
    "/openapi.json",
    "/docs",
    "/docs/",
    "/docs/{*rest}",
];

/// Everything that is registered, without the layers around it.
fn registered(state: &ServerState) -> Routes {
    routes::all().merge(mcp::routes(state))
}

/// Returns every operation that [`router`] answers, in the order of their registration. There are no others: the router is made
/// from the same list.
pub fn operations(state: &ServerState) -> Vec<Route> {
    let (_, list) = registered(state).into_parts();
    list
}

/// Returns every route of the server.
pub fn router(state: ServerState) -> Router {
    let (routes, _) = registered(&state).into_parts();
    // Whoever calls is known before the requests of a caller are counted, and before a change is written down.
    let routes = auth::around(guard::within(audit::around(routes, &state), &state), &state)
        .fallback(|uri: Uri| async move { ApiError::new(StatusCode::NOT_FOUND, format!("Not Found: {}", uri.path())) })
        .method_not_allowed_fallback(|method: Method| async move {
            ApiError::new(StatusCode::METHOD_NOT_ALLOWED, format!("Method Not Allowed: {method}"))
        });
    // Outermost, so that errors of every layer have the shape that these clients read.
    guard::around(routes, &state).layer(middleware::from_fn(routes::openai::shaped)).with_state(state)
}

/// A server that listens.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    state: ServerState,
}

impl Server {
    /// Listens where the options say.
    ///
    /// # Errors
    /// The error of the socket; what [`check`] says about the options.
    pub async fn bind(state: ServerState) -> io::Result<Self> {
        check(state.options()).map_err(io::Error::other)?;
        let listener = guard::connections::listen(state.options().listen)?;
        Ok(Self { listener, state })
    }

    /// Returns where it listens.
    ///
    /// # Errors
    /// The error of the socket.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Answers requests until `stop` is ready and the notice of the options is over, during which `/ready` says that it leaves;
    /// then those under way may end within the time of the options, and the work in the background ends in good order.
    ///
    /// # Errors
    /// The error of the socket.
    pub async fn serve(self, stop: impl Future<Output = ()> + Send + 'static) -> io::Result<()> {
        let Self { listener, state } = self;
        let (notice, drain, app) = (state.options().stop_notice, state.options().drain, state.app().clone());
        let (stopping, stopped) = tokio::sync::oneshot::channel();
        let router = router(state.clone());
        let watched = state.clone();
        let serving = guard::connections::serve(listener, router, &state, async move {
            stop.await;
            watched.leave();
            tokio::time::sleep(notice).await;
            // They would go on for as long as a page is open.
            watched.stop_watching();
            // Nobody listens when serving has ended already.
            stopping.send(()).ok();
        });
        let late = async {
            if stopped.await.is_ok() {
                tokio::time::sleep(drain).await;
            } else {
                std::future::pending::<()>().await;
            }
        };
        tokio::select! {
            () = serving => {}
            () = late => tracing::warn!("requests that took longer than the time to stop were broken off"),
        }
        app.stop().await;
        state.audit().flush().await;
        Ok(())
    }
}
