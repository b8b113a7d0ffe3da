//! Several items as one prefix.

use std::sync::Arc;

use candle_core::{DType, Device, Tensor};
use half::f16;
use mos_engine::{CancelToken, KvPrefix, KvSegment, LocalChatModel};
use mos_kv::{KvCacheItem, KvCacheMemory, KvError, MergeStrategy, merge};

use crate::support::{largest_difference, logits, memory, rows, smol, tiny, words};

fn stored(memory: &KvCacheMemory, texts: &[String]) -> (Vec<KvCacheItem>, Vec<String>) {
    let items: Vec<_> = texts.iter().map(|text| memory.extract(text.as_str()).unwrap()).collect();
    memory.add(items.clone()).unwrap();
    let ids = items.iter().map(|item| item.id.to_string()).collect();
    (items, ids)
}

fn whole_tokens(items: &[KvCacheItem]) -> Vec<u32> {
    items.iter().flat_map(|item| item.segment().unwrap().tokens()).copied().collect()
}

fn tensor(segment: &KvSegment, rows: &[u16]) -> Tensor {
    let shape = segment.shape();
    let values: Vec<f16> = rows.iter().map(|&bits| f16::from_bits(bits)).collect();
    Tensor::from_vec(values, (1, shape.kv_heads, segment.len(), shape.head_dim), &Device::Cpu).unwrap()
}

/// The rows of all parts of a prefix, one layer, as the reference joins them.
fn joined(prefix: &KvPrefix, layer: usize, keys: bool) -> Tensor {
    let parts: Vec<Tensor> = prefix
        .parts()
        .map(|part| {
            assert_eq!((part.shift, part.range.clone()), (0, 0..part.segment.len()));
            tensor(&part.segment, &if keys { part.segment.keys(layer) } else { part.segment.values(layer) })
        })
        .collect();
    Tensor::cat(&parts, 2).unwrap()
}

fn equal(a: &Tensor, b: &Tensor) -> bool {
    let flat = |t: &Tensor| t.to_dtype(DType::F32).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
    a.dims() == b.dims() && flat(a) == flat(b)
}

#[test]
fn get_cache_is_the_plain_concatenation_per_layer() {
    let tiny = tiny(1);
    let memory = memory(&tiny.model);
    let (items, ids) = stored(&memory, &[words(1, 7), words(2, 30), words(3, 1)]);
    // In the order of the ids, whatever the order of storing.
    let order = [2, 0, 1, 0];
    let asked: Vec<&str> = order.iter().map(|&at| ids[at].as_str()).collect();
    let cache = memory.get_cache(&asked).unwrap().unwrap();
    for layer in 0..2 {
        for keys in [true, false] {
            let parts: Vec<Tensor> = order
                .iter()
                .map(|&at| {
                    let segment = items[at].segment().unwrap();
                    tensor(segment, &if keys { segment.keys(layer) } else { segment.values(layer) })
                })
                .collect();
            assert!(equal(&joined(&cache, layer, keys), &Tensor::cat(&parts, 2).unwrap()), "layer {layer}");
        }
    }
    let tokens: Vec<u32> = order.iter().flat_map(|&at| items[at].segment().unwrap().tokens()).copied().collect();
    assert_eq!(cache.tokens().collect::<Vec<_>>(), tokens);
    assert!(!cache.is_exact());
}

#[test]
fn nothing_is_copied_unless_it_must_be() {
    let tiny = tiny(1);
    let memory = memory(&tiny.model);
    let (items, ids) = stored(&memory, &[words(1, 7), words(2, 9)]);
    for strategy in [MergeStrategy::Concat, MergeStrategy::Shifted] {
        let cache = memory.get_cache_with(&ids, strategy).unwrap().unwrap();
        for (part, item) in cache.parts().zip(&items) {
            assert!(Arc::ptr_eq(&part.segment, item.segment().unwrap()), "{strategy}");
        }
    }
    let shifts: Vec<i64> =
        memory.get_cache_with(&ids, MergeStrategy::Shifted).unwrap().unwrap().parts().map(|part| part.shift).collect();
    assert_eq!(shifts, [0, items[0].n_tokens() as i64]);
}

