//! What the searches of all textual memories do in the same way.

use std::collections::{HashMap, HashSet};

use mos_core::{Duplicates, Filter, Found, Hit, MemoryId, MemoryType, SearchRequest, Signal};

use crate::retrieve::{Limits, duplicates};

/// Of how many hits one may tell of what is true no more while there is enough that is.
const SUPERSEDED_SHARE: usize = 5;

/// Lets pass memories of these types; of any, when there are none.
pub(crate) fn of_types(types: &[MemoryType]) -> Filter {
    match types {
        [] => Filter::Everything,
        types => Filter::one_of("memory_type", types.iter().map(|kind| kind.as_str())),
    }
}

/// Returns at most `limit` hits: what is true in its order, then what is superseded. Of those, the ones that are among the
/// best `limit` have up to a fifth of the places; the others fill what is left. Scores and relativities keep falling.
pub(crate) fn true_first(hits: Vec<Hit>, limit: usize, is_superseded: impl Fn(&Hit) -> bool) -> Vec<Hit> {
    let n_among_best = hits.iter().take(limit).filter(|hit| is_superseded(hit)).count();
    let (superseded, mut found): (Vec<Hit>, Vec<Hit>) = hits.into_iter().partition(|hit| is_superseded(hit));
    found.truncate(limit - n_among_best.min(limit / SUPERSEDED_SHARE));
    let n_left = limit - found.len();
    for mut hit in superseded.into_iter().take(n_left) {
        if let Some(last) = found.last() {
            hit.score = hit.score.min(last.score);
            hit.relativity = hit.relativity.min(last.relativity);
        }
        hit.signals.push(Signal { name: "superseded", score: 1.0 });
        found.push(hit);
    }
    found
}

/// Returns what a search answers with, of hits that come best first: no repetitions, what is superseded behind the rest, and
/// at most as many as are asked for. Of the same texts the one that is still true stays.
pub(crate) fn settled(
    mut hits: Vec<Hit>,
    request: &SearchRequest,
    vectors: &HashMap<MemoryId, Vec<f32>>,
    is_superseded: impl Fn(&Hit) -> bool,
) -> Vec<Hit> {
    let limits = request.kinds.map(|kinds| Limits::asked(request.top_k, kinds));
    let mut places: Vec<usize> = (0..hits.len()).collect();
    places.sort_by_key(|&place| is_superseded(&hits[place]));
    let chosen: HashSet<usize> = {
        let ordered: Vec<&Hit> = places.iter().map(|&place| &hits[place]).collect();
        let limit = match request.duplicates {
            // It chooses as many as there are places; all others only leave out.
            Duplicates::MarginalRelevance(_) => limits.map_or(request.top_k, Limits::total),
            Duplicates::Keep | Duplicates::SameText | Duplicates::Similar(_) => usize::MAX,
        };
        let kept = duplicates::kept(request.duplicates, &ordered, vectors, limit);
        kept.into_iter().map(|index| places[index]).collect()
    };
    let mut place = 0;
    hits.retain(|_| {
        place += 1;
        chosen.contains(&(place - 1))
    });
    match limits {
        None => true_first(hits, request.top_k, is_superseded),
        Some(limits) => {
            let n_hits = hits.len();
            limits.apply(true_first(hits, n_hits, is_superseded))
        }
    }
}

/// Leaves out what is less relevant than was asked for, and says so.
pub(crate) fn only_relevant(found: &mut Found, least: f32) {
    let (n_found, best) = (found.hits.len(), found.hits.first().map_or(0.0, |hit| hit.relativity));
    found.hits.retain(|hit| hit.relativity >= least);
    let n_left_out = n_found - found.hits.len();
    if n_left_out > 0 {
        found.note(format!(
            "{n_left_out} of {n_found} memories have a relativity below {least} and are left out; that of the best is {best:.3}"
        ));
    }
}

#[cfg(test)]
mod tests {
    use mos_core::{KindLimits, MemoryItem};

    use super::*;

    fn hit(name: &str, score: f32) -> Hit {
        Hit::new(MemoryItem::new(MemoryId::from(name), name), score, score / 10.0, Vec::new())
    }

    fn is_superseded(hit: &Hit) -> bool {
        hit.item.memory.chars().all(char::is_uppercase)
    }

