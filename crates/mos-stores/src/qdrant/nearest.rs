//! Nearest vectors: the server proposes, the record decides.
//!
//! The server's answer may hold what the record has given up since, its scores differ in the last digits, and it breaks
//! ties as it likes. Therefore more are asked for than are wanted, whether they pass the filter is decided here, and scores
//! come from the record's own vectors: what is returned is what an exact index would return of the same candidates.

use std::collections::HashMap;
use std::sync::Arc;

use mos_core::{EmbeddingSpace, Filter, MemoryId, Scope, Scored, StoreError};
use qdrant_client::qdrant::PointId;

use super::condition::{necessary, these};
use super::fault::Fault;
use super::follow::{MAX_ROUNDS, News};
use super::point::{MEMORY, MEMORY_ID, METADATA, SEQUENCE, Stored, memory_point, point_id};
use super::{Inner, collections};
use crate::codec;
use crate::exact::dot;
use crate::prepare::{check_dimension, unsettled};

/// How many more are asked for than are wanted, the least that are asked for with a filter, and by what factor more each
/// time after.
const SPARE: usize = 16;
const FIRST_LOOK: usize = 128;
const GROWTH: usize = 8;
/// From here on the server is asked first how many there are: it makes room for all that are asked for.
const MANY: usize = 4096;
/// How far the server's scores may be from ours. Both add up rounded products.
const ROUNDING: f32 = 1e-5;
/// From here on the server's vector is another one.
const OTHER_VECTOR: f32 = 1e-3;
/// How often a search begins again because the server held what the record does not.
const MAX_MENDINGS: usize = 4;

/// A memory that the server proposes and the filter lets pass.
#[derive(Clone, Debug)]
struct Proposal {
    id: MemoryId,
    /// What the server calls it.
    point: Option<PointId>,
    sequence: u64,
    score: f32,
}

/// What of the proposals the record holds.
struct Verified {
    found: Vec<Scored>,
    /// What it does not hold.
    gone: Vec<Proposal>,
    /// What has another vector there.
    changed: Vec<Proposal>,
}

/// Returns at most `limit` memories nearest to `query` that pass the filter, best first, ties by id.
pub(super) async fn nearest(
    inner: &Arc<Inner>,
    scope: &Scope,
    space: &EmbeddingSpace,
    query: &[f32],
    limit: usize,
    filter: &Filter,
) -> Result<Vec<Scored>, StoreError> {
    check_dimension(space, query.len())?;
    let query = codec::unit("the query", query.to_vec())?;
    for n_mended in 0.. {
        if !settle(inner, scope, space).await? || limit == 0 {
            break;
        }
        let proposals = match propose(inner, scope, space, &query, limit, filter).await {
            Ok(proposals) => proposals,
            Err(Fault::NoCollection) if n_mended < MAX_MENDINGS => continue,
            Err(fault) => return Err(fault.into_store_error()),
        };
        let verified = verify(inner, scope, &query, proposals).await?;
        if (verified.gone.is_empty() && verified.changed.is_empty()) || n_mended == MAX_MENDINGS {
            return Ok(best(verified.found, limit));
        }
        mend(inner, scope, space, verified).await?;
    }
    Ok(Vec::new())
}

/// Returns how many vectors of the scope the collection of its space holds, once it is up to date.
pub(super) async fn count(inner: &Arc<Inner>, scope: &Scope) -> Result<usize, StoreError> {
    for _ in 0..MAX_ROUNDS {
        let Some(space) = inner.record.embedding_space(scope).await? else { return Ok(0) };
        if inner.follow(scope, &space).await? == News::None {
            let collection = collections::name(&inner.prefix, &space);
            match inner.calls(&collection).count(necessary(scope, &Filter::Everything)).await {
                Err(Fault::NoCollection) => {}
                other => return other.map_err(Fault::into_store_error),
            }
        }
    }
    Err(unsettled(scope))
}

/// Brings the collection up to date, once the scope's vectors are known to be of `space`. Returns whether it has any.
async fn settle(inner: &Arc<Inner>, scope: &Scope, space: &EmbeddingSpace) -> Result<bool, StoreError> {
    let mut is_followed = false;
    for _ in 0..MAX_ROUNDS {
        let Some(have) = inner.record.embedding_space(scope).await? else { return Ok(false) };
        if have != *space {
            return Err(StoreError::EmbeddingSpace { cube: scope.cube.to_string(), have, got: space.clone() });
        }
        // Changing the space shows in the feed. No news after the space was read: the vectors are of that space.
        match inner.follow(scope, space).await? {
            News::None => return Ok(true),
            News::Some => is_followed = true,
        }
    }
    // Writes keep coming in; the space was right before each of the rounds.
    if is_followed { Ok(true) } else { Err(unsettled(scope)) }
}

