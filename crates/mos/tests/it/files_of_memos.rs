//! MemOS' own files as they are: settings open an installation, cube files make cubes. Nothing here asks the models that they name.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use mos::config::GeneralMemCubeConfig;
use mos::{Add, CubeSource, Mos, NewCube, Search, Settings};
use mos_core::CubeId;
use mos_testkit::embedder::WordEmbedder;

use crate::ann;

const QUESTION: &str = "what is my dog called?";

/// The files whose names hold a word, sorted.
fn files(word: &str) -> Vec<PathBuf> {
    let manifest = std::env::var("CARGO_MANIFEST_DIR").unwrap();
    let (mut found, mut folders) = (Vec::new(), vec![Path::new(&manifest).join("../../tests/fixtures/compat/configs")]);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let is_meant = path.file_name().unwrap().to_string_lossy().contains(word);
            if path.is_dir() {
                folders.push(path);
            } else if is_meant {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

async fn open(file: &Path, folder: &Path) -> Mos {
    let settings = Settings::load(Some(file), []).unwrap().settings;
    let embedder = Arc::new(WordEmbedder::new("words", 64));
    let built = Mos::builder(settings).data_dir(folder).embedder(embedder).start_scheduler(false).build().await;
    let mos = built.unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    mos.ensure_user(&ann()).await.unwrap();
    mos
}

#[tokio::test]
async fn every_settings_file_opens_an_installation_that_remembers_as_the_file_says() {
    let files = files("memos_config");
    assert_eq!(files.len(), 9);
    for file in files {
        let folder = tempfile::tempdir().unwrap();
        let mos = open(&file, folder.path()).await;
        mos.ensure_default_cube(&ann()).await.unwrap();
        let is_textual = mos.settings().enable_textual_memory;
        let added = mos.add(Add::text("my dog is called Max").user("ann")).await;
        assert_eq!(added.is_ok(), is_textual, "{}: {added:?}", file.display());
        let found = mos.search(Search::new(QUESTION).user("ann")).await.unwrap();
        assert_eq!(!found.best().is_empty(), is_textual, "{}", file.display());
    }
}

#[tokio::test]
async fn every_cube_file_makes_a_cube_that_is_dumped_registered_and_searched() {
    let folder = tempfile::tempdir().unwrap();
    let mos = open(&files("simple_memos_config")[0], folder.path()).await;
    mos.mem_reorganizer_off();
    let files = files("cube_config");
    assert_eq!(files.len(), 5);
    for (number, file) in files.into_iter().enumerate() {
        let (config, _) = GeneralMemCubeConfig::load(&file).unwrap();
        let has_texts = config.text_mem.backend() != "uninitialized";
        let (built, again) = (CubeId::new(format!("built-{number}")), CubeId::new(format!("again-{number}")));
        let new = NewCube { config: Some(config), ..NewCube::new(built.clone()) };
        mos.create_cube(&ann(), new).await.unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        if has_texts {
            mos.add(Add::text("my dog is called Max").user("ann").cube(built.clone())).await.unwrap();
        }
        let dumped = folder.path().join(format!("dumped-{number}"));
        mos.dump(&ann(), Some(&built), &dumped).await.unwrap();
        mos.register_mem_cube(&ann(), CubeSource::Directory(dumped), Some(&again)).await.unwrap();
        let found = mos.search(Search::new(QUESTION).user("ann").cubes([again])).await.unwrap();
        assert_eq!(!found.best().is_empty(), has_texts, "{}", file.display());
    }
}
