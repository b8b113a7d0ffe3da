//! The cross-encoder against the same model computed the plain way: one pair at a time, in double precision, by the
//! formulas of the paper and nothing of a library.

use std::collections::HashMap;
use std::path::Path;

use candle_core::{Device, Tensor};
use mos_core::{ModelError, RerankCandidate, RerankQuery, Reranker};
use mos_engine::{CrossEncoderOptions, LocalCrossEncoder};
use mos_testkit::contracts;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::real_model;

pub(crate) const HIDDEN: usize = 16;
pub(crate) const INNER: usize = 24;
pub(crate) const HEADS: usize = 4;
pub(crate) const LAYERS: usize = 2;
pub(crate) const POSITIONS: usize = 40;
pub(crate) const EPSILON: f64 = 1e-12;
/// The words `[PAD]`, `[CLS]`, `[SEP]`, `[UNK]`, and `w0` to `w59`.
pub(crate) const VOCABULARY: usize = 64;

fn config() -> Value {
    json!({
        "model_type": "bert", "vocab_size": VOCABULARY, "hidden_size": HIDDEN, "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS, "intermediate_size": INNER, "hidden_act": "gelu",
        "hidden_dropout_prob": 0.1, "max_position_embeddings": POSITIONS, "type_vocab_size": 2,
        "initializer_range": 0.02, "layer_norm_eps": EPSILON, "pad_token_id": 0,
        "id2label": {"0": "LABEL_0"}, "architectures": ["BertForSequenceClassification"],
    })
}

/// Words at white space; a pair is `[CLS] a [SEP] b [SEP]`, the second part of kind 1.
fn tokenizer() -> Value {
    let mut vocabulary = serde_json::Map::new();
    for (id, word) in ["[PAD]", "[CLS]", "[SEP]", "[UNK]"].iter().enumerate() {
        vocabulary.insert((*word).to_owned(), json!(id));
    }
    for word in 0..60 {
        vocabulary.insert(format!("w{word}"), json!(word + 4));
    }
    let special = |id: u32, text: &str| {
        json!({"id": id, "content": text, "single_word": false, "lstrip": false, "rstrip": false,
               "normalized": false, "special": true})
    };
    let token = |id: &str, kind: u32| json!({"SpecialToken": {"id": id, "type_id": kind}});
    let part = |id: &str, kind: u32| json!({"Sequence": {"id": id, "type_id": kind}});
    json!({
        "version": "1.0", "truncation": null, "padding": null, "normalizer": null, "decoder": null,
        "added_tokens": [special(0, "[PAD]"), special(1, "[CLS]"), special(2, "[SEP]"), special(3, "[UNK]")],
        "pre_tokenizer": {"type": "WhitespaceSplit"},
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [token("[CLS]", 0), part("A", 0), token("[SEP]", 0)],
            "pair": [token("[CLS]", 0), part("A", 0), token("[SEP]", 0), part("B", 1), token("[SEP]", 1)],
            "special_tokens": {
                "[CLS]": {"id": "[CLS]", "ids": [1], "tokens": ["[CLS]"]},
                "[SEP]": {"id": "[SEP]", "ids": [2], "tokens": ["[SEP]"]},
            },
        },
        "model": {"type": "WordLevel", "vocab": vocabulary, "unk_token": "[UNK]"},
    })
}

/// Random weights by the names that files use; the same on every run.
#[derive(Default)]
pub(crate) struct Weights(pub(crate) HashMap<String, (Vec<usize>, Vec<f32>)>);

