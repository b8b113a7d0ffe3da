//! Every architecture, from both kinds of files, against candle's own models on the same weights.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use candle_core::quantized::gguf_file::{Content, Value as Setting};
use candle_core::quantized::{GgmlDType, QTensor};
use candle_core::{DType, Device, Tensor};
use candle_nn::VarBuilder;
use candle_transformers::models::{gemma3, quantized_qwen2, quantized_qwen3, qwen2, qwen3};
use mos_core::ModelError;
use mos_engine::{CancelToken, ChatModelOptions, Decoder, KvPrefix, LocalChatModel, LogitRows, RopeScaling};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::plain;
use crate::support::{bits, tiny_config, tiny_gemma3, tiny_qwen2, tiny_qwen3, tiny_weights, write_tiny, write_weights};
use crate::tiny_gguf::write_gguf;

/// The most that logits may differ from the reference, as a share of the largest logit. Ours are computed from keys
/// and values that are rounded to 11 bits.
const TOLERANCE: f32 = 0.001;
/// What Gemma's settings in a GGUF file say beyond `config.json`, for the tiny model.
const GEMMA_PATTERN: (&str, Setting) = ("gemma3.attention.sliding_window_pattern", Setting::U32(3));

fn open(path: &Path) -> Arc<LocalChatModel> {
    LocalChatModel::open(&ChatModelOptions::new(path)).unwrap()
}

fn tokens(count: u32) -> Vec<u32> {
    (0..count).map(|i| (i * 29 + i * i % 7 + 3) % 50).collect()
}

fn rows(decoder: &Decoder, tokens: &[u32]) -> Vec<f32> {
    let mut tail = decoder.new_tail();
    decoder.forward(tokens, &KvPrefix::default(), &mut tail, LogitRows::All, &CancelToken::default()).unwrap()
}

/// Logits after every token by a model of candle's, token by token: so its masks are not needed, one of which lets
/// Gemma's windows see a token too many.
fn stepwise(tokens: &[u32], mut forward: impl FnMut(&Tensor, usize) -> candle_core::Result<Tensor>) -> Vec<Vec<f32>> {
    let step = |(position, token): (usize, &u32)| {
        let input = Tensor::new(&[[*token]], &Device::Cpu).unwrap();
        forward(&input, position).unwrap().flatten_all().unwrap().to_vec1().unwrap()
    };
    tokens.iter().enumerate().map(step).collect()
}

fn variables(weights: &HashMap<String, Tensor>) -> VarBuilder<'static> {
    let weights = weights.iter().map(|(name, tensor)| (name.clone(), tensor.to_dtype(DType::F32).unwrap()));
    VarBuilder::from_tensors(weights.collect(), DType::F32, &Device::Cpu)
}

fn candle_logits(config: &Value, weights: &HashMap<String, Tensor>, tokens: &[u32]) -> Vec<Vec<f32>> {
    match config["model_type"].as_str().unwrap() {
        "qwen2" => {
            let settings: qwen2::Config = serde_json::from_value(config.clone()).unwrap();
            let mut model = qwen2::ModelForCausalLM::new(&settings, variables(weights)).unwrap();
            stepwise(tokens, |input, position| model.forward(input, position))
        }
        "qwen3" => {
            let settings: qwen3::Config = serde_json::from_value(config.clone()).unwrap();
            let mut model = qwen3::ModelForCausalLM::new(&settings, variables(weights)).unwrap();
            stepwise(tokens, |input, position| model.forward(input, position))
        }
        "gemma3_text" => {
            let settings: gemma3::Config = serde_json::from_value(config.clone()).unwrap();
            let mut model = gemma3::Model::new(false, &settings, variables(weights)).unwrap();
            stepwise(tokens, |input, position| model.forward(input, position))
        }
        other => panic!("{other}"),
    }
}

/// Asserts that logits agree, and prints by how much they do not.
#[allow(clippy::print_stdout, reason = "figures for whoever runs the tests with --nocapture")]
fn assert_near(what: &str, ours: &[f32], theirs: &[Vec<f32>]) {
    let spread = theirs.iter().flatten().fold(0.0_f32, |most, logit| most.max(logit.abs()));
    assert!(spread > 1.0, "{what}: the reference must say something: {spread}");
    let mut most = 0.0_f32;
    for (row, (ours, theirs)) in ours.chunks_exact(theirs[0].len()).zip(theirs).enumerate() {
        let difference = ours.iter().zip(theirs).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(difference < TOLERANCE * spread, "{what}, row {row}: {difference} of {spread}");
        most = most.max(difference);
    }
    assert_eq!(ours.len(), theirs.len() * theirs[0].len());
    println!("{what}: largest difference {most} of {spread}");
}

