//! Partial recomputation of merged prefixes.

use std::sync::Arc;

use half::f16;
use mos_core::ModelError;
use mos_engine::{CancelToken, Decoder, KvPart, KvPrefix, KvSegment, context_of};
use serde_json::json;

use crate::oracle::{Pair, deep_config, deep_qwen3, difference, pairs, spread, tiny};
use crate::segments::{contents, logits, open_tiny, segment, words};
use crate::support::{bits, tiny_gemma3};

fn blend(decoder: &Decoder, prefix: &KvPrefix, ratio: f32) -> Arc<KvSegment> {
    let blended = decoder.blend(prefix, ratio, 1, &CancelToken::default()).unwrap();
    assert_eq!((blended.start(), blended.len()), (0, prefix.len()));
    assert_eq!(blended.tokens(), prefix.tokens().collect::<Vec<_>>());
    Arc::new(blended)
}

fn only(segment: &Arc<KvSegment>) -> KvPrefix {
    let mut prefix = KvPrefix::default();
    prefix.push(Arc::clone(segment));
    prefix
}

/// Some memories, computed alone, one after the other.
fn merged(pair: &Pair, place: impl Fn(KvPart, usize) -> KvPart) -> (KvPrefix, Vec<u32>) {
    let texts = [
        "The train to Porto leaves at nine.",
        "Ben prefers the window seat, and Ann, who gets sick on trains, prefers to sit near the door.",
        "They meet at the station, under the clock, a quarter of an hour before the train leaves.",
        "When do they meet?",
    ];
    let real = pair.name == "SmolLM2";
    let tokens = |number: usize| {
        if real { pair.model.tokenize(texts[number]).unwrap() } else { words(20 + 9 * number, number as u32) }
    };
    let mut prefix = KvPrefix::default();
    for number in 0..3 {
        let alone = segment(pair.model.decoder(), &tokens(number), &KvPrefix::default());
        let at = prefix.len();
        prefix.push_part(place(KvPart::whole(alone), at)).unwrap();
    }
    (prefix, tokens(3))
}

fn as_rotated(part: KvPart, _: usize) -> KvPart {
    part
}

#[test]
fn recomputing_everything_is_a_full_prefill() {
    for pair in pairs() {
        let decoder = pair.model.decoder();
        let (prefix, query) = merged(&pair, KvPart::at);
        let tokens: Vec<u32> = prefix.tokens().collect();
        let full = segment(decoder, &tokens, &KvPrefix::default());
        let blended = blend(decoder, &prefix, 1.0);
        let (ours, theirs) = (logits(decoder, &query, &only(&blended)), logits(decoder, &query, &only(&full)));
        println!("{}: ratio 1 differs by {:e} of {}", pair.name, difference(&ours, &theirs), spread(&theirs));
        assert_eq!(contents(&blended), contents(&full), "{}", pair.name);
        assert_eq!(bits(&ours), bits(&theirs), "{}", pair.name);
        assert_eq!(blended.context(), Some(context_of([])));
        assert!(only(&blended).is_exact());
    }
}

#[test]
fn recomputing_nothing_keeps_what_was_shifted() {
    for pair in pairs() {
        let decoder = pair.model.decoder();
        let (prefix, query) = merged(&pair, KvPart::at);
        let blended = blend(decoder, &prefix, 0.0);
        assert_eq!(blended.context(), None);
        let full = segment(decoder, &prefix.tokens().collect::<Vec<_>>(), &KvPrefix::default());
        let shape = blended.shape();
        let mut furthest = 0.0_f32;
        for layer in 0..shape.layers {
            if layer <= 1 {
                assert_eq!(blended.keys(layer), full.keys(layer), "{}: the first layers are fresh", pair.name);
                assert_eq!(blended.values(layer), full.values(layer));
                continue;
            }
            let mut place = 0;
            for part in prefix.parts() {
                let (shifted, _) = pair.oracle.cached(&part.segment, part.range.clone(), part.shift).remove(layer);
                let shifted: Vec<f32> = shifted.flatten_all().unwrap().to_vec1().unwrap();
                let keys = rows(&blended.keys(layer), shape, blended.len(), place, part.len());
                furthest = furthest.max(difference(&keys, &shifted) / spread(&shifted));
                let values = rows(&blended.values(layer), shape, blended.len(), place, part.len());
                let own = rows(&part.segment.values(layer), shape, part.segment.len(), 0, part.len());
                assert_eq!(bits(&values), bits(&own), "{}: layer {layer}", pair.name);
                place += part.len();
            }
        }
        println!("{}: ratio 0 keys differ by {furthest:e} of the largest", pair.name);
        assert!(furthest <= 1e-3, "{}: {furthest}", pair.name);
        let ours = logits(decoder, &query, &only(&blended));
        // Parts that were never shifted are rotated to their places all the same.
        let (unshifted, _) = merged(&pair, as_rotated);
        assert_eq!(contents(&blend(decoder, &unshifted, 0.0)), contents(&blended), "{}", pair.name);
        assert!(difference(&ours, &logits(decoder, &query, &only(&full))) > 0.0);
    }
}

