//! Where texts can be cut: after paragraphs, lines, sentences, words, letters.

use super::count::is_unspaced;

/// How fine a text is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Level {
    Paragraph,
    Line,
    Sentence,
    Word,
    Letter,
}

/// Words whose full stop ends no sentence, in lower case.
const ABBREVIATIONS: [&str; 28] = [
    "mr", "mrs", "ms", "dr", "prof", "st", "jr", "sr", "vs", "etc", "e.g", "i.e", "cf", "al", "fig", "no", "vol", "pp",
    "inc", "ltd", "co", "corp", "dept", "est", "approx", "gen", "rev", "u.s",
];

/// Returns the bytes after which `text` can be cut at this level, in order; its end is the last.
pub(super) fn cuts(text: &str, level: Level) -> Vec<usize> {
    let mut cuts = match level {
        Level::Paragraph => after_empty_lines(text),
        Level::Line => text.match_indices('\n').map(|(at, _)| at + 1).collect(),
        Level::Sentence => after_sentences(text),
        Level::Word => after_words(text),
        Level::Letter => text.char_indices().map(|(at, letter)| at + letter.len_utf8()).collect(),
    };
    if cuts.last() != Some(&text.len()) && !text.is_empty() {
        cuts.push(text.len());
    }
    cuts
}

fn after_empty_lines(text: &str) -> Vec<usize> {
    let (mut cuts, mut at, mut was_empty) = (Vec::new(), 0, true);
    for line in text.split_inclusive('\n') {
        let is_empty = line.trim().is_empty();
        if was_empty && !is_empty && at > 0 {
            cuts.push(at);
        }
        was_empty = is_empty;
        at += line.len();
    }
    cuts
}

/// After the space behind a word; letters of scripts without spaces are words.
fn after_words(text: &str) -> Vec<usize> {
    let mut cuts = Vec::new();
    let mut last: Option<char> = None;
    for (at, letter) in text.char_indices() {
        if let Some(last) = last {
            let after_space = last.is_whitespace() && !letter.is_whitespace();
            let is_unspaced_pair =
                is_unspaced(last) && !letter.is_whitespace() || is_unspaced(letter) && !last.is_whitespace();
            // A sign stays with what is before it.
            if after_space || is_unspaced_pair && !is_closing(letter) {
                cuts.push(at);
            }
        }
        last = Some(letter);
    }
    cuts
}

fn is_closing(letter: char) -> bool {
    matches!(
        letter,
        '。' | '，'
            | '、'
            | '！'
            | '？'
            | '；'
            | '：'
            | '…'
            | '”'
            | '’'
            | '」'
            | '』'
            | '）'
            | '】'
            | '》'
            | ')'
            | ']'
            | '}'
            | '"'
            | '\''
            | '.'
            | ','
            | '!'
            | '?'
            | ';'
            | ':'
    )
}

/// Whether a sentence may end with this letter, and whether it does without space behind it.
fn ends_sentence(letter: char) -> Option<bool> {
    match letter {
        '。' | '！' | '？' | '｡' => Some(true),
        '.' | '!' | '?' | '…' => Some(false),
        _ => None,
    }
}

fn after_sentences(text: &str) -> Vec<usize> {
    let mut cuts = Vec::new();
    let mut letters = text.char_indices().peekable();
    while let Some((at, letter)) = letters.next() {
        if letter == '\n' {
            if begins_anew(&text[at + 1..]) {
                let end = skip_space(text, at + 1);
                cuts.push(end);
                while letters.next_if(|(at, _)| *at < end).is_some() {}
            }
            continue;
        }
        let Some(mut is_end) = ends_sentence(letter) else { continue };
        let mut end = at + letter.len_utf8();
        let mut n_signs = 1;
        while let Some((at, sign)) = letters.next_if(|(_, sign)| ends_sentence(*sign).is_some() || is_closer(*sign)) {
            is_end |= ends_sentence(sign) == Some(true);
            n_signs += 1;
            end = at + sign.len_utf8();
        }
        let has_space = text[end..].chars().next().is_none_or(char::is_whitespace);
        let is_stop = letter == '.' && n_signs == 1;
        if is_end || has_space && !(is_stop && is_abbreviation(&text[..at], &text[end..])) {
            let end = skip_space(text, end);
            cuts.push(end);
            while letters.next_if(|(at, _)| *at < end).is_some() {}
        }
    }
    cuts
}

/// Whether a line begins something of its own: nothing, an item of a list, a heading, a row.
fn begins_anew(line: &str) -> bool {
    let line = line.lines().next().unwrap_or_default().trim_start();
    let is_numbered = line.trim_start_matches(|letter: char| letter.is_ascii_digit()).starts_with(". ")
        && line.starts_with(|letter: char| letter.is_ascii_digit());
    line.is_empty()
        || line.starts_with(['#', '|', '•', '>', '`'])
        || line.starts_with("- ")
        || line.starts_with("* ")
        || is_numbered
}

fn is_closer(letter: char) -> bool {
    matches!(letter, '"' | '\'' | ')' | ']' | '”' | '’' | '」' | '』' | '）' | '】' | '》')
}

fn skip_space(text: &str, at: usize) -> usize {
    at + (text[at..].len() - text[at..].trim_start().len())
}

/// Whether a full stop belongs to the word before it.
fn is_abbreviation(before: &str, after: &str) -> bool {
    // Within a sentence, the next word goes on in lower case.
    if after.trim_start_matches(' ').starts_with(char::is_lowercase) {
        return true;
    }
    let start = before
        .rfind(|letter: char| !letter.is_alphanumeric() && letter != '.')
        .map_or(0, |at| at + before[at..].chars().next().map_or(0, char::len_utf8));
    let word = &before[start..];
    let mut letters = word.chars();
    let is_initial = letters.next().is_some_and(char::is_uppercase) && letters.next().is_none();
    // An initial; but `I` ends sentences.
    if is_initial && word != "I" {
        return true;
    }
    word.len() <= 8 && ABBREVIATIONS.contains(&word.to_lowercase().as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pieces(text: &str, level: Level) -> Vec<&str> {
        let mut start = 0;
        cuts(text, level)
            .into_iter()
            .map(|end| {
                let piece = &text[start..end];
                start = end;
                piece
            })
            .collect()
    }

    #[test]
    fn sentences_end_where_readers_see_it() {
        let text = "Dr. Wu paid 3.50 at J. Doe's. \"Really?\" she asked. Yes... and no! It ended";
        assert_eq!(
            pieces(text, Level::Sentence),
            ["Dr. Wu paid 3.50 at J. Doe's. ", "\"Really?\" ", "she asked. ", "Yes... ", "and no! ", "It ended"]
        );
        assert_eq!(
            pieces("今天很好。我们“走吧！”他说……好", Level::Sentence),
            ["今天很好。", "我们“走吧！”", "他说……好"]
        );
        assert_eq!(
            pieces("- one\n- two\nstill two\n\n# Three", Level::Sentence),
            ["- one\n", "- two\nstill two\n\n", "# Three"]
        );
    }

    #[test]
    fn words_paragraphs_and_letters() {
        assert_eq!(pieces("two  words 中文。x", Level::Word), ["two  ", "words ", "中", "文。", "x"]);
        assert_eq!(pieces("\n\na\nb\n\n\nc", Level::Paragraph), ["\n\n", "a\nb\n\n\n", "c"]);
        assert_eq!(pieces("é中", Level::Letter), ["é", "中"]);
        assert_eq!(pieces("", Level::Letter), Vec::<&str>::new());
        assert_eq!(pieces("a\nb", Level::Line), ["a\n", "b"]);
    }
}
