//! Files that cannot be used say why and what to do.

use std::collections::HashMap;
use std::path::Path;

use candle_core::quantized::gguf_file::{Content, Value, write};
use candle_core::quantized::{GgmlDType, QTensor};
use candle_core::{DType, Device, Tensor};
use mos_core::{ChatModel, ChatRequest, Message, ModelError};
use mos_engine::{CancelToken, ChatModelOptions, KvPrefix, LocalChatModel, LogitRows, gguf_summary};
use serde_json::json;
use tempfile::TempDir;

use crate::support::{
    bits, smol_path, tiny_config, tiny_gemma3, tiny_qwen2, tiny_qwen3, tiny_weights, write_tiny, write_weights,
};
use crate::tiny_gguf::write_gguf;

fn refusal(path: &Path) -> String {
    match LocalChatModel::open(&ChatModelOptions::new(path)).unwrap_err() {
        ModelError::BadModel(text) => {
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            assert!(text.contains(&name), "{text} does not name {name}");
            text
        }
        other => panic!("{other}"),
    }
}

#[test]
fn a_missing_model_says_how_to_get_one() {
    let error = LocalChatModel::open(&ChatModelOptions::new("/nowhere/model.gguf")).unwrap_err();
    assert!(matches!(&error, ModelError::NotFound(text) if text.contains("mos models pull")), "{error}");
}

#[test]
fn truncated_files_are_refused_wherever_they_end() {
    let folder = TempDir::new().unwrap();
    let whole = std::fs::read(smol_path()).unwrap();
    let path = folder.path().join("cut.gguf");
    for len in [0, 3, 20, 5000, 1_000_000, whole.len() / 2, whole.len() - 1] {
        std::fs::write(&path, &whole[..len]).unwrap();
        let text = refusal(&path);
        let expected = if len < 4 { "not a GGUF file" } else { "truncated" };
        assert!(text.contains(expected), "{len}: {text}");
    }
}

/// The head of the real file with one setting changed, and one tensor.
fn gguf_with(path: &Path, change: impl Fn(&str) -> Option<Option<Value>>) {
    let mut file = std::fs::File::open(smol_path()).unwrap();
    let content = Content::read(&mut file).unwrap();
    let mut metadata: Vec<(String, Value)> = Vec::new();
    for (key, value) in content.metadata {
        match change(&key) {
            None => metadata.push((key, value)),
            Some(Some(value)) => metadata.push((key, value)),
            Some(None) => {}
        }
    }
    let embedding = Tensor::zeros((64, 576), DType::F32, &Device::Cpu).unwrap();
    let embedding = QTensor::quantize(&embedding, GgmlDType::Q8_0).unwrap();
    let metadata: Vec<(&str, &Value)> = metadata.iter().map(|(key, value)| (key.as_str(), value)).collect();
    let mut out = std::fs::File::create(path).unwrap();
    write(&mut out, &metadata, &[("token_embd.weight", &embedding)]).unwrap();
}

#[test]
fn wrong_architectures_and_missing_tokenizers_are_named() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("changed.gguf");
    gguf_with(&path, |key| (key == "general.architecture").then(|| Some(Value::String("mamba".to_owned()))));
    assert!(refusal(&path).contains("`mamba` is not supported"));
    gguf_with(&path, |key| (key == "tokenizer.ggml.model").then_some(None));
    assert!(refusal(&path).contains("no tokenizer"));
    gguf_with(&path, |key| (key == "tokenizer.ggml.pre").then(|| Some(Value::String("odd".to_owned()))));
    let text = refusal(&path);
    assert!(text.contains("`odd`") && text.contains("tokenizer.json"), "{text}");
    gguf_with(&path, |key| (key == "llama.rope.scaling.type").then_some(None));
    assert!(refusal(&path).contains("is missing"), "layers are not there");
}

#[test]
fn data_that_are_aligned_to_nothing_are_refused() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("aligned.gguf");
    let write_with = |value: Value| {
        let list = Value::Array(vec![Value::String("a".to_owned()), Value::String("b".to_owned())]);
        let metadata = [("tokenizer.ggml.tokens", &list), ("general.alignment", &value)];
        write(&mut std::fs::File::create(&path).unwrap(), &metadata, &[]).unwrap();
    };
    for value in [Value::U8(0), Value::U16(0), Value::U32(0), Value::I8(0), Value::I16(0), Value::I32(0)] {
        write_with(value);
        assert!(refusal(&path).contains("`general.alignment` is 0"));
        let error = gguf_summary(&path).unwrap_err();
        assert!(matches!(&error, ModelError::BadModel(text) if text.contains("fetch it again")), "{error}");
    }
    // The name candle goes by, with zeros at its end.
    let zeros = [("general.alignment\0", &Value::U32(0))];
    write(&mut std::fs::File::create(&path).unwrap(), &zeros, &[]).unwrap();
    assert!(refusal(&path).contains("`general.alignment` is 0"));
    write_with(Value::U32(64));
    assert_eq!(gguf_summary(&path).unwrap().parameters, 0);
}

