//! The small models that tests use.

use crate::shell;

/// Builds the program and lets it fetch the models, unless they are there.
pub(crate) fn fetch() -> anyhow::Result<()> {
    println!("fetching the small models (about 190 MB, once) ...");
    shell::run(shell::cargo().args(["run", "--package", "mos-cli", "--", "models", "pull"]))
}
