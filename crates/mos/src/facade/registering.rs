//! Cubes from elsewhere: registered, loaded, and written where others can read them.

use std::path::{Path, PathBuf};

use mos_config::{GeneralMemCubeConfig, Secrets, Setting};
use mos_core::{Access, Cube, CubeId, Filter, Origin, Scope, UserId};
use mos_cube::{CubeDump, MemoryKind};
use mos_kv::DEFAULT_MEMORY_FILENAME;
use serde_json::Value;

use super::{CubeActivation, Mos, NewCube, default_cube_id};
use crate::cubes::{GitSource, HubSource, OpenedCube, RegisterOptions};
use crate::error::{Error, Result};

/// Where a cube that is registered comes from.
///
/// ```no_run
/// # use mos::{CubeSource, GitSource, Mos};
/// # use mos_core::UserId;
/// # async fn run(mos: Mos) -> mos::Result<()> {
/// let ann = UserId::from("ann");
/// let directory = CubeSource::Directory("./mem_cube_2".into());
/// mos.register_mem_cube(&ann, directory, Some(&"notes".into())).await?;
/// let tagged = GitSource { revision: Some("v1".to_owned()), ..GitSource::new("https://example.org/cubes.git") };
/// mos.register_mem_cube(&ann, CubeSource::Git(tagged), Some(&"shared".into())).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub enum CubeSource {
    /// A cube that this installation knows already.
    Known,
    /// A directory that holds a dumped cube.
    Directory(PathBuf),
    /// A new cube of this configuration.
    Config(Box<GeneralMemCubeConfig>),
    /// A git repository that holds a dumped cube.
    Git(GitSource),
    /// A data set of the Hugging Face hub that is a dumped cube.
    Hub(Box<HubSource>),
}

impl Mos {
    /// Registers a cube for a user, so that searches and chats use it, and returns it.
    ///
    /// A directory or repository is read once, when its cube is new here; a cube that exists gets registered again, as it is.
    /// Registering never gives access to a cube that belongs to somebody else. Without an id, the text of a directory, the
    /// address or the name of a repository is the id and any other cube is `cube_<user>`.
    ///
    /// # Errors
    /// [`Error::UnknownUser`]; [`Error::NoAccess`]; [`Error::NotOwner`] for a cube that its owner has unregistered;
    /// [`Error::NotAllowed`] for guests and a cube that is new here; errors of the source, after which nothing is registered.
    pub async fn register_mem_cube(&self, user: &UserId, source: CubeSource, cube_id: Option<&CubeId>) -> Result<Cube> {
        self.register_mem_cube_with(user, source, cube_id, RegisterOptions::default()).await
    }

    /// As [`Mos::register_mem_cube`], with chosen memories, and with a configuration that lies over that of the cube.
    ///
    /// # Errors
    /// As [`Mos::register_mem_cube`]; [`Error::Config`] when the two configurations do not go together; [`Error::Invalid`] for
    /// chosen memories, and for a configuration that would change something, when the cube is here already: it is not read
    /// again.
    pub async fn register_mem_cube_with(
        &self,
        user: &UserId,
        source: CubeSource,
        cube_id: Option<&CubeId>,
        options: RegisterOptions,
    ) -> Result<Cube> {
        self.checked_user(user).await?;
        let cube_id = match (cube_id, &source) {
            (Some(id), _) => CubeId::parse(id.as_str())?,
            (None, CubeSource::Directory(path)) => CubeId::parse(path.display().to_string())?,
            (None, CubeSource::Git(git)) => CubeId::parse(git.url.as_str())?,
            (None, CubeSource::Hub(hub)) => CubeId::parse(hub.repository.as_str())?,
            (None, CubeSource::Known | CubeSource::Config(_)) => default_cube_id(user),
        };
        if self.parts.users.cube(&cube_id).await?.is_some() {
            let (cube, access) = self.checked_cube(user, &cube_id).await?;
            if !cube.is_registered && access != Access::Owner {
                return Err(Error::NotOwner { user: user.clone(), cube: cube_id });
            }
            return self.register_again(user, cube, &source, &options).await;
        }
        if let CubeSource::Config(config) = source {
            let config = over(*config, &options)?;
            return self.create_cube(user, NewCube { cube_id, name: None, config: Some(config) }).await;
        }
        // Before anything is fetched.
        self.check_may_own(user).await?;
        match OpenedCube::of(&source).await? {
            Some(opened) => self.register_dump(user, cube_id, &opened, &options).await,
            None => Err(Error::NoAccess { user: user.clone(), cube: cube_id }),
        }
    }

    /// A cube that is not registered and has no memories may be what a registration left that broke off (its process was
    /// killed): the source is read then.
    async fn register_again(
        &self,
        user: &UserId,
        mut cube: Cube,
        source: &CubeSource,
        options: &RegisterOptions,
    ) -> Result<Cube> {
        crate::migrate::check_whole(&cube)?;
        if !cube.is_registered
            && self.parts.record.count(&Scope::of(&cube.cube_id), &Filter::Everything).await? == 0
            && let Some(opened) = OpenedCube::of(source).await?
        {
            // The source may hold another configuration by now.
            cube.config = stored_config(read_dump(&opened.directory).await?, options)?;
            self.parts.users.set_cube_config(&cube.cube_id, &cube.config).await?;
            self.load_all(user, &cube, &opened.directory, options).await?;
        } else {
            check_heeded(&cube, options)?;
        }
        self.parts.users.set_registered(&cube.cube_id, true).await?;
        cube.is_registered = true;
        Ok(cube)
    }

