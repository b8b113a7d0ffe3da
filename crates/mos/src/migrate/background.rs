//! What waits to be done for a cube, and what the scheduler has noted of it, on their way to another installation.
//!
//! It comes when the memories have come, into a cube that nobody uses yet, and is begun anew by whoever was interrupted: jobs that
//! were brought are known by their ids, and what is there is compared with what was read. A source that is worked on goes on
//! changing; what came is then as it was read last.

use std::collections::{HashMap, HashSet};

use futures::future::try_join_all;
use mos_core::{
    ArchivedJob, ArchivedLog, Expected, FinishedJob, JobId, JobPlace, QueueArchive, Scope, StateArchive, StoreError,
};
use serde::Serialize;
use serde_json::{Value, json};

use super::digest::{Part, tell_apart};
use super::endpoint::Endpoint;
use super::outbox::OnTheWay;
use super::pages::PAGE;
use super::{MigrateOptions, Tell};
use crate::error::{Error, Result};

/// How often it is read anew when the source or the target is worked on.
const MAX_ROUNDS: usize = 3;

/// How many entries of a log are moved at a time: each can be large.
const ENTRIES: usize = 16;

/// How many documents are moved at a time: a store that makes each write durable does so for several at once.
const DOCUMENTS: usize = 32;

/// A document by which it is found out whether two sides are one place.
const PROBE: &str = "migration/probe";

/// What waits to be done for a cube, and what the scheduler has noted of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Background {
    /// Jobs that wait, in their order, with their attempts. Those that a consumer has are among them.
    pub jobs: Part,
    /// Jobs that were given up, with reason and time.
    pub dead: Part,
    /// Ids of jobs that were done and are still known.
    pub finished: Part,
    /// Documents: monitors, states of tasks, answers that are kept.
    pub documents: Part,
    /// Entries of logs, with their numbers, and logs.
    pub entries: Part,
}

impl Background {
    /// How many jobs there are, the dead among them.
    pub fn n_jobs(&self) -> u64 {
        self.jobs.count + self.dead.count
    }

    fn differences(&self, other: &Self) -> Vec<String> {
        tell_apart([
            ("jobs that wait", &self.jobs, &other.jobs),
            ("dead jobs", &self.dead, &other.dead),
            ("finished jobs", &self.finished, &other.finished),
            ("documents", &self.documents, &other.documents),
            ("entries of logs", &self.entries, &other.entries),
        ])
    }

    pub(super) fn add_job(&mut self, archived: &ArchivedJob) {
        let ArchivedJob { job, not_before, death, .. } = archived;
        let not_before_ms = not_before.map(|at| at.as_millisecond());
        // Not every queue tells an empty text from none.
        let last_error = job.last_error.as_deref().filter(|error| !error.is_empty());
        let told = json!([
            [job.id, job.kind, job.payload, job.group, job.priority],
            [job.attempt, job.max_attempts, job.pushed_at.as_millisecond(), last_error, not_before_ms],
        ]);
        match death {
            None => self.jobs.add(&json!([self.jobs.count, told])),
            Some(death) => self.dead.add(&json!([death.reason, death.at.as_millisecond(), told])),
        }
    }

    fn add_finished(&mut self, finished: &FinishedJob) {
        self.finished.add(&json!([finished.id, finished.at.as_millisecond()]));
    }

    fn add_document(&mut self, key: &str, value: &Value) {
        self.documents.add(&json!([key, value]));
    }
}

/// The stores of one side that keep it.
#[derive(Clone, Copy, Debug)]
struct Places<'a> {
    queue: Option<&'a dyn QueueArchive>,
    state: Option<&'a dyn StateArchive>,
}

impl<'a> Places<'a> {
    fn of(endpoint: &'a Endpoint, leave_jobs: bool) -> Self {
        let queue = endpoint.queue.as_deref().filter(|_| !leave_jobs);
        Self {
            queue: queue.and_then(|queue| queue.job_archive()),
            state: endpoint.state.as_deref().and_then(|state| state.state_archive()),
        }
    }
}

/// What both sides keep it in.
pub(super) struct Moving<'a> {
    from: &'a Endpoint,
    to: &'a Endpoint,
    source: Places<'a>,
    target: Places<'a>,
    on_the_way: Option<OnTheWay<'a>>,
    scope: Scope,
}

/// What came.
#[derive(Debug, Default)]
pub(super) struct Brought {
    pub(super) background: Background,
    /// Jobs that the target's queue had no room for, and that stay in the source.
    pub(super) n_jobs_left: usize,
}

