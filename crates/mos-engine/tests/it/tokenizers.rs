//! Tokenizers that are built from the settings of a GGUF file.

use std::sync::Arc;

use candle_core::DType;
use candle_core::quantized::GgmlDType;
use candle_core::quantized::gguf_file::Value as Setting;
use mos_core::ModelError;
use mos_engine::{ChatModelOptions, LocalChatModel};
use serde_json::json;
use tempfile::TempDir;

use crate::support::{tiny_qwen2, tiny_weights};
use crate::tiny_gguf::write_gguf;

type Settings = Vec<(&'static str, Setting)>;

const NORMAL: i32 = 1;
const UNKNOWN: i32 = 2;
const CONTROL: i32 = 3;
const USER_DEFINED: i32 = 4;
const UNUSED: i32 = 5;
const BYTE: i32 = 6;

/// Opens a tiny model with a tokenizer of its own.
fn open(settings: &[(&str, Setting)]) -> Result<Arc<LocalChatModel>, ModelError> {
    let mut config = tiny_qwen2();
    config["vocab_size"] = json!(400);
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("tiny.gguf");
    write_gguf(&path, &config, &tiny_weights(&config, DType::F32), GgmlDType::F32, settings);
    std::fs::remove_file(folder.path().join("tokenizer.json")).unwrap();
    LocalChatModel::open(&ChatModelOptions::new(&path))
}

fn texts<S: AsRef<str>>(texts: &[S]) -> Setting {
    Setting::Array(texts.iter().map(|text| Setting::String(text.as_ref().to_owned())).collect())
}

/// A vocabulary with bytes, and `pieces` from token 260 on.
fn pieces(pieces: &[(&str, f32, i32)], more: &[(&'static str, Setting)]) -> Settings {
    let mut all: Vec<(String, f32, i32)> =
        [("<pad>", CONTROL), ("<eos>", CONTROL), ("<bos>", CONTROL), ("<unk>", UNKNOWN)]
            .map(|(text, kind)| (text.to_owned(), 0.0, kind))
            .to_vec();
    all.extend((0..256).map(|byte| (format!("<0x{byte:02X}>"), 0.0, BYTE)));
    all.extend(pieces.iter().map(|(text, score, kind)| ((*text).to_owned(), *score, *kind)));
    let names: Vec<&str> = all.iter().map(|(text, _, _)| text.as_str()).collect();
    let mut settings = vec![
        ("tokenizer.ggml.model", Setting::String("llama".to_owned())),
        ("tokenizer.ggml.tokens", texts(&names)),
        ("tokenizer.ggml.scores", Setting::Array(all.iter().map(|(_, score, _)| Setting::F32(*score)).collect())),
        ("tokenizer.ggml.token_type", Setting::Array(all.iter().map(|(_, _, kind)| Setting::I32(*kind)).collect())),
        ("tokenizer.ggml.bos_token_id", Setting::U32(2)),
        ("tokenizer.ggml.eos_token_id", Setting::U32(1)),
        ("tokenizer.ggml.unknown_token_id", Setting::U32(3)),
        ("tokenizer.ggml.add_bos_token", Setting::Bool(true)),
    ];
    settings.extend_from_slice(more);
    settings
}

const WORDS: [(&str, f32, i32); 15] = [
    ("\u{2581}", -20.0, NORMAL),
    ("h", -21.0, NORMAL),
    ("e", -22.0, NORMAL),
    ("l", -23.0, NORMAL),
    ("o", -24.0, NORMAL),
    ("he", -1.0, NORMAL),
    ("ll", -2.0, NORMAL),
    ("llo", -3.0, NORMAL),
    ("hello", -4.0, NORMAL),
    ("\u{2581}hello", -5.0, NORMAL),
    ("\u{2581}h", -6.0, NORMAL),
    ("\n\n", -1000.0, USER_DEFINED),
    ("  ", -1000.0, USER_DEFINED),
    ("eh", -0.5, NORMAL),
    ("el", 0.0, UNUSED),
];

fn words(model: &LocalChatModel, text: &str) -> Vec<String> {
    let tokens = model.tokenize(text).unwrap();
    assert_eq!(model.detokenize(&tokens).unwrap(), text);
    tokens
        .iter()
        .map(|token| if *token < 260 { format!("<{token}>") } else { WORDS[*token as usize - 260].0.into() })
        .collect()
}

#[test]
fn pieces_are_put_together_best_score_first() {
    let model = open(&pieces(&WORDS, &[("tokenizer.ggml.add_space_prefix", Setting::Bool(false))])).unwrap();
    // `eh` is better than `he`, and `el` is not in use; nothing is added at either end.
    assert_eq!(words(&model, "hehe hell"), ["h", "eh", "e", "\u{2581}", "he", "ll"]);
    let mut without: Vec<_> = WORDS.to_vec();
    without[13] = ("eh", -9.0, NORMAL);
    let model = open(&pieces(&without, &[("tokenizer.ggml.add_space_prefix", Setting::Bool(false))])).unwrap();
    assert_eq!(words(&model, "hello hello hehe"), ["hello", "\u{2581}hello", "\u{2581}", "he", "he"]);
    assert_eq!(words(&model, "he  he\n\n\nhe"), ["he", "  ", "he", "\n\n", "<14>", "he"], "10 + 4 is the new line");
    assert_eq!(words(&model, "é"), ["<199>", "<173>"], "characters without a piece become bytes");
    assert_eq!(words(&model, "<bos>he"), ["<2>", "he"], "a template writes the beginning itself");
    assert_eq!(model.tokenize("<eos>").unwrap(), [1]);
}

#[test]
fn texts_begin_with_a_space_where_the_file_says_so() {
    for settings in [&[][..], &[("tokenizer.ggml.add_space_prefix", Setting::Bool(true))][..]] {
        let mut vocabulary = WORDS;
        vocabulary[13].1 = -9.0;
        let model = open(&pieces(&vocabulary, settings)).unwrap();
        assert_eq!(words(&model, "hello hello"), ["\u{2581}hello", "\u{2581}hello"]);
    }
}

#[test]
fn broken_vocabularies_are_refused_with_a_remedy() {
    let refused = |change: &dyn Fn(&mut Settings), what: &str| {
        let mut settings = pieces(&WORDS, &[]);
        change(&mut settings);
        let error = open(&settings).unwrap_err().to_string();
        assert!(error.contains(what) && error.contains("put the tokenizer.json"), "{error}");
    };
    refused(&|settings| settings.retain(|(key, _)| !key.ends_with("scores")), "no scores");
    refused(&|settings| settings.retain(|(key, _)| !key.ends_with("tokens")), "no vocabulary");
    refused(&|settings| settings[2].1 = Setting::Array(vec![Setting::F32(0.0)]), "not one score");
    refused(&|settings| settings[0].1 = Setting::String("t5".to_owned()), "`t5`");
}

/// Byte-level BPE with the characters that stand for bytes, and a few merges.
fn byte_level(splitting: &str) -> Arc<LocalChatModel> {
    let mut tokens: Vec<String> = ["<|endoftext|>", "<|im_end|>"].map(str::to_owned).to_vec();
    tokens.extend(('!'..='~').chain('\u{100}'..='\u{143}').map(|byte| byte.to_string()));
    let merges = ["1 2", "12 3", "Ġ a", "' s", "\u{10a} \u{10a}", "a b", "ab c"];
    tokens.extend(merges.iter().map(|merge| merge.replace(' ', "")));
    let mut kinds = vec![NORMAL; tokens.len()];
    kinds[..2].fill(CONTROL);
    open(&[
        ("tokenizer.ggml.model", Setting::String("gpt2".to_owned())),
        ("tokenizer.ggml.pre", Setting::String(splitting.to_owned())),
        ("tokenizer.ggml.tokens", texts(&tokens)),
        ("tokenizer.ggml.merges", texts(&merges)),
        ("tokenizer.ggml.token_type", Setting::Array(kinds.into_iter().map(Setting::I32).collect())),
        ("tokenizer.ggml.eos_token_id", Setting::U32(1)),
    ])
    .unwrap()
}

#[test]
fn byte_level_vocabularies_split_text_as_their_models_do() {
    let split = |splitting: &str, text: &str| -> Vec<String> {
        let model = byte_level(splitting);
        let tokens = model.tokenize(text).unwrap();
        tokens.iter().map(|token| model.detokenize(&[*token]).unwrap()).collect()
    };
    // Llama 3 takes three digits at once, Qwen and SmolLM take one, GPT-2 all that there are.
    assert_eq!(split("llama-bpe", "1234"), ["123", "4"]);
    assert_eq!(split("qwen2", "123"), ["1", "2", "3"]);
    assert_eq!(split("smollm", "123"), ["1", "2", "3"]);
    assert_eq!(split("gpt-2", "123"), ["123"]);
    for splitting in ["llama-bpe", "qwen2", "smollm", "gpt-2"] {
        assert_eq!(split(splitting, "abc a's"), ["abc", " a", "'s"], "{splitting}");
        assert_eq!(split(splitting, "\n\n<|im_end|>"), ["\n\n", "<|im_end|>"], "{splitting}");
    }
}
