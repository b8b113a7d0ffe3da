//! The same layers in tensors, on every device that answers, against the kernels of the processor.
//!
//! Candle's operations on the processor are always there, in single precision; the first CUDA device joins in builds
//! with the feature, where it answers, in single precision and in the type that models use on it.

use std::sync::Arc;

use candle_core::quantized::GgmlDType;
use candle_core::{DType, Device, Tensor};
use half::f16;
use mos_core::{ChatModel, ChatRequest, Message, ModelError, Sampling};
use mos_engine::{
    CancelToken, ChatModelOptions, ComputeDevice, Decoder, KvPart, KvPrefix, KvSegment, KvTail, LocalChatModel,
    LogitRows, Sequence,
};
use serde_json::json;
use tempfile::TempDir;

use crate::device_pairs::{Pair, SINGLE, devices, open, pairs};
use crate::oracle::deep_qwen3;
use crate::segments::{logits, segment, words};
use crate::support::{argmax, tiny_config, tiny_gemma3, tiny_weights, write_tiny, write_weights};
use crate::tiny_gguf::write_gguf;

fn prefix_of(segments: &[&Arc<KvSegment>]) -> KvPrefix {
    let mut prefix = KvPrefix::default();
    segments.iter().for_each(|segment| prefix.push(Arc::clone(segment)));
    prefix
}

#[test]
fn whole_prompts_are_computed_alike() {
    for pair in pairs() {
        let (processor, device) = pair.decoders();
        let tokens = pair.tokens(190, 1);
        let none = KvPrefix::default();
        pair.assert_near("whole", &logits(device, &tokens, &none), &logits(processor, &tokens, &none));
        let cancel = CancelToken::default();
        let nothing = device.forward(&tokens, &none, &mut device.new_tail(), LogitRows::None, &cancel).unwrap();
        assert!(nothing.is_empty());
        let last = |decoder: &Decoder| {
            decoder.forward(&tokens, &none, &mut decoder.new_tail(), LogitRows::Last, &cancel).unwrap()
        };
        pair.assert_near("last", &last(device), &last(processor));
    }
}

#[test]
fn cuts_show_in_the_last_bits_only() {
    let (none, cancel) = (KvPrefix::default(), CancelToken::default());
    for pair in pairs() {
        let (processor, device) = pair.decoders();
        let tokens = pair.tokens(190, 2);
        let mut tail = device.new_tail();
        let mut chunked = Vec::new();
        for range in [0..1, 1..39, 39..64, 64..81, 81..180, 180..181, 181..190] {
            chunked.extend(device.forward(&tokens[range], &none, &mut tail, LogitRows::All, &cancel).unwrap());
        }
        assert_eq!(tail.tokens(), tokens);
        pair.assert_near("cut", &chunked, &logits(processor, &tokens, &none));
    }
}

/// More tokens than are computed at once, on a decoder whose chunks are small.
#[test]
fn chunks_of_a_devices_own_are_joined() {
    for (device, tolerance) in devices() {
        let mut config = tiny_gemma3();
        config["max_position_embeddings"] = json!(4096);
        let folder = write_tiny(&config, DType::F32);
        let [processor, device] = [ComputeDevice::Processor, device].map(|device| open(&folder, device).unwrap());
        let name = device.decoder().device();
        let pair = Pair { name, processor, device, tolerance, is_real: false, _folder: None };
        let (tokens, none) = (words(1700, 3), KvPrefix::default());
        let (processor, device) = pair.decoders();
        pair.assert_near("long", &logits(device, &tokens, &none), &logits(processor, &tokens, &none));
    }
}

