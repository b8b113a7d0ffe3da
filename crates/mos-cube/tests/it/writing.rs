use crate::{dump, memory, names};

const FILES: [&str; 3] = ["config.json", "manifest.json", "textual_memory.json"];

#[tokio::test]
async fn of_two_dumps_to_one_place_at_once_one_wins_whole_and_the_other_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("cube");
    let memory = memory("a dog").await;
    let (first, second) = tokio::join!(dump(&target, &memory), dump(&target, &memory));
    assert!(first.is_ok() != second.is_ok(), "{first:?} {second:?}");
    let refused = first.and(second).unwrap_err().to_string();
    assert!(refused.contains("cube") && !refused.contains("left over"), "{refused}");
    assert_eq!(names(folder.path()), ["cube"], "nothing is left beside it");
    assert_eq!(names(&target), FILES);
    mos_cube::read(&target).unwrap();
}

#[tokio::test]
async fn what_lies_beside_the_target_never_gets_into_the_dump() {
    let folder = tempfile::tempdir().unwrap();
    // The name that another dump of this process could have.
    let other = folder.path().join(format!(".cube.dump-{}", std::process::id()));
    std::fs::create_dir(&other).unwrap();
    std::fs::write(other.join("theirs.json"), "{}").unwrap();
    let target = folder.path().join("cube");
    dump(&target, &memory("a dog").await).await.unwrap();
    assert_eq!(names(&target), FILES);
    assert_eq!(names(&other), ["theirs.json"]);
}

#[tokio::test]
async fn a_dump_fills_an_absent_or_empty_directory_and_no_other() {
    let folder = tempfile::tempdir().unwrap();
    let memory = memory("a dog").await;
    let (empty, deep) = (folder.path().join("empty"), folder.path().join("not/there/yet"));
    std::fs::create_dir(&empty).unwrap();
    for target in [&empty, &deep] {
        dump(target, &memory).await.unwrap();
        assert_eq!(names(target), FILES);
        let again = dump(target, &memory).await.unwrap_err().to_string();
        assert!(again.contains("is not empty"), "{again}");
    }
    assert_eq!(names(folder.path()), ["empty", "not"]);
}

#[cfg(unix)]
#[tokio::test]
async fn only_the_owner_can_enter_a_dump() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let (absent, empty) = (folder.path().join("absent"), folder.path().join("empty"));
    std::fs::create_dir(&empty).unwrap();
    for target in [absent, empty] {
        dump(&target, &memory("a dog").await).await.unwrap();
        assert_eq!(std::fs::metadata(&target).unwrap().permissions().mode() & 0o777, 0o700);
    }
}
