use std::sync::Arc;

use async_trait::async_trait;
use futures::StreamExt;
use mos_core::{ChatEvent, ChatRequest, ChatStream, EmbedUse, Embedded, EmbeddingSpace, Message};
use mos_testkit::chat::ScriptedChat;
use mos_testkit::clock::SetClock;

use super::*;

const DAY_S: i64 = 86_400;
/// 2023-11-14, 22:13:20 UTC.
const START_S: i64 = 1_700_000_000;

fn meter(folder: Option<PathBuf>, budget: BudgetConfig, at_s: i64) -> Arc<UsageMeter> {
    UsageMeter::open(folder, Some(budget), Arc::new(SetClock::at_unix_s(at_s))).unwrap()
}

fn unlimited() -> BudgetConfig {
    BudgetConfig {
        user_tokens_per_day: None,
        user_tokens_total: None,
        cube_tokens_per_day: None,
        cube_tokens_total: None,
    }
}

fn payer(user: &str, cube: Option<&str>) -> Payer {
    Payer { user: UserId::from(user), cube: cube.map(CubeId::from) }
}

fn tokens(prompt: u64, completion: u64) -> TokenSums {
    TokenSums { calls: 1, prompt_tokens: prompt, completion_tokens: completion, ..TokenSums::default() }
}

#[test]
fn sums_are_kept_by_user_cube_day_and_model() {
    let folder = tempfile::tempdir().unwrap();
    let place = || Some(folder.path().join("usage"));
    let first = meter(place(), unlimited(), START_S);
    first.record(&payer("ann", Some("a")), "gpt", tokens(10, 5));
    first.record(&payer("ann", Some("a")), "gpt", tokens(1, 1));
    first.record(&payer("bob", None), "gpt", tokens(100, 100));
    let next_day = meter(place(), unlimited(), START_S + DAY_S);
    next_day.record(&payer("ann", None), "qwen", tokens(7, 3));
    let usage = next_day.of_user(&UserId::from("ann"));
    assert_eq!((usage.today.total(), usage.total.total(), usage.total.calls), (10, 27, 3));
    let told: Vec<(&str, Option<&str>, &str, u64)> = usage
        .entries
        .iter()
        .map(|entry| {
            let cube = entry.cube_id.as_ref().map(CubeId::as_str);
            (entry.day.as_str(), cube, entry.model.as_str(), entry.tokens.total())
        })
        .collect();
    assert_eq!(told, [("2023-11-14", Some("a"), "gpt", 17), ("2023-11-15", None, "qwen", 10)]);
}

#[cfg(unix)]
#[test]
fn nobody_else_may_look_into_the_folder() {
    use std::os::unix::fs::PermissionsExt;

    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().join("usage");
    meter(Some(place.clone()), unlimited(), START_S).record(&payer("ann", None), "gpt", tokens(1, 0));
    assert_eq!(place.metadata().unwrap().permissions().mode() & 0o777, 0o700);
}

#[test]
fn processes_see_what_others_used() {
    let folder = tempfile::tempdir().unwrap();
    let open = || meter(Some(folder.path().to_owned()), unlimited(), START_S);
    let (one, two) = (open(), open());
    one.record(&payer("ann", None), "gpt", tokens(1, 0));
    two.record(&payer("ann", None), "gpt", tokens(2, 0));
    one.record(&payer("ann", None), "gpt", tokens(4, 0));
    for meter in [one, two, open()] {
        assert_eq!(meter.of_user(&UserId::from("ann")).total.total(), 7);
    }
}

#[test]
fn a_line_that_was_cut_spoils_no_other() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("2023-11-14.jsonl");
    std::fs::write(&file, "{\"day\":\"2023-11-14\",\"us").unwrap();
    let meter = meter(Some(folder.path().to_owned()), unlimited(), START_S);
    meter.record(&payer("ann", None), "gpt", tokens(1, 2));
    assert_eq!(meter.of_user(&UserId::from("ann")).total.total(), 3);
}

