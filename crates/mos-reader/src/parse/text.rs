//! Bytes to text: byte order marks, other encodings than UTF-8, several encodings in one file.

use chardetng::{EncodingDetector, Iso2022JpDetection, Utf8Detection};
use encoding_rs::{Encoding, UTF_16BE, UTF_16LE};

use super::{Document, DocumentKind, Position};

/// How much of a file is looked at to tell text from other bytes.
const SAMPLE_BYTES: usize = 8 << 10;

/// Text, and how it was found where that was a guess.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Decoded {
    /// Lines end in `\n`; there are no byte order marks and no NUL.
    pub(super) text: String,
    pub(super) note: Option<String>,
}

/// Returns the text, or `None` when the bytes are none.
pub(super) fn decode(bytes: &[u8]) -> Option<Decoded> {
    if let Some((encoding, mark)) = Encoding::for_bom(bytes) {
        let (text, is_damaged) = encoding.decode_without_bom_handling(&bytes[mark..]);
        return Some(decoded(&text, is_damaged.then(|| damaged(encoding))));
    }
    let sample = &bytes[..bytes.len().min(SAMPLE_BYTES)];
    if let Some(encoding) = wide(sample) {
        let (text, is_damaged) = encoding.decode_without_bom_handling(bytes);
        let note = if is_damaged { damaged(encoding) } else { guessed(encoding) };
        return Some(decoded(&text, Some(note)));
    }
    if is_binary(sample) {
        return None;
    }
    if let Ok(text) = std::str::from_utf8(bytes) {
        return Some(decoded(text, None));
    }
    Some(other(bytes))
}

/// Text that is not UTF-8 as a whole: each line that is UTF-8 is taken as such, the others share one guessed encoding.
fn other(bytes: &[u8]) -> Decoded {
    let lines: Vec<&[u8]> = bytes.split_inclusive(|byte| *byte == b'\n').collect();
    let mut detector = EncodingDetector::new(Iso2022JpDetection::Deny);
    let mut n_wide_utf8 = 0_usize;
    for line in &lines {
        match std::str::from_utf8(line) {
            Ok(text) => n_wide_utf8 += usize::from(!text.is_ascii()),
            Err(_) => {
                detector.feed(line, false);
            }
        }
    }
    detector.feed(b"", true);
    let encoding = detector.guess(None, Utf8Detection::Deny);
    if n_wide_utf8 == 0 {
        let (text, is_damaged) = encoding.decode_without_bom_handling(bytes);
        return decoded(&text, Some(if is_damaged { damaged(encoding) } else { guessed(encoding) }));
    }
    let mut text = String::with_capacity(bytes.len());
    for line in lines {
        match std::str::from_utf8(line) {
            Ok(line) => text.push_str(line),
            Err(_) => text.push_str(&encoding.decode_without_bom_handling(line).0),
        }
    }
    decoded(&text, Some(format!("lines in UTF-8 and in {} are mixed; the latter was guessed", encoding.name())))
}

fn guessed(encoding: &'static Encoding) -> String {
    format!("the encoding is not declared and was guessed to be {}", encoding.name())
}

fn damaged(encoding: &'static Encoding) -> String {
    format!("some bytes are not valid {} and were replaced", encoding.name())
}

fn decoded(text: &str, note: Option<String>) -> Decoded {
    let mut clean = String::with_capacity(text.len());
    let mut letters = text.chars().peekable();
    while let Some(letter) = letters.next() {
        match letter {
            '\r' => {
                letters.next_if_eq(&'\n');
                clean.push('\n');
            }
            '\u{feff}' | '\0' => {}
            _ => clean.push(letter),
        }
    }
    Decoded { text: clean, note }
}

/// Text of two bytes a letter without a mark: the high bytes of letters of Latin script are zero.
fn wide(sample: &[u8]) -> Option<&'static Encoding> {
    let n_pairs = sample.len() / 2;
    if n_pairs < 4 {
        return None;
    }
    let zeros = |first: usize| sample.iter().skip(first).step_by(2).filter(|byte| **byte == 0).count();
    let (even, odd) = (zeros(0), zeros(1));
    match (even * 10 > n_pairs * 4, odd * 10 > n_pairs * 4) {
        (true, false) if odd == 0 => Some(UTF_16BE),
        (false, true) if even == 0 => Some(UTF_16LE),
        _ => None,
    }
}

