//! A user is erased where jobs, memories or vectors are not in the embedded database.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use mos::config::Setting;
use mos::{Add, EraseOptions, Mos, NewCube, Settings, files_holding};
use mos_core::{ClaimRequest, CubeId, JobId, JobState, NewJob, Paging, Scope, UserId, Weights};
use mos_testkit::embedder::WordEmbedder;
use mos_testkit::qdrant_server::QdrantServer;
use mos_testkit::services;
use serde_json::{Value, json};

use crate::bob;
use crate::servers::servers;

const EVERYTHING: EraseOptions = EraseOptions { also_in_shared: true };

async fn build(folder: &Path, stores: &Value) -> Mos {
    let mut settings = stores.clone();
    settings["models_dir"] = json!(folder.join("models"));
    let embedder = Arc::new(WordEmbedder::new("words", 64));
    let settings = Settings::from_json(&settings).unwrap();
    Mos::builder(settings).data_dir(folder).embedder(embedder).build().await.unwrap()
}

/// Zora with a cube of her own and a share of bob's; what both told.
async fn furnish(mos: &Mos, zora: &UserId, of_bob: &CubeId) {
    mos.create_user(zora.clone(), None).await.unwrap();
    mos.create_user("bob", None).await.unwrap();
    mos.create_cube(&bob(), NewCube::new(of_bob.clone())).await.unwrap();
    mos.share_cube_with_user(&bob(), of_bob, zora).await.unwrap();
    mos.ensure_default_cube(zora).await.unwrap();
    mos.add(Add::text("I live in quokkaburg").user(zora.clone())).await.unwrap();
    mos.add(Add::text("zora wrote of dingohaven").user(zora.clone()).cube(of_bob.clone())).await.unwrap();
    mos.add(Add::text("bob keeps this").user("bob").cube(of_bob.clone())).await.unwrap();
}

/// Jobs of bob's cube: of zora one that was given up, one that is being worked on and one that waits; of bob one that waits.
async fn push_jobs(mos: &Mos, zora: &UserId, of_bob: &CubeId) {
    let (queue, scope) = (mos.queue().unwrap(), Scope::of(of_bob));
    let job = |id: &str, user: &str| {
        // Of zora's name is also what is no user.
        let payload = json!({"user_id": user, "label": zora, "messages": [{"content": "quokkaburg again"}]});
        vec![NewJob::new(JobId::from(id), "later", payload)]
    };
    let lease = Duration::from_secs(600);
    let one = ClaimRequest { consumer: "tests".to_owned(), limit: 1, lease, weights: Weights::default() };
    queue.push(&scope, job("given-up", zora.as_str())).await.unwrap();
    let claimed = queue.claim(&one).await.unwrap().remove(0);
    queue.fail(&claimed.ticket, "it was wrong", None).await.unwrap();
    queue.push(&scope, job("at-work", zora.as_str())).await.unwrap();
    assert_eq!(queue.claim(&one).await.unwrap().len(), 1);
    queue.push(&scope, job("waits", zora.as_str())).await.unwrap();
    queue.push(&scope, job("of-bob", "bob")).await.unwrap();
}

/// Erases zora, and looks at what is left of the jobs.
async fn erase_with_jobs(mos: &Mos, zora: &UserId, of_bob: &CubeId) -> Vec<String> {
    let erased = mos.erase_user(zora, EVERYTHING).await.unwrap();
    assert_eq!(erased.n_jobs, 2, "{erased:?}");
    let told = "1 jobs that name the user are being worked on";
    assert!(erased.left.iter().any(|left| left.starts_with(told)), "{:?}", erased.left);
    let (queue, scope) = (mos.queue().unwrap(), Scope::of(of_bob));
    for gone in ["given-up", "waits"] {
        assert_eq!(queue.find(&scope, &JobId::from(gone)).await.unwrap(), None, "{gone}");
    }
    assert!(queue.dead(&scope, Paging::ALL).await.unwrap().entries.is_empty());
    assert_eq!(queue.find(&scope, &JobId::from("of-bob")).await.unwrap(), Some(JobState::Waiting));
    let at_work = queue.find(&scope, &JobId::from("at-work")).await.unwrap();
    assert!(matches!(at_work, Some(JobState::Claimed { .. })), "{at_work:?}");
    assert!(!mos.has_user(zora).await.unwrap());
    let listed = json!(mos.get_all(&bob(), Some(of_bob)).await.unwrap());
    let memories = listed["text_mem"][0]["memories"].as_array().unwrap();
    assert_eq!((memories.len(), &memories[0]["memory"]), (1, &json!("bob keeps this")));
    erased.left
}

