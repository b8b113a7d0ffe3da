//! What every command needs: settings, the facade, who is meant.

use std::path::PathBuf;

use anyhow::Context as _;
use mos::Mos;
use mos_config::{Settings, process_environment};
use mos_core::{CubeId, UserId};

use crate::arguments::Arguments;
use crate::output::Output;

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
    /// Reads the settings; warnings about them go to standard error.
    pub(crate) fn new(arguments: &Arguments) -> anyhow::Result<Self> {
        let output = Output { json: arguments.json };
        let loaded = Settings::load(arguments.config.as_deref(), process_environment())?;
        for warning in &loaded.warnings {
            output.note(&format!("warning: {warning}"));
        }
        let user = arguments.user.as_deref().unwrap_or(loaded.settings.user_id.as_str());
        Ok(Self {
            user: UserId::parse(user)?,
            cube: arguments.cube.as_deref().map(CubeId::parse).transpose()?,
            settings: loaded.settings,
            settings_file: arguments.config.clone(),
            data_dir: arguments.data_dir.clone(),
            output,
        })
    }

    /// Opens the facade on the data directory. A scheduler that the settings ask for takes messages and handles none: most
    /// commands end before it would have begun.
    pub(crate) async fn open(&self) -> anyhow::Result<Mos> {
        let mut builder = Mos::builder(self.settings.clone()).start_scheduler(false);
        if let Some(folder) = &self.data_dir {
            builder = builder.data_dir(folder);
        }
        builder.build().await.context("cannot open the memories")
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
