//! Cubes that leave and come: one file, chosen memories, repositories, MemOS' own directories.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use mos::config::{GeneralMemCubeConfig, Setting};
use mos::{Add, CubeSource, Error, GitSource, HubSource, MemoryKind, Mos, NewCube, RegisterOptions, Search, Settings};
use mos_core::{CubeId, UserId};
use serde_json::json;

use crate::{ann, bob, house, open};

fn notes() -> CubeId {
    CubeId::from("notes")
}

fn manifest_folder() -> PathBuf {
    PathBuf::from(std::env::var("CARGO_MANIFEST_DIR").unwrap())
}

/// Another installation, with user carol.
async fn elsewhere() -> (tempfile::TempDir, Mos, UserId) {
    let folder = tempfile::tempdir().unwrap();
    let mos = open(folder.path()).await;
    mos.create_user("carol", None).await.unwrap();
    (folder, mos, UserId::from("carol"))
}

async fn texts(mos: &Mos, user: &UserId, cube: &CubeId) -> Vec<String> {
    let all = mos.get_all(user, Some(cube)).await.unwrap();
    let mut texts: Vec<String> = all.text_mem[0].memories.iter().map(|item| item.memory.clone()).collect();
    texts.sort();
    texts
}

#[tokio::test]
async fn an_exported_cube_is_the_same_elsewhere_and_the_hash_proves_it() {
    let (folder, mos) = house().await;
    for text in ["a dog called Max", "a cat", "the sea is cold"] {
        mos.add(Add::text(text).user("ann")).await.unwrap();
    }
    let before = mos.content_hash(&ann(), Some(&notes())).await.unwrap();
    let file = folder.path().join("notes.tar");
    let exported = mos.export_cube(&ann(), Some(&notes()), &file).await.unwrap();
    assert_eq!((exported.content.as_str(), exported.cube_id), (before.as_str(), notes()));
    assert_eq!(exported.n_bytes, std::fs::metadata(&file).unwrap().len());

    let (_other_folder, other, carol) = elsewhere().await;
    let imported = other.import_cube(&carol, &file, None).await.unwrap();
    assert!(imported.is_same(), "{imported:?}");
    assert_eq!((imported.cube.cube_id.clone(), imported.content.as_str()), (notes(), before.as_str()));
    assert_eq!(other.content_hash(&carol, Some(&notes())).await.unwrap(), before);
    let found = other.search(Search::new("dog").user("carol")).await.unwrap();
    assert_eq!(found.best()[0].1.item.memory, "a dog called Max");

    let again = other.import_cube(&carol, &file, None).await.unwrap_err();
    assert!(matches!(again, Error::Invalid(_)) && again.to_string().contains("--as"), "{again}");
    let copy = CubeId::from("copy");
    let second = other.import_cube(&carol, &file, Some(&copy)).await.unwrap();
    assert!(second.is_same() && second.cube.cube_id == copy);

    other.add(Add::text("a third animal").user("carol").cube("copy")).await.unwrap();
    assert_ne!(other.content_hash(&carol, Some(&copy)).await.unwrap(), before, "a new memory is another content");
    let error = mos.export_cube(&bob(), Some(&notes()), &folder.path().join("b.tar")).await.unwrap_err();
    assert!(matches!(error, Error::NoAccess { .. }), "{error}");
    let error = mos.export_cube(&ann(), Some(&notes()), &file).await.unwrap_err().to_string();
    assert!(error.contains("exists already"), "{error}");
}

#[tokio::test]
async fn a_damaged_file_makes_no_cube() {
    let (folder, mos) = house().await;
    mos.add(Add::text("a dog").user("ann")).await.unwrap();
    let file = folder.path().join("notes.tar");
    mos.export_cube(&ann(), None, &file).await.unwrap();
    let mut bytes = std::fs::read(&file).unwrap();
    let position = bytes.windows(5).rposition(|window| window == b"a dog").unwrap();
    bytes[position] = b'X';
    std::fs::write(&file, &bytes).unwrap();
    let error = mos.import_cube(&ann(), &file, Some(&"copy".into())).await.unwrap_err().to_string();
    assert!(error.contains("checksum") && error.contains("notes.tar"), "{error}");
    std::fs::write(&file, &bytes[..bytes.len() / 2]).unwrap();
    assert!(mos.import_cube(&ann(), &file, Some(&"copy".into())).await.is_err());
    assert_eq!(mos.list_cubes(&ann()).await.unwrap().len(), 1);
}

