//! Zip archives whose content is bounded: entries, bytes of each and of all, how much larger a part is than packed.

use std::borrow::Cow;
use std::io::{Cursor, Read};

use zip::ZipArchive;
use zip::result::ZipError;

use super::{DocumentKind, ParseError, ParseLimits};

/// Parts up to this size may be packed to any degree.
const ANY_RATIO_BELOW: usize = 1 << 20;

/// How much is unpacked at once.
const STEP_BYTES: usize = 64 << 10;

/// Returns the names of the parts, or `None` when the list of parts cannot be read.
pub(super) fn names(bytes: &[u8]) -> Option<Vec<String>> {
    let archive = ZipArchive::new(Cursor::new(bytes)).ok()?;
    Some(archive.file_names().filter_map(Result::ok).map(Cow::into_owned).collect())
}

/// A packed file. What was unpacked of it counts, however often.
#[derive(Debug)]
pub(super) struct Archive<'a> {
    kind: DocumentKind,
    limits: &'a ParseLimits,
    zip: ZipArchive<Cursor<Vec<u8>>>,
    n_unpacked: usize,
}

impl<'a> Archive<'a> {
    /// # Errors
    /// [`ParseError::Corrupt`] when the list of parts cannot be read, [`ParseError::TooMuch`] when it is too long.
    pub(super) fn open(kind: DocumentKind, bytes: Vec<u8>, limits: &'a ParseLimits) -> Result<Self, ParseError> {
        let zip = ZipArchive::new(Cursor::new(bytes)).map_err(|error| damaged(kind, "its list of parts", &error))?;
        if zip.len() > limits.max_entries {
            return Err(ParseError::TooMuch { kind, what: "parts", limit: limits.max_entries });
        }
        Ok(Self { kind, limits, zip, n_unpacked: 0 })
    }

    /// Returns the bytes of a part, or `None` when there is no such part.
    ///
    /// # Errors
    /// [`ParseError::Corrupt`] when it cannot be unpacked, [`ParseError::TooMuch`] when it is too large,
    /// [`ParseError::Encrypted`] when it has a password.
    pub(super) fn read(&mut self, name: &str) -> Result<Option<Vec<u8>>, ParseError> {
        match self.zip.index_for_name(name) {
            Some(index) => self.unpack(index, true).map(Some),
            None => Ok(None),
        }
    }

    /// Returns the bytes of an image; `None` when there is no sound one of at most `max_bytes`.
    pub(super) fn read_image(&mut self, name: &str, max_bytes: usize) -> Option<Vec<u8>> {
        let index = self.zip.index_for_name(name)?;
        let size = self.zip.by_index(index).ok()?.size();
        let fits = usize::try_from(size).is_ok_and(|size| size <= max_bytes);
        if fits { self.unpack(index, true).ok() } else { None }
    }

    /// Unpacks every part and keeps none: afterwards a library may read the same bytes.
    ///
    /// # Errors
    /// As [`Archive::read`].
    pub(super) fn check(&mut self) -> Result<(), ParseError> {
        for index in 0..self.zip.len() {
            self.unpack(index, false)?;
        }
        Ok(())
    }

    fn unpack(&mut self, index: usize, keep: bool) -> Result<Vec<u8>, ParseError> {
        let kind = self.kind;
        let mut part = match self.zip.by_index(index) {
            Ok(part) => part,
            Err(ZipError::UnsupportedArchive(why)) if why == ZipError::PASSWORD_REQUIRED => {
                return Err(ParseError::Encrypted { kind: kind.as_str() });
            }
            Err(error) => return Err(damaged(kind, "a part", &error)),
        };
        let packed = usize::try_from(part.compressed_size()).unwrap_or(usize::MAX);
        let by_ratio = packed.saturating_mul(self.limits.max_ratio).max(ANY_RATIO_BELOW);
        let left = self.limits.max_unpacked_bytes.saturating_sub(self.n_unpacked);
        let mut step = vec![0; STEP_BYTES];
        let (mut out, mut n_read) = (Vec::new(), 0_usize);
        loop {
            let n = part
                .read(&mut step)
                .map_err(|error| ParseError::corrupt(kind, format!("a part cannot be unpacked ({error})")))?;
            if n == 0 {
                break;
            }
            n_read += n;
            if n_read > left {
                let limit = self.limits.max_unpacked_bytes;
                return Err(ParseError::TooMuch { kind, what: "bytes when it is unpacked", limit });
            }
            if n_read > by_ratio {
                let limit = self.limits.max_ratio;
                return Err(ParseError::TooMuch { kind, what: "times the bytes of a packed part in it", limit });
            }
            if keep {
                out.extend_from_slice(&step[..n]);
            }
        }
        drop(part);
        self.n_unpacked += n_read;
        Ok(out)
    }
}

fn damaged(kind: DocumentKind, what: &str, error: &ZipError) -> ParseError {
    ParseError::corrupt(kind, format!("{what} cannot be read ({error})"))
}
