//! The activation memory of one cube: caches by id.

mod merging;
mod options;

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use mos_core::{ActivationId, MemoryItem};
use mos_engine::{CancelToken, LocalChatModel, ModelIdentity};

use crate::calibrate::{Calibration, CalibrationFolder};
use crate::error::KvError;
use crate::extract::{ExtractInput, KvExtractor};
use crate::index::TokenIndex;
use crate::item::KvCacheItem;
use crate::paths::Paths;
use crate::quantize::KvEncoding;
use crate::tiers::KvTiers;

pub(crate) use merging::check_one_model;
pub use options::{DEFAULT_MEMORY_FILENAME, KvCacheMemoryOptions};

/// Caches of one tenant, made by one model.
///
/// All methods block while they compute, read or write; inside of an asynchronous program call them where blocking is
/// allowed, or use [`KvActivation`](crate::KvActivation).
///
/// Invariant: a stored item never changes. Whatever is handed out shares its keys and values, read-only.
#[derive(Debug)]
pub struct KvCacheMemory {
    pub(crate) extractor: KvExtractor,
    pub(crate) tiers: Arc<KvTiers>,
    pub(crate) scope: String,
    pub(crate) memory_filename: String,
    pub(crate) encoding: KvEncoding,
    index: Mutex<TokenIndex>,
    /// The tiers' changes that index and paths know of; `None` before the first look.
    seen_changes: Mutex<Option<u64>>,
    paths: Mutex<Paths>,
    calibrations: Option<CalibrationFolder>,
    calibration: Mutex<Option<Calibration>>,
    /// Strategies that were warned about.
    warned: Mutex<HashSet<String>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl KvCacheMemory {
    /// Opens a memory with tiers of its own; what its disk and remote tier hold is there again.
    ///
    /// # Errors
    /// [`KvError::Invalid`] for a file name that is a path; [`KvError::Io`]; [`KvError::Remote`]. A calibration that
    /// cannot be read counts as none, with a warning.
    pub fn open(model: Arc<LocalChatModel>, options: KvCacheMemoryOptions) -> Result<Self, KvError> {
        let tiers = KvTiers::open(options.tiers.clone())?;
        Self::with_tiers(model, options, tiers)
    }

    /// Opens a memory on tiers that others use too; `options.tiers` is ignored.
    ///
    /// # Errors
    /// As [`KvCacheMemory::open`].
    pub fn with_tiers(
        model: Arc<LocalChatModel>,
        options: KvCacheMemoryOptions,
        tiers: Arc<KvTiers>,
    ) -> Result<Self, KvError> {
        let KvCacheMemoryOptions { memory_filename, lead_in, scope, encoding, merged_bytes, .. } = options;
        if memory_filename.is_empty()
            || [".", ".."].contains(&memory_filename.as_str())
            || memory_filename.contains(['/', '\\', '\0'])
        {
            return Err(KvError::Invalid(format!(
                "memory_filename is `{memory_filename}`; it must be the plain name of a file"
            )));
        }
        let calibrations = options.calibration_folder.map(CalibrationFolder::new);
        let read = calibrations.as_ref().map(|folder| folder.read(model.identity()));
        let calibration = read.transpose().unwrap_or_else(|error| {
            tracing::warn!(%error, "the calibration cannot be read, so that no lossy strategy is chosen; calibrate again");
            None
        });
        let calibration = calibration.flatten();
        Ok(Self {
            extractor: KvExtractor::new(model, lead_in, options.clock, options.ids),
            tiers,
            scope,
            memory_filename,
            encoding,
            index: Mutex::default(),
            seen_changes: Mutex::default(),
            paths: Mutex::new(Paths::new(merged_bytes)),
            calibrations,
            calibration: Mutex::new(calibration),
            warned: Mutex::default(),
        })
    }

    /// Returns the model.
    pub fn model(&self) -> &Arc<LocalChatModel> {
        self.extractor.model()
    }

    /// Returns what computes items.
    pub fn extractor(&self) -> &KvExtractor {
        &self.extractor
    }

    /// Returns where the items are.
    pub fn tiers(&self) -> &Arc<KvTiers> {
        &self.tiers
    }

    /// Returns the tenant.
    pub fn scope(&self) -> &str {
        &self.scope
    }

    pub(crate) fn identity(&self) -> &ModelIdentity {
        self.model().identity()
    }

    /// Computes an item from a text, a list of texts, or messages; it is not stored.
    ///
    /// A text, or several joined by spaces, becomes one system turn after the lead-in; messages are taken as they
    /// are. Metadata are `source_text`, the input as given, and `extracted_at`.
    ///
    /// # Errors
    /// [`KvError::Empty`] when there is no text; [`KvError::TooLong`]; [`KvError::Model`].
    pub fn extract(&self, input: impl Into<ExtractInput>) -> Result<KvCacheItem, KvError> {
        self.extractor.extract(&input.into(), &CancelToken::default())
    }

    /// Computes one item per input, several in one run; they are not stored.
    ///
    /// # Errors
    /// As [`KvCacheMemory::extract`]; then nothing is computed.
    pub fn extract_many(&self, inputs: &[ExtractInput]) -> Result<Vec<KvCacheItem>, KvError> {
        self.extractor.extract_many(inputs, &CancelToken::default())
    }

    /// Computes the item of a textual memory; its metadata is the memory's. It is not stored.
    ///
    /// # Errors
    /// As [`KvCacheMemory::extract`].
    pub fn from_textual_memory(&self, memory: &MemoryItem) -> Result<KvCacheItem, KvError> {
        self.extractor.from_textual_memory(memory, &CancelToken::default())
    }

    /// Stores items; a known id is replaced and keeps its place in the order.
    ///
    /// # Errors
    /// [`KvError::NoState`] for an item without keys and values; [`KvError::BudgetTooSmall`]; [`KvError::NoRoom`];
    /// [`KvError::Io`]; [`KvError::Remote`]. Items before the one that failed are stored.
    pub fn add(&self, items: impl IntoIterator<Item = KvCacheItem>) -> Result<(), KvError> {
        items.into_iter().try_for_each(|item| self.add_one(&item))
    }

    pub(crate) fn add_one(&self, item: &KvCacheItem) -> Result<(), KvError> {
        let segment = item.require_segment()?;
        let evicted = match self.tiers.put(&self.scope, item) {
            // Kept merges hold items in RAM; they can be made again.
            Err(KvError::NoRoom { .. }) => {
                lock(&self.paths).clear();
                self.tiers.put(&self.scope, item)?
            }
            result => result?,
        };
        self.follow();
        let mut index = lock(&self.index);
        for id in evicted.iter().chain([&item.id]) {
            index.remove(id);
        }
        if item.require_identity()?.matches(self.identity()) {
            index.insert(segment.tokens().into(), item.id.clone());
        }
        Ok(())
    }

    /// Makes the index anew and forgets kept merges when items went or came otherwise than through
    /// [`KvCacheMemory::add`].
    fn follow(&self) {
        let mut seen = lock(&self.seen_changes);
        let changes = self.tiers.changes(&self.scope);
        if *seen == Some(changes) {
            return;
        }
        let mut index = TokenIndex::default();
        for (item, tokens) in self.tiers.tokens(&self.scope) {
            if item.identity().is_some_and(|own| own.matches(self.identity())) {
                index.insert(tokens, item.id);
            }
        }
        *lock(&self.index) = index;
        lock(&self.paths).clear();
        *seen = Some(changes);
    }

    /// Returns an item with its keys and values; `None` when there is none.
    ///
    /// # Errors
    /// [`KvError::Damaged`], [`KvError::Truncated`], [`KvError::Newer`], [`KvError::Io`] and [`KvError::Remote`] when
    /// a tier cannot give it back.
    pub fn get(&self, id: &str) -> Result<Option<KvCacheItem>, KvError> {
        self.tiers.get(&self.scope, &ActivationId::new(id))
    }

    /// Returns items in the order asked, `None` in the place of those that are not there.
    ///
    /// # Errors
    /// As [`KvCacheMemory::get`].
    pub fn get_by_ids<I: AsRef<str>>(&self, ids: &[I]) -> Result<Vec<Option<KvCacheItem>>, KvError> {
        ids.iter().map(|id| self.get(id.as_ref())).collect()
    }

    /// Returns all items in the order in which they came. Those that are not in RAM come without keys and values;
    /// [`KvCacheMemory::get`] loads them.
    pub fn get_all(&self) -> Vec<KvCacheItem> {
        self.tiers.list(&self.scope)
    }

    /// Removes items and returns how many there were; unknown ids are no error. Prefixes that were handed out stay.
    ///
    /// # Errors
    /// [`KvError::Io`] and [`KvError::Remote`] when a tier cannot remove its copy; that item stays.
    pub fn delete<I: AsRef<str>>(&self, ids: &[I]) -> Result<usize, KvError> {
        let remove = |id: &I| self.tiers.remove(&self.scope, &ActivationId::new(id.as_ref())).map(usize::from);
        let removed = ids.iter().map(remove).sum();
        // What was computed after a removed text must not outlive it.
        self.follow();
        removed
    }

    /// Removes all items of this tenant and returns how many there were.
    ///
    /// # Errors
    /// As [`KvCacheMemory::delete`].
    pub fn delete_all(&self) -> Result<usize, KvError> {
        let ids: Vec<ActivationId> = self.get_all().into_iter().map(|item| item.id).collect();
        self.delete(&ids)
    }

    /// Computes a stored item of another model again with this one, from its kept text; id, metadata and records
    /// stay. Returns it; one of this model is returned as it is, `None` when there is none.
    ///
    /// # Errors
    /// [`KvError::NoText`]; as [`KvCacheMemory::extract`] and [`KvCacheMemory::add`].
    pub fn recompute(&self, id: &str) -> Result<Option<KvCacheItem>, KvError> {
        let Some(head) = self.tiers.peek(&self.scope, &ActivationId::new(id)) else { return Ok(None) };
        if head.check_model(self.identity()).is_ok() {
            return self.get(id);
        }
        let item = self.extractor.recompute(&head, &CancelToken::default())?;
        self.add_one(&item)?;
        Ok(Some(item))
    }
}
