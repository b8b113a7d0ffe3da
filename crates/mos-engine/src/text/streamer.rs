//! Text of tokens as they come: whole characters only, and never a part of a stop text.

use mos_core::ModelError;

use super::TextCodec;

/// What came out of a token.
#[derive(Debug, PartialEq)]
pub(crate) enum Streamed {
    /// Text that is certain; may be empty.
    Text(String),
    /// The last text before a stop text.
    Stopped(String),
}

/// Decodes tokens one by one.
///
/// A character may need several tokens, and with some tokenizers a token's text depends on the one before. So a
/// window of recent tokens is decoded with and without the new ones, and the difference counts once it ends with a
/// whole character.
pub(crate) struct TextStreamer {
    tokens: Vec<u32>,
    /// Start of the window.
    window: usize,
    /// Tokens whose text was taken.
    taken: usize,
    stops: Vec<String>,
    /// Text that may be the beginning of a stop text.
    held: String,
}

impl TextStreamer {
    pub(crate) fn new(stops: &[String]) -> Self {
        let stops = stops.iter().filter(|stop| !stop.is_empty()).cloned().collect();
        Self { tokens: Vec::new(), window: 0, taken: 0, stops, held: String::new() }
    }

    /// Takes the next token.
    pub(crate) fn push(&mut self, codec: &TextCodec, token: u32) -> Result<Streamed, ModelError> {
        self.tokens.push(token);
        let before = codec.decode(&self.tokens[self.window..self.taken], false)?;
        let after = codec.decode(&self.tokens[self.window..], false)?;
        // U+FFFD at the end stands for the first bytes of a character. Four tokens hold any character: if it is still
        // there after that, the model wrote bytes that are none, or the sign itself.
        let incomplete = after.ends_with(char::REPLACEMENT_CHARACTER) && self.tokens.len() - self.taken < 4;
        if incomplete || after.len() <= before.len() {
            return Ok(Streamed::Text(String::new()));
        }
        let text = after.get(before.len()..).unwrap_or_default().to_owned();
        self.window = self.taken;
        self.taken = self.tokens.len();
        Ok(self.filter(&text))
    }

    /// Returns what was held back, at the end of an answer.
    pub(crate) fn finish(&mut self, codec: &TextCodec) -> Result<Streamed, ModelError> {
        let before = codec.decode(&self.tokens[self.window..self.taken], false)?;
        let after = codec.decode(&self.tokens[self.window..], false)?;
        self.taken = self.tokens.len();
        // Bytes that never became a character are left out: only whole characters are promised.
        let rest =
            after.get(before.len()..).unwrap_or_default().trim_end_matches(char::REPLACEMENT_CHARACTER).to_owned();
        Ok(match self.filter(&rest) {
            Streamed::Text(text) => Streamed::Text(text + &std::mem::take(&mut self.held)),
            stopped => stopped,
        })
    }

    fn filter(&mut self, text: &str) -> Streamed {
        self.held.push_str(text);
        if let Some(at) = self.stops.iter().filter_map(|stop| self.held.find(stop.as_str())).min() {
            let text = self.held[..at].to_owned();
            self.held.clear();
            return Streamed::Stopped(text);
        }
        let keep = self.stops.iter().map(|stop| overlap(&self.held, stop)).max().unwrap_or(0);
        let rest = self.held.split_off(self.held.len() - keep);
        Streamed::Text(std::mem::replace(&mut self.held, rest))
    }
}

/// Length of the longest beginning of `stop` that ends `text`.
fn overlap(text: &str, stop: &str) -> usize {
    let starts = stop.char_indices().map(|(at, _)| at).rev();
    starts.into_iter().find(|&len| len > 0 && text.ends_with(&stop[..len])).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filter(stops: &[&str], pieces: &[&str]) -> (String, bool, String) {
        let stops: Vec<String> = stops.iter().map(|&stop| stop.to_owned()).collect();
        let mut streamer = TextStreamer::new(&stops);
        let mut seen = String::new();
        for piece in pieces {
            match streamer.filter(piece) {
                Streamed::Text(text) => seen.push_str(&text),
                Streamed::Stopped(text) => return (seen + &text, true, streamer.held),
            }
        }
        (seen, false, streamer.held)
    }

    #[test]
    fn a_stop_text_across_pieces_is_never_seen() {
        assert_eq!(filter(&["</end>"], &["ab<", "/e", "nd", ">cd"]), ("ab".to_owned(), true, String::new()));
        assert_eq!(filter(&["\n\n"], &["a\n", "b\n", "\nc"]), ("a\nb".to_owned(), true, String::new()));
    }

    #[test]
    fn what_only_looks_like_a_stop_text_comes_out() {
        assert_eq!(filter(&["STOP"], &["ST", "ST", "AR"]), ("STSTAR".to_owned(), false, String::new()));
        assert_eq!(filter(&["世界"], &["世", "间世"]), ("世间".to_owned(), false, "世".to_owned()));
    }

    #[test]
    fn the_earliest_of_several_stop_texts_counts() {
        assert_eq!(filter(&["c", "b"], &["abc"]).0, "a");
        assert_eq!(filter(&[""], &["abc"]), ("abc".to_owned(), false, String::new()));
    }
}
