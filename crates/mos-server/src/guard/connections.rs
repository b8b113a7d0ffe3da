//! Accepting connections: not more than there is room for, not too many of one address, and none that only waits or takes
//! nothing of its answer.
//!
//! When all places are taken, connections wait in the system's queue. An address that has all that it may is told so at once:
//! let wait, its connections would keep out everybody behind them.

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
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::{JoinError, JoinSet};
use tower::ServiceExt;

use super::places::{Place, Places};
use super::stalled::Impatient;
use crate::metrics::Open;
use crate::state::ServerState;

/// Headers that the parser takes; beyond them it answers 431 itself.
const MAX_HEADERS: usize = 100;

/// Bytes of a head, and of what is read ahead.
const MAX_BUFFER: usize = 64 * 1024;

/// How many bytes of an answer the system keeps for who is slow to take it. It says that something was taken only when a third of
/// them has gone: of the megabytes that it would keep by itself, that could take longer than the patience with a slow caller.
const KEPT_BY_SYSTEM: u32 = 256 * 1024;

/// How many connections may wait in the system's queue; most systems have a smaller bound of their own.
const WAITING: u32 = 4_096;

/// How long nothing is accepted after the system could not accept.
const PAUSE: Duration = Duration::from_millis(200);

/// How long a connection that is refused may take to hear so.
const REFUSING: Duration = Duration::from_millis(200);

/// What an address hears that has all the connections that it may, whatever it asks.
const REFUSED: &[u8] = b"HTTP/1.1 429 Too Many Requests\r\n\
    Content-Type: application/json\r\n\
    Retry-After: 1\r\n\
    Connection: close\r\n\
    Content-Length: 120\r\n\
    \r\n\
    {\"code\":429,\"message\":\"too many connections from this address; close some, or use one for several requests\",\"data\":null}";

/// Listens at an address.
///
/// # Errors
/// The error of the socket.
pub(crate) fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // A server that starts again takes its place at once. On Windows the option would let others take it.
    #[cfg(not(windows))]
    socket.set_reuseaddr(true)?;
    // Connections have it from the socket that accepts them.
    socket.set_send_buffer_size(KEPT_BY_SYSTEM)?;
    socket.bind(address)?;
    socket.listen(WAITING)
}

/// Answers requests on connections to `listener` until `stop` is ready; then idle connections are closed, and the others when
/// their answers have ended. Dropping it breaks off those that are left, with the work behind them.
pub(crate) async fn serve(listener: TcpListener, router: Router, state: &ServerState, stop: impl Future<Output = ()>) {
    let room = Arc::new(Semaphore::new(state.options().max_connections.clamp(1, Semaphore::MAX_PERMITS)));
    let places = Places::new(state.options().max_connections_per_address, &state.options().trusted_proxies);
    let connections = GracefulShutdown::new();
    let builder = parser(state.options().header_timeout);
    let mut held = JoinSet::new();
    let mut stop = std::pin::pin!(stop);
    loop {
        let (stream, peer, room_taken) = tokio::select! {
            accepted = accept(&listener, &room) => accepted,
            Some(ended) = held.join_next(), if !held.is_empty() => {
                tell_of_panic(&ended);
                continue;
            }
            () = &mut stop => break,
        };
        let Some(place) = places.take(peer.ip()) else {
            state.metrics().refused_connection();
            tokio::spawn(refuse(stream, room_taken));
            continue;
        };
        let open = state.metrics().connection();
        let router = router.clone();
        let service = service_fn(move |request: Request<Incoming>| answer(router.clone(), request, peer));
        // Whoever takes nothing for as long as it may be idle is gone.
        let stream = TokioIo::new(Impatient::new(stream, state.options().header_timeout));
        let connection = connections.watch(builder.serve_connection(stream, service));
        held.spawn(async move {
            let _held: (OwnedSemaphorePermit, Place, Open) = (room_taken, place, open);
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

/// A stream can break down after its answer has begun. What it said then can hold a memory.
fn tell_of_panic(ended: &Result<(), JoinError>) {
    if ended.as_ref().is_err_and(JoinError::is_panic) {
        tracing::error!("a connection was lost because its stream panicked; this is a fault of the server");
    }
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

/// Tells a connection that it is one too many. It has room until then, so that there are never more of these than of others.
async fn refuse(mut stream: TcpStream, _room: OwnedSemaphorePermit) {
    let told = async {
        stream.write_all(REFUSED).await?;
        stream.shutdown().await?;
        // What is sent is taken: bytes that nobody reads would make the system throw the answer away.
        let mut taken = [0; 4_096];
        while stream.read(&mut taken).await? > 0 {}
        Ok::<(), io::Error>(())
    };
    match tokio::time::timeout(REFUSING, told).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "a connection that was refused did not hear it"),
        Err(_) => tracing::debug!("a connection that was refused was slow to hear it"),
    }
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

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::sync::Mutex;

    use axum::body::Bytes;
    use axum::response::Response;
    use futures::stream;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(30);

    /// Says when it is dropped.
    struct Noticed(Arc<Mutex<bool>>);

    impl Drop for Noticed {
        fn drop(&mut self) {
            *self.0.lock().unwrap() = true;
        }
    }

    #[tokio::test]
    async fn the_system_keeps_little_of_an_answer_that_is_not_taken() {
        let listener = listen(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).unwrap();
        let silent = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (stream, _) = listener.accept().await.unwrap();
        let piece = vec![b'x'; 64 * 1024];
        let two_megabytes = async {
            let mut n_written = 0;
            while n_written < 2 * 1024 * 1024 {
                stream.writable().await.unwrap();
                // Otherwise it is full, and is waited for.
                if let Ok(n_more) = stream.try_write(&piece) {
                    n_written += n_more;
                }
            }
        };
        let written = tokio::time::timeout(Duration::from_millis(300), two_megabytes).await;
        assert!(written.is_err(), "so much would be kept that nobody sees whether it is being taken");
        drop(silent);
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_that_nobody_takes_ends_with_the_work_behind_it() {
        let (near, mut far) = tokio::io::duplex(1_024);
        far.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
        let is_gone = Arc::new(Mutex::new(false));
        let work = Arc::new(Noticed(Arc::clone(&is_gone)));
        let service = service_fn(move |_: Request<Incoming>| {
            let work = Arc::clone(&work);
            let endless = stream::repeat_with(move || {
                let _held = &work;
                Ok::<_, Infallible>(Bytes::from_static(&[b'x'; 512]))
            });
            async move { Ok::<_, Infallible>(Response::new(Body::from_stream(endless))) }
        });
        let stream = TokioIo::new(Impatient::new(near, PATIENCE));
        let connection = parser(PATIENCE).serve_connection(stream, service);
        let ended = tokio::time::timeout(PATIENCE * 10, connection).await.expect("it is broken off");
        assert!(ended.is_err());
        assert!(*is_gone.lock().unwrap());
        drop(far);
    }
}
