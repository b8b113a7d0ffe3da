//! Cubes: made, registered, shared, dumped, loaded, embedded anew.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use mos_config::{GeneralMemCubeConfig, Secrets, Setting};
use mos_core::{Access, Cube, CubeId, Filter, Origin, Scope, UserId, UserRole};
use mos_cube::{CubeDump, MemoryKind};
use mos_kv::DEFAULT_MEMORY_FILENAME;
use mos_memory::Reembedded;
use serde::Serialize;
use serde_json::Value;

use super::{CubeActivation, Mos, default_cube_id, rights};
use crate::cubes::{GitSource, HubSource, OpenedCube, RegisterOptions};
use crate::error::{Error, Result};

/// What the ids of knowledge bases begin with; a UUID follows.
pub(crate) const KNOWLEDGE_BASE: &str = "kb-";

/// The length of a UUID.
const UUID_LENGTH: usize = 36;

/// Whether a cube is a knowledge base, which files are read into.
pub(crate) fn is_knowledge_base(cube: &CubeId) -> bool {
    cube.as_str().strip_prefix(KNOWLEDGE_BASE).is_some_and(|rest| rest.len() == UUID_LENGTH)
}

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

/// What a user may do with a cube.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CubeShare {
    /// The user.
    pub user_id: UserId,
    /// The right; a guest's is that of a reader, whatever it was given.
    pub access: Access,
}

impl Mos {
    /// Makes a cube, registered and owned by `owner`.
    ///
    /// ```no_run
    /// use mos::NewCube;
    /// use mos::config::{GeneralMemCubeConfig, Setting};
    ///
    /// # async fn run(mos: mos::Mos) -> mos::Result<()> {
    /// let ann = mos_core::UserId::from("ann");
    /// mos.create_cube(&ann, NewCube::new("notes")).await?;
    /// let tree = serde_json::json!({"text_mem": {"backend": "tree_text", "config": {}}});
    /// let config = Some(GeneralMemCubeConfig::from_json(&tree)?);
    /// mos.create_cube(&ann, NewCube { config, ..NewCube::new("project") }).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::UnknownUser`]; [`Error::NotAllowed`] for guests; [`Error::Invalid`] for a bad id or a memory backend this
    /// build lacks; a conflict when the id is taken.
    pub async fn create_cube(&self, owner: &UserId, new: NewCube) -> Result<Cube> {
        self.check_may_own(owner).await?;
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
        self.make_cube(&cube).await?;
        Ok(cube)
    }

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
        self.make_cube(&cube).await?;
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

    fn new_cube(
        &self,
        owner: &UserId,
        cube_id: CubeId,
        name: Option<String>,
        path: Option<&str>,
        config: Value,
    ) -> Cube {
        Cube {
            cube_name: name.unwrap_or_else(|| cube_id.to_string()),
            cube_id,
            cube_path: path.map(str::to_owned),
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
        self.remove_cube(&cube).await
    }

    /// Removes a cube, whoever asked for it.
    pub(super) async fn remove_cube(&self, cube: &Cube) -> Result<()> {
        // First, so that a failure leaves a cube that can be deleted again.
        self.forget_promoted(cube).await?;
        self.parts.activation.forget(cube).await?;
        self.parts.users.delete_cube(&cube.cube_id).await?;
        self.has_changed(&cube.cube_id);
        // Unless somebody has made another one of this id, who forgot it first.
        self.forget_work_of_deleted(&cube.cube_id).await?;
        // Again, for what was being computed meanwhile.
        self.parts.activation.forget(cube).await
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
    /// As [`Mos::share_cube_with`].
    pub async fn share_cube_with_user(&self, owner: &UserId, cube: &CubeId, target: &UserId) -> Result<()> {
        self.share_cube_with(owner, cube, target, Access::Member).await
    }

    /// Lets another user read a cube ([`Access::Reader`]), or read and write it ([`Access::Member`]). Sharing again changes
    /// the right. A guest only reads, whatever it is given.
    ///
    /// ```no_run
    /// use mos_core::{Access, CubeId, UserId};
    ///
    /// # async fn run(mos: mos::Mos) -> mos::Result<()> {
    /// let (ann, bob, notes) = (UserId::from("ann"), UserId::from("bob"), CubeId::from("notes"));
    /// mos.share_cube_with(&ann, &notes, &bob, Access::Reader).await?;
    /// for share in mos.cube_shares(&ann, &notes).await? {
    ///     println!("{}: {}", share.user_id, share.access.as_str());
    /// }
    /// mos.unshare_cube(&ann, &notes, &bob).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::NoAccess`]; [`Error::NotOwner`]; [`Error::UnknownUser`] for the other user; [`Error::Invalid`] for
    /// [`Access::Owner`].
    pub async fn share_cube_with(&self, owner: &UserId, cube: &CubeId, target: &UserId, access: Access) -> Result<()> {
        let cube = self.owned_cube(owner, cube).await?;
        self.checked_user(target).await?;
        if access == Access::Owner {
            return Err(Error::Invalid(format!(
                "cube `{}` has one owner; share it with the right of a reader or a member",
                cube.cube_id
            )));
        }
        Ok(self.parts.users.share(&cube.cube_id, target, access).await?)
    }

    /// Returns who may do what with a cube: its owner, then those it is shared with, by id. Only its owner gets to know.
    ///
    /// # Errors
    /// [`Error::NoAccess`]; [`Error::NotOwner`].
    pub async fn cube_shares(&self, owner: &UserId, cube: &CubeId) -> Result<Vec<CubeShare>> {
        let cube = self.owned_cube(owner, cube).await?;
        let roles: HashMap<UserId, UserRole> =
            self.parts.users.users().await?.into_iter().map(|user| (user.user_id, user.role)).collect();
        let shares = self.parts.users.shares(&cube.cube_id).await?.into_iter().map(|(user_id, access)| {
            let role = roles.get(&user_id).copied().unwrap_or(UserRole::User);
            CubeShare { access: rights::effective(role, access), user_id }
        });
        Ok(shares.collect())
    }

    /// Takes back what [`Mos::share_cube_with`] gave. The owner may do so, and whom it was shared with.
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