#[test]
fn kept_prefixes_are_gone_on_from_wherever_they_were_computed() {
    for pair in pairs() {
        let (processor, device) = pair.decoders();
        let tokens = pair.tokens(150, 4);
        let expected = logits(processor, &tokens, &KvPrefix::default());
        let vocabulary = processor.spec().vocabulary;
        for (what, maker) in [("from the device", device), ("from the processor", processor)] {
            let mut prefix = KvPrefix::default();
            for range in [0..37, 37..38, 38..110] {
                prefix.push(segment(maker, &tokens[range], &prefix));
            }
            assert!(prefix.is_exact());
            for prefix in [prefix.truncated(20), prefix.truncated(70), prefix] {
                let rest = logits(device, &tokens[prefix.len()..], &prefix);
                pair.assert_near(what, &rest, &expected[prefix.len() * vocabulary..]);
                let back = logits(processor, &tokens[prefix.len()..], &prefix);
                pair.assert_near(what, &back, &expected[prefix.len() * vocabulary..]);
            }
        }
    }
}

#[test]
fn segments_in_a_row_are_attended_as_they_were_rotated_or_where_they_stand() {
    for pair in pairs() {
        let (processor, device) = pair.decoders();
        let made = |decoder: &Decoder| {
            [(40, 5), (53, 6), (33, 7)]
                .map(|(len, seed)| segment(decoder, &pair.tokens(len, seed), &KvPrefix::default()))
        };
        let query = pair.tokens(20, 8);
        let (ours, theirs) = (made(device), made(processor));
        let concat = |segments: &[Arc<KvSegment>; 3]| prefix_of(&segments.iter().collect::<Vec<_>>());
        let expected = logits(processor, &query, &concat(&theirs));
        pair.assert_near("concat", &logits(device, &query, &concat(&ours)), &expected);
        let shifted = |segments: &[Arc<KvSegment>; 3]| {
            let mut prefix = KvPrefix::default();
            for (segment, cut) in segments.iter().zip([0, 0, 7]) {
                let part = KvPart { range: cut..segment.len(), ..KvPart::whole(Arc::clone(segment)) };
                let place = prefix.len();
                prefix.push_part(part.at(place)).unwrap();
            }
            prefix
        };
        let turned = logits(processor, &query, &shifted(&theirs));
        pair.assert_near("shifted", &logits(device, &query, &shifted(&ours)), &turned);
        let moved = expected.iter().zip(&turned).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(moved > 0.01, "{}: the shift must change something: {moved}", pair.name);
    }
}

#[test]
fn sequences_of_different_lengths_share_a_run() {
    let cancel = CancelToken::default();
    for pair in pairs() {
        let (processor, device) = pair.decoders();
        let run = |decoder: &Decoder, want: LogitRows| {
            let kept = segment(decoder, &pair.tokens(45, 9), &KvPrefix::default());
            let mut moved = prefix_of(&[&kept]).truncated(30);
            moved.push_part(KvPart::whole(Arc::clone(&kept)).at(30)).unwrap();
            let prefixes = [KvPrefix::default(), prefix_of(&[&kept]), moved];
            let mut tails: Vec<KvTail> = prefixes.iter().map(|_| decoder.new_tail()).collect();
            decoder.forward(&pair.tokens(11, 10), &prefixes[1], &mut tails[1], LogitRows::None, &cancel).unwrap();
            let tokens = [pair.tokens(70, 11), pair.tokens(1, 12), pair.tokens(23, 13)];
            let mut batch: Vec<Sequence<'_>> = Vec::new();
            for ((tokens, prefix), tail) in tokens.iter().zip(&prefixes).zip(&mut tails) {
                batch.push(Sequence { tokens, prefix, tail });
            }
            let logits = decoder.forward_batch(&mut batch, want, &cancel).unwrap();
            assert_eq!(tails.iter().map(KvTail::len).collect::<Vec<_>>(), [70, 12, 23]);
            logits
        };
        for want in [LogitRows::None, LogitRows::Last, LogitRows::All] {
            for (ours, theirs) in run(device, want).iter().zip(&run(processor, want)) {
                pair.assert_near("batch", ours, theirs);
            }
        }
        assert!(device.forward_batch(&mut [], LogitRows::All, &cancel).unwrap().is_empty());
    }
}

