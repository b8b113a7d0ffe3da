//! Two processes on one file: each sees what the other was told is written.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use mos_core::{
    EmbeddingSpace, EmbeddingWrite, Filter, GraphStore, MemoryId, MemoryItem, Origin, RecordStore, Scope, SystemClock,
    VectorStore, WriteBatch,
};
use mos_stores::{ExactVectors, SqliteOptions, SqliteStore};

const FOLDER: &str = "MOS_STORES_SHARED_FOLDER";
const TURNS: usize = 25;

struct Process {
    store: Arc<SqliteStore>,
    index: Arc<ExactVectors>,
}

impl Process {
    fn open(folder: &Path) -> Self {
        let options = SqliteOptions::at(folder.join("mos.db"));
        let store = SqliteStore::open(options, Arc::new(SystemClock)).unwrap();
        Self { index: ExactVectors::following(Arc::clone(&store) as Arc<dyn RecordStore>), store }
    }

    fn scope() -> Scope {
        Scope { cube: "c".into() }
    }

    fn space() -> EmbeddingSpace {
        EmbeddingSpace { model: "mini".to_owned(), dimension: 2 }
    }

    async fn add(&self, turn: usize) {
        let item = MemoryItem::new(MemoryId::new(format!("{turn:04}")), format!("word{turn}"));
        let vectors = vec![(item.id.clone(), vec![1.0, turn as f32])];
        let embeddings = Some(EmbeddingWrite { space: Self::space(), vectors, made_of: None, aside: false });
        let batch = WriteBatch { put: vec![item], embeddings, ..WriteBatch::new(Origin::new("ann", "add")) };
        self.store.apply(&Self::scope(), batch).await.unwrap();
    }

    /// Everything written up to this turn is found, by words and by vectors.
    async fn assert_sees(&self, turn: usize) {
        let (scope, all) = (Self::scope(), Filter::Everything);
        let found = self.store.full_text(&scope, &format!("word{turn}"), 5, &all).await.unwrap();
        assert_eq!(found.len(), 1, "turn {turn}, by words");
        let query = [1.0, turn as f32];
        let found = self.index.nearest(&scope, &Self::space(), &query, 1, &all).await.unwrap();
        assert_eq!(found[0].id.as_str(), format!("{turn:04}"), "by vectors");
        assert_eq!(self.index.count(&scope).await.unwrap(), turn + 1);
    }
}

/// On every line read: checks the turn it names, and answers with the next one.
#[tokio::test]
#[ignore = "the other process of `two_processes_alternate`"]
async fn child() {
    let Some(folder) = std::env::var_os(FOLDER) else { return };
    let process = Process::open(Path::new(&folder));
    for line in std::io::stdin().lines() {
        let turn: usize = line.unwrap().parse().unwrap();
        process.assert_sees(turn).await;
        process.add(turn + 1).await;
        println!("turn {}", turn + 1);
    }
}

#[tokio::test]
async fn two_processes_alternate() {
    let folder = tempfile::tempdir().unwrap();
    let process = Process::open(folder.path());
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "several_processes::child", "--nocapture"])
        .env(FOLDER, folder.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut orders = child.stdin.take().unwrap();
    let mut answers = BufReader::new(child.stdout.take().unwrap()).lines();
    for turn in (0..2 * TURNS).step_by(2) {
        process.add(turn).await;
        writeln!(orders, "{turn}").unwrap();
        let expected = format!("turn {}", turn + 1);
        // The test harness of the child prints lines of its own.
        assert!(answers.by_ref().map_while(Result::ok).any(|line| line.ends_with(&expected)), "no answer: {expected}");
        process.assert_sees(turn + 1).await;
    }
    drop(orders);
    assert!(child.wait().unwrap().success());
    let findings = process.store.check().await.unwrap();
    assert!(findings.iter().all(|finding| finding.what == "memories of an unknown cube"), "{findings:?}");
}

#[test]
fn many_may_make_and_open_one_database_at_once() {
    for _ in 0..10 {
        let folder = tempfile::tempdir().unwrap();
        let barrier = std::sync::Barrier::new(6);
        std::thread::scope(|scope| {
            for _ in 0..6 {
                scope.spawn(|| {
                    barrier.wait();
                    Process::open(folder.path());
                });
            }
        });
    }
}
