//! Sequences that are computed together give what each gives alone.

use std::sync::Arc;

use mos_core::ModelError;
use mos_engine::{CancelToken, Decoder, KvPart, KvPrefix, KvTail, LogitRows, Sequence};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::segments::{KINDS, contents, open_kind, open_tiny, segment, words};
use crate::support::{bits, smol};

const WANTS: [LogitRows; 3] = [LogitRows::None, LogitRows::Last, LogitRows::All];

/// Runs each sequence alone and all together, and compares logits and caches.
fn assert_same(decoder: &Decoder, sequences: &[(Vec<u32>, KvPrefix, Vec<u32>)], want: LogitRows) {
    let cancel = CancelToken::default();
    let begun = |(started, prefix, _): &(Vec<u32>, KvPrefix, Vec<u32>)| {
        let mut tail = decoder.new_tail();
        decoder.forward(started, prefix, &mut tail, LogitRows::None, &cancel).unwrap();
        tail
    };
    let mut tails: Vec<KvTail> = sequences.iter().map(begun).collect();
    let mut batch: Vec<Sequence<'_>> =
        sequences.iter().zip(&mut tails).map(|((_, prefix, tokens), tail)| Sequence { tokens, prefix, tail }).collect();
    let together = decoder.forward_batch(&mut batch, want, &cancel).unwrap();
    assert_eq!(together.len(), sequences.len());
    for ((sequence, tail), together) in sequences.iter().zip(tails).zip(together) {
        let mut alone = begun(sequence);
        let logits = decoder.forward(&sequence.2, &sequence.1, &mut alone, want, &cancel).unwrap();
        assert_eq!(bits(&together), bits(&logits));
        let (tail, alone) = (tail.freeze().unwrap(), alone.freeze().unwrap());
        // The last panel may hold what was forgotten; rows show what counts.
        assert_eq!(contents(&tail), contents(&alone));
        assert_eq!((tail.start(), tail.context()), (alone.start(), alone.context()));
    }
}

#[test]
fn different_lengths_and_prefixes_do_not_show_on_the_real_model() {
    let model = smol();
    let decoder = model.decoder();
    let none = KvPrefix::default();
    let text = |text: &str| model.tokenize(text).unwrap();
    let long = text(&"A long memory about a garden, its trees, and the birds that live in them. ".repeat(20));
    let mut exact = KvPrefix::default();
    exact.push(segment(decoder, &long[..150], &none));
    let mut shifted = exact.truncated(61);
    let other = segment(decoder, &text("Another memory, computed alone, about the sea."), &none);
    shifted.push_part(KvPart::whole(other).at(61)).unwrap();
    let sequences = [
        (vec![], none.clone(), text("Hello")),
        (vec![], exact.clone(), long[150..].to_vec()),
        (text("Once"), none.clone(), text(" upon a time there was")),
        (vec![], shifted, text("What is the sea like?")),
        (long[150..170].to_vec(), exact, vec![long[170]]),
    ];
    for want in WANTS {
        assert_same(decoder, &sequences, want);
    }
}

#[test]
fn an_error_in_one_leaves_all_as_they_were() {
    let (_folder, model) = open_tiny();
    let decoder = model.decoder();
    let (none, cancel, stopped) = (KvPrefix::default(), CancelToken::default(), CancelToken::default());
    stopped.cancel();
    for (second, token) in [(vec![4, 99], &cancel), (vec![4; 300], &cancel), (vec![4; 3], &stopped)] {
        let (mut first_tail, mut second_tail) = (decoder.new_tail(), decoder.new_tail());
        decoder.forward(&[7, 8], &none, &mut first_tail, LogitRows::None, &cancel).unwrap();
        let error = decoder
            .forward_batch(
                &mut [
                    Sequence { tokens: &[5, 6], prefix: &none, tail: &mut first_tail },
                    Sequence { tokens: &second, prefix: &none, tail: &mut second_tail },
                ],
                LogitRows::Last,
                token,
            )
            .unwrap_err();
        assert!(matches!(error, ModelError::Invalid(_) | ModelError::TooLong { .. } | ModelError::Cancelled));
        assert_eq!((first_tail.tokens(), second_tail.len()), ([7, 8].as_slice(), 0));
    }
    assert!(decoder.forward_batch(&mut [], LogitRows::All, &cancel).unwrap().is_empty());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 36, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn batches_equal_single_runs(
        kind in 0..KINDS,
        shapes in vec((0..60_usize, 0..20_usize, 0..90_usize), 1..6),
        want in 0..3_usize,
    ) {
        let (_folder, model) = open_kind(kind);
        let decoder = model.decoder();
        let sequences: Vec<_> = shapes
            .into_iter()
            .zip(0..)
            .map(|((cached, started, new), number)| {
                let mut prefix = KvPrefix::default();
                prefix.push(segment(decoder, &words(cached, number), &KvPrefix::default()));
                let alone = segment(decoder, &words(started, number + 10), &KvPrefix::default());
                // Every other sequence goes on after a part that was moved.
                if number % 2 == 1 {
                    prefix.push_part(KvPart::whole(Arc::clone(&alone)).at(cached)).unwrap();
                }
                (words(started, number + 20), prefix, words(new, number + 30))
            })
            .collect();
        assert_same(decoder, &sequences, WANTS[want]);
    }
}
