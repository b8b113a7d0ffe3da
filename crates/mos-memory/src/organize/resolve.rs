//! Writing down what was decided about two memories: one batch per decision, nothing is erased.

use std::collections::HashSet;

use mos_core::graph::{Direction, Edge, Paging, kinds};
use mos_core::memory::{SourceMessage, UpdateType};
use mos_core::{Filter, MemoryError, MemoryId, MemoryItem, MemoryType, Metadata, MetadataForm, Status, WriteBatch};
use serde_json::Value;

use super::facts::{CONFLICT_CANDIDATE, InTime, VALID_FROM, VALID_TO, is_fact, next_state};
use super::judge::Verdict;
use super::marks::{PairMark, set_pair};
use super::run::{MAX_LOOKS, Run, edge, is_race};

impl Run<'_> {
    /// Closes the older of two facts: it stays, true until the newer one began.
    pub(super) async fn close(&self, pair: &InTime, edges: &[Edge]) -> Result<(), MemoryError> {
        let now = self.parts.clock.now_text();
        let end = pair.turn().unwrap_or_else(|| now.clone());
        let close = |item: &mut MemoryItem| {
            item.metadata.extra.insert(VALID_TO.to_owned(), Value::from(end.as_str()));
        };
        let mut batch = Self::batch("organize: a later fact takes its place");
        batch.put_edges.push(edge(&pair.newer.id, kinds::SUPERSEDES, &pair.older.id));
        self.put_copies(&mut batch, &pair.older, &now, close).await?;
        let older = next_state(&pair.older, &now, UpdateType::Conflict, close);
        self.put_settled(&mut batch, pair, edges, older).await?;
        self.apply(batch).await
    }

    /// Keeps the newer memory alone; the older one is archived and leads to it.
    pub(super) async fn replace(&self, pair: &InTime, edges: &[Edge]) -> Result<(), MemoryError> {
        let now = self.parts.clock.now_text();
        let mut batch = Self::batch("organize: the newer memory counts");
        let older = self.put_archived(&mut batch, &pair.older, &pair.newer.id, &now, UpdateType::Conflict).await?;
        self.put_settled(&mut batch, pair, edges, older).await?;
        self.apply(batch).await
    }

    /// Makes one new memory of two, which are archived and lead to it. Returns its id; `None` when nobody is to find what it
    /// would say: then both stay as they are, because what the user said must not go with what a stranger did.
    pub(super) async fn merge(
        &self,
        pair: &InTime,
        edges: &[Edge],
        verdict: Verdict,
        text: String,
    ) -> Result<Option<MemoryId>, MemoryError> {
        let (id, now) = (self.new_id(), self.parts.clock.now_text());
        let merged = MemoryItem { id: id.clone(), memory: text, metadata: merged_metadata(pair, &now) };
        let merged = self.looked_at(&[&pair.older, &pair.newer], merged).await?;
        if merged.is_kept_apart() {
            return Ok(None);
        }
        let why = if verdict == Verdict::Redundant { UpdateType::Duplicate } else { UpdateType::Conflict };
        let mut batch = Self::batch("organize: two memories become one");
        batch.embeddings = Some(self.embedded(&id, &merged.memory).await?);
        batch.absent.push(id.clone());
        batch.put.push(merged);
        for item in [&pair.older, &pair.newer] {
            let archived = self.put_archived(&mut batch, item, &id, &now, why).await?;
            batch.unchanged.push(item.clone());
            batch.put.push(archived);
        }
        let both = [pair.older.id.clone(), pair.newer.id.clone()];
        let around = self.parts.record.edges(self.scope, &both, Direction::Any, None).await?;
        batch.put_edges.extend(inherited(&around, &both, &id, &[]));
        batch.remove_edges.extend(edges.iter().filter(|edge| edge.kind == kinds::CONFLICT).cloned());
        self.apply(batch).await?;
        Ok(Some(id))
    }

    /// Keeps the older of two memories that say the same, with the sources of both; the newer one is archived.
    pub(super) async fn deduplicate(&self, pair: &InTime) -> Result<(), MemoryError> {
        let now = self.parts.clock.now_text();
        let mut batch = Self::batch("organize: the same was said before");
        let newer = self.put_archived(&mut batch, &pair.newer, &pair.older.id, &now, UpdateType::Duplicate).await?;
        let trust = pair.older.metadata.trust().max(pair.newer.metadata.trust());
        if trust > pair.older.metadata.trust() {
            // A change by the id of a copy is a change of the memory: no copy may be trusted further.
            self.put_copies(&mut batch, &pair.older, &now, |copy| copy.metadata.trust_at_most(trust)).await?;
        }
        let older = next_state(&pair.older, &now, UpdateType::Duplicate, |item| {
            item.metadata.tags = joined_tags(&pair.older, &pair.newer);
            let sources = joined_sources(&pair.older, &pair.newer);
            if let MetadataForm::Tree(tree) = &mut item.metadata.form {
                tree.sources = sources;
            }
            item.metadata.trust_at_most(trust);
        });
        let own =
            self.parts.record.edges(self.scope, std::slice::from_ref(&pair.older.id), Direction::Any, None).await?;
        let others =
            self.parts.record.edges(self.scope, std::slice::from_ref(&pair.newer.id), Direction::Any, None).await?;
        batch.put_edges.extend(inherited(&others, std::slice::from_ref(&pair.newer.id), &pair.older.id, &own));
        batch.unchanged.extend([pair.older.clone(), pair.newer.clone()]);
        batch.put.extend([older, newer]);
        self.apply(batch).await
    }

    /// Marks two memories as a possible conflict that somebody has to judge.
    pub(super) async fn mark_conflict(&self, pair: &InTime) -> Result<(), MemoryError> {
        let mut newer = pair.newer.clone();
        newer.metadata.extra.insert(CONFLICT_CANDIDATE.to_owned(), Value::Bool(true));
        let batch = WriteBatch {
            unchanged: vec![pair.older.clone(), pair.newer.clone()],
            put: vec![newer],
            put_edges: vec![edge(&pair.newer.id, kinds::CONFLICT, &pair.older.id)],
            ..Self::batch("organize: a possible conflict")
        };
        self.apply(batch).await
    }

    /// Remembers with which others a memory is compatible, so that nobody is asked again, and takes back marks of possible
    /// conflicts between them.
    pub(super) async fn remember_independent(&mut self, id: &MemoryId, others: &[MemoryId]) -> Result<(), MemoryError> {
        if others.is_empty() {
            return Ok(());
        }
        for _ in 0..MAX_LOOKS {
            let Some(item) = self.fact(id).await? else { return Ok(()) };
            let others: Vec<MemoryItem> =
                self.parts.record.nodes(self.scope, others).await?.into_iter().filter(is_fact).collect();
            match self.write_independent(&item, &others).await {
                Err(error) if is_race(&error) => {}
                result => {
                    self.told("conflicts", &[id], result)?;
                    return Ok(());
                }
            }
        }
        let reason = "others kept changing the memory; it is asked about again in the next run".to_owned();
        self.report.fail("conflicts", vec![id.clone()], reason);
        Ok(())
    }

    async fn write_independent(&self, item: &MemoryItem, others: &[MemoryItem]) -> Result<(), MemoryError> {
        let mut batch = Self::batch("organize: compatible with others");
        let ids: HashSet<&MemoryId> = others.iter().map(|other| &other.id).collect();
        let conflicts =
            self.parts.record.edges(self.scope, std::slice::from_ref(&item.id), Direction::Any, Some(kinds::CONFLICT));
        batch.remove_edges = conflicts.await?;
        batch.remove_edges.retain(|edge| ids.contains(&edge.source) || ids.contains(&edge.target));
        let mut marked = item.clone();
        for other in others {
            set_pair(PairMark::Independent, &mut marked, other);
        }
        let mut changed = vec![(item, marked)];
        changed.extend(others.iter().map(|other| (other, other.clone())));
        for (before, mut after) in changed {
            self.unmark(&mut after, &batch.remove_edges).await?;
            if after != *before {
                batch.unchanged.push(before.clone());
                batch.put.push(after);
            }
        }
        self.apply(batch).await
    }

    /// Adds the next state of the older memory, and the newer one without its mark when it has no other open conflict.
    async fn put_settled(
        &self,
        batch: &mut WriteBatch,
        pair: &InTime,
        edges: &[Edge],
        mut older: MemoryItem,
    ) -> Result<(), MemoryError> {
        batch.remove_edges.extend(edges.iter().filter(|edge| edge.kind == kinds::CONFLICT).cloned());
        let mut newer = pair.newer.clone();
        self.unmark(&mut newer, &batch.remove_edges).await?;
        self.unmark(&mut older, &batch.remove_edges).await?;
        batch.unchanged.extend([pair.older.clone(), pair.newer.clone()]);
        batch.put.push(older);
        if newer != pair.newer {
            batch.put.push(newer);
        }
        Ok(())
    }

    /// Takes the mark of a possible conflict off a memory when no edge of one starts at it but those that go.
    async fn unmark(&self, item: &mut MemoryItem, going: &[Edge]) -> Result<(), MemoryError> {
        if !item.metadata.extra.contains_key(CONFLICT_CANDIDATE) {
            return Ok(());
        }
        let ids = std::slice::from_ref(&item.id);
        let own = self.parts.record.edges(self.scope, ids, Direction::Outgoing, Some(kinds::CONFLICT)).await?;
        if own.iter().all(|edge| going.contains(edge)) {
            item.metadata.extra.shift_remove(CONFLICT_CANDIDATE);
        }
        Ok(())
    }

    /// Returns a memory as archived, and adds the edge to what takes its place. Its working copies are archived as well.
    async fn put_archived(
        &self,
        batch: &mut WriteBatch,
        item: &MemoryItem,
        successor: &MemoryId,
        now: &str,
        why: UpdateType,
    ) -> Result<MemoryItem, MemoryError> {
        let archive = |item: &mut MemoryItem| {
            item.metadata.status = Some(Status::Archived);
            item.metadata.extra.shift_remove(CONFLICT_CANDIDATE);
            let successor = successor.to_string();
            if !item.metadata.evolve_to.contains(&successor) {
                item.metadata.evolve_to.push(successor);
            }
        };
        batch.put_edges.push(edge(&item.id, kinds::MERGED_TO, successor));
        self.put_copies(batch, item, now, archive).await?;
        Ok(next_state(item, now, why, archive))
    }

    /// Makes the working copies of a memory follow it.
    async fn put_copies(
        &self,
        batch: &mut WriteBatch,
        item: &MemoryItem,
        now: &str,
        change: impl Fn(&mut MemoryItem),
    ) -> Result<(), MemoryError> {
        let copies = Filter::equals("memory_type", MemoryType::Working.as_str())
            .and(Filter::equals("status", Status::Activated.as_str()))
            .and(Filter::equals("working_binding", item.id.as_str()));
        for copy in self.parts.record.list(self.scope, &copies, Paging::ALL).await?.entries {
            batch.put.push(next_state(&copy, now, UpdateType::Conflict, &change));
            batch.unchanged.push(copy);
        }
        Ok(())
    }
}

