//! The queue in memory: the same behaviour, forgotten at the end of the process.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use mos_core::{
    ClaimRequest, Claimed, DeadJob, Failed, Job, JobId, JobState, Page, Paging, PushReceipt, QueueStats, Scope,
    StoreError, Ticket,
};

use super::{
    MAX_WOKEN_PER_CLAIM, PreparedJob, QueueLimits, Sorting, damaged, ended, full, lease_over, moment, short_reason,
    silent,
};

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
        let tenant = self.tenants.get(scope);
        let until_ms = limits.forgotten_until(now_ms);
        let is_known = |id: &JobId| tenant.is_some_and(|tenant| tenant.knows(id, until_ms));
        let new: BTreeSet<&JobId> = jobs.iter().map(|job| &job.id).filter(|id| !is_known(id)).collect();
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
        self.check_room(scope, &jobs, limits, now_ms)?;
        let mut sorting = Sorting::default();
        for job in jobs {
            let tenant = self.tenants.entry(scope.clone()).or_default();
            tenant.forget_finished(limits, now_ms);
            let is_new = !tenant.knows(&job.id, limits.forgotten_until(now_ms));
            sorting.note(&job.id, is_new);
            if is_new {
                let payload = serde_json::from_str(&job.payload)
                    .map_err(|error| damaged(job.id.as_str(), &format!("its payload cannot be read: {error}")))?;
                let whole = Job {
                    scope: scope.clone(),
                    id: job.id,
                    kind: job.kind,
                    payload,
                    group: job.group,
                    priority: job.priority,
                    attempt: 0,
                    max_attempts: job.max_attempts,
                    pushed_at: moment(now_ms),
                    last_error: None,
                };
                self.insert(whole, job.not_before_ms, now_ms);
            }
        }
        Ok(sorting.receipt)
    }

    fn insert(&mut self, job: Job, not_before_ms: i64, now_ms: i64) {
        let number = next(&mut self.last_number);
        let scope = job.scope.clone();
        let tenant = self.tenants.entry(scope.clone()).or_default();
        tenant.numbers.insert(job.id.clone(), number);
        let is_blocked = job.group.as_ref().is_some_and(|group| {
            let members = &mut tenant.groups.entry(group.clone()).or_default().members;
            members.insert(number);
            members.len() > 1
        });
        tenant.jobs.insert(number, Entry { job, not_before_ms, stage: Stage::Blocked });
        if !is_blocked {
            self.admit(&scope, number, now_ms);
        }
    }

    /// A job that nothing is in front of becomes ready, or waits for its time.
    fn admit(&mut self, scope: &Scope, number: u64, now_ms: i64) {
        let Some(tenant) = self.tenants.get_mut(scope) else { return };
        let Some(entry) = tenant.jobs.get_mut(&number) else { return };
        if entry.not_before_ms > now_ms {
            entry.stage = Stage::Delayed;
            self.due.insert((entry.not_before_ms, number, scope.clone()));
            return;
        }
        entry.stage = Stage::Ready;
        tenant.ready.insert((Reverse(entry.job.priority), number));
        if tenant.turn.is_none() {
            let turn = next(&mut self.last_turn);
            tenant.turn = Some(turn);
            self.line.insert(turn, scope.clone());
        }
    }

    /// A tenant without a ready job leaves the line. Called after a ready job became something else, and after the one
    /// behind it in its group may have become ready: the tenant keeps its place then.
    fn leave_line(&mut self, scope: &Scope) {
        if let Some(tenant) = self.tenants.get_mut(scope)
            && tenant.ready.is_empty()
            && let Some(turn) = tenant.turn.take()
        {
            self.line.remove(&turn);
            tenant.given = 0;
        }
    }

    /// Takes a job out of whatever it waits in or is claimed by. It is blocked then, and stays in its group.
    fn withdraw(&mut self, scope: &Scope, number: u64) {
        let Some(tenant) = self.tenants.get_mut(scope) else { return };
        let Some(entry) = tenant.jobs.get_mut(&number) else { return };
        match std::mem::replace(&mut entry.stage, Stage::Blocked) {
            Stage::Blocked => {}
            Stage::Delayed => {
                self.due.remove(&(entry.not_before_ms, number, scope.clone()));
            }
            Stage::Ready => {
                tenant.ready.remove(&(Reverse(entry.job.priority), number));
            }
            Stage::Claimed { until_ms, .. } => {
                self.due.remove(&(until_ms, number, scope.clone()));
                if let Some(group) = entry.job.group.as_ref().and_then(|group| tenant.groups.get_mut(group)) {
                    group.n_claimed -= 1;
                }
            }
            Stage::Dead { .. } => tenant.dead.retain(|dead| *dead != number),
        }
    }

    /// A job leaves its group, and the next one may go.
    fn leave_group(&mut self, scope: &Scope, number: u64, now_ms: i64) {
        let Some(tenant) = self.tenants.get_mut(scope) else { return };
        let Some(name) = tenant.jobs.get(&number).and_then(|entry| entry.job.group.clone()) else { return };
        let Some(group) = tenant.groups.get_mut(&name) else { return };
        group.members.remove(&number);
        if group.members.is_empty() {
            tenant.groups.remove(&name);
        }
        self.let_next_go(scope, &name, now_ms);
    }

    /// The first job of a group may go, unless a consumer has one of the group.
    fn let_next_go(&mut self, scope: &Scope, group: &str, now_ms: i64) {
        let Some(tenant) = self.tenants.get(scope) else { return };
        let free = tenant.groups.get(group).filter(|group| group.n_claimed == 0);
        let Some(head) = free.and_then(|group| group.members.first().copied()) else { return };
        if matches!(tenant.jobs.get(&head), Some(Entry { stage: Stage::Blocked, .. })) {
            self.admit(scope, head, now_ms);
        }
    }

    /// A job that was withdrawn waits again, at its place in its group.
    fn wait_again(&mut self, scope: &Scope, number: u64, now_ms: i64) {
        let entry = self.tenants.get(scope).and_then(|tenant| tenant.jobs.get(&number));
        match entry.and_then(|entry| entry.job.group.clone()) {
            Some(group) => self.let_next_go(scope, &group, now_ms),
            None => self.admit(scope, number, now_ms),
        }
    }

    fn bury(&mut self, scope: &Scope, number: u64, reason: String, now_ms: i64) {
        self.withdraw(scope, number);
        self.leave_group(scope, number, now_ms);
        let Some(tenant) = self.tenants.get_mut(scope) else { return };
        if let Some(entry) = tenant.jobs.get_mut(&number) {
            entry.stage = Stage::Dead { reason, died_ms: now_ms };
            tenant.dead.push(number);
        }
    }

    /// Takes a job out of the queue.
    fn take(&mut self, scope: &Scope, number: u64, now_ms: i64) -> Option<Entry> {
        let is_dead = matches!(self.tenants.get(scope)?.jobs.get(&number)?.stage, Stage::Dead { .. });
        self.withdraw(scope, number);
        if !is_dead {
            self.leave_group(scope, number, now_ms);
            self.leave_line(scope);
        }
        let tenant = self.tenants.get_mut(scope)?;
        let entry = tenant.jobs.remove(&number)?;
        tenant.numbers.remove(&entry.job.id);
        Some(entry)
    }

    /// Everything whose time has come: delayed jobs become ready, and what a silent consumer had does again.
    fn wake(&mut self, now_ms: i64) {
        for _ in 0..MAX_WOKEN_PER_CLAIM {
            let Some((_, number, scope)) = self.due.first().filter(|(at, ..)| *at <= now_ms).cloned() else { return };
            let entry = self.tenants.get_mut(&scope).and_then(|tenant| tenant.jobs.get_mut(&number));
            let silent_one = match entry {
                Some(Entry { job, stage: Stage::Claimed { consumer, .. }, .. }) => {
                    job.last_error = Some(lease_over(consumer));
                    (job.attempt >= job.max_attempts).then(|| silent(consumer, job.attempt))
                }
                _ => None,
            };
            match silent_one {
                Some(reason) => self.bury(&scope, number, reason, now_ms),
                None => {
                    self.withdraw(&scope, number);
                    self.wait_again(&scope, number, now_ms);
                }
            }
        }
    }

    pub(crate) fn claim(&mut self, request: &ClaimRequest, limit: usize, lease_ms: i64, now_ms: i64) -> Vec<Claimed> {
        self.wake(now_ms);
        let mut claimed = Vec::new();
        while claimed.len() < limit
            && let Some((&turn, scope)) = self.line.first_key_value()
        {
            let scope = scope.clone();
            let Some((_, number)) = self.tenants.get(&scope).and_then(|tenant| tenant.ready.first().copied()) else {
                self.line.remove(&turn);
                continue;
            };
            self.withdraw(&scope, number);
            self.leave_line(&scope);
            claimed.extend(self.give(&scope, number, &request.consumer, now_ms.saturating_add(lease_ms)));
            self.end_turn(&scope, request.weights.of(&scope.cube));
        }
        claimed
    }

    /// Gives the holder of a claim those that follow it in its group: of its kind, as long as each is ready.
    pub(crate) fn claim_following(
        &mut self,
        ticket: &Ticket,
        limit: usize,
        lease_ms: i64,
        now_ms: i64,
    ) -> Result<Vec<Claimed>, StoreError> {
        let number = self.held(ticket)?;
        let Some((consumer, following)) = self.following(&ticket.scope, number, limit, now_ms) else {
            return Ok(Vec::new());
        };
        let until_ms = now_ms.saturating_add(lease_ms);
        let give = |number| self.give(&ticket.scope, number, &consumer, until_ms);
        Ok(following.into_iter().filter_map(give).collect())
    }

    /// The consumer of a claimed job of a group, and the jobs behind it that could be given with it, in their order.
    fn following(&self, scope: &Scope, number: u64, limit: usize, now_ms: i64) -> Option<(String, Vec<u64>)> {
        let tenant = self.tenants.get(scope)?;
        let held = tenant.jobs.get(&number)?;
        let Stage::Claimed { consumer, .. } = &held.stage else { return None };
        let group = tenant.groups.get(held.job.group.as_ref()?)?;
        let is_ready = |number: &u64| {
            tenant.jobs.get(number).is_some_and(|entry| {
                matches!(entry.stage, Stage::Blocked)
                    && entry.not_before_ms <= now_ms
                    && entry.job.kind == held.job.kind
            })
        };
        let behind = group.members.range(number + 1..).copied();
        Some((consumer.clone(), behind.take(limit).take_while(is_ready).collect()))
    }

    fn give(&mut self, scope: &Scope, number: u64, consumer: &str, until_ms: i64) -> Option<Claimed> {
        let claim = next(&mut self.last_claim);
        let tenant = self.tenants.get_mut(scope)?;
        let entry = tenant.jobs.get_mut(&number)?;
        if let Some(group) = entry.job.group.as_ref().and_then(|group| tenant.groups.get_mut(group)) {
            group.n_claimed += 1;
        }
        entry.job.attempt += 1;
        entry.stage = Stage::Claimed { claim, consumer: consumer.to_owned(), until_ms };
        self.due.insert((until_ms, number, scope.clone()));
        let ticket = Ticket { scope: scope.clone(), id: entry.job.id.clone(), claim };
        Some(Claimed { job: entry.job.clone(), ticket, until: moment(until_ms) })
    }

    /// A tenant that was served as often as its weight says goes to the end of the line.
    fn end_turn(&mut self, scope: &Scope, weight: u32) {
        let Some(tenant) = self.tenants.get_mut(scope) else { return };
        tenant.given += 1;
        if tenant.turn.is_some() && tenant.given < weight {
            return;
        }
        tenant.given = 0;
        if let Some(turn) = tenant.turn {
            self.line.remove(&turn);
            let turn = next(&mut self.last_turn);
            tenant.turn = Some(turn);
            self.line.insert(turn, scope.clone());
        }
    }

    /// Returns the number of the job that a ticket is for.
    fn held(&self, ticket: &Ticket) -> Result<u64, StoreError> {
        let tenant = self.tenants.get(&ticket.scope).ok_or_else(|| ended(ticket))?;
        let number = tenant.numbers.get(&ticket.id).ok_or_else(|| ended(ticket))?;
        match tenant.jobs.get(number).map(|entry| &entry.stage) {
            Some(Stage::Claimed { claim, .. }) if *claim == ticket.claim => Ok(*number),
            _ => Err(ended(ticket)),
        }
    }

    pub(crate) fn extend(&mut self, ticket: &Ticket, lease_ms: i64, now_ms: i64) -> Result<i64, StoreError> {
        let number = self.held(ticket)?;
        let new_ms = now_ms.saturating_add(lease_ms);
        let entry = self.tenants.get_mut(&ticket.scope).and_then(|tenant| tenant.jobs.get_mut(&number));
        if let Some(Entry { stage: Stage::Claimed { until_ms, .. }, .. }) = entry {
            self.due.remove(&(*until_ms, number, ticket.scope.clone()));
            *until_ms = new_ms;
            self.due.insert((new_ms, number, ticket.scope.clone()));
        }
        Ok(new_ms)
    }

    pub(crate) fn complete(&mut self, ticket: &Ticket, limits: &QueueLimits, now_ms: i64) -> Result<(), StoreError> {
        let by = self.tenants.get(&ticket.scope).and_then(|tenant| tenant.finished.get(&ticket.id));
        let until_ms = limits.forgotten_until(now_ms);
        if by.is_some_and(|(claim, at_ms)| *claim == ticket.claim && *at_ms > until_ms) {
            return Ok(());
        }
        let number = self.held(ticket)?;
        self.take(&ticket.scope, number, now_ms);
        if let Some(tenant) = self.tenants.get_mut(&ticket.scope) {
            tenant.finished.insert(ticket.id.clone(), (ticket.claim, now_ms));
            tenant.finished_order.push_back((now_ms, ticket.id.clone()));
            tenant.forget_finished(limits, now_ms);
        }
        Ok(())
    }

    pub(crate) fn release(&mut self, ticket: &Ticket, now_ms: i64) -> Result<(), StoreError> {
        let number = self.held(ticket)?;
        self.withdraw(&ticket.scope, number);
        let entry = self.tenants.get_mut(&ticket.scope).and_then(|tenant| tenant.jobs.get_mut(&number));
        if let Some(entry) = entry {
            entry.job.attempt -= 1;
        }
        self.wait_again(&ticket.scope, number, now_ms);
        Ok(())
    }

    pub(crate) fn fail(
        &mut self,
        ticket: &Ticket,
        reason: &str,
        retry_ms: Option<i64>,
        now_ms: i64,
    ) -> Result<Failed, StoreError> {
        let number = self.held(ticket)?;
        let reason = short_reason(reason).to_owned();
        let Some(entry) = self.tenants.get_mut(&ticket.scope).and_then(|tenant| tenant.jobs.get_mut(&number)) else {
            return Err(ended(ticket));
        };
        entry.job.last_error = Some(reason.clone());
        match retry_ms.filter(|_| entry.job.attempt < entry.job.max_attempts) {
            None => {
                self.bury(&ticket.scope, number, reason, now_ms);
                Ok(Failed::Dead)
            }
            Some(retry_ms) => {
                entry.not_before_ms = retry_ms;
                self.withdraw(&ticket.scope, number);
                self.wait_again(&ticket.scope, number, now_ms);
                Ok(Failed::Waits)
            }
        }
    }

    pub(crate) fn find(&self, scope: &Scope, id: &JobId, forgotten_until_ms: i64) -> Option<JobState> {
        let tenant = self.tenants.get(scope)?;
        let Some(number) = tenant.numbers.get(id) else {
            return tenant.knows(id, forgotten_until_ms).then_some(JobState::Finished);
        };
        Some(match &tenant.jobs.get(number)?.stage {
            Stage::Blocked | Stage::Delayed | Stage::Ready => JobState::Waiting,
            Stage::Claimed { consumer, until_ms, .. } => {
                JobState::Claimed { consumer: consumer.clone(), until: moment(*until_ms) }
            }
            Stage::Dead { reason, .. } => JobState::Dead { reason: reason.clone() },
        })
    }

    fn number_where(&self, scope: &Scope, id: &JobId, is_meant: impl Fn(&Stage) -> bool) -> Option<u64> {
        let tenant = self.tenants.get(scope)?;
        let number = tenant.numbers.get(id)?;
        tenant.jobs.get(number).filter(|entry| is_meant(&entry.stage)).map(|_| *number)
    }

    pub(crate) fn remove(&mut self, scope: &Scope, ids: &[JobId], now_ms: i64) -> usize {
        let mut n_removed = 0;
        for id in ids {
            if let Some(number) = self.number_where(scope, id, |stage| !matches!(stage, Stage::Claimed { .. })) {
                n_removed += usize::from(self.take(scope, number, now_ms).is_some());
            }
        }
        n_removed
    }

    pub(crate) fn dead(&self, scope: &Scope, paging: Paging) -> Page<DeadJob> {
        let Some(tenant) = self.tenants.get(scope) else { return Page { entries: Vec::new(), total: 0 } };
        let read = |number: &u64| match tenant.jobs.get(number) {
            Some(Entry { job, stage: Stage::Dead { reason, died_ms }, .. }) => {
                Some(DeadJob { job: job.clone(), reason: reason.clone(), died_at: moment(*died_ms) })
            }
            _ => None,
        };
        let entries = tenant.dead.iter().skip(paging.offset).take(paging.limit).filter_map(read).collect();
        Page { entries, total: tenant.dead.len() }
    }

    pub(crate) fn retry_dead(&mut self, scope: &Scope, ids: &[JobId], now_ms: i64) -> usize {
        let mut n_back = 0;
        for id in ids {
            let number = self.number_where(scope, id, |stage| matches!(stage, Stage::Dead { .. }));
            if let Some(entry) = number.and_then(|number| self.take(scope, number, now_ms)) {
                self.insert(Job { attempt: 0, pushed_at: moment(now_ms), ..entry.job }, 0, now_ms);
                n_back += 1;
            }
        }
        n_back
    }

    pub(crate) fn stats(&self, scope: &Scope) -> QueueStats {
        let Some(tenant) = self.tenants.get(scope) else { return QueueStats::default() };
        let is_dead = |entry: &&Entry| matches!(entry.stage, Stage::Dead { .. });
        let claimed = tenant.jobs.values().filter(|entry| matches!(entry.stage, Stage::Claimed { .. })).count();
        let dead = tenant.dead.len();
        let oldest = tenant.jobs.values().filter(|entry| !is_dead(entry)).map(|entry| entry.job.pushed_at).min();
        QueueStats { waiting: tenant.jobs.len() - claimed - dead, claimed, dead, oldest }
    }

    pub(crate) fn tenants(&self) -> Vec<Scope> {
        let with_jobs = self.tenants.iter().filter(|(_, tenant)| !tenant.jobs.is_empty());
        let mut scopes: Vec<Scope> = with_jobs.map(|(scope, _)| scope.clone()).collect();
        scopes.sort();
        scopes
    }

    pub(crate) fn remove_tenant(&mut self, scope: &Scope) -> usize {
        let Some(tenant) = self.tenants.remove(scope) else { return 0 };
        self.due.retain(|(_, _, of)| of != scope);
        if let Some(turn) = tenant.turn {
            self.line.remove(&turn);
        }
        tenant.jobs.len()
    }

    /// Returns when something can be claimed: `now_ms` when it can at once.
    pub(crate) fn next_ready_ms(&self, now_ms: i64) -> Option<i64> {
        if !self.line.is_empty() {
            return Some(now_ms);
        }
        self.due.first().map(|(at, ..)| *at)
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
