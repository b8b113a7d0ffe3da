//! The layers against candle's on small random weights, in sizes that fill no panels.

use std::collections::HashMap;
use std::path::Path;

use candle_core::{DType, Device, Tensor};
use candle_nn::VarBuilder;
use mos_core::ModelError;
use serde_json::{Value, json};

use super::TextEncoder;
use crate::cpu::CpuPath;
use crate::decoder::Compute;
use crate::sentence_model::SentenceConfig;

const VOCABULARY: usize = 50;
const POSITIONS: usize = 130;
const LAYERS: usize = 2;
/// The token of XLM-RoBERTa that fills rows up.
const PAD: u32 = 1;

/// Length of a vector, heads, length inside of the feed-forward part.
type Sizes = (usize, usize, usize);

const ODD: Sizes = (20, 5, 50);

fn config((hidden, heads, inner): Sizes, curve: &str) -> Value {
    json!({
        "vocab_size": VOCABULARY, "hidden_size": hidden, "num_hidden_layers": LAYERS, "num_attention_heads": heads,
        "intermediate_size": inner, "hidden_act": curve, "hidden_dropout_prob": 0.1,
        "attention_probs_dropout_prob": 0.1, "max_position_embeddings": POSITIONS, "type_vocab_size": 2,
        "initializer_range": 0.02, "layer_norm_eps": 1e-12, "pad_token_id": PAD,
        "position_embedding_type": "absolute",
    })
}

fn bert(sizes: Sizes, curve: &str) -> SentenceConfig {
    SentenceConfig::Bert(serde_json::from_value(config(sizes, curve)).unwrap())
}

fn xlm_roberta(sizes: Sizes, curve: &str) -> SentenceConfig {
    SentenceConfig::XlmRoberta(serde_json::from_value(config(sizes, curve)).unwrap())
}

/// Random weights by the names that files use; the same on every run.
fn weights((hidden, _, inner): Sizes) -> HashMap<String, Tensor> {
    let mut state = 77_u64;
    let mut weights = HashMap::new();
    let mut add = |name: String, shape: &[usize], centre: f32| {
        let values: Vec<f32> = (0..shape.iter().product())
            .map(|_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                centre + (state >> 40) as f32 / (1_u64 << 24) as f32 - 0.5
            })
            .collect();
        weights.insert(name, Tensor::from_vec(values, shape, &Device::Cpu).unwrap());
    };
    for (name, rows) in [("word", VOCABULARY), ("position", POSITIONS), ("token_type", 2)] {
        add(format!("embeddings.{name}_embeddings.weight"), &[rows, hidden], 0.0);
    }
    let mut norms = vec!["embeddings.LayerNorm".to_owned()];
    for layer in 0..LAYERS {
        let at = |part: &str| format!("encoder.layer.{layer}.{part}");
        for (part, rows, columns) in [
            ("attention.self.query", hidden, hidden),
            ("attention.self.key", hidden, hidden),
            ("attention.self.value", hidden, hidden),
            ("attention.output.dense", hidden, hidden),
            ("intermediate.dense", inner, hidden),
            ("output.dense", hidden, inner),
        ] {
            add(at(&format!("{part}.weight")), &[rows, columns], 0.0);
            add(at(&format!("{part}.bias")), &[rows], 0.0);
        }
        norms.extend([at("attention.output.LayerNorm"), at("output.LayerNorm")]);
    }
    for name in norms {
        add(format!("{name}.weight"), &[hidden], 1.0);
        add(format!("{name}.bias"), &[hidden], 0.0);
    }
    weights
}

fn variables(weights: &HashMap<String, Tensor>) -> VarBuilder<'static> {
    VarBuilder::from_tensors(weights.clone(), DType::F32, &Device::Cpu)
}

fn load(
    config: &SentenceConfig,
    weights: &HashMap<String, Tensor>,
    threads: usize,
    path: CpuPath,
) -> candle_core::Result<TextEncoder> {
    let spec = config.spec(Path::new("config.json")).unwrap();
    TextEncoder::load(spec, Compute::new(threads, path).unwrap(), &variables(weights))
}

