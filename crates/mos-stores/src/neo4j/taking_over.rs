//! Memories that lack what this store writes beside them: those that MemOS wrote, and those of an older program. They are
//! completed when a question needs it.

use std::sync::{Arc, PoisonError};

use async_trait::async_trait;
use mos_core::{Origin, Scope, StoreError};
use neo4rs::{BoltMap, BoltType};
use serde::Deserialize;

use super::Neo4jStore;
use super::apply::Writing;
use super::connection::{Transaction, Work};
use super::fault::Fault;
use super::groups::{Groups, Listing};
use super::layout::{OneItem, Place, node_row};
use super::listing::{self, Listed};
use super::read::MAX_IDS;
use super::statements::{self, query};
use super::values::{integer, row};
use crate::TextAnalyzer;

/// The most cubes that are remembered as looked through for memories of MemOS.
const MAX_ADOPTED: usize = 10_000;
/// Why a memory of MemOS has a version here.
const ADOPTED: &str = "adopted";

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

impl Writing<'_> {
    /// Takes over the memories that MemOS wrote: they get their place in the feed and in the full-text index. Their
    /// own properties stay as they are.
    pub(super) async fn adopt(&mut self, analyzer: &TextAnalyzer) -> Result<usize, Fault> {
        let statement = self.query(statements::FOREIGN);
        let foreign: Vec<OneItem> = self.transaction.rows(statement).await?;
        let origin = Origin::new("", ADOPTED);
        let n_foreign = foreign.len();
        let mut rows = Vec::with_capacity(n_foreign);
        for OneItem { item } in foreign {
            let terms = analyzer.terms(&item.memory);
            let scope = &mut self.scope_row;
            let place =
                Place { sequence: scope.sequence + 1, order: scope.next_order, number: 1, at: self.at.to_owned() };
            (scope.sequence, scope.next_order) = (place.sequence, place.order + 1);
            (scope.n_documents, scope.n_terms) = (scope.n_documents + 1, scope.n_terms + terms.len() as u64);
            let node = node_row(self.tenant, &item.id, &item.memory, &item.metadata()?, &terms, &place, &origin);
            rows.push(row([("id", item.id.as_str().into()), ("properties", BoltType::Map(own_properties(node)))]));
        }
        self.write_parts(statements::ADOPT, "rows", rows).await?;
        Ok(n_foreign)
    }

    /// Writes beside memories what lists are answered from, where an older program has not. Returns how many there were.
    async fn fill_lists(&mut self) -> Result<usize, Fault> {
        let mut n_filled = 0;
        loop {
            let statement = self.query(statements::UNLISTED).param("limit", integer(MAX_IDS));
            let unlisted: Vec<OneItem> = self.transaction.rows(statement).await?;
            if unlisted.is_empty() {
                return Ok(n_filled);
            }
            n_filled += unlisted.len();
            let mut rows = Vec::with_capacity(unlisted.len());
            for OneItem { item } in unlisted {
                let properties = listing::properties(&item.id, &item.metadata()?).into_iter();
                let properties: BoltMap = properties.map(|(key, value)| (key.into(), value)).collect();
                rows.push(row([("id", item.id.as_str().into()), ("properties", BoltType::Map(properties))]));
            }
            self.write_parts(statements::ADOPT, "rows", rows).await?;
        }
    }
}

fn own_properties(node: BoltMap) -> BoltMap {
    let Some(BoltType::Map(properties)) = node.value.into_values().find(|value| matches!(value, BoltType::Map(_)))
    else {
        return BoltMap::default();
    };
    properties.value.into_iter().filter(|(key, _)| key.value.starts_with("mos_")).collect()
}

/// Takes over the memories of a scope that MemOS wrote, and completes those of an older program. Returns how many there were.
#[derive(Debug)]
struct Adopt {
    scope: Scope,
    tenant: String,
    at: String,
    analyzer: Arc<TextAnalyzer>,
}

#[async_trait]
impl Work for Adopt {
    type Output = usize;

    async fn run(&self, transaction: &mut Transaction) -> Result<usize, Fault> {
        let mut writing = Writing::begin(transaction, &self.scope, &self.tenant, &self.at).await?;
        let n_adopted = writing.adopt(&self.analyzer).await? + writing.fill_lists().await?;
        let (counters, n_receipts) = (writing.counters()?, writing.scope_row.n_receipts);
        writing.finish(&counters, n_receipts).await?;
        Ok(n_adopted)
    }

    fn is_repeatable(&self) -> bool {
        true
    }
}
