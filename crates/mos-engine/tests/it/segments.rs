//! Segments, ranges of them, and what makes a prefix exact.

use std::borrow::Cow;
use std::sync::Arc;

use candle_core::DType;
use mos_core::ModelError;
use mos_engine::{
    CancelToken, ChatModelOptions, Decoder, Fingerprint, KvPart, KvPrefix, KvSegment, KvShape, LocalChatModel,
    LogitRows, context_of,
};
use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::json;

use crate::oracle::{deep_config, deep_qwen3};
use crate::support::{bits, tiny_config, tiny_gemma3, write_tiny};

/// What `tokens` are after `prefix`.
pub(crate) fn segment(decoder: &Decoder, tokens: &[u32], prefix: &KvPrefix) -> Arc<KvSegment> {
    let mut tail = decoder.new_tail();
    decoder.forward(tokens, prefix, &mut tail, LogitRows::None, &CancelToken::default()).unwrap();
    Arc::new(tail.freeze().unwrap())
}

/// All logits of `tokens` after `prefix`.
pub(crate) fn logits(decoder: &Decoder, tokens: &[u32], prefix: &KvPrefix) -> Vec<f32> {
    decoder.forward(tokens, prefix, &mut decoder.new_tail(), LogitRows::All, &CancelToken::default()).unwrap()
}

/// Words of the tiny vocabulary, others for each seed.
pub(crate) fn words(count: usize, seed: u32) -> Vec<u32> {
    (0..count as u32).map(|i| (i * 29 + i * i % 7 + seed * 11 + 3) % 50).collect()
}

pub(crate) fn open_tiny() -> (tempfile::TempDir, Arc<LocalChatModel>) {
    open_kind(0)
}

/// The number of kinds of tiny models.
pub(crate) const KINDS: usize = 3;

/// A tiny Llama, one with norms of heads, or one with windows and two rotations.
pub(crate) fn open_kind(kind: usize) -> (tempfile::TempDir, Arc<LocalChatModel>) {
    let config = [deep_config, deep_qwen3, tiny_gemma3][kind]();
    let folder = write_tiny(&config, DType::F32);
    let model = LocalChatModel::open(&ChatModelOptions::new(folder.path())).unwrap();
    (folder, model)
}

/// All that a segment holds.
#[derive(Debug, PartialEq)]
pub(crate) struct Contents {
    tokens: Vec<u32>,
    /// Keys and values of each layer.
    layers: Vec<[Vec<u16>; 2]>,
}

pub(crate) fn contents(segment: &KvSegment) -> Contents {
    let layers = (0..segment.shape().layers).map(|layer| [segment.keys(layer), segment.values(layer)]);
    Contents { tokens: segment.tokens().to_vec(), layers: layers.collect() }
}

fn rebuilt(from: &KvSegment) -> KvSegment {
    let rows = |layer| Ok((Cow::from(from.keys(layer)), Cow::from(from.values(layer))));
    KvSegment::from_rows(from.shape(), from.fingerprint(), from.start(), from.tokens().to_vec(), rows).unwrap()
}

#[test]
fn rows_go_in_and_come_out_the_same() {
    let fingerprint = Fingerprint([3; 32]);
    for (kv_heads, head_dim, tokens) in [(1, 16, 1), (2, 16, 15), (3, 64, 16), (2, 32, 17), (3, 64, 600), (2, 16, 0)] {
        let shape = KvShape { layers: 3, kv_heads, head_dim };
        let len = kv_heads * head_dim * tokens;
        let row = |layer: usize, what: usize| -> Vec<u16> {
            (0..len).map(|at| (at * 31 + layer * 7919 + what * 104_729) as u16).collect()
        };
        let ids: Vec<u32> = (0..tokens as u32).collect();
        let rows = |layer| Ok((Cow::from(row(layer, 0)), Cow::from(row(layer, 1))));
        let segment = KvSegment::from_rows(shape, fingerprint, 5, ids.clone(), rows).unwrap();
        for layer in 0..3 {
            assert_eq!(segment.keys(layer), row(layer, 0), "{kv_heads} x {head_dim} x {tokens}");
            assert_eq!(segment.values(layer), row(layer, 1), "{kv_heads} x {head_dim} x {tokens}");
        }
        assert_eq!((segment.start(), segment.len(), segment.tokens()), (5, tokens, ids.as_slice()));
        assert_eq!((segment.bytes(), segment.is_empty()), (shape.bytes(tokens), tokens == 0));
        assert_eq!(segment.context(), None, "nothing says what came before");
    }
}

