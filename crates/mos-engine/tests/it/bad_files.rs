//! Files that cannot be used say why and what to do.

use std::path::Path;

use candle_core::quantized::gguf_file::{Content, Value, write};
use candle_core::quantized::{GgmlDType, QTensor};
use candle_core::{DType, Device, Tensor};
use mos_core::{ChatModel, ChatRequest, Message, ModelError};
use mos_engine::{ChatModelOptions, LocalChatModel, gguf_summary};
use serde_json::json;
use tempfile::TempDir;

use crate::support::{smol_path, tiny_config, write_tiny};

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
