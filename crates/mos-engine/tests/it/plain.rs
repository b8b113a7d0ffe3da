//! The architectures written down as plainly as they can be, in double precision: for what candle's models lack.

use std::collections::HashMap;

use candle_core::{DType, Tensor};
use serde_json::Value;

type Rows = Vec<Vec<f64>>;

struct Model<'a> {
    config: &'a Value,
    weights: &'a HashMap<String, Tensor>,
    gemma: bool,
}

/// Returns the logits after every token.
pub(crate) fn logits(config: &Value, weights: &HashMap<String, Tensor>, tokens: &[u32]) -> Vec<Vec<f32>> {
    let model = Model { config, weights, gemma: config["model_type"] == "gemma3_text" };
    let embedding = model.matrix("model.embed_tokens.weight");
    let scale = if model.gemma { model.number("hidden_size").sqrt() } else { 1.0 };
    let mut hidden: Rows =
        tokens.iter().map(|&token| embedding[token as usize].iter().map(|value| value * scale).collect()).collect();
    for layer in 0..model.number("num_hidden_layers") as usize {
        model.attention(layer, &mut hidden);
        model.feed_forward(layer, &mut hidden);
    }
    let output = if weights.contains_key("lm_head.weight") { model.matrix("lm_head.weight") } else { embedding };
    let cap = config["final_logit_softcapping"].as_f64();
    let normed: Rows = hidden.iter().map(|row| model.norm("model.norm.weight", row)).collect();
    product(&normed, &output).into_iter().map(|row| row.into_iter().map(|x| capped(x, cap) as f32).collect()).collect()
}

