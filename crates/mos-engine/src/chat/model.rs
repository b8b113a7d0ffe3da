//! The model that programs talk to.

use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Instant;

use async_trait::async_trait;
use futures::StreamExt;
use mos_core::{ChatEvent, ChatModel, ChatRequest, ChatStream, Clock, Message, ModelError, Sampling};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use super::generation::{Job, check_sampling};
use super::kept::common_prefix;
use super::options::ChatModelOptions;
use super::worker::Worker;
use crate::cpu::CpuPath;
use crate::decoder::{CancelToken, Decoder};
use crate::device::ComputeDevice;
use crate::error::{bad_model, internal};
use crate::identity::ModelIdentity;
use crate::kv::KvPrefix;
use crate::text::{ChatTemplate, PromptText, TextCodec};
use crate::weights;

/// What a loaded model consists of.
pub(crate) struct Engine {
    pub(crate) decoder: Decoder,
    pub(crate) codec: TextCodec,
    template: Option<ChatTemplate>,
    path: PathBuf,
    name: Option<String>,
}

/// A conversation, ready to be asked.
struct Prompt {
    text: PromptText,
    tokens: Vec<u32>,
    /// How many of the tokens belong to the stable base.
    stable_tokens: usize,
    prefix: Option<KvPrefix>,
    no_cache: bool,
    cache_scope: String,
}

/// A loaded model and its worker.
struct Loaded {
    engine: Arc<Engine>,
    worker: Worker,
}

/// Models that are in use, by canonical path and device. Held while loading, so that nothing is loaded twice.
static LOADED: Mutex<Option<LoadedModels>> = Mutex::new(None);

type LoadedModels = HashMap<(PathBuf, ComputeDevice), Weak<Loaded>>;

/// A chat model that runs in this process.
pub struct LocalChatModel {
    loaded: Arc<Loaded>,
    name: String,
    identity: ModelIdentity,
    sampling: Sampling,
    context_length: usize,
    clock: Arc<dyn Clock>,
}

impl fmt::Debug for LocalChatModel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalChatModel")
            .field("name", &self.name)
            .field("context_length", &self.context_length)
            .field("decoder", &self.loaded.engine.decoder)
            .finish_non_exhaustive()
    }
}

impl LocalChatModel {
    /// Loads a model; blocks meanwhile.
    ///
    /// A model that is in use on the same device in this process already is shared: weights, worker and kept state,
    /// with the threads and the bound of kept state that it was opened with first.
    ///
    /// # Errors
    /// [`ModelError::NotFound`] when nothing is at the path; [`ModelError::BadModel`], naming the file and the remedy,
    /// when it is truncated, of another architecture, or lacks its tokenizer; [`ModelError::Invalid`] when the
    /// options make no sense; what [`Decoder::moved_to`] returns when it cannot compute on the device.
    pub fn open(options: &ChatModelOptions) -> Result<Arc<Self>, ModelError> {
        check_sampling(&options.sampling)?;
        if options.threads == Some(0) || options.context_length == Some(0) {
            return Err(ModelError::Invalid("threads and context_length must be at least 1".to_owned()));
        }
        let loaded = open_shared(options)?;
        let spec_context = loaded.engine.decoder.spec().context_length;
        let file_name = || {
            let stem = if options.path.is_dir() { options.path.file_name() } else { options.path.file_stem() };
            stem.map(|stem| stem.to_string_lossy().into_owned())
        };
        let name = options.name.clone().or_else(file_name).or_else(|| loaded.engine.name.clone());
        let name = name.unwrap_or_else(|| "local".to_owned());
        let Engine { decoder, codec, template, .. } = &*loaded.engine;
        let identity = ModelIdentity {
            weights: decoder.fingerprint(),
            tokenizer: codec.hash(),
            template: template.as_ref().map_or_else(|| codec.words_hash(), ChatTemplate::hash),
            rope_layout: decoder.spec().rope_layout,
            name: name.clone(),
        };
        Ok(Arc::new(Self {
            name,
            identity,
            sampling: options.sampling.clone(),
            context_length: options.context_length.map_or(spec_context, |limit| limit.min(spec_context)),
            clock: Arc::clone(&options.clock),
            loaded,
        }))
    }

