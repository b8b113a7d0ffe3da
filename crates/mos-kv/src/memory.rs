//! The activation memory of one cube: caches by id.

use std::collections::HashSet;
use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use mos_core::{ActivationId, Clock, IdSource, MemoryItem, RandomIds, SystemClock};
use mos_engine::{CancelToken, KvPrefix, KvSegment, LocalChatModel, ModelIdentity};

use crate::calibrate::{Calibration, CalibrationFolder};
use crate::error::KvError;
use crate::extract::{DEFAULT_LEAD_IN, ExtractInput, KvExtractor};
use crate::index::TokenIndex;
use crate::item::{KvCacheItem, describe};
use crate::merge::{MergeChoice, MergeStrategy, common, exact, merge};
use crate::paths::Paths;
use crate::quantize::KvEncoding;
use crate::tiers::{KvTiers, TierOptions};

/// Upstream's name for the file of a dumped activation memory. Ours is JSON under the same name.
pub const DEFAULT_MEMORY_FILENAME: &str = "activation_memory.pickle";

/// An item that is not in RAM is loaded as a beginning when it saves at least so many tokens.
const LEAST_GAIN: usize = 16;

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

    /// Returns the items joined as upstream does it (`concat`): per layer, keys and values one after the other in the
    /// order of the ids, as they were computed. Unknown ids are skipped; `None` when nothing remains.
    ///
    /// One item is exact; of several only the first is, and the others keep the positions they were computed at.
    ///
    /// # Errors
    /// [`KvError::MixedModels`]; [`KvError::ForeignModel`]; [`KvError::TooLong`]; as [`KvCacheMemory::get`].
    pub fn get_cache<I: AsRef<str>>(&self, ids: &[I]) -> Result<Option<KvPrefix>, KvError> {
        self.get_cache_with(ids, MergeStrategy::Concat)
    }

    /// Returns the items as one prefix, made by a named strategy or the memory's own choice. Unknown ids are skipped;
    /// `None` when nothing remains.
    ///
    /// A named strategy is obeyed; a lossy one that has not passed its calibration with this model is warned about
    /// once. The memory's own choice is `prefix_tree` when everything is stored already, else the cheapest lossy
    /// strategy that passed, else `prefix_tree`.
    ///
    /// # Errors
    /// As [`KvCacheMemory::get_cache`]; [`KvError::Invalid`] for a ratio outside of 0 to 1; [`KvError::Model`].
    pub fn get_cache_with<I: AsRef<str>>(
        &self,
        ids: &[I],
        choice: impl Into<MergeChoice>,
    ) -> Result<Option<KvPrefix>, KvError> {
        let items: Vec<KvCacheItem> = self.get_by_ids(ids)?.into_iter().flatten().collect();
        if items.is_empty() {
            return Ok(None);
        }
        self.merge_items(&items, choice.into(), &CancelToken::default()).map(Some)
    }

    pub(crate) fn merge_items(
        &self,
        items: &[KvCacheItem],
        choice: MergeChoice,
        cancel: &CancelToken,
    ) -> Result<KvPrefix, KvError> {
        check_one_model(items, self.identity())?;
        let segments: Vec<Arc<KvSegment>> =
            items.iter().map(|item| item.require_segment().cloned()).collect::<Result<_, _>>()?;
        let strategy = match choice {
            MergeChoice::Named(strategy) => {
                self.warn_unless_calibrated(strategy, items.len());
                strategy
            }
            MergeChoice::Auto => self.choose(&segments)?,
        };
        if strategy == MergeStrategy::PrefixTree {
            let tokens: Vec<u32> = segments.iter().flat_map(|segment| segment.tokens()).copied().collect();
            return self.exact_prefix(&tokens, cancel);
        }
        merge(self.model().decoder(), &segments, strategy, cancel)
    }

    /// The memory's own choice for several segments.
    fn choose(&self, segments: &[Arc<KvSegment>]) -> Result<MergeStrategy, KvError> {
        if let [one] = segments {
            let mut alone = KvPrefix::default();
            alone.push(Arc::clone(one));
            if alone.is_exact() {
                return Ok(MergeStrategy::Shifted);
            }
        }
        let tokens: Vec<u32> = segments.iter().flat_map(|segment| segment.tokens()).copied().collect();
        if self.longest_exact_prefix(&tokens)?.len() == tokens.len() {
            return Ok(MergeStrategy::PrefixTree);
        }
        Ok(self.passed_strategy().unwrap_or(MergeStrategy::PrefixTree))
    }

    /// The cheapest lossy strategy that passed its calibration.
    pub(crate) fn passed_strategy(&self) -> Option<MergeStrategy> {
        lock(&self.calibration).as_ref().and_then(Calibration::cheapest_passed)
    }

    fn warn_unless_calibrated(&self, strategy: MergeStrategy, n_items: usize) {
        if !strategy.is_lossy() || n_items < 2 {
            return;
        }
        if lock(&self.calibration).as_ref().is_some_and(|calibration| calibration.passed(strategy)) {
            return;
        }
        if lock(&self.warned).insert(strategy.to_string()) {
            tracing::warn!(
                %strategy,
                model = %self.identity().name,
                "this merge strategy is lossy and has not passed a calibration with this model; \
                 run `mos kv calibrate`, or use `prefix_tree`"
            );
        }
    }

    /// Returns the exact prefix of these tokens: what stored items and earlier merges cover is reused, the rest is
    /// computed and kept for the next time.
    ///
    /// # Errors
    /// [`KvError::TooLong`]; [`KvError::Model`]; as [`KvCacheMemory::get`].
    pub fn exact_prefix(&self, tokens: &[u32], cancel: &CancelToken) -> Result<KvPrefix, KvError> {
        let known = self.longest_exact_prefix(tokens)?;
        let seen = *lock(&self.seen_changes);
        let prefix = exact(self.model().decoder(), &known, tokens, cancel)?;
        // Not what was computed after a text that was removed meanwhile.
        let unchanged = seen == Some(self.tiers.changes(&self.scope));
        if prefix.len() > known.len() && unchanged {
            lock(&self.paths).keep(prefix.clone());
        }
        Ok(prefix)
    }

    /// Returns the longest beginning of these tokens that a stored item or an earlier merge has computed exactly;
    /// nothing is computed. An item that is not in RAM is loaded only where it saves some tokens, and one that cannot
    /// be read is passed over with a warning.
    ///
    /// # Errors
    /// [`KvError::Io`] and [`KvError::Remote`] when a tier cannot be reached.
    pub fn longest_exact_prefix(&self, tokens: &[u32]) -> Result<KvPrefix, KvError> {
        self.follow();
        let merged = lock(&self.paths).longest(tokens);
        loop {
            let in_ram = |id: &ActivationId| self.tiers.is_in_ram(&self.scope, id);
            let Some((matched, id)) = lock(&self.index).longest(tokens, in_ram) else { return Ok(merged) };
            let least = if in_ram(&id) { 1 } else { LEAST_GAIN };
            if matched < merged.len() + least {
                return Ok(merged);
            }
            let found = match self.tiers.get(&self.scope, &id) {
                Err(error @ (KvError::Damaged { .. } | KvError::Truncated { .. } | KvError::Newer { .. })) => {
                    tracing::warn!(%error, "a kept cache cannot be used; its text is computed again");
                    None
                }
                found => found?,
            };
            let mut prefix = KvPrefix::default();
            if let Some(item) = &found {
                prefix.push(Arc::clone(item.require_segment()?));
            }
            // Whatever was found is compared, token by token, with what was asked for.
            let len = common(&prefix, tokens).min(prefix.exact_len());
            if len > merged.len() {
                return Ok(prefix.truncated(len));
            }
            // Gone, damaged, or computed after other tokens: of no use for a beginning.
            lock(&self.index).remove(&id);
        }
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

    /// Returns what was found out about lossy strategies with this model.
    pub fn calibration(&self) -> Option<Calibration> {
        lock(&self.calibration).clone()
    }

    /// Takes over a verdict on lossy strategies, and writes it to the calibration folder when there is one.
    ///
    /// # Errors
    /// [`KvError::ForeignModel`] when it is about another model; [`KvError::Io`].
    pub fn set_calibration(&self, calibration: Calibration) -> Result<(), KvError> {
        if !calibration.model.matches(self.identity()) {
            return Err(KvError::ForeignModel {
                what: "the calibration".to_owned(),
                found: describe(&calibration.model),
                wanted: describe(self.identity()),
            });
        }
        if let Some(folder) = &self.calibrations {
            folder.write(&calibration)?;
        }
        *lock(&self.calibration) = Some(calibration);
        lock(&self.warned).clear();
        Ok(())
    }
}

/// Refuses items of several models, and of another than this.
pub(crate) fn check_one_model(items: &[KvCacheItem], model: &ModelIdentity) -> Result<(), KvError> {
    if let Some((first, rest)) = items.split_first() {
        let own = first.require_identity()?;
        for other in rest {
            let identity = other.require_identity()?;
            if !identity.matches(own) {
                return Err(KvError::MixedModels {
                    first_item: first.id.to_string(),
                    first: describe(own),
                    second_item: other.id.to_string(),
                    second: describe(identity),
                });
            }
        }
        first.check_model(model)?;
    }
    Ok(())
}
