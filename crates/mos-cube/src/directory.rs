//! Writing and reading the directory.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use mos_config::{GeneralMemCubeConfig, Setting};
use mos_core::{
    ActivationMemory, CubeId, EmbeddingSpace, MemoryError, ParametricMemory, PreferenceMemory, Scope, TextMemory,
};
use serde_json::{Map, Value};
use tempfile::TempDir;

use crate::content::content_hash;
use crate::kind::MemoryKind;
use crate::manifest::{FORMAT, MANIFEST_FILE, Manifest, ManifestFile};

/// The file that holds a cube's configuration.
pub const CONFIG_FILE: &str = "config.json";

/// The `model_schema` that a cube's configuration must name, when it names one.
pub const MODEL_SCHEMA: &str = mos_config::cube::CUBE_SCHEMA;

/// What to write.
#[derive(Debug)]
pub struct DumpRequest<'a> {
    /// The cube.
    pub cube_id: &'a CubeId,
    /// Its configuration.
    pub config: &'a Value,
    /// Its textual memory; `None` leaves it out.
    pub text: Option<&'a dyn TextMemory>,
    /// Its activation memory; `None` when there is nothing to write.
    pub activation: Option<ActivationPart<'a>>,
    /// Its parametric memory, when it has one.
    pub parametric: Option<&'a dyn ParametricMemory>,
    /// Its preference memory, when it has one.
    pub preference: Option<&'a dyn PreferenceMemory>,
    /// What its vectors were made with.
    pub embedding_space: Option<EmbeddingSpace>,
    /// The time, ISO 8601.
    pub created_at: String,
}

/// The activation memory of a cube that is dumped.
#[derive(Clone, Copy, Debug)]
pub struct ActivationPart<'a> {
    /// The memory.
    pub memory: &'a dyn ActivationMemory,
    /// The scope it knows the cube by.
    pub scope: &'a Scope,
    /// The name of its file.
    pub file_name: &'a str,
    /// The key of its backend.
    pub backend: &'a str,
}

/// A cube's directory that was read and checked.
#[derive(Clone, Debug, PartialEq)]
pub struct CubeDump {
    /// The directory.
    pub directory: PathBuf,
    /// The cube's configuration.
    pub config: Map<String, Value>,
    /// Our manifest; absent when MemOS wrote the directory.
    pub manifest: Option<Manifest>,
}

/// Writes a cube to `directory`, which must be absent or empty, and returns the manifest.
///
/// Everything is written beside it first and moved into place at the end: whoever looks sees no dump or all of it. On
/// Unix only the owner can enter the directory.
///
/// # Errors
/// [`MemoryError::File`] when the directory is not empty or cannot be written; errors of the memory.
pub async fn dump(directory: &Path, request: DumpRequest<'_>) -> Result<Manifest, MemoryError> {
    check_target(directory)?;
    let staging = create_staging(directory)?;
    let written = match write_staging(staging.path(), &request).await {
        Ok(manifest) => move_into_place(staging.path(), directory).map(|()| manifest),
        Err(error) => Err(error),
    };
    match written {
        Ok(manifest) => {
            // It has another name now: nothing is left to remove.
            let _ = staging.keep();
            Ok(manifest)
        }
        Err(first) => {
            let path = staging.path().to_owned();
            Err(match staging.close() {
                Ok(()) => first,
                // That the dump failed is what matters; what is left over is named there.
                Err(error) => file_error(&path, format!("{first}; left over, remove it: {error}")),
            })
        }
    }
}

/// Reads a cube's directory and checks its files against the manifest, when there is one.
///
/// # Errors
/// [`MemoryError::File`] for a directory without `config.json`, a configuration of another schema or with keys and
/// values that mean nothing (each is named), a changed or missing file, a newer format, or a manifest that speaks of
/// another kind of memory than the configuration.
pub fn read(directory: &Path) -> Result<CubeDump, MemoryError> {
    let path = directory.join(CONFIG_FILE);
    let config = read_object(&path)?.ok_or_else(|| {
        file_error(directory, format!("is not a cube: it has no {CONFIG_FILE}; give the directory of a dumped cube"))
    })?;
    match config.get("model_schema").and_then(Value::as_str) {
        None => {}
        Some(schema) if schema == MODEL_SCHEMA => {}
        Some(schema) => {
            let detail = format!("Configuration schema mismatch. Expected {MODEL_SCHEMA}, but found {schema}.");
            return Err(file_error(&path, detail));
        }
    }
    let checked = GeneralMemCubeConfig::from_json(&Value::Object(config.clone()))
        .map_err(|error| file_error(&path, error.to_string()))?;
    let manifest = match read_object(&directory.join(MANIFEST_FILE))? {
        None => None,
        Some(map) => {
            let manifest: Manifest = serde_json::from_value(Value::Object(map))
                .map_err(|error| file_error(&directory.join(MANIFEST_FILE), error.to_string()))?;
            manifest.verify(directory)?;
            check_text_backend(directory, &manifest, checked.text_mem.backend())?;
            Some(manifest)
        }
    };
    Ok(CubeDump { directory: directory.to_owned(), config, manifest })
}

