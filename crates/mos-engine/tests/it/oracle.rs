//! Llama, Qwen 3 and Gemma 3 in plain tensor operations that take any keys and values as their past.

use std::collections::HashMap;
use std::f64::consts::PI;
use std::fs::File;
use std::ops::Range;
use std::sync::Arc;

use candle_core::quantized::gguf_file::{Content, Value as GgufValue, write};
use candle_core::quantized::{GgmlDType, QTensor};
use candle_core::{D, DType, Device, Tensor};
use half::f16;
use mos_engine::{ChatModelOptions, KvSegment, LocalChatModel};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::{smol, smol_path, tiny_config, tiny_gemma3, tiny_qwen3, tiny_tokenizer, tiny_weights, write_tiny};

/// Names of a layer's tensors in GGUF files and in safetensors files.
const LAYER_NAMES: [(&str, &str); 9] = [
    ("attn_norm", "input_layernorm"),
    ("attn_q", "self_attn.q_proj"),
    ("attn_k", "self_attn.k_proj"),
    ("attn_v", "self_attn.v_proj"),
    ("attn_output", "self_attn.o_proj"),
    ("ffn_norm", "post_attention_layernorm"),
    ("ffn_gate", "mlp.gate_proj"),
    ("ffn_up", "mlp.up_proj"),
    ("ffn_down", "mlp.down_proj"),
];

/// Keys and values per layer, `[kv_heads, tokens, head_dim]`.
pub(crate) type Past = Vec<(Tensor, Tensor)>;

pub(crate) struct Oracle {
    weights: HashMap<String, Tensor>,
    layers: usize,
    heads: usize,
    kv_heads: usize,
    epsilon: f64,
    /// Radians per position.
    speeds: Vec<f64>,
    /// The same in layers with a window.
    local_speeds: Vec<f64>,
    interleaved: bool,
    /// How many tokens each layer sees; `None` for all.
    windows: Vec<Option<usize>>,
    /// Whether it is a Gemma: norms are differences from 1, there are more of them, and so on.
    gemma: bool,
    /// Whether keys and values of new tokens are rounded to half precision, as caches hold them.
    pub(crate) rounds: bool,
}

/// A model of ours, the same in plain operations, and the folder it lives in.
pub(crate) struct Pair {
    pub(crate) name: &'static str,
    pub(crate) model: Arc<LocalChatModel>,
    pub(crate) oracle: Oracle,
    _folder: Option<TempDir>,
}

/// A tiny configuration with four layers.
pub(crate) fn deep_config() -> Value {
    let mut config = tiny_config();
    config["num_hidden_layers"] = json!(4);
    config
}

/// A tiny configuration of Qwen 3 with four layers.
pub(crate) fn deep_qwen3() -> Value {
    let mut config = tiny_qwen3();
    config["num_hidden_layers"] = json!(4);
    config
}

/// Tiny models with both rotation layouts, with scaling, with norms of heads, and with windows and two rotations; last,
/// the real one.
pub(crate) fn pairs() -> Vec<Pair> {
    let mut scaled = deep_config();
    scaled["rope_scaling"] = json!({"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0,
        "high_freq_factor": 4.0, "original_max_position_embeddings": 64});
    let (halves, scaled) = (tiny("halves", &deep_config()), tiny("llama3 scaling", &scaled));
    let (qwen, gemma) = (tiny("Qwen 3", &deep_qwen3()), tiny("Gemma 3", &tiny_gemma3()));
    vec![halves, scaled, tiny_gguf(), qwen, gemma, real()]
}

pub(crate) fn tiny(name: &'static str, config: &Value) -> Pair {
    let folder = write_tiny(config, DType::F32);
    let model = LocalChatModel::open(&ChatModelOptions::new(folder.path())).unwrap();
    Pair { name, model, oracle: Oracle::tiny(config, false), _folder: Some(folder) }
}

