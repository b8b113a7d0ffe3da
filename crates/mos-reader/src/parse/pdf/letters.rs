//! Tables that say which letters the codes of a font stand for (`ToUnicode`). Writers of PDF take liberties with their
//! form; only what is needed is read of them.

use std::collections::BTreeMap;

/// The most codes of one table.
const MAX_CODES: usize = 200_000;

/// The longest code.
const MAX_CODE_BYTES: usize = 4;

/// The longest text that a code stands for, in bytes of the table: letters that are drawn as one need a few. A longer one that
/// stands for thousands of codes, or is shown thousands of times, takes thousands of times the file.
const MAX_LETTERS_BYTES: usize = 64;

/// The most ranges of codes that exist; every code that is shown is looked for in all of them.
const MAX_SPACES: usize = 64;

/// Codes of a length, and the letters they stand for.
#[derive(Debug, Default)]
pub(super) struct LetterTable {
    letters: BTreeMap<(usize, u32), String>,
    /// The codes that exist: bytes of the code, first, last.
    spaces: Vec<(usize, u32, u32)>,
    /// How often letters were told; a code can be told again and again.
    n_told: usize,
    is_cut: bool,
}

/// What a table is made of.
#[derive(Clone, Debug, PartialEq)]
enum Token<'a> {
    Code(Vec<u8>),
    Open,
    Close,
    Word(&'a [u8]),
}

/// What the codes that are read belong to.
#[derive(Clone, Copy, PartialEq)]
enum Group {
    None,
    Spaces,
    Single,
    Ranges,
}

impl LetterTable {
    /// Reads a table, one that is damaged or too long as far as it goes; `None` when it says nothing.
    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        let mut table = Self::default();
        let mut group = Group::None;
        let mut tokens = Tokens { rest: bytes };
        while let Some(token) = tokens.next() {
            match token {
                Token::Word(b"begincodespacerange") => group = Group::Spaces,
                Token::Word(b"beginbfchar") => group = Group::Single,
                Token::Word(b"beginbfrange") => group = Group::Ranges,
                Token::Word(word) if word.starts_with(b"end") => group = Group::None,
                Token::Code(code) if group != Group::None => {
                    let is_whole = table.entry(group, &code, &mut tokens).is_some();
                    table.is_cut = !is_whole || table.n_told > MAX_CODES;
                }
                _ => {}
            }
            if table.is_cut {
                break;
            }
        }
        (!table.letters.is_empty()).then_some(table)
    }

    /// Reads what follows the first code of an entry. `None` when the table ends in the middle.
    fn entry(&mut self, group: Group, first: &[u8], tokens: &mut Tokens<'_>) -> Option<()> {
        let (len, start) = (first.len(), number(first));
        let second = tokens.next()?;
        match (group, second) {
            (Group::Spaces, Token::Code(last)) if self.spaces.len() < MAX_SPACES => {
                self.spaces.push((len, start, number(&last)));
            }
            (Group::Single, Token::Code(letters)) => self.set(len, start, text(&letters, 0)),
            (Group::Ranges, Token::Code(last)) => {
                let end = number(&last).min(start.saturating_add(0xffff));
                match tokens.next()? {
                    Token::Code(letters) => {
                        for (step, code) in (start..=end).enumerate() {
                            self.set(len, code, text(&letters, step));
                        }
                    }
                    Token::Open => {
                        for code in start..=end {
                            match tokens.next()? {
                                Token::Code(letters) => self.set(len, code, text(&letters, 0)),
                                Token::Close => return Some(()),
                                Token::Open | Token::Word(_) => {}
                            }
                        }
                    }
                    Token::Close | Token::Word(_) => {}
                }
            }
            // A name instead of letters: the entry says nothing here.
            _ => {}
        }
        Some(())
    }

    fn set(&mut self, len: usize, code: u32, letters: String) {
        self.n_told += 1;
        if self.n_told <= MAX_CODES {
            self.letters.insert((len, code), letters);
        }
    }

    /// Whether there was more of it than was read.
    pub(super) fn is_cut(&self) -> bool {
        self.is_cut
    }

    /// Returns the letters of a text whose codes have `usual_len` bytes where the table does not say it. `other` knows
    /// codes that are not in the table.
    pub(super) fn text(&self, bytes: &[u8], usual_len: usize, other: impl Fn(&[u8]) -> Option<String>) -> String {
        let mut out = String::new();
        let mut rest = bytes;
        while !rest.is_empty() {
            let len = self.code_len(rest).unwrap_or(usual_len).clamp(1, rest.len());
            let (code, after) = rest.split_at(len);
            match self.letters.get(&(len, number(code))) {
                Some(letters) => out.push_str(letters),
                None => out.push_str(&other(code).unwrap_or_default()),
            }
            rest = after;
        }
        out
    }

    fn code_len(&self, bytes: &[u8]) -> Option<usize> {
        (1..=MAX_CODE_BYTES.min(bytes.len())).find(|len| {
            let code = number(&bytes[..*len]);
            self.spaces.iter().any(|(own, first, last)| own == len && (*first..=*last).contains(&code))
        })
    }
}

fn number(code: &[u8]) -> u32 {
    code.iter().take(MAX_CODE_BYTES).fold(0, |number, byte| (number << 8) | u32::from(*byte))
}

