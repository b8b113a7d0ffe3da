//! Cubes: made, listed, shared, removed, embedded anew.

use std::collections::HashMap;

use mos_config::{GeneralMemCubeConfig, Secrets, Setting};
use mos_core::{Access, Cube, CubeId, Scope, UserId, UserRole};
use mos_memory::Reembedded;
use serde::Serialize;
use serde_json::Value;

use super::{Mos, rights};
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
        self.parts.users.create_cube(&cube).await?;
        Ok(cube)
    }

    pub(super) fn new_cube(
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
    /// [`Error::NoAccess`]; [`Error::NotOwner`]; [`Error::Invalid`] for a cube that is on its way here from an installation with
    /// the same queue.
    pub async fn delete_cube(&self, user: &UserId, cube: &CubeId) -> Result<()> {
        let cube = self.owned_cube(user, cube).await?;
        crate::migrate::check_deletable(&cube, &self.parts.settings)?;
        self.remove_cube(&cube).await
    }

    /// Removes a cube, whoever asked for it.
    pub(super) async fn remove_cube(&self, cube: &Cube) -> Result<()> {
        // First, so that a failure leaves a cube that can be deleted again.
        self.forget_promoted(cube).await?;
        self.parts.activation.forget(cube).await?;
        self.parts.users.delete_cube(&cube.cube_id).await?;
        self.has_changed(&cube.cube_id);
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
