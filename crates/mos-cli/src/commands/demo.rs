//! `mos demo`: the main job on real models, in a folder of its own.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::Context as _;
use mos::fetch;
use mos::{Add, Chat, Mos};
use mos_config::{Secrets, Setting as _, Settings, process_environment};
use mos_core::{ChatUsage, CubeId, Message, Sampling, UserId};

use super::chat::print_stream;
use crate::arguments::DemoArguments;
use crate::context::{Context, without_servers};
use crate::progress;

const USER: &str = "ann";

/// The settings of the demonstration, in its folder.
const SETTINGS_FILE: &str = "demo-settings.json";

/// How the names begin that say, over any file, where memories are.
const OVERRULING: [&str; 6] =
    ["MOS__STORE", "MOS__VECTORS", "MOS__USER_MANAGER", "MOS__QUEUE", "MOS__MEM_SCHEDULER", "MOS_USER_MANAGER_BACKEND"];

/// What the demonstration remembers: two people talking, as any chat client would send it.
const CONVERSATION: [(&str, &str); 4] = [
    ("user", "My dog is called Max and lives near Central Park."),
    ("user", "I work as a nurse at the children's hospital on Fifth Street."),
    ("user", "Every Friday evening I play chess with my brother Tom."),
    ("user", "I am allergic to peanuts, so I never eat satay."),
];

const QUESTIONS: [&str; 2] = ["What is the name of my dog?", "Who do I play chess with?"];

/// Instructions as long as applications have them: their state is computed once and kept.
const INSTRUCTIONS: &str = include_str!("demo_instructions.txt");

pub(super) async fn run(context: &Context, arguments: DemoArguments) -> anyhow::Result<()> {
    if arguments.again {
        let folder = arguments.folder.context("the second process needs --folder")?;
        return ask_again(context, &folder).await;
    }
    anyhow::ensure!(!context.output.json, "the demonstration is a text for people; run it without --json");
    if let Some(folder) = &arguments.folder {
        // Before models are fetched for nothing.
        anyhow::ensure!(!folder.exists(), "{} exists already; remove it or give another --folder", folder.display());
    }
    let say = |text: &str| context.output.line(text);
    say("1. Models (fetched once, then kept)")?;
    let models = mos::models_dir(&context.settings)?;
    for model in fetch::defaults() {
        say(&format!("   {}: {}", model.name, super::models::pull(model.name, &models).await?))?;
    }
    let folder = match arguments.folder {
        None => new_folder()?,
        Some(folder) => folder,
    };
    say(&format!("\n2. A conversation is remembered (in {})", folder.display()))?;
    let mos = open(context, &folder).await?;
    progress::spinning("remembering", remember(&mos)).await?;
    for cube in mos.get_all(&UserId::from(USER), None).await?.text_mem {
        for item in cube.memories {
            say(&format!("   {}  {}", item.id, item.memory))?;
        }
    }
    say("\n3. Questions are answered from memory, token by token")?;
    progress::spinning("loading the model", mos.chat_model()).await?;
    for question in QUESTIONS {
        ask(context, &mos, question, false).await?;
    }
    compare_first_tokens(context, &mos).await?;
    drop(mos);
    say("\n5. A second process opens the same folder and still knows")?;
    second_process(context, &folder)?;
    let settings = write_settings(&of_its_own(&context.settings), &folder)?;
    say(&format!("\nYour turn: {}", your_turn(&std::env::current_exe()?, &settings, &folder)))?;
    let names = overruling(process_environment().into_iter().map(|(name, _)| name));
    if !names.is_empty() {
        say(&format!("First unset what would lead it to other stores: {}", names.join(" ")))?;
    }
    say("Remove the folder when you are done with it.")
}

/// Writes the settings of the demonstration into its folder, for its owner only: they may hold keys.
fn write_settings(own: &Settings, folder: &Path) -> anyhow::Result<PathBuf> {
    let path = folder.join(SETTINGS_FILE);
    let mut options = std::fs::File::options();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let file = options.open(&path).with_context(|| format!("cannot write {}", path.display()))?;
    let mut settings = own.to_json(Secrets::Plain);
    // What is not written would be taken from the environment.
    settings["queue"] = serde_json::Value::Null;
    serde_json::to_writer_pretty(file, &settings).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(path)
}

