//! The server over HTTP: where it listens, who may call from where, and how much.

use std::net::{IpAddr, SocketAddr};

use crate::read::{Fields, nothing_given};

/// The longest time limit, in seconds.
const MAX_SECONDS: f64 = 86_400.0;

section! {
    /// How often a key, or without one an address, may call. What was not used comes back evenly over the window.
    pub struct RateLimitConfig {
        /// Limits at all.
        default enabled: bool = true,
        /// Requests in a window.
        default requests: u64 = 1_000,
        /// Seconds of the window.
        default window_seconds: u64 = 60,
    }
    check: check_rate_limit;
}

section! {
    /// Traces that are sent to a collector of OpenTelemetry, by OTLP over gRPC.
    pub struct OpentelemetryConfig {
        /// The address of the collector: `http://127.0.0.1:4317`.
        required endpoint: String,
        /// The name under which traces are shown.
        default service_name: String = "mos".to_owned(),
        /// The part of the traces that is sent, from 0 to 1.
        default sample_ratio: f64 = 1.0,
    }
    check: check_opentelemetry;
}

section! {
    /// The server over HTTP. The defaults are safe: it listens on this machine alone, and everything has a bound.
    pub struct ServerConfig {
        /// Where it listens: an address and a port.
        default listen: String = "127.0.0.1:8000".to_owned(),
        /// Origins of pages that may call from a browser: `https://app.example.com`. The server's own pages always may.
        default cors_origins: Vec<String> = Vec::new(),
        /// Names by which requests may call the server, besides the address it listens on and, on loopback, `localhost`:
        /// `mos.example.com`, `*.example.com`.
        default allowed_hosts: Vec<String> = Vec::new(),
        /// Addresses of reverse proxies whose `X-Forwarded-For` tells who calls: `10.0.0.2`.
        default trusted_proxies: Vec<String> = Vec::new(),
        /// Bytes of the body of a request.
        default max_body_bytes: usize = 16 << 20,
        /// How deep the JSON of a request may be nested.
        default max_json_depth: usize = 64,
        /// Seconds that a request may take; streams may take longer.
        default request_timeout_seconds: f64 = 300.0,
        /// Seconds within which the head of a request must have come; so long may a connection be idle, too, take nothing of its
        /// answer, or bring nothing more of a body.
        default header_timeout_seconds: f64 = 30.0,
        /// Seconds that a server which is told to stop still takes requests while `/ready` answers 503, so that a proxy sends
        /// them elsewhere before nobody listens.
        default stop_notice_seconds: f64 = 0.0,
        /// Seconds for requests under way when the server stops.
        default drain_seconds: f64 = 30.0,
        /// How often a key may call.
        default rate_limit: RateLimitConfig = RateLimitConfig::default(),
        /// Connections at a time; others wait for one to end.
        default max_connections: usize = 4_096,
        /// Connections of one address at a time; others are refused and told to come again. Those of `trusted_proxies` are not
        /// counted.
        default max_connections_per_address: usize = 256,
        /// Requests that are worked on at a time; others are refused and told to come again. One key (without one an address) has
        /// a quarter of them.
        default max_concurrent_requests: usize = 512,
        /// Shows `/metrics` to everybody. Otherwise a key with the scope `admin` is needed.
        default metrics_open: bool = false,
        /// Writes down who changed what.
        default audit: bool = true,
        /// Where traces are sent. Absent: nowhere.
        omitted opentelemetry: Option<OpentelemetryConfig>,
    }
    check: check_server;
}

impl Default for RateLimitConfig {
    fn default() -> Self {
        nothing_given()
    }
}

impl Default for ServerConfig {
    fn default() -> Self {
        nothing_given()
    }
}

fn check_rate_limit(limit: &RateLimitConfig, fields: &mut Fields<'_, '_>) {
    if !(1..=1_000_000).contains(&limit.requests) {
        fields.refuse("requests", "must be from 1 to 1000000; set `enabled: false` for no limit");
    }
    if !(1..=86_400).contains(&limit.window_seconds) {
        fields.refuse("window_seconds", "must be from 1 to 86400");
    }
}

fn check_opentelemetry(telemetry: &OpentelemetryConfig, fields: &mut Fields<'_, '_>) {
    if !telemetry.endpoint.starts_with("http://") && !telemetry.endpoint.starts_with("https://") {
        fields.refuse("endpoint", "must be the address of a collector, for example http://127.0.0.1:4317");
    }
    if telemetry.service_name.is_empty() {
        fields.refuse("service_name", "must not be empty");
    }
    if !(0.0..=1.0).contains(&telemetry.sample_ratio) {
        fields.refuse("sample_ratio", "must be from 0 to 1");
    }
}