/// The memory's file is written by the backend that the manifest names and read by the one of the configuration.
fn check_text_backend(directory: &Path, manifest: &Manifest, configured: &str) -> Result<(), MemoryError> {
    match manifest.text_backend.as_deref() {
        Some(dumped) if dumped != configured => {
            let detail = format!(
                "text_mem.backend is `{configured}`, but {MANIFEST_FILE} says that the memories were dumped by \
                 `{dumped}`; set it to `{dumped}`"
            );
            Err(file_error(&directory.join(CONFIG_FILE), detail))
        }
        _ => Ok(()),
    }
}

fn check_target(directory: &Path) -> Result<(), MemoryError> {
    match std::fs::read_dir(directory) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(file_error(directory, format!("cannot be used for a dump: {error}"))),
        Ok(mut entries) => match entries.next() {
            None => Ok(()),
            Some(_) => {
                let detail = "is not empty. Please provide an empty directory for dumping.".to_owned();
                Err(file_error(directory, detail))
            }
        },
    }
}

/// A new hidden sibling, so that moving it into place stays within one file system; open to its owner alone.
fn create_staging(directory: &Path) -> Result<TempDir, MemoryError> {
    let name = directory
        .file_name()
        .and_then(|name| name.to_str())
        .ok_or_else(|| file_error(directory, "needs a name; give the path of a new directory".to_owned()))?;
    let parent = parent_of(directory);
    private_folder(parent, &format!(".{name}.dump-"))
        .map_err(|error| file_error(directory, format!("cannot write a dump there: {error}")))
}

/// Makes a folder of a new name in `parent`, which is made when it is missing. Only its owner may look into it (on Unix); it
/// goes away with the returned value.
///
/// # Errors
/// What the file system says.
pub fn private_folder(parent: &Path, prefix: &str) -> std::io::Result<TempDir> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(prefix);
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o700));
    std::fs::create_dir_all(parent)?;
    builder.tempdir_in(parent)
}