/// Returns letters whose last one is `step` further.
fn text(bytes: &[u8], step: usize) -> String {
    let bytes = &bytes[..bytes.len().min(MAX_LETTERS_BYTES)];
    let mut units: Vec<u16> =
        bytes.chunks(2).map(|pair| pair.iter().fold(0_u16, |unit, byte| (unit << 8) | u16::from(*byte))).collect();
    if let Some(last) = units.last_mut() {
        *last = last.wrapping_add(u16::try_from(step).unwrap_or(0));
    }
    String::from_utf16_lossy(&units)
}

struct Tokens<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Tokens<'a> {
    type Item = Token<'a>;

    fn next(&mut self) -> Option<Token<'a>> {
        self.rest = self.rest.trim_ascii_start();
        while self.rest.starts_with(b"%") {
            let end = self.rest.iter().position(|byte| matches!(byte, b'\n' | b'\r')).unwrap_or(self.rest.len());
            self.rest = self.rest[end..].trim_ascii_start();
        }
        let (first, after) = self.rest.split_first()?;
        match first {
            b'<' if !after.starts_with(b"<") => {
                let end = after.iter().position(|byte| *byte == b'>').unwrap_or(after.len());
                self.rest = after.get(end + 1..).unwrap_or_default();
                Some(Token::Code(hex(&after[..end])))
            }
            b'[' | b']' => {
                self.rest = after;
                Some(if *first == b'[' { Token::Open } else { Token::Close })
            }
            _ => {
                let is_end = |byte: &u8| byte.is_ascii_whitespace() || matches!(byte, b'<' | b'[' | b']' | b'%');
                let end = 1 + after.iter().position(is_end).unwrap_or(after.len());
                let (word, rest) = self.rest.split_at(end);
                self.rest = rest;
                Some(Token::Word(word))
            }
        }
    }
}

fn hex(digits: &[u8]) -> Vec<u8> {
    let digits: Vec<u8> = digits
        .iter()
        .filter_map(|byte| char::from(*byte).to_digit(16))
        .filter_map(|digit| u8::try_from(digit).ok())
        .collect();
    digits.chunks(2).map(|pair| (pair[0] << 4) | pair.get(1).copied().unwrap_or(0)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_read_however_they_are_written() {
        let table = LetterTable::read(
            b"/CIDInit /ProcSet findresource begin % comment <00>\n12 dict begin begincmap << /Registry (A) >> def\n\
              1 begincodespacerange<0000><FFFF>endcodespacerange 2 beginbfchar\n<0001> <4F60> <0002><0066 0069>\nendbfchar\n\
              2 beginbfrange <0010> <0012> <0041> <0020><0021>[<0061><D83DDE00>] endbfrange endcmap",
        )
        .unwrap();
        let read = |bytes: &[u8]| table.text(bytes, 2, |_| Some("?".to_owned()));
        assert_eq!(read(&[0, 1, 0, 2, 0, 0x10, 0, 0x12]), "你fiAC");
        assert_eq!(read(&[0, 0x20, 0, 0x21, 0, 0x99, 0]), "a😀??");
    }

    #[test]
    fn what_a_code_stands_for_is_short() {
        let long = "0041".repeat(100_000);
        let table = LetterTable::read(format!("beginbfrange <0000> <ffff> <{long}>").as_bytes()).unwrap();
        let n_bytes: usize = table.letters.values().map(String::len).sum();
        assert!(table.letters.len() == 0x1_0000 && n_bytes < 8 << 20, "{n_bytes}");
        let spaces = format!("begincodespacerange {}", "<00> <ff> ".repeat(100_000));
        let table = LetterTable::read(format!("{spaces} beginbfchar <41> <0042>").as_bytes()).unwrap();
        assert_eq!((table.spaces.len(), table.text(b"A", 1, |_| None).as_str()), (MAX_SPACES, "B"));
    }

    #[test]
    fn of_a_table_that_is_damaged_or_too_long_the_beginning_is_read() {
        let damaged = LetterTable::read(b"beginbfchar <41> <0042> <43> endbfchar").unwrap();
        let ended = LetterTable::read(b"beginbfchar <41> <0042> <43>").unwrap();
        let long =
            format!("beginbfchar <41> <0042> endbfchar beginbfrange {}", "<0000> <ffff> <0041> ".repeat(100_000));
        let long = LetterTable::read(long.as_bytes()).unwrap();
        for (table, is_cut) in [(&damaged, false), (&ended, true), (&long, true)] {
            assert_eq!((table.text(b"A", 1, |_| None).as_str(), table.is_cut()), ("B", is_cut));
        }
        assert!(long.n_told <= MAX_CODES + 0x1_0000, "what is told again takes time as well");
    }

    #[test]
    fn lengths_of_codes_are_told_by_the_table() {
        let table = LetterTable::read(
            b"2 begincodespacerange <00> <80> <8140> <9FFC> endcodespacerange 2 beginbfchar <41> <0078> <8140> <4E00> endbfchar",
        )
        .unwrap();
        assert_eq!(table.text(&[0x41, 0x81, 0x40, 0x41], 1, |_| None), "x一x");
    }

    #[test]
    fn broken_tables_say_nothing() {
        for bytes in [&b""[..], b"beginbfchar <00", b"beginbfrange <00> <ff>", b"beginbfrange <00> <10> [", b"<<<<[[%"]
        {
            assert!(LetterTable::read(bytes).is_none(), "{bytes:?}");
        }
        assert!(
            LetterTable::read(b"beginbfrange <00000000> <ffffffff> <0041>")
                .is_some_and(|table| table.letters.len() <= 0x1_0000)
        );
    }
}