impl<'a> Moving<'a> {
    pub(super) fn new(from: &'a Endpoint, to: &'a Endpoint, scope: Scope, options: &MigrateOptions) -> Self {
        let mut source = Places::of(from, options.leave_jobs);
        let mut target = Places::of(to, options.leave_jobs);
        if !to.keeps_jobs {
            target = Places { queue: None, state: None };
        }
        // What one side does not keep stays where it is.
        if source.queue.is_none() || target.queue.is_none() {
            (source.queue, target.queue) = (None, None);
        }
        if source.state.is_none() || target.state.is_none() {
            (source.state, target.state) = (None, None);
        }
        Self { from, to, source, target, on_the_way: OnTheWay::new(from, to, options.leave_jobs), scope }
    }

    /// Returns what the source holds of it.
    ///
    /// # Errors
    /// [`StoreError`] when it cannot be read.
    pub(super) async fn look(&self, tell: &mut Tell<'_>) -> Result<Background> {
        let shared = Places { queue: None, state: None };
        let places = if self.from.shares_queue(self.to) { shared } else { self.source };
        let mut found = contents(places, &self.scope, tell).await?;
        if let Some(on_the_way) = &self.on_the_way {
            on_the_way.tell(&self.scope, &mut found).await?;
        }
        Ok(found)
    }

    /// Returns how many documents and entries of logs the target has no place for.
    ///
    /// # Errors
    /// [`StoreError`] when the source cannot be read.
    pub(super) async fn n_documents_left(&self, tell: &mut Tell<'_>) -> Result<u64> {
        if self.target.state.is_some() || self.from.shares_queue(self.to) {
            return Ok(0);
        }
        let state = self.from.state.as_deref().and_then(|state| state.state_archive());
        let left = contents(Places { queue: None, state }, &self.scope, tell).await?;
        Ok(left.documents.count + left.entries.count)
    }

    /// Makes the target's the source's, and returns what it holds.
    ///
    /// # Errors
    /// [`Error::Invalid`] when what has come does not stay as it came; errors of the stores.
    pub(super) async fn bring(&self, tell: &mut Tell<'_>) -> Result<Brought> {
        if self.is_one_place().await? {
            return self.bring_what_is_on_its_way(Background::default()).await;
        }
        let mut differences = Vec::new();
        for round in 1..=MAX_ROUNDS {
            tell.part("jobs");
            self.empty().await?;
            let Some(Brought { background: sent, n_jobs_left }) = self.copy(tell).await? else { continue };
            tell.part("comparing jobs");
            let there = contents(self.target, &self.scope, tell).await?;
            differences = sent.differences(&there);
            // A source that is worked on has something else by now, however often it is read.
            let is_last = round == MAX_ROUNDS || n_jobs_left > 0;
            if differences.is_empty() && (is_last || self.look(tell).await? == sent) {
                return Ok(Brought { background: there, n_jobs_left });
            }
        }
        Err(Error::Invalid(format!(
            "what waits to be done for cube `{}` does not stay in {} as it comes ({}): somebody works on it there, or on {}, all the \
             time. End the programs that handle jobs on both sides, and run the same command again; the cube stays unregistered",
            self.scope.cube,
            self.to.name,
            if differences.is_empty() { "a log was shortened".to_owned() } else { differences.join(", ") },
            self.from.name
        )))
    }

    /// Adds to the target, which is in use, what it does not know, and returns that.
    ///
    /// # Errors
    /// Errors of the stores.
    pub(super) async fn add_missing(&self, tell: &mut Tell<'_>) -> Result<Brought> {
        let mut added = Background::default();
        if !self.is_one_place().await? {
            tell.part("jobs");
            self.copy_jobs(&mut added, tell).await?;
            self.copy_documents(&mut added, Expected::Absent).await?;
            self.add_logs(&mut added).await?;
        }
        self.bring_what_is_on_its_way(added).await
    }

    /// Copies jobs that the source's queue has not got yet: to one queue of both sides, too.
    async fn bring_what_is_on_its_way(&self, mut background: Background) -> Result<Brought> {
        let n_jobs_left = match &self.on_the_way {
            Some(on_the_way) => on_the_way.copy(&self.scope, &mut background).await?,
            None => 0,
        };
        Ok(Brought { background, n_jobs_left })
    }

    /// Whether both sides keep it in one place, perhaps under two names: then it is there already.
    async fn is_one_place(&self) -> Result<bool> {
        if self.from.shares_queue(self.to) {
            return Ok(true);
        }
        let are_servers = self.from.queue_place.is_some() && self.to.queue_place.is_some();
        let (Some(source), Some(target)) = (self.source.state, self.target.state) else { return Ok(false) };
        if !are_servers {
            return Ok(false);
        }
        let names = json!([self.from.name, self.to.name]);
        target.write(&self.scope, PROBE, &names, Expected::Anything).await?;
        let seen = source.read(&self.scope, PROBE).await;
        target.remove(&self.scope, PROBE).await?;
        Ok(seen?.is_some_and(|document| document.value == names))
    }

