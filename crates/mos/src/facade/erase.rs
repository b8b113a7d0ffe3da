//! Erasing a user: everything that is theirs goes, and nothing brings it back.

use std::path::Path;

use mos_core::{Cube, CubeId, Filter, MemoryId, Origin, Paging, Scope, UserId, WriteBatch};
use serde::Serialize;

use super::{Mos, default_cube_id};
use crate::error::{Error, Result};
use crate::masking::mask_in_files;
use crate::scheduling::promoted;

/// Memories that one batch removes.
const PAGE: usize = 500;

/// The field that names who told a memory.
const USER_FIELD: &str = "user_id";

/// Who changed what is erased, in the feed of the cube.
const ACTOR: &str = "erasing";

/// The folder of a server's log of changes.
const AUDIT: &str = "audit";

/// How far erasing goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EraseOptions {
    /// Also what the user wrote into cubes of others.
    pub also_in_shared: bool,
}

/// What the user wrote into a cube of somebody else.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct InShared {
    /// The cube.
    pub cube_id: CubeId,
    /// Its owner.
    pub owner_id: UserId,
    /// The memories.
    pub memories: Vec<MemoryId>,
    /// Whether they were erased; otherwise they are still there.
    pub is_erased: bool,
}

/// What was erased, and what was not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Erased {
    /// The user.
    pub user_id: UserId,
    /// The user's cubes, which are gone with all that they held.
    pub cubes: Vec<CubeId>,
    /// Memories that those held.
    pub n_memories: usize,
    /// What the user wrote into cubes of others.
    pub shared: Vec<InShared>,
    /// Jobs in cubes of others that named the user, and are gone.
    pub n_jobs: usize,
    /// Changes by the user in cubes of others, which now name nobody.
    pub n_changes: usize,
    /// What this did not touch, one sentence each: copies, and what servers keep.
    pub left: Vec<String>,
}

impl Mos {
    /// Erases a user, active or not, with everything that is theirs: cubes with memories, history, embeddings, vectors, caches,
    /// jobs, documents and logs; keys; shares; conversations; counted tokens; what the scheduler keeps of them in cubes of others. The
    /// embedded database is then rewritten, so that no byte of it stays.
    ///
    /// Other programs on the same data should have ended: what they still hold they would write again. After an error the same
    /// call goes on.
    ///
    /// # Errors
    /// An error for an unknown user and for `root`; errors of the stores.
    pub async fn erase_user(&self, user: &UserId, options: EraseOptions) -> Result<Erased> {
        // From now on nobody acts as the user.
        self.delete_user(user).await?;
        self.parts.embed_cache.clear();
        let mut erased = Erased {
            user_id: user.clone(),
            cubes: Vec::new(),
            n_memories: 0,
            shared: Vec::new(),
            n_jobs: 0,
            n_changes: 0,
            left: Vec::new(),
        };
        let (own, others): (Vec<Cube>, Vec<Cube>) =
            self.parts.users.cubes(None).await?.into_iter().partition(|cube| cube.owner_id == *user);
        for cube in own {
            let scope = Scope::of(&cube.cube_id);
            erased.n_memories += self.parts.record.count(&scope, &Filter::Everything).await?;
            self.remove_cube(&cube).await?;
            self.erase_vectors(&scope).await?;
            erased.cubes.push(cube.cube_id);
        }
        for cube in &others {
            self.leave_cube(cube, user).await?;
            let found = self.erase_in_cube_of_another(cube, user, options).await?;
            erased.shared.extend(found);
        }
        let mut cubes = erased.cubes.clone();
        // An earlier call may have come as far as this.
        let usual = default_cube_id(user);
        if !cubes.contains(&usual) && !others.iter().any(|other| other.cube_id == usual) {
            cubes.push(usual);
        }
        self.parts.usage.forget(user, &cubes)?;
        self.mask_in_audit(user, &cubes).await?;
        if let Some(store) = &self.parts.sqlite {
            let traces = store.erase_traces(user, &cubes, options.also_in_shared).await?;
            (erased.n_jobs, erased.n_changes) = (traces.n_jobs, traces.n_changes);
        }
        // Last: as long as the user is known, the same call goes on after an error.
        self.parts.users.erase_user(user).await?;
        if self.parts.sqlite.is_some() {
            self.compact().await.map_err(|error| {
                Error::Invalid(format!(
                    "user `{user}` is erased, but bytes of it stay in the database until it is rewritten: {error}; end other \
                     programs that use it, then run `mos doctor --compact`"
                ))
            })?;
        }
        erased.left = self.left_after_erasing(&erased).await?;
        Ok(erased)
    }

    /// Rewrites the embedded database so that no byte of what was removed stays in it; nothing where memories are on a server.
    ///
    /// # Errors
    /// A store error when other programs keep using it, or the disk is full.
    pub async fn compact(&self) -> Result<()> {
        match &self.parts.sqlite {
            Some(store) => Ok(store.compact().await?),
            None => Ok(()),
        }
    }

