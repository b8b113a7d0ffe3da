//! `mos models ...`

use std::path::Path;

use mos::fetch::{self, CATALOGUE, PullOptions};
use serde::Serialize;
use serde_json::json;

use crate::arguments::ModelsCommand;
use crate::context::Context;
use crate::progress::Downloads;

/// A model that is here or could be.
#[derive(Debug, Serialize)]
struct Listed {
    name: String,
    bytes: u64,
    licence: Option<String>,
    source: Option<String>,
    /// Absent when the model is not here, or not whole.
    path: Option<String>,
}

pub(super) async fn run(context: &Context, command: ModelsCommand) -> anyhow::Result<()> {
    let folder = mos::models_dir(&context.settings)?;
    match command {
        ModelsCommand::Pull { names } => {
            let defaults = || fetch::defaults().map(|model| model.name.to_owned()).collect();
            let names: Vec<String> = if names.is_empty() { defaults() } else { names };
            let mut pulled = Vec::new();
            for name in names {
                pulled.push(json!({"name": name, "path": pull(&name, &folder).await?}));
            }
            context.output.value(&pulled, |pulled| {
                let lines = pulled.iter().map(|one| format!("{}\t{}", text(&one["name"]), text(&one["path"])));
                lines.collect::<Vec<_>>().join("\n")
            })
        }
        ModelsCommand::List => {
            let models = listed(&folder)?;
            context.output.value(&models, |models| models.iter().map(describe).collect::<Vec<_>>().join("\n"))
        }
    }
}

/// Fetches a model with a progress bar and returns its path.
pub(super) async fn pull(name: &str, folder: &Path) -> anyhow::Result<String> {
    let downloads = Downloads::default();
    let path = fetch::pull(name, &PullOptions::from_environment(folder), &downloads).await;
    downloads.finish();
    Ok(path?.display().to_string())
}

fn listed(folder: &Path) -> anyhow::Result<Vec<Listed>> {
    let mut models: Vec<Listed> = fetch::list(folder)?
        .into_iter()
        .map(|model| Listed {
            path: model.complete.then(|| model.path.display().to_string()),
            name: model.name,
            bytes: model.bytes,
            licence: model.licence,
            source: model.source,
        })
        .collect();
    for known in CATALOGUE {
        if !models.iter().any(|model| model.name == known.name) {
            models.push(Listed {
                name: known.name.to_owned(),
                bytes: known.files.iter().map(|file| file.bytes).sum(),
                licence: Some(known.licence.to_owned()),
                source: None,
                path: None,
            });
        }
    }
    Ok(models)
}

fn text(value: &serde_json::Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn describe(model: &Listed) -> String {
    let state = match &model.path {
        Some(path) => path.clone(),
        None => format!("not here; run `mos models pull {}`", model.name),
    };
    let licence = model.licence.as_deref().unwrap_or("licence unknown");
    format!("{}\t{:.0} MB\t{licence}\t{state}", model.name, model.bytes as f64 / 1e6)
}
