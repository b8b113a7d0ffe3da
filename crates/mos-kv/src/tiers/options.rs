//! Which tiers there are, how much they may hold, and how much they do.

use std::path::PathBuf;
use std::sync::Arc;

use object_store::ObjectStore;

use crate::quantize::KvEncoding;

/// A folder of items.
#[derive(Clone, Debug)]
pub struct DiskTier {
    /// The folder; nothing else may be in it. Several processes may use it: [`KvTiers::follow`](super::KvTiers::follow) tells one what the
    /// others did, and each keeps the budget by what it knows.
    pub folder: PathBuf,
    /// The most bytes of files.
    pub bytes: u64,
    /// How keys and values are written; anything but f16 is lossy.
    pub encoding: KvEncoding,
}

/// A folder of an object store: a file system elsewhere, or, with the `s3` feature, an S3-compatible server.
#[derive(Clone, Debug)]
pub struct RemoteTier {
    /// The store.
    pub store: Arc<dyn ObjectStore>,
    /// The folder within it; nothing else may be in it.
    pub folder: String,
    /// The most bytes of objects.
    pub bytes: u64,
    /// How keys and values are written; anything but f16 is lossy.
    pub encoding: KvEncoding,
}

/// What to do when the last tier is full.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WhenFull {
    /// Refuse new items: nothing is ever lost.
    #[default]
    Refuse,
    /// Drop what was used longest ago; it can be computed again from its text.
    Evict,
}

/// Which tiers there are.
#[derive(Clone, Debug)]
pub struct TierOptions {
    /// The most bytes of keys and values in RAM.
    pub ram_bytes: u64,
    /// The disk tier.
    pub disk: Option<DiskTier>,
    /// The remote tier.
    pub remote: Option<RemoteTier>,
    /// What to do when the last tier is full.
    pub when_full: WhenFull,
}

impl Default for TierOptions {
    /// 4 GiB of RAM and nothing else.
    fn default() -> Self {
        Self { ram_bytes: 4 << 30, disk: None, remote: None, when_full: WhenFull::Refuse }
    }
}

/// What the tiers hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TierUsage {
    /// Items, wherever they are.
    pub n_items: usize,
    /// Bytes in RAM.
    pub ram_bytes: u64,
    /// Bytes of files.
    pub disk_bytes: u64,
    /// Bytes of remote objects.
    pub remote_bytes: u64,
}