fn check_server(server: &ServerConfig, fields: &mut Fields<'_, '_>) {
    if server.listen.parse::<SocketAddr>().is_err() {
        fields.refuse("listen", "must be an address and a port, for example 127.0.0.1:8000 or [::1]:8000");
    }
    for origin in server.cors_origins.iter().filter(|origin| !is_origin(origin)) {
        let message =
            format!("`{origin}` is not an origin; write https://app.example.com, without a path; `*` is not taken");
        fields.refuse("cors_origins", message);
    }
    for host in server.allowed_hosts.iter().filter(|host| !is_host(host)) {
        let message =
            format!("`{host}` is not a host; write mos.example.com or *.example.com, without a scheme and a path");
        fields.refuse("allowed_hosts", message);
    }
    for proxy in server.trusted_proxies.iter().filter(|proxy| proxy.parse::<IpAddr>().is_err()) {
        fields
            .refuse("trusted_proxies", format!("`{proxy}` is not an address of the internet protocol, as 10.0.0.2 is"));
    }
    let times = [
        ("request_timeout_seconds", server.request_timeout_seconds),
        ("header_timeout_seconds", server.header_timeout_seconds),
        ("drain_seconds", server.drain_seconds),
    ];
    for (key, seconds) in times {
        if !(0.01..=MAX_SECONDS).contains(&seconds) {
            fields.refuse(key, "must be from 0.01 to 86400");
        }
    }
    if !(0.0..=MAX_SECONDS).contains(&server.stop_notice_seconds) {
        fields.refuse("stop_notice_seconds", "must be from 0 to 86400");
    }
    let counts = [
        ("max_body_bytes", server.max_body_bytes, 1 << 30),
        // The parser itself goes no deeper than 128.
        ("max_json_depth", server.max_json_depth, 127),
        ("max_connections", server.max_connections, 1_000_000),
        ("max_connections_per_address", server.max_connections_per_address, 1_000_000),
        ("max_concurrent_requests", server.max_concurrent_requests, 1_000_000),
    ];
    for (key, count, most) in counts {
        if !(1..=most).contains(&count) {
            fields.refuse(key, format!("must be from 1 to {most}"));
        }
    }
}

/// A scheme and a host, and nothing behind them.
fn is_origin(text: &str) -> bool {
    let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    rest.is_some_and(|host| !host.is_empty() && !host.contains(['/', '*', '@', '?', '#', ' ']) && text.is_ascii())
}

fn is_host(text: &str) -> bool {
    let name = text.strip_prefix("*.").unwrap_or(text);
    !name.is_empty() && !name.contains(['/', '*', '@', ' ']) && text.is_ascii()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::read::Setting;

    #[test]
    fn nothing_has_to_be_given_and_nothing_is_open() {
        let server = ServerConfig::default();
        assert!(server.listen.parse::<SocketAddr>().unwrap().ip().is_loopback());
        assert!(server.cors_origins.is_empty() && server.allowed_hosts.is_empty() && server.trusted_proxies.is_empty());
        assert!(server.rate_limit.enabled && !server.metrics_open && server.audit);
    }

    #[test]
    fn what_would_open_a_door_or_has_no_bound_is_refused() {
        for wrong in [
            json!({"listen": "localhost"}),
            json!({"cors_origins": ["*"]}),
            json!({"cors_origins": ["app.example.com"]}),
            json!({"cors_origins": ["https://app.example.com/page"]}),
            json!({"allowed_hosts": ["*"]}),
            json!({"allowed_hosts": ["https://mos.example.com"]}),
            json!({"trusted_proxies": ["proxy"]}),
            json!({"max_body_bytes": 0}),
            json!({"max_json_depth": 128}),
            json!({"max_connections_per_address": 0}),
            json!({"request_timeout_seconds": 0.0}),
            json!({"stop_notice_seconds": -1.0}),
            json!({"rate_limit": {"requests": 0}}),
            json!({"opentelemetry": {}}),
            json!({"opentelemetry": {"endpoint": "collector"}}),
            json!({"opentelemetry": {"endpoint": "http://collector:4317", "sample_ratio": 2.0}}),
        ] {
            assert!(ServerConfig::from_json(&wrong).is_err(), "{wrong}");
        }
        let right = json!({
            "listen": "[::1]:0",
            "cors_origins": ["https://app.example.com", "http://localhost:3000"],
            "allowed_hosts": ["mos.example.com", "*.example.com", "mos.example.com:8443"],
            "trusted_proxies": ["10.0.0.2", "::1"],
            "opentelemetry": {"endpoint": "http://127.0.0.1:4317"},
        });
        let server = ServerConfig::from_json(&right).unwrap();
        assert_eq!(server.opentelemetry.unwrap().service_name, "mos");
    }
}
