//! Merged prefixes against a plain implementation that joins tensors.

use std::sync::Arc;

use mos_engine::{KvPart, KvPrefix, KvSegment};

use crate::oracle::{Oracle, Pair, Past, difference, pairs, spread};
use crate::segments::{logits, segment, words};
use crate::support::bits;

/// Three memories, each computed alone, and a question.
struct Memories {
    segments: Vec<Arc<KvSegment>>,
    query: Vec<u32>,
}

fn memories(pair: &Pair) -> Memories {
    let texts: [&str; 4] = [
        "Ann lives in Lisbon and works as a gardener. She has two cats, Miso and Tofu, and a boat called Grebe.",
        "Last summer the company moved to a new office near the river; the rent is 4,200 a month, heating included.",
        "The recipe needs three eggs, a cup of flour, some butter, and twenty minutes in a hot oven.",
        "Question: what are the names of Ann's cats? Answer:",
    ];
    let tokens = |number: usize| match pair.name {
        "SmolLM2" => pair.model.tokenize(texts[number]).unwrap(),
        _ => words([40, 53, 33, 12][number], number as u32),
    };
    let alone = |number| segment(pair.model.decoder(), &tokens(number), &KvPrefix::default());
    Memories { segments: (0..3).map(alone).collect(), query: tokens(3) }
}

/// The first memory whole, the second whole, the third without its beginning; `place` says how each is attended.
fn joined(memories: &Memories, place: impl Fn(KvPart, usize) -> KvPart) -> KvPrefix {
    let mut prefix = KvPrefix::default();
    for (number, segment) in memories.segments.iter().enumerate() {
        let cut = if number == 2 { 7 } else { 0 };
        let part = KvPart { range: cut..segment.len(), ..KvPart::whole(Arc::clone(segment)) };
        let at = prefix.len();
        prefix.push_part(place(part, at)).unwrap();
    }
    prefix
}

fn as_rotated(part: KvPart, _: usize) -> KvPart {
    part
}

/// The keys and values of a prefix in single precision, the keys turned on as the parts say.
fn past(oracle: &Oracle, prefix: &KvPrefix) -> Past {
    let pasts: Vec<Past> =
        prefix.parts().map(|part| oracle.cached(&part.segment, part.range.clone(), part.shift)).collect();
    Oracle::cat(&pasts)
}

#[test]
fn concatenation_is_the_plain_cat_of_keys_and_values() {
    for pair in pairs() {
        let memories = memories(&pair);
        let prefix = joined(&memories, as_rotated);
        assert!(!prefix.is_exact() && prefix.exact_len() == memories.segments[0].len());
        let ours = logits(pair.model.decoder(), &memories.query, &prefix);
        let (theirs, _) = pair.oracle.run(&past(&pair.oracle, &prefix), prefix.len(), &memories.query);
        let distance = difference(&ours, &theirs);
        println!("{}: concat {distance:e} of {}, mean {:e}", pair.name, spread(&theirs), mean(&ours, &theirs));
        assert!(distance <= 1e-3 * spread(&theirs).max(1.0), "{}: {distance}", pair.name);
    }
}

/// How far two computations of the same model are apart that share nothing but the weights and the rounding of keys
/// and values; merged prefixes must not be further apart.
#[test]
fn an_exact_prefix_is_as_near_to_plain_operations_as_merged_ones() {
    for pair in pairs() {
        let memories = memories(&pair);
        let mut prefix = KvPrefix::default();
        prefix.push(Arc::clone(&memories.segments[1]));
        let ours = logits(pair.model.decoder(), &memories.query, &prefix);
        let (theirs, _) = pair.oracle.run(&past(&pair.oracle, &prefix), prefix.len(), &memories.query);
        let distance = difference(&ours, &theirs);
        println!("{}: exact {distance:e} of {}, mean {:e}", pair.name, spread(&theirs), mean(&ours, &theirs));
        assert!(distance <= 1e-3 * spread(&theirs).max(1.0), "{}: {distance}", pair.name);
    }
}

/// The mean difference.
fn mean(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(a, b)| f64::from((a - b).abs())).sum::<f64>() / a.len() as f64
}

