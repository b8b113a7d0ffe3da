//! Cubes: made, registered, shared, dumped, loaded, embedded anew.

use std::path::{Path, PathBuf};

use mos_config::{GeneralMemCubeConfig, Secrets, Setting};
use mos_core::{Access, Cube, CubeId, Filter, MemoryError, Origin, Scope, StoreError, UserId};
use mos_cube::{CubeDump, DumpRequest};
use mos_kv::DEFAULT_MEMORY_FILENAME;
use mos_memory::Reembedded;
use serde_json::Value;

use super::{CubeActivation, Mos, default_cube_id};
use crate::error::{Error, Result};

/// A cube to make.
#[derive(Clone, Debug)]
pub struct NewCube {
    /// Its id.
    pub cube_id: CubeId,
    /// Its name; without one the id.
    pub name: Option<String>,
    /// Its configuration; without one a `general_text` cube.
    pub config: Option<GeneralMemCubeConfig>,
}

impl NewCube {
    /// Returns a cube of `general_text` memory.
    pub fn new(cube_id: impl Into<CubeId>) -> Self {
        Self { cube_id: cube_id.into(), name: None, config: None }
    }
}

/// Where a cube that is registered comes from.
#[derive(Clone, Debug)]
pub enum CubeSource {
    /// A cube that this installation knows already.
    Known,
    /// A directory that holds a dumped cube.
    Directory(PathBuf),
    /// A new cube of this configuration.
    Config(Box<GeneralMemCubeConfig>),
}

impl Mos {
    /// Makes a cube, registered and owned by `owner`.
    ///
    /// # Errors
    /// [`Error::UnknownUser`]; [`Error::Invalid`] for a bad id or a memory backend this build lacks; a conflict when
    /// the id is taken.
    pub async fn create_cube(&self, owner: &UserId, new: NewCube) -> Result<Cube> {
        self.checked_user(owner).await?;
        let cube_id = CubeId::parse(new.cube_id.as_str())?;
        let config = match new.config {
            Some(config) => config.to_json(Secrets::Omitted),
            None => self.parts.factories.default_cube_config(&self.parts.settings, owner, &cube_id),
        };
        let cube = self.new_cube(owner, cube_id, new.name, None, config);
        // Refuses an unknown backend before anything is stored.
        self.text_memory(&cube)?;
        self.preference_memory(&cube)?;
        self.parametric_memory(&cube)?;
        self.parts.users.create_cube(&cube).await?;
        Ok(cube)
    }

    /// Registers a cube for a user, so that searches and chats use it, and returns it.
    ///
    /// A directory is read once, when its cube is new here; a cube that exists gets registered again. Registering
    /// never gives access to a cube that belongs to somebody else. Without an id, a directory's own text is the id
    /// and any other cube is `cube_<user>`.
    ///
    /// # Errors
    /// [`Error::UnknownUser`]; [`Error::NoAccess`]; errors of the directory, after which nothing is registered.
    pub async fn register_mem_cube(&self, user: &UserId, source: CubeSource, cube_id: Option<&CubeId>) -> Result<Cube> {
        self.checked_user(user).await?;
        let cube_id = match (cube_id, &source) {
            (Some(id), _) => CubeId::parse(id.as_str())?,
            (None, CubeSource::Directory(path)) => CubeId::parse(path.display().to_string())?,
            (None, _) => default_cube_id(user),
        };
        if self.parts.users.cube(&cube_id).await?.is_some() {
            let (cube, access) = self.checked_cube(user, &cube_id).await?;
            if !cube.is_registered && access != Access::Owner {
                return Err(Error::NotOwner { user: user.clone(), cube: cube_id });
            }
            return self.register_again(user, cube, &source).await;
        }
        match source {
            CubeSource::Known => Err(Error::NoAccess { user: user.clone(), cube: cube_id }),
            CubeSource::Config(config) => {
                self.create_cube(user, NewCube { cube_id, name: None, config: Some(*config) }).await
            }
            CubeSource::Directory(path) => self.register_directory(user, cube_id, &path).await,
        }
    }

    /// A cube that is not registered and has no memories may be what a registration left that broke off (its process was
    /// killed): the directory is read then.
    async fn register_again(&self, user: &UserId, mut cube: Cube, source: &CubeSource) -> Result<Cube> {
        crate::migrate::check_whole(&cube)?;
        if let CubeSource::Directory(path) = source
            && !cube.is_registered
            && self.parts.record.count(&Scope::of(&cube.cube_id), &Filter::Everything).await? == 0
        {
            // The folder may hold another configuration by now.
            cube.config = stored_config(read_dump(path).await?)?;
            self.parts.users.set_cube_config(&cube.cube_id, &cube.config).await?;
            self.load_texts(&cube, path, Origin::new(user.as_str(), "register")).await?;
            load_activation(self.activation(&cube)?.as_ref(), path).await?;
        }
        self.parts.users.set_registered(&cube.cube_id, true).await?;
        cube.is_registered = true;
        Ok(cube)
    }

