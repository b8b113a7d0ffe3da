//! A look at the settings of a GGUF file before candle reads them: what candle would fail on without an error.

/// How deeply arrays may lie in each other; candle refuses more.
const MAX_DEPTH: usize = 64;
/// The first version whose lengths have eight bytes.
const WIDE_VERSION: u32 = 2;

/// Returns whether a file says that its data are aligned to 0 bytes: candle divides by that number.
///
/// A head that is not understood says nothing; candle tells what is wrong with it.
pub(super) fn aligns_to_nothing(file: &[u8]) -> bool {
    Head::new(file).and_then(|mut head| head.find_zero_alignment()).unwrap_or(false)
}

/// What is left of a file's head.
struct Head<'a> {
    rest: &'a [u8],
    wide: bool,
}

impl<'a> Head<'a> {
    /// Starts after the file's magic.
    fn new(file: &'a [u8]) -> Option<Self> {
        let mut head = Self { rest: file.get(4..)?, wide: false };
        head.wide = head.number()? >= WIDE_VERSION;
        Some(head)
    }

    fn find_zero_alignment(&mut self) -> Option<bool> {
        let _tensors = self.length()?;
        for _ in 0..self.length()? {
            let len = self.length()?;
            let key = self.take(len)?;
            let kind = self.number()?;
            // As candle reads keys: without zeros at the end.
            let end = key.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
            let value = self.rest;
            self.skip(kind, 0)?;
            let value = &value[..value.len() - self.rest.len()];
            // Whole numbers of up to four bytes; of other kinds candle takes no notice.
            if &key[..end] == b"general.alignment" && kind <= 5 && value.iter().all(|&byte| byte == 0) {
                return Some(true);
            }
        }
        Some(false)
    }

    /// Passes over a value of a kind.
    fn skip(&mut self, kind: u32, depth: usize) -> Option<()> {
        if let Some(size) = size_of(kind) {
            return self.take(size).map(|_| ());
        }
        match kind {
            8 => {
                let len = self.length()?;
                self.take(len)?;
            }
            9 if depth < MAX_DEPTH => {
                let (kind, count) = (self.number()?, self.length()?);
                match size_of(kind) {
                    Some(size) => {
                        self.take(size.checked_mul(count)?)?;
                    }
                    // Each one takes bytes, so this ends where the file does.
                    None => (0..count).try_for_each(|_| self.skip(kind, depth + 1))?,
                }
            }
            _ => return None,
        }
        Some(())
    }

    fn take(&mut self, count: u64) -> Option<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(usize::try_from(count).ok()?)?;
        self.rest = rest;
        Some(taken)
    }

    fn number(&mut self) -> Option<u32> {
        self.take(4)?.try_into().ok().map(u32::from_le_bytes)
    }

    fn length(&mut self) -> Option<u64> {
        if self.wide { self.take(8)?.try_into().ok().map(u64::from_le_bytes) } else { self.number().map(u64::from) }
    }
}

/// Bytes of a value, for the kinds whose values all have the same.
fn size_of(kind: u32) -> Option<u64> {
    match kind {
        0 | 1 | 7 => Some(1),
        2 | 3 => Some(2),
        4..=6 => Some(4),
        10..=12 => Some(8),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file of version 3 without tensors; keys, kinds and bytes of its settings.
    fn file(settings: &[(&[u8], u32, &[u8])]) -> Vec<u8> {
        let mut file = b"GGUF".to_vec();
        file.extend(3_u32.to_le_bytes());
        file.extend(0_u64.to_le_bytes());
        file.extend((settings.len() as u64).to_le_bytes());
        for (key, kind, value) in settings {
            file.extend((key.len() as u64).to_le_bytes());
            file.extend(*key);
            file.extend(kind.to_le_bytes());
            file.extend(*value);
        }
        file
    }

    #[test]
    fn a_zero_is_found_behind_values_of_every_kind() {
        let key = b"general.alignment".as_slice();
        let text = [3_u64.to_le_bytes().as_slice(), b"abc"].concat();
        let texts = [8_u32.to_le_bytes().as_slice(), &2_u64.to_le_bytes(), &text, &text].concat();
        let lists = [9_u32.to_le_bytes().as_slice(), &1_u64.to_le_bytes(), &texts].concat();
        let numbers = [4_u32.to_le_bytes().as_slice(), &2_u64.to_le_bytes(), &[7; 8]].concat();
        for (kind, bytes) in [(0, 1), (1, 1), (2, 2), (3, 2), (4, 4), (5, 4)] {
            let zero = vec![0; bytes];
            let settings = [
                (b"a".as_slice(), 7, [1].as_slice()),
                (b"b", 12, &[1; 8]),
                (b"c", 8, &text),
                (b"d", 9, &texts),
                (b"e", 9, &lists),
                (b"f", 9, &numbers),
                (key, kind, &zero),
            ];
            assert!(aligns_to_nothing(&file(&settings)), "kind {kind}");
            let mut whole = file(&settings);
            whole.pop();
            assert!(!aligns_to_nothing(&whole), "the value is cut off");
        }
        assert!(aligns_to_nothing(&file(&[(b"general.alignment\0\0", 4, &[0; 4])])), "zeros after a key do not count");
    }

    #[test]
    fn other_alignments_and_nonsense_say_nothing() {
        let key = b"general.alignment".as_slice();
        assert!(!aligns_to_nothing(&file(&[(key, 4, &[32, 0, 0, 0])])));
        assert!(!aligns_to_nothing(&file(&[(key, 10, &[0; 8])])), "candle takes no notice of this kind");
        assert!(!aligns_to_nothing(&file(&[(b"general.alignment2", 4, &[0; 4])])));
        assert!(!aligns_to_nothing(&file(&[(b"a", 99, &[0; 4]), (key, 4, &[0; 4])])));
        for nonsense in [b"".as_slice(), b"GGUF", b"GGUF\x03\0\0\0", &[0xff; 64]] {
            assert!(!aligns_to_nothing(nonsense));
        }
        // Arrays of arrays without end, and more of them than any memory holds.
        let endless = [9_u32.to_le_bytes(), [0xff; 4], [0xff; 4]].concat().repeat(1000);
        assert!(!aligns_to_nothing(&file(&[(b"a", 9, &endless), (key, 4, &[0; 4])])));
    }
}
