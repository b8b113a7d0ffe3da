//! Topics: memories that belong together get a memory that stands for them, with `PARENT` edges to each.
//!
//! Which belong together is told by their embeddings (`linkage`), and refined by a model where there is one. A second run
//! over the same memories changes nothing: those that are near no topic stay apart as long as nothing is added.

mod ask;
mod group;
mod names;
mod tree;

use std::collections::{BTreeMap, BTreeSet};

use mos_core::graph::{Direction, Paging, kinds};
use mos_core::{MemoryError, MemoryId, MemoryItem, MemoryType};
use serde::Deserialize;

use super::budget::BoundedModel;
use super::facts::{SHELVES, TOPIC, facts, is_fact, topics};
use super::linkage;
use super::marks::{OwnMark, has_own, set_own};
use super::run::{Run, edge};
use super::vectors::{dot, mean};
use group::{clustered, packed, slices};
use names::Frequencies;
use tree::{Tree, topic};

pub(super) use ask::{heading_schema, language, lines, tidy};
pub(super) use tree::{Making, made_of};

const STEP: &str = "topics";

/// How often memories are grouped and join what was found, at most; it ends before when nothing changes.
const MAX_ROUNDS: usize = 8;

/// How many memories of a shelf, the first ones, tell how near related memories are.
const MAX_SAMPLE: usize = 600;

/// How many topics of a shelf are looked at.
const MAX_TOPICS: usize = 5_000;

/// What some memories are about.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub(super) struct Heading {
    /// A title.
    pub(super) key: String,
    /// What they say together.
    pub(super) value: String,
    pub(super) tags: Vec<String>,
    pub(super) summary: String,
}

/// A memory with its vector.
struct Member {
    item: MemoryItem,
    vector: Vec<f32>,
}

/// What the memories of a shelf are like.
struct Scale {
    /// The average cosine from which on memories belong together.
    threshold: f32,
    frequencies: Frequencies,
}

