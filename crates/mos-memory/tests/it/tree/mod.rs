//! The tree memory over the record in memory and the one in SQLite.

mod adding;
mod changing;
mod dumping;
mod duplicates;
mod large;
mod shelves;
mod truth;
mod written_by_memos;

use std::sync::Arc;

use mos_core::{
    Embedder, Hit, MemoryId, MemoryItem, MemoryType, RandomIds, RecordStore, Scope, SearchRequest, TextMemory,
    VectorStore,
};
use mos_memory::{DEFAULT_FILE_NAME, Recall, RecallOptions, Shelf, TreeOptions, TreeShelves, TreeText, TreeTextParts};
use mos_stores::{ExactVectors, InMemoryStore, SqliteOptions, SqliteStore, TextAnalyzer};
use mos_testkit::clock::SetClock;
use mos_testkit::embedder::WordEmbedder;
use serde_json::{Value, json};
use tempfile::TempDir;

/// A record with what follows it.
struct House {
    folder: TempDir,
    record: Arc<dyn RecordStore>,
    vectors: Arc<dyn VectorStore>,
    recall: Arc<Recall>,
    clock: Arc<SetClock>,
    shelves: Arc<TreeShelves>,
}

impl House {
    fn of(folder: TempDir, record: Arc<dyn RecordStore>, clock: Arc<SetClock>) -> Self {
        let vectors: Arc<dyn VectorStore> = ExactVectors::following(Arc::clone(&record));
        let (follows, index) = (Arc::clone(&record), Arc::clone(&vectors));
        let recall = Recall::following(follows, index, Arc::new(TextAnalyzer::new()), RecallOptions::default());
        Self { folder, record, vectors, recall, clock, shelves: Arc::default() }
    }

    fn sqlite() -> Self {
        let (folder, clock) = (tempfile::tempdir().unwrap(), Arc::new(SetClock::default()));
        let store = SqliteStore::open(SqliteOptions::at(folder.path().join("mos.db")), clock.clone()).unwrap();
        Self::of(folder, store, clock)
    }

    fn in_memory() -> Self {
        let clock = Arc::new(SetClock::default());
        Self::of(tempfile::tempdir().unwrap(), InMemoryStore::new(clock.clone()), clock)
    }

    /// One house per kind of record.
    fn all() -> [Self; 2] {
        [Self::sqlite(), Self::in_memory()]
    }

    fn tree(&self) -> TreeText {
        self.tree_with(TreeOptions::default())
    }

    fn tree_with(&self, options: TreeOptions) -> TreeText {
        self.tree_of(Arc::new(WordEmbedder::new("words", 256)), options, Arc::clone(&self.shelves))
    }

    fn tree_of(&self, embedder: Arc<dyn Embedder>, options: TreeOptions, shelves: Arc<TreeShelves>) -> TreeText {
        TreeText::new(TreeTextParts {
            shelf: Shelf {
                scope: scope(),
                record: Arc::clone(&self.record),
                clock: self.clock.clone(),
                file_name: DEFAULT_FILE_NAME.to_owned(),
            },
            recall: Arc::clone(&self.recall),
            vectors: Arc::clone(&self.vectors),
            embedder,
            analyzer: Arc::new(TextAnalyzer::new()),
            ids: Arc::new(RandomIds),
            shelves,
            options,
        })
    }

    /// Lets a second pass, so that later writes are newer.
    fn wait(&self) {
        self.clock.advance(std::time::Duration::from_secs(1));
    }
}

fn scope() -> Scope {
    Scope { cube: "cube".into() }
}

/// A memory with this metadata.
fn with(number: u32, text: &str, metadata: Value) -> MemoryItem {
    let value = json!({"id": crate::item(number, "").id, "memory": text, "metadata": metadata});
    MemoryItem::from_value(value, String::new).unwrap()
}

/// A message as the facade's add writes it.
fn message(number: u32, text: &str, info: Value) -> MemoryItem {
    with(number, text, json!({"info": info, "session_id": "s", "user_id": "ann", "source": "conversation"}))
}

fn kind(item: &MemoryItem) -> MemoryType {
    item.metadata.memory_type().unwrap()
}

/// The texts of the memories of a type, oldest first.
async fn on_shelf(tree: &TreeText, wanted: MemoryType) -> Vec<String> {
    let all = tree.get_all().await.unwrap();
    all.into_iter().filter(|item| kind(item) == wanted).map(|item| item.memory).collect()
}

async fn hits(tree: &TreeText, query: &str, top_k: usize) -> Vec<Hit> {
    tree.search(&SearchRequest::new(query, top_k)).await.unwrap().hits
}

fn ids(hits: &[Hit]) -> Vec<MemoryId> {
    hits.iter().map(|hit| hit.item.id.clone()).collect()
}
