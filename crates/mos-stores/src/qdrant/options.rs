//! Where the server is, and how it is used.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use mos_core::StoreError;

/// The port on which a Qdrant server speaks gRPC, and the one of its REST interface, which settings often name.
const GRPC_PORT: u16 = 6334;
const REST_PORT: u16 = 6333;
/// Names of collections end up as names of folders on the server.
const MAX_PREFIX: usize = 128;

/// Where the server is, and how it is used. `Debug` shows no key.
#[derive(Clone)]
pub struct QdrantOptions {
    /// The address: `http://host:6334`, with TLS `https://host:6334`. The port is that of gRPC; without one, or with
    /// that of REST (6333), 6334 is meant.
    pub url: String,
    /// The port of gRPC, where the address names another one and means it.
    pub grpc_port: Option<u16>,
    /// The server's key.
    pub api_key: Option<String>,
    /// Begins the names of the collections. Every record needs one of its own: what the record does not hold is removed
    /// from its collections.
    pub prefix: String,
    /// The length that all vectors must have; `None` for whatever the cubes' encoders make.
    pub dimension: Option<usize>,
    /// A file with the certificates (PEM) that the server's must be signed by; `None` for those that the system trusts.
    pub ca_certificate: Option<PathBuf>,
    /// How long it may take to get a connection.
    pub connect_timeout: Duration,
    /// How long one answer may take.
    pub answer_timeout: Duration,
    /// How often the cubes that the server holds are compared with the record's feed in the background, so that what
    /// another program deletes goes, too.
    pub sweep_every: Duration,
}

/// A checked address.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Address {
    /// For the driver.
    pub(super) url: String,
    /// For messages: host and port.
    pub(super) shown: String,
    pub(super) has_tls: bool,
}

impl QdrantOptions {
    /// Returns options for the server at an address.
    pub fn at(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            grpc_port: None,
            api_key: None,
            prefix: "mos".to_owned(),
            dimension: None,
            ca_certificate: None,
            connect_timeout: Duration::from_secs(5),
            answer_timeout: Duration::from_secs(30),
            sweep_every: Duration::from_secs(600),
        }
    }

    /// Returns the address.
    ///
    /// # Errors
    /// [`StoreError::Invalid`] for options that cannot be right. The error repeats nothing that may be a secret.
    pub(super) fn check(&self) -> Result<Address, StoreError> {
        let invalid = |text: &str| Err(StoreError::Invalid(text.to_owned()));
        let may_stand = |character: char| character.is_ascii_alphanumeric() || "_-.".contains(character);
        if self.prefix.is_empty() || self.prefix.len() > MAX_PREFIX || !self.prefix.chars().all(may_stand) {
            return Err(StoreError::Invalid(format!(
                "the names of Qdrant's collections cannot begin with `{}`; take 1 to {MAX_PREFIX} letters, digits, `_`, `-` \
                 or `.`",
                self.prefix
            )));
        }
        if self.api_key.as_ref().is_some_and(|key| !key.chars().all(|character| character.is_ascii_graphic())) {
            return invalid(
                "the key of the Qdrant server holds characters that no key has, such as a space or a line end",
            );
        }
        let Some((scheme, rest)) = self.url.split_once("://") else {
            return invalid(
                "the address of the Qdrant server cannot be read; write it as http://host:6334, or https://",
            );
        };
        if scheme != "http" && scheme != "https" {
            return invalid("the address of the Qdrant server must begin with http:// or https://");
        }
        if rest.contains('@') {
            return invalid(
                "the address of the Qdrant server holds a user name or password; Qdrant knows neither, give its key as \
                 `api_key`",
            );
        }
        let (authority, path) = rest.split_once(['/', '?', '#']).unwrap_or((rest, ""));
        if !path.is_empty() {
            return invalid("the address of the Qdrant server must be host and port only: gRPC knows no path");
        }
        let Some((host, port)) = host_and_port(authority) else {
            return invalid(
                "the address of the Qdrant server names no host, or a port that is none; write http://host:6334",
            );
        };
        if let Some(path) = &self.ca_certificate
            && let Err(error) = std::fs::metadata(path)
        {
            return Err(StoreError::Invalid(format!(
                "the certificate {} for the Qdrant server cannot be read: {error}; correct the path",
                path.display()
            )));
        }
        let shown = format!("{host}:{}", self.grpc_port.unwrap_or(port));
        Ok(Address { url: format!("{scheme}://{shown}"), shown, has_tls: scheme == "https" })
    }
}

fn host_and_port(authority: &str) -> Option<(&str, u16)> {
    let (host, port) = match authority.rsplit_once(':') {
        // Within brackets stands an address of IPv6.
        Some((host, port)) if !port.contains(']') => (host, port.parse().ok()?),
        _ => (authority, REST_PORT),
    };
    let is_host = !host.is_empty() && host.chars().all(|character| character.is_ascii_graphic());
    is_host.then_some((host, if port == REST_PORT { GRPC_PORT } else { port }))
}

impl fmt::Debug for QdrantOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("QdrantOptions")
            // What stands before an `@` may be a password.
            .field("url", &self.url.rsplit('@').next().unwrap_or_default())
            .field("prefix", &self.prefix)
            .field("has_api_key", &self.api_key.is_some())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_port_is_that_of_grpc() {
        let shown = |url: &str| QdrantOptions::at(url).check().unwrap().shown;
        for url in ["http://db.example", "http://db.example:6333", "https://db.example:6334/"] {
            assert_eq!(shown(url), "db.example:6334", "{url}");
        }
        assert_eq!(shown("http://db.example:7000"), "db.example:7000", "another port is taken at its word");
        assert_eq!(shown("http://[::1]:6333"), "[::1]:6334");
        assert_eq!(shown("http://[::1]"), "[::1]:6334");
        assert!(QdrantOptions::at("https://x").check().unwrap().has_tls);
        let other = QdrantOptions { grpc_port: Some(1234), ..QdrantOptions::at("http://x:6333") };
        assert_eq!(other.check().unwrap().url, "http://x:1234");
    }

    #[test]
    fn settings_that_cannot_be_right_are_refused() {
        for url in ["localhost:6334", "bolt://x", "http://", "http://x:y", "http://x/collections", "http://a:b@x"] {
            assert!(matches!(QdrantOptions::at(url).check(), Err(StoreError::Invalid(_))), "{url}");
        }
        for prefix in ["", "a/b", "a b", "é"] {
            let options = QdrantOptions { prefix: prefix.to_owned(), ..QdrantOptions::at("http://x") };
            assert!(options.check().is_err(), "{prefix}");
        }
        let absent = QdrantOptions { ca_certificate: Some("nowhere/ca.pem".into()), ..QdrantOptions::at("https://x") };
        assert!(absent.check().unwrap_err().to_string().contains("nowhere/ca.pem"));
    }

    #[test]
    fn no_secret_is_shown() {
        let options =
            QdrantOptions { api_key: Some("hunter2\n".to_owned()), ..QdrantOptions::at("http://a:hunter3@x") };
        assert!(!format!("{options:?}").contains("hunter"));
        let error = options.check().unwrap_err();
        assert!(!format!("{error} {error:?}").contains("hunter"), "{error}");
    }
}
