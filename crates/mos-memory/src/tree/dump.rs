//! The memory's file, in the form in which MemOS exports a graph.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use mos_core::{Direction, Edge, MemoryError, MemoryId, MemoryItem, MemoryType, Origin, WriteBatch};
use serde_json::{Map, Value, json};

use super::TreeText;
use super::shape::shape_loaded;
use crate::file::{self, file_error};

/// Of how many memories the edges are read at a time.
const PORTION: usize = 1000;

/// A file as it was read: the vectors stand beside the items.
#[derive(Debug)]
struct Dumped {
    items: Vec<MemoryItem>,
    vectors: Vec<Option<Vec<f32>>>,
    edges: Vec<Edge>,
}

impl TreeText {
    /// Writes the memory's file below `dir` and returns the memories that are in it.
    pub(super) async fn write_dump(&self, dir: &Path) -> Result<Vec<MemoryItem>, MemoryError> {
        let items = self.shelf().get_all().await?;
        let mut vectors = match self.options.dump_embeddings {
            true => self.inner.vectors_of(&items).await?,
            false => HashMap::new(),
        };
        let edges = self.edges_among(&items).await?;
        let nodes: Vec<Value> = items.iter().map(|item| node(item, vectors.remove(&item.id))).collect();
        let (n_nodes, n_edges) = (nodes.len(), edges.len());
        let graph = json!({"nodes": nodes, "edges": edges, "total_nodes": n_nodes, "total_edges": n_edges});
        file::write_json(&dir.join(&self.shelf().file_name), graph).await?;
        Ok(items)
    }

    /// Returns the edges among some memories, sorted; edges of others are not read.
    async fn edges_among(&self, items: &[MemoryItem]) -> Result<Vec<Edge>, MemoryError> {
        let members: HashSet<&MemoryId> = items.iter().map(|item| &item.id).collect();
        let mut edges = Vec::new();
        for portion in items.chunks(PORTION) {
            let ids: Vec<MemoryId> = portion.iter().map(|item| item.id.clone()).collect();
            let found = self.record().edges(self.scope(), &ids, Direction::Outgoing, None).await?;
            // Those to memories that were added since, or are none of a tree, have an end outside.
            edges.extend(found.into_iter().filter(|edge| members.contains(&edge.target)));
        }
        edges.sort_unstable();
        Ok(edges)
    }

    /// Reads the memory's file below `dir` in one write and returns how many memories it holds.
    pub(super) async fn read_dump(&self, dir: &Path, origin: Origin) -> Result<usize, MemoryError> {
        let path = dir.join(&self.shelf().file_name);
        let Some(map) = file::read_object(&path).await? else { return Ok(0) };
        let is_ours = file::read_object(&dir.join("manifest.json")).await?.is_some();
        let mut dumped = read_graph(&path, map)?;
        if dumped.items.is_empty() {
            return Ok(0);
        }
        if !is_ours {
            bind_copies(&mut dumped.items);
        }
        self.check_ends(&path, &dumped).await?;
        let Dumped { items, vectors, edges } = dumped;
        let embedded: Vec<(&MemoryItem, Option<Vec<f32>>)> =
            items.iter().zip(vectors).filter(|(item, _)| item.working_copy_of().is_none()).collect();
        let embeddings = match embedded.as_slice() {
            [] => None,
            embedded => Some(self.inner.embeddings_of_dump(dir, embedded).await?),
        };
        let n_items = items.len();
        let batch = WriteBatch { put: items, put_edges: edges, embeddings, ..WriteBatch::new(origin) };
        self.record().apply(self.scope(), batch).await?;
        Ok(n_items)
    }

    /// Refuses edges whose ends are neither in the file nor in the cube.
    async fn check_ends(&self, path: &Path, dumped: &Dumped) -> Result<(), MemoryError> {
        let members: HashSet<&MemoryId> = dumped.items.iter().map(|item| &item.id).collect();
        let ends = dumped.edges.iter().flat_map(|edge| [&edge.source, &edge.target]);
        let missing: HashSet<&MemoryId> = ends.filter(|end| !members.contains(*end)).collect();
        let missing: Vec<MemoryId> = missing.into_iter().cloned().collect();
        if missing.is_empty() {
            return Ok(());
        }
        let known: HashSet<MemoryId> =
            self.shelf().get_by_ids(&missing).await?.into_iter().map(|item| item.id).collect();
        let is_loose = |end: &MemoryId| !members.contains(end) && !known.contains(end);
        match dumped.edges.iter().position(|edge| is_loose(&edge.source) || is_loose(&edge.target)) {
            None => Ok(()),
            Some(index) => Err(file_error(
                path,
                format!("edge {index}: one of its memories is neither in the file nor in the cube; remove the edge"),
            )),
        }
    }
}

fn node(item: &MemoryItem, vector: Option<Vec<f32>>) -> Value {
    let mut item = item.clone();
    if let Some(fields) = item.metadata.tree_mut() {
        fields.embedding = vector;
    }
    item.to_value()
}