fn gguf(config: &Value, weights: &HashMap<String, Tensor>, more: &[(&str, Setting)]) -> (TempDir, Arc<LocalChatModel>) {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("tiny.gguf");
    write_gguf(&path, config, weights, GgmlDType::F32, more);
    let model = open(&path);
    (folder, model)
}

/// Both kinds of files agree with candle; files whose rotation pairs the same values agree with each other bit by bit.
fn assert_agrees(config: &Value, count: u32, more: &[(&str, Setting)]) {
    let what = config["model_type"].as_str().unwrap();
    let tokens = tokens(count);
    let weights = tiny_weights(config, DType::F32);
    let theirs = candle_logits(config, &weights, &tokens);
    let folder = write_weights(config, &weights);
    let from_safetensors = rows(open(folder.path()).decoder(), &tokens);
    assert_near(&format!("{what} safetensors"), &from_safetensors, &theirs);
    let (_gguf_folder, model) = gguf(config, &weights, more);
    assert_eq!(bits(&rows(model.decoder(), &tokens)), bits(&from_safetensors), "{what} GGUF");
}

#[test]
fn qwen2_agrees_with_candle_from_both_kinds_of_files() {
    assert_agrees(&tiny_qwen2(), 120, &[]);
    let mut tied = tiny_qwen2();
    tied["tie_word_embeddings"] = json!(true);
    assert_agrees(&tied, 70, &[]);
}

#[test]
fn qwen3_agrees_with_candle_from_both_kinds_of_files() {
    assert_agrees(&tiny_qwen3(), 120, &[]);
    let mut config = tiny_qwen3();
    config["tie_word_embeddings"] = json!(true);
    config["attention_bias"] = json!(true);
    assert_agrees(&config, 70, &[]);
}

#[test]
fn gemma3_agrees_with_candle_far_beyond_its_windows() {
    assert_agrees(&tiny_gemma3(), 200, &[GEMMA_PATTERN]);
    let mut capped = tiny_gemma3();
    capped["attn_logit_softcapping"] = json!(2.0);
    capped["final_logit_softcapping"] = json!(5.0);
    assert_agrees(&capped, 150, &[GEMMA_PATTERN]);
}

#[test]
fn half_precision_files_of_every_architecture_agree_with_candle() {
    for config in [tiny_qwen2(), tiny_qwen3(), tiny_gemma3()] {
        let weights = tiny_weights(&config, DType::BF16);
        let folder = write_weights(&config, &weights);
        let tokens = tokens(90);
        let theirs = candle_logits(&config, &weights, &tokens);
        assert_near("bf16", &rows(open(folder.path()).decoder(), &tokens), &theirs);
    }
}

#[test]
fn llama_gguf_files_agree_with_the_safetensors_they_were_made_of() {
    let mut config = tiny_config();
    config["attention_bias"] = json!(true);
    let weights = tiny_weights(&config, DType::F32);
    let theirs = plain::logits(&config, &weights, &tokens(100));
    let folder = write_weights(&config, &weights);
    assert_near("llama safetensors", &rows(open(folder.path()).decoder(), &tokens(100)), &theirs);
    let (_folder, model) = gguf(&config, &weights, &[]);
    assert_near("llama GGUF", &rows(model.decoder(), &tokens(100)), &theirs);
}

/// Candle reads the same GGUF files: so their tensors have the names that others give them.
#[test]
fn qwen_gguf_files_agree_with_candles_gguf_models() {
    for config in [tiny_qwen2(), tiny_qwen3()] {
        let (folder, model) = gguf(&config, &tiny_weights(&config, DType::F32), &[]);
        let mut file = std::fs::File::open(folder.path().join("tiny.gguf")).unwrap();
        let content = Content::read(&mut file).unwrap();
        let tokens = tokens(80);
        let theirs = if config["model_type"] == "qwen2" {
            let mut model = quantized_qwen2::ModelWeights::from_gguf(content, &mut file, &Device::Cpu).unwrap();
            stepwise(&tokens, |input, position| model.forward(input, position))
        } else {
            let mut model = quantized_qwen3::ModelWeights::from_gguf(content, &mut file, &Device::Cpu).unwrap();
            stepwise(&tokens, |input, position| model.forward(input, position))
        };
        assert_near("GGUF", &rows(model.decoder(), &tokens), &theirs);
    }
}