#[test]
fn old_days_are_summed_up_on_disk() {
    let folder = tempfile::tempdir().unwrap();
    let place = || Some(folder.path().to_owned());
    for day in 0..4 {
        let meter = meter(place(), unlimited(), START_S + day * DAY_S);
        for _ in 0..5 {
            meter.record(&payer("ann", None), "gpt", tokens(1, 0));
        }
    }
    let last = meter(place(), unlimited(), START_S + 3 * DAY_S);
    assert_eq!(last.of_user(&UserId::from("ann")).total.total(), 20);
    let n_lines = |day: &str| {
        let text = std::fs::read_to_string(folder.path().join(format!("{day}.jsonl"))).unwrap();
        text.lines().filter(|line| !line.is_empty()).count()
    };
    assert_eq!([n_lines("2023-11-14"), n_lines("2023-11-15")], [1, 1], "days that are over");
    assert_eq!([n_lines("2023-11-16"), n_lines("2023-11-17")], [5, 5], "somebody may still write to them");
    let again = meter(place(), unlimited(), START_S + 3 * DAY_S).of_user(&UserId::from("ann"));
    assert_eq!((again.total.total(), again.total.calls), (20, 20));
}

#[test]
fn every_limit_refuses_and_says_which_it_is() {
    let ann = payer("ann", Some("a"));
    for (key, change) in [
        ("user_tokens_per_day", BudgetConfig { user_tokens_per_day: Some(10), ..unlimited() }),
        ("user_tokens_total", BudgetConfig { user_tokens_total: Some(10), ..unlimited() }),
        ("cube_tokens_per_day", BudgetConfig { cube_tokens_per_day: Some(10), ..unlimited() }),
        ("cube_tokens_total", BudgetConfig { cube_tokens_total: Some(10), ..unlimited() }),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let place = || Some(folder.path().to_owned());
        let first = meter(place(), change.clone(), START_S);
        first.record(&ann, "gpt", tokens(4, 5));
        first.check(&ann).unwrap();
        first.record(&ann, "gpt", tokens(1, 0));
        let error = first.check(&ann).unwrap_err();
        assert!(matches!(error, ModelError::BudgetSpent { used: 10, limit: 10, .. }), "{error}");
        assert!(error.to_string().contains(key), "{error}");
        first.check(&payer("bob", Some("b"))).unwrap();
        let next_day = meter(place(), change, START_S + DAY_S);
        assert_eq!(next_day.check(&ann).is_ok(), key.ends_with("per_day"), "{key}: tomorrow is another day");
    }
}

#[tokio::test]
async fn answers_are_counted_also_when_they_are_left() {
    let meter = meter(None, BudgetConfig { user_tokens_total: Some(3), ..unlimited() }, START_S);
    let inner = Arc::new(ScriptedChat::new(["123456789012", "never asked for"]));
    let model = meter.metered(inner.clone(), payer("ann", None));
    let request = || ChatRequest { messages: vec![Message::user("123")], ..ChatRequest::default() };
    let mut answer = model.stream(request()).await.unwrap();
    answer.next().await.unwrap().unwrap();
    drop(answer);
    let usage = meter.of_user(&UserId::from("ann"));
    assert_eq!((usage.total.prompt_tokens, usage.total.completion_tokens, usage.left_in_all), (1, 4, Some(0)));
    let refused = model.complete(request()).await.unwrap_err();
    assert!(matches!(refused, ModelError::BudgetSpent { used: 5, limit: 3, .. }), "{refused}");
    assert_eq!(inner.requests().len(), 1, "no model is asked");
}

fn asked() -> ChatRequest {
    ChatRequest { messages: vec![Message::user("123")], ..ChatRequest::default() }
}

