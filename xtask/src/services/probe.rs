//! Whether a server answers: the first words of each protocol, so that no client is linked.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::time::Duration;

use anyhow::{Context, bail};

const PATIENCE: Duration = Duration::from_secs(5);

/// A connection on which nothing waits for longer than [`PATIENCE`].
pub(super) fn connect(address: SocketAddr) -> anyhow::Result<TcpStream> {
    let stream =
        TcpStream::connect_timeout(&address, PATIENCE).with_context(|| format!("nobody answers at {address}"))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// Whether somebody listens at a given address such as `scheme://user:password@host:port/path?query`.
pub(super) fn reach(url: &str, usual_port: u16) -> anyhow::Result<()> {
    let authority = authority(url).context("the address has no `scheme://host`")?;
    let has_port = authority.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
    let with_port = if has_port { authority.to_owned() } else { format!("{authority}:{usual_port}") };
    let mut addresses = with_port.to_socket_addrs().with_context(|| format!("no such host: {with_port}"))?;
    connect(addresses.next().with_context(|| format!("no such host: {with_port}"))?)?;
    Ok(())
}

/// A given address without user, password, path and query.
pub(super) fn without_secrets(url: &str) -> String {
    match (url.split_once("://"), authority(url)) {
        (Some((scheme, _)), Some(authority)) => format!("{scheme}://{authority}"),
        _ => "(not an address)".to_owned(),
    }
}

/// Host, and port if there is one.
fn authority(url: &str) -> Option<&str> {
    let (_, rest) = url.split_once("://")?;
    let whole = rest.split(['/', '?', '#']).next()?;
    let host = whole.rsplit_once('@').map_or(whole, |(_, host)| host);
    (!host.is_empty()).then_some(host)
}

/// Logs in to Redis and asks for a sign of life.
pub(super) fn redis(address: SocketAddr, password: &str) -> anyhow::Result<()> {
    let mut stream = connect(address)?;
    write!(stream, "AUTH {password}\r\nPING\r\n")?;
    let mut answers = BufReader::new(stream).lines();
    for expected in ["+OK", "+PONG"] {
        let answer = answers.next().context("Redis hung up")??;
        anyhow::ensure!(answer == expected, "Redis says {answer}");
    }
    Ok(())
}

/// Asks PostgreSQL for a session as `mos`; it is ready when it asks for the password.
pub(super) fn postgres(address: SocketAddr) -> anyhow::Result<()> {
    let parameters = b"user\0mos\0database\0mos\0\0";
    let mut stream = connect(address)?;
    let mut message = u32::try_from(8 + parameters.len())?.to_be_bytes().to_vec();
    message.extend(196_608_u32.to_be_bytes()); // version 3.0 of the protocol
    message.extend(parameters);
    stream.write_all(&message)?;
    let mut answer = [0; 9]; // kind, length, and which way of logging in
    stream.read_exact(&mut answer).context("PostgreSQL hung up")?;
    let [kind, _, _, _, _, way @ ..] = answer;
    match (kind, u32::from_be_bytes(way)) {
        (b'R', 0) => bail!("PostgreSQL lets everybody in without a password"),
        (b'R', _) => Ok(()),
        _ => bail!("PostgreSQL takes no sessions yet"),
    }
}

/// Whether a path answers with 200.
pub(super) fn http_ready(address: SocketAddr, path: &str) -> anyhow::Result<()> {
    let mut stream = connect(address)?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")?;
    let mut status = String::new();
    BufReader::new(stream).take(4096).read_line(&mut status)?;
    anyhow::ensure!(status.split(' ').nth(1) == Some("200"), "{path} answers {}", status.trim());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn given_addresses_are_shown_without_secrets() {
        for (url, shown) in [
            ("postgres://mos:s3cr@t@db.example:5433/mos?sslmode=require", "postgres://db.example:5433"),
            ("neo4j+s://graph.example", "neo4j+s://graph.example"),
            ("redis://:pass@[::1]:6379/0", "redis://[::1]:6379"),
            ("sqlite:users.db", "(not an address)"),
            ("http://", "(not an address)"),
        ] {
            assert_eq!(without_secrets(url), shown);
        }
    }

    #[test]
    fn an_address_is_reached_while_somebody_listens() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        reach(&format!("bolt://user:pass@127.0.0.1:{port}/path"), 1).unwrap();
        reach("http://127.0.0.1", port).unwrap();
        drop(listener);
        // A process that another test starts at this moment holds the listener for as long as it takes to begin.
        let is_gone = || reach("http://127.0.0.1", port).is_err();
        assert!((0..100).any(|_| is_gone() || {
            std::thread::sleep(std::time::Duration::from_millis(50));
            false
        }));
        reach("sqlite:users.db", port).unwrap_err();
    }
}
