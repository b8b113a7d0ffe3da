//! Files of kept caches that belong to nobody's list, because they do not say whose they are.

use mos_kv::UnreadableFile;

use super::Mos;
use crate::error::Result;

impl Mos {
    /// Returns the files of kept caches whose heads cannot be read, by name. They may hold texts of anybody, and no cube's list
    /// shows them. No model is loaded.
    ///
    /// # Errors
    /// [`Error::Memory`](crate::Error::Memory) when the folder cannot be listed.
    pub async fn unreadable_caches(&self) -> Result<Vec<UnreadableFile>> {
        let mut files = Vec::new();
        for caches in self.parts.activation.caches() {
            files.extend(caches.unreadable().await?);
        }
        Ok(files)
    }

    /// Removes a damaged file of kept caches by its name, whosever it is: nobody can use it any more. Returns whether it was there.
    ///
    /// # Errors
    /// [`Error::Memory`](crate::Error::Memory) for a file that is not damaged, that a newer program wrote, or that cannot be
    /// removed.
    pub async fn remove_unreadable_cache(&self, name: &str) -> Result<bool> {
        let mut is_removed = false;
        for caches in self.parts.activation.caches() {
            is_removed |= caches.remove_unreadable(name.to_owned()).await?;
        }
        Ok(is_removed)
    }

    /// Removes all damaged files of kept caches, which may hold texts of anybody, and returns a sentence for each file that cannot
    /// be read and stays.
    pub(super) async fn remove_damaged_caches(&self) -> Result<Vec<String>> {
        let mut left = Vec::new();
        for file in self.unreadable_caches().await? {
            let stays = match file.is_removable {
                true => self.remove_unreadable_cache(&file.name).await.err().map(|error| error.to_string()),
                false => Some(file.detail),
            };
            left.extend(stays.map(|why| {
                format!("{} cannot be read, and may hold texts of the user ({why}); remove it", file.path.display())
            }));
        }
        Ok(left)
    }
}
