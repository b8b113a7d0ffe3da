//! What takes part in searches beside recall: rerankers and internet retrievers, of cubes and of the settings. Each is opened
//! at its first use; what cannot be opened is a note of the search, which keeps the order of recall and brings no pages.

use std::fmt;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use async_trait::async_trait;
use mos_config::{InternetRetrieverConfig, RerankerConfig, Setting, Settings};
use mos_core::{
    ChatModel, Clock, Embedder, IdSource, InternetRetriever, MemoryError, MemoryItem, ModelError, Ranked, Ranking,
    RerankCandidate, RerankQuery, Reranker, WebPage,
};
use mos_memory::retrieve::Retrieval;
use mos_memory::{PageCheck, WebSearch};
use serde_json::Value;

use crate::factories::{Factories, ModelContext, RerankerParts};
use crate::lazy::Lazy;

/// How many rerankers, and how many retrievers, of cubes' own configurations are kept; the one that came first goes.
const MAX_KEPT: usize = 16;

/// What rerankers and retrievers are made with.
#[derive(Clone)]
pub(crate) struct Making {
    pub(crate) factories: Factories,
    pub(crate) context: ModelContext,
    pub(crate) embedder: Arc<dyn Embedder>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) ids: Arc<dyn IdSource>,
}

/// The rerankers and retrievers of the settings, and those of cubes that name their own.
pub(crate) struct Retrieving {
    making: Making,
    reranker: Option<(&'static str, Arc<dyn Reranker>)>,
    retriever: Option<(&'static str, Arc<dyn InternetRetriever>)>,
    rerankers: Kept<dyn Reranker>,
    retrievers: Kept<dyn InternetRetriever>,
    /// Looks at pages, unless the settings say otherwise.
    check: Option<Arc<dyn PageCheck>>,
}

/// Keeps pages apart that read like instructions to a model.
#[derive(Debug)]
struct Quarantine;

#[async_trait]
impl PageCheck for Quarantine {
    async fn checked(&self, mut pages: Vec<MemoryItem>) -> Result<Vec<MemoryItem>, MemoryError> {
        mos_reader::keep_all_apart(&mut pages).await?;
        Ok(pages)
    }
}

impl fmt::Debug for Retrieving {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Retrieving").finish_non_exhaustive()
    }
}

impl Retrieving {
    /// Returns what the settings name, for all cubes.
    pub(crate) fn new(settings: &Settings, making: Making) -> Self {
        let reranker = settings.reranker.clone();
        let retriever = settings.internet_retriever.clone();
        Self {
            reranker: reranker.map(|config| (config.backend(), open_reranker(config, &making))),
            retriever: retriever.map(|config| (config.backend(), open_retriever(config, &making))),
            making,
            rerankers: Kept::default(),
            retrievers: Kept::default(),
            check: settings.reader.quarantine.then(|| Arc::new(Quarantine) as Arc<dyn PageCheck>),
        }
    }

    /// Returns what takes part in searches of a cube's textual memory, whose searches are planned by `model`, and whose
    /// pages are embedded by `embedder`.
    pub(crate) fn of(&self, cube_config: &Value, model: Arc<dyn ChatModel>, embedder: Arc<dyn Embedder>) -> Retrieval {
        let Making { clock, ids, .. } = &self.making;
        let web = self.retriever(cube_config).map(|retriever| WebSearch {
            retriever,
            check: self.check.clone(),
            embedder: Some(embedder),
            clock: Arc::clone(clock),
            ids: Arc::clone(ids),
        });
        let splits = cube_config.pointer("/text_mem/config/search_strategy/cot").and_then(Value::as_bool);
        Retrieval {
            model: Some(model),
            reranker: self.reranker(cube_config, "text_mem"),
            web,
            splits_questions: splits.unwrap_or_default(),
        }
    }

    /// Returns the reranker that one of a cube's memories (`text_mem`, `pref_mem`) names, else that of the settings.
    ///
    /// Configurations of cubes are kept without secrets: where one was left out, a reranker of the settings that has the same
    /// key takes its place.
    pub(crate) fn reranker(&self, cube_config: &Value, slot: &str) -> Option<Arc<dyn Reranker>> {
        let of_settings = self.reranker.as_ref();
        let Some(named) = named(cube_config, &format!("/{slot}/config/reranker")) else {
            return of_settings.map(|(_, reranker)| Arc::clone(reranker));
        };
        if let Some((_, reranker)) = of_settings.filter(|(key, _)| lacks_secret(named) && named["backend"] == *key) {
            return Some(Arc::clone(reranker));
        }
        let open = || match RerankerConfig::from_json(named) {
            Ok(config) => open_reranker(config, &self.making),
            Err(error) => broken_reranker(named, error.to_string()),
        };
        Some(self.rerankers.of(named, open))
    }