/// Quantised weights count for exactly what they stand for.
#[test]
fn quantised_files_give_the_bits_of_their_dequantised_weights() {
    let mut config = tiny_qwen3();
    config["hidden_size"] = json!(256);
    config["intermediate_size"] = json!(512);
    config["head_dim"] = json!(64);
    let weights = tiny_weights(&config, DType::F32);
    let tokens = tokens(40);
    for dtype in [GgmlDType::Q4_0, GgmlDType::Q5_1, GgmlDType::Q8_0, GgmlDType::Q4K, GgmlDType::Q5K, GgmlDType::Q6K] {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("tiny.gguf");
        write_gguf(&path, &config, &weights, dtype, &[]);
        let quantised = rows(open(&path).decoder(), &tokens);
        let plain = weights.iter().map(|(name, tensor)| {
            let dtype = if tensor.rank() == 1 { GgmlDType::F32 } else { dtype };
            let values = QTensor::quantize(tensor, dtype).unwrap().dequantize(&Device::Cpu).unwrap();
            (name.clone(), values)
        });
        let folder = write_weights(&config, &plain.collect());
        assert_eq!(bits(&quantised), bits(&rows(open(folder.path()).decoder(), &tokens)), "{dtype:?}");
    }
}

/// The plain models are right where candle is, so they may speak where candle has nothing to say.
#[test]
fn the_plain_models_agree_with_candle() {
    let mut capped = tiny_gemma3();
    capped["attn_logit_softcapping"] = json!(2.0);
    capped["final_logit_softcapping"] = json!(5.0);
    for config in [tiny_qwen2(), tiny_qwen3(), tiny_gemma3(), capped] {
        let weights = tiny_weights(&config, DType::F32);
        let tokens = tokens(100);
        let theirs = candle_logits(&config, &weights, &tokens);
        let ours = plain::logits(&config, &weights, &tokens);
        let most = ours.iter().flatten().zip(theirs.iter().flatten()).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(most < 5e-3, "{}: {most}", config["model_type"]);
    }
}

#[test]
fn what_candle_lacks_agrees_with_the_plain_models() {
    let mut stretched = tiny_gemma3();
    stretched["rope_scaling"] = json!({"rope_type": "linear", "factor": 8.0});
    stretched["query_pre_attn_scalar"] = json!(100);
    let stretched_gguf = [
        GEMMA_PATTERN,
        ("gemma3.rope.scaling.type", Setting::String("linear".to_owned())),
        ("gemma3.rope.scaling.factor", Setting::F32(8.0)),
    ];
    let mut windowed = tiny_qwen2();
    windowed["use_sliding_window"] = json!(true);
    windowed["max_window_layers"] = json!(1);
    for config in [stretched.clone(), windowed] {
        let (weights, tokens) = (tiny_weights(&config, DType::F32), tokens(150));
        let folder = write_weights(&config, &weights);
        let theirs = plain::logits(&config, &weights, &tokens);
        assert_near("plain", &rows(open(folder.path()).decoder(), &tokens), &theirs);
    }
    // A GGUF file does not tell the scalar: it is the length of the heads.
    stretched["query_pre_attn_scalar"] = json!(32);
    let weights = tiny_weights(&stretched, DType::F32);
    let (_folder, model) = gguf(&stretched, &weights, &stretched_gguf);
    let theirs = plain::logits(&stretched, &weights, &tokens(150));
    assert_near("plain GGUF", &rows(model.decoder(), &tokens(150)), &theirs);
}

