//! `mos scheduler ...`: what waits, what happened, and a program that handles messages.

use std::collections::BTreeMap;
use std::time::Duration;

use clap::{Args, Subcommand};
use mos::Mos;
use mos::scheduler::{LabelMetrics, RecordedEvent, Scheduler, Stopped};
use mos_core::{CubeId, DeadJob, Paging, QueueStats, Scope, UserId};
use serde::Serialize;
use serde_json::{Value, json};

use crate::context::Context;

/// Events that are read at a time.
const PAGE: usize = 200;

/// How often it is looked for new events, which other programs may write.
const LOOK: Duration = Duration::from_millis(500);

/// Messages that were given up, of which the reasons are printed.
const SHOWN_GIVEN_UP: usize = 50;

#[derive(Debug, Subcommand)]
pub(crate) enum SchedulerCommand {
    /// Print how many messages wait and are being handled, and which were given up and why.
    Status,
    /// Print what happened to the memories of a cube because of the user, oldest first.
    Events(EventsArguments),
    /// Have messages handled again that were given up.
    Retry {
        /// Their ids, as `status` prints them.
        #[arg(required_unless_present = "all", conflicts_with = "all", value_name = "ID")]
        ids: Vec<String>,
        /// All that were given up.
        #[arg(long)]
        all: bool,
    },
    /// Handle the messages of all cubes until Ctrl-C; what is being handled then may end.
    Run {
        /// End when nothing waits any more.
        #[arg(long)]
        until_idle: bool,
    },
}

#[derive(Debug, Args)]
pub(crate) struct EventsArguments {
    /// Only events after this number.
    #[arg(long, value_name = "N", default_value_t = 0)]
    after: u64,

    /// Wait for further events, until Ctrl-C.
    #[arg(long)]
    follow: bool,
}

pub(super) async fn run(context: &Context, command: SchedulerCommand) -> anyhow::Result<()> {
    // Whoever asks for it means it, whatever the settings say of other programs.
    let mut context = context.clone();
    context.settings.enable_mem_scheduler = true;
    let mos = context.open().await?;
    let scheduler = mos.require_scheduler()?;
    match command {
        SchedulerCommand::Status => status(&context, &mos, &scheduler).await,
        SchedulerCommand::Events(arguments) => events(&context, &mos, &scheduler, &arguments).await,
        SchedulerCommand::Retry { ids, all } => retry(&context, &mos, &scheduler, ids, all).await,
        SchedulerCommand::Run { until_idle } => work(&context, &mos, &scheduler, until_idle).await,
    }
}

/// The cube that is meant; the user must have a right to it.
async fn cube_of(context: &Context, mos: &Mos) -> anyhow::Result<CubeId> {
    let cube = match &context.cube {
        Some(cube) => cube.clone(),
        None => mos.default_cube(&context.user).await?,
    };
    Ok(mos.cube(&context.user, &cube).await?.info().cube_id.clone())
}

/// Where the messages of a cube stand.
#[derive(Debug, Serialize)]
struct Status {
    cube_id: CubeId,
    waiting: usize,
    in_progress: usize,
    /// When the oldest of both was sent.
    oldest: Option<String>,
    n_given_up: usize,
    /// The first of them.
    given_up: Vec<GivenUp>,
    handlers: Vec<String>,
}

#[derive(Debug, Serialize)]
struct GivenUp {
    item_id: String,
    label: String,
    attempts: u32,
    at: String,
    reason: String,
}

impl GivenUp {
    /// Reasons may quote what was said: those of messages of others who use a shared cube are theirs.
    fn shown_to(user: &UserId, dead: DeadJob) -> Self {
        let DeadJob { job, reason, died_at } = dead;
        let is_own = job.payload["user_id"].as_str() == Some(user.as_str());
        let reason = if is_own { reason } else { "its user is told why".to_owned() };
        Self { item_id: job.id.to_string(), label: job.kind, attempts: job.attempt, at: died_at.to_string(), reason }
    }
}

async fn status(context: &Context, mos: &Mos, scheduler: &Scheduler) -> anyhow::Result<()> {
    let cube_id = cube_of(context, mos).await?;
    let scope = Scope::of(&cube_id);
    let QueueStats { waiting, claimed, oldest, .. } = scheduler.queue_status(&scope).await?;
    let dead = scheduler.given_up(&scope, Paging { offset: 0, limit: SHOWN_GIVEN_UP }).await?;
    let status = Status {
        cube_id,
        waiting,
        in_progress: claimed,
        oldest: oldest.map(|at| at.to_string()),
        n_given_up: dead.total,
        given_up: dead.entries.into_iter().map(|dead| GivenUp::shown_to(&context.user, dead)).collect(),
        handlers: scheduler.handlers(),
    };
    context.output.value(&status, told)
}

