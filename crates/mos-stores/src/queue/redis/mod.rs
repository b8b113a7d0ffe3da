//! Jobs on a Redis server (7.0 or later), shared by the processes of several machines.
//!
//! A tenant's unfinished jobs are the entries of a stream, those in the hands of consumers are pending in the stream's
//! consumer group `workers`, and the dead ones are the entries of a second stream; `XINFO`, `XPENDING` and `XRANGE` show
//! them. Which job is next is told by sorted sets beside the stream (time, priority, order in a group, turn of the
//! tenant), because a group on its own delivers in the order of arrival only. Therefore jobs are claimed with `XCLAIM`,
//! stale ones too: `XAUTOCLAIM` knows one idle time for all, but each claim has a lease of its own.
//!
//! Invariant: every change is one script, which the server runs alone and whole. All keys begin with `{prefix}:queue`,
//! so they lie in one slot of a cluster; names in them are encoded, so no name can reach another's keys.

mod archive;
mod connection;
mod fault;
mod key;
mod script;
mod state;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use mos_core::queue::MAX_CLAIMED_AT_ONCE;
use mos_core::{
    ClaimRequest, Claimed, Clock, DeadJob, Failed, Job, JobId, JobQueue, JobState, NewJob, Page, Paging, PushReceipt,
    QueueArchive, QueueStats, Scope, StoreError, Ticket,
};
use redis::{FromRedisValue, Value};

pub use connection::RedisOptions;
pub use state::RedisState;

use super::archive::PreparedArchivedJob;
use super::{
    Bell, QueueLimits, check_request, damaged, ended, lease_ms, moment, payload_to_show, prepare_jobs, round_up_to_ms,
    short_reason, unreadable,
};
use connection::{Connection, Repeat};
use fault::BACKEND;
use key::{decode, encode};
use script::Scripts;

/// A hundred years: the server refuses times that do not fit.
const MAX_EXPIRY_MS: u128 = 100 * 365 * 24 * 3600 * 1000;

/// A queue of jobs on a Redis server.
pub struct RedisQueue {
    connection: Connection,
    scripts: Scripts,
    limits: QueueLimits,
    clock: Arc<dyn Clock>,
    bell: Bell,
}

impl fmt::Debug for RedisQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisQueue").field("connection", &self.connection).finish_non_exhaustive()
    }
}

impl RedisQueue {
    /// Connects to the server and checks that it can keep jobs. Leases are told by `clock`: the clocks of all processes
    /// that share the queue must agree to much less than a lease.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] when the server cannot be reached or refuses the password; [`StoreError::Invalid`]
    /// when it is too old, or set up so that it would drop jobs.
    pub async fn open(options: RedisOptions, clock: Arc<dyn Clock>) -> Result<Arc<Self>, StoreError> {
        let limits = options.limits.clone();
        let connection = Connection::open(options, "queue").await?;
        Ok(Arc::new(Self { connection, scripts: Scripts::new(), limits, clock, bell: Bell::default() }))
    }

    fn now_ms(&self) -> i64 {
        self.clock.now().as_millisecond()
    }

    async fn call<T: FromRedisValue>(
        &self,
        script: &redis::Script,
        arguments: Vec<String>,
        repeat: Repeat,
    ) -> Result<T, StoreError> {
        self.connection.call(script, &arguments, repeat).await
    }

    /// Tenant, id and claim: the first arguments of every script that takes a ticket.
    fn ticket_arguments(ticket: &Ticket) -> Vec<String> {
        vec![encode(ticket.scope.cube.as_str()), ticket.id.to_string(), ticket.claim.to_string()]
    }

    fn id_arguments(&self, scope: &Scope, ids: &[JobId]) -> Vec<String> {
        let mut arguments = vec![encode(scope.cube.as_str()), self.now_ms().to_string()];
        arguments.extend(ids.iter().map(JobId::to_string));
        arguments
    }