/// The tiny weights in a GGUF file, where neighbours are rotated together.
fn tiny_gguf() -> Pair {
    let (config, folder) = (deep_config(), TempDir::new().unwrap());
    let weights = tiny_weights(&config, DType::F32);
    let mut names = vec![
        ("token_embd.weight".to_owned(), "model.embed_tokens.weight".to_owned()),
        ("output_norm.weight".to_owned(), "model.norm.weight".to_owned()),
        ("output.weight".to_owned(), "lm_head.weight".to_owned()),
    ];
    for layer in 0..4 {
        let of_layer = |(from, to)| (format!("blk.{layer}.{from}.weight"), format!("model.layers.{layer}.{to}.weight"));
        names.extend(LAYER_NAMES.map(of_layer));
    }
    let plain = |name: &str| QTensor::quantize(&weights[name], GgmlDType::F32).unwrap();
    let tensors: Vec<(String, QTensor)> = names.into_iter().map(|(to, from)| (to, plain(&from))).collect();
    let tensors: Vec<(&str, &QTensor)> = tensors.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
    let number = GgufValue::U32;
    let metadata = [
        ("general.architecture", GgufValue::String("llama".to_owned())),
        ("llama.block_count", number(4)),
        ("llama.embedding_length", number(64)),
        ("llama.feed_forward_length", number(112)),
        ("llama.attention.head_count", number(4)),
        ("llama.attention.head_count_kv", number(2)),
        ("llama.context_length", number(256)),
        ("llama.attention.layer_norm_rms_epsilon", GgufValue::F32(1e-5)),
    ];
    let metadata: Vec<(&str, &GgufValue)> = metadata.iter().map(|(key, value)| (*key, value)).collect();
    let path = folder.path().join("tiny.gguf");
    write(&mut File::create(&path).unwrap(), &metadata, &tensors).unwrap();
    std::fs::write(folder.path().join("tokenizer.json"), tiny_tokenizer().to_string()).unwrap();
    let model = LocalChatModel::open(&ChatModelOptions::new(&path)).unwrap();
    Pair { name: "interleaved", model, oracle: Oracle::tiny(&config, true), _folder: Some(folder) }
}

fn real() -> Pair {
    Pair { name: "SmolLM2", model: smol(), oracle: Oracle::smol(), _folder: None }
}

impl Oracle {
    fn tiny(config: &Value, interleaved: bool) -> Self {
        let number = |key: &str| config[key].as_u64().unwrap() as usize;
        let heads = number("num_attention_heads");
        let head_dim = config["head_dim"].as_u64().map_or(number("hidden_size") / heads, |length| length as usize);
        let layers = number("num_hidden_layers");
        let gemma = config["model_type"] == "gemma3_text";
        let local = |layer: usize| gemma && !(layer + 1).is_multiple_of(number("sliding_window_pattern"));
        let scaling = &config["rope_scaling"];
        let scaled = |speed: f64| {
            if scaling.is_null() {
                return speed;
            }
            let value = |key: &str| scaling[key].as_f64().unwrap();
            let (low, high) = (value("low_freq_factor"), value("high_freq_factor"));
            let turns = value("original_max_position_embeddings") * speed / (2.0 * PI);
            let share = ((turns - low) / (high - low)).clamp(0.0, 1.0);
            speed * (share + (1.0 - share) / value("factor"))
        };
        Self {
            weights: tiny_weights(config, DType::F32),
            layers,
            heads,
            kv_heads: number("num_key_value_heads"),
            epsilon: config["rms_norm_eps"].as_f64().unwrap(),
            speeds: speeds(config["rope_theta"].as_f64().unwrap(), head_dim).map(scaled).collect(),
            local_speeds: config["rope_local_base_freq"]
                .as_f64()
                .map_or(Vec::new(), |theta| speeds(theta, head_dim).collect()),
            interleaved,
            windows: (0..layers).map(|layer| local(layer).then(|| number("sliding_window"))).collect(),
            gemma,
            rounds: true,
        }
    }

    fn smol() -> Self {
        let mut file = File::open(smol_path()).unwrap();
        let content = Content::read(&mut file).unwrap();
        let number = |key: &str| content.metadata[&format!("llama.{key}")].to_u32().unwrap() as usize;
        let float = |key: &str| f64::from(content.metadata[&format!("llama.{key}")].to_f32().unwrap());
        let (layers, heads) = (number("block_count"), number("attention.head_count"));
        let head_dim = number("embedding_length") / heads;
        let mut read =
            |name: &str| content.tensor(&mut file, name, &Device::Cpu).unwrap().dequantize(&Device::Cpu).unwrap();
        let mut weights = HashMap::new();
        weights.insert("model.embed_tokens.weight".to_owned(), read("token_embd.weight"));
        weights.insert("model.norm.weight".to_owned(), read("output_norm.weight"));
        for layer in 0..layers {
            for (from, to) in LAYER_NAMES {
                weights
                    .insert(format!("model.layers.{layer}.{to}.weight"), read(&format!("blk.{layer}.{from}.weight")));
            }
        }
        Self {
            layers,
            heads,
            kv_heads: number("attention.head_count_kv"),
            epsilon: float("attention.layer_norm_rms_epsilon"),
            speeds: speeds(float("rope.freq_base"), head_dim).collect(),
            local_speeds: Vec::new(),
            windows: vec![None; layers],
            gemma: false,
            interleaved: true,
            rounds: true,
            weights,
        }
    }

