//! Many small worlds, each from a seed: tenants submit, handlers fail, hang, panic and repeat themselves, processes die in the
//! middle, and the clock jumps from event to event. What must hold, holds in each; and faults that are planted on purpose are
//! found.

mod faults;
mod world;

use std::sync::Arc;

use mos_core::JobQueue;
use mos_stores::InMemoryStore;

use self::faults::{Fault, Faulty};
use self::world::{Violation, World};
use crate::support::RuntimeClock;

/// Seeds of the ordinary run; the long one has a hundred times as many.
const SEEDS: u64 = 1_000;

/// Worlds in which a planted fault must show.
const SEEDS_OF_A_FAULT: u64 = 200;

fn seeds() -> u64 {
    if std::env::var_os("MOS_TEST_LONG").is_some() { 20 * SEEDS } else { SEEDS }
}

/// What was found in the worlds that were run.
#[derive(Debug, Default)]
struct Found {
    n_worlds: u64,
    n_handled: usize,
    /// The first world in which what was looked for showed, and what it was.
    violations: Option<(u64, Vec<Violation>)>,
}

/// Runs worlds one after another in paused time, until one is at fault in a way that is looked for, or all have been.
fn look(seeds: u64, fault: Option<Fault>, is_meant: impl Fn(&Violation) -> bool) -> Found {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let clock = Arc::new(RuntimeClock::new());
        let store = InMemoryStore::new(clock.clone());
        let mut found = Found::default();
        for seed in 0..seeds {
            let queue: Arc<dyn JobQueue> = match fault {
                None => store.clone(),
                Some(fault) => Arc::new(Faulty::new(store.clone(), fault)),
            };
            let (n_handled, violations) = World::new(seed, store.clone(), queue, clock.clone()).run().await;
            found.n_worlds += 1;
            found.n_handled += n_handled;
            if violations.iter().any(&is_meant) {
                found.violations = Some((seed, violations));
                break;
            }
        }
        found
    })
}

#[test]
fn what_must_hold_holds_in_every_world() {
    let began = std::time::Instant::now();
    let found = look(seeds(), None, |_| true);
    assert!(found.violations.is_none(), "{found:?}");
    let seconds = began.elapsed().as_secs_f64();
    println!("{} worlds, {:.0} messages handled a second", found.n_worlds, found.n_handled as f64 / seconds);
}

#[test]
fn planted_faults_are_found() {
    for fault in Fault::ALL {
        let found = look(SEEDS_OF_A_FAULT, Some(fault), |violation| fault.shows_as(violation));
        assert!(found.violations.is_some(), "{fault:?} did not show in {} worlds", found.n_worlds);
    }
}
