//! Speed, measured next to a peer or a limit in the same run.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context;

use crate::{clients, kv, models, services, shell};

/// Threads that every measured engine gets.
const THREADS: &str = "2";

/// How many times faster than with single statements, as MemOS writes them, memories must be imported.
const IMPORT_TIMES: f64 = 20.0;

const LLAMA_CPP: &str = include_str!("llama_cpp.py");

/// Runs one part, or all. `minutes`: for so long the server is loaded once more, while its memory is watched.
pub(crate) fn run(part: Option<&str>, minutes: Option<u64>) -> anyhow::Result<()> {
    let wanted = |name: &str| part.is_none_or(|part| part == name);
    let known = ["engine", "kv", "stores", "memory", "reader", "scheduler", "server", "neo4j"];
    anyhow::ensure!(part.is_none_or(|part| known.contains(&part)), "no such part; known: {}", known.join(", "));
    anyhow::ensure!(minutes.is_none() || wanted("server"), "--minutes goes with the part `server`");
    if ["engine", "kv", "memory", "reader", "server"].into_iter().any(wanted) {
        models::fetch(|| shell::mos(&["--release"]))?;
    }
    if wanted("engine") {
        engine()?;
    }
    if wanted("kv") {
        let python = python_with("transformers", &["torch", "transformers", "accelerate", "gguf"])?;
        kv::run(&model_path("smollm2-135m-instruct")?, &python, THREADS, &scratch("kv")?)?;
    }
    if wanted("stores") {
        let folder = scratch("stores")?;
        let folder = folder.as_os_str().to_string_lossy();
        example("mos-stores", "store_speed", &[folder.as_ref(), "10000"])?;
        example("mos-stores", "targets", &[folder.as_ref()])?;
    }
    if wanted("memory") {
        let folder = scratch("memory")?;
        example("mos-memory", "recall_speed", &[folder.as_os_str().to_string_lossy().as_ref()])?;
        example("mos", "facade_speed", &[folder.as_os_str().to_string_lossy().as_ref(), "10000"])?;
    }
    if wanted("reader") {
        let folder = scratch("reader")?;
        example("mos", "reading_speed", &[folder.as_os_str().to_string_lossy().as_ref()])?;
    }
    if wanted("scheduler") {
        let folder = scratch("scheduler")?;
        example("mos-scheduler", "scheduler_speed", &[folder.as_os_str().to_string_lossy().as_ref()])?;
    }
    if wanted("server") {
        server(minutes)?;
    }
    if wanted("neo4j") {
        neo4j()?;
    }
    Ok(())
}

/// The program itself over HTTP, as it is released.
fn server(minutes: Option<u64>) -> anyhow::Result<()> {
    shell::run(shell::cargo().args(["build", "--release", "--quiet", "--package", "mos-cli", "--bin", "mos"]))?;
    let program = shell::target().join("release").join(format!("mos{}", std::env::consts::EXE_SUFFIX));
    let (program, folder) = (program.display().to_string(), scratch("server")?.display().to_string());
    let minutes = minutes.map(|minutes| minutes.to_string());
    let mut arguments = vec![program.as_str(), folder.as_str()];
    if let Some(minutes) = &minutes {
        arguments.extend(["--minutes", minutes.as_str()]);
    }
    example("mos-server", "server_load", &arguments)
}

/// One batch next to one statement for each memory, on a real server.
fn neo4j() -> anyhow::Result<()> {
    println!("\n== neo4j import");
    let lease = services::lease(false)?;
    let mut command = shell::cargo();
    command.args(["test", "--release", "--quiet", "--package", "mos-stores", "--test", "it", "neo4j::import"]);
    command.args(["--", "--ignored", "--nocapture"]);
    command.envs(lease.environment().iter().map(|(name, value)| (name, value)));
    let text = shell::capture(&mut command)?;
    let lines: Vec<&str> = text.lines().filter(|line| line.contains(" s")).collect();
    println!("{}", lines.join("\n"));
    let times = lines.iter().find(|line| line.contains("as MemOS")).and_then(|line| number_before(line, " times"));
    let times = times.with_context(|| format!("nothing was measured: {}", lease.notices().join("; ")))?;
    anyhow::ensure!(times >= IMPORT_TIMES, "the batch is {times:.1} times as fast, not {IMPORT_TIMES:.0} times");
    Ok(())
}

fn number_before(line: &str, word: &str) -> Option<f64> {
    line.split_once(word)?.0.rsplit(' ').next()?.parse().ok()
}

/// Ours and llama.cpp in turn, twice, so that a machine that slows down slows both.
fn engine() -> anyhow::Result<()> {
    let model = model_path("smollm2-135m-instruct")?;
    let python = python_with("llama-cpp", &["xllamacpp"])?;
    for round in 1..=2 {
        println!("\n-- round {round}: llama.cpp");
        let mut command = Command::new(&python);
        let text = shell::capture(command.args(["-c", LLAMA_CPP]).arg(&model).arg(THREADS))?;
        for line in text.lines().filter_map(|line| line.split_once("RESULT ").map(|(_, json)| json)) {
            println!("{line}");
        }
        println!("-- round {round}: mos");
        example("mos-engine", "decoder_speed", &[model.to_string_lossy().as_ref(), THREADS])?;
    }
    let encoder = model_path("all-minilm-l6-v2")?;
    example("mos-engine", "encoder_speed", &[encoder.to_string_lossy().as_ref()])
}

fn example(package: &str, name: &str, arguments: &[&str]) -> anyhow::Result<()> {
    println!("\n== {package} {name}");
    let mut command = shell::cargo();
    command.args(["run", "--release", "--quiet", "--package", package, "--example", name, "--"]).args(arguments);
    command.env(models::VARIABLE, models::folder()?);
    shell::run(&mut command)
}

/// The path of a fetched model, as `mos models list` knows it.
fn model_path(name: &str) -> anyhow::Result<PathBuf> {
    let mut command = shell::mos(&["--release"]);
    command.args(["models", "list", "--json"]);
    command.env(models::VARIABLE, models::folder()?);
    let models: serde_json::Value = serde_json::from_str(&shell::capture(&mut command)?)?;
    let found = models.as_array().into_iter().flatten().find(|model| model["name"] == name);
    let path = found.and_then(|model| model["path"].as_str()).with_context(|| format!("{name} is not here"))?;
    Ok(PathBuf::from(path))
}

/// A Python that has the packages, in an environment of its own under the target folder.
fn python_with(name: &str, packages: &[&str]) -> anyhow::Result<PathBuf> {
    let wanted = packages.join(", ");
    let names: Vec<&std::ffi::OsStr> = packages.iter().map(std::convert::AsRef::as_ref).collect();
    clients::python_with(name, &wanted, &wanted, |python| clients::pip(python, &names))
}

fn scratch_root() -> PathBuf {
    shell::target().join("bench")
}

/// An empty folder on the same disk as the target folder.
fn scratch(name: &str) -> anyhow::Result<PathBuf> {
    let folder: &Path = &scratch_root().join(name);
    if folder.exists() {
        std::fs::remove_dir_all(folder)?;
    }
    std::fs::create_dir_all(folder)?;
    Ok(folder.to_owned())
}