    /// Returns the decoder, for callers that manage caches themselves.
    pub fn decoder(&self) -> &Decoder {
        &self.loaded.engine.decoder
    }

    /// Returns the tokens of a text as it stands: control tokens spelled out in it are recognised, none is added.
    ///
    /// # Errors
    /// [`ModelError::Internal`] when the tokenizer fails.
    pub fn tokenize(&self, text: &str) -> Result<Vec<u32>, ModelError> {
        self.loaded.engine.codec.encode(text)
    }

    /// Returns the text of tokens, control tokens included.
    ///
    /// # Errors
    /// [`ModelError::Internal`] when the tokenizer fails.
    pub fn detokenize(&self, tokens: &[u32]) -> Result<String, ModelError> {
        self.loaded.engine.codec.decode(tokens, true)
    }

    /// Returns the text of a conversation in the model's own format; with `ask`, up to where the answer begins.
    ///
    /// # Errors
    /// [`ModelError::BadModel`] when the model has no chat template, [`ModelError::Invalid`] when the template does
    /// not accept the conversation.
    pub fn render(&self, messages: &[Message], ask: bool) -> Result<String, ModelError> {
        self.loaded.engine.render(messages, ask, &*self.clock).map(PromptText::into_text)
    }

    /// Returns the tokens of a conversation as the model gets them; with `ask`, up to where the answer begins. Control
    /// tokens spelled out in a message stay text, which [`LocalChatModel::tokenize`] cannot know of a rendered text.
    ///
    /// # Errors
    /// As [`LocalChatModel::render`] and [`LocalChatModel::tokenize`].
    pub fn prompt_tokens(&self, messages: &[Message], ask: bool) -> Result<Vec<u32>, ModelError> {
        let engine = &self.loaded.engine;
        engine.codec.encode_prompt(&engine.render(messages, ask, &*self.clock)?)
    }

    /// Returns the tokens of `messages` as they follow `before`, up to where the answer begins; all tokens of
    /// `messages` alone when the template shows `before` differently once something follows.
    ///
    /// # Errors
    /// As [`LocalChatModel::prompt_tokens`].
    pub fn turn_tokens(&self, before: &[Message], messages: &[Message]) -> Result<Vec<u32>, ModelError> {
        let (engine, clock) = (&self.loaded.engine, &*self.clock);
        if before.is_empty() {
            return self.prompt_tokens(messages, true);
        }
        let whole = engine.render(&[before, messages].concat(), true, clock)?;
        match whole.strip_prefix(&engine.render(before, false, clock)?) {
            Some(turns) => engine.codec.encode_prompt(&turns),
            None => self.prompt_tokens(messages, true),
        }
    }

    /// Returns whether the model has a chat template. One without completes texts, but does not chat.
    pub fn has_template(&self) -> bool {
        self.loaded.engine.template.is_some()
    }

    /// Returns the tokens of a text that no template is laid around: what the model's texts begin with (`<bos>`, for
    /// example), if anything, then the words. Control tokens spelled out in them stay words.
    ///
    /// # Errors
    /// [`ModelError::Internal`] when the tokenizer fails.
    pub fn text_tokens(&self, words: &str) -> Result<Vec<u32>, ModelError> {
        self.loaded.engine.codec.encode_words(words)
    }

    /// Returns what caches that this model computes belong to.
    pub fn identity(&self) -> &ModelIdentity {
        &self.identity
    }