impl Model<'_> {
    fn number(&self, key: &str) -> f64 {
        self.config[key].as_f64().unwrap_or_else(|| panic!("{key}"))
    }

    fn matrix(&self, name: &str) -> Rows {
        self.weights[name].to_dtype(DType::F64).unwrap().to_vec2().unwrap()
    }

    fn vector(&self, name: &str) -> Vec<f64> {
        self.weights[name].to_dtype(DType::F64).unwrap().to_vec1().unwrap()
    }

    fn norm(&self, name: &str, row: &[f64]) -> Vec<f64> {
        let mean = row.iter().map(|x| x * x).sum::<f64>() / row.len() as f64;
        let offset = if self.gemma { 1.0 } else { 0.0 };
        let factor = 1.0 / (mean + self.number("rms_norm_eps")).sqrt();
        row.iter().zip(self.vector(name)).map(|(x, weight)| x * factor * (weight + offset)).collect()
    }

    /// Products with a matrix and its bias, cut into heads: `[token][head][dimension]`; normed and rotated if asked.
    fn heads(&self, layer: usize, which: &str, rows: &Rows, rotated: bool) -> Vec<Rows> {
        let name = format!("model.layers.{layer}.self_attn.{which}_proj");
        let mut made = product(rows, &self.matrix(&format!("{name}.weight")));
        if self.weights.contains_key(&format!("{name}.bias")) {
            let bias = self.vector(&format!("{name}.bias"));
            made.iter_mut().for_each(|row| row.iter_mut().zip(&bias).for_each(|(x, bias)| *x += bias));
        }
        let head_dim = self.head_dim();
        let norm = format!("model.layers.{layer}.self_attn.{which}_norm.weight");
        let head = |position: usize, values: &[f64]| {
            let values = if self.weights.contains_key(&norm) { self.norm(&norm, values) } else { values.to_vec() };
            if rotated { self.rotate(layer, position, &values) } else { values }
        };
        let token = |(position, row): (usize, &Vec<f64>)| row.chunks(head_dim).map(|v| head(position, v)).collect();
        made.iter().enumerate().map(token).collect()
    }

    fn head_dim(&self) -> usize {
        self.config["head_dim"].as_u64().map_or_else(
            || (self.number("hidden_size") / self.number("num_attention_heads")) as usize,
            |length| length as usize,
        )
    }

    fn window(&self, layer: usize) -> Option<usize> {
        let tokens = self.config["sliding_window"].as_u64()? as usize;
        let windowed = if self.gemma {
            !(layer + 1).is_multiple_of(self.number("sliding_window_pattern") as usize)
        } else {
            self.config["use_sliding_window"] == true && layer >= self.number("max_window_layers") as usize
        };
        windowed.then_some(tokens)
    }

    fn rotate(&self, layer: usize, position: usize, head: &[f64]) -> Vec<f64> {
        let local = self.gemma && self.window(layer).is_some();
        let theta = self.number(if local { "rope_local_base_freq" } else { "rope_theta" });
        let factor = if local { 1.0 } else { self.config["rope_scaling"]["factor"].as_f64().unwrap_or(1.0) };
        let half = head.len() / 2;
        let mut rotated = head.to_vec();
        for pair in 0..half {
            let angle = position as f64 / factor / theta.powf(pair as f64 / half as f64);
            let (sine, cosine) = angle.sin_cos();
            rotated[pair] = head[pair] * cosine - head[pair + half] * sine;
            rotated[pair + half] = head[pair] * sine + head[pair + half] * cosine;
        }
        rotated
    }

    fn attention(&self, layer: usize, hidden: &mut Rows) {
        let prefix = format!("model.layers.{layer}");
        let normed: Rows =
            hidden.iter().map(|row| self.norm(&format!("{prefix}.input_layernorm.weight"), row)).collect();
        let queries = self.heads(layer, "q", &normed, true);
        let keys = self.heads(layer, "k", &normed, true);
        let values = self.heads(layer, "v", &normed, false);
        let scalar = if self.gemma { self.number("query_pre_attn_scalar") } else { self.head_dim() as f64 };
        let cap = self.config["attn_logit_softcapping"].as_f64();
        let mut mixed = Vec::new();
        for (position, heads) in queries.iter().enumerate() {
            let first = self.window(layer).map_or(0, |window| (position + 1).saturating_sub(window));
            let group = heads.len() / keys[0].len();
            let mut row = Vec::new();
            for (head, query) in heads.iter().enumerate() {
                let scores = keys[first..=position].iter().map(|key| dot(query, &key[head / group]) / scalar.sqrt());
                let shares: Vec<f64> = scores.map(|score| capped(score, cap).exp()).collect();
                let total: f64 = shares.iter().sum();
                row.extend((0..query.len()).map(|at| {
                    let seen = values[first..=position].iter().zip(&shares);
                    seen.map(|(value, share)| value[head / group][at] * share / total).sum::<f64>()
                }));
            }
            mixed.push(row);
        }
        let mut made = product(&mixed, &self.matrix(&format!("{prefix}.self_attn.o_proj.weight")));
        if let Some(bias) = self.weights.get(&format!("{prefix}.self_attn.o_proj.bias")) {
            let bias: Vec<f64> = bias.to_dtype(DType::F64).unwrap().to_vec1().unwrap();
            made.iter_mut().for_each(|row| row.iter_mut().zip(&bias).for_each(|(x, bias)| *x += bias));
        }
        self.add(hidden, made, self.gemma.then(|| format!("{prefix}.post_attention_layernorm.weight")));
    }

    fn feed_forward(&self, layer: usize, hidden: &mut Rows) {
        let prefix = format!("model.layers.{layer}");
        let norm = if self.gemma { "pre_feedforward_layernorm" } else { "post_attention_layernorm" };
        let normed: Rows = hidden.iter().map(|row| self.norm(&format!("{prefix}.{norm}.weight"), row)).collect();
        let mut gate = product(&normed, &self.matrix(&format!("{prefix}.mlp.gate_proj.weight")));
        let up = product(&normed, &self.matrix(&format!("{prefix}.mlp.up_proj.weight")));
        for (gate, up) in gate.iter_mut().flatten().zip(up.iter().flatten()) {
            let x = *gate;
            let active = if self.gemma {
                0.5 * x * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x.powi(3))).tanh())
            } else {
                x / (1.0 + (-x).exp())
            };
            *gate = active * up;
        }
        let made = product(&gate, &self.matrix(&format!("{prefix}.mlp.down_proj.weight")));
        self.add(hidden, made, self.gemma.then(|| format!("{prefix}.post_feedforward_layernorm.weight")));
    }

    fn add(&self, hidden: &mut Rows, made: Rows, post_norm: Option<String>) {
        for (hidden, made) in hidden.iter_mut().zip(made) {
            let made = match &post_norm {
                Some(name) => self.norm(name, &made),
                None => made,
            };
            hidden.iter_mut().zip(made).for_each(|(x, made)| *x += made);
        }
    }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn product(rows: &Rows, matrix: &Rows) -> Rows {
    rows.iter().map(|row| matrix.iter().map(|weights| dot(row, weights)).collect()).collect()
}

fn capped(x: f64, cap: Option<f64>) -> f64 {
    cap.map_or(x, |cap| cap * (x / cap).tanh())
}