/// Returns the command that goes on where the demonstration ends. Without settings of its own it would take those of the
/// environment, and with them the servers of an installation.
fn your_turn(program: &Path, settings: &Path, folder: &Path) -> String {
    let (program, settings, folder) = (shown(program), shown(settings), shown(folder));
    format!("{program} --config {settings} --data-dir {folder} --user {USER} chat")
}

/// Returns those names of the environment that say, over any file, where memories are.
fn overruling(names: impl Iterator<Item = String>) -> Vec<String> {
    let begins_so = |name: &String| OVERRULING.iter().any(|start| name.starts_with(start));
    names.filter(begins_so).collect()
}

/// Returns a path as a shell takes it.
fn shown(path: &Path) -> String {
    let text = path.display().to_string();
    let is_plain = text.chars().all(|letter| letter.is_ascii_alphanumeric() || "/\\._-:~+@%".contains(letter));
    if is_plain { text } else { format!("\"{text}\"") }
}

/// Makes a folder whose name nobody can foresee and which only its owner can enter: others use the same temporary
/// folder.
fn new_folder() -> anyhow::Result<PathBuf> {
    let mut builder = tempfile::Builder::new();
    builder.prefix("mos-demo-");
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o700));
    let folder = builder.tempdir().context("cannot make a temporary folder; give one with --folder")?;
    Ok(folder.keep())
}

async fn open(context: &Context, folder: &Path) -> anyhow::Result<Mos> {
    Ok(Mos::builder(of_its_own(&context.settings)).data_dir(folder).build().await?)
}

/// The settings with everything in the folder: a demonstration writes to no server that an installation uses.
fn of_its_own(settings: &Settings) -> Settings {
    without_servers(settings)
}

async fn remember(mos: &Mos) -> anyhow::Result<()> {
    let user = UserId::from(USER);
    mos.create_user(user.clone(), None).await?;
    mos.ensure_cube(&user, &CubeId::from("notes")).await?;
    let messages: Result<Vec<Message>, _> = CONVERSATION
        .iter()
        .map(|(role, text)| serde_json::from_value(serde_json::json!({"role": role, "content": text})))
        .collect();
    mos.add(Add::messages(messages?).user(user)).await?;
    Ok(())
}

fn question(text: &str) -> Chat {
    let sampling = Sampling { max_tokens: 48, ..Sampling::default() };
    // Each question is a conversation of its own: the small model mixes up what was said before.
    Chat::new(text).user(USER).session(text).sampling(sampling)
}

async fn ask(context: &Context, mos: &Mos, text: &str, no_cache: bool) -> anyhow::Result<ChatUsage> {
    let mut reply = mos.chat(question(text).no_cache(no_cache)).await?;
    context.output.line(&format!("   you> {text}"))?;
    if let Some((_, best)) = reply.memories.first() {
        context.output.line(&format!("        (best memory, score {:.2}: {})", best.score, best.item.memory))?;
    }
    context.output.raw("   mos> ")?;
    print_stream(context, &mut reply).await
}

