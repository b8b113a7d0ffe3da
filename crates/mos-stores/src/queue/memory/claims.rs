//! What consumers do: they claim jobs in the tenants' turns, and say what became of them.

use mos_core::{ClaimRequest, Claimed, Failed, Scope, StoreError, Ticket};

use super::super::{QueueLimits, ended, moment, short_reason};
use super::{Entry, QueueState, Stage, next};

impl QueueState {
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
}