/// The status for people.
fn told(status: &Status) -> String {
    let since = status.oldest.as_ref().map(|at| format!(" (the oldest since {at})")).unwrap_or_default();
    let mut lines = vec![format!(
        "cube {}: {} waiting, {} in progress{since}, {} given up",
        status.cube_id, status.waiting, status.in_progress, status.n_given_up
    )];
    lines.extend(status.given_up.iter().map(|dead| {
        let GivenUp { item_id, label, attempts, at, reason } = dead;
        format!("given up: {item_id} ({label}, {attempts} attempts, {at}): {reason}")
    }));
    if status.n_given_up > status.given_up.len() {
        lines.push(format!("... and {} more", status.n_given_up - status.given_up.len()));
    }
    if status.n_given_up > 0 {
        lines.push("`mos scheduler retry ID` has one handled again".to_owned());
    }
    lines.join("\n")
}

async fn events(
    context: &Context,
    mos: &Mos,
    scheduler: &Scheduler,
    arguments: &EventsArguments,
) -> anyhow::Result<()> {
    let scope = Scope::of(&cube_of(context, mos).await?);
    let mut after = arguments.after;
    let mut interrupted = Box::pin(interrupted());
    loop {
        let page = scheduler.events().events(&scope, after, PAGE).await?;
        for event in &page {
            after = event.sequence;
            // Events quote questions and answers: those of the others who use a shared cube are theirs.
            if event.event.user_id != context.user {
                continue;
            }
            match context.output.json {
                true => context.output.json_line(&json_of(event))?,
                false => context.output.line(&line_of(event))?,
            }
        }
        if !page.is_empty() {
            continue;
        }
        if !arguments.follow {
            return Ok(());
        }
        tokio::select! {
            () = &mut interrupted => return Ok(()),
            () = tokio::time::sleep(LOOK) => {}
        }
    }
}

fn json_of(event: &RecordedEvent) -> Value {
    json!({"sequence": event.sequence, "event": event.event})
}

fn line_of(event: &RecordedEvent) -> String {
    let RecordedEvent { sequence, event } = event;
    let text = event.log_content.split_whitespace().collect::<Vec<_>>().join(" ");
    let moved = match (&event.from_memory_type, &event.to_memory_type) {
        (Some(from), Some(to)) => format!(" [{from} -> {to}]"),
        _ => String::new(),
    };
    format!("{sequence}\t{}\t{}\t{}{moved}\t{text}", event.timestamp, event.user_id, event.label)
}

async fn retry(context: &Context, mos: &Mos, scheduler: &Scheduler, ids: Vec<String>, all: bool) -> anyhow::Result<()> {
    let scope = Scope::of(&cube_of(context, mos).await?);
    let dead = scheduler.given_up(&scope, Paging::ALL).await?.entries;
    let known: Vec<String> = dead.into_iter().map(|dead| dead.job.id.to_string()).collect();
    let unknown: Vec<&str> = ids.iter().filter(|id| !known.contains(id)).map(String::as_str).collect();
    anyhow::ensure!(
        unknown.is_empty(),
        "no message `{}` was given up in this cube; `mos scheduler status` prints those that were",
        unknown.join("`, `")
    );
    let ids = if all { known } else { ids };
    let n_retried = scheduler.retry(&scope, &ids).await?;
    context.output.value(&json!({"n_retried": n_retried}), |_| {
        format!("{n_retried} messages wait again; `mos scheduler run` handles them, if no other program does")
    })
}

/// Handles messages until it is interrupted, or has nothing to do.
async fn work(context: &Context, mos: &Mos, scheduler: &Scheduler, until_idle: bool) -> anyhow::Result<()> {
    mos.mem_scheduler_on()?;
    if until_idle {
        tokio::select! {
            () = interrupted() => {}
            idle = idle(scheduler) => idle?,
        }
    } else {
        context.output.note("handling messages; Ctrl-C ends");
        interrupted().await;
        context.output.note("ending; what is being handled may end first");
    }
    let stopped = mos.stop().await;
    let Stopped { unfinished, lost } = stopped;
    let metrics = scheduler.metrics();
    context
        .output
        .value(&json!({"metrics": metrics, "unfinished": unfinished, "lost": lost}), |_| summary(&metrics, stopped))
}