/// The metadata of a memory that says what two said: the newer one's, with what only the older one has.
fn merged_metadata(pair: &InTime, now: &str) -> Metadata {
    let (older, newer) = (&pair.older.metadata, &pair.newer.metadata);
    let mut metadata = newer.clone();
    metadata.status = Some(Status::Activated);
    metadata.is_fast = None;
    metadata.evolve_to = Vec::new();
    metadata.version = 1;
    metadata.history = Vec::new();
    metadata.working_binding = None;
    metadata.internal_info = None;
    metadata.updated_at = Some(now.to_owned());
    metadata.tags = joined_tags(&pair.older, &pair.newer);
    metadata.key = newer.key.clone().or_else(|| older.key.clone());
    metadata.kind = newer.kind.clone().or_else(|| older.kind.clone());
    metadata.confidence = newer.confidence.or(older.confidence);
    // Where no sources are kept, these two say whose words it is: of two, the one that is trusted less.
    let (less, more) = if older.trust() > newer.trust() { (older, newer) } else { (newer, older) };
    metadata.source = less.source.or(more.source);
    metadata.info = less.info.clone().or_else(|| {
        let mut info = more.info.clone()?;
        if less.trust() > more.trust() {
            info.shift_remove("role");
        }
        Some(info)
    });
    metadata.user_id = newer.user_id.clone().or_else(|| older.user_id.clone());
    // A memory of two conversations belongs to neither.
    metadata.session_id = newer.session_id.clone().filter(|session| older.session_id.as_ref() == Some(session));
    for (key, value) in &older.extra {
        metadata.extra.entry(key.clone()).or_insert_with(|| value.clone());
    }
    metadata.extra.shift_remove(CONFLICT_CANDIDATE);
    let (from, until) = pair.validity();
    for (key, time) in [(VALID_FROM, from), (VALID_TO, until)] {
        metadata.extra.shift_remove(key);
        if let Some(time) = time {
            metadata.extra.insert(key.to_owned(), Value::from(time));
        }
    }
    let file_ids = older.tree().map(|tree| tree.file_ids.clone()).unwrap_or_default();
    let background = older.tree().and_then(|tree| tree.background.clone());
    let sources = joined_sources(&pair.older, &pair.newer);
    if let MetadataForm::Tree(tree) = &mut metadata.form {
        tree.sources = sources;
        tree.created_at = Some(now.to_owned());
        tree.usage = Vec::new();
        tree.background = tree.background.take().filter(|text| !text.is_empty()).or(background);
        let new: Vec<String> = file_ids.into_iter().filter(|file| !tree.file_ids.contains(file)).collect();
        tree.file_ids.extend(new);
    }
    metadata.trust_at_most(less.trust());
    metadata
}