#[test]
fn forks_are_independent_and_truncation_and_cancelling_forget() {
    let (none, cancel) = (KvPrefix::default(), CancelToken::default());
    for pair in pairs() {
        let (processor, device) = pair.decoders();
        let (tokens, other) = (pair.tokens(80, 14), pair.tokens(30, 15));
        let expected = |tokens: &[u32]| {
            processor.forward(tokens, &none, &mut processor.new_tail(), LogitRows::Last, &cancel).unwrap()
        };
        let run =
            |tail: &mut KvTail, tokens: &[u32]| device.forward(tokens, &none, tail, LogitRows::Last, &cancel).unwrap();
        let mut tail = device.new_tail();
        run(&mut tail, &tokens[..60]);
        let mut fork = tail.fork(40);
        pair.assert_near("fork", &run(&mut fork, &other), &expected(&[&tokens[..40], &other].concat()));
        pair.assert_near("original", &run(&mut tail, &tokens[60..]), &expected(&tokens));
        let stopped = CancelToken::default();
        stopped.cancel();
        let error = device.forward(&other, &none, &mut tail, LogitRows::Last, &stopped).unwrap_err();
        assert!(matches!(error, ModelError::Cancelled));
        assert_eq!(tail.tokens(), tokens);
        tail.truncate(40);
        pair.assert_near("truncated", &run(&mut tail, &other), &expected(&[&tokens[..40], &other].concat()));
        assert!(tail.bytes() > 0);
    }
}

/// The largest and the mean difference between keys and values of two segments, as shares of those larger than 1.
fn distances(ours: &KvSegment, theirs: &KvSegment) -> (f32, f32) {
    assert_eq!((ours.tokens(), ours.start(), ours.shape()), (theirs.tokens(), theirs.start(), theirs.shape()));
    let all = |segment: &KvSegment| -> Vec<f32> {
        let layers = (0..segment.shape().layers).flat_map(|layer| [segment.keys(layer), segment.values(layer)]);
        layers.flatten().map(|bits| f16::from_bits(bits).to_f32()).collect()
    };
    let (ours, theirs) = (all(ours), all(theirs));
    assert_eq!(ours.len(), theirs.len());
    let shares: Vec<f32> = ours.iter().zip(&theirs).map(|(a, b)| (a - b).abs() / b.abs().max(1.0)).collect();
    (shares.iter().copied().fold(0.0, f32::max), shares.iter().sum::<f32>() / shares.len() as f32)
}

#[test]
fn frozen_tails_hold_what_the_processor_computes() {
    for pair in pairs() {
        let (processor, device) = pair.decoders();
        let tokens = pair.tokens(77, 16);
        let [ours, theirs] = [device, processor].map(|decoder| {
            let first = segment(decoder, &tokens[..50], &KvPrefix::default());
            let second = segment(decoder, &tokens[50..], &prefix_of(&[&first]));
            assert_eq!(second.start(), 50);
            assert!(prefix_of(&[&first, &second]).is_exact());
            [first, second]
        });
        for (ours, theirs) in ours.iter().zip(&theirs) {
            let (furthest, mean) = distances(ours, theirs);
            println!("{}: keys and values differ by {furthest:e}, in the mean {mean:e}", pair.name);
            // Half precision tells a thousandth apart: some are rounded otherwise, and the next layers see it.
            assert!(
                furthest <= 10.0 * pair.tolerance && mean <= 0.25 * pair.tolerance,
                "{}: {furthest} {mean}",
                pair.name
            );
        }
        assert!(device.new_tail().freeze().unwrap().is_empty());
    }
}

#[test]
fn the_same_words_are_said() {
    let (none, cancel) = (KvPrefix::default(), CancelToken::default());
    for pair in pairs().iter().filter(|pair| pair.tolerance == SINGLE) {
        let said = |decoder: &Decoder| {
            let (mut tail, mut input) = (decoder.new_tail(), pair.tokens(30, 17));
            let mut said: Vec<u32> = Vec::new();
            for _ in 0..16 {
                let logits = decoder.forward(&input, &none, &mut tail, LogitRows::Last, &cancel).unwrap();
                input = vec![argmax(&logits)];
                said.extend(&input);
            }
            said
        };
        let (processor, device) = pair.decoders();
        assert_eq!(said(device), said(processor), "{}", pair.name);
    }
}

