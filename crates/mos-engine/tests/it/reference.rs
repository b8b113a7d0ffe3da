//! The decoder against candle's own Llama on the same weights.

use std::fs::File;

use candle_core::quantized::gguf_file::Content;
use candle_core::{DType, Device, Tensor};
use candle_nn::VarBuilder;
use candle_transformers::models::{llama, quantized_llama};
use mos_engine::{CancelToken, ChatModelOptions, Decoder, KvPrefix, LocalChatModel, LogitRows};
use serde_json::{Value, json};

use crate::support::{argmax, smol, smol_path, tiny_config, tiny_weights, write_tiny};

/// Logits after every token, by candle.
fn candle_logits(config: &Value, dtype: DType, tokens: &[u32]) -> Vec<Vec<f32>> {
    let parsed: llama::LlamaConfig = serde_json::from_value(config.clone()).unwrap();
    let parsed = parsed.into_config(false);
    let weights = tiny_weights(config, dtype);
    let weights = weights.into_iter().map(|(name, tensor)| (name, tensor.to_dtype(DType::F32).unwrap())).collect();
    let model = llama::Llama::load(VarBuilder::from_tensors(weights, DType::F32, &Device::Cpu), &parsed).unwrap();
    let mut cache = llama::Cache::new(true, DType::F32, &parsed, &Device::Cpu).unwrap();
    let mut logits = Vec::new();
    for (position, token) in tokens.iter().enumerate() {
        let input = Tensor::new(&[[*token]], &Device::Cpu).unwrap();
        let row = model.forward(&input, position, &mut cache).unwrap();
        logits.push(row.flatten_all().unwrap().to_vec1().unwrap());
    }
    logits
}

fn all_logits(decoder: &Decoder, tokens: &[u32]) -> Vec<f32> {
    let mut tail = decoder.new_tail();
    decoder.forward(tokens, &KvPrefix::default(), &mut tail, LogitRows::All, &CancelToken::default()).unwrap()
}

fn tokens(count: u32, vocabulary: u32) -> Vec<u32> {
    (0..count).map(|i| (i * 29 + i * i % 7 + 3) % vocabulary).collect()
}

fn assert_same_as_candle(config: &Value, dtype: DType, count: u32) {
    let folder = write_tiny(config, dtype);
    let model = LocalChatModel::open(&ChatModelOptions::new(folder.path())).unwrap();
    let tokens = tokens(count, 50);
    let ours = all_logits(model.decoder(), &tokens);
    let theirs = candle_logits(config, dtype, &tokens);
    let spread = theirs.iter().flatten().fold(0.0_f32, |most, logit| most.max(logit.abs()));
    assert!(spread > 1.0, "the reference must say something: {spread}");
    for (row, (ours, theirs)) in ours.chunks_exact(50).zip(&theirs).enumerate() {
        let difference = ours.iter().zip(theirs).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        // Keys and values are rounded to 11 bits here and to 24 there.
        assert!(difference < 0.01 * spread, "row {row}: {difference} of {spread}");
        assert_eq!(argmax(ours), argmax(theirs), "row {row}");
    }
}

#[test]
fn grouped_heads_agree_with_candle_in_every_float_type() {
    for dtype in [DType::F32, DType::F16, DType::BF16] {
        assert_same_as_candle(&tiny_config(), dtype, 90);
    }
}

#[test]
fn one_key_head_per_query_head_and_tied_output_agree_with_candle() {
    let mut config = tiny_config();
    config["num_key_value_heads"] = json!(4);
    config["tie_word_embeddings"] = json!(true);
    assert_same_as_candle(&config, DType::F32, 70);
}

#[test]
fn llama3_rotation_scaling_agrees_with_candle() {
    let mut config = tiny_config();
    let plain = all_logits_of(&config);
    config["rope_scaling"] = json!({"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0,
        "high_freq_factor": 4.0, "original_max_position_embeddings": 64});
    assert_same_as_candle(&config, DType::F32, 120);
    assert_ne!(all_logits_of(&config), plain, "the scaling must change something");
}

fn all_logits_of(config: &Value) -> Vec<f32> {
    let folder = write_tiny(config, DType::F32);
    let model = LocalChatModel::open(&ChatModelOptions::new(folder.path())).unwrap();
    all_logits(model.decoder(), &tokens(40, 50))
}

