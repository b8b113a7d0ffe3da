//! Gemma 3 270M, the base model: real weights, windows, and a tokenizer of pieces.

use std::collections::HashMap;
use std::fs::File;
use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;

use candle_core::quantized::gguf_file::{Content, Value};
use candle_core::{DType, Device, Tensor};
use candle_nn::{Activation, VarBuilder};
use candle_transformers::models::gemma3;
use mos_engine::{CancelToken, ChatModelOptions, KvPrefix, LocalChatModel, LogitRows};

use crate::support::{argmax, bits, models_root};

/// Tokens that most layers see.
const WINDOW: usize = 512;

/// The model's file; `None`, with a notice, where it is not there and not asked for.
fn gemma_path() -> Option<PathBuf> {
    let path = models_root().join("gemma3-270m/gemma-3-270m-q4_k_m.gguf");
    if path.exists() {
        return Some(path);
    }
    assert!(std::env::var_os("MOS_TEST_ALL_MODELS").is_none(), "{} is not there", path.display());
    // Not through the macro, whose words are hidden when a test passes.
    let mut notice = std::io::stderr();
    writeln!(notice, "skipped: {} is not there; set MOS_TEST_ALL_MODELS to insist", path.display()).unwrap();
    None
}

fn gemma() -> Option<Arc<LocalChatModel>> {
    Some(LocalChatModel::open(&ChatModelOptions::new(gemma_path()?)).unwrap())
}

/// The most likely continuation.
fn continued(model: &LocalChatModel, prompt: &str, count: usize) -> String {
    let decoder = model.decoder();
    let (mut tail, none) = (decoder.new_tail(), KvPrefix::default());
    let mut input = model.tokenize(prompt).unwrap();
    let mut made = Vec::new();
    for _ in 0..count {
        let logits = decoder.forward(&input, &none, &mut tail, LogitRows::Last, &CancelToken::default()).unwrap();
        input = vec![argmax(&logits)];
        made.push(input[0]);
    }
    model.detokenize(&made).unwrap()
}

#[test]
fn the_base_model_knows_what_it_was_taught() {
    let Some(model) = gemma() else { return };
    for (prompt, expected) in [
        ("<bos>The capital of France is the city of", "Paris"),
        ("<bos>Q: What is the capital of France?\nA:", "Paris"),
        ("<bos>The opposite of hot is", "cold"),
        ("<bos>Monday, Tuesday, Wednesday,", "Thursday"),
    ] {
        let text = continued(&model, prompt, 8);
        println!("{prompt}{text}");
        assert!(text.contains(expected), "{prompt:?} went on {text:?}");
    }
}

#[test]
fn the_description_is_that_of_the_published_model() {
    let Some(model) = gemma() else { return };
    let spec = model.decoder().spec();
    assert_eq!((spec.layers, spec.hidden, spec.heads, spec.kv_heads, spec.head_dim), (18, 640, 4, 1, 256));
    let global: Vec<usize> = (0..18).filter(|layer| spec.window(*layer).is_none()).collect();
    assert_eq!((global, spec.window(0)), (vec![5, 11, 17], Some(512)));
    assert_eq!((spec.rope_theta, spec.sliding_window.as_ref().unwrap().rope_theta), (1e6, 1e4));
}

/// The real weights, dequantised, in candle's unquantised model. (Its model for GGUF files has another activation
/// than Gemma, so it is no reference.)
fn reference(window: usize) -> Option<gemma3::Model> {
    let mut file = File::open(gemma_path()?).unwrap();
    let content = Content::read(&mut file).unwrap();
    let config = gemma3::Config {
        attention_bias: false,
        head_dim: 256,
        hidden_activation: Activation::GeluPytorchTanh,
        hidden_size: 640,
        intermediate_size: 2048,
        num_attention_heads: 4,
        num_hidden_layers: 18,
        num_key_value_heads: 1,
        rms_norm_eps: 1e-6,
        rope_theta: 1e6,
        rope_local_base_freq: 1e4,
        vocab_size: 262_144,
        final_logit_softcapping: None,
        attn_logit_softcapping: None,
        query_pre_attn_scalar: 256,
        sliding_window: window,
        sliding_window_pattern: 6,
        max_position_embeddings: 1024,
    };
    let mut weights = HashMap::new();
    for name in content.tensor_infos.keys() {
        let values = content.tensor(&mut file, name, &Device::Cpu).unwrap().dequantize(&Device::Cpu).unwrap();
        // Candle adds the 1 that the file's norms already have.
        let values = if name.ends_with("norm.weight") { (values - 1.0).unwrap() } else { values };
        weights.insert(candle_name(name), values);
    }
    let variables = VarBuilder::from_tensors(weights, DType::F32, &Device::Cpu);
    Some(gemma3::Model::new(false, &config, variables).unwrap())
}

