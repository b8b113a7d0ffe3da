//! Readers over real parsers and chunkers; models are scripted.

mod failures;
mod golden;
mod laws;
mod pictures;
mod replacing;
mod settings;
mod stored;
mod stories;

use std::collections::HashMap;
use std::sync::Arc;

use async_trait::async_trait;
use mos_core::{FetchError, Fetched, Fetcher, MemReader, MemoryItem, MemoryType, ReadInput, ReadMode, Reading};
use mos_reader::chunk::{ChunkSize, EstimatedTokens, SentenceChunker};
use mos_reader::{Reader, ReaderKind, ReaderOptions, ReaderParts};
use mos_testkit::chat::ScriptedChat;
use mos_testkit::clock::SetClock;

/// Files by their addresses; others are refused.
#[derive(Debug, Default)]
struct Web(HashMap<String, Vec<u8>>);

#[async_trait]
impl Fetcher for Web {
    async fn fetch(&self, url: &str) -> Result<Fetched, FetchError> {
        let found = self.0.get(url).cloned();
        let bytes = found.ok_or_else(|| FetchError::Refused("the host is not allowed".to_owned()))?;
        Ok(Fetched { bytes, name: url.rsplit('/').next().map(str::to_owned), content_type: None })
    }
}

fn parts() -> ReaderParts {
    let size = ChunkSize::new(Arc::new(EstimatedTokens), 120, 20);
    ReaderParts::new(Arc::new(SentenceChunker::new(size)), Arc::new(SetClock::default()))
}

fn reader(kind: ReaderKind, parts: ReaderParts) -> Reader {
    Reader::new(kind, ReaderOptions::of(kind), parts)
}

/// A model that answers each kind of question in its own way.
fn model(answer: impl Fn(&str, &str) -> String + Send + Sync + 'static) -> Arc<ScriptedChat> {
    Arc::new(ScriptedChat::answering(move |request| {
        let asked = request.messages[0].text();
        let kind = [
            ("note what will be worth knowing", "conversation"),
            ("piece of a document", "document"),
            ("look at an image", "image"),
            ("used tools for a request", "trajectory"),
            ("look for procedures", "skill"),
        ];
        let kind = kind.iter().find(|(words, _)| asked.contains(words)).map_or("unknown", |(_, kind)| *kind);
        answer(kind, &request.messages.last().unwrap().text())
    }))
}

async fn read(reader: &Reader, input: ReadInput, mode: ReadMode) -> Reading {
    reader.read(input, mode).await.unwrap()
}

fn of_type(items: &[MemoryItem], memory_type: MemoryType) -> Vec<&MemoryItem> {
    items.iter().filter(|item| item.metadata.memory_type() == Some(memory_type)).collect()
}