/// The sources of both, the older one's first, each once.
fn joined_sources(older: &MemoryItem, newer: &MemoryItem) -> Option<Vec<SourceMessage>> {
    let mut joined: Vec<SourceMessage> = Vec::new();
    let mut has_any = false;
    for sources in [older, newer].into_iter().filter_map(|item| item.metadata.tree()?.sources.as_ref()) {
        has_any = true;
        for source in sources {
            if !joined.contains(source) {
                joined.push(source.clone());
            }
        }
    }
    has_any.then_some(joined)
}

/// The tags of both, the older one's first, each once.
fn joined_tags(older: &MemoryItem, newer: &MemoryItem) -> Option<Vec<String>> {
    let mut joined: Vec<String> = Vec::new();
    let lists: Vec<&Vec<String>> = [older, newer].into_iter().filter_map(|item| item.metadata.tags.as_ref()).collect();
    let has_any = !lists.is_empty();
    for tag in lists.into_iter().flatten() {
        if !joined.contains(tag) {
            joined.push(tag.clone());
        }
    }
    has_any.then_some(joined)
}

/// The edges that a memory takes over from others: all but those that tell of replacements, without loops, and without
/// those that it has already in either direction.
fn inherited(edges: &[Edge], from: &[MemoryId], to: &MemoryId, own: &[Edge]) -> Vec<Edge> {
    let mut known: HashSet<(String, MemoryId, MemoryId)> =
        own.iter().map(|edge| (edge.kind.clone(), edge.source.clone(), edge.target.clone())).collect();
    let renamed = |id: &MemoryId| if from.contains(id) { to.clone() } else { id.clone() };
    let mut inherited = Vec::new();
    for edge in edges.iter().filter(|edge| edge.kind != kinds::MERGED_TO) {
        let edge = Edge { source: renamed(&edge.source), target: renamed(&edge.target), kind: edge.kind.clone() };
        let turned = (edge.kind.clone(), edge.target.clone(), edge.source.clone());
        let is_new = edge.source != edge.target
            && !known.contains(&turned)
            && known.insert((edge.kind.clone(), edge.source.clone(), edge.target.clone()));
        if is_new {
            inherited.push(edge);
        }
    }
    inherited
}