    /// Starts an answer to `tokens` that stand after `prefix`, which is used as it is and never changed.
    ///
    /// Nothing is rendered: `tokens` hold all that the model sees after the prefix, up to where its answer begins.
    /// `usage.prompt_tokens` counts the prefix too, `usage.cached_tokens` all that was not computed. After an exact
    /// prefix the answer is, token for token, that of the same tokens without a cache, and its state is kept for
    /// later conversations of the same `cache_scope`; after any other nothing is kept. A prefix that came from
    /// elsewhere (a file, for example) must not share its scope with conversations that do not trust its maker.
    /// Dropping the stream cancels.
    ///
    /// # Errors
    /// [`ModelError::Invalid`] when there are no tokens, the settings make no sense, or the prefix belongs to another
    /// model; [`ModelError::TooLong`] when prefix and tokens leave no room for an answer; [`ModelError::Unavailable`]
    /// when too many conversations wait. Errors after the start come in the stream.
    pub async fn continue_from(
        &self,
        prefix: KvPrefix,
        tokens: Vec<u32>,
        sampling: Option<Sampling>,
        cache_scope: String,
    ) -> Result<ChatStream, ModelError> {
        let asked = Instant::now();
        let sampling = sampling.unwrap_or_else(|| self.sampling.clone());
        check_sampling(&sampling)?;
        if tokens.is_empty() {
            return Err(ModelError::Invalid(
                "nothing follows the cached prefix; give at least one token to answer".to_owned(),
            ));
        }
        self.decoder().check_owner(&prefix)?;
        let all: Vec<u32> = prefix.tokens().chain(tokens).collect();
        let text = PromptText::default();
        let prompt = Prompt { text, tokens: all, stable_tokens: 0, prefix: Some(prefix), no_cache: false, cache_scope };
        self.submit(prompt, sampling, asked)
    }

    fn submit(&self, prompt: Prompt, sampling: Sampling, asked: Instant) -> Result<ChatStream, ModelError> {
        let Prompt { text, tokens, stable_tokens, prefix, no_cache, cache_scope } = prompt;
        if tokens.len() >= self.context_length {
            // One token of the context is left for the answer.
            return Err(ModelError::TooLong { n_tokens: tokens.len(), limit: self.context_length - 1 });
        }
        let (events, received) = unbounded_channel();
        let cancel = CancelToken::default();
        self.loaded.worker.submit(Job {
            text,
            tokens,
            prefix,
            stable_tokens,
            sampling,
            context_length: self.context_length,
            no_cache,
            cache_scope,
            asked,
            events,
            cancel: cancel.clone(),
        })?;
        // The answer keeps its model: the worker must not end while somebody listens.
        Ok(answer(received, CancelOnDrop(cancel), Arc::clone(&self.loaded)))
    }

    /// Returns whether two models share their weights.
    pub fn shares_weights_with(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.loaded, &other.loaded)
    }
}

fn open_shared(options: &ChatModelOptions) -> Result<Arc<Loaded>, ModelError> {
    let path = options.path.canonicalize().map_err(|error| weights::missing(&options.path, &error))?;
    let device = options.device.resolve();
    device.check()?;
    let mut guard = LOADED.lock().unwrap_or_else(PoisonError::into_inner);
    let models = guard.get_or_insert_default();
    models.retain(|_, model| model.strong_count() > 0);
    if let Some(loaded) = models.get(&(path.clone(), device)).and_then(Weak::upgrade) {
        return Ok(loaded);
    }
    let threads = options.threads.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from));
    let engine = Arc::new(Engine::load(&path, threads, device)?);
    let worker = Worker::start(Arc::clone(&engine), options.kept_state_bytes)?;
    let loaded = Arc::new(Loaded { engine, worker });
    models.insert((path, device), Arc::downgrade(&loaded));
    Ok(loaded)
}