#[tokio::test]
async fn chosen_memories_are_dumped_and_loaded_and_no_others() {
    let (folder, mos) = house().await;
    mos.add(Add::text("a dog").user("ann")).await.unwrap();
    let only_text = folder.path().join("text");
    let manifest = mos.dump_memories(&ann(), None, &only_text, &[MemoryKind::Text]).await.unwrap();
    assert_eq!(manifest.memories.keys().copied().collect::<Vec<_>>(), [MemoryKind::Text]);
    let error = mos.dump_memories(&ann(), None, &folder.path().join("p"), &[MemoryKind::Preference]).await.unwrap_err();
    assert!(matches!(error, Error::Invalid(_)) && error.to_string().contains("has no pref_mem"), "{error}");
    assert!(!folder.path().join("p").exists());

    let cube = json!({
        "user_id": "ann", "cube_id": "both",
        "text_mem": {"backend": "general_text", "config": {}},
        "pref_mem": {"backend": "pref_text", "config": {"memory_filename": "preferences.json"}},
        "para_mem": {"backend": "lora", "config": {}},
    });
    let config = Some(GeneralMemCubeConfig::from_json(&cube).unwrap());
    let both = CubeId::from("both");
    mos.create_cube(&ann(), NewCube { cube_id: both.clone(), name: None, config }).await.unwrap();
    mos.add(Add::text("a cat").user("ann").cube("both")).await.unwrap();
    let rest = folder.path().join("rest");
    let kinds = [MemoryKind::Preference, MemoryKind::Parametric];
    let manifest = mos.dump_memories(&ann(), Some(&both), &rest, &kinds).await.unwrap();
    assert!(rest.join("preferences.json").is_file() && !rest.join("textual_memory.json").exists());
    assert_eq!(manifest.memories.len(), 2);
    let error = mos.load_memories(&ann(), Some(&both), &rest, &[MemoryKind::Text]).await.unwrap_err().to_string();
    assert!(error.contains("holds no text_mem") && error.contains("textual_memory.json"), "{error}");
    mos.load_memories(&ann(), Some(&both), &rest, &kinds).await.unwrap();
    assert_eq!(texts(&mos, &ann(), &both).await, ["a cat"], "texts stay as they were");
    mos.load_memories(&ann(), Some(&both), &only_text, &[MemoryKind::Text]).await.unwrap();
    assert_eq!(texts(&mos, &ann(), &both).await, ["a cat", "a dog"]);
}

#[tokio::test]
async fn a_cube_is_dumped_over_a_removed_folder_and_over_nothing_else() {
    let (folder, mos) = house().await;
    mos.add(Add::text("a dog").user("ann")).await.unwrap();
    let place = folder.path().join("cube");
    mos.dump(&ann(), None, &place).await.unwrap();
    mos.add(Add::text("a cat").user("ann")).await.unwrap();
    assert!(mos.dump(&ann(), None, &place).await.unwrap_err().to_string().contains("is not empty"));
    std::fs::remove_dir_all(&place).unwrap();
    mos.dump(&ann(), None, &place).await.unwrap();
    mos.register_mem_cube(&ann(), CubeSource::Directory(place), Some(&"new".into())).await.unwrap();
    assert_eq!(texts(&mos, &ann(), &"new".into()).await, ["a cat", "a dog"]);
    let photos = folder.path().join("photos");
    std::fs::create_dir(&photos).unwrap();
    std::fs::write(photos.join("holiday.jpg"), "x").unwrap();
    assert!(mos.dump(&ann(), None, &photos).await.is_err());
    assert_eq!(std::fs::read_dir(&photos).unwrap().count(), 1);
}

/// Runs git in a folder, without the settings of whoever runs the tests.
fn git(folder: &Path, arguments: &[&str]) {
    let status = Command::new("git")
        .current_dir(folder)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .args(["-c", "user.name=ann", "-c", "user.email=ann@example.org", "-c", "init.defaultBranch=main"])
        .args(arguments)
        .status()
        .expect("git is installed");
    assert!(status.success(), "{arguments:?}");
}