    /// Hits of these scores; those whose names are in capitals are superseded.
    fn ordered(hits: &[(&str, f32)], limit: usize) -> Vec<(String, f32)> {
        let found = true_first(hits.iter().map(|(name, score)| hit(name, *score)).collect(), limit, is_superseded);
        assert!(found.windows(2).all(|pair| pair[0].score >= pair[1].score), "scores fall");
        let marked = |hit: &Hit| hit.signals.iter().any(|signal| signal.name == "superseded");
        assert!(found.iter().all(|hit| marked(hit) == is_superseded(hit)));
        found.into_iter().map(|hit| (hit.item.memory, hit.score)).collect()
    }

    fn names(found: Vec<(String, f32)>) -> String {
        found.into_iter().map(|(name, _)| name).collect()
    }

    #[test]
    fn what_is_true_no_more_stands_behind_and_costs_nobody_much() {
        assert_eq!(ordered(&[("P", 3.0), ("b", 2.0)], 2), [("b".to_owned(), 2.0), ("P".to_owned(), 2.0)]);
        assert_eq!(names(ordered(&[("P", 3.0), ("b", 2.0)], 1)), "b");
        let six = [("A", 9.0), ("B", 8.0), ("c", 7.0), ("d", 6.0), ("e", 5.0), ("f", 4.0), ("g", 3.0)];
        assert_eq!(names(ordered(&six, 5)), "cdefA", "a fifth for those among the best");
        let late = [("a", 9.0), ("b", 8.0), ("c", 7.0), ("d", 6.0), ("e", 5.0), ("F", 4.0)];
        assert_eq!(names(ordered(&late, 5)), "abcde");
        assert_eq!(names(ordered(&late, 10)), "abcdeF", "they fill what is left");
        assert!(ordered(&[], 5).is_empty());
    }

    fn texts(hits: &[Hit]) -> Vec<&str> {
        hits.iter().map(|hit| hit.item.memory.as_str()).collect()
    }

    #[test]
    fn of_the_same_texts_the_true_one_stays() {
        let mut old = hit("OLD", 9.0);
        let mut new = hit("new", 3.0);
        (old.item.memory, new.item.memory) = ("I LIVE HERE".to_owned(), "i live here".to_owned());
        let is_old = |hit: &Hit| hit.item.id.as_str() == "OLD";
        let hits = vec![old, hit("b", 5.0), new];
        let request = SearchRequest::new("x", 9);
        assert_eq!(texts(&settled(hits.clone(), &request, &HashMap::new(), is_old)), ["b", "i live here"]);
        let all = SearchRequest { duplicates: Duplicates::Keep, ..request };
        let kept = settled(hits, &all, &HashMap::new(), is_old);
        assert_eq!(texts(&kept), ["b", "i live here", "I LIVE HERE"]);
        assert!(kept.windows(2).all(|pair| pair[0].relativity >= pair[1].relativity));
    }

    #[test]
    fn kinds_have_limits_of_their_own_when_that_is_asked_for() {
        let of_kind = |name: &str, score: f32, kind: &str| {
            let value =
                serde_json::json!({"id": hit(name, 0.0).item.id, "memory": name, "metadata": {"memory_type": kind}});
            Hit { item: MemoryItem::from_value(value, String::new).unwrap(), ..hit(name, score) }
        };
        let id = |number: u8| format!("00000000-0000-4000-8000-0000000000{number:02}");
        let hits = vec![
            of_kind(&id(1), 9.0, "SkillMemory"),
            of_kind(&id(2), 8.0, "LongTermMemory"),
            of_kind(&id(3), 7.0, "SkillMemory"),
            of_kind(&id(4), 6.0, "UserMemory"),
        ];
        let found = |kinds: Option<KindLimits>| {
            let request = SearchRequest { kinds, ..SearchRequest::new("x", 1) };
            let hits = settled(hits.clone(), &request, &HashMap::new(), |_| false);
            hits.into_iter().map(|hit| hit.item.id.to_string()).collect::<Vec<_>>()
        };
        assert_eq!(found(None), [id(1)]);
        assert_eq!(found(Some(KindLimits { tools: 0, skills: 1 })), [id(1), id(2)]);
        assert_eq!(found(Some(KindLimits::NONE)), [id(2)]);
    }

    #[test]
    fn what_is_left_out_for_its_relativity_is_told() {
        let mut found = Found { hits: vec![hit("a", 8.0), hit("b", 2.0)], notes: Vec::new() };
        only_relevant(&mut found, 0.0);
        assert_eq!((found.hits.len(), found.notes.len()), (2, 0));
        only_relevant(&mut found, 0.5);
        assert_eq!(texts(&found.hits), ["a"]);
        assert!(
            found.notes[0].starts_with("1 of 2 memories") && found.notes[0].ends_with("0.800"),
            "{:?}",
            found.notes
        );
    }
}