/// Whether bytes are no text in any encoding of one or more bytes a letter.
fn is_binary(sample: &[u8]) -> bool {
    let is_control = |byte: &u8| *byte < 0x20 && !matches!(*byte, b'\t' | b'\n' | b'\r' | 0x0c | 0x1b | 0x08);
    let n_control = sample.iter().filter(|byte| is_control(byte)).count();
    sample.contains(&0) || n_control * 20 > sample.len()
}

/// Plain text: what empty lines separate.
pub(super) fn parse(text: &str) -> Document {
    let mut document = Document::new(DocumentKind::Text);
    for paragraph in paragraphs(text) {
        document.push(paragraph, Position::default(), false);
    }
    document
}

/// Returns what lines without text separate, in order.
pub(super) fn paragraphs(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        while !rest.is_empty() {
            let mut end = 0;
            for line in rest.split_inclusive('\n') {
                if line.trim().is_empty() {
                    break;
                }
                end += line.len();
            }
            let (paragraph, after) = rest.split_at(end);
            // Past the empty line that ended it.
            rest = after.find('\n').map_or("", |at| &after[at + 1..]);
            if !paragraph.is_empty() {
                return Some(paragraph);
            }
        }
        None
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text_of(bytes: &[u8]) -> String {
        decode(bytes).unwrap().text
    }

    #[test]
    fn marks_and_line_ends_are_removed() {
        assert_eq!(text_of(b"\xEF\xBB\xBFa\r\nb\rc"), "a\nb\nc");
        let little: Vec<u8> =
            [0xff, 0xfe].into_iter().chain("hé 中".encode_utf16().flat_map(u16::to_le_bytes)).collect();
        let big: Vec<u8> = [0xfe, 0xff].into_iter().chain("hé 中".encode_utf16().flat_map(u16::to_be_bytes)).collect();
        assert_eq!((text_of(&little), text_of(&big)), ("hé 中".to_owned(), "hé 中".to_owned()));
        let unmarked: Vec<u8> = "plain words".encode_utf16().flat_map(u16::to_le_bytes).collect();
        assert_eq!(text_of(&unmarked), "plain words");
    }

    #[test]
    fn other_encodings_are_guessed_and_said() {
        let chinese = "今天天气很好，我们去公园散步。晚上一起吃饭，然后回家看电视。";
        let (bytes, _, _) = encoding_rs::GBK.encode(chinese);
        let found = decode(&bytes).unwrap();
        assert_eq!(found.text, chinese);
        assert!(found.note.unwrap().contains("GBK"));
        let (bytes, _, _) = encoding_rs::WINDOWS_1252.encode("Le café était fermé, hélas; où aller ?");
        assert_eq!(text_of(&bytes), "Le café était fermé, hélas; où aller ?");
    }

    #[test]
    fn lines_of_two_encodings_are_both_read() {
        let mut bytes = "Grüße aus Köln, sagte er.\n".as_bytes().to_vec();
        bytes.extend(&*encoding_rs::WINDOWS_1252.encode("Le café était fermé, hélas.\n").0);
        let found = decode(&bytes).unwrap();
        assert_eq!(found.text, "Grüße aus Köln, sagte er.\nLe café était fermé, hélas.\n");
        assert!(found.note.unwrap().contains("mixed"));
    }

    #[test]
    fn other_bytes_are_no_text() {
        assert_eq!(decode(b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x03\0\x3e\0"), None);
        assert_eq!(decode(&[1, 2, 3, 4, 5, 6, 7, 200, 201]), None);
        assert_eq!(text_of(b""), "");
    }

    #[test]
    fn very_many_paragraphs_share_the_last_block() {
        let n_paragraphs = super::super::MAX_BLOCKS + 3;
        let document = parse(&"a\n\n".repeat(n_paragraphs));
        assert_eq!(document.blocks.len(), super::super::MAX_BLOCKS);
        assert_eq!(document.text(), vec!["a"; n_paragraphs].join("\n\n"));
    }

    #[test]
    fn paragraphs_are_what_empty_lines_separate() {
        let found: Vec<&str> = paragraphs("\n\na\nb\n \t\n\nc").collect();
        assert_eq!(found, ["a\nb\n", "c"]);
        assert_eq!(paragraphs("").count() + paragraphs(" \n \n").count(), 0);
    }
}