#[tokio::test]
async fn a_cube_comes_from_a_git_repository() {
    let (folder, mos) = house().await;
    mos.add(Add::text("a dog").user("ann")).await.unwrap();
    let repository = folder.path().join("repository");
    mos.dump(&ann(), None, &repository.join("cubes/notes")).await.unwrap();
    git(&repository, &["init", "--quiet"]);
    git(&repository, &["add", "."]);
    git(&repository, &["commit", "--quiet", "--message", "a cube"]);
    git(&repository, &["tag", "v1"]);

    let url = format!("file://{}", repository.display());
    let source = |revision: Option<&str>, inner: &str| {
        let revision = revision.map(str::to_owned);
        CubeSource::Git(GitSource { revision, folder: Some(inner.into()), ..GitSource::new(url.as_str()) })
    };
    let (_other_folder, other, carol) = elsewhere().await;
    let cube = other.register_mem_cube(&carol, source(Some("v1"), "cubes/notes"), None).await.unwrap();
    assert_eq!((cube.cube_id.as_str(), cube.cube_path.as_deref()), (url.as_str(), Some(url.as_str())));
    assert_eq!(cube.cube_name, "repository");
    assert_eq!(texts(&other, &carol, &cube.cube_id).await, ["a dog"]);

    let fails = |revision: Option<&'static str>, inner: &'static str, id: &'static str| {
        let (other, carol, source) = (other.clone(), carol.clone(), source(revision, inner));
        async move { other.register_mem_cube(&carol, source, Some(&id.into())).await.unwrap_err().to_string() }
    };
    let error = fails(Some("nowhere"), "cubes/notes", "one").await;
    assert!(error.contains("git cannot fetch") && error.contains("nowhere"), "{error}");
    assert!(fails(None, "elsewhere", "two").await.contains("has no folder `elsewhere`"));
    assert!(fails(None, "cubes", "three").await.contains("has no config.json"));
    let small = GitSource { max_bytes: 10, ..GitSource::new(url.as_str()) };
    let error = other.register_mem_cube(&carol, CubeSource::Git(small), Some(&"four".into())).await.unwrap_err();
    assert!(error.to_string().contains("more than 10 bytes"), "{error}");
    assert_eq!(other.list_cubes(&carol).await.unwrap().len(), 1, "nothing is left of what failed");
}

