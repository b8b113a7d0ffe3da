//! Documentation that is made from code.

use anyhow::Context;

use crate::shell;

/// Writes the documentation of the settings as the program prints it. A test of `mos-config` fails when it is out of date.
pub(crate) fn run() -> anyhow::Result<()> {
    let text = shell::capture(shell::mos(&[]).args(["config", "schema", "--markdown"]))?;
    let path = shell::root().join("docs/configuration.md");
    std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    println!("wrote {}", path.display());
    Ok(())
}
