//! Erasures that broke off: finished, or over because the user is brought back.

use std::io;
use std::path::{Path, PathBuf};

use mos_config::StoreConfig;
use mos_core::{User, UserId, UserRole};

use super::Mos;
use crate::erasures::{self, Alone, Note, Notes};
use crate::error::{Error, Result};

impl Mos {
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
    pub(super) async fn note_of(&self, notes: &Notes, user: &UserId) -> Result<Option<Note>> {
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
    pub(super) fn noted_store(&self) -> String {
        let Some(store) = &self.parts.sqlite else { return self.parts.store_name.clone() };
        let canonical = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
        let (folder, path) = (canonical(self.data_dir()), canonical(store.path()));
        path.strip_prefix(&folder).unwrap_or(&path).display().to_string()
    }

    /// Returns where is noted what is being erased; `None` when everything ends with this program.
    pub(super) fn notes(&self) -> Option<Notes> {
        let is_kept = !matches!(self.parts.settings.store, StoreConfig::Memory(_));
        is_kept.then(|| Notes::of(self.data_dir()))
    }

    pub(super) async fn alone(&self, notes: &Notes) -> Result<Alone> {
        in_notes(notes, Notes::alone).await
    }
}

async fn is_noted(notes: &Notes, user: &UserId) -> Result<bool> {
    let path = notes.path_of(user);
    in_notes(notes, move |_| path.try_exists()).await
}

/// Reads or writes notes where that is allowed.
pub(super) async fn in_notes<T: Send + 'static>(
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
