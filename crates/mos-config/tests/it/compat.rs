//! MemOS' own files load, and what is written back is what MemOS would write.

use std::fs;
use std::path::{Path, PathBuf};

use mos_config::memory::{PreferenceTextMemory, TreeTextMemory};
use mos_config::reader::SimpleReader;
use mos_config::{GeneralMemCubeConfig, MemChatConfig, SchedulerConfig, Secrets, Setting, Settings, load_file};
use serde_json::Value;

use crate::{environment, repository};

fn configs() -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![repository("tests/fixtures/compat/configs")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { folders.push(path) } else { found.push(path) }
        }
    }
    found.sort();
    found
}

/// Loads a file as `T`, then loads what is written, and returns whether both are the same.
fn round_trip<T: Setting + PartialEq + std::fmt::Debug>(path: &Path) {
    let (first, _) = load_file::<T>(path).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(T::from_json(&first.to_json(Secrets::Plain)).unwrap(), first, "{}", path.display());
}

#[test]
fn every_file_of_memos_loads_as_what_it_is() {
    let mut n_loaded = 0;
    for path in configs() {
        let name = path.file_name().unwrap().to_str().unwrap();
        match name {
            _ if name.contains("memos_config") => {
                let loaded = Settings::load(Some(&path), []).unwrap_or_else(|error| panic!("{error}")).settings;
                assert_eq!(loaded.max_turns_window, 20);
                assert_eq!(Settings::from_json(&loaded.to_json(Secrets::Plain)).unwrap(), loaded, "{name}");
            }
            _ if name.contains("cube_config") || name == "config.json" => round_trip::<GeneralMemCubeConfig>(&path),
            _ if name.starts_with("tree_config") => round_trip::<TreeTextMemory>(&path),
            "preference_config.json" => round_trip::<PreferenceTextMemory>(&path),
            "simple_struct_reader_config.json" => round_trip::<SimpleReader>(&path),
            "general_scheduler_config.yaml" => round_trip::<SchedulerConfig>(&path),
            "mem_chat_config.yaml" => round_trip::<MemChatConfig>(&path),
            _ => panic!("{} is not tested", path.display()),
        }
        n_loaded += 1;
    }
    assert_eq!(n_loaded, 23);
}

fn golden(name: &str) -> Value {
    serde_json::from_slice(&fs::read(repository("tests/fixtures/compat/golden").join(name)).unwrap()).unwrap()
}

#[test]
fn cubes_are_written_as_memos_writes_them() {
    for (config, expected) in [
        ("mem_scheduler/mem_cube_config.yaml", "mem_cube_config_dump.json"),
        ("simple_treekvcache_cube_config.json", "simple_treekvcache_cube_config_dump.json"),
    ] {
        let path = repository("tests/fixtures/compat/configs").join(config);
        let (cube, warnings) = GeneralMemCubeConfig::load(&path).unwrap();
        assert_eq!(warnings, Vec::<String>::new());
        assert_eq!(cube.to_json(Secrets::Plain), golden(expected), "{config}");
    }
}

#[test]
fn settings_are_written_as_memos_writes_them() {
    let path = repository("tests/fixtures/compat/configs/simple_memos_config.json");
    // MemOS mints these two when it reads a file; here they stay absent unless they are given.
    let given = [("MOS__SESSION_ID", "<uuid4>"), ("MOS__MEM_READER__CONFIG__CREATED_AT", "<now>")];
    let loaded = Settings::load(Some(&path), environment(&given)).unwrap();
    assert_eq!(loaded.settings.to_mos_config(Secrets::Plain), golden("mos_config_dump.json"));
}

#[test]
fn a_saved_cube_reads_back_with_its_secrets_and_two_spaces() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("new/folder/config.json");
    let cube = GeneralMemCubeConfig::from_json(&serde_json::json!({
        "cube_id": "root/mem_cube",
        "text_mem": {"backend": "naive_text", "config": {"extractor_llm": {"backend": "openai", "config": {
            "model_name_or_path": "m", "api_key": "sk-1", "default_headers": {"x-key": "sk-2"},
        }}}},
    }))
    .unwrap();
    cube.save(&path).unwrap();
    assert!(fs::read_to_string(&path).unwrap().starts_with("{\n  \"model_schema\": \"memos.configs.mem_cube"));
    assert_eq!(GeneralMemCubeConfig::load(&path).unwrap().0, cube);
    let shown = format!("{cube:?}{}", serde_json::to_string(&cube).unwrap());
    assert!(!shown.contains("sk-"), "{shown}");
    assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "no temporary file is left");
}

#[test]
fn another_model_schema_is_read_with_a_warning() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config.json");
    fs::write(&path, r#"{"model_schema": "other.Config", "text_mem": {"model_schema": "ignored"}}"#).unwrap();
    let (cube, warnings) = GeneralMemCubeConfig::load(&path).unwrap();
    assert!(warnings.len() == 1 && warnings[0].contains("other.Config"), "{warnings:?}");
    assert_eq!(cube.to_json(Secrets::Plain)["model_schema"], mos_config::cube::CUBE_SCHEMA);
}

#[test]
fn keys_of_older_schedulers_are_ignored_with_a_warning() {
    let path = repository("tests/fixtures/compat/configs/history/mem_scheduler/memos_config_w_scheduler@2025-07.yaml");
    let warnings = Settings::load(Some(&path), []).unwrap().warnings;
    assert!(warnings.iter().any(|warning| warning.contains("mem_scheduler.config.top_n")), "{warnings:?}");
}

#[test]
fn yaml_and_json_of_the_same_content_are_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let json_path = repository("tests/fixtures/compat/configs/simple_memos_config.json");
    let value: Value = serde_json::from_slice(&fs::read(&json_path).unwrap()).unwrap();
    let yaml_path = folder.path().join("settings.yml");
    fs::write(&yaml_path, serde_saphyr::to_string(&value).unwrap()).unwrap();
    let (json, yaml) = (Settings::load(Some(&json_path), []), Settings::load(Some(&yaml_path), []));
    assert_eq!(json.unwrap(), yaml.unwrap());
}