/// What each strategy promises, against the prompt computed as a whole.
fn check_exact_ways(model: &Arc<LocalChatModel>, texts: &[String], question: &[u32]) {
    let memory = memory(model);
    let (items, ids) = stored(&memory, texts);
    let tokens = whole_tokens(&items);
    let all = [tokens.clone(), question.to_vec()].concat();
    let vocabulary = model.decoder().spec().vocabulary;
    let truth = logits(model, &KvPrefix::default(), &all)[tokens.len() * vocabulary..].to_vec();
    let longest = items.iter().map(KvCacheItem::n_tokens).max().unwrap();
    let limits = [
        (MergeStrategy::PrefixTree, 1e-4),
        (MergeStrategy::Lego { k: longest }, 1e-3),
        (MergeStrategy::Lego { k: longest + 5 }, 1e-3),
        (MergeStrategy::Blend { ratio: 1.0 }, 1e-3),
    ];
    for (strategy, limit) in limits {
        let cache = memory.get_cache_with(&ids, strategy).unwrap().unwrap();
        assert_eq!(cache.tokens().collect::<Vec<_>>(), tokens, "{strategy}");
        let difference = largest_difference(&truth, &logits(model, &cache, question));
        assert!(difference <= limit, "{strategy}: {difference}");
    }
    let mut differences = Vec::new();
    for strategy in MergeStrategy::LOSSY.into_iter().chain([MergeStrategy::Lego { k: 0 }]) {
        let cache = memory.get_cache_with(&ids, strategy).unwrap().unwrap();
        assert_eq!(cache.tokens().collect::<Vec<_>>(), tokens, "{strategy}");
        let difference = largest_difference(&truth, &logits(model, &cache, question));
        // With two layers, `blend` computes both afresh for every token.
        let is_lossy = model.decoder().spec().layers > 2 || !matches!(strategy, MergeStrategy::Blend { .. });
        assert!(difference.is_finite() && (!is_lossy || difference > 1e-3), "{strategy}: {difference}");
        differences.push(difference);
    }
    // No fresh tokens at all is `shifted`.
    assert_eq!(differences[1], differences[4]);
}

#[test]
fn exact_ways_are_exact_on_a_tiny_model() {
    let tiny = tiny(1);
    check_exact_ways(&tiny.model, &[words(1, 20), words(2, 41), words(3, 5)], &[7, 9, 11]);
}

#[test]
fn exact_ways_are_exact_on_a_real_model() {
    let model = smol();
    let texts = ["Anna lives in Porto and works as a nurse.", "Her brother Tom keeps bees.", "She is afraid of dogs."];
    let question =
        model.tokenize("<|im_start|>user\nWhere does Anna live?<|im_end|>\n<|im_start|>assistant\n").unwrap();
    check_exact_ways(&model, &texts.map(str::to_owned), &question);
}

#[test]
fn merging_a_stored_path_again_computes_nothing() {
    let tiny = tiny(1);
    let memory = memory(&tiny.model);
    let (_, ids) = stored(&memory, &[words(1, 20), words(2, 20)]);
    let first = memory.get_cache_with(&ids, MergeStrategy::PrefixTree).unwrap().unwrap();
    let again = memory.get_cache_with(&ids, MergeStrategy::PrefixTree).unwrap().unwrap();
    assert!(first.is_exact() && again.is_exact());
    for (a, b) in first.parts().zip(again.parts()) {
        assert!(Arc::ptr_eq(&a.segment, &b.segment));
    }
}

#[test]
fn items_of_mixed_and_of_other_models_are_refused_with_both_names() {
    let (one, two) = (tiny(1), tiny(2));
    let (memory, other) = (memory(&one.model), memory(&two.model));
    let (own, foreign) = (memory.extract("w1").unwrap(), other.extract("w2").unwrap());
    let mut foreign = foreign;
    foreign.id = "foreign".into();
    memory.add([own.clone(), foreign.clone()]).unwrap();
    let error = memory.get_cache(&[own.id.as_str(), "foreign"]).unwrap_err();
    assert!(
        matches!(&error, KvError::MixedModels { first, second, .. }
                     if first.contains("tiny-1") && second.contains("tiny-2")),
        "{error}"
    );
    for strategy in [MergeStrategy::PrefixTree, MergeStrategy::Shifted] {
        let error = memory.get_cache_with(&["foreign"], strategy).unwrap_err();
        assert!(
            matches!(&error, KvError::ForeignModel { found, wanted, .. }
                         if found.contains("tiny-2") && wanted.contains("tiny-1")),
            "{error}"
        );
    }
    let again = memory.recompute("foreign").unwrap().unwrap();
    assert_eq!(rows(again.segment().unwrap()), rows(memory.extract("w2").unwrap().segment().unwrap()));
    assert_eq!((&again.metadata, &again.records), (&foreign.metadata, &foreign.records));
    assert_eq!(
        memory.get_cache(&[own.id.as_str(), "foreign"]).unwrap().unwrap().len(),
        own.n_tokens() + again.n_tokens()
    );
    assert!(memory.recompute("unknown").unwrap().is_none());
}

#[test]
fn a_context_longer_than_the_models_is_refused_by_every_strategy() {
    let tiny = tiny(1);
    let memory = memory(&tiny.model);
    let (items, ids) = stored(&memory, &[words(1, 120), words(2, 120)]);
    for strategy in MergeStrategy::LOSSY.into_iter().chain([MergeStrategy::PrefixTree]) {
        let error = memory.get_cache_with(&ids, strategy).unwrap_err();
        assert!(matches!(error, KvError::TooLong { limit: 256, .. }), "{strategy}: {error}");
    }
    let segments = [Arc::clone(items[0].segment().unwrap())];
    let bad = MergeStrategy::Blend { ratio: f32::NAN };
    let error = merge(tiny.model.decoder(), &segments, bad, &CancelToken::default()).unwrap_err();
    assert!(matches!(error, KvError::Invalid(_)), "{error}");
}
