//! Answers that begin with activation memory.

use std::sync::Arc;

use futures::StreamExt;
use mos_core::{ChatEvent, ChatModel, ChatRequest, Message, ModelError, Sampling};
use mos_kv::{
    DiskTier, KvCacheMemory, KvCacheMemoryOptions, KvChatModel, KvChatOptions, KvEncoding, KvError, MergeChoice,
    MergeStrategy, TierOptions,
};
use proptest::prelude::*;

use crate::support::{memory, options, rows, smol, tiny, tiny_with, words};

const LONG: &str = "Anna Pereira is a nurse in Porto. She moved there from Braga in 2019, after her studies. Her brother \
                    Tom keeps bees and sells honey on the market every Saturday. Anna is afraid of dogs, loves the sea, \
                    and plays the cello in a small orchestra that rehearses on Tuesdays.";

fn ask(text: &str, max_tokens: usize) -> ChatRequest {
    ChatRequest {
        messages: vec![Message::user(text)],
        sampling: Some(Sampling { max_tokens, ..Sampling::default() }),
        ..ChatRequest::default()
    }
}

fn chat(memory: &Arc<KvCacheMemory>, options: KvChatOptions) -> KvChatModel {
    KvChatModel::new(Arc::clone(memory), options)
}

#[tokio::test]
async fn the_answer_is_that_without_a_cache_and_only_the_rest_is_computed() {
    let model = smol();
    let memory = Arc::new(memory(&model));
    let item = memory.extract(LONG).unwrap();
    memory.add([item.clone()]).unwrap();
    let chat = chat(&memory, KvChatOptions::default());
    for question in ["Where does Anna live?", "What does Tom sell, and when?", "Name an instrument."] {
        let mut request = ask(question, 32);
        request.prefix = Some(item.id.clone());
        let (answer, usage) = chat.complete(request.clone()).await.unwrap();
        request.no_cache = true;
        let (same, without) = chat.complete(request).await.unwrap();
        let mut plain = ask(question, 32);
        plain.messages.insert(0, memory.extractor().messages_of(&item).unwrap().remove(0));
        plain.no_cache = true;
        let (truth, _) = model.complete(plain.clone()).await.unwrap();
        assert_eq!(answer, truth);
        assert_eq!(same, truth);
        assert!(usage.cached_tokens >= item.n_tokens(), "{usage:?}");
        assert_eq!((without.cached_tokens, usage.prompt_tokens), (0, without.prompt_tokens));
        // A conversation that begins with the item's messages already is not given them twice.
        plain.no_cache = false;
        plain.prefix = Some(item.id.clone());
        let (again, repeated) = chat.complete(plain).await.unwrap();
        assert_eq!((again, repeated.prompt_tokens), (truth, without.prompt_tokens));
    }
}

#[tokio::test]
async fn merged_items_answer_by_every_strategy() {
    let model = smol();
    let memory = Arc::new(memory(&model));
    let items: Vec<_> = [LONG, "Anna's favourite colour is green."].map(|text| memory.extract(text).unwrap()).into();
    memory.add(items.clone()).unwrap();
    let ids: Vec<_> = items.iter().map(|item| item.id.clone()).collect();
    let chat = chat(&memory, KvChatOptions::default());
    let n_items: usize = items.iter().map(|item| item.n_tokens()).sum();
    let mut whole = ask("Where does Anna live?", 24);
    for item in items.iter().rev() {
        whole.messages.insert(0, memory.extractor().messages_of(item).unwrap().remove(0));
    }
    whole.no_cache = true;
    let (truth, _) = model.complete(whole).await.unwrap();
    for strategy in
        MergeStrategy::LOSSY.into_iter().chain([MergeStrategy::PrefixTree, MergeStrategy::Blend { ratio: 1.0 }])
    {
        let mut stream =
            chat.stream_after(&ids, Some(strategy.into()), ask("Where does Anna live?", 24)).await.unwrap();
        let (mut answer, mut cached) = (String::new(), 0);
        while let Some(event) = stream.next().await {
            match event.unwrap() {
                ChatEvent::Text(text) => answer.push_str(&text),
                ChatEvent::Done(usage) => cached = usage.cached_tokens,
            }
        }
        assert!(cached >= n_items, "{strategy}: {cached} of {n_items}");
        assert!(answer.contains("Porto"), "{strategy}: {answer}");
        if matches!(strategy, MergeStrategy::PrefixTree | MergeStrategy::Blend { ratio: 1.0 }) {
            assert_eq!(answer, truth, "{strategy}");
        }
    }
    // Unknown ids are skipped; with none left the conversation stands alone.
    let mut stream = chat.stream_after(&["unknown".into()], None, ask("Say hello.", 2)).await.unwrap();
    assert!(matches!(stream.next().await, Some(Ok(_))));
}

