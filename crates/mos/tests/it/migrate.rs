//! Cubes that move from one installation's stores to another's.

use std::path::Path;
use std::sync::Arc;

use mos::config::Setting;
use mos::migrate::{Endpoint, MigrateOptions, MigrateReport, Missing, Outcome, migrate};
use mos::{Error, Settings};
use mos_core::{
    Access, ApiKey, Cube, CubeId, Edge, EmbeddingSpace, EmbeddingWrite, Filter, GraphStore, JobQueue, KeyHash, KeyId,
    KeyScope, KeyStore, MemoryError, MemoryId, MemoryItem, NewJob, Origin, Paging, RecordStore, Scope, StoreError,
    SystemClock, User, UserArchive, UserId, UserRole, UserStore, WriteBatch,
};
use mos_stores::{SqliteOptions, SqliteStore};
use serde_json::{Value, json};

use crate::servers::servers;

mod jobs;

/// More than one page of everything.
const N_MANY: usize = 1203;

fn sqlite(folder: &Path) -> Arc<SqliteStore> {
    SqliteStore::open(SqliteOptions::at(folder.join("mos.db")), Arc::new(SystemClock)).unwrap()
}

fn batch(put: Vec<MemoryItem>) -> WriteBatch {
    WriteBatch { put, ..WriteBatch::new(Origin { message_id: Some("m/1".to_owned()), ..Origin::new("ann", "add") }) }
}

fn item(id: &str, memory: &str) -> MemoryItem {
    let mut item = MemoryItem::new(MemoryId::new(id), memory);
    item.metadata.tags = Some(vec!["狗".to_owned(), "it's".to_owned()]);
    item.metadata.extra.insert("a`b\"c'd".to_owned(), json!({"deep": [1, 0.1, null, "🎈"]}));
    item
}

fn cube(id: &str, owner: &str, is_registered: bool) -> Cube {
    Cube {
        cube_id: CubeId::new(id),
        cube_name: format!("{id}'s name"),
        cube_path: None,
        owner_id: UserId::new(owner),
        created_at: format!("2026-01-0{}T00:00:00.000000+00:00", id.len() % 9 + 1),
        is_registered,
        config: json!({"text_mem": {"backend": "general_text", "config": {}}}),
    }
}

/// How the cubes of a test are called: on a server their names are its own.
#[derive(Clone, Debug)]
struct Names {
    notes: String,
    strange: String,
}

impl Names {
    fn new(prefix: &str) -> Self {
        Self { notes: format!("{prefix}notes"), strange: format!("{prefix}it's `a` \"cube\" / 记忆 🎈") }
    }
}

/// A key as a store keeps it; nobody has its text.
fn key(id: &str, user: Option<&str>) -> ApiKey {
    ApiKey {
        id: KeyId::new(id),
        prefix: "krlk_0123456".to_owned(),
        user: user.map(UserId::new),
        scopes: [KeyScope::Read, KeyScope::Write].into(),
        cubes: None,
        description: Some("the 狗's \"phone\"".to_owned()),
        created_at: "2026-01-02T03:04:05.000006Z".parse().unwrap(),
        last_used_at: Some("2026-01-03T00:00:00Z".parse().unwrap()),
        expires_at: Some("2027-01-02T00:00:00Z".parse().unwrap()),
        is_active: true,
    }
}

fn hash(number: u8) -> KeyHash {
    KeyHash::new([number; 32])
}

