//! Fuzzing: every target of `fuzz/` for a while, with what earlier runs have found, and what is new kept.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::Context;

use crate::shell;

/// What a target may take, in MiB: more is a finding.
const MAX_RESIDENT_MB: usize = 2048;

/// What it may ask for at once, in MiB.
const MAX_ALLOCATION_MB: usize = 256;

/// How long one input may take, in seconds.
const MAX_SECONDS_PER_INPUT: u64 = 60;

/// What is kept of a target's findings, unpacked; the smallest inputs are.
const MAX_KEPT_BYTES: u64 = 8 << 20;

/// Runs one target, or all, for so many minutes each. 0 minutes try what is known and nothing else.
pub(crate) fn run(target: Option<&str>, minutes: u64) -> anyhow::Result<()> {
    let all = targets()?;
    anyhow::ensure!(
        target.is_none_or(|target| all.iter().any(|known| known == target)),
        "no such target; known: {}",
        all.join(", ")
    );
    let compiler = Compiler::found()?;
    let mut broken = Vec::new();
    for name in all.iter().filter(|name| target.is_none_or(|target| target == name.as_str())) {
        println!("\n== {name}");
        if !one(&compiler, name, minutes)? {
            broken.push(name.as_str());
        }
    }
    anyhow::ensure!(
        broken.is_empty(),
        "an input broke {}; it is under fuzz/artifacts, and becomes a test beside the code that it broke",
        broken.join(", ")
    );
    Ok(())
}

/// The names of the targets, in order.
fn targets() -> anyhow::Result<Vec<String>> {
    let folder = shell::root().join("fuzz/fuzz_targets");
    let mut names = Vec::new();
    for path in entries(&folder)? {
        if path.extension().is_some_and(|extension| extension == "rs")
            && let Some(name) = path.file_stem()
        {
            names.push(name.to_string_lossy().into_owned());
        }
    }
    names.sort();
    Ok(names)
}

fn entries(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let listed = std::fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))?;
    let paths: Result<Vec<PathBuf>, std::io::Error> = listed.map(|entry| Ok(entry?.path())).collect();
    paths.with_context(|| format!("cannot list {}", folder.display()))
}

/// What builds targets: the sanitizers are not among what a stable compiler offers.
enum Compiler {
    Nightly,
    /// The stable one, told to offer what is not stable.
    Stable,
}

impl Compiler {
    fn found() -> anyhow::Result<Self> {
        let mut nightly = Command::new("rustc");
        nightly
            .args(["+nightly", "--version"])
            .env("RUSTUP_AUTO_INSTALL", "0")
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let compiler = if nightly.status().is_ok_and(|status| status.success()) {
            Self::Nightly
        } else {
            println!("no nightly compiler (`rustup toolchain install nightly`): the stable one takes its place");
            Self::Stable
        };
        let version = compiler.cargo_fuzz().arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
        anyhow::ensure!(
            version.is_ok_and(|status| status.success()),
            "cargo-fuzz is missing; install it with `cargo install cargo-fuzz --locked`"
        );
        Ok(compiler)
    }

    /// `cargo fuzz` in the workspace's folder. It builds in a folder of its own, because its flags are others.
    fn cargo_fuzz(&self) -> Command {
        let mut command = shell::cargo();
        match self {
            // Only the program of rustup knows what `+nightly` is.
            Self::Nightly => {
                command = on_path(&command);
                command.arg("+nightly").env_remove("RUSTUP_TOOLCHAIN").env_remove("CARGO");
            }
            Self::Stable => {
                command.env("RUSTC_BOOTSTRAP", "1");
            }
        }
        command.arg("fuzz").env("CARGO_TARGET_DIR", work_root().join("target"));
        command
    }
}

/// Returns the `cargo` of the search path in the folder and with the variables of another command.
fn on_path(other: &Command) -> Command {
    let mut command = Command::new("cargo");
    command.current_dir(shell::root());
    for (name, value) in other.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    command
}

fn work_root() -> PathBuf {
    shell::target().join("fuzz")
}

/// Runs a target and keeps what it found; returns whether it withstood every input.
fn one(compiler: &Compiler, name: &str, minutes: u64) -> anyhow::Result<bool> {
    let (work, archive) = (work_root().join("corpus").join(name), archive(name));
    std::fs::create_dir_all(&work).with_context(|| format!("cannot make {}", work.display()))?;
    if archive.is_file() {
        shell::run(Command::new("tar").arg("-C").arg(&work).arg("-xf").arg(&archive))?;
    }
    // Apart from the run, so that code that does not build is not taken for a finding.
    shell::run(compiler.cargo_fuzz().args(["build", name]))?;
    let mut folders = vec![work.clone()];
    folders.extend(seeds(name)?);
    let until = match minutes {
        0 => "-runs=0".to_owned(),
        minutes => format!("-max_total_time={}", minutes.saturating_mul(60)),
    };
    let mut command = target_on(compiler, name, &folders, &until);
    let status = command.status().with_context(|| format!("cannot start {command:?}"))?;
    if minutes > 0 {
        keep(compiler, name, &work, &archive)?;
    }
    Ok(status.success())
}

