//! Fetching files that stand at an address.

use std::fmt;

use async_trait::async_trait;

/// A file that was fetched.
#[derive(Clone, PartialEq, Eq)]
pub struct Fetched {
    /// Its bytes, unpacked when they were sent packed.
    pub bytes: Vec<u8>,
    /// Its name: what the server calls it, else the last part of the address. Without folders.
    pub name: Option<String>,
    /// What the server says it is, for example `text/html`; it may be wrong.
    pub content_type: Option<String>,
}

/// Shows how many bytes there are, not what they say.
impl fmt::Debug for Fetched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fetched")
            .field("n_bytes", &self.bytes.len())
            .field("name", &self.name)
            .field("content_type", &self.content_type)
            .finish()
    }
}

/// Fetches files.
#[async_trait]
pub trait Fetcher: fmt::Debug + Send + Sync {
    /// Returns the file at an address. An `@` before the address is ignored.
    ///
    /// # Errors
    /// [`FetchError`]; its text holds neither credentials nor the query of the address.
    async fn fetch(&self, url: &str) -> Result<Fetched, FetchError>;
}

/// Why a file was not fetched, sorted by what helps.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FetchError {
    /// Allow it in the settings.
    #[error("fetching is off; set fetch.enabled to true in the settings")]
    Off,
    /// Correct the address.
    #[error("{0}")]
    BadAddress(String),
    /// Allow it in the settings, if it is trusted.
    #[error("{0}")]
    Refused(String),
    /// Get the file in another way: it is too large.
    #[error("the file at {place} has more than {limit} bytes; raise fetch.max_bytes or add the file itself")]
    TooLarge {
        /// The address without credentials and query.
        place: String,
        /// The largest size.
        limit: usize,
    },
    /// Correct the address: the server has no such file, or does not give it.
    #[error("{place} answers with status {status}")]
    Status {
        /// The address without credentials and query.
        place: String,
        /// The status.
        status: u16,
    },
    /// Try again later: no connection, too slow, or broken off.
    #[error("{0}")]
    Unavailable(String),
    /// Report it: the server does not speak HTTP as it should.
    #[error("{0}")]
    BadAnswer(String),
}

impl FetchError {
    /// Whether the same call may succeed later.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Unavailable(_) => true,
            Self::Status { status, .. } => matches!(status, 408 | 429 | 500 | 502 | 503 | 504),
            _ => false,
        }
    }
}