#[test]
fn a_shifted_part_is_the_same_tokens_computed_where_it_stands() {
    for mut pair in pairs() {
        let memories = memories(&pair);
        let prefix = joined(&memories, KvPart::at);
        let ours = logits(pair.model.decoder(), &memories.query, &prefix);
        let (turned, _) = pair.oracle.run(&past(&pair.oracle, &prefix), prefix.len(), &memories.query);
        let distance = difference(&ours, &turned);
        // Computed anew at the later place, without context, and never rounded.
        pair.oracle.rounds = false;
        let mut place = 0;
        let mut pasts = Vec::new();
        for (number, segment) in memories.segments.iter().enumerate() {
            let cut = if number == 2 { 7 } else { 0 };
            let (_, all) = pair.oracle.run(&pair.oracle.nothing(), place - cut, segment.tokens());
            let len = segment.len() - cut;
            let kept = all.iter().map(|(k, v)| (k.narrow(1, cut, len).unwrap(), v.narrow(1, cut, len).unwrap()));
            pasts.push(kept.collect());
            place += len;
        }
        let (anew, _) = pair.oracle.run(&Oracle::cat(&pasts), place, &memories.query);
        let rounding = difference(&ours, &anew);
        let concat = logits(pair.model.decoder(), &memories.query, &joined(&memories, as_rotated));
        let moved = difference(&ours, &concat);
        let size = spread(&anew);
        let typical = mean(&ours, &turned);
        println!(
            "{}: shifted {distance:e} (mean {typical:e}), anew {rounding:e}, from concat {moved:e}, of {size}",
            pair.name
        );
        assert!(typical <= 1e-4 * f64::from(size), "{}: {typical}", pair.name);
        assert!(distance <= 1e-3 * size.max(1.0), "{}: {distance}", pair.name);
        assert!(rounding <= 0.01 * size, "{}: {rounding}", pair.name);
        assert!(moved > 10.0 * rounding, "{}: the shift must change something", pair.name);
    }
}

#[test]
fn a_shift_that_is_taken_back_changes_nothing() {
    for pair in pairs() {
        let memories = memories(&pair);
        let plain = logits(pair.model.decoder(), &memories.query, &joined(&memories, as_rotated));
        for distance in [1, 17, -30, 1000] {
            let there_and_back = |part: KvPart, _| {
                let own = part.position();
                let there = KvPart { shift: part.shift + distance, ..part };
                assert_eq!(there.shift, distance);
                there.at(own)
            };
            let back = logits(pair.model.decoder(), &memories.query, &joined(&memories, there_and_back));
            assert_eq!(bits(&back), bits(&plain), "{}: {distance}", pair.name);
        }
        // A conversation that moves as a whole, question included, is the same: only distances count.
        let decoder = pair.model.decoder();
        let first = KvPart::whole(Arc::clone(&memories.segments[0]));
        let mut behind = KvPrefix::default();
        behind.push_part(first.clone()).unwrap();
        let direct = logits(decoder, &memories.query, &behind);
        let (moved, _) = pair.oracle.run(
            &pair.oracle.cached(&first.segment, first.range.clone(), 50),
            first.len() + 50,
            &memories.query,
        );
        assert!(difference(&direct, &moved) <= 1e-2 * spread(&direct), "{}", pair.name);
    }
}

#[test]
fn cuts_of_merged_parts_never_show() {
    for pair in pairs() {
        let memories = memories(&pair);
        let whole = joined(&memories, KvPart::at);
        let mut cut = KvPrefix::default();
        for part in whole.parts() {
            for range in [0..1, 1..11, 11..part.len()] {
                let range = part.range.start + range.start..part.range.start + range.end;
                cut.push_part(KvPart { range, ..part.clone() }).unwrap();
            }
        }
        let decoder = pair.model.decoder();
        let query = &memories.query;
        assert_eq!(bits(&logits(decoder, query, &cut)), bits(&logits(decoder, query, &whole)), "{}", pair.name);
        // Nor does it show how the question is cut.
        let all = logits(decoder, query, &whole);
        let (mut tail, cancel) = (decoder.new_tail(), mos_engine::CancelToken::default());
        let mut pieces = Vec::new();
        for piece in query.chunks(5) {
            let want = mos_engine::LogitRows::All;
            pieces.extend(decoder.forward(piece, &whole, &mut tail, want, &cancel).unwrap());
        }
        assert_eq!(bits(&pieces), bits(&all), "{}", pair.name);
    }
}
