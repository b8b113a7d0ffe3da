//! Files that come from elsewhere than a path: from an address, or from within a message.
//!
//! [`Fetcher`] asks addresses; [`NoFetcher`] is the one that asks none. [`data_url`] and [`base64_bytes`] read files that
//! stand in a message itself.

mod inline;

use async_trait::async_trait;

pub(crate) use inline::percent_decoded;
pub use inline::{InlineError, base64_bytes, data_url};
pub use mos_core::{FetchError, Fetched, Fetcher};

/// Fetches nothing: what is used unless fetching is configured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NoFetcher;

#[async_trait]
impl Fetcher for NoFetcher {
    async fn fetch(&self, _: &str) -> Result<Fetched, FetchError> {
        Err(FetchError::Off)
    }
}