    /// As [`Mos::erase_user`], when `actor` may delete the user: see [`Mos::delete_user_as`].
    ///
    /// # Errors
    /// As [`Mos::erase_user`]; [`Error::UnknownUser`] for the actor; [`Error::NotAllowed`].
    pub async fn erase_user_as(&self, actor: &UserId, user: &UserId, options: EraseOptions) -> Result<Erased> {
        self.check_may_delete(actor, user).await?;
        self.erase_user(user, options).await
    }

    /// Takes the names out of the log of changes; that there was a change stays.
    async fn mask_in_audit(&self, user: &UserId, cubes: &[CubeId]) -> Result<()> {
        let folder = self.data_dir().join(AUDIT);
        let mut names = vec![user.to_string()];
        names.extend(cubes.iter().map(ToString::to_string));
        let masked = tokio::task::spawn_blocking(move || mask_in_files(&folder, &names)).await;
        match masked {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(Error::Invalid(format!("the log of changes cannot be rewritten: {error}"))),
            Err(error) => Err(Error::Invalid(format!("the log of changes was not rewritten: {error}"))),
        }
    }

    /// Brings an index of vectors to what the record holds.
    async fn erase_vectors(&self, scope: &Scope) -> Result<()> {
        if let Some(qdrant) = &self.parts.qdrant {
            qdrant.reconcile(scope, true).await?;
        }
        Ok(())
    }

    /// Removes what is kept for a user of somebody else's cube.
    async fn leave_cube(&self, cube: &Cube, user: &UserId) -> Result<()> {
        self.parts.activation.forget_promoted(cube, user).await?;
        let Some(state) = &self.parts.state else { return Ok(()) };
        let scope = Scope::of(&cube.cube_id);
        promoted::remove(state.as_ref(), &scope, user).await?;
        Ok(mos_scheduler::monitor::forget_user(state.as_ref(), &scope, user).await?)
    }

    async fn erase_in_cube_of_another(
        &self,
        cube: &Cube,
        user: &UserId,
        options: EraseOptions,
    ) -> Result<Option<InShared>> {
        let scope = Scope::of(&cube.cube_id);
        let filter = Filter::equals(USER_FIELD, user.as_str());
        let page = self.parts.record.list(&scope, &filter, Paging::ALL).await?;
        let memories: Vec<MemoryId> = page.entries.into_iter().map(|item| item.id).collect();
        if memories.is_empty() {
            return Ok(None);
        }
        if options.also_in_shared {
            // Caches tell what they were computed from.
            self.forget_promoted(cube).await?;
            for ids in memories.chunks(PAGE) {
                let origin = Origin::new(ACTOR, "erase_user");
                let batch = WriteBatch { delete: ids.to_vec(), ..WriteBatch::new(origin) };
                self.parts.record.apply(&scope, batch).await?;
            }
            if let Some(state) = &self.parts.state {
                mos_scheduler::monitor::forget(state.as_ref(), &scope, Some(&memories)).await?;
            }
            if let Some(store) = &self.parts.sqlite {
                store.erase_history(&scope, &memories).await?;
            }
            self.has_changed(&cube.cube_id);
            self.erase_vectors(&scope).await?;
        }
        let (cube_id, owner_id) = (cube.cube_id.clone(), cube.owner_id.clone());
        Ok(Some(InShared { cube_id, owner_id, memories, is_erased: options.also_in_shared }))
    }

    /// Tells what is out of reach.
    async fn left_after_erasing(&self, erased: &Erased) -> Result<Vec<String>> {
        let mut left = Vec::new();
        for other in erased.shared.iter().filter(|other| !other.is_erased) {
            left.push(format!(
                "cube `{}` of `{}` holds {} memories that the user wrote there",
                other.cube_id,
                other.owner_id,
                other.memories.len()
            ));
        }
        let data_dir = self.data_dir().to_owned();
        let copies = tokio::task::spawn_blocking(move || copies_in(&data_dir)).await;
        let copies =
            copies.map_err(|error| Error::Invalid(format!("the data folder was not looked at: {error}")))??;
        left.extend(copies.into_iter().map(|copy| format!("{copy} is a copy that was made earlier; remove it")));
        if self.parts.sqlite.is_none() {
            left.push(
                "servers keep the ids of deleted cubes, earlier states of memories in cubes of others, and logs that name the \
                 user, as long as those cubes exist; their own backups and logs are theirs"
                    .to_owned(),
            );
        }
        left.push(
            "backups that were made before hold the user; so do dumped and exported cubes, and logs of programs"
                .to_owned(),
        );
        Ok(left)
    }
}

/// Returns the copies of the database that lie in its folder.
fn copies_in(data_dir: &Path) -> Result<Vec<String>> {
    let entries = match std::fs::read_dir(data_dir) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => {
            entries.map_err(|error| Error::Invalid(format!("{} cannot be read: {error}", data_dir.display())))?
        }
    };
    let mut copies = Vec::new();
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.contains(".backup")
            || name.ends_with(".tar")
            || name.starts_with(".mos-backup-")
            || name.starts_with(".mos-restore-")
        {
            copies.push(entry.path().display().to_string());
        }
    }
    copies.sort();
    Ok(copies)
}
