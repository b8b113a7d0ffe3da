//! Memories as a tree of topics, for a page that draws it.

use std::collections::{HashMap, HashSet};

use mos_core::graph::kinds::PARENT;
use mos_core::{Edge, MemoryId, MemoryItem, MemoryType};
use serde_json::{Value, json};

use super::hits::memory_type;

/// The longest name of a node, in characters.
const MAX_NAME: usize = 40;

/// Returns memories as `{"id", "node_name", "value", "memory_type", "children", "frequency"}` below a node `root`: below their
/// topic, else beside each other, and what stands in working memory below a node of its own. Every memory is there once.
pub(super) fn tree_structure(nodes: &[MemoryItem], edges: &[Edge]) -> Value {
    let places: HashMap<&MemoryId, usize> = nodes.iter().enumerate().map(|(place, node)| (&node.id, place)).collect();
    let mut children: Vec<Vec<usize>> = vec![Vec::new(); nodes.len()];
    let mut has_topic = vec![false; nodes.len()];
    for edge in edges.iter().filter(|edge| edge.kind == PARENT && edge.source != edge.target) {
        // One topic is enough: a tree shows each memory once.
        if let (Some(topic), Some(member)) = (places.get(&edge.source), places.get(&edge.target))
            && !has_topic[*member]
        {
            has_topic[*member] = true;
            children[*topic].push(*member);
        }
    }
    children.iter_mut().for_each(|members| members.sort_unstable());
    let mut drawing = Drawing { nodes, children, drawn: HashSet::new() };
    let tops = (0..nodes.len()).filter(|place| !has_topic[*place]);
    // Topics that are below each other have no top; each such circle is cut open at its first memory.
    let (mut top, mut working) = (Vec::new(), Vec::new());
    for place in tops.chain(0..nodes.len()) {
        let Some(node) = drawing.draw(place) else { continue };
        let is_working = nodes[place].metadata.memory_type() == Some(MemoryType::Working);
        let shelf = if is_working { &mut working } else { &mut top };
        shelf.push(node);
    }
    if !working.is_empty() {
        top.insert(0, group(MemoryType::Working.as_str(), MemoryType::Working.as_str(), working));
    }
    group("root", "Root", top)
}

struct Drawing<'a> {
    nodes: &'a [MemoryItem],
    children: Vec<Vec<usize>>,
    drawn: HashSet<usize>,
}

impl Drawing<'_> {
    /// Returns a memory with what is below it; `None` when it is drawn already.
    fn draw(&mut self, place: usize) -> Option<Value> {
        if !self.drawn.insert(place) {
            return None;
        }
        let item = &self.nodes[place];
        let mut node = json!({
            "id": item.id,
            "node_name": name(item),
            "value": item.memory,
            "memory_type": memory_type(item),
            "frequency": item.metadata.tree().map_or(0, |fields| fields.usage.len()),
        });
        let members = std::mem::take(&mut self.children[place]);
        let below: Vec<Value> = members.into_iter().filter_map(|member| self.draw(member)).collect();
        if !below.is_empty() {
            node["children"] = Value::Array(below);
        }
        Some(node)
    }
}

fn group(id: &str, kind: &str, children: Vec<Value>) -> Value {
    json!({"id": id, "node_name": id, "value": id, "memory_type": kind, "children": children, "frequency": 0})
}

/// The title of a memory, else how its text begins.
fn name(item: &MemoryItem) -> String {
    let title = item.metadata.key.as_deref().map(str::trim).filter(|key| !key.is_empty());
    let text = title.unwrap_or_else(|| item.memory.trim().lines().next().unwrap_or_default());
    match text.char_indices().nth(MAX_NAME) {
        Some((end, _)) if title.is_none() => format!("{}…", text[..end].trim_end()),
        Some(_) | None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: usize) -> String {
        format!("00000000-0000-4000-8000-{number:012}")
    }

    fn item(number: usize, text: &str, metadata: Value) -> MemoryItem {
        MemoryItem::from_value(json!({"id": id(number), "memory": text, "metadata": metadata}), String::new).unwrap()
    }

    fn below(source: usize, target: usize) -> Edge {
        Edge { source: MemoryId::new(id(source)), target: MemoryId::new(id(target)), kind: PARENT.to_owned() }
    }

    fn ids(node: &Value) -> Vec<String> {
        let children = node["children"].as_array().cloned().unwrap_or_default();
        children.iter().map(|child| child["id"].as_str().unwrap().to_owned()).collect()
    }

    #[test]
    fn memories_are_below_their_topics_and_working_memory_apart() {
        let nodes = [
            item(1, "pets", json!({"memory_type": "LongTermMemory", "key": "Pets"})),
            item(2, "has a dog", json!({"memory_type": "UserMemory", "usage": ["once", "twice"]})),
            item(3, "is busy", json!({"memory_type": "WorkingMemory"})),
            item(4, "flat", json!({})),
        ];
        let tree = tree_structure(&nodes, &[below(1, 2), below(1, 9)]);
        assert_eq!((&tree["id"], &tree["memory_type"]), (&json!("root"), &json!("Root")));
        assert_eq!(ids(&tree), ["WorkingMemory".to_owned(), id(1), id(4)]);
        let (working, pets) = (&tree["children"][0], &tree["children"][1]);
        assert_eq!((ids(working), ids(pets)), (vec![id(3)], vec![id(2)]));
        assert_eq!((&pets["node_name"], &pets["value"]), (&json!("Pets"), &json!("pets")));
        let dog = &pets["children"][0];
        assert_eq!((&dog["node_name"], &dog["frequency"]), (&json!("has a dog"), &json!(2)));
        assert!(dog.get("children").is_none());
    }

    #[test]
    fn every_memory_is_there_once_however_they_are_connected() {
        let nodes: Vec<MemoryItem> =
            (0..5).map(|number| item(number, "x", json!({"memory_type": "UserMemory"}))).collect();
        // A circle, a memory below itself, and one with two topics.
        let edges = [below(0, 1), below(1, 2), below(2, 0), below(3, 3), below(3, 4), below(0, 4)];
        let tree = tree_structure(&nodes, &edges);
        fn count(node: &Value) -> usize {
            1 + node["children"].as_array().map_or(0, |children| children.iter().map(count).sum())
        }
        assert_eq!(count(&tree), 1 + nodes.len(), "{tree}");
        assert_eq!(ids(&tree_structure(&[], &[])), Vec::<String>::new());
    }

    #[test]
    fn names_are_short() {
        let long = item(1, &"记忆 ".repeat(40), json!({}));
        assert!(name(&long).chars().count() <= MAX_NAME + 1 && name(&long).ends_with('…'));
        assert_eq!(name(&item(1, "two\nlines", json!({"key": " "}))), "two");
    }
}
