//! What every command needs: settings, the facade, who is meant.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use mos::{Environment, Mos, MosBuilder};
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
        let Environment { settings, warnings, .. } =
            Environment::read(purpose, variables(arguments.config.as_deref())?)?;
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
        self.builder(settings).build().await.context("cannot open the memories")
    }

    fn builder(&self, settings: Settings) -> MosBuilder {
        let builder = Mos::builder(settings).start_scheduler(false);
        match &self.data_dir {
            Some(folder) => builder.data_dir(folder),
            None => builder,
        }
    }

    /// Opens the facade for a look that stores nothing, and returns the cube that is meant; where that does not exist yet, an
    /// empty one in memory. What storing there would refuse is refused. With `asks_models` the tokens that the look takes are
    /// counted where those of the installation are.
    pub(crate) async fn open_to_look(&self, asks_models: bool) -> anyhow::Result<(Mos, CubeId)> {
        if self.has_records()? {
            let mos = self.open().await?;
            if let Some(cube) = mos.cube_to_write(&self.user, self.cube.as_ref()).await? {
                return Ok((mos, cube));
            }
        }
        let settings = Settings {
            // Nothing of the look is kept.
            store: StoreConfig::Memory(Box::new(MemoryStore {})),
            ..without_servers(&self.settings)
        };
        let mut builder = self.builder(settings);
        // What keeps nothing at all has no folder for that either.
        if asks_models && !matches!(self.settings.store, StoreConfig::Memory(_)) {
            let data_dir = self.data_dir.clone().map_or_else(|| mos::data_dir(&self.settings), Ok)?;
            builder = builder.usage_dir(mos::usage_dir(&data_dir));
        }
        let mos = builder.build().await.context("cannot open the memories")?;
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
        Ok(self.database()?.is_none_or(|file| file.exists()))
    }

    /// Returns the file of the record; `None` where that is none.
    fn database(&self) -> anyhow::Result<Option<PathBuf>> {
        if !matches!(self.settings.store, StoreConfig::Sqlite(_)) {
            return Ok(None);
        }
        Ok(Some(mos::database_path(&self.settings, self.data_dir.as_deref())?))
    }

    /// Refuses when the folder of the data was named and is not there: what only looks would make an empty one.
    pub(crate) fn check_data_dir(&self) -> anyhow::Result<()> {
        let is_path = matches!(&self.settings.store, StoreConfig::Sqlite(store) if store.path.is_some());
        let is_named = is_path || self.data_dir.is_some() || self.settings.data_dir.is_some();
        let Some(folder) = self.database()?.and_then(|file| file.parent().map(Path::to_owned)) else { return Ok(()) };
        let is_there = folder.as_os_str().is_empty() || folder.exists();
        anyhow::ensure!(
            is_there || !is_named,
            "there is no folder {}, so that there is nothing to check, and none was made; correct --data-dir, MOS_DATA_DIR or the \
             settings, or store something there first",
            folder.display()
        );
        Ok(())
    }

    /// Tells when nothing was stored yet where the data are looked for.
    pub(crate) fn note_missing_records(&self) -> anyhow::Result<()> {
        if let Some(file) = self.database()?.filter(|file| !file.exists()) {
            self.output.note(&format!("nothing is stored yet: there was no {}; a new one is made", file.display()));
        }
        Ok(())
    }

    /// Tells which cube is written to where that follows from the order in which the user's cubes were made: a new cube, also one
    /// of somebody else that was registered, takes the place of the one before.
    async fn tell_choice(&self, mos: &Mos, cube: &CubeId) -> anyhow::Result<()> {
        if *cube == mos::default_cube_id(&self.user) {
            return Ok(());
        }
        let known = mos.user_info(&self.user).await?.accessible_cubes;
        let n_own = known.iter().filter(|known| known.is_loaded && known.owner_id == self.user).count();
        if n_own > 1 {
            self.output.note(&format!("the cube is `{cube}`, the newest of {n_own}; --cube names another"));
        }
        Ok(())
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
        let Some(cube) = self.cube.clone() else {
            let cube = mos.ensure_default_cube(&self.user).await?;
            self.tell_choice(mos, &cube).await?;
            return Ok(cube);
        };
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
pub(crate) fn variables(settings_file: Option<&Path>) -> anyhow::Result<Vec<(String, String)>> {
    let mut variables = process_environment();
    variables.retain(|(name, _)| name != CONFIG_VARIABLE);
    if let Some(file) = settings_file {
        // Shown with other characters it would be another file.
        let name = file.to_str();
        let name =
            name.with_context(|| format!("the path of the settings, {}, is not UTF-8; rename it", file.display()))?;
        variables.push((CONFIG_VARIABLE.to_owned(), name.to_owned()));
    }
    Ok(variables)
}