    /// Reads jobs that were given; those that cannot be read die.
    async fn take(&self, rows: &[Vec<String>]) -> Result<Vec<Claimed>, StoreError> {
        let mut claimed = Vec::with_capacity(rows.len());
        for row in rows {
            match parse_claimed(row)? {
                Ok(one) => claimed.push(one),
                Err((ticket, reason)) => {
                    self.fail(&ticket, &reason, None).await?;
                }
            }
        }
        Ok(claimed)
    }

    fn forgotten_until(&self) -> String {
        self.limits.forgotten_until(self.now_ms()).to_string()
    }
}

/// Names and values of a stream entry's fields.
struct Fields<'a> {
    values: &'a [String],
}

impl Fields<'_> {
    fn find(&self, name: &str) -> Option<&str> {
        let pair = self.values.chunks_exact(2).find(|pair| pair[0] == name)?;
        Some(&pair[1])
    }

    fn text(&self, name: &str) -> Result<&str, StoreError> {
        self.find(name).ok_or_else(|| damaged(self.find("id").unwrap_or("?"), &format!("it has no field `{name}`")))
    }

    fn number<T: std::str::FromStr>(&self, name: &str) -> Result<T, StoreError> {
        let text = self.text(name)?;
        text.parse().map_err(|_| damaged(self.find("id").unwrap_or("?"), &format!("its field `{name}` is no number")))
    }

    fn job(&self, scope: Scope, attempt: u32, error: &str, payload: serde_json::Value) -> Result<Job, StoreError> {
        let not_empty = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        Ok(Job {
            scope,
            id: JobId::new(self.text("id")?),
            kind: self.text("kind")?.to_owned(),
            payload,
            group: not_empty(self.text("group")?),
            priority: self.number("priority")?,
            attempt,
            max_attempts: self.number("max_attempts")?,
            pushed_at: moment(self.number("pushed_ms")?),
            last_error: not_empty(error),
        })
    }
}

fn unexpected(script: &str) -> StoreError {
    StoreError::Backend {
        backend: BACKEND,
        source: format!(
            "the script `{script}` gave an answer of another form; another program changed the queue's keys"
        )
        .into(),
    }
}

/// A claimed job, or the ticket of one that cannot be read and why.
fn parse_claimed(row: &[String]) -> Result<Result<Claimed, (Ticket, String)>, StoreError> {
    let [tenant, ends, claim, attempt, error, fields @ ..] = row else { return Err(unexpected("claim")) };
    let number = |text: &String| text.parse::<i64>().map_err(|_| unexpected("claim"));
    let fields = Fields { values: fields };
    let scope = Scope { cube: decode(tenant).as_str().into() };
    let claim = number(claim)?.unsigned_abs();
    let ticket = Ticket { scope: scope.clone(), id: JobId::new(fields.text("id")?), claim };
    let payload = match serde_json::from_str(fields.text("payload")?) {
        Ok(payload) => payload,
        Err(error) => return Ok(Err((ticket, unreadable(&error)))),
    };
    let attempt = u32::try_from(number(attempt)?).map_err(|_| unexpected("claim"))?;
    let job = fields.job(scope, attempt, error, payload)?;
    Ok(Ok(Claimed { job, ticket, until: moment(number(ends)?) }))
}

fn parse_dead(scope: &Scope, values: &[String]) -> Result<DeadJob, StoreError> {
    let fields = Fields { values };
    let payload = payload_to_show(fields.text("payload")?);
    let error = fields.find("error").unwrap_or_default();
    let job = fields.job(scope.clone(), fields.number("attempt")?, error, payload)?;
    Ok(DeadJob { job, reason: fields.text("reason")?.to_owned(), died_at: moment(fields.number("died_ms")?) })
}

#[async_trait]
impl JobQueue for RedisQueue {
    async fn push(&self, scope: &Scope, jobs: Vec<NewJob>) -> Result<PushReceipt, StoreError> {
        let (jobs, now_ms) = (prepare_jobs(jobs, &self.limits)?, self.now_ms());
        let jobs = jobs.into_iter().map(|job| PreparedArchivedJob::pushed(job, now_ms)).collect();
        self.push_prepared(scope, jobs).await
    }

