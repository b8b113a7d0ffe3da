//! Memories that lack what this store writes beside them: those that MemOS wrote, and those of an older program. They are
//! completed when a question needs it.

use std::sync::{Arc, PoisonError};

use mos_core::{Scope, StoreError};
use serde::Deserialize;

use super::Neo4jStore;
use super::apply::Adopt;
use super::listing::{Groups, Listed, Listing};
use super::statements::{self, query};

/// The most cubes that are remembered as looked through for memories of MemOS.
const MAX_ADOPTED: usize = 10_000;

#[derive(Debug, Deserialize)]
struct LackingRow {
    is_lacking: bool,
}

impl Neo4jStore {
    fn is_adopted(&self, tenant: &str) -> bool {
        self.adopted.lock().unwrap_or_else(PoisonError::into_inner).contains(tenant)
    }

    fn set_adopted(&self, tenant: String) {
        let mut adopted = self.adopted.lock().unwrap_or_else(PoisonError::into_inner);
        if adopted.len() >= MAX_ADOPTED {
            adopted.clear();
        }
        adopted.insert(tenant);
    }

    /// Returns the mark of a scope's nodes, once the memories that MemOS wrote have their place in the feed and the
    /// full-text index. They are looked for once per cube and opened store.
    pub(super) async fn adopted(&self, scope: &Scope) -> Result<String, StoreError> {
        let tenant = self.tenant(scope);
        if self.is_adopted(&tenant) {
            return Ok(tenant);
        }
        if self.lacks(statements::IS_FOREIGN, &tenant).await? {
            self.take_over(scope, &tenant).await?;
        }
        self.set_adopted(tenant.clone());
        Ok(tenant)
    }

    /// Whether nodes lack what this store writes beside a memory, as a statement asks.
    async fn lacks(&self, text: &'static str, tenant: &str) -> Result<bool, StoreError> {
        let rows: Vec<LackingRow> = self.connection.read(query(text).param("tenant", tenant)).await?;
        Ok(rows.first().is_some_and(|row| row.is_lacking))
    }

    /// Writes beside memories what this store does: of those that MemOS wrote all, of those of an older program the rest.
    async fn take_over(&self, scope: &Scope, tenant: &str) -> Result<(), StoreError> {
        let work = Adopt {
            scope: scope.clone(),
            tenant: tenant.to_owned(),
            at: self.clock.now_text(),
            analyzer: Arc::clone(&self.analyzer),
        };
        let n_adopted = self.connection.transact(work).await?;
        tracing::info!(%scope.cube, n_adopted, "took over the memories that MemOS or an older program wrote");
        Ok(())
    }

    /// Whether every memory of a scope says what lists are answered from; those that do not are completed first. Where that
    /// cannot be (the database takes no writes), a list is only slower.
    pub(super) async fn can_list(&self, scope: &Scope, tenant: &str) -> Result<bool, StoreError> {
        if !self.lacks(statements::IS_UNFILLED, tenant).await? {
            return Ok(true);
        }
        match self.take_over(scope, tenant).await {
            Ok(()) => Ok(true),
            Err(error) => {
                tracing::warn!(%scope.cube, %error, "memories of a cube cannot be completed; its lists are read whole");
                Ok(false)
            }
        }
    }

    /// Returns the listed fields of a scope; `None` when the server cannot list by them.
    pub(super) async fn groups(&self, scope: &Scope, tenant: &str) -> Result<Option<Groups>, StoreError> {
        match Listing::read(&self.connection, tenant).await? {
            Listing::Told(groups) => return Ok(Some(groups)),
            Listing::Untold => return Ok(None),
            Listing::Unfilled => {}
        }
        if !self.can_list(scope, tenant).await? {
            return Ok(None);
        }
        match Listing::read(&self.connection, tenant).await? {
            Listing::Told(groups) => Ok(Some(groups)),
            Listing::Untold | Listing::Unfilled => Ok(None),
        }
    }

    pub(super) fn listed<'a>(&'a self, tenant: &'a str, groups: &'a Groups) -> Listed<'a> {
        Listed { connection: &self.connection, tenant, groups }
    }
}
