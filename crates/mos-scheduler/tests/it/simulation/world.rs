//! One world: what is submitted, what handlers do, what dies, and what is looked at in the end.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use mos_core::{CubeId, JobQueue, Scope};
use mos_scheduler::{
    HandlerContext, HandlerError, ItemState, Registration, ScheduleMessage, Scheduler, SchedulerOptions, SchedulerParts,
};
use mos_stores::InMemoryStore;
use mos_testkit::clock::CountingIds;

use crate::support::{BareCubes, RuntimeClock, StateInMemory};

/// How long a world may take, in its own time.
const AGES: Duration = Duration::from_secs(24 * 3600);

/// Workers of a process.
const WORKERS: usize = 2;

/// How many jobs of others may begin before a tenant's first one does: those that are being handled, one of each other tenant,
/// all in batches, and what a process that died in between had taken.
const PATIENCE: usize = 6 * WORKERS + 12;

/// A promise that was not kept.
#[derive(Debug)]
#[allow(dead_code, reason = "the fields are read by whoever looks at a failed test")]
pub(super) enum Violation {
    /// A message is neither done nor given up.
    Lost { item: String, state: Option<ItemState> },
    /// A message counts as done, and its effect is not there.
    DoneWithoutEffect { item: String },
    /// A message had its effect twice.
    TwiceWithEffect { item: String },
    /// A message was given up although its handler never failed for good.
    GivenUp { item: String },
    /// Messages of a group were done in another order.
    OutOfOrder { group: String, done: Vec<String> },
    /// Two messages of a group were handled at the same time.
    TwoAtOnce { group: String },
    /// A tenant waited while others were served.
    Starved { item: String, n_before: usize },
}

/// A small generator of numbers (SplitMix64, Steele and others 2014): a world is the same each time.
#[derive(Debug)]
pub(super) struct Seeded(u64);

impl Seeded {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    fn of(seed: u64, words: &str) -> Self {
        let hash = words
            .bytes()
            .fold(seed ^ 0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
        Self(hash)
    }
}

/// What a handler does with a message, at an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Deed {
    /// Its effect, then it says so.
    Works,
    /// Nothing, and says that it may work later.
    Fails,
    /// Its effect, and then says that it failed.
    WorksAndFails,
    /// Its effect, then panics.
    WorksAndPanics,
    /// Nothing, for longer than it may.
    Hangs,
    /// Nothing, and says that it never will.
    GivesUp,
}

/// What happened, as an outsider sees it.
#[derive(Debug, Default)]
struct Seen {
    /// The keys of writes that were made: a second one with the same key changes nothing.
    keys: BTreeSet<String>,
    /// How often each message had its effect.
    effects: HashMap<String, usize>,
    /// First effects, by group, in their order.
    done: BTreeMap<String, Vec<String>>,
    /// Groups that are being handled, by which life of which process.
    at_work: HashMap<String, usize>,
    two_at_once: Option<String>,
    attempts: HashMap<String, usize>,
    gave_up: BTreeSet<String>,
    /// Messages in the order in which their handlers first began.
    begun: Vec<String>,
}

pub(super) struct World {
    seed: u64,
    store: Arc<InMemoryStore>,
    queue: Arc<dyn JobQueue>,
    clock: Arc<RuntimeClock>,
    random: Seeded,
    state: Arc<StateInMemory>,
    seen: Arc<Mutex<Seen>>,
    /// Accepted messages, in the order of their groups.
    accepted: Vec<ScheduleMessage>,
    /// How many handlers had begun when a message was accepted.
    begun_before: HashMap<String, usize>,
}

impl World {
    pub(super) fn new(
        seed: u64,
        store: Arc<InMemoryStore>,
        queue: Arc<dyn JobQueue>,
        clock: Arc<RuntimeClock>,
    ) -> Self {
        Self {
            seed,
            store,
            queue,
            clock,
            random: Seeded::of(seed, "world"),
            state: Arc::default(),
            seen: Arc::default(),
            accepted: Vec::new(),
            begun_before: HashMap::new(),
        }
    }

    /// The tenant that has much to do, and those that have little.
    fn cube(&self, number: u64) -> CubeId {
        let name = if number == 0 { format!("w{}-big", self.seed) } else { format!("w{}-{number}", self.seed) };
        CubeId::new(name)
    }

    /// Returns how many messages were given to handlers, and the promises that were not kept.
    pub(super) async fn run(mut self) -> (usize, Vec<Violation>) {
        let n_lives = 1 + self.random.below(3);
        let n_tenants = 2 + self.random.below(2);
        for life in 0..n_lives {
            let scheduler = self.process(life);
            scheduler.start();
            let n_rounds = 1 + self.random.below(3);
            for _ in 0..n_rounds {
                self.submit_some(&scheduler, n_tenants).await;
                tokio::time::sleep(Duration::from_millis(self.random.below(3_000))).await;
            }
            if life + 1 < n_lives {
                self.end(scheduler).await;
            } else {
                drop(tokio::time::timeout(AGES, settled(&scheduler)).await);
                scheduler.stop().await;
                let violations = self.judge(&scheduler).await;
                let n_handled = self.seen.lock().unwrap().attempts.values().sum();
                for tenant in 0..n_tenants {
                    self.store.remove_tenant(&Scope::of(&self.cube(tenant))).await.unwrap();
                }
                return (n_handled, violations);
            }
        }
        unreachable!("the last life returns")
    }

