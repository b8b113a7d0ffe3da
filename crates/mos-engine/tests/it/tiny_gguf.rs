//! Tiny models as GGUF files, written the way the format's own converters do.

use std::collections::HashMap;
use std::path::Path;

use candle_core::quantized::gguf_file::{Value as Setting, write};
use candle_core::quantized::{GgmlDType, QTensor};
use candle_core::{DType, Tensor};
use serde_json::Value;

/// Names in safetensors files and in GGUF files.
const LAYER_NAMES: [(&str, &str); 9] = [
    ("self_attn.q_proj", "attn_q"),
    ("self_attn.k_proj", "attn_k"),
    ("self_attn.v_proj", "attn_v"),
    ("self_attn.o_proj", "attn_output"),
    ("self_attn.q_norm", "attn_q_norm"),
    ("self_attn.k_norm", "attn_k_norm"),
    ("mlp.gate_proj", "ffn_gate"),
    ("mlp.up_proj", "ffn_up"),
    ("mlp.down_proj", "ffn_down"),
];

/// Writes a tiny model; `more` are settings that the configuration does not tell.
pub(crate) fn write_gguf(
    path: &Path,
    config: &Value,
    weights: &HashMap<String, Tensor>,
    dtype: GgmlDType,
    more: &[(&str, Setting)],
) {
    let kind = config["model_type"].as_str().unwrap();
    let architecture = if kind == "gemma3_text" { "gemma3" } else { kind };
    let mut tensors: Vec<(String, QTensor)> = Vec::new();
    for (name, tensor) in weights {
        let tensor = tensor.to_dtype(DType::F32).unwrap();
        let tensor = converted(architecture, config, name, tensor);
        // As in real files, only matrices are quantised.
        let dtype = if tensor.rank() == 1 { GgmlDType::F32 } else { dtype };
        tensors.push((gguf_name(architecture, name), QTensor::quantize(&tensor, dtype).unwrap()));
    }
    tensors.sort_by(|a, b| a.0.cmp(&b.0));
    let settings = settings(architecture, config, more);
    let settings: Vec<(&str, &Setting)> = settings.iter().map(|(key, value)| (key.as_str(), value)).collect();
    let tensors: Vec<(&str, &QTensor)> = tensors.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
    let mut file = std::fs::File::create(path).unwrap();
    write(&mut file, &settings, &tensors).unwrap();
    // The words of the safetensors models: what a file beside the model says goes first.
    let beside = path.with_file_name("tokenizer.json");
    std::fs::write(beside, crate::support::tiny_tokenizer().to_string()).unwrap();
}

fn settings(architecture: &str, config: &Value, more: &[(&str, Setting)]) -> Vec<(String, Setting)> {
    let mut settings = vec![("general.architecture".to_owned(), Setting::String(architecture.to_owned()))];
    // For candle's reader: what it computes with.
    settings.push(("general.dtype".to_owned(), Setting::U32(0)));
    let integers = [
        ("num_hidden_layers", "block_count"),
        ("hidden_size", "embedding_length"),
        ("intermediate_size", "feed_forward_length"),
        ("num_attention_heads", "attention.head_count"),
        ("num_key_value_heads", "attention.head_count_kv"),
        ("max_position_embeddings", "context_length"),
        ("head_dim", "attention.key_length"),
        ("head_dim", "attention.value_length"),
    ];
    for (from, to) in integers {
        if let Some(value) = config[from].as_u64() {
            settings.push((format!("{architecture}.{to}"), Setting::U32(value as u32)));
        }
    }
    if architecture == "gemma3" {
        let window = config["sliding_window"].as_u64().unwrap() as u32;
        settings.push((format!("{architecture}.attention.sliding_window"), Setting::U32(window)));
    }
    for (from, to) in [
        ("rms_norm_eps", "attention.layer_norm_rms_epsilon"),
        ("rope_theta", "rope.freq_base"),
        ("attn_logit_softcapping", "attn_logit_softcapping"),
        ("final_logit_softcapping", "final_logit_softcapping"),
    ] {
        if let Some(value) = config[from].as_f64() {
            settings.push((format!("{architecture}.{to}"), Setting::F32(value as f32)));
        }
    }
    settings.extend(more.iter().map(|(key, value)| ((*key).to_owned(), value.clone())));
    settings
}

fn gguf_name(architecture: &str, name: &str) -> String {
    match name {
        "model.embed_tokens.weight" => return "token_embd.weight".to_owned(),
        "model.norm.weight" => return "output_norm.weight".to_owned(),
        "lm_head.weight" => return "output.weight".to_owned(),
        "rope_freqs.weight" => return name.to_owned(),
        _ => {}
    }
    let (layer, rest) = name.strip_prefix("model.layers.").unwrap().split_once('.').unwrap();
    let (tensor, kind) = rest.rsplit_once('.').unwrap();
    let norms = if architecture == "gemma3" {
        [("post_attention_layernorm", "post_attention_norm"), ("pre_feedforward_layernorm", "ffn_norm")]
    } else {
        [("post_attention_layernorm", "ffn_norm"); 2]
    };
    let more = [("input_layernorm", "attn_norm"), ("post_feedforward_layernorm", "post_ffw_norm")];
    let (_, found) = LAYER_NAMES.into_iter().chain(norms).chain(more).find(|(known, _)| *known == tensor).unwrap();
    format!("blk.{layer}.{found}.{kind}")
}

/// Llama's queries and keys are put into the order that pairs neighbours; Gemma's norms become factors.
fn converted(architecture: &str, config: &Value, name: &str, tensor: Tensor) -> Tensor {
    let heads = |key: &str| config[key].as_u64().unwrap() as usize;
    let neighbours = |heads: usize| {
        let shape = tensor.dims().to_vec();
        let columns: usize = shape[1..].iter().product();
        let halves = tensor.reshape((heads, 2, shape[0] / heads / 2, columns)).unwrap();
        halves.transpose(1, 2).unwrap().contiguous().unwrap().reshape(shape).unwrap()
    };
    match architecture {
        "llama" if name.contains("q_proj") => neighbours(heads("num_attention_heads")),
        "llama" if name.contains("k_proj") => neighbours(heads("num_key_value_heads")),
        "gemma3" if name.ends_with("norm.weight") => (tensor + 1.0).unwrap(),
        _ => tensor,
    }
}
