//! Reads JSON as it was meant, one value from the beginning of a text.

use serde_json::{Map, Number, Value};

/// How deep objects and lists may stand in each other.
const MAX_DEPTH: usize = 64;

/// The text is not JSON, nor nearly; or it takes too long to find out.
#[derive(Debug)]
pub(super) struct Unreadable;

type Read<T> = Result<T, Unreadable>;

/// Reads one object or list. Where the text (or the fence around it) ends too early, what is open is closed and what is
/// half-written is left out.
pub(super) struct Reader<'a, 'b> {
    text: &'a str,
    at: usize,
    budget: &'b mut usize,
    is_cut: bool,
}

/// What comes next where something may stand.
#[derive(Clone, Copy, PartialEq)]
enum Next {
    End,
    Char(char),
}

impl<'a, 'b> Reader<'a, 'b> {
    /// Reads `text` from its beginning, at most so many bytes over all.
    pub(super) fn new(text: &'a str, budget: &'b mut usize) -> Self {
        Self { text, at: 0, budget, is_cut: false }
    }

    /// How many bytes were read.
    pub(super) fn position(&self) -> usize {
        self.at
    }

    /// Whether the text ended before the value did.
    pub(super) fn is_cut(&self) -> bool {
        self.is_cut
    }

    /// Returns the object or list that the text begins with.
    pub(super) fn container(&mut self) -> Read<Value> {
        match self.value(0)? {
            Some(value @ (Value::Object(_) | Value::Array(_))) => Ok(value),
            _ => Err(Unreadable),
        }
    }

    /// Returns the next value; `None` when the text ends within it.
    fn value(&mut self, depth: usize) -> Read<Option<Value>> {
        if depth > MAX_DEPTH {
            return Err(Unreadable);
        }
        match self.next()? {
            Next::End => Ok(None),
            Next::Char('{') => self.object(depth).map(Some),
            Next::Char('[') => self.list(depth).map(Some),
            Next::Char(quote) if closing_quote(quote).is_some() => Ok(self.string()?.map(Value::String)),
            Next::Char(first) if first.is_ascii_digit() || matches!(first, '-' | '+' | '.') => self.number(),
            Next::Char(first) if first.is_ascii_alphabetic() => self.word(),
            Next::Char(_) => Err(Unreadable),
        }
    }

    fn object(&mut self, depth: usize) -> Read<Value> {
        self.skip('{')?;
        let mut map = Map::new();
        loop {
            match self.next_element()? {
                Next::End => {
                    self.is_cut = true;
                    break;
                }
                Next::Char('}') => {
                    self.skip('}')?;
                    break;
                }
                // The closing brace was forgotten.
                Next::Char(']') => break,
                Next::Char(_) => {}
            }
            let Some(key) = self.key()? else {
                self.is_cut = true;
                break;
            };
            match self.next()? {
                Next::End => {
                    self.is_cut = true;
                    break;
                }
                Next::Char(':') => self.skip(':')?,
                Next::Char(_) => return Err(Unreadable),
            }
            let value = match self.next()? {
                Next::Char(',' | '}') => Some(Value::Null),
                _ => self.value(depth + 1)?,
            };
            // An object or list that was cut off keeps what is whole in it.
            match value {
                Some(value) if !(self.is_cut && super::is_hollow(&value)) => drop(map.insert(key, value)),
                Some(_) => {}
                None => self.is_cut = true,
            }
            if self.is_cut {
                break;
            }
        }
        Ok(Value::Object(map))
    }

    fn list(&mut self, depth: usize) -> Read<Value> {
        self.skip('[')?;
        let mut elements = Vec::new();
        loop {
            match self.next_element()? {
                Next::End => {
                    self.is_cut = true;
                    break;
                }
                Next::Char(']') => {
                    self.skip(']')?;
                    break;
                }
                // The closing bracket was forgotten.
                Next::Char('}') => break,
                Next::Char(_) => {}
            }
            match self.value(depth + 1)? {
                // Half an element is worth nothing: its other half may turn its meaning round.
                Some(value) if !self.is_cut => elements.push(value),
                _ => {
                    self.is_cut = true;
                    break;
                }
            }
        }
        Ok(Value::Array(elements))
    }

