//! Answers after a prefix that the caller computed.

use std::sync::Arc;

use futures::StreamExt;
use mos_core::{ChatEvent, ChatStream, ChatUsage, Message, ModelError, Sampling};
use mos_engine::{ChatModelOptions, KvPart, KvPrefix, LocalChatModel};

use crate::segments::{contents, segment};
use crate::support::{argmax, smol, smol_path};

fn sampling(max_tokens: usize) -> Option<Sampling> {
    Some(Sampling { max_tokens, temperature: 0.0, ..Sampling::default() })
}

async fn collect(mut stream: ChatStream) -> (String, ChatUsage) {
    let mut text = String::new();
    while let Some(event) = stream.next().await {
        match event.unwrap() {
            ChatEvent::Text(more) => text.push_str(&more),
            ChatEvent::Done(usage) => return (text, usage),
        }
    }
    panic!("the answer broke off");
}

async fn ask(model: &LocalChatModel, prefix: &KvPrefix, tokens: &[u32]) -> (String, ChatUsage) {
    collect(model.continue_from(prefix.clone(), tokens.to_vec(), sampling(24), String::new()).await.unwrap()).await
}

/// Greedy answer of the decoder alone.
fn by_hand(model: &LocalChatModel, prefix: &KvPrefix, tokens: &[u32], count: usize) -> Vec<u32> {
    let (decoder, mut tail) = (model.decoder(), model.decoder().new_tail());
    let (mut input, mut answer) = (tokens.to_vec(), Vec::new());
    for _ in 0..count {
        let (want, cancel) = (mos_engine::LogitRows::Last, mos_engine::CancelToken::default());
        let logits = decoder.forward(&input, prefix, &mut tail, want, &cancel).unwrap();
        input = vec![argmax(&logits)];
        answer.extend(&input);
    }
    answer
}

/// A conversation cut into what is cached and what is asked.
fn conversation(model: &LocalChatModel, who: &str, question: &str) -> (Vec<u32>, Vec<u32>) {
    let system = Message::system(format!("You are a helpful assistant. {who} has a dog called Rex and a green car."));
    let base = model.render(std::slice::from_ref(&system), false).unwrap();
    let all = model.render(&[system, Message::user(question)], true).unwrap();
    (model.tokenize(&base).unwrap(), model.tokenize(all.strip_prefix(&base).unwrap()).unwrap())
}

#[tokio::test]
async fn an_exact_prefix_never_shows_in_the_answer() {
    let model = smol();
    let (base, rest) = conversation(&model, "Cleo", "What is the dog called?");
    let cached = segment(model.decoder(), &base, &KvPrefix::default());
    let before = contents(&cached);
    let mut prefix = KvPrefix::default();
    prefix.push(Arc::clone(&cached));
    let all = [base.as_slice(), &rest].concat();
    let expected = by_hand(&model, &KvPrefix::default(), &all, 24);
    let end = model.tokenize("<|im_end|>").unwrap()[0];
    let expected: Vec<u32> = expected.into_iter().take_while(|token| *token != end).collect();
    let expected = model.detokenize(&expected).unwrap();
    let (first, usage) = ask(&model, &prefix, &rest).await;
    assert_eq!(first, expected);
    assert_eq!((usage.prompt_tokens, usage.cached_tokens), (all.len(), base.len()));
    // The state was kept: only the last token is computed again.
    let (again, usage) = ask(&model, &prefix, &rest).await;
    assert_eq!((again, usage.cached_tokens), (expected.clone(), all.len() - 1));
    // Without a prefix the same tokens give the same answer.
    let (plain, usage) = ask(&model, &KvPrefix::default(), &all).await;
    assert_eq!((plain, usage.prompt_tokens), (expected, all.len()));
    // A prefix cut inside of a panel.
    let (cut, usage) = ask(&model, &prefix.truncated(base.len() - 5), &all[base.len() - 5..]).await;
    assert_eq!((cut, usage.prompt_tokens), (first, all.len()));
    assert_eq!(contents(&cached), before);
}