impl Weights {
    pub(crate) fn random() -> Self {
        let mut weights = Self::default();
        let mut state = 20_240_501_u64;
        let mut add = |name: String, shape: &[usize], scale: f32, centre: f32| {
            let values = (0..shape.iter().product())
                .map(|_| {
                    state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                    centre + scale * ((state >> 40) as f32 / (1_u64 << 24) as f32 - 0.5)
                })
                .collect();
            weights.0.insert(name, (shape.to_vec(), values));
        };
        for (name, rows) in
            [("word_embeddings", VOCABULARY), ("position_embeddings", POSITIONS), ("token_type_embeddings", 2)]
        {
            add(format!("bert.embeddings.{name}.weight"), &[rows, HIDDEN], 2.0, 0.0);
        }
        let mut norms = vec!["bert.embeddings.LayerNorm".to_owned()];
        let mut products = vec![("bert.pooler.dense".to_owned(), HIDDEN, HIDDEN), ("classifier".to_owned(), 1, HIDDEN)];
        for layer in 0..LAYERS {
            let at = |part: &str| format!("bert.encoder.layer.{layer}.{part}");
            for part in ["query", "key", "value"] {
                products.push((at(&format!("attention.self.{part}")), HIDDEN, HIDDEN));
            }
            products.push((at("attention.output.dense"), HIDDEN, HIDDEN));
            products.push((at("intermediate.dense"), INNER, HIDDEN));
            products.push((at("output.dense"), HIDDEN, INNER));
            norms.extend([at("attention.output.LayerNorm"), at("output.LayerNorm")]);
        }
        for (name, rows, columns) in products {
            add(format!("{name}.weight"), &[rows, columns], 1.0, 0.0);
            add(format!("{name}.bias"), &[rows], 0.5, 0.0);
        }
        for name in norms {
            add(format!("{name}.weight"), &[HIDDEN], 0.5, 1.0);
            add(format!("{name}.bias"), &[HIDDEN], 0.5, 0.0);
        }
        weights
    }

    fn values(&self, name: &str) -> &[f32] {
        &self.0[name].1
    }

    pub(crate) fn row(&self, name: &str, row: usize) -> Vec<f64> {
        self.values(name)[row * HIDDEN..(row + 1) * HIDDEN].iter().map(|&value| f64::from(value)).collect()
    }

    pub(crate) fn save(&self, path: &Path, rename: impl Fn(&str) -> Option<String>) {
        let tensors: HashMap<String, Tensor> = self
            .0
            .iter()
            .filter_map(|(name, (shape, values))| {
                let tensor = Tensor::from_vec(values.clone(), shape.as_slice(), &Device::Cpu).unwrap();
                Some((rename(name)?, tensor))
            })
            .collect();
        candle_core::safetensors::save(&tensors, path).unwrap();
    }

    /// `weight * x + bias`.
    pub(crate) fn product(&self, name: &str, x: &[f64]) -> Vec<f64> {
        let weight = self.values(&format!("{name}.weight"));
        let bias = self.values(&format!("{name}.bias"));
        let rows = weight.chunks(x.len()).zip(bias);
        rows.map(|(row, bias)| row.iter().zip(x).map(|(w, x)| f64::from(*w) * x).sum::<f64>() + f64::from(*bias))
            .collect()
    }

    pub(crate) fn norm(&self, name: &str, x: &[f64]) -> Vec<f64> {
        let mean = x.iter().sum::<f64>() / x.len() as f64;
        let variance = x.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / x.len() as f64;
        let scales = self.values(&format!("{name}.weight")).iter().zip(self.values(&format!("{name}.bias")));
        x.iter()
            .zip(scales)
            .map(|(x, (w, b))| (x - mean) / (variance + EPSILON).sqrt() * f64::from(*w) + f64::from(*b))
            .collect()
    }

    /// The score of one pair of tokens and kinds.
    fn score(&self, tokens: &[(usize, usize)]) -> f64 {
        let mut rows: Vec<Vec<f64>> = tokens
            .iter()
            .enumerate()
            .map(|(position, (token, kind))| {
                let parts = [("word", *token), ("token_type", *kind), ("position", position)];
                let mut sum = vec![0.0; HIDDEN];
                for (name, row) in parts {
                    let values = self.row(&format!("bert.embeddings.{name}_embeddings.weight"), row);
                    sum.iter_mut().zip(values).for_each(|(sum, value)| *sum += value);
                }
                self.norm("bert.embeddings.LayerNorm", &sum)
            })
            .collect();
        for layer in 0..LAYERS {
            rows = self.layer(&format!("bert.encoder.layer.{layer}"), &rows);
        }
        let pooled: Vec<f64> = self.product("bert.pooler.dense", &rows[0]).into_iter().map(f64::tanh).collect();
        let logit = self.product("classifier", &pooled)[0];
        1.0 / (1.0 + (-logit).exp())
    }