#[tokio::test]
async fn two_answers_at_once_do_not_both_spend_what_is_left_for_one() {
    for (n_events, is_spent) in [(0, false), (1, true)] {
        let meter = meter(None, BudgetConfig { user_tokens_total: Some(5), ..unlimited() }, START_S);
        let inner = Arc::new(ScriptedChat::new(["123456789012", "the second"]));
        let model = meter.metered(inner.clone(), payer("ann", None));
        let mut first = model.stream(asked()).await.unwrap();
        let mut second = model.stream(asked());
        assert!(futures::poll!(&mut second).is_pending(), "what the first one takes is not known");
        let other = meter.metered(Arc::new(ScriptedChat::new(["x"])), payer("bob", None));
        other.complete(asked()).await.unwrap();
        assert_eq!(inner.requests().len(), 1, "the model was not asked a second time");
        for _ in 0..n_events {
            first.next().await.unwrap().unwrap();
        }
        drop(first);
        let refused = second.await.err();
        let is_refused = matches!(refused, Some(ModelError::BudgetSpent { used: 5, limit: 5, .. }));
        assert_eq!((is_refused, refused.is_some()), (is_spent, is_spent), "{refused:?}");
        assert_eq!(inner.requests().len(), if is_spent { 1 } else { 2 });
    }
}

/// Answers in pieces that come half a minute apart, `usize::MAX` of them for one that never ends.
#[derive(Debug)]
struct Slow(usize);

#[async_trait]
impl ChatModel for Slow {
    fn name(&self) -> &str {
        "slow"
    }

    fn is_local(&self) -> bool {
        true
    }

    fn context_length(&self) -> Option<usize> {
        None
    }

    async fn stream(&self, _: ChatRequest) -> Result<ChatStream, ModelError> {
        let pieces = futures::stream::iter(0..self.0).then(|_| async {
            tokio::time::sleep(Duration::from_secs(30)).await;
            Ok::<_, ModelError>(ChatEvent::Text("x".to_owned()))
        });
        Ok(pieces.boxed())
    }
}

#[tokio::test(start_paused = true)]
async fn a_long_answer_that_gets_on_is_waited_for() {
    let meter = meter(None, BudgetConfig { user_tokens_total: Some(100), ..unlimited() }, START_S);
    let slow = meter.metered(Arc::new(Slow(8)), payer("ann", None));
    let model = meter.metered(Arc::new(ScriptedChat::new(["the second"])), payer("ann", None));
    let first = slow.stream(asked()).await.unwrap();
    let begun = tokio::time::Instant::now();
    let (n_pieces, second) = tokio::join!(first.count(), model.complete(asked()));
    assert_eq!(n_pieces, 8);
    second.unwrap();
    assert_eq!(begun.elapsed().as_secs(), 240, "it waited for all of the first one");
}

#[tokio::test(start_paused = true)]
async fn waiting_ends_and_says_what_is_used_and_what_may_be() {
    for (n_pieces, waited) in [(0, MAX_WAIT), (usize::MAX, MAX_WAIT_IN_ALL)] {
        let meter = meter(None, BudgetConfig { user_tokens_total: Some(100), ..unlimited() }, START_S);
        meter.record(&payer("ann", None), "gpt", tokens(4, 5));
        let slow = meter.metered(Arc::new(Slow(n_pieces)), payer("ann", None));
        let model = meter.metered(Arc::new(ScriptedChat::new(["never asked for"])), payer("ann", None));
        let mut first = slow.stream(asked()).await.unwrap();
        let begun = tokio::time::Instant::now();
        let reading = async {
            // One that is never read gives no piece.
            while n_pieces > 0 && first.next().await.is_some() {}
            std::future::pending::<()>().await;
        };
        let refused = tokio::select! {
            () = reading => unreachable!("it is read for ever"),
            refused = model.complete(asked()) => refused.unwrap_err(),
        };
        assert_eq!(begun.elapsed().as_secs(), waited.as_secs());
        // Three letters, and an answer of no stated length.
        assert!(matches!(refused, ModelError::BudgetSpent { used: 9, expected: 1025, limit: 100, .. }), "{refused}");
        let said = refused.to_string();
        assert!(said.contains("used 9 of 100 tokens in all, and answers on their way may take 1025 more"), "{said}");
    }
}

