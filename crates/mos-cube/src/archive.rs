//! A dumped cube as one file, and back.
//!
//! The file is a plain tar archive that any `tar` lists: `manifest.json` first, then the files that it names, in its order.
//! Nothing is compressed, so that what comes out is never larger than what went in.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::path::Path;

use mos_core::MemoryError;
use tar::Archive;
use tempfile::TempDir;

use crate::directory::{CubeDump, file_error, private_folder, read};
use crate::manifest::{MANIFEST_FILE, Manifest, lies_within};
use crate::tarball::{Entries, copy_exactly, plain_name, write_archive};

/// A manifest is read whole; what is larger is something else.
const MAX_MANIFEST_BYTES: u64 = 16 << 20;

/// Writes a dumped cube to one file, which must not exist yet and appears whole or not at all. On Unix only the owner can read
/// it. The same dump gives the same bytes.
///
/// # Errors
/// [`MemoryError::File`] for a directory that is no dump of ours or is damaged, for a file that exists or cannot be written,
/// and for a name too long for an archive.
pub fn pack(directory: &Path, file: &Path) -> Result<Manifest, MemoryError> {
    let Some(manifest) = read(directory)?.manifest else {
        return Err(file_error(
            directory,
            format!("has no {MANIFEST_FILE}; load the cube and dump it again, then it can be packed"),
        ));
    };
    let names = std::iter::once(MANIFEST_FILE).chain(manifest.files.iter().map(|file| file.name.as_str()));
    write_archive(file, ".mos-cube-", |entries| append_all(entries, directory, names), |_| Ok(()))?;
    Ok(manifest)
}

fn append_all<'a>(
    entries: &mut Entries<'_>,
    directory: &Path,
    names: impl Iterator<Item = &'a str>,
) -> std::io::Result<()> {
    for name in names {
        let content = std::fs::File::open(directory.join(name))?;
        let bytes = content.metadata()?.len();
        entries.append(name, bytes, content.take(bytes))?;
    }
    Ok(())
}

/// A cube that was unpacked to a folder of its own, which is removed with this.
#[derive(Debug)]
pub struct Unpacked {
    folder: TempDir,
    /// What was read.
    pub dump: CubeDump,
}

impl Unpacked {
    /// The folder, for as long as this is kept.
    pub fn directory(&self) -> &Path {
        self.folder.path()
    }
}

/// Unpacks a cube's file into a new folder in `parent` and checks every file against the manifest.
///
/// Only plain files that the manifest names come out, each once and of the size it tells; anything else that an archive can
/// hold (links, devices, sparse files, absolute names, `..`) is refused before it touches the disk.
///
/// # Errors
/// [`MemoryError::File`] for what is no cube's file, is damaged, cut off or hostile, or was made by a newer program.
pub fn unpack(file: &Path, parent: &Path) -> Result<Unpacked, MemoryError> {
    let archive = std::fs::File::open(file).map_err(|error| file_error(file, format!("cannot be read: {error}")))?;
    let fail = |error: std::io::Error| file_error(parent, format!("cannot unpack a cube there: {error}"));
    let folder = private_folder(parent, ".cube-import-").map_err(fail)?;
    unpack_into(archive, folder.path()).map_err(|problem| file_error(file, problem))?;
    let dump = read(folder.path()).map_err(|error| file_error(file, error.to_string()))?;
    Ok(Unpacked { folder, dump })
}

/// Returns what is wrong, for people.
fn unpack_into(archive: std::fs::File, folder: &Path) -> Result<(), String> {
    let odd = |error: std::io::Error| format!("is not a cube's file, or is damaged: {error}");
    let mut archive = Archive::new(archive);
    // Raw: no entry may change what another one means.
    let entries = archive.entries().map_err(odd)?.raw(true);
    // Names and sizes, once the manifest was read; what came is taken out.
    let mut expected: Option<BTreeMap<String, u64>> = None;
    for entry in entries {
        let mut entry = entry.map_err(odd)?;
        let name = plain_name(entry.header(), "cube", lies_within)?;
        let size = entry.header().entry_size().map_err(odd)?;
        match &mut expected {
            None if name == MANIFEST_FILE && size <= MAX_MANIFEST_BYTES => {}
            None => return Err(format!("is not a cube's file: it does not begin with {MANIFEST_FILE}")),
            Some(files) => match files.remove(&name) {
                Some(told) if told == size => {}
                Some(told) => return Err(format!("holds `{name}` with {size} bytes, {MANIFEST_FILE} tells {told}")),
                None => return Err(format!("holds `{name}`, which {MANIFEST_FILE} does not name, or names once")),
            },
        }
        write_out(&mut entry, size, &folder.join(&name)).map_err(|error| format!("`{name}`: {error}"))?;
        if expected.is_none() {
            let files = read_manifest(folder)?.files;
            expected = Some(files.into_iter().map(|file| (file.name, file.bytes)).collect());
        }
    }
    let missing = expected.ok_or("is empty")?;
    match missing.keys().next() {
        Some(name) => Err(format!("lacks `{name}`: it was cut off")),
        None => Ok(()),
    }
}

fn read_manifest(folder: &Path) -> Result<Manifest, String> {
    let text = std::fs::read(folder.join(MANIFEST_FILE)).map_err(|error| error.to_string())?;
    let manifest: Manifest =
        serde_json::from_slice(&text).map_err(|error| format!("its {MANIFEST_FILE} means nothing: {error}"))?;
    manifest.check_format().map_err(|problem| format!("its {MANIFEST_FILE} {problem}"))?;
    Ok(manifest)
}

/// Copies exactly `size` bytes to a new file.
fn write_out(from: &mut impl Read, size: u64, path: &Path) -> std::io::Result<()> {
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent)?;
    }
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).open(path)?;
    copy_exactly(from, size, |piece| file.write_all(piece))
}