impl Run<'_> {
    /// Gives memories without a topic to one, or makes topics of them.
    pub(super) async fn topics(&mut self) -> Result<(), MemoryError> {
        for shelf in SHELVES {
            self.topics_of(shelf).await?;
        }
        Ok(())
    }

    async fn topics_of(&mut self, shelf: MemoryType) -> Result<(), MemoryError> {
        if self.without_topic(shelf).await?.is_empty() {
            return self.top_topic(shelf).await;
        }
        let Some(scale) = self.scale(shelf).await? else { return self.top_topic(shelf).await };
        let mut is_settled = false;
        for _ in 0..MAX_ROUNDS {
            if self.is_spent() {
                break;
            }
            let candidates = self.without_topic(shelf).await?;
            let (n_joined, rest) = self.join(shelf, candidates, scale.threshold).await?;
            let n_made = if rest.len() < self.parts.options.min_candidates {
                0
            } else {
                self.make(shelf, &rest, &scale).await?
            };
            if n_joined + n_made == 0 {
                is_settled = true;
                break;
            }
        }
        self.report.left.topics |= !is_settled;
        self.top_topic(shelf).await
    }

    /// Memories that belong to no topic and have a vector, oldest first.
    async fn without_topic(&self, shelf: MemoryType) -> Result<Vec<Member>, MemoryError> {
        let limit = self.parts.options.max_candidates;
        let items = self.parts.record.without_edges(self.scope, kinds::PARENT, limit, &facts(Some(shelf))).await?;
        self.with_vectors(items).await
    }

    async fn with_vectors(&self, items: Vec<MemoryItem>) -> Result<Vec<Member>, MemoryError> {
        let ids: Vec<MemoryId> = items.iter().map(|item| item.id.clone()).collect();
        let mut vectors = self.vectors(&ids).await?;
        let member = |item: MemoryItem| Some(Member { vector: vectors.remove(&item.id)?, item });
        Ok(items.into_iter().filter_map(member).collect())
    }

    /// Looks at the first memories of a shelf, with a topic or without, so that making topics does not change what is seen.
    async fn scale(&self, shelf: MemoryType) -> Result<Option<Scale>, MemoryError> {
        let paging = Paging { offset: 0, limit: MAX_SAMPLE };
        let sample = self.parts.record.list(self.scope, &facts(Some(shelf)), paging).await?.entries;
        let frequencies = Frequencies::of(&sample, &*self.parts.analyzer);
        let vectors: Vec<Vec<f32>> = self.with_vectors(sample).await?.into_iter().map(|member| member.vector).collect();
        let least = self.parts.options.min_topic_similarity;
        let threshold = computed(move || linkage::threshold(&slices(&vectors), least)).await?;
        Ok(threshold.map(|threshold| Scale { threshold, frequencies }))
    }

    /// Lets memories join the topic whose members they are nearest to on average, when that is near enough. Returns how many
    /// did, and the others.
    async fn join(
        &mut self,
        shelf: MemoryType,
        candidates: Vec<Member>,
        threshold: f32,
    ) -> Result<(usize, Vec<Member>), MemoryError> {
        let centres = self.centres(shelf).await?;
        let mut joining: BTreeMap<MemoryId, Vec<MemoryItem>> = BTreeMap::new();
        let mut rest = Vec::new();
        for member in candidates {
            // A model that has seen it knows better.
            if self.model.is_some() && has_own(OwnMark::NoTopic, &member.item) {
                rest.push(member);
                continue;
            }
            let scored = centres.iter().map(|(topic, centre)| (dot(centre, &member.vector), topic));
            match scored.max_by(|left, right| left.0.total_cmp(&right.0)).filter(|(cosine, _)| *cosine >= threshold) {
                Some((_, topic)) => joining.entry(topic.clone()).or_default().push(member.item),
                None => rest.push(member),
            }
        }
        let mut n_joined = 0;
        for (topic, items) in joining {
            let mut batch = Self::batch("organize: joins a topic");
            batch.put_edges = items.iter().map(|item| edge(&topic, kinds::PARENT, &item.id)).collect();
            let n_items = items.len();
            batch.unchanged = items;
            let written = self.apply(batch).await;
            if self.told(STEP, &[&topic], written)?.is_some() {
                n_joined += n_items;
            }
        }
        self.report.n_joined += n_joined;
        Ok((n_joined, rest))
    }

    /// Topics of memories with the mean of their members' vectors.
    async fn centres(&self, shelf: MemoryType) -> Result<Vec<(MemoryId, Vec<f32>)>, MemoryError> {
        let tree = self.tree(shelf).await?;
        let ids: Vec<MemoryId> = tree.leaves().flat_map(|topic| tree.children_of(topic)).cloned().collect();
        let members = self.parts.record.nodes(self.scope, &ids).await?;
        let alive: BTreeSet<MemoryId> = members.into_iter().filter(is_fact).map(|item| item.id).collect();
        let vectors = self.vectors(&Vec::from_iter(alive)).await?;
        let centre = |topic: &MemoryItem| {
            let own = tree.children_of(topic).filter_map(|child| vectors.get(child).map(Vec::as_slice));
            Some((topic.id.clone(), mean(own))).filter(|(_, centre)| !centre.is_empty())
        };
        Ok(tree.leaves().filter_map(centre).collect())
    }

    /// Makes topics of memories, and returns how many.
    async fn make(&mut self, shelf: MemoryType, members: &[Member], scale: &Scale) -> Result<usize, MemoryError> {
        let n_untried = members.iter().filter(|member| !has_own(OwnMark::NoTopic, &member.item)).count();
        if self.model.is_some() && n_untried < self.parts.options.min_topic {
            return Ok(0);
        }
        let vectors: Vec<Vec<f32>> = members.iter().map(|member| member.vector.clone()).collect();
        let (threshold, size) = (scale.threshold, self.parts.options.group_size);
        let clusters = computed(move || clustered(&vectors, threshold, size)).await?;
        match self.model.clone() {
            None => self.make_by_words(shelf, members, &clusters, scale).await,
            Some(model) => self.make_by_model(shelf, members, clusters, &model).await,
        }
    }

    async fn make_by_words(
        &mut self,
        shelf: MemoryType,
        members: &[Member],
        clusters: &[Vec<usize>],
        scale: &Scale,
    ) -> Result<usize, MemoryError> {
        let mut n_made = 0;
        for cluster in clusters.iter().filter(|cluster| cluster.len() >= self.parts.options.min_topic) {
            let items: Vec<&MemoryItem> = cluster.iter().map(|index| &members[*index].item).collect();
            let heading = names::heading(&items, &scale.frequencies, &*self.parts.analyzer);
            n_made += usize::from(self.create(shelf, &items, heading).await?);
        }
        self.report.n_topics += n_made;
        Ok(n_made)
    }

    async fn make_by_model(
        &mut self,
        shelf: MemoryType,
        members: &[Member],
        clusters: Vec<Vec<usize>>,
        model: &BoundedModel,
    ) -> Result<usize, MemoryError> {
        let (attempts, least) = (self.parts.options.attempts, self.parts.options.min_topic);
        let mut n_made = 0;
        for group in packed(clusters, members, self.parts.options.group_size) {
            if self.is_spent() {
                self.report.left.topics = true;
                break;
            }
            let items: Vec<&MemoryItem> = group.iter().map(|index| &members[*index].item).collect();
            if items.len() < least || items.iter().all(|item| has_own(OwnMark::NoTopic, item)) {
                continue;
            }
            let ids: Vec<&MemoryId> = items.iter().map(|item| &item.id).collect();
            let asked = ask::clusters(model, &items, attempts).await;
            let Some(found) = self.told(STEP, &ids, asked)? else {
                self.report.left.topics = true;
                continue;
            };
            let mut open: BTreeSet<usize> = (0..items.len()).collect();
            for cluster in found.iter().filter(|cluster| cluster.len() >= least) {
                let children: Vec<&MemoryItem> = cluster.iter().map(|index| items[*index]).collect();
                open.retain(|index| !cluster.contains(index));
                n_made += usize::from(self.create_by_model(shelf, &children, model).await?);
            }
            let open: Vec<&MemoryItem> = open.into_iter().map(|index| items[index]).collect();
            self.remember_no_topic(&open).await?;
        }
        self.report.n_topics += n_made;
        Ok(n_made)
    }

    /// Makes a topic with a heading by the model. When that fails the memories stay without one, for the next run.
    async fn create_by_model(
        &mut self,
        shelf: MemoryType,
        children: &[&MemoryItem],
        model: &BoundedModel,
    ) -> Result<bool, MemoryError> {
        let ids: Vec<&MemoryId> = children.iter().map(|item| &item.id).collect();
        let asked = ask::heading(model, children, self.parts.options.attempts).await;
        match self.told(STEP, &ids, asked)? {
            Some(heading) => self.create(shelf, children, heading).await,
            None => {
                self.report.left.topics = true;
                Ok(false)
            }
        }
    }

    /// Writes a topic and its edges; false when a child was changed meanwhile, which is told.
    async fn create(
        &mut self,
        shelf: MemoryType,
        children: &[&MemoryItem],
        heading: Heading,
    ) -> Result<bool, MemoryError> {
        let ids: Vec<&MemoryId> = children.iter().map(|item| &item.id).collect();
        let written = self.write(shelf, children, heading).await;
        let created = self.told(STEP, &ids, written)?;
        self.report.left.topics |= created.is_none();
        self.report.created.extend(created.iter().cloned());
        Ok(created.is_some())
    }

    async fn write(
        &self,
        shelf: MemoryType,
        children: &[&MemoryItem],
        heading: Heading,
    ) -> Result<MemoryId, MemoryError> {
        let (id, now) = (self.new_id(), self.parts.clock.now_text());
        let mut made = self.looked_at(children, topic(id.clone(), shelf, children, heading, &now)).await?;
        if made.is_kept_apart() && children.iter().all(|item| item.metadata.kind.as_deref() == Some(TOPIC)) {
            // One that nobody finds would be made again in each run: their titles say enough.
            made = topic(id.clone(), shelf, children, names::heading_of_topics(children), &now);
        }
        let mut batch = Self::batch("organize: a topic");
        batch.embeddings = Some(self.embedded(&id, &made.memory).await?);
        batch.absent.push(id.clone());
        batch.unchanged = children.iter().map(|item| (*item).clone()).collect();
        batch.put_edges = children.iter().map(|item| edge(&id, kinds::PARENT, &item.id)).collect();
        batch.put.push(made);
        self.apply(batch).await?;
        Ok(id)
    }

    /// Remembers that a model found no topic for some memories.
    async fn remember_no_topic(&mut self, items: &[&MemoryItem]) -> Result<(), MemoryError> {
        let new: Vec<MemoryItem> =
            items.iter().filter(|item| !has_own(OwnMark::NoTopic, item)).map(|item| (*item).clone()).collect();
        if new.is_empty() {
            return Ok(());
        }
        let mut batch = Self::batch("organize: no topic yet");
        batch.put = new.clone();
        batch.put.iter_mut().for_each(|item| set_own(OwnMark::NoTopic, item));
        let ids: Vec<MemoryId> = new.iter().map(|item| item.id.clone()).collect();
        batch.unchanged = new;
        let written = self.apply(batch).await;
        self.told(STEP, &ids.iter().collect::<Vec<_>>(), written)?;
        Ok(())
    }

    /// Puts topics without a parent under the topic of topics; makes one when there are enough.
    async fn top_topic(&mut self, shelf: MemoryType) -> Result<(), MemoryError> {
        let tree = self.tree(shelf).await?;
        let roots: Vec<&MemoryItem> = tree.roots().collect();
        if roots.is_empty() || self.is_spent() {
            self.report.left.topics |= !roots.is_empty() && roots.len() >= self.parts.options.min_topics_for_top;
            return Ok(());
        }
        if let Some(top) = tree.tops().next() {
            let mut batch = Self::batch("organize: joins a topic");
            batch.put_edges = roots.iter().map(|topic| edge(&top.id, kinds::PARENT, &topic.id)).collect();
            let (n_roots, written) = (roots.len(), self.apply(batch).await);
            if self.told(STEP, &[&top.id], written)?.is_some() {
                self.report.n_joined += n_roots;
            }
            return Ok(());
        }
        if roots.len() < self.parts.options.min_topics_for_top {
            return Ok(());
        }
        let is_made = match self.model.clone() {
            Some(model) => self.create_by_model(shelf, &roots, &model).await?,
            None => {
                let heading = names::heading_of_topics(&roots);
                self.create(shelf, &roots, heading).await?
            }
        };
        self.report.n_top_topics += usize::from(is_made);
        Ok(())
    }

    async fn tree(&self, shelf: MemoryType) -> Result<Tree, MemoryError> {
        let paging = Paging { offset: 0, limit: MAX_TOPICS };
        let topics = self.parts.record.list(self.scope, &topics(shelf), paging).await?.entries;
        let ids: Vec<MemoryId> = topics.iter().map(|topic| topic.id.clone()).collect();
        let edges = self.parts.record.edges(self.scope, &ids, Direction::Any, Some(kinds::PARENT)).await?;
        Ok(Tree::new(topics, edges))
    }
}

/// Computes on a thread of its own, so that nobody else waits.
async fn computed<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, MemoryError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => Ok(done),
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        Err(_) => Err(MemoryError::Unsupported("the program is shutting down; run this again later".to_owned())),
    }
}