fn candle_name(name: &str) -> String {
    match name {
        "token_embd.weight" => return "model.embed_tokens.weight".to_owned(),
        "output_norm.weight" => return "model.norm.weight".to_owned(),
        _ => {}
    }
    let (layer, tensor) = name.strip_prefix("blk.").unwrap().split_once('.').unwrap();
    let tensor = match tensor.strip_suffix(".weight").unwrap() {
        "attn_norm" => "input_layernorm",
        "post_attention_norm" => "post_attention_layernorm",
        "ffn_norm" => "pre_feedforward_layernorm",
        "post_ffw_norm" => "post_feedforward_layernorm",
        "attn_q" => "self_attn.q_proj",
        "attn_k" => "self_attn.k_proj",
        "attn_v" => "self_attn.v_proj",
        "attn_output" => "self_attn.o_proj",
        "attn_q_norm" => "self_attn.q_norm",
        "attn_k_norm" => "self_attn.k_norm",
        "ffn_gate" => "mlp.gate_proj",
        "ffn_up" => "mlp.up_proj",
        "ffn_down" => "mlp.down_proj",
        other => panic!("{other}"),
    };
    format!("model.layers.{layer}.{tensor}.weight")
}

const PROMPTS: [&str; 3] = [
    "<bos>The capital of France is",
    "<bos>Water boils at a temperature of",
    "<bos>def fibonacci(n):\n    if n < 2:\n        return n\n",
];

#[test]
fn the_real_model_says_the_same_words_as_candles_gemma_with_nearly_the_same_logits() {
    let (Some(model), Some(mut reference)) = (gemma(), reference(WINDOW)) else { return };
    let decoder = model.decoder();
    let mut most = 0.0_f32;
    for prompt in PROMPTS {
        reference.clear_kv_cache();
        let (mut tail, none) = (decoder.new_tail(), KvPrefix::default());
        let mut input = model.tokenize(prompt).unwrap();
        let mut position = 0;
        for step in 0..12 {
            let tensor = Tensor::new(input.as_slice(), &Device::Cpu).unwrap().unsqueeze(0).unwrap();
            let theirs = reference.forward(&tensor, position).unwrap();
            let theirs = theirs.flatten_all().unwrap().to_vec1::<f32>().unwrap();
            let ours = decoder.forward(&input, &none, &mut tail, LogitRows::Last, &CancelToken::default()).unwrap();
            let difference = ours.iter().zip(&theirs).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(difference < 0.05, "{prompt:?}, step {step}: {difference}");
            assert_eq!(argmax(&ours), argmax(&theirs), "{prompt:?}, step {step}");
            most = most.max(difference);
            position += input.len();
            input = vec![argmax(&theirs)];
        }
    }
    println!("largest difference {most}");
}

/// Beyond the window the reference goes token by token: so it needs none of its masks, one of which lets a window see a
/// token too many.
#[test]
fn beyond_the_window_the_logits_are_those_of_candles_gemma() {
    let (Some(model), Some(mut windowed), Some(mut windowless)) = (gemma(), reference(WINDOW), reference(1024)) else {
        return;
    };
    let (decoder, none, mut tail) = (model.decoder(), KvPrefix::default(), model.decoder().new_tail());
    let sentences = (0..60).map(|day| format!("On day {day} the boat carried {} boxes to the island. ", day * 7 % 31));
    let text = "<bos>".to_owned() + &sentences.collect::<String>();
    let tokens = &model.tokenize(&text).unwrap()[..600];
    let most_apart = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    let logits = |reference: &mut gemma3::Model, input: &[u32], start: usize| {
        let tensor = Tensor::new(input, &Device::Cpu).unwrap().unsqueeze(0).unwrap();
        reference.forward(&tensor, start).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap()
    };
    let mut last = Vec::new();
    let mut most = 0.0_f32;
    let mut start = 0;
    // The first 505 tokens are inside all windows; those from 512 on are not.
    for end in std::iter::once(505).chain(506..=600) {
        let input = &tokens[start..end];
        last = logits(&mut windowed, input, start);
        let ours = decoder.forward(input, &none, &mut tail, LogitRows::Last, &CancelToken::default()).unwrap();
        let difference = most_apart(&ours, &last);
        assert!(difference < 0.06, "after {end} tokens: {difference}");
        most = most.max(difference);
        start = end;
    }
    let moved = most_apart(&logits(&mut windowless, tokens, 0), &last);
    assert!(moved > 0.3, "the window must change something: {moved}");
    // At once, in our own chunks, the same bits.
    let whole = decoder.forward(tokens, &none, &mut decoder.new_tail(), LogitRows::Last, &CancelToken::default());
    let last = decoder.forward(&tokens[599..], &none, &mut tail.fork(599), LogitRows::Last, &CancelToken::default());
    assert_eq!(bits(&whole.unwrap()), bits(&last.unwrap()));
    println!("largest difference {most}; without a window {moved}");
}

