//! The product's own: memories in SQLite, exact search in memory, as a program with an embedded store has it.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use mos_core::{
    EmbeddingSpace, EmbeddingWrite, Filter, MemoryId, MemoryItem, Origin, RecordStore, Scope, SystemClock, VectorStore,
    WriteBatch,
};
use mos_stores::{ExactVectors, SqliteOptions, SqliteStore};
use tokio::runtime::Runtime;

use crate::data::{DIMENSION, Data, N_NEAREST, part_of};
use crate::subject::{Index, Subject};

const PER_CALL: usize = 1000;

pub struct Exact;

struct Open {
    runtime: Runtime,
    index: Arc<ExactVectors>,
    scope: Scope,
    index_s: f64,
}

fn space() -> EmbeddingSpace {
    EmbeddingSpace { model: "bench".to_owned(), dimension: DIMENSION }
}

fn part_name(part: u64) -> String {
    format!("session-{part:03}")
}

fn batch(first: usize, vectors: &[Vec<f32>]) -> WriteBatch {
    let mut batch = WriteBatch::new(Origin::new("bench", "add"));
    let mut pairs = Vec::new();
    for (number, vector) in std::iter::zip(first.., vectors) {
        let mut item = MemoryItem::new(MemoryId::new(number.to_string()), format!("memory number {number}"));
        item.metadata.session_id = Some(part_name(part_of(number)));
        pairs.push((item.id.clone(), vector.clone()));
        batch.put.push(item);
    }
    batch.embeddings = Some(EmbeddingWrite { space: space(), vectors: pairs, made_of: None, aside: false });
    batch
}

impl Subject for Exact {
    fn build(&self, data: &Data, folder: &Path) -> anyhow::Result<Box<dyn Index>> {
        let runtime = Runtime::new()?;
        let store = SqliteStore::open(SqliteOptions::at(folder.join("mos.db")), Arc::new(SystemClock))?;
        let scope = Scope { cube: "bench".into() };
        data.each_chunk(|first, vectors| {
            for (call, vectors) in vectors.chunks(PER_CALL).enumerate() {
                runtime.block_on(store.apply(&scope, batch(first + call * PER_CALL, vectors)))?;
            }
            Ok(())
        })?;
        open(runtime, store, scope)
    }

    fn open(&self, _: &Data, folder: &Path) -> anyhow::Result<Box<dyn Index>> {
        let runtime = Runtime::new()?;
        let store = SqliteStore::open(SqliteOptions::at(folder.join("mos.db")), Arc::new(SystemClock))?;
        open(runtime, store, Scope { cube: "bench".into() })
    }

    fn efforts(&self) -> Vec<usize> {
        vec![0]
    }
}

fn open(runtime: Runtime, store: Arc<SqliteStore>, scope: Scope) -> anyhow::Result<Box<dyn Index>> {
    let index = ExactVectors::following(store as Arc<dyn RecordStore>);
    let start = Instant::now();
    runtime.block_on(index.count(&scope))?;
    Ok(Box::new(Open { runtime, index, scope, index_s: start.elapsed().as_secs_f64() }))
}

impl Index for Open {
    fn nearest(&self, query: &[f32], part: Option<u64>, _: usize) -> anyhow::Result<Vec<usize>> {
        // As the product asks: only memories in use.
        let filter = Filter::equals("status", "activated");
        let filter = match part {
            Some(part) => filter.and(Filter::equals("session_id", part_name(part))),
            None => filter,
        };
        let found = self.runtime.block_on(self.index.nearest(&self.scope, &space(), query, N_NEAREST, &filter))?;
        found.into_iter().map(|one| Ok(one.id.as_str().parse()?)).collect()
    }

    fn count(&self) -> anyhow::Result<usize> {
        Ok(self.runtime.block_on(self.index.count(&self.scope))?)
    }

    fn index_s(&self) -> Option<f64> {
        Some(self.index_s)
    }
}