    /// Makes a cube of a dump; after an error there is none.
    pub(crate) async fn register_dump(
        &self,
        user: &UserId,
        cube_id: CubeId,
        opened: &OpenedCube,
        options: &RegisterOptions,
    ) -> Result<Cube> {
        let config = stored_config(read_dump(&opened.directory).await?, options)?;
        let mut cube = self.new_cube(user, cube_id, opened.name.clone(), Some(opened.origin.as_str()), config);
        self.text_memory(&cube)?;
        // Not registered until its memories are in: whoever looks in between sees no half cube.
        cube.is_registered = false;
        self.parts.users.create_cube(&cube).await?;
        if let Err(error) = self.load_all(user, &cube, &opened.directory, options).await {
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

    async fn load_all(&self, user: &UserId, cube: &Cube, directory: &Path, options: &RegisterOptions) -> Result<()> {
        let activation = self.activation(cube)?;
        self.load_texts(cube, directory, Origin::new(user.as_str(), "register"), &options.memories).await?;
        load_activation(activation.as_ref(), directory, &options.memories).await
    }

    /// Reads those of `memories` that are texts (and the parametric one, which has nothing to read) from a dump, and returns
    /// how many there were.
    pub(crate) async fn load_texts(
        &self,
        cube: &Cube,
        directory: &Path,
        origin: Origin,
        memories: &[MemoryKind],
    ) -> Result<usize> {
        let mut n_memories = 0;
        if memories.contains(&MemoryKind::Text) {
            n_memories += self.text_memory(cube)?.load(directory, origin.clone()).await?;
        }
        if memories.contains(&MemoryKind::Preference)
            && let Some(preference) = self.preference_memory(cube)?
        {
            n_memories += preference.load(directory, origin).await?;
        }
        if memories.contains(&MemoryKind::Parametric)
            && let Some(parametric) = self.parametric_memory(cube)?
        {
            parametric.load(directory).await?;
        }
        Ok(n_memories)
    }

    /// Writes a cube (without an id the default one) to a directory that is absent or empty, whole or not at all: its
    /// textual, preference and parametric memory and, when it keeps any, its activation memory.
    ///
    /// ```no_run
    /// # async fn run(mos: mos::Mos) -> mos::Result<()> {
    /// use mos_core::{CubeId, UserId};
    ///
    /// let (ann, folder) = (UserId::from("ann"), std::path::Path::new("./notes"));
    /// mos.dump(&ann, Some(&CubeId::from("notes")), folder).await?;
    /// let n_memories = mos.load(&ann, Some(&CubeId::from("copy")), folder).await?;
    /// println!("{n_memories} memories came");
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// Rights; errors of the directory; a conflict when the cube was embedded anew meanwhile.
    pub async fn dump(&self, user: &UserId, cube: Option<&CubeId>, directory: &Path) -> Result<()> {
        self.write_dump(user, cube, directory, &MemoryKind::ALL).await.map(drop)
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
        self.read_into(user, &cube, directory, &MemoryKind::ALL).await
    }
}

/// Reads the activation memory of a dump, when it is wanted and there is one.
pub(crate) async fn load_activation(
    activation: Option<&CubeActivation>,
    directory: &Path,
    memories: &[MemoryKind],
) -> Result<()> {
    if !memories.contains(&MemoryKind::Activation) {
        return Ok(());
    }
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

/// A dump's configuration as it is kept: checked, under what lies over it, and without secrets (the models of the settings are
/// used).
fn stored_config(dump: CubeDump, options: &RegisterOptions) -> Result<Value> {
    let config = GeneralMemCubeConfig::from_json(&Value::Object(dump.config))
        .map_err(|error| Error::Invalid(format!("the cube's config.json: {error}")))?;
    Ok(over(config, options)?.to_json(Secrets::Omitted))
}

/// Refuses options that a cube which is here already, and is not read again, would pass over. A configuration that it has
/// is heeded, so that a program may register its cube each time it starts.
fn check_heeded(cube: &Cube, options: &RegisterOptions) -> Result<()> {
    let id = &cube.cube_id;
    if !MemoryKind::ALL.iter().all(|kind| options.memories.contains(kind)) {
        return Err(Error::Invalid(format!(
            "cube `{id}` is here already and is not read again, so no memories of it can be chosen; leave the choice out, or \
             load chosen memories of a directory into the cube (`mos cube load`)"
        )));
    }
    let Some(default) = &options.default_config else { return Ok(()) };
    let changes_nothing = match GeneralMemCubeConfig::from_json(&cube.config) {
        Ok(own) => own.merged_with_default(default)?.to_json(Secrets::Omitted) == own.to_json(Secrets::Omitted),
        Err(_unreadable) => false,
    };
    if changes_nothing {
        return Ok(());
    }
    Err(Error::Invalid(format!(
        "cube `{id}` is here already and keeps its configuration; leave the other configuration out, or register the source \
         under another id"
    )))
}

fn over(config: GeneralMemCubeConfig, options: &RegisterOptions) -> Result<GeneralMemCubeConfig> {
    match &options.default_config {
        Some(default) => Ok(config.merged_with_default(default)?),
        None => Ok(config),
    }
}

pub(crate) async fn read_dump(directory: &Path) -> Result<CubeDump> {
    let directory = directory.to_owned();
    match tokio::task::spawn_blocking(move || mos_cube::read(&directory)).await {
        Ok(dump) => Ok(dump?),
        Err(error) => Err(Error::Invalid(format!("reading the cube broke off: {error}"))),
    }
}
