//! Links that need no model: what continues what, by time within a session or topic, and what relates by tags and names.

use std::collections::{BTreeMap, BTreeSet};

use mos_core::graph::{Direction, Edge, Paging, kinds};
use mos_core::{Filter, MemoryError, MemoryId, MemoryItem};

use super::super::facts::{facts, in_time, order};
use super::super::run::{Run, edge};
use super::STEP;

/// How many memories of a session are looked at.
const MAX_SESSION: usize = 500;

/// So many shared tags relate two memories.
const MANY_TAGS: usize = 3;

/// So many shared terms let one memory of a session continue another.
const MANY_TERMS: usize = 2;

/// Edges that say how two memories are related.
const RELATIONS: [&str; 4] = [kinds::CAUSE, kinds::CONDITION, kinds::CONFLICT, kinds::RELATE];

impl Run<'_> {
    /// Links a memory with the one that it continues and the one that continues it.
    pub(super) async fn link_sequence(
        &mut self,
        item: &MemoryItem,
        neighbours: &[MemoryItem],
    ) -> Result<(), MemoryError> {
        let mut others = self.of_same_topic(item, neighbours).await?;
        others.extend(self.of_same_session(item).await?);
        let before = others.values().filter(|other| order(other, item).is_lt());
        let after = others.values().filter(|other| order(other, item).is_gt());
        let ends = [
            before.max_by(|left, right| order(left, right).then_with(|| right.id.cmp(&left.id))),
            after.min_by(|left, right| order(left, right).then_with(|| left.id.cmp(&right.id))),
        ];
        let known = self.parts.record.edges(self.scope, std::slice::from_ref(&item.id), Direction::Any, None).await?;
        for other in ends.into_iter().flatten() {
            if !known.iter().any(|edge| edge.kind == kinds::FOLLOWS && joins(edge, &other.id)) {
                self.link(item, other, kinds::FOLLOWS).await?;
            }
        }
        Ok(())
    }

    /// Relates a memory to neighbours that share many tags with it, or a name.
    pub(super) async fn relate_by_words(
        &mut self,
        item: &MemoryItem,
        neighbours: &[MemoryItem],
    ) -> Result<(), MemoryError> {
        let known = self.parts.record.edges(self.scope, std::slice::from_ref(&item.id), Direction::Any, None).await?;
        let (tags, names) = (telling_tags(item), names(&item.memory));
        for other in neighbours {
            if self.budget.is_spent() || !self.meet(&item.id, &other.id) {
                continue;
            }
            let n_shared = telling_tags(other).iter().filter(|tag| tags.contains(tag)).count();
            let is_related = n_shared >= MANY_TAGS || !self::names(&other.memory).is_disjoint(&names);
            let is_linked = known.iter().any(|edge| RELATIONS.contains(&edge.kind.as_str()) && joins(edge, &other.id));
            if is_related && !is_linked {
                self.link(item, other, kinds::RELATE).await?;
            }
        }
        Ok(())
    }

    /// Links two memories, the older one to the newer.
    async fn link(&mut self, item: &MemoryItem, other: &MemoryItem, kind: &str) -> Result<(), MemoryError> {
        let pair = in_time(item.clone(), other.clone());
        let mut batch = Self::batch("organize: related memories");
        batch.put_edges.push(edge(&pair.older.id, kind, &pair.newer.id));
        batch.unchanged = vec![pair.older, pair.newer];
        let written = self.apply(batch).await;
        if self.told(STEP, &[&item.id, &other.id], written)?.is_some() {
            self.report.count_relation(kind);
        }
        Ok(())
    }

    /// Neighbours that belong to a topic of the memory.
    async fn of_same_topic(
        &self,
        item: &MemoryItem,
        neighbours: &[MemoryItem],
    ) -> Result<BTreeMap<MemoryId, MemoryItem>, MemoryError> {
        if neighbours.is_empty() {
            return Ok(BTreeMap::new());
        }
        let ids: Vec<MemoryId> = neighbours.iter().chain([item]).map(|one| one.id.clone()).collect();
        let parents = self.parts.record.edges(self.scope, &ids, Direction::Incoming, Some(kinds::PARENT)).await?;
        let topics_of = |id: &MemoryId| -> BTreeSet<&MemoryId> {
            parents.iter().filter(|edge| edge.target == *id).map(|edge| &edge.source).collect()
        };
        let own = topics_of(&item.id);
        let same = neighbours.iter().filter(|other| !topics_of(&other.id).is_disjoint(&own));
        Ok(same.map(|other| (other.id.clone(), other.clone())).collect())
    }

    /// Memories of the same session that share a tag or several terms with the memory.
    async fn of_same_session(&self, item: &MemoryItem) -> Result<Vec<(MemoryId, MemoryItem)>, MemoryError> {
        let Some(session) = item.metadata.session_id.as_deref().filter(|session| !session.is_empty()) else {
            return Ok(Vec::new());
        };
        let filter = facts(None).and(Filter::equals("session_id", session));
        let found =
            self.parts.record.list(self.scope, &filter, Paging { offset: 0, limit: MAX_SESSION }).await?.entries;
        let terms = |one: &MemoryItem| self.parts.analyzer.terms(&one.memory).into_iter().collect::<BTreeSet<String>>();
        let (tags, own) = (telling_tags(item), terms(item));
        let continues = |other: &MemoryItem| {
            telling_tags(other).iter().any(|tag| tags.contains(tag))
                || terms(other).intersection(&own).count() >= MANY_TERMS
        };
        let same = found
            .into_iter()
            .filter(|other| other.id != item.id && other.metadata.user_id == item.metadata.user_id)
            .filter(continues);
        Ok(same.map(|other| (other.id.clone(), other)).collect())
    }
}

/// Tags that say something about what a memory is about; `mode:fast` and the like say how it was made.
pub(super) fn telling_tags(item: &MemoryItem) -> Vec<String> {
    let tags = item.metadata.tags.iter().flatten();
    let telling = |tag: &&String| !tag.trim().is_empty() && !tag.starts_with("mode:");
    tags.filter(telling).cloned().collect::<BTreeSet<String>>().into_iter().collect()
}

fn joins(edge: &Edge, other: &MemoryId) -> bool {
    edge.source == *other || edge.target == *other
}

/// Words with a capital inside sentences, in lower case.
fn names(text: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut begins_sentence = true;
    for word in text.split_whitespace() {
        let bare = word.trim_matches(|c: char| !c.is_alphanumeric());
        let bare = bare.strip_suffix("'s").or_else(|| bare.strip_suffix("’s")).unwrap_or(bare);
        let is_pronoun = bare == "I" || bare.starts_with("I'") || bare.starts_with("I’");
        if !begins_sentence && !is_pronoun && bare.starts_with(char::is_uppercase) {
            found.insert(bare.to_lowercase());
        }
        begins_sentence = word.ends_with(['.', '!', '?', ':']);
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_words_with_a_capital_inside_a_sentence() {
        let found = names("Yesterday I met Eva's sister in New York. She told me: I'm tired, Tom!");
        assert_eq!(Vec::from_iter(found), ["eva", "new", "tom", "york"]);
        assert!(names("").is_empty() && names("no names here").is_empty());
    }

    #[test]
    fn tags_of_how_a_memory_was_made_do_not_count() {
        let mut item = MemoryItem::new(MemoryId::new("1"), "x");
        item.metadata.tags = Some(["mode:fast", "dogs", "dogs", " ", "vet"].map(str::to_owned).to_vec());
        assert_eq!(telling_tags(&item), ["dogs", "vet"]);
    }
}
