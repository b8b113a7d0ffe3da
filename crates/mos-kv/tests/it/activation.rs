//! Activation memory as scheduler and cubes see it.

use std::sync::Arc;

use mos_core::{ActivationMemory, ChatModel, ChatRequest, CubeId, MemoryError, Message, Sampling, Scope};
use mos_kv::{KvActivation, KvChatOptions};

use crate::support::{options, tiny, words};

fn scope(name: &str) -> Scope {
    Scope::of(&CubeId::new(name))
}

#[tokio::test]
async fn messages_are_computed_once_per_cube_and_named_for_ever() {
    let tiny = tiny(1);
    let activation = KvActivation::open(Arc::clone(&tiny.model), options()).unwrap();
    let (a, b) = (scope("a/../x"), scope("b"));
    let messages = [Message::system("w1 w2"), Message::user("w3")];
    let id = activation.promote(&a, &messages).await.unwrap();
    assert_eq!(activation.promote(&a, &messages).await.unwrap(), id);
    let stats = activation.stats(&a).await.unwrap();
    let tokens = tiny.model.tokenize(&tiny.model.render(&messages, false).unwrap()).unwrap().len();
    assert_eq!((stats.n_items, stats.n_tokens), (1, tokens));
    assert!(stats.n_bytes >= tokens * 2 * 2 * 2 * 16 * 2);
    // Another cube has another name for it, and sees nothing of this one's.
    assert_ne!(activation.promote(&b, &messages).await.unwrap(), id);
    assert!(!activation.delete(&b, &id).await.unwrap());
    assert!(activation.delete(&a, &id).await.unwrap());
    assert!(!activation.delete(&a, &id).await.unwrap());
    assert_eq!(activation.stats(&a).await.unwrap(), mos_core::ActivationStats::default());
    assert_eq!(activation.stats(&b).await.unwrap().n_items, 1);
    assert!(matches!(activation.promote(&a, &[]).await, Err(MemoryError::Invalid(_))));
}

#[tokio::test]
async fn promotions_at_the_same_time_are_one() {
    let tiny = tiny(1);
    let activation = KvActivation::open(Arc::clone(&tiny.model), options()).unwrap();
    let (a, messages) = (scope("a"), [Message::user(words(1, 30))]);
    let (one, two, three) = futures::join!(
        activation.promote(&a, &messages),
        activation.promote(&a, &messages),
        activation.promote(&a, &messages)
    );
    assert!(one.as_ref().unwrap() == two.as_ref().unwrap() && two.unwrap() == three.unwrap());
    assert_eq!(activation.stats(&a).await.unwrap().n_items, 1);
}

#[tokio::test]
async fn a_cubes_caches_are_dumped_loaded_and_used_as_prefixes() {
    let tiny = tiny(1);
    let dir = tempfile::tempdir().unwrap();
    let (a, messages) = (scope("a"), vec![Message::system(words(1, 30))]);
    let one = KvActivation::open(Arc::clone(&tiny.model), options()).unwrap();
    let id = one.promote(&a, &messages).await.unwrap();
    one.dump(&a, &dir.path().join("states.index")).await.unwrap();
    let two = KvActivation::open(Arc::clone(&tiny.model), options()).unwrap();
    assert_eq!(two.load(&a, &dir.path().join("states.index")).await.unwrap(), 1);
    assert_eq!(two.promote(&a, &messages).await.unwrap(), id);
    let chat = two.chat_model(&a, KvChatOptions::default()).unwrap();
    let request = ChatRequest {
        messages: vec![Message::user("w7 w8")],
        sampling: Some(Sampling { max_tokens: 6, ..Sampling::default() }),
        prefix: Some(id.clone()),
        ..ChatRequest::default()
    };
    let (answer, usage) = chat.complete(request.clone()).await.unwrap();
    assert!(usage.cached_tokens >= two.stats(&a).await.unwrap().n_tokens);
    let plain = ChatRequest {
        messages: [messages, request.messages.clone()].concat(),
        prefix: None,
        no_cache: true,
        ..request.clone()
    };
    assert_eq!(tiny.model.complete(plain).await.unwrap().0, answer);
    // The name means nothing in another cube.
    let other = two.chat_model(&scope("b"), KvChatOptions::default()).unwrap();
    assert!(other.complete(request).await.is_err());
}

#[tokio::test]
async fn caches_of_another_model_are_computed_again() {
    let (old, new) = (tiny(1), tiny(2));
    let dir = tempfile::tempdir().unwrap();
    let (a, messages) = (scope("a"), [Message::user("w1 w2")]);
    let one = KvActivation::open(Arc::clone(&old.model), options()).unwrap();
    let id = one.promote(&a, &messages).await.unwrap();
    one.dump(&a, &dir.path().join("states.index")).await.unwrap();
    let two = KvActivation::open(Arc::clone(&new.model), options()).unwrap();
    assert_eq!(two.load(&a, &dir.path().join("states.index")).await.unwrap(), 1);
    let item = two.memory(&a).unwrap().get(id.as_str()).unwrap().unwrap();
    assert_eq!(item.identity(), Some(new.model.identity()));
}
