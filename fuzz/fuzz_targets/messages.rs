//! What a request may hold instead of files: messages with parts, tool calls and schemas, single parts, texts. Every reader
//! answers with memories or an error, the same each time, and what it makes is bounded by what it was given.
//!
//! The first byte of an input chooses reader and mode. What follows up to a zero byte is the request, as JSON, else as
//! text; then come the answers of a model, one zero byte between two. When there are no more, the model is unavailable.
#![no_main]

use std::collections::HashSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use futures::StreamExt;
use jiff::Timestamp;
use libfuzzer_sys::fuzz_target;
use mos_core::{
    ChatEvent, ChatModel, ChatRequest, ChatStream, ChatUsage, Clock, FinishReason, MemReader, MemoryError, MemoryItem,
    Message, ModelError, ReadInput, ReadMode, Reading,
};
use mos_reader::chunk::{ChunkSize, EstimatedTokens, SentenceChunker};
use mos_reader::parse::ParseLimits;
use mos_reader::{Reader, ReaderKind, ReaderOptions, ReaderParts};
use serde_json::Value;
use tokio::runtime::{Builder, Runtime};

/// Larger inputs take long and reach nothing new.
const MAX_BYTES: usize = 64 << 10;

/// How many times what was given the memories may take in fast mode: windows overlap, and a turn stands in text and
/// sources.
const MAX_TIMES: usize = 64;

/// What one memory, and one item of a request, may take beside that, in bytes of JSON: names and times stand beside every
/// turn.
const MAX_FRAME_BYTES: usize = 4 << 10;

const KINDS: [ReaderKind; 3] = [ReaderKind::Simple, ReaderKind::MultiModal, ReaderKind::Strategy];

/// A clock that stands still: what is read twice is the same twice.
#[derive(Debug)]
struct Still;

impl Clock for Still {
    fn now(&self) -> Timestamp {
        Timestamp::from_second(1_767_323_045).expect("2026 is within the calendar")
    }
}

/// A model that says what the input has it say.
#[derive(Debug)]
struct Answers {
    texts: Vec<String>,
    next: AtomicUsize,
}

#[async_trait]
impl ChatModel for Answers {
    fn name(&self) -> &str {
        "fuzzed"
    }

    fn is_local(&self) -> bool {
        false
    }

    fn context_length(&self) -> Option<usize> {
        None
    }

    async fn stream(&self, _: ChatRequest) -> Result<ChatStream, ModelError> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let text = self.texts.get(number).cloned();
        let text = text.ok_or_else(|| ModelError::Unavailable("the input has no more answers".to_owned()))?;
        let usage = ChatUsage {
            prompt_tokens: 0,
            cached_tokens: 0,
            completion_tokens: 0,
            time_to_first_token: Duration::ZERO,
            finish: FinishReason::Stop,
            tool_calls: Vec::new(),
        };
        Ok(futures::stream::iter([Ok(ChatEvent::Text(text)), Ok(ChatEvent::Done(usage))]).boxed())
    }
}

fuzz_target!(|bytes: &[u8]| {
    if bytes.len() > MAX_BYTES {
        return;
    }
    let Some((first, rest)) = bytes.split_first() else { return };
    let mut parts = rest.split(|byte| *byte == 0);
    let given = parts.next().unwrap_or_default();
    let answers: Vec<String> = parts.map(|answer| String::from_utf8_lossy(answer).into_owned()).collect();
    check_messages(given);
    let Some(request) = request(given) else { return };
    let number = usize::from(*first) % (2 * KINDS.len());
    let kind = KINDS[number % KINDS.len()];
    let mode = if number < KINDS.len() { ReadMode::Fast } else { ReadMode::Fine };
    let read = || runtime().block_on(read_with(kind, mode, request.clone(), answers.clone()));
    match (read(), read()) {
        (Ok(one), Ok(other)) => {
            check_bounds(&one, mode, bytes.len(), request.as_array().map_or(1, Vec::len));
            check_same(one, other);
        }
        (Err(one), Err(other)) => assert_eq!(one.to_string(), other.to_string()),
        (one, other) => panic!("the second time was not as the first: {one:?}, then {other:?}"),
    }
});

fn runtime() -> &'static Runtime {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| Builder::new_current_thread().enable_all().build().expect("a runtime can be made"))
}

/// `mos add --messages` takes only whole messages: what is one is the same after being written.
fn check_messages(given: &[u8]) {
    let Ok(messages) = serde_json::from_slice::<Vec<Message>>(given) else { return };
    for message in messages {
        let _ = std::hint::black_box(message.text());
        let written = serde_json::to_value(&message).expect("a message is plain data");
        let again: Message = serde_json::from_value(written).expect("what was written can be read");
        assert_eq!(again, message);
    }
}

fn request(given: &[u8]) -> Option<Value> {
    let as_json: Option<Value> = serde_json::from_slice(given).ok();
    as_json.or_else(|| std::str::from_utf8(given).ok().map(Value::from))
}

async fn read_with(
    kind: ReaderKind,
    mode: ReadMode,
    request: Value,
    answers: Vec<String>,
) -> Result<Reading, MemoryError> {
    let model: Arc<dyn ChatModel> = Arc::new(Answers { texts: answers, next: AtomicUsize::new(0) });
    let limits = ParseLimits {
        max_bytes: 1 << 20,
        max_unpacked_bytes: 4 << 20,
        timeout: Duration::from_secs(20),
        ..ParseLimits::default()
    };
    let chunker = SentenceChunker::new(ChunkSize::new(Arc::new(EstimatedTokens), 512, 128));
    let parts = ReaderParts {
        model: Some(Arc::clone(&model)),
        image_model: Some(model),
        parse_limits: Arc::new(limits),
        ..ReaderParts::new(Arc::new(chunker), Arc::new(Still))
    };
    let options = ReaderOptions {
        check_with_model: true,
        extract_skills: true,
        // Which window gets which answer must not depend on who asks first.
        parallel: 1,
        max_file_bytes: 1 << 20,
        ..ReaderOptions::of(kind)
    };
    Reader::new(kind, options, parts).read(ReadInput::from_value(request), mode).await
}

fn items(reading: &Reading) -> impl Iterator<Item = &MemoryItem> {
    reading.raw.iter().chain(&reading.memories).chain(&reading.raw_files)
}

fn check_bounds(reading: &Reading, mode: ReadMode, n_bytes: usize, n_items: usize) {
    let ids: HashSet<&str> = items(reading).map(|item| item.id.as_str()).collect();
    assert_eq!(ids.len(), reading.n_memories(), "every memory has an id of its own");
    assert!(ids.len() <= 2 * n_bytes + 64, "{} memories of {n_bytes} bytes", ids.len());
    if mode == ReadMode::Fast {
        let written = |item: &MemoryItem| serde_json::to_string(item).expect("a memory is plain data").len();
        let n_written: usize = items(reading).map(written).sum();
        let n_allowed = MAX_TIMES * n_bytes + MAX_FRAME_BYTES * (ids.len() + n_items);
        assert!(n_written <= n_allowed, "{n_written} bytes of memories of {n_bytes} bytes");
    }
}

fn check_same(one: Reading, other: Reading) {
    assert_eq!(one.idempotency_key, other.idempotency_key);
    assert_eq!(one.report, other.report);
    assert_eq!(one.raw, other.raw);
    assert_eq!(one.memories, other.memories);
    assert_eq!(one.raw_files, other.raw_files);
}