#[test]
fn directories_are_checked_file_by_file() {
    let folder = write_tiny(&tiny_config(), DType::F32);
    let open = || LocalChatModel::open(&ChatModelOptions::new(folder.path()));
    let refused = |what: &str| {
        let error = open().unwrap_err();
        assert!(matches!(&error, ModelError::BadModel(text) if text.contains(what)), "{what}: {error}");
    };
    let weights = folder.path().join("model.safetensors");
    let whole = std::fs::read(&weights).unwrap();
    std::fs::write(&weights, &whole[..whole.len() - 100]).unwrap();
    refused("truncated");
    std::fs::remove_file(&weights).unwrap();
    refused("no *.safetensors");
    std::fs::write(&weights, &whole).unwrap();
    let mut config = tiny_config();
    config["hidden_size"] = json!(128);
    std::fs::write(folder.path().join("config.json"), config.to_string()).unwrap();
    refused("but the model's settings say");
    config["model_type"] = json!("rwkv");
    std::fs::write(folder.path().join("config.json"), config.to_string()).unwrap();
    refused("`rwkv` is not supported");
    std::fs::remove_file(folder.path().join("tokenizer.json")).unwrap();
    std::fs::write(folder.path().join("config.json"), tiny_config().to_string()).unwrap();
    refused("tokenizer.json");
}

#[tokio::test]
async fn a_model_without_a_chat_template_says_so_when_it_is_to_chat() {
    let folder = write_tiny(&tiny_config(), DType::F32);
    let model = LocalChatModel::open(&ChatModelOptions::new(folder.path())).unwrap();
    let request = ChatRequest { messages: vec![Message::user("w3")], ..ChatRequest::default() };
    let error = model.complete(request).await.unwrap_err();
    assert!(matches!(&error, ModelError::BadModel(text) if text.contains("no chat template")), "{error}");
}

#[test]
fn the_summary_tells_what_a_file_holds() {
    let summary = gguf_summary(&smol_path()).unwrap();
    assert_eq!((summary.architecture.as_str(), summary.quantization.as_str()), ("llama", "Q4_1"));
    assert_eq!((summary.parameters, summary.context_length), (134_515_008, Some(8192)));
    assert!(summary.chat);
}

#[test]
fn layers_without_end_are_refused_before_anything_is_made_for_them() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("layers.gguf");
    for count in [0, 4097, 1 << 40, u64::MAX] {
        for (architecture, config) in [("gemma3", tiny_gemma3()), ("qwen2", tiny_qwen2()), ("llama", tiny_config())] {
            let key = format!("{architecture}.block_count");
            let weights = tiny_weights(&config, DType::F32);
            write_gguf(&path, &config, &weights, GgmlDType::F32, &[(&key, Value::U64(count))]);
            assert!(refusal(&path).contains(&format!("{count} layers make no sense")), "{architecture}");
        }
        for mut config in [tiny_gemma3(), tiny_qwen2(), tiny_qwen3(), tiny_config()] {
            let weights = tiny_weights(&config, DType::F32);
            config["num_hidden_layers"] = json!(count);
            config["use_sliding_window"] = json!(true);
            config["sliding_window"] = json!(32);
            let folder = write_weights(&config, &weights);
            let error = LocalChatModel::open(&ChatModelOptions::new(folder.path())).unwrap_err();
            assert!(error.to_string().contains(&format!("{count} layers make no sense")), "{error}");
        }
    }
}

#[test]
fn numbers_that_make_no_sense_are_refused() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("numbers.gguf");
    let config = tiny_config();
    let with_factors = |values: Tensor, dtype: GgmlDType| {
        let mut weights = tiny_weights(&config, DType::F32);
        weights.insert("rope_freqs.weight".to_owned(), values);
        write_gguf(&path, &config, &weights, dtype, &[]);
    };
    let factors = |bad: f32| Tensor::new(&[1.0, 1.0, 1.0, bad, 1.0, 1.0, 1.0, 1.0], &Device::Cpu).unwrap();
    for bad in [0.0, -1.0, f32::INFINITY, f32::NAN] {
        with_factors(factors(bad), GgmlDType::F32);
        assert!(refusal(&path).contains("a rotation factor of"), "{bad}");
    }
    // Only matrices are written in the other types; twice as many of half the size would pass for the right number.
    with_factors(Tensor::ones((2, 8), DType::F32, &Device::Cpu).unwrap(), GgmlDType::F16);
    assert!(refusal(&path).contains("have the type F16"));
    with_factors(factors(2.0), GgmlDType::F32);
    LocalChatModel::open(&ChatModelOptions::new(&path)).unwrap();
    let weights = tiny_weights(&config, DType::F32);
    let epsilon = ("llama.attention.layer_norm_rms_epsilon", Value::F32(-1e-5));
    write_gguf(&path, &config, &weights, GgmlDType::F32, &[epsilon]);
    assert!(refusal(&path).contains("constant of the norms of -"));
    for (low, high, context) in [(4.0, 1.0, 64), (2.0, 2.0, 64), (0.0, 4.0, 64), (1.0, 4.0, 0)] {
        let mut config = config.clone();
        config["rope_scaling"] = json!({"rope_type": "llama3", "factor": 8.0, "low_freq_factor": low,
            "high_freq_factor": high, "original_max_position_embeddings": context});
        let folder = write_tiny(&config, DType::F32);
        let error = LocalChatModel::open(&ChatModelOptions::new(folder.path())).unwrap_err().to_string();
        assert!(error.contains("high_freq_factor"), "{low} {high} {context}: {error}");
    }
}

