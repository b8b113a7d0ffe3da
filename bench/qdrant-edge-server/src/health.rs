//! Whether the server is ready, over HTTP.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{sleep, timeout};

/// How long a client may take to ask.
const PATIENCE: Duration = Duration::from_secs(5);
/// Bytes of a request that are read.
const MAX_REQUEST: u64 = 4096;

/// Answers whoever asks, one after the other.
pub(crate) async fn answer(listener: TcpListener) {
    loop {
        let answered = match listener.accept().await {
            Ok((stream, _)) => timeout(PATIENCE, answer_one(stream)).await.unwrap_or(Ok(())),
            Err(error) => {
                // Nothing but waiting helps when there are too many open files.
                sleep(Duration::from_millis(100)).await;
                Err(error)
            }
        };
        if let Err(error) = answered {
            eprintln!("health: {error}");
        }
    }
}

async fn answer_one(stream: TcpStream) -> io::Result<()> {
    let (from, mut to) = stream.into_split();
    let mut from = BufReader::new(from.take(MAX_REQUEST));
    let mut request = String::new();
    from.read_line(&mut request).await?;
    // To the empty line at its end: a connection that is closed over something unread breaks, and the answer with it.
    let mut header = String::new();
    while from.read_line(&mut header).await? > 0 && !header.trim().is_empty() {
        header.clear();
    }
    let status = if request.starts_with("GET /readyz ") { "200 OK" } else { "404 Not Found" };
    let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
    to.write_all(answer.as_bytes()).await?;
    to.shutdown().await
}
