//! A client that keeps its connection.

use axum::body::{Body, Bytes, to_bytes};
use axum::http::{Request, StatusCode};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;

use crate::Failure;
use crate::serving::Serving;

/// Longer than any answer, in bytes.
const MAX_ANSWER: usize = 64 << 20;

/// A connection to the server.
pub(crate) struct Client {
    address: String,
    authorization: String,
    sender: SendRequest<Body>,
}

impl Client {
    pub(crate) async fn connect(server: &Serving) -> Result<Self, Failure> {
        Self::connect_to(server.address(), server.key()).await
    }

    pub(crate) async fn connect_to(address: &str, key: &str) -> Result<Self, Failure> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let (sender, connection) = handshake::<_, Body>(TokioIo::new(stream)).await?;
        tokio::spawn(async move {
            // Who waits for an answer is told what went wrong.
            connection.await.ok();
        });
        Ok(Self { address: address.to_owned(), authorization: format!("Bearer {key}"), sender })
    }

    /// Returns the body of the answer to a request, which must succeed.
    pub(crate) async fn post(&mut self, path: &str, body: &Value) -> Result<Bytes, Failure> {
        let request = Request::post(path)
            .header("host", self.address.as_str())
            .header("authorization", self.authorization.as_str())
            .header("content-type", "application/json")
            .body(Body::from(body.to_string()))?;
        self.sender.ready().await?;
        let response = self.sender.send_request(request).await?;
        let status = response.status();
        let body = to_bytes(Body::new(response.into_body()), MAX_ANSWER).await?;
        if status != StatusCode::OK {
            return Err(format!("{path} was answered with {status}: {}", String::from_utf8_lossy(&body)).into());
        }
        Ok(body)
    }

    /// As [`Client::post`], with the answer as JSON.
    pub(crate) async fn ask(&mut self, path: &str, body: &Value) -> Result<Value, Failure> {
        Ok(serde_json::from_slice(&self.post(path, body).await?)?)
    }
}
