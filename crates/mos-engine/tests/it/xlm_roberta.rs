//! XLM-RoBERTa encoders against the same model computed the plain way, in double precision, one text at a time.
//!
//! The tokenizer is of the kind those models have: pieces of words with a probability each (SentencePiece's unigram
//! model), in English and Chinese.

use std::path::Path;

use mos_core::{Embedder, ModelError, RerankCandidate, RerankQuery, Reranker};
use mos_engine::{CrossEncoderOptions, EmbedderOptions, LocalCrossEncoder, LocalEmbedder, Pooling};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::cross_encoder::{EPSILON, HEADS, HIDDEN, INNER, LAYERS, POSITIONS, VOCABULARY, Weights};

/// The token that fills rows up; positions are counted from behind it.
const PAD: usize = 1;

/// The pieces behind the four special tokens, with their log probabilities: whole words win.
const PIECES: [(&str, f64); 16] = [
    ("▁", -2.0),
    ("▁cat", -1.0),
    ("▁dog", -1.0),
    ("▁sat", -1.0),
    ("北京", -1.0),
    ("是", -1.5),
    ("首都", -1.0),
    ("北", -4.0),
    ("京", -4.0),
    ("首", -4.0),
    ("都", -4.0),
    ("我", -1.5),
    ("喜欢", -1.0),
    ("茶", -1.5),
    ("在", -1.5),
    ("哪里", -1.0),
];

/// Texts with their tokens, counted by hand from the list above.
const TEXTS: [(&str, &[usize]); 6] = [
    ("cat sat", &[0, 5, 7, 2]),
    ("dog", &[0, 6, 2]),
    ("北京是首都", &[0, 4, 8, 9, 10, 2]),
    ("我喜欢茶", &[0, 4, 15, 16, 17, 2]),
    ("首都在哪里", &[0, 4, 10, 18, 19, 2]),
    ("cat dog sat cat dog sat cat dog sat", &[0, 5, 6, 7, 5, 6, 7, 5, 6, 7, 2]),
];

fn config() -> Value {
    json!({
        "model_type": "xlm-roberta", "vocab_size": VOCABULARY, "hidden_size": HIDDEN, "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS, "intermediate_size": INNER, "hidden_act": "gelu",
        "hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.1, "max_position_embeddings": POSITIONS,
        "type_vocab_size": 2, "layer_norm_eps": EPSILON, "pad_token_id": PAD,
        "position_embedding_type": "absolute", "architectures": ["XLMRobertaModel"],
    })
}

fn tokenizer() -> Value {
    let specials = ["<s>", "<pad>", "</s>", "<unk>"];
    let added: Vec<Value> = specials
        .iter()
        .enumerate()
        .map(|(id, text)| {
            json!({"id": id, "content": text, "single_word": false, "lstrip": false, "rstrip": false,
                   "normalized": false, "special": true})
        })
        .collect();
    let vocabulary: Vec<Value> = specials
        .iter()
        .map(|text| json!([text, 0.0]))
        .chain(PIECES.iter().map(|(piece, score)| json!([piece, score])))
        .collect();
    let token = |id: &str| json!({"SpecialToken": {"id": id, "type_id": 0}});
    let part = |id: &str| json!({"Sequence": {"id": id, "type_id": 0}});
    let metaspace = json!({"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": true});
    json!({
        "version": "1.0", "truncation": null, "padding": null, "normalizer": null,
        "added_tokens": added, "pre_tokenizer": metaspace, "decoder": metaspace,
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [token("<s>"), part("A"), token("</s>")],
            "pair": [token("<s>"), part("A"), token("</s>"), token("</s>"), part("B"), token("</s>")],
            "special_tokens": {
                "<s>": {"id": "<s>", "ids": [0], "tokens": ["<s>"]},
                "</s>": {"id": "</s>", "ids": [2], "tokens": ["</s>"]},
            },
        },
        "model": {"type": "Unigram", "unk_id": 3, "vocab": vocabulary, "byte_fallback": false},
    })
}

/// The folder of a model; `prefix` stands before the names of its tensors.
fn write(weights: &Weights, prefix: &str) -> TempDir {
    let folder = TempDir::new().unwrap();
    std::fs::write(folder.path().join("config.json"), config().to_string()).unwrap();
    std::fs::write(folder.path().join("tokenizer.json"), tokenizer().to_string()).unwrap();
    let rename = |name: &str| name.strip_prefix("bert.").map(|name| format!("{prefix}{name}"));
    weights.save(&folder.path().join("model.safetensors"), rename);
    folder
}

fn say_pooling(folder: &Path, is_mean: bool, is_first: bool) {
    let pooling = folder.join("1_Pooling");
    std::fs::create_dir_all(&pooling).unwrap();
    let config = json!({"word_embedding_dimension": HIDDEN, "pooling_mode_mean_tokens": is_mean,
                        "pooling_mode_cls_token": is_first});
    std::fs::write(pooling.join("config.json"), config.to_string()).unwrap();
}

