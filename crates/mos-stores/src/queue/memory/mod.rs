//! The queue in memory: the same behaviour, forgotten at the end of the process.

mod archive;
mod claims;
mod moves;
mod reading;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use mos_core::{Job, JobId, PushReceipt, Scope, StoreError};

use super::archive::PreparedArchivedJob;
use super::{PreparedJob, QueueLimits, full};

#[derive(Debug)]
enum Stage {
    /// Behind another job of its group.
    Blocked,
    /// Until its time has come.
    Delayed,
    Ready,
    Claimed {
        claim: u64,
        consumer: String,
        until_ms: i64,
    },
    Dead {
        reason: String,
        died_ms: i64,
    },
}

#[derive(Debug)]
struct Entry {
    job: Job,
    not_before_ms: i64,
    stage: Stage,
}

/// The unfinished jobs of a group. At most the first one is ready or delayed, and only while none is claimed.
#[derive(Debug, Default)]
struct Group {
    members: BTreeSet<u64>,
    n_claimed: usize,
}

/// One tenant. Jobs are named by numbers that count up over all tenants: the order in which they were pushed.
#[derive(Debug, Default)]
struct Tenant {
    jobs: BTreeMap<u64, Entry>,
    numbers: HashMap<JobId, u64>,
    groups: HashMap<String, Group>,
    ready: BTreeSet<(Reverse<u8>, u64)>,
    /// In the order they died.
    dead: Vec<u64>,
    /// By whose claim a job was finished, and when.
    finished: HashMap<JobId, (u64, i64)>,
    finished_order: VecDeque<(i64, JobId)>,
    /// Its place among those that have a ready job.
    turn: Option<u64>,
    /// The jobs that it was given in its turn.
    given: u32,
}

/// All jobs of all tenants.
#[derive(Debug, Default)]
pub(crate) struct QueueState {
    tenants: HashMap<Scope, Tenant>,
    /// When something happens by itself: a delayed job becomes ready, a lease is over.
    due: BTreeSet<(i64, u64, Scope)>,
    /// Tenants with a ready job, the one served longest ago first.
    line: BTreeMap<u64, Scope>,
    last_number: u64,
    last_claim: u64,
    last_turn: u64,
}

fn next(counter: &mut u64) -> u64 {
    *counter += 1;
    *counter
}

impl QueueState {
    /// Whether the tenant has room for those of `jobs` that are new to it.
    pub(crate) fn check_room(
        &self,
        scope: &Scope,
        jobs: &[PreparedJob],
        limits: &QueueLimits,
        now_ms: i64,
    ) -> Result<(), StoreError> {
        self.check_room_of(scope, jobs.iter().map(|job| &job.id), limits, now_ms)
    }

    fn check_room_of<'a>(
        &self,
        scope: &Scope,
        ids: impl Iterator<Item = &'a JobId>,
        limits: &QueueLimits,
        now_ms: i64,
    ) -> Result<(), StoreError> {
        let tenant = self.tenants.get(scope);
        let until_ms = limits.forgotten_until(now_ms);
        let is_known = |id: &JobId| tenant.is_some_and(|tenant| tenant.knows(id, until_ms));
        let new: BTreeSet<&JobId> = ids.filter(|id| !is_known(id)).collect();
        let n_held = tenant.map_or(0, |tenant| tenant.jobs.len());
        if !new.is_empty() && n_held + new.len() > limits.max_jobs_per_tenant {
            return Err(full(scope, limits.max_jobs_per_tenant, tenant.map_or(0, |tenant| tenant.dead.len())));
        }
        Ok(())
    }

    pub(crate) fn push(
        &mut self,
        scope: &Scope,
        jobs: Vec<PreparedJob>,
        limits: &QueueLimits,
        now_ms: i64,
    ) -> Result<PushReceipt, StoreError> {
        let jobs = jobs.into_iter().map(|job| PreparedArchivedJob::pushed(job, now_ms)).collect();
        self.import_jobs(scope, jobs, limits, now_ms)
    }
}

impl Tenant {
    fn knows(&self, id: &JobId, forgotten_until_ms: i64) -> bool {
        self.numbers.contains_key(id) || self.finished.get(id).is_some_and(|(_, at_ms)| *at_ms > forgotten_until_ms)
    }

    fn forget_finished(&mut self, limits: &QueueLimits, now_ms: i64) {
        let until_ms = limits.forgotten_until(now_ms);
        while let Some((at_ms, id)) = self.finished_order.front()
            && (*at_ms <= until_ms || self.finished_order.len() > limits.max_finished_ids)
        {
            self.finished.remove(id);
            self.finished_order.pop_front();
        }
    }
}
