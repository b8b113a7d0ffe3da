//! What an installation does, in numbers of all users together, and whether its stores answer.

use std::time::Duration;

use mos_core::{CubeId, MemoryId, Scope, StoreError};
use mos_kv::TierUsage;

use super::Mos;
use crate::usage::UsageTotals;

/// How long a store may take to answer before it counts as away.
const PATIENCE: Duration = Duration::from_secs(2);

/// What the record is asked for; nothing has this name.
const NOBODY: &str = "mos-reachable";

impl Mos {
    /// Returns what models took, of all users and cubes together.
    pub fn usage_totals(&self) -> UsageTotals {
        self.parts.usage.totals()
    }

    /// Returns what the caches of all cubes take; `None` when none were opened since the program began. No model is loaded.
    pub fn cache_usage(&self) -> Option<TierUsage> {
        self.parts.activation.cache_usage()
    }

    /// Reads a little from every store, and returns which ones answered within two seconds: `records`, `users`, and `queue`
    /// where there is one. The log tells why one did not.
    pub async fn reachable(&self) -> Vec<(&'static str, bool)> {
        let (scope, root) = (Scope::of(&CubeId::new(NOBODY)), Self::root_user());
        let ids = [MemoryId::new(NOBODY)];
        let queue = async {
            match &self.parts.queue {
                Some(queue) => Some(answers("queue", queue.next_ready_at()).await),
                None => None,
            }
        };
        let (records, users, queue) = tokio::join!(
            answers("records", self.parts.record.nodes(&scope, &ids)),
            answers("users", self.parts.users.user(&root)),
            queue,
        );
        let stores = [("records", Some(records)), ("users", Some(users)), ("queue", queue)];
        stores.into_iter().filter_map(|(store, answered)| Some((store, answered?))).collect()
    }
}

/// Whether a store answers in time.
async fn answers<T>(store: &str, reading: impl Future<Output = Result<T, StoreError>>) -> bool {
    match tokio::time::timeout(PATIENCE, reading).await {
        Ok(Ok(_)) => true,
        Ok(Err(error)) => {
            tracing::error!(store, %error, "a store cannot be read");
            false
        }
        Err(_) => {
            tracing::error!(store, seconds = PATIENCE.as_secs(), "a store does not answer in time");
            false
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_store_that_says_nothing_is_away_and_holds_nobody_up_for_long() {
        assert!(!answers("records", std::future::pending::<Result<(), StoreError>>()).await);
        let slow = async {
            tokio::time::sleep(PATIENCE / 2).await;
            Ok(())
        };
        assert!(answers("records", slow).await);
    }
}