fn read_graph(path: &Path, mut map: Map<String, Value>) -> Result<Dumped, MemoryError> {
    let Some(Value::Array(nodes)) = map.shift_remove("nodes") else {
        return Err(file_error(path, "is not the file of a tree memory: it has no list `nodes`"));
    };
    let edges = match map.shift_remove("edges") {
        None | Some(Value::Null) => Vec::new(),
        Some(Value::Array(edges)) => edges,
        Some(_) => return Err(file_error(path, "`edges` is not a list")),
    };
    let mut dumped = Dumped { items: Vec::with_capacity(nodes.len()), vectors: Vec::new(), edges: Vec::new() };
    for (index, mut node) in nodes.into_iter().enumerate() {
        unwrap_sources(&mut node);
        let mut item = file::read_item(path, index, node)?;
        dumped.vectors.push(item.metadata.take_embedding());
        shape_loaded(&mut item);
        dumped.items.push(item);
    }
    for (index, edge) in edges.into_iter().enumerate() {
        let edge: Edge = serde_json::from_value(edge).map_err(|error| {
            file_error(path, format!("edge {index}: {error}; it needs `source`, `target` and `type`"))
        })?;
        dumped.edges.push(edge);
    }
    Ok(dumped)
}

/// MemOS writes sources that it has read back as JSON texts inside JSON texts.
fn unwrap_sources(node: &mut Value) {
    let Some(Value::Array(sources)) = node.pointer_mut("/metadata/sources") else { return };
    for source in sources {
        // Once for each time that it was written: a bound, in case a file nests without end.
        for _ in 0..4 {
            let Value::String(text) = &*source else { break };
            let Ok(inner) = serde_json::from_str::<Value>(text) else { break };
            if !(inner.is_object() || inner.is_string()) {
                break;
            }
            *source = inner;
        }
    }
}

/// MemOS 1 wrote each memory twice, without saying that the one in working memory is a copy of the other.
fn bind_copies(items: &mut [MemoryItem]) {
    let kind = |item: &MemoryItem| item.metadata.memory_type();
    let key = |item: &MemoryItem| (item.metadata.user_id.clone(), item.memory.clone());
    let is_fact = |item: &&MemoryItem| matches!(kind(item), Some(MemoryType::LongTerm | MemoryType::User));
    let mut originals: HashMap<(Option<String>, String), MemoryId> =
        items.iter().filter(is_fact).map(|item| (key(item), item.id.clone())).collect();
    for item in items {
        if kind(item) == Some(MemoryType::Working)
            && item.working_copy_of().is_none()
            && let Some(original) = originals.remove(&key(item))
        {
            item.metadata.working_binding = Some(original.to_string());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(graph: Value) -> Result<Dumped, MemoryError> {
        let Value::Object(map) = graph else { panic!("a test gives an object") };
        read_graph(Path::new("tree.json"), map)
    }

    fn id(number: u8) -> String {
        format!("00000000-0000-4000-8000-{number:012}")
    }

    #[test]
    fn sources_are_read_however_often_they_were_written() {
        let source = json!({"type": "chat", "role": "user", "content": "hi"});
        let (once, twice) = (source.to_string(), Value::from(source.to_string()).to_string());
        for form in [source.clone(), Value::from(once), Value::from(twice)] {
            let node =
                json!({"id": id(1), "memory": "x", "metadata": {"memory_type": "UserMemory", "sources": [form]}});
            let dumped = read(json!({"nodes": [node], "edges": []})).unwrap();
            let sources = dumped.items[0].metadata.tree().unwrap().sources.clone().unwrap();
            assert_eq!((sources[0].role.as_deref(), sources[0].content.as_deref()), (Some("user"), Some("hi")));
        }
        let plain = json!({"id": id(1), "memory": "x", "metadata": {"sources": ["just a text"]}});
        let dumped = read(json!({"nodes": [plain]})).unwrap();
        assert_eq!(dumped.items[0].metadata.tree().unwrap().sources.as_ref().unwrap()[0].kind, "doc");
    }

    #[test]
    fn vectors_stand_beside_the_items() {
        let node = |number, metadata: Value| json!({"id": id(number), "memory": "x", "metadata": metadata});
        let nodes = [node(1, json!({"memory_type": "UserMemory", "embedding": [0.6, 0.8]})), node(2, json!({}))];
        let dumped = read(json!({"nodes": nodes})).unwrap();
        assert_eq!(dumped.vectors, [Some(vec![0.6, 0.8]), None]);
        assert!(dumped.items.iter().all(|item| item.metadata.embedding().is_none()));
        assert_eq!(dumped.items[1].metadata.memory_type(), Some(MemoryType::LongTerm));
    }

    #[test]
    fn what_is_wrong_is_named() {
        let edge = json!({"source": "a", "type": "PARENT"});
        for (graph, part) in [
            (json!({}), "`nodes`"),
            (json!({"nodes": 1}), "`nodes`"),
            (json!({"nodes": [], "edges": {}}), "`edges`"),
            (json!({"nodes": [], "edges": [edge]}), "edge 0"),
            (json!({"nodes": [{"id": "x", "memory": "y"}]}), "entry 0"),
            (json!({"nodes": [{"id": id(1), "memory": " "}]}), "entry 0"),
        ] {
            let error = read(graph).unwrap_err().to_string();
            assert!(error.contains(part) && error.contains("tree.json"), "{error}");
        }
    }

    #[test]
    fn copies_that_do_not_say_so_are_recognised() {
        let node = |number, text: &str, kind: &str| json!({"id": id(number), "memory": text, "metadata": {"memory_type": kind}});
        let nodes = [
            node(1, "likes tea", "UserMemory"),
            node(2, "likes tea", "WorkingMemory"),
            node(3, "likes tea", "WorkingMemory"),
            node(4, "is busy", "WorkingMemory"),
        ];
        let mut items = read(json!({"nodes": nodes})).unwrap().items;
        bind_copies(&mut items);
        let copies: Vec<Option<&str>> = items.iter().map(MemoryItem::working_copy_of).collect();
        assert_eq!(copies, [None, Some(id(1).as_str()), None, None]);
    }
}
