//! Jobs of a write, from the record to the queue.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use mos_core::{
    ClaimRequest, Filter, GraphStore, JobQueue, JobState, NewJob, RecordStore, Scope, ScopeLifecycle, StoreError,
    SystemClock, WriteBatch,
};
use mos_stores::{InMemoryStore, Neo4jStore, QueueLimits, RedisOptions, RedisQueue};
use mos_testkit::contracts;
use neo4rs::Query;
use serde_json::json;

use super::record::{batch, item, scope};
use super::server::Neo4jServer;
use crate::redis_server::RedisServer;

fn job(name: &str) -> NewJob {
    NewJob { group: Some("记's".to_owned()), ..NewJob::new(name.into(), "label", json!({"ids": [name, "🎈"]})) }
}

fn with_jobs(names: &[&str]) -> WriteBatch {
    WriteBatch { jobs: names.iter().map(|name| job(name)).collect(), ..batch(vec![item(names[0], "text")]) }
}

async fn open(server: &Neo4jServer, queue: Arc<dyn JobQueue>) -> Arc<Neo4jStore> {
    Neo4jStore::open_with_queue(server.options(), Arc::new(SystemClock), queue).await.unwrap()
}

async fn redis(server: &RedisServer) -> Arc<RedisQueue> {
    RedisQueue::open(RedisOptions::from_url(&server.url()).unwrap(), Arc::new(SystemClock)).await.unwrap()
}

async fn n_left(server: &Neo4jServer, scope: &Scope) -> i64 {
    let text = "MATCH (j:MosJob {tenant: $tenant}) RETURN count(j) AS value";
    server.value(scope, Query::new(text.to_owned())).await
}

