//! Where the real models are, and tiny ones that are made on the spot.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use candle_core::{DType, Device, Tensor};
use mos_engine::{ChatModelOptions, LocalChatModel};
use serde_json::{Value, json};
use tempfile::TempDir;

/// Returns the folder of the real models.
pub(crate) fn models_root() -> PathBuf {
    std::env::var_os("MOS_MODELS_DIR").map(PathBuf::from).unwrap_or_else(|| {
        let home = std::env::var_os("HOME").or_else(|| std::env::var_os("USERPROFILE")).expect("a home folder");
        Path::new(&home).join(".cache").join("mos").join("models")
    })
}

/// Returns the path of a real model's file.
pub(crate) fn real_model(relative: &str) -> PathBuf {
    let path = models_root().join(relative);
    assert!(path.exists(), "{} is not there; run `cargo xtask models`", path.display());
    path
}

/// The real chat model, shared by all tests of the process.
pub(crate) fn smol_path() -> PathBuf {
    real_model("smollm2-135m-instruct/SmolLM2-135M-Instruct.Q4_1.gguf")
}

/// Opens the real chat model.
pub(crate) fn smol() -> Arc<LocalChatModel> {
    LocalChatModel::open(&ChatModelOptions::new(smol_path())).unwrap()
}

/// Layers, heads and so on of a tiny model.
pub(crate) fn tiny_config() -> Value {
    json!({
        "model_type": "llama",
        "hidden_size": 64,
        "intermediate_size": 112,
        "vocab_size": 50,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "max_position_embeddings": 256,
        "eos_token_id": 1,
        "tie_word_embeddings": false,
    })
}

/// Which layers of a tiny model, by what its configuration says, have biases, norms of heads and more norms.
struct Parts {
    input_bias: bool,
    output_bias: bool,
    head_norms: bool,
    post_norms: bool,
}

impl Parts {
    fn of(config: &Value) -> Self {
        let kind = config["model_type"].as_str().unwrap();
        let all = config["attention_bias"].as_bool().unwrap_or(false);
        Self {
            input_bias: all || kind == "qwen2",
            output_bias: all,
            head_norms: ["qwen3", "gemma3_text"].contains(&kind),
            post_norms: kind == "gemma3_text",
        }
    }
}

/// Random weights by the names that files use; the same on every run.
pub(crate) fn tiny_weights(config: &Value, dtype: DType) -> HashMap<String, Tensor> {
    let size = |key: &str| config[key].as_u64().unwrap() as usize;
    let (hidden, inner, vocabulary) = (size("hidden_size"), size("intermediate_size"), size("vocab_size"));
    let (heads, kv_heads) = (size("num_attention_heads"), size("num_key_value_heads"));
    let head_dim = config["head_dim"].as_u64().map_or(hidden / heads, |length| length as usize);
    let (query_width, key_width) = (head_dim * heads, head_dim * kv_heads);
    let parts = Parts::of(config);
    // Gemma's files hold norms as differences from 1.
    let norm_centre = if parts.post_norms { 0.0 } else { 1.0 };
    let mut state = 12_345_u64;
    let mut tensor = |shape: &[usize], scale: f32, centre: f32| {
        let values: Vec<f32> = (0..shape.iter().product())
            .map(|_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                centre + scale * ((state >> 40) as f32 / (1_u64 << 24) as f32 - 0.5)
            })
            .collect();
        Tensor::from_vec(values, shape, &Device::Cpu).unwrap().to_dtype(dtype).unwrap()
    };
    let mut weights = HashMap::new();
    weights.insert("model.embed_tokens.weight".to_owned(), tensor(&[vocabulary, hidden], 2.0, 0.0));
    weights.insert("model.norm.weight".to_owned(), tensor(&[hidden], 0.5, norm_centre));
    if !config["tie_word_embeddings"].as_bool().unwrap() {
        weights.insert("lm_head.weight".to_owned(), tensor(&[vocabulary, hidden], 0.6, 0.0));
    }
    for layer in 0..size("num_hidden_layers") {
        let shapes: [(&str, &[usize]); 7] = [
            ("self_attn.q_proj", &[query_width, hidden]),
            ("self_attn.k_proj", &[key_width, hidden]),
            ("self_attn.v_proj", &[key_width, hidden]),
            ("self_attn.o_proj", &[hidden, query_width]),
            ("mlp.gate_proj", &[inner, hidden]),
            ("mlp.up_proj", &[inner, hidden]),
            ("mlp.down_proj", &[hidden, inner]),
        ];
        for (name, shape) in shapes {
            weights.insert(format!("model.layers.{layer}.{name}.weight"), tensor(shape, 0.5, 0.0));
        }
        let mut more: Vec<(&str, usize, f32)> = vec![
            ("input_layernorm.weight", hidden, norm_centre),
            ("post_attention_layernorm.weight", hidden, norm_centre),
        ];
        if parts.post_norms {
            more.push(("pre_feedforward_layernorm.weight", hidden, norm_centre));
            more.push(("post_feedforward_layernorm.weight", hidden, norm_centre));
        }
        if parts.head_norms {
            more.push(("self_attn.q_norm.weight", head_dim, norm_centre));
            more.push(("self_attn.k_norm.weight", head_dim, norm_centre));
        }
        if parts.input_bias {
            more.push(("self_attn.q_proj.bias", query_width, 0.0));
            more.push(("self_attn.k_proj.bias", key_width, 0.0));
            more.push(("self_attn.v_proj.bias", key_width, 0.0));
        }
        if parts.output_bias {
            more.push(("self_attn.o_proj.bias", hidden, 0.0));
        }
        for (name, len, centre) in more {
            weights.insert(format!("model.layers.{layer}.{name}"), tensor(&[len], 0.5, centre));
        }
    }
    weights
}

