//! What stands in a dump, with checksums.

use std::collections::BTreeMap;
use std::path::Path;

use mos_core::{EmbeddingSpace, MemoryError};
use serde::{Deserialize, Serialize};

use crate::kind::MemoryKind;

/// Version of the layout that this program writes, and the newest it reads.
pub const FORMAT: u32 = 1;

/// The file that holds the manifest.
pub(crate) const MANIFEST_FILE: &str = "manifest.json";

/// What stands in a dump.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// Version of the layout.
    pub format: u32,
    /// The program that wrote it.
    pub program: String,
    /// The cube.
    pub cube_id: String,
    /// Backend of the textual memory, when that was dumped.
    pub text_backend: Option<String>,
    /// The memories that were dumped, with their backends. Absent in dumps of the first programs.
    #[serde(default)]
    pub memories: BTreeMap<MemoryKind, String>,
    /// Hash of what the textual and the preference memory say, when one was dumped: see
    /// [`content_hash`](crate::content_hash).
    #[serde(default)]
    pub content: Option<String>,
    /// Fingerprints of the models that computed the activation memory, sorted. Absent in dumps of the first programs.
    #[serde(default)]
    pub models: Vec<String>,
    /// What the vectors were made with.
    pub embedding_space: Option<EmbeddingSpace>,
    /// When it was written, ISO 8601.
    pub created_at: String,
    /// The other files, by name.
    pub files: Vec<ManifestFile>,
}

/// One file of a dump.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ManifestFile {
    /// Its name; `folder/file` for a file in a folder of the dump, never a path that leads elsewhere.
    pub name: String,
    /// Its size.
    pub bytes: u64,
    /// BLAKE3 of its content, in hexadecimal.
    pub blake3: String,
}

impl ManifestFile {
    /// Describes a file as it is on disk.
    pub(crate) fn of(directory: &Path, name: &str) -> std::io::Result<Self> {
        // Caches are too large to be read at once.
        let mut hasher = blake3::Hasher::new();
        hasher.update_reader(std::fs::File::open(directory.join(name))?)?;
        let blake3 = hasher.finalize().to_hex().to_string();
        Ok(Self { name: name.to_owned(), bytes: hasher.count(), blake3 })
    }
}

impl Manifest {
    /// Refuses what a newer program wrote; returns what is wrong.
    pub(crate) fn check_format(&self) -> Result<(), String> {
        if self.format > FORMAT {
            return Err(format!("has format {}, this program reads up to {FORMAT}; use a newer `mos`", self.format));
        }
        Ok(())
    }

    /// Checks every file against the manifest.
    pub(crate) fn verify(&self, directory: &Path) -> Result<(), MemoryError> {
        let fail = |name: &str, detail: String| {
            Err(MemoryError::File { path: directory.join(name).display().to_string(), detail })
        };
        if let Err(problem) = self.check_format() {
            return fail(MANIFEST_FILE, problem);
        }
        for expected in &self.files {
            if !lies_within(&expected.name) {
                return fail(MANIFEST_FILE, format!("names a file outside the dump: `{}`", expected.name));
            }
            match ManifestFile::of(directory, &expected.name) {
                Ok(found) if found == *expected => {}
                Ok(_) => {
                    return fail(
                        &expected.name,
                        "does not match its checksum: it was changed or damaged after the dump; restore it, or remove \
                         manifest.json to load it as it is"
                            .to_owned(),
                    );
                }
                Err(error) => return fail(&expected.name, format!("cannot be read: {error}")),
            }
        }
        Ok(())
    }
}

/// Whether a name is that of a file in the dump, or in a folder of it.
pub(crate) fn lies_within(name: &str) -> bool {
    is_path_of_at_most(2, name)
}

/// Whether a name is that of a file in a folder or below it, of at most `most` parts.
pub(crate) fn is_path_of_at_most(most: usize, name: &str) -> bool {
    let is_plain = |part: &str| Path::new(part).file_name().and_then(|name| name.to_str()) == Some(part);
    name.split('/').count() <= most && name.split('/').all(is_plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_within_the_dump_are_accepted() {
        for name in ["textual_memory.json", "activation_memory.segments/ab.safetensors"] {
            assert!(lies_within(name), "{name}");
        }
        for name in ["", ".", "..", "../x", "/x", "a/..", "a/../b", "a//b", "a/b/c", "a/"] {
            assert!(!lies_within(name), "{name}");
        }
    }
}
