//! Another embedding model for a scope.

use async_trait::async_trait;
use mos_core::{EmbeddingSpace, Scope, StoreError};
use serde::Deserialize;

use super::apply::{CountRow, Writing};
use super::connection::{Transaction, Work};
use super::fault::Fault;
use super::read::space_text;
use super::statements;
use super::values::{integer, row};

#[derive(Debug, Deserialize)]
struct IdRow {
    id: String,
}

/// Makes a space the scope's and drops every embedding of the scope in another one.
#[derive(Debug)]
pub(super) struct AdoptSpace {
    pub(super) scope: Scope,
    pub(super) tenant: String,
    pub(super) space: EmbeddingSpace,
    pub(super) at: String,
}

#[async_trait]
impl Work for AdoptSpace {
    type Output = ();

    async fn run(&self, transaction: &mut Transaction) -> Result<(), Fault> {
        let mut writing = Writing::begin(transaction, &self.scope, &self.tenant, &self.at).await?;
        let text = space_text(&self.space);
        let in_space = |writing: &Writing<'_>, statement| writing.query(statement).param("space", text.as_str());
        let statement = in_space(&writing, statements::COUNT_LEFT);
        let left: Vec<CountRow> = writing.transaction.rows(statement).await?;
        let n_missing = left.first().map_or(0, |row| row.count);
        if n_missing > 0 {
            return Err(StoreError::Conflict(format!(
                "{n_missing} memories of cube `{}` have no embedding by {} yet; embed them, then adopt it again",
                self.scope.cube, self.space
            ))
            .into());
        }
        let mut counters = writing.counters()?;
        let changes = counters.space.as_ref() != Some(&self.space);
        if changes {
            let statement = in_space(&writing, statements::ADOPT_SPACE);
            writing.transaction.run(statement).await?;
        }
        let statement = in_space(&writing, statements::DROP_OTHER_SPACES);
        writing.transaction.run(statement).await?;
        if changes {
            let statement = in_space(&writing, statements::EMBEDDED);
            let embedded: Vec<IdRow> = writing.transaction.rows(statement).await?;
            let mut rows = Vec::with_capacity(embedded.len());
            for IdRow { id } in embedded {
                // Its vector has changed: it appears in the feed again.
                counters.sequence += 1;
                rows.push(row([("id", id.into()), ("sequence", integer(counters.sequence))]));
            }
            writing.write_parts(statements::RENUMBER, "rows", rows).await?;
            counters.space = Some(self.space.clone());
        }
        let n_receipts = writing.scope_row.n_receipts;
        writing.finish(&counters, n_receipts).await
    }

    fn is_repeatable(&self) -> bool {
        true
    }
}
