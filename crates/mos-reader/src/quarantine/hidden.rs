//! Characters that people do not see and models read.

/// How many characters without width in a row are no longer a hint for line breaks or letters.
const MAX_RUN: usize = 3;

/// Whether a text hides something: letters of the tag block outside of flags, turned direction in a text that needs none, or
/// many characters without width in a row.
pub(super) fn hides_characters(text: &str) -> bool {
    // Hebrew, Arabic and their neighbours are written to the left.
    let is_turned = text.chars().any(|c| matches!(c, '\u{590}'..='\u{8ff}'));
    let (mut is_flag, mut run) = (false, 0);
    for c in text.chars() {
        match c {
            '\u{e0020}'..='\u{e007e}' if !is_flag => return true,
            '\u{e0020}'..='\u{e007e}' => {}
            '\u{1f3f4}' => is_flag = true,
            _ => is_flag = false,
        }
        match c {
            // They turn letters of any script around.
            '\u{202d}' | '\u{202e}' => return true,
            '\u{202a}'..='\u{202c}' | '\u{2066}'..='\u{2069}' if !is_turned => return true,
            '\u{200b}'..='\u{200d}' | '\u{2060}' | '\u{feff}' => run += 1,
            _ => run = 0,
        }
        if run > MAX_RUN {
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_joined_emoji_and_other_scripts_hide_nothing() {
        for text in [
            "\u{1f3f4}\u{e0067}\u{e0062}\u{e0065}\u{e006e}\u{e0067}\u{e007f} won",
            "\u{1f468}\u{200d}\u{1f469}\u{200d}\u{1f467}",
            "می\u{200c}خواهم",
            "שלום \u{2067}World\u{2069}",
            "long\u{200b}line",
        ] {
            assert!(!hides_characters(text), "{text:?}");
        }
        for text in ["a\u{e0041}", "a \u{202e}b", "a \u{2067}b", "a\u{200b}\u{200c}\u{200b}\u{200c}"] {
            assert!(hides_characters(text), "{text:?}");
        }
    }
}
