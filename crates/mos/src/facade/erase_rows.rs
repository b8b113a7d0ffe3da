//! What is removed when a user is erased: rows and files, in the user's cubes and in those of others.

use mos_core::{Cube, CubeId, Filter, MemoryId, Origin, Paging, Scope, StoreError, UserId, WriteBatch};

use super::erase::{EraseOptions, Erased, InShared};
use super::erase_named::{self, NamedJobs};
use super::erase_notes::in_notes;
use super::{Mos, default_cube_id};
use crate::erasures::{self, Erasure, Note, Notes};
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

/// The folder of kept caches and prompts.
const ACTIVATION: &str = "activation";

impl Mos {
    /// Removes rows and files; what is gone already is no error.
    pub(super) async fn erase_rows(&self, erasure: &Erasure, notes: Option<&Notes>) -> Result<Erased> {
        let user = &erasure.user;
        let options = EraseOptions { also_in_shared: erasure.also_in_shared };
        self.parts.embed_cache.clear();
        let mut erased = Erased::nothing_of(user);
        let known = self.parts.users.cubes(None).await?;
        let others: Vec<&Cube> = known.iter().filter(|cube| cube.owner_id != *user).collect();
        for cube in &erasure.cubes {
            // Somebody else's since an earlier call removed it.
            if others.iter().any(|other| other.cube_id == cube.cube_id) {
                continue;
            }
            let scope = Scope::of(&cube.cube_id);
            match known.iter().find(|known| known.cube_id == cube.cube_id) {
                Some(cube) => {
                    erased.n_memories += self.parts.record.count(&scope, &Filter::Everything).await?;
                    self.remove_cube(cube).await?;
                }
                // An earlier call removed it, and perhaps not all that belongs to it.
                None => self.remove_rest_of(cube).await?,
            }
            self.erase_vectors(&scope).await?;
            erased.cubes.push(cube.cube_id.clone());
        }
        if let Some(notes) = notes
            && erasure.also_in_shared
            && !erasure.has_begun_in_shared
        {
            let begun = Note::Removing(Erasure { has_begun_in_shared: true, ..erasure.clone() });
            let path = notes.path_of(user);
            in_notes(notes, move |_| erasures::write(&path, &begun)).await?;
        }
        for cube in &others {
            self.leave_cube(cube, user).await?;
            let found = self.erase_in_cube_of_another(cube, user, options).await?;
            erased.shared.extend(found);
        }
        let cubes = with_usual(user, &erased.cubes, &known);
        self.parts.usage.forget(user, &cubes)?;
        self.mask_in_audit(user, &cubes).await?;
        if let Some(store) = &self.parts.sqlite {
            let traces = store.erase_traces(user, &cubes, options.also_in_shared).await?;
            let jobs = NamedJobs { n_removed: traces.n_jobs, n_at_work: traces.n_jobs_at_work, n_unseen: 0 };
            (erased.n_jobs, erased.n_changes) = (traces.n_jobs, traces.n_changes);
            erased.left.extend(jobs.left());
        } else {
            self.erase_named(user, &others, &mut erased).await?;
        }
        match self.parts.users.erase_user(user).await {
            // An earlier call came as far as this.
            Err(StoreError::NotFound { .. }) => Ok(erased),
            done => Ok(done.map(|()| erased)?),
        }
    }

    /// Removes what the data folder of this program holds of a user whom another program erased: where memories are on servers, each
    /// program has a folder of its own. Counted tokens go, the names of the user and of `cubes`, which were the user's, in the log
    /// of changes, what was promoted for the user in cubes of others, and damaged files of caches. Doing it again changes nothing.
    ///
    /// Other programs on the same folder should have ended, as for [`Mos::erase_user`].
    ///
    /// # Errors
    /// [`Error::Invalid`] for a user, or a cube, that is there; errors of files and stores.
    pub async fn erase_files(&self, user: &UserId, cubes: &[CubeId]) -> Result<Erased> {
        let _alone = match self.notes() {
            Some(notes) => Some(self.alone(&notes).await?),
            None => None,
        };
        if self.parts.users.known_user(user).await?.is_some() {
            return Err(Error::Invalid(format!(
                "the user `{user}` is not erased yet: erase it first, then what is in files"
            )));
        }
        let known = self.parts.users.cubes(None).await?;
        if let Some(cube) = cubes.iter().find(|cube| known.iter().any(|known| known.cube_id == **cube)) {
            return Err(Error::Invalid(format!("the cube `{cube}` is there; name those that went with the user")));
        }
        for cube in &known {
            self.parts.activation.forget_promoted(cube, user).await?;
        }
        let mut erased = Erased { cubes: with_usual(user, cubes, &known), ..Erased::nothing_of(user) };
        self.parts.usage.forget(user, &erased.cubes)?;
        self.mask_in_audit(user, &erased.cubes).await?;
        erased.left = self.remove_damaged_caches().await?;
        let activation = self.data_dir().join(ACTIVATION);
        if activation.is_dir() {
            erased.left.push(format!(
                "{} may hold what was kept of the user's own cubes, which cannot be told from that of others any more; remove the \
                 folder: everything in it can be computed again",
                activation.display()
            ));
        }
        Ok(erased)
    }

    /// Removes what names the user where jobs, documents and logs are not in the embedded database.
    async fn erase_named(&self, user: &UserId, others: &[&Cube], erased: &mut Erased) -> Result<()> {
        if let Some(queue) = &self.parts.queue {
            let jobs = erase_named::remove_jobs(queue.as_ref(), user).await?;
            erased.n_jobs = jobs.n_removed;
            erased.left.extend(jobs.left());
        }
        let Some(state) = &self.parts.state else { return Ok(()) };
        for cube in others {
            erase_named::remove_noted(state.as_ref(), &Scope::of(&cube.cube_id), user).await?;
        }
        Ok(())
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

    /// Removes what belongs to a cube that is gone itself: what an interrupted call had not come to.
    async fn remove_rest_of(&self, cube: &Cube) -> Result<()> {
        self.has_changed(&cube.cube_id);
        self.parts.activation.forget(cube).await
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
            // Before the memories go: afterwards nothing tells which they were, should this break off.
            if let Some(state) = &self.parts.state {
                mos_scheduler::monitor::forget(state.as_ref(), &scope, Some(&memories)).await?;
            }
            for ids in memories.chunks(PAGE) {
                let origin = Origin::new(ACTOR, "erase_user");
                let batch = WriteBatch { delete: ids.to_vec(), ..WriteBatch::new(origin) };
                self.parts.record.apply(&scope, batch).await?;
            }
            // Again, for what a turn brought there before they were gone.
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
}

/// Returns cubes that went with a user, and the one that a user gets without asking: deleted earlier, it may still be named.
fn with_usual(user: &UserId, cubes: &[CubeId], known: &[Cube]) -> Vec<CubeId> {
    let (mut cubes, usual) = (cubes.to_vec(), default_cube_id(user));
    let is_of_another = known.iter().any(|known| known.cube_id == usual && known.owner_id != *user);
    if !cubes.contains(&usual) && !is_of_another {
        cubes.push(usual);
    }
    cubes
}
