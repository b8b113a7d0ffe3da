//! Where the time of a search goes: `cargo run --release -p mos-memory --example recall_speed -- [DIRECTORY]`.
//!
//! Conversations that are made up, 700 and 6,000 turns, in a SQLite record on the disk of `DIRECTORY` (default: a temporary
//! one). Each part of a search for 50 memories is measured alone: the question is understood, its vector compared with all
//! others, all of them are ranked (the whole of `Recall::search` less that comparison), and the best are read. The encoder
//! takes no part: vectors are counts of words. `edges`: the same with an edge at every tenth turn.

#![allow(clippy::print_stdout, reason = "the lines are what the program is for")]

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use mos_core::graph::kinds;
use mos_core::{
    Edge, Embedder, EmbeddingSpace, EmbeddingWrite, Filter, MemoryId, MemoryItem, Origin, RecordStore, Scope,
    SystemClock, VectorStore, WriteBatch,
};
use mos_memory::recall::{Asked, Hints};
use mos_memory::{Recall, RecallOptions};
use mos_stores::{ExactVectors, SqliteOptions, SqliteStore, TextAnalyzer};
use mos_testkit::embedder::WordEmbedder;
use serde_json::{Map, Value, json};

const DIMENSION: usize = 384;
const N_QUESTIONS: usize = 200;
const TOP_K: usize = 50;
const TURNS_OF_A_SESSION: usize = 20;
const PER_BATCH: usize = 500;
const WORDS: [&str; 32] = [
    "dog",
    "park",
    "coffee",
    "train",
    "meeting",
    "garden",
    "music",
    "river",
    "winter",
    "holiday",
    "doctor",
    "recipe",
    "football",
    "mountain",
    "letter",
    "brother",
    "kitchen",
    "window",
    "airport",
    "museum",
    "birthday",
    "camera",
    "library",
    "market",
    "bought",
    "visited",
    "painted",
    "lost",
    "found",
    "enjoyed",
    "planned",
    "remembered",
];

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

/// Numbers that look random and are the same in every run (splitmix64).
struct Numbers(u64);

impl Numbers {
    fn word(&mut self) -> &'static str {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        WORDS[((mixed ^ (mixed >> 31)) % WORDS.len() as u64) as usize]
    }

    fn sentence(&mut self, n_words: usize) -> String {
        (0..n_words).map(|_| self.word()).collect::<Vec<_>>().join(" ")
    }
}

fn turn(number: usize, numbers: &mut Numbers) -> MemoryItem {
    let name = if number.is_multiple_of(2) { "Anna" } else { "Tom" };
    let text = format!("{} and the {} number {number}", numbers.sentence(14), numbers.word());
    let mut item = MemoryItem::new(MemoryId::new(format!("turn-{number:06}")), text);
    let session = number / TURNS_OF_A_SESSION;
    item.metadata.session_id = Some(format!("session-{session}"));
    let mut info = Map::new();
    info.insert("name".to_owned(), json!(name));
    info.insert("role".to_owned(), json!("user"));
    let chat_time = format!("2024-{:02}-{:02}T10:00:00", 1 + session % 12, 1 + session % 28);
    info.insert("chat_time".to_owned(), Value::from(chat_time));
    item.metadata.info = Some(info);
    item
}

/// Everything that a search needs.
struct House {
    scope: Scope,
    space: EmbeddingSpace,
    embedder: WordEmbedder,
    record: Arc<dyn RecordStore>,
    vectors: Arc<dyn VectorStore>,
    recall: Arc<Recall>,
}

impl House {
    async fn filled(path: &Path, n_turns: usize, has_edges: bool) -> Outcome<Self> {
        let store = SqliteStore::open(SqliteOptions::at(path), Arc::new(SystemClock))?;
        let record: Arc<dyn RecordStore> = store;
        let vectors: Arc<dyn VectorStore> = ExactVectors::following(Arc::clone(&record));
        let (follows, index) = (Arc::clone(&record), Arc::clone(&vectors));
        let recall = Recall::following(follows, index, Arc::new(TextAnalyzer::new()), RecallOptions::default());
        let embedder = WordEmbedder::new("words", DIMENSION);
        let space = embedder.space().await?;
        let house = Self { scope: Scope { cube: "speed".into() }, space, embedder, record, vectors, recall };
        let mut numbers = Numbers(7);
        let turns: Vec<MemoryItem> = (0..n_turns).map(|number| turn(number, &mut numbers)).collect();
        for part in turns.chunks(PER_BATCH) {
            house.write(part).await?;
        }
        if has_edges {
            let edge = |pair: &[MemoryItem]| Edge {
                source: pair[0].id.clone(),
                target: pair[1].id.clone(),
                kind: kinds::RELATE.to_owned(),
            };
            let put_edges = turns.windows(2).step_by(10).map(edge).collect();
            let batch = WriteBatch { put_edges, ..WriteBatch::new(Origin::new("speed", "link")) };
            house.record.apply(&house.scope, batch).await?;
        }
        Ok(house)
    }

