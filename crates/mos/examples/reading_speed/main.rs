//! Measures how fast files and chats are read and remembered, next to the encoder alone: `reading_speed FOLDER`.
//!
//! A PDF of 200 pages goes through [`Mos::remember`], a chat of 10,000 messages through [`Mos::add`], in batches as
//! `mos add --messages` adds them. An encoder in between notes what it is given; afterwards the real one is given the
//! same texts in the same batches, and nothing else happens. Both come in turn, twice, and the better ratio of the two
//! counts: what else runs on the machine does not come in equal shares. Of memory the worse peak counts.
//!
//! Prints JSON lines, and fails when a target is missed.
#![allow(clippy::print_stdout, reason = "this program prints figures")]

mod pdf;
mod prose;
mod resident;

use std::error::Error;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use mos::{Add, Factories, ModelContext, Mos, NewCube, Remember, Settings, config};
use mos_core::{CubeId, Embedder, EmbeddingSpace, FileData, Message, ModelError, Outcome, RawFile, ReadInput, UserId};

use prose::Prose;

/// How much of the encoder's own speed reading must reach.
const MIN_RATIO: f64 = 0.70;

/// How much memory reading may take above what the loaded models take, in bytes.
const MAX_PEAK_BYTES: u64 = 500_000_000;

const ROUNDS: usize = 2;

const PAGES: usize = 200;
const PARAGRAPHS: usize = 6;
const PARAGRAPH_WORDS: usize = 70;

const MESSAGES: usize = 10_000;
const MESSAGE_WORDS: usize = 18;

/// How many messages `mos add --messages` adds at once.
const MESSAGES_AT_ONCE: usize = 16;

/// An encoder that notes the texts that it is given, call by call.
#[derive(Debug)]
struct Noting {
    inner: Arc<dyn Embedder>,
    calls: Mutex<Vec<Vec<String>>>,
}

impl Noting {
    /// Returns what was noted so far, and forgets it.
    fn take(&self) -> Vec<Vec<String>> {
        std::mem::take(&mut *self.calls.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[async_trait]
impl Embedder for Noting {
    async fn embed(&self, texts: &[String]) -> Result<Vec<Vec<f32>>, ModelError> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner).push(texts.to_vec());
        self.inner.embed(texts).await
    }

    async fn embed_queries(&self, queries: &[String]) -> Result<Vec<Vec<f32>>, ModelError> {
        self.inner.embed_queries(queries).await
    }

    async fn space(&self) -> Result<EmbeddingSpace, ModelError> {
        self.inner.space().await
    }
}

/// What is read.
enum Given {
    Pdf { bytes: Vec<u8>, n_words: usize },
    Chat(Vec<Message>),
}

impl Given {
    fn pdf(prose: &mut Prose, n_pages: usize) -> std::io::Result<Self> {
        let mut page = || (0..PARAGRAPHS).map(|_| prose.text(PARAGRAPH_WORDS)).collect::<Vec<String>>();
        let pages: Vec<Vec<String>> = (0..n_pages).map(|_| page()).collect();
        let n_words = pages.iter().flatten().map(|text| text.split_whitespace().count()).sum();
        Ok(Self::Pdf { bytes: pdf::of_pages(&pages)?, n_words })
    }

    fn chat(prose: &mut Prose, n_messages: usize) -> Self {
        let message = |number: usize| match prose.text(MESSAGE_WORDS) {
            text if number.is_multiple_of(2) => Message::user(text),
            text => Message::assistant(text),
        };
        Self::Chat((0..n_messages).map(message).collect())
    }

    fn name(&self) -> &'static str {
        match self {
            Self::Pdf { .. } => "pdf",
            Self::Chat(_) => "chat",
        }
    }

    /// Reads and stores it, and returns how many memories that made.
    async fn ingest(&self, mos: &Mos, cube: &CubeId) -> Result<usize, Box<dyn Error>> {
        match self {
            Self::Pdf { bytes, .. } => {
                let data = FileData::Bytes(bytes.clone());
                let file = RawFile { id: None, name: Some("report.pdf".to_owned()), url: None, data };
                let done = mos.remember(Remember::new(ReadInput::file(file)).user("ann").cube(cube.clone())).await?;
                if let Some(item) = done.report.items.iter().find(|item| item.outcome != Outcome::Kept) {
                    return Err(
                        format!("{} was not read: {}", item.item, item.reason.as_deref().unwrap_or_default()).into()
                    );
                }
                Ok(done.ids.len() + done.raw_files.len())
            }
            Self::Chat(messages) => {
                let mut n_memories = 0;
                for batch in messages.chunks(MESSAGES_AT_ONCE) {
                    let add = Add::messages(batch.to_vec()).user("ann").cube(cube.clone());
                    n_memories += mos.add(add).await?.len();
                }
                Ok(n_memories)
            }
        }
    }

    /// Fails unless all of it came to the encoder, each memory once.
    fn check(&self, calls: &[Vec<String>], n_memories: usize) -> Result<(), String> {
        let n_texts: usize = calls.iter().map(Vec::len).sum();
        if n_texts != n_memories {
            return Err(format!("the encoder was given {n_texts} texts for {n_memories} memories"));
        }
        let n_encoded: usize = calls.iter().flatten().map(|text| text.split_whitespace().count()).sum();
        match self {
            Self::Pdf { n_words, .. } if n_encoded < *n_words => {
                Err(format!("only {n_encoded} of the {n_words} words of the PDF were read"))
            }
            Self::Chat(messages) if n_memories != messages.len() => {
                Err(format!("only {n_memories} of {} messages were kept", messages.len()))
            }
            _ => Ok(()),
        }
    }
}