async fn idle(scheduler: &Scheduler) -> anyhow::Result<()> {
    while !scheduler.wait_until_idle(Duration::from_secs(60)).await? {}
    Ok(())
}

/// What was handled, for people.
fn summary(metrics: &BTreeMap<String, LabelMetrics>, stopped: Stopped) -> String {
    let mut lines: Vec<String> = metrics
        .iter()
        .map(|(label, counts)| {
            let LabelMetrics { completed, retried, failed, released, seconds, .. } = counts;
            format!(
                "{label}\t{completed} done in {seconds:.1} s, {retried} tried again, {failed} given up, {released} given back"
            )
        })
        .collect();
    if lines.is_empty() {
        lines.push("nothing was handled".to_owned());
    }
    if stopped.unfinished > 0 {
        lines.push(format!("{} batches were broken off; they are handled after the next start", stopped.unfinished));
    }
    if stopped.lost > 0 {
        lines.push(format!("{} messages waited in a queue that ended with this program; they are lost", stopped.lost));
    }
    lines.join("\n")
}

/// Waits until somebody wants the program to end.
async fn interrupted() {
    let interrupt = async {
        if let Err(error) = tokio::signal::ctrl_c().await {
            tracing::warn!(%error, "interrupts cannot be waited for; end the program otherwise");
            std::future::pending::<()>().await;
        }
    };
    #[cfg(unix)]
    let terminate = async {
        match tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()) {
            Ok(mut signal) => drop(signal.recv().await),
            Err(_) => std::future::pending().await,
        }
    };
    #[cfg(not(unix))]
    let terminate = std::future::pending::<()>();
    tokio::select! {
        () = interrupt => {}
        () = terminate => {}
    }
}

#[cfg(test)]
mod tests {
    use mos_core::{Job, JobId};

    use super::*;

    #[test]
    fn a_reason_is_told_to_the_user_of_the_message_only() {
        let at = "2026-01-02T00:00:00Z".parse().unwrap();
        let job = Job {
            scope: Scope::of(&CubeId::from("notes")),
            id: JobId::new("m1"),
            kind: "mem_feedback".to_owned(),
            payload: json!({"user_id": "ann"}),
            group: None,
            priority: 0,
            attempt: 5,
            max_attempts: 5,
            pushed_at: at,
            last_error: None,
        };
        let dead = DeadJob { job, reason: "the model said: Ann lives in Porto".to_owned(), died_at: at };
        let told = GivenUp::shown_to(&UserId::from("ann"), dead.clone());
        assert_eq!((told.attempts, told.reason.as_str()), (5, "the model said: Ann lives in Porto"));
        let other = GivenUp::shown_to(&UserId::from("bob"), dead);
        assert_eq!((other.item_id.as_str(), other.reason.as_str()), ("m1", "its user is told why"));
    }

    #[test]
    fn a_status_tells_what_was_given_up_and_how_to_go_on() {
        let mut status = Status {
            cube_id: CubeId::from("notes"),
            waiting: 2,
            in_progress: 1,
            oldest: Some("2026-01-01T00:00:00Z".to_owned()),
            n_given_up: 0,
            given_up: Vec::new(),
            handlers: Vec::new(),
        };
        let line = "cube notes: 2 waiting, 1 in progress (the oldest since 2026-01-01T00:00:00Z), 0 given up";
        assert_eq!(told(&status), line);
        status.n_given_up = 2;
        status.given_up.push(GivenUp {
            item_id: "m1".to_owned(),
            label: "query".to_owned(),
            attempts: 5,
            at: "2026-01-02T00:00:00Z".to_owned(),
            reason: "no model".to_owned(),
        });
        let text = told(&status);
        assert!(text.contains("given up: m1 (query, 5 attempts, 2026-01-02T00:00:00Z): no model"), "{text}");
        assert!(text.contains("... and 1 more") && text.contains("mos scheduler retry"), "{text}");
    }

    #[test]
    fn a_summary_counts_what_was_done() {
        assert_eq!(summary(&BTreeMap::new(), Stopped::default()), "nothing was handled");
        let counts = LabelMetrics { completed: 3, seconds: 1.5, ..LabelMetrics::default() };
        let text = summary(&BTreeMap::from([("add".to_owned(), counts)]), Stopped { unfinished: 1, lost: 2 });
        assert!(text.starts_with("add\t3 done in 1.5 s") && text.contains("1 batches were broken off"), "{text}");
        assert!(text.ends_with("2 messages waited in a queue that ended with this program; they are lost"), "{text}");
    }
}