#[test]
fn the_same_bits_come_out_of_every_architecture_however_a_prompt_is_cut() {
    let (none, cancel) = (KvPrefix::default(), CancelToken::default());
    for config in [tiny_qwen2(), tiny_qwen3(), tiny_gemma3()] {
        let what = &config["model_type"];
        let folder = write_tiny(&config, DType::F32);
        let model = open(folder.path());
        let (decoder, tokens) = (model.decoder(), tokens(230));
        let direct = rows(decoder, &tokens);
        let mut tail = decoder.new_tail();
        let mut chunked = Vec::new();
        for range in [0..1, 1..39, 39..64, 64..81, 81..200, 200..201, 201..230] {
            chunked.extend(decoder.forward(&tokens[range], &none, &mut tail, LogitRows::All, &cancel).unwrap());
        }
        assert_eq!(bits(&chunked), bits(&direct), "{what}");
        let mut prefix = KvPrefix::default();
        for range in [0..37, 37..38, 38..130] {
            let mut tail = decoder.new_tail();
            decoder.forward(&tokens[range], &prefix, &mut tail, LogitRows::None, &cancel).unwrap();
            prefix.push(Arc::new(tail.freeze().unwrap()));
        }
        for prefix in [prefix.truncated(20), prefix.truncated(70), prefix] {
            let len = prefix.len();
            let rest = decoder.forward(&tokens[len..], &prefix, &mut decoder.new_tail(), LogitRows::All, &cancel);
            assert_eq!(bits(&rest.unwrap()), bits(&direct[len * 50..]), "{what} after {len}");
        }
        // Another folder is another model: it may compute with other threads.
        let again = write_tiny(&config, DType::F32);
        let mut options = ChatModelOptions::new(again.path());
        options.threads = Some(3);
        let threads = LocalChatModel::open(&options).unwrap();
        assert_eq!(bits(&rows(threads.decoder(), &tokens)), bits(&direct), "{what} with threads");
        assert_eq!(threads.decoder().fingerprint(), decoder.fingerprint());
    }
}

#[test]
fn a_window_hides_what_is_far_away_and_nothing_else() {
    let mut config = tiny_gemma3();
    // All layers have the window: what a token sees through four layers is 4 * 39 tokens back.
    config["sliding_window_pattern"] = json!(100);
    config["num_hidden_layers"] = json!(2);
    let folder = write_tiny(&config, DType::F32);
    let model = open(folder.path());
    let before = rows(model.decoder(), &tokens(150));
    let mut changed = tokens(150);
    changed[10] = (changed[10] + 1) % 50;
    let after = rows(model.decoder(), &changed);
    let same = |row: usize| before[row * 50..][..50] == after[row * 50..][..50];
    assert!((0..10).all(same), "nothing before the change");
    assert!(!same(10) && !same(10 + 2 * 39), "the farthest token that can know");
    assert!((10 + 2 * 39 + 1..150).all(same), "nothing beyond the windows");
}

#[test]
fn models_for_pictures_are_read_without_the_part_that_sees() {
    let text = tiny_gemma3();
    let weights = tiny_weights(&text, DType::F32);
    let expected = write_weights(&text, &weights);
    let expected = rows(open(expected.path()).decoder(), &tokens(60));
    let config = json!({"model_type": "gemma3", "eos_token_id": [1, 2], "text_config": text});
    for prefix in ["language_model.model.", "model.language_model."] {
        let rename = |(name, tensor): (&String, &Tensor)| (name.replacen("model.", prefix, 1), tensor.clone());
        let mut weights: HashMap<String, Tensor> = weights.iter().map(rename).collect();
        let other = Tensor::zeros((2, 2), DType::F32, &Device::Cpu).unwrap();
        weights.insert("vision_tower.patch.weight".to_owned(), other);
        let folder = write_weights(&config, &weights);
        assert_eq!(bits(&rows(open(folder.path()).decoder(), &tokens(60))), bits(&expected), "{prefix}");
    }
}

fn refusal(path: &Path) -> String {
    match LocalChatModel::open(&ChatModelOptions::new(path)).unwrap_err() {
        ModelError::BadModel(text) => text,
        other => panic!("{other}"),
    }
}

#[test]
fn what_is_not_understood_is_refused_by_name() {
    let with = |key: &str, value: Value| {
        let mut config = tiny_gemma3();
        config[key] = value;
        refusal(write_weights(&config, &tiny_weights(&tiny_gemma3(), DType::F32)).path())
    };
    assert!(with("rope_scaling", json!({"rope_type": "yarn", "factor": 4.0})).contains("`yarn`"));
    assert!(with("hidden_activation", json!("gelu")).contains("`gelu`"));
    assert!(with("layer_types", json!(["full_attention", "chunked_attention"])).contains("`chunked_attention`"));
    assert!(with("layer_types", json!(["full_attention"])).contains("1 of 4 layers"));
    assert!(with("sliding_window", json!(null)).contains("`sliding_window` is missing"));
    assert!(with("sliding_window_pattern", json!(0)).contains("is 0"));
    assert!(with("attn_logit_softcapping", json!(-1.0)).contains("soft cap"));
    assert!(with("use_bidirectional_attention", json!(true)).contains("do not write text"));
    assert!(with("model_type", json!("qwen3_moe")).contains("`qwen3_moe` is not supported"));
}

