//! Where a server is, how to be let in, and how patient to be.

use std::fmt;
use std::time::Duration;

use reqwest::Url;

use crate::secret::Secret;

/// How long to wait and how often to ask again.
#[derive(Clone, Debug, PartialEq)]
pub struct HttpOptions {
    /// Until a connection stands.
    pub connect_timeout: Duration,
    /// Until the first piece of an answer. Long: the server computes the prompt first.
    pub first_byte_timeout: Duration,
    /// Between two pieces of an answer.
    pub idle_timeout: Duration,
    /// For a whole answer, all retries together.
    pub total_timeout: Duration,
    /// Repetitions after a refusal that may pass (429, 5xx, no connection), before the first text only.
    pub max_retries: usize,
    /// Wait before the first repetition; it doubles each time. By chance up to half of it is left out, so that clients
    /// that were refused together do not come back together.
    pub backoff: Duration,
    /// The longest wait between repetitions. A server that asks for more is not asked again; one that asks for less is
    /// given what it asks for.
    pub max_backoff: Duration,
    /// The most bytes of one answer.
    pub max_body_bytes: usize,
}

impl Default for HttpOptions {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(10),
            first_byte_timeout: Duration::from_secs(120),
            idle_timeout: Duration::from_secs(60),
            total_timeout: Duration::from_secs(600),
            max_retries: 3,
            backoff: Duration::from_millis(500),
            max_backoff: Duration::from_secs(30),
            max_body_bytes: 32 << 20,
        }
    }
}

impl HttpOptions {
    /// Returns the waits of a request that must be done within `timeout`, for what a search waits for: a slow server is
    /// given up soon, one that refuses is asked once more.
    pub fn within(timeout: Duration) -> Self {
        Self {
            connect_timeout: timeout.min(Duration::from_secs(10)),
            first_byte_timeout: timeout,
            idle_timeout: timeout,
            total_timeout: timeout,
            max_retries: 1,
            max_backoff: Duration::from_secs(2),
            max_body_bytes: 8 << 20,
            ..Self::default()
        }
    }
}

/// Where a server is and how to be let in.
///
/// `Debug` shows the address without what may be a credential in it.
#[derive(Clone, PartialEq)]
pub struct ServerOptions {
    /// Address; for OpenAI's format up to and including `/v1`.
    pub base_url: String,
    /// Sent as a bearer token, when there is one.
    pub api_key: Option<Secret>,
    /// Sent with every request; values are masked like keys.
    pub headers: Vec<(String, Secret)>,
    /// Parameters in the address of every request, for example `api-version`. They are shown: no place for credentials.
    pub parameters: Vec<(String, String)>,
    /// Time-outs and retries.
    pub http: HttpOptions,
}

impl ServerOptions {
    /// Returns options for a server without credentials, with the default time-outs.
    pub fn new(base_url: impl Into<String>) -> Self {
        Self {
            base_url: base_url.into(),
            api_key: None,
            headers: Vec::new(),
            parameters: Vec::new(),
            http: HttpOptions::default(),
        }
    }

    /// Whether what lets in at this server may be told at `address` too: it has the same host, perhaps another port, and is
    /// encrypted if this one is.
    pub fn is_host_of(&self, address: &str) -> bool {
        let (Ok(own), Ok(other)) = (Url::parse(self.base_url.trim()), Url::parse(address.trim())) else { return false };
        let is_as_safe = own.scheme() == other.scheme() || other.scheme() == "https";
        own.has_host() && own.host_str() == other.host_str() && is_as_safe
    }

    /// Returns options for a deployment of an Azure resource, in a version of its interface; the key travels in the
    /// header `api-key`. An address that has a path below `/openai/` already is taken as it is.
    pub fn azure(resource_url: &str, deployment: &str, api_version: &str, key: Secret) -> Self {
        let mut base_url = resource_url.trim().to_owned();
        if let Ok(mut url) = Url::parse(&base_url)
            && !url.path().contains("/openai/")
        {
            // What cannot have a path is refused when the server is opened.
            if let Ok(mut segments) = url.path_segments_mut() {
                segments.pop_if_empty().extend(["openai", "deployments", deployment]);
            }
            base_url = url.to_string();
        }
        Self {
            headers: vec![("api-key".to_owned(), key)],
            parameters: vec![("api-version".to_owned(), api_version.to_owned())],
            ..Self::new(base_url)
        }
    }
}

impl fmt::Debug for ServerOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = Url::parse(&self.base_url).map_or_else(|_| "not an address".to_owned(), |url| place(&url));
        f.debug_struct("ServerOptions")
            .field("base_url", &place)
            .field("api_key", &self.api_key)
            .field("headers", &self.headers)
            .field("parameters", &self.parameters)
            .field("http", &self.http)
            .finish()
    }
}

/// Returns an address without credentials and query.
pub(crate) fn place(url: &Url) -> String {
    let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
    let host = url.host_str().unwrap_or_default();
    format!("{}://{host}{port}{}", url.scheme(), url.path().trim_end_matches('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lets_in_is_told_to_the_same_host_only() {
        let is_told = |own: &str, other: &str| ServerOptions::new(own).is_host_of(other);
        for (own, other) in
            [("http://a:1/v1", "http://A:2/v1"), ("http://a/v1", "https://a/v1"), ("https://a", "https://a/x")]
        {
            assert!(is_told(own, other), "{own} {other}");
        }
        let others = ["https://b.a/v1", "https://a.b/v1", "https://a@b/v1", "http://a/v1", "a", ""];
        assert!(others.iter().all(|other| !is_told("https://a/v1", other)));
        assert!(!is_told("no address", "no address"));
    }

    #[test]
    fn an_azure_resource_is_completed_and_a_whole_address_is_not() {
        let address = |url: &str| ServerOptions::azure(url, "my gpt", "2024-10-21", Secret::new("k")).base_url;
        let expected = "https://x.openai.azure.com/openai/deployments/my%20gpt";
        assert_eq!(address("https://x.openai.azure.com/"), expected);
        assert_eq!(address("https://x.openai.azure.com"), expected);
        assert_eq!(address("https://x/openai/deployments/other"), "https://x/openai/deployments/other");
        assert_eq!(address("no address"), "no address");
    }
}