    pub(crate) fn layer(&self, at: &str, rows: &[Vec<f64>]) -> Vec<Vec<f64>> {
        let project = |part: &str| -> Vec<Vec<f64>> {
            rows.iter().map(|row| self.product(&format!("{at}.attention.self.{part}"), row)).collect()
        };
        let (queries, keys, values) = (project("query"), project("key"), project("value"));
        let width = HIDDEN / HEADS;
        let mut out = Vec::new();
        for (row, query) in rows.iter().zip(&queries) {
            let mut context = vec![0.0; HIDDEN];
            for head in 0..HEADS {
                let part = head * width..(head + 1) * width;
                let scores: Vec<f64> = keys
                    .iter()
                    .map(|key| {
                        let product: f64 = query[part.clone()].iter().zip(&key[part.clone()]).map(|(q, k)| q * k).sum();
                        (product / (width as f64).sqrt()).exp()
                    })
                    .collect();
                let total: f64 = scores.iter().sum();
                for (score, value) in scores.iter().zip(&values) {
                    for place in part.clone() {
                        context[place] += score / total * value[place];
                    }
                }
            }
            let add = |a: Vec<f64>, b: &[f64]| -> Vec<f64> { a.iter().zip(b).map(|(a, b)| a + b).collect() };
            let attended = add(self.product(&format!("{at}.attention.output.dense"), &context), row);
            let attended = self.norm(&format!("{at}.attention.output.LayerNorm"), &attended);
            let inner: Vec<f64> =
                self.product(&format!("{at}.intermediate.dense"), &attended).into_iter().map(gelu).collect();
            let sum = add(self.product(&format!("{at}.output.dense"), &inner), &attended);
            out.push(self.norm(&format!("{at}.output.LayerNorm"), &sum));
        }
        out
    }
}

fn gelu(x: f64) -> f64 {
    x * 0.5 * (1.0 + erf(x / std::f64::consts::SQRT_2))
}

/// The error function by its series, which converges fast enough for the small numbers here.
fn erf(x: f64) -> f64 {
    if x.abs() > 5.0 {
        return x.signum();
    }
    let (mut term, mut sum, mut number) = (x, x, 0.0);
    while term.abs() > 1e-17 * sum.abs() && number < 200.0 {
        number += 1.0;
        term *= -x * x / number;
        sum += term / (2.0 * number + 1.0);
    }
    sum * 2.0 / std::f64::consts::PI.sqrt()
}

/// The tokens and kinds of a pair, by the rules of the tokenizer above; `limit` tokens at most, the longer part is cut.
fn pair(query: &str, text: &str, limit: usize) -> Vec<(usize, usize)> {
    let ids = |text: &str| -> Vec<usize> {
        let id = |word: &str| {
            word.strip_prefix('w').and_then(|number| number.parse::<usize>().ok()).map(|number| number + 4)
        };
        text.split_whitespace().map(|word| id(word).filter(|id| *id < VOCABULARY).unwrap_or(3)).collect()
    };
    let (mut a, mut b) = (ids(query), ids(text));
    let room = limit - 3;
    if a.len() + b.len() > room {
        let (short, long) = if a.len() > b.len() { (&mut b, &mut a) } else { (&mut a, &mut b) };
        short.truncate(short.len().min(room / 2));
        long.truncate(room - short.len());
    }
    let first = std::iter::once(1).chain(a).chain([2]).map(|token| (token, 0));
    first.chain(b.into_iter().chain([2]).map(|token| (token, 1))).collect()
}