    async fn register_directory(&self, user: &UserId, cube_id: CubeId, path: &Path) -> Result<Cube> {
        let config = stored_config(read_dump(path).await?)?;
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
        let mut cube = self.new_cube(user, cube_id, name, Some(path), config);
        self.text_memory(&cube)?;
        // Not registered until its memories are in: whoever looks in between sees no half cube.
        cube.is_registered = false;
        self.parts.users.create_cube(&cube).await?;
        let activation = self.activation(&cube)?;
        let loaded = match self.load_texts(&cube, path, Origin::new(user.as_str(), "register")).await {
            Ok(_) => load_activation(activation.as_ref(), path).await,
            Err(error) => Err(error),
        };
        if let Err(error) = loaded {
            // Another process may have finished what failed here; then the cube stays. The first error is the one to tell.
            if let Err(left) = self.parts.users.discard_cube(&cube.cube_id).await {
                tracing::warn!(cube = %cube.cube_id, error = %left, "an unfinished cube was left behind");
            }
            return Err(error);
        }
        self.parts.users.set_registered(&cube.cube_id, true).await?;
        self.has_changed(&cube.cube_id);
        cube.is_registered = true;
        Ok(cube)
    }

    /// Reads the memories of a dump that are texts (and the parametric one, which has nothing to read), and returns how
    /// many there were.
    async fn load_texts(&self, cube: &Cube, directory: &Path, origin: Origin) -> Result<usize> {
        let mut n_memories = self.text_memory(cube)?.load(directory, origin.clone()).await?;
        if let Some(preference) = self.preference_memory(cube)? {
            n_memories += preference.load(directory, origin).await?;
        }
        if let Some(parametric) = self.parametric_memory(cube)? {
            parametric.load(directory).await?;
        }
        Ok(n_memories)
    }

    fn new_cube(
        &self,
        owner: &UserId,
        cube_id: CubeId,
        name: Option<String>,
        path: Option<&Path>,
        config: Value,
    ) -> Cube {
        Cube {
            cube_name: name.unwrap_or_else(|| cube_id.to_string()),
            cube_id,
            cube_path: path.map(|path| path.display().to_string()),
            owner_id: owner.clone(),
            created_at: self.parts.clock.now_text(),
            is_registered: true,
            config,
        }
    }

    /// Takes a cube out of searches and chats; its memories stay.
    ///
    /// # Errors
    /// [`Error::NoAccess`]; [`Error::NotOwner`]; [`Error::NotRegistered`] the second time.
    pub async fn unregister_mem_cube(&self, user: &UserId, cube: &CubeId) -> Result<()> {
        let cube = self.owned_cube(user, cube).await?;
        if !cube.is_registered {
            return Err(Error::NotRegistered(cube.cube_id));
        }
        Ok(self.parts.users.set_registered(&cube.cube_id, false).await?)
    }

    /// Removes a cube with all its memories and their history, and all that its activation memory keeps.
    ///
    /// # Errors
    /// [`Error::NoAccess`]; [`Error::NotOwner`].
    pub async fn delete_cube(&self, user: &UserId, cube: &CubeId) -> Result<()> {
        let cube = self.owned_cube(user, cube).await?;
        // First, so that a failure leaves a cube that can be deleted again.
        self.forget_promoted(&cube).await?;
        self.parts.activation.forget(&cube).await?;
        self.parts.users.delete_cube(&cube.cube_id).await?;
        self.has_changed(&cube.cube_id);
        self.forget_work(&cube.cube_id).await?;
        // Again, for what was being computed meanwhile.
        self.parts.activation.forget(&cube).await
    }

    /// Returns the cubes a user may use, newest first.
    ///
    /// # Errors
    /// [`Error::UnknownUser`].
    pub async fn list_cubes(&self, user: &UserId) -> Result<Vec<Cube>> {
        self.checked_user(user).await?;
        Ok(self.parts.users.cubes(Some(user)).await?)
    }

    /// Lets another user read and write a cube.
    ///
    /// # Errors
    /// [`Error::NoAccess`]; [`Error::NotOwner`]; [`Error::UnknownUser`] for the other user.
    pub async fn share_cube_with_user(&self, owner: &UserId, cube: &CubeId, target: &UserId) -> Result<()> {
        let cube = self.owned_cube(owner, cube).await?;
        self.checked_user(target).await?;
        Ok(self.parts.users.share(&cube.cube_id, target).await?)
    }

    /// Takes back what [`Mos::share_cube_with_user`] gave. The owner may do so, and whom it was shared with.
    ///
    /// # Errors
    /// [`Error::NoAccess`]; [`Error::NotOwner`]; an error when the owner would lose the right.
    pub async fn unshare_cube(&self, user: &UserId, cube: &CubeId, target: &UserId) -> Result<()> {
        let cube =
            if user == target { self.checked_cube(user, cube).await?.0 } else { self.owned_cube(user, cube).await? };
        Ok(self.parts.users.unshare(&cube.cube_id, target).await?)
    }

