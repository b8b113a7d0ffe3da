//! Nearest vectors, compared by the server with every vector of the cube.
//!
//! The vector index of Neo4j 5 filters only what it has found: among the vectors of many cubes it may find none of the
//! one that is asked for. Therefore it is not used; all vectors of the cube are compared, which are found by its mark.

use std::collections::HashMap;

use mos_core::{EmbeddingSpace, Filter, MemoryId, Scope, Scored, StoreError};
use serde::Deserialize;

use super::connection::Connection;
use super::layout::necessary;
use super::read::{ScopeRow, single_count, space_text};
use super::statements::{self, query};
use super::terms::passes;
use super::values::{integer, vector};
use crate::codec;
use crate::prepare::check_dimension;

/// How many of the nearest are looked at first when there is a filter, and by what factor more each time after.
const FIRST_LOOK: usize = 256;
const GROWTH: usize = 8;

#[derive(Debug, Deserialize)]
struct NearRow {
    id: String,
    score: f64,
}

impl NearRow {
    fn scored(self) -> Scored {
        Scored { id: MemoryId::new(self.id), score: self.score.clamp(-1.0, 1.0) as f32 }
    }
}

/// Returns at most `limit` memories nearest to `values` that pass the filter, best first, ties by id.
pub(super) async fn nearest(
    connection: &Connection,
    scope: &Scope,
    tenant: &str,
    space: &EmbeddingSpace,
    values: &[f32],
    limit: usize,
    filter: &Filter,
) -> Result<Vec<Scored>, StoreError> {
    check_dimension(space, values.len())?;
    let values = codec::unit("the query", values.to_vec())?;
    let row = ScopeRow::read(connection, tenant).await?;
    let Some(have) = row.map_or(Ok(None), |row| row.space())? else { return Ok(Vec::new()) };
    if have != *space {
        return Err(StoreError::EmbeddingSpace { cube: scope.cube.to_string(), have, got: space.clone() });
    }
    if limit == 0 {
        return Ok(Vec::new());
    }
    let statement = query(statements::NEAREST)
        .param("tenant", tenant)
        .param("space", space_text(space))
        .param("vector", vector(&values))
        .param("necessary", necessary(filter));
    if *filter == Filter::Everything {
        return ranked(connection, statement, limit).await;
    }
    let (mut known, mut n_looked_at) = (HashMap::new(), limit.max(FIRST_LOOK));
    loop {
        let found = ranked(connection, statement.clone(), n_looked_at).await?;
        let is_all = found.len() < n_looked_at;
        let new: Vec<Scored> = found.iter().filter(|one| !known.contains_key(&one.id)).cloned().collect();
        let passes = passes(connection, tenant, &new, filter).await?;
        known.extend(new.into_iter().map(|one| one.id).zip(passes));
        let mut passing: Vec<Scored> =
            found.into_iter().filter(|one| known.get(&one.id).copied().unwrap_or_default()).collect();
        if passing.len() >= limit || is_all {
            passing.truncate(limit);
            return Ok(passing);
        }
        n_looked_at = n_looked_at.saturating_mul(GROWTH);
    }
}

async fn ranked(connection: &Connection, statement: neo4rs::Query, limit: usize) -> Result<Vec<Scored>, StoreError> {
    let rows: Vec<NearRow> = connection.read(statement.param("limit", integer(limit))).await?;
    let mut found: Vec<Scored> = rows.into_iter().map(NearRow::scored).collect();
    // The server's scores are finer than ours: what is equal here may not have been there.
    found.sort_by(|left, right| right.score.total_cmp(&left.score).then_with(|| left.id.cmp(&right.id)));
    Ok(found)
}

pub(super) async fn count(connection: &Connection, tenant: &str) -> Result<usize, StoreError> {
    single_count(connection, query(statements::COUNT_VECTORS).param("tenant", tenant)).await
}
