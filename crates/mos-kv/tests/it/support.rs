//! Where the real model is, tiny models that are made on the spot, and memories over them.

use std::collections::HashMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use candle_core::{Device, Tensor};
use mos_engine::{CancelToken, ChatModelOptions, KvPrefix, KvSegment, LocalChatModel, LogitRows};
use mos_kv::{KvCacheMemory, KvCacheMemoryOptions, TierOptions};
use mos_testkit::clock::{CountingIds, SetClock};
use serde_json::{Value, json};
use tempfile::TempDir;

fn models_root() -> PathBuf {
    std::env::var_os("MOS_MODELS_DIR").map(PathBuf::from).unwrap_or_else(|| {
        let home = std::env::var_os("HOME").or_else(|| std::env::var_os("USERPROFILE")).expect("a home folder");
        Path::new(&home).join(".cache").join("mos").join("models")
    })
}

/// A real model without a chat template; `None`, with a notice, where it is not there and not asked for.
pub(crate) fn gemma() -> Option<Arc<LocalChatModel>> {
    let path = models_root().join("gemma3-270m/gemma-3-270m-q4_k_m.gguf");
    if path.exists() {
        return Some(LocalChatModel::open(&ChatModelOptions::new(path)).unwrap());
    }
    assert!(std::env::var_os("MOS_TEST_ALL_MODELS").is_none(), "{} is not there", path.display());
    // Not through the macro, whose words are hidden when a test passes.
    let mut notice = std::io::stderr();
    writeln!(notice, "skipped: {} is not there; set MOS_TEST_ALL_MODELS to insist", path.display()).unwrap();
    None
}

/// The real chat model; shared by all tests of the process.
pub(crate) fn smol() -> Arc<LocalChatModel> {
    let path = models_root().join("smollm2-135m-instruct/SmolLM2-135M-Instruct.Q4_1.gguf");
    assert!(path.exists(), "{} is not there; run `cargo xtask models`", path.display());
    LocalChatModel::open(&ChatModelOptions::new(path)).unwrap()
}

/// A tiny model with random weights, and the folder it lies in.
pub(crate) struct Tiny {
    pub(crate) model: Arc<LocalChatModel>,
    _folder: TempDir,
}

/// Makes a tiny model. Its words are `w0` to `w44` and the roles; all others are `w0`.
pub(crate) fn tiny(seed: u64) -> Tiny {
    let template = "{% for m in messages %}{{ '<s> ' ~ m.role ~ ' ' ~ m.content ~ ' </s> ' }}{% endfor %}\
                    {% if add_generation_prompt %}{{ '<s> assistant' }}{% endif %}";
    tiny_with(seed, &[("chat_template.jinja", template)])
}

/// Makes a tiny model with some more files; without a template among them it does not chat.
pub(crate) fn tiny_with(seed: u64, files: &[(&str, &str)]) -> Tiny {
    let folder = TempDir::new().unwrap();
    let config = json!({
        "model_type": "llama", "hidden_size": 64, "intermediate_size": 112, "vocab_size": 50, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "rms_norm_eps": 1e-5, "rope_theta": 10000.0,
        "max_position_embeddings": 256, "eos_token_id": 1, "tie_word_embeddings": false,
    });
    std::fs::write(folder.path().join("config.json"), config.to_string()).unwrap();
    std::fs::write(folder.path().join("tokenizer.json"), tokenizer().to_string()).unwrap();
    for (name, content) in files {
        std::fs::write(folder.path().join(name), content).unwrap();
    }
    candle_core::safetensors::save(&weights(seed), folder.path().join("model.safetensors")).unwrap();
    let mut options = ChatModelOptions::new(folder.path());
    options.name = Some(format!("tiny-{seed}"));
    options.threads = Some(1);
    Tiny { model: LocalChatModel::open(&options).unwrap(), _folder: folder }
}

