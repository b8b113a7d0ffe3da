//! Waiting until the work for a user is done.

use std::sync::OnceLock;
use std::time::Duration;

use futures::stream::BoxStream;
use mos_core::{IdSource, RandomIds, UserId};
use serde::Serialize;
use tokio::time::{Instant, sleep};

use super::app::Product;
use super::error::ProductResult;
use super::frames::{Out, frames};
use super::reply::Reply;

/// The longest that one request waits, in seconds.
const MAX_WAIT: f64 = 600.0;

/// How often it is looked, in seconds: not so often that looking is work.
const POLL: std::ops::RangeInclusive<f64> = 0.5..=30.0;

request! {
    /// Waits until nothing is to be done for a user.
    pub struct SchedulerWaitRequest as SchedulerWaitRequest {
        /// Whose work: the id of the user.
        required user_name: String;
        /// How long at most; never longer than 600.
        #[schema(required = false, default = 120.0)]
        default timeout_seconds: f64 = 120.0;
        /// How often it is looked: every so many seconds, from 0.5 to 30.
        #[schema(required = false, default = 0.5)]
        default poll_interval: f64 = 0.5;
    }
}

/// How waiting ended.
#[derive(Clone, Debug, PartialEq, Serialize, utoipa::ToSchema)]
pub struct Waited {
    /// How many messages were not done.
    pub running_tasks: usize,
    /// How long it took.
    pub waited_seconds: f64,
    /// Whether the time was up.
    pub timed_out: bool,
    /// Whose work.
    pub user_name: String,
}

/// A frame of waiting. Its JSON is what a server writes behind `data: `, followed by an empty line.
#[derive(Clone, Debug, Default, PartialEq, Serialize, utoipa::ToSchema)]
pub struct WaitFrame {
    /// Whose work.
    pub user_name: String,
    /// How many messages are not done.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub active_tasks: Option<usize>,
    /// How long it has taken.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub elapsed_seconds: Option<f64>,
    /// `running`; at the end `idle`, `timeout` or `error`.
    pub status: String,
    /// Names the process that answers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instance_id: Option<String>,
    /// Whether the time was up; at the end only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timed_out: Option<bool>,
    /// Of an error `stream_failed`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// What went wrong, without internals.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exception: Option<String>,
}

/// Frames of waiting as they come. Dropping it ends the waiting.
pub type WaitStream = BoxStream<'static, WaitFrame>;

/// Whose work, how long, and how often it is looked.
#[derive(Debug)]
struct Waiting {
    user: UserId,
    timeout: Duration,
    poll: Duration,
}

impl Product {
    /// Waits until nothing is to be done for a user, or the time is up. What was given up counts as done.
    ///
    /// # Errors
    /// [`ProductError`](super::ProductError): 403 for another user; store errors.
    pub async fn scheduler_wait(&self, request: SchedulerWaitRequest) -> ProductResult<Reply<Waited>> {
        let waiting = self.waiting(&request)?;
        let begun = Instant::now();
        loop {
            let running_tasks = self.n_open(&waiting.user).await?;
            let timed_out = running_tasks > 0 && begun.elapsed() >= waiting.timeout;
            if running_tasks == 0 || timed_out {
                let waited_seconds = begun.elapsed().as_secs_f64();
                let message = if timed_out { "timeout" } else { "idle" };
                let user_name = request.user_name;
                return Ok(Reply::new(message, Waited { running_tasks, waited_seconds, timed_out, user_name }));
            }
            sleep(waiting.pause(begun)).await;
        }
    }

    /// As [`Product::scheduler_wait`], and tells what is left each time it looks.
    ///
    /// # Errors
    /// [`ProductError`](super::ProductError): 403 for another user. What the stores meet is a frame.
    pub async fn scheduler_wait_stream(&self, request: SchedulerWaitRequest) -> ProductResult<WaitStream> {
        let waiting = self.waiting(&request)?;
        let this = self.clone();
        Ok(frames(move |out| async move {
            if let Err(error) = this.tell_waiting(&waiting, &out).await {
                let frame = WaitFrame {
                    user_name: waiting.user.to_string(),
                    status: "error".to_owned(),
                    detail: Some("stream_failed".to_owned()),
                    exception: Some(error.message),
                    ..WaitFrame::default()
                };
                out.send(frame).await;
            }
        }))
    }

    async fn tell_waiting(&self, waiting: &Waiting, out: &Out<WaitFrame>) -> ProductResult<()> {
        let begun = Instant::now();
        loop {
            let active = self.n_open(&waiting.user).await?;
            let timed_out = active > 0 && begun.elapsed() >= waiting.timeout;
            let status = match (active, timed_out) {
                (0, _) => "idle",
                (_, true) => "timeout",
                (_, false) => "running",
            };
            let is_over = status != "running";
            let frame = WaitFrame {
                user_name: waiting.user.to_string(),
                active_tasks: Some(active),
                elapsed_seconds: Some(begun.elapsed().as_secs_f64()),
                status: status.to_owned(),
                instance_id: Some(instance_id().to_owned()),
                timed_out: is_over.then_some(timed_out),
                ..WaitFrame::default()
            };
            out.send(frame).await;
            if is_over {
                return Ok(());
            }
            sleep(waiting.pause(begun)).await;
        }
    }

    fn waiting(&self, request: &SchedulerWaitRequest) -> ProductResult<Waiting> {
        let user = self.watched(&request.user_name)?;
        Ok(Waiting {
            user,
            timeout: Duration::from_secs_f64(request.timeout_seconds.clamp(0.0, MAX_WAIT)),
            poll: Duration::from_secs_f64(request.poll_interval.clamp(*POLL.start(), *POLL.end())),
        })
    }
}

impl Waiting {
    /// How long until it is looked again: never beyond the end.
    fn pause(&self, begun: Instant) -> Duration {
        let left = self.timeout.saturating_sub(begun.elapsed());
        self.poll.min(left).max(Duration::from_millis(1))
    }
}

/// Names this process, for people who look at several.
fn instance_id() -> &'static str {
    static INSTANCE: OnceLock<String> = OnceLock::new();
    INSTANCE.get_or_init(|| RandomIds.next_uuid())
}
