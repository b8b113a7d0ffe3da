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

/// The end of an archive stands in so many bytes: its record, and a comment of at most 64 KiB.
const END_WITHIN: usize = (64 << 10) + 64;

/// Returns how many parts the end of an archive tells, without reading the list of them, which may fill the memory. Where several
/// records may be the end, the most that one of them tells; `u64::MAX` when the record that counts is not where it should be.
pub(crate) fn n_told_parts(bytes: &[u8]) -> u64 {
    let first = bytes.len().saturating_sub(END_WITHIN);
    let ends = (first..bytes.len()).filter(|at| bytes[*at..].starts_with(b"PK\x05\x06"));
    let counts = ends.map(|at| {
        let short = bytes.get(at + 10..at + 12).map_or(0, number);
        // Large archives have a longer record, and before their end where that is.
        let locator = at.checked_sub(20).map(|start| &bytes[start..at]).filter(|part| part.starts_with(b"PK\x06\x07"));
        let Some(locator) = locator else { return short };
        let place = usize::try_from(number(&locator[8..16])).ok();
        let record = place.and_then(|place| bytes.get(place..)).filter(|record| record.starts_with(b"PK\x06\x06"));
        record.and_then(|record| record.get(32..40)).map_or(u64::MAX, |count| number(count).max(short))
    });
    counts.max().unwrap_or(0)
}

/// A number of at most eight bytes, the lowest first.
fn number(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |sum, byte| (sum << 8) | u64::from(*byte))
}

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
        if n_told_parts(&bytes) > limits.max_entries as u64 {
            return Err(ParseError::TooMuch { kind, what: "parts", limit: limits.max_entries });
        }
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

#[cfg(test)]
mod tests {
    use zip::write::SimpleFileOptions;
    use zip::{CompressionMethod, ZipWriter};

    use super::*;

    fn packed(n_parts: usize, comment: &str) -> Vec<u8> {
        let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
        let options = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
        for number in 0..n_parts {
            writer.start_file(format!("word/{number}"), options).unwrap();
        }
        let mut bytes = writer.finish().unwrap().into_inner();
        // The length of the comment is the last of the record.
        let at = bytes.len() - 2;
        bytes[at..].copy_from_slice(&u16::try_from(comment.len()).unwrap().to_le_bytes());
        bytes.extend(comment.bytes());
        bytes
    }

    #[test]
    fn parts_are_counted_without_the_list_of_them() {
        for (n_parts, comment) in [(0, ""), (3, ""), (300, "a comment"), (70_000, "")] {
            let bytes = packed(n_parts, comment);
            assert_eq!(n_told_parts(&bytes), n_parts as u64, "{comment}");
            assert_eq!(names(&bytes).unwrap().len(), n_parts);
        }
        assert_eq!(n_told_parts(b"PK"), 0);
        let limits = ParseLimits { max_entries: 2, ..ParseLimits::default() };
        let error = Archive::open(DocumentKind::Docx, packed(3, ""), &limits).unwrap_err();
        assert!(matches!(error, ParseError::TooMuch { what: "parts", limit: 2, .. }), "{error}");
    }

    #[test]
    fn a_record_that_is_not_where_it_should_be_counts_as_too_many() {
        let mut bytes = packed(70_000, "");
        // Where the longer record is told to be.
        let at = bytes.len() - 22 - 20 + 8;
        bytes[at..at + 8].copy_from_slice(&1_u64.to_le_bytes());
        assert_eq!(n_told_parts(&bytes), u64::MAX);
    }
}