#[tokio::test]
async fn upstreams_layout_shows_a_second_beginning() {
    let model = smol();
    let memory = Arc::new(memory(&model));
    let item = memory.extract(LONG).unwrap();
    memory.add([item.clone()]).unwrap();
    let doubled = chat(&memory, KvChatOptions { doubled_template: true, ..KvChatOptions::default() });
    let mut request = ask("Where does Anna live?", 16);
    request.prefix = Some(item.id.clone());
    let (answer, usage) = doubled.complete(request.clone()).await.unwrap();
    let rendered = model.tokenize(&model.render(&request.messages, true).unwrap()).unwrap();
    assert_eq!(usage.prompt_tokens, item.n_tokens() + rendered.len());
    // The engine may have kept a longer beginning from another conversation.
    assert!(usage.cached_tokens >= item.n_tokens(), "{usage:?}");
    assert!(!answer.is_empty());
    // SmolLM2's template begins every conversation with a system turn of its own.
    let plain = chat(&memory, KvChatOptions::default());
    assert!(plain.complete(request).await.unwrap().1.prompt_tokens < usage.prompt_tokens);
}

#[tokio::test]
async fn bad_requests_are_refused_by_name() {
    let tiny = tiny(1);
    let memory = Arc::new(memory(&tiny.model));
    let chat = chat(&memory, KvChatOptions::default());
    let mut request = ask("w1", 4);
    request.prefix = Some("unknown".into());
    let error = chat.complete(request).await.unwrap_err();
    assert!(matches!(&error, ModelError::Invalid(text) if text.contains("unknown")), "{error}");
    let item = memory.extract(words(0, 200)).unwrap();
    memory.add([item.clone()]).unwrap();
    let mut request = ask(&words(1, 100), 4);
    request.prefix = Some(item.id.clone());
    assert!(matches!(chat.complete(request.clone()).await, Err(ModelError::TooLong { .. })));
    request.messages.clear();
    assert!(matches!(chat.complete(request).await, Err(ModelError::Invalid(_))));
    assert!(chat.is_local() && chat.context_length() == Some(256));
}

/// What a session does.
#[derive(Clone, Debug)]
enum Act {
    Ask { items: Vec<usize>, strategy: MergeStrategy, words: usize, tokens: usize },
    BreakOff { item: usize, words: usize },
    Delete(usize),
    Again(usize),
}

fn act() -> impl Strategy<Value = Act> {
    let strategy = prop::sample::select(vec![
        MergeStrategy::PrefixTree,
        MergeStrategy::Concat,
        MergeStrategy::Shifted,
        MergeStrategy::Lego { k: 3 },
        MergeStrategy::Blend { ratio: 0.3 },
    ]);
    prop_oneof![
        4 => (prop::collection::vec(0..3_usize, 1..4), strategy, 1..12_usize, 1..8_usize)
            .prop_map(|(items, strategy, words, tokens)| Act::Ask { items, strategy, words, tokens }),
        1 => (0..3_usize, 1..12_usize).prop_map(|(item, words)| Act::BreakOff { item, words }),
        1 => (0..3_usize).prop_map(Act::Delete),
        1 => (0..3_usize).prop_map(Act::Again),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// Nothing that a session does changes a stored item, or what was handed out of it.
    #[test]
    fn no_session_changes_a_stored_item(acts in prop::collection::vec(act(), 1..10)) {
        let tiny = tiny(1);
        let memory = Arc::new(memory(&tiny.model));
        let items: Vec<_> = (0..3).map(|at| memory.extract(words(at, 4 + 9 * at)).unwrap()).collect();
        memory.add(items.clone()).unwrap();
        let before: Vec<_> = items.iter().map(|item| rows(item.segment().unwrap())).collect();
        let handed_out = memory.get_cache(&items.iter().map(|item| item.id.as_str()).collect::<Vec<_>>()).unwrap().unwrap();
        let chat = chat(&memory, KvChatOptions::default());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            for act in &acts {
                match act {
                    Act::Ask { items: which, strategy, words: n, tokens } => {
                        let ids: Vec<_> = which.iter().map(|&at| items[at].id.clone()).collect();
                        let stream = chat.stream_after(&ids, Some((*strategy).into()), ask(&words(*n, *n), *tokens)).await.unwrap();
                        stream.for_each(|event| async { event.unwrap(); }).await;
                    }
                    Act::BreakOff { item, words: n } => {
                        let mut request = ask(&words(*n, *n), 50);
                        request.prefix = Some(items[*item].id.clone());
                        if let Ok(mut stream) = chat.stream(request).await {
                            stream.next().await;
                        }
                    }
                    Act::Delete(at) => { memory.delete(&[items[*at].id.as_str()]).unwrap(); }
                    Act::Again(at) => memory.add([items[*at].clone()]).unwrap(),
                }
            }
        });
        for (item, before) in items.iter().zip(&before) {
            prop_assert_eq!(&rows(item.segment().unwrap()), before);
            if let Some(stored) = memory.get(item.id.as_str()).unwrap() {
                prop_assert_eq!(&rows(stored.segment().unwrap()), before);
                prop_assert_eq!(stored.n_tokens(), item.n_tokens());
            }
        }
        for (part, before) in handed_out.parts().zip(&before) {
            prop_assert_eq!(&rows(&part.segment), before);
        }
        prop_assert_eq!(handed_out.len(), items.iter().map(|item| item.n_tokens()).sum::<usize>());
    }
}

