//! What the searches of all textual memories do in the same way.

use std::collections::{HashMap, HashSet};

use mos_core::{Duplicates, Filter, Hit, MemoryId, MemoryType, SearchRequest, Signal};

use crate::retrieve::{Limits, duplicates, is_tool_or_skill};

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

/// What a search answers with.
#[derive(Debug, Default)]
pub(crate) struct Settled {
    /// Best first.
    pub(crate) hits: Vec<Hit>,
    /// Says how many were left out because they are less relevant than was asked for, when there were any.
    pub(crate) left_out: Option<String>,
}

/// Returns what a search answers with, of hits that come best first: none that is less relevant than was asked for, no
/// repetitions, what is superseded behind the rest, and at most as many as are asked for. Of the same texts the one that is still
/// true stays.
///
/// What is not relevant goes first: it takes nobody's place, and makes nothing a repetition.
pub(crate) fn settled(
    mut hits: Vec<Hit>,
    request: &SearchRequest,
    vectors: &HashMap<MemoryId, Vec<f32>>,
    is_superseded: impl Fn(&Hit) -> bool,
) -> Settled {
    let left_out = only_relevant(&mut hits, request);
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
    let hits = match limits {
        None => true_first(hits, request.top_k, is_superseded),
        Some(limits) => {
            let n_hits = hits.len();
            limits.apply(true_first(hits, n_hits, is_superseded))
        }
    };
    Settled { hits, left_out }
}

/// Leaves out what is less relevant than was asked for, and returns a sentence that says so. Tools and skills that have limits
/// of their own are asked for by their number alone.
fn only_relevant(hits: &mut Vec<Hit>, request: &SearchRequest) -> Option<String> {
    let least = request.relevance;
    let (n_found, best) = (hits.len(), hits.iter().map(|hit| hit.relativity).fold(0.0, f32::max));
    hits.retain(|hit| hit.relativity >= least || (request.kinds.is_some() && is_tool_or_skill(hit)));
    let n_left_out = n_found - hits.len();
    (n_left_out > 0).then(|| {
        format!("{n_left_out} of {n_found} memories have a relativity below {least} and are left out; that of the best is {best:.3}")
    })
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
        assert_eq!(texts(&settled(hits.clone(), &request, &HashMap::new(), is_old).hits), ["b", "i live here"]);
        let all = SearchRequest { duplicates: Duplicates::Keep, ..request };
        let kept = settled(hits, &all, &HashMap::new(), is_old).hits;
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
            let settled = settled(hits.clone(), &request, &HashMap::new(), |_| false);
            settled.hits.into_iter().map(|hit| hit.item.id.to_string()).collect::<Vec<_>>()
        };
        assert_eq!(found(None), [id(1)]);
        assert_eq!(found(Some(KindLimits { tools: 0, skills: 1 })), [id(1), id(2)]);
        assert_eq!(found(Some(KindLimits::NONE)), [id(2)]);
        let relevant = |kinds| SearchRequest { kinds, relevance: 0.95, ..SearchRequest::new("x", 1) };
        let of_kinds = |kinds| settled(hits.clone(), &relevant(kinds), &HashMap::new(), |_| false).hits;
        assert!(of_kinds(None).is_empty());
        let skills = of_kinds(Some(KindLimits { tools: 0, skills: 2 }));
        assert_eq!(skills.len(), 2, "what has a limit of its own has no least relativity");
    }

    fn relevant(hits: &[Hit], relevance: f32) -> Settled {
        let request = SearchRequest { relevance, ..SearchRequest::new("x", 9) };
        settled(hits.to_vec(), &request, &HashMap::new(), is_superseded)
    }

    #[test]
    fn what_is_left_out_for_its_relativity_is_told() {
        let hits = [hit("a", 8.0), hit("b", 2.0)];
        let all = relevant(&hits, 0.0);
        assert_eq!((all.hits.len(), all.left_out), (2, None));
        let some = relevant(&hits, 0.5);
        assert_eq!(texts(&some.hits), ["a"]);
        let told = some.left_out.unwrap();
        assert!(told.starts_with("1 of 2 memories") && told.ends_with("0.800"), "{told}");
    }

    #[test]
    fn what_is_not_relevant_hides_nothing_that_is() {
        let mut old = hit("OLD", 9.0);
        let mut new = hit("new", 1.0);
        (old.item.memory, new.item.memory) = ("HERE".to_owned(), "here".to_owned());
        assert_eq!(texts(&relevant(&[old.clone(), new.clone()], 0.0).hits), ["here"]);
        assert_eq!(texts(&relevant(&[old, new], 0.5).hits), ["HERE"], "the true one fits too little");

        let hits = [hit("a", 9.0), hit("b", 8.0), hit("c", 1.0)];
        let vectors = HashMap::from(
            [("a", [1.0, 0.0]), ("b", [1.0, 0.0]), ("c", [0.0, 1.0])].map(|(id, at)| (MemoryId::from(id), at.to_vec())),
        );
        let chosen = |relevance: f32| {
            let duplicates = Duplicates::MarginalRelevance(0.5);
            let request = SearchRequest { duplicates, relevance, ..SearchRequest::new("x", 2) };
            settled(hits.to_vec(), &request, &vectors, |_| false)
        };
        assert_eq!(texts(&chosen(0.0).hits), ["a", "c"]);
        assert_eq!(texts(&chosen(0.5).hits), ["a", "b"], "a place is not spent on what is left out afterwards");
    }
}
