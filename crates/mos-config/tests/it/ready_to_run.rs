//! The files in `configs/` load, and the first one says what the defaults are.

use mos_config::{ChatModelConfig, EmbedderConfig, Settings};

use crate::{environment, repository};

#[test]
fn embedded_is_what_runs_without_settings() {
    let loaded = Settings::load(Some(&repository("configs/embedded.yaml")), []).unwrap();
    assert_eq!(loaded.settings, Settings::default());
    assert!(loaded.warnings.is_empty());
}

#[test]
fn openai_takes_its_key_from_the_environment() {
    let path = repository("configs/openai.yaml");
    assert!(Settings::load(Some(&path), []).unwrap_err().to_string().contains("chat_model.config.api_key: is missing"));
    let settings = Settings::load(Some(&path), environment(&[("OPENAI_API_KEY", "sk-1")])).unwrap().settings;
    let (ChatModelConfig::OpenAi(chat), EmbedderConfig::OpenAi(embedder)) = (settings.chat_model, settings.embedder)
    else {
        panic!("both are remote");
    };
    assert_eq!((chat.api_key.expose(), embedder.api_key.unwrap().expose().len()), ("sk-1", 4));
}

#[test]
fn ollama_needs_no_key() {
    let settings = Settings::load(Some(&repository("configs/ollama.yaml")), []).unwrap().settings;
    assert_eq!((settings.chat_model.backend(), settings.embedder.backend()), ("ollama", "ollama"));
}