/// An installation with users, keys, cubes, shares and everything that a cube can hold.
async fn fill(folder: &Path, names: &Names, n_memories: usize) {
    let store = sqlite(folder);
    for (id, role) in [("ann", UserRole::Admin), ("bob", UserRole::User), ("eve's 名", UserRole::Guest)] {
        store.create_user(&UserId::new(id), &format!("name of {id}"), role).await.unwrap();
    }
    store.create_key(&key("of a program", None), &hash(1)).await.unwrap();
    let restricted = ApiKey { cubes: Some([CubeId::new(names.notes.as_str())].into()), ..key("of ann", Some("ann")) };
    store.create_key(&restricted, &hash(2)).await.unwrap();
    store.create_key(&ApiKey { is_active: false, ..key("revoked", Some("bob")) }, &hash(3)).await.unwrap();
    for one in [cube(&names.notes, "ann", true), cube(&names.strange, "bob", false)] {
        store.create_cube(&one).await.unwrap();
        store.share(&one.cube_id, &UserId::new("eve's 名"), Access::Reader).await.unwrap();
    }
    store.delete_user(&UserId::new("bob")).await.unwrap();
    let notes = Scope::of(&CubeId::new(names.notes.as_str()));
    let space = EmbeddingSpace { model: "words".to_owned(), dimension: 3 };
    let id = |number: usize| format!("m{number}/记");
    for begin in (0..n_memories).step_by(400) {
        let numbers = begin..(begin + 400).min(n_memories);
        let put = numbers.clone().map(|number| item(&id(number), &format!("memory {number} of a 狗's day"))).collect();
        let vectors = numbers.clone().filter(|number| number % 3 != 0);
        let vectors = vectors.map(|number| (id(number).as_str().into(), vec![0.1, number as f32, 0.7])).collect();
        let edges = numbers.map(|number| Edge {
            source: id(number).as_str().into(),
            target: id(number / 2).as_str().into(),
            kind: "PARENT".to_owned(),
        });
        let write = WriteBatch {
            put_edges: edges.collect(),
            embeddings: Some(EmbeddingWrite { space: space.clone(), vectors, made_of: None, aside: false }),
            idempotency_key: Some(format!("key {begin}")),
            ..batch(put)
        };
        store.apply(&notes, write).await.unwrap();
    }
    // A history: changed, removed, written again, in the bin.
    let changed = (0..n_memories).step_by(2).map(|number| item(&id(number), &format!("changed {number}"))).collect();
    store.apply(&notes, batch(changed)).await.unwrap();
    let delete = (0..n_memories).step_by(5).map(|number| id(number).as_str().into()).collect();
    store.apply(&notes, WriteBatch { delete, ..batch(Vec::new()) }).await.unwrap();
    store.apply(&notes, batch(vec![item(&id(0), "written again")])).await.unwrap();
    let bin = Filter::equals("memory", "memory 1 of a 狗's day");
    let n_binned = store.soft_delete(&notes, &bin, "r", "2026-01-02", Origin::new("ann", "bin")).await.unwrap();
    assert_eq!(n_binned, 1);
    let strange = Scope::of(&CubeId::new(names.strange.as_str()));
    store.apply(&strange, batch(vec![item("a", "no vector")])).await.unwrap();
}

/// All that is to be the same: users, cubes, and what the cubes hold.
async fn seen(folder: &Path) -> Vec<String> {
    let store = sqlite(folder);
    let mut users = store.archived_users().await.unwrap();
    users.retain(|user| user.user_id.as_str() != "root");
    let keys = store.archived_keys().await.unwrap();
    let keys: Vec<_> = keys.into_iter().map(|(hash, key)| (hash.hex(), key)).collect();
    let mut seen = vec![format!("{users:?}"), format!("{keys:?}")];
    for cube in store.cubes(None).await.unwrap() {
        let scope = Scope::of(&cube.cube_id);
        let items = store.list(&scope, &Filter::Everything, Paging::ALL).await.unwrap().entries;
        let ids: Vec<MemoryId> = items.iter().map(|item| item.id.clone()).collect();
        seen.push(format!("{cube:?} {:?}", store.archived_shares(&cube.cube_id).await.unwrap()));
        seen.push(format!("{:?}", store.all_edges(&scope).await.unwrap()));
        seen.push(format!("{:?}", store.embeddings(&scope, &ids).await.unwrap()));
        seen.push(format!("{:?}", store.embedding_space(&scope).await.unwrap()));
        seen.extend(items.iter().map(|item| format!("{item:?}")));
        for number in 0..N_MANY {
            let id = MemoryId::new(format!("m{number}/记"));
            seen.push(format!("{:?}", store.history(&scope, &id).await.unwrap()));
        }
        seen.push(format!("{:?}", store.full_text(&scope, "狗 day", 20, &Filter::Everything).await.unwrap()));
    }
    assert!(store.check().await.unwrap().is_empty());
    seen
}

async fn assert_same(left: &Path, right: &Path) {
    let (left, right) = (seen(left).await, seen(right).await);
    assert_eq!(left.len(), right.len());
    for (left, right) in left.iter().zip(&right) {
        assert_eq!(left, right);
    }
}

async fn folder(folder: &Path) -> Endpoint {
    Endpoint::open(&Settings::default(), Some(folder), Missing::Make).await.unwrap()
}

