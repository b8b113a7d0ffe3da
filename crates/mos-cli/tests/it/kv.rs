use std::path::{Path, PathBuf};

use serde_json::{Value, json as object};

use crate::{failure, json, run, run_with_input, stdout, write};

/// A file that MemOS wrote, or a hostile one.
fn pickle(name: &str) -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../mos-kv/tests/fixtures/pickle");
    folder.join(name).display().to_string()
}

fn ids(listing: &Value) -> Vec<&str> {
    listing.as_array().unwrap().iter().map(|row| row["id"].as_str().unwrap()).collect()
}

/// Two caches of ann's: `rocket` of texts, `talk` of messages.
fn fill(data: &Path) -> (u64, u64) {
    let texts = ["The rocket is called Heron.", "It flies on Tuesday."];
    let rocket = json(data, &["kv", "extract", texts[0], texts[1], "--id", "rocket", "--user", "ann"]);
    let messages = r#"[{"role": "system", "content": "Be brief."}, {"role": "user", "content": "I like green tea."}]"#;
    let file = write(data, "talk.json", messages);
    let talk = json(data, &["kv", "extract", "--messages", &file, "--id", "talk", "--user", "ann"]);
    (rocket["n_tokens"].as_u64().unwrap(), talk["n_tokens"].as_u64().unwrap())
}

#[test]
fn caches_are_kept_listed_shown_and_removed() {
    let data = tempfile::tempdir().unwrap();
    let data = data.path();
    let (rocket, talk) = fill(data);
    assert!(rocket > 20 && talk > 10);
    let listing = json(data, &["kv", "list", "--user", "ann"]);
    assert_eq!(ids(&listing), ["rocket", "talk"]);
    assert_eq!(listing[0]["text"], "The rocket is called Heron. It flies on Tuesday.");
    assert_eq!(listing[0]["memory"]["num_layers"], 30);
    let shown = json(data, &["kv", "show", "rocket", "--user", "ann"]);
    let keys: Vec<&String> = shown.as_object().unwrap().keys().collect();
    assert_eq!(keys, ["id", "memory", "metadata", "records"], "what upstream shows, and no tensors");
    assert_eq!(shown["metadata"]["source_text"], object!(["The rocket is called Heron.", "It flies on Tuesday."]));
    let shown = json(data, &["kv", "show", "talk", "--user", "ann"]);
    assert_eq!(shown["metadata"]["source_text"][0]["role"], "system", "messages are taken as they are");
    assert!(stdout(data, &["kv", "show", "talk", "--user", "ann"]).contains("30 layers"));

    let again = json(data, &["kv", "extract", "Another text", "--id", "rocket", "--user", "ann"]);
    assert_ne!(again["n_tokens"].as_u64().unwrap(), rocket);
    assert_eq!(ids(&json(data, &["kv", "list", "--user", "ann"])).len(), 2, "a known id is replaced");
    let new = json(data, &["kv", "extract", "No id is given", "--user", "ann"]);
    let new = new["id"].as_str().unwrap();
    assert_eq!(json(data, &["kv", "rm", "rocket", new, "--user", "ann"])["n_removed"], 2);
    assert_eq!(ids(&json(data, &["kv", "list", "--user", "ann"])), ["talk"]);
}

#[test]
fn caches_are_merged_by_name_and_answer_questions() {
    let data = tempfile::tempdir().unwrap();
    let data = data.path();
    let (rocket, talk) = fill(data);
    for (strategy, exact) in [("auto", true), ("prefix_tree", true), ("concat", false), ("shifted", false)] {
        let merged = json(data, &["kv", "merge", "rocket", "talk", "--strategy", strategy, "--user", "ann"]);
        assert_eq!(merged["n_tokens"], rocket + talk, "{strategy}");
        assert_eq!(merged["exact"], exact, "{strategy}");
    }
    for strategy in ["lego:4", "blend:0.5"] {
        let merged = json(data, &["kv", "merge", "rocket", "talk", "--strategy", strategy, "--user", "ann"]);
        assert_eq!((&merged["n_tokens"], &merged["strategy"]), (&object!(rocket + talk), &object!(strategy)));
    }
    let warned = run(data, &["kv", "merge", "rocket", "talk", "--strategy", "shifted", "--user", "ann"]).stderr;
    let warned = String::from_utf8(warned).unwrap();
    assert_eq!(warned.matches("warning: `shifted` is lossy").count(), 1, "{warned}");
    let ask = ["kv", "merge", "rocket", "--ask", "What is the name of the rocket?", "--user", "ann"];
    let told = json(data, &ask);
    assert!(told["answer"].as_str().unwrap().contains("Heron"), "{told}");
    assert!(told["usage"]["cached_tokens"].as_u64().unwrap() >= rocket, "{told}");
    let printed = stdout(data, &ask);
    assert!(printed.ends_with(&format!("{}\n", told["answer"].as_str().unwrap())), "{printed}");
}

