//! Activation memory: KV caches that are extracted once, merged, kept, and injected.
//!
//! [`KvCacheMemory`] holds the caches of one cube: it extracts them from texts or messages, stores them, merges several
//! into one prefix by a named [`MergeStrategy`], and dumps and loads them. [`KvChatModel`] answers with them before the
//! conversation; [`KvActivation`] is the view of schedulers and cubes, which see no tensors.
//!
//! Invariant: a stored cache is immutable and shared. It knows its model by fingerprint; another model's is never used.
//!
//! Not here: computing (`mos-engine`), choosing what is worth keeping (the scheduler).
//!
//! # Example
//! ```
//! use mos_engine::{ChatModelOptions, LocalChatModel};
//! use mos_kv::{KvCacheMemory, KvCacheMemoryOptions};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let home = std::env::var_os("HOME").or_else(|| std::env::var_os("USERPROFILE")).ok_or("no home folder")?;
//! # let models = std::env::var_os("MOS_MODELS_DIR").map(std::path::PathBuf::from);
//! # let models = models.unwrap_or_else(|| std::path::Path::new(&home).join(".cache/mos/models"));
//! # let path = models.join("smollm2-135m-instruct/SmolLM2-135M-Instruct.Q4_1.gguf");
//! # if !path.exists() { return Ok(()); }
//! # let folder = tempfile::tempdir()?;
//! let model = LocalChatModel::open(&ChatModelOptions::new(path))?;
//! let memory = KvCacheMemory::open(model.clone(), KvCacheMemoryOptions::default())?;
//! let item = memory.extract("The capital of France is Paris.")?;
//! memory.add([item.clone()])?;
//! let cache = memory.get_cache(&[&item.id])?.ok_or("nothing is stored")?;
//! assert_eq!(cache.len(), item.n_tokens());
//!
//! memory.dump(folder.path())?;
//! let again = KvCacheMemory::open(model, KvCacheMemoryOptions::default())?;
//! assert_eq!(again.load(folder.path())?, 1);
//! assert!(again.get(item.id.as_str())?.is_some());
//! # Ok(())
//! # }
//! ```

mod activation;
mod atomic;
pub mod bench;
mod calibrate;
mod chat;
mod dump;
mod error;
mod extract;
mod file;
mod index;
mod item;
mod memory;
mod merge;
mod paths;
mod pickle;
mod quantize;
mod radix;
mod tiers;
mod vllm;

pub use activation::KvActivation;
pub use calibrate::{Calibration, CalibrationCase, CalibrationFolder, CalibrationLimits, StrategyVerdict, calibrate};
pub use chat::{KvChatModel, KvChatOptions};
pub use dump::{ForeignItems, import_pickle};
pub use error::KvError;
pub use extract::{DEFAULT_LEAD_IN, ExtractInput, KvExtractor};
pub use file::{WrittenItem, decode as decode_item, read_item, write_item};
pub use item::{KvCacheItem, KvRecords, KvSummary};
pub use memory::{DEFAULT_MEMORY_FILENAME, KvCacheMemory, KvCacheMemoryOptions};
pub use merge::{DEFAULT_BLEND_RATIO, DEFAULT_LEGO_TOKENS, MergeChoice, MergeStrategy, concat, exact, merge, shifted};
pub use pickle::{
    ImportedItem, ImportedLayer, ImportedRecords, ImportedTensor, PickleError, TensorType, read_upstream_items,
};
pub use quantize::KvEncoding;
pub use radix::{PrefixMatch, RadixTree};
pub use tiers::{
    CheckLimits, DiskTier, FolderCheck, KvTiers, RemoteTier, TierOptions, TierUsage, UnreadableFile, WhenFull,
    check_folder,
};
pub use vllm::{Preload, VllmKvCacheItem, VllmKvCacheMemory, build_vllm_kv_cache};
