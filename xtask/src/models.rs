//! The small models that tests use.

use std::path::PathBuf;
use std::process::Command;

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

/// The variable that makes tests fail, rather than skip, where a model is missing.
pub(crate) const INSIST: &str = "MOS_TEST_ALL_MODELS";

/// Models that only the long tests need.
const OTHERS: [&str; 1] = ["gemma3-270m"];

/// Lets the program fetch the models, unless they are there. `mos` starts the program.
pub(crate) fn fetch(mos: impl Fn() -> Command) -> anyhow::Result<()> {
    println!("fetching the small models (about 190 MB, once) ...");
    pull(mos(), &[])
}

/// Fetches the models that only the long tests need, too.
pub(crate) fn fetch_others(mos: impl Fn() -> Command) -> anyhow::Result<()> {
    println!("fetching {} (about 250 MB, once) ...", OTHERS.join(", "));
    pull(mos(), &OTHERS)
}

fn pull(mut mos: Command, names: &[&str]) -> anyhow::Result<()> {
    shell::run(mos.args(["models", "pull"]).args(names).env(VARIABLE, folder()?))
}