/// Tokens `place..place + count` of `[kv_heads, tokens, head_dim]`, as floats.
fn rows(all: &[u16], shape: mos_engine::KvShape, tokens: usize, place: usize, count: usize) -> Vec<f32> {
    let heads = all.chunks_exact(tokens * shape.head_dim);
    heads
        .flat_map(|head| &head[place * shape.head_dim..(place + count) * shape.head_dim])
        .map(|&bits| f16::from_bits(bits).to_f32())
        .collect()
}

#[test]
fn more_recomputation_comes_closer_to_the_full_prefill_on_the_real_model() {
    let pair = pairs().pop().unwrap();
    let decoder = pair.model.decoder();
    let (prefix, query) = merged(&pair, KvPart::at);
    let full = segment(decoder, &prefix.tokens().collect::<Vec<_>>(), &KvPrefix::default());
    let direct = logits(decoder, &query, &only(&full));
    let mean = |other: &[f32]| {
        let sum: f64 = other.iter().zip(&direct).map(|(a, b)| f64::from((a - b).powi(2))).sum();
        (sum / direct.len() as f64).sqrt()
    };
    let shifted = mean(&logits(decoder, &query, &prefix));
    let distances: Vec<f64> = [0.0, 0.15, 0.5, 1.0]
        .into_iter()
        .map(|ratio| mean(&logits(decoder, &query, &only(&blend(decoder, &prefix, ratio)))))
        .collect();
    println!("root mean square from the full prefill: shifted {shifted:.4}, ratios 0, .15, .5, 1: {distances:.4?}");
    assert!(distances[2] < distances[0] && distances[1] < shifted && distances[3] == 0.0, "{distances:?}");
}

#[test]
fn an_exact_beginning_is_kept_as_it_is() {
    let (_folder, model) = open_tiny();
    let decoder = model.decoder();
    let exact = segment(decoder, &words(45, 1), &KvPrefix::default());
    for ratio in [0.0, 0.5, 1.0] {
        let blended = blend(decoder, &only(&exact), ratio);
        assert_eq!(contents(&blended), contents(&exact));
        assert_eq!(blended.context(), exact.context());
    }
    let mut prefix = only(&exact).truncated(29);
    prefix.push_part(KvPart::whole(segment(decoder, &words(30, 2), &KvPrefix::default())).at(29)).unwrap();
    let full = segment(decoder, &prefix.tokens().collect::<Vec<_>>(), &KvPrefix::default());
    assert_eq!(contents(&blend(decoder, &prefix, 1.0)), contents(&full));
    let blended = blend(decoder, &prefix, 0.2);
    let shape = blended.shape();
    for layer in 0..shape.layers {
        let beginning = |segment: &KvSegment| bits(&rows(&segment.keys(layer), shape, segment.len(), 0, 29));
        assert_eq!(beginning(&blended), beginning(&full));
    }
    assert_eq!(decoder.blend(&KvPrefix::default(), 0.5, 1, &CancelToken::default()).unwrap().len(), 0);
}

/// More tokens than a chunk holds, in the first layers and among the selected ones; few that are far apart, too.
#[test]
fn chunks_never_show() {
    for mut config in [deep_config(), deep_qwen3(), tiny_gemma3()] {
        config["max_position_embeddings"] = json!(1024);
        chunks_never_show_in(&tiny("long", &config), &config["model_type"]);
    }
}

