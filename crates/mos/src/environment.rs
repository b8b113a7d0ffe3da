//! An installation from the environment alone, by MemOS' names.
//!
//! ```no_run
//! # async fn run() -> mos::Result<()> {
//! let mos = mos::Mos::from_env().await?;
//! mos.add(mos::Add::text("My dog is called Max")).await?;
//! # Ok(())
//! # }
//! ```
//!
//! With no name set, everything is in this process. `docs/environment.md` lists the names; what they mean is decided by
//! [`mos_config::from_environment`], which reads no environment itself. `MOS_CONFIG` names a settings file, which wins.

use std::path::Path;

use mos_config::{GeneralMemCubeConfig, Settings, from_environment, process_environment};
use mos_core::{CubeId, MemoryError, StoreError, UserId};

pub use mos_config::Purpose;

use crate::builder::MosBuilder;
use crate::error::{Error, Result};
use crate::facade::{Mos, NewCube, default_cube_id};
use crate::product::ProductOptions;

/// The name of the variable that names a settings file.
const CONFIG_VARIABLE: &str = "MOS_CONFIG";

/// What the environment says about an installation. `Debug` masks secrets.
#[derive(Clone, Debug)]
pub struct Environment {
    /// The settings.
    pub settings: Settings,
    /// The configuration of cubes that are made without one, when the environment says something about them.
    pub cube_config: Option<GeneralMemCubeConfig>,
    /// How the product API behaves.
    pub options: ProductOptions,
    /// Names that have no effect and the like, one sentence each. They hold no secrets.
    pub warnings: Vec<String>,
}

impl Environment {
    /// Returns what a list of names and values says. An empty value counts as unset.
    ///
    /// # Errors
    /// [`Error::Config`] for values that cannot be used, each with the name it came from.
    pub fn read(purpose: Purpose, variables: impl IntoIterator<Item = (String, String)>) -> Result<Self> {
        let variables: Vec<(String, String)> = variables.into_iter().collect();
        let file = variables.iter().find(|(name, value)| name == CONFIG_VARIABLE && !value.trim().is_empty());
        let file = file.map(|(_, value)| value.clone());
        let said = from_environment(purpose, file.as_deref().map(Path::new), variables)?;
        let options = ProductOptions {
            cube_config: said.cube_config.clone(),
            chats: said.chats.unwrap_or(true),
            chat_models: said.chat_models,
            business_chat_keys: said.business_chat_keys,
            ..ProductOptions::default()
        };
        Ok(Self { settings: said.settings, cube_config: said.cube_config, options, warnings: said.warnings })
    }

    /// Returns what the environment of this process says.
    ///
    /// # Errors
    /// As [`Environment::read`].
    pub fn of_process(purpose: Purpose) -> Result<Self> {
        Self::read(purpose, process_environment())
    }

    /// Starts building what it says, with parts of your own where you give them.
    pub fn builder(&self) -> MosBuilder {
        Mos::builder(self.settings.clone())
    }

    /// Returns the default cube of the settings' user; makes and registers it when there is none.
    ///
    /// # Errors
    /// Store errors; [`Error::Invalid`] for a configuration of cubes that this build cannot open.
    pub async fn ensure_cube(&self, mos: &Mos) -> Result<CubeId> {
        let user = UserId::parse(&self.settings.user_id)?;
        mos.ensure_user(&user).await?;
        let Some(config) = &self.cube_config else { return mos.ensure_default_cube(&user).await };
        match mos.default_cube(&user).await {
            Err(Error::NoCube(_)) => {}
            found => return found,
        }
        let cube_id = default_cube_id(&user);
        let config =
            GeneralMemCubeConfig { user_id: user.to_string(), cube_id: Some(cube_id.to_string()), ..config.clone() };
        let made = mos.create_cube(&user, NewCube { config: Some(config), ..NewCube::new(cube_id) }).await;
        match made {
            Ok(cube) => Ok(cube.cube_id),
            // Another process made it since the question above, or somebody else has a cube of that id.
            Err(Error::Memory(MemoryError::Store(StoreError::Conflict(_)))) => mos.ensure_default_cube(&user).await,
            Err(error) => Err(error),
        }
    }

    /// Tells the log what is worth knowing.
    pub(crate) fn log_warnings(&self) {
        for warning in &self.warnings {
            tracing::warn!("{warning}");
        }
    }
}

impl Mos {
    /// Returns an installation as the environment of this process says it, with a registered default cube of its user
    /// (`cube_<user>`); see [`Environment`]. With no name set, it works with the embedded stores and models of this machine.
    ///
    /// # Errors
    /// [`Error::Config`] for values that cannot be used; errors of the stores.
    pub async fn from_env() -> Result<Self> {
        let environment = Environment::of_process(Purpose::Library)?;
        environment.log_warnings();
        Self::from_environment(&environment).await
    }

    /// As [`Mos::from_env`], under MemOS' name for it.
    ///
    /// # Errors
    /// As [`Mos::from_env`].
    pub async fn simple() -> Result<Self> {
        Self::from_env().await
    }

    /// As [`Mos::from_env`], for an environment that was read.
    ///
    /// # Errors
    /// As [`Mos::from_env`].
    pub async fn from_environment(environment: &Environment) -> Result<Self> {
        let mos = environment.builder().build().await?;
        environment.ensure_cube(&mos).await?;
        Ok(mos)
    }
}