#[test]
fn a_computed_segment_that_went_through_rows_gives_the_same_bits() {
    let (_folder, model) = open_tiny();
    let decoder = model.decoder();
    let (tokens, query) = (words(53, 1), words(9, 2));
    let original = segment(decoder, &tokens, &KvPrefix::default());
    let copy = Arc::new(rebuilt(&original));
    assert_eq!(contents(&copy), contents(&original));
    let after = |segment: &Arc<KvSegment>| {
        let mut prefix = KvPrefix::default();
        prefix.push(Arc::clone(segment));
        assert!(prefix.is_exact());
        bits(&logits(decoder, &query, &prefix))
    };
    assert_eq!(after(&copy), after(&original));
    // Head and dimension are where the rows say: [kv_heads, tokens, head_dim].
    let all = original.keys(1);
    let shorter = segment(decoder, &tokens[..20], &KvPrefix::default()).keys(1);
    assert_eq!(shorter[..20 * 16], all[..20 * 16]);
    assert_eq!(shorter[20 * 16..], all[53 * 16..73 * 16]);
}

#[test]
fn sizes_that_do_not_fit_are_refused() {
    let shape = KvShape { layers: 2, kv_heads: 2, head_dim: 16 };
    let build = |shape, start, tokens: usize, keys: usize, values: usize| {
        let rows = |_| Ok((Cow::from(vec![0; keys]), Cow::from(vec![0; values])));
        match KvSegment::from_rows(shape, Fingerprint([0; 32]), start, vec![0; tokens], rows) {
            Ok(_) => String::new(),
            Err(ModelError::Invalid(text)) => text,
            Err(other) => panic!("{other}"),
        }
    };
    assert_eq!(build(shape, 0, 3, 96, 96), "");
    assert!(build(shape, 0, 3, 95, 96).contains("95 keys"));
    assert!(build(shape, 0, 3, 96, 128).contains("128 values"));
    assert!(build(shape, usize::MAX, 3, 96, 96).contains("position"));
    for kv_heads in [0, usize::MAX / 2] {
        assert!(build(KvShape { kv_heads, ..shape }, 0, 3, 96, 96).contains("make no sense"));
    }
    let broken = |_| Err(ModelError::BadModel("the file is cut".to_owned()));
    let error = KvSegment::from_rows(shape, Fingerprint([0; 32]), 0, vec![1], broken).unwrap_err();
    assert!(error.to_string().contains("the file is cut"));
}

#[test]
fn a_frozen_tail_knows_where_it_began() {
    let (_folder, model) = open_tiny();
    let decoder = model.decoder();
    let first = segment(decoder, &words(21, 1), &KvPrefix::default());
    assert_eq!((first.start(), first.context()), (0, Some(context_of([]))));
    let mut prefix = KvPrefix::default();
    prefix.push(Arc::clone(&first));
    let second = segment(decoder, &words(5, 2), &prefix);
    assert_eq!((second.start(), second.context()), (21, Some(context_of(words(21, 1)))));
    let mut tail = decoder.new_tail();
    let cancel = CancelToken::default();
    decoder.forward(&[2, 3, 4], &prefix, &mut tail, LogitRows::None, &cancel).unwrap();
    let error = decoder.forward(&[5], &KvPrefix::default(), &mut tail, LogitRows::None, &cancel).unwrap_err();
    assert!(error.to_string().contains("after 21 tokens"), "{error}");
    assert_eq!(tail.tokens(), [2, 3, 4]);
    // Empty again, it may begin anywhere.
    tail.truncate(0);
    decoder.forward(&[5], &KvPrefix::default(), &mut tail, LogitRows::None, &cancel).unwrap();
    assert_eq!(tail.freeze().unwrap().start(), 0);
}

