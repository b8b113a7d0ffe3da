//! How the server behaves.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use mos_config::{ServerConfig, Settings};

/// Who may call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AuthMode {
    /// Who has a key.
    #[default]
    Keys,
    /// Everybody, as any user, in every cube: as MemOS; for tests on one machine.
    Open,
}

/// How often a key may call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateLimit {
    /// Requests in a window.
    pub requests: u32,
    /// The window.
    pub window: Duration,
}

/// Where traces are sent.
#[derive(Clone, Debug, PartialEq)]
pub struct Telemetry {
    /// The address of a collector of OpenTelemetry, for OTLP over gRPC.
    pub endpoint: String,
    /// The name under which traces are shown.
    pub service_name: String,
    /// The part of the traces that is sent, from 0 to 1.
    pub sample_ratio: f64,
}

/// How the server behaves. The defaults are safe: loopback, keys, limits.
#[derive(Clone, Debug, PartialEq)]
pub struct ServerOptions {
    /// Where it listens.
    pub listen: SocketAddr,
    /// Who may call.
    pub auth: AuthMode,
    /// Origins of pages that may call from a browser, as `https://app.example.com`; others are refused.
    pub cors_origins: Vec<String>,
    /// Names that requests may name as their host, besides the address it listens on and, on loopback, `localhost`.
    pub allowed_hosts: Vec<String>,
    /// Reverse proxies whose `X-Forwarded-For` is believed; nobody else's is.
    pub trusted_proxies: Vec<IpAddr>,
    /// The longest body, in bytes.
    pub max_body_bytes: usize,
    /// The deepest JSON.
    pub max_json_depth: usize,
    /// How long a request may take that is no stream.
    pub request_timeout: Duration,
    /// Within which time the head of a request must have come; so long may a connection be idle, too, take nothing of its
    /// answer, or bring nothing more of a body.
    pub header_timeout: Duration,
    /// How often a key (without one an address) may call; `None` for as often as it likes.
    pub rate_limit: Option<RateLimit>,
    /// Connections at a time; others wait.
    pub max_connections: usize,
    /// Connections of one address at a time; others are refused. `trusted_proxies` have no such bound.
    pub max_connections_per_address: usize,
    /// Requests that are worked on at a time; others are told to come again. One key (without one an address) has a quarter.
    pub max_concurrent_requests: usize,
    /// Shows `/metrics` to everybody.
    pub metrics_open: bool,
    /// Writes down who changed what.
    pub audit: bool,
    /// Where traces are sent; `None` for nowhere.
    pub telemetry: Option<Telemetry>,
    /// How long a server that is told to stop still takes requests while `/ready` answers 503.
    pub stop_notice: Duration,
    /// How long requests that are under way may still take when the server stops.
    pub drain: Duration,
}

impl Default for ServerOptions {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 8000)),
            auth: AuthMode::Keys,
            cors_origins: Vec::new(),
            allowed_hosts: Vec::new(),
            trusted_proxies: Vec::new(),
            max_body_bytes: 16 * 1024 * 1024,
            max_json_depth: 64,
            request_timeout: Duration::from_secs(300),
            header_timeout: Duration::from_secs(30),
            rate_limit: Some(RateLimit { requests: 1_000, window: Duration::from_secs(60) }),
            max_connections: 4_096,
            max_connections_per_address: 256,
            max_concurrent_requests: 512,
            metrics_open: false,
            audit: true,
            telemetry: None,
            stop_notice: Duration::ZERO,
            drain: Duration::from_secs(30),
        }
    }
}

