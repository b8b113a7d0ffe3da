//! Numbers that leave the range of what is computed with become errors, not nonsense.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use candle_core::{DType, Device, Tensor};
use mos_core::ModelError;
use mos_engine::{
    CancelToken, ChatModelOptions, Decoder, KvPrefix, KvSegment, KvTail, LocalChatModel, LogitRows, Sequence,
};
use tempfile::TempDir;

use crate::support::{bits, tiny_config, tiny_weights, write_weights};

/// The token whose embedding is no number.
const POISON: u32 = 7;

fn open(weights: &HashMap<String, Tensor>) -> (TempDir, Arc<LocalChatModel>) {
    let folder = write_weights(&tiny_config(), weights);
    let model = LocalChatModel::open(&ChatModelOptions::new(folder.path())).unwrap();
    (folder, model)
}

/// Tiny weights with one value of a tensor replaced.
fn with(name: &str, at: usize, value: f32) -> HashMap<String, Tensor> {
    let mut weights = tiny_weights(&tiny_config(), DType::F32);
    let tensor = &weights[name];
    let mut values: Vec<f32> = tensor.flatten_all().unwrap().to_vec1().unwrap();
    values[at] = value;
    let changed = Tensor::from_vec(values, tensor.dims(), &Device::Cpu).unwrap();
    weights.insert(name.to_owned(), changed);
    weights
}

fn poisoned() -> (TempDir, Arc<LocalChatModel>) {
    open(&with("model.embed_tokens.weight", POISON as usize * 64, f32::NAN))
}

fn run(decoder: &Decoder, tokens: &[u32], tail: &mut KvTail, want: LogitRows) -> Result<Vec<f32>, ModelError> {
    decoder.forward(tokens, &KvPrefix::default(), tail, want, &CancelToken::default())
}

#[track_caller]
fn assert_not_finite<T: std::fmt::Debug>(result: Result<T, ModelError>, what: &str) {
    let error = result.unwrap_err();
    let expected = format!("the model's {what} are not finite numbers");
    assert!(matches!(&error, ModelError::BadModel(text) if text.contains(&expected)), "{error}");
}

#[test]
fn every_kind_of_value_that_is_not_finite_is_an_error_of_its_own() {
    let layer = "model.layers.1.self_attn";
    for (name, value, what) in [
        (format!("{layer}.k_proj.weight"), f32::NAN, "keys or values"),
        // Finite, but not after rounding to half precision.
        (format!("{layer}.v_proj.weight"), 1e9, "keys or values"),
        (format!("{layer}.q_proj.weight"), f32::INFINITY, "queries"),
    ] {
        let (_folder, model) = open(&with(&name, 0, value));
        for want in [LogitRows::None, LogitRows::Last] {
            let mut tail = model.decoder().new_tail();
            assert_not_finite(run(model.decoder(), &[3, 4, 5], &mut tail, want), what);
            assert!(tail.is_empty(), "{name}");
        }
    }
    let (_folder, model) = open(&with("lm_head.weight", 64 * 50 - 1, f32::NAN));
    let mut tail = model.decoder().new_tail();
    run(model.decoder(), &[3, 4], &mut tail, LogitRows::None).unwrap();
    assert_not_finite(run(model.decoder(), &[5], &mut tail, LogitRows::Last), "logits");
    assert_eq!(tail.tokens(), [3, 4]);
}

#[test]
fn tails_are_as_before_when_a_token_breaks_the_computation() {
    let (_folder, model) = poisoned();
    let decoder = model.decoder();
    let mut tail = decoder.new_tail();
    run(decoder, &[3, 4], &mut tail, LogitRows::None).unwrap();
    assert_not_finite(run(decoder, &[5, POISON], &mut tail, LogitRows::Last), "queries");
    assert_not_finite(run(decoder, &[POISON], &mut tail, LogitRows::Last), "queries");
    assert_eq!(tail.tokens(), [3, 4]);
    let direct = run(decoder, &[3, 4, 5], &mut decoder.new_tail(), LogitRows::Last).unwrap();
    let (prefix, mut other) = (KvPrefix::default(), decoder.new_tail());
    let mut sequences = [
        Sequence { tokens: &[5], prefix: &prefix, tail: &mut tail },
        Sequence { tokens: &[6, POISON, 6], prefix: &prefix, tail: &mut other },
    ];
    assert_not_finite(decoder.forward_batch(&mut sequences, LogitRows::Last, &CancelToken::default()), "queries");
    assert!(other.is_empty() && tail.tokens() == [3, 4]);
    assert_eq!(bits(&run(decoder, &[5], &mut tail, LogitRows::Last).unwrap()), bits(&direct));
}

#[test]
fn recomputing_a_token_that_breaks_the_computation_is_an_error_and_so_is_turning_too_large_a_key() {
    let (_folder, model) = poisoned();
    let decoder = model.decoder();
    let shape = decoder.spec().kv_shape();
    let segment = |tokens: Vec<u32>, key: f32| {
        let len = shape.kv_heads * shape.head_dim * tokens.len();
        let keys = vec![half::f16::from_f32(key).to_bits(); len];
        let values = vec![half::f16::ONE.to_bits(); len];
        let rows = |_| Ok((Cow::Borrowed(keys.as_slice()), Cow::Borrowed(values.as_slice())));
        Arc::new(KvSegment::from_rows(shape, decoder.fingerprint(), 0, tokens, rows).unwrap())
    };
    let blend = |segments: [Arc<KvSegment>; 2], ratio: f32| {
        let mut prefix = KvPrefix::default();
        segments.into_iter().for_each(|segment| prefix.push(segment));
        decoder.blend(&prefix, ratio, 1, &CancelToken::default()).map(|segment| segment.len())
    };
    assert_eq!(blend([segment(vec![3, 4], 1.0), segment(vec![5, 6, 9], 1.0)], 0.5).unwrap(), 5);
    assert_not_finite(blend([segment(vec![3, 4], 1.0), segment(vec![5, POISON, 9], 1.0)], 0.5), "queries");
    // The largest number that half precision has, turned by one position, is larger.
    assert_not_finite(blend([segment(vec![3], 1.0), segment(vec![5, 6], 65_504.0)], 0.0), "keys or values");
}

#[test]
fn a_prompt_takes_as_much_memory_as_its_keys_and_values() {
    let (_folder, model) = open(&tiny_weights(&tiny_config(), DType::F32));
    let decoder = model.decoder();
    let (shape, mut tail) = (decoder.spec().kv_shape(), decoder.new_tail());
    run(decoder, &[3; 150], &mut tail, LogitRows::None).unwrap();
    assert_eq!(tail.bytes(), shape.bytes(150));
    for len in 151..250 {
        run(decoder, &[4], &mut tail, LogitRows::None).unwrap();
        let needed = shape.bytes(len);
        assert!((needed..=needed + needed / 8).contains(&tail.bytes()), "{len}: {}", tail.bytes());
    }
}