struct Bench {
    mos: Mos,
    user: UserId,
    encoder: Arc<dyn Embedder>,
    noting: Arc<Noting>,
    /// Resident memory with everything loaded, in bytes.
    loaded: Option<u64>,
}

/// One round of one input.
struct Measured {
    n_memories: usize,
    n_words: usize,
    reading: Duration,
    encoding: Duration,
    /// The most resident memory above that of the loaded models, in bytes.
    peak: Option<u64>,
}

impl Measured {
    /// The speed of reading, as a part of that of the encoder alone: both had the same texts.
    fn ratio(&self) -> f64 {
        self.encoding.as_secs_f64() / self.reading.as_secs_f64()
    }
}

impl Bench {
    async fn open(folder: &Path) -> Result<Self, Box<dyn Error>> {
        let settings = config::Settings::load(None, config::process_environment())?.settings;
        let context = ModelContext { models_dir: mos::models_dir(&settings)? };
        let encoder = Factories::default().embedder(settings.embedder.clone(), context).await?;
        let noting = Arc::new(Noting { inner: Arc::clone(&encoder), calls: Mutex::default() });
        let builder = Mos::builder(Settings { data_dir: None, ..settings }).data_dir(folder);
        let mos = builder.embedder(noting.clone()).build().await?;
        let user = UserId::from("ann");
        mos.create_user("ann", None).await?;
        Ok(Self { mos, user, encoder, noting, loaded: None })
    }

    /// Loads what is loaded at its first use.
    async fn warm_up(&mut self) -> Result<(), Box<dyn Error>> {
        let mut prose = Prose::new(7);
        for given in [Given::pdf(&mut prose, 4)?, Given::chat(&mut prose, 200)] {
            self.measure(&given, 0).await?;
        }
        self.loaded = resident::now();
        Ok(())
    }

    async fn measure(&self, given: &Given, round: usize) -> Result<Measured, Box<dyn Error>> {
        let cube = CubeId::new(format!("{}-{round}", given.name()));
        self.mos.create_cube(&self.user, NewCube::new(cube.clone())).await?;
        self.noting.take();
        resident::forget_peak();
        let start = Instant::now();
        let n_memories = given.ingest(&self.mos, &cube).await?;
        let reading = start.elapsed();
        let peak = resident::peak().zip(self.loaded).map(|(peak, loaded)| peak.saturating_sub(loaded));
        let calls = self.noting.take();
        given.check(&calls, n_memories)?;
        let n_words = calls.iter().flatten().map(|text| text.split_whitespace().count()).sum();
        let start = Instant::now();
        for texts in &calls {
            self.encoder.embed(texts).await?;
        }
        Ok(Measured { n_memories, n_words, reading, encoding: start.elapsed(), peak })
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, folder] = arguments.as_slice() else { return Err("usage: reading_speed FOLDER".into()) };
    let mut prose = Prose::new(1);
    let all = [Given::pdf(&mut prose, PAGES)?, Given::chat(&mut prose, MESSAGES)];
    let mut bench = Bench::open(folder.as_ref()).await?;
    bench.warm_up().await?;
    if !resident::forget_peak() {
        println!("{{\"note\": \"peaks cannot be reset here; they count from the start of the process\"}}");
    }
    let mut measured: Vec<Vec<Measured>> = all.iter().map(|_| Vec::new()).collect();
    for round in 1..=ROUNDS {
        for (given, measured) in all.iter().zip(&mut measured) {
            let one = bench.measure(given, round).await?;
            report(given.name(), round, &one);
            measured.push(one);
        }
    }
    let missed: Vec<String> = all.iter().zip(&measured).flat_map(|(given, rounds)| missed(given, rounds)).collect();
    if missed.is_empty() { Ok(()) } else { Err(missed.join("; ").into()) }
}

fn report(name: &str, round: usize, measured: &Measured) {
    let Measured { n_memories, n_words, reading, encoding, peak } = measured;
    let per_second = |time: &Duration| *n_memories as f64 / time.as_secs_f64();
    let peak = peak.map_or("null".to_owned(), |bytes| format!("{:.0}", bytes as f64 / 1e6));
    println!(
        "{{\"what\": \"{name}\", \"round\": {round}, \"memories\": {n_memories}, \"words\": {n_words}, \
         \"read_texts_per_s\": {:.1}, \"encoder_texts_per_s\": {:.1}, \"ratio\": {:.3}, \"peak_mb\": {peak}}}",
        per_second(reading),
        per_second(encoding),
        measured.ratio()
    );
}

/// Returns what of the targets was missed, a sentence each.
fn missed(given: &Given, rounds: &[Measured]) -> Vec<String> {
    let name = given.name();
    let ratio = rounds.iter().map(Measured::ratio).fold(0.0, f64::max);
    let peak = rounds.iter().filter_map(|round| round.peak).max();
    println!(
        "{{\"what\": \"{name}\", \"best_ratio\": {ratio:.3}, \"peak_mb\": {}}}",
        peak.map_or("null".to_owned(), |bytes| format!("{:.0}", bytes as f64 / 1e6))
    );
    let mut missed = Vec::new();
    if ratio < MIN_RATIO {
        missed.push(format!("reading the {name} reached {ratio:.2} of the encoder's speed, not {MIN_RATIO:.2}"));
    }
    if let Some(peak) = peak.filter(|peak| *peak > MAX_PEAK_BYTES) {
        missed.push(format!(
            "reading the {name} took {} MB above the loaded models, not at most {}",
            peak / 1_000_000,
            MAX_PEAK_BYTES / 1_000_000
        ));
    }
    missed
}
