//! Files at addresses, asked for by people who are not trusted.
//!
//! Invariants: a host is resolved once and only what was checked is connected to; addresses of this machine and of
//! private networks are asked only when the settings name them; redirects are followed by hand and checked like first
//! addresses; sizes hold for what is unpacked; no proxy is used, since it would resolve anew.

mod address;
mod body;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use mos_core::{FetchError, Fetched, Fetcher};
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::header::{ACCEPT, ACCEPT_ENCODING, CONTENT_DISPOSITION, CONTENT_TYPE, HeaderMap, LOCATION};
use reqwest::{Client, Response, Url};

use crate::http::innermost;
use crate::options::place;
use address::{HostRule, Reach, plain_host, reach};

/// The most redirects that are ever followed.
const MAX_REDIRECTS: usize = 3;

/// The longest address that is asked.
const MAX_URL_BYTES: usize = 4_096;

/// The longest name of a file that is kept.
const MAX_NAME_CHARS: usize = 255;

/// What may be fetched.
#[derive(Clone, Debug, PartialEq)]
pub struct HttpFetcherOptions {
    /// `https`, `http`.
    pub allow_schemes: Vec<String>,
    /// Hosts that may be asked: `example.org`, `*.example.org`, `127.0.0.1:8080`. Empty: every public host.
    pub allow_hosts: Vec<String>,
    /// Bytes of one file, unpacked.
    pub max_bytes: usize,
    /// For one file, redirects included.
    pub timeout: Duration,
    /// Redirects that are followed; more than 3 count as 3.
    pub max_redirects: usize,
}

impl Default for HttpFetcherOptions {
    fn default() -> Self {
        Self {
            allow_schemes: vec!["https".to_owned()],
            allow_hosts: Vec::new(),
            max_bytes: 32 << 20,
            timeout: Duration::from_secs(30),
            max_redirects: MAX_REDIRECTS,
        }
    }
}

/// Fetches over HTTP, within what its options allow.
#[derive(Debug)]
pub struct HttpFetcher {
    options: HttpFetcherOptions,
    rules: Vec<HostRule>,
}

impl HttpFetcher {
    /// Returns a fetcher. No request is made.
    ///
    /// # Errors
    /// [`FetchError::BadAddress`] for a scheme other than `http` and `https`, and for an entry of `allow_hosts` that is
    /// no host.
    pub fn open(options: HttpFetcherOptions) -> Result<Arc<dyn Fetcher>, FetchError> {
        crate::install_crypto();
        if let Some(scheme) = options.allow_schemes.iter().find(|scheme| !["http", "https"].contains(&scheme.as_str()))
        {
            return Err(FetchError::BadAddress(format!(
                "fetch.allow_schemes can hold only https and http, not `{scheme}`"
            )));
        }
        let rules = options.allow_hosts.iter().map(|host| {
            HostRule::parse(host).ok_or_else(|| {
                FetchError::BadAddress(format!(
                    "`{host}` in fetch.allow_hosts is no host; write example.org, *.example.org or 127.0.0.1:8080"
                ))
            })
        });
        let rules = rules.collect::<Result<_, _>>()?;
        Ok(Arc::new(Self { options, rules }))
    }

    /// Reads an address and checks everything that needs no network.
    fn checked(&self, url: &str) -> Result<Url, FetchError> {
        if url.len() > MAX_URL_BYTES {
            return Err(FetchError::BadAddress(format!("the address has more than {MAX_URL_BYTES} bytes")));
        }
        let url =
            Url::parse(url).map_err(|error| FetchError::BadAddress(format!("this is not an address: {error}")))?;
        self.check(url)
    }