/// Returns the folder that a path lies in.
pub fn parent_of(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Two files of a dump cannot have one name.
fn refuse_taken(staging: &Path, name: &str) -> Result<(), MemoryError> {
    if staging.join(name).exists() {
        let detail = "two files of the dump would have this name; give each memory a `memory_filename` of its own";
        return Err(file_error(Path::new(name), detail.to_owned()));
    }
    Ok(())
}

async fn write_staging(staging: &Path, request: &DumpRequest<'_>) -> Result<Manifest, MemoryError> {
    let fail = |error: std::io::Error| file_error(staging, format!("cannot write the dump: {error}"));
    let memories = write_memories(staging, request).await?;
    refuse_taken(staging, CONFIG_FILE)?;
    refuse_taken(staging, MANIFEST_FILE)?;
    write_json(&staging.join(CONFIG_FILE), request.config)?;
    let names = names_within(staging).map_err(fail)?;
    let files: Result<Vec<ManifestFile>, std::io::Error> =
        names.iter().map(|name| ManifestFile::of(staging, name)).collect();
    let content = if memories.texts.is_empty() { None } else { Some(content_hash(staging, &memories.texts)?) };
    let manifest = Manifest {
        format: FORMAT,
        program: concat!("mos ", env!("CARGO_PKG_VERSION")).to_owned(),
        cube_id: request.cube_id.to_string(),
        text_backend: request.text.map(|text| text.backend().to_owned()),
        memories: memories.backends,
        content,
        models: memories.models,
        embedding_space: request.embedding_space.clone(),
        created_at: request.created_at.clone(),
        files: files.map_err(fail)?,
    };
    let value = serde_json::to_value(&manifest).map_err(|error| file_error(staging, error.to_string()))?;
    write_json(&staging.join(MANIFEST_FILE), &value)?;
    Ok(manifest)
}

/// What was written of the memories.
#[derive(Default)]
struct WrittenMemories {
    backends: BTreeMap<MemoryKind, String>,
    /// Fingerprints of the models of the activation memory.
    models: Vec<String>,
    /// Files that hold texts.
    texts: Vec<(MemoryKind, String)>,
}

async fn write_memories(staging: &Path, request: &DumpRequest<'_>) -> Result<WrittenMemories, MemoryError> {
    let mut written = WrittenMemories::default();
    if let Some(text) = request.text {
        text.dump(staging).await?;
        let names = names_within(staging).map_err(|error| file_error(staging, error.to_string()))?;
        written.texts.extend(names.into_iter().map(|name| (MemoryKind::Text, name)));
        written.backends.insert(MemoryKind::Text, text.backend().to_owned());
    }
    if let Some(ActivationPart { memory, scope, file_name, backend }) = request.activation {
        refuse_taken(staging, file_name)?;
        memory.dump(scope, &staging.join(file_name)).await?;
        written.models = memory.fingerprints(scope).await?;
        written.backends.insert(MemoryKind::Activation, backend.to_owned());
    }
    if let Some(parametric) = request.parametric {
        refuse_taken(staging, parametric.file_name())?;
        parametric.dump(staging).await?;
        written.backends.insert(MemoryKind::Parametric, parametric.backend().to_owned());
    }
    if let Some(preference) = request.preference {
        refuse_taken(staging, preference.file_name())?;
        preference.dump(staging).await?;
        written.texts.push((MemoryKind::Preference, preference.file_name().to_owned()));
        written.backends.insert(MemoryKind::Preference, preference.backend().to_owned());
    }
    Ok(written)
}

/// The files of a dump, sorted; those of a folder in it as `folder/file`.
fn names_within(staging: &Path) -> std::io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(staging)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if !entry.file_type()?.is_dir() {
            names.push(name);
            continue;
        }
        for inner in std::fs::read_dir(entry.path())? {
            names.push(format!("{name}/{}", inner?.file_name().to_string_lossy()));
        }
    }
    names.sort();
    Ok(names)
}

fn move_into_place(staging: &Path, directory: &Path) -> Result<(), MemoryError> {
    let fail = |error: std::io::Error| file_error(directory, format!("cannot move the dump into place: {error}"));
    sync_directory(staging).map_err(fail)?;
    // Unix replaces an empty directory in one step. It is empty (checked above); renaming or removing fails, and with it
    // the dump, when somebody wrote to it meanwhile.
    if !cfg!(unix) && directory.is_dir() {
        std::fs::remove_dir(directory).map_err(fail)?;
    }
    std::fs::rename(staging, directory).map_err(fail)?;
    sync_directory(parent_of(directory)).map_err(fail)
}

/// Makes the names in a directory durable; only Unix can and needs to.
pub(crate) fn sync_directory(directory: &Path) -> std::io::Result<()> {
    if cfg!(unix) { std::fs::File::open(directory)?.sync_all() } else { Ok(()) }
}

fn write_json(path: &Path, value: &Value) -> Result<(), MemoryError> {
    let text = serde_json::to_vec_pretty(value).map_err(|error| file_error(path, error.to_string()))?;
    let write = || -> std::io::Result<()> {
        let mut file = std::fs::File::create(path)?;
        file.write_all(&text)?;
        file.sync_all()
    };
    write().map_err(|error| file_error(path, format!("cannot write: {error}")))
}

fn read_object(path: &Path) -> Result<Option<Map<String, Value>>, MemoryError> {
    let text = match std::fs::read(path) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(file_error(path, format!("cannot read: {error}"))),
    };
    match serde_json::from_slice(&text) {
        Ok(Value::Object(map)) => Ok(Some(map)),
        Ok(_) => Err(file_error(path, "must hold a JSON object".to_owned())),
        Err(error) => Err(file_error(path, format!("is not JSON: {error}"))),
    }
}

pub(crate) fn file_error(path: &Path, detail: String) -> MemoryError {
    MemoryError::File { path: path.display().to_string(), detail }
}