/// The vectors of a text's tokens by the formulas of the paper.
fn hidden(weights: &Weights, tokens: &[usize]) -> Vec<Vec<f64>> {
    let mut rows: Vec<Vec<f64>> = tokens
        .iter()
        .enumerate()
        .map(|(place, token)| {
            let mut sum = vec![0.0; HIDDEN];
            for (name, row) in [("word", *token), ("token_type", 0), ("position", place + PAD + 1)] {
                let values = weights.row(&format!("bert.embeddings.{name}_embeddings.weight"), row);
                sum.iter_mut().zip(values).for_each(|(sum, value)| *sum += value);
            }
            weights.norm("bert.embeddings.LayerNorm", &sum)
        })
        .collect();
    for layer in 0..LAYERS {
        rows = weights.layer(&format!("bert.encoder.layer.{layer}"), &rows);
    }
    rows
}

/// The vector of a text.
fn expected(weights: &Weights, tokens: &[usize], pooling: Pooling) -> Vec<f64> {
    let rows = hidden(weights, tokens);
    let pooled: Vec<f64> = match pooling {
        Pooling::FirstToken => rows[0].clone(),
        Pooling::Mean => (0..HIDDEN).map(|at| rows.iter().map(|row| row[at]).sum::<f64>()).collect(),
    };
    let length = pooled.iter().map(|value| value * value).sum::<f64>().sqrt();
    pooled.iter().map(|value| value / length).collect()
}

fn assert_close(got: &[f32], expected: &[f64], what: &str) {
    let furthest = got.iter().zip(expected).map(|(a, b)| (f64::from(*a) - b).abs()).fold(0.0, f64::max);
    assert!(got.len() == expected.len() && furthest < 1e-4, "{what}: {furthest} apart");
}

fn texts() -> Vec<String> {
    TEXTS.iter().map(|(text, _)| (*text).to_owned()).collect()
}

#[tokio::test]
async fn vectors_are_those_of_the_plain_formulas() {
    let weights = Weights::random();
    for prefix in ["", "roberta."] {
        let folder = write(&weights, prefix);
        for pooling in [Pooling::Mean, Pooling::FirstToken] {
            for batch_tokens in [1, 14, 1024] {
                let options =
                    EmbedderOptions { pooling: Some(pooling), batch_tokens, ..EmbedderOptions::new(folder.path()) };
                let embedder = LocalEmbedder::open(&options).unwrap();
                let vectors = embedder.embed(&texts()).await.unwrap();
                for ((text, tokens), vector) in TEXTS.iter().zip(&vectors) {
                    let what = format!("{text:?}, {pooling:?}, batches of {batch_tokens}, {prefix:?}");
                    assert_close(vector, &expected(&weights, tokens, pooling), &what);
                }
                assert_eq!(embedder.space().await.unwrap().dimension, HIDDEN);
            }
        }
    }
    let (a, b) = (expected(&weights, TEXTS[2].1, Pooling::Mean), expected(&weights, TEXTS[3].1, Pooling::Mean));
    let cosine: f64 = a.iter().zip(&b).map(|(a, b)| a * b).sum();
    assert!(cosine < 0.999, "vectors that are all alike would prove nothing: {cosine}");
}

#[tokio::test]
async fn long_texts_are_cut_where_positions_end() {
    let weights = Weights::random();
    let folder = write(&weights, "");
    let open = |max_tokens| {
        LocalEmbedder::open(&EmbedderOptions { max_tokens, ..EmbedderOptions::new(folder.path()) }).unwrap()
    };
    let long = "cat ".repeat(200);
    for (max_tokens, n_tokens) in [(Some(6), 6), (None, POSITIONS - PAD - 1), (Some(1000), POSITIONS - PAD - 1)] {
        let vectors = open(max_tokens).embed(std::slice::from_ref(&long)).await.unwrap();
        let tokens: Vec<usize> =
            std::iter::once(0).chain(std::iter::repeat_n(5, n_tokens - 2)).chain(std::iter::once(2)).collect();
        assert_close(&vectors[0], &expected(&weights, &tokens, Pooling::Mean), &format!("{n_tokens} tokens"));
    }
}

#[tokio::test]
async fn the_folder_says_how_tokens_become_one_vector() {
    let weights = Weights::random();
    let folder = write(&weights, "");
    let vector = async |pooling: Option<Pooling>| {
        let options = EmbedderOptions { pooling, ..EmbedderOptions::new(folder.path()) };
        let embedder = LocalEmbedder::open(&options).unwrap();
        let vector = embedder.embed(&texts()[..1]).await.unwrap().remove(0);
        (vector, embedder.space().await.unwrap().model)
    };
    let tokens = TEXTS[0].1;
    let (mean, _) = vector(None).await;
    assert_close(&mean, &expected(&weights, tokens, Pooling::Mean), "without a word it is the mean");
    say_pooling(folder.path(), false, true);
    let (first, space) = vector(None).await;
    assert_close(&first, &expected(&weights, tokens, Pooling::FirstToken), "as bge models have it");
    let (given, other_space) = vector(Some(Pooling::Mean)).await;
    assert_close(&given, &expected(&weights, tokens, Pooling::Mean), "what is asked for wins");
    assert_ne!(space, other_space, "vectors that do not fit together have spaces of different names");
    say_pooling(folder.path(), true, true);
    let refused = LocalEmbedder::open(&EmbedderOptions::new(folder.path())).unwrap_err();
    assert!(matches!(&refused, ModelError::BadModel(text) if text.contains("1_Pooling")), "{refused}");
}