#[tokio::test]
async fn the_state_after_an_inexact_prefix_is_never_kept() {
    // Kept states are per loaded model: a copy of the file is another one.
    let folder = tempfile::TempDir::new().unwrap();
    let path = folder.path().join("copy.gguf");
    std::fs::copy(smol_path(), &path).unwrap();
    let model = LocalChatModel::open(&ChatModelOptions::new(&path)).unwrap();
    let decoder = model.decoder();
    let (base, rest) = conversation(&model, "Dora", "What colour is the car?");
    let system = segment(decoder, &base[..base.len() / 2], &KvPrefix::default());
    let memory = segment(decoder, &base[base.len() / 2..], &KvPrefix::default());
    let mut merged = KvPrefix::default();
    merged.push(Arc::clone(&system));
    let place = merged.len();
    merged.push_part(KvPart::whole(Arc::clone(&memory)).at(place)).unwrap();
    let before = (contents(&system), contents(&memory));
    let all = [base.as_slice(), &rest].concat();
    let expected = model.detokenize(&by_hand(&model, &merged, &rest, 5)).unwrap();
    for _ in 0..2 {
        let (answer, usage) = ask(&model, &merged, &rest).await;
        assert!(answer.starts_with(&expected), "{answer:?} does not start with {expected:?}");
        assert_eq!((usage.prompt_tokens, usage.cached_tokens), (all.len(), base.len()));
    }
    // The same tokens without a prefix are computed from the first one on.
    let (_, usage) = ask(&model, &KvPrefix::default(), &all).await;
    assert_eq!(usage.cached_tokens, 0);
    assert_eq!((contents(&system), contents(&memory)), before);
}

#[tokio::test]
async fn what_cannot_go_on_is_refused() {
    let model = smol();
    let limited = ChatModelOptions { context_length: Some(64), ..ChatModelOptions::new(smol_path()) };
    let short = LocalChatModel::open(&limited).unwrap();
    let mut prefix = KvPrefix::default();
    prefix.push(segment(model.decoder(), &[5; 40], &KvPrefix::default()));
    let refused = |model: Arc<LocalChatModel>, prefix: KvPrefix, tokens: Vec<u32>| async move {
        model.continue_from(prefix, tokens, sampling(5), String::new()).await.map(drop).unwrap_err()
    };
    let error = refused(Arc::clone(&short), prefix.clone(), vec![6; 24]).await;
    assert!(matches!(error, ModelError::TooLong { n_tokens: 64, limit: 63 }), "{error}");
    let error = refused(Arc::clone(&model), prefix.clone(), vec![]).await;
    assert!(matches!(&error, ModelError::Invalid(text) if text.contains("at least one")), "{error}");
    let (_folder, other) = crate::segments::open_tiny();
    let error = refused(other, prefix, vec![6]).await;
    assert!(matches!(&error, ModelError::Invalid(text) if text.contains("another model")), "{error}");
    let odd = Sampling { top_p: 0.0, ..Sampling::default() };
    let error =
        model.continue_from(KvPrefix::default(), vec![6], Some(odd), String::new()).await.map(drop).unwrap_err();
    assert!(error.to_string().contains("top_p"), "{error}");
}

#[tokio::test]
async fn models_know_what_their_caches_belong_to() {
    let model = smol();
    let identity = model.identity();
    assert_eq!(identity.weights, model.decoder().fingerprint());
    assert!(identity.tokenizer != [0; 32] && identity.template != [0; 32]);
    let (_folder, tiny) = crate::segments::open_tiny();
    assert!(!tiny.identity().matches(identity));
    assert!(!tiny.has_template() && tiny.identity().template != [0; 32], "what its texts begin with counts instead");
    // Another tokenizer beside the same weights is another model to caches.
    let (folder, config) = (crate::support::write_tiny, crate::oracle::deep_config());
    let folder = folder(&config, candle_core::DType::F32);
    let same = LocalChatModel::open(&ChatModelOptions::new(folder.path())).unwrap().identity().clone();
    assert!(same.matches(tiny.identity()) && same.name != tiny.identity().name);
    let changed = crate::support::tiny_tokenizer().to_string().replace("w47", "w99");
    std::fs::write(folder.path().join("tokenizer.json"), changed).unwrap();
    let other = LocalChatModel::open(&ChatModelOptions::new(folder.path())).unwrap();
    assert!(!other.identity().matches(&same) && other.identity().weights == same.weights);
    let text = serde_json::to_string(identity).unwrap();
    assert_eq!(serde_json::from_str::<mos_engine::ModelIdentity>(&text).unwrap(), *identity);
}