    fn check(&self, mut url: Url) -> Result<Url, FetchError> {
        if !self.options.allow_schemes.iter().any(|scheme| scheme == url.scheme()) {
            let allowed = self.options.allow_schemes.join(", ");
            return Err(FetchError::Refused(format!(
                "addresses that begin with {}: are not fetched (fetch.allow_schemes has: {allowed})",
                url.scheme()
            )));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(FetchError::BadAddress(format!(
                "the address of {} holds a user or password; leave them out",
                place(&url)
            )));
        }
        let Some(host) = url.host_str().map(plain_host).filter(|host| !host.is_empty()) else {
            return Err(FetchError::BadAddress("the address has no host".to_owned()));
        };
        let port = port(&url);
        if !self.rules.is_empty() && !self.rules.iter().any(|rule| rule.allows(&host, port)) {
            return Err(FetchError::Refused(format!(
                "{} is not fetched: fetch.allow_hosts does not have `{host}`",
                place(&url)
            )));
        }
        url.set_fragment(None);
        Ok(url)
    }

    /// Returns the addresses of the host, all of which may be asked.
    async fn resolved(&self, url: &Url) -> Result<Vec<SocketAddr>, FetchError> {
        let host = url.host_str().map(plain_host).unwrap_or_default();
        let port = port(url);
        let addresses: Vec<SocketAddr> = match host.parse::<IpAddr>() {
            Ok(address) => vec![SocketAddr::new(address, port)],
            Err(_) => tokio::net::lookup_host((host.as_str(), port))
                .await
                .map_err(|error| FetchError::Unavailable(format!("the host `{host}` is not found: {error}")))?
                .collect(),
        };
        if addresses.is_empty() {
            return Err(FetchError::Unavailable(format!("the host `{host}` has no address")));
        }
        for address in &addresses {
            let what = match reach(address.ip()) {
                Reach::Public => continue,
                Reach::Private(_) if self.rules.iter().any(|rule| rule.names(&host, address.ip(), port)) => continue,
                Reach::Private(what) | Reach::Never(what) => what,
            };
            return Err(FetchError::Refused(format!("{} is not fetched: `{host}` leads to {what}", place(url))));
        }
        Ok(addresses)
    }

    /// Sends one request to exactly the addresses that were checked.
    async fn request(&self, url: &Url) -> Result<Response, FetchError> {
        let addresses = self.resolved(url).await?;
        let client = Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .referer(false)
            .no_gzip()
            .no_brotli()
            .no_deflate()
            .no_zstd()
            .pool_max_idle_per_host(0)
            .user_agent(concat!("mos/", env!("CARGO_PKG_VERSION")))
            .dns_resolver(Pinned(addresses.clone()))
            .build()
            .map_err(|error| FetchError::Unavailable(format!("HTTP cannot be prepared: {error}")))?;
        let request = client.get(url.clone()).header(ACCEPT, "*/*").header(ACCEPT_ENCODING, "gzip");
        let response = request.send().await.map_err(|error| {
            FetchError::Unavailable(format!("{} cannot be fetched: {}", place(url), innermost(&error)))
        })?;
        // What the connection itself says; it can only differ by a fault of ours.
        match response.remote_addr() {
            Some(peer) if !addresses.iter().any(|address| same_peer(address.ip(), peer.ip())) => {
                Err(FetchError::Refused(format!("{} was answered from an address that was not checked", place(url))))
            }
            _ => Ok(response),
        }
    }

    async fn follow(&self, url: &str) -> Result<Fetched, FetchError> {
        let mut url = self.checked(url)?;
        let max_redirects = self.options.max_redirects.min(MAX_REDIRECTS);
        for _ in 0..=max_redirects {
            let response = self.request(&url).await?;
            let status = response.status();
            if status.is_success() {
                return self.read(&url, response).await;
            }
            let target = response.headers().get(LOCATION).and_then(|target| target.to_str().ok());
            let Some(target) = target.filter(|_| matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308)) else {
                return Err(FetchError::Status { place: place(&url), status: status.as_u16() });
            };
            let next = url
                .join(target)
                .map_err(|_| FetchError::BadAnswer(format!("{} redirects to what is not an address", place(&url))))?;
            url = self.check(next)?;
        }
        Err(FetchError::Refused(format!(
            "{} redirects further than {max_redirects} times (fetch.max_redirects)",
            place(&url)
        )))
    }

    async fn read(&self, url: &Url, response: Response) -> Result<Fetched, FetchError> {
        let content_type =
            response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).map(str::to_owned);
        let name = given_name(response.headers()).or_else(|| last_part(url)).map(|name| clean_name(&name));
        let bytes = body::read(url, response, self.options.max_bytes).await?;
        Ok(Fetched { bytes, name: name.filter(|name| !name.is_empty()), content_type })
    }
}

