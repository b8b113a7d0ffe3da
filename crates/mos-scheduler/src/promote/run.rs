//! One look at whether activation memory is what it should be, and what follows from it.

use std::sync::Arc;

use mos_core::{ActivationId, Clock, Scope, StateStore, UserId};

use super::choose::choose;
use super::options::PromotionOptions;
use super::read::{Promoted, shown};
use super::retire::{RetireReason, Retired, of_others, retire};
use super::{DOCUMENT, Kept, Pending, PromotionState, Retiring, Source, has_passed, texts};
use crate::cube::{CubeActivation, SchedulerCube};
use crate::handler::HandlerError;
use crate::monitor::{MonitorItem, MonitorKind, MonitorList, Stored, WorkingState, load, monitors, save};

/// What promotion works with.
#[derive(Clone, Copy, Debug)]
pub struct PromotionParts<'a> {
    /// The cube.
    pub cube: &'a SchedulerCube,
    /// Where monitors and what was promoted are kept.
    pub state: &'a dyn StateStore,
    /// The time.
    pub clock: &'a dyn Clock,
    /// How it works.
    pub options: &'a PromotionOptions,
}

/// What a look came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Outcome {
    /// Promotion is switched off, or the cube has no activation memory.
    #[default]
    Off,
    /// The interval has not passed.
    TooEarly,
    /// No memory is stable, and none is promoted.
    Nothing,
    /// The right memories are promoted already.
    Unchanged,
    /// Other memories were promoted.
    Promoted,
    /// No memory is promoted any more.
    Withdrawn,
}

/// What a look came to, and what it changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Promotion {
    /// What it came to.
    pub outcome: Outcome,
    /// What is promoted now.
    pub promoted: Option<Promoted>,
    /// What was retired.
    pub retired: Vec<Retired>,
}

/// Looks whether a user's stable memories are the cube's activation memory, once per interval, and promotes them when they are
/// not. Running it again after it was interrupted completes what was begun.
///
/// # Errors
/// Store errors; errors of computing and keeping activation memory; [`HandlerError::Retry`] when somebody else looks at the
/// same time.
pub async fn run(parts: PromotionParts<'_>, user: &UserId) -> Result<Promotion, HandlerError> {
    if !parts.options.is_enabled {
        return withdraw(parts, user, RetireReason::SwitchedOff).await;
    }
    let Some(activation) = parts.cube.activation.as_deref() else { return Ok(Promotion::default()) };
    let scope = parts.cube.scope();
    let stored: Stored<PromotionState> = load(parts.state, &scope, DOCUMENT, user).await?;
    let is_early = |at| !has_passed(at, parts.options.interval, parts.clock.now());
    if stored.value.checked_at.is_some_and(is_early) && !stored.value.is_unfinished() {
        return Ok(Promotion { outcome: Outcome::TooEarly, ..Promotion::default() });
    }
    let mut look = Look { parts, activation, user, scope, stored };
    let working = monitors(parts.state, &look.scope, user, MonitorKind::Working).await?;
    let sources = choose(parts.cube, &working, look.stored.value.current.as_ref(), parts.options).await?;
    look.clean_up(&sources).await?;
    let outcome = if sources.is_empty() {
        look.put_down(RetireReason::NothingStable).await?
    } else {
        look.promote(sources).await?
    };
    let counted = look.count(&working).await?;
    let retired = look.finish().await?;
    Ok(Promotion { outcome, promoted: shown(look.stored.value, &working, &counted), retired })
}

/// Takes back what was promoted for a user; what promotion made is deleted.
///
/// # Errors
/// As [`run`].
pub async fn withdraw(
    parts: PromotionParts<'_>,
    user: &UserId,
    reason: RetireReason,
) -> Result<Promotion, HandlerError> {
    let scope = parts.cube.scope();
    let stored: Stored<PromotionState> = load(parts.state, &scope, DOCUMENT, user).await?;
    if stored.value.current.is_none() && !stored.value.is_unfinished() {
        return Ok(Promotion::default());
    }
    let activation = match &parts.cube.activation {
        Some(activation) => Some(Arc::clone(activation)),
        None => parts.cube.work.former_activation().await?,
    };
    let Some(activation) = activation.as_deref() else { return Ok(Promotion::default()) };
    let mut look = Look { parts, activation, user, scope, stored };
    look.clean_up(&[]).await?;
    let outcome = look.put_down(reason).await?;
    look.count(&MonitorList::default()).await?;
    let retired = look.finish().await?;
    Ok(Promotion { outcome, promoted: None, retired })
}

/// A look that is going on.
struct Look<'a> {
    parts: PromotionParts<'a>,
    activation: &'a dyn CubeActivation,
    user: &'a UserId,
    scope: Scope,
    stored: Stored<PromotionState>,
}