/// Texts of these numbers of tokens, none of them the one that fills up.
fn texts(lengths: &[usize]) -> Vec<Vec<u32>> {
    let mut token = 3;
    let mut next = || {
        token = (token * 31 + 7) % (VOCABULARY as u32 - 2);
        token + 2
    };
    lengths.iter().map(|&len| (0..len).map(|_| next()).collect()).collect()
}

/// The vectors of all tokens, text by text.
fn vectors(encoder: &TextEncoder, texts: &[Vec<u32>]) -> Vec<Vec<f32>> {
    let texts: Vec<&[u32]> = texts.iter().map(Vec::as_slice).collect();
    let hidden = encoder.hidden(&texts).unwrap();
    (0..texts.concat().len()).map(|row| hidden.row(row).to_vec()).collect()
}

/// What candle computes of the same, filled up and masked.
fn of_candle(config: &SentenceConfig, weights: &HashMap<String, Tensor>, texts: &[Vec<u32>]) -> Vec<Vec<f32>> {
    let model = config.load_from(variables(weights)).unwrap();
    let rows: Vec<&[u32]> = texts.iter().map(Vec::as_slice).collect();
    let zeros: Vec<Vec<u32>> = texts.iter().map(|text| vec![0; text.len()]).collect();
    let kinds: Vec<&[u32]> = zeros.iter().map(Vec::as_slice).collect();
    let hidden = model.hidden(&rows, &kinds).unwrap().to_vec3::<f32>().unwrap();
    hidden.into_iter().zip(texts).flat_map(|(rows, text)| rows.into_iter().take(text.len())).collect()
}

fn bits(vectors: &[Vec<f32>]) -> Vec<Vec<u32>> {
    vectors.iter().map(|vector| vector.iter().map(|value| value.to_bits()).collect()).collect()
}

fn assert_near(got: &[Vec<f32>], expected: &[Vec<f32>], what: &str) {
    assert_eq!(got.len(), expected.len(), "{what}");
    for (row, (got, expected)) in got.iter().zip(expected).enumerate() {
        let furthest = got.iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(got.len() == expected.len() && furthest < 3e-5, "{what}, row {row}: {furthest} apart");
    }
}

#[test]
fn vectors_are_those_of_candle() {
    let texts = texts(&[1, 2, 7, 16, 17, 100, 33, POSITIONS - PAD as usize - 1]);
    for sizes in [ODD, (16, 1, 16), (36, 2, 70), (64, 4, 33)] {
        let weights = weights(sizes);
        for (config, what) in [
            (bert(sizes, "gelu"), "bert"),
            (bert(sizes, "geluapproximate"), "bert, tanh"),
            (bert(sizes, "relu"), "bert, relu"),
            (xlm_roberta(sizes, "gelu"), "xlm-roberta"),
            (xlm_roberta(sizes, "gelu_new"), "xlm-roberta, tanh"),
            (xlm_roberta(sizes, "silu"), "xlm-roberta, silu"),
        ] {
            let encoder = load(&config, &weights, 2, CpuPath::best()).unwrap();
            let expected = of_candle(&config, &weights, &texts);
            assert_near(&vectors(&encoder, &texts), &expected, &format!("{what}, {sizes:?}"));
        }
    }
}

#[test]
fn a_bert_text_may_have_as_many_tokens_as_there_are_positions() {
    let (config, weights, texts) = (bert(ODD, "gelu"), weights(ODD), texts(&[POSITIONS, 3]));
    let encoder = load(&config, &weights, 1, CpuPath::best()).unwrap();
    assert_near(&vectors(&encoder, &texts), &of_candle(&config, &weights, &texts), "all positions");
}

/// A text may have the token that fills rows up in its middle: it stands at a place of its own and is not counted.
#[test]
fn positions_are_counted_as_candle_counts_them() {
    let (config, weights) = (xlm_roberta(ODD, "gelu"), weights(ODD));
    let texts = [vec![0, 5, PAD, 6, 2], vec![0, 9, 2]];
    let encoder = load(&config, &weights, 1, CpuPath::best()).unwrap();
    let rows: Vec<&[u32]> = texts.iter().map(Vec::as_slice).collect();
    let places = encoder.places(&rows).unwrap();
    let positions: Vec<usize> = places.iter().map(|(_, position)| *position).collect();
    assert_eq!(positions, [2, 3, 1, 4, 5, 2, 3, 4]);
    assert_near(&vectors(&encoder, &texts), &of_candle(&config, &weights, &texts), "a fill in a text");
}

