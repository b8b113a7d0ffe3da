//! The Hugging Face hub.

use std::fs;
use std::future::Future;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use hf_hub::Repo;
use hf_hub::api::tokio::{Api, ApiBuilder, ApiError, ApiRepo};
use mos_core::ModelError;

use super::{Progress, PullOptions, disk};

/// How often progress is told.
const TICK: Duration = Duration::from_millis(100);

/// Where partial downloads lie in the models folder.
const PARTIAL_FOLDER: &str = ".hub";

/// How the names of partial downloads end, and those of the files whose locks say that somebody is at work on them.
const PARTIAL_END: &str = ".sync.part";
const LOCK_END: &str = ".lock";

fn api(options: &PullOptions) -> Result<Api, ModelError> {
    let mut builder = ApiBuilder::from_env()
        .with_progress(false)
        // Partial downloads stay here, so that the next pull resumes them.
        .with_cache_dir(options.models_dir.join(PARTIAL_FOLDER));
    if let Some(endpoint) = &options.hub_endpoint {
        builder = builder.with_endpoint(endpoint.trim_end_matches('/').to_owned());
    }
    if let Some(token) = &options.hub_token {
        builder = builder.with_token(Some(token.expose().to_owned()));
    }
    builder.build().map_err(|error| sort(error, "the hub", options))
}

/// What a repository of the hub holds; the same name can be of both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Model,
    Dataset,
}

impl Kind {
    fn open(self, repository: &str, options: &PullOptions) -> Result<ApiRepo, ModelError> {
        let api = api(options)?;
        Ok(match self {
            Self::Model => api.model(repository.to_owned()),
            Self::Dataset => api.dataset(repository.to_owned()),
        })
    }
}

/// Returns the paths of a repository's files.
pub(crate) async fn files(kind: Kind, repository: &str, options: &PullOptions) -> Result<Vec<String>, ModelError> {
    let repo = kind.open(repository, options)?;
    let info = tokio::time::timeout(options.hub_timeout, repo.info())
        .await
        .map_err(|_| silent(options.hub_timeout))?
        .map_err(|error| sort(error, repository, options))?;
    Ok(info.siblings.into_iter().map(|file| file.rfilename).collect())
}

fn silent(waited: Duration) -> ModelError {
    ModelError::Unavailable(format!("the hub sent nothing for {} s", waited.as_secs_f64()))
}

/// Plain quantisations, which this program computes fastest, smaller ones first.
const PREFERRED: [&str; 7] = ["Q4_1", "Q4_0", "Q5_1", "Q5_0", "Q8_0", "Q4_K_M", "F16"];

/// Files that stand beside weights.
const COMPANIONS: [&str; 16] = [
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "tokenizer.model",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
    "chat_template.jinja",
    "chat_template.json",
    "sentence_bert_config.json",
    "config_sentence_transformers.json",
    "modules.json",
    "1_Pooling/config.json",
];

/// Chooses the files of a repository that are needed to run its model.
///
/// # Errors
/// [`ModelError::NotFound`] when there are neither safetensors nor GGUF, or not the one that is wanted.
pub(crate) fn choose(repository: &str, all: &[String], wanted: Option<&str>) -> Result<Vec<String>, ModelError> {
    let weights = match wanted {
        Some(wanted) => all.iter().filter(|path| *path == wanted).cloned().collect(),
        None => weights(all),
    };
    if weights.is_empty() {
        let what = wanted.map_or_else(|| "weights in safetensors or GGUF".to_owned(), |wanted| format!("`{wanted}`"));
        return Err(ModelError::NotFound(format!(
            "{repository} has no {what}; pickled weights are not read. Look for a repository of the model with one"
        )));
    }
    let companions = all.iter().filter(|path| COMPANIONS.contains(&path.as_str()) && Some(path.as_str()) != wanted);
    // The names come from a server: none may lead out of the folder.
    let chosen: Vec<String> = companions.cloned().chain(weights).collect();
    match chosen.iter().find(|path| !super::installed::is_plain_path(path)) {
        Some(path) => Err(ModelError::BadModel(format!("{repository} has a file with an unusable name: {path:?}"))),
        None => Ok(chosen),
    }
}

