//! By which name a request calls the server.
//!
//! A page of a stranger can make its own name lead to this machine (DNS rebinding) and then asks the server as if it were its
//! own; the name gives it away. An address as the name does not: whoever is there needs no such trick.

use std::net::IpAddr;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use crate::error::ApiError;
use crate::options::ServerOptions;
use crate::state::ServerState;

/// How much of a foreign name is told in the log, in bytes.
const MAX_SHOWN: usize = 253;

/// Refuses requests that call the server by a name that is not its own.
pub(super) async fn check(State(state): State<ServerState>, request: Request, next: Next) -> Response {
    match named(request.headers(), request.uri()) {
        // Browsers always say a name.
        None => next.run(request).await,
        Some(name) if is_own(&name, state.options()) => next.run(request).await,
        Some(name) => {
            // Strangers do not choose how long a line of the log is.
            let shown = name.get(..MAX_SHOWN).unwrap_or(&name);
            tracing::warn!(host = shown, "a request by a foreign name was refused");
            let message =
                "the server does not go by the name in the header `Host`; list it under `server.allowed_hosts`";
            ApiError::new(StatusCode::MISDIRECTED_REQUEST, message).into_response()
        }
    }
}

/// Returns the name and port that a request calls; texts that are none become the empty name, which nobody has.
pub(super) fn named(headers: &HeaderMap, uri: &Uri) -> Option<String> {
    let mut said = headers.get_all(header::HOST).iter();
    match (said.next(), said.next(), uri.authority()) {
        (Some(_), Some(_), _) => Some(String::new()),
        (Some(host), None, _) => Some(host.to_str().unwrap_or_default().to_ascii_lowercase()),
        (None, _, Some(authority)) => Some(authority.as_str().to_ascii_lowercase()),
        (None, _, None) => None,
    }
}

/// Whether the server goes by a name. Ports do not matter: a port of another machine may lead here.
fn is_own(named: &str, options: &ServerOptions) -> bool {
    let host = without_port(named);
    let listen = options.listen.ip();
    let is_everywhere = listen.is_unspecified();
    if let Ok(address) = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>() {
        let both_loopback = listen.is_loopback() && address.to_canonical().is_loopback();
        if is_everywhere || both_loopback || address.to_canonical() == listen.to_canonical() {
            return true;
        }
    }
    if host == "localhost" && (listen.is_loopback() || is_everywhere) {
        return true;
    }
    options.allowed_hosts.iter().any(|allowed| {
        let allowed = allowed.to_ascii_lowercase();
        match allowed.strip_prefix("*.") {
            Some(domain) => host.strip_suffix(domain).is_some_and(|rest| rest.len() > 1 && rest.ends_with('.')),
            None => allowed == named || allowed == host,
        }
    })
}

fn without_port(named: &str) -> &str {
    if let Some(end) = named.find(']') {
        return &named[..=end];
    }
    named.split_once(':').map_or(named, |(host, _)| host)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(listen: &str, allowed: &[&str]) -> ServerOptions {
        let allowed_hosts = allowed.iter().map(|host| (*host).to_owned()).collect();
        ServerOptions { listen: listen.parse().unwrap(), allowed_hosts, ..ServerOptions::default() }
    }

    #[test]
    fn on_loopback_only_its_own_names_are_taken() {
        let options = options("127.0.0.1:8000", &[]);
        for own in ["127.0.0.1:8000", "localhost:8000", "localhost", "[::1]:8000", "127.0.0.1"] {
            assert!(is_own(own, &options), "{own}");
        }
        for foreign in ["evil.example", "evil.example:8000", "localhost.evil.example", "192.168.1.5:8000", "", "[::1"] {
            assert!(!is_own(foreign, &options), "{foreign}");
        }
    }

    #[test]
    fn on_all_addresses_any_address_is_taken_but_no_name() {
        let options = options("0.0.0.0:8000", &[]);
        assert!(is_own("192.168.1.5:9000", &options) && is_own("localhost:8000", &options));
        assert!(!is_own("evil.example:8000", &options));
    }

    #[test]
    fn listed_names_are_taken() {
        let options = options("10.0.0.1:8000", &["Mos.example.com", "*.internal.example", "other.example:8443"]);
        assert!(is_own("10.0.0.1:8000", &options) && is_own("mos.example.com:443", &options));
        assert!(is_own("a.internal.example", &options) && is_own("other.example:8443", &options));
        for foreign in ["localhost", "internal.example", "xinternal.example", "other.example", "mos.example.com.evil"] {
            assert!(!is_own(foreign, &options), "{foreign}");
        }
    }

    #[test]
    fn two_names_at_once_are_nobodys() {
        let mut headers = HeaderMap::new();
        assert_eq!(named(&headers, &Uri::from_static("/health")), None);
        headers.append(header::HOST, "localhost".parse().unwrap());
        assert_eq!(named(&headers, &Uri::from_static("/health")).unwrap(), "localhost");
        headers.append(header::HOST, "evil.example".parse().unwrap());
        assert_eq!(named(&headers, &Uri::from_static("/health")).unwrap(), "");
    }
}