    async fn claim(&self, request: &ClaimRequest) -> Result<Vec<Claimed>, StoreError> {
        let (limit, lease_ms) = check_request(request)?;
        let now_ms = self.now_ms();
        let mut arguments = vec![
            now_ms.to_string(),
            limit.to_string(),
            now_ms.saturating_add(lease_ms).to_string(),
            request.consumer.clone(),
            super::MAX_WOKEN_PER_CLAIM.to_string(),
        ];
        for (cube, weight) in request.weights.iter() {
            arguments.extend([encode(cube.as_str()), weight.to_string()]);
        }
        let rows: Vec<Vec<String>> = self.call(&self.scripts.claim, arguments, Repeat::Never).await?;
        self.take(&rows).await
    }

    async fn claim_following(
        &self,
        ticket: &Ticket,
        limit: usize,
        lease: Duration,
    ) -> Result<Vec<Claimed>, StoreError> {
        let (lease_ms, now_ms) = (lease_ms(lease)?, self.now_ms());
        let mut arguments = Self::ticket_arguments(ticket);
        arguments.extend([now_ms.to_string(), limit.min(MAX_CLAIMED_AT_ONCE).to_string()]);
        arguments.push(now_ms.saturating_add(lease_ms).to_string());
        let rows: Option<Vec<Vec<String>>> = self.call(&self.scripts.claim_following, arguments, Repeat::Never).await?;
        self.take(&rows.ok_or_else(|| ended(ticket))?).await
    }

    async fn extend(&self, ticket: &Ticket, lease: Duration) -> Result<Timestamp, StoreError> {
        let ends_ms = self.now_ms().saturating_add(lease_ms(lease)?);
        let mut arguments = Self::ticket_arguments(ticket);
        arguments.push(ends_ms.to_string());
        let holds: bool = self.call(&self.scripts.extend, arguments, Repeat::Safe).await?;
        if holds { Ok(moment(ends_ms)) } else { Err(ended(ticket)) }
    }

    async fn complete(&self, ticket: &Ticket) -> Result<(), StoreError> {
        let mut arguments = Self::ticket_arguments(ticket);
        arguments.extend([self.now_ms().to_string(), self.forgotten_until()]);
        arguments.push(self.limits.max_finished_ids.to_string());
        arguments.push(self.limits.finished_age.as_millis().min(MAX_EXPIRY_MS).to_string());
        let holds: bool = self.call(&self.scripts.complete, arguments, Repeat::Safe).await?;
        self.bell.ring();
        if holds { Ok(()) } else { Err(ended(ticket)) }
    }

    async fn release(&self, ticket: &Ticket) -> Result<(), StoreError> {
        let mut arguments = Self::ticket_arguments(ticket);
        arguments.push(self.now_ms().to_string());
        let holds: bool = self.call(&self.scripts.release, arguments, Repeat::Never).await?;
        self.bell.ring();
        if holds { Ok(()) } else { Err(ended(ticket)) }
    }

    async fn fail(&self, ticket: &Ticket, reason: &str, retry_at: Option<Timestamp>) -> Result<Failed, StoreError> {
        let mut arguments = Self::ticket_arguments(ticket);
        let retry_ms = retry_at.map(|at| round_up_to_ms(at).to_string());
        arguments.extend([self.now_ms().to_string(), short_reason(reason).to_owned(), retry_ms.unwrap_or_default()]);
        let became: i64 = self.call(&self.scripts.fail, arguments, Repeat::Never).await?;
        self.bell.ring();
        match became {
            1 => Ok(Failed::Waits),
            2 => Ok(Failed::Dead),
            _ => Err(ended(ticket)),
        }
    }