fn write(weights: &Weights, rename: impl Fn(&str) -> Option<String>) -> TempDir {
    let folder = TempDir::new().unwrap();
    std::fs::write(folder.path().join("config.json"), config().to_string()).unwrap();
    std::fs::write(folder.path().join("tokenizer.json"), tokenizer().to_string()).unwrap();
    weights.save(&folder.path().join("model.safetensors"), rename);
    folder
}

fn whole(weights: &Weights) -> TempDir {
    write(weights, |name| Some(name.to_owned()))
}

async fn scores(reranker: &LocalCrossEncoder, query: &str, texts: &[&str]) -> Vec<f32> {
    let candidates: Vec<RerankCandidate<'_>> = texts.iter().map(|text| RerankCandidate::new(text)).collect();
    let ranked = reranker.rerank(RerankQuery::from(query), &candidates, texts.len()).await.unwrap();
    let mut scores = vec![f32::NAN; texts.len()];
    for one in ranked {
        scores[one.index] = one.score;
    }
    scores
}

const TEXTS: &[&str] = &[
    "w5 w6 w7",
    "w5",
    "",
    "w10 w11 w12 w13 w14 w15 w16 w17",
    "w59 unknown w0 w5 w6",
    "w5 w6 w7 w8 w9 w10 w11 w12 w13 w14 w15 w16 w17 w18 w19 w20 w21 w22 w23 w24 w25 w26 w27 w28 w29 w30 w31 w32 w33 w34",
    "w41 w42 w43",
];

#[tokio::test]
async fn scores_are_those_of_the_plain_formulas() {
    let weights = Weights::random();
    let folder = whole(&weights);
    for (max_tokens, batch_tokens) in [(None, 1024), (None, 1), (None, 60), (Some(12), 1024), (Some(1000), 30)] {
        let options = CrossEncoderOptions { max_tokens, batch_tokens, ..CrossEncoderOptions::new(folder.path()) };
        let reranker = LocalCrossEncoder::open(&options).unwrap();
        let limit = max_tokens.unwrap_or(POSITIONS).min(POSITIONS);
        for query in ["w1 w2 w3 w4", "", "w5 w6 w7 w8 w9 w10 w11 w12 w13 w14 w15 w16 w17 w18 w19 w20 w21 w22 w23"] {
            let got = scores(&reranker, query, TEXTS).await;
            for (text, got) in TEXTS.iter().zip(&got) {
                let expected = weights.score(&pair(query, text, limit));
                assert!(
                    (f64::from(*got) - expected).abs() < 1e-4,
                    "{query:?} {text:?} at {limit}, batches of {batch_tokens}: {got} instead of {expected}"
                );
            }
            let spread = got.iter().copied().fold(f32::MIN, f32::max) - got.iter().copied().fold(f32::MAX, f32::min);
            assert!(spread > 0.01, "scores that are all alike would prove nothing: {got:?}");
        }
    }
}

#[tokio::test]
async fn the_contract_of_rerankers_holds() {
    let folder = whole(&Weights::random());
    let reranker = LocalCrossEncoder::open(&CrossEncoderOptions::new(folder.path())).unwrap();
    contracts::rerank::run(&*reranker, &[1.0]).await;
    let name = folder.path().file_name().unwrap().to_string_lossy().into_owned();
    assert_eq!(reranker.name(), name);
}