#[test]
fn types_of_weights_that_are_not_known_are_named_with_those_that_are() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("types.gguf");
    let config = tiny_config();
    write_gguf(&path, &config, &tiny_weights(&config, DType::F32), GgmlDType::F32, &[]);
    let whole = std::fs::read(&path).unwrap();
    let name = b"output_norm.weight".as_slice();
    // After the name come the number of dimensions, the one there is, and the type.
    let at = whole.windows(name.len()).position(|window| window == name).unwrap() + name.len() + 4 + 8;
    for (number, expected) in [(23_u32, "type IQ4_XS"), (39, "type MXFP4"), (99, "type number 99"), (9, "type Q8_1")] {
        let mut changed = whole.clone();
        changed[at..at + 4].copy_from_slice(&number.to_le_bytes());
        std::fs::write(&path, &changed).unwrap();
        let text = refusal(&path);
        assert!(text.contains(expected) && text.contains("only F32, F16") && text.contains("Q4_K_M"), "{text}");
        assert!(!text.contains("damaged"), "{text}");
    }
}

/// Logits of the model in a folder, or why there is none.
fn logits_of(folder: &Path) -> Result<Vec<u32>, String> {
    let model = LocalChatModel::open(&ChatModelOptions::new(folder)).map_err(|error| error.to_string())?;
    let (decoder, none) = (model.decoder(), KvPrefix::default());
    let mut tail = decoder.new_tail();
    Ok(bits(&decoder.forward(&[3, 4, 5], &none, &mut tail, LogitRows::Last, &CancelToken::default()).unwrap()))
}

#[test]
fn an_output_that_the_configuration_promises_must_be_there() {
    let mut config = tiny_config();
    let mut weights = tiny_weights(&config, DType::F32);
    let untied = logits_of(write_weights(&config, &weights).path()).unwrap();
    let output = weights.remove("lm_head.weight").unwrap();
    let error = logits_of(write_weights(&config, &weights).path()).unwrap_err();
    assert!(error.contains("`lm_head.weight` is missing"), "{error}");
    config["tie_word_embeddings"] = json!(true);
    let tied = logits_of(write_weights(&config, &weights).path()).unwrap();
    assert_ne!(tied, untied);
    // A configuration that does not say leaves it to the weights.
    config.as_object_mut().unwrap().remove("tie_word_embeddings");
    assert_eq!(logits_of(write_weights(&config, &weights).path()).unwrap(), tied);
    weights.insert("lm_head.weight".to_owned(), output);
    assert_eq!(logits_of(write_weights(&config, &weights).path()).unwrap(), untied);
}

#[test]
fn a_missing_part_of_the_weights_is_named() {
    let mut config = tiny_config();
    let weights = tiny_weights(&config, DType::F32);
    let whole = logits_of(write_weights(&config, &weights).path()).unwrap();
    let (first, second) = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors");
    let is_second = |name: &str| ["lm_head.weight", "model.norm.weight"].contains(&name);
    config.as_object_mut().unwrap().remove("tie_word_embeddings");
    for missing in ["model.norm.weight", "lm_head.weight"] {
        let folder = write_weights(&config, &HashMap::new());
        std::fs::remove_file(folder.path().join("model.safetensors")).unwrap();
        let part = |wanted: bool| -> HashMap<String, Tensor> {
            let own = weights.iter().filter(|(name, _)| is_second(name) == wanted);
            own.map(|(name, tensor)| (name.clone(), tensor.clone())).collect()
        };
        let map: HashMap<&String, &str> =
            weights.keys().map(|name| (name, if is_second(name) { second } else { first })).collect();
        let index = json!({"metadata": {"total_size": 1}, "weight_map": map});
        std::fs::write(folder.path().join("model.safetensors.index.json"), index.to_string()).unwrap();
        candle_core::safetensors::save(&part(false), folder.path().join(first)).unwrap();
        candle_core::safetensors::save(&part(true), folder.path().join(second)).unwrap();
        assert_eq!(logits_of(folder.path()).unwrap(), whole);
        std::fs::remove_file(folder.path().join(second)).unwrap();
        if missing == "lm_head.weight" {
            // As if the last norm stood elsewhere: only the output is missing, and nothing says that it must be there.
            let norm = weights.iter().filter(|(name, _)| *name == "model.norm.weight");
            let norm: HashMap<String, Tensor> = norm.map(|(name, tensor)| (name.clone(), tensor.clone())).collect();
            candle_core::safetensors::save(&norm, folder.path().join("norm.safetensors")).unwrap();
        }
        let error = logits_of(folder.path()).unwrap_err();
        assert!(error.contains(&format!("`{second}`")) && error.contains(&format!("`{missing}`")), "{error}");
    }
}
