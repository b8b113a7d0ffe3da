//! Edges between memories that have to do with each other, and memories that follow from them.
//!
//! Memories are compared when they share tags. Which one continues which is told by time, session and topic, which ones
//! relate by tags and names; causes, conditions and conclusions need a model. What a model was asked is remembered with the
//! memories, so that a second run asks nothing and an interrupted one goes on.

mod ask;
mod made;
mod plain;

use std::collections::{BTreeSet, HashSet};

use mos_core::graph::{Direction, Edge, kinds};
use mos_core::{Filter, MemoryError, MemoryId, MemoryItem};

use super::facts::{InTime, facts, in_time, is_fact};
use super::marks::{OwnMark, PairMark, has_own, has_pair, set_own, set_pair};
use super::run::{MAX_LOOKS, Run, edge, is_race};
use ask::{Kind, Link};

const STEP: &str = "relations";

/// What a run without a model cannot find.
const NEEDS_MODEL: &str =
    "causes, conditions, conclusions and sums of related memories need a model; set one to find them";

impl Run<'_> {
    /// Links memories with those that share tags with them.
    pub(super) async fn relations(&mut self, ids: &[MemoryId]) -> Result<(), MemoryError> {
        self.forget_pairs();
        if self.model.is_none() {
            self.report.note(NEEDS_MODEL);
        }
        let mut known = HashSet::new();
        let mut waiting = ids.iter().filter(|id| known.insert(*id));
        while let Some(id) = waiting.next() {
            if self.is_spent() {
                self.report.left.relations.push(id.clone());
                self.report.left.relations.extend(waiting.cloned());
                break;
            }
            if !self.relations_of(id).await? {
                self.report.left.relations.push(id.clone());
            }
        }
        Ok(())
    }

    /// Links one memory; false when something is left to do.
    async fn relations_of(&mut self, id: &MemoryId) -> Result<bool, MemoryError> {
        let Some(item) = self.fact(id).await? else { return Ok(true) };
        let neighbours = self.tag_neighbours(&item).await?;
        self.link_sequence(&item, &neighbours).await?;
        if neighbours.is_empty() {
            return Ok(true);
        }
        if self.model.is_none() {
            self.relate_by_words(&item, &neighbours).await?;
            return Ok(true);
        }
        let is_related = self.relate_by_model(&item, &neighbours).await?;
        let is_inferred = self.infer(id).await?;
        let is_aggregated = self.aggregate(id, &neighbours).await?;
        Ok(is_related && is_inferred && is_aggregated)
    }

    /// Memories of the same user that share enough tags, those with most first.
    async fn tag_neighbours(&self, item: &MemoryItem) -> Result<Vec<MemoryItem>, MemoryError> {
        let tags = plain::telling_tags(item);
        let options = &self.parts.options;
        if tags.len() < options.min_shared_tags {
            return Ok(Vec::new());
        }
        let user = item.metadata.user_id.as_deref();
        let filter = facts(None).and(user.map_or(Filter::Everything, |user| Filter::equals("user_id", user)));
        let except = std::slice::from_ref(&item.id);
        let (least, limit) = (options.min_shared_tags, options.n_neighbours);
        let found = self.parts.record.sharing_tags(self.scope, &tags, least, except, limit, &filter).await?;
        Ok(found.into_iter().map(|tagged| tagged.item).collect())
    }

    /// Asks how a memory is related to its neighbours, and writes the answers down together. False when some are missing.
    async fn relate_by_model(&mut self, item: &MemoryItem, neighbours: &[MemoryItem]) -> Result<bool, MemoryError> {
        let mut answers: Vec<(MemoryItem, Link)> = Vec::new();
        let mut is_complete = true;
        for other in neighbours {
            if self.is_spent() {
                is_complete = false;
                break;
            }
            if has_pair(PairMark::Related, item, other) || !self.meet(&item.id, &other.id) {
                continue;
            }
            let Some(model) = self.model.clone() else { break };
            let asked = ask::link(&model, &in_time(item.clone(), other.clone()), self.parts.options.attempts).await;
            match self.told(STEP, &[&item.id, &other.id], asked)? {
                Some(link) => answers.push((other.clone(), link)),
                None => is_complete = false,
            }
        }
        let is_written = self.write_links(item, &answers).await?;
        Ok(is_complete && is_written)
    }

    /// Writes links and remembers that they were asked for. Memories that say something else by now are left out.
    async fn write_links(&mut self, item: &MemoryItem, answers: &[(MemoryItem, Link)]) -> Result<bool, MemoryError> {
        if answers.is_empty() {
            return Ok(true);
        }
        for _ in 0..MAX_LOOKS {
            let Some(now) = self.fact(&item.id).await?.filter(|now| now.memory == item.memory) else {
                return Ok(false);
            };
            let ids: Vec<MemoryId> = answers.iter().map(|(other, _)| other.id.clone()).collect();
            let others = self.parts.record.nodes(self.scope, &ids).await?;
            let around = self.edges_at(&item.id).await?;
            let mut batch = Self::batch("organize: related memories");
            let mut marked = now.clone();
            let mut new: Vec<String> = Vec::new();
            for other in others.into_iter().filter(is_fact) {
                let Some((asked, link)) = answers.iter().find(|(asked, _)| asked.id == other.id) else { continue };
                if asked.memory != other.memory {
                    continue;
                }
                set_pair(PairMark::Related, &mut marked, &other);
                let pair = in_time(now.clone(), other.clone());
                let wanted = link.edge(&pair);
                let between = around.iter().filter(|edge| edge.source == other.id || edge.target == other.id);
                let known: Vec<&Edge> = between.collect();
                // What was linked by words gives way to what the model says.
                batch.remove_edges.extend(
                    known
                        .iter()
                        .filter(|edge| edge.kind == kinds::RELATE && wanted.as_ref() != Some(**edge))
                        .copied()
                        .cloned(),
                );
                if let Some(wanted) = wanted.filter(|wanted| !known.contains(&wanted)) {
                    new.push(wanted.kind.clone());
                    batch.put_edges.push(wanted);
                }
                batch.unchanged.push(other);
            }
            batch.unchanged.push(now);
            batch.put.push(marked);
            match self.apply(batch).await {
                Err(error) if is_race(&error) => {}
                result => {
                    result?;
                    new.iter().for_each(|kind| self.report.count_relation(kind));
                    return Ok(true);
                }
            }
        }
        self.report.fail(STEP, vec![item.id.clone()], "others kept changing the memories; they are left".to_owned());
        Ok(false)
    }

    /// Asks what follows from a memory and each of those that it causes or depends on, or that cause it.
    async fn infer(&mut self, id: &MemoryId) -> Result<bool, MemoryError> {
        let mut is_complete = true;
        for link in self.edges_at(id).await? {
            if link.kind != kinds::CAUSE && link.kind != kinds::CONDITION {
                continue;
            }
            if self.is_spent() {
                return Ok(false);
            }
            let other = if link.source == *id { &link.target } else { &link.source };
            let Some((item, other)) = self.both(id, other).await? else { continue };
            if has_pair(PairMark::Inferred, &item, &other) || self.have_conclusion(&item.id, &other.id).await? {
                continue;
            }
            is_complete &= self.infer_from(item, other, &link.kind).await?;
        }
        Ok(is_complete)
    }

    async fn infer_from(&mut self, item: MemoryItem, other: MemoryItem, kind: &str) -> Result<bool, MemoryError> {
        let Some(model) = self.model.clone() else { return Ok(true) };
        let ids = [item.id.clone(), other.id.clone()];
        let pair = in_time(item.clone(), other.clone());
        let asked = ask::conclusion(&model, &pair, kind, self.parts.options.attempts).await;
        let Some(fact) = self.told(STEP, &[&ids[0], &ids[1]], asked)? else { return Ok(false) };
        let written = self.write_conclusion(&item, &other, &pair, kind, fact).await;
        let Some(made) = self.told(STEP, &[&ids[0], &ids[1]], written)? else { return Ok(false) };
        self.report.n_inferred += usize::from(made.is_some());
        self.report.created.extend(made);
        Ok(true)
    }

    /// Writes what follows, if anything, and remembers that it was asked for.
    async fn write_conclusion(
        &self,
        item: &MemoryItem,
        other: &MemoryItem,
        pair: &InTime,
        kind: &str,
        fact: Option<String>,
    ) -> Result<Option<MemoryId>, MemoryError> {
        let mut batch = Self::batch("organize: a conclusion");
        let mut marked = item.clone();
        set_pair(PairMark::Inferred, &mut marked, other);
        batch.unchanged = vec![item.clone(), other.clone()];
        batch.put.push(marked);
        let mut made = None;
        if let Some(fact) = fact {
            let id = self.new_id();
            let sources = [&pair.older, &pair.newer];
            let conclusion = made::conclusion(id.clone(), &sources, kind, fact, &self.parts.clock.now_text());
            let conclusion = self.looked_at(&sources, conclusion).await?;
            batch.embeddings = Some(self.embedded(&id, &conclusion.memory).await?);
            batch.absent.push(id.clone());
            batch.put_edges = sources.map(|source| edge(&source.id, kinds::INFERS, &id)).to_vec();
            batch.put.push(conclusion);
            made = Some(id);
        }
        self.apply(batch).await?;
        Ok(made)
    }

    /// Whether something was concluded from both memories.
    async fn have_conclusion(&self, left: &MemoryId, right: &MemoryId) -> Result<bool, MemoryError> {
        let ids = [left.clone(), right.clone()];
        let edges = self.parts.record.edges(self.scope, &ids, Direction::Outgoing, Some(kinds::INFERS)).await?;
        let of = |id: &MemoryId| -> BTreeSet<&MemoryId> {
            edges.iter().filter(|edge| edge.source == *id).map(|edge| &edge.target).collect()
        };
        Ok(!of(left).is_disjoint(&of(right)))
    }

    /// Asks what a memory and its neighbours say together, when there are enough and it is not part of such a sum already.
    async fn aggregate(&mut self, id: &MemoryId, neighbours: &[MemoryItem]) -> Result<bool, MemoryError> {
        let Some(item) = self.fact(id).await? else { return Ok(true) };
        if neighbours.len() < self.parts.options.min_aggregated || has_own(OwnMark::Aggregated, &item) {
            return Ok(true);
        }
        let ids = std::slice::from_ref(id);
        let sums = self.parts.record.edges(self.scope, ids, Direction::Incoming, Some(kinds::AGGREGATE_TO)).await?;
        if !sums.is_empty() {
            return Ok(true);
        }
        if self.is_spent() {
            return Ok(false);
        }
        let Some(model) = self.model.clone() else { return Ok(true) };
        let known: Vec<MemoryId> = neighbours.iter().map(|item| item.id.clone()).collect();
        let mut parts: Vec<MemoryItem> = vec![item];
        parts.extend(self.parts.record.nodes(self.scope, &known).await?.into_iter().filter(is_fact));
        let shown: Vec<&MemoryItem> = parts.iter().collect();
        let asked = ask::sum(&model, &shown, self.parts.options.attempts).await;
        let Some(heading) = self.told(STEP, &[id], asked)? else { return Ok(false) };
        let mut batch = Self::batch("organize: related memories summed up");
        let mut marked = parts[0].clone();
        set_own(OwnMark::Aggregated, &mut marked);
        batch.put.push(marked);
        let mut made = None;
        if let Some(heading) = heading {
            let new = self.new_id();
            let sum = made::sum(new.clone(), &shown, heading, &self.parts.clock.now_text());
            let looked_at = self.looked_at(&shown, sum).await;
            let Some(sum) = self.told(STEP, &[id], looked_at)? else { return Ok(false) };
            let embedded = self.embedded(&new, &sum.memory).await;
            let Some(embeddings) = self.told(STEP, &[id], embedded)? else { return Ok(false) };
            batch.embeddings = Some(embeddings);
            batch.absent.push(new.clone());
            batch.put_edges = parts.iter().map(|part| edge(&new, kinds::AGGREGATE_TO, &part.id)).collect();
            batch.put.push(sum);
            made = Some(new);
        }
        batch.unchanged = parts;
        let written = self.apply(batch).await;
        let is_written = self.told(STEP, &[id], written)?.is_some();
        if let Some(made) = made.filter(|_| is_written) {
            self.report.n_aggregates += 1;
            self.report.created.push(made);
        }
        Ok(is_written)
    }

    async fn edges_at(&self, id: &MemoryId) -> Result<Vec<Edge>, MemoryError> {
        Ok(self.parts.record.edges(self.scope, std::slice::from_ref(id), Direction::Any, None).await?)
    }
}

impl Link {
    /// The edge that this link of a pair is; `None` when they are not related.
    fn edge(&self, pair: &InTime) -> Option<Edge> {
        let (older, newer) = (&pair.older.id, &pair.newer.id);
        let (from, to) = if self.is_from_newer { (newer, older) } else { (older, newer) };
        match self.kind {
            Kind::Cause => Some(edge(from, kinds::CAUSE, to)),
            Kind::Condition => Some(edge(from, kinds::CONDITION, to)),
            Kind::Relate => Some(edge(older, kinds::RELATE, newer)),
            Kind::Conflict => Some(edge(newer, kinds::CONFLICT, older)),
            Kind::None => None,
        }
    }
}