    /// No past at all.
    pub(crate) fn nothing(&self) -> Past {
        let empty = || Tensor::zeros((self.kv_heads, 0, 2 * self.speeds.len()), DType::F32, &Device::Cpu).unwrap();
        (0..self.layers).map(|_| (empty(), empty())).collect()
    }

    /// What a segment holds of some tokens, the keys turned on by `shift` positions in single precision.
    pub(crate) fn cached(&self, segment: &KvSegment, range: Range<usize>, shift: i64) -> Past {
        let shape = segment.shape();
        let tensor = |rows: Vec<u16>| {
            let values: Vec<f32> = rows.into_iter().map(|bits| f16::from_bits(bits).to_f32()).collect();
            let whole = (shape.kv_heads, segment.len(), shape.head_dim);
            let tensor = Tensor::from_vec(values, whole, &Device::Cpu).unwrap();
            tensor.narrow(1, range.start, range.len()).unwrap().contiguous().unwrap()
        };
        let turns = vec![shift as f64; range.len()];
        let layer =
            |layer: usize| (self.rotate(layer, &tensor(segment.keys(layer)), &turns), tensor(segment.values(layer)));
        (0..shape.layers).map(layer).collect()
    }

    /// Pasts one after the other.
    pub(crate) fn cat(pasts: &[Past]) -> Past {
        let cat = |tensors: Vec<&Tensor>| Tensor::cat(&tensors, 1).unwrap();
        let layer = |layer: usize| {
            let (keys, values) = pasts.iter().map(|past| (&past[layer].0, &past[layer].1)).unzip();
            (cat(keys), cat(values))
        };
        (0..pasts[0].len()).map(layer).collect()
    }

    /// Logits after every token, and the past that the tokens add; the first token's position is `position`.
    pub(crate) fn run(&self, past: &Past, position: usize, tokens: &[u32]) -> (Vec<f32>, Past) {
        let positions: Vec<f64> = (position..position + tokens.len()).map(|position| position as f64).collect();
        let ids = Tensor::new(tokens, &Device::Cpu).unwrap();
        let embedding = &self.weights["model.embed_tokens.weight"];
        let mut hidden = embedding.index_select(&ids, 0).unwrap();
        if self.gemma {
            let scale = (hidden.dim(1).unwrap() as f64).sqrt();
            hidden = (hidden * scale).unwrap();
        }
        let mut added = Vec::new();
        for (layer, past) in past.iter().enumerate() {
            let name = |tensor: &str| format!("model.layers.{layer}.{tensor}.weight");
            let normed = self.norm(&hidden, &name("input_layernorm"));
            let rotated = |which: &str, heads: usize| {
                let made = self.heads(&normed, &name(&format!("self_attn.{which}_proj")), heads);
                let norm = name(&format!("self_attn.{which}_norm"));
                let made = if self.weights.contains_key(&norm) { self.norm(&made, &norm) } else { made };
                self.rotate(layer, &made, &positions)
            };
            let (query, key) = (rotated("q", self.heads), self.round(rotated("k", self.kv_heads)));
            let value = self.round(self.heads(&normed, &name("self_attn.v_proj"), self.kv_heads));
            let mixed = self.attend(self.windows[layer], &query, past, &key, &value);
            let mixed = self.linear(&mixed, &name("self_attn.o_proj"));
            hidden = (hidden + self.returned(mixed, &name("post_attention_layernorm"))).unwrap();
            let norm = if self.gemma { "pre_feedforward_layernorm" } else { "post_attention_layernorm" };
            let normed = self.norm(&hidden, &name(norm));
            let gate = self.linear(&normed, &name("mlp.gate_proj"));
            let gate = if self.gemma { gate.gelu() } else { gate.silu() };
            let inner = (gate.unwrap() * self.linear(&normed, &name("mlp.up_proj"))).unwrap();
            let inner = self.linear(&inner, &name("mlp.down_proj"));
            hidden = (hidden + self.returned(inner, &name("post_feedforward_layernorm"))).unwrap();
            added.push((key, value));
        }
        let normed = self.norm(&hidden, "model.norm.weight");
        let output = self.weights.get("lm_head.weight").unwrap_or(embedding);
        let logits = normed.matmul(&output.t().unwrap()).unwrap();
        (logits.flatten_all().unwrap().to_vec1().unwrap(), added)
    }

    /// What a part of a layer returns, normed once more by a Gemma.
    fn returned(&self, made: Tensor, norm: &str) -> Tensor {
        if self.gemma { self.norm(&made, norm) } else { made }
    }

