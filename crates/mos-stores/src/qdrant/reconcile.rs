//! Comparing the collections with the record, and mending them.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use mos_core::{Change, EmbeddingSpace, Filter, MemoryId, Scope, StoreError};
use qdrant_client::qdrant::{Filter as Wall, PointId, PointStruct, RetrievedPoint};

use super::calls::{Calls, vector_of};
use super::condition::{everything_of, necessary, these};
use super::fault::Fault;
use super::follow::{MAX_ROUNDS, News};
use super::point::{self, CUBE, CURSOR_OF, MEMORY_ID, SEQUENCE, Stored};
use super::{Inner, collections};

/// Memories that are compared at a time.
const PAGE: usize = 1000;
/// How far a number of a vector may be from the record's: the server brings vectors to unit length again.
const ROUNDING: f32 = 1e-4;
/// How often a cube is compared: what differs because it was changed meanwhile does not differ the next time.
const MAX_PASSES: usize = 2;

/// How a cube's points on the server differ from the record. Each list is sorted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Drift {
    /// Memories with an embedding that have no point.
    pub missing: Vec<MemoryId>,
    /// Memories whose point has another vector, text or metadata.
    pub stale: Vec<MemoryId>,
    /// Points of memories that the record does not hold (any more), or not with an embedding. A memory that has a point in
    /// the collection of another embedding space is named, too.
    pub extra: Vec<MemoryId>,
}

impl Drift {
    /// Returns how many points differ.
    pub fn len(&self) -> usize {
        self.missing.len() + self.stale.len() + self.extra.len()
    }

    /// Whether nothing differs.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// What one comparison has found.
#[derive(Debug, Default)]
struct Compared {
    missing: BTreeMap<MemoryId, PointStruct>,
    stale: BTreeMap<MemoryId, PointStruct>,
    /// The points, with the number of the change that each is of.
    extra: BTreeMap<MemoryId, Vec<(PointId, u64)>>,
    /// Number of the last change that was looked at.
    last: u64,
}

impl Compared {
    /// Keeps what an earlier comparison has found, too.
    fn retain_known(&mut self, earlier: &Self) {
        self.missing.retain(|id, _| earlier.missing.contains_key(id));
        self.stale.retain(|id, _| earlier.stale.contains_key(id));
        self.extra.retain(|id, _| earlier.extra.contains_key(id));
    }

