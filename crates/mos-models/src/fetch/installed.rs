//! What is in the models folder.

use std::fs;
use std::io::Read;
use std::path::{Component, Path, PathBuf};

use mos_core::ModelError;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::catalogue::{self, CATALOGUE, CatalogueModel};
use super::disk;

/// Name of the file that describes a model's folder.
pub(crate) const MANIFEST: &str = "mos-manifest.json";

/// What a model's folder holds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Manifest {
    pub(crate) name: String,
    pub(crate) licence: Option<String>,
    pub(crate) source: String,
    pub(crate) files: Vec<ManifestFile>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct ManifestFile {
    pub(crate) path: String,
    pub(crate) bytes: u64,
    pub(crate) sha256: String,
}

impl ManifestFile {
    /// Measures a file.
    pub(crate) async fn of(folder: &Path, path: &str) -> Result<Self, ModelError> {
        let (bytes, sha256) = hash(folder.join(path)).await?;
        Ok(Self { path: path.to_owned(), bytes, sha256 })
    }
}

impl Manifest {
    pub(crate) fn save(&self, folder: &Path) -> Result<(), ModelError> {
        let path = folder.join(MANIFEST);
        let text = serde_json::to_vec_pretty(self)
            .map_err(|error| ModelError::Internal { context: "writing a manifest", source: error.into() })?;
        fs::write(&path, text).and_then(|()| fs::File::open(&path)?.sync_all()).map_err(|error| disk(&path, &error))
    }

    fn load(folder: &Path) -> Option<Self> {
        serde_json::from_slice(&fs::read(folder.join(MANIFEST)).ok()?).ok()
    }

    /// Whether every file is there with its size. Contents were checked when the manifest was written.
    fn fits(&self, folder: &Path) -> bool {
        !self.files.is_empty()
            && self.files.iter().all(|file| {
                is_plain_path(&file.path)
                    && fs::metadata(folder.join(&file.path)).is_ok_and(|found| found.len() == file.bytes)
            })
    }
}

/// Returns size and SHA-256 of a file.
pub(crate) async fn hash(path: PathBuf) -> Result<(u64, String), ModelError> {
    let work = move || {
        let read = || -> std::io::Result<(u64, String)> {
            let mut file = fs::File::open(&path)?;
            let (mut hasher, mut n_bytes, mut buffer) = (Sha256::new(), 0, vec![0; 1 << 20]);
            loop {
                let n_read = file.read(&mut buffer)?;
                if n_read == 0 {
                    let digest = hasher.finalize();
                    return Ok((n_bytes, digest.iter().map(|byte| format!("{byte:02x}")).collect()));
                }
                hasher.update(&buffer[..n_read]);
                n_bytes += n_read as u64;
            }
        };
        read().map_err(|error| disk(&path, &error))
    };
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| ModelError::Internal { context: "checking a file", source: error.into() })?
}

/// Whether a relative path stays inside its folder.
pub(crate) fn is_plain_path(path: &str) -> bool {
    !path.is_empty()
        && !path.contains(['\\', ':', '\0'])
        && Path::new(path).components().all(|part| matches!(part, Component::Normal(_)))
}

/// Returns the folder of a repository `OWNER/NAME`, `None` when it is not one.
pub(crate) fn repository_folder(repository: &str) -> Option<String> {
    let is_word = |word: &str| {
        !word.is_empty()
            && !word.starts_with('.')
            && word.chars().all(|letter| letter.is_ascii_alphanumeric() || "._-".contains(letter))
    };
    let (owner, name) = repository.split_once('/')?;
    (is_word(owner) && is_word(name)).then(|| format!("{owner}--{name}"))
}

/// Whether a folder holds a whole model: as its manifest says, or, without one, by the files that a model needs.
pub(crate) fn is_complete(folder: &Path) -> bool {
    match Manifest::load(folder) {
        Some(manifest) => manifest.fits(folder),
        None => {
            let has = |name: &str| folder.join(name).is_file();
            only_gguf(folder).is_some()
                || (has("config.json")
                    && has("tokenizer.json")
                    && file_names(folder).iter().any(|name| name.ends_with(".safetensors")))
        }
    }
}

fn file_names(folder: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut names: Vec<String> = entries
        .flatten()
        .filter(|entry| entry.path().is_file())
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect();
    names.sort();
    names
}

/// Returns the GGUF file of a folder that has no other weights; the first by name when there are several.
fn only_gguf(folder: &Path) -> Option<PathBuf> {
    let names = file_names(folder);
    if names.iter().any(|name| name.ends_with(".safetensors")) {
        return None;
    }
    names.iter().find(|name| name.to_lowercase().ends_with(".gguf")).map(|name| folder.join(name))
}

/// Returns what opens the model of a folder: its GGUF file, or the folder.
pub(crate) fn main_path(folder: &Path) -> Result<PathBuf, ModelError> {
    Ok(only_gguf(folder).unwrap_or_else(|| folder.to_owned()))
}