#[test]
fn only_a_chain_that_was_computed_as_it_stands_is_exact() {
    let (_folder, model) = open_tiny();
    let decoder = model.decoder();
    let none = KvPrefix::default();
    let (a, b) = (segment(decoder, &words(20, 1), &none), segment(decoder, &words(20, 2), &none));
    let joined = |parts: &[KvPart]| {
        let mut prefix = KvPrefix::default();
        parts.iter().for_each(|part| prefix.push_part(part.clone()).unwrap());
        prefix
    };
    let whole = |segment: &Arc<KvSegment>| KvPart::whole(Arc::clone(segment));
    let ranged = |segment: &Arc<KvSegment>, range| KvPart { segment: Arc::clone(segment), range, shift: 0 };
    let after_a = segment(decoder, &words(30, 3), &joined(&[whole(&a)]));
    assert!(none.is_exact() && joined(&[whole(&a), whole(&after_a)]).is_exact());
    assert!(joined(&[ranged(&a, 0..7), ranged(&a, 7..20), ranged(&after_a, 0..1), ranged(&after_a, 1..30)]).is_exact());
    // Other tokens before it, in the same number; a gap; a later place; the same place with a shift.
    for (parts, exact_len) in [
        (vec![whole(&b), whole(&after_a)], 20),
        (vec![whole(&a), ranged(&after_a, 1..30)], 20),
        (vec![ranged(&a, 0..7), ranged(&b, 7..20)], 7),
        (vec![whole(&a), whole(&b)], 20),
        (vec![whole(&a), whole(&b).at(20)], 20),
        (vec![whole(&a), KvPart { shift: 3, ..whole(&after_a) }], 20),
        (vec![whole(&after_a)], 0),
    ] {
        let prefix = joined(&parts);
        assert_eq!((prefix.is_exact(), prefix.exact_len()), (false, exact_len), "{parts:?}");
        assert!(prefix.truncated(exact_len).is_exact(), "what comes first is exact still");
        // What is computed after it is not exact either, wherever it is pushed.
        assert_eq!(segment(decoder, &[4, 5], &prefix).context(), None);
    }
    // A part that says it was compressed is no exact one.
    let lossy = Arc::new(rebuilt(&a).with_context(None));
    assert!(!joined(&[whole(&lossy)]).is_exact());
    let loaded = rebuilt(&after_a).with_context(after_a.context());
    assert!(joined(&[whole(&a), whole(&Arc::new(loaded))]).is_exact());
}

#[test]
fn parts_that_do_not_belong_are_refused() {
    let (_folder, model) = open_tiny();
    let decoder = model.decoder();
    let own = segment(decoder, &words(10, 1), &KvPrefix::default());
    let mut config = tiny_config();
    config["rope_theta"] = json!(5000.0);
    let folder = write_tiny(&config, DType::F32);
    let other = LocalChatModel::open(&ChatModelOptions::new(folder.path())).unwrap();
    let foreign = segment(other.decoder(), &words(10, 1), &KvPrefix::default());
    let mut prefix = KvPrefix::default();
    prefix.push_part(KvPart::whole(Arc::clone(&own))).unwrap();
    let error = prefix.push_part(KvPart::whole(Arc::clone(&foreign))).unwrap_err();
    assert!(matches!(&error, ModelError::Invalid(text) if text.contains("another model")), "{error}");
    #[allow(clippy::reversed_empty_ranges, reason = "that is what is refused")]
    for range in [3..11, 11..12, 5..3] {
        let error = prefix.push_part(KvPart { segment: Arc::clone(&own), range, shift: 0 }).unwrap_err();
        assert!(error.to_string().contains("has 10"), "{error}");
    }
    for shift in [i64::MIN, i64::MAX] {
        let error = prefix.push_part(KvPart { shift, ..KvPart::whole(Arc::clone(&own)) }).unwrap_err();
        assert!(error.to_string().contains("no conversation is so long"), "{error}");
    }
    assert_eq!(prefix.len(), 10);
    prefix.push(foreign);
    let error = decoder.blend(&prefix, 0.5, 1, &CancelToken::default()).unwrap_err();
    assert!(error.to_string().contains("another model"), "{error}");
}

/// What a session may do.
#[derive(Clone, Debug)]
enum Action {
    Forward(Vec<u32>),
    Truncate(usize),
    Fork(usize),
    Cancelled(Vec<u32>),
    Unknown,
    TooLong,
    Freeze,
    Blend,
}

