//! The task that has the connection.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use lapin::options::{BasicPublishOptions, ConfirmSelectOptions, ExchangeDeclareOptions};
use lapin::tcp::OwnedTLSConfig;
use lapin::types::{FieldTable, ShortString};
use lapin::{
    BasicProperties, Channel, Confirmation, Connect, Connection, ConnectionProperties, ErrorKind, PublisherConfirm,
};
use tokio::sync::mpsc;

use super::options::RabbitOptions;
use super::{Counts, Waiting};

/// Messages that are sent before the first is confirmed.
const BATCH: usize = 64;
/// Wait after the first failure; doubled with each further one.
const FIRST_WAIT: Duration = Duration::from_millis(500);
const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// How often one message may be refused before the others go on without it.
const MAX_REFUSALS: u32 = 5;
/// AMQP's delivery mode of messages that survive a restart of the broker.
const PERSISTENT: u8 = 2;

// AMQP's codes of what a broker says no to.
const ACCESS_REFUSED: u16 = 403;
const PRECONDITION_FAILED: u16 = 406;
const NOT_ALLOWED: u16 = 530;

/// Why messages were not delivered.
enum Failure {
    /// The broker cannot be used: everything waits.
    Away(String),
    /// It does not take this message.
    Refused(String),
}

/// A connection on which the exchange is known and messages are confirmed.
struct Link {
    connection: Connection,
    channel: Channel,
}

impl Link {
    fn is_usable(&self) -> bool {
        self.connection.status().connected() && self.channel.status().connected()
    }

    async fn send(&self, exchange: &str, message: &Waiting) -> lapin::Result<PublisherConfirm> {
        let properties =
            BasicProperties::default().with_content_type("application/json".into()).with_delivery_mode(PERSISTENT);
        let (exchange, key) = (ShortString::from(exchange), message.routing_key.clone());
        self.channel.basic_publish(exchange, key, BasicPublishOptions::default(), &message.body, properties).await
    }
}

pub(super) struct Worker {
    options: RabbitOptions,
    tls: OwnedTLSConfig,
    receiver: mpsc::Receiver<Waiting>,
    counts: Arc<Counts>,
    /// Taken out of the line and not confirmed yet, in order.
    waiting: VecDeque<Waiting>,
    /// Whether messages go one by one: after a failure, so that what the broker says next is about the first of them.
    is_careful: bool,
    /// How often the first of them was refused.
    n_refusals: u32,
}

impl Worker {
    pub(super) fn new(
        options: RabbitOptions,
        tls: OwnedTLSConfig,
        receiver: mpsc::Receiver<Waiting>,
        counts: Arc<Counts>,
    ) -> Self {
        Self { options, tls, receiver, counts, waiting: VecDeque::new(), is_careful: false, n_refusals: 0 }
    }

    /// Delivers what comes, until the publisher is gone.
    pub(super) async fn run(mut self) {
        let mut link = None;
        let mut n_failures = 0;
        while self.take().await {
            match self.deliver(&mut link).await {
                Ok(()) if n_failures > 0 => {
                    n_failures = 0;
                    tracing::info!(broker = %self.options.address(), "events reach RabbitMQ again");
                }
                Ok(()) => {}
                Err(failure) => {
                    link = None;
                    self.is_careful = true;
                    self.note(failure, n_failures == 0);
                    tokio::time::sleep(wait_after(n_failures)).await;
                    n_failures = n_failures.saturating_add(1);
                }
            }
        }
    }

    /// Waits for something to deliver; returns whether there is.
    async fn take(&mut self) -> bool {
        if self.waiting.is_empty() {
            let mut fresh = Vec::with_capacity(BATCH);
            self.receiver.recv_many(&mut fresh, BATCH).await;
            self.waiting.extend(fresh);
        }
        !self.waiting.is_empty()
    }

    /// Sends what was taken and waits until all of it is confirmed. What is confirmed before a failure is not sent again.
    async fn deliver(&mut self, link: &mut Option<Link>) -> Result<(), Failure> {
        let ready = match link.take().filter(Link::is_usable) {
            Some(ready) => ready,
            None => self.connect().await?,
        };
        let ready = link.insert(ready);
        let n = if self.is_careful { 1 } else { self.waiting.len() };
        let limit = self.options.answer_timeout;
        let mut confirms = Vec::with_capacity(n);
        for message in self.waiting.iter().take(n) {
            let sent = within(limit, ready.send(&self.options.exchange, message)).await;
            confirms.push(sent.map_err(|error| self.of_message(error))?);
        }
        for confirm in confirms {
            match within(limit, confirm).await.map_err(|error| self.of_message(error))? {
                Confirmation::Nack(_) => return Err(Failure::Refused("it says that it did not take it".to_owned())),
                Confirmation::Ack(_) | Confirmation::NotRequested => {
                    self.waiting.pop_front();
                    self.n_refusals = 0;
                    self.counts.count_confirmed();
                }
            }
        }
        self.is_careful = false;
        Ok(())
    }