fn weights(all: &[String]) -> Vec<String> {
    let top = || all.iter().filter(|path| !path.contains('/'));
    let tensors: Vec<String> = top().filter(|path| path.ends_with(".safetensors")).cloned().collect();
    if !tensors.is_empty() {
        // Some repositories hold the same weights a second time under another name.
        let usual: Vec<String> = tensors.iter().filter(|path| path.starts_with("model")).cloned().collect();
        let mut chosen = if usual.is_empty() { tensors } else { usual };
        chosen.extend(top().filter(|path| path.ends_with(".safetensors.index.json")).cloned());
        return chosen;
    }
    let mut quantised: Vec<&String> = top().filter(|path| path.to_lowercase().ends_with(".gguf")).collect();
    quantised.sort();
    let preferred =
        PREFERRED.iter().find_map(|kind| quantised.iter().find(|path| path.to_uppercase().contains(kind)).copied());
    preferred.or(quantised.first().copied()).cloned().into_iter().collect()
}

/// Counts bytes for the watcher of a download.
#[derive(Clone, Default)]
struct Counter {
    done: Arc<AtomicU64>,
    total: Arc<AtomicU64>,
}

impl hf_hub::api::tokio::Progress for Counter {
    async fn init(&mut self, size: usize, _: &str) {
        self.total.store(size as u64, Ordering::Relaxed);
    }

    async fn update(&mut self, size: usize) {
        self.done.fetch_add(size as u64, Ordering::Relaxed);
    }

    async fn finish(&mut self) {}
}

/// Downloads files of a repository into `into`, resuming what an earlier call left. None may be larger than `max_bytes`.
pub(crate) async fn fetch(
    kind: Kind,
    repository: &str,
    files: &[String],
    options: &PullOptions,
    into: &Path,
    max_bytes: u64,
    progress: &dyn Progress,
) -> Result<(), ModelError> {
    let repo = kind.open(repository, options)?;
    for file in files {
        let counter = Counter::default();
        let download = repo.download_with_progress(file, counter.clone());
        let cached = watch(download, file, &counter, options, max_bytes, progress)
            .await?
            .map_err(|error| sort(error, &format!("{repository}/{file}"), options))?;
        // The cache holds a link to the file itself.
        let source = fs::canonicalize(&cached).map_err(|error| disk(&cached, &error))?;
        let target = into.join(file);
        fs::create_dir_all(target.parent().unwrap_or(into))
            .and_then(|()| fs::rename(&source, &target))
            .and_then(|()| fs::File::open(&target)?.sync_all())
            .map_err(|error| disk(&target, &error))?;
        // The link dangles now, and would be in the way of a later download.
        match fs::remove_file(&cached) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(disk(&cached, &error)),
            _ => {}
        }
    }
    Ok(())
}

/// Removes what partial downloads of a model's repository left, unless somebody is at work on one: for a model that came from
/// elsewhere, so that nobody resumes them. Failing to is no reason not to go on.
pub(crate) fn forget(repository: &str, models_dir: &Path) {
    let partial = models_dir.join(PARTIAL_FOLDER);
    let folder = partial.join(Repo::model(repository.to_owned()).folder_name());
    let files = fs::read_dir(folder.join("blobs")).into_iter().flatten().flatten();
    // Held until all is removed.
    let mut locks = Vec::new();
    for path in files.map(|file| file.path()) {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let Some(name) = name.strip_suffix(PARTIAL_END) else { continue };
        match fs::File::create(path.with_file_name(format!("{name}{LOCK_END}"))) {
            Ok(lock) if lock.try_lock().is_ok() => locks.push(lock),
            _ => return,
        }
    }
    match fs::remove_dir_all(&folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            tracing::warn!(%error, folder = %folder.display(), "partial downloads stay");
        }
        // Those of other repositories keep it.
        _ => drop(fs::remove_dir(&partial)),
    }
}

