//! What was read, in a real tree over SQLite.

use std::sync::Arc;

use mos_core::{Filter, MemoryItem, MemoryType, Origin, Paging, RandomIds, ReadInput, ReadMode, RecordStore, Scope};
use mos_core::{TextMemory, VectorStore};
use mos_memory::{DEFAULT_FILE_NAME, GeneralText, GeneralTextParts, Recall, RecallOptions, Shelf};
use mos_memory::{TreeOptions, TreeText, TreeTextParts};
use mos_reader::{ReaderKind, Stored, store};
use mos_stores::{ExactVectors, SqliteOptions, SqliteStore, TextAnalyzer};
use mos_testkit::clock::SetClock;
use mos_testkit::embedder::WordEmbedder;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::stories::{fine_parts, second_example};
use super::{parts, read, reader};

/// A record, what ranks its memories, and its vectors.
pub(super) fn house() -> (TempDir, Shelf, Arc<Recall>, Arc<dyn VectorStore>) {
    let (folder, clock) = (tempfile::tempdir().unwrap(), Arc::new(SetClock::default()));
    let record: Arc<dyn RecordStore> =
        SqliteStore::open(SqliteOptions::at(folder.path().join("mos.db")), clock.clone()).unwrap();
    let vectors: Arc<dyn VectorStore> = ExactVectors::following(Arc::clone(&record));
    let (follows, index) = (Arc::clone(&record), Arc::clone(&vectors));
    let recall = Recall::following(follows, index, Arc::new(TextAnalyzer::new()), RecallOptions::default());
    let shelf = Shelf { scope: Scope { cube: "cube".into() }, record, clock, file_name: DEFAULT_FILE_NAME.to_owned() };
    (folder, shelf, recall, vectors)
}

pub(super) fn tree() -> (TempDir, TreeText) {
    let (folder, shelf, recall, vectors) = house();
    let tree = TreeText::new(TreeTextParts {
        shelf,
        recall,
        vectors,
        embedder: Arc::new(WordEmbedder::new("words", 256)),
        analyzer: Arc::new(TextAnalyzer::new()),
        ids: Arc::new(RandomIds),
        shelves: Arc::default(),
        options: TreeOptions::default(),
    });
    (folder, tree)
}

pub(super) fn origin() -> Origin {
    Origin::new("test", "add")
}

/// Every memory that is no working copy, and every edge, without what changes by itself.
async fn content(tree: &TreeText) -> (Vec<Value>, Vec<String>) {
    let page = tree.as_tree().unwrap().graph(&Filter::Everything, Paging::ALL).await.unwrap();
    let own = page.graph.nodes.iter().filter(|item| item.working_copy_of().is_none());
    let mut memories: Vec<Value> = own.map(MemoryItem::to_compact_value).collect();
    memories.sort_by_key(|memory| memory["id"].to_string());
    let mut edges: Vec<String> =
        page.graph.edges.iter().map(|edge| format!("{} {} {}", edge.source, edge.kind, edge.target)).collect();
    edges.sort();
    (memories, edges)
}

async fn add_example(tree: &TreeText) -> Stored {
    let reader = reader(ReaderKind::MultiModal, fine_parts());
    let reading = read(&reader, ReadInput::from_value(second_example()), ReadMode::Fine).await;
    store(reading, tree, &origin()).await.unwrap()
}

#[tokio::test]
async fn adding_the_same_twice_changes_nothing() {
    let (_folder, tree) = tree();
    let first = add_example(&tree).await;
    let before = content(&tree).await;
    let again = add_example(&tree).await;
    assert_eq!((&again.ids, &again.raw_files), (&first.ids, &first.raw_files));
    assert_eq!(content(&tree).await, before);
    let types: Vec<&Value> = before.0.iter().map(|memory| &memory["metadata"]["memory_type"]).collect();
    for kind in [MemoryType::RawFile, MemoryType::ToolSchema, MemoryType::ToolTrajectory, MemoryType::LongTerm] {
        assert!(types.iter().any(|found| **found == kind.as_str()), "{kind:?}: {types:?}");
    }
    let n_chunks = first.raw_files.len();
    for (kind, n_wanted) in [("SUMMARY", n_chunks), ("MATERIAL", n_chunks), ("FOLLOWING", n_chunks - 1)] {
        let n_found = before.1.iter().filter(|edge| edge.contains(&format!(" {kind} "))).count();
        assert_eq!(n_found, n_wanted, "{kind}");
    }
}

#[tokio::test]
async fn of_a_conversation_that_has_grown_what_is_new_is_added() {
    let (_folder, tree) = tree();
    let chat = |n: usize| -> Value {
        let messages =
            (0..n).map(|n| json!({"role": "user", "content": format!("Message {n} says so."), "message_id": n}));
        messages.collect()
    };
    let reader = reader(ReaderKind::Strategy, parts());
    let mut known = 0;
    for n in [14, 14, 30] {
        let reading = read(&reader, ReadInput::from_value(chat(n)), ReadMode::Fast).await;
        let n_raw = reading.raw.len();
        let stored = store(reading, &tree, &origin()).await.unwrap();
        assert_eq!(stored.ids.len(), n_raw);
        known = stored.n_known;
    }
    assert!(known > 0, "the first scene is the same");
    let text: String = content(&tree).await.0.iter().map(|memory| memory["memory"].to_string()).collect();
    assert!((0..30).all(|n| text.contains(&format!("Message {n} says so."))));
}

#[tokio::test]
async fn elsewhere_chunks_of_files_are_memories_like_others() {
    let (_folder, shelf, recall, _) = house();
    let general =
        GeneralText::new(GeneralTextParts { shelf, recall, embedder: Arc::new(WordEmbedder::new("words", 256)) });
    let reader = reader(ReaderKind::MultiModal, fine_parts());
    let reading = read(&reader, ReadInput::from_value(second_example()), ReadMode::Fine).await;
    let stored = store(reading.clone(), &general, &origin()).await.unwrap();
    assert_eq!(stored.raw_files.len(), reading.raw_files.len());
    assert_eq!(general.get_all().await.unwrap().len(), reading.n_memories());
}
