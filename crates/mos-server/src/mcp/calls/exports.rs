//! Where cubes are dumped to: `exports/<user>/<name>` below the data folder, and nowhere else.

use std::path::{Path, PathBuf};

use mos::product::{ProductError, ProductResult};
use mos_core::UserId;

/// The most exports of one user.
const MAX_EXPORTS: usize = 32;

/// The longest name of a folder, in bytes.
const MAX_NAME_BYTES: usize = 64;

/// A folder that an export may be written to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Export {
    /// Where it is.
    pub(super) path: PathBuf,
    /// Where it is below the data folder, with `/` between the names.
    pub(super) shown: String,
}

/// Returns a folder for a new export of a user, and makes what it lies in.
///
/// # Errors
/// Status 400 for a name that is a path, is taken, or is one too many; status 500 when the disk refuses.
pub(super) async fn place(data_dir: &Path, user: &UserId, name: &str) -> ProductResult<Export> {
    check_name(name)?;
    let owner = folder_of(user);
    let shown = format!("exports/{owner}/{name}");
    let parent = data_dir.join("exports").join(owner);
    let path = parent.join(name);
    if tokio::fs::try_exists(&path).await.map_err(failed)? {
        return Err(ProductError::bad_value(format!("there is an export `{name}` already; give another name")));
    }
    tokio::fs::create_dir_all(&parent).await.map_err(failed)?;
    let mut entries = tokio::fs::read_dir(&parent).await.map_err(failed)?;
    let mut n_exports = 0;
    while entries.next_entry().await.map_err(failed)?.is_some() {
        n_exports += 1;
        if n_exports >= MAX_EXPORTS {
            return Err(ProductError::bad_value(format!(
                "there are {MAX_EXPORTS} exports of this user; have old ones removed from exports/ in the data folder first"
            )));
        }
    }
    Ok(Export { path, shown })
}

fn check_name(name: &str) -> ProductResult<()> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    let is_good = (1..=MAX_NAME_BYTES).contains(&name.len())
        && name.bytes().all(is_plain)
        && !name.starts_with('.')
        && !name.ends_with('.');
    if is_good {
        return Ok(());
    }
    Err(ProductError::bad_value(format!(
        "`dump_dir` is the name of a new folder, not a path: 1 to {MAX_NAME_BYTES} letters, digits, `-`, `_` and points (none \
         at its ends)"
    )))
}

/// A user's folder. An id may hold anything, so that only plain ones are names of folders.
fn folder_of(user: &UserId) -> String {
    let id = user.as_str();
    let is_plain = id.len() <= MAX_NAME_BYTES
        && id.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'_'));
    if is_plain { format!("user-{id}") } else { format!("hash-{}", blake3::hash(id.as_bytes()).to_hex()) }
}

fn failed(error: std::io::Error) -> ProductError {
    tracing::error!(%error, "the folder of exports cannot be used");
    ProductError::new(500, "the folder of exports cannot be used; the log of the server tells why")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_export_is_a_new_folder_below_the_data_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let ann = UserId::from("ann");
        let export = place(folder.path(), &ann, "monday-1.2").await.unwrap();
        assert_eq!(export.shown, "exports/user-ann/monday-1.2");
        assert_eq!(export.path, folder.path().join("exports").join("user-ann").join("monday-1.2"));
        for path in ["", ".", "..", "../x", "/tmp/x", "a/b", "a\\b", "C:x", ".hidden", "x.", "a\0b", "ä"] {
            let error = place(folder.path(), &ann, path).await.unwrap_err();
            assert_eq!((error.status, error.message.contains("not a path")), (400, true), "{path:?}");
        }
        std::fs::create_dir(&export.path).unwrap();
        assert!(place(folder.path(), &ann, "monday-1.2").await.unwrap_err().message.contains("another name"));
        let other = place(folder.path(), &UserId::from("../root"), "monday-1.2").await.unwrap();
        assert!(other.shown.starts_with("exports/hash-") && !other.shown.contains(".."), "{}", other.shown);
    }

    #[tokio::test]
    async fn a_user_has_a_bounded_number_of_exports() {
        let folder = tempfile::tempdir().unwrap();
        let ann = UserId::from("ann");
        for number in 0..MAX_EXPORTS {
            let export = place(folder.path(), &ann, &format!("n{number}")).await.unwrap();
            std::fs::create_dir(export.path).unwrap();
        }
        assert!(place(folder.path(), &ann, "more").await.unwrap_err().message.contains("32 exports"));
    }
}
