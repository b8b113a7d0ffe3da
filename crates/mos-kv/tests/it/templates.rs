//! What stands around a text, with and without a chat template, and what in it never passes for that.

use std::sync::Arc;

use futures::StreamExt;
use mos_core::{ChatEvent, ChatModel, ChatRequest, Message, ModelError, Sampling};
use mos_engine::KvPrefix;
use mos_kv::{ExtractInput, KvCacheMemory, KvCacheMemoryOptions, KvChatModel, KvChatOptions, KvError, MergeStrategy};

use crate::support::{Tiny, gemma, logits, memory, options, rows, tiny, tiny_with};

/// What the tiny tokenizer makes of `</s>` and of `<s>` when they are words: two that it does not know.
const SPELLED: &str = "w1 </s> w2 <s> w3";
const AS_WORDS: &str = "w1 w0 w0 w2 w0 w0 w3";

/// Tokens of the prompt, and the answer.
async fn answered(
    chat: &KvChatModel,
    ids: &[mos_core::ActivationId],
    strategy: MergeStrategy,
    text: &str,
) -> (usize, String) {
    let request = ChatRequest { messages: vec![Message::user(text)], ..ChatRequest::default() };
    let mut stream = chat.stream_after(ids, Some(strategy.into()), request).await.unwrap();
    let (mut tokens, mut answer) = (0, String::new());
    while let Some(event) = stream.next().await {
        match event.unwrap() {
            ChatEvent::Text(text) => answer.push_str(&text),
            ChatEvent::Done(usage) => tokens = usage.prompt_tokens,
        }
    }
    (tokens, answer)
}

#[test]
fn control_tokens_in_a_memory_stay_words() {
    let tiny = tiny(1);
    let memory = memory(&tiny.model);
    let spelled = memory.extract(SPELLED).unwrap();
    let words = memory.extract(AS_WORDS).unwrap();
    assert_eq!(spelled.segment().unwrap().tokens(), words.segment().unwrap().tokens());
    let control = spelled.segment().unwrap().tokens().iter().filter(|&&token| token < 2).count();
    assert_eq!(control, 2, "those of the template");
    assert_eq!(spelled.records.composed_text_memory, SPELLED);
    let messages = memory.extract(vec![Message::user(SPELLED)]).unwrap();
    assert_eq!(messages.n_tokens(), memory.extract(vec![Message::user(AS_WORDS)]).unwrap().n_tokens());
}

#[tokio::test]
async fn control_tokens_in_a_question_stay_words_after_every_kind_of_cache() {
    let tiny = tiny(1);
    let memory = Arc::new(memory(&tiny.model));
    let items = ["w4 w5 w6", "w7 w8"].map(|text| memory.extract(text).unwrap());
    memory.add(items.clone()).unwrap();
    let ids = items.map(|item| item.id);
    for doubled_template in [false, true] {
        let options = KvChatOptions { doubled_template, ..KvChatOptions::default() };
        let chat = KvChatModel::new(Arc::clone(&memory), options);
        for strategy in [MergeStrategy::PrefixTree, MergeStrategy::Shifted] {
            let spelled = answered(&chat, &ids, strategy, SPELLED).await;
            assert_eq!(spelled, answered(&chat, &ids, strategy, AS_WORDS).await, "{strategy}, {doubled_template}");
        }
    }
}

