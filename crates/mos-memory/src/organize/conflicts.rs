//! Finding memories that contradict or repeat each other, and deciding what becomes of them.

use std::collections::{BTreeSet, HashSet, VecDeque};

use mos_core::graph::{Direction, Edge, kinds};
use mos_core::{Filter, MemoryError, MemoryId, MemoryItem};

use super::alike::is_repeated;
use super::facts::{InTime, facts_beside, in_time, order};
use super::judge::{self, Verdict};
use super::marks::{PairMark, has_pair, pair_fingerprint};
use super::run::{MAX_LOOKS, Run, is_race};
use super::slots::{self, Statement, clash, is_same_state};
use super::vectors::dot;

const STEP: &str = "conflicts";

/// What became of a pair.
enum Outcome {
    /// It was decided before, or there is nothing to decide.
    Nothing,
    /// The model finds both compatible, or they cannot be merged; to be remembered.
    Independent,
    /// Both stay, one was closed, or a conflict was marked.
    Kept,
    /// The first memory of the pair is archived.
    Gone,
    /// Both are archived; this one says what they said.
    Merged(MemoryId),
    /// It has to be looked at again in another run.
    Open,
}

impl Run<'_> {
    /// Compares memories with those that may contradict or repeat them.
    pub(super) async fn conflicts(&mut self, ids: &[MemoryId]) -> Result<(), MemoryError> {
        let mut known = HashSet::new();
        let mut waiting: VecDeque<MemoryId> = ids.iter().filter(|id| known.insert(*id)).cloned().collect();
        while let Some(id) = waiting.pop_front() {
            if self.is_spent() {
                self.report.left.conflicts.push(id);
                self.report.left.conflicts.extend(waiting);
                break;
            }
            // A merged memory may repeat a third one. This ends: each merge leaves one memory less.
            if let Some(merged) = self.conflicts_of(&id).await? {
                waiting.push_back(merged);
            }
        }
        Ok(())
    }

    async fn conflicts_of(&mut self, id: &MemoryId) -> Result<Option<MemoryId>, MemoryError> {
        let Some(item) = self.fact(id).await? else { return Ok(None) };
        let mut independent = Vec::new();
        let mut is_open = false;
        let mut merged = None;
        for other in self.candidates_of(&item).await? {
            if self.is_spent() {
                is_open = true;
                break;
            }
            if !self.meet(id, &other) {
                continue;
            }
            match self.settle(id, &other).await? {
                Outcome::Nothing | Outcome::Kept => {}
                Outcome::Independent => independent.push(other),
                Outcome::Open => is_open = true,
                Outcome::Gone => return Ok(None),
                Outcome::Merged(new) => {
                    merged = Some(new);
                    break;
                }
            }
        }
        if merged.is_none() {
            self.remember_independent(id, &independent).await?;
            if is_open {
                self.report.left.conflicts.push(id.clone());
            }
        }
        Ok(merged)
    }

    /// The memories that one is compared with: possible conflicts that were marked, the nearest, and those that state the
    /// same thing about the same person.
    async fn candidates_of(&self, item: &MemoryItem) -> Result<Vec<MemoryId>, MemoryError> {
        let id = &item.id;
        let marked =
            self.parts.record.edges(self.scope, std::slice::from_ref(id), Direction::Any, Some(kinds::CONFLICT));
        let mut found: Vec<MemoryId> = marked.await?.iter().map(|edge| other_end(edge, id)).collect();
        let near = self.nearest(item).await?;
        let options = &self.parts.options;
        found.extend(
            near.iter().filter(|(_, score)| *score >= options.near).take(options.n_near).map(|(id, _)| id.clone()),
        );
        let related = near.into_iter().filter(|(_, score)| *score >= options.slot_near).map(|(id, _)| id).collect();
        found.extend(self.same_state(item, related).await?);
        let mut seen = HashSet::from([id.clone()]);
        found.retain(|other| seen.insert(other.clone()));
        Ok(found)
    }

    /// The nearest memories of the same shelf with their cosines, best first.
    async fn nearest(&self, item: &MemoryItem) -> Result<Vec<(MemoryId, f32)>, MemoryError> {
        let Some(vector) = self.vectors(std::slice::from_ref(&item.id)).await?.remove(&item.id) else {
            return Ok(Vec::new());
        };
        let options = &self.parts.options;
        let limit = options.n_near.max(options.n_slot) + 1;
        let filter = facts_beside(item);
        let found = self.parts.vectors.nearest(self.scope, &self.space, &vector, limit, &filter).await?;
        Ok(found.into_iter().filter(|one| one.id != item.id).map(|one| (one.id, one.score)).collect())
    }

    /// For each state that a memory tells: the memories just before and just after it that tell the same state of the same
    /// person otherwise. They are looked for among `related` and by words.
    async fn same_state(&self, item: &MemoryItem, related: Vec<MemoryId>) -> Result<Vec<MemoryId>, MemoryError> {
        let own = slots::statements(item);
        if own.is_empty() {
            return Ok(Vec::new());
        }
        let mut ids: BTreeSet<MemoryId> = related.into_iter().collect();
        let slots: BTreeSet<&str> = own.iter().map(|statement| statement.slot.as_str()).collect();
        for slot in slots {
            let filter = facts_beside(item).and(same_user(item));
            let limit = self.parts.options.n_slot;
            let found = self.parts.record.full_text(self.scope, slots::cues(slot), limit, &filter).await?;
            ids.extend(found.into_iter().map(|one| one.id));
        }
        ids.remove(&item.id);
        let others = self.parts.record.nodes(self.scope, &Vec::from_iter(ids)).await?;
        let told: Vec<(MemoryItem, Vec<Statement>)> = others
            .into_iter()
            .filter(|other| other.metadata.user_id == item.metadata.user_id)
            .map(|other| {
                let statements = slots::statements(&other);
                (other, statements)
            })
            .collect();
        let mut found = Vec::new();
        for statement in &own {
            let same = |other: &&(MemoryItem, Vec<Statement>)| other.1.iter().any(|one| is_same_state(statement, one));
            let earlier = told.iter().filter(same).filter(|(other, _)| order(other, item).is_lt());
            let later = told.iter().filter(same).filter(|(other, _)| order(other, item).is_gt());
            let neighbours = [
                earlier.max_by(|(left, _), (right, _)| order(left, right)),
                later.min_by(|(left, _), (right, _)| order(left, right)),
            ];
            for (other, statements) in neighbours.into_iter().flatten() {
                if statements.iter().any(|one| clash(statement, one, &*self.parts.analyzer)) {
                    found.push(other.id.clone());
                }
            }
        }
        Ok(found)
    }

    /// Decides about a pair; looks again when somebody changes one of them meanwhile.
    async fn settle(&mut self, id: &MemoryId, other: &MemoryId) -> Result<Outcome, MemoryError> {
        for _ in 0..MAX_LOOKS {
            let Some((left, right)) = self.both(id, other).await? else {
                return Ok(Outcome::Nothing);
            };
            let is_judged = has_pair(PairMark::Independent, &left, &right);
            let is_one_user = left.metadata.user_id == right.metadata.user_id;
            let edges = self.edges_between(id, other).await?;
            let pair = in_time(left, right);
            if is_judged || !is_one_user || !pair.overlaps() || edges.iter().any(|edge| edge.kind == kinds::SUPERSEDES)
            {
                return Ok(Outcome::Nothing);
            }
            let decided = if self.model.is_some() {
                self.settle_by_model(id, &pair, &edges).await
            } else {
                self.settle_by_words(id, &pair, &edges).await
            };
            match decided {
                Err(error) if is_race(&error) => {}
                decided => return Ok(self.told(STEP, &[id, other], decided)?.unwrap_or(Outcome::Open)),
            }
        }
        let reason = format!("others kept changing one of both; looked at {MAX_LOOKS} times");
        self.report.fail(STEP, vec![id.clone(), other.clone()], reason);
        Ok(Outcome::Open)
    }

    async fn settle_by_model(&mut self, id: &MemoryId, pair: &InTime, edges: &[Edge]) -> Result<Outcome, MemoryError> {
        let verdict = self.verdict_of(pair).await?;
        if verdict == Verdict::Independent {
            self.report.n_independent += 1;
            return Ok(Outcome::Independent);
        }
        if verdict == Verdict::Contradictory && pair.differs && self.parts.options.close_superseded {
            self.close(pair, edges).await?;
            self.report.n_closed += 1;
            return Ok(Outcome::Kept);
        }
        match self.merged_text(pair, verdict).await? {
            Some(text) => {
                let Some(merged) = self.merge(pair, edges, verdict, text).await? else {
                    self.report
                        .note("what the model made of two memories reads like instructions; both stay as they are");
                    return Ok(Outcome::Independent);
                };
                self.report.n_merged += 1;
                self.report.created.push(merged.clone());
                Ok(Outcome::Merged(merged))
            }
            None => {
                self.replace(pair, edges).await?;
                self.report.n_replaced += 1;
                Ok(if pair.older.id == *id { Outcome::Gone } else { Outcome::Kept })
            }
        }
    }

    async fn settle_by_words(&mut self, id: &MemoryId, pair: &InTime, edges: &[Edge]) -> Result<Outcome, MemoryError> {
        let analyzer = &*self.parts.analyzer;
        if is_repeated(pair, analyzer) && self.cosine(pair).await? >= self.parts.options.duplicate {
            self.deduplicate(pair).await?;
            self.report.n_deduplicated += 1;
            return Ok(if pair.newer.id == *id { Outcome::Gone } else { Outcome::Kept });
        }
        let is_marked = edges.iter().any(|edge| edge.kind == kinds::CONFLICT);
        let (older, newer) = (slots::statements(&pair.older), slots::statements(&pair.newer));
        let clashes = older.iter().any(|one| newer.iter().any(|other| clash(one, other, analyzer)));
        if is_marked || !pair.differs || !clashes {
            return Ok(Outcome::Nothing);
        }
        self.mark_conflict(pair).await?;
        self.report.n_conflict_candidates += 1;
        Ok(Outcome::Kept)
    }

    async fn cosine(&self, pair: &InTime) -> Result<f32, MemoryError> {
        let vectors = self.vectors(&[pair.older.id.clone(), pair.newer.id.clone()]).await?;
        Ok(match (vectors.get(&pair.older.id), vectors.get(&pair.newer.id)) {
            (Some(older), Some(newer)) => dot(older, newer),
            _ => 0.0,
        })
    }

    /// The model's verdict; the same texts are asked about once in a run.
    async fn verdict_of(&mut self, pair: &InTime) -> Result<Verdict, MemoryError> {
        let print = pair_fingerprint(&pair.older, &pair.newer);
        if let Some(verdict) = self.verdicts.get(&print) {
            return Ok(*verdict);
        }
        let Some(model) = self.model.clone() else { return Ok(Verdict::Independent) };
        let verdict = judge::verdict(&model, pair, self.parts.options.attempts).await?;
        self.verdicts.insert(print, verdict);
        Ok(verdict)
    }

    async fn merged_text(&mut self, pair: &InTime, verdict: Verdict) -> Result<Option<String>, MemoryError> {
        let print = pair_fingerprint(&pair.older, &pair.newer);
        if let Some(text) = self.merged_texts.get(&print) {
            return Ok(text.clone());
        }
        let Some(model) = self.model.clone() else { return Ok(None) };
        let text = judge::merged(&model, pair, verdict, self.parts.options.attempts).await?;
        self.merged_texts.insert(print, text.clone());
        Ok(text)
    }

    async fn edges_between(&self, left: &MemoryId, right: &MemoryId) -> Result<Vec<Edge>, MemoryError> {
        let mut edges = self.parts.record.edges(self.scope, std::slice::from_ref(left), Direction::Any, None).await?;
        edges.retain(|edge| other_end(edge, left) == *right);
        Ok(edges)
    }
}

/// Memories of the same user, when one is named.
fn same_user(item: &MemoryItem) -> Filter {
    item.metadata.user_id.as_ref().map_or(Filter::Everything, |user| Filter::equals("user_id", user.as_str()))
}

fn other_end(edge: &Edge, id: &MemoryId) -> MemoryId {
    if edge.source == *id { edge.target.clone() } else { edge.source.clone() }
}
