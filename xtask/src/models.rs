//! The small models that tests use.

use std::path::PathBuf;

use anyhow::Context;

use crate::shell;

/// The variable by which the program and the tests find the models.
pub(crate) const VARIABLE: &str = "MOS_MODELS_DIR";

/// Where the models are: as the environment says, else in one place on every platform.
pub(crate) fn folder() -> anyhow::Result<PathBuf> {
    if let Some(folder) = std::env::var_os(VARIABLE).filter(|folder| !folder.is_empty()) {
        return Ok(PathBuf::from(folder));
    }
    let home = std::env::home_dir().context("this machine names no home folder; set MOS_MODELS_DIR to a folder")?;
    Ok(home.join(".cache/mos/models"))
}

/// Builds the program and lets it fetch the models, unless they are there.
pub(crate) fn fetch() -> anyhow::Result<()> {
    println!("fetching the small models (about 190 MB, once) ...");
    let mut command = shell::cargo();
    command.args(["run", "--package", "mos-cli", "--", "models", "pull"]).env(VARIABLE, folder()?);
    shell::run(&mut command)
}