    /// Writes a cube (without an id the default one) to a directory that is absent or empty, whole or not at all: its
    /// textual, preference and parametric memory and, when it keeps any, its activation memory.
    ///
    /// # Errors
    /// Rights; errors of the directory; a conflict when the cube was embedded anew meanwhile.
    pub async fn dump(&self, user: &UserId, cube: Option<&CubeId>, directory: &Path) -> Result<()> {
        let cube = self.target(user, cube).await?;
        let space = self.parts.record.embedding_space(&cube.scope()).await?;
        let activation = match cube.act_mem() {
            Some(activation) if activation.has_items().await? => {
                let (backend, scope) = activation.backend();
                Some((backend.memory(), scope, activation.file_name()?))
            }
            _ => None,
        };
        let request = DumpRequest {
            cube_id: &cube.info().cube_id,
            config: &cube.info().config,
            text: cube.text_mem().as_ref(),
            activation: activation.as_ref().map(|(memory, scope, file)| (memory.as_ref(), *scope, *file)),
            parametric: cube.para_mem().map(AsRef::as_ref),
            preference: cube.pref_mem().map(AsRef::as_ref),
            embedding_space: space.clone(),
            created_at: self.parts.clock.now_text(),
        };
        mos_cube::dump(directory, request).await?;
        if self.parts.record.embedding_space(&cube.scope()).await? != space {
            return Err(MemoryError::from(StoreError::Conflict(format!(
                "cube `{}` was embedded anew while it was dumped: remove {} and dump it again",
                cube.info().cube_id,
                directory.display()
            )))
            .into());
        }
        Ok(())
    }

    /// Reads a dumped cube into a registered one (without an id the default one) and returns how many memories and
    /// preferences came.
    /// A dumped activation memory takes the place of the cube's own; what another model computed is computed anew.
    ///
    /// # Errors
    /// Rights; errors of the directory, after which nothing was changed. After an error of the preference memory the textual
    /// one is loaded and the preferences are as they were; the same holds for the activation memory, which comes last.
    pub async fn load(&self, user: &UserId, cube: Option<&CubeId>, directory: &Path) -> Result<usize> {
        let cube = self.target(user, cube).await?;
        read_dump(directory).await?;
        let n_memories = self.load_texts(cube.info(), directory, Origin::new(user.as_str(), "load")).await?;
        self.has_changed(&cube.info().cube_id);
        load_activation(cube.act_mem(), directory).await?;
        Ok(n_memories)
    }

    /// Embeds a cube anew with the configured encoder; ids and history stay. Goes on where an interrupted call
    /// stopped. With `force`, memories that the encoder embedded already are embedded again. `progress` gets the number of memories embedded so far.
    ///
    /// # Errors
    /// Rights ([`Error::NotOwner`] too); model and store errors.
    pub async fn reembed_cube(
        &self,
        user: &UserId,
        cube: &CubeId,
        force: bool,
        progress: impl FnMut(usize) + Send,
    ) -> Result<Reembedded> {
        let cube = self.owned_cube(user, cube).await?;
        let scope = Scope::of(&cube.cube_id);
        let (record, embedder) = (self.parts.record.as_ref(), self.metered_embedder(user, &cube.cube_id));
        let reembedded = mos_memory::reembed(&scope, record, embedder.as_ref(), user.as_str(), force, progress).await?;
        self.has_changed(&cube.cube_id);
        Ok(reembedded)
    }
}

/// Reads the activation memory of a dump, when there is one.
async fn load_activation(activation: Option<&CubeActivation>, directory: &Path) -> Result<()> {
    match activation {
        Some(activation) if directory.join(activation.file_name()?).is_file() => {
            activation.load(directory).await.map(drop)
        }
        None if directory.join(DEFAULT_MEMORY_FILENAME).is_file() => {
            tracing::warn!("the activation memory of the dump is left out: no model here could use it");
            Ok(())
        }
        Some(_) | None => Ok(()),
    }
}

/// A dump's configuration as it is kept: checked, and without secrets (the models of the settings are used).
fn stored_config(dump: CubeDump) -> Result<Value> {
    let config = GeneralMemCubeConfig::from_json(&Value::Object(dump.config))
        .map_err(|error| Error::Invalid(format!("the cube's config.json: {error}")))?;
    Ok(config.to_json(Secrets::Omitted))
}

async fn read_dump(directory: &Path) -> Result<CubeDump> {
    let directory = directory.to_owned();
    match tokio::task::spawn_blocking(move || mos_cube::read(&directory)).await {
        Ok(dump) => Ok(dump?),
        Err(error) => Err(Error::Invalid(format!("reading the cube broke off: {error}"))),
    }
}