    /// Connects as for sending, and lets go again; returns why that did not work.
    pub(super) async fn try_once(&self) -> Result<(), String> {
        match self.connect().await {
            Ok(_) => Ok(()),
            Err(Failure::Away(reason) | Failure::Refused(reason)) => Err(reason),
        }
    }

    async fn connect(&self) -> Result<Link, Failure> {
        let uri = self.options.uri.clone();
        let connecting = async {
            let runtime = lapin::runtime::default_runtime()?;
            let properties = ConnectionProperties::default().with_connection_name("mos".into());
            let connection = uri.connect_with_config(properties, self.tls.clone(), runtime).await?;
            let channel = connection.create_channel().await?;
            let durable = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
            let exchange = ShortString::from(self.options.exchange.as_str());
            let kind = self.options.exchange_type.kind();
            channel.exchange_declare(exchange, kind, durable, FieldTable::default()).await?;
            channel.confirm_select(ConfirmSelectOptions::default()).await?;
            Ok::<_, lapin::Error>(Link { connection, channel })
        };
        within(self.options.answer_timeout, connecting).await.map_err(|error| Failure::Away(self.explain(error)))
    }

    /// A failure while messages were being sent.
    fn of_message(&self, error: Option<lapin::Error>) -> Failure {
        // The exchange was declared before, so this is about the message, for example its length.
        match error.as_ref().map(lapin::Error::kind) {
            Some(ErrorKind::ProtocolError(said)) if said.get_id() == PRECONDITION_FAILED => {
                Failure::Refused(said.to_string())
            }
            _ => Failure::Away(self.explain(error)),
        }
    }

    /// Says what is wrong with the broker and what to do; `None` is a broker that does not answer. No text holds a password.
    fn explain(&self, error: Option<lapin::Error>) -> String {
        let Some(error) = error else {
            return "it does not answer in time; check the broker and the network".to_owned();
        };
        let code = match error.kind() {
            ErrorKind::ProtocolError(said) => said.get_id(),
            _ => 0,
        };
        match code {
            ACCESS_REFUSED => format!(
                "it refuses the user name or password, or the user may not use the exchange ({error}); correct them in \
                 the settings, or the user's rights"
            ),
            NOT_ALLOWED => {
                format!("the user may not use the virtual host, or there is none ({error}); correct its name")
            }
            PRECONDITION_FAILED => format!(
                "the exchange `{}` is there with another type, or is not durable ({error}); correct exchange_type, or \
                 choose another exchange_name",
                self.options.exchange
            ),
            _ => format!("{error}; start the broker, or correct its address"),
        }
    }

    /// Tells the log of a failure (of an outage only the beginning), and goes on without a message that is refused for good.
    fn note(&mut self, failure: Failure, is_first: bool) {
        let broker = self.options.address();
        match failure {
            Failure::Away(reason) if is_first => {
                tracing::warn!(%broker, %reason, "events do not reach RabbitMQ; they wait, and are in the event log");
            }
            Failure::Away(reason) => tracing::debug!(%broker, %reason, "events still do not reach RabbitMQ"),
            Failure::Refused(reason) => {
                self.n_refusals += 1;
                if self.n_refusals < MAX_REFUSALS {
                    tracing::debug!(%broker, %reason, "RabbitMQ refuses an event");
                    return;
                }
                self.n_refusals = 0;
                self.waiting.pop_front();
                self.counts.leave();
                let n_dropped = self.counts.count_dropped();
                tracing::warn!(%broker, %reason, n_dropped, "RabbitMQ refuses an event for good; it is in the event log");
            }
        }
    }
}

/// Waits for an answer, not longer than `limit`; the error is `None` then.
async fn within<T>(
    limit: Duration,
    answer: impl Future<Output = lapin::Result<T>> + Send,
) -> Result<T, Option<lapin::Error>> {
    match tokio::time::timeout(limit, answer).await {
        Ok(answer) => answer.map_err(Some),
        Err(_) => Err(None),
    }
}

/// How long to wait after so many failures that came before.
fn wait_after(n_failures: u32) -> Duration {
    FIRST_WAIT.saturating_mul(2_u32.saturating_pow(n_failures)).min(LONGEST_WAIT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_up_to_half_a_minute() {
        let waits: Vec<u64> = (0..8).map(|n| wait_after(n).as_millis() as u64).collect();
        assert_eq!(waits, [500, 1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000]);
        assert_eq!(wait_after(u32::MAX), LONGEST_WAIT);
    }
}
