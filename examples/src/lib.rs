//! What the examples share: their arguments, a facade that is ready, and reading what a person types.
//!
//! The stories are the files of this folder, one each; `docs/examples.md` lists them.
#![allow(clippy::print_stdout, reason = "examples tell what they do")]

pub mod redaction;

use std::io::{BufRead, Write};
use std::path::{Path, PathBuf};

use anyhow::Context;
use mos::config::{GeneralMemCubeConfig, Setting, process_environment};
use mos::{Mos, MosBuilder, NewCube, Settings};
use mos_core::{CubeId, UserId};
use serde_json::json;
use tempfile::TempDir;

/// The variable that names the chat model over the settings file.
const MODEL_VARIABLE: &str = "MOS__CHAT_MODEL__CONFIG__MODEL_NAME_OR_PATH";

/// What an example was asked for on the command line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Arguments {
    /// The settings file.
    pub config: PathBuf,
    /// The chat model, instead of the one that the settings name.
    pub model: Option<String>,
    /// The folder of the data; without it everything is forgotten at the end.
    pub data_dir: Option<PathBuf>,
    /// The flags that were given, as they were written.
    pub flags: Vec<String>,
}

impl Arguments {
    /// Returns the arguments of this process; `config` is the file of `configs/` that is read unless another is named,
    /// `flags` are those that the example knows beside `--config FILE`, `--model NAME` and `--data-dir FOLDER`.
    ///
    /// # Errors
    /// An unknown argument, or one whose value is missing.
    pub fn read(config: &str, flags: &[&str]) -> anyhow::Result<Self> {
        Self::parse(config, flags, std::env::args().skip(1))
    }

    /// As [`Arguments::read`], of these arguments.
    ///
    /// # Errors
    /// As [`Arguments::read`].
    pub fn parse(config: &str, flags: &[&str], arguments: impl IntoIterator<Item = String>) -> anyhow::Result<Self> {
        let mut read = Self { config: package().join("../configs").join(config), ..Self::default() };
        let mut arguments = arguments.into_iter();
        while let Some(argument) = arguments.next() {
            let mut value = || arguments.next().with_context(|| format!("{argument} needs a value"));
            match argument.as_str() {
                "--config" => read.config = PathBuf::from(value()?),
                "--model" => read.model = Some(value()?),
                "--data-dir" => read.data_dir = Some(PathBuf::from(value()?)),
                flag if flags.contains(&flag) => read.flags.push(flag.to_owned()),
                _ => {
                    let flags: String = flags.iter().map(|flag| format!(", {flag}")).collect();
                    anyhow::bail!(
                        "`{argument}` is unknown; there are --config FILE, --model NAME, --data-dir FOLDER{flags}"
                    );
                }
            }
        }
        Ok(read)
    }

    /// Whether a flag was given.
    pub fn has(&self, flag: &str) -> bool {
        self.flags.iter().any(|given| given == flag)
    }

    /// Returns the settings of the file under those of the environment, with the model that was asked for.
    ///
    /// # Errors
    /// As [`Settings::load`].
    pub fn settings(&self) -> anyhow::Result<Settings> {
        let mut environment = process_environment();
        environment.extend(self.model.iter().map(|model| (MODEL_VARIABLE.to_owned(), model.clone())));
        let loaded = Settings::load(Some(&self.config), environment)?;
        for warning in &loaded.warnings {
            println!("note: {warning}");
        }
        Ok(loaded.settings)
    }

    /// Opens a facade on the data folder that was asked for, else on a temporary one.
    ///
    /// # Errors
    /// A processor that this build does not run on; errors of the settings, the folder and the stores.
    pub async fn open(&self) -> anyhow::Result<House> {
        self.open_with(|builder| builder).await
    }

    /// As [`Arguments::open`], of what `with` makes of the builder.
    ///
    /// # Errors
    /// As [`Arguments::open`].
    pub async fn open_with(&self, with: impl FnOnce(MosBuilder) -> MosBuilder) -> anyhow::Result<House> {
        mos::check_cpu().map_err(anyhow::Error::msg)?;
        let (folder, temporary) = match &self.data_dir {
            Some(folder) => (folder.clone(), None),
            None => {
                let temporary = tempfile::tempdir().context("a temporary folder for the data cannot be made")?;
                (temporary.path().to_owned(), Some(temporary))
            }
        };
        let mos = with(Mos::builder(self.settings()?)).data_dir(&folder).build().await?;
        Ok(House { mos, folder, _temporary: temporary })
    }
}