/// A model in which every piece has a direction of its own, and nothing but its words makes a text's vector: what shares
/// words is near.
#[tokio::test]
async fn chinese_questions_find_what_shares_their_words() {
    assert_eq!(PIECES.len(), HIDDEN, "one direction each");
    let mut weights = Weights::random();
    for (name, (_, values)) in &mut weights.0 {
        if name.ends_with("LayerNorm.weight") {
            values.fill(1.0);
        } else if ["output.dense", "_embeddings", "LayerNorm.bias"].iter().any(|part| name.contains(part)) {
            values.fill(0.0);
        }
        if name.contains("word_embeddings") {
            (0..HIDDEN).for_each(|piece| values[(piece + 4) * HIDDEN + piece] = 1.0);
        }
    }
    let folder = write(&weights, "");
    let embedder = LocalEmbedder::open(&EmbedderOptions::new(folder.path())).unwrap();
    let memories = ["我喜欢茶", "北京是首都", "cat sat"].map(str::to_owned);
    let vectors = embedder.embed(&memories).await.unwrap();
    for (question, best) in [("首都在哪里", 1), ("我在哪里喜欢茶", 0), ("cat dog", 2)] {
        let query = embedder.embed_queries(&[question.to_owned()]).await.unwrap().remove(0);
        let scores: Vec<f32> =
            vectors.iter().map(|vector| vector.iter().zip(&query).map(|(a, b)| a * b).sum()).collect();
        let found = (0..scores.len()).max_by(|a, b| scores[*a].total_cmp(&scores[*b]));
        assert_eq!(found, Some(best), "{question}: {scores:?}");
    }
}

#[test]
fn models_that_cannot_be_computed_are_refused_with_the_reason() {
    let refuse = |change: &dyn Fn(&mut Value)| {
        let folder = write(&Weights::random(), "");
        let mut config = config();
        change(&mut config);
        std::fs::write(folder.path().join("config.json"), config.to_string()).unwrap();
        LocalEmbedder::open(&EmbedderOptions::new(folder.path())).unwrap_err()
    };
    for (error, why) in [
        (refuse(&|config| config["position_embedding_type"] = json!("relative_key")), "relative_key"),
        (refuse(&|config| config["max_position_embeddings"] = json!(4)), "no positions"),
        (refuse(&|config| config["model_type"] = json!("deberta")), "`deberta`"),
        (refuse(&|config| config["hidden_size"] = json!(32)), "fit"),
    ] {
        assert!(matches!(&error, ModelError::BadModel(text) if text.contains(why)), "{why}: {error}");
    }
}

/// Pairs are read as `<s> question </s></s> text </s>`, and the first token's vector goes through two layers.
#[tokio::test]
async fn pairs_are_scored_as_the_plain_formulas_score_them() {
    let weights = Weights::random();
    let folder = write(&weights, "");
    let rename = |name: &str| {
        let known =
            [("bert.pooler.dense", "classifier.dense"), ("classifier", "classifier.out_proj"), ("bert", "roberta")];
        known.iter().find_map(|(from, to)| name.strip_prefix(*from).map(|rest| format!("{to}{rest}")))
    };
    weights.save(&folder.path().join("model.safetensors"), rename);
    let (question, asked) = TEXTS[4];
    let texts: Vec<&str> = TEXTS.iter().map(|(text, _)| *text).collect();
    for batch_tokens in [1, 30, 1024] {
        let options = CrossEncoderOptions { batch_tokens, ..CrossEncoderOptions::new(folder.path()) };
        let reranker = LocalCrossEncoder::open(&options).unwrap();
        let candidates: Vec<RerankCandidate<'_>> = texts.iter().map(|text| RerankCandidate::new(text)).collect();
        let ranked = reranker.rerank(RerankQuery::from(question), &candidates, texts.len()).await.unwrap();
        assert_eq!(ranked.len(), texts.len());
        for one in &ranked {
            let text = &TEXTS[one.index].1[1..];
            let pair = [asked, [2].as_slice(), text].concat();
            let first = hidden(&weights, &pair).remove(0);
            let pooled: Vec<f64> = weights.product("bert.pooler.dense", &first).into_iter().map(f64::tanh).collect();
            let score = 1.0 / (1.0 + (-weights.product("classifier", &pooled)[0]).exp());
            assert!((f64::from(one.score) - score).abs() < 1e-4, "{:?}: {one:?} instead of {score}", texts[one.index]);
        }
        assert!(ranked[0].score - ranked[5].score > 1e-3, "scores that are all alike would prove nothing: {ranked:?}");
    }
    let headless = LocalCrossEncoder::open(&CrossEncoderOptions::new(write(&weights, "roberta.").path())).unwrap_err();
    assert!(matches!(&headless, ModelError::BadModel(text) if text.contains("classifier.out_proj")), "{headless}");
}