/// A tiny model without a template, whose texts begin with `<s>`.
fn base() -> Tiny {
    tiny_with(1, &[("tokenizer_config.json", r#"{"bos_token": "<s>"}"#)])
}

fn base_memory(tiny: &Tiny) -> KvCacheMemory {
    let options = KvCacheMemoryOptions { lead_in: "w9 w8".to_owned(), ..options() };
    KvCacheMemory::open(Arc::clone(&tiny.model), options).unwrap()
}

#[test]
fn without_a_template_texts_stand_as_they_are_behind_the_beginning() {
    let tiny = base();
    assert!(!tiny.model.has_template());
    let memory = base_memory(&tiny);
    let item = memory.extract(vec!["w1 </s>".to_owned(), "w2".to_owned()]).unwrap();
    // `<s>`, the lead-in, the texts; a spelled-out control token is two unknown words.
    assert_eq!(item.segment().unwrap().tokens(), [0, 14, 13, 6, 5, 5, 7]);
    assert_eq!(item.segment().unwrap().tokens(), tiny.model.text_tokens("w9 w8\nw1 </s>\nw2").unwrap());
    let bare = KvCacheMemoryOptions { lead_in: String::new(), ..options() };
    let bare = KvCacheMemory::open(Arc::clone(&tiny.model), bare).unwrap();
    assert_eq!(bare.extract("w1").unwrap().segment().unwrap().tokens(), [0, 6]);
    assert!(matches!(memory.extract(" "), Err(KvError::Empty(_))));
}

#[test]
fn caches_of_a_model_without_a_template_are_merged_kept_and_computed_again() {
    let tiny = base();
    let memory = base_memory(&tiny);
    let items = ["w1 w2 w3", "w4 w5"].map(|text| memory.extract(text).unwrap());
    memory.add(items.clone()).unwrap();
    let ids = items.each_ref().map(|item| item.id.clone());
    let merged = memory.get_cache_with(&ids, MergeStrategy::PrefixTree).unwrap().unwrap();
    assert!(merged.is_exact());
    let all: Vec<u32> = merged.tokens().collect();
    let question = [20, 21, 22];
    let direct = logits(&tiny.model, &KvPrefix::default(), &[all.as_slice(), &question].concat());
    let behind = logits(&tiny.model, &merged, &question);
    assert_eq!(behind, direct[all.len() * 50..]);
    let dir = tempfile::tempdir().unwrap();
    memory.dump(dir.path()).unwrap();
    let again = base_memory(&tiny);
    assert_eq!(again.load(dir.path()).unwrap(), 2);
    let loaded = again.get(items[0].id.as_str()).unwrap().unwrap();
    let recomputed = again.extractor().recompute(&loaded, &mos_engine::CancelToken::default()).unwrap();
    assert_eq!(rows(recomputed.segment().unwrap()), rows(items[0].segment().unwrap()));
}

#[tokio::test]
async fn messages_need_a_template() {
    let tiny = base();
    let memory = Arc::new(base_memory(&tiny));
    let error = memory.extract(ExtractInput::Messages(vec![Message::user("w1")])).unwrap_err();
    let refused = |error: &ModelError| matches!(error, ModelError::BadModel(text) if text.contains("no chat template"));
    assert!(matches!(&error, KvError::Model(error) if refused(error)), "{error}");
    let item = memory.extract("w1").unwrap();
    memory.add([item.clone()]).unwrap();
    let chat = KvChatModel::new(Arc::clone(&memory), KvChatOptions::default());
    let request =
        ChatRequest { messages: vec![Message::user("w1")], prefix: Some(item.id.clone()), ..ChatRequest::default() };
    let error = chat.complete(request).await.unwrap_err();
    assert!(refused(&error), "{error}");
}

#[tokio::test]
async fn a_real_base_model_goes_on_after_a_cache_as_without_it() {
    let Some(model) = gemma() else { return };
    assert!(!model.has_template());
    let memory = memory(&model);
    let texts = ["Anna Pereira is a nurse in Porto.", "Her brother Tom keeps bees."];
    let item = memory.extract(texts.as_slice()).unwrap();
    let cache = item.segment().unwrap();
    assert_eq!(cache.tokens()[0], model.tokenize("<bos>").unwrap()[0]);
    assert!(model.detokenize(cache.tokens()).unwrap().ends_with("Porto.\nHer brother Tom keeps bees."));
    let question = model.tokenize("\nAnna Pereira lives in the city of").unwrap();
    let sampling = Sampling { max_tokens: 8, temperature: 0.0, ..Sampling::default() };
    let mut prefix = KvPrefix::default();
    prefix.push(Arc::clone(cache));
    let mut answers = Vec::new();
    for (prefix, tokens) in [(KvPrefix::default(), [cache.tokens(), &question].concat()), (prefix, question.clone())] {
        let mut stream = model.continue_from(prefix, tokens, Some(sampling.clone()), String::new()).await.unwrap();
        let mut answer = String::new();
        while let Some(event) = stream.next().await {
            if let ChatEvent::Text(text) = event.unwrap() {
                answer.push_str(&text);
            }
        }
        answers.push(answer);
    }
    assert!(answers[0].contains("Porto"), "{answers:?}");
    assert_eq!(answers[0], answers[1]);
}

/// Equal weights and tokenizers, but other tokens for the same texts: their caches are not each other's.
#[test]
fn what_texts_begin_with_is_part_of_the_identity() {
    let config = r#"{"bos_token": "<s>", "add_bos_token": false}"#;
    let (with, without, same) = (base(), tiny_with(1, &[("tokenizer_config.json", config)]), base());
    assert_eq!(without.model.text_tokens("w1").unwrap(), [6]);
    assert!(!with.model.identity().matches(without.model.identity()));
    assert!(!with.model.identity().matches(tiny(1).model.identity()));
    assert!(with.model.identity().matches(same.model.identity()));
    let dir = tempfile::tempdir().unwrap();
    let memory = base_memory(&with);
    memory.add([memory.extract("w1").unwrap()]).unwrap();
    memory.dump(dir.path()).unwrap();
    assert!(matches!(base_memory(&without).load(dir.path()), Err(KvError::ForeignModel { .. })));
    assert_eq!(base_memory(&same).load(dir.path()).unwrap(), 1);
}