/// Returns whether a model of the catalogue is there and right. Files that somebody put there by hand are checked
/// once and then described by a manifest.
pub(crate) async fn adopt(model: &CatalogueModel, folder: &Path) -> Result<bool, ModelError> {
    if let Some(manifest) = Manifest::load(folder) {
        let has_all = model.files.iter().all(|file| manifest.files.iter().any(|known| known.sha256 == file.sha256));
        return Ok(has_all && manifest.fits(folder));
    }
    if !model.files.iter().all(|file| folder.join(file.path).is_file()) || model.verify(folder).await.is_err() {
        return Ok(false);
    }
    if let Err(error) = model.manifest("put there by hand").save(folder) {
        // The model is right all the same: a folder that can only be read is checked again the next time.
        tracing::debug!(%error, model = model.name, "the manifest cannot be written");
    }
    Ok(true)
}

/// A model in the models folder.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct InstalledModel {
    /// The name that [`resolve`] knows.
    pub name: String,
    /// What opens it: a `.gguf` file, or a folder.
    pub path: PathBuf,
    /// Bytes of its files.
    pub bytes: u64,
    /// Its licence, when it is known.
    pub licence: Option<String>,
    /// Where it came from, when it is known, for example `hub:OWNER/NAME`.
    pub source: Option<String>,
    /// Whether every file is there with its size.
    pub complete: bool,
}

/// Returns the models of a models folder, by name. A folder that does not exist holds none.
///
/// # Errors
/// [`ModelError::Internal`] when the folder cannot be read.
pub fn list(models_dir: &Path) -> Result<Vec<InstalledModel>, ModelError> {
    let entries = match fs::read_dir(models_dir) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.map_err(|error| disk(models_dir, &error))?,
    };
    let mut models = Vec::new();
    for entry in entries.flatten().filter(|entry| entry.path().is_dir()) {
        let Ok(folder_name) = entry.file_name().into_string() else { continue };
        if !folder_name.starts_with('.') {
            models.push(describe(&folder_name, &entry.path())?);
        }
    }
    models.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(models)
}

fn describe(folder_name: &str, folder: &Path) -> Result<InstalledModel, ModelError> {
    let manifest = Manifest::load(folder);
    let known = CATALOGUE.iter().find(|model| model.name == folder_name);
    let bytes = match &manifest {
        Some(manifest) => manifest.files.iter().map(|file| file.bytes).sum(),
        None => {
            let sizes = file_names(folder).into_iter().filter_map(|name| fs::metadata(folder.join(name)).ok());
            sizes.map(|found| found.len()).sum()
        }
    };
    Ok(InstalledModel {
        name: manifest.as_ref().map_or_else(|| folder_name.replacen("--", "/", 1), |manifest| manifest.name.clone()),
        path: main_path(folder)?,
        bytes,
        licence: manifest
            .as_ref()
            .and_then(|manifest| manifest.licence.clone())
            .or_else(|| known.map(|model| model.licence.to_owned())),
        source: manifest.map(|manifest| manifest.source),
        complete: is_complete(folder),
    })
}

/// Returns what opens a model: an existing path as it is, or the files of a fetched model by its name in the
/// catalogue, its name on the hub (`OWNER/NAME`, `OWNER/NAME:FILE.gguf`), or the name of its folder.
///
/// A name of the catalogue wins over a path of the same spelling; write `./NAME` for the latter.
///
/// # Errors
/// [`ModelError::NotFound`] with the command that fetches the model; [`ModelError::BadModel`] when its folder is
/// there but not whole.
pub fn resolve(name_or_path: &str, models_dir: &Path) -> Result<PathBuf, ModelError> {
    let pull = format!("run `mos models pull {name_or_path}`");
    let (name, file) = match name_or_path.split_once(':') {
        Some((name, file)) if is_plain_path(file) => (name, Some(file)),
        _ => (name_or_path, None),
    };
    let known = catalogue::find(name).map(|model| model.name.to_owned());
    let folder_name = known
        .clone()
        .or_else(|| repository_folder(name))
        .or_else(|| (is_plain_path(name) && !name.contains('/') && !name.starts_with('.')).then(|| name.to_owned()));
    if let Some(folder) = folder_name.map(|folder| models_dir.join(folder)).filter(|folder| folder.is_dir()) {
        let path = file.map_or_else(|| main_path(&folder), |file| Ok(folder.join(file)))?;
        return if is_complete(&folder) && path.exists() {
            Ok(path)
        } else {
            Err(ModelError::BadModel(format!("{} does not hold the whole model; {pull}", folder.display())))
        };
    }
    let path = Path::new(name_or_path);
    if known.is_none() && !name_or_path.is_empty() && path.exists() {
        return Ok(path.to_owned());
    }
    if known.is_some() || repository_folder(name).is_some() {
        return Err(ModelError::NotFound(format!("model `{name_or_path}` is not in {}; {pull}", models_dir.display())));
    }
    Err(ModelError::NotFound(format!(
        "there is no file or model `{name_or_path}`; give a path, or fetch a model first (`mos models pull X`, where \
         X is OWNER/NAME of the hub or one of: {})",
        catalogue::names()
    )))
}
