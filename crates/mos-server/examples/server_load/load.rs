//! Clients that search and add at the same time.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::client::Client;
use crate::serving::Serving;
use crate::{Failure, resident, texts};

/// Of so many requests one adds, the others search.
const ADD_EVERY: usize = 5;

/// How many questions are asked again and again: fewer than the server remembers, with all that is added between.
const REPEATED: usize = 256;

/// How many texts are added at once before anything is measured.
const FILLED_AT_ONCE: usize = 100;

/// A client gives up after so many failures.
const MAX_FAILURES: usize = 20;

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Questions {
    /// Every question is a new one.
    New,
    /// Few, which were all asked before.
    Repeated,
}

/// A part of a run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Phase {
    pub(crate) name: &'static str,
    pub(crate) questions: Questions,
    pub(crate) length: Duration,
    /// Whether memory must not grow in it.
    pub(crate) is_watched: bool,
}

/// An addition that the server said is stored.
#[derive(Clone, Debug)]
pub(crate) struct Acknowledged {
    /// The number of the user.
    pub(crate) user: usize,
    pub(crate) id: String,
    /// The word that no other text has.
    pub(crate) marker: String,
}

/// What the server took at a moment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sample {
    /// Since the phase began.
    pub(crate) at: Duration,
    /// Resident memory in bytes.
    pub(crate) bytes: u64,
    /// How many additions were acknowledged until then.
    pub(crate) n_added: usize,
}

/// What came of a phase.
#[derive(Debug, Default)]
pub(crate) struct Measured {
    pub(crate) searches: Vec<Duration>,
    pub(crate) adds: Vec<Duration>,
    pub(crate) failures: Vec<String>,
    pub(crate) took: Duration,
    /// One each second; none where the system does not tell.
    pub(crate) samples: Vec<Sample>,
    /// How much of their core the clients used, from 0 to 1.
    pub(crate) busy: Option<f64>,
}

/// The clients, and what they have in common.
pub(crate) struct Load {
    shared: Arc<Shared>,
    n_clients: usize,
    process: u32,
}

struct Shared {
    address: String,
    key: String,
    n_users: usize,
    /// The number of the next request of all phases.
    next: AtomicUsize,
    acknowledged: Mutex<Vec<Acknowledged>>,
}

/// The id of a user, which is that of the user's cube too.
pub(crate) fn user(number: usize) -> String {
    format!("user-{number}")
}

/// Stores memories, many at a time, and tells how fast that was.
pub(crate) async fn fill(server: &Serving, n_memories: usize, n_users: usize) -> Result<(), Failure> {
    let mut client = Client::connect(server).await?;
    let begun = Instant::now();
    let numbers: Vec<usize> = (0..n_memories).collect();
    for (place, numbers) in numbers.chunks(FILLED_AT_ONCE).enumerate() {
        let parts: Vec<Value> =
            numbers.iter().map(|number| json!({"type": "text", "text": texts::memory(*number)})).collect();
        let request =
            json!({"user_id": user(place % n_users), "messages": parts, "async_mode": "sync", "mode": "fast"});
        let answer = client.ask("/product/add", &request).await?;
        let n_kept = answer["data"].as_array().map_or(0, Vec::len);
        if n_kept != numbers.len() {
            return Err(format!("of {} memories {n_kept} were kept", numbers.len()).into());
        }
    }
    let rate = n_memories as f64 / begun.elapsed().as_secs_f64();
    println!(
        "{{\"what\": \"filled\", \"memories\": {n_memories}, \"users\": {n_users}, \"memories_per_s\": {rate:.1}}}"
    );
    let question = json!({"user_id": user(0), "query": texts::question(0), "relativity": 0});
    let found = client.ask("/product/search", &question).await?;
    match found["data"]["text_mem"][0]["memories"].as_array() {
        Some(memories) if !memories.is_empty() => Ok(()),
        _ => Err("a search of the memories finds none of them".into()),
    }
}

impl Load {
    pub(crate) fn new(server: &Serving, n_clients: usize, n_users: usize) -> Self {
        let shared = Shared {
            address: server.address().to_owned(),
            key: server.key().to_owned(),
            n_users,
            // Those before are questions that are asked again and again.
            next: AtomicUsize::new(REPEATED),
            acknowledged: Mutex::default(),
        };
        Self { shared: Arc::new(shared), n_clients, process: server.process() }
    }