    /// Returns the internet retriever that a cube's textual memory names, else that of the settings, as for rerankers.
    fn retriever(&self, cube_config: &Value) -> Option<Arc<dyn InternetRetriever>> {
        let of_settings = self.retriever.as_ref();
        let Some(named) = named(cube_config, "/text_mem/config/internet_retriever") else {
            return of_settings.map(|(_, retriever)| Arc::clone(retriever));
        };
        if let Some((_, retriever)) = of_settings.filter(|(key, _)| lacks_secret(named) && named["backend"] == *key) {
            return Some(Arc::clone(retriever));
        }
        let open = || match InternetRetrieverConfig::from_json(named) {
            Ok(_) if lacks_secret(named) => broken_retriever(
                named,
                "its key is not kept with the cube; name the retriever in the settings too (internet_retriever)"
                    .to_owned(),
            ),
            Ok(config) => open_retriever(config, &self.making),
            Err(error) => broken_retriever(named, error.to_string()),
        };
        Some(self.retrievers.of(named, open))
    }
}

/// A backend that stands at a place of a cube's configuration.
fn named<'a>(cube_config: &'a Value, place: &str) -> Option<&'a Value> {
    cube_config.pointer(place).filter(|named| named.get("backend").is_some_and(Value::is_string))
}

/// Whether a key was left out when the configuration was stored.
fn lacks_secret(named: &Value) -> bool {
    ["api_key", "token"].iter().any(|key| named["config"].get(key).and_then(Value::as_str) == Some(""))
}

fn backend(named: &Value) -> String {
    named["backend"].as_str().unwrap_or_default().to_owned()
}

/// Parts by their configurations.
struct Kept<T: ?Sized>(Mutex<Vec<(Value, Arc<T>)>>);

impl<T: ?Sized> Default for Kept<T> {
    fn default() -> Self {
        Self(Mutex::new(Vec::new()))
    }
}

impl<T: ?Sized> Kept<T> {
    fn of(&self, config: &Value, open: impl FnOnce() -> Arc<T>) -> Arc<T> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, part)) = kept.iter().find(|(known, _)| known == config) {
            return Arc::clone(part);
        }
        let part = open();
        if kept.len() == MAX_KEPT {
            kept.remove(0);
        }
        kept.push((config.clone(), Arc::clone(&part)));
        part
    }
}

fn open_reranker(config: RerankerConfig, making: &Making) -> Arc<dyn Reranker> {
    let name = config.backend().to_owned();
    let (factories, context) = (making.factories.clone(), making.context.clone());
    let embedder = Arc::clone(&making.embedder);
    let reranker: Lazy<dyn Reranker> = Lazy::new(Arc::new(move || {
        let (factories, config) = (factories.clone(), config.clone());
        let parts = RerankerParts { context: context.clone(), embedder: Some(Arc::clone(&embedder)) };
        Box::pin(async move { factories.reranker(config, parts).await })
    }));
    Arc::new(LazyReranker { name, reranker })
}

fn broken_reranker(named: &Value, reason: String) -> Arc<dyn Reranker> {
    let reranker: Lazy<dyn Reranker> = Lazy::new(Arc::new(move || {
        let reason = reason.clone();
        Box::pin(async move { Err(ModelError::Invalid(reason)) })
    }));
    Arc::new(LazyReranker { name: backend(named), reranker })
}

fn open_retriever(config: InternetRetrieverConfig, making: &Making) -> Arc<dyn InternetRetriever> {
    let (name, factories) = (config.backend().to_owned(), making.factories.clone());
    let open = move || factories.internet_retriever(config.clone()).map_err(|error| error.to_string());
    Arc::new(LazyRetriever { name, opened: OnceLock::new(), open: Box::new(open) })
}

fn broken_retriever(named: &Value, reason: String) -> Arc<dyn InternetRetriever> {
    let open = move || -> Opened { Err(reason.clone()) };
    Arc::new(LazyRetriever { name: backend(named), opened: OnceLock::new(), open: Box::new(open) })
}

/// A reranker that is opened at its first use. What cannot be opened keeps the order of recall.
#[derive(Debug)]
struct LazyReranker {
    name: String,
    reranker: Lazy<dyn Reranker>,
}

#[async_trait]
impl Reranker for LazyReranker {
    fn name(&self) -> &str {
        &self.name
    }

    async fn rerank(
        &self,
        query: RerankQuery<'_>,
        candidates: &[RerankCandidate<'_>],
        top_k: usize,
    ) -> Result<Vec<Ranked>, ModelError> {
        self.reranker.get().await?.rerank(query, candidates, top_k).await
    }

    async fn order(&self, query: RerankQuery<'_>, candidates: &[RerankCandidate<'_>]) -> Result<Ranking, ModelError> {
        match self.reranker.get().await {
            Ok(reranker) => reranker.order(query, candidates).await,
            Err(error) => {
                tracing::warn!(reranker = self.name.as_str(), %error, "the reranker cannot be opened; the order of recall is kept");
                Ok(Ranking::AsGiven { failure: Some(error.to_string()) })
            }
        }
    }
}

type Opened = Result<Arc<dyn InternetRetriever>, String>;