/// Tells the progress of a download and gives it up when nothing comes any more.
async fn watch<T>(
    download: impl Future<Output = T>,
    file: &str,
    counter: &Counter,
    options: &PullOptions,
    max_bytes: u64,
    progress: &dyn Progress,
) -> Result<T, ModelError> {
    let mut download = std::pin::pin!(download);
    let (mut seen, mut last_change) = (0, Instant::now());
    loop {
        let finished = tokio::time::timeout(TICK, &mut download).await;
        let (done, total) = (counter.done.load(Ordering::Relaxed), counter.total.load(Ordering::Relaxed));
        progress.bytes(file, done, (total > 0).then_some(total));
        if done.max(total) > max_bytes {
            return Err(ModelError::BadModel(format!(
                "{file} is too large: more than the {max_bytes} bytes that may still come"
            )));
        }
        if let Ok(finished) = finished {
            return Ok(finished);
        }
        if done != seen {
            (seen, last_change) = (done, Instant::now());
        }
        // Until the size is known, the hub itself has not answered.
        let patience = if total == 0 { options.hub_timeout } else { options.stall_timeout };
        if last_change.elapsed() > patience {
            return Err(silent(patience));
        }
    }
}

/// Sorts the hub's errors. Its addresses are not shown: they can carry credentials.
fn sort(error: ApiError, what: &str, options: &PullOptions) -> ModelError {
    let ApiError::RequestError(error) = &error else {
        return ModelError::Unavailable(format!("{what} could not be downloaded: {error}"));
    };
    match error.status().map(|status| status.as_u16()) {
        Some(401 | 403) => ModelError::Denied(format!(
            "{what} is closed: accept its terms on the hub and set HF_TOKEN to a token that may read it{}",
            if options.hub_token.is_some() { " (the token that is set may not)" } else { "" }
        )),
        Some(404) => ModelError::NotFound(format!("{what} is not on the hub; check owner and name")),
        Some(status) => ModelError::Unavailable(format!("{what}: the hub answered with status {status}")),
        None => {
            let kind = if error.is_connect() { "the hub cannot be reached" } else { "the download broke off" };
            ModelError::Unavailable(format!("{what}: {kind}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(all: &[&str], wanted: Option<&str>) -> Result<Vec<String>, ModelError> {
        choose("o/n", &all.iter().map(|path| (*path).to_owned()).collect::<Vec<_>>(), wanted)
    }

    #[test]
    fn safetensors_come_with_their_companions_and_nothing_else() {
        let all = [
            "README.md",
            "config.json",
            "consolidated.safetensors",
            "model.safetensors",
            "onnx/model.onnx",
            "pytorch_model.bin",
            "tokenizer.json",
            "x.gguf",
            "1_Pooling/config.json",
        ];
        assert_eq!(
            chosen(&all, None).unwrap(),
            ["config.json", "tokenizer.json", "1_Pooling/config.json", "model.safetensors"]
        );
        let sharded =
            ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors", "model.safetensors.index.json"];
        assert_eq!(chosen(&sharded, None).unwrap(), sharded);
    }

    #[test]
    fn one_gguf_is_chosen_and_can_be_named() {
        let all = ["m.F16.gguf", "m.Q2_K.gguf", "m.Q4_0.gguf", "m.Q8_0.gguf"];
        assert_eq!(chosen(&all, None).unwrap(), ["m.Q4_0.gguf"]);
        assert_eq!(chosen(&all, Some("m.Q8_0.gguf")).unwrap(), ["m.Q8_0.gguf"]);
        assert!(matches!(chosen(&all, Some("other.gguf")), Err(ModelError::NotFound(_))));
        assert!(matches!(chosen(&["pytorch_model.bin"], None), Err(ModelError::NotFound(_))));
    }

    #[test]
    fn names_that_lead_out_of_the_folder_are_refused() {
        assert!(matches!(chosen(&["../../x.gguf"], Some("../../x.gguf")), Err(ModelError::BadModel(_))));
    }
}
