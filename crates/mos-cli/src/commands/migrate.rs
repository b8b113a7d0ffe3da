//! `mos migrate`.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail, ensure};
use mos::migrate::{Background, Endpoint, MigrateOptions, MigrateReport, Missing, Outcome, migrate};
use mos_config::{Secrets, Setting, Settings, process_environment};
use mos_core::CubeId;
use serde_json::{Value, json};

use crate::arguments::MigrateArguments;
use crate::context::Context;
use crate::progress::spinner;

/// The schema of users and cubes when no settings name one: that of `configs/servers.yaml`.
const USERS_SCHEMA: &str = "mos";

/// What the names of collections begin with when no settings say it: that of `configs/neo4j-and-qdrant.yaml`.
const COLLECTIONS: &str = "mos";

/// One side as it was asked for.
#[derive(Debug)]
struct Side {
    settings: Settings,
    data_dir: Option<PathBuf>,
}

pub(super) async fn run(context: &Context, arguments: MigrateArguments) -> anyhow::Result<()> {
    let from = side(context, arguments.from.as_deref(), arguments.from_config.as_deref()).context("--from")?;
    let to = side(context, arguments.to.as_deref(), arguments.to_config.as_deref()).context("--to")?;
    let mut cubes = arguments.cubes.iter().map(CubeId::parse).collect::<Result<Vec<_>, _>>()?;
    cubes.extend(context.cube.clone().filter(|cube| !cubes.contains(cube)));
    let options = MigrateOptions { cubes, dry_run: arguments.dry_run, leave_jobs: arguments.leave_jobs };
    let missing = if arguments.dry_run { Missing::TakeForEmpty } else { Missing::Make };
    let open = async |side: Side, missing| Endpoint::open(&side.settings, side.data_dir.as_deref(), missing).await;
    let from = open(from, Missing::Refuse).await.context("cannot open the source")?;
    let to = open(to, missing).await.context("cannot open the target")?;
    let bar = spinner("looking at both sides");
    let shown = bar.clone();
    let report = migrate(&from, &to, &options, move |progress| {
        let (number, n_cubes) = (progress.number, progress.n_cubes);
        shown.set_message(format!("cube {number}/{n_cubes} `{}`: {} {}", progress.cube, progress.part, progress.done));
    })
    .await;
    bar.finish_and_clear();
    context.output.value(&report?, text)
}

fn text(report: &MigrateReport) -> String {
    let mut lines = vec![
        format!("from {}", report.from),
        format!("to   {}", report.to),
        format!("{} users new, {} known already", report.n_new_users, report.n_known_users),
        format!("{} keys new, {} known already", report.n_new_keys, report.n_known_keys),
    ];
    if report.n_keys_left > 0 {
        lines.push(format!(
            "{} keys stay behind: keys move when all cubes do, and not to another user of the same id",
            report.n_keys_left
        ));
    }
    for cube in &report.cubes {
        let what = match cube.outcome {
            Outcome::ToMove => "would be moved",
            Outcome::ToGoOn => "was begun; the rest of it would be moved",
            Outcome::Moved => "moved; both sides are the same",
            Outcome::SameAlready => "there already; both sides are the same",
        };
        let contents = &cube.contents;
        lines.push(format!(
            "cube `{}` {what}: {} memories, {} edges, {} embeddings, {} earlier versions, {} idempotency keys",
            cube.cube,
            contents.memories.count,
            contents.edges.count,
            contents.embeddings.count,
            contents.versions.count,
            contents.keys.count
        ));
        if let Some(n_vectors) = cube.n_vectors {
            lines.push(format!("  {n_vectors} vectors in Qdrant, equal to those of the store"));
        }
        let background = &cube.background;
        if *background != Background::default() {
            lines.push(format!(
                "  {} jobs that wait, {} dead ones, {} known as finished, {} documents, {} entries of logs",
                background.jobs.count,
                background.dead.count,
                background.finished.count,
                background.documents.count,
                background.entries.count
            ));
        }
        if cube.n_jobs_left > 0 {
            lines.push(format!("  {} jobs of it stay behind", cube.n_jobs_left));
        }
        if cube.n_documents_left > 0 {
            lines.push(format!(
                "  {} documents and entries of logs of it stay behind: the target has no queue to keep them beside",
                cube.n_documents_left
            ));
        }
    }
    if report.dry_run {
        lines.push("nothing was written".to_owned());
    }
    lines.join("\n")
}

