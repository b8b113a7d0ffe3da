//! How a job goes from one stage to the next, and what that does to its group and to the line of tenants.

use std::cmp::Reverse;

use mos_core::{Job, Scope};

use super::super::{MAX_WOKEN_PER_CLAIM, lease_over, silent};
use super::{Entry, QueueState, Stage, next};

impl QueueState {
    pub(super) fn insert(&mut self, job: Job, not_before_ms: i64, now_ms: i64) {
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
    pub(super) fn leave_line(&mut self, scope: &Scope) {
        if let Some(tenant) = self.tenants.get_mut(scope)
            && tenant.ready.is_empty()
            && let Some(turn) = tenant.turn.take()
        {
            self.line.remove(&turn);
            tenant.given = 0;
        }
    }

    /// Takes a job out of whatever it waits in or is claimed by. It is blocked then, and stays in its group.
    pub(super) fn withdraw(&mut self, scope: &Scope, number: u64) {
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
    pub(super) fn wait_again(&mut self, scope: &Scope, number: u64, now_ms: i64) {
        let entry = self.tenants.get(scope).and_then(|tenant| tenant.jobs.get(&number));
        match entry.and_then(|entry| entry.job.group.clone()) {
            Some(group) => self.let_next_go(scope, &group, now_ms),
            None => self.admit(scope, number, now_ms),
        }
    }

    pub(super) fn bury(&mut self, scope: &Scope, number: u64, reason: String, now_ms: i64) {
        self.withdraw(scope, number);
        self.leave_group(scope, number, now_ms);
        let Some(tenant) = self.tenants.get_mut(scope) else { return };
        if let Some(entry) = tenant.jobs.get_mut(&number) {
            entry.stage = Stage::Dead { reason, died_ms: now_ms };
            tenant.dead.push(number);
        }
    }

    /// Takes a job out of the queue.
    pub(super) fn take(&mut self, scope: &Scope, number: u64, now_ms: i64) -> Option<Entry> {
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
    pub(super) fn wake(&mut self, now_ms: i64) {
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
}