    fn is_empty(&self) -> bool {
        self.missing.is_empty() && self.stale.is_empty() && self.extra.is_empty()
    }
}

/// Compares a cube with the record, and mends what differs when that is asked for.
pub(super) async fn reconcile(inner: &Arc<Inner>, scope: &Scope, mend: bool) -> Result<Drift, StoreError> {
    let space = inner.record.embedding_space(scope).await?;
    let mut drift = Drift::default();
    let mut own = None;
    if let Some(space) = &space {
        let collection = collections::name(&inner.prefix, space);
        let found = settled_difference(inner, scope, space, &collection).await?;
        drift.missing = found.missing.keys().cloned().collect();
        drift.stale = found.stale.keys().cloned().collect();
        drift.extra = found.extra.keys().cloned().collect();
        if mend && !found.is_empty() {
            mend_own(inner, scope, space, &collection, found).await?;
        }
        own = Some(collection);
    }
    let strange = elsewhere(inner, scope, own.as_deref(), mend).await?;
    drift.extra.extend(strange);
    drift.extra.sort();
    drift.extra.dedup();
    Ok(drift)
}

/// Returns the cubes that the server holds anything of, sorted.
pub(super) async fn scopes(inner: &Inner) -> Result<Vec<Scope>, StoreError> {
    let mut scopes = BTreeSet::new();
    for collection in collections::ours(&inner.connection, &inner.prefix).await? {
        match inner.calls(&collection).all(&Wall::default(), &[CUBE, CURSOR_OF]).await {
            Ok(points) => scopes.extend(points.iter().filter_map(cube_of)),
            Err(Fault::NoCollection) => {}
            Err(Fault::Store(error)) => return Err(error),
        }
    }
    Ok(scopes.into_iter().collect())
}

fn cube_of(point: &RetrievedPoint) -> Option<Scope> {
    point::memory_cube(&point.payload).or_else(|| point::cursor_cube(&point.payload))
}

/// Compares again and again until what differs is what really differs, not what was being changed.
async fn settled_difference(
    inner: &Arc<Inner>,
    scope: &Scope,
    space: &EmbeddingSpace,
    collection: &str,
) -> Result<Compared, StoreError> {
    let mut found: Option<Compared> = None;
    for _ in 0..MAX_PASSES {
        up_to_date(inner, scope, space).await?;
        let calls = inner.calls(collection);
        let mut now = compare(inner, &calls, scope).await.map_err(Fault::into_store_error)?;
        if let Some(earlier) = &found {
            now.retain_known(earlier);
        }
        let is_settled = now.is_empty() || found.is_some();
        found = Some(now);
        if is_settled {
            break;
        }
    }
    Ok(found.unwrap_or_default())
}

async fn up_to_date(inner: &Arc<Inner>, scope: &Scope, space: &EmbeddingSpace) -> Result<(), StoreError> {
    for _ in 0..MAX_ROUNDS {
        if inner.follow(scope, space).await? == News::None {
            break;
        }
    }
    Ok(())
}

/// Compares every memory of the feed with its point, then looks for points without a memory.
async fn compare(inner: &Inner, calls: &Calls<'_>, scope: &Scope) -> Result<Compared, Fault> {
    let mut compared = Compared::default();
    let mut known: BTreeSet<MemoryId> = BTreeSet::new();
    loop {
        let page = inner.record.changes(scope, compared.last, PAGE).await?;
        if page.is_empty() {
            break;
        }
        let mut expected = BTreeMap::new();
        for change in page {
            let (Change::Put { sequence, .. } | Change::Deleted { sequence, .. }) = &change;
            compared.last = *sequence;
            if let Change::Put { sequence, id, point: Some(vector_point), .. } = change {
                expected.insert(id, (point::memory(scope, sequence, &vector_point), vector_point.vector));
            }
        }
        let ids = expected.values().filter_map(|(point, _)| point.id.clone()).collect();
        let mut held: HashMap<MemoryId, RetrievedPoint> = HashMap::new();
        for point in calls.get(ids, true).await? {
            held.insert(Stored::of(point.payload.clone())?.id, point);
        }
        for (id, (point, vector)) in expected {
            known.insert(id.clone());
            match held.get(&id) {
                None => drop(compared.missing.insert(id, point)),
                Some(held) if is_same(held, &point, &vector) => {}
                Some(_) => drop(compared.stale.insert(id, point)),
            }
        }
    }
    for point in calls.all(&necessary(scope, &Filter::Everything), &[MEMORY_ID, SEQUENCE]).await? {
        let stored = Stored::of(point.payload)?;
        let Some(id) = point.id else { continue };
        if !known.contains(&stored.id) || id != point::point_id(point::memory_point(scope, &stored.id)) {
            compared.extra.entry(stored.id).or_default().push((id, stored.sequence));
        }
    }
    Ok(compared)
}

fn is_same(held: &RetrievedPoint, expected: &PointStruct, vector: &[f32]) -> bool {
    let held_vector = vector_of(held);
    held.payload == expected.payload
        && held_vector.len() == vector.len()
        && held_vector.iter().zip(vector).all(|(left, right)| (left - right).abs() <= ROUNDING)
}

async fn mend_own(
    inner: &Arc<Inner>,
    scope: &Scope,
    space: &EmbeddingSpace,
    collection: &str,
    found: Compared,
) -> Result<(), StoreError> {
    let calls = inner.calls(collection);
    let write = async {
        for (id, sequence) in found.extra.into_values().flatten() {
            calls.delete(these(scope, vec![id], sequence)).await?;
        }
        calls.put(found.missing.into_values().chain(found.stale.into_values()).collect()).await
    };
    write.await.map_err(Fault::into_store_error)?;
    // What was changed since it was compared is newer than what was just written.
    inner.rewind(scope, space, found.last + 1).await?;
    up_to_date(inner, scope, space).await
}

/// Finds, and removes, what the collections of other spaces hold of a cube.
async fn elsewhere(inner: &Inner, scope: &Scope, own: Option<&str>, mend: bool) -> Result<Vec<MemoryId>, StoreError> {
    let mut found = Vec::new();
    let all = collections::ours(&inner.connection, &inner.prefix).await?;
    for other in all.iter().filter(|other| Some(other.as_str()) != own) {
        let calls = inner.calls(other);
        match look_elsewhere(&calls, scope).await {
            Ok(ids) => found.extend(ids),
            Err(Fault::NoCollection) => continue,
            Err(Fault::Store(error)) => return Err(error),
        }
        if mend {
            inner.leave(scope, other).await?;
        }
    }
    Ok(found)
}

/// A cursor alone is no drift: it says that there is nothing.
async fn look_elsewhere(calls: &Calls<'_>, scope: &Scope) -> Result<Vec<MemoryId>, Fault> {
    let points = calls.all(&everything_of(scope, None), &[CUBE, MEMORY_ID, SEQUENCE]).await?;
    let memories = points.into_iter().filter(|point| point.payload.contains_key(CUBE));
    memories.map(|point| Ok(Stored::of(point.payload)?.id)).collect()
}
