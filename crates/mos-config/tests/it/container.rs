//! What `Dockerfile` and `docker-compose.yml` say is heeded by the program that they run.

use mos_config::{Purpose, Secrets, Setting, from_environment};
use serde_json::{Value, json};

use crate::repository;

/// Where the image has the files of `configs/`.
const IMAGE: &str = "/usr/share/mos/";

/// Variables that the command line takes itself.
const OF_THE_COMMAND_LINE: [&str; 2] = ["MOS_LISTEN", "MOS_CONFIG"];

fn read(path: &str) -> String {
    std::fs::read_to_string(repository(path)).unwrap()
}

fn compose() -> Value {
    serde_saphyr::from_str(&read("docker-compose.yml")).unwrap()
}

/// The instructions of the image, each in one line.
fn image() -> Vec<String> {
    let text = read("Dockerfile").replace("\\\n", " ");
    text.lines().filter(|line| !line.starts_with('#') && !line.trim().is_empty()).map(str::to_owned).collect()
}

/// What follows an instruction, each time it stands there.
fn all_of<'a>(image: &'a [String], instruction: &str) -> Vec<&'a str> {
    image.iter().filter_map(|line| line.strip_prefix(instruction)?.strip_prefix(' ')).map(str::trim).collect()
}

/// A value with what `.env` would put into it.
fn filled(value: &Value) -> String {
    let text = value.as_str().unwrap();
    let mut parts = text.split("${");
    let mut filled = parts.next().unwrap().to_owned();
    for part in parts {
        let (name, rest) = part.split_once('}').unwrap();
        assert!(name.ends_with(":?set it in .env"), "{text}");
        filled.push_str("secret");
        filled.push_str(rest);
    }
    filled
}

#[test]
fn the_composed_server_finds_all_its_servers() {
    let compose = compose();
    let service = &compose["services"]["mos"];
    let variables = service["environment"].as_object().unwrap();
    let file = filled(&variables["MOS_CONFIG"]);
    let file = repository(file.strip_prefix(IMAGE).unwrap());
    let environment = variables.iter().filter(|(name, _)| !OF_THE_COMMAND_LINE.contains(&name.as_str()));
    let environment: Vec<(String, String)> = environment.map(|(name, value)| (name.clone(), filled(value))).collect();
    let said = from_environment(Purpose::Service, Some(&file), environment.clone()).unwrap();
    assert!(said.warnings.is_empty(), "a name without effect: {:?}", said.warnings);
    let settings = said.settings.to_json(Secrets::Plain);
    for (pointer, expected) in [
        ("/store/config/uri", "bolt://neo4j:7687"),
        ("/store/config/password", "secret"),
        ("/vectors/config/url", "http://qdrant:6334"),
        ("/vectors/config/api_key", "secret"),
        ("/queue/config/url", "redis://:secret@redis:6379/0"),
        ("/user_manager/config/url", "postgres://mos:secret@postgres:5432/mos"),
    ] {
        assert_eq!(settings.pointer(pointer), Some(&json!(expected)), "{pointer}");
    }
    for (name, value) in &environment {
        assert!(settings.to_string().contains(value.as_str()), "{name} has no effect");
    }
    let services = compose["services"].as_object().unwrap();
    for name in service["depends_on"].as_object().unwrap().keys() {
        assert!(services.contains_key(name) && services[name].get("healthcheck").is_some(), "{name}");
    }
}

#[test]
fn the_composed_server_keeps_what_the_image_calls_volumes() {
    let (compose, image) = (compose(), image());
    let service = &compose["services"]["mos"];
    let mounted: Vec<(&str, &str)> = service["volumes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one.as_str().unwrap().split_once(':').unwrap())
        .collect();
    let [volumes] = all_of(&image, "VOLUME")[..] else { panic!("one line of volumes") };
    let volumes: Vec<String> = serde_json::from_str(volumes).unwrap();
    assert_eq!(mounted.iter().map(|(_, path)| *path).collect::<Vec<_>>(), volumes);
    for (name, _) in mounted {
        assert!(compose["volumes"].as_object().unwrap().contains_key(name), "{name} is declared");
    }
    let [port] = all_of(&image, "EXPOSE")[..] else { panic!("one port") };
    assert!(service["ports"][0].as_str().unwrap().ends_with(&format!(":{port}")));
    let [command] = all_of(&image, "CMD")[..] else { panic!("one command") };
    assert_eq!(service["command"], serde_json::from_str::<Value>(command).unwrap());
}

#[test]
fn the_image_is_built_with_the_right_compiler_from_files_that_are_there() {
    let image = image();
    let manifest = read("Cargo.toml");
    let version = manifest.lines().find_map(|line| line.strip_prefix("rust-version = ")).unwrap().trim_matches('"');
    let compiler = all_of(&image, "FROM")[0];
    assert!(compiler.starts_with(&format!("rust:{version}-")), "{compiler} builds what needs Rust {version}");
    let ignored = read(".dockerignore");
    let copied = all_of(&image, "COPY").into_iter().filter(|line| !line.starts_with("--from=") && *line != ". .");
    for line in copied {
        let mut names: Vec<&str> = line.split_whitespace().collect();
        names.pop();
        for name in names {
            assert!(repository(name).exists(), "{name}");
            assert!(!ignored.lines().any(|line| line.trim_start_matches('/') == name), "{name} is left out");
        }
    }
}

#[test]
fn the_image_sets_variables_that_are_heeded() {
    let image = image();
    let [line] = all_of(&image, "ENV")[..] else { panic!("one line of variables") };
    let given: Vec<(String, String)> = line
        .split_whitespace()
        .map(|pair| pair.split_once('=').unwrap())
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .filter(|(name, _)| !OF_THE_COMMAND_LINE.contains(&name.as_str()))
        .collect();
    assert_eq!(given.len(), 2, "{given:?}");
    let said = from_environment(Purpose::Service, None, given).unwrap();
    assert!(said.warnings.is_empty(), "{:?}", said.warnings);
    let settings = said.settings.to_json(Secrets::Plain);
    assert_eq!((&settings["data_dir"], &settings["models_dir"]), (&json!("/data"), &json!("/models")));
}
