//! Cutting a conversation into scenes and windows.

use std::ops::Range;

use mos_core::language::Language;

use crate::chunk::{Chunker, TokenCounter};
use crate::options::ConversationCut;
use crate::turn::{Turn, language_of};

/// Turns that become one memory, and that a model is shown together.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Window {
    pub(crate) turns: Vec<Turn>,
}

impl Window {
    /// The text of the raw memory.
    pub(crate) fn text(&self) -> String {
        self.turns.iter().map(Turn::line).collect()
    }

    /// The text that a model is shown; turns are numbered from 1.
    pub(crate) fn numbered(&self) -> String {
        let lines = self.turns.iter().enumerate().map(|(index, turn)| turn.numbered(index + 1));
        lines.collect::<Vec<_>>().join("\n")
    }

    /// The language in which people talk in it.
    pub(crate) fn language(&self) -> Language {
        language_of(&self.turns)
    }

    /// What was said, without who and when.
    pub(crate) fn said(&self) -> String {
        self.turns.iter().map(|turn| turn.text.as_str()).collect::<Vec<_>>().join("\n")
    }
}

/// Returns the windows of a conversation, in order; every turn is in at least one.
pub(crate) fn windows(
    turns: Vec<Turn>,
    cut: &ConversationCut,
    tokens: &dyn TokenCounter,
    chunker: &dyn Chunker,
) -> Vec<Window> {
    let turns = match cut.window_tokens {
        Some(max) => turns.into_iter().flat_map(|turn| fitting(turn, max, tokens, chunker)).collect(),
        None => turns,
    };
    let scenes = match cut.scene {
        Some((size, overlap)) => scenes(turns.len(), size, overlap),
        None => scenes(turns.len(), turns.len(), 0),
    };
    let mut all: Vec<Window> = Vec::new();
    for scene in scenes.into_iter().filter(|scene| !scene.is_empty()) {
        let of_scene = match cut.window_tokens {
            Some(max) => token_windows(&turns[scene], max, cut.overlap_tokens, tokens),
            None => vec![Window { turns: turns[scene].to_vec() }],
        };
        for window in of_scene {
            // Scenes overlap, so that one may end with a window of the other.
            if !all.iter().rev().take(4).any(|known| known.turns == window.turns) {
                all.push(window);
            }
        }
    }
    all
}

/// Returns the ranges of `n` messages in scenes of `size`, each of which repeats the last `overlap` of the one before.
fn scenes(n: usize, size: usize, overlap: usize) -> Vec<Range<usize>> {
    let size = size.max(1);
    let step = size.saturating_sub(overlap).max(1);
    let mut scenes = Vec::new();
    let mut start = 0;
    while start < n {
        let end = (start + size).min(n);
        scenes.push(start..end);
        if end == n {
            break;
        }
        start += step;
    }
    scenes
}

/// Returns windows of at most `max` tokens (one turn at least); each repeats the last turns of the one before, as many as
/// fit into `overlap` tokens.
fn token_windows(turns: &[Turn], max: usize, overlap: usize, tokens: &dyn TokenCounter) -> Vec<Window> {
    let lengths: Vec<usize> = turns.iter().map(|turn| tokens.count(&turn.line())).collect();
    let mut windows = Vec::new();
    let (mut first, mut length) = (0, 0);
    for (place, more) in lengths.iter().enumerate() {
        if place > first && length + more > max {
            windows.push(Window { turns: turns[first..place].to_vec() });
            // A turn that fills the next window alone leaves no room for others.
            while first < place && (length > overlap || length + more > max) {
                length -= lengths[first];
                first += 1;
            }
        }
        length += more;
    }
    if first < turns.len() {
        windows.push(Window { turns: turns[first..].to_vec() });
    }
    windows
}

/// Returns a turn that is longer than a window in parts.
fn fitting(turn: Turn, max: usize, tokens: &dyn TokenCounter, chunker: &dyn Chunker) -> Vec<Turn> {
    if tokens.count(&turn.line()) <= max {
        return vec![turn];
    }
    let parts: Vec<String> = chunker.chunk_text(&turn.text).into_iter().map(|chunk| chunk.text).collect();
    let parts = if parts.is_empty() { vec![turn.text.clone()] } else { parts };
    parts.into_iter().map(|part| turn.part(part)).collect()
}

#[cfg(test)]
mod tests {
    use mos_core::Role;
    use mos_core::memory::SourceMessage;

    use super::*;
    use crate::chunk::Chunk;
    use crate::parse::{Document, Position};
    use crate::turn::ToolCall;
    use crate::turn::samples::turn;