    /// A process stops in order, or dies: whatever it was doing is gone, and nobody is told.
    async fn end(&mut self, scheduler: Scheduler) {
        if self.random.below(2) == 0 {
            scheduler.stop().await;
        } else {
            scheduler.crash().await;
            // What was dropped notices at its next turn.
            for _ in 0..50 {
                tokio::task::yield_now().await;
            }
        }
    }

    fn process(&self, life: u64) -> Scheduler {
        let clock: Arc<RuntimeClock> = Arc::clone(&self.clock);
        let scheduler = Scheduler::new(SchedulerParts {
            queue: Arc::clone(&self.queue),
            state: self.state.clone(),
            cubes: Arc::new(BareCubes::new(self.store.clone(), clock.clone())),
            clock,
            ids: Arc::new(CountingIds::default()),
            sinks: Vec::new(),
            options: SchedulerOptions {
                workers: WORKERS,
                lease: Duration::from_secs(2),
                limit: Duration::from_secs(10),
                drain: Duration::from_secs(1 + self.seed % 20),
                max_attempts: 20,
                first_retry: Duration::from_millis(200),
                longest_retry: Duration::from_secs(5),
                consumer: format!("process {life}"),
                ..SchedulerOptions::default()
            },
        });
        let handlers = ["query", "add"].map(|label| {
            let (seed, seen) = (self.seed, Arc::clone(&self.seen));
            let handler = move |context: HandlerContext, messages: Vec<ScheduleMessage>| {
                let seen = Arc::clone(&seen);
                async move { work(seed, &seen, &context, messages).await }
            };
            (label, Registration::new(handler))
        });
        scheduler.register_handlers(handlers).unwrap();
        scheduler
    }

    async fn submit_some(&mut self, scheduler: &Scheduler, n_tenants: u64) {
        for tenant in 0..n_tenants {
            let n_messages = if tenant == 0 { 5 + self.random.below(20) } else { self.random.below(3) };
            for _ in 0..n_messages {
                let message = self.message(tenant);
                let begun = self.seen.lock().unwrap().begun.len();
                scheduler.submit_messages(vec![message.clone()]).await.unwrap();
                self.begun_before.insert(message.item_id.clone(), begun);
                self.accepted.push(message);
            }
        }
    }

    fn message(&mut self, tenant: u64) -> ScheduleMessage {
        let label = if self.random.below(2) == 0 { "query" } else { "add" };
        let user = if self.random.below(3) == 0 { "bob" } else { "ann" };
        let ids = CountingIds::default();
        let mut message = ScheduleMessage::new(label, user, self.cube(tenant), "x", &*self.clock, &ids);
        message.item_id = format!("{}", self.accepted.len());
        message
    }

    async fn judge(&self, scheduler: &Scheduler) -> Vec<Violation> {
        let mut violations = Vec::new();
        let two_at_once = self.seen.lock().unwrap().two_at_once.clone();
        violations.extend(two_at_once.map(|group| Violation::TwoAtOnce { group }));
        for message in &self.accepted {
            violations.extend(self.judge_end(scheduler, message).await.err());
        }
        violations.extend(self.judge_order().err());
        violations.extend(self.judge_turns().err());
        violations
    }

    async fn judge_end(&self, scheduler: &Scheduler, message: &ScheduleMessage) -> Result<(), Violation> {
        let scope = Scope::of(&message.mem_cube_id);
        let status = scheduler.item_status(&scope, &message.item_id).await.unwrap();
        let seen = self.seen.lock().unwrap();
        let (item, n_effects) = (message.item_id.clone(), seen.effects.get(&message.item_id).copied().unwrap_or(0));
        match status.map(|status| status.status) {
            Some(ItemState::Completed) if n_effects == 0 => Err(Violation::DoneWithoutEffect { item }),
            _ if n_effects > 1 => Err(Violation::TwiceWithEffect { item }),
            Some(ItemState::Completed) => Ok(()),
            Some(ItemState::Failed) if seen.gave_up.contains(&message.item_id) => Ok(()),
            Some(ItemState::Failed) => Err(Violation::GivenUp { item }),
            state => Err(Violation::Lost { item, state }),
        }
    }

