//! The tokens that models took: who used them for which cube, and whether more may be used.
//!
//! Invariants: every answer of a model that a user or a cube asked for is counted, also one that was left before its end
//! (by an estimate then), and every text that an encoder was given for them; a spent budget refuses before a model is
//! asked; answers of one process that are asked for at once do not spend together what is left for one.
//!
//! Not here: what a model costs.

mod in_flight;
mod ledger;
mod metered;

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use mos_config::BudgetConfig;
use mos_core::{ChatModel, Clock, CubeId, Embedder, MemoryError, ModelError, UserId};
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;
use tokio::time::Instant;

use in_flight::{InFlight, Reservation};
use ledger::Ledger;
use metered::{MeteredChat, MeteredEmbedder};

/// How long an answer waits for others that may spend the budget when nothing comes of any of them.
const MAX_WAIT: Duration = Duration::from_secs(60);

/// How long an answer waits for others that may spend the budget, whatever comes of them.
const MAX_WAIT_IN_ALL: Duration = Duration::from_secs(600);

/// Tokens of models.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenSums {
    /// Answers.
    pub calls: u64,
    /// Tokens of conversations, those whose state was kept included.
    pub prompt_tokens: u64,
    /// How many of them were not computed because their state was kept.
    pub cached_tokens: u64,
    /// Tokens of answers.
    pub completion_tokens: u64,
    /// Tokens of texts that an encoder was given. Encoders give no answers, so that they have no [`TokenSums::calls`].
    #[serde(default)]
    pub embedded_tokens: u64,
}

impl TokenSums {
    /// Returns the tokens of conversations and answers together: what budgets limit.
    pub fn total(&self) -> u64 {
        self.prompt_tokens.saturating_add(self.completion_tokens)
    }

    fn add(&mut self, other: &Self) {
        self.calls = self.calls.saturating_add(other.calls);
        self.prompt_tokens = self.prompt_tokens.saturating_add(other.prompt_tokens);
        self.cached_tokens = self.cached_tokens.saturating_add(other.cached_tokens);
        self.completion_tokens = self.completion_tokens.saturating_add(other.completion_tokens);
        self.embedded_tokens = self.embedded_tokens.saturating_add(other.embedded_tokens);
    }
}

/// What one user took of one model for one cube on one day.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Account {
    /// `YYYY-MM-DD` in UTC; empty for days that are no longer told apart.
    day: String,
    user: UserId,
    /// The cube whose memories were worked on; `None` for a chat over several.
    cube: Option<CubeId>,
    model: String,
}

/// The tokens that a user took of one model for one cube on one day.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct UsageEntry {
    /// `YYYY-MM-DD` in UTC; empty for days so long ago that they are told together.
    pub day: String,
    /// The cube whose memories were worked on; `None` for a chat over several.
    pub cube_id: Option<CubeId>,
    /// The model's name.
    pub model: String,
    /// What it took.
    #[serde(flatten)]
    pub tokens: TokenSums,
}

/// The tokens that a user took.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Usage {
    /// The user.
    pub user_id: UserId,
    /// Since midnight (UTC).
    pub today: TokenSums,
    /// Since the beginning.
    pub total: TokenSums,
    /// How many more the user may take today; `None` without a limit.
    pub left_today: Option<u64>,
    /// How many more the user may ever take; `None` without a limit.
    pub left_in_all: Option<u64>,
    /// By day, cube and model; the oldest day first.
    pub entries: Vec<UsageEntry>,
}

/// What models took, of all users and cubes together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UsageTotals {
    /// Since the beginning, by the model's name; empty for models of days so long ago that they are told together.
    pub by_model: BTreeMap<String, TokenSums>,
    /// Answers since the program began for which a kept state stood in for a part of the computation.
    pub n_cached_calls: u64,
}

/// Who is to be counted for an answer.
#[derive(Clone, Debug)]
pub(crate) struct Payer {
    pub(crate) user: UserId,
    pub(crate) cube: Option<CubeId>,
}

/// Counts the tokens of all users and cubes, and says when they are used up.
pub(crate) struct UsageMeter {
    clock: Arc<dyn Clock>,
    budget: Option<BudgetConfig>,
    ledger: Mutex<Ledger>,
    in_flight: Mutex<InFlight>,
    /// Told when an answer is over.
    freed: Notify,
    /// Answers since the beginning of the program that a kept state made shorter.
    n_cached_calls: AtomicU64,
}

impl fmt::Debug for UsageMeter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UsageMeter").field("budget", &self.budget).finish_non_exhaustive()
    }
}

impl UsageMeter {
    /// Returns a meter that keeps what it counts in a folder, or in memory only.
    ///
    /// # Errors
    /// [`MemoryError::File`] when the folder is there and cannot be read.
    pub(crate) fn open(
        folder: Option<PathBuf>,
        budget: Option<BudgetConfig>,
        clock: Arc<dyn Clock>,
    ) -> Result<Arc<Self>, MemoryError> {
        let ledger = Ledger::open(folder, &today(&*clock))?;
        Ok(Arc::new(Self {
            clock,
            budget,
            ledger: Mutex::new(ledger),
            in_flight: Mutex::default(),
            freed: Notify::new(),
            n_cached_calls: AtomicU64::new(0),
        }))
    }

