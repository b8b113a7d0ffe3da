//! Conversations that a model reads, with real stores and a scripted model behind real HTTP.
#![allow(clippy::unwrap_used, reason = "a test that panics has failed, which is what it is for")]

mod dev_file;
mod extraction;
mod fine;
mod scripted;

use mos::Settings;
use mos::config::Setting;
use mos_eval::locomo::Conversation;
use mos_testkit::model_server::ModelServer;
use serde_json::{Value, json};

/// Settings with a chat model at one server and an encoder at another.
fn settings(model: &ModelServer, encoder: &ModelServer) -> Settings {
    let mut settings = settings_of(model);
    settings["embedder"] =
        json!({"backend": "ollama", "config": {"model_name_or_path": "words", "api_base": encoder.base_url()}});
    Settings::from_json(&settings).unwrap()
}

/// The settings of a chat model at a server that is asked once per question.
fn settings_of(model: &ModelServer) -> Value {
    json!({"chat_model": {"backend": "openai", "config": {
        "model_name_or_path": "scripted", "api_key": "sk-test", "api_base": model.openai_url(), "max_retries": 0}}})
}

fn conversations(value: Value) -> Vec<Conversation> {
    mos_eval::locomo::parse(value).unwrap()
}

fn turn(id: &str, speaker: &str, text: &str) -> Value {
    json!({"dia_id": id, "speaker": speaker, "text": text})
}
