use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::{dump, memory, naive_config};

fn read_with(folder: &Path, config: &Value) -> Result<mos_cube::CubeDump, String> {
    std::fs::write(folder.join("config.json"), config.to_string()).unwrap();
    mos_cube::read(folder).map_err(|error| error.to_string())
}

#[test]
fn a_configuration_that_means_nothing_is_refused_with_file_and_path() {
    let folder = tempfile::tempdir().unwrap();
    for (pointer, value, expected) in [
        ("", json!({"text_memory": {}}), "text_memory: unknown key"),
        ("/text_mem", json!({"backend": "naive_text", "config": {"memory_file": "x"}}), "text_mem.config.memory_file"),
        ("/text_mem", json!({"backend": "naive_txt"}), "text_mem.backend: unknown backend `naive_txt`"),
        ("/text_mem", json!("naive_text"), "text_mem: expected an object, got a text"),
        ("/user_id", json!(7), "user_id: expected a text"),
        ("/text_mem", json!({"backend": "kv_cache"}), "text_mem.backend: `kv_cache` cannot be used here"),
    ] {
        let mut config = naive_config();
        match pointer {
            "" => config.as_object_mut().unwrap().extend(value.as_object().unwrap().clone()),
            pointer => *config.pointer_mut(pointer).unwrap() = value,
        }
        let error = read_with(folder.path(), &config).unwrap_err();
        assert!(error.contains("config.json") && error.contains(expected), "{error}");
    }
    assert!(read_with(folder.path(), &naive_config()).is_ok());
}

#[test]
fn a_cube_of_memos_is_read() {
    let file = Path::new(&std::env::var("CARGO_MANIFEST_DIR").unwrap())
        .join("../../tests/fixtures/compat/configs/mem_cube_2/config.json")
        .canonicalize()
        .unwrap();
    let directory: PathBuf = file.parent().unwrap().to_owned();
    let dump = mos_cube::read(&directory).unwrap();
    assert_eq!(Value::Object(dump.config.clone()).pointer("/text_mem/backend"), Some(&json!("general_text")));
    assert_eq!((dump.config["cube_id"].as_str(), dump.manifest), (Some("Ki-Seki/mem_cube_2"), None));
}

#[tokio::test]
async fn the_configuration_must_name_the_memory_that_was_dumped() {
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("cube");
    dump(&target, &memory("a dog").await).await.unwrap();
    let manifest = mos_cube::read(&target).unwrap().manifest.unwrap();
    assert_eq!(manifest.text_backend.as_deref(), Some("naive_text"));
    // As a dump whose checksums were made to fit.
    let mut manifest = serde_json::to_value(manifest).unwrap();
    manifest["text_backend"] = json!("general_text");
    std::fs::write(target.join("manifest.json"), manifest.to_string()).unwrap();
    let error = mos_cube::read(&target).unwrap_err().to_string();
    assert!(error.contains("config.json") && error.contains("`naive_text`"), "{error}");
    assert!(error.contains("dumped by `general_text`"), "{error}");
}