    /// Returns a model whose answers are counted.
    pub(crate) fn metered(self: &Arc<Self>, model: Arc<dyn ChatModel>, payer: Payer) -> Arc<dyn ChatModel> {
        Arc::new(MeteredChat::new(model, Arc::clone(self), payer))
    }

    /// Returns an encoder whose tokens are counted, as far as it counts them.
    pub(crate) fn metered_embedder(self: &Arc<Self>, embedder: Arc<dyn Embedder>, payer: Payer) -> Arc<dyn Embedder> {
        Arc::new(MeteredEmbedder::new(embedder, Arc::clone(self), payer))
    }

    /// Returns the right to one more answer; `None` without a budget. Near a limit it waits until what others take is known,
    /// so that they do not spend together what is left for one.
    ///
    /// # Errors
    /// [`ModelError::BudgetSpent`], when the tokens are used up, or may be by answers of which nothing comes for long.
    async fn reserve(self: &Arc<Self>, payer: &Payer, expected_tokens: u64) -> Result<Option<Reservation>, ModelError> {
        if self.budget.is_none() {
            return Ok(None);
        }
        let last = Instant::now() + MAX_WAIT_IN_ALL;
        let give_up = tokio::time::sleep(MAX_WAIT);
        tokio::pin!(give_up);
        let mut seen = self.progress(payer);
        loop {
            let freed = self.freed.notified();
            tokio::pin!(freed);
            // Before the look at the budget: what is freed after it is not missed.
            freed.as_mut().enable();
            let too_much = match self.admitted(payer, expected_tokens)? {
                Ok(reservation) => return Ok(Some(reservation)),
                Err(too_much) => too_much,
            };
            tokio::select! {
                () = freed => {}
                () = &mut give_up => {
                    let now = self.progress(payer);
                    if now == seen || Instant::now() >= last {
                        return Err(too_much);
                    }
                    seen = now;
                    give_up.as_mut().reset(last.min(Instant::now() + MAX_WAIT));
                }
            }
        }
    }

    /// Returns how far the answers are that a payer waits for.
    fn progress(&self, payer: &Payer) -> Vec<(u64, u64)> {
        let is_same_cube = |other: &Payer| payer.cube.is_some() && other.cube == payer.cube;
        self.in_flight().progress(|other| other.user == payer.user || is_same_cube(other))
    }

    /// Returns the right to one more answer; inside, an error when those on their way may spend the budget.
    ///
    /// # Errors
    /// [`ModelError::BudgetSpent`], when the tokens are used up.
    fn admitted(
        self: &Arc<Self>,
        payer: &Payer,
        expected_tokens: u64,
    ) -> Result<Result<Reservation, ModelError>, ModelError> {
        let day = today(&*self.clock);
        let ledger = self.caught_up(&day);
        self.check_all(&ledger, &day, &InFlight::default(), payer)?;
        let mut in_flight = self.in_flight();
        if let Err(too_much) = self.check_all(&ledger, &day, &in_flight, payer) {
            return Ok(Err(too_much));
        }
        let number = in_flight.begin(payer.clone(), expected_tokens);
        Ok(Ok(Reservation::new(Arc::clone(self), number)))
    }

    /// Refuses when the tokens of the user or the cube are used up.
    ///
    /// # Errors
    /// [`ModelError::BudgetSpent`].
    #[cfg(test)]
    fn check(&self, payer: &Payer) -> Result<(), ModelError> {
        let day = today(&*self.clock);
        self.check_all(&self.caught_up(&day), &day, &InFlight::default(), payer)
    }

    /// Refuses when what is used and what is on its way reaches a limit of the user or the cube.
    ///
    /// # Errors
    /// [`ModelError::BudgetSpent`].
    fn check_all(&self, ledger: &Ledger, day: &str, in_flight: &InFlight, payer: &Payer) -> Result<(), ModelError> {
        let Some(budget) = &self.budget else { return Ok(()) };
        let user = || format!("user `{}`", payer.user);
        let of_user = |account: &Account| account.user == payer.user;
        let expected = in_flight.sum(|other| other.user == payer.user);
        check_limit(ledger, day, DAILY_USER, budget.user_tokens_per_day, expected, user, of_user)?;
        check_limit(ledger, day, TOTAL_USER, budget.user_tokens_total, expected, user, of_user)?;
        let Some(cube) = &payer.cube else { return Ok(()) };
        let name = || format!("cube `{cube}`");
        let of_cube = |account: &Account| account.cube.as_ref() == Some(cube);
        let expected = in_flight.sum(|other| other.cube.as_ref() == Some(cube));
        check_limit(ledger, day, DAILY_CUBE, budget.cube_tokens_per_day, expected, name, of_cube)?;
        check_limit(ledger, day, TOTAL_CUBE, budget.cube_tokens_total, expected, name, of_cube)
    }

