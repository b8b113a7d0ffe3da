//! Organising over real stores. The models are scripted; over HTTP they are tested with the facade.

mod conflicts;
mod relations;
mod topics;
mod words;

use std::sync::Arc;

use async_trait::async_trait;
use mos_core::graph::{Direction, Edge, Graph, Paging};
use mos_core::memory::Trust;
use mos_core::{
    ChatModel, ChatRequest, Embedder, EmbeddingWrite, Filter, MemoryError, MemoryId, MemoryItem, RecordStore, Scope,
    Status, SystemClock, VectorStore, WriteBatch,
};
use mos_memory::organize::{MadeCheck, OrganizeOptions, Organizer, OrganizerParts};
use mos_stores::{ExactVectors, InMemoryStore, TextAnalyzer};
use mos_testkit::chat::ScriptedChat;
use mos_testkit::clock::{CountingIds, SetClock};
use mos_testkit::embedder::WordEmbedder;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{origin, store};

/// Keeps apart what begins to ask for something to be ignored, of strangers.
#[derive(Debug)]
struct NoOrders;

#[async_trait]
impl MadeCheck for NoOrders {
    async fn checked(&self, before: &str, mut made: MemoryItem) -> Result<MemoryItem, MemoryError> {
        let is_new = made.memory.contains("Ignore") && !before.contains("Ignore");
        if is_new && made.metadata.trust() == Trust::External {
            made.quarantine("asks to ignore instructions");
        }
        Ok(made)
    }
}

/// A cube in one of the embedded stores.
struct House {
    _folder: Option<TempDir>,
    record: Arc<dyn RecordStore>,
    vectors: Arc<dyn VectorStore>,
    embedder: Arc<WordEmbedder>,
    ids: Arc<CountingIds>,
    scope: Scope,
}

/// A house in memory and one on a disk.
fn houses() -> [House; 2] {
    let (folder, sqlite) = store();
    [House::over(None, InMemoryStore::new(Arc::new(SystemClock))), House::over(Some(folder), sqlite)]
}

fn house() -> House {
    House::over(None, InMemoryStore::new(Arc::new(SystemClock)))
}

impl House {
    fn over(folder: Option<TempDir>, record: Arc<dyn RecordStore>) -> Self {
        Self {
            _folder: folder,
            vectors: ExactVectors::following(Arc::clone(&record)),
            record,
            embedder: Arc::new(WordEmbedder::new("words", 512)),
            ids: Arc::new(CountingIds::default()),
            scope: Scope { cube: "cube".into() },
        }
    }

    fn organizer(&self, model: Option<Arc<dyn ChatModel>>, options: OrganizeOptions) -> Organizer {
        Organizer::new(OrganizerParts {
            record: Arc::clone(&self.record),
            vectors: Arc::clone(&self.vectors),
            embedder: Arc::clone(&self.embedder) as Arc<dyn Embedder>,
            clock: Arc::new(SetClock::default()),
            ids: Arc::clone(&self.ids) as Arc<dyn mos_core::IdSource>,
            analyzer: Arc::new(TextAnalyzer::new()),
            model,
            check: Some(Arc::new(NoOrders)),
            options,
        })
    }

    fn plain(&self) -> Organizer {
        self.organizer(None, OrganizeOptions::default())
    }

    fn with(&self, model: &Arc<ScriptedChat>) -> Organizer {
        self.organizer(Some(Arc::clone(model) as Arc<dyn ChatModel>), OrganizeOptions::default())
    }

    /// Stores memories with their vectors and returns their ids.
    async fn add(&self, items: Vec<MemoryItem>) -> Vec<MemoryId> {
        let texts: Vec<String> = items.iter().map(|item| item.memory.clone()).collect();
        let vectors = self.embedder.embed(&texts).await.unwrap();
        let ids: Vec<MemoryId> = items.iter().map(|item| item.id.clone()).collect();
        let vectors = ids.iter().cloned().zip(vectors).collect();
        let space = self.embedder.space().await.unwrap();
        let embeddings = Some(EmbeddingWrite { space, vectors, made_of: None, aside: false });
        let batch = WriteBatch { put: items, embeddings, ..WriteBatch::new(origin()) };
        self.record.apply(&self.scope, batch).await.unwrap();
        ids
    }

    async fn link(&self, source: u32, kind: &str, target: u32) {
        let batch = WriteBatch { put_edges: vec![edge(&id(source), kind, &id(target))], ..WriteBatch::new(origin()) };
        self.record.apply(&self.scope, batch).await.unwrap();
    }

    async fn get(&self, id: &MemoryId) -> MemoryItem {
        self.record.nodes(&self.scope, std::slice::from_ref(id)).await.unwrap().remove(0)
    }