    /// Removes from the target what an interrupted call has brought, and jobs of an earlier cube of the id, though none come.
    async fn empty(&self) -> Result<()> {
        if let Some(queue) = &self.to.queue {
            queue.remove_tenant(&self.scope).await?;
        }
        if let Some(state) = self.target.state {
            state.remove_scope(&self.scope).await?;
        }
        Ok(())
    }

    /// Copies everything; returns what has come, or nothing when a log was shortened meanwhile.
    async fn copy(&self, tell: &mut Tell<'_>) -> Result<Option<Brought>> {
        let mut sent = Background::default();
        self.copy_jobs(&mut sent, tell).await?;
        tell.part("documents");
        self.copy_documents(&mut sent, Expected::Anything).await?;
        let is_whole = self.copy_logs(&mut sent).await?;
        let brought = self.bring_what_is_on_its_way(sent).await?;
        Ok(is_whole.then_some(brought))
    }

    async fn copy_jobs(&self, sent: &mut Background, tell: &mut Tell<'_>) -> Result<()> {
        let (Some(source), Some(target)) = (self.source.queue, self.target.queue) else { return Ok(()) };
        let (mut after, mut n_done): (Option<JobPlace>, u64) = (None, 0);
        loop {
            let page = source.archived_jobs(&self.scope, after, PAGE).await?;
            let Some(last) = page.last() else { break };
            after = Some(last.place);
            let receipt = target.import_jobs(&self.scope, page.clone()).await?;
            let new: HashSet<JobId> = receipt.new.into_iter().collect();
            page.iter().filter(|archived| new.contains(&archived.job.id)).for_each(|archived| sent.add_job(archived));
            n_done += page.len() as u64;
            tell.done(n_done);
        }
        let mut after: Option<FinishedJob> = None;
        loop {
            let page = source.archived_finished(&self.scope, after.as_ref(), PAGE).await?;
            if page.is_empty() {
                return Ok(());
            }
            after = page.last().cloned();
            let receipt = target.import_finished(&self.scope, page.clone()).await?;
            let new: HashSet<JobId> = receipt.new.into_iter().collect();
            page.iter().filter(|finished| new.contains(&finished.id)).for_each(|finished| sent.add_finished(finished));
        }
    }

    async fn copy_documents(&self, sent: &mut Background, expected: Expected) -> Result<()> {
        let (Some(source), Some(target)) = (self.source.state, self.target.state) else { return Ok(()) };
        let mut after: Option<String> = None;
        loop {
            let keys = source.keys(&self.scope, "", after.as_deref(), PAGE).await?;
            let Some(last) = keys.last() else { return Ok(()) };
            after = Some(last.clone());
            for part in keys.chunks(DOCUMENTS) {
                let copying = part.iter().map(|key| self.copy_document(source, target, key, expected));
                for (key, copied) in part.iter().zip(try_join_all(copying).await?) {
                    if let Some(value) = copied {
                        sent.add_document(key, &value);
                    }
                }
            }
        }
    }