async fn names(queue: &dyn JobQueue) -> Vec<String> {
    let mut names = Vec::new();
    loop {
        let request = ClaimRequest {
            consumer: "w".to_owned(),
            limit: 10,
            lease: Duration::from_secs(60),
            weights: mos_core::Weights::default(),
        };
        let claimed = queue.claim(&request).await.unwrap();
        if claimed.is_empty() {
            return names;
        }
        for one in claimed {
            assert_eq!(one.job.payload, json!({"ids": [one.job.id.as_str(), "🎈"]}));
            names.push(one.job.id.to_string());
            queue.complete(&one.ticket).await.unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn neo4j_with_a_queue_keeps_the_scopes_contract() {
    let Some(server) = Neo4jServer::given() else { return };
    let make = async || {
        let queue = InMemoryStore::new(Arc::new(SystemClock));
        let options = server.fresh_options();
        let store = Neo4jStore::open_with_queue(options, Arc::new(SystemClock), queue.clone()).await.unwrap();
        (Arc::clone(&store) as Arc<dyn ScopeLifecycle>, store as Arc<dyn RecordStore>, queue as Arc<dyn JobQueue>)
    };
    contracts::scopes::run(make).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_without_its_queue_leaves_the_jobs_there_alone() {
    let Some(server) = Neo4jServer::given() else { return };
    let queue = InMemoryStore::new(Arc::new(SystemClock));
    let (store, ours) = (open(&server, queue.clone()).await, scope("c"));
    queue.push(&ours, vec![job("of another record")]).await.unwrap();
    let alone = store.without_queue();
    alone.open_scope(&ours, 1).await.unwrap();
    alone.close_scope(&ours, 1).await.unwrap();
    assert_eq!(queue.stats(&ours).await.unwrap().waiting, 1);
    store.open_scope(&ours, 2).await.unwrap();
    assert_eq!(queue.stats(&ours).await.unwrap().waiting, 0, "with it they go");
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_of_a_write_are_in_the_queue_when_it_is_done_and_once_only() {
    let (Some(server), Some(redis_server)) = (Neo4jServer::given(), RedisServer::start(&[])) else { return };
    let queue = redis(&redis_server).await;
    let (store, ours) = (open(&server, queue.clone()).await, scope("c"));
    let write = WriteBatch { idempotency_key: Some("k".to_owned()), ..with_jobs(&["a", "b"]) };
    for _ in 0..2 {
        store.apply(&ours, write.clone()).await.unwrap();
    }
    assert_eq!(queue.stats(&ours).await.unwrap().waiting, 2);
    // A write that is refused leaves no job.
    let refused = WriteBatch { absent: vec!["a".into()], ..with_jobs(&["x"]) };
    assert!(matches!(store.apply(&ours, refused).await, Err(StoreError::Conflict(_))));
    store.apply(&ours, with_jobs(&["c"])).await.unwrap();
    assert_eq!(n_left(&server, &ours).await, 0);
    assert_eq!(names(&*queue).await, ["a", "b", "c"], "in their order");
    assert_eq!(queue.find(&ours, &"x".into()).await.unwrap(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_wait_in_the_outbox_until_the_queue_is_back() {
    let (Some(server), Some(mut redis_server)) = (Neo4jServer::given(), RedisServer::start(&[])) else { return };
    let queue = redis(&redis_server).await;
    let (store, ours) = (open(&server, queue.clone()).await, scope("c"));
    redis_server.kill();
    store.apply(&ours, with_jobs(&["a", "b"])).await.unwrap();
    store.apply(&ours, with_jobs(&["c"])).await.unwrap();
    assert_eq!(store.nodes(&ours, &["a".into(), "c".into()]).await.unwrap().len(), 2, "the writes stand");
    assert_eq!(n_left(&server, &ours).await, 3);
    assert!(store.deliver_jobs().await.is_err());
    redis_server.start_again();
    // Nobody writes any more: they are brought all the same.
    while n_left(&server, &ours).await > 0 {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(names(&*queue).await, ["a", "b", "c"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_killed_program_left_is_brought_by_another_and_given_out_once() {
    let (Some(server), Some(redis_server)) = (Neo4jServer::given(), RedisServer::start(&[])) else { return };
    let (queue, ours) = (redis(&redis_server).await, scope("c"));
    // Killed after the commit: the queue of its own is forgotten, and it had not removed the node either.
    let lost = InMemoryStore::with_queue_limits(
        Arc::new(SystemClock),
        QueueLimits { max_jobs_per_tenant: 0, ..QueueLimits::default() },
    );
    let killed = open(&server, lost).await;
    killed.apply(&ours, with_jobs(&["a", "b"])).await.unwrap();
    drop(killed);
    assert_eq!(n_left(&server, &ours).await, 2, "a queue that is full keeps no write from being done");
    // Killed between the push and the removal of the nodes: they are pushed a second time.
    queue.push(&ours, vec![job("a")]).await.unwrap();
    let store = open(&server, queue.clone()).await;
    while n_left(&server, &ours).await > 0 {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(store.deliver_jobs().await.unwrap(), 0);
    assert_eq!(names(&*queue).await, ["a", "b"]);
    assert_eq!(queue.find(&ours, &"a".into()).await.unwrap(), Some(JobState::Finished));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_only_looks_is_told_of_jobs_on_their_way_and_takes_none() {
    let Some(server) = Neo4jServer::given() else { return };
    let ours = scope("c");
    let full = InMemoryStore::with_queue_limits(
        Arc::new(SystemClock),
        QueueLimits { max_jobs_per_tenant: 0, ..QueueLimits::default() },
    );
    let working = open(&server, full).await;
    working.apply(&ours, with_jobs(&["a", "b"])).await.unwrap();
    let own = InMemoryStore::new(Arc::new(SystemClock));
    let looking = Neo4jStore::open_beside_queue(server.options(), Arc::new(SystemClock), own.clone()).await.unwrap();
    assert_eq!(looking.n_jobs_on_their_way(&ours).await.unwrap(), 2);
    let told = looking.jobs_on_their_way(&ours, None).await.unwrap();
    assert_eq!(told.iter().map(|one| one.job.id.as_str()).collect::<Vec<_>>(), ["a", "b"]);
    assert_eq!(told[0].job.payload, json!({"ids": ["a", "🎈"]}));
    assert_eq!(looking.jobs_on_their_way(&ours, Some(told[0].place)).await.unwrap(), told[1..]);
    assert_eq!(looking.jobs_on_their_way(&ours, Some(told[1].place)).await.unwrap(), []);
    tokio::task::yield_now().await;
    assert_eq!(own.stats(&ours).await.unwrap().waiting, 0, "nothing is brought");
    assert_eq!(n_left(&server, &ours).await, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn several_programs_bring_every_job_once() {
    let (Some(server), Some(redis_server)) = (Neo4jServer::given(), RedisServer::start(&[])) else { return };
    let (queue, ours) = (redis(&redis_server).await, scope("c"));
    let mut writers = Vec::new();
    for writer in 0..4 {
        let (store, ours) = (open(&server, queue.clone()).await, ours.clone());
        writers.push(tokio::spawn(async move {
            for number in 0..10 {
                let names = [format!("{writer}-{number}-x"), format!("{writer}-{number}-y")];
                store.apply(&ours, with_jobs(&[&names[0], &names[1]])).await.unwrap();
            }
            store
        }));
    }
    for writer in writers {
        writer.await.unwrap();
    }
    while n_left(&server, &ours).await > 0 {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let all = names(&*queue).await;
    assert_eq!((all.len(), all.iter().collect::<BTreeSet<_>>().len()), (80, 80));
    let of_one: Vec<&String> = all.iter().filter(|name| name.starts_with("2-")).collect();
    assert!(of_one.is_sorted(), "a group keeps the order of the writes: {of_one:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_cube_leaves_no_jobs() {
    let (Some(server), Some(mut redis_server)) = (Neo4jServer::given(), RedisServer::start(&[])) else { return };
    let (queue, ours) = (redis(&redis_server).await, scope("c"));
    let store = open(&server, queue.clone()).await;
    store.open_scope(&ours, 1).await.unwrap();
    store.apply(&ours, with_jobs(&["a"])).await.unwrap();
    redis_server.kill();
    store.apply(&ours, with_jobs(&["b"])).await.unwrap();
    assert!(store.close_scope(&ours, 1).await.is_err(), "whoever deletes the cube does it again");
    assert_eq!(n_left(&server, &ours).await, 0);
    redis_server.start_again();
    while store.close_scope(&ours, 1).await.is_err() {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(names(&*queue).await, Vec::<String>::new());
    assert_eq!(GraphStore::count(&*store, &ours, &Filter::Everything).await.unwrap(), 0);
}
