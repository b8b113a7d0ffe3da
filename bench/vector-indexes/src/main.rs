//! Compares ways to find the nearest vectors inside one process, at several sizes.
//!
//! Each index is built, searched, killed with SIGKILL and opened again, in processes of its own, so that the memory that is
//! reported is its own. All get the same vectors; what is right is found by comparing everything.

mod data;
mod exact;
mod hnsw;
#[cfg(feature = "qdrant")]
mod qdrant;
mod subject;
mod table;

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::Context;
use clap::{Parser, Subcommand};

use data::Data;
use subject::{Built, Opened, Subject};

#[derive(Debug, Parser)]
#[command(about = "Compares the embedded vector index with others")]
struct Arguments {
    #[command(subcommand)]
    task: Option<Task>,
    /// How many vectors.
    #[arg(long, value_delimiter = ',', default_value = "1000,10000,100000")]
    sizes: Vec<usize>,
    /// Which indexes: exact, hnsw_rs, qdrant-edge.
    #[arg(long, value_delimiter = ',', default_value = "exact,hnsw_rs,qdrant-edge")]
    only: Vec<String>,
    /// Where they are written; the disk decides about some of the figures.
    #[arg(long)]
    folder: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// What the program calls itself for: build and search one index.
    Build { subject: String, size: usize, folder: PathBuf },
    /// What the program calls itself for: open one index.
    Open { subject: String, size: usize, folder: PathBuf },
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    match arguments.task {
        None => compare(&arguments),
        Some(Task::Build { subject, size, folder }) => {
            let built = subject::build(&*open_subject(&subject)?, &Data::open(&folder, size)?, &folder.join(&subject))?;
            println!("{}", serde_json::to_string(&built)?);
            // The index stays open until this process is killed.
            loop {
                std::thread::park();
            }
        }
        Some(Task::Open { subject, size, folder }) => {
            let opened = subject::open(&*open_subject(&subject)?, &Data::open(&folder, size)?, &folder.join(&subject))?;
            println!("{}", serde_json::to_string(&opened)?);
            Ok(())
        }
    }
}

fn open_subject(name: &str) -> anyhow::Result<Box<dyn Subject>> {
    match name {
        "exact" => Ok(Box::new(exact::Exact)),
        "hnsw_rs" => Ok(Box::new(hnsw::HnswRs)),
        #[cfg(feature = "qdrant")]
        "qdrant-edge" => Ok(Box::new(qdrant::QdrantEdge)),
        other => anyhow::bail!("no index `{other}` in this build"),
    }
}

fn compare(arguments: &Arguments) -> anyhow::Result<()> {
    let parent = arguments.folder.clone().unwrap_or_else(std::env::temp_dir);
    table::print_head();
    for size in &arguments.sizes {
        let folder = parent.join(format!("vector-indexes-{}-{size}", std::process::id()));
        std::fs::create_dir_all(&folder)?;
        let result = compare_at(*size, &arguments.only, &folder);
        std::fs::remove_dir_all(&folder)?;
        result?;
    }
    Ok(())
}

/// The line with the figures. Some libraries print lines of their own.
fn figures(output: impl BufRead) -> anyhow::Result<String> {
    for line in output.lines() {
        let line = line?;
        if line.starts_with('{') {
            return Ok(line);
        }
    }
    anyhow::bail!("the process ended without figures")
}

fn compare_at(size: usize, subjects: &[String], folder: &Path) -> anyhow::Result<()> {
    Data::write(folder, size)?;
    for subject in subjects {
        std::fs::create_dir_all(folder.join(subject))?;
        let mut building = command("build", subject, size, folder)?.stdout(Stdio::piped()).spawn()?;
        let output = building.stdout.take().context("the output of the process")?;
        let line = figures(BufReader::new(output));
        // SIGKILL: nothing is flushed, no destructor runs.
        building.kill()?;
        building.wait()?;
        let built: Built = serde_json::from_str(&line?).with_context(|| format!("{subject} with {size} vectors"))?;
        let output = command("open", subject, size, folder)?.stderr(Stdio::inherit()).output()?;
        anyhow::ensure!(output.status.success(), "{subject} with {size} vectors cannot be opened: {}", output.status);
        let opened: Opened = serde_json::from_str(&figures(output.stdout.as_slice())?)?;
        table::print_rows(subject, size, &built, &opened);
        std::fs::remove_dir_all(folder.join(subject))?;
    }
    Ok(())
}

fn command(task: &str, subject: &str, size: usize, folder: &Path) -> anyhow::Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg(task).arg(subject).arg(size.to_string()).arg(folder);
    Ok(command)
}