impl ServerOptions {
    /// Returns what the section `server` of the settings says. Who may call is not a setting: the command line says it.
    pub fn from_settings(settings: &Settings) -> Self {
        let ServerConfig {
            listen,
            cors_origins,
            allowed_hosts,
            trusted_proxies,
            max_body_bytes,
            max_json_depth,
            request_timeout_seconds,
            header_timeout_seconds,
            stop_notice_seconds,
            drain_seconds,
            rate_limit,
            max_connections,
            max_connections_per_address,
            max_concurrent_requests,
            metrics_open,
            audit,
            opentelemetry,
        } = settings.server.clone();
        let rate = RateLimit {
            requests: u32::try_from(rate_limit.requests).unwrap_or(u32::MAX),
            window: Duration::from_secs(rate_limit.window_seconds),
        };
        let default = Self::default();
        Self {
            // Both were parsed when the settings were checked.
            listen: listen.parse().unwrap_or(default.listen),
            trusted_proxies: trusted_proxies.iter().filter_map(|proxy| proxy.parse().ok()).collect(),
            auth: default.auth,
            cors_origins,
            allowed_hosts,
            max_body_bytes,
            max_json_depth,
            request_timeout: Duration::from_secs_f64(request_timeout_seconds),
            header_timeout: Duration::from_secs_f64(header_timeout_seconds),
            rate_limit: rate_limit.enabled.then_some(rate),
            max_connections,
            max_connections_per_address,
            max_concurrent_requests,
            metrics_open,
            audit,
            telemetry: opentelemetry.map(|telemetry| Telemetry {
                endpoint: telemetry.endpoint,
                service_name: telemetry.service_name,
                sample_ratio: telemetry.sample_ratio,
            }),
            stop_notice: Duration::from_secs_f64(stop_notice_seconds),
            drain: Duration::from_secs_f64(drain_seconds),
        }
    }
}

/// Refuses options that would open the server to strangers, or cannot be met by this build.
///
/// # Errors
/// A sentence that says what to change.
pub fn check(options: &ServerOptions) -> Result<(), String> {
    if options.auth == AuthMode::Open && !options.listen.ip().is_loopback() {
        return Err(format!(
            "without keys the server listens on this machine alone, not on {}; use keys, or listen on 127.0.0.1",
            options.listen
        ));
    }
    if options.cors_origins.iter().any(|origin| origin == "*") {
        return Err("`*` is not taken in cors_origins; name the origins of the pages that may call".to_owned());
    }
    if options.telemetry.is_some() && cfg!(not(feature = "opentelemetry")) {
        return Err("this build cannot send traces; build with the feature `opentelemetry`, or remove \
                    `server.opentelemetry` from the settings"
            .to_owned());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use mos_config::Setting;
    use serde_json::json;

    use super::*;

    #[test]
    fn settings_that_say_nothing_give_the_defaults() {
        assert_eq!(ServerOptions::from_settings(&Settings::default()), ServerOptions::default());
    }

    #[test]
    fn settings_say_how_the_server_behaves() {
        let section = json!({
            "listen": "[::1]:9000",
            "trusted_proxies": ["10.0.0.2"],
            "rate_limit": {"enabled": false},
            "request_timeout_seconds": 1.5,
            "stop_notice_seconds": 10,
        });
        let settings = Settings::from_json(&json!({ "server": section })).unwrap();
        let options = ServerOptions::from_settings(&settings);
        assert_eq!(options.listen.to_string(), "[::1]:9000");
        assert_eq!((options.rate_limit, options.request_timeout), (None, Duration::from_millis(1_500)));
        assert_eq!(options.stop_notice, Duration::from_secs(10));
        assert_eq!(options.trusted_proxies, [IpAddr::from([10, 0, 0, 2])]);
    }

    #[test]
    fn a_public_address_without_keys_is_refused() {
        let public = ServerOptions { listen: SocketAddr::from(([0, 0, 0, 0], 8000)), ..ServerOptions::default() };
        assert!(check(&public).is_ok(), "with keys it may listen anywhere");
        let open = ServerOptions { auth: AuthMode::Open, ..public };
        assert!(check(&open).unwrap_err().contains("0.0.0.0:8000"));
        assert!(check(&ServerOptions { auth: AuthMode::Open, ..ServerOptions::default() }).is_ok());
    }

    #[cfg(not(feature = "opentelemetry"))]
    #[test]
    fn traces_that_this_build_cannot_send_are_an_error_that_names_the_feature() {
        let telemetry = Telemetry {
            endpoint: "http://127.0.0.1:4317".to_owned(),
            service_name: "mos".to_owned(),
            sample_ratio: 1.0,
        };
        let options = ServerOptions { telemetry: Some(telemetry), ..ServerOptions::default() };
        assert!(check(&options).unwrap_err().contains("feature `opentelemetry`"));
    }
}
