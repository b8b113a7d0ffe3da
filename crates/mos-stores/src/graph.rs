//! What the graph's questions have in common, whichever store answers them.

use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap, HashSet};

use mos_core::{Edge, GroupCount, MemoryId, Paging, field_value};
use serde_json::{Map, Value};

/// Counts memories by the values of some fields.
#[derive(Debug)]
pub(crate) struct GroupCounter<'a> {
    fields: &'a [String],
    /// By the JSON text of the values.
    groups: HashMap<String, GroupCount>,
}

impl<'a> GroupCounter<'a> {
    pub(crate) fn new(fields: &'a [String]) -> Self {
        Self { fields, groups: HashMap::new() }
    }

    pub(crate) fn add(&mut self, memory: &str, metadata: &Map<String, Value>) {
        self.add_many(memory, metadata, 1);
    }

    /// Adds `count` memories that are alike in what is counted.
    pub(crate) fn add_many(&mut self, memory: &str, metadata: &Map<String, Value>, count: usize) {
        let value =
            |field: &String| field_value(field, memory, metadata).map_or(Value::Null, |value| value.into_owned());
        let values: Vec<Value> = self.fields.iter().map(value).collect();
        let name = Value::Array(values.clone()).to_string();
        self.groups.entry(name).or_insert(GroupCount { values, count: 0 }).count += count;
    }

    /// Returns the groups, most frequent first, ties by the text of their values.
    pub(crate) fn finish(self) -> Vec<GroupCount> {
        let mut groups: Vec<(String, GroupCount)> = self.groups.into_iter().collect();
        groups.sort_by(|(left, a), (right, b)| (Reverse(a.count), left).cmp(&(Reverse(b.count), right)));
        groups.into_iter().map(|(_, group)| group).collect()
    }
}

/// Returns how many different tags of a memory are among `tags`.
pub(crate) fn n_shared(metadata: &Map<String, Value>, tags: &HashSet<&str>) -> usize {
    let own = metadata.get("tags").and_then(Value::as_array).into_iter().flatten();
    own.filter_map(Value::as_str).filter(|tag| tags.contains(tag)).collect::<BTreeSet<_>>().len()
}

/// Puts memories in the order of an export, given their ids and times of creation, and returns those of a page.
pub(crate) fn export_page<K>(mut nodes: Vec<(K, MemoryId, Option<String>)>, paging: Paging) -> Vec<(K, MemoryId)> {
    nodes.sort_by(|(_, left_id, left), (_, right_id, right)| (right, right_id).cmp(&(left, left_id)));
    nodes.into_iter().skip(paging.offset).take(paging.limit).map(|(key, id, _)| (key, id)).collect()
}

/// Returns, of edges, those among the chosen memories that start at one of a page, and how many are among the chosen.
pub(crate) fn export_edges<'a>(
    edges: impl IntoIterator<Item = &'a Edge>,
    chosen: &HashSet<&MemoryId>,
    page: &HashSet<&MemoryId>,
) -> (Vec<Edge>, usize) {
    let mut n_edges = 0;
    let mut of_page = Vec::new();
    for edge in edges {
        if chosen.contains(&edge.source) && chosen.contains(&edge.target) {
            n_edges += 1;
            if page.contains(&edge.source) {
                of_page.push(edge.clone());
            }
        }
    }
    (of_page, n_edges)
}

/// Returns when a memory was made, as its metadata says.
pub(crate) fn created_at(metadata: &Map<String, Value>) -> Option<String> {
    metadata.get("created_at").and_then(Value::as_str).map(str::to_owned)
}