#[test]
fn neither_other_texts_nor_threads_nor_instructions_show() {
    let lengths: Vec<usize> = (0..300).map(|number| 1 + number * 7 % 29 + number % 41 / 40 * 90).collect();
    let (weights, texts) = (weights(ODD), texts(&lengths));
    for config in [bert(ODD, "gelu"), xlm_roberta(ODD, "gelu")] {
        let alone = load(&config, &weights, 1, CpuPath::Portable).unwrap();
        let expected: Vec<Vec<f32>> =
            texts.iter().flat_map(|text| vectors(&alone, std::slice::from_ref(text))).collect();
        for path in CpuPath::available() {
            for threads in [1, 2, 3] {
                let encoder = load(&config, &weights, threads, path).unwrap();
                assert!(bits(&vectors(&encoder, &texts)) == bits(&expected), "{path:?}, {threads} threads");
            }
        }
    }
    let encoder = load(&bert(ODD, "gelu"), &weights, 2, CpuPath::best()).unwrap();
    assert!(vectors(&encoder, &[]).is_empty());
}

#[test]
fn tokens_and_positions_beyond_the_model_are_refused() {
    let encoder = load(&xlm_roberta(ODD, "gelu"), &weights(ODD), 1, CpuPath::best()).unwrap();
    let long = vec![3; POSITIONS - PAD as usize];
    for tokens in [[VOCABULARY as u32].as_slice(), long.as_slice()] {
        let error = encoder.hidden(&[&[4, 5], tokens]).err().unwrap();
        assert!(matches!(error, ModelError::Internal { .. }), "{error}");
    }
    assert!(encoder.hidden(&[&long[1..]]).is_ok());
}

#[test]
fn what_does_not_fit_is_refused() {
    let refuse = |sizes: Sizes, change: &dyn Fn(&mut HashMap<String, Tensor>)| {
        let mut weights = weights(ODD);
        change(&mut weights);
        load(&bert(sizes, "gelu"), &weights, 1, CpuPath::best()).err().unwrap().to_string()
    };
    let key = "encoder.layer.1.attention.self.key.weight";
    for (error, why) in [
        (refuse((20, 3, 50), &|_| ()), "num_attention_heads"),
        (refuse((20, 0, 50), &|_| ()), "num_attention_heads"),
        (refuse((40, 5, 50), &|_| ()), "embeddings"),
        (refuse(ODD, &|weights| _ = weights.remove(key)), key),
    ] {
        assert!(error.contains(why), "{why}: {error}");
    }
    let strange = xlm_roberta(ODD, "mish").spec(Path::new("config.json")).err().unwrap();
    assert!(matches!(&strange, ModelError::BadModel(text) if text.contains("Mish")), "{strange}");
}

#[test]
fn norms_may_have_their_old_names() {
    let (config, weights) = (bert(ODD, "gelu"), weights(ODD));
    let rename = |name: &String| {
        let name = name.replace("LayerNorm.weight", "LayerNorm.gamma");
        name.replace("LayerNorm.bias", "LayerNorm.beta")
    };
    let old: HashMap<String, Tensor> = weights.iter().map(|(name, tensor)| (rename(name), tensor.clone())).collect();
    assert!(old.keys().any(|name| name.ends_with("beta")));
    let texts = texts(&[9, 4]);
    let computed = |weights| vectors(&load(&config, weights, 1, CpuPath::best()).unwrap(), &texts);
    assert_eq!(bits(&computed(&old)), bits(&computed(&weights)));
}

/// A softmax makes numbers of what is none.
#[test]
fn damaged_keys_do_not_go_unseen() {
    let mut weights = weights(ODD);
    let key = "encoder.layer.1.attention.self.key.weight".to_owned();
    let damaged = Tensor::full(f32::NAN, (20, 20), &Device::Cpu).unwrap();
    weights.insert(key, damaged);
    let encoder = load(&bert(ODD, "gelu"), &weights, 1, CpuPath::best()).unwrap();
    let vectors = vectors(&encoder, &texts(&[9, 4]));
    assert!(vectors.iter().all(|vector| vector.iter().all(|value| value.is_nan())));
}
