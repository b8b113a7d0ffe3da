//! What an installation does, in numbers of all users together.

use mos_kv::TierUsage;

use super::Mos;
use crate::usage::UsageTotals;

impl Mos {
    /// Returns what models took, of all users and cubes together.
    pub fn usage_totals(&self) -> UsageTotals {
        self.parts.usage.totals()
    }

    /// Returns what the caches of all cubes take; `None` when none were opened since the program began. No model is loaded.
    pub fn cache_usage(&self) -> Option<TierUsage> {
        self.parts.activation.cache_usage()
    }
}
