//! `configs/full.yaml`: one cube with a tree in Neo4j, its vectors in Qdrant, and kept state of the model in this process.

use std::path::{Path, PathBuf};

use mos::kv::ExtractInput;
use mos::{Add, Chat, Mos, NewCube, Search, Settings};
use mos_core::{CubeId, Sampling};
use mos_testkit::qdrant_server::QdrantServer;
use mos_testkit::services;

use crate::ann;

/// The file, with the servers of the environment in names of the test's own; `None` where there are none.
fn settings(qdrant: &str, key: Option<String>) -> Option<Settings> {
    let [uri, user, password] = ["NEO4J_URI", "NEO4J_USER", "NEO4J_PASSWORD"].map(services::address);
    let own = format!("mos_full_{}", std::process::id());
    let models = std::env::var_os("MOS_MODELS_DIR").map(PathBuf::from).unwrap_or_else(|| {
        let home = std::env::var_os("HOME").or_else(|| std::env::var_os("USERPROFILE")).unwrap();
        Path::new(&home).join(".cache/mos/models")
    });
    let mut environment = vec![
        ("NEO4J_URI", uri?),
        ("MOS__STORE__CONFIG__USER", user?),
        ("NEO4J_PASSWORD", password?),
        ("DATABASE_URL", services::address("DATABASE_URL")?),
        ("MOS__USER_MANAGER__CONFIG__SCHEMA_NAME", own.clone()),
        ("QDRANT_URL", qdrant.to_owned()),
        ("MOS__VECTORS__CONFIG__COLLECTION_NAME", own),
        ("MOS_MODELS_DIR", models.display().to_string()),
    ];
    environment.extend(key.map(|key| ("MOS__VECTORS__CONFIG__API_KEY", key)));
    let environment = environment.into_iter().map(|(name, value)| (name.to_owned(), value));
    let file = PathBuf::from(std::env::var("CARGO_MANIFEST_DIR").unwrap()).join("../../configs/full.yaml");
    Some(Settings::load(Some(&file), environment).unwrap_or_else(|error| panic!("{error}")).settings)
}

#[tokio::test(flavor = "multi_thread")]
async fn one_chat_uses_a_tree_vectors_on_a_server_and_kept_state() {
    let given = |name: &str| std::env::var(name).ok().filter(|text| !text.trim().is_empty());
    let own = given("QDRANT_URL").is_none().then(|| QdrantServer::start(None));
    let url = own.as_ref().map_or_else(|| given("QDRANT_URL").unwrap_or_default(), QdrantServer::url);
    let key = if own.is_some() { None } else { given("QDRANT_API_KEY") };
    let Some(settings) = settings(&url, key) else { return };
    let folder = tempfile::tempdir().unwrap();
    let mos = Mos::builder(settings).data_dir(folder.path()).build().await.unwrap();
    mos.create_user("ann", None).await.unwrap();
    let cube = CubeId::new(format!("mos_full_{}", std::process::id()));
    mos.create_cube(&ann(), NewCube::new(cube.clone())).await.unwrap();

    let handle = mos.cube(&ann(), &cube).await.unwrap();
    assert_eq!(handle.text_mem().backend(), "tree_text");
    mos.add(Add::text("The rocket is called Heron.").user("ann").cube(cube.clone())).await.unwrap();
    let memory = handle.caches().unwrap().memory().await.unwrap();
    let inputs = [ExtractInput::from("The rocket flies on Tuesday.")];
    let kept = tokio::task::spawn_blocking(move || memory.extract_many(&inputs).and_then(|items| memory.add(items)));
    kept.await.unwrap().unwrap();

    let search = Search::new("What is the name of the rocket?").user("ann").cubes([cube.clone()]);
    let found = mos.search(search).await.unwrap();
    assert_eq!(found.best()[0].1.item.memory, "The rocket is called Heron.");
    let question = Chat::new("What is the name of the rocket, and when does it fly?").user("ann").cubes([cube.clone()]);
    let reply = mos.chat(question.sampling(Sampling { max_tokens: 24, ..Sampling::default() })).await.unwrap();
    assert_eq!(reply.activation.len(), 1, "the kept state stands before the conversation");
    assert!(reply.memories.iter().any(|(_, found)| found.item.memory.contains("Heron")), "{reply:?}");
    let (answer, usage) = reply.complete().await.unwrap();
    assert!(!answer.trim().is_empty() && usage.cached_tokens > 0, "{answer}: {usage:?}");

    let report = mos.reconcile().await.unwrap();
    assert!(report.facts["store"].starts_with("Neo4j at bolt://"), "{report:?}");
    assert!(report.facts["vectors: server"].starts_with("Qdrant "), "{report:?}");
    assert!(report.mended.is_empty(), "the server has every vector: {report:?}");

    // The whole cube goes into one file, and into an installation without any server.
    let file = folder.path().join("full.tar");
    let exported = mos.export_cube(&ann(), Some(&cube), &file).await.unwrap();
    let elsewhere = tempfile::tempdir().unwrap();
    let embedded = Settings { models_dir: mos.settings().models_dir.clone(), ..Settings::default() };
    let other = Mos::builder(embedded).data_dir(elsewhere.path()).build().await.unwrap();
    other.create_user("ann", None).await.unwrap();
    let imported = other.import_cube(&ann(), &file, None).await.unwrap();
    assert_eq!(imported.content, exported.content, "texts, edges and vectors are the same");
    let items = other.cube(&ann(), &cube).await.unwrap().caches().unwrap().list().await.unwrap();
    assert_eq!(items.len(), 1, "and so is the kept state");
    mos.delete_cube(&ann(), &cube).await.unwrap();
}
