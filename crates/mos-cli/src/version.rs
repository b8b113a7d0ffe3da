//! What `mos --version` says.

use std::sync::OnceLock;

/// Returns version, commit, features and the processor path in use.
pub(crate) fn long() -> &'static str {
    static TEXT: OnceLock<String> = OnceLock::new();
    TEXT.get_or_init(|| {
        let mut features = mos::features();
        if cfg!(feature = "opentelemetry") {
            features.push("opentelemetry");
        }
        format!(
            "{} (commit {}, features: {}, cpu: {})",
            env!("CARGO_PKG_VERSION"),
            env!("BUILD_COMMIT"),
            features.join(", "),
            mos::cpu_path(),
        )
    })
}
