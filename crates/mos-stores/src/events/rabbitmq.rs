//! Messages to an exchange of a RabbitMQ broker.
//!
//! Publishing never waits: messages go into a bounded line, and a task of its own connects, sends them in order and takes
//! them out when the broker has confirmed them. What waits when the broker is away is sent when it is back; what was sent and
//! not confirmed is sent again, so a message can arrive twice, and never out of turn.

mod options;
mod worker;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use lapin::tcp::OwnedTLSConfig;
use lapin::types::ShortString;
use mos_core::StoreError;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

pub use options::{ExchangeType, RabbitOptions};
use worker::Worker;

const BACKEND: &str = "rabbitmq";

/// What became of the messages of a publisher.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Delivered {
    /// Messages that the broker has not confirmed yet.
    pub waiting: usize,
    /// Messages that it confirmed.
    pub confirmed: u64,
    /// Messages that were not sent: there was no room, or the broker refused them again and again.
    pub dropped: u64,
}

/// What the publisher and its task both count.
#[derive(Debug)]
struct Counts {
    waiting: watch::Sender<usize>,
    confirmed: AtomicU64,
    dropped: AtomicU64,
}

impl Counts {
    /// Takes a place in the line; returns whether there was one.
    fn enter(&self, capacity: usize) -> bool {
        self.waiting.send_if_modified(|waiting| {
            let has_room = *waiting < capacity;
            *waiting += usize::from(has_room);
            has_room
        })
    }

    fn leave(&self) {
        self.waiting.send_modify(|waiting| *waiting = waiting.saturating_sub(1));
    }

    fn count_confirmed(&self) {
        self.confirmed.fetch_add(1, Ordering::Relaxed);
        self.leave();
    }

    /// Returns how many were dropped by now.
    fn count_dropped(&self) -> u64 {
        self.dropped.fetch_add(1, Ordering::Relaxed) + 1
    }
}

/// A message in the line.
#[derive(Debug)]
struct Waiting {
    body: Vec<u8>,
    routing_key: ShortString,
}

/// Publishes JSON to an exchange of a RabbitMQ broker, in the background. Ends when it is dropped, with what still waits then;
/// see [`RabbitPublisher::flush`].
pub struct RabbitPublisher {
    sender: mpsc::Sender<Waiting>,
    counts: Arc<Counts>,
    task: JoinHandle<()>,
    address: String,
    capacity: usize,
}

impl RabbitPublisher {
    /// Makes a publisher. The broker is not asked before the first message: whether it can be reached is told in the program's
    /// log then.
    ///
    /// # Errors
    /// [`StoreError::Invalid`] for options that cannot be used, and for a file of certificates that cannot be read.
    pub async fn open(options: RabbitOptions) -> Result<Self, StoreError> {
        let (address, capacity) = (options.address(), options.capacity);
        let (sender, counts, worker) = worker(options).await?;
        let task = tokio::spawn(worker.run());
        Ok(Self { sender, counts, task, address, capacity })
    }

    /// Asks the broker whether messages can be sent to it, and returns where it is. The exchange is made where it is not there.
    ///
    /// # Errors
    /// As [`RabbitPublisher::open`]; [`StoreError::Unavailable`] with what is wrong and what to do.
    pub async fn reach(options: RabbitOptions) -> Result<String, StoreError> {
        let address = options.address();
        let (_sender, _, worker) = worker(options).await?;
        let away = |reason: String| StoreError::Unavailable {
            backend: BACKEND,
            source: format!("RabbitMQ at {address}: {reason}").into(),
        };
        worker.try_once().await.map_err(away)?;
        Ok(address)
    }

    /// Puts a message into the line, in order, and returns at once. It is sent as persistent, of type `application/json`. Where no
    /// queue is bound to the exchange, or none with this key, the broker drops it, as it does for every publisher.
    ///
    /// # Errors
    /// [`StoreError::Full`] when as many wait as may; the message is dropped and counted. [`StoreError::Invalid`] for a routing
    /// key of more than 255 bytes.
    pub fn publish(&self, body: &[u8], routing_key: &str) -> Result<(), StoreError> {
        let routing_key = ShortString::try_new(routing_key)
            .map_err(|_| StoreError::Invalid(format!("the routing key `{routing_key}` has more than 255 bytes")))?;
        if !self.counts.enter(self.capacity) {
            let n_dropped = self.counts.count_dropped();
            return Err(StoreError::Full {
                what: format!("the line of messages to RabbitMQ at {}", self.address),
                limit: self.capacity,
                detail: format!("{n_dropped} were dropped by now; see that the broker can be reached"),
            });
        }
        let sent = self.sender.try_send(Waiting { body: body.to_vec(), routing_key });
        sent.map_err(|_| {
            self.counts.leave();
            self.counts.count_dropped();
            StoreError::Backend { backend: BACKEND, source: "its task in the background has ended".into() }
        })
    }

    /// Returns what became of the messages until now.
    pub fn delivered(&self) -> Delivered {
        Delivered {
            waiting: *self.counts.waiting.borrow(),
            confirmed: self.counts.confirmed.load(Ordering::Relaxed),
            dropped: self.counts.dropped.load(Ordering::Relaxed),
        }
    }

    /// Waits until the broker has confirmed everything that waits; returns whether that was so before `limit`.
    pub async fn flush(&self, limit: Duration) -> bool {
        let mut waiting = self.counts.waiting.subscribe();
        let settled = async { waiting.wait_for(|waiting| *waiting == 0).await.is_ok() };
        tokio::time::timeout(limit, settled).await.unwrap_or(false)
    }
}

impl fmt::Debug for RabbitPublisher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RabbitPublisher").field("address", &self.address).field("delivered", &self.delivered()).finish()
    }
}

impl Drop for RabbitPublisher {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Returns what connects, the line of messages to it, and what both count.
async fn worker(options: RabbitOptions) -> Result<(mpsc::Sender<Waiting>, Arc<Counts>, Worker), StoreError> {
    options.check()?;
    // An error means that a provider of cryptography is installed already, which is all that is needed.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let tls = OwnedTLSConfig { identity: None, cert_chain: certificates(&options).await? };
    let (sender, receiver) = mpsc::channel(options.capacity);
    let waiting = watch::Sender::new(0);
    let counts = Arc::new(Counts { waiting, confirmed: AtomicU64::new(0), dropped: AtomicU64::new(0) });
    let worker = Worker::new(options, tls, receiver, Arc::clone(&counts));
    Ok((sender, counts, worker))
}

/// The certificates of further authorities, as they stand in their file.
async fn certificates(options: &RabbitOptions) -> Result<Option<String>, StoreError> {
    let Some(path) = &options.ca_certificate else { return Ok(None) };
    let unreadable = |error: std::io::Error| {
        StoreError::Invalid(format!(
            "the certificates for RabbitMQ in {} cannot be read: {error}; give a file in PEM form",
            path.display()
        ))
    };
    tokio::fs::read_to_string(path).await.map(Some).map_err(unreadable)
}