#[cfg(test)]
mod tests {
    use mos_core::memory::Trust;
    use serde_json::json;

    use super::*;

    fn link(source: &str, kind: &str, target: &str) -> Edge {
        edge(&MemoryId::new(source), kind, &MemoryId::new(target))
    }

    #[test]
    fn what_a_stranger_said_does_not_become_the_users_when_it_is_merged() {
        let of = |metadata: Value| {
            let id = "00000000-0000-4000-8000-000000000001";
            let value = json!({"id": id, "memory": "The hotel Havn is full.", "metadata": metadata});
            MemoryItem::from_value(value, String::new).unwrap()
        };
        let user = || of(json!({"info": {"role": "user", "chat_time": "2 May 2026"}, "source": "conversation"}));
        for stranger in [json!({"info": {"role": "tool"}}), json!({"source": "retrieved"}), json!({"source": "web"})] {
            let stranger = || of(stranger.clone());
            for (older, newer) in [(stranger(), user()), (user(), stranger())] {
                let merged = merged_metadata(&InTime { older, newer, differs: true }, "2026-05-03T00:00:00+00:00");
                assert_eq!(merged.trust(), Trust::External, "{:?}", stranger().metadata.info);
            }
        }
        let with_sources = || of(json!({"sources": [{"type": "chat", "role": "user"}]}));
        let without = || of(json!({"trust": "external", "background": ""}));
        for (older, newer) in [(with_sources(), without()), (without(), with_sources())] {
            let merged = merged_metadata(&InTime { older, newer, differs: true }, "2026-05-03T00:00:00+00:00");
            assert_eq!(merged.trust(), Trust::External, "the sources of the other do not speak for it");
        }
        let merged =
            merged_metadata(&InTime { older: user(), newer: user(), differs: true }, "2026-05-03T00:00:00+00:00");
        assert_eq!((merged.trust(), merged.info), (Trust::User, user().metadata.info));
    }

    #[test]
    fn edges_are_inherited_without_loops_and_doubles() {
        let edges = [
            link("a", "RELATE", "b"),
            link("a", "PARENT", "x"),
            link("b", "PARENT", "x"),
            link("y", "CAUSE", "a"),
            link("b", "CAUSE", "y"),
            link("z", "MERGED_TO", "a"),
        ];
        let from = [MemoryId::new("a"), MemoryId::new("b")];
        let found = inherited(&edges, &from, &MemoryId::new("m"), &[]);
        assert_eq!(found, [link("m", "PARENT", "x"), link("y", "CAUSE", "m")]);
        let own = [link("x", "PARENT", "m")];
        assert_eq!(inherited(&edges, &from, &MemoryId::new("m"), &own), [link("y", "CAUSE", "m")]);
    }
}