    /// Returns a key: a string, or a bare name.
    fn key(&mut self) -> Read<Option<String>> {
        match self.next()? {
            Next::End => Ok(None),
            Next::Char(quote) if closing_quote(quote).is_some() => self.string(),
            Next::Char(first) if first.is_alphabetic() || first == '_' || first == '$' => {
                let name = self.take_while(|letter| letter.is_alphanumeric() || matches!(letter, '_' | '$' | '-'))?;
                Ok((!self.is_at_end()).then(|| name.to_owned()))
            }
            Next::Char(_) => Err(Unreadable),
        }
    }

    /// Returns a string; `None` when the text ends within it.
    fn string(&mut self) -> Read<Option<String>> {
        let open = self.rest().chars().next().ok_or(Unreadable)?;
        let close = closing_quote(open).ok_or(Unreadable)?;
        self.skip(open)?;
        let mut string = String::new();
        while let Some(letter) = self.rest().chars().next() {
            self.skip(letter)?;
            if letter == close && self.ends_string() {
                return Ok(Some(string));
            }
            if letter != '\\' {
                string.push(letter);
                continue;
            }
            match self.escaped()? {
                None => return Ok(None),
                Some(escaped) => string.push(escaped),
            }
        }
        Ok(None)
    }

    /// Whether a quote that was just read ends its string: otherwise somebody is quoted within it.
    fn ends_string(&self) -> bool {
        let rest = self.rest();
        let following = rest.trim_start();
        let is_new_line = rest[..rest.len() - following.len()].contains('\n');
        match following.chars().next() {
            None | Some(',' | ':' | '}' | ']' | '#') => true,
            Some('/') => following.starts_with("//") || following.starts_with("/*"),
            Some('`') => following.starts_with("```"),
            // The comma between two lines was forgotten.
            Some(letter) => is_new_line && (closing_quote(letter).is_some() || matches!(letter, '{' | '[')),
        }
    }

    /// Returns the character of an escape whose backslash was read; `None` when the text ends within it.
    fn escaped(&mut self) -> Read<Option<char>> {
        let Some(letter) = self.rest().chars().next() else { return Ok(None) };
        self.skip(letter)?;
        Ok(Some(match letter {
            'n' => '\n',
            't' => '\t',
            'r' => '\r',
            'b' => '\u{8}',
            'f' => '\u{c}',
            'u' => return self.unicode(),
            other => other,
        }))
    }

