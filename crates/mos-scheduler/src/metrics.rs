//! Counts of what was done, by label.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde::Serialize;

/// The most labels that are counted apart; further ones are counted together as `other`.
const MAX_LABELS: usize = 256;

/// What became of the messages of a label since the process began.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct LabelMetrics {
    /// Accepted messages that were new.
    pub submitted: u64,
    /// Messages that were done.
    pub completed: u64,
    /// Attempts that failed and will be repeated.
    pub retried: u64,
    /// Messages that were given up.
    pub failed: u64,
    /// Messages that were given back undone because the process ended.
    pub released: u64,
    /// Seconds that handlers took, in all.
    pub seconds: f64,
}

#[derive(Debug, Default)]
pub(crate) struct Metrics {
    labels: Mutex<BTreeMap<String, LabelMetrics>>,
}

impl Metrics {
    pub(crate) fn change(&self, label: &str, change: impl FnOnce(&mut LabelMetrics)) {
        let mut labels = self.labels.lock().unwrap_or_else(PoisonError::into_inner);
        let name = if labels.len() < MAX_LABELS || labels.contains_key(label) { label } else { "other" };
        change(labels.entry(name.to_owned()).or_default());
    }

    pub(crate) fn took(&self, label: &str, time: Duration) {
        self.change(label, |metrics| metrics.seconds += time.as_secs_f64());
    }

    pub(crate) fn all(&self) -> BTreeMap<String, LabelMetrics> {
        self.labels.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
