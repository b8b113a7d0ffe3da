use mos_core::ParametricMemory;
use mos_memory::LoraPlaceholder;

#[tokio::test]
async fn the_placeholder_is_memos_own_and_loading_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let memory = LoraPlaceholder::new("parametric_memory.adapter");
    memory.load(folder.path()).await.unwrap();
    memory.dump(folder.path()).await.unwrap();
    let names: Vec<_> = std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["parametric_memory.adapter"]);
    assert_eq!(std::fs::read(folder.path().join("parametric_memory.adapter")).unwrap(), b"Placeholder");
    memory.load(folder.path()).await.unwrap();
    assert_eq!(std::fs::read(folder.path().join("parametric_memory.adapter")).unwrap(), b"Placeholder");
}