/// Finds out what a side is: a settings file, a folder, a file, or a word.
fn side(context: &Context, word: Option<&str>, config: Option<&Path>) -> anyhow::Result<Side> {
    if let Some(file) = config {
        let settings = load(context, file)?;
        if let Some(word) = word {
            check_word(word, &settings)?;
        }
        return Ok(Side { settings, data_dir: None });
    }
    match word.unwrap_or_default() {
        "sqlite" => Ok(Side { settings: embedded(&context.settings, None)?, data_dir: context.data_dir.clone() }),
        word @ ("neo4j" | "neo4j+qdrant") => {
            let settings = if is_neo4j(context.settings.store.backend()) {
                context.settings.clone()
            } else {
                servers_of_environment(&context.settings, word.ends_with("+qdrant"))?
            };
            check_word(word, &settings)?;
            Ok(Side { settings, data_dir: None })
        }
        path => by_path(context, Path::new(path)),
    }
}

fn by_path(context: &Context, path: &Path) -> anyhow::Result<Side> {
    let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
    if path.is_file() && matches!(extension, "yaml" | "yml" | "json") {
        return Ok(Side { settings: load(context, path)?, data_dir: None });
    }
    if extension == "db" {
        return Ok(Side { settings: embedded(&context.settings, Some(path))?, data_dir: None });
    }
    // A target's folder may be missing, but then it must look like one: a misspelt word is no folder.
    let shown = path.display().to_string();
    ensure!(
        path.is_dir() || shown.contains(['/', std::path::MAIN_SEPARATOR]),
        "`{shown}` is none of sqlite, neo4j, neo4j+qdrant, and there is no folder or file of this name; write a new folder \
         as ./{shown}"
    );
    Ok(Side { settings: embedded(&context.settings, None)?, data_dir: Some(path.to_owned()) })
}

/// Reads the settings of one side. What the environment sets means one installation, that of --config: a file of another side is
/// read as it stands, or both sides would be put into one place.
fn load(context: &Context, file: &Path) -> anyhow::Result<Settings> {
    let is_same =
        |known: &Path| matches!((known.canonicalize(), file.canonicalize()), (Ok(one), Ok(other)) if one == other);
    if context.settings_file.as_deref().is_some_and(is_same) {
        return Ok(context.settings.clone());
    }
    let environment = process_environment();
    let loaded = Settings::load_alone(file, environment.clone())?;
    for warning in &loaded.warnings {
        context.output.note(&format!("warning: {warning}"));
    }
    // What cannot be read with the environment is none of this file's faults.
    let elsewhere =
        Settings::load(Some(file), environment).is_ok_and(|set| !is_one_place(&set.settings, &loaded.settings));
    if elsewhere {
        context.output.note(&format!(
            "warning: the environment sets keys (MOS_DATA_DIR, MOS__STORE__CONFIG__URI ...) that are not heeded for {}: they mean the \
             installation of --config. Write what this side needs into the file, as it is or as ${{NAME}}",
            file.display()
        ));
    }
    Ok(loaded.settings)
}

/// Whether two settings keep everything in the same stores.
fn is_one_place(one: &Settings, other: &Settings) -> bool {
    one.data_dir == other.data_dir
        && one.store == other.store
        && one.vectors == other.vectors
        && one.queue == other.queue
        && one.user_manager == other.user_manager
}

/// Settings with other stores, and without what belongs to the stores that they name.
fn with_stores(settings: &Settings, store: Value, users: Value) -> anyhow::Result<Settings> {
    let mut whole = settings.to_json(Secrets::Plain);
    if let Value::Object(parts) = &mut whole {
        parts.shift_remove("queue");
        parts.retain(|_, part| store["backend"] != "sqlite" || part["backend"] != "qdrant");
    }
    whole["store"] = store;
    whole["user_manager"] = users;
    Ok(Settings::from_json(&whole)?)
}