    /// Counts what stands between spaces.
    #[derive(Debug)]
    struct WhitespaceWords;

    impl TokenCounter for WhitespaceWords {
        fn count(&self, text: &str) -> usize {
            text.split_whitespace().count()
        }
    }

    /// Cuts at full stops.
    #[derive(Debug)]
    struct Stops;

    impl Chunker for Stops {
        fn chunk(&self, document: &Document) -> Vec<Chunk> {
            document.blocks.iter().flat_map(|block| self.chunk_text(&block.text)).collect()
        }

        fn chunk_text(&self, text: &str) -> Vec<Chunk> {
            let parts = text.split_inclusive('.').map(|part| Chunk {
                text: part.trim().to_owned(),
                position: Position::default(),
                start: 0,
                end: part.len(),
            });
            parts.collect()
        }
    }

    fn cut(scene: Option<(usize, usize)>, window_tokens: Option<usize>, overlap_tokens: usize) -> ConversationCut {
        ConversationCut { scene, window_tokens, overlap_tokens }
    }

    fn indexes(windows: &[Window]) -> Vec<Vec<usize>> {
        windows.iter().map(|window| window.turns.iter().map(|turn| turn.index).collect()).collect()
    }

    #[test]
    fn the_windows_are_those_of_memos() {
        let turns: Vec<Turn> = (0..6).map(|n| turn(n, Role::User, &format!("word{n} word{n}"))).collect();
        let windows = windows(turns, &cut(None, Some(8), 4), &WhitespaceWords, &Stops);
        let told: Vec<String> = windows.iter().map(Window::text).collect();
        assert_eq!(told[0], "user: word0 word0\nuser: word1 word1\n");
        assert_eq!(told[4], "user: word4 word4\nuser: word5 word5\n");
        assert_eq!(indexes(&windows), [[0, 1], [1, 2], [2, 3], [3, 4], [4, 5]]);
    }

    #[test]
    fn scenes_are_those_of_memos() {
        assert_eq!(scenes(23, 10, 2), [0..10, 8..18, 16..23]);
        assert_eq!((scenes(10, 10, 2).len(), scenes(0, 10, 2).len()), (1, 0));
        let turns: Vec<Turn> = (0..12).map(|n| turn(n, Role::User, "x")).collect();
        let windows = windows(turns, &cut(Some((10, 2)), None, 0), &WhitespaceWords, &Stops);
        assert_eq!(indexes(&windows), [(0..10).collect::<Vec<_>>(), (8..12).collect()]);
    }

    #[test]
    fn long_turns_come_in_parts_and_nothing_is_lost() {
        let long = turn(0, Role::User, "One two three. Four five six. Seven.");
        let windows =
            windows(vec![long, turn(1, Role::User, "Eight.")], &cut(None, Some(5), 1), &WhitespaceWords, &Stops);
        assert_eq!(indexes(&windows), [vec![0], vec![0], vec![0, 1]]);
        let text: String = windows.iter().map(Window::text).collect();
        assert!(["three.", "Four", "Seven.", "Eight."].iter().all(|word| text.contains(word)), "{text}");
        assert_eq!(windows[1].turns[0].sources[0].content.as_deref(), Some("Four five six."));
    }

    #[test]
    fn a_long_call_is_not_repeated_in_every_part_of_its_turn() {
        let mut long = turn(0, Role::Assistant, "One two three. Four five six. Seven.");
        let source = |kind: &str, content: &str| SourceMessage {
            kind: kind.to_owned(),
            content: Some(content.to_owned()),
            ..SourceMessage::default()
        };
        long.sources.push(source("tool_calls", "Four five six. Seven."));
        let (id, name) = ("c1".to_owned(), "write".to_owned());
        long.calls = vec![ToolCall { id, name, arguments: "Four five six. Seven.".to_owned() }];
        let contents = |turn: &Turn| turn.sources.iter().map(|source| source.content.clone()).collect::<Vec<_>>();
        let whole = cut(None, Some(5), 1);
        for window in windows(vec![long.clone()], &whole, &WhitespaceWords, &Stops) {
            assert!(window.turns.iter().all(|turn| turn.calls.is_empty()));
            assert_eq!(contents(&window.turns[0]), [Some(window.turns[0].text.clone()), None]);
        }
        long.sources.remove(0);
        let windows = windows(vec![long], &whole, &WhitespaceWords, &Stops);
        assert_eq!(contents(&windows[1].turns[0]), [Some("Four five six.".to_owned())], "the call is all there is");
    }
}