fn weights(seed: u64) -> HashMap<String, Tensor> {
    let mut state = seed.wrapping_mul(7919).wrapping_add(12_345);
    let mut tensor = |shape: &[usize], scale: f32, centre: f32| {
        let values: Vec<f32> = (0..shape.iter().product())
            .map(|_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                centre + scale * ((state >> 40) as f32 / (1_u64 << 24) as f32 - 0.5)
            })
            .collect();
        Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
    };
    let mut weights = HashMap::new();
    weights.insert("model.embed_tokens.weight".to_owned(), tensor(&[50, 64], 2.0, 0.0));
    weights.insert("model.norm.weight".to_owned(), tensor(&[64], 0.5, 1.0));
    weights.insert("lm_head.weight".to_owned(), tensor(&[50, 64], 0.6, 0.0));
    for layer in 0..2 {
        let shapes: [(&str, &[usize]); 7] = [
            ("self_attn.q_proj", &[64, 64]),
            ("self_attn.k_proj", &[32, 64]),
            ("self_attn.v_proj", &[32, 64]),
            ("self_attn.o_proj", &[64, 64]),
            ("mlp.gate_proj", &[112, 64]),
            ("mlp.up_proj", &[112, 64]),
            ("mlp.down_proj", &[64, 112]),
        ];
        for (name, shape) in shapes {
            weights.insert(format!("model.layers.{layer}.{name}.weight"), tensor(shape, 0.5, 0.0));
        }
        for name in ["input_layernorm", "post_attention_layernorm"] {
            weights.insert(format!("model.layers.{layer}.{name}.weight"), tensor(&[64], 0.5, 1.0));
        }
    }
    weights
}

fn tokenizer() -> Value {
    let mut vocabulary = serde_json::Map::new();
    for (id, text) in ["<s>", "</s>", "system", "user", "assistant"].into_iter().enumerate() {
        vocabulary.insert(text.to_owned(), json!(id));
    }
    for word in 0..45 {
        vocabulary.insert(format!("w{word}"), json!(word + 5));
    }
    let special = |id: u32, text: &str| {
        json!({"id": id, "content": text, "single_word": false, "lstrip": false, "rstrip": false,
               "normalized": false, "special": true})
    };
    json!({
        "version": "1.0", "truncation": null, "padding": null, "normalizer": null, "post_processor": null,
        "decoder": null, "added_tokens": [special(0, "<s>"), special(1, "</s>")],
        "pre_tokenizer": {"type": "WhitespaceSplit"},
        "model": {"type": "WordLevel", "vocab": vocabulary, "unk_token": "w0"},
    })
}

/// Settings with a clock that stands still and ids that count.
pub(crate) fn options() -> KvCacheMemoryOptions {
    KvCacheMemoryOptions {
        clock: Arc::new(SetClock::default()),
        ids: Arc::new(CountingIds::default()),
        ..KvCacheMemoryOptions::default()
    }
}

pub(crate) fn memory(model: &Arc<LocalChatModel>) -> KvCacheMemory {
    KvCacheMemory::open(Arc::clone(model), options()).unwrap()
}

pub(crate) fn memory_with(model: &Arc<LocalChatModel>, tiers: TierOptions) -> KvCacheMemory {
    KvCacheMemory::open(Arc::clone(model), KvCacheMemoryOptions { tiers, ..options() }).unwrap()
}

/// `n` different words, the same for the same start.
pub(crate) fn words(start: usize, n: usize) -> String {
    (0..n).map(|at| format!("w{}", 1 + (start * 7 + at * 11) % 44)).collect::<Vec<_>>().join(" ")
}

/// All keys and values of a segment.
pub(crate) fn rows(segment: &KvSegment) -> Vec<(Vec<u16>, Vec<u16>)> {
    (0..segment.shape().layers).map(|layer| (segment.keys(layer), segment.values(layer))).collect()
}

/// Logits after every one of `tokens`, which stand after `prefix`.
pub(crate) fn logits(model: &LocalChatModel, prefix: &KvPrefix, tokens: &[u32]) -> Vec<f32> {
    let mut tail = model.decoder().new_tail();
    model.decoder().forward(tokens, prefix, &mut tail, LogitRows::All, &CancelToken::default()).unwrap()
}

/// The largest difference between two lists of numbers.
pub(crate) fn largest_difference(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}