/// A facade and the folder that its data is in. A temporary folder goes with it.
#[derive(Debug)]
pub struct House {
    /// The facade.
    pub mos: Mos,
    /// Where its data is, and where an example writes to.
    pub folder: PathBuf,
    _temporary: Option<TempDir>,
}

impl House {
    /// Returns a folder of this name below the data, absent: what an earlier run left there is removed, which is told.
    ///
    /// # Errors
    /// A folder that cannot be removed.
    pub fn cleared(&self, name: &str) -> anyhow::Result<PathBuf> {
        let folder = self.folder.join(name);
        if folder.exists() {
            std::fs::remove_dir_all(&folder).with_context(|| format!("{} cannot be removed", folder.display()))?;
            println!("{} was there from an earlier run and has been removed.", folder.display());
        }
        Ok(folder)
    }

    /// Returns a user and a cube of the user's with the text memory that the settings name; both are made when they are
    /// missing.
    ///
    /// # Errors
    /// As [`Mos::ensure_user`] and [`Mos::ensure_cube`].
    pub async fn user_with_cube(&self, user: &str, cube: &str) -> anyhow::Result<(UserId, CubeId)> {
        let (user, cube) = (UserId::from(user), CubeId::from(cube));
        self.mos.ensure_user(&user).await?;
        self.mos.ensure_cube(&user, &cube).await?;
        Ok((user, cube))
    }

    /// As [`House::user_with_cube`]; a cube that is made keeps its memories as a graph (`tree_text`).
    ///
    /// # Errors
    /// As [`House::user_with_cube`].
    pub async fn user_with_tree(&self, user: &str, cube: &str) -> anyhow::Result<(UserId, CubeId)> {
        let (user, cube) = (UserId::from(user), CubeId::from(cube));
        self.mos.ensure_user(&user).await?;
        if self.mos.list_cubes(&user).await?.iter().all(|known| known.cube_id != cube) {
            let config = json!({"user_id": user, "text_mem": {"backend": "tree_text", "config": {}}});
            let config = GeneralMemCubeConfig::from_json(&config)?;
            self.mos.create_cube(&user, NewCube { config: Some(config), ..NewCube::new(cube.clone()) }).await?;
        }
        Ok((user, cube))
    }
}

/// Returns a path below `examples/data`.
pub fn data(name: &str) -> PathBuf {
    package().join("data").join(name)
}

fn package() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Shows a prompt and returns the next line that is typed, without spaces around it; `None` at the end of the input.
///
/// # Errors
/// Input that cannot be read.
pub async fn ask(prompt: &str) -> anyhow::Result<Option<String>> {
    print!("{prompt}");
    std::io::stdout().flush()?;
    tokio::task::spawn_blocking(|| {
        let mut line = String::new();
        let n_bytes = std::io::stdin().lock().read_line(&mut line)?;
        Ok((n_bytes > 0).then(|| line.trim().to_owned()))
    })
    .await?
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(arguments: &[&str]) -> anyhow::Result<Arguments> {
        Arguments::parse("embedded.yaml", &["--fine"], arguments.iter().map(|&argument| argument.to_owned()))
    }

    #[test]
    fn arguments_are_read() {
        let read = parse(&["--model", "m", "--fine", "--config", "c.yaml", "--data-dir", "d"]).unwrap();
        assert_eq!((read.config.as_path(), read.model.as_deref()), (Path::new("c.yaml"), Some("m")));
        assert!(read.has("--fine") && !read.has("--check"));
        assert_eq!(read.data_dir.as_deref(), Some(Path::new("d")));
        assert!(parse(&[]).unwrap().config.ends_with("configs/embedded.yaml"));
    }

    #[test]
    fn wrong_arguments_are_told() {
        assert!(parse(&["--modle"]).unwrap_err().to_string().contains("--modle` is unknown; there are --config FILE"));
        assert!(parse(&["--model"]).unwrap_err().to_string().contains("--model needs a value"));
    }
}
