//! How an activation memory works.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use mos_core::{Clock, IdSource, RandomIds, SystemClock};

use crate::extract::DEFAULT_LEAD_IN;
use crate::quantize::KvEncoding;
use crate::tiers::TierOptions;

/// Upstream's name for the file of a dumped activation memory. Ours is JSON under the same name.
pub const DEFAULT_MEMORY_FILENAME: &str = "activation_memory.pickle";

/// How an activation memory works.
#[derive(Clone)]
pub struct KvCacheMemoryOptions {
    /// The name of the index in a dumped folder; the folder of the items has the same name with another ending.
    pub memory_filename: String,
    /// What stands before every text; empty for nothing.
    pub lead_in: String,
    /// The tenant. Items and prefixes of other tenants are never seen.
    pub scope: String,
    /// How dumped items are written; anything but f16 is lossy.
    pub encoding: KvEncoding,
    /// Where items are.
    pub tiers: TierOptions,
    /// The most bytes of keys and values that were computed to merge items exactly and are kept for the next time; the
    /// newest stay in any case.
    pub merged_bytes: u64,
    /// Where verdicts on lossy strategies are; without it none is ever chosen automatically.
    pub calibration_folder: Option<PathBuf>,
    /// Tells when items are made.
    pub clock: Arc<dyn Clock>,
    /// Names items.
    pub ids: Arc<dyn IdSource>,
}

impl Default for KvCacheMemoryOptions {
    fn default() -> Self {
        Self {
            memory_filename: DEFAULT_MEMORY_FILENAME.to_owned(),
            lead_in: DEFAULT_LEAD_IN.to_owned(),
            scope: String::new(),
            encoding: KvEncoding::F16,
            tiers: TierOptions::default(),
            merged_bytes: 256 << 20,
            calibration_folder: None,
            clock: Arc::new(SystemClock),
            ids: Arc::new(RandomIds),
        }
    }
}

impl fmt::Debug for KvCacheMemoryOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KvCacheMemoryOptions")
            .field("memory_filename", &self.memory_filename)
            .field("scope", &self.scope)
            .field("encoding", &self.encoding)
            .field("tiers", &self.tiers)
            .finish_non_exhaustive()
    }
}