#[tokio::test]
async fn a_damaged_file_costs_time_and_no_answer() {
    let (tiny, folder) = (tiny(1), tempfile::tempdir().unwrap());
    let open = || {
        let disk = DiskTier { folder: folder.path().to_owned(), bytes: 1 << 20, encoding: KvEncoding::F16 };
        let tiers = TierOptions { disk: Some(disk), ..TierOptions::default() };
        Arc::new(KvCacheMemory::open(Arc::clone(&tiny.model), KvCacheMemoryOptions { tiers, ..options() }).unwrap())
    };
    let memory = open();
    let items = [words(1, 40), words(2, 40)].map(|text| memory.extract(text).unwrap());
    memory.add(items.clone()).unwrap();
    let ids = items.map(|item| item.id);
    let ask = async |memory: &Arc<KvCacheMemory>, choice: MergeChoice| {
        let mut stream =
            chat(memory, KvChatOptions::default()).stream_after(&ids, Some(choice), ask("w7 w8", 6)).await.unwrap();
        let mut answer = String::new();
        while let Some(event) = stream.next().await {
            if let ChatEvent::Text(text) = event.unwrap() {
                answer.push_str(&text);
            }
        }
        answer
    };
    let exact = MergeStrategy::PrefixTree.into();
    let truth = ask(&memory, exact).await;
    drop(memory);
    for file in std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().path()) {
        let mut bytes = std::fs::read(&file).unwrap();
        let middle = bytes.len() * 3 / 4;
        bytes[middle] ^= 1;
        std::fs::write(&file, bytes).unwrap();
    }
    let memory = open();
    assert!(matches!(memory.get(ids[0].as_str()), Err(KvError::Damaged { .. })));
    assert_eq!(ask(&memory, exact).await, truth);
    assert_eq!(ask(&memory, MergeChoice::Auto).await, truth);
    assert_eq!(memory.get_all().len(), 2, "they stay, to be shown and computed again");
}

#[tokio::test]
async fn memories_are_shown_to_models_without_system_turns() {
    let folding = "{% if messages[0].role == 'system' %}{% set first = messages[0].content ~ ' ' %}\
                   {% set rest = messages[1:] %}{% else %}{% set first = '' %}{% set rest = messages %}{% endif %}\
                   {% for m in rest %}{% if m.role == 'system' %}{{ raise_exception('no system role') }}{% endif %}\
                   {{ '<s> ' ~ m.role ~ ' ' }}{{ first if loop.first else '' }}{{ m.content ~ ' </s> ' }}{% endfor %}\
                   {% if add_generation_prompt %}{{ '<s> assistant' }}{% endif %}";
    let tiny = tiny_with(1, &[("chat_template.jinja", folding)]);
    let memory = Arc::new(memory(&tiny.model));
    let items = [words(1, 20), words(2, 20)].map(|text| memory.extract(text).unwrap());
    assert!(items.iter().all(|item| item.n_tokens() > 20), "the text is in it");
    memory.add(items.clone()).unwrap();
    let chat = chat(&memory, KvChatOptions::default());
    let mut whole = ask("w7 w8", 6);
    for item in items.iter().rev() {
        whole.messages.insert(0, memory.extractor().messages_of(item).unwrap().remove(0));
    }
    whole.no_cache = true;
    let (truth, _) = tiny.model.complete(whole).await.unwrap();
    let ids = items.each_ref().map(|item| item.id.clone());
    for round in 0..2 {
        let mut stream =
            chat.stream_after(&ids, Some(MergeStrategy::PrefixTree.into()), ask("w7 w8", 6)).await.unwrap();
        let (mut answer, mut cached) = (String::new(), 0);
        while let Some(event) = stream.next().await {
            match event.unwrap() {
                ChatEvent::Text(text) => answer.push_str(&text),
                ChatEvent::Done(usage) => cached = usage.cached_tokens,
            }
        }
        assert_eq!(answer, truth, "round {round}");
        assert!(cached >= items[0].n_tokens() - 1, "{cached}");
    }
}