fn chunks_never_show_in(pair: &Pair, what: &serde_json::Value) {
    let decoder = pair.model.decoder();
    let mut prefix = KvPrefix::default();
    for number in 0..7 {
        let alone = segment(decoder, &words(100, number), &KvPrefix::default());
        let at = prefix.len();
        prefix.push_part(KvPart::whole(alone).at(at)).unwrap();
    }
    let full = segment(decoder, &prefix.tokens().collect::<Vec<_>>(), &KvPrefix::default());
    assert_eq!(contents(&blend(decoder, &prefix, 1.0)), contents(&full), "{what}");
    // Half, or 24, of the 600 tokens that are not exact already are computed: in the layer after the selecting one they are
    // those of the full prefill, two heads each.
    let equal_rows = |ratio: f32| {
        let blended = blend(decoder, &prefix, ratio);
        let (ours, theirs) = (blended.values(2), full.values(2));
        let width = blended.shape().head_dim;
        ours.chunks_exact(width).zip(theirs.chunks_exact(width)).filter(|(a, b)| a == b).count()
    };
    let (none, few, half) = (equal_rows(0.0), equal_rows(0.04), equal_rows(0.5));
    assert!((200..300).contains(&none) && (800..900).contains(&half), "{what}: {none}, {half}");
    assert!((none + 40..=none + 48).contains(&few), "{what}: {none}, {few}");
}

#[test]
fn the_tokens_that_deviate_most_are_computed() {
    for pair in pairs() {
        let decoder = pair.model.decoder();
        let (prefix, _) = merged(&pair, KvPart::at);
        let full = segment(decoder, &prefix.tokens().collect::<Vec<_>>(), &KvPrefix::default());
        let (blended, shape, len) = (blend(decoder, &prefix, 0.3), full.shape(), full.len());
        // Squared distance per token in layer 1, fresh from kept.
        let mut deviations = vec![0.0_f32; len];
        let mut place = 0;
        for part in prefix.parts() {
            let kept = pair.oracle.cached(&part.segment, part.range.clone(), part.shift).remove(1);
            for (fresh, kept) in [(full.keys(1), kept.0), (full.values(1), kept.1)] {
                let fresh = rows(&fresh, shape, len, place, part.len());
                let kept: Vec<f32> = kept.flatten_all().unwrap().to_vec1().unwrap();
                for (at, (fresh, kept)) in fresh.iter().zip(&kept).enumerate() {
                    deviations[place + at / shape.head_dim % part.len()] += (fresh - kept).powi(2);
                }
            }
            place += part.len();
        }
        let exact = prefix.exact_len();
        let row = |segment: &KvSegment, token: usize| bits(&rows(&segment.keys(2), shape, len, token, 1));
        let (chosen, others): (Vec<usize>, Vec<usize>) =
            (exact..len).partition(|&token| row(&blended, token) == row(&full, token));
        let expected = (0.3 * (len - exact) as f64).round() as usize;
        assert_eq!(chosen.len(), expected, "{}", pair.name);
        let least = chosen.iter().map(|&token| deviations[token]).fold(f32::INFINITY, f32::min);
        let most = others.iter().map(|&token| deviations[token]).fold(0.0, f32::max);
        // Kept rows are rounded once more here.
        assert!(least >= 0.99 * most, "{}: {least} {most}", pair.name);
    }
}

#[test]
fn what_cannot_be_blended_is_refused_and_cancelling_leaves_nothing() {
    let (_folder, model) = open_tiny();
    let decoder = model.decoder();
    let cancel = CancelToken::default();
    let alone = segment(decoder, &words(100, 1), &KvPrefix::default());
    let mut prefix = only(&alone);
    prefix.push_part(KvPart::whole(Arc::clone(&alone)).at(100)).unwrap();
    let before = contents(&alone);
    for ratio in [-0.1, 1.1, f32::NAN] {
        let error = decoder.blend(&prefix, ratio, 1, &cancel).unwrap_err();
        assert!(error.to_string().contains("ratio"), "{error}");
    }
    for layer in [0, 4] {
        let error = decoder.blend(&prefix, 0.5, layer, &cancel).unwrap_err();
        assert!(error.to_string().contains("use 1"), "{error}");
    }
    // Tokens that no vocabulary has, as a damaged file may name them.
    let rows = |layer| Ok((alone.keys(layer).into(), alone.values(layer).into()));
    let odd = KvSegment::from_rows(alone.shape(), alone.fingerprint(), 0, vec![50; 100], rows).unwrap();
    let error = decoder.blend(&only(&Arc::new(odd.with_context(None))), 0.5, 1, &cancel).unwrap_err();
    assert!(error.to_string().contains("vocabulary"), "{error}");
    let stopped = CancelToken::default();
    stopped.cancel();
    assert!(matches!(decoder.blend(&prefix, 0.5, 1, &stopped).unwrap_err(), ModelError::Cancelled));
    assert_eq!((Arc::strong_count(&alone), contents(&alone)), (3, before));
    prefix.push(Arc::clone(&alone));
    let error = decoder.blend(&prefix, 0.5, 1, &cancel).unwrap_err();
    assert!(matches!(error, ModelError::TooLong { n_tokens: 300, limit: 256 }), "{error}");
}
