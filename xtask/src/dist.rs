//! Release archives: one per platform, with a checksum beside it.
//!
//! ```text
//! mos-0.1.0-x86_64-unknown-linux-gnu/
//!   mos                    the program
//!   README.md LICENSE NOTICE CHANGELOG.md
//!   configs/               settings to begin with
//!   completions/           for bash, zsh, fish, elvish and PowerShell
//! ```

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail, ensure};

use crate::shell;

/// Files of the repository that are in every archive.
const FILES: [&str; 4] = ["README.md", "LICENSE", "NOTICE", "CHANGELOG.md"];

/// What the program of an archive is built with, beyond what it has anyway; the same as in an image.
const FEATURES: &str = "postgres,rabbitmq,opentelemetry";

/// Shells that `mos completions` knows, and what their scripts are called.
const SHELLS: [(&str, &str); 5] =
    [("bash", "mos.bash"), ("zsh", "_mos"), ("fish", "mos.fish"), ("elvish", "mos.elv"), ("powershell", "_mos.ps1")];

/// Builds the program for a platform (`None` for this one) and writes archive and checksum to `target/dist`.
///
/// Completions are printed by the program itself: for a platform whose programs do not run here, by one built for this
/// platform.
pub(crate) fn run(target: Option<&str>) -> anyhow::Result<()> {
    let host = host()?;
    let platform = target.unwrap_or(&host);
    let program = build(platform)?;
    let runs_here = platform == host;
    let here = if runs_here { program.clone() } else { build(&host)? };
    let name = format!("mos-{}-{platform}", env!("CARGO_PKG_VERSION"));
    let dist = shell::target().join("dist");
    let folder = dist.join(&name);
    if folder.exists() {
        fs::remove_dir_all(&folder).with_context(|| format!("cannot remove {}", folder.display()))?;
    }
    furnish(&folder, &program, &here)?;
    let archive = pack(&dist, &name)?;
    let sum = checksum(&archive)?;
    println!("{}\n{sum}", archive.display());
    Ok(())
}

/// The platform that this toolchain builds for.
fn host() -> anyhow::Result<String> {
    let text = shell::capture(Command::new("rustc").arg("-vV"))?;
    let host = text.lines().find_map(|line| line.strip_prefix("host: "));
    Ok(host.context("rustc does not tell its host")?.trim().to_owned())
}

fn build(platform: &str) -> anyhow::Result<PathBuf> {
    let mut cargo = shell::cargo();
    cargo.args([
        "build",
        "--locked",
        "--release",
        "--package",
        "mos-cli",
        "--features",
        FEATURES,
        "--target",
        platform,
    ]);
    shell::run(&mut cargo)?;
    let program = shell::target().join(platform).join("release").join(program_of(platform));
    ensure!(program.is_file(), "{} was not built", program.display());
    Ok(program)
}

fn program_of(platform: &str) -> &'static str {
    if platform.contains("windows") { "mos.exe" } else { "mos" }
}

/// Puts everything into the folder.
fn furnish(folder: &Path, program: &Path, here: &Path) -> anyhow::Result<()> {
    let root = shell::root();
    fs::create_dir_all(folder.join("completions"))?;
    let own = program.file_name().context("the program has no name")?;
    fs::copy(program, folder.join(own))?;
    for file in FILES {
        fs::copy(root.join(file), folder.join(file)).with_context(|| format!("cannot copy {file}"))?;
    }
    copy_folder(&root.join("configs"), &folder.join("configs"))?;
    for (shell_name, file) in SHELLS {
        let script = shell::capture(Command::new(here).args(["completions", shell_name]))?;
        ensure!(!script.trim().is_empty(), "no completions for {shell_name}");
        fs::write(folder.join("completions").join(file), script)?;
    }
    Ok(())
}

fn copy_folder(from: &Path, to: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (path, target) = (entry.path(), to.join(entry.file_name()));
        if entry.file_type()?.is_dir() {
            copy_folder(&path, &target)?;
        } else {
            fs::copy(&path, &target)?;
        }
    }
    Ok(())
}

/// Makes one file of a folder; `tar` comes with every platform that builds here, and writes zip archives on Windows.
fn pack(dist: &Path, name: &str) -> anyhow::Result<PathBuf> {
    let (archive, flags) =
        if name.contains("windows") { (format!("{name}.zip"), "-acf") } else { (format!("{name}.tar.gz"), "-czf") };
    let path = dist.join(&archive);
    if path.exists() {
        fs::remove_file(&path)?;
    }
    shell::run(Command::new("tar").current_dir(dist).args([flags, &archive, name]))?;
    Ok(path)
}

/// Writes the SHA-256 beside a file, as `sha256sum --check` reads it, and returns it.
fn checksum(file: &Path) -> anyhow::Result<String> {
    let name = file.file_name().and_then(|name| name.to_str()).context("the archive has no name")?;
    let folder = file.parent().context("the archive lies nowhere")?;
    let tools: [(&str, &[&str]); 3] = [("sha256sum", &[]), ("shasum", &["-a", "256"]), ("certutil", &["-hashfile"])];
    for (tool, arguments) in tools {
        let mut command = Command::new(tool);
        command.current_dir(folder).args(arguments).arg(name);
        if tool == "certutil" {
            command.arg("SHA256");
        }
        let Ok(text) = shell::run_quietly(&mut command) else { continue };
        let is_hash = |word: &&str| word.len() == 64 && word.bytes().all(|byte| byte.is_ascii_hexdigit());
        let hash = text.split_whitespace().find(is_hash).with_context(|| format!("{tool} told no hash"))?;
        let line = format!("{hash}  {name}");
        fs::write(folder.join(format!("{name}.sha256")), format!("{line}\n"))?;
        return Ok(line);
    }
    bail!("none of sha256sum, shasum and certutil is here; install one of them")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_archive_has_all_files_and_a_checksum_that_fits() {
        let place = tempfile::tempdir().unwrap();
        let folder = place.path().join("mos-0-here");
        copy_folder(&shell::root().join("configs"), &folder.join("configs")).unwrap();
        assert!(folder.join("configs/embedded.yaml").is_file());
        let archive = pack(place.path(), "mos-0-here").unwrap();
        assert!(archive.ends_with("mos-0-here.tar.gz") && archive.is_file());
        let line = checksum(&archive).unwrap();
        assert!(line.ends_with("  mos-0-here.tar.gz"), "{line}");
        let written = fs::read_to_string(place.path().join("mos-0-here.tar.gz.sha256")).unwrap();
        assert_eq!(written.trim_end(), line);
    }

    #[test]
    fn an_archive_can_do_what_an_image_can() {
        let image = fs::read_to_string(shell::root().join("Dockerfile")).unwrap();
        assert!(image.lines().any(|line| line == format!("ARG FEATURES={FEATURES}")), "{FEATURES}");
    }

    #[test]
    fn every_file_of_an_archive_is_in_the_repository() {
        for file in FILES {
            assert!(shell::root().join(file).is_file(), "{file}");
        }
        assert_eq!((program_of("x86_64-pc-windows-msvc"), program_of("aarch64-apple-darwin")), ("mos.exe", "mos"));
    }
}