/// The tiny model as another architecture.
pub(crate) fn tiny_qwen2() -> Value {
    changed(json!({"model_type": "qwen2", "rope_theta": 1_000_000.0, "hidden_act": "silu", "max_window_layers": 2,
        "sliding_window": 32, "use_sliding_window": false}))
}

/// As [`tiny_qwen2`]; heads are longer than the activations say.
pub(crate) fn tiny_qwen3() -> Value {
    changed(json!({"model_type": "qwen3", "rope_theta": 1_000_000.0, "hidden_act": "silu", "head_dim": 32,
        "attention_bias": false, "max_window_layers": 2, "sliding_window": null, "use_sliding_window": false}))
}

/// As [`tiny_qwen2`]; two of three layers see 40 tokens.
pub(crate) fn tiny_gemma3() -> Value {
    changed(json!({"model_type": "gemma3_text", "rope_theta": 1_000_000.0, "rope_local_base_freq": 10_000.0,
        "hidden_activation": "gelu_pytorch_tanh", "head_dim": 32, "attention_bias": false, "num_hidden_layers": 4,
        "sliding_window": 40, "sliding_window_pattern": 3, "query_pre_attn_scalar": 32,
        "tie_word_embeddings": true, "rms_norm_eps": 1e-6}))
}

/// The tiny configuration with some settings changed.
fn changed(settings: Value) -> Value {
    let mut config = tiny_config();
    for (key, value) in settings.as_object().unwrap() {
        config[key] = value.clone();
    }
    config
}

/// A tokenizer that knows the words `w0` to `w47`, `<s>` and `</s>`.
pub(crate) fn tiny_tokenizer() -> Value {
    let mut vocabulary = serde_json::Map::new();
    vocabulary.insert("<s>".to_owned(), json!(0));
    vocabulary.insert("</s>".to_owned(), json!(1));
    for word in 0..48 {
        vocabulary.insert(format!("w{word}"), json!(word + 2));
    }
    let special = |id: u32, text: &str| {
        json!({"id": id, "content": text, "single_word": false, "lstrip": false, "rstrip": false,
               "normalized": false, "special": true})
    };
    json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": [special(0, "<s>"), special(1, "</s>")],
        "normalizer": null,
        "pre_tokenizer": {"type": "WhitespaceSplit"},
        "post_processor": null,
        "decoder": null,
        "model": {"type": "WordLevel", "vocab": vocabulary, "unk_token": "w0"},
    })
}

/// Writes a whole tiny model into a folder of its own.
pub(crate) fn write_tiny(config: &Value, dtype: DType) -> TempDir {
    write_weights(config, &tiny_weights(config, dtype))
}

/// Writes a tiny model with given weights into a folder of its own.
pub(crate) fn write_weights(config: &Value, weights: &HashMap<String, Tensor>) -> TempDir {
    let folder = TempDir::new().unwrap();
    std::fs::write(folder.path().join("config.json"), config.to_string()).unwrap();
    std::fs::write(folder.path().join("tokenizer.json"), tiny_tokenizer().to_string()).unwrap();
    candle_core::safetensors::save(weights, folder.path().join("model.safetensors")).unwrap();
    folder
}

/// The index of the largest value.
pub(crate) fn argmax(logits: &[f32]) -> u32 {
    let best = logits.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1)).unwrap();
    best.0 as u32
}

/// The bits of all values.
pub(crate) fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}
