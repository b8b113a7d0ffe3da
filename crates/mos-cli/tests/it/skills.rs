//! Skills that come and go as archives.

use std::io::{Cursor, Write};

use zip::ZipWriter;
use zip::write::SimpleFileOptions;

use crate::{failure, json, run, stdout};

fn archive(name: &str) -> Vec<u8> {
    let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
    writer.start_file(name, SimpleFileOptions::default()).unwrap();
    writer.write_all(b"---\nname: forms\ndescription: Fills in forms.\n---\n1. Open it.\n").unwrap();
    writer.finish().unwrap().into_inner()
}

#[test]
fn a_skill_is_uploaded_listed_and_written_to_an_archive_that_is_the_same_skill() {
    let data = tempfile::tempdir().unwrap();
    let data = data.path();
    std::fs::write(data.join("office.zip"), archive("forms/SKILL.md")).unwrap();
    let added = json(data, &["add", "--skill", "office.zip", "--user", "ann"]);
    let id = added["memory_ids"][0].as_str().unwrap().to_owned();
    assert!(stdout(data, &["list", "--user", "ann"]).contains("Fills in forms."));
    stdout(data, &["get", &id, "--as-skill", "back.zip", "--user", "ann"]);
    let again = json(data, &["add", "--skill", "back.zip", "--user", "ann"]);
    assert_eq!((&again["memory_ids"][0], &again["n_known"]), (&serde_json::json!(id), &serde_json::json!(1)));
    let refused = failure(data, &["get", &id, "--as-skill", "back.zip", "--user", "ann"]);
    assert!(refused.contains("back.zip cannot be made"), "{refused}");
}

#[test]
fn an_archive_without_a_skill_is_told_and_keeps_nothing() {
    let data = tempfile::tempdir().unwrap();
    let data = data.path();
    std::fs::write(data.join("prose.zip"), archive("forms/README.md")).unwrap();
    let output = run(data, &["add", "--skill", "prose.zip", "--user", "ann"]);
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(!output.status.success() && told.contains("holds no SKILL.md"), "{told}");
    assert_eq!(stdout(data, &["list", "--user", "ann"]), "");
}
