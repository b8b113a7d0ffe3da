//! Erasing a user: everything that is theirs goes, and nothing brings it back.

use std::io;
use std::path::{Path, PathBuf};

use mos_config::StoreConfig;
use mos_core::{Cube, CubeId, Filter, MemoryId, Origin, Paging, Scope, StoreError, User, UserId, UserRole, WriteBatch};
use serde::Serialize;

use super::{Mos, default_cube_id};
use crate::erasures::{self, Alone, Erasure, Note, Notes};
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

impl Erased {
    fn nothing_of(user: &UserId) -> Self {
        Self {
            user_id: user.clone(),
            cubes: Vec::new(),
            n_memories: 0,
            shared: Vec::new(),
            n_jobs: 0,
            n_changes: 0,
            left: Vec::new(),
        }
    }
}

impl Mos {
    /// Erases a user, active or not, with everything that is theirs: cubes with memories, history, embeddings, vectors, caches,
    /// jobs, documents and logs; keys; shares; conversations; counted tokens; what the scheduler keeps of them in cubes of others. The
    /// embedded database is then rewritten, so that no byte of it stays.
    ///
    /// What goes is noted in the data folder before the first of it does: after an error or a crash the same call goes on, and so
    /// does whoever opens the data next ([`MosBuilder::build`](crate::MosBuilder::build)). Numbers tell what the last call met. It
    /// is over when the user is brought back. A call with other options goes on with its own, unless cubes of others were begun with.
    ///
    /// Other programs on the same data should have ended: what they still hold they would write again.
    ///
    /// # Errors
    /// An error for an unknown user and for `root`; errors of the stores.
    pub async fn erase_user(&self, user: &UserId, options: EraseOptions) -> Result<Erased> {
        let Some(notes) = self.notes() else {
            // Nothing outlives this program that could have to be finished.
            let made_at = self.deactivate(user).await?;
            let erasure = self.erasure_of(user, made_at, options).await?;
            let erased = self.erase_rows(&erasure, None).await?;
            return self.erase_bytes(erased).await;
        };
        let _alone = self.alone(&notes).await?;
        let earlier = self.note_of(&notes, user).await?;
        let known = self.parts.users.known_user(user).await?;
        if let (None, Some(note)) = (&known, &earlier) {
            return self.go_on_erasing(&notes, user, note.clone()).await;
        }
        // From now on nobody acts as the user.
        let made_at = self.deactivate(user).await?;
        let mut erasure = self.erasure_of(user, made_at, options).await?;
        if let Some(Note::Removing(earlier)) = earlier
            && earlier.made_at == erasure.made_at
        {
            // What was asked for earlier holds once some of it was done, unless the user came back since.
            if earlier.has_begun_in_shared && known.is_some_and(|known| !known.is_active) {
                (erasure.also_in_shared, erasure.has_begun_in_shared) = (true, true);
            }
            let is_new = |cube: &Cube| !erasure.cubes.iter().any(|known| known.cube_id == cube.cube_id);
            let gone: Vec<Cube> = earlier.cubes.into_iter().filter(is_new).collect();
            erasure.cubes.extend(gone);
        }
        let note = Note::Removing(erasure);
        let (path, written) = (notes.path_of(user), note.clone());
        in_notes(&notes, move |_| erasures::write(&path, &written)).await?;
        self.go_on_erasing(&notes, user, note).await
    }

    /// Finishes what an earlier program began to erase, unless another one does. What cannot be finished now is left to the next
    /// call.
    pub(crate) async fn finish_erasing(&self) {
        if let Err(error) = self.finish_noted().await {
            tracing::error!(
                %error,
                "an erasure that was interrupted cannot be finished now; the next start tries again, and so does `mos user erase`"
            );
        }
    }