fn action() -> impl Strategy<Value = Action> {
    let some = || vec(0..50_u32, 1..20);
    prop_oneof![
        4 => some().prop_map(Action::Forward),
        1 => (0..30_usize).prop_map(Action::Truncate),
        1 => (0..30_usize).prop_map(Action::Fork),
        1 => some().prop_map(Action::Cancelled),
        1 => Just(Action::Unknown),
        1 => Just(Action::TooLong),
        1 => Just(Action::Freeze),
        1 => Just(Action::Blend),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 36, failure_persistence: None, ..ProptestConfig::default() })]

    /// However a sequence is cut into segments, ranges of them, a tail and new tokens, the same bits come out.
    #[test]
    fn cuts_never_show(
        kind in 0..KINDS,
        len in 2..140_usize,
        cuts in vec(0..140_usize, 0..5),
        ranges in vec(0..140_usize, 0..6),
    ) {
        let (_folder, model) = open_kind(kind);
        let decoder = model.decoder();
        let tokens = words(len, 1);
        let direct = logits(decoder, &tokens, &KvPrefix::default());
        let sorted = |mut cuts: Vec<usize>, last: usize| {
            cuts.iter_mut().for_each(|cut| *cut %= last + 1);
            cuts.extend([0, last]);
            cuts.sort_unstable();
            cuts
        };
        let cached = len - 1 - cuts.first().copied().unwrap_or(0) % len.min(20);
        let (mut chain, mut segments) = (KvPrefix::default(), Vec::new());
        for pair in sorted(cuts, cached).windows(2) {
            let segment = segment(decoder, &tokens[pair[0]..pair[1]], &chain);
            chain.push(Arc::clone(&segment));
            segments.push(segment);
        }
        let mut prefix = KvPrefix::default();
        for pair in sorted(ranges, cached).windows(2) {
            for segment in &segments {
                let (start, end) = (segment.start(), segment.start() + segment.len());
                let (from, to) = (pair[0].max(start), pair[1].min(end));
                if from < to {
                    let part = KvPart { segment: Arc::clone(segment), range: from - start..to - start, shift: 0 };
                    prefix.push_part(part).unwrap();
                }
            }
        }
        prop_assert!(prefix.is_exact() && prefix.len() == cached);
        prop_assert_eq!(prefix.tokens().collect::<Vec<_>>(), &tokens[..cached]);
        let rest = logits(decoder, &tokens[cached..], &prefix);
        prop_assert_eq!(bits(&rest), bits(&direct[cached * 50..]));
        let middle = cached / 2;
        let rest = logits(decoder, &tokens[middle..], &prefix.truncated(middle));
        prop_assert_eq!(bits(&rest), bits(&direct[middle * 50..]));
    }

    #[test]
    fn nothing_that_a_session_does_changes_a_segment(actions in vec(action(), 1..12), cut in 0..37_usize) {
        let (_folder, model) = open_tiny();
        let decoder = model.decoder();
        let a = segment(decoder, &words(37, 1), &KvPrefix::default());
        let b = segment(decoder, &words(50, 2), &KvPrefix::default());
        let before = (contents(&a), contents(&b));
        let mut prefix = KvPrefix::default();
        prefix.push(Arc::clone(&a));
        prefix.push_part(KvPart { range: cut..50, ..KvPart::whole(Arc::clone(&b)) }.at(37)).unwrap();
        prefix.push_part(KvPart { range: 0..cut, ..KvPart::whole(Arc::clone(&a)) }).unwrap();
        let parts: Vec<_> = prefix.parts().map(|part| (part.range.clone(), part.shift)).collect();
        let (mut tail, cancel, stopped) = (decoder.new_tail(), CancelToken::default(), CancelToken::default());
        stopped.cancel();
        for action in actions {
            let known = tail.tokens().to_vec();
            let refused = match action {
                Action::Forward(tokens) => {
                    decoder.forward(&tokens, &prefix, &mut tail, LogitRows::Last, &cancel).is_err()
                }
                Action::Truncate(len) => {
                    tail.truncate(len);
                    continue;
                }
                Action::Fork(len) => {
                    tail = tail.fork(len);
                    continue;
                }
                Action::Cancelled(tokens) => {
                    decoder.forward(&tokens, &prefix, &mut tail, LogitRows::Last, &stopped).is_err()
                }
                Action::Unknown => decoder.forward(&[3, 99], &prefix, &mut tail, LogitRows::Last, &cancel).is_err(),
                Action::TooLong => decoder.forward(&[3; 256], &prefix, &mut tail, LogitRows::Last, &cancel).is_err(),
                Action::Freeze => {
                    let mut longer = prefix.clone();
                    longer.push(Arc::new(std::mem::replace(&mut tail, decoder.new_tail()).freeze().unwrap()));
                    continue;
                }
                Action::Blend => {
                    prop_assert!(decoder.blend(&prefix, 0.3, 1, &stopped).is_err());
                    decoder.blend(&prefix, 0.3, 1, &cancel).unwrap();
                    continue;
                }
            };
            if refused {
                prop_assert_eq!(tail.tokens(), known.as_slice());
            }
        }
        prop_assert_eq!((contents(&a), contents(&b)), before);
        prop_assert_eq!(prefix.parts().map(|part| (part.range.clone(), part.shift)).collect::<Vec<_>>(), parts);
    }
}