    fn judge_order(&self) -> Result<(), Violation> {
        let seen = self.seen.lock().unwrap();
        for (group, done) in &seen.done {
            let places: Vec<usize> = done
                .iter()
                .filter_map(|item| self.accepted.iter().position(|message| message.item_id == *item))
                .collect();
            if places.windows(2).any(|pair| pair[0] > pair[1]) {
                return Err(Violation::OutOfOrder { group: group.clone(), done: done.clone() });
            }
        }
        Ok(())
    }

    /// The first message of a tenant with little to do is not behind all those of the tenant with much.
    fn judge_turns(&self) -> Result<(), Violation> {
        let seen = self.seen.lock().unwrap();
        let mut first = BTreeSet::new();
        for message in &self.accepted {
            let is_first = !message.mem_cube_id.as_str().ends_with("big") && first.insert(message.mem_cube_id.clone());
            let begun = seen.begun.iter().position(|item| *item == message.item_id);
            let (true, Some(begun)) = (is_first, begun) else { continue };
            let n_before = begun.saturating_sub(self.begun_before[&message.item_id]);
            if n_before > PATIENCE {
                return Err(Violation::Starved { item: message.item_id.clone(), n_before });
            }
        }
        Ok(())
    }
}

/// Until nothing waits and nothing is handled.
async fn settled(scheduler: &Scheduler) {
    while !scheduler.wait_until_idle(Duration::from_secs(60)).await.unwrap() {}
}

fn deed(seed: u64, item: &str, attempt: usize) -> Deed {
    let mut random = Seeded::of(seed, &format!("{item}/{attempt}"));
    // A handler that fails for good does so from the first attempt on; all others work in the end.
    if Seeded::of(seed, item).below(25) == 0 {
        return Deed::GivesUp;
    }
    if attempt >= 4 {
        return Deed::Works;
    }
    match random.below(16) {
        0 | 1 => Deed::Fails,
        2 => Deed::WorksAndFails,
        3 => Deed::WorksAndPanics,
        4 => Deed::Hangs,
        _ => Deed::Works,
    }
}

/// Takes itself off the list when it ends, however it ends.
struct AtWork {
    seen: Arc<Mutex<Seen>>,
    group: String,
}

impl AtWork {
    fn begin(seen: &Arc<Mutex<Seen>>, group: String) -> Self {
        let mut locked = seen.lock().unwrap();
        let n_at_work = locked.at_work.entry(group.clone()).or_default();
        *n_at_work += 1;
        if *n_at_work > 1 {
            locked.two_at_once = Some(group.clone());
        }
        drop(locked);
        Self { seen: Arc::clone(seen), group }
    }
}

impl Drop for AtWork {
    fn drop(&mut self) {
        let mut seen = self.seen.lock().unwrap();
        if let Some(n_at_work) = seen.at_work.get_mut(&self.group) {
            *n_at_work = n_at_work.saturating_sub(1);
        }
    }
}

async fn work(
    seed: u64,
    seen: &Arc<Mutex<Seen>>,
    context: &HandlerContext,
    messages: Vec<ScheduleMessage>,
) -> Result<(), HandlerError> {
    let first = &messages[0];
    let group = format!("{}/{}/{}", first.mem_cube_id, first.user_id, first.label);
    let _at_work = AtWork::begin(seen, group.clone());
    for message in messages {
        let key = context.key(&message, "effect");
        let item = message.item_id;
        let attempt = {
            let mut seen = seen.lock().unwrap();
            if !seen.begun.contains(&item) {
                seen.begun.push(item.clone());
            }
            let attempt = seen.attempts.entry(item.clone()).or_default();
            *attempt += 1;
            *attempt
        };
        let deed = deed(seed, &item, attempt);
        let pause = Seeded::of(seed, &format!("{item} takes")).below(4_000);
        tokio::time::sleep(Duration::from_millis(pause)).await;
        if matches!(deed, Deed::Works | Deed::WorksAndFails | Deed::WorksAndPanics) {
            have_effect(seen, &group, &item, key);
            // Between the work and saying so a process can die.
            tokio::time::sleep(Duration::from_millis(pause / 8)).await;
        }
        match deed {
            Deed::Works => {}
            Deed::Fails | Deed::WorksAndFails => return Err(HandlerError::retry("it is not its day")),
            // As a panic, without a word of it on the screen.
            Deed::WorksAndPanics => std::panic::resume_unwind(Box::new("it was too much".to_owned())),
            Deed::Hangs => tokio::time::sleep(Duration::from_secs(3600)).await,
            Deed::GivesUp => {
                seen.lock().unwrap().gave_up.insert(item);
                return Err(HandlerError::give_up("it never will"));
            }
        }
    }
    Ok(())
}

/// As a store does with an idempotency key: the second time changes nothing.
fn have_effect(seen: &Arc<Mutex<Seen>>, group: &str, item: &str, key: String) {
    let mut seen = seen.lock().unwrap();
    if !seen.keys.insert(key) {
        return;
    }
    *seen.effects.entry(item.to_owned()).or_default() += 1;
    seen.done.entry(group.to_owned()).or_default().push(item.to_owned());
}
