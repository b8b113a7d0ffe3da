//! Tenants take turns, and never meet.

use mos_core::{ClaimRequest, JobState, NewJob, Paging, Scope, Weights};

use super::super::samples::scope;
use super::{Bench, LEASE, SECOND, assert_ended, grouped, id, ids, job, jobs, names};

fn cubes(claimed: &[mos_core::Claimed]) -> Vec<&str> {
    claimed.iter().map(|one| one.job.scope.cube.as_str()).collect()
}

pub(super) async fn tenants_take_turns(bench: &Bench) {
    let many: Vec<String> = (0..100).map(|n| format!("{n:03}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    bench.push(&scope("z-many"), jobs(&many)).await;
    bench.push(&scope("b"), jobs(&["b1", "b2"])).await;
    bench.push(&scope("a"), jobs(&["a1"])).await;
    let claimed = bench.claim(7).await;
    assert_eq!(cubes(&claimed), ["z-many", "b", "a", "z-many", "b", "z-many", "z-many"]);
    // One by one it is no different, and whoever comes next waits for one job of another at most.
    bench.push(&scope("c"), jobs(&["c1", "c2"])).await;
    let mut order = Vec::new();
    for _ in 0..4 {
        order.extend(bench.claim(1).await);
    }
    assert_eq!(cubes(&order), ["z-many", "c", "z-many", "c"]);
}

/// A tenant of weight three is given three jobs in its turn, however they are asked for; one whose jobs run out in the middle
/// of its turn begins a new one when it comes back.
pub(super) async fn a_weight_is_the_number_of_jobs_in_a_turn(bench: &Bench) {
    let weights = Weights::new([(scope("a-heavy").cube, 3), (scope("unknown").cube, 7)]);
    let claim = async |limit| {
        let request = ClaimRequest { weights: weights.clone(), ..super::request("worker", limit) };
        bench.queue.claim(&request).await.expect("claim")
    };
    let heavy: Vec<String> = (0..10).map(|n| format!("{n}")).collect();
    bench.push(&scope("a-heavy"), jobs(&heavy.iter().map(String::as_str).collect::<Vec<_>>())).await;
    bench.push(&scope("light"), jobs(&["l1", "l2", "l3"])).await;
    let first = claim(5).await;
    assert_eq!(cubes(&first), ["a-heavy", "a-heavy", "a-heavy", "light", "a-heavy"]);
    let mut order = Vec::new();
    for _ in 0..4 {
        order.extend(claim(1).await);
    }
    assert_eq!(cubes(&order), ["a-heavy", "a-heavy", "light", "a-heavy"]);
    // The heavy one's jobs run out in the middle of its next turn.
    assert_eq!(cubes(&claim(5).await), ["a-heavy", "a-heavy", "light", "a-heavy"]);
    bench.assert_nothing_to_claim().await;
    bench.push(&scope("a-heavy"), jobs(&["x1", "x2", "x3", "x4"])).await;
    bench.push(&scope("light"), jobs(&["l4"])).await;
    assert_eq!(cubes(&claim(9).await), ["a-heavy", "a-heavy", "a-heavy", "light", "a-heavy"]);
}

/// A tenant that always has one job, pushed when the last one was taken, may not push the others aside.
pub(super) async fn a_late_tenant_does_not_wait_behind_many_jobs(bench: &Bench) {
    let many: Vec<String> = (0..50).map(|n| format!("{n:03}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    for heavy in ["heavy", "a-heavy"] {
        bench.push(&scope(heavy), jobs(&many)).await;
    }
    let mut served: Vec<String> = Vec::new();
    for turn in 0..30 {
        if served.last().is_none_or(|cube| cube == "light") {
            bench.push(&scope("light"), vec![job(&format!("light-{turn}"))]).await;
        }
        served.extend(cubes(&bench.claim(1).await).into_iter().map(str::to_owned));
    }
    for name in ["heavy", "a-heavy", "light"] {
        let n_served = served.iter().filter(|cube| *cube == name).count();
        assert_eq!(n_served, 10, "{name} in {served:?}");
    }
}

pub(super) async fn a_tenant_keeps_its_place_when_the_next_of_a_group_steps_up(bench: &Bench) {
    let (first, second) = (scope("z-first"), scope("a-second"));
    bench.push(&first, vec![grouped("one", "g"), grouped("two", "g")]).await;
    bench.push(&second, jobs(&["one"])).await;
    assert_eq!(bench.queue.remove(&first, &ids(&["one"])).await.expect("remove"), 1);
    let claimed = bench.claim(2).await;
    assert_eq!((cubes(&claimed), names(&claimed)), (vec!["z-first", "a-second"], vec!["two", "one"]));
}

pub(super) async fn what_is_due_at_once_goes_in_the_order_it_was_pushed(bench: &Bench) {
    let before: Vec<String> = (0..8).map(|n| format!("before-{n}")).collect();
    bench.push(&scope("c"), jobs(&before.iter().map(String::as_str).collect::<Vec<_>>())).await;
    bench.complete(&bench.claim(8).await).await;
    // The ninth and the tenth job of the queue: neither names nor digits decide.
    for cube in ["z-first", "a-second"] {
        bench.push(&scope(cube), vec![NewJob { not_before: Some(bench.later(SECOND)), ..job(cube) }]).await;
    }
    bench.assert_nothing_to_claim().await;
    bench.clock.advance(SECOND);
    let claimed = bench.claim(2).await;
    assert_eq!(cubes(&claimed), ["z-first", "a-second"]);
    // They become due together once more: their leases are over at the same moment.
    bench.clock.advance(LEASE + SECOND);
    assert_eq!(cubes(&bench.claim(2).await), ["z-first", "a-second"]);
}

pub(super) async fn tenants_are_walls(bench: &Bench) {
    // Names that would meet if they were joined or escaped carelessly.
    let strange = ["c", "c:g", "c g", "{c}", "c%3Ag", "*", "记忆 🦀", "x' OR '1'='1", "%_", "C", "jobs:c", "c 1"];
    let scopes: Vec<Scope> = strange.iter().map(|name| scope(name)).collect();
    for scope in &scopes {
        bench.push(scope, vec![grouped("a", "g"), grouped("b", "g"), job("doomed"), job("kept")]).await;
    }
    let claimed = bench.claim(200).await;
    assert_eq!(claimed.len(), 3 * scopes.len(), "groups of the same name are not one");
    for one in claimed.iter().filter(|one| one.job.id == id("doomed")) {
        let reason = format!("of {}", one.job.scope.cube);
        bench.queue.fail(&one.ticket, &reason, None).await.expect("fail");
    }
    for scope in &scopes {
        assert_eq!(bench.counts(scope).await, (1, 2, 1), "{scope:?}");
        let dead = bench.dead(scope).await;
        assert_eq!((dead.total, dead.entries[0].reason.clone()), (1, format!("of {}", scope.cube)));
    }
    let (ours, others) = (&scopes[0], &scopes[1..]);
    let mine = claimed.iter().find(|one| one.job.scope == *ours && one.job.id == id("a")).expect("claimed");
    for other in others {
        let mut foreign = mine.ticket.clone();
        foreign.scope = other.clone();
        assert_ended(bench.queue.complete(&foreign).await);
    }
    bench.complete(std::slice::from_ref(mine)).await;
    assert_eq!(names(&bench.claim(200).await), ["b"], "only our group goes on");
    assert_eq!(bench.queue.remove(ours, &ids(&["doomed"])).await.expect("remove"), 1);
    assert_eq!(bench.find(ours, "doomed").await, None);
    assert_eq!(bench.queue.retry_dead(ours, &ids(&["doomed"])).await.expect("retry"), 0);
    for other in others {
        assert!(matches!(bench.find(other, "doomed").await, Some(JobState::Dead { .. })), "{other:?}");
        assert!(matches!(bench.find(other, "a").await, Some(JobState::Claimed { .. })), "{other:?}");
        assert_eq!(bench.find(other, "b").await, Some(JobState::Waiting), "{other:?}");
        let known = bench.queue.push(other, jobs(&["doomed"])).await.expect("push").known;
        assert_eq!(known, ids(&["doomed"]));
    }
    assert_eq!(bench.queue.remove_tenant(ours).await.expect("remove"), 2);
    let mut left = others.to_vec();
    left.sort();
    assert_eq!(bench.queue.tenants().await.expect("tenants"), left);
    bench.clock.advance(LEASE);
    let again = bench.claim(200).await;
    assert_eq!(again.len(), 2 * others.len(), "a and kept of every other one");
}

pub(super) async fn a_removed_tenant_is_gone(bench: &Bench) {
    let c = scope("c");
    let delayed = mos_core::NewJob { not_before: Some(bench.later(SECOND)), ..job("delayed") };
    bench.push(&c, jobs(&["finished", "claimed", "dead", "ready"])).await;
    bench.push(&c, vec![delayed, grouped("g1", "g"), grouped("g2", "g")]).await;
    let claimed = bench.claim(3).await;
    bench.complete(&claimed[..1]).await;
    bench.queue.fail(&claimed[2].ticket, "broken", None).await.expect("fail");
    assert_eq!(bench.queue.tenants().await.expect("tenants"), std::slice::from_ref(&c));
    assert_eq!(bench.queue.remove_tenant(&c).await.expect("remove"), 6);
    assert_eq!(bench.queue.remove_tenant(&c).await.expect("remove"), 0);
    assert_eq!(bench.queue.remove_tenant(&scope("never seen")).await.expect("remove"), 0);
    assert_eq!(bench.queue.tenants().await.expect("tenants"), []);
    assert_eq!(bench.counts(&c).await, (0, 0, 0));
    assert_eq!(bench.queue.dead(&c, Paging::ALL).await.expect("dead").total, 0);
    for name in ["finished", "claimed", "dead", "ready", "delayed", "g1"] {
        assert_eq!(bench.find(&c, name).await, None, "{name}");
    }
    assert_ended(bench.queue.complete(&claimed[1].ticket).await);
    bench.clock.advance(LEASE * 2);
    bench.assert_nothing_to_claim().await;
    assert_eq!(bench.queue.next_ready_at().await.expect("next"), None);
    bench.push(&c, vec![job("claimed"), grouped("g2", "g")]).await;
    let again = bench.claim(10).await;
    assert_eq!(names(&again), ["claimed", "g2"], "it begins anew");
    assert_ended(bench.queue.complete(&claimed[1].ticket).await);
    bench.complete(&again).await;
}
