//! The language models that read conversations: for memories, for preferences, and to compare them; and what cubes hold of
//! files that are read again.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use mos_config::reader::CommonReader;
use mos_config::{ChatModelConfig, MemReaderConfig, Setting};
use mos_core::ChatModel;
use serde_json::Value;

use crate::factories::{Factories, ModelContext};
use crate::held_files::HeldFiles;
use crate::lazy::{Lazy, LazyChatModel};

/// How many models of cubes' own configurations are kept; the one that came first goes.
const MAX_KEPT: usize = 16;

/// The model of the settings, and those of cubes that name their own. Each is opened at its first use.
pub(crate) struct ReadingModels {
    factories: Factories,
    context: ModelContext,
    of_settings: Arc<dyn ChatModel>,
    of_cubes: Mutex<Vec<(Value, Arc<dyn ChatModel>)>>,
    /// Which memories of cubes are of which files.
    pub(crate) files: HeldFiles,
}

impl fmt::Debug for ReadingModels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReadingModels").field("of_settings", &self.of_settings).finish_non_exhaustive()
    }
}

impl ReadingModels {
    /// Returns models over the chat model of the settings, or over one that was given instead.
    pub(crate) fn new(
        config: &ChatModelConfig,
        model: Arc<Lazy<dyn ChatModel>>,
        given: Option<Arc<dyn ChatModel>>,
        factories: Factories,
        context: ModelContext,
    ) -> Self {
        let of_settings = given.unwrap_or_else(|| Arc::new(lazy(config, model)));
        Self { factories, context, of_settings, of_cubes: Mutex::default(), files: HeldFiles::default() }
    }

    /// Returns the model that one of a cube's memories (`text_mem`, `pref_mem`) names as `extractor_llm`, else that of the
    /// settings.
    ///
    /// Configurations of cubes are kept without secrets: a model that needs a key is reached through the settings.
    pub(crate) fn of(&self, cube_config: &Value, slot: &str) -> Arc<dyn ChatModel> {
        self.named(cube_config, slot).unwrap_or_else(|| self.of_settings())
    }

    /// Returns the model of the settings.
    pub(crate) fn of_settings(&self) -> Arc<dyn ChatModel> {
        Arc::clone(&self.of_settings)
    }

    /// Returns the model that plans searches of a cube: its `dispatcher_llm`, else the model that reads for it.
    pub(crate) fn of_searches(&self, cube_config: &Value) -> Arc<dyn ChatModel> {
        let own = self.at(cube_config, "/text_mem/config/dispatcher_llm");
        own.unwrap_or_else(|| self.of(cube_config, "text_mem"))
    }

    /// Returns the model that finds preferences for a cube: the one that its preference memory names, else the
    /// `preference_extractor_llm` of the reader, else that of the settings.
    pub(crate) fn of_preferences(&self, cube_config: &Value, reader: Option<&MemReaderConfig>) -> Arc<dyn ChatModel> {
        let of_reader = || reader.and_then(|reader| common_part(reader).preference_extractor_llm.as_ref());
        let named = self.named(cube_config, "pref_mem").or_else(|| of_reader().map(|config| self.of_config(config)));
        named.unwrap_or_else(|| self.of_settings())
    }

    /// Returns the model that one of a cube's memories names as `extractor_llm`; `None` when it names none that can be used.
    pub(crate) fn named(&self, cube_config: &Value, slot: &str) -> Option<Arc<dyn ChatModel>> {
        self.at(cube_config, &format!("/{slot}/config/extractor_llm"))
    }

    fn at(&self, cube_config: &Value, place: &str) -> Option<Arc<dyn ChatModel>> {
        let named = cube_config.pointer(place).filter(|named| is_whole(named))?;
        let mut kept = self.of_cubes.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, model)) = kept.iter().find(|(config, _)| config == named) {
            return Some(Arc::clone(model));
        }
        match ChatModelConfig::from_json(named) {
            Ok(config) => {
                let model = self.open(config);
                if kept.len() == MAX_KEPT {
                    kept.remove(0);
                }
                kept.push((named.clone(), Arc::clone(&model)));
                Some(model)
            }
            Err(error) => {
                tracing::warn!(%error, "a cube's own model cannot be used; the chat model of the settings takes its place");
                None
            }
        }
    }

    /// Returns the model of a part of the settings, the same one each time.
    pub(crate) fn of_config(&self, config: &ChatModelConfig) -> Arc<dyn ChatModel> {
        let named = config.to_json(mos_config::Secrets::Plain);
        let mut kept = self.of_cubes.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, model)) = kept.iter().find(|(known, _)| *known == named) {
            return Arc::clone(model);
        }
        let model = self.open(config.clone());
        if kept.len() == MAX_KEPT {
            kept.remove(0);
        }
        kept.push((named, Arc::clone(&model)));
        model
    }

    fn open(&self, config: ChatModelConfig) -> Arc<dyn ChatModel> {
        let (factories, context, opened) = (self.factories.clone(), self.context.clone(), config.clone());
        let model: Lazy<dyn ChatModel> = Lazy::new(Arc::new(move || {
            let (factories, context, config) = (factories.clone(), context.clone(), opened.clone());
            Box::pin(async move { factories.chat_model(config, context).await })
        }));
        Arc::new(lazy(&config, Arc::new(model)))
    }
}