#[tokio::test]
async fn jobs_of_an_erased_user_go_from_any_queue() {
    for backend in ["memory", "sqlite"] {
        let folder = tempfile::tempdir().unwrap();
        let mos = build(folder.path(), &json!({"store": {"backend": backend, "config": {}}})).await;
        let (zora, of_bob) = (UserId::from("zora"), CubeId::from("bobs-cube"));
        furnish(&mos, &zora, &of_bob).await;
        push_jobs(&mos, &zora, &of_bob).await;
        let left = erase_with_jobs(&mos, &zora, &of_bob).await;
        assert!(!left.iter().any(|left| left.contains("Neo4j")), "there is none: {left:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_erased_user_leaves_no_vectors_on_qdrant() {
    let (folder, server) = (tempfile::tempdir().unwrap(), QdrantServer::start(Some("hunter2")));
    let name = format!("mos-erase-{}", std::process::id());
    let config = json!({"collection_name": name, "url": server.url(), "api_key": "hunter2"});
    let mos = build(folder.path(), &json!({"vectors": {"backend": "qdrant", "config": config}})).await;
    let (zora, of_bob) = (UserId::from("zora"), CubeId::from("bobs-cube"));
    furnish(&mos, &zora, &of_bob).await;
    // Vectors follow what is written and erased; each of the two cubes has a cursor among them.
    assert_points(&mos, "5").await;
    mos.erase_user(&zora, EVERYTHING).await.unwrap();
    assert_points(&mos, "2").await;
}

/// The server has so many points, at once or soon.
async fn assert_points(mos: &Mos, number: &str) {
    let mut report = mos.reconcile().await.unwrap();
    for _ in 0..100 {
        if report.facts["vectors: points"] == number {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
        report = mos.reconcile().await.unwrap();
    }
    panic!("{number} points were expected: {report:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_is_erased_from_neo4j_redis_and_postgres() {
    let Some((store, users, of_bob)) = servers("erase") else { return };
    let Some(redis) = services::address("REDIS_URL") else { return };
    let folder = tempfile::tempdir().unwrap();
    let prefix = format!("mos-erase-{}", std::process::id());
    let queue = json!({"backend": "redis", "config": {"url": redis, "prefix": prefix}});
    let mos = build(folder.path(), &json!({"store": store, "user_manager": users, "queue": queue})).await;
    // Other runs use the same Neo4j.
    let zora = UserId::from(format!("zora-{}", std::process::id()).as_str());
    furnish(&mos, &zora, &of_bob).await;
    push_jobs(&mos, &zora, &of_bob).await;
    let left = erase_with_jobs(&mos, &zora, &of_bob).await;
    for folder in ["`usage`", "`audit`", "`activation`"] {
        assert!(left.iter().any(|left| left.starts_with("data folders of other programs") && left.contains(folder)));
    }
    mos.delete_cube(&bob(), &of_bob).await.unwrap();
    assert!(mos.queue().unwrap().tenants().await.unwrap().is_empty(), "nothing of either cube is left");
}

#[tokio::test]
async fn files_of_another_data_folder_let_go_of_a_user_who_was_erased() {
    let folder = tempfile::tempdir().unwrap();
    // Two programs on one record, each with a folder of its own.
    let store = json!({"backend": "sqlite", "config": {"path": folder.path().join("shared.db")}});
    let open = async |name: &str| {
        let settings = json!({"store": store, "data_dir": folder.path().join(name)});
        let embedder = Arc::new(WordEmbedder::new("words", 64));
        Mos::builder(Settings::from_json(&settings).unwrap()).embedder(embedder).build().await.unwrap()
    };
    let (zora, of_bob, of_zora) = (UserId::from("zora-xq7"), CubeId::from("bobs-cube"), CubeId::from("wallabyton"));
    let one = open("one").await;
    furnish(&one, &zora, &of_bob).await;
    one.create_cube(&zora, NewCube::new(of_zora.clone())).await.unwrap();
    let other = folder.path().join("other");
    for (name, line) in [
        (
            "usage/2026-01-02.jsonl",
            json!({"day": "2026-01-02", "user": zora, "cube": of_zora, "model": "m", "calls": 1,
                                          "prompt_tokens": 5, "cached_tokens": 0, "completion_tokens": 1}),
        ),
        ("audit/1.jsonl", json!({"user": zora, "what": "POST /product/add", "cubes": [of_zora]})),
        ("activation/kept", json!("of somebody")),
    ] {
        let path = other.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, format!("{line}\n")).unwrap();
    }
    let refused = one.erase_files(&zora, &[]).await.unwrap_err().to_string();
    assert!(refused.contains("not erased yet"), "{refused}");
    one.erase_user(&zora, EVERYTHING).await.unwrap();
    drop(one);

    let mos = open("other").await;
    let refused = mos.erase_files(&zora, std::slice::from_ref(&of_bob)).await.unwrap_err().to_string();
    assert!(refused.contains("bobs-cube"), "{refused}");
    let erased = mos.erase_files(&zora, std::slice::from_ref(&of_zora)).await.unwrap();
    assert_eq!(erased.cubes, [of_zora, CubeId::from("cube_zora-xq7")]);
    assert!(erased.left.iter().any(|left| left.contains("activation")), "{:?}", erased.left);
    drop(mos);
    let found = files_holding(&other, &["zora-xq7".to_owned(), "wallabyton".to_owned()]).unwrap();
    assert!(found.is_empty(), "{found:?}");
    assert!(other.join("audit/1.jsonl").exists(), "that there was a change stays");
}
