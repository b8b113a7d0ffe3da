//! The plan of the house is a test: crates import only what `docs/architecture.md` allows.

use std::collections::{BTreeMap, BTreeSet};

use cargo_metadata::{DependencyKind, Metadata, MetadataCommand};

/// Who may call whom, in shipped code. A new line needs a reason in the commit that adds it.
const ALLOWED: &[(&str, &[&str])] = &[
    ("mos-core", &[]),
    ("mos-config", &["mos-core"]),
    ("mos-models", &["mos-core", "mos-config"]),
    ("mos-engine", &["mos-core", "mos-config"]),
    ("mos-kv", &["mos-core", "mos-engine"]),
    ("mos-stores", &["mos-core", "mos-config"]),
    ("mos-reader", &["mos-core", "mos-config"]),
    ("mos-memory", &["mos-core", "mos-config"]),
    ("mos-cube", &["mos-core", "mos-config"]),
    ("mos-scheduler", &["mos-core"]),
    (
        "mos",
        &[
            "mos-core",
            "mos-config",
            "mos-models",
            "mos-engine",
            "mos-kv",
            "mos-stores",
            "mos-reader",
            "mos-memory",
            "mos-cube",
            "mos-scheduler",
        ],
    ),
    ("mos-server", &["mos", "mos-core", "mos-config"]),
    ("mos-eval", &["mos", "mos-core", "mos-reader"]),
    ("mos-cli", &["mos", "mos-core", "mos-config", "mos-eval", "mos-server"]),
    ("mos-testkit", &["mos-core"]),
];

/// Libraries that are part of the design, and the crate whose room they live in.
const SHIPPED: &[(&str, &str)] = &[
    ("mos-core", "async-trait"),
    ("mos-core", "serde_json"),
    ("mos-config", "figment"),
    ("mos-models", "reqwest"),
    ("mos-models", "tokio"),
    ("mos-engine", "candle-core"),
    ("mos-engine", "candle-transformers"),
    ("mos-engine", "tokenizers"),
    ("mos-server", "axum"),
    ("mos-server", "rmcp"),
    ("mos-stores", "lapin"),
    ("mos-stores", "neo4rs"),
    ("mos-stores", "qdrant-client"),
    ("mos-stores", "redis"),
    ("mos-stores", "rusqlite"),
    ("mos-stores", "sqlx"),
];

fn metadata() -> Metadata {
    let manifest = std::path::Path::new(&std::env::var("CARGO_MANIFEST_DIR").unwrap()).join("../Cargo.toml");
    MetadataCommand::new().manifest_path(manifest).no_deps().exec().unwrap()
}

/// Normal and build dependencies of each workspace package.
fn shipped_dependencies() -> BTreeMap<String, BTreeSet<String>> {
    let metadata = metadata();
    metadata
        .workspace_packages()
        .iter()
        .map(|package| {
            let names = package.dependencies.iter().filter(|one| one.kind != DependencyKind::Development);
            (package.name.to_string(), names.map(|one| one.name.clone()).collect())
        })
        .collect()
}

#[test]
fn crates_import_only_what_the_plan_allows() {
    let plan: BTreeMap<&str, &[&str]> = ALLOWED.iter().copied().collect();
    let graph = shipped_dependencies();
    for (from, targets) in &graph {
        if ["mos-tests", "mos-examples", "xtask"].contains(&from.as_str()) {
            continue;
        }
        let allowed = plan.get(from.as_str()).unwrap_or_else(|| panic!("{from} is not in the plan"));
        for to in targets.iter().filter(|to| graph.contains_key(*to)) {
            assert!(allowed.contains(&to.as_str()), "{from} -> {to}: plan it in docs/architecture.md first");
        }
    }
    for (from, _) in ALLOWED {
        assert!(graph.contains_key(*from), "{from} is planned here but does not exist");
    }
}

#[test]
fn the_libraries_of_the_design_are_shipped() {
    let graph = shipped_dependencies();
    for (room, library) in SHIPPED {
        assert!(graph[*room].contains(*library), "{room} no longer uses {library}");
    }
}

#[test]
fn tensors_stay_in_the_engine_and_drivers_in_the_stores() {
    let owners: &[(&str, &[&str])] = &[
        ("candle-core", &["mos-engine"]),
        ("candle-nn", &["mos-engine"]),
        ("candle-transformers", &["mos-engine"]),
        // The whole-house tests read what a broker got.
        ("lapin", &["mos-stores", "mos-tests"]),
        ("neo4rs", &["mos-stores"]),
        // The testkit has the other end of the protocol.
        ("qdrant-client", &["mos-stores", "mos-testkit"]),
        ("redis", &["mos-stores"]),
        ("rusqlite", &["mos-stores", "mos-testkit"]),
        ("sqlx", &["mos-stores"]),
        // In mos-kv only so that object_store's client of S3 servers has the workspace's TLS.
        ("reqwest", &["mos-models", "mos-kv"]),
        ("clap", &["mos-cli", "xtask"]),
    ];
    let graph = shipped_dependencies();
    for (library, rooms) in owners {
        for (from, targets) in &graph {
            if targets.contains(*library) {
                assert!(rooms.contains(&from.as_str()), "{from} must not know {library}");
            }
        }
    }
}

#[test]
fn no_file_of_the_house_is_read_from_outside_it() {
    let root = std::path::Path::new(&std::env::var("CARGO_MANIFEST_DIR").unwrap()).join("..");
    let mut waiting: Vec<std::path::PathBuf> =
        ["crates", "examples", "tests", "xtask"].iter().map(|name| root.join(name)).collect();
    let outside = ["..", "shared"].join("/");
    while let Some(path) = waiting.pop() {
        if path.is_dir() {
            waiting.extend(std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = std::fs::read_to_string(&path).unwrap();
            assert!(!text.contains(&outside), "{} reads from outside the repository", path.display());
        }
    }
}
