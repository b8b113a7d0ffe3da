//! A text as it is read aloud: one form for letters that look alike, nothing invisible, small letters.

/// Cyrillic letters that look like Latin ones.
const ALIKE: [(char, char); 10] = [
    ('а', 'a'),
    ('е', 'e'),
    ('о', 'o'),
    ('р', 'p'),
    ('с', 'c'),
    ('х', 'x'),
    ('у', 'y'),
    ('і', 'i'),
    ('ј', 'j'),
    ('ѕ', 's'),
];

/// Whether a character takes no room, or only turns the direction of others.
fn is_invisible(c: char) -> bool {
    matches!(
        c,
        '\u{ad}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}' | '\u{2066}'..='\u{2069}'
            | '\u{feff}' | '\u{e0000}'..='\u{e007f}'
    )
}

/// Returns a text in small letters, without invisible characters, wide letters made narrow.
pub(super) fn plain(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    for c in text.chars().filter(|c| !is_invisible(*c)) {
        let c = match c {
            '\u{ff01}'..='\u{ff5e}' => u32::from(c).checked_sub(0xfee0).and_then(char::from_u32).unwrap_or(c),
            '\u{3000}' => ' ',
            '\u{2019}' => '\'',
            _ => ALIKE.iter().find(|(other, _)| *other == c).map_or(c, |(_, latin)| *latin),
        };
        plain.extend(c.to_lowercase());
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_looks_alike_reads_alike() {
        assert_eq!(plain("Ｉｇｎｏｒｅ　it"), "ignore it");
        assert_eq!(plain("pass\u{200b}wоrd, don\u{2019}t"), "password, don't");
        assert_eq!(plain("a\u{e0041}b\u{202e}c"), "abc");
        assert_eq!(plain("忽略：这个"), "忽略:这个");
    }
}