#[test]
fn the_same_bits_come_out_beyond_the_window_however_the_prompt_is_cut() {
    let Some(model) = gemma() else { return };
    let (decoder, none, cancel) = (model.decoder(), KvPrefix::default(), CancelToken::default());
    let text = "<bos>".to_owned() + &"Memory is what remains when a conversation is over. ".repeat(70);
    let tokens = &model.tokenize(&text).unwrap()[..640];
    let run = |range: std::ops::Range<usize>, prefix: &KvPrefix, tail: &mut _| {
        decoder.forward(&tokens[range], prefix, tail, LogitRows::Last, &cancel).unwrap()
    };
    let direct = run(0..640, &none, &mut decoder.new_tail());
    let mut tail = decoder.new_tail();
    run(0..530, &none, &mut tail);
    let mut prefix = KvPrefix::default();
    prefix.push(Arc::new(tail.freeze().unwrap()));
    let mut tail = decoder.new_tail();
    run(530..639, &prefix, &mut tail);
    assert_eq!(bits(&run(639..640, &prefix, &mut tail)), bits(&direct));
    assert_eq!(bits(&run(75..640, &prefix.truncated(75), &mut decoder.new_tail())), bits(&direct));
}

/// The pieces of a text as the format defines them: the neighbours that make the best piece come together, until
/// none do.
fn plain_pieces(ids: &HashMap<&str, usize>, scores: &[f32], text: &str) -> Vec<u32> {
    let text = text.replace(' ', "\u{2581}");
    let mut pieces: Vec<String> = text.chars().map(String::from).collect();
    loop {
        let score = |at: usize| ids.get((pieces[at].clone() + &pieces[at + 1]).as_str()).map(|id| scores[*id]);
        let found = (0..pieces.len() - 1).filter_map(|at| Some((at, score(at)?)));
        let Some((at, _)) = found.reduce(|best, next| if next.1 > best.1 { next } else { best }) else { break };
        let right = pieces.remove(at + 1);
        pieces[at].push_str(&right);
    }
    let bytes = |piece: &String| piece.bytes().map(|byte| format!("<0x{byte:02X}>")).collect::<Vec<_>>();
    let names = pieces.iter().flat_map(|p| if ids.contains_key(p.as_str()) { vec![p.clone()] } else { bytes(p) });
    names.map(|name| ids[name.as_str()] as u32).collect()
}

#[test]
fn the_tokenizer_makes_the_pieces_that_the_scores_say() {
    let Some(model) = gemma() else { return };
    let content = Content::read(&mut File::open(gemma_path().unwrap()).unwrap()).unwrap();
    let list = |key: &str| content.metadata[key].to_vec().unwrap();
    let kinds = list("tokenizer.ggml.token_type");
    let names: Vec<&str> = list("tokenizer.ggml.tokens").iter().map(|v| v.to_string().unwrap().as_str()).collect();
    let scores: Vec<f32> = list("tokenizer.ggml.scores").iter().map(|v| v.to_f32().unwrap()).collect();
    let usable = |id: &usize| matches!(kinds[*id], Value::I32(1 | 6) | Value::U32(1 | 6));
    let ids: HashMap<&str, usize> = (0..names.len()).filter(usable).map(|id| (names[id], id)).collect();
    for text in [
        "The capital of France is Paris, isn't it?",
        "Großmütter erzählen Geschichten über Schmetterlinge.",
        "我喜欢记忆系统。 Память — это то, что остаётся.",
        "internationalization and antidisestablishmentarianism 3.14159265 x=y+z;",
        "🐶👩‍👩‍👧 ends with a rare sign: 𓀀",
        "aaaaaaaaaaaaaaaaaaaaaaaaaaaaa=====>>>>>>",
    ] {
        let tokens = model.tokenize(text).unwrap();
        assert_eq!(tokens, plain_pieces(&ids, &scores, text), "{text}");
        assert_eq!(model.detokenize(&tokens).unwrap(), text);
    }
    // Runs of spaces, tabs and new lines are tokens of their own; control tokens are met, none is added.
    let text = "<bos><start_of_turn>user\n\n\n    x\t\ty  z<end_of_turn>\n";
    let tokens = model.tokenize(text).unwrap();
    assert_eq!(tokens[..2], [2, 105]);
    assert_eq!(tokens[3..5], [109, 140], "three new lines and four spaces are a token each");
    assert_eq!(model.detokenize(&tokens).unwrap(), text);
}