#[test]
fn blending_recomputes_the_same_tokens() {
    for pair in pairs() {
        let (processor, device) = pair.decoders();
        let merged = |decoder: &Decoder| {
            let mut prefix = KvPrefix::default();
            for (len, seed) in [(30, 18), (41, 19), (24, 20)] {
                prefix.push(segment(decoder, &pair.tokens(len, seed), &KvPrefix::default()));
            }
            prefix
        };
        let query = pair.tokens(12, 21);
        let select_layer = 1;
        for ratio in [0.0, 0.3, 1.0] {
            let [ours, theirs] = [device, processor].map(|decoder| {
                Arc::new(decoder.blend(&merged(decoder), ratio, select_layer, &CancelToken::default()).unwrap())
            });
            assert_eq!(ours.context(), theirs.context());
            // In fewer bits, tokens that deviate alike may change places.
            if pair.tolerance == SINGLE || ratio != 0.3 {
                let (after_ours, after_theirs) = (prefix_of(&[&ours]), prefix_of(&[&theirs]));
                let expected = logits(processor, &query, &after_theirs);
                pair.assert_near("blended", &logits(device, &query, &after_ours), &expected);
            }
        }
        let stopped = CancelToken::default();
        stopped.cancel();
        let error = device.blend(&merged(device), 0.5, select_layer, &stopped).unwrap_err();
        assert!(matches!(error, ModelError::Cancelled));
        assert!(device.blend(&KvPrefix::default(), 0.5, select_layer, &CancelToken::default()).unwrap().is_empty());
    }
}

#[test]
fn another_prefix_of_the_same_length_is_not_taken_for_the_first() {
    let cancel = CancelToken::default();
    for pair in pairs() {
        let (processor, device) = pair.decoders();
        let run = |decoder: &Decoder| {
            let [first, second] = [22, 23].map(|seed| segment(decoder, &pair.tokens(35, seed), &KvPrefix::default()));
            let mut tail = decoder.new_tail();
            let (start, rest) = (pair.tokens(10, 24), pair.tokens(10, 25));
            decoder.forward(&start, &prefix_of(&[&first]), &mut tail, LogitRows::None, &cancel).unwrap();
            decoder.forward(&rest, &prefix_of(&[&second]), &mut tail, LogitRows::All, &cancel).unwrap()
        };
        pair.assert_near("another prefix", &run(device), &run(processor));
    }
}

#[test]
fn tails_stay_where_they_were_begun() {
    let pair = &pairs()[0];
    let (processor, device) = pair.decoders();
    let (none, cancel) = (KvPrefix::default(), CancelToken::default());
    for (decoder, other) in [(processor, device), (device, processor)] {
        let error = decoder.forward(&[3], &none, &mut other.new_tail(), LogitRows::Last, &cancel).unwrap_err();
        assert!(matches!(&error, ModelError::Invalid(text) if text.contains("another device")), "{error}");
    }
    assert_eq!((processor.device().as_str(), device.device().as_str()), ("cpu", "cpu tensors (f32)"));
    assert!(device.weight_bytes() > 0 && processor.fingerprint() == device.fingerprint());
}