/// A retriever that is opened at its first use.
struct LazyRetriever {
    name: String,
    opened: OnceLock<Opened>,
    open: Box<dyn Fn() -> Opened + Send + Sync>,
}

impl fmt::Debug for LazyRetriever {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LazyRetriever").field("name", &self.name).finish_non_exhaustive()
    }
}

#[async_trait]
impl InternetRetriever for LazyRetriever {
    fn name(&self) -> &str {
        &self.name
    }

    async fn search(&self, query: &str, limit: usize) -> Result<Vec<WebPage>, ModelError> {
        match self.opened.get_or_init(|| (self.open)()) {
            Ok(retriever) => retriever.search(query, limit).await,
            Err(reason) => {
                Err(ModelError::Invalid(format!("the internet retriever `{}` cannot be used: {reason}", self.name)))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use mos_core::{RandomIds, SystemClock};
    use mos_testkit::chat::ScriptedChat;
    use mos_testkit::embedder::WordEmbedder;
    use serde_json::json;

    use super::*;

    fn retrieving(settings: Value) -> Retrieving {
        let making = Making {
            factories: Factories::default(),
            context: ModelContext { models_dir: std::path::PathBuf::new() },
            embedder: Arc::new(WordEmbedder::new("words", 16)),
            clock: Arc::new(SystemClock),
            ids: Arc::new(RandomIds),
        };
        Retrieving::new(&Settings::from_json(&settings).unwrap(), making)
    }

    fn of(retrieving: &Retrieving, text_mem: Value) -> Retrieval {
        let model: Arc<dyn ChatModel> = Arc::new(ScriptedChat::new(Vec::<String>::new()));
        let embedder = Arc::clone(&retrieving.making.embedder);
        retrieving.of(&json!({"text_mem": {"backend": "tree_text", "config": text_mem}}), model, embedder)
    }

    fn cosine() -> Value {
        json!({"backend": "cosine_local", "config": {}})
    }

    #[test]
    fn a_cube_without_anything_of_its_own_has_what_the_settings_name() {
        let bare = of(&retrieving(json!({})), json!({"reranker": null, "internet_retriever": {"backend": null}}));
        assert!(bare.reranker.is_none() && bare.web.is_none() && bare.model.is_some() && !bare.splits_questions);
        let tavily = json!({"backend": "tavily", "config": {"api_key": "k"}});
        let set = of(&retrieving(json!({"reranker": cosine(), "internet_retriever": tavily})), json!({}));
        assert_eq!(set.reranker.unwrap().name(), "cosine_local");
        assert_eq!(set.web.unwrap().retriever.name(), "tavily");
        assert!(of(&retrieving(json!({})), json!({"search_strategy": {"bm25": true, "cot": true}})).splits_questions);
    }

    #[test]
    fn a_cubes_own_are_kept_and_win_unless_their_key_was_left_out() {
        let bing = |key: &str| json!({"backend": "bing", "config": {"api_key": key}});
        let retrieving = retrieving(json!({"reranker": cosine(), "internet_retriever": bing("of the settings")}));
        let own = json!({"reranker": {"backend": "noop", "config": {}}, "internet_retriever": bing("")});
        let (first, second) = (of(&retrieving, own.clone()), of(&retrieving, own));
        let (first_reranker, second_reranker) = (first.reranker.unwrap(), second.reranker.unwrap());
        assert!(first_reranker.name() == "noop" && Arc::ptr_eq(&first_reranker, &second_reranker));
        let of_settings = &retrieving.retriever.as_ref().unwrap().1;
        assert!(Arc::ptr_eq(&first.web.unwrap().retriever, of_settings));
        let whole = of(&retrieving, json!({"internet_retriever": bing("own")})).web.unwrap().retriever;
        assert!(!Arc::ptr_eq(&whole, of_settings));
    }

    #[tokio::test]
    async fn what_cannot_be_opened_says_why_and_costs_nothing_else() {
        let retrieving = retrieving(json!({}));
        let broken = json!({
            "reranker": {"backend": "cross_encoder", "config": {"model_name_or_path": "no-such-model"}},
            "internet_retriever": {"backend": "bing", "config": {"api_key": ""}},
        });
        let parts = of(&retrieving, broken);
        let candidates = [RerankCandidate::new("a")];
        match parts.reranker.unwrap().order("q".into(), &candidates).await.unwrap() {
            Ranking::AsGiven { failure: Some(failure) } => assert!(failure.contains("no-such-model"), "{failure}"),
            other => panic!("{other:?}"),
        }
        let error = parts.web.unwrap().search("q", 3).await.unwrap_err().to_string();
        assert!(error.contains("`bing`") && error.contains("settings"), "{error}");
        let unknown = of(&retrieving, json!({"reranker": {"backend": "no such"}})).reranker.unwrap();
        let kept = unknown.order("q".into(), &candidates).await.unwrap();
        assert!(matches!(kept, Ranking::AsGiven { failure: Some(_) }), "{kept:?}");
    }
}
