//! Many consumers at once.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use mos_core::{Claimed, JobId, JobQueue, NewJob, Scope};

use super::super::samples::scope;
use super::{Bench, LEASE, job, request};

const N_JOBS: usize = 1000;
const N_WORKERS: usize = 8;
const N_TENANTS: usize = 5;

/// What was done, in the order it was done.
#[derive(Debug, Default)]
struct Log {
    done: Mutex<Vec<(Scope, Option<String>, JobId)>>,
    n_done: AtomicUsize,
}

impl Log {
    fn note(&self, claimed: &Claimed) {
        let job = &claimed.job;
        let line = (job.scope.clone(), job.group.clone(), job.id.clone());
        self.done.lock().unwrap_or_else(PoisonError::into_inner).push(line);
        self.n_done.fetch_add(1, Ordering::SeqCst);
    }

    fn take(&self) -> Vec<(Scope, Option<String>, JobId)> {
        std::mem::take(&mut *self.done.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// A thousand jobs of five tenants; two of three belong to one of seven groups.
async fn push_all(bench: &Bench) {
    for tenant in 0..N_TENANTS {
        let new = (0..N_JOBS / N_TENANTS)
            .map(|n| NewJob { group: (n % 3 > 0).then(|| format!("group {}", n % 7)), ..job(&format!("{n:04}")) });
        bench.push(&scope(&format!("tenant {tenant}")), new.collect()).await;
    }
}

async fn assert_all_are_finished(bench: &Bench) {
    for tenant in 0..N_TENANTS {
        assert_eq!(bench.counts(&scope(&format!("tenant {tenant}"))).await, (0, 0, 0));
    }
    assert_eq!(bench.queue.next_ready_at().await.expect("next"), None);
}

/// Works until everything is done; takes so many of those that follow each job along with it.
async fn work(queue: Arc<dyn JobQueue>, log: Arc<Log>, worker: usize, n_following: usize) {
    let request = request(&format!("worker {worker}"), 1 + worker % 4);
    while log.n_done.load(Ordering::SeqCst) < N_JOBS {
        for first in queue.claim(&request).await.expect("claim") {
            let following = match n_following {
                0 => Vec::new(),
                limit => queue.claim_following(&first.ticket, limit, LEASE).await.expect("claim those that follow"),
            };
            for claimed in std::iter::once(first).chain(following) {
                tokio::task::yield_now().await;
                // Noted before it is finished: what comes after it in its group must come after it here.
                log.note(&claimed);
                queue.complete(&claimed.ticket).await.expect("complete");
            }
        }
        tokio::task::yield_now().await;
    }
}

async fn run_workers(bench: &Bench, log: &Arc<Log>, n_following: usize) {
    let workers =
        (0..N_WORKERS).map(|worker| tokio::spawn(work(Arc::clone(&bench.queue), Arc::clone(log), worker, n_following)));
    for worker in workers.collect::<Vec<_>>() {
        worker.await.expect("a worker");
    }
}

pub(super) async fn each_job_is_done_once(bench: &Bench, n_following: usize) {
    push_all(bench).await;
    let log = Arc::new(Log::default());
    run_workers(bench, &log, n_following).await;
    assert_all_are_finished(bench).await;
    let mut n_times: HashMap<(Scope, JobId), usize> = HashMap::new();
    let mut groups: BTreeMap<(Scope, String), Vec<JobId>> = BTreeMap::new();
    for (scope, group, id) in log.take() {
        *n_times.entry((scope.clone(), id.clone())).or_default() += 1;
        if let Some(group) = group {
            groups.entry((scope, group)).or_default().push(id);
        }
    }
    assert_eq!(n_times.len(), N_JOBS);
    assert!(n_times.values().all(|n| *n == 1), "nothing is done twice");
    assert_eq!(groups.len(), N_TENANTS * 7);
    assert!(groups.values().all(|ids| ids.is_sorted()), "every group is done in its order");
}

/// Workers that die leave what they have; it comes again when their leases are over.
pub(super) async fn what_dead_workers_had_is_done_by_others(bench: &Bench) {
    push_all(bench).await;
    let mut abandoned = Vec::new();
    for worker in 0..N_WORKERS {
        abandoned.extend(bench.queue.claim(&request(&format!("doomed {worker}"), 20)).await.expect("claim"));
    }
    assert_eq!(abandoned.len(), N_WORKERS * 20);
    for one in &abandoned {
        bench.queue.claim_following(&one.ticket, 2, LEASE).await.expect("claim");
    }
    bench.clock.advance(LEASE);
    let log = Arc::new(Log::default());
    run_workers(bench, &log, 1).await;
    assert_all_are_finished(bench).await;
    let mut done: Vec<_> = log.take().into_iter().map(|(scope, _, id)| (scope, id)).collect();
    done.sort();
    done.dedup();
    assert_eq!(done.len(), N_JOBS);
    for one in &abandoned {
        super::assert_ended(bench.queue.complete(&one.ticket).await);
    }
}

pub(super) async fn pushers_of_the_same_jobs_do_not_double_them(bench: &Bench) {
    let pushers = (0..N_WORKERS).map(|_| {
        let queue = Arc::clone(&bench.queue);
        tokio::spawn(async move {
            let mut n_new = 0;
            for n in 0..50 {
                let new = vec![job(&format!("{n}")), job(&format!("{}", n + 1))];
                n_new += queue.push(&scope("c"), new).await.expect("push").new.len();
            }
            n_new
        })
    });
    let mut n_new = 0;
    for pusher in pushers.collect::<Vec<_>>() {
        n_new += pusher.await.expect("a pusher");
    }
    assert_eq!(n_new, 51, "each is new to one of them");
    assert_eq!(bench.counts(&scope("c")).await, (51, 0, 0));
}