/// The real file's weights, dequantised, in candle's unquantised Llama.
fn dequantised_reference() -> (llama::Llama, llama::Config) {
    let mut file = File::open(smol_path()).unwrap();
    let content = Content::read(&mut file).unwrap();
    let number = |key: &str| content.metadata[&format!("llama.{key}")].to_u32().unwrap() as usize;
    let float = |key: &str| content.metadata[&format!("llama.{key}")].to_f32().unwrap();
    let (heads, kv_heads) = (number("attention.head_count"), number("attention.head_count_kv"));
    let config = llama::Config {
        hidden_size: number("embedding_length"),
        intermediate_size: number("feed_forward_length"),
        vocab_size: number("vocab_size"),
        num_hidden_layers: number("block_count"),
        num_attention_heads: heads,
        num_key_value_heads: kv_heads,
        use_flash_attn: false,
        rms_norm_eps: f64::from(float("attention.layer_norm_rms_epsilon")),
        rope_theta: float("rope.freq_base"),
        bos_token_id: None,
        eos_token_id: None,
        rope_scaling: None,
        max_position_embeddings: 512,
        tie_word_embeddings: true,
    };
    let mut tensor =
        |name: &str| content.tensor(&mut file, name, &Device::Cpu).unwrap().dequantize(&Device::Cpu).unwrap();
    // The file pairs neighbours for the rotation, candle's Llama pairs halves.
    let halves = |weights: Tensor, heads: usize| {
        let (rows, cols) = weights.dims2().unwrap();
        let pairs = weights.reshape((heads, rows / heads / 2, 2, cols)).unwrap();
        pairs.transpose(1, 2).unwrap().contiguous().unwrap().reshape((rows, cols)).unwrap()
    };
    let mut weights = std::collections::HashMap::new();
    weights.insert("model.embed_tokens.weight".to_owned(), tensor("token_embd.weight"));
    weights.insert("model.norm.weight".to_owned(), tensor("output_norm.weight"));
    for layer in 0..config.num_hidden_layers {
        let names = [
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
        for (from, to) in names {
            let values = tensor(&format!("blk.{layer}.{from}.weight"));
            let values = match from {
                "attn_q" => halves(values, heads),
                "attn_k" => halves(values, kv_heads),
                _ => values,
            };
            weights.insert(format!("model.layers.{layer}.{to}.weight"), values);
        }
    }
    let variables = VarBuilder::from_tensors(weights, DType::F32, &Device::Cpu);
    (llama::Llama::load(variables, &config).unwrap(), config)
}

const PROMPTS: [&str; 4] = [
    "The capital of France is",
    "Water boils at a temperature of",
    "Once upon a time there was a",
    "<|im_start|>user\nName three animals.<|im_end|>\n<|im_start|>assistant\n",
];

#[test]
fn the_real_model_says_the_same_words_as_candles_llama_with_nearly_the_same_logits() {
    let model = smol();
    let decoder = model.decoder();
    let (reference, config) = dequantised_reference();
    for prompt in PROMPTS {
        let mut cache = llama::Cache::new(true, DType::F32, &config, &Device::Cpu).unwrap();
        let (mut tail, none) = (decoder.new_tail(), KvPrefix::default());
        let mut input = model.tokenize(prompt).unwrap();
        let mut position = 0;
        for step in 0..24 {
            let tensor = Tensor::new(input.as_slice(), &Device::Cpu).unwrap().unsqueeze(0).unwrap();
            let theirs = reference.forward(&tensor, position, &mut cache).unwrap();
            let theirs = theirs.flatten_all().unwrap().to_vec1::<f32>().unwrap();
            let ours = decoder.forward(&input, &none, &mut tail, LogitRows::Last, &CancelToken::default()).unwrap();
            let difference = ours.iter().zip(&theirs).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(difference < 0.05, "{prompt:?}, step {step}: {difference}");
            assert_eq!(argmax(&ours), argmax(&theirs), "{prompt:?}, step {step}");
            position += input.len();
            input = vec![argmax(&theirs)];
        }
    }
}

/// Candle quantises activations, so its logits differ a little: where it is sure, ours must be of the same mind.
#[test]
fn the_real_model_agrees_with_candles_quantised_llama_where_that_is_sure() {
    let model = smol();
    let decoder = model.decoder();
    let mut file = File::open(smol_path()).unwrap();
    let content = Content::read(&mut file).unwrap();
    let mut reference = quantized_llama::ModelWeights::from_gguf(content, &mut file, &Device::Cpu).unwrap();
    let mut sure = 0;
    for prompt in PROMPTS {
        let (mut tail, none) = (decoder.new_tail(), KvPrefix::default());
        let mut input = model.tokenize(prompt).unwrap();
        let mut position = 0;
        for step in 0..10 {
            let tensor = Tensor::new(input.as_slice(), &Device::Cpu).unwrap().unsqueeze(0).unwrap();
            let theirs = reference.forward(&tensor, position).unwrap().flatten_all().unwrap();
            let theirs = theirs.to_vec1::<f32>().unwrap();
            let ours = decoder.forward(&input, &none, &mut tail, LogitRows::Last, &CancelToken::default()).unwrap();
            let best = argmax(&theirs);
            let margin = theirs.iter().enumerate().filter(|(token, _)| *token as u32 != best).map(|(_, logit)| *logit);
            if theirs[best as usize] - margin.fold(f32::NEG_INFINITY, f32::max) > 1.0 {
                assert_eq!(argmax(&ours), best, "{prompt:?}, step {step}");
                sure += 1;
            }
            position += input.len();
            input = vec![best];
        }
    }
    assert!(sure >= 12, "only {sure} of 40 steps say something");
}

/// Expected ids are those of the model's published tokenizer: digits stand alone, spaces belong to the next word.
#[test]
fn the_gguf_tokenizer_splits_as_published() {
    let model = smol();
    let pieces = |text: &str| -> Vec<String> {
        let tokens = model.tokenize(text).unwrap();
        tokens.iter().map(|token| model.detokenize(&[*token]).unwrap()).collect()
    };
    assert_eq!(pieces("Hello world, it's 2024"), ["Hello", " world", ",", " it", "'s", " ", "2", "0", "2", "4"]);
    assert_eq!(model.tokenize("<|im_start|>user\n").unwrap()[0], 1);
    for text in ["  two  spaces\n\tand tabs ", "中文和 emoji 🐶👩‍👩‍👧", "naïve café"] {
        assert_eq!(model.detokenize(&model.tokenize(text).unwrap()).unwrap(), text);
    }
}
