//! Servers that tests may use, from the environment.

/// Returns the address of a server that the environment names, for example under `DATABASE_URL`. Without one says on
/// standard error that the test is passed over.
///
/// # Panics
/// When `MOS_TEST_SERVICES=1` says that no test may be passed over.
#[allow(clippy::print_stderr, reason = "whoever runs the tests must learn what was not tested")]
pub fn address(variable: &str) -> Option<String> {
    let address = std::env::var(variable).ok().filter(|address| !address.trim().is_empty());
    if address.is_none() {
        let is_required = std::env::var_os("MOS_TEST_SERVICES").is_some_and(|value| value == "1");
        assert!(!is_required, "{variable} is not set, but MOS_TEST_SERVICES=1 wants the server it names");
        eprintln!("passed over: {variable} names no server");
    }
    address
}