    async fn edges(&self, kind: &str) -> Vec<(String, String)> {
        let edges = self.record.all_edges(&self.scope).await.unwrap();
        let pair = |edge: Edge| (edge.source.to_string(), edge.target.to_string());
        edges.into_iter().filter(|edge| edge.kind == kind).map(pair).collect()
    }

    async fn edges_of(&self, id: &MemoryId, direction: Direction, kind: &str) -> Vec<Edge> {
        self.record.edges(&self.scope, std::slice::from_ref(id), direction, Some(kind)).await.unwrap()
    }

    /// Everything that the cube holds.
    async fn graph(&self) -> Graph {
        let nodes = self.record.list(&self.scope, &Filter::Everything, Paging::ALL).await.unwrap().entries;
        Graph { nodes, edges: self.record.all_edges(&self.scope).await.unwrap() }
    }

    /// Memories in use of this type, oldest first.
    async fn of_type(&self, kind: &str) -> Vec<MemoryItem> {
        let filter = Filter::equals("type", kind).and(Filter::equals("status", "activated"));
        self.record.list(&self.scope, &filter, Paging::ALL).await.unwrap().entries
    }

    /// The texts that a search among memories in use finds, best first.
    async fn found(&self, query: &str) -> Vec<String> {
        let vector = self.embedder.embed(&[query.to_owned()]).await.unwrap().remove(0);
        let (space, filter) = (self.embedder.space().await.unwrap(), Filter::equals("status", "activated"));
        let found = self.vectors.nearest(&self.scope, &space, &vector, 5, &filter).await.unwrap();
        let ids: Vec<MemoryId> = found.into_iter().map(|one| one.id).collect();
        let items = self.record.nodes(&self.scope, &ids).await.unwrap();
        items.into_iter().map(|item| item.memory).collect()
    }
}

/// The id of a memory that a test adds; those that are made while organising count from 1 in another series.
fn id(number: u32) -> MemoryId {
    MemoryId::new(format!("10000000-0000-4000-8000-{number:012}"))
}

fn edge(source: &MemoryId, kind: &str, target: &MemoryId) -> Edge {
    Edge { source: source.clone(), target: target.clone(), kind: kind.to_owned() }
}

/// A long-term memory with these fields besides.
fn fact(number: u32, text: &str, metadata: Value) -> MemoryItem {
    let mut fields = json!({
        "memory_type": "LongTermMemory",
        "sources": [{"type": "chat", "role": "user", "content": text, "message_id": format!("m{number}")}],
        "info": {"role": "user"},
    });
    fields.as_object_mut().unwrap().extend(metadata.as_object().unwrap().clone());
    MemoryItem::from_value(json!({"id": id(number), "memory": text, "metadata": fields}), String::new).unwrap()
}

/// A long-term memory of a day in 2026.
fn said(number: u32, day: &str, text: &str) -> MemoryItem {
    fact(number, text, json!({"valid_from": format!("2026-{day}"), "created_at": format!("2026-{day}T12:00:00+00:00")}))
}

fn is_active(item: &MemoryItem) -> bool {
    item.metadata.status == Some(Status::Activated)
}

fn extra<'a>(item: &'a MemoryItem, key: &str) -> Option<&'a str> {
    item.metadata.extra.get(key).and_then(Value::as_str)
}

fn source_ids(item: &MemoryItem) -> Vec<&str> {
    let sources = item.metadata.tree().unwrap().sources.as_deref().unwrap_or_default();
    sources.iter().filter_map(|source| source.message_id.as_deref()).collect()
}

/// A model that answers each kind of question in its own way.
fn model(answer: impl Fn(&str, &str) -> String + Send + Sync + 'static) -> Arc<ScriptedChat> {
    Arc::new(ScriptedChat::answering(move |request: &ChatRequest| {
        answer(&request.messages[0].text(), &request.messages[1].text())
    }))
}

/// What a question is about, by its instructions.
fn asks_verdict(instructions: &str) -> bool {
    instructions.contains("one of these three words")
}

fn asks_clusters(instructions: &str) -> bool {
    instructions.contains("You sort the notes")
}

fn asks_relation(instructions: &str) -> bool {
    instructions.contains("You link the notes")
}

fn asks_conclusion(instructions: &str) -> bool {
    instructions.contains("something new follows")
}

fn asks_sum(instructions: &str) -> bool {
    instructions.contains("several related notes")
}

/// Answers that no model should give.
const BAD_ANSWERS: [&str; 6] = [
    "",
    "I am not sure what you mean.",
    "<answer>It is",
    "{\"clusters\": [{\"ids\": [1, 2",
    "contradictory | redundant | independent",
    "{\"key\": \"<title of a few words>\", \"value\": \"<text>\", \"tags\": [\"<word>\"], \"summary\": \"<text>\", \
     \"relation\": \"<one of the five>\", \"clusters\": [{\"ids\": [\"<number>\"]}]}",
];
