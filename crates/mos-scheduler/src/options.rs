//! How much the scheduler does at once, and for how long.

use std::time::Duration;

use mos_core::Weights;

/// How a scheduler works. The defaults suit one process.
#[derive(Clone, Debug, PartialEq)]
pub struct SchedulerOptions {
    /// Batches that are handled at the same time.
    pub workers: usize,
    /// Messages of a batch, at most.
    pub batch: usize,
    /// How long a consumer has a message before it must say that it is still at work.
    pub lease: Duration,
    /// How long one batch may take.
    pub limit: Duration,
    /// How often a message is tried.
    pub max_attempts: u32,
    /// How long a message waits before its second attempt; each further wait is four times as long. With the defaults a message
    /// is tried for a quarter of an hour: longer than a server takes to start again.
    pub first_retry: Duration,
    /// The longest such wait.
    pub longest_retry: Duration,
    /// How long [`Scheduler::stop`](crate::Scheduler::stop) waits for what is being handled.
    pub drain: Duration,
    /// For how much of that time it waits for further attempts of what failed, where the queue ends with the process.
    pub drain_retries: Duration,
    /// Whether the queue outlives the process. If not, stopping handles what waits first.
    pub is_durable: bool,
    /// Labels whose messages are refused; those that were in the queue before are handled.
    pub disabled: Vec<String>,
    /// Tasks of the application that are remembered of a cube, at least 1. Beyond it those that have ended are forgotten, the
    /// oldest first.
    pub kept_tasks: usize,
    /// The name of this consumer.
    pub consumer: String,
    /// How many batches in a row a cube is given before it is the next one's turn, when it is more than one. Others can be set
    /// later on: [`Scheduler::set_weights`](crate::Scheduler::set_weights).
    pub weights: Weights,
}

impl Default for SchedulerOptions {
    fn default() -> Self {
        Self {
            workers: 4,
            batch: 3,
            lease: Duration::from_secs(60),
            limit: Duration::from_secs(600),
            max_attempts: 8,
            first_retry: Duration::from_secs(1),
            longest_retry: Duration::from_secs(300),
            drain: Duration::from_secs(30),
            drain_retries: Duration::from_secs(30),
            is_durable: true,
            disabled: Vec::new(),
            kept_tasks: 20_000,
            consumer: "scheduler".to_owned(),
            weights: Weights::default(),
        }
    }
}

impl SchedulerOptions {
    /// How long a message waits after its attempt number `attempt`, from 1.
    pub fn retry_after(&self, attempt: u32) -> Duration {
        let factor = 4_u32.saturating_pow(attempt.saturating_sub(1));
        self.first_retry.saturating_mul(factor).min(self.longest_retry)
    }
}