/// A run of a target over folders of inputs, the first of which takes new ones; `mode` is an option of libFuzzer.
fn target_on(compiler: &Compiler, name: &str, folders: &[PathBuf], mode: &str) -> Command {
    let mut command = compiler.cargo_fuzz();
    command.args(["run", name]).args(folders).args(["--", mode]);
    command.arg(format!("-timeout={MAX_SECONDS_PER_INPUT}"));
    command.arg(format!("-rss_limit_mb={MAX_RESIDENT_MB}"));
    command.arg(format!("-malloc_limit_mb={MAX_ALLOCATION_MB}"));
    command
}

/// The folders of seeds, which are only read.
fn seeds(name: &str) -> anyhow::Result<Vec<PathBuf>> {
    let mut folders = vec![shell::root().join("fuzz/corpus").join(name)];
    if name == "pickle" {
        folders.extend(entries(&shell::root().join("crates/mos-kv/tests/fixtures/pickle"))?);
    }
    folders.retain(|folder| folder.is_dir());
    Ok(folders)
}

fn archive(name: &str) -> PathBuf {
    shell::root().join("fuzz/found").join(format!("{name}.tar.xz"))
}

/// Leaves of what was found what reaches code that nothing else reaches, and packs it.
fn keep(compiler: &Compiler, name: &str, work: &Path, archive: &Path) -> anyhow::Result<()> {
    if entries(work)?.is_empty() {
        return Ok(());
    }
    // What `cargo fuzz cmin` does, which cannot move folders from one disk to another.
    let reduced = work.with_extension("reduced");
    if reduced.exists() {
        std::fs::remove_dir_all(&reduced).with_context(|| format!("cannot remove {}", reduced.display()))?;
    }
    std::fs::create_dir_all(&reduced).with_context(|| format!("cannot make {}", reduced.display()))?;
    shell::run(&mut target_on(compiler, name, &[reduced.clone(), work.to_owned()], "-merge=1"))?;
    std::fs::remove_dir_all(work).with_context(|| format!("cannot remove {}", work.display()))?;
    std::fs::rename(&reduced, work).with_context(|| format!("cannot rename {}", reduced.display()))?;
    let n_left_out = leave_out_large(work, MAX_KEPT_BYTES)?;
    if n_left_out > 0 {
        println!("{n_left_out} of the largest inputs are not kept");
    }
    // The same inputs make the same archive, whoever packs them, and when.
    let mut tar = Command::new("tar");
    tar.args(["--sort=name", "--owner=0", "--group=0", "--numeric-owner", "--mtime=@0", "--mode=0644"]);
    tar.arg("-C").arg(work).arg("-cJf").arg(archive).arg("--no-recursion");
    let mut files = entries(work)?;
    files.sort();
    let list = work_root().join(format!("{name}.files"));
    let names: Vec<String> =
        files.iter().filter_map(|path| path.file_name()).map(|name| name.to_string_lossy().into_owned()).collect();
    std::fs::write(&list, names.join("\n")).with_context(|| format!("cannot write {}", list.display()))?;
    shell::run(tar.arg("-T").arg(&list))
}

/// Removes the largest files of a folder until the others have at most so many bytes, and returns how many went.
fn leave_out_large(folder: &Path, max_bytes: u64) -> anyhow::Result<usize> {
    let mut sized = Vec::new();
    for path in entries(folder)? {
        let metadata = std::fs::metadata(&path).with_context(|| format!("cannot read {}", path.display()))?;
        sized.push((metadata.len(), path));
    }
    sized.sort();
    let (mut sum, mut n_removed) = (0_u64, 0);
    for (bytes, path) in sized {
        sum = sum.saturating_add(bytes);
        if sum > max_bytes {
            std::fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))?;
            n_removed += 1;
        }
    }
    Ok(n_removed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smallest_inputs_are_kept() {
        let folder = tempfile::tempdir().unwrap();
        for (name, bytes) in [("a", 30), ("b", 10), ("c", 20)] {
            std::fs::write(folder.path().join(name), vec![0; bytes]).unwrap();
        }
        assert_eq!(leave_out_large(folder.path(), 30).unwrap(), 1);
        let mut left = entries(folder.path()).unwrap();
        left.sort();
        assert_eq!(left, [folder.path().join("b"), folder.path().join("c")]);
        assert_eq!(leave_out_large(folder.path(), 30).unwrap(), 0);
    }

    #[test]
    fn every_target_is_built_and_has_seeds() {
        let manifest = std::fs::read_to_string(shell::root().join("fuzz/Cargo.toml")).unwrap();
        for name in targets().unwrap() {
            assert!(manifest.contains(&format!("path = \"fuzz_targets/{name}.rs\"")), "{name}");
            assert!(seeds(&name).unwrap().iter().any(|folder| !entries(folder).unwrap().is_empty()), "{name}");
        }
    }
}
