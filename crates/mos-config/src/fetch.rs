//! Whether and from where files at addresses are fetched.

use crate::read::{Fields, nothing_given};

/// The most redirects that can be allowed.
const MAX_REDIRECTS: usize = 3;

section! {
    /// Fetching of files that messages name by their address. Addresses of this machine and of private networks are
    /// refused, unless `allow_hosts` names them.
    pub struct FetchConfig {
        /// Fetches at all.
        default enabled: bool = false,
        /// `https`, `http`.
        default allow_schemes: Vec<String> = vec!["https".to_owned()],
        /// Hosts that may be asked: `example.org`, `*.example.org`, `127.0.0.1:8080`. Empty: every public host.
        default allow_hosts: Vec<String> = Vec::new(),
        /// Bytes of one file, unpacked.
        default max_bytes: usize = 32 << 20,
        /// Seconds for one file, redirects included.
        default timeout: f64 = 30.0,
        /// Redirects that are followed, from 0 to 3.
        default max_redirects: usize = MAX_REDIRECTS,
    }
    check: check_fetch;
}

impl Default for FetchConfig {
    fn default() -> Self {
        nothing_given()
    }
}

fn check_fetch(fetch: &FetchConfig, fields: &mut Fields<'_, '_>) {
    if fetch.allow_schemes.iter().any(|scheme| !["http", "https"].contains(&scheme.as_str())) {
        fields.refuse("allow_schemes", "can hold only \"https\" and \"http\"");
    }
    for host in &fetch.allow_hosts {
        let is_odd = host.is_empty() || host.contains(['/', '@', ' ']) || host.trim_start_matches("*.").contains('*');
        if is_odd {
            fields.refuse(
                "allow_hosts",
                format!("`{host}` is not a host; write example.org, *.example.org or 127.0.0.1:8080, without a scheme"),
            );
        }
    }
    if fetch.max_bytes == 0 {
        fields.refuse("max_bytes", "must be at least 1");
    }
    if !(0.001..=3600.0).contains(&fetch.timeout) {
        fields.refuse("timeout", "must be from 0.001 to 3600 seconds");
    }
    if fetch.max_redirects > MAX_REDIRECTS {
        fields.refuse("max_redirects", format!("must be at most {MAX_REDIRECTS}"));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::read::Setting;

    #[test]
    fn nothing_is_fetched_unless_it_is_configured() {
        let fetch = FetchConfig::default();
        assert!(!fetch.enabled && fetch.allow_hosts.is_empty());
        assert_eq!(fetch.allow_schemes, ["https"]);
    }

    #[test]
    fn what_would_open_a_door_is_refused() {
        for wrong in [
            json!({"allow_schemes": ["file"]}),
            json!({"allow_hosts": ["https://example.org"]}),
            json!({"allow_hosts": ["*"]}),
            json!({"allow_hosts": ["a.*.org"]}),
            json!({"max_redirects": 4}),
            json!({"timeout": 0.0}),
            json!({"max_bytes": 0}),
        ] {
            assert!(FetchConfig::from_json(&wrong).is_err(), "{wrong}");
        }
        let right = json!({"enabled": true, "allow_hosts": ["*.example.org", "127.0.0.1:8080", "[::1]:80"]});
        assert!(FetchConfig::from_json(&right).is_ok());
    }
}
