//! Joining items to one prefix: by a named strategy, by the memory's own choice, or exactly.

use std::sync::Arc;

use mos_core::ActivationId;
use mos_engine::{CancelToken, KvPrefix, KvSegment, ModelIdentity};

use super::{KvCacheMemory, lock};
use crate::calibrate::Calibration;
use crate::error::KvError;
use crate::item::{KvCacheItem, describe};
use crate::merge::{MergeChoice, MergeStrategy, common, exact, merge};

/// An item that is not in RAM is loaded as a beginning when it saves at least so many tokens.
const LEAST_GAIN: usize = 16;

impl KvCacheMemory {
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