/// Settings with everything in one file: this one, or that of the settings.
fn embedded(settings: &Settings, path: Option<&Path>) -> anyhow::Result<Settings> {
    let sqlite = json!({"backend": "sqlite", "config": {}});
    let mut store = sqlite.clone();
    if let Some(path) = path {
        store["config"]["path"] = json!(path);
    } else if settings.store.backend() == "sqlite" {
        store = settings.store.to_json(Secrets::Plain);
    }
    with_stores(settings, store, sqlite)
}

/// Settings with the servers that the environment names.
fn servers_of_environment(settings: &Settings, with_qdrant: bool) -> anyhow::Result<Settings> {
    let environment = process_environment();
    let find = |name: &str| {
        let found = environment.iter().find(|(key, value)| key == name && !value.trim().is_empty());
        found.map(|(_, value)| value.clone())
    };
    let needed = |name: &str| {
        find(name).with_context(|| {
            format!(
                "no settings name a Neo4j server, and {name} is not set; give --config, --from-config or --to-config with \
                 settings like configs/servers.yaml, or set NEO4J_URI, NEO4J_PASSWORD and DATABASE_URL (and QDRANT_URL, \
                 REDIS_URL)"
            )
        })
    };
    let user = find("NEO4J_USER").unwrap_or_else(|| "neo4j".to_owned());
    let neo4j = json!({"uri": needed("NEO4J_URI")?, "user": user, "password": needed("NEO4J_PASSWORD")?});
    let users = json!({"url": needed("DATABASE_URL")?, "schema_name": USERS_SCHEMA});
    let store = json!({"backend": "neo4j", "config": neo4j});
    let mut whole =
        with_stores(settings, store, json!({"backend": "postgres", "config": users}))?.to_json(Secrets::Plain);
    if with_qdrant {
        let mut qdrant = json!({"url": needed("QDRANT_URL")?, "collection_name": COLLECTIONS});
        if let Some(key) = find("QDRANT_API_KEY") {
            qdrant["api_key"] = json!(key);
        }
        whole["vectors"] = json!({"backend": "qdrant", "config": qdrant});
    }
    if let Some(url) = find("REDIS_URL") {
        whole["queue"] = json!({"backend": "redis", "config": {"url": url}});
    }
    Ok(Settings::from_json(&whole)?)
}

/// With vectors elsewhere it is the same record.
fn is_neo4j(store: &str) -> bool {
    ["neo4j", "neo4j-community"].contains(&store)
}

/// Refuses settings that are not what the word says.
fn check_word(word: &str, settings: &Settings) -> anyhow::Result<()> {
    let store = settings.store.backend();
    let (wanted, index) = word.split_once('+').unwrap_or((word, ""));
    if !["sqlite", "neo4j"].contains(&wanted) {
        bail!("`{word}` is none of sqlite, neo4j, neo4j+qdrant");
    }
    let is_wanted = if wanted == "neo4j" { is_neo4j(store) } else { store == wanted };
    ensure!(is_wanted, "the settings keep memories in `{store}`, not in `{wanted}`");
    match index {
        "" => Ok(()),
        // The index follows the record; here it is only made sure that nobody expects one that is not there.
        "qdrant" if names_qdrant(settings) => Ok(()),
        "qdrant" => bail!("the settings name no Qdrant server; name one, or write `{wanted}`"),
        other => bail!("there is no index `{other}`; write `{wanted}` or `{wanted}+qdrant`"),
    }
}

/// Whether a part of the settings is Qdrant.
fn names_qdrant(settings: &Settings) -> bool {
    fn names(part: &Value) -> bool {
        match part {
            Value::Object(parts) => part["backend"] == "qdrant" || parts.values().any(names),
            _ => false,
        }
    }
    names(&settings.to_json(Secrets::Masked))
}
