//! Small files of every architecture: seeds of the fuzz target `gguf`, and what becomes of them when they are damaged.

use std::path::PathBuf;

use candle_core::quantized::GgmlDType;
use candle_core::quantized::gguf_file::Value as Setting;
use candle_core::{DType, Device, Tensor};
use mos_engine::{gguf_summary, read_gguf};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::{tiny_config, tiny_gemma3, tiny_qwen2, tiny_qwen3, tiny_weights};
use crate::tiny_gguf::write_gguf;

/// Damaged copies of each file.
const COPIES: u64 = 400;

fn list<T>(values: &[T], make: impl Fn(&T) -> Setting) -> Setting {
    Setting::Array(values.iter().map(make).collect())
}

fn text(text: &str) -> Setting {
    Setting::String(text.to_owned())
}

/// A tokenizer of a kind, and a template.
fn texts(pieces: bool) -> Vec<(&'static str, Setting)> {
    let tokens = ["<unk>", "<s>", "</s>", "a", "b", "ab", "\u{2581}", "\u{2581}ab", "\u{120}", "c"];
    let kinds = [2, 3, 3, 1, 1, 1, 1, 1, 1, 4];
    let mut settings = vec![
        ("tokenizer.ggml.model", text(if pieces { "llama" } else { "gpt2" })),
        ("tokenizer.ggml.pre", text("qwen2")),
        ("tokenizer.ggml.tokens", list(&tokens, |token| text(token))),
        ("tokenizer.ggml.token_type", list(&kinds, |kind| Setting::I32(*kind))),
        ("tokenizer.ggml.bos_token_id", Setting::U32(1)),
        ("tokenizer.ggml.eos_token_id", Setting::U32(2)),
        (
            "tokenizer.chat_template",
            text("{% for m in messages %}{{ m.role }}: {{ m['content'] | trim }}\n{% endfor %}"),
        ),
    ];
    if pieces {
        let scores: Vec<f32> = (0..tokens.len()).map(|id| -(id as f32)).collect();
        settings.push(("tokenizer.ggml.scores", list(&scores, |score| Setting::F32(*score))));
    } else {
        settings.push(("tokenizer.ggml.merges", list(&["a b"], |merge| text(merge))));
    }
    settings
}

/// The files by name.
fn seeds() -> Vec<(&'static str, Vec<u8>)> {
    let small = |mut config: Value| {
        for (key, value) in [("hidden_size", 32), ("intermediate_size", 32), ("vocab_size", 10), ("head_dim", 16)] {
            config[key] = json!(value);
        }
        for (key, value) in [("num_attention_heads", 2), ("num_key_value_heads", 1), ("num_hidden_layers", 1)] {
            config[key] = json!(value);
        }
        config
    };
    let windows = Setting::Array(vec![Setting::Bool(true)]);
    let gemma = vec![("gemma3.attention.sliding_window_pattern", windows)];
    let linear = vec![("qwen3.rope.scaling.factor", Setting::F32(2.0))];
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("seed.gguf");
    let mut files = Vec::new();
    for (name, config, dtype, pieces, more) in [
        ("tiny_llama", tiny_config(), GgmlDType::Q8_0, true, Vec::new()),
        ("tiny_qwen2", tiny_qwen2(), GgmlDType::Q5_1, false, Vec::new()),
        ("tiny_qwen3", tiny_qwen3(), GgmlDType::F16, false, linear),
        ("tiny_gemma3", tiny_gemma3(), GgmlDType::Q4_0, true, gemma),
    ] {
        let config = small(config);
        let mut weights = tiny_weights(&config, DType::F32);
        if name == "tiny_llama" {
            let factors = Tensor::new(&[1.0_f32, 1.0, 1.0, 2.0, 4.0, 8.0, 8.0, 8.0], &Device::Cpu).unwrap();
            weights.insert("rope_freqs.weight".to_owned(), factors);
        }
        write_gguf(&path, &config, &weights, dtype, &[texts(pieces), more].concat());
        files.push((name, std::fs::read(&path).unwrap()));
    }
    files
}

/// Writes the seeds of the fuzz target again.
#[test]
#[ignore = "changes the source tree: run it by its name"]
fn write_the_seeds_of_the_fuzz_target() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus/gguf");
    for (name, bytes) in seeds() {
        std::fs::write(folder.join(name).with_extension("gguf"), bytes).unwrap();
    }
}

#[test]
fn seeds_are_whole_models() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("seed.gguf");
    for (name, bytes) in seeds() {
        std::fs::write(&path, &bytes).unwrap();
        read_gguf(&path).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert!(bytes.len() < 40_000 && gguf_summary(&path).unwrap().chat, "{name}");
    }
}

/// Changes some bytes, most of them in the head, where they mean most; or cuts the file.
fn damage(bytes: &mut Vec<u8>, mut state: u64) {
    let mut next = |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below
    };
    for _ in 0..=next(3) {
        let at = if next(4) > 0 { next(2500.min(bytes.len())) } else { next(bytes.len()) };
        match next(5) {
            0 => bytes[at] ^= 1 << next(8),
            1 => bytes[at] = 0,
            2 => bytes[at] = 0xff,
            3 => bytes[at..].iter_mut().take(8).for_each(|byte| *byte = 0xff),
            _ => bytes[at] = next(256) as u8,
        }
    }
    if next(16) == 0 {
        bytes.truncate(next(bytes.len()));
    }
}

#[test]
fn damaged_files_give_a_model_or_an_error() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("damaged.gguf");
    for (name, whole) in seeds() {
        let mut refused = 0;
        for copy in 0..COPIES {
            let mut bytes = whole.clone();
            damage(&mut bytes, copy);
            std::fs::write(&path, &bytes).unwrap();
            refused += u64::from(read_gguf(&path).is_err());
        }
        assert!((COPIES / 10..COPIES).contains(&refused), "{name}: {refused} of {COPIES}");
    }
}
