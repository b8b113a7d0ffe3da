//! Users that are kept elsewhere than the memories.

use std::path::Path;
use std::sync::Arc;

use mos::config::Setting;
use mos::{Add, Error, Mos, NewCube, Settings};
use mos_core::SystemClock;
use mos_stores::InMemoryStore;
use mos_testkit::embedder::WordEmbedder;
use serde_json::json;

use crate::ann;

async fn build(folder: &Path, user_manager: serde_json::Value) -> mos::Result<Mos> {
    // Without models: nothing here needs one, and doctor shall not load any.
    let settings = json!({"user_manager": user_manager, "models_dir": folder.join("models")});
    let embedder = Arc::new(WordEmbedder::new("words", 64));
    let settings = Settings::from_json(&settings).unwrap();
    Mos::builder(settings).data_dir(folder).embedder(embedder).build().await
}

#[tokio::test]
async fn a_store_of_users_that_this_program_lacks_is_answered_with_the_known_ones() {
    let folder = tempfile::tempdir().unwrap();
    for backend in ["mysql", "redis"] {
        let error = build(folder.path(), json!({"backend": backend, "config": {}})).await.unwrap_err();
        assert!(matches!(error, Error::Invalid(_)), "{error}");
        assert!(error.to_string().contains(backend) && error.to_string().contains("postgres, sqlite"), "{error}");
    }
}

#[tokio::test]
async fn a_program_may_bring_its_own_store_of_users() {
    let folder = tempfile::tempdir().unwrap();
    let users = InMemoryStore::new(Arc::new(SystemClock));
    let settings = Settings::from_json(&json!({"models_dir": folder.path().join("models")})).unwrap();
    let mos = Mos::builder(settings)
        .data_dir(folder.path())
        .embedder(Arc::new(WordEmbedder::new("words", 64)))
        .users(Arc::clone(&users) as _)
        .build()
        .await
        .unwrap();
    mos.create_user("ann", None).await.unwrap();
    assert!(mos_core::UserStore::user(&*users, &ann()).await.unwrap().is_some());
    mos.create_cube(&ann(), NewCube::new("notes")).await.unwrap();
    mos.add(Add::text("a dog").user("ann")).await.unwrap();
    let report = mos.doctor().await.unwrap();
    let unknown = report.findings.iter().filter(|finding| finding.what.contains("unknown cube"));
    assert_eq!(unknown.count(), 0, "the record does not know the cube, and need not: {report:?}");
}

#[cfg(feature = "postgres")]
mod postgres {
    use mos::Search;
    use mos_core::{CubeId, UserId};
    use mos_testkit::services;
    use sqlx::{AssertSqlSafe, Connection};

    use super::*;
    use crate::bob;

    async fn run(url: &str, statements: &str) {
        let mut connection = sqlx::PgConnection::connect(url).await.unwrap();
        sqlx::raw_sql(AssertSqlSafe(statements.to_owned())).execute(&mut connection).await.unwrap();
    }

    /// Settings of users in a schema of a test's own, and the statement that removes it.
    fn schema(url: &str, test: &str) -> (serde_json::Value, String) {
        let name = format!("mos_facade_{test}_{}", std::process::id());
        let config = json!({"backend": "postgres", "config": {"url": url, "schema_name": name}});
        (config, format!("DROP SCHEMA IF EXISTS {name} CASCADE"))
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn users_in_postgres_go_with_memories_in_sqlite() {
        let Some(url) = services::address("DATABASE_URL") else { return };
        let (config, remove) = schema(&url, "both");
        let folder = tempfile::tempdir().unwrap();
        let mos = build(folder.path(), config.clone()).await.unwrap();
        for user in ["ann", "bob"] {
            mos.create_user(user, None).await.unwrap();
        }
        let notes = CubeId::from("notes");
        mos.create_cube(&ann(), NewCube::new("notes")).await.unwrap();
        mos.add(Add::text("My dog is called Max").user("ann")).await.unwrap();
        mos.share_cube_with_user(&ann(), &notes, &bob()).await.unwrap();
        assert_eq!(mos.search(Search::new("dog").user("bob")).await.unwrap().best().len(), 1);
        drop(mos);
        let mos = build(folder.path(), config).await.unwrap();
        assert_eq!(mos.search(Search::new("dog").user("bob")).await.unwrap().best().len(), 1);
        let report = mos.doctor().await.unwrap();
        assert_eq!((report.facts["users: users"].as_str(), report.facts["users: cubes"].as_str()), ("3", "1"));
        assert!(report.findings.iter().all(|finding| finding.what == "chat model"), "{report:?}");
        mos.delete_cube(&ann(), &notes).await.unwrap();
        assert!(mos.search(Search::new("dog").user("bob").cubes(vec![notes.clone()])).await.is_err());
        mos.create_cube(&bob(), NewCube::new("notes")).await.unwrap();
        assert_eq!(mos.search(Search::new("dog").user("bob")).await.unwrap().best().len(), 0);
        run(&url, &remove).await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn many_programs_make_one_default_cube() {
        let Some(url) = services::address("DATABASE_URL") else { return };
        let (config, remove) = schema(&url, "default");
        let folder = tempfile::tempdir().unwrap();
        let mut programs = Vec::new();
        for _ in 0..4 {
            programs.push(build(folder.path(), config.clone()).await.unwrap());
        }
        programs[0].create_user("ann", None).await.unwrap();
        let tasks: Vec<_> = (0..8)
            .map(|number| {
                let mos = programs[number % 4].clone();
                tokio::spawn(async move {
                    let cube = mos.ensure_default_cube(&ann()).await.unwrap();
                    mos.add(Add::text(format!("memory {number}")).user("ann")).await.unwrap();
                    cube
                })
            })
            .collect();
        for task in tasks {
            assert_eq!(task.await.unwrap(), CubeId::from("cube_ann"));
        }
        assert_eq!(programs[1].list_cubes(&ann()).await.unwrap().len(), 1);
        let all = programs[2].get_all(&ann(), None).await.unwrap();
        assert_eq!(all.text_mem[0].memories.len(), 8, "nobody has erased what others wrote");
        run(&url, &remove).await;
    }

    #[tokio::test]
    async fn doctor_tells_what_does_not_belong_together() {
        let Some(url) = services::address("DATABASE_URL") else { return };
        let (config, remove) = schema(&url, "doctor");
        let (other, remove_other) = schema(&url, "doctor_other");
        let folder = tempfile::tempdir().unwrap();
        let mos = build(folder.path(), config).await.unwrap();
        mos.create_cube(&UserId::from("root"), NewCube::new("notes")).await.unwrap();
        mos.add(Add::text("a dog")).await.unwrap();
        let stranger = build(folder.path(), other).await.unwrap();
        let report = stranger.doctor().await.unwrap();
        let told = report.findings.iter().any(|finding| finding.detail.contains("`notes`"));
        assert!(told, "the record holds memories of a cube that these users do not know: {report:?}");
        run(&url, &format!("{remove}; {remove_other}")).await;
        let report = mos.doctor().await.unwrap();
        let finding = report.findings.iter().find(|finding| finding.what == "users").expect("the tables are gone");
        assert!(finding.detail.contains("PostgreSQL at "), "{finding:?}");
    }
}
