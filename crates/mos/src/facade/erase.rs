//! Erasing a user: everything that is theirs goes, and nothing brings it back.

use std::path::Path;

use mos_core::{Cube, CubeId, MemoryId, UserId};
use serde::Serialize;

use super::Mos;
use super::erase_notes::in_notes;
use crate::backup::{STAGING, backups_of};
use crate::database_files::database_copies;
use crate::erasures::{self, Erasure, Note, Notes};
use crate::error::{Error, Result};

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
    /// What this did not touch, one sentence each: copies, jobs that are being worked on, what servers keep, and data folders of
    /// other programs.
    pub left: Vec<String>,
}

impl Erased {
    pub(super) fn nothing_of(user: &UserId) -> Self {
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
    /// jobs, documents and logs; keys; shares; conversations; counted tokens; what the scheduler keeps of them in cubes of others.
    /// Damaged files of caches, which may be theirs, go as well, whosever they were. The embedded database is then rewritten, so
    /// that no byte of it stays.
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

    /// Erases what a note tells, and removes the note.
    pub(super) async fn go_on_erasing(&self, notes: &Notes, user: &UserId, note: Note) -> Result<Erased> {
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
        let unreadable = self.remove_damaged_caches().await?;
        let left = self.left_after_erasing(&erased).await?;
        erased.left.splice(0..0, unreadable);
        erased.left.extend(left);
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
        let (data_dir, database) = (self.data_dir().to_owned(), self.database().map(Path::to_owned));
        let told = tokio::task::spawn_blocking(move || copies_in(&data_dir, database.as_deref())).await;
        left.extend(told.map_err(|error| Error::Invalid(format!("the data folder was not looked at: {error}")))??);
        if self.parts.sqlite.is_none() {
            left.push(
                "servers keep the ids of deleted cubes, and in cubes of others earlier states of memories and the user's name on \
                 changes, as long as those cubes exist; their own backups and logs are theirs"
                    .to_owned(),
            );
        }
        // What is in memory has neither.
        if self.parts.sqlite.is_none() && self.notes().is_some() {
            left.push(
                "jobs that Neo4j keeps as long as the queue takes none were not looked at; those that name the user come to the \
                 queue later, and go when they are done"
                    .to_owned(),
            );
            left.push(
                "data folders of other programs that use the same servers were not reached: counted tokens (`usage`), the log of \
                 changes (`audit`) and kept caches (`activation`) there may name the user or hold texts of the user; run `mos \
                 user erase --files-only` with each of them"
                    .to_owned(),
            );
        }
        left.push(
            "backups that this data folder does not list, because they were moved or copied or are of a time before there was a \
             list, hold the user; so do dumped and exported cubes, and logs of programs"
                .to_owned(),
        );
        Ok(left)
    }
}

/// Tells of the copies of the database that lie in the folder of the data, and beside the database where that is elsewhere, and of
/// the backups that are still where they were written, one sentence each.
fn copies_in(data_dir: &Path, database: Option<&Path>) -> Result<Vec<String>> {
    let unreadable =
        |folder: &Path, error: std::io::Error| Error::Invalid(format!("{} cannot be read: {error}", folder.display()));
    let mut copies = Vec::new();
    let backups = backups_of(data_dir).map_err(|error| unreadable(data_dir, error))?;
    if let Some(database) = database {
        let beside = database_copies(database).map_err(|error| unreadable(database, error))?;
        copies.extend(beside.into_iter().map(|copy| copy.display().to_string()));
    }
    let entries = match std::fs::read_dir(data_dir) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        entries => Some(entries.map_err(|error| unreadable(data_dir, error))?),
    };
    for entry in entries.into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let is_of_backup = STAGING.iter().any(|staging| name.starts_with(*staging));
        if is_of_backup || name.contains(".backup") || name.ends_with(".tar") {
            copies.push(entry.path().display().to_string());
        }
    }
    copies.sort();
    copies.dedup();
    // The data folder may be named from where the program is.
    let is_listed =
        |copy: &String| std::path::absolute(copy).is_ok_and(|copy| backups.iter().any(|backup| backup.file == copy));
    copies.retain(|copy| !is_listed(copy));
    let mut told: Vec<String> =
        copies.into_iter().map(|copy| format!("{copy} is a copy that was made earlier; remove it")).collect();
    told.extend(backups.into_iter().map(|backup| {
        format!("{} is a backup of {}, and may still hold the user; remove it", backup.file.display(), backup.at)
    }));
    Ok(told)
}