    /// Counts an answer.
    fn record(&self, payer: &Payer, model: &str, tokens: TokenSums) {
        if tokens.cached_tokens > 0 {
            self.n_cached_calls.fetch_add(1, Ordering::Relaxed);
        }
        let day = today(&*self.clock);
        let account = Account { day, user: payer.user.clone(), cube: payer.cube.clone(), model: model.to_owned() };
        self.locked().record(account, tokens);
    }

    /// Counts what an encoder was given. It is written down with what follows: there are many such calls, and each is
    /// short.
    fn record_embedded(&self, payer: &Payer, model: &str, n_tokens: u64) {
        let day = today(&*self.clock);
        let account = Account { day, user: payer.user.clone(), cube: payer.cube.clone(), model: model.to_owned() };
        self.locked().hold(account, TokenSums { embedded_tokens: n_tokens, ..TokenSums::default() });
    }

    /// Returns what a user took.
    pub(crate) fn of_user(&self, user: &UserId) -> Usage {
        let day = today(&*self.clock);
        let ledger = self.caught_up(&day);
        let (mut sum_today, mut total, mut entries) = (TokenSums::default(), TokenSums::default(), Vec::new());
        for (account, tokens) in ledger.accounts().filter(|(account, _)| account.user == *user) {
            total.add(tokens);
            if account.day == day {
                sum_today.add(tokens);
            }
            let Account { day, cube, model, .. } = account.clone();
            entries.push(UsageEntry { day, cube_id: cube, model, tokens: *tokens });
        }
        let left = |limit: Option<u64>, used: &TokenSums| limit.map(|limit| limit.saturating_sub(used.total()));
        let budget = self.budget.as_ref();
        Usage {
            user_id: user.clone(),
            left_today: left(budget.and_then(|budget| budget.user_tokens_per_day), &sum_today),
            left_in_all: left(budget.and_then(|budget| budget.user_tokens_total), &total),
            today: sum_today,
            total,
            entries,
        }
    }

    /// Returns what all users took.
    pub(crate) fn totals(&self) -> UsageTotals {
        let day = today(&*self.clock);
        let mut totals =
            UsageTotals { n_cached_calls: self.n_cached_calls.load(Ordering::Relaxed), ..UsageTotals::default() };
        for (account, tokens) in self.caught_up(&day).accounts() {
            totals.by_model.entry(account.model.clone()).or_default().add(tokens);
        }
        totals
    }

    /// Removes what a user took, and the names of cubes from what others took for them, also from the files.
    ///
    /// # Errors
    /// [`MemoryError::File`] when a file cannot be read or written; the rest of them may be done then.
    pub(crate) fn forget(&self, user: &UserId, cubes: &[CubeId]) -> Result<(), MemoryError> {
        let day = today(&*self.clock);
        self.caught_up(&day).rewrite_all(|mut account| {
            if account.user == *user {
                return None;
            }
            account.cube = account.cube.filter(|cube| !cubes.contains(cube));
            Some(account)
        })
    }

    fn in_flight(&self) -> MutexGuard<'_, InFlight> {
        // As with the sums.
        self.in_flight.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn locked(&self) -> MutexGuard<'_, Ledger> {
        // Sums are whole between any two operations: a panic elsewhere does not spoil them.
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The ledger with all that was counted here, and what other processes have counted meanwhile.
    fn caught_up(&self, day: &str) -> MutexGuard<'_, Ledger> {
        let mut ledger = self.locked();
        ledger.write_held();
        ledger.catch_up(day);
        ledger
    }
}

impl Drop for UsageMeter {
    fn drop(&mut self) {
        self.locked().write_held();
    }
}

/// One of the limits.
#[derive(Clone, Copy)]
struct Limit {
    key: &'static str,
    is_daily: bool,
}

const DAILY_USER: Limit = Limit { key: "user_tokens_per_day", is_daily: true };
const TOTAL_USER: Limit = Limit { key: "user_tokens_total", is_daily: false };
const DAILY_CUBE: Limit = Limit { key: "cube_tokens_per_day", is_daily: true };
const TOTAL_CUBE: Limit = Limit { key: "cube_tokens_total", is_daily: false };

fn check_limit(
    ledger: &Ledger,
    day: &str,
    what: Limit,
    limit: Option<u64>,
    expected: u64,
    whose: impl Fn() -> String,
    is_counted: impl Fn(&Account) -> bool,
) -> Result<(), ModelError> {
    let Some(limit) = limit else { return Ok(()) };
    let accounts = ledger.accounts().filter(|(account, _)| is_counted(account));
    let used = accounts
        .filter(|(account, _)| !what.is_daily || account.day == day)
        .fold(0_u64, |sum, (_, tokens)| sum.saturating_add(tokens.total()));
    if used.saturating_add(expected) < limit {
        return Ok(());
    }
    let period = if what.is_daily { "today (UTC)" } else { "in all" };
    Err(ModelError::BudgetSpent { whose: whose(), used, expected, limit, period, key: what.key })
}

fn today(clock: &dyn Clock) -> String {
    let mut text = clock.now_text();
    text.truncate("2026-01-02".len());
    text
}

#[cfg(test)]
mod tests;
