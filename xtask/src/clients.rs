//! The Python in which published clients, a checker of APIs and a browser are tried against the server.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context;

use crate::services::{in_path, install_from_debian};
use crate::shell;

/// Names a Python that has what these tests need; then nothing is installed.
const PYTHON: &str = "MOS_PYTHON";

/// With the value 1 a run without the clients fails.
const REQUIRED: &str = "MOS_REQUIRE_CLIENTS";

/// What there is to try with.
#[derive(Debug, Default)]
pub(crate) struct Clients {
    python: Option<PathBuf>,
    has_browser: bool,
    notices: Vec<String>,
}

impl Clients {
    /// The suite whose tests use them.
    pub(crate) const SUITE: &str = "mos-server/it";

    /// Looks for what there is and installs what is not. What cannot be had is told by [`Clients::notices`].
    ///
    /// # Errors
    /// When the clients are required and cannot be had.
    pub(crate) fn find() -> anyhow::Result<Self> {
        let is_required = std::env::var_os(REQUIRED).is_some_and(|value| value == "1");
        if let Some(named) = std::env::var_os(PYTHON) {
            // The tests find it by themselves; here they are only told to insist on what should be in it.
            let python = is_required.then(|| PathBuf::from(named));
            return Ok(Self { python, ..Self::default() });
        }
        let mut found = Self::with(environment(), is_required)?;
        if found.python.is_some() {
            match browser() {
                Ok(()) => found.has_browser = true,
                Err(error) => found.notices.push(format!("skipped: the dashboard in a browser: {error:#}")),
            }
        }
        Ok(found)
    }

    /// The clients of a Python, or why there are none.
    fn with(python: anyhow::Result<PathBuf>, is_required: bool) -> anyhow::Result<Self> {
        match python {
            Ok(python) => Ok(Self { python: Some(python), ..Self::default() }),
            Err(error) if is_required => {
                Err(error.context(format!("{REQUIRED} is set, and the clients in Python cannot be had")))
            }
            Err(error) => {
                let notices = vec![format!("skipped: clients in Python: {error:#}")];
                Ok(Self { notices, ..Self::default() })
            }
        }
    }

    /// The variables by which the tests of a suite find them, and insist on what there is.
    pub(crate) fn environment(&self, suite: &str) -> Vec<(&'static str, PathBuf)> {
        let Some(python) = self.python.as_ref().filter(|_| suite == Self::SUITE) else { return Vec::new() };
        let mut variables = vec![(PYTHON, python.clone()), ("MOS_REQUIRE_PYTHON", "1".into())];
        if self.has_browser {
            variables.push(("MOS_REQUIRE_BROWSER", "1".into()));
        }
        variables
    }

    /// What could not be had, a line each.
    pub(crate) fn notices(&self) -> &[String] {
        &self.notices
    }
}

/// A Python with what `tests/python/requirements*.txt` name.
fn environment() -> anyhow::Result<PathBuf> {
    let folder = shell::root().join("tests/python");
    let (whole, alone) = (folder.join("requirements.txt"), folder.join("requirements-alone.txt"));
    let install = |python: &Path| -> anyhow::Result<()> {
        pip(python, &["-r".as_ref(), whole.as_os_str()])?;
        pip(python, &["--no-deps".as_ref(), "-r".as_ref(), alone.as_os_str()])
    };
    let wanted = [&whole, &alone].map(std::fs::read_to_string);
    let [whole, alone] = wanted;
    python_with("clients", &format!("{}{}", whole?, alone?), "the clients that are tried against the server", install)
}

/// A Python of its own under the target folder, in which `install` was run for exactly what is `wanted`.
///
/// # Errors
/// When Python has no environments, or something cannot be installed.
pub(crate) fn python_with(
    name: &str,
    wanted: &str,
    told: &str,
    install: impl Fn(&Path) -> anyhow::Result<()>,
) -> anyhow::Result<PathBuf> {
    let environment = shell::target().join("bench").join(format!("{name}-environment"));
    let (python, complete) = (environment.join("bin/python"), environment.join("complete"));
    if std::fs::read_to_string(&complete).is_ok_and(|installed| installed == wanted) {
        return Ok(python);
    }
    println!("installing {told} for Python ...");
    shell::run_quietly(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&environment))
        .context("Python cannot make an environment (Debian: `apt-get install python3-venv`)")?;
    install(&python)?;
    std::fs::write(&complete, wanted)?;
    Ok(python)
}

/// Installs packages into an environment.
///
/// # Errors
/// What pip says.
pub(crate) fn pip(python: &Path, arguments: &[&std::ffi::OsStr]) -> anyhow::Result<()> {
    let mut command = Command::new(python);
    command.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]).args(arguments);
    shell::run_quietly(&mut command).map(drop)
}

/// Sees to it that there is a Chromium.
fn browser() -> anyhow::Result<()> {
    let found = || ["chromium", "chromium-browser", "google-chrome"].iter().find_map(|name| in_path(name));
    if std::env::var_os("MOS_CHROMIUM").is_some() {
        return Ok(());
    }
    let hint = "no Chromium here: install it (Debian: `apt-get install chromium`) or name one in MOS_CHROMIUM";
    install_from_debian("browser", "chromium", hint, found).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_that_are_required_and_cannot_be_had_are_an_error() {
        let missing = || Err(anyhow::anyhow!("no network"));
        let error = format!("{:#}", Clients::with(missing(), true).unwrap_err());
        assert!(error.contains(REQUIRED) && error.contains("no network"), "{error}");
        let told = Clients::with(missing(), false).unwrap();
        assert!(told.notices()[0].contains("no network") && told.environment(Clients::SUITE).is_empty());
        let found = Clients::with(Ok(PathBuf::from("python")), true).unwrap();
        assert!(found.environment(Clients::SUITE).contains(&("MOS_REQUIRE_PYTHON", PathBuf::from("1"))));
    }
}