    /// Returns the character of `\uXXXX`, or of a pair of surrogates; a half pair is the replacement character.
    fn unicode(&mut self) -> Read<Option<char>> {
        let Some(first) = self.four_digits()? else { return Ok(self.unfinished_escape()) };
        if !(0xd800..0xdc00).contains(&first) {
            return Ok(Some(char::from_u32(first).unwrap_or(char::REPLACEMENT_CHARACTER)));
        }
        let before = self.at;
        if self.rest().starts_with("\\u") {
            self.skip('\\')?;
            self.skip('u')?;
            match self.four_digits()? {
                Some(second) if (0xdc00..0xe000).contains(&second) => {
                    let code = 0x1_0000 + ((first - 0xd800) << 10) + (second - 0xdc00);
                    return Ok(Some(char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER)));
                }
                _ => self.at = before,
            }
        }
        Ok(Some(char::REPLACEMENT_CHARACTER))
    }

    fn four_digits(&mut self) -> Read<Option<u32>> {
        let Some(digits) = self.rest().get(..4).filter(|digits| digits.chars().all(|digit| digit.is_ascii_hexdigit()))
        else {
            return Ok(None);
        };
        self.spend(4)?;
        self.at += 4;
        Ok(u32::from_str_radix(digits, 16).ok())
    }

    /// Without its digits `\u` is a `u`, unless the text ends there.
    fn unfinished_escape(&self) -> Option<char> {
        (self.rest().len() >= 4).then_some('u')
    }

    /// Returns a number; `None` when the text ends right after it: more digits may have been to come.
    fn number(&mut self) -> Read<Option<Value>> {
        let digits = self.take_while(|c| c.is_ascii_digit() || matches!(c, '+' | '-' | '.' | 'e' | 'E'))?;
        if self.is_at_end() {
            return Ok(None);
        }
        let digits = digits.strip_prefix('+').unwrap_or(digits);
        match serde_json::from_str::<Number>(digits) {
            Ok(number) => Ok(Some(Value::Number(number))),
            Err(_) => {
                let number: f64 = digits.parse().map_err(|_| Unreadable)?;
                Number::from_f64(number).map(|number| Some(Value::Number(number))).ok_or(Unreadable)
            }
        }
    }

    /// Returns a constant, in JSON's, Python's or JavaScript's spelling; `None` when the text ends right after it.
    fn word(&mut self) -> Read<Option<Value>> {
        let word = self.take_while(|letter| letter.is_ascii_alphanumeric() || letter == '_')?;
        if self.is_at_end() {
            let lower = word.to_ascii_lowercase();
            let may_go_on = ["true", "false", "null", "none", "undefined", "nan"].iter().any(|w| w.starts_with(&lower));
            return if may_go_on { Ok(None) } else { Err(Unreadable) };
        }
        match word {
            "true" | "True" | "TRUE" => Ok(Some(Value::Bool(true))),
            "false" | "False" | "FALSE" => Ok(Some(Value::Bool(false))),
            "null" | "None" | "NULL" | "Null" | "undefined" | "NaN" | "nan" => Ok(Some(Value::Null)),
            _ => Err(Unreadable),
        }
    }

    /// Passes over spaces, comments and commas, and tells what follows.
    fn next_element(&mut self) -> Read<Next> {
        loop {
            match self.next()? {
                Next::Char(',') => self.skip(',')?,
                other => return Ok(other),
            }
        }
    }

    /// Passes over spaces and comments, and tells what follows. The end of a fence is the end.
    fn next(&mut self) -> Read<Next> {
        loop {
            self.take_while(|letter| letter.is_whitespace() || letter == '\u{feff}')?;
            let rest = self.rest();
            let comment = if rest.starts_with("//") || rest.starts_with('#') {
                rest.find('\n').unwrap_or(rest.len())
            } else if rest.starts_with("/*") {
                rest.find("*/").map_or(rest.len(), |end| end + 2)
            } else {
                return Ok(match rest.chars().next() {
                    None => Next::End,
                    Some('`') if rest.starts_with("```") => Next::End,
                    Some(letter) => Next::Char(letter),
                });
            };
            self.spend(comment)?;
            self.at += comment;
        }
    }

    fn is_at_end(&self) -> bool {
        self.rest().is_empty()
    }

    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn take_while(&mut self, is_wanted: impl Fn(char) -> bool) -> Read<&'a str> {
        let rest = self.rest();
        let length = rest.find(|letter| !is_wanted(letter)).unwrap_or(rest.len());
        self.spend(length)?;
        self.at += length;
        Ok(&rest[..length])
    }

    /// Passes over a character that is known to come next.
    fn skip(&mut self, letter: char) -> Read<()> {
        self.spend(letter.len_utf8())?;
        self.at += letter.len_utf8();
        Ok(())
    }

    fn spend(&mut self, n_bytes: usize) -> Read<()> {
        match self.budget.checked_sub(n_bytes) {
            Some(left) => *self.budget = left,
            None => {
                *self.budget = 0;
                return Err(Unreadable);
            }
        }
        Ok(())
    }
}

/// The quote that ends what a quote begins; `None` for other characters.
fn closing_quote(open: char) -> Option<char> {
    match open {
        '"' | '\'' => Some(open),
        '“' => Some('”'),
        '‘' => Some('’'),
        _ => None,
    }
}
