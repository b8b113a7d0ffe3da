//! Prefixes, tails and chunks never show in the result.

use std::sync::Arc;

use candle_core::DType;
use mos_core::ModelError;
use mos_engine::{CancelToken, ChatModelOptions, Decoder, KvPrefix, KvTail, LocalChatModel, LogitRows};
use serde_json::json;

use crate::support::{bits, smol, tiny_config, write_tiny};

fn run(decoder: &Decoder, tokens: &[u32], prefix: &KvPrefix, tail: &mut KvTail) -> Vec<f32> {
    decoder.forward(tokens, prefix, tail, LogitRows::Last, &CancelToken::default()).unwrap()
}

fn segment(decoder: &Decoder, tokens: &[u32], prefix: &KvPrefix) -> Arc<mos_engine::KvSegment> {
    let mut tail = decoder.new_tail();
    run(decoder, tokens, prefix, &mut tail);
    Arc::new(tail.freeze().unwrap())
}

#[test]
fn the_same_bits_come_out_however_a_prompt_is_cut() {
    let model = smol();
    let decoder = model.decoder();
    let text = "Memory is what remains when a conversation is over, and what makes the next one shorter. ".repeat(32);
    let tokens = &model.tokenize(&text).unwrap()[..521];
    let direct = run(decoder, tokens, &KvPrefix::default(), &mut decoder.new_tail());
    let mut chunked = Vec::new();
    // 419 crosses the decoder's own chunks; single tokens at the end take the path of decoding.
    let mut tail = decoder.new_tail();
    for range in [0..1, 1..64, 64..81, 81..500, 500..520, 520..521] {
        chunked = run(decoder, &tokens[range], &KvPrefix::default(), &mut tail);
    }
    assert_eq!(bits(&chunked), bits(&direct));
    let mut prefix = KvPrefix::default();
    for range in [0..37, 37..38, 38..190] {
        prefix.push(segment(decoder, &tokens[range], &prefix));
    }
    assert_eq!(prefix.tokens().collect::<Vec<_>>(), tokens[..190]);
    assert_eq!(bits(&run(decoder, &tokens[190..], &prefix, &mut decoder.new_tail())), bits(&direct));
    let shorter = prefix.truncated(100);
    assert_eq!(shorter.len(), 100);
    assert_eq!(bits(&run(decoder, &tokens[100..], &shorter, &mut decoder.new_tail())), bits(&direct));
}

fn tiny() -> (tempfile::TempDir, Arc<LocalChatModel>) {
    let folder = write_tiny(&tiny_config(), DType::F32);
    let model = LocalChatModel::open(&ChatModelOptions::new(folder.path())).unwrap();
    (folder, model)
}

#[test]
fn all_rows_hold_what_each_shorter_prompt_says() {
    let (_folder, model) = tiny();
    let decoder = model.decoder();
    let tokens: Vec<u32> = (0..40).map(|i| (i * 7 + 2) % 50).collect();
    let cancel = CancelToken::default();
    let none = KvPrefix::default();
    let all = decoder.forward(&tokens, &none, &mut decoder.new_tail(), LogitRows::All, &cancel).unwrap();
    for len in [1, 16, 17, 40] {
        let last = run(decoder, &tokens[..len], &none, &mut decoder.new_tail());
        assert_eq!(bits(&all[(len - 1) * 50..len * 50]), bits(&last), "{len}");
    }
    let nothing = decoder.forward(&tokens, &none, &mut decoder.new_tail(), LogitRows::None, &cancel).unwrap();
    assert!(nothing.is_empty());
}

#[test]
fn forks_are_independent_and_truncation_forgets() {
    let (_folder, model) = tiny();
    let decoder = model.decoder();
    let none = KvPrefix::default();
    let mut tail = decoder.new_tail();
    run(decoder, &[5, 6, 7, 8, 9], &none, &mut tail);
    let mut fork = tail.fork(3);
    let forked = run(decoder, &[20, 21], &none, &mut fork);
    let before = run(decoder, &[10], &none, &mut tail.fork(5));
    assert_eq!(fork.tokens(), [5, 6, 7, 20, 21]);
    assert_eq!(bits(&run(decoder, &[10], &none, &mut tail.fork(5))), bits(&before), "the original did not change");
    tail.truncate(3);
    assert_eq!(bits(&run(decoder, &[20, 21], &none, &mut tail)), bits(&forked));
    assert_eq!(bits(&run(decoder, &[5, 6, 7, 20, 21], &none, &mut decoder.new_tail())), bits(&forked));
}

#[test]
fn cancelling_leaves_the_tail_as_it_was() {
    let (_folder, model) = tiny();
    let decoder = model.decoder();
    let none = KvPrefix::default();
    let mut tail = decoder.new_tail();
    run(decoder, &[3, 4], &none, &mut tail);
    let cancel = CancelToken::default();
    cancel.cancel();
    let error = decoder.forward(&[5; 30], &none, &mut tail, LogitRows::Last, &cancel).unwrap_err();
    assert!(matches!(error, ModelError::Cancelled));
    assert_eq!(tail.tokens(), [3, 4]);
    let after = run(decoder, &[5], &none, &mut tail);
    assert_eq!(bits(&after), bits(&run(decoder, &[3, 4, 5], &none, &mut decoder.new_tail())));
}

#[test]
fn too_many_tokens_unknown_tokens_and_foreign_caches_are_refused() {
    let (_folder, model) = tiny();
    let decoder = model.decoder();
    let none = KvPrefix::default();
    let refuse = |tokens: &[u32], prefix: &KvPrefix, tail: &mut KvTail| {
        let result = decoder.forward(tokens, prefix, tail, LogitRows::Last, &CancelToken::default());
        match result.unwrap_err() {
            error @ (ModelError::Invalid(_) | ModelError::TooLong { .. }) => error.to_string(),
            other => panic!("{other}"),
        }
    };
    let text = refuse(&[2; 300], &none, &mut decoder.new_tail());
    assert!(text.contains("300 tokens") && text.contains("256"), "{text}");
    assert!(refuse(&[50], &none, &mut decoder.new_tail()).contains("vocabulary"));
    let mut config = tiny_config();
    config["rope_theta"] = json!(5000.0);
    let folder = write_tiny(&config, DType::F32);
    let other = LocalChatModel::open(&ChatModelOptions::new(folder.path())).unwrap();
    assert_ne!(other.decoder().fingerprint(), decoder.fingerprint());
    assert!(refuse(&[2], &none, &mut other.decoder().new_tail()).contains("another model"));
    let mut foreign = KvPrefix::default();
    foreign.push(segment(other.decoder(), &[2, 3], &none));
    assert!(refuse(&[2], &foreign, &mut decoder.new_tail()).contains("another model"));
}