impl Look<'_> {
    async fn save(&mut self) -> Result<(), HandlerError> {
        Ok(save(self.parts.state, &self.scope, DOCUMENT, self.user, &mut self.stored).await?)
    }

    fn known(&mut self) -> &mut PromotionState {
        &mut self.stored.value
    }

    /// Finds what an interrupted run made and did not come to use, unless this run makes the same.
    async fn clean_up(&mut self, sources: &[Source]) -> Result<(), HandlerError> {
        let Some(pending) = self.known().pending.take_if(|pending| pending.sources != sources) else { return Ok(()) };
        if self.activation.stats().await?.n_items > pending.n_items {
            // Its name follows from what is in it: asking for it again tells the name.
            let id = self.compute(&pending.sources).await?;
            let kept = Kept { id, sources: pending.sources, at: self.parts.clock.now(), is_ours: true };
            self.known().retiring.push(Retiring { kept, reason: RetireReason::Unfinished });
        }
        self.save().await
    }

    async fn compute(&self, sources: &[Source]) -> Result<ActivationId, HandlerError> {
        let messages = self.activation.beginning(&texts(sources));
        Ok(self.activation.promote(&messages).await?)
    }

    /// Makes these memories what chats begin with. Those that are it already are asked for again, which brings a cache back
    /// that was lost and costs nothing otherwise.
    async fn promote(&mut self, sources: Vec<Source>) -> Result<Outcome, HandlerError> {
        let before = self.known().current.clone();
        let is_known = before.as_ref().is_some_and(|kept| kept.sources == sources);
        if !is_known && self.known().pending.is_none() {
            let n_items = self.activation.stats().await?.n_items;
            self.known().pending = Some(Pending { sources: sources.clone(), n_items });
            self.save().await?;
        }
        let id = self.compute(&sources).await?;
        let at = self.parts.clock.now();
        let outcome = match before {
            Some(kept) if kept.id == id => {
                // Other ids may stand for the same texts.
                self.known().current = Some(Kept { sources, ..kept });
                Outcome::Unchanged
            }
            before => {
                let is_ours = self.made(&id, before.as_ref()).await?;
                let reason = if is_known { RetireReason::OtherBeginning } else { RetireReason::OtherMemories };
                self.known().retiring.extend(before.map(|kept| Retiring { kept, reason }));
                self.known().current = Some(Kept { id: id.clone(), sources, at, is_ours });
                Outcome::Promoted
            }
        };
        self.known().pending = None;
        self.save().await?;
        self.activation.use_in_chats(Some(&id)).await?;
        Ok(outcome)
    }

    /// Whether promotion made a cache: it was not there before, or other users' promotion made it.
    async fn made(&mut self, id: &ActivationId, before: Option<&Kept>) -> Result<bool, HandlerError> {
        let n_before = self.known().pending.as_ref().map(|pending| pending.n_items);
        let is_new = match n_before {
            Some(n_before) => self.activation.stats().await?.n_items > n_before,
            // The cache of the same memories: it went, or the model did.
            None => before.is_some_and(|kept| kept.is_ours),
        };
        if is_new || self.activation.is_of_one_user() {
            return Ok(is_new);
        }
        Ok(of_others(self.parts.state, &self.scope, self.user, id).await? == Some(true))
    }

    /// Lets chats begin with nothing.
    async fn put_down(&mut self, reason: RetireReason) -> Result<Outcome, HandlerError> {
        let Some(kept) = self.known().current.take() else { return Ok(Outcome::Nothing) };
        self.activation.use_in_chats(None).await?;
        self.known().retiring.push(Retiring { kept, reason });
        self.save().await?;
        Ok(Outcome::Withdrawn)
    }

    /// Takes what is promoted into the monitor of activation memory, with the counts of working memory.
    async fn count(&mut self, working: &MonitorList) -> Result<MonitorList, HandlerError> {
        let document = MonitorKind::Activation.document();
        let mut stored: Stored<WorkingState> = load(self.parts.state, &self.scope, document, self.user).await?;
        let sources = self.stored.value.current.as_ref().map(|kept| kept.sources.as_slice()).unwrap_or_default();
        let in_working =
            |source: &Source| working.items.iter().find(|item| item.memory_id.as_ref() == Some(&source.id));
        let new: Vec<MonitorItem> = sources
            .iter()
            .filter_map(in_working)
            .map(|item| MonitorItem { recalls: 0, turns: 0, recording_count: 1, ..item.clone() })
            .collect();
        let list = &mut stored.value.list;
        list.update(new, 0, self.parts.options.max_texts);
        for item in &mut list.items {
            if let Some(known) = working.items.iter().find(|known| known.memory_id == item.memory_id) {
                (item.recalls, item.turns) = (known.recalls, known.turns);
            }
        }
        save(self.parts.state, &self.scope, document, self.user, &mut stored).await?;
        Ok(stored.value.list)
    }

    /// Retires what has to go, and notes that it was looked.
    async fn finish(&mut self) -> Result<Vec<Retired>, HandlerError> {
        let mut retired = Vec::new();
        for retiring in std::mem::take(&mut self.known().retiring) {
            let known = &self.stored.value;
            retired.push(retire(self.parts, self.activation, self.user, known, &retiring).await?);
        }
        self.known().checked_at = Some(self.parts.clock.now());
        self.save().await?;
        Ok(retired)
    }
}
