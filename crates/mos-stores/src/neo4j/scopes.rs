//! Scopes opened and closed for cubes that another store keeps.

use async_trait::async_trait;
use mos_core::Scope;

use super::apply::Writing;
use super::connection::{Transaction, Work};
use super::fault::Fault;
use super::outbox;
use super::statements;
use super::values::{integer, row};
use crate::prepare::{Opening, opening};

/// What happens to a scope.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    Open,
    Close,
    /// Only when it holds no memories.
    CloseEmpty,
}

/// What became of a scope.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Changed {
    /// It is as was asked for.
    pub(super) is_so: bool,
    /// Whatever it held went, jobs too.
    pub(super) was_erased: bool,
}

impl Changed {
    fn nothing(is_so: bool) -> Self {
        Self { is_so, was_erased: false }
    }
}

/// Opens or closes a scope.
#[derive(Debug)]
pub(super) struct Lifecycle {
    pub(super) scope: Scope,
    pub(super) tenant: String,
    pub(super) generation: u64,
    pub(super) change: Change,
    pub(super) at: String,
}

#[async_trait]
impl Work for Lifecycle {
    type Output = Changed;

    async fn run(&self, transaction: &mut Transaction) -> Result<Changed, Fault> {
        let mut writing = Writing::lock(transaction, &self.tenant, &self.at).await?;
        let known = (writing.scope_row.generation, writing.scope_row.is_closed);
        match self.change {
            Change::Open if opening(&self.scope, known, self.generation)? == Opening::Done => {
                return Ok(Changed::nothing(true));
            }
            // Its memories are gone already: the scope is a later cube's.
            Change::Close | Change::CloseEmpty if self.generation < known.0 => return Ok(Changed::nothing(true)),
            Change::CloseEmpty if !writing.is_empty().await? => return Ok(Changed::nothing(false)),
            Change::Open | Change::Close | Change::CloseEmpty => {}
        }
        erase(&mut writing).await?;
        writing.set_owner(self.generation, self.change != Change::Open).await?;
        Ok(Changed { is_so: true, was_erased: true })
    }

    fn is_repeatable(&self) -> bool {
        true
    }
}

/// Removes everything but the tombstones that followers of the feed need.
async fn erase(writing: &mut Writing<'_>) -> Result<(), Fault> {
    let (mut ids, mut tombstones) = (Vec::new(), Vec::new());
    for known in writing.all_known().await? {
        writing.scope_row.sequence += 1;
        ids.push(known.id.as_str().into());
        tombstones.push(row([
            ("id", known.id.into()),
            ("sequence", integer(writing.scope_row.sequence)),
            ("number", integer(0)),
        ]));
    }
    writing.write_parts(statements::DELETE, "ids", ids).await?;
    writing.write_parts(statements::ADD_TOMBSTONES, "rows", tombstones).await?;
    for text in [statements::FORGET_NUMBERS, statements::FORGET_VERSIONS, statements::FORGET_RECEIPTS] {
        writing.run(text).await?;
    }
    outbox::forget(writing).await?;
    let mut counters = writing.counters()?;
    (counters.n_documents, counters.n_terms, counters.space) = (0, 0, None);
    let n_receipts = writing.scope_row.n_receipts;
    writing.finish(&counters, n_receipts).await
}