#[async_trait]
impl Fetcher for HttpFetcher {
    async fn fetch(&self, url: &str) -> Result<Fetched, FetchError> {
        let url = url.trim();
        let url = url.strip_prefix('@').unwrap_or(url);
        match tokio::time::timeout(self.options.timeout, self.follow(url)).await {
            Ok(fetched) => fetched,
            Err(_) => {
                let place = Url::parse(url).map_or_else(|_| "the address".to_owned(), |url| place(&url));
                Err(FetchError::Unavailable(format!(
                    "{place} was not fetched within {} s (fetch.timeout)",
                    self.options.timeout.as_secs_f64()
                )))
            }
        }
    }
}

fn port(url: &Url) -> u16 {
    url.port_or_known_default().unwrap_or(0)
}

/// An IPv4 address may come back in the writing of IPv6.
fn same_peer(one: IpAddr, other: IpAddr) -> bool {
    one.to_canonical() == other.to_canonical()
}

/// Knows the addresses that were checked, whatever is asked for.
struct Pinned(Vec<SocketAddr>);

impl Resolve for Pinned {
    fn resolve(&self, _: Name) -> Resolving {
        let addresses: Addrs = Box::new(self.0.clone().into_iter());
        Box::pin(std::future::ready(Ok(addresses)))
    }
}

/// Returns the name in `attachment; filename="report.pdf"` or `filename*=UTF-8''r%C3%A9port.pdf`.
fn given_name(headers: &HeaderMap) -> Option<String> {
    let disposition = String::from_utf8_lossy(headers.get(CONTENT_DISPOSITION)?.as_bytes()).into_owned();
    let field = |name: &str| {
        disposition.split(';').skip(1).find_map(|part| {
            let (key, value) = part.split_once('=')?;
            key.trim().eq_ignore_ascii_case(name).then(|| value.trim().trim_matches('"').to_owned())
        })
    };
    let encoded = field("filename*").and_then(|value| value.split("''").nth(1).map(unescaped));
    encoded.or_else(|| field("filename"))
}

fn last_part(url: &Url) -> Option<String> {
    url.path_segments()?.next_back().map(unescaped)
}

/// Resolves `%20` and the like; what is not UTF-8 then is replaced.
fn unescaped(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let hex = text.get(at + 1..at + 3).and_then(|digits| u8::from_str_radix(digits, 16).ok());
        match hex.filter(|_| bytes[at] == b'%') {
            Some(byte) => {
                out.push(byte);
                at += 3;
            }
            None => {
                out.push(bytes[at]);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// A name is never a way to a folder.
fn clean_name(name: &str) -> String {
    let last = name.rsplit(['/', '\\']).next().unwrap_or_default();
    let name: String = last.chars().filter(|letter| !letter.is_control()).take(MAX_NAME_CHARS).collect();
    if name.trim_matches('.').is_empty() { String::new() } else { name }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_safe() {
        let named = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(CONTENT_DISPOSITION, value.parse().unwrap());
            given_name(&headers).map(|name| clean_name(&name))
        };
        assert_eq!(named("attachment; filename=\"a b.pdf\"").as_deref(), Some("a b.pdf"));
        assert_eq!(named("attachment; filename=x; filename*=UTF-8''r%C3%A9.pdf").as_deref(), Some("ré.pdf"));
        assert_eq!(named("attachment; filename=\"../../etc/passwd\"").as_deref(), Some("passwd"));
        assert_eq!(named("inline"), None);
        let url = Url::parse("https://example.org/a/my%20file.md?x=1").unwrap();
        assert_eq!(last_part(&url).as_deref(), Some("my file.md"));
        assert_eq!((clean_name(".."), unescaped("%zz%4")), (String::new(), "%zz%4".to_owned()));
    }
}