    async fn write(&self, items: &[MemoryItem]) -> Outcome<()> {
        let texts: Vec<String> = items.iter().map(|item| item.memory.clone()).collect();
        let vectors = self.embedder.embed(&texts).await?;
        let vectors = items.iter().map(|item| item.id.clone()).zip(vectors).collect();
        let embeddings = Some(EmbeddingWrite { space: self.space.clone(), vectors, made_of: None, aside: false });
        let batch = WriteBatch { put: items.to_vec(), embeddings, ..WriteBatch::new(Origin::new("speed", "add")) };
        self.record.apply(&self.scope, batch).await?;
        Ok(())
    }

    /// Returns how long understanding, comparing, the whole search and reading took.
    async fn ask(&self, text: &str, n_turns: usize) -> Outcome<[Duration; 4]> {
        let filter = Filter::equals("status", "activated");
        let begun = Instant::now();
        let question = self.recall.understand(&self.scope, &self.space, text).await?;
        let understood = begun.elapsed();
        let query = self.embedder.embed(std::slice::from_ref(&question.neutral)).await?.pop().unwrap_or_default();
        let begun = Instant::now();
        self.vectors.nearest(&self.scope, &self.space, &query, n_turns, &filter).await?;
        let compared = begun.elapsed();
        let asked = Asked { question: &question, query: &query, hints: &Hints::default() };
        let begun = Instant::now();
        let found = self.recall.search(&self.scope, &self.space, &asked, TOP_K, &filter).await?;
        let searched = begun.elapsed();
        let ids: Vec<MemoryId> = found.into_iter().map(|one| one.id).collect();
        let begun = Instant::now();
        let items = self.record.nodes(&self.scope, &ids).await?;
        let read = begun.elapsed();
        if items.len() != TOP_K.min(n_turns) {
            return Err(format!("{} memories were found instead of {TOP_K}", items.len()).into());
        }
        Ok([understood, compared, searched, read])
    }
}

fn percentile(mut times: Vec<Duration>, percent: usize) -> f64 {
    times.sort();
    times[(times.len() - 1) * percent / 100].as_secs_f64() * 1e3
}

async fn measure(folder: &Path, n_turns: usize, has_edges: bool) -> Outcome<()> {
    let path = folder.join(format!("recall-{n_turns}-{has_edges}.db"));
    let house = House::filled(&path, n_turns, has_edges).await?;
    // The first search loads the indexes.
    house.ask("What did Anna find in the garden?", n_turns).await?;
    let mut numbers = Numbers(11);
    let mut times: [Vec<Duration>; 6] = Default::default();
    for number in 0..N_QUESTIONS {
        let name = if number.is_multiple_of(2) { "Anna" } else { "Tom" };
        let text = format!("What did {name} say about the {} last winter?", numbers.sentence(4));
        let [understood, compared, searched, read] = house.ask(&text, n_turns).await?;
        let ranked = searched.saturating_sub(compared);
        for (all, time) in
            times.iter_mut().zip([understood, compared, ranked, searched, read, understood + searched + read])
        {
            all.push(time);
        }
    }
    println!("{n_turns} turns{}", if has_edges { ", edges" } else { "" });
    let names = ["understand", "compare vectors", "rank", "search (both)", "read 50", "whole, without encoder"];
    for (name, times) in names.into_iter().zip(times) {
        println!("  {name:<24} p50 {:>7.3} ms  p95 {:>7.3} ms", percentile(times.clone(), 50), percentile(times, 95));
    }
    Ok(())
}

#[tokio::main]
async fn main() -> Outcome<()> {
    let temporary = tempfile::tempdir()?;
    let folder = std::env::args().nth(1).map_or_else(|| temporary.path().to_owned(), PathBuf::from);
    for n_turns in [700, 6000] {
        for has_edges in [false, true] {
            measure(&folder, n_turns, has_edges).await?;
        }
    }
    Ok(())
}