    async fn find(&self, scope: &Scope, id: &JobId) -> Result<Option<JobState>, StoreError> {
        let arguments = vec![encode(scope.cube.as_str()), id.to_string(), self.forgotten_until()];
        let found: Vec<String> = self.call(&self.scripts.find, arguments, Repeat::Safe).await?;
        let [stage, text, ends] = found.as_slice() else { return Ok(None) };
        Ok(Some(match stage.as_str() {
            "claimed" => {
                let until = moment(ends.parse().map_err(|_| unexpected("find"))?);
                JobState::Claimed { consumer: text.clone(), until }
            }
            "dead" => JobState::Dead { reason: text.clone() },
            "finished" => JobState::Finished,
            _ => JobState::Waiting,
        }))
    }

    async fn remove(&self, scope: &Scope, ids: &[JobId]) -> Result<usize, StoreError> {
        let n_removed = self.call(&self.scripts.remove, self.id_arguments(scope, ids), Repeat::Never).await?;
        self.bell.ring();
        Ok(n_removed)
    }

    async fn dead(&self, scope: &Scope, paging: Paging) -> Result<Page<DeadJob>, StoreError> {
        // Larger numbers than these are no longer exact on the server, and no list is that long.
        let bound = |number: usize| number.min(1 << 50).to_string();
        let arguments = vec![encode(scope.cube.as_str()), bound(paging.offset), bound(paging.limit)];
        let answer: Vec<Value> = self.call(&self.scripts.dead, arguments, Repeat::Safe).await?;
        let Some((Value::Int(total), rows)) = answer.split_first() else { return Err(unexpected("dead")) };
        let parse = |row: &Value| {
            let values = Vec::<String>::from_redis_value_ref(row).map_err(|_| unexpected("dead"))?;
            parse_dead(scope, &values)
        };
        let entries = rows.iter().map(parse).collect::<Result<_, _>>()?;
        Ok(Page { entries, total: total.unsigned_abs() as usize })
    }

    async fn retry_dead(&self, scope: &Scope, ids: &[JobId]) -> Result<usize, StoreError> {
        let n_back = self.call(&self.scripts.retry_dead, self.id_arguments(scope, ids), Repeat::Never).await?;
        self.bell.ring();
        Ok(n_back)
    }

    async fn stats(&self, scope: &Scope) -> Result<QueueStats, StoreError> {
        let arguments = vec![encode(scope.cube.as_str())];
        let answer: Vec<i64> = self.call(&self.scripts.stats, arguments, Repeat::Safe).await?;
        let [waiting, claimed, dead, ref oldest @ ..] = *answer.as_slice() else { return Err(unexpected("stats")) };
        let count = |number: i64| number.unsigned_abs() as usize;
        let oldest = oldest.first().map(|ms| moment(*ms));
        Ok(QueueStats { waiting: count(waiting), claimed: count(claimed), dead: count(dead), oldest })
    }

    async fn tenants(&self) -> Result<Vec<Scope>, StoreError> {
        let names: Vec<String> = self.call(&self.scripts.tenants, Vec::new(), Repeat::Safe).await?;
        let mut scopes: Vec<Scope> = names.iter().map(|name| Scope { cube: decode(name).as_str().into() }).collect();
        scopes.sort();
        Ok(scopes)
    }

    async fn remove_tenant(&self, scope: &Scope) -> Result<usize, StoreError> {
        let n_removed =
            self.call(&self.scripts.remove_tenant, vec![encode(scope.cube.as_str())], Repeat::Never).await?;
        self.bell.ring();
        Ok(n_removed)
    }

    async fn next_ready_at(&self) -> Result<Option<Timestamp>, StoreError> {
        let arguments = vec![self.now_ms().to_string()];
        let answer: Vec<i64> = self.call(&self.scripts.next_ready, arguments, Repeat::Safe).await?;
        Ok(answer.first().map(|ms| moment(*ms)))
    }

    async fn wait(&self, timeout: Duration) -> Result<(), StoreError> {
        self.bell.wait(self, &*self.clock, timeout).await
    }

    fn job_archive(&self) -> Option<&dyn QueueArchive> {
        Some(self)
    }
}
