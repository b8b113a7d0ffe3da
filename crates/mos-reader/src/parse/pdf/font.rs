//! Fonts: which letters the bytes of a text stand for, and how wide they are.

use std::collections::BTreeMap;

use lopdf::{Dictionary, Document as Pdf, Encoding, Object};

use super::letters::LetterTable;

/// The width of a letter of which nothing is known, in thousandths of the size.
const USUAL_WIDTH: f32 = 500.0;

/// The width of a letter of a wide font of which nothing is known.
const WIDE_WIDTH: f32 = 1000.0;

/// The most widths of one font.
const MAX_WIDTHS: usize = 65_536;

pub(super) struct Font<'d> {
    /// What the font itself says about its letters.
    table: Option<LetterTable>,
    /// What its encoding says; `None` when it does not say it.
    encoding: Option<Encoding<'d>>,
    widths: BTreeMap<u32, f32>,
    usual_width: f32,
    /// Bytes of one letter.
    n_code_bytes: usize,
}

impl<'d> Font<'d> {
    /// Reads a font. Its table of letters may unpack to at most `max_bytes`.
    pub(super) fn open(pdf: &'d Pdf, font: &'d Dictionary, max_bytes: usize) -> Self {
        let subtype = font.get_deref(b"Subtype", pdf).and_then(Object::as_name).unwrap_or_default();
        let is_wide = subtype == b"Type0";
        let (widths, usual_width) = if is_wide { wide_widths(pdf, font) } else { (widths(pdf, font), USUAL_WIDTH) };
        Self {
            table: table(pdf, font, max_bytes),
            encoding: encoding(pdf, font, is_wide, max_bytes),
            widths,
            usual_width,
            n_code_bytes: if is_wide { 2 } else { 1 },
        }
    }

    /// Returns the letters, or `None` when the font does not say them. The table wins over the encoding: subset fonts
    /// number their letters as they like.
    pub(super) fn text(&self, bytes: &[u8]) -> Option<String> {
        match &self.table {
            Some(table) => Some(plain(&table.text(bytes, self.n_code_bytes, |code| self.encoded(code)))),
            None => self.encoded(bytes).map(|text| plain(&text)),
        }
    }

    /// Whether its table of letters was not read to the end, so that some may be missing.
    pub(super) fn is_cut(&self) -> bool {
        self.table.as_ref().is_some_and(LetterTable::is_cut)
    }

    fn encoded(&self, bytes: &[u8]) -> Option<String> {
        let encoding = self.encoding.as_ref()?;
        if let Encoding::SimpleEncoding(name) = encoding
            && let Some(script) = predefined(name)
        {
            return Some(script.decode_without_bom_handling(bytes).0.into_owned());
        }
        if matches!(encoding, Encoding::Differences(_)) {
            // A letter that it does not know takes no other with it.
            let known: String = bytes.chunks(1).filter_map(|byte| encoding.bytes_to_string(byte).ok()).collect();
            return (!known.is_empty() || bytes.is_empty()).then_some(known);
        }
        encoding.bytes_to_string(bytes).ok()
    }

    /// Returns the number of letters, and the sum of their widths in thousandths of the size.
    pub(super) fn width(&self, bytes: &[u8]) -> (usize, f32) {
        let codes = bytes.chunks(self.n_code_bytes);
        let n_letters = codes.len();
        let sum = codes
            .map(|code| {
                let code = code.iter().fold(0_u32, |code, byte| (code << 8) | u32::from(*byte));
                self.widths.get(&code).copied().unwrap_or(self.usual_width)
            })
            .sum();
        (n_letters, sum)
    }

    /// Whether a letter is one byte: only then does the space between words count.
    pub(super) fn is_narrow(&self) -> bool {
        self.n_code_bytes == 1
    }
}

fn table(pdf: &Pdf, font: &Dictionary, max_bytes: usize) -> Option<LetterTable> {
    let stream = font.get_deref(b"ToUnicode", pdf).and_then(Object::as_stream).ok()?;
    LetterTable::read(&stream.get_plain_content_with_limit(max_bytes).ok()?)
}