/// The words of a real tokenizer, pairs of whole sentences: only the head is random.
#[tokio::test]
async fn a_real_encoder_with_a_head_reads_both_parts() {
    let real = real_model("all-minilm-l6-v2");
    let folder = TempDir::new().unwrap();
    for file in ["config.json", "tokenizer.json"] {
        std::fs::copy(real.join(file), folder.path().join(file)).unwrap();
    }
    let known = candle_core::safetensors::load(real.join("model.safetensors"), &Device::Cpu).unwrap();
    let mut tensors: HashMap<String, Tensor> =
        known.into_iter().map(|(name, tensor)| (format!("bert.{name}"), tensor)).collect();
    let wave: Vec<f32> = (0..384).map(|number| (number as f32).sin()).collect();
    tensors.insert("classifier.weight".to_owned(), Tensor::from_vec(wave, (1, 384), &Device::Cpu).unwrap());
    tensors.insert("classifier.bias".to_owned(), Tensor::zeros(1, candle_core::DType::F32, &Device::Cpu).unwrap());
    candle_core::safetensors::save(&tensors, folder.path().join("model.safetensors")).unwrap();
    let open = |batch_tokens| {
        let options = CrossEncoderOptions { batch_tokens, ..CrossEncoderOptions::new(folder.path()) };
        LocalCrossEncoder::open(&options).unwrap()
    };
    let long = "word ".repeat(2000);
    let texts = ["Berlin is the capital of Germany.", "Tea.", "", long.as_str(), "柏林是德国的首都。"];
    let together = scores(&open(4096), "What is the capital of Germany?", &texts).await;
    let apart = scores(&open(1), "What is the capital of Germany?", &texts).await;
    for (a, b) in together.iter().zip(&apart) {
        assert!((a - b).abs() < 1e-4, "{together:?} {apart:?}");
    }
    let other = scores(&open(4096), "Who likes tea?", &texts).await;
    assert!(together.iter().zip(&other).any(|(a, b)| (a - b).abs() > 1e-3), "the question is read: {other:?}");
    assert!((together[0] - together[1]).abs() > 1e-3, "the text is read: {together:?}");
}

#[test]
fn what_is_no_cross_encoder_is_refused_with_the_reason() {
    let refuse = |folder: &Path| match LocalCrossEncoder::open(&CrossEncoderOptions::new(folder)) {
        Err(error) => error,
        Ok(reranker) => panic!("{reranker:?} was opened"),
    };
    let weights = Weights::random();
    let missing = refuse(&whole(&weights).path().join("none"));
    assert!(matches!(&missing, ModelError::NotFound(text) if text.contains("mos models pull")), "{missing}");
    let headless = write(&weights, |name| (!name.starts_with("classifier")).then(|| name.to_owned()));
    let error = refuse(headless.path());
    assert!(matches!(&error, ModelError::BadModel(text) if text.contains("no cross-encoder")), "{error}");
    let unpooled = write(&weights, |name| (!name.contains("pooler")).then(|| name.to_owned()));
    let error = refuse(unpooled.path());
    assert!(matches!(&error, ModelError::BadModel(text) if text.contains("pooler")), "{error}");
    let mut many = Weights::random();
    many.0.insert("classifier.weight".to_owned(), (vec![3, HIDDEN], vec![0.5; 3 * HIDDEN]));
    let error = refuse(whole(&many).path());
    assert!(matches!(&error, ModelError::BadModel(text) if text.contains("one output")), "{error}");
    let other = whole(&weights);
    std::fs::write(other.path().join("config.json"), json!({"model_type": "deberta"}).to_string()).unwrap();
    let error = refuse(other.path());
    assert!(matches!(&error, ModelError::BadModel(text) if text.contains("`deberta`")), "{error}");
    let cut = whole(&weights);
    let file = cut.path().join("model.safetensors");
    let bytes = std::fs::read(&file).unwrap();
    std::fs::write(&file, &bytes[..bytes.len() / 2]).unwrap();
    assert!(matches!(refuse(cut.path()), ModelError::BadModel(_)));
}

#[tokio::test]
async fn weights_that_are_no_numbers_are_told() {
    let mut weights = Weights::random();
    weights.0.insert("classifier.bias".to_owned(), (vec![1], vec![f32::NAN]));
    let folder = whole(&weights);
    let reranker = LocalCrossEncoder::open(&CrossEncoderOptions::new(folder.path())).unwrap();
    let error = reranker.rerank("w1".into(), &[RerankCandidate::new("w2")], 1).await.unwrap_err();
    assert!(matches!(&error, ModelError::BadModel(text) if text.contains("scores")), "{error}");
}
