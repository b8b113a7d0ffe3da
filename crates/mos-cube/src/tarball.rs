//! Files as one tar archive that appears whole or not at all: what a cube's file and a backup are written with, and what both
//! read of one.

use std::fs::File;
use std::io::{BufWriter, Error, ErrorKind, Read, Write};
use std::path::Path;

use mos_core::MemoryError;
use tar::{Builder, EntryType, Header};

use crate::directory::{file_error, parent_of, sync_directory};

/// Bytes that are copied at a time.
pub(crate) const CHUNK_BYTES: usize = 1 << 16;

/// An archive that is being written.
pub(crate) struct Entries<'a> {
    builder: Builder<BufWriter<&'a mut File>>,
}

impl Entries<'_> {
    /// Appends a plain file of exactly `bytes` bytes.
    pub(crate) fn append(&mut self, name: &str, bytes: u64, content: impl Read) -> std::io::Result<()> {
        let mut header = Header::new_ustar();
        header.set_path(name)?;
        header.set_entry_type(EntryType::Regular);
        header.set_mode(0o600);
        // Neither users nor times of this machine: equal content is an equal file.
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_size(bytes);
        header.set_cksum();
        self.builder.append(&header, content)
    }
}

/// Refuses a path where something is already.
///
/// # Errors
/// [`MemoryError::File`].
pub fn check_free(file: &Path) -> Result<(), MemoryError> {
    if file.exists() {
        return Err(file_error(file, "exists already; give the path of a new file".to_owned()));
    }
    Ok(())
}

/// Writes an archive to a new file that only its owner can read (on Unix). `fill` appends what is in it; `check` looks at what
/// was written, before it has its name. After an error there is no file.
///
/// # Errors
/// [`MemoryError::File`] for a file that exists or cannot be written; what `check` finds.
pub(crate) fn write_archive(
    file: &Path,
    prefix: &str,
    fill: impl FnOnce(&mut Entries<'_>) -> std::io::Result<()>,
    check: impl FnOnce(&Path) -> Result<(), MemoryError>,
) -> Result<(), MemoryError> {
    check_free(file)?;
    let fail = |error: Error| file_error(file, format!("cannot write there: {error}"));
    let parent = parent_of(file);
    std::fs::create_dir_all(parent).map_err(fail)?;
    // Temporary files are readable by their owner alone.
    let mut staging = tempfile::Builder::new().prefix(prefix).tempfile_in(parent).map_err(fail)?;
    // As long as it is locked nobody takes it for what a process left that was stopped. Elsewhere locks would keep `check` out.
    #[cfg(unix)]
    match staging.as_file().lock() {
        Err(error) if error.kind() != std::io::ErrorKind::Unsupported => return Err(fail(error)),
        _ => {}
    }
    {
        let mut entries = Entries { builder: Builder::new(BufWriter::new(staging.as_file_mut())) };
        fill(&mut entries).map_err(fail)?;
        let mut writer = entries.builder.into_inner().map_err(fail)?;
        writer.flush().map_err(fail)?;
    }
    staging.as_file().sync_all().map_err(fail)?;
    check(staging.path())?;
    staging.persist_noclobber(file).map_err(|error| fail(error.error))?;
    sync_directory(parent).map_err(fail)
}

/// Returns the name of an entry that is a plain file of the `whole` (a word for people), by `is_within`; else what is wrong.
pub(crate) fn plain_name(header: &Header, whole: &str, is_within: impl Fn(&str) -> bool) -> Result<String, String> {
    let name = String::from_utf8(header.path_bytes().into_owned()).map_err(|_| "holds a name that is no text")?;
    if header.entry_type() != EntryType::Regular {
        return Err(format!("holds `{name}`, which is no plain file ({:?})", header.entry_type()));
    }
    if !is_within(&name) || name.contains('\\') {
        return Err(format!("holds a file outside the {whole}: `{name}`"));
    }
    Ok(name)
}

/// Reads exactly `bytes` and gives them to `take`, piece by piece.
pub(crate) fn copy_exactly(
    from: &mut impl Read,
    bytes: u64,
    mut take: impl FnMut(&[u8]) -> std::io::Result<()>,
) -> std::io::Result<()> {
    let mut chunk = vec![0; CHUNK_BYTES];
    let mut left = bytes;
    while left > 0 {
        let wanted = usize::try_from(left).unwrap_or(CHUNK_BYTES).min(CHUNK_BYTES);
        match from.read(&mut chunk[..wanted]) {
            Ok(0) => return Err(Error::new(ErrorKind::UnexpectedEof, "the file was cut off")),
            Ok(n_read) => {
                take(&chunk[..n_read])?;
                left -= n_read as u64;
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
