//! Files of an installation as one file, and back: what a backup is made of.
//!
//! The file is a plain tar archive that any `tar` lists: `backup.json` first, then the files that it names, in its order, each
//! with its size and BLAKE3. Nothing is compressed, so that what comes out is never larger than what went in.

use std::collections::BTreeMap;
use std::io::{Error, Read, Write};
use std::path::Path;

use mos_core::MemoryError;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tar::Archive;

use crate::directory::file_error;
use crate::manifest::{ManifestFile, is_path_of_at_most};
use crate::tarball::{Entries, check_free, copy_exactly, plain_name, write_archive};

/// Version of the layout that this program writes, and the newest it reads.
pub const BUNDLE_FORMAT: u32 = 1;

/// The file that comes first and names the others.
pub const BUNDLE_MANIFEST: &str = "backup.json";

/// What the name of a bundle begins with while it is written.
pub const BUNDLE_STAGING: &str = ".mos-backup-";

/// A list of files is read whole; what is larger is something else.
const MAX_MANIFEST_BYTES: u64 = 64 << 20;

/// The most folders in a name.
const MAX_DEPTH: usize = 8;

/// What stands in a bundle.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Bundle {
    /// Version of the layout.
    pub format: u32,
    /// The program that wrote it.
    pub program: String,
    /// When it was written, ISO 8601.
    pub created_at: String,
    /// What it is of, for whoever reads it back.
    pub about: Value,
    /// The other files, in their order.
    pub files: Vec<ManifestFile>,
}

/// Writes files of a folder to one file, which must not exist yet and appears whole or not at all. On Unix only the owner can
/// read it. Names are relative to the folder, with `/` between their parts.
///
/// # Errors
/// [`MemoryError::File`] for a file that exists or cannot be written, a name that leads elsewhere or is too long for an
/// archive, and a file that changed while it was read.
pub fn pack_bundle(
    folder: &Path,
    names: &[String],
    about: Value,
    created_at: String,
    file: &Path,
) -> Result<Bundle, MemoryError> {
    check_free(file)?;
    let mut files = Vec::with_capacity(names.len());
    for name in names {
        if !is_plain_path(name) {
            return Err(file_error(folder, format!("cannot keep a file of the name `{name}`")));
        }
        let described = ManifestFile::of(folder, name);
        files.push(described.map_err(|error| file_error(&folder.join(name), format!("cannot be read: {error}")))?);
    }
    let program = format!("mos {}", env!("CARGO_PKG_VERSION"));
    let bundle = Bundle { format: BUNDLE_FORMAT, program, created_at, about, files };
    // What cannot be restored is no backup.
    let check = |written: &Path| read(written, None).map(drop);
    write_archive(file, BUNDLE_STAGING, |entries| append_all(entries, folder, &bundle), check)?;
    Ok(bundle)
}

fn append_all(entries: &mut Entries<'_>, folder: &Path, bundle: &Bundle) -> std::io::Result<()> {
    let manifest = serde_json::to_vec_pretty(bundle)?;
    entries.append(BUNDLE_MANIFEST, manifest.len() as u64, manifest.as_slice())?;
    for described in &bundle.files {
        let content = std::fs::File::open(folder.join(&described.name))?;
        entries.append(&described.name, described.bytes, content.take(described.bytes))?;
    }
    Ok(())
}

/// Unpacks a bundle into a folder that exists and is empty, and checks every file. After an error the folder may hold some
/// of the files.
///
/// Only plain files that the bundle names come out, each once, of the size and checksum it tells; anything else that an
/// archive can hold (links, devices, absolute names, `..`) is refused before it touches the disk.
///
/// # Errors
/// [`MemoryError::File`] for what is no bundle, is damaged, cut off or hostile, or was made by a newer program.
pub fn unpack_bundle(file: &Path, folder: &Path) -> Result<Bundle, MemoryError> {
    read(file, Some(folder))
}

/// Reads a whole bundle and checks every file of it; nothing is written.
///
/// # Errors
/// As [`unpack_bundle`].
pub fn check_bundle(file: &Path) -> Result<Bundle, MemoryError> {
    read(file, None)
}

fn read(file: &Path, folder: Option<&Path>) -> Result<Bundle, MemoryError> {
    let archive = std::fs::File::open(file).map_err(|error| file_error(file, format!("cannot be read: {error}")))?;
    read_archive(archive, folder).map_err(|problem| file_error(file, problem))
}