#[test]
fn models_move_once_and_models_of_both_kinds_are_not_shared() {
    let folder = write_tiny(&tiny_config(), DType::F32);
    let here = open(&folder, ComputeDevice::Processor).unwrap();
    let auto = open(&folder, ComputeDevice::Auto).unwrap();
    let there = open(&folder, ComputeDevice::SinglePrecision(None)).unwrap();
    assert!(!here.shares_weights_with(&there));
    assert!(open(&folder, ComputeDevice::SinglePrecision(None)).unwrap().shares_weights_with(&there));
    assert_eq!(auto.shares_weights_with(&here), auto.decoder().device() == "cpu");
    match open(&folder, ComputeDevice::Cuda(999)).map(drop) {
        Err(ModelError::NotBuilt { feature, .. }) => assert_eq!(feature, "cuda"),
        Err(ModelError::Invalid(text)) => assert!(text.contains("cuda:999"), "{text}"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn numbers_that_are_not_finite_are_errors_on_a_device_too() {
    for (device, _) in devices() {
        for (name, value, what) in [
            ("model.layers.1.self_attn.k_proj.weight", f32::NAN, "keys or values"),
            ("model.layers.1.self_attn.v_proj.weight", 1e9, "keys or values"),
            ("lm_head.weight", f32::NAN, "logits"),
        ] {
            let mut weights = tiny_weights(&tiny_config(), DType::F32);
            let mut values: Vec<f32> = weights[name].flatten_all().unwrap().to_vec1().unwrap();
            values[0] = value;
            let changed = Tensor::from_vec(values, weights[name].dims(), &Device::Cpu).unwrap();
            weights.insert(name.to_owned(), changed);
            let model = open(&write_weights(&tiny_config(), &weights), device).unwrap();
            let (decoder, none) = (model.decoder(), KvPrefix::default());
            let mut tail = decoder.new_tail();
            let error = decoder.forward(&[3, 4, 5], &none, &mut tail, LogitRows::Last, &CancelToken::default());
            let error = error.unwrap_err();
            assert!(matches!(&error, ModelError::BadModel(text) if text.contains(what)), "{name}: {error}");
            assert!(tail.is_empty());
        }
    }
}

#[test]
fn quantised_weights_become_what_they_stand_for() {
    let mut config = deep_qwen3();
    config["hidden_size"] = json!(256);
    config["intermediate_size"] = json!(512);
    config["head_dim"] = json!(64);
    let weights = tiny_weights(&config, DType::F32);
    for (device, tolerance) in devices() {
        for dtype in [GgmlDType::Q4_0, GgmlDType::Q4_1, GgmlDType::Q8_0, GgmlDType::Q4K, GgmlDType::Q6K] {
            let folder = TempDir::new().unwrap();
            let path = folder.path().join("tiny.gguf");
            write_gguf(&path, &config, &weights, dtype, &[]);
            let [processor, device] = [ComputeDevice::Processor, device].map(|device| {
                LocalChatModel::open(&ChatModelOptions { device, ..ChatModelOptions::new(&path) }).unwrap()
            });
            let name = format!("{dtype:?} on {}", device.decoder().device());
            let pair = Pair { name, processor, device, tolerance, is_real: false, _folder: None };
            let (processor, device) = pair.decoders();
            let (tokens, none) = (words(30, 26), KvPrefix::default());
            pair.assert_near("quantised", &logits(device, &tokens, &none), &logits(processor, &tokens, &none));
        }
    }
}

#[tokio::test]
async fn conversations_go_on_from_kept_states_on_a_device() {
    for pair in pairs().iter().filter(|pair| pair.is_real) {
        let mut messages = vec![Message::system("You are a careful assistant and answer in one sentence.")];
        for (turn, question) in ["Where is Paris?", "And what is it known for?"].into_iter().enumerate() {
            messages.push(Message::user(question));
            let request = |no_cache| ChatRequest {
                messages: messages.clone(),
                sampling: Some(Sampling { max_tokens: 16, ..Sampling::default() }),
                stable_messages: 1,
                no_cache,
                ..ChatRequest::default()
            };
            let (kept, usage) = pair.device.complete(request(false)).await.unwrap();
            let (expected, _) = pair.processor.complete(request(true)).await.unwrap();
            if pair.tolerance == SINGLE {
                assert_eq!(kept, expected, "{}", pair.name);
            }
            assert!(!kept.is_empty());
            if turn > 0 {
                assert!(usage.cached_tokens * 2 > usage.prompt_tokens, "{usage:?}");
            }
            messages.push(Message::assistant(kept));
        }
    }
}