#[tokio::test]
async fn an_answer_that_is_over_keeps_nobody_waiting() {
    let meter = meter(None, BudgetConfig { cube_tokens_per_day: Some(5), ..unlimited() }, START_S);
    let inner = Arc::new(ScriptedChat::new(["one"; 20]));
    let model = meter.metered(inner.clone(), payer("ann", Some("a")));
    let mut first = model.stream(asked()).await.unwrap();
    while let Some(event) = first.next().await {
        event.unwrap();
    }
    model.complete(asked()).await.unwrap();
    drop(first);
    let all = futures::future::join_all((0..10).map(|_| model.complete(asked()))).await;
    assert!(all.iter().all(Result::is_ok), "near a limit they wait for each other: {all:?}");
    let usage = meter.of_user(&UserId::from("ann"));
    assert_eq!((usage.total.calls, inner.requests().len()), (12, 12), "each is counted once");
}

/// An encoder whose tokens are words.
#[derive(Debug)]
struct Telling;

#[async_trait]
impl Embedder for Telling {
    async fn embed(&self, texts: &[String]) -> Result<Vec<Vec<f32>>, ModelError> {
        Ok(vec![vec![1.0]; texts.len()])
    }

    async fn embed_counted(&self, _: EmbedUse, texts: &[String]) -> Result<Embedded, ModelError> {
        let n_words: usize = texts.iter().map(|text| text.split(' ').count()).sum();
        Ok(Embedded { vectors: self.embed(texts).await?, tokens: Some(n_words as u64) })
    }

    async fn space(&self) -> Result<EmbeddingSpace, ModelError> {
        Ok(EmbeddingSpace { model: "telling".to_owned(), dimension: 1 })
    }
}

#[tokio::test]
async fn embedded_texts_are_counted_and_spend_no_budget() {
    let folder = tempfile::tempdir().unwrap();
    let place = || Some(folder.path().join("usage"));
    let budget = || BudgetConfig { user_tokens_total: Some(5), ..unlimited() };
    let first = meter(place(), budget(), START_S);
    let embedder = first.metered_embedder(Arc::new(Telling), payer("ann", Some("a")));
    embedder.embed(&["one two".to_owned()]).await.unwrap();
    embedder.embed_queries(&["three four five".to_owned()]).await.unwrap();
    let usage = first.of_user(&UserId::from("ann"));
    assert_eq!((usage.total.embedded_tokens, usage.total.calls, usage.left_in_all), (5, 0, Some(5)));
    assert_eq!(usage.entries[0].model, "telling");
    let model = first.metered(Arc::new(ScriptedChat::new(["x"])), payer("ann", Some("a")));
    model.complete(ChatRequest { messages: vec![Message::user("hello")], ..ChatRequest::default() }).await.unwrap();
}

#[tokio::test]
async fn what_encoders_took_is_written_when_much_is_held_and_at_the_end() {
    let folder = tempfile::tempdir().unwrap();
    let open =
        || UsageMeter::open(Some(folder.path().to_owned()), None, Arc::new(SetClock::at_unix_s(START_S))).unwrap();
    let n_lines = || {
        let text = std::fs::read_to_string(folder.path().join("2023-11-14.jsonl")).unwrap_or_default();
        text.lines().filter(|line| !line.is_empty()).count()
    };
    let first = open();
    for _ in 0..600 {
        first.record_embedded(&payer("ann", Some("a")), "telling", 1);
    }
    assert_eq!(n_lines(), 2, "one line for many calls");
    drop(first);
    assert_eq!((n_lines(), open().of_user(&UserId::from("ann")).total.embedded_tokens), (3, 600));
}

#[test]
fn lines_of_earlier_versions_are_read() {
    let folder = tempfile::tempdir().unwrap();
    let line = serde_json::json!({"day": "2023-11-14", "user": "ann", "cube": null, "model": "gpt", "calls": 1,
                                  "prompt_tokens": 2, "cached_tokens": 0, "completion_tokens": 3});
    std::fs::write(folder.path().join("2023-11-14.jsonl"), format!("{line}\n")).unwrap();
    let usage = meter(Some(folder.path().to_owned()), unlimited(), START_S).of_user(&UserId::from("ann"));
    assert_eq!((usage.total.total(), usage.total.embedded_tokens), (5, 0));
}
