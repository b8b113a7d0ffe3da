//! Topics of a shelf, topics of topics, and the memory that a topic is.

use std::collections::{BTreeSet, HashMap};

use mos_core::graph::Edge;
use mos_core::memory::{SourceKind, SourceMessage, TreeFields};
use mos_core::{MemoryId, MemoryItem, MemoryType, Metadata, MetadataForm};
use serde_json::Value;

use super::super::facts::TOPIC;
use super::Heading;

/// How sure a topic is, as MemOS says.
const CONFIDENCE: f64 = 0.66;

/// The topics of a shelf, and what belongs to each.
pub(super) struct Tree {
    topics: Vec<MemoryItem>,
    children: HashMap<MemoryId, Vec<MemoryId>>,
    /// Topics that belong to another.
    owned: BTreeSet<MemoryId>,
    /// Topics of topics.
    tops: BTreeSet<MemoryId>,
}

impl Tree {
    pub(super) fn new(topics: Vec<MemoryItem>, edges: Vec<Edge>) -> Self {
        let ids: BTreeSet<MemoryId> = topics.iter().map(|topic| topic.id.clone()).collect();
        let (mut children, mut owned, mut tops) =
            (HashMap::<_, Vec<MemoryId>>::new(), BTreeSet::new(), BTreeSet::new());
        for edge in edges.into_iter().filter(|edge| ids.contains(&edge.source)) {
            if ids.contains(&edge.target) {
                owned.insert(edge.target.clone());
                tops.insert(edge.source.clone());
            }
            children.entry(edge.source).or_default().push(edge.target);
        }
        Self { topics, children, owned, tops }
    }

    /// Topics of memories.
    pub(super) fn leaves(&self) -> impl Iterator<Item = &MemoryItem> {
        self.topics.iter().filter(|topic| !self.tops.contains(&topic.id))
    }

    /// Topics of memories that belong to no topic.
    pub(super) fn roots(&self) -> impl Iterator<Item = &MemoryItem> {
        self.leaves().filter(|topic| !self.owned.contains(&topic.id) && self.children.contains_key(&topic.id))
    }

    /// Topics of topics that belong to no topic.
    pub(super) fn tops(&self) -> impl Iterator<Item = &MemoryItem> {
        self.topics.iter().filter(|topic| self.tops.contains(&topic.id) && !self.owned.contains(&topic.id))
    }

    pub(super) fn children_of(&self, topic: &MemoryItem) -> impl Iterator<Item = &MemoryId> {
        self.children.get(&topic.id).into_iter().flatten()
    }
}

/// The memory that stands for others.
pub(super) fn topic(
    id: MemoryId,
    shelf: MemoryType,
    children: &[&MemoryItem],
    heading: Heading,
    now: &str,
) -> MemoryItem {
    made_of(id, children, heading, Making { shelf, kind: TOPIC, confidence: CONFIDENCE, now })
}

/// How a memory is made of others.
pub(in super::super) struct Making<'a> {
    pub(in super::super) shelf: MemoryType,
    /// The producer's word for it.
    pub(in super::super) kind: &'a str,
    pub(in super::super) confidence: f64,
    pub(in super::super) now: &'a str,
}

/// A memory that is made of others, which are its sources.
pub(in super::super) fn made_of(id: MemoryId, of: &[&MemoryItem], heading: Heading, making: Making<'_>) -> MemoryItem {
    let tree = TreeFields {
        memory_type: making.shelf,
        sources: Some(of.iter().map(|item| source_of(item)).collect()),
        created_at: Some(making.now.to_owned()),
        background: Some(heading.summary),
        ..TreeFields::default()
    };
    let metadata = Metadata {
        user_id: shared(of, |item| item.metadata.user_id.clone()),
        visibility: shared(of, |item| item.metadata.visibility),
        kind: Some(making.kind.to_owned()),
        key: Some(heading.key),
        confidence: Some(making.confidence),
        source: Some(SourceKind::System),
        tags: Some(heading.tags),
        updated_at: Some(making.now.to_owned()),
        form: MetadataForm::Tree(Box::new(tree)),
        ..Metadata::default()
    };
    MemoryItem { id, memory: heading.value, metadata }
}

/// The source that a memory is for one that was made of it.
fn source_of(child: &MemoryItem) -> SourceMessage {
    let mut source =
        SourceMessage { kind: "chat".to_owned(), content: Some(child.memory.clone()), ..SourceMessage::default() };
    source.extra.insert("node_id".to_owned(), Value::from(child.id.as_str()));
    source.trust_as(child);
    source
}

/// What all memories have in common.
fn shared<T: PartialEq>(items: &[&MemoryItem], read: impl Fn(&MemoryItem) -> Option<T>) -> Option<T> {
    let first = read(items.first()?)?;
    items.iter().all(|item| read(item).as_ref() == Some(&first)).then_some(first)
}

#[cfg(test)]
mod tests {
    use mos_core::graph::kinds;
    use mos_core::memory::Trust;

    use super::super::super::run::edge;
    use super::*;

    #[test]
    fn a_tree_knows_topics_of_topics() {
        let topic = |id: &str| MemoryItem::new(MemoryId::new(id), "topic");
        let link = |source: &str, target: &str| edge(&MemoryId::new(source), kinds::PARENT, &MemoryId::new(target));
        let edges = vec![link("top", "a"), link("a", "1"), link("b", "2"), link("c", "3")];
        let tree = Tree::new(["top", "a", "b", "empty"].map(topic).to_vec(), edges);
        let names = |items: Vec<&MemoryItem>| items.iter().map(|item| item.id.to_string()).collect::<Vec<_>>();
        assert_eq!(names(tree.tops().collect()), ["top"]);
        assert_eq!(names(tree.leaves().collect()), ["a", "b", "empty"]);
        assert_eq!(names(tree.roots().collect()), ["b"]);
    }

    #[test]
    fn what_is_made_of_a_strangers_words_is_trusted_no_further() {
        let own = MemoryItem::new(MemoryId::new("1"), "x");
        let mut strange = MemoryItem::new(MemoryId::new("2"), "y");
        strange.metadata.source = Some(SourceKind::Web);
        let made = |of: &[&MemoryItem]| {
            let heading =
                Heading { key: "k".to_owned(), value: "v".to_owned(), tags: Vec::new(), summary: String::new() };
            topic(MemoryId::new("t"), MemoryType::LongTerm, of, heading, "2026-01-01T00:00:00+00:00")
        };
        assert_eq!(made(&[&own]).metadata.trust(), Trust::Assistant);
        let first = made(&[&own, &strange]);
        assert_eq!(first.metadata.trust(), Trust::External);
        assert_eq!(made(&[&own, &first]).metadata.trust(), Trust::External, "through topics of topics, too");
    }

    #[test]
    fn only_what_all_share_is_shared() {
        let mut one = MemoryItem::new(MemoryId::new("1"), "x");
        one.metadata.user_id = Some("ann".to_owned());
        let mut other = one.clone();
        assert_eq!(shared(&[&one, &other], |item| item.metadata.user_id.clone()).as_deref(), Some("ann"));
        other.metadata.user_id = None;
        assert_eq!(shared(&[&one, &other], |item| item.metadata.user_id.clone()), None);
    }
}