/// Returns the encoding that a font names. Numbers of glyphs name no letters.
fn encoding<'d>(pdf: &'d Pdf, font: &'d Dictionary, is_wide: bool, max_bytes: usize) -> Option<Encoding<'d>> {
    let is_identity =
        font.get_deref(b"Encoding", pdf).and_then(Object::as_name).is_ok_and(|name| name.starts_with(b"Identity"));
    if is_wide && is_identity {
        return None;
    }
    // The table of letters is read here, with bounds: what it does not say is not known.
    match font.get_font_encoding_with_limit(pdf, max_bytes).ok()? {
        Encoding::UnicodeMapEncoding(_) => None,
        Encoding::Differences(mut differences) if matches!(*differences.base, Encoding::UnicodeMapEncoding(_)) => {
            differences.base = Box::new(Encoding::SimpleEncoding(b"Identity-H"));
            Some(Encoding::Differences(differences))
        }
        encoding => Some(encoding),
    }
}

/// Encodings of whole scripts that fonts name without bringing them.
fn predefined(name: &[u8]) -> Option<&'static encoding_rs::Encoding> {
    let name = std::str::from_utf8(name).ok()?;
    let has = |part: &str| name.contains(part);
    if has("UCS2") || has("UTF16") {
        Some(encoding_rs::UTF_16BE)
    } else if has("GBK") || has("GB-EUC") || has("GBpc") {
        Some(encoding_rs::GBK)
    } else if has("RKSJ") {
        Some(encoding_rs::SHIFT_JIS)
    } else if name.starts_with("EUC-") {
        Some(encoding_rs::EUC_JP)
    } else if has("B5") || name.starts_with("HKscs") {
        Some(encoding_rs::BIG5)
    } else if name.starts_with("KSC") {
        Some(encoding_rs::EUC_KR)
    } else {
        None
    }
}

/// Letters that were drawn together stand apart again; what cannot be shown is left out.
fn plain(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            'ﬀ' => out.push_str("ff"),
            'ﬁ' => out.push_str("fi"),
            'ﬂ' => out.push_str("fl"),
            'ﬃ' => out.push_str("ffi"),
            'ﬄ' => out.push_str("ffl"),
            '\u{a0}' => out.push(' '),
            '\u{ad}' | '\u{fffd}' => {}
            _ if letter.is_control() => out.push(' '),
            _ => out.push(letter),
        }
    }
    out
}

fn numbers(pdf: &Pdf, array: &[Object]) -> impl Iterator<Item = f32> {
    array.iter().map(|object| number(pdf, object).unwrap_or(0.0))
}

fn number(pdf: &Pdf, object: &Object) -> Option<f32> {
    pdf.dereference(object).ok()?.1.as_float().ok()
}

fn widths(pdf: &Pdf, font: &Dictionary) -> BTreeMap<u32, f32> {
    let first = font.get_deref(b"FirstChar", pdf).ok().and_then(code).unwrap_or(0);
    match font.get_deref(b"Widths", pdf).and_then(Object::as_array) {
        Ok(array) => (first..).zip(numbers(pdf, array)).take(MAX_WIDTHS).collect(),
        Err(_) => BTreeMap::new(),
    }
}

/// Widths of a font of two bytes a letter: `first [w w w]` and `first last w`, by turns.
fn wide_widths(pdf: &Pdf, font: &Dictionary) -> (BTreeMap<u32, f32>, f32) {
    let mut found = BTreeMap::new();
    let descendant = font
        .get_deref(b"DescendantFonts", pdf)
        .and_then(Object::as_array)
        .ok()
        .and_then(|fonts| fonts.first())
        .and_then(|font| pdf.dereference(font).ok())
        .and_then(|(_, font)| font.as_dict().ok());
    let Some(descendant) = descendant else { return (found, WIDE_WIDTH) };
    let usual = descendant.get_deref(b"DW", pdf).and_then(Object::as_float).unwrap_or(WIDE_WIDTH);
    let Ok(array) = descendant.get_deref(b"W", pdf).and_then(Object::as_array) else { return (found, usual) };
    let mut entries = array.iter().filter_map(|entry| pdf.dereference(entry).ok()).map(|(_, entry)| entry);
    while let (Some(first), Some(second)) = (entries.next(), entries.next()) {
        let Some(first) = code(first) else { break };
        if found.len() >= MAX_WIDTHS {
            break;
        }
        match second {
            Object::Array(list) => found.extend((first..).zip(numbers(pdf, list)).take(MAX_WIDTHS)),
            last => {
                let (Some(last), Some(width)) = (code(last), entries.next().and_then(|width| width.as_float().ok()))
                else {
                    break;
                };
                found.extend((first..=last).take(MAX_WIDTHS).map(|code| (code, width)));
            }
        }
    }
    (found, usual)
}

/// A letter's number has two bytes.
fn code(object: &Object) -> Option<u32> {
    object.as_i64().ok().and_then(|code| u16::try_from(code).ok()).map(u32::from)
}