#[test]
fn unknown_caches_are_named_and_nothing_is_done() {
    let data = tempfile::tempdir().unwrap();
    let data = data.path();
    fill(data);
    for arguments in [
        &["kv", "show", "nothing/../here", "--user", "ann"][..],
        &["kv", "merge", "rocket", "nothing/../here", "--user", "ann"],
        &["kv", "rm", "rocket", "nothing/../here", "--user", "ann"],
    ] {
        let error = failure(data, arguments);
        assert!(error.contains("`nothing/../here`") && !error.contains("`rocket`"), "{error}");
    }
    assert_eq!(ids(&json(data, &["kv", "list", "--user", "ann"])), ["rocket", "talk"]);
    let odd = json(data, &["kv", "extract", "Ids are no paths", "--id", "../../odd id/", "--user", "ann"]);
    assert_eq!(odd["id"], "../../odd id/");
    assert_eq!(json(data, &["kv", "rm", "../../odd id/", "--user", "ann"])["n_removed"], 1);
}

#[test]
fn bad_input_is_refused_and_leaves_nothing() {
    let data = tempfile::tempdir().unwrap();
    let data = data.path();
    assert!(failure(data, &["kv", "extract", " "]).contains("there is no text"));
    for (name, text) in [("not.json", "hello"), ("empty.json", "[]"), ("role.json", r#"[{"role": "king"}]"#)] {
        let file = write(data, name, text);
        assert!(failure(data, &["kv", "extract", "--messages", &file]).contains(name));
        assert!(failure(data, &["kv", "calibrate", "--memories", &file]).contains(match name {
            "empty.json" => "holds no case",
            other => other,
        }));
        assert!(failure(data, &["kv", "import", &file]).contains(name), "{name} is no pickle");
    }
    assert!(failure(data, &["kv", "import", "no-such.pickle"]).contains("no-such.pickle"));
    let whole = std::fs::read(pickle("mem_cube_2_activation_memory.pickle")).unwrap();
    let cut = data.join("cut.pickle");
    std::fs::write(&cut, &whole[..whole.len() / 2]).unwrap();
    assert!(failure(data, &["kv", "import", &cut.display().to_string()]).contains("cut.pickle"));
    let hostile: Vec<PathBuf> =
        std::fs::read_dir(pickle("hostile")).unwrap().map(|file| file.unwrap().path()).collect();
    assert!(!hostile.is_empty());
    for file in hostile.iter().take(4) {
        let error = failure(data, &["kv", "import", &file.display().to_string()]);
        assert!(error.contains(&*file.file_name().unwrap().to_string_lossy()), "{error}");
    }
    assert_eq!(run(data, &["kv", "merge", "a", "--strategy", "magic"]).status.code(), Some(2));
    assert_eq!(run(data, &["kv", "rm"]).status.code(), Some(2));
    let output = run_with_input(data, &["kv", "extract", "--messages", "-"], "[]");
    assert!(String::from_utf8(output.stderr).unwrap().contains("holds no message"));
    assert!(failure(data, &["kv", "list"]).contains("No accessible cubes"), "no refused command made a cube");
}

#[test]
fn a_cube_of_somebody_else_is_out_of_reach() {
    let data = tempfile::tempdir().unwrap();
    let data = data.path();
    fill(data);
    stdout(data, &["user", "create", "bob"]);
    let file = pickle("mem_cube_2_activation_memory.pickle");
    for command in [
        &["extract", "a secret"][..],
        &["list"],
        &["show", "rocket"],
        &["merge", "rocket"],
        &["rm", "rocket"],
        &["import", &file],
        &["calibrate"],
    ] {
        let arguments = [&["kv"], command, &["--user", "bob", "--cube", "cube_ann"]].concat();
        assert!(failure(data, &arguments).contains("does not have access"), "{arguments:?}");
    }
    stdout(data, &["cube", "share", "cube_ann", "bob", "--user", "ann"]);
    let listing = json(data, &["kv", "list", "--user", "bob", "--cube", "cube_ann"]);
    assert_eq!(ids(&listing), ["rocket", "talk"]);
    stdout(data, &["cube", "delete", "cube_ann", "--user", "ann"]);
    stdout(data, &["cube", "create", "cube_ann", "--user", "bob"]);
    assert_eq!(json(data, &["kv", "list", "--user", "bob", "--cube", "cube_ann"]), object!([]));
    assert!(stdout(data, &["kv", "list", "--user", "bob", "--cube", "cube_ann"]).contains("no caches yet"));
}

#[test]
fn a_pickle_is_computed_anew_or_kept_as_it_was() {
    let data = tempfile::tempdir().unwrap();
    let data = data.path();
    let file = pickle("mem_cube_2_activation_memory.pickle");
    let raw = json(data, &["kv", "import", &file, "--raw", "--cube", "raw"]);
    let id = raw[0]["id"].as_str().unwrap();
    assert_eq!((&raw[0]["memory"]["num_layers"], &raw[0]["n_tokens"]), (&object!(28), &object!(7)));
    let error = failure(data, &["kv", "merge", id, "--ask", "What is this?", "--cube", "raw"]);
    assert!(error.contains("imported from a pickle") && error.contains("smollm2-135m-instruct"), "{error}");

    let anew = json(data, &["kv", "import", &file, "--cube", "anew"]);
    assert_eq!(anew[0]["id"], raw[0]["id"]);
    assert_eq!((&anew[0]["memory"]["num_layers"], &anew[0]["recomputed"]), (&object!(30), &object!(true)));
    let merged = json(data, &["kv", "merge", id, "--cube", "anew"]);
    assert_eq!(merged["exact"], true);
}

#[test]
fn a_calibration_is_told_and_kept_and_decides_what_auto_does() {
    let data = tempfile::tempdir().unwrap();
    let data = data.path();
    fill(data);
    let cases = r#"[{"memories": ["The cat is grey.", "The dog is brown."], "question": "Which animal is grey?"}]"#;
    let file = write(data, "cases.json", cases);
    let told = json(data, &["kv", "calibrate", "--memories", &file, "--user", "ann"]);
    let verdicts = told["verdicts"].as_array().unwrap();
    let names: Vec<&str> = verdicts.iter().map(|verdict| verdict["strategy"].as_str().unwrap()).collect();
    assert_eq!(names, ["concat", "shifted", "lego:16", "blend:0.15"]);
    assert!(verdicts.iter().all(|verdict| verdict["mean_kl"].as_f64().unwrap() >= 0.0));
    let merge = ["kv", "merge", "talk", "rocket", "--user", "ann"];
    // Nothing is too far off for this limit, so the cheapest way passes and is taken from now on.
    let limits = ["kv", "calibrate", "--memories", &file, "--max-kl", "1000", "--min-top1", "0", "--user", "ann"];
    assert!(stdout(data, &limits).contains("passed"));
    assert_eq!(json(data, &merge)["exact"], false);
    stdout(data, &["kv", "calibrate", "--memories", &file, "--max-kl", "0", "--min-top1", "1", "--user", "ann"]);
    assert_eq!(json(data, &merge)["exact"], true);
    let few = failure(data, &["kv", "calibrate", "--cube-texts", "--user", "ann"]);
    assert!(few.contains("add at least two"), "{few}");
}

#[test]
fn a_chat_begins_with_the_caches_of_its_cube() {
    let data = tempfile::tempdir().unwrap();
    let data = data.path();
    let (rocket, talk) = fill(data);
    let settings = write(data, "settings.json", r#"{"enable_activation_memory": true}"#);
    let ask = ["chat", "--once", "What is the name of the rocket?", "--no-remember", "--user", "ann"];
    let with = json(data, &[&ask[..], &["--config", &settings]].concat());
    assert_eq!(with["activation"], object!(["rocket", "talk"]));
    assert!(with["usage"]["cached_tokens"].as_u64().unwrap() >= rocket + talk, "{with}");
    assert_eq!(json(data, &ask)["activation"], object!([]), "it has to be asked for");
}

#[test]
fn a_dumped_cube_brings_its_caches() {
    let data = tempfile::tempdir().unwrap();
    let data = data.path();
    fill(data);
    stdout(data, &["add", "I keep bees", "--user", "ann"]);
    let target = data.join("dumped").display().to_string();
    stdout(data, &["cube", "dump", "cube_ann", &target, "--user", "ann"]);
    let other = tempfile::tempdir().unwrap();
    stdout(other.path(), &["cube", "register", &target, "--id", "copy"]);
    let listing = json(other.path(), &["kv", "list", "--cube", "copy"]);
    assert_eq!(listing, json(data, &["kv", "list", "--user", "ann"]));
    let merged = json(other.path(), &["kv", "merge", "rocket", "--cube", "copy"]);
    assert_eq!(merged["exact"], true);
    // A damaged cache is noticed before anything is registered.
    let segments = data.join("dumped/activation_memory.segments");
    let file = std::fs::read_dir(segments).unwrap().next().unwrap().unwrap().path();
    let mut bytes = std::fs::read(&file).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    std::fs::write(&file, bytes).unwrap();
    assert!(failure(other.path(), &["cube", "register", &target, "--id", "damaged"]).contains("checksum"));
}

#[test]
fn a_model_elsewhere_keeps_no_caches_and_says_so() {
    let data = tempfile::tempdir().unwrap();
    let data = data.path();
    let settings = r#"{"chat_model": {"backend": "openai", "config": {"model_name_or_path": "m", "api_key": "k"}}}"#;
    let settings = write(data, "settings.json", settings);
    let error = failure(data, &["kv", "extract", "text", "--config", &settings]);
    assert!(error.contains("chat_model is `openai`"), "{error}");
}

#[test]
fn a_device_that_this_build_lacks_is_named_with_what_to_do() {
    let data = tempfile::tempdir().unwrap();
    let data = data.path();
    let with_device = |device: &str| {
        let config = object!({"model_name_or_path": "smollm2-135m-instruct", "device": device});
        let settings = object!({"chat_model": {"backend": "local", "config": config}});
        write(data, "settings.json", &settings.to_string())
    };
    let error = failure(data, &["kv", "extract", "text", "--config", &with_device("metal")]);
    assert!(error.contains("`metal` is not supported"), "{error}");
    let error = failure(data, &["kv", "extract", "text", "--config", &with_device("cuda:77")]);
    assert!(error.contains("`cuda:77`"), "{error}");
    let bench = ["kv", "bench", "--contexts", "16", "--queries", "4", "--runs", "1", "--prompts", "1", "--device"];
    let error = failure(data, &[&bench[..], &["cuda:77"]].concat());
    assert!(error.contains("`cuda:77`"), "{error}");
    let error = failure(data, &["kv", "extract", "text", "--config", &with_device("abacus")]);
    assert!(error.contains("`abacus` is no device"), "{error}");
    stdout(data, &["kv", "extract", "text", "--config", &with_device("cpu")]);
}

#[test]
fn damaged_files_are_listed_and_removed_by_their_names() {
    let data = tempfile::tempdir().unwrap();
    let data = data.path();
    stdout(data, &["add", "I like green tea.", "--user", "ann"]);
    let (folder, name) = (data.join("activation/caches"), "a".repeat(64));
    std::fs::create_dir_all(&folder).unwrap();
    let file = write(&folder, &format!("{name}.safetensors"), "short");
    let listing = json(data, &["kv", "list", "--user", "ann"]);
    assert_eq!((ids(&listing), &listing[0]["removable"]), (vec![name.as_str()], &object!(true)), "{listing}");
    assert!(stdout(data, &["kv", "list", "--user", "ann"]).contains("cannot be read"));
    assert!(failure(data, &["kv", "rm", &"b".repeat(64), "--user", "ann"]).contains("there is no cache"));
    assert_eq!(json(data, &["kv", "rm", &name, "--user", "ann"])["n_removed"], 1);
    assert!(!Path::new(&file).exists());
    assert_eq!(json(data, &["kv", "list", "--user", "ann"]), object!([]));
}