    /// Copies a document and returns what it says; nothing when it is gone, or another one is there that is not to be replaced.
    async fn copy_document(
        &self,
        source: &dyn StateArchive,
        target: &dyn StateArchive,
        key: &str,
        expected: Expected,
    ) -> Result<Option<Value>> {
        let Some(document) = source.read(&self.scope, key).await? else { return Ok(None) };
        match target.write(&self.scope, key, &document.value, expected).await {
            Ok(_) => Ok(Some(document.value)),
            // What is there is in use, and newer.
            Err(StoreError::Conflict(_)) if expected == Expected::Absent => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Copies all logs; returns whether they have come whole.
    async fn copy_logs(&self, sent: &mut Background) -> Result<bool> {
        let (Some(source), Some(target)) = (self.source.state, self.target.state) else { return Ok(true) };
        let mut is_whole = true;
        for log in all_logs(source, &self.scope).await? {
            is_whole &= self.copy_log(source, target, &log, None, &mut sent.entries).await?;
        }
        Ok(is_whole)
    }

    /// Copies logs that the target does not know, and goes on with those that an interrupted call has begun.
    async fn add_logs(&self, added: &mut Background) -> Result<()> {
        let (Some(source), Some(target)) = (self.source.state, self.target.state) else { return Ok(()) };
        let known: HashMap<String, u64> =
            all_logs(target, &self.scope).await?.into_iter().map(|log| (log.name, log.last)).collect();
        for log in all_logs(source, &self.scope).await? {
            let reached = match known.get(&log.name) {
                None => None,
                Some(last) if *last >= log.last => continue,
                // Begun, and nothing came.
                Some(_) if target.entries(&self.scope, &log.name, 0, 1).await?.is_empty() => None,
                Some(last) if self.is_beginning(source, target, &log.name).await? => Some(*last),
                // What is there is in use, and its own.
                Some(_) => continue,
            };
            // A log that was shortened meanwhile comes in part, and what it had then is gone from both sides.
            self.copy_log(source, target, &log, reached, &mut added.entries).await?;
        }
        Ok(())
    }

    /// Whether the entries that the target has of a log are those of the source, as far as this one still has them: so an
    /// interrupted call leaves it, and nobody has added others since.
    async fn is_beginning(&self, source: &dyn StateArchive, target: &dyn StateArchive, log: &str) -> Result<bool> {
        let kept = source.entries(&self.scope, log, 0, 1).await?;
        let Some(mut after) = kept.first().map(|entry| entry.sequence.saturating_sub(1)) else { return Ok(false) };
        let mut has_common = false;
        loop {
            let there = target.entries(&self.scope, log, after, ENTRIES).await?;
            let (Some(first), Some(last)) = (there.first(), there.last()) else { return Ok(has_common) };
            let before_first = first.sequence.saturating_sub(1);
            if source.entries(&self.scope, log, before_first, there.len()).await? != there {
                return Ok(false);
            }
            (after, has_common) = (last.sequence, true);
        }
    }

    /// Copies a log with the numbers of its entries: anew, or those after the one that was reached. Returns whether none was
    /// dropped while it was read.
    async fn copy_log(
        &self,
        source: &dyn StateArchive,
        target: &dyn StateArchive,
        log: &ArchivedLog,
        reached: Option<u64>,
        sent: &mut Part,
    ) -> Result<bool> {
        let mut last = reached;
        loop {
            let entries = source.entries(&self.scope, &log.name, last.unwrap_or_default(), ENTRIES).await?;
            let Some(first) = entries.first().map(|entry| entry.sequence) else { break };
            match last {
                None => target.begin_log(&self.scope, &log.name, first.saturating_sub(1)).await?,
                Some(last) if last + 1 != first => return Ok(false),
                Some(_) => {}
            }
            let mut values = Vec::with_capacity(entries.len());
            for entry in entries {
                sent.add(&json!([log.name, entry.sequence, entry.value]));
                last = Some(entry.sequence);
                values.push(entry.value);
            }
            target.append(&self.scope, &log.name, &values, usize::MAX).await?;
        }
        if last.is_none() {
            target.begin_log(&self.scope, &log.name, log.last).await?;
        }
        sent.add(&json!([log.name, last.unwrap_or(log.last)]));
        Ok(true)
    }
}

/// Returns all logs of a scope. There are few: one per part of the scheduler.
async fn all_logs(state: &dyn StateArchive, scope: &Scope) -> std::result::Result<Vec<ArchivedLog>, StoreError> {
    let mut all: Vec<ArchivedLog> = Vec::new();
    loop {
        let page = state.logs(scope, all.last().map(|log| log.name.as_str()), PAGE).await?;
        if page.is_empty() {
            return Ok(all);
        }
        all.extend(page);
    }
}

/// Reads all that one side holds.
async fn contents(
    places: Places<'_>,
    scope: &Scope,
    tell: &mut Tell<'_>,
) -> std::result::Result<Background, StoreError> {
    let mut contents = Background::default();
    if let Some(queue) = places.queue {
        let mut after: Option<JobPlace> = None;
        loop {
            let page = queue.archived_jobs(scope, after, PAGE).await?;
            let Some(last) = page.last() else { break };
            after = Some(last.place);
            page.iter().for_each(|archived| contents.add_job(archived));
            tell.done(contents.n_jobs());
        }
        let mut after: Option<FinishedJob> = None;
        loop {
            let page = queue.archived_finished(scope, after.as_ref(), PAGE).await?;
            if page.is_empty() {
                break;
            }
            after = page.last().cloned();
            page.iter().for_each(|finished| contents.add_finished(finished));
        }
    }
    let Some(state) = places.state else { return Ok(contents) };
    let mut after: Option<String> = None;
    loop {
        let keys = state.keys(scope, "", after.as_deref(), PAGE).await?;
        let Some(last) = keys.last() else { break };
        after = Some(last.clone());
        for key in &keys {
            if let Some(document) = state.read(scope, key).await? {
                contents.add_document(key, &document.value);
            }
        }
    }
    for log in all_logs(state, scope).await? {
        let mut last: Option<u64> = None;
        loop {
            let entries = state.entries(scope, &log.name, last.unwrap_or_default(), ENTRIES).await?;
            let Some(end) = entries.last() else { break };
            last = Some(end.sequence);
            for entry in &entries {
                contents.entries.add(&json!([log.name, entry.sequence, entry.value]));
            }
        }
        contents.entries.add(&json!([log.name, last.unwrap_or(log.last)]));
    }
    Ok(contents)
}