    /// Returns what was acknowledged in all phases.
    pub(crate) fn acknowledged(&self) -> Vec<Acknowledged> {
        self.shared.acknowledged().clone()
    }

    /// Loads the server for as long as a phase takes. Requests that are under way then are waited for and count.
    pub(crate) async fn run(&self, phase: Phase) -> Result<Measured, Failure> {
        if phase.questions == Questions::Repeated {
            let mut client = self.shared.connect().await?;
            for number in 0..REPEATED {
                self.shared.search(&mut client, 0, number).await?;
            }
        }
        let mut connected = Vec::with_capacity(self.n_clients);
        for _ in 0..self.n_clients {
            connected.push(self.shared.connect().await?);
        }
        let (begun, computed) = (Instant::now(), resident::own_seconds());
        let mut clients = JoinSet::new();
        for client in connected {
            clients.spawn(Arc::clone(&self.shared).work(client, phase, begun));
        }
        let is_over = Arc::new(AtomicBool::new(false));
        let watching = tokio::spawn(watch(Arc::clone(&self.shared), self.process, begun, Arc::clone(&is_over)));
        let mut measured = Measured::default();
        while let Some(of_client) = clients.join_next().await {
            let Measured { searches, adds, failures, .. } = of_client?;
            measured.searches.extend(searches);
            measured.adds.extend(adds);
            measured.failures.extend(failures);
        }
        measured.took = begun.elapsed();
        let took = measured.took.as_secs_f64();
        measured.busy = computed.zip(resident::own_seconds()).map(|(before, after)| (after - before) / took);
        is_over.store(true, Ordering::Relaxed);
        measured.samples = watching.await?;
        Ok(measured)
    }
}

impl Shared {
    fn acknowledged(&self) -> std::sync::MutexGuard<'_, Vec<Acknowledged>> {
        self.acknowledged.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn connect(&self) -> Result<Client, Failure> {
        Client::connect_to(&self.address, &self.key).await
    }

    /// Sends one request after the other until the phase is over.
    async fn work(self: Arc<Self>, mut client: Client, phase: Phase, begun: Instant) -> Measured {
        let mut measured = Measured::default();
        while begun.elapsed() < phase.length && measured.failures.len() < MAX_FAILURES {
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            let is_add = number.is_multiple_of(ADD_EVERY);
            let user = number / ADD_EVERY % self.n_users;
            let sent = Instant::now();
            let asked = match phase.questions {
                _ if is_add => self.add(&mut client, user, number).await,
                Questions::New => self.search(&mut client, user, number).await,
                Questions::Repeated => self.search(&mut client, user, number % REPEATED).await,
            };
            match asked {
                Ok(()) if is_add => measured.adds.push(sent.elapsed()),
                Ok(()) => measured.searches.push(sent.elapsed()),
                Err(failure) => {
                    measured.failures.push(failure.to_string());
                    // The connection may be broken.
                    match self.connect().await {
                        Ok(anew) => client = anew,
                        Err(failure) => measured.failures.push(failure.to_string()),
                    }
                }
            }
        }
        measured
    }

    async fn search(&self, client: &mut Client, of_user: usize, number: usize) -> Result<(), Failure> {
        let request = json!({"user_id": user(of_user), "query": texts::question(number), "relativity": 0});
        client.post("/product/search", &request).await.map(drop)
    }

    async fn add(&self, client: &mut Client, of_user: usize, number: usize) -> Result<(), Failure> {
        let marker = texts::marker(number);
        let content = format!("{}, {marker}", texts::memory(number));
        let messages = json!([{"role": "user", "content": content}]);
        let request = json!({"user_id": user(of_user), "messages": messages, "async_mode": "sync", "mode": "fast"});
        let answer = client.ask("/product/add", &request).await?;
        let id = answer["data"][0]["memory_id"].as_str().ok_or("an addition was answered without an id")?.to_owned();
        self.acknowledged().push(Acknowledged { user: of_user, id, marker });
        Ok(())
    }
}

/// Looks every second what the server takes, until the phase is over.
async fn watch(shared: Arc<Shared>, process: u32, begun: Instant, is_over: Arc<AtomicBool>) -> Vec<Sample> {
    let mut samples = Vec::new();
    loop {
        let n_added = shared.acknowledged().len();
        if let Some(bytes) = resident::bytes(process) {
            samples.push(Sample { at: begun.elapsed(), bytes, n_added });
        }
        if is_over.load(Ordering::Relaxed) {
            return samples;
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}