    async fn finish_noted(&self) -> Result<()> {
        let Some(notes) = self.notes() else { return Ok(()) };
        // Mostly there is nothing, and nothing is made then.
        if !in_notes(&notes, Notes::has_any).await? {
            return Ok(());
        }
        let Some(_alone) = in_notes(&notes, Notes::try_alone).await? else { return Ok(()) };
        for (path, note) in in_notes(&notes, Notes::all).await? {
            // Of other stores that the data folder was used with: they are not open here.
            if !self.is_of_this_store(&note) {
                tracing::warn!(
                    store = note.store(),
                    "an erasure that was interrupted is of another store, and is finished when that is opened"
                );
                continue;
            }
            // One that cannot be finished keeps no other from it.
            match self.finish_one(&notes, path, note).await {
                Ok(()) => tracing::warn!("an erasure that was interrupted is finished"),
                Err(error) => tracing::error!(
                    %error,
                    "an erasure that was interrupted cannot be finished now; the next start tries again, and so does \
                     `mos user erase`"
                ),
            }
        }
        Ok(())
    }

    async fn finish_one(&self, notes: &Notes, path: PathBuf, note: Note) -> Result<()> {
        if let Note::Removing(erasure) = note {
            match self.parts.users.known_user(&erasure.user).await? {
                // All rows were gone when somebody else could take the name.
                Some(known) if known.created_at != erasure.made_at => {}
                Some(known) if known.is_active => {
                    tracing::warn!("a user whose erasure was interrupted was brought back, and is not erased");
                }
                _ => {
                    let user = erasure.user.clone();
                    return self.go_on_erasing(notes, &user, Note::Removing(erasure)).await.map(drop);
                }
            }
            // Nobody is to be erased any more, also when this breaks off; bytes of what went are.
            let (path, note) = (path.clone(), Note::Rewriting { store: erasure.store });
            in_notes(notes, move |_| erasures::write(&path, &note)).await?;
        }
        self.compact().await?;
        in_notes(notes, move |_| erasures::remove(&path)).await
    }

    /// Makes a user, or brings one back, whose erasure is over then if it was interrupted: nobody is erased later for what was
    /// asked before.
    pub(super) async fn make_user(&self, id: &UserId, name: &str, role: UserRole) -> Result<User> {
        let users = &self.parts.users;
        let Some(notes) = self.notes() else { return Ok(users.create_user(id, name, role).await?) };
        // Whoever is being erased right now is gone first.
        let mut alone = if is_noted(&notes, id).await? { Some(self.alone(&notes).await?) } else { None };
        let user = users.create_user(id, name, role).await?;
        // Who is brought back by the name may have another id.
        if is_noted(&notes, &user.user_id).await? {
            if alone.is_none() {
                alone = Some(self.alone(&notes).await?);
            }
            let is_back = users.user(&user.user_id).await?.is_some();
            if is_back && let Some(Note::Removing(erasure)) = self.note_of(&notes, &user.user_id).await? {
                tracing::warn!("a user whose erasure was interrupted is brought back, and is not erased");
                // Bytes of what went already are still to go.
                let (path, note) = (notes.path_of(&user.user_id), Note::Rewriting { store: erasure.store });
                in_notes(&notes, move |_| erasures::write(&path, &note)).await?;
            }
        }
        drop(alone);
        Ok(user)
    }

    /// Returns the note about a user, when it is about this store and can be read.
    async fn note_of(&self, notes: &Notes, user: &UserId) -> Result<Option<Note>> {
        let meant = user.clone();
        match in_notes(notes, move |notes| notes.read(&meant)).await {
            Ok(note) => Ok(note.filter(|note| self.is_of_this_store(note))),
            Err(error) => {
                tracing::error!(%error, "what was noted of an earlier erasure cannot be read, and is not heeded");
                Ok(None)
            }
        }
    }

    fn is_of_this_store(&self, note: &Note) -> bool {
        note.store() == self.noted_store() || note.store() == self.parts.store_name
    }

    /// How notes name the store. A data folder may be spelled in several ways, and be moved.
    fn noted_store(&self) -> String {
        let Some(store) = &self.parts.sqlite else { return self.parts.store_name.clone() };
        let canonical = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
        let (folder, path) = (canonical(self.data_dir()), canonical(store.path()));
        path.strip_prefix(&folder).unwrap_or(&path).display().to_string()
    }

