//! Accepting connections: not more than there is room for, and none that only waits.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tower::ServiceExt;

use crate::metrics::Open;
use crate::state::ServerState;

/// Headers that the parser takes; beyond them it answers 431 itself.
const MAX_HEADERS: usize = 100;

/// Bytes of a head, and of what is read ahead.
const MAX_BUFFER: usize = 64 * 1024;

/// How long nothing is accepted after the system could not accept.
const PAUSE: Duration = Duration::from_millis(200);

/// Answers requests on connections to `listener` until `stop` is ready; then idle connections are closed, and the others when
/// their answers have ended.
pub(crate) async fn serve(listener: TcpListener, router: Router, state: &ServerState, stop: impl Future<Output = ()>) {
    let room = Arc::new(Semaphore::new(state.options().max_connections.clamp(1, Semaphore::MAX_PERMITS)));
    let connections = GracefulShutdown::new();
    let builder = parser(state.options().header_timeout);
    let mut stop = std::pin::pin!(stop);
    loop {
        let (stream, peer, place) = tokio::select! {
            accepted = accept(&listener, &room) => accepted,
            () = &mut stop => break,
        };
        let open = state.metrics().connection();
        let router = router.clone();
        let service = service_fn(move |request: Request<Incoming>| answer(router.clone(), request, peer));
        let connection = connections.watch(builder.serve_connection(TokioIo::new(stream), service));
        tokio::spawn(async move {
            let _held: (OwnedSemaphorePermit, Open) = (place, open);
            if let Err(error) = connection.await {
                // Callers go away, or are too slow: their business.
                tracing::debug!(%error, "a connection ended early");
            }
        });
    }
    // Nobody new is let in while those who are there finish.
    drop(listener);
    connections.shutdown().await;
}

fn parser(header_timeout: Duration) -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(header_timeout)
        .max_headers(MAX_HEADERS)
        .max_buf_size(MAX_BUFFER);
    builder
}

async fn answer(
    router: Router,
    request: Request<Incoming>,
    peer: SocketAddr,
) -> Result<axum::response::Response, Infallible> {
    let mut request = request.map(Body::new);
    request.extensions_mut().insert(ConnectInfo(peer));
    router.oneshot(request).await
}

/// Returns the next connection once there is room for it.
async fn accept(listener: &TcpListener, room: &Arc<Semaphore>) -> (TcpStream, SocketAddr, OwnedSemaphorePermit) {
    loop {
        let place = Arc::clone(room).acquire_owned().await.expect("nobody closes the room");
        match listener.accept().await {
            Ok((stream, peer)) => {
                if let Err(error) = stream.set_nodelay(true) {
                    tracing::debug!(%error, "small packets of a connection may wait");
                }
                return (stream, peer, place);
            }
            Err(error) if is_of_caller(&error) => {}
            Err(error) => {
                tracing::error!(%error, "no connection can be accepted now; the limit of open files may be too low");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

/// Whether a caller went away before it was heard.
fn is_of_caller(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}
