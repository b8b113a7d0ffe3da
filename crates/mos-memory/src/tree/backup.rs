//! Backups: dated folders, of which the newest are kept.

use std::path::{Path, PathBuf};

use mos_core::{BackUp, MemoryError, MemoryItem, Origin, WriteBatch};

use super::TreeText;
use crate::file::{blocking, file_error};

/// What the names of backup folders begin with.
const PREFIX: &str = "memos_backup_";

/// How many backups may be made within one second.
const MAX_PER_SECOND: u32 = 1000;

impl TreeText {
    /// Dumps the memory to a new dated folder, removes the oldest ones, and then what is in the dump from the cube.
    pub(super) async fn dump_and_remove(
        &self,
        dir: &Path,
        keep_last_n: usize,
        origin: Origin,
    ) -> Result<BackUp, MemoryError> {
        if keep_last_n == 0 {
            let text = "a backup that keeps no backup would lose everything; keep at least the last one";
            return Err(MemoryError::Invalid(text.to_owned()));
        }
        let time = self.shelf().clock.now().strftime("%Y%m%d_%H%M%S").to_string();
        let staging = dir.join(format!(".{PREFIX}{time}_{}.tmp", self.ids.next_uuid()));
        let items = match self.write_dump(&staging).await {
            Ok(items) => items,
            Err(error) => {
                discard(staging).await;
                return Err(error);
            }
        };
        let (dir, staged) = (dir.to_owned(), staging);
        let (folder, pruned) = blocking(move || {
            sync_folder(&staged)?;
            let folder = move_into_place(&staged, &dir, &time)?;
            sync_folder(&dir)?;
            let pruned = prune(&dir, &folder, keep_last_n)?;
            Ok((folder, pruned))
        })
        .await?;
        let n_memories = items.len();
        self.remove_dumped(items, origin).await?;
        Ok(BackUp { folder, n_memories, pruned })
    }

    /// Removes memories as they were dumped, all or none.
    async fn remove_dumped(&self, items: Vec<MemoryItem>, origin: Origin) -> Result<(), MemoryError> {
        if !items.is_empty() {
            let delete = items.iter().map(|item| item.id.clone()).collect();
            let batch = WriteBatch { unchanged: items, delete, ..WriteBatch::new(origin) };
            self.record().apply(self.scope(), batch).await?;
        }
        Ok(())
    }
}

/// Removes what an unfinished backup has left. That it failed is what its caller is told.
async fn discard(staging: PathBuf) {
    let remove = move || match std::fs::remove_dir_all(&staging) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(file_error(&staging, format!("an unfinished backup is left over; remove it: {error}")))
        }
        _ => Ok(()),
    };
    if let Err(error) = blocking(remove).await {
        tracing::warn!(%error);
    }
}

/// Gives a finished folder its name; of several within one second, the later ones get a number.
fn move_into_place(staged: &Path, dir: &Path, time: &str) -> Result<PathBuf, MemoryError> {
    for number in 1..=MAX_PER_SECOND {
        let name = if number == 1 { format!("{PREFIX}{time}") } else { format!("{PREFIX}{time}_{number}") };
        let folder = dir.join(name);
        if folder.exists() {
            continue;
        }
        return match std::fs::rename(staged, &folder) {
            Ok(()) => Ok(folder),
            Err(error) => Err(file_error(&folder, format!("cannot finish the backup: {error}"))),
        };
    }
    Err(file_error(dir, format!("holds {MAX_PER_SECOND} backups of one second; wait a moment and try again")))
}

/// Removes the oldest backups beyond `keep`, never `new`, and returns them.
fn prune(dir: &Path, new: &Path, keep: usize) -> Result<Vec<PathBuf>, MemoryError> {
    let fail = |error: std::io::Error| file_error(dir, format!("cannot remove old backups: {error}"));
    let mut backups = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(fail)? {
        let path = entry.map_err(fail)?.path();
        let place = path.file_name().and_then(|name| name.to_str()).and_then(place_in_time);
        if let Some(place) = place.filter(|_| path != *new && path.is_dir()) {
            backups.push((place, path));
        }
    }
    backups.sort();
    let n_old = backups.len().saturating_sub(keep - 1);
    let mut pruned = Vec::with_capacity(n_old);
    for (_, path) in backups.into_iter().take(n_old) {
        std::fs::remove_dir_all(&path).map_err(fail)?;
        pruned.push(path);
    }
    Ok(pruned)
}

/// Returns day, time and number of a backup by the name of its folder; `None` for any other name.
fn place_in_time(name: &str) -> Option<(u32, u32, u32)> {
    let mut parts = name.strip_prefix(PREFIX)?.split('_');
    let mut part = |n_digits: usize| {
        let text = parts.next()?;
        let is_number = text.bytes().all(|byte| byte.is_ascii_digit()) && !text.is_empty();
        if is_number && (n_digits == 0 || text.len() == n_digits) { text.parse().ok() } else { None }
    };
    let (day, time) = (part(8)?, part(6)?);
    let number = part(0);
    let place = (day, time, number.unwrap_or(1));
    // Nothing else may stand in the name.
    let again = match number {
        None => format!("{PREFIX}{day:08}_{time:06}"),
        Some(number) => format!("{PREFIX}{day:08}_{time:06}_{number}"),
    };
    (again == name).then_some(place)
}

/// Has the names in a folder on disk before the call returns.
fn sync_folder(folder: &Path) -> Result<(), MemoryError> {
    if cfg!(unix) {
        let synced = std::fs::File::open(folder).and_then(|folder| folder.sync_all());
        synced.map_err(|error| file_error(folder, format!("cannot finish the backup: {error}")))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_folders_that_are_backups_are_taken_for_some() {
        assert_eq!(place_in_time("memos_backup_20260102_030405"), Some((20_260_102, 30_405, 1)));
        assert_eq!(place_in_time("memos_backup_20260102_030405_12"), Some((20_260_102, 30_405, 12)));
        for name in [
            "memos_backup_20260102",
            "memos_backup_20260102_030405_",
            "memos_backup_20260102_030405_2_3",
            "memos_backup_20260102_030405_x",
            "memos_backup_2026010_030405",
            "memos_backup_20260102_030405 (copy)",
            "backup_20260102_030405",
            "memos_backup_",
        ] {
            assert_eq!(place_in_time(name), None, "{name}");
        }
    }

    #[test]
    fn the_oldest_backups_go_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let make = |name: &str| {
            let path = dir.path().join(name);
            std::fs::create_dir(&path).unwrap();
            path
        };
        let [old, older, other] =
            ["memos_backup_20250102_000000", "memos_backup_20240102_000000", "memos_backup_notes"].map(make);
        let new = make("memos_backup_20260102_000000");
        assert_eq!(prune(dir.path(), &new, 2).unwrap(), std::slice::from_ref(&older));
        assert!(old.is_dir() && other.is_dir() && new.is_dir() && !older.exists());
        assert_eq!(prune(dir.path(), &new, 1).unwrap(), [old]);
    }

    #[test]
    fn backups_of_one_second_get_numbers() {
        let dir = tempfile::tempdir().unwrap();
        for expected in ["memos_backup_20260102_030405", "memos_backup_20260102_030405_2"] {
            let staged = dir.path().join(".staged");
            std::fs::create_dir(&staged).unwrap();
            assert_eq!(move_into_place(&staged, dir.path(), "20260102_030405").unwrap(), dir.path().join(expected));
        }
    }
}