    /// Erases what a note tells, and removes the note.
    async fn go_on_erasing(&self, notes: &Notes, user: &UserId, note: Note) -> Result<Erased> {
        let path = notes.path_of(user);
        let erased = match note {
            Note::Removing(erasure) => {
                let erased = self.erase_rows(&erasure, Some(notes)).await?;
                let (path, note) = (path.clone(), Note::Rewriting { store: erasure.store });
                in_notes(notes, move |_| erasures::write(&path, &note)).await?;
                erased
            }
            Note::Rewriting { .. } => Erased::nothing_of(user),
        };
        let erased = self.erase_bytes(erased).await?;
        in_notes(notes, move |_| erasures::remove(&path)).await?;
        Ok(erased)
    }

    /// Returns where is noted what is being erased; `None` when everything ends with this program.
    fn notes(&self) -> Option<Notes> {
        let is_kept = !matches!(self.parts.settings.store, StoreConfig::Memory(_));
        is_kept.then(|| Notes::of(self.data_dir()))
    }

    async fn alone(&self, notes: &Notes) -> Result<Alone> {
        in_notes(notes, Notes::alone).await
    }

    /// Deactivates a user and returns when it was made, as far as the store can tell.
    async fn deactivate(&self, user: &UserId) -> Result<String> {
        let known = self.parts.users.known_user(user).await?;
        self.delete_user(user).await?;
        Ok(known.map_or_else(String::new, |known| known.created_at))
    }

    /// Returns what is to be removed.
    async fn erasure_of(&self, user: &UserId, made_at: String, options: EraseOptions) -> Result<Erasure> {
        let mut cubes = self.parts.users.cubes(None).await?;
        cubes.retain(|cube| cube.owner_id == *user);
        let (store, user, also_in_shared) = (self.noted_store(), user.clone(), options.also_in_shared);
        Ok(Erasure { store, user, made_at, also_in_shared, has_begun_in_shared: false, cubes })
    }

    /// Removes rows and files; what is gone already is no error.
    async fn erase_rows(&self, erasure: &Erasure, notes: Option<&Notes>) -> Result<Erased> {
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
        let mut cubes = erased.cubes.clone();
        // Deleted earlier, it may still be named.
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
        match self.parts.users.erase_user(user).await {
            // An earlier call came as far as this.
            Err(StoreError::NotFound { .. }) => Ok(erased),
            done => Ok(done.map(|()| erased)?),
        }
    }

    /// Rewrites the embedded database, and tells what is out of reach.
    async fn erase_bytes(&self, mut erased: Erased) -> Result<Erased> {
        if self.parts.sqlite.is_some() {
            self.compact().await.map_err(|error| {
                Error::Invalid(format!(
                    "user `{}` is erased, but bytes of it stay in the database until it is rewritten: {error}; end other \
                     programs that use it, then run `mos doctor --compact`",
                    erased.user_id
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

    /// Removes what belongs to a cube that is gone itself: what an interrupted call had not come to.
    async fn remove_rest_of(&self, cube: &Cube) -> Result<()> {
        self.has_changed(&cube.cube_id);
        self.forget_work_of_deleted(&cube.cube_id).await?;
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

async fn is_noted(notes: &Notes, user: &UserId) -> Result<bool> {
    let path = notes.path_of(user);
    in_notes(notes, move |_| path.try_exists()).await
}

/// Reads or writes notes where that is allowed.
async fn in_notes<T: Send + 'static>(
    notes: &Notes,
    work: impl FnOnce(&Notes) -> io::Result<T> + Send + 'static,
) -> Result<T> {
    let notes = notes.clone();
    match tokio::task::spawn_blocking(move || work(&notes)).await {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(error)) => Err(Error::Invalid(format!("what is being erased cannot be noted: {error}"))),
        Err(error) => Err(Error::Invalid(format!("what is being erased was not noted: {error}"))),
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
