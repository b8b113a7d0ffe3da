//! Where the real models are, and tiny ones that are made on the spot.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use candle_core::{DType, Device, Tensor};
use mos_engine::{ChatModelOptions, LocalChatModel};
use serde_json::{Value, json};
use tempfile::TempDir;

/// Returns the path of a real model's file.
pub(crate) fn real_model(relative: &str) -> PathBuf {
    let root = std::env::var_os("MOS_MODELS_DIR").map(PathBuf::from).unwrap_or_else(|| {
        let home = std::env::var_os("HOME").or_else(|| std::env::var_os("USERPROFILE")).expect("a home folder");
        Path::new(&home).join(".cache").join("mos").join("models")
    });
    let path = root.join(relative);
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

/// Random weights by the names that files use; the same on every run.
pub(crate) fn tiny_weights(config: &Value, dtype: DType) -> HashMap<String, Tensor> {
    let size = |key: &str| config[key].as_u64().unwrap() as usize;
    let (hidden, inner, vocabulary) = (size("hidden_size"), size("intermediate_size"), size("vocab_size"));
    let (heads, kv_heads) = (size("num_attention_heads"), size("num_key_value_heads"));
    let key_width = hidden / heads * kv_heads;
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
    weights.insert("model.norm.weight".to_owned(), tensor(&[hidden], 0.5, 1.0));
    if !config["tie_word_embeddings"].as_bool().unwrap() {
        weights.insert("lm_head.weight".to_owned(), tensor(&[vocabulary, hidden], 0.6, 0.0));
    }
    for layer in 0..size("num_hidden_layers") {
        let shapes: [(&str, &[usize]); 7] = [
            ("self_attn.q_proj", &[hidden, hidden]),
            ("self_attn.k_proj", &[key_width, hidden]),
            ("self_attn.v_proj", &[key_width, hidden]),
            ("self_attn.o_proj", &[hidden, hidden]),
            ("mlp.gate_proj", &[inner, hidden]),
            ("mlp.up_proj", &[inner, hidden]),
            ("mlp.down_proj", &[hidden, inner]),
        ];
        for (name, shape) in shapes {
            weights.insert(format!("model.layers.{layer}.{name}.weight"), tensor(shape, 0.5, 0.0));
        }
        for name in ["input_layernorm", "post_attention_layernorm"] {
            weights.insert(format!("model.layers.{layer}.{name}.weight"), tensor(&[hidden], 0.5, 1.0));
        }
    }
    weights
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
    let folder = TempDir::new().unwrap();
    std::fs::write(folder.path().join("config.json"), config.to_string()).unwrap();
    std::fs::write(folder.path().join("tokenizer.json"), tiny_tokenizer().to_string()).unwrap();
    let weights = tiny_weights(config, dtype);
    candle_core::safetensors::save(&weights, folder.path().join("model.safetensors")).unwrap();
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