#[tokio::test]
async fn without_a_network_a_hub_repository_says_what_to_do() {
    let (folder, mos) = house().await;
    let options = mos::fetch::PullOptions {
        // Nothing listens on the port of a listener that is gone.
        hub_endpoint: Some(format!(
            "http://{}",
            std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
        )),
        hub_timeout: Duration::from_secs(10),
        ..mos::fetch::PullOptions::from_environment(folder.path())
    };
    let source = HubSource { options: Some(options), ..HubSource::new("ann/cube") };
    let error = mos.register_mem_cube(&ann(), CubeSource::Hub(Box::new(source)), None).await.unwrap_err().to_string();
    assert!(error.contains("fetch the data set ann/cube on another machine"), "{error}");
    let source = CubeSource::Hub(Box::new(HubSource::new("../escape")));
    let error = mos.register_mem_cube(&ann(), source, None).await.unwrap_err().to_string();
    assert!(error.contains("write OWNER/NAME"), "{error}");
    assert_eq!(mos.list_cubes(&ann()).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_default_configuration_lies_over_that_of_a_cube() {
    let (folder, mos) = house().await;
    let tree = GeneralMemCubeConfig::from_json(&json!({
        "user_id": "ann", "cube_id": "tree", "text_mem": {"backend": "tree_text", "config": {"mode": "sync"}},
    }))
    .unwrap();
    mos.create_cube(&ann(), NewCube { cube_id: "tree".into(), name: None, config: Some(tree) }).await.unwrap();
    mos.add(Add::text("a dog").user("ann").cube("tree")).await.unwrap();
    let place = folder.path().join("cube");
    mos.dump(&ann(), Some(&"tree".into()), &place).await.unwrap();
    let default_config = GeneralMemCubeConfig::from_json(&json!({
        "text_mem": {"backend": "tree_text", "config": {"mode": "async"}},
    }))
    .unwrap();
    let options = RegisterOptions { default_config: Some(default_config), ..RegisterOptions::default() };
    let id = CubeId::from("copy");
    let source = CubeSource::Directory(place);
    let cube = mos.register_mem_cube_with(&ann(), source, Some(&id), options).await.unwrap();
    assert_eq!(cube.config.pointer("/text_mem/config/mode"), Some(&json!("async")));
    assert_eq!(cube.config["cube_id"], "tree");
    let texts = texts(&mos, &ann(), &id).await;
    assert!(texts.contains(&"a dog".to_owned()), "{texts:?}");
}

#[tokio::test]
async fn a_cube_that_is_here_already_refuses_what_it_would_pass_over() {
    let (folder, mos) = house().await;
    mos.add(Add::text("a dog").user("ann")).await.unwrap();
    let place = folder.path().join("cube");
    mos.dump(&ann(), None, &place).await.unwrap();
    let id = CubeId::from("copy");
    let register = |options: RegisterOptions| {
        let (mos, place, id) = (mos.clone(), place.clone(), id.clone());
        async move { mos.register_mem_cube_with(&ann(), CubeSource::Directory(place), Some(&id), options).await }
    };
    let texts_only = || RegisterOptions { memories: vec![MemoryKind::Text], default_config: None };
    let configured = |config: serde_json::Value| RegisterOptions {
        default_config: Some(GeneralMemCubeConfig::from_json(&config).unwrap()),
        ..RegisterOptions::default()
    };
    let own = register(texts_only()).await.unwrap().config;
    let refused = register(texts_only()).await.unwrap_err();
    assert!(matches!(&refused, Error::Invalid(why) if why.contains("`copy` is here already")), "{refused}");
    let tree = json!({"text_mem": {"backend": "tree_text", "config": {}}});
    let refused = register(configured(tree)).await.unwrap_err();
    assert!(matches!(&refused, Error::Invalid(why) if why.contains("keeps its configuration")), "{refused}");
    // Asked for what it is, it is registered, and so a program may do each time it starts.
    let again = register(configured(own.clone())).await.unwrap();
    assert_eq!(again.config, own);
    assert_eq!(texts(&mos, &ann(), &id).await, ["a dog"]);
    // A refusal registers nothing.
    mos.unregister_mem_cube(&ann(), &id).await.unwrap();
    register(texts_only()).await.unwrap_err();
    assert!(matches!(mos.get_all(&ann(), Some(&id)).await, Err(Error::NotRegistered(_))));
}

#[tokio::test]
async fn a_cube_that_memos_dumped_is_registered_embedded_anew_and_searched() {
    let (folder, mos) = house().await;
    let place = folder.path().join("mem_cube_2");
    std::fs::create_dir(&place).unwrap();
    let config = manifest_folder().join("../../tests/fixtures/compat/configs/mem_cube_2/config.json");
    std::fs::copy(config, place.join("config.json")).unwrap();
    let file = manifest_folder().join("tests/fixtures/mem_cube_2/textual_memory.json");
    std::fs::copy(&file, place.join("textual_memory.json")).unwrap();
    let id = CubeId::from("theirs");
    let options = RegisterOptions { memories: vec![MemoryKind::Text], default_config: None };
    mos.register_mem_cube_with(&ann(), CubeSource::Directory(place), Some(&id), options).await.unwrap();
    let dumped: Vec<serde_json::Value> = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
    let mut expected: Vec<&str> = dumped.iter().map(|entry| entry["payload"]["memory"].as_str().unwrap()).collect();
    expected.sort_unstable();
    assert_eq!(texts(&mos, &ann(), &id).await, expected);
    // The vectors came with them: those of the model that MemOS used.
    let out = folder.path().join("out");
    let manifest = mos.dump_memories(&ann(), Some(&id), &out, &[MemoryKind::Text]).await.unwrap();
    let space = manifest.embedding_space.unwrap();
    assert_eq!((space.model.as_str(), space.dimension), ("nomic-embed-text:latest", 768));
    assert_eq!(mos.reembed_cube(&ann(), &id, false, |_| {}).await.unwrap().n_embedded, expected.len());
    let question = Search::new(expected[0]).user("ann").cubes([id]);
    assert!(!mos.search(question).await.unwrap().best().is_empty());
}

#[tokio::test]
async fn a_tree_that_memos_dumped_is_registered_with_its_edges() {
    let (folder, mos) = house().await;
    let place = folder.path().join("mem_cube_tree");
    std::fs::create_dir(&place).unwrap();
    let config = json!({"user_id": "root", "cube_id": "tree", "text_mem": {"backend": "tree_text", "config": {}}});
    std::fs::write(place.join("config.json"), config.to_string()).unwrap();
    let file = manifest_folder().join("../mos-memory/tests/fixtures/mem_cube_tree/textual_memory.json");
    std::fs::copy(file, place.join("textual_memory.json")).unwrap();
    let id = CubeId::from("tree");
    mos.register_mem_cube(&ann(), CubeSource::Directory(place), Some(&id)).await.unwrap();
    let out = folder.path().join("tree.tar");
    let exported = mos.export_cube(&ann(), Some(&id), &out).await.unwrap();
    let (_other_folder, other, carol) = elsewhere().await;
    let imported = other.import_cube(&carol, &out, None).await.unwrap();
    assert_eq!(imported.content, exported.content, "texts, edges and vectors are the same");
}

#[tokio::test]
async fn every_settings_file_of_memos_opens_and_a_missing_model_says_what_to_do() {
    let mut folders = vec![manifest_folder().join("../../tests/fixtures/compat/configs")];
    let mut n_opened = 0;
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            if !path.file_name().unwrap().to_str().unwrap().contains("memos_config") {
                continue;
            }
            let settings = Settings::load(Some(&path), []).unwrap_or_else(|error| panic!("{error}")).settings;
            let data = tempfile::tempdir().unwrap();
            let models = data.path().join("models");
            let settings = Settings { models_dir: Some(models), ..settings };
            let mos = match Mos::builder(settings).data_dir(data.path()).build().await {
                Ok(mos) => mos,
                Err(error) => panic!("{}: {error}", path.display()),
            };
            if let Err(error) = mos.chat_model().await {
                let said = error.to_string();
                assert!(said.contains("mos models pull") || said.contains("use one of"), "{}: {said}", path.display());
            }
            n_opened += 1;
        }
    }
    assert!(n_opened >= 6, "{n_opened}");
}