async fn run(from: &Endpoint, to: &Endpoint) -> mos::Result<MigrateReport> {
    migrate(from, to, &MigrateOptions::default(), |_| ()).await
}

fn outcomes(report: &MigrateReport) -> Vec<Outcome> {
    report.cubes.iter().map(|cube| cube.outcome).collect()
}

fn conflict(result: mos::Result<MigrateReport>) -> String {
    match result {
        Err(Error::Memory(MemoryError::Store(StoreError::Conflict(text)))) => text,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_is_the_same_in_another_folder() {
    let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    fill(here.path(), &Names::new(""), N_MANY).await;
    let (from, to) = (folder(here.path()).await, folder(there.path()).await);
    let look = MigrateOptions { dry_run: true, ..MigrateOptions::default() };
    let report = migrate(&from, &to, &look, |_| ()).await.unwrap();
    assert_eq!(outcomes(&report), [Outcome::ToMove, Outcome::ToMove]);
    assert!(sqlite(there.path()).cubes(None).await.unwrap().is_empty(), "nothing was written");
    let mut n_told = 0;
    let report = migrate(&from, &to, &MigrateOptions::default(), |_| n_told += 1).await.unwrap();
    assert_eq!(outcomes(&report), [Outcome::Moved, Outcome::Moved]);
    assert_eq!((report.n_new_users, report.n_known_users), (3, 1));
    let notes = report.cubes.iter().find(|cube| cube.cube.as_str() == "notes").unwrap();
    assert_eq!(notes.contents.memories.count as usize, N_MANY - N_MANY.div_ceil(5) + 1);
    assert!(notes.contents.versions.count as usize > N_MANY / 2 && notes.contents.keys.count == 4, "{notes:?}");
    assert!(n_told > 10, "progress is told: {n_told}");
    assert_same(here.path(), there.path()).await;
    // What is there already is compared and left alone.
    let report = run(&from, &to).await.unwrap();
    assert_eq!(outcomes(&report), [Outcome::SameAlready, Outcome::SameAlready]);
    assert_eq!((report.n_new_users, report.n_known_users), (0, 4));
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_open_there_what_they_open_here_and_what_is_revoked_stays_so() {
    let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    fill(here.path(), &Names::new(""), 3).await;
    let (from, to) = (folder(here.path()).await, folder(there.path()).await);
    let look = MigrateOptions { dry_run: true, ..MigrateOptions::default() };
    let report = migrate(&from, &to, &look, |_| ()).await.unwrap();
    assert_eq!((report.n_new_keys, report.n_known_keys, report.n_keys_left), (3, 0, 0));
    let (source, target) = (sqlite(here.path()), sqlite(there.path()));
    assert!(target.archived_keys().await.unwrap().is_empty(), "nothing was written");
    run(&from, &to).await.unwrap();
    assert_eq!(target.archived_keys().await.unwrap(), source.archived_keys().await.unwrap());
    // Revoked here and there.
    source.revoke_key(&KeyId::new("of a program")).await.unwrap();
    target.revoke_key(&KeyId::new("of ann")).await.unwrap();
    let again = run(&from, &to).await.unwrap();
    assert_eq!((again.n_new_keys, again.n_known_keys), (0, 3));
    for number in 1..=3 {
        assert!(!target.find_key(&hash(number)).await.unwrap().unwrap().is_active, "{number}");
    }
    assert!(source.find_key(&hash(2)).await.unwrap().unwrap().is_active, "the source is only read");
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_of_a_user_who_is_somebody_else_there_stay_behind() {
    let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (source, target) = (sqlite(here.path()), sqlite(there.path()));
    let (ann, root) = (UserId::new("ann"), UserId::new("root"));
    for (store, made_at) in
        [(&source, "2026-01-01T00:00:00.000000+00:00"), (&target, "2026-02-01T00:00:00.000000+00:00")]
    {
        let user = User {
            user_id: ann.clone(),
            user_name: "ann".to_owned(),
            role: UserRole::User,
            created_at: made_at.to_owned(),
            is_active: true,
        };
        store.import_user(&user).await.unwrap();
    }
    source.create_user(&UserId::new("eve"), "eve", UserRole::User).await.unwrap();
    for (number, user) in (1..).zip([&ann, &root, &UserId::new("eve")]) {
        source.create_key(&key(&format!("of {user}"), Some(user.as_str())), &hash(number)).await.unwrap();
    }
    let (from, to) = (folder(here.path()).await, folder(there.path()).await);
    let report = run(&from, &to).await.unwrap();
    assert_eq!((report.n_new_keys, report.n_keys_left), (2, 1));
    assert!(target.find_key(&hash(1)).await.unwrap().is_none(), "somebody else's key opens nothing of ann's");
    assert!(target.find_key(&hash(2)).await.unwrap().is_some() && target.find_key(&hash(3)).await.unwrap().is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_stay_where_they_are_when_cubes_are_chosen_and_ids_are_not_taken_over() {
    let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    fill(here.path(), &Names::new(""), 3).await;
    let (from, to) = (folder(here.path()).await, folder(there.path()).await);
    let one = MigrateOptions { cubes: vec![CubeId::new("notes")], ..MigrateOptions::default() };
    let report = migrate(&from, &to, &one, |_| ()).await.unwrap();
    assert_eq!((report.n_new_keys, report.n_keys_left), (0, 3));
    let target = sqlite(there.path());
    assert!(target.archived_keys().await.unwrap().is_empty());
    target.create_key(&key("of a program", None), &hash(9)).await.unwrap();
    let refused = conflict(run(&from, &to).await);
    assert!(refused.contains("of a program"), "{refused}");
    assert_eq!(target.archived_keys().await.unwrap().len(), 1, "nothing was written");
}

#[tokio::test(flavor = "multi_thread")]
async fn there_and_back_through_servers_everything_is_the_same() {
    let Some((store, users, prefix)) = servers("migrate") else { return };
    let (here, back) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    fill(here.path(), &Names::new(prefix.as_str()), N_MANY).await;
    let settings = Settings::from_json(&json!({"store": store, "user_manager": users})).unwrap();
    let servers = Endpoint::open(&settings, None, Missing::Make).await.unwrap();
    let first = run(&folder(here.path()).await, &servers).await.unwrap();
    assert_eq!(outcomes(&first), [Outcome::Moved, Outcome::Moved]);
    let second = run(&servers, &folder(back.path()).await).await.unwrap();
    assert_eq!(outcomes(&second), [Outcome::Moved, Outcome::Moved]);
    for (first, second) in first.cubes.iter().zip(&second.cubes) {
        assert_eq!((&first.cube, &first.contents), (&second.cube, &second.contents));
    }
    assert_same(here.path(), back.path()).await;
    let (mos, embedder) = (mos::Mos::builder(settings), mos_testkit::embedder::WordEmbedder::new("words", 3));
    let mos = mos.data_dir(back.path().join("unused")).embedder(Arc::new(embedder)).build().await.unwrap();
    let notes = CubeId::new(Names::new(prefix.as_str()).notes);
    let found = mos.search(mos::Search::new("memory 7").user("ann").cubes(vec![notes.clone()])).await.unwrap();
    assert!(!found.best().is_empty(), "the index follows the record by itself");
    mos.delete_cube(&UserId::new("ann"), &notes).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_interrupted_goes_on_wherever_it_stopped() {
    let here = tempfile::tempdir().unwrap();
    fill(here.path(), &Names::new(""), 600).await;
    let from = folder(here.path()).await;
    let mut n_interrupted = 0;
    loop {
        let there = tempfile::tempdir().unwrap();
        let (stop, stopped) = tokio::sync::oneshot::channel();
        let (mut stop, mut left) = (Some(stop), n_interrupted + 1);
        let to = folder(there.path()).await;
        let options = MigrateOptions::default();
        let moving = migrate(&from, &to, &options, |_| {
            left -= 1;
            if left == 0 {
                stop.take().unwrap().send(()).unwrap();
            }
        });
        let is_whole = tokio::select! {
            biased;
            _ = stopped => false,
            done = moving => { done.unwrap(); true }
        };
        drop(to);
        if is_whole {
            break;
        }
        n_interrupted += 1;
        let to = folder(there.path()).await;
        let unfinished = sqlite(there.path()).cubes(None).await.unwrap();
        let half = unfinished.iter().find(|cube| cube.config.get("migration").is_some());
        assert!(half.is_none_or(|cube| !cube.is_registered), "half a cube is not used");
        run(&from, &to).await.unwrap();
        drop(to);
        assert_same(here.path(), there.path()).await;
    }
    assert!(n_interrupted > 10, "{n_interrupted}");
}

#[tokio::test(flavor = "multi_thread")]
async fn half_a_cube_can_be_used_by_nobody() {
    let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    fill(here.path(), &Names::new(""), 10).await;
    let store = sqlite(there.path());
    store.create_user(&UserId::new("ann"), "name of ann", UserRole::User).await.unwrap();
    let mark = |from: &str| json!({"migration": {"from": from, "position": 0, "memories": null, "versions": null, "keys": null}});
    let half = Cube { is_registered: false, config: mark("elsewhere"), ..cube("notes", "ann", true) };
    store.create_cube(&half).await.unwrap();
    let mos = crate::open(there.path()).await;
    let refused = mos.register_mem_cube(&UserId::new("ann"), mos::CubeSource::Known, Some(&half.cube_id)).await;
    assert!(refused.unwrap_err().to_string().contains("mos migrate"));
    let (from, to) = (folder(here.path()).await, folder(there.path()).await);
    assert!(conflict(run(&from, &to).await).contains("elsewhere"), "what comes from elsewhere is not mixed");
    let away = tempfile::tempdir().unwrap();
    let onward = run(&to, &folder(away.path()).await).await;
    assert!(conflict(onward).contains("not whole yet"), "half a cube does not move on");
    store.set_cube_config(&half.cube_id, &mark(from.name())).await.unwrap();
    assert_eq!(outcomes(&run(&from, &to).await.unwrap()), [Outcome::Moved, Outcome::Moved]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_written_to_the_source_meanwhile_comes_along() {
    let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    fill(here.path(), &Names::new(""), 1100).await;
    let (from, to) = (folder(here.path()).await, folder(there.path()).await);
    let (writer, scope) = (sqlite(here.path()), Scope::of(&CubeId::new("notes")));
    let mut round = 0;
    let report = migrate(&from, &to, &MigrateOptions::default(), |progress| {
        // Between pages, before the comparison, and in it; then there is quiet.
        if progress.cube != "notes" || round > 8 || progress.part == "history" {
            return;
        }
        round += 1;
        let id = |number: usize| MemoryId::new(format!("m{number}/记"));
        let again = item(id(3).as_str(), &format!("removed and written again {round}"));
        let edge = Edge { source: id(0), target: id(round), kind: "LATE".to_owned() };
        let writes = [
            WriteBatch { delete: vec![id(3), id(400 + round)], ..batch(Vec::new()) },
            WriteBatch {
                idempotency_key: Some(format!("late {round}")),
                ..batch(vec![
                    again,
                    item(id(1).as_str(), &format!("round {round}")),
                    item(&format!("new {round}"), "new"),
                ])
            },
        ];
        let runtime = tokio::runtime::Handle::current();
        tokio::task::block_in_place(|| {
            for write in writes {
                runtime.block_on(writer.apply(&scope, write)).unwrap();
            }
            // A removed memory has no edges: some rounds have none.
            let _ = runtime.block_on(writer.apply(&scope, WriteBatch { put_edges: vec![edge], ..batch(Vec::new()) }));
        });
    })
    .await
    .unwrap();
    assert!(round > 8);
    assert_eq!(outcomes(&report), [Outcome::Moved, Outcome::Moved]);
    assert_same(here.path(), there.path()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_is_written_to_all_the_time_is_told() {
    let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    fill(here.path(), &Names::new(""), 10).await;
    let (from, to) = (folder(here.path()).await, folder(there.path()).await);
    let (writer, scope) = (sqlite(here.path()), Scope::of(&CubeId::new("notes")));
    let mut number = 0;
    let error = migrate(&from, &to, &MigrateOptions::default(), |progress| {
        if progress.part == "comparing" && progress.cube == "notes" {
            number += 1;
            let write = writer.apply(&scope, batch(vec![item("late", &format!("{number}"))]));
            tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(write)).unwrap();
        }
    })
    .await
    .unwrap_err()
    .to_string();
    assert!(error.contains("stop that") && error.contains("notes"), "{error}");
    let cubes = sqlite(there.path()).cubes(None).await.unwrap();
    assert!(cubes.iter().all(|cube| cube.cube_id.as_str() != "notes" || !cube.is_registered));
    assert!(run(&from, &to).await.is_ok(), "it goes on when it is quiet");
    assert_same(here.path(), there.path()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn other_cubes_and_users_in_the_target_are_refused_before_anything_is_written() {
    let here = tempfile::tempdir().unwrap();
    fill(here.path(), &Names::new(""), 10).await;
    let from = folder(here.path()).await;
    let ours = Scope::of(&CubeId::new("notes"));
    for case in ["cube", "time", "memories", "name", "id", "deleted"] {
        let there = tempfile::tempdir().unwrap();
        let store = sqlite(there.path());
        let (ann, name) = (UserId::new("ann"), "name of ann");
        let mut other = cube("notes", "ann", true);
        match case {
            "memories" => {
                store.apply(&ours, batch(vec![item("a", "of nobody")])).await.unwrap();
            }
            "name" => drop(store.create_user(&UserId::new("other"), name, UserRole::User).await.unwrap()),
            "id" => drop(store.create_user(&ann, "another", UserRole::User).await.unwrap()),
            _ => {
                store.create_user(&ann, name, UserRole::User).await.unwrap();
                if case == "time" {
                    other.created_at = "2020-01-01T00:00:00.000000+00:00".to_owned();
                }
                if case != "deleted" {
                    store.create_cube(&other).await.unwrap();
                    store.apply(&ours, batch(vec![item("a", "different")])).await.unwrap();
                } else {
                    store.delete_user(&ann).await.unwrap();
                }
            }
        }
        let n_before = store.archived_users().await.unwrap().len();
        let to = folder(there.path()).await;
        let error = conflict(run(&from, &to).await);
        assert!(error.contains("notes") || error.contains("ann"), "{case}: {error}");
        assert_eq!(store.archived_users().await.unwrap().len(), n_before, "{case}: nothing was written");
        assert!(store.cubes(None).await.unwrap().len() <= 1, "{case}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_moved_is_told() {
    let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    fill(here.path(), &Names::new(""), 10).await;
    let (from, to) = (folder(here.path()).await, folder(there.path()).await);
    let same = run(&from, &folder(&here.path().join(".")).await).await.unwrap_err().to_string();
    assert!(same.contains("another place"), "{same}");
    let unknown = MigrateOptions { cubes: vec![CubeId::new("nobody's")], ..MigrateOptions::default() };
    let error = migrate(&from, &to, &unknown, |_| ()).await.unwrap_err().to_string();
    assert!(error.contains("nobody's"), "{error}");
    let nowhere = Endpoint::open(&Settings::default(), Some(&there.path().join("x")), Missing::Refuse).await;
    assert!(nowhere.unwrap_err().to_string().contains("no database at"));
    let memory = Settings::from_json(&json!({"store": {"backend": "memory", "config": {}}})).unwrap();
    assert!(Endpoint::open(&memory, None, Missing::Make).await.unwrap_err().to_string().contains("forgets"));
    // Jobs stay where they are when that is asked for.
    let (store, notes) = (sqlite(here.path()), Scope::of(&CubeId::new("notes")));
    store.push(&notes, vec![NewJob::new("j".into(), "label", Value::Null)]).await.unwrap();
    let options = MigrateOptions { leave_jobs: true, cubes: vec![CubeId::new("notes")], ..MigrateOptions::default() };
    let report = migrate(&from, &to, &options, |_| ()).await.unwrap();
    assert_eq!((report.cubes.len(), report.cubes[0].n_jobs_left), (1, 1), "only the cube that was named");
    assert_eq!(report.n_new_users, 2, "with its owner and whom it is shared with");
    assert_eq!(sqlite(there.path()).stats(&notes).await.unwrap().waiting, 0);
    let with_jobs = MigrateOptions { leave_jobs: false, ..options.clone() };
    let report = migrate(&from, &to, &with_jobs, |_| ()).await.unwrap();
    assert_eq!(
        (report.cubes[0].outcome, report.cubes[0].background.jobs.count),
        (Outcome::SameAlready, 1),
        "they come later"
    );
    assert_eq!(sqlite(there.path()).stats(&notes).await.unwrap().waiting, 1);
    let unknown = MigrateOptions { cubes: vec![CubeId::new("other")], ..options };
    let error = migrate(&from, &to, &unknown, |_| ()).await.unwrap_err().to_string();
    assert!(error.contains("holds no cube `other`"), "{error}");
}