/// What every reader is configured with.
pub(crate) fn common_part(config: &MemReaderConfig) -> &CommonReader {
    match config {
        MemReaderConfig::Simple(reader) => &reader.common,
        MemReaderConfig::MultiModal(reader) => &reader.common,
        MemReaderConfig::Strategy(reader) => &reader.common,
    }
}

fn lazy(config: &ChatModelConfig, model: Arc<Lazy<dyn ChatModel>>) -> LazyChatModel {
    let written = config.to_json(mos_config::Secrets::Omitted);
    let name = written.pointer("/config/model_name_or_path").and_then(Value::as_str).unwrap_or_default().to_owned();
    let is_local = ["local", "huggingface", "huggingface_singleton"].contains(&config.backend());
    LazyChatModel { model, name, is_local }
}

/// Whether nothing that the model cannot do without was left out when the configuration was stored. A vLLM server needs no
/// key.
fn is_whole(named: &Value) -> bool {
    let lacks_key = named.pointer("/config/api_key").and_then(Value::as_str) == Some("");
    named.is_object() && (!lacks_key || named["backend"] == "vllm")
}

#[cfg(test)]
mod tests {
    use super::*;
    use mos_config::Settings;
    use mos_core::ModelError;
    use serde_json::json;

    fn models() -> ReadingModels {
        let unused: Lazy<dyn ChatModel> =
            Lazy::new(Arc::new(|| Box::pin(async { Err(ModelError::NotFound("never opened".to_owned())) })));
        let context = ModelContext { models_dir: std::path::PathBuf::new() };
        ReadingModels::new(&Settings::default().chat_model, Arc::new(unused), None, Factories::default(), context)
    }

    fn cube(extractor: Value) -> Value {
        json!({"text_mem": {"backend": "general_text", "config": {"extractor_llm": extractor}}})
    }

    #[test]
    fn a_cubes_own_model_is_taken_unless_its_key_was_left_out() {
        let models = models();
        let name = |config: &Value| models.of(config, "text_mem").name().to_owned();
        let of_settings = "smollm2-135m-instruct";
        assert_eq!(name(&json!({"text_mem": {"backend": "general_text", "config": {}}})), of_settings);
        let ollama = json!({"backend": "ollama", "config": {"model_name_or_path": "qwen3:0.6b"}});
        assert_eq!(name(&cube(ollama.clone())), "qwen3:0.6b");
        assert_eq!(models.of(&cube(ollama), "pref_mem").name(), of_settings, "another memory's model is not meant");
        let openai = |key: &str| json!({"backend": "openai", "config": {"model_name_or_path": "gpt", "api_key": key}});
        assert_eq!(name(&cube(openai(""))), of_settings);
        assert_eq!(name(&cube(openai("sk-x"))), "gpt");
        assert_eq!(name(&cube(json!({"backend": "no such"}))), of_settings);
    }

    #[test]
    fn searches_are_planned_by_the_model_for_that_else_by_the_one_that_reads() {
        let models = models();
        let named = |name: &str| json!({"backend": "ollama", "config": {"model_name_or_path": name}});
        let config = |dispatcher: Value| json!({"text_mem": {"config": {"extractor_llm": named("reader"), "dispatcher_llm": dispatcher}}});
        assert_eq!(models.of_searches(&config(named("planner"))).name(), "planner");
        assert_eq!(models.of_searches(&config(Value::Null)).name(), "reader");
        assert_eq!(models.of(&config(named("planner")), "text_mem").name(), "reader");
        assert_eq!(models.of_searches(&json!({})).name(), "smollm2-135m-instruct");
    }

    #[test]
    fn preferences_are_found_by_the_model_for_that() {
        let models = models();
        let named = |name: &str| json!({"backend": "ollama", "config": {"model_name_or_path": name}});
        let reader = json!({"backend": "simple_struct", "config": {"llm": named("reader"), "embedder": named("e"),
            "chunker": {"backend": "sentence", "config": {}}, "preference_extractor_llm": named("taste")}});
        let reader = MemReaderConfig::from_json(&reader).unwrap();
        let of = |config: &Value, reader| models.of_preferences(config, reader).name().to_owned();
        let own = json!({"pref_mem": {"config": {"extractor_llm": named("own")}}});
        assert_eq!(of(&own, Some(&reader)), "own");
        assert_eq!(of(&json!({}), Some(&reader)), "taste");
        assert_eq!(of(&json!({}), None), "smollm2-135m-instruct");
    }

    #[test]
    fn models_are_kept_and_their_number_is_bounded() {
        let models = models();
        let config = |n: usize| cube(json!({"backend": "ollama", "config": {"model_name_or_path": format!("m{n}")}}));
        let first = models.of(&config(0), "text_mem");
        assert!(Arc::ptr_eq(&first, &models.of(&config(0), "text_mem")));
        (1..=MAX_KEPT).for_each(|n| drop(models.of(&config(n), "text_mem")));
        assert!(!Arc::ptr_eq(&first, &models.of(&config(0), "text_mem")));
    }
}
