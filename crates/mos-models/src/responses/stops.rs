//! Ends answers before the first of some texts, for servers that cannot.

use futures::{StreamExt, stream};
use mos_core::FinishReason;

use crate::answer::{Delta, Deltas};
use crate::http::Refusal;

/// What is held back because it may be the beginning of a stop text.
struct Cutter {
    stops: Vec<String>,
    held: String,
    is_over: bool,
}

impl Cutter {
    /// Returns the text that can be shown, and notes whether a stop text came.
    fn text(&mut self, more: &str) -> String {
        self.held.push_str(more);
        if let Some(end) = self.stops.iter().filter_map(|stop| self.held.find(stop.as_str())).min() {
            self.is_over = true;
            self.held.truncate(end);
            return std::mem::take(&mut self.held);
        }
        let n_shown = self.held.len() - self.n_undecided();
        let undecided = self.held.split_off(n_shown);
        std::mem::replace(&mut self.held, undecided)
    }

    /// Returns how many bytes at the end may be the beginning of a stop text.
    fn n_undecided(&self) -> usize {
        let longest = |stop: &String| {
            let mut ends = stop.char_indices().map(|(end, _)| end).filter(|end| *end > 0).rev();
            ends.find(|end| self.held.ends_with(&stop[..*end])).unwrap_or(0)
        };
        self.stops.iter().map(longest).max().unwrap_or(0)
    }

    fn read(&mut self, delta: Delta) -> Vec<Delta> {
        match delta {
            Delta::Text(more) => {
                let mut deltas = vec![Delta::Text(self.text(&more))];
                if self.is_over {
                    deltas.extend([Delta::Finish(FinishReason::Stop), Delta::End]);
                }
                deltas
            }
            Delta::Finish(_) | Delta::End => vec![Delta::Text(std::mem::take(&mut self.held)), delta],
            other => vec![other],
        }
    }
}

/// Returns an answer that ends before the first of `stops`. Dropping the rest of it cancels the generation.
pub(super) fn cut(deltas: Deltas, stops: Vec<String>) -> Deltas {
    let stops: Vec<String> = stops.into_iter().filter(|stop| !stop.is_empty()).collect();
    if stops.is_empty() {
        return deltas;
    }
    let cutter = Cutter { stops, held: String::new(), is_over: false };
    stream::unfold((deltas, cutter), |(mut deltas, mut cutter)| async move {
        if cutter.is_over {
            return None;
        }
        let read: Vec<Result<Delta, Refusal>> = match deltas.next().await? {
            Ok(delta) => cutter.read(delta).into_iter().map(Ok).collect(),
            Err(refusal) => vec![Err(refusal)],
        };
        Some((stream::iter(read), (deltas, cutter)))
    })
    .flatten()
    .boxed()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(pieces: &[&str], stops: &[&str]) -> (String, bool) {
        let stops = stops.iter().map(|stop| (*stop).to_owned()).collect();
        let mut cutter = Cutter { stops, held: String::new(), is_over: false };
        let mut shown = String::new();
        for piece in pieces {
            shown.push_str(&cutter.text(piece));
            if cutter.is_over {
                return (shown, true);
            }
        }
        shown.push_str(&cutter.held);
        (shown, false)
    }

    #[test]
    fn answers_end_before_a_stop_text_wherever_it_is_cut() {
        let text = "eins, zwei, 停止 drei";
        for cut in (0..=text.len()).filter(|cut| text.is_char_boundary(*cut)) {
            let pieces = [&text[..cut], &text[cut..]];
            assert_eq!(shown(&pieces, &["停止"]), ("eins, zwei, ".to_owned(), true), "cut at {cut}");
            assert_eq!(shown(&pieces, &["nie", "weiter"]), (text.to_owned(), false), "cut at {cut}");
        }
        assert_eq!(shown(&["a###", "b"], &["b", "##"]), ("a".to_owned(), true), "the first one counts");
        assert_eq!(shown(&["aab", "aac"], &["aac"]), ("aab".to_owned(), true));
    }
}
