//! Cubes as files, and what the settings are, as somebody meets them at the command line.

use crate::{failure, json, run, stdout};

#[test]
fn a_cube_goes_to_another_installation_in_one_file_and_its_hash_says_that_it_is_the_same() {
    let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    stdout(here.path(), &["add", "the cat sleeps", "--user", "ann", "--cube", "home"]);
    let file = here.path().join("home.tar").display().to_string();
    let exported = json(here.path(), &["cube", "export", "home", &file, "--user", "ann"]);
    let hash = stdout(here.path(), &["cube", "hash", "home", "--user", "ann"]);
    assert_eq!(exported["content"].as_str(), Some(hash.trim()));
    assert!(failure(here.path(), &["cube", "export", "home", &file, "--user", "ann"]).contains("exists already"));

    stdout(there.path(), &["user", "create", "ben"]);
    let imported = json(there.path(), &["cube", "import", &file, "--as", "from-ann", "--user", "ben"]);
    assert_eq!(imported["content"], exported["content"]);
    assert_eq!(imported["cube"]["cube_id"], "from-ann");
    let listed = stdout(there.path(), &["list", "--user", "ben", "--cube", "from-ann"]);
    assert!(listed.contains("the cat sleeps"), "{listed}");
    let again = failure(there.path(), &["cube", "import", &file, "--as", "from-ann", "--user", "ben"]);
    assert!(again.contains("under another id"), "{again}");
    let foreign = there.path().join("foreign.tar");
    std::fs::write(&foreign, "no archive").unwrap();
    let refused = failure(there.path(), &["cube", "import", &foreign.display().to_string(), "--user", "ben"]);
    assert!(refused.contains("foreign.tar"), "{refused}");
}

#[test]
fn chosen_memories_are_named_and_what_is_no_memory_is_refused() {
    let data = tempfile::tempdir().unwrap();
    let data = data.path();
    stdout(data, &["add", "the cat sleeps", "--user", "ann", "--cube", "home"]);
    stdout(data, &["cube", "dump", "home", "dumped", "--only", "text_mem", "--user", "ann"]);
    assert!(data.join("dumped/textual_memory.json").is_file());
    let odd = run(data, &["cube", "dump", "home", "other", "--only", "text", "--user", "ann"]);
    let said = String::from_utf8(odd.stderr).unwrap();
    assert!(!odd.status.success() && said.contains("text_mem, act_mem, para_mem, pref_mem"), "{said}");
    let missing = failure(data, &["cube", "load", "home", "dumped", "--only", "pref_mem", "--user", "ann"]);
    assert!(missing.contains("has no pref_mem"), "{missing}");
    let odd = failure(data, &["cube", "register", "ftp://example.org/cube", "--user", "ann"]);
    assert!(odd.contains("allowed: https, ssh, file"), "{odd}");
    let odd = failure(data, &["cube", "register", "dumped2", "--revision", "main", "--user", "ann"]);
    assert!(odd.contains("belong to a git repository"), "{odd}");
}

#[test]
fn the_schema_of_settings_and_cubes_is_printed() {
    let data = tempfile::tempdir().unwrap();
    let schema: serde_json::Value = serde_json::from_str(&stdout(data.path(), &["config", "schema"])).unwrap();
    assert_eq!(schema["$defs"]["Settings"]["properties"]["top_k"]["default"], 5);
    let cube: serde_json::Value =
        serde_json::from_str(&stdout(data.path(), &["config", "schema", "--of-cube"])).unwrap();
    assert_eq!(cube["$ref"], "#/$defs/GeneralMemCubeConfig");
    assert!(stdout(data.path(), &["config", "schema", "--markdown"]).starts_with("# Configuration\n"));
}
