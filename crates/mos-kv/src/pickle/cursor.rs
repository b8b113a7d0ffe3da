//! Reads a byte slice from front to back; whatever lies beyond its end is an error.

use super::error::PickleError;

/// A place in a byte slice.
#[derive(Clone, Debug)]
pub(super) struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// Returns the number of bytes read so far.
    pub(super) fn offset(&self) -> usize {
        self.at
    }

    /// Returns the number of bytes that are left.
    pub(super) fn rest(&self) -> usize {
        self.bytes.len() - self.at
    }

    pub(super) fn take(&mut self, len: usize, what: &'static str) -> Result<&'a [u8], PickleError> {
        let end = self.at.checked_add(len).filter(|end| *end <= self.bytes.len());
        let Some(end) = end else {
            return Err(PickleError::Truncated { what, offset: self.at });
        };
        let taken = &self.bytes[self.at..end];
        self.at = end;
        Ok(taken)
    }

    pub(super) fn array<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], PickleError> {
        let mut result = [0; N];
        result.copy_from_slice(self.take(N, what)?);
        Ok(result)
    }

    pub(super) fn u8(&mut self, what: &'static str) -> Result<u8, PickleError> {
        Ok(self.array::<1>(what)?[0])
    }

    /// Reads a line and its end; the result is without the end.
    pub(super) fn line(&mut self, what: &'static str) -> Result<&'a [u8], PickleError> {
        let start = self.at;
        let rest = &self.bytes[start..];
        let Some(len) = rest.iter().position(|byte| *byte == b'\n') else {
            return Err(PickleError::Truncated { what, offset: start });
        };
        self.at = start + len + 1;
        Ok(&rest[..len])
    }

    /// Reads a length of four bytes and as many bytes as it says.
    pub(super) fn counted_u32(&mut self, what: &'static str) -> Result<&'a [u8], PickleError> {
        let len = u32::from_le_bytes(self.array(what)?);
        self.counted(u64::from(len), what)
    }

    /// Reads a length of eight bytes and as many bytes as it says.
    pub(super) fn counted_u64(&mut self, what: &'static str) -> Result<&'a [u8], PickleError> {
        let len = u64::from_le_bytes(self.array(what)?);
        self.counted(len, what)
    }

    /// Reads a length of one byte and as many bytes as it says.
    pub(super) fn counted_u8(&mut self, what: &'static str) -> Result<&'a [u8], PickleError> {
        let len = self.u8(what)?;
        self.take(usize::from(len), what)
    }

    fn counted(&mut self, len: u64, what: &'static str) -> Result<&'a [u8], PickleError> {
        match usize::try_from(len) {
            Ok(len) => self.take(len, what),
            Err(_) => Err(PickleError::Truncated { what, offset: self.at }),
        }
    }
}
