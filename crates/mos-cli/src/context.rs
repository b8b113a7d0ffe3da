//! What every command needs: settings, the facade, who is meant.

use std::path::PathBuf;

use anyhow::Context as _;
use mos::{Environment, Mos};
use mos_config::store::MemoryStore;
use mos_config::{Purpose, Settings, StoreConfig, process_environment};
use mos_core::{CubeId, UserId};

use crate::arguments::{Arguments, Command};
use crate::output::Output;

/// The name that tells where the settings are.
const CONFIG_VARIABLE: &str = "MOS_CONFIG";

/// Who asks, about what, and how to answer.
#[derive(Clone, Debug)]
pub(crate) struct Context {
    pub(crate) settings: Settings,
    pub(crate) settings_file: Option<PathBuf>,
    pub(crate) data_dir: Option<PathBuf>,
    pub(crate) user: UserId,
    pub(crate) cube: Option<CubeId>,
    pub(crate) output: Output,
}

impl Context {
    /// Reads the settings and what the environment says of them; warnings go to standard error. Every command finds the same
    /// memories in the same environment.
    pub(crate) fn new(arguments: &Arguments) -> anyhow::Result<Self> {
        let output = Output { json: arguments.json };
        // The server tells its warnings itself.
        let is_service = matches!(arguments.command, Command::Serve(_));
        let purpose = if is_service { Purpose::Service } else { Purpose::Command };
        let Environment { settings, warnings, .. } = Environment::read(purpose, variables(arguments)?)?;
        for warning in warnings.iter().filter(|_| !is_service) {
            output.note(&format!("warning: {warning}"));
        }
        let user = arguments.user.as_deref().unwrap_or(settings.user_id.as_str());
        Ok(Self {
            user: UserId::parse(user)?,
            cube: arguments.cube.as_deref().map(CubeId::parse).transpose()?,
            settings,
            settings_file: arguments.config.clone(),
            data_dir: arguments.data_dir.clone(),
            output,
        })
    }

    /// Opens the facade on the data directory. A scheduler that the settings ask for takes messages and handles none: most
    /// commands end before it would have begun.
    pub(crate) async fn open(&self) -> anyhow::Result<Mos> {
        self.open_with(self.settings.clone()).await
    }

    async fn open_with(&self, settings: Settings) -> anyhow::Result<Mos> {
        let mut builder = Mos::builder(settings).start_scheduler(false);
        if let Some(folder) = &self.data_dir {
            builder = builder.data_dir(folder);
        }
        builder.build().await.context("cannot open the memories")
    }

    /// Opens the facade for a look that stores nothing, and returns the cube that is meant; where that does not exist yet, an
    /// empty one in memory.
    pub(crate) async fn open_to_look(&self) -> anyhow::Result<(Mos, CubeId)> {
        if self.has_records()? {
            let mos = self.open().await?;
            if let Some(cube) = self.known_cube(&mos).await? {
                return Ok((mos, cube));
            }
        }
        let settings = Settings {
            // Nothing of the look is kept.
            store: StoreConfig::Memory(Box::new(MemoryStore {})),
            ..without_servers(&self.settings)
        };
        let mos = self.open_with(settings).await?;
        mos.ensure_user(&self.user).await?;
        let cube = match &self.cube {
            Some(cube) => {
                mos.ensure_cube(&self.user, cube).await?;
                cube.clone()
            }
            None => mos.ensure_default_cube(&self.user).await?,
        };
        Ok((mos, cube))
    }

    /// Whether anything was stored yet. What a server keeps is not known before it is asked.
    fn has_records(&self) -> anyhow::Result<bool> {
        if !matches!(self.settings.store, StoreConfig::Sqlite(_)) {
            return Ok(true);
        }
        Ok(mos::database_path(&self.settings, self.data_dir.as_deref())?.exists())
    }

    /// Returns the cube that is meant, when it exists and the user may read it.
    async fn known_cube(&self, mos: &Mos) -> anyhow::Result<Option<CubeId>> {
        if !mos.has_user(&self.user).await? {
            return Ok(None);
        }
        let Some(cube) = &self.cube else {
            return match mos.default_cube(&self.user).await {
                Err(mos::Error::NoCube(_)) => Ok(None),
                found => Ok(Some(found?)),
            };
        };
        let readable = mos.user_info(&self.user).await?.accessible_cubes;
        Ok(readable.iter().any(|known| known.cube_id == *cube).then(|| cube.clone()))
    }

    /// Makes the user and the cube that are meant, when they do not exist yet, and returns the cube.
    ///
    /// The user, because whoever may start this program may make users with it anyway, but never one that was deleted;
    /// never a right to a cube that belongs to somebody else.
    pub(crate) async fn ensure_cube(&self, mos: &Mos) -> anyhow::Result<CubeId> {
        if !mos.has_user(&self.user).await? {
            mos.ensure_user(&self.user).await?;
            self.output.note(&format!("created user `{}`", self.user));
        }
        let Some(cube) = self.cube.clone() else { return Ok(mos.ensure_default_cube(&self.user).await?) };
        if mos.ensure_cube(&self.user, &cube).await? {
            self.output.note(&format!("created cube `{cube}` of user `{}`", self.user));
        }
        Ok(cube)
    }
}

/// The settings with everything on this machine: no server that an installation uses is asked, and nothing is done in the
/// background.
pub(crate) fn without_servers(settings: &Settings) -> Settings {
    let defaults = Settings::default();
    Settings {
        store: defaults.store,
        vectors: defaults.vectors,
        user_manager: defaults.user_manager,
        queue: None,
        mem_scheduler: None,
        enable_mem_scheduler: false,
        ..settings.clone()
    }
}

/// The environment of this process, with the settings file that the arguments name.
fn variables(arguments: &Arguments) -> anyhow::Result<Vec<(String, String)>> {
    let mut variables = process_environment();
    variables.retain(|(name, _)| name != CONFIG_VARIABLE);
    if let Some(file) = &arguments.config {
        // Shown with other characters it would be another file.
        let name = file.to_str();
        let name =
            name.with_context(|| format!("the path of the settings, {}, is not UTF-8; rename it", file.display()))?;
        variables.push((CONFIG_VARIABLE.to_owned(), name.to_owned()));
    }
    Ok(variables)
}