#[test]
fn weights_that_nobody_asks_for_are_refused() {
    let config = tiny_qwen3();
    let mut weights = tiny_weights(&config, DType::F32);
    let other = Tensor::zeros(64, DType::F32, &Device::Cpu).unwrap();
    weights.insert("model.layers.1.mlp.gate_proj.bias".to_owned(), other.clone());
    let text = refusal(write_weights(&config, &weights).path());
    assert!(text.contains("`model.layers.1.mlp.gate_proj.bias` is not understood"), "{text}");
    weights.remove("model.layers.1.mlp.gate_proj.bias");
    weights.insert("model.layers.0.self_attn.rotary_emb.inv_freq".to_owned(), other);
    open(write_weights(&config, &weights).path());
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("tiny.gguf");
    let mut config = tiny_qwen2();
    let mut weights = tiny_weights(&config, DType::F32);
    config["model_type"] = json!("llama");
    write_gguf(&path, &config, &weights, GgmlDType::F32, &[]);
    open(&path);
    let bias = weights.remove("model.layers.1.self_attn.k_proj.bias").unwrap();
    write_gguf(&path, &config, &weights, GgmlDType::F32, &[]);
    assert!(refusal(&path).contains("`blk.1.attn_k.bias` is missing"));
    weights.insert("model.layers.1.self_attn.k_proj.bias".to_owned(), bias);
    write_gguf(&path, &config, &weights, GgmlDType::F32, &[("llama.expert_count", Setting::U32(8))]);
    assert!(refusal(&path).contains("mixtures of experts"));
}

/// Llama 3 in GGUF files: the stretched rotation stands there as a divisor for each pair.
#[test]
fn rotation_factors_in_gguf_files_are_those_of_llama_3() {
    let mut config = tiny_config();
    let weights = tiny_weights(&config, DType::F32);
    let tokens = tokens(200);
    let plain = rows(open(write_weights(&config, &weights).path()).decoder(), &tokens);
    let (factor, low, high, context) = (8.0, 1.0, 4.0, 128.0);
    config["rope_scaling"] = json!({"rope_type": "llama3", "factor": factor, "low_freq_factor": low,
        "high_freq_factor": high, "original_max_position_embeddings": context as usize});
    let stretched = rows(open(write_weights(&config, &weights).path()).decoder(), &tokens);
    let theirs: Vec<Vec<f32>> = stretched.chunks_exact(50).map(<[f32]>::to_vec).collect();
    let divisor = |pair: usize| {
        let turns = context * 10_000_f32.powf(-(2.0 * pair as f32) / 16.0) / (2.0 * std::f32::consts::PI);
        let share = ((turns - low) / (high - low)).clamp(0.0, 1.0);
        1.0 / ((1.0 - share) / factor + share)
    };
    let divisors: Vec<f32> = (0..8).map(divisor).collect();
    assert!(divisors[0] == 1.0 && divisors[7] == factor && divisors.iter().any(|d| *d > 1.0 && *d < factor));
    let mut converted = weights.clone();
    converted.insert("rope_freqs.weight".to_owned(), Tensor::from_vec(divisors, 8, &Device::Cpu).unwrap());
    let (_folder, model) = gguf(&config, &converted, &[]);
    assert!(matches!(model.decoder().spec().rope_scaling, RopeScaling::Factors { .. }));
    let ours = rows(model.decoder(), &tokens);
    assert_near("llama 3 GGUF", &ours, &theirs);
    let moved = ours.iter().zip(&plain).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(moved > 0.1, "the factors must change something: {moved}");
}

#[test]
fn gguf_files_name_the_layers_with_windows_in_both_ways() {
    let config = tiny_gemma3();
    let weights = tiny_weights(&config, DType::F32);
    let windows = |pattern: Setting| {
        let (_folder, model) = gguf(&config, &weights, &[("gemma3.attention.sliding_window_pattern", pattern)]);
        let spec = model.decoder().spec();
        (0..spec.layers).map(|layer| spec.window(layer)).collect::<Vec<_>>()
    };
    let expected = [Some(40), Some(40), None, Some(40)];
    assert_eq!(windows(Setting::U32(3)), expected);
    let list = [true, true, false, true].map(Setting::Bool).to_vec();
    assert_eq!(windows(Setting::Array(list)), expected);
    let (_folder, model) = gguf(&config, &weights, &[]);
    assert_eq!(model.decoder().spec().window(3), Some(40), "one in six by default");
}