/// The same prompt with nothing kept and with the instructions' state kept.
async fn compare_first_tokens(context: &Context, mos: &Mos) -> anyhow::Result<()> {
    context.output.line("\n4. What is computed already is not computed again")?;
    let user = UserId::from(USER);
    let with_instructions = |text| question(text).base_prompt(INSTRUCTIONS.trim());
    mos.chat(with_instructions(QUESTIONS[0])).await?.complete().await?;
    let mut measured = Vec::new();
    for (label, no_cache) in [("without", true), ("with", false)] {
        mos.clear_messages(&user).await?;
        let (answer, usage) =
            mos.chat(with_instructions("What must I never eat?").no_cache(no_cache)).await?.complete().await?;
        context.output.line(&format!(
            "   time to first token {label:>7} the cached prefix: {:>7.1} ms ({} of {} prompt tokens from the cache)",
            milliseconds(usage.time_to_first_token),
            usage.cached_tokens,
            usage.prompt_tokens,
        ))?;
        measured.push((answer, usage.time_to_first_token.as_secs_f64()));
    }
    let ratio = measured[0].1 / measured[1].1.max(1e-9);
    let same = if measured[0].0 == measured[1].0 { "with the same answer" } else { "but with another answer" };
    context.output.line(&format!("   {ratio:.1} times sooner, {same}"))
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

fn second_process(context: &Context, folder: &Path) -> anyhow::Result<()> {
    let program = std::env::current_exe().context("cannot find this program")?;
    let mut command = std::process::Command::new(program);
    command.arg("demo").arg("--again").arg("--folder").arg(folder).stdin(Stdio::null());
    if let Some(settings) = &context.settings_file {
        command.arg("--config").arg(settings);
    }
    let status = command.status().context("cannot start the second process")?;
    anyhow::ensure!(status.success(), "the second process failed: {status}");
    context.output.line("")
}

async fn ask_again(context: &Context, folder: &Path) -> anyhow::Result<()> {
    let mos = open(context, folder).await?;
    context.output.line(&format!("   (process {})", std::process::id()))?;
    for text in QUESTIONS {
        ask(context, &mos, text, false).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use mos_config::Setting;
    use serde_json::json;

    use super::*;

    #[test]
    fn a_demonstration_uses_no_server_of_the_settings() {
        let postgres = json!({"backend": "postgres", "config": {"url": "postgres://mos@db.example/mos"}});
        let neo4j =
            json!({"backend": "neo4j", "config": {"uri": "bolt://db.example:7687", "user": "u", "password": "p"}});
        let given = json!({"store": neo4j, "user_manager": postgres, "top_k": 3});
        let own = of_its_own(&Settings::from_json(&given).unwrap());
        assert_eq!((own.store.backend(), own.user_manager.backend(), own.top_k), ("sqlite", "sqlite", 3));
        assert!(!own.to_json(mos_config::Secrets::Plain).to_string().contains("db.example"));
    }

    #[test]
    fn what_goes_on_where_the_demonstration_ends_uses_no_server_either() {
        let neo4j =
            json!({"backend": "neo4j", "config": {"uri": "bolt://db.example:7687", "user": "u", "password": "p"}});
        let postgres = json!({"backend": "postgres", "config": {"url": "postgres://mos@db.example/mos"}});
        let queue = json!({"backend": "redis", "config": {}});
        let given = json!({"store": neo4j, "user_manager": postgres, "queue": queue, "top_k": 3});
        let given = Settings::from_json(&given).unwrap();
        let folder = tempfile::Builder::new().prefix("mos demo ").tempdir().unwrap();
        let path = write_settings(&of_its_own(&given), folder.path()).unwrap();
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        }
        // An installation that is told by names alone, on servers.
        let variables = [
            ("NEO4J_BACKEND", "neo4j"),
            ("GRAPH_DB_BACKEND", "neo4j"),
            ("NEO4J_URI", "bolt://db.example:7687"),
            ("NEO4J_PASSWORD", "p"),
        ];
        let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let read = mos_config::from_environment(mos_config::Purpose::Command, Some(&path), variables).unwrap();
        let own = read.settings;
        assert_eq!((own.store.backend(), own.user_manager.backend(), own.top_k), ("sqlite", "sqlite", 3));
        assert!(own.queue.is_none() && own.mem_scheduler.is_none());
        let command = your_turn(Path::new("/bin/mos"), &path, folder.path());
        assert!(command.starts_with(&format!("/bin/mos --config \"{}\" --data-dir \"", path.display())), "{command}");
        let names = ["MOS__STORE__BACKEND", "MOS__TOP_K", "HOME", "MOS_USER_MANAGER_BACKEND"].map(str::to_owned);
        assert_eq!(overruling(names.into_iter()), ["MOS__STORE__BACKEND", "MOS_USER_MANAGER_BACKEND"]);
    }

    #[test]
    fn each_demonstration_has_a_folder_of_its_own_that_nobody_else_enters() {
        let (one, two) = (new_folder().unwrap(), new_folder().unwrap());
        assert_ne!(one, two);
        for folder in [one, two] {
            let name = folder.file_name().unwrap().to_str().unwrap();
            assert!(name.starts_with("mos-demo-") && name != format!("mos-demo-{}", std::process::id()));
            #[cfg(unix)]
            {
                use std::os::unix::fs::PermissionsExt;
                assert_eq!(folder.metadata().unwrap().permissions().mode() & 0o777, 0o700);
            }
            std::fs::remove_dir(folder).unwrap();
        }
    }
}