/// Returns what is wrong, for people.
fn read_archive(archive: std::fs::File, folder: Option<&Path>) -> Result<Bundle, String> {
    let odd = |error: Error| format!("is no backup, or is damaged: {error}");
    let mut archive = Archive::new(archive);
    // Raw: no entry may change what another one means.
    let mut entries = archive.entries().map_err(odd)?.raw(true);
    let mut first = entries.next().ok_or("is empty")?.map_err(odd)?;
    let bytes = first.header().entry_size().map_err(odd)?;
    if plain_name(first.header(), "backup", is_plain_path)? != BUNDLE_MANIFEST || bytes > MAX_MANIFEST_BYTES {
        return Err(format!("is no backup: it does not begin with {BUNDLE_MANIFEST}"));
    }
    let mut text = Vec::new();
    first.read_to_end(&mut text).map_err(odd)?;
    let bundle = parse(&text)?;
    let mut missing: BTreeMap<&str, &ManifestFile> =
        bundle.files.iter().map(|described| (described.name.as_str(), described)).collect();
    for entry in entries {
        let mut entry = entry.map_err(odd)?;
        let name = plain_name(entry.header(), "backup", is_plain_path)?;
        let bytes = entry.header().entry_size().map_err(odd)?;
        let Some(described) = missing.remove(name.as_str()) else {
            return Err(format!("holds `{name}`, which {BUNDLE_MANIFEST} does not name, or names once"));
        };
        if described.bytes != bytes {
            return Err(format!("holds `{name}` with {bytes} bytes, {BUNDLE_MANIFEST} tells {}", described.bytes));
        }
        let path = folder.map(|folder| folder.join(&name));
        let hash = copy(&mut entry, bytes, path.as_deref()).map_err(|error| format!("`{name}`: {error}"))?;
        if hash != described.blake3 {
            return Err(format!("`{name}` does not match its checksum: the backup was changed or damaged"));
        }
    }
    let lacking = missing.keys().next().map(|name| format!("lacks `{name}`: it was cut off"));
    drop(missing);
    lacking.map_or(Ok(bundle), Err)
}

fn parse(text: &[u8]) -> Result<Bundle, String> {
    let bundle: Bundle =
        serde_json::from_slice(text).map_err(|error| format!("its {BUNDLE_MANIFEST} means nothing: {error}"))?;
    if bundle.format > BUNDLE_FORMAT {
        return Err(format!(
            "its {BUNDLE_MANIFEST} has format {}, this program reads up to {BUNDLE_FORMAT}; use a newer `mos`",
            bundle.format
        ));
    }
    Ok(bundle)
}

/// Whether a name is that of a file in the folder or below it.
fn is_plain_path(name: &str) -> bool {
    !name.contains('\\') && is_path_of_at_most(MAX_DEPTH, name)
}

/// Reads exactly `bytes`, writes them to a new file when there is a path, and returns their BLAKE3 in hexadecimal.
fn copy(from: &mut impl Read, bytes: u64, path: Option<&Path>) -> std::io::Result<String> {
    let mut file = path.map(new_file).transpose()?;
    let mut hasher = blake3::Hasher::new();
    copy_exactly(from, bytes, |piece| {
        hasher.update(piece);
        file.as_mut().map_or(Ok(()), |file| file.write_all(piece))
    })?;
    if let Some(file) = file {
        file.sync_all()?;
    }
    Ok(hasher.finalize().to_hex().to_string())
}

/// Makes a file, and the folders above it, for the owner alone.
fn new_file(path: &Path) -> std::io::Result<std::fs::File> {
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent)?;
    }
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::tarball::CHUNK_BYTES;

    fn packed(folder: &Path) -> std::path::PathBuf {
        std::fs::create_dir_all(folder.join("in/a/b")).unwrap();
        std::fs::write(folder.join("in/one"), b"first").unwrap();
        std::fs::write(folder.join("in/a/b/two"), vec![7_u8; CHUNK_BYTES + 1]).unwrap();
        let file = folder.join("all.tar");
        let names = ["one".to_owned(), "a/b/two".to_owned()];
        pack_bundle(&folder.join("in"), &names, json!({"x": 1}), "now".to_owned(), &file).unwrap();
        file
    }

    #[test]
    fn what_was_packed_comes_out() {
        let folder = tempfile::tempdir().unwrap();
        let file = packed(folder.path());
        let out = folder.path().join("out");
        std::fs::create_dir(&out).unwrap();
        let bundle = unpack_bundle(&file, &out).unwrap();
        assert_eq!((bundle.about, bundle.files.len()), (json!({"x": 1}), 2));
        assert_eq!(std::fs::read(out.join("one")).unwrap(), b"first");
        assert_eq!(std::fs::read(out.join("a/b/two")).unwrap(), vec![7_u8; CHUNK_BYTES + 1]);
        let names = ["one".to_owned()];
        let again = pack_bundle(&folder.path().join("in"), &names, json!(null), "now".to_owned(), &file);
        assert!(again.unwrap_err().to_string().contains("exists already"));
    }

    #[test]
    fn a_changed_or_cut_bundle_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let file = packed(folder.path());
        let whole = std::fs::read(&file).unwrap();
        let place = whole.windows(5).rposition(|bytes| bytes == b"first").unwrap();
        let mut changed = whole.clone();
        changed[place] = b'F';
        std::fs::write(&file, &changed).unwrap();
        assert!(check_bundle(&file).unwrap_err().to_string().contains("checksum"));
        std::fs::write(&file, &whole[..place + 512]).unwrap();
        assert!(check_bundle(&file).is_err());
        std::fs::write(&file, b"no archive at all").unwrap();
        assert!(check_bundle(&file).is_err());
    }

    #[test]
    fn names_stay_within_the_folder() {
        for name in ["mos.db", "activation/caches/a/b"] {
            assert!(is_plain_path(name), "{name}");
        }
        for name in ["", "..", "/x", "a/../b", "a//b", "a/", "a\\b", "1/2/3/4/5/6/7/8/9"] {
            assert!(!is_plain_path(name), "{name}");
        }
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("x.tar");
        let names = ["../x".to_owned()];
        assert!(pack_bundle(folder.path(), &names, json!(null), String::new(), &file).is_err());
    }
}
