//! Two programs that delete and make cubes of one id at the same time.

use std::path::Path;
use std::sync::Arc;

use mos::config::Setting;
use mos::{Add, Error, Mos, NewCube, Settings};
use mos_core::{CubeId, Expected, Filter, MemoryError, Paging, Scope, StateStore, StoreError, SystemClock};
use mos_stores::{RedisOptions, RedisState, SqliteOptions, SqliteStore};
use mos_testkit::embedder::WordEmbedder;
use mos_testkit::services;
use serde_json::{Value, json};

use crate::ann;
use crate::servers::servers;

const ROUNDS: usize = 8;

async fn program(folder: &Path, settings: &Value) -> Mos {
    let embedder = Arc::new(WordEmbedder::new("words", 64));
    let settings = Settings::from_json(settings).unwrap();
    Mos::builder(settings).data_dir(folder).embedder(embedder).build().await.unwrap()
}

/// Makes the cube as soon as there is none of its id.
async fn make(mos: &Mos, cube: &CubeId) {
    loop {
        match mos.create_cube(&ann(), NewCube::new(cube.clone())).await {
            Ok(_) => return,
            Err(Error::Memory(MemoryError::Store(StoreError::Conflict(_)))) => tokio::task::yield_now().await,
            Err(error) => panic!("{error}"),
        }
    }
}

/// One program deletes the cube while the other makes the next one, and fills it at once.
async fn what_is_made_meanwhile_stays(one: &Mos, other: &Mos, state: &dyn StateStore, cube: &CubeId) {
    let scope = Scope::of(cube);
    one.create_user("ann", None).await.unwrap();
    one.create_cube(&ann(), NewCube::new(cube.clone())).await.unwrap();
    for round in 0..ROUNDS {
        let (deleting, making) = if round.is_multiple_of(2) { (one, other) } else { (other, one) };
        let fill = async {
            make(making, cube).await;
            state.write(&scope, "diary", &json!(round), Expected::Absent).await.unwrap();
            state.append(&scope, "events", &[json!(round)], 5).await.unwrap();
            making.add(Add::text(format!("memory of round {round}")).user("ann").cube(cube.clone())).await.unwrap();
        };
        let ann = ann();
        let (deleted, ()) = tokio::join!(deleting.delete_cube(&ann, cube), fill);
        deleted.unwrap();
        assert_eq!(state.read(&scope, "diary").await.unwrap().map(|document| document.value), Some(json!(round)));
        let events = state.entries(&scope, "events", 0, 9).await.unwrap();
        assert_eq!(events.len(), 1, "those of earlier cubes are gone: {events:?}");
        let page = deleting.memory_page(&ann, cube, &Filter::Everything, Paging::ALL).await.unwrap();
        let texts: Vec<&str> = page.entries.iter().map(|item| item.memory.as_str()).collect();
        assert_eq!(texts, [format!("memory of round {round}")]);
    }
    one.delete_cube(&ann(), cube).await.unwrap();
    let late = state.write(&scope, "diary", &json!("late"), Expected::Anything).await;
    assert!(matches!(late, Err(StoreError::NotFound { .. })), "{late:?}");
    assert_eq!(state.read(&scope, "diary").await.unwrap(), None);
    assert!(matches!(other.delete_cube(&ann(), cube).await, Err(Error::NoAccess { .. })));
}

#[tokio::test(flavor = "multi_thread")]
async fn two_programs_share_a_folder() {
    let folder = tempfile::tempdir().unwrap();
    let (one, other) = (program(folder.path(), &json!({})).await, program(folder.path(), &json!({})).await);
    let options = SqliteOptions::at(folder.path().join("mos.db"));
    let state = SqliteStore::open(options, Arc::new(SystemClock)).unwrap();
    what_is_made_meanwhile_stays(&one, &other, &*state, &CubeId::new("notes")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_programs_share_servers() {
    let Some((store, users, notes)) = servers("two") else { return };
    let Some(redis) = services::address("REDIS_URL") else { return };
    let prefix = format!("mos-two-{}", std::process::id());
    let queue = json!({"backend": "redis", "config": {"url": redis, "prefix": prefix}});
    let settings = json!({"store": store, "user_manager": users, "queue": queue});
    let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let one = program(folders[0].path(), &settings).await;
    let other = program(folders[1].path(), &settings).await;
    let mut options = RedisOptions::from_url(&redis).unwrap();
    options.prefix = prefix;
    let state = RedisState::open(options).await.unwrap();
    what_is_made_meanwhile_stays(&one, &other, &*state, &notes).await;
}