    fn attend(
        &self,
        window: Option<usize>,
        query: &Tensor,
        past: &(Tensor, Tensor),
        key: &Tensor,
        value: &Tensor,
    ) -> Tensor {
        let (heads, new, head_dim) = query.dims3().unwrap();
        let before = past.0.dim(1).unwrap();
        let total = before + new;
        let repeated = |past: &Tensor, new: &Tensor| {
            let all = Tensor::cat(&[past, new], 1).unwrap().unsqueeze(1).unwrap();
            let group = heads / self.kv_heads;
            let all = all.expand((self.kv_heads, group, total, head_dim)).unwrap();
            all.contiguous().unwrap().reshape((heads, total, head_dim)).unwrap()
        };
        let (keys, values) = (repeated(&past.0, key), repeated(&past.1, value));
        let scores = query.matmul(&keys.transpose(1, 2).unwrap().contiguous().unwrap()).unwrap();
        let scores = (scores / (head_dim as f64).sqrt()).unwrap();
        let seen = |row: usize, place: usize| {
            place <= before + row && window.is_none_or(|window| place + window > before + row)
        };
        let hidden = |row: usize, place: usize| if seen(row, place) { 0.0 } else { f32::NEG_INFINITY };
        let mask: Vec<f32> = (0..new).flat_map(|row| (0..total).map(move |place| hidden(row, place))).collect();
        let mask = Tensor::from_vec(mask, (1, new, total), &Device::Cpu).unwrap();
        let weights = candle_nn::ops::softmax(&scores.broadcast_add(&mask).unwrap(), D::Minus1).unwrap();
        let mixed = weights.matmul(&values).unwrap();
        mixed.transpose(0, 1).unwrap().contiguous().unwrap().reshape((new, heads * head_dim)).unwrap()
    }

    /// Rotates `[heads, tokens, head_dim]` of a layer, each token by its position.
    fn rotate(&self, layer: usize, x: &Tensor, positions: &[f64]) -> Tensor {
        let speeds = if self.windows[layer].is_some() { &self.local_speeds } else { &self.speeds };
        let (heads, count, head_dim) = x.dims3().unwrap();
        let half = head_dim / 2;
        let table = |function: fn(f64) -> f64| {
            let angles = positions.iter().flat_map(|position| speeds.iter().map(move |speed| position * speed));
            let values: Vec<f32> = angles.map(|angle| function(angle) as f32).collect();
            Tensor::from_vec(values, (1, count, half), &Device::Cpu).unwrap()
        };
        let (cosines, sines) = (table(f64::cos), table(f64::sin));
        let (pairs, axis) = if self.interleaved {
            (x.reshape((heads, count, half, 2)).unwrap(), 3)
        } else {
            (x.reshape((heads, count, 2, half)).unwrap(), 2)
        };
        let part = |number: usize| pairs.narrow(axis, number, 1).unwrap().squeeze(axis).unwrap();
        let (a, b) = (part(0), part(1));
        let times = |x: &Tensor, table: &Tensor| x.broadcast_mul(table).unwrap();
        let first = (times(&a, &cosines) - times(&b, &sines)).unwrap();
        let second = (times(&a, &sines) + times(&b, &cosines)).unwrap();
        Tensor::stack(&[first, second], axis).unwrap().reshape((heads, count, head_dim)).unwrap()
    }

    fn round(&self, x: Tensor) -> Tensor {
        if self.rounds { x.to_dtype(DType::F16).unwrap().to_dtype(DType::F32).unwrap() } else { x }
    }

    fn norm(&self, x: &Tensor, weight: &str) -> Tensor {
        let mean = x.sqr().unwrap().mean_keepdim(D::Minus1).unwrap();
        let scaled = x.broadcast_div(&(mean + self.epsilon).unwrap().sqrt().unwrap()).unwrap();
        let offset = if self.gemma { 1.0 } else { 0.0 };
        scaled.broadcast_mul(&(&self.weights[weight] + offset).unwrap()).unwrap()
    }

    fn linear(&self, x: &Tensor, weight: &str) -> Tensor {
        x.matmul(&self.weights[weight].t().unwrap()).unwrap()
    }

    fn heads(&self, x: &Tensor, weight: &str, heads: usize) -> Tensor {
        let rows = x.dim(0).unwrap();
        let values = self.linear(x, weight).reshape((rows, heads, 2 * self.speeds.len())).unwrap();
        values.transpose(0, 1).unwrap().contiguous().unwrap()
    }
}

fn speeds(theta: f64, head_dim: usize) -> impl Iterator<Item = f64> {
    (0..head_dim / 2).map(move |pair| theta.powf(-2.0 * pair as f64 / head_dim as f64))
}

/// The largest difference of two rows of numbers.
pub(crate) fn difference(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

/// The largest number, without its sign.
pub(crate) fn spread(values: &[f32]) -> f32 {
    values.iter().fold(0.0, |most, value| most.max(value.abs()))
}
