//! The tools on standard input and output, for the program that started this one.

use std::future::Future;
use std::io;

use rmcp::ServiceExt;
use rmcp::service::ServerInitializeError;

use super::McpServer;

/// Answers on standard input and output until the client closes them or `stop` is ready. Nothing else may be written to
/// standard output meanwhile.
///
/// # Errors
/// What a client said that does not speak the protocol; errors of the streams.
pub async fn serve_stdio(server: McpServer, stop: impl Future<Output = ()>) -> io::Result<()> {
    let serving = async {
        let running = match server.serve(rmcp::transport::stdio()).await {
            Ok(running) => running,
            // Whoever started this program went without a word.
            Err(ServerInitializeError::ConnectionClosed(_)) => return Ok(()),
            Err(error) => return Err(io::Error::other(format!("the client does not speak MCP: {error}"))),
        };
        match running.waiting().await {
            Ok(_) => Ok(()),
            Err(error) => Err(io::Error::other(format!("the connection to the client broke: {error}"))),
        }
    };
    tokio::select! {
        served = serving => served,
        () = stop => Ok(()),
    }
}