impl Engine {
    fn load(path: &Path, threads: usize, device: ComputeDevice) -> Result<Self, ModelError> {
        let loaded = weights::load(path)?;
        Ok(Self {
            decoder: Decoder::new(loaded.weights, threads, CpuPath::best())?.moved_to(device)?,
            codec: loaded.codec,
            template: loaded.template,
            path: path.to_owned(),
            name: loaded.name,
        })
    }

    fn render(&self, messages: &[Message], ask: bool, clock: &dyn Clock) -> Result<PromptText, ModelError> {
        let template = self.template.as_ref().ok_or_else(|| {
            bad_model(
                &self.path,
                "the model has no chat template; use an instruction-tuned model, or put a chat_template.jinja into a \
                 directory model",
            )
        })?;
        template.render(messages, ask, clock.now(), self.codec.controls())
    }

    /// Renders and tokenises; returns text, tokens, and how many tokens the stable base has.
    fn prepare(&self, request: &ChatRequest, clock: &dyn Clock) -> Result<(PromptText, Vec<u32>, usize), ModelError> {
        let text = self.render(&request.messages, true, clock)?;
        let tokens = self.codec.encode_prompt(&text)?;
        let stable = &request.messages[..request.stable_messages.min(request.messages.len())];
        if stable.is_empty() || request.no_cache {
            return Ok((text, tokens, 0));
        }
        // Some templates refuse a conversation without a question. Then nothing is known to be stable, and the
        // sessions' own states still serve.
        let stable_tokens = match self.render(stable, false, clock) {
            Ok(base) => common_prefix(&self.codec.encode_prompt(&base)?, &tokens),
            Err(error) => {
                tracing::debug!(%error, "the stable messages cannot be rendered alone");
                0
            }
        };
        Ok((text, tokens, stable_tokens))
    }
}

#[async_trait]
impl ChatModel for LocalChatModel {
    fn name(&self) -> &str {
        &self.name
    }

    fn is_local(&self) -> bool {
        true
    }

    fn context_length(&self) -> Option<usize> {
        Some(self.context_length)
    }

    async fn stream(&self, request: ChatRequest) -> Result<ChatStream, ModelError> {
        let asked = Instant::now();
        if request.prefix.is_some() {
            return Err(ModelError::Invalid(
                "no activation memory is attached to this model; ask without a prefix".to_owned(),
            ));
        }
        if request.messages.is_empty() {
            return Err(ModelError::Invalid("the conversation is empty; give at least one message".to_owned()));
        }
        let sampling = request.sampling.clone().unwrap_or_else(|| self.sampling.clone());
        check_sampling(&sampling)?;
        let (engine, clock) = (Arc::clone(&self.loaded.engine), Arc::clone(&self.clock));
        let (no_cache, cache_scope) = (request.no_cache, request.cache_scope.clone());
        let prepared = tokio::task::spawn_blocking(move || engine.prepare(&request, &*clock));
        let (text, tokens, stable_tokens) =
            prepared.await.map_err(|error| internal("preparing a conversation", error))??;
        if tokens.is_empty() {
            return Err(ModelError::Invalid("the conversation has no text; say something".to_owned()));
        }
        self.submit(Prompt { text, tokens, stable_tokens, prefix: None, no_cache, cache_scope }, sampling, asked)
    }
}

struct CancelOnDrop(CancelToken);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

/// Events up to the end or the first error; an answer that breaks off without either is an error.
fn answer(
    received: UnboundedReceiver<Result<ChatEvent, ModelError>>,
    cancel: CancelOnDrop,
    loaded: Arc<Loaded>,
) -> ChatStream {
    futures::stream::unfold(Some((received, cancel, loaded)), |state| async move {
        let (mut received, cancel, loaded) = state?;
        let event = received
            .recv()
            .await
            .unwrap_or_else(|| Err(internal("waiting for an answer", "the worker dropped it; ask again")));
        let more = matches!(event, Ok(ChatEvent::Text(_)));
        Some((event, more.then_some((received, cancel, loaded))))
    })
    .boxed()
}