/// Returns the best that pass the filter by the server's scores: `limit`, and all that may be as good as the last of them.
async fn propose(
    inner: &Inner,
    scope: &Scope,
    space: &EmbeddingSpace,
    query: &[f32],
    limit: usize,
    filter: &Filter,
) -> Result<Vec<Proposal>, Fault> {
    let collection = collections::name(&inner.prefix, space);
    let calls = inner.calls(&collection);
    let wall = necessary(scope, filter);
    let fields: &[&str] = match filter {
        Filter::Everything => &[MEMORY_ID, SEQUENCE],
        _ => &[MEMORY_ID, SEQUENCE, METADATA, MEMORY],
    };
    let mut n_asked = limit.saturating_add(SPARE);
    if *filter != Filter::Everything {
        n_asked = n_asked.max(FIRST_LOOK);
    }
    let mut is_exact = false;
    loop {
        if n_asked > MANY {
            // One more than there are shows that these are all.
            n_asked = n_asked.min(calls.count(wall.clone()).await?.saturating_add(1));
        }
        let found = calls.nearest(query, &wall, n_asked, is_exact, fields).await?;
        let is_all = found.len() < n_asked;
        let worst = found.last().map_or(f32::NEG_INFINITY, |point| point.score);
        let mut passing = Vec::new();
        for point in found {
            let stored = Stored::of(point.payload)?;
            if filter.matches(&stored.memory, &stored.metadata) {
                let Stored { id, sequence, .. } = stored;
                passing.push(Proposal { id, point: point.id, sequence, score: point.score });
            }
        }
        let cut = passing.get(limit - 1).map(|last| last.score);
        if is_all && cut.is_none() && !is_exact {
            // The graph may have passed some over; fewer may come back only when there are no more.
            is_exact = true;
            continue;
        }
        if is_all || cut.is_some_and(|cut| worst < cut - 2.0 * ROUNDING) {
            let cut = cut.unwrap_or(f32::NEG_INFINITY);
            passing.retain(|one| one.score >= cut - 2.0 * ROUNDING);
            return Ok(passing);
        }
        n_asked = n_asked.saturating_mul(GROWTH);
    }
}

/// Asks the record for the proposals' vectors, and scores them.
async fn verify(inner: &Inner, scope: &Scope, query: &[f32], proposals: Vec<Proposal>) -> Result<Verified, StoreError> {
    let ids: Vec<MemoryId> = proposals.iter().map(|one| one.id.clone()).collect();
    let vectors: HashMap<MemoryId, Vec<f32>> = inner.record.embeddings(scope, &ids).await?.into_iter().collect();
    let mut verified = Verified { found: Vec::new(), gone: Vec::new(), changed: Vec::new() };
    for proposal in proposals {
        // Every memory has one place; what says the same elsewhere was not written by us.
        let is_in_place = proposal.point == Some(point_id(memory_point(scope, &proposal.id)));
        let Some(vector) = vectors.get(&proposal.id).filter(|_| is_in_place) else {
            verified.gone.push(proposal);
            continue;
        };
        if vector.len() != query.len() {
            verified.changed.push(proposal);
            continue;
        }
        let score = dot(query, vector).clamp(-1.0, 1.0);
        if (score - proposal.score).abs() > OTHER_VECTOR {
            verified.changed.push(proposal.clone());
        }
        verified.found.push(Scored { id: proposal.id, score });
    }
    Ok(verified)
}

fn best(mut found: Vec<Scored>, limit: usize) -> Vec<Scored> {
    found.sort_by(|left, right| right.score.total_cmp(&left.score).then_with(|| left.id.cmp(&right.id)));
    found.truncate(limit);
    found
}

/// Removes what the record does not hold, and has done again what the record holds otherwise.
async fn mend(inner: &Arc<Inner>, scope: &Scope, space: &EmbeddingSpace, verified: Verified) -> Result<(), StoreError> {
    tracing::debug!(%scope.cube, n_gone = verified.gone.len(), n_changed = verified.changed.len(), "mending");
    let collection = collections::name(&inner.prefix, space);
    for gone in verified.gone {
        let point = gone.point.into_iter().collect();
        match inner.calls(&collection).delete(these(scope, point, gone.sequence)).await {
            Ok(()) | Err(Fault::NoCollection) => {}
            Err(Fault::Store(error)) => return Err(error),
        }
    }
    match verified.changed.iter().map(|one| one.sequence).min() {
        Some(oldest) => inner.rewind(scope, space, oldest).await,
        None => Ok(()),
    }
}
