//! Which claims of drawn memories their turns support.

use mos_eval::locomo::Conversation;
use mos_eval::{ExtractionReport, evaluate_extraction};
use mos_testkit::model_server::{Fault, ModelServer, Reply};
use serde_json::{Value, json};

use crate::scripted::{answer, asks_for_memories, memory, question, verdicts};
use crate::{conversations, settings, turn};

const BUDGET: &str = "The quarterly budget meeting discussed several marketing proposals.";

fn porto() -> Vec<Conversation> {
    conversations(json!([{
        "sample_id": "porto",
        "conversation": {
            "session_1_date_time": "1:56 pm on 8 May, 2023",
            "session_1": [
                turn("D1:1", "Anna", "Hi Tom! I moved to Porto yesterday with my 3 dogs."),
                turn("D1:2", "Tom", "How do you like it there?"),
                turn("D1:3", "Anna", "It is lovely. My sister Maria visits me in June."),
            ],
            "session_2_date_time": "6:40 pm on 11 June, 2023",
            "session_2": [turn("D2:1", "Tom", "I started to learn the cello in Lisbon.")],
        },
        "qa": [],
    }]))
}

/// Four memories that are kept, in which one claim is invented in words of its own and one in words of the turn, and one
/// memory that the reader refuses.
fn drawn(body: &Value) -> Reply {
    match question(body).contains("Porto") {
        true => answer(&[
            memory(&format!("Anna moved to Porto with three dogs. {BUDGET}"), &[1]),
            memory("Anna moved because she hated Tom.", &[1]),
            memory("Maria visits Anna in June.", &[3]),
            memory("Anna works for Siemens.", &[1]),
        ]),
        false => answer(&[memory("Tom started to learn the cello in Lisbon.", &[1])]),
    }
}

fn judged(body: &Value) -> Reply {
    verdicts(&question(body), |claim| match claim {
        BUDGET => Some("no meeting is mentioned"),
        claim if claim.contains("hated") => Some("no reason is given"),
        _ => None,
    })
}

async fn report(model: &ModelServer, limit: Option<usize>) -> ExtractionReport {
    let encoder = ModelServer::start().await;
    let report = evaluate_extraction(&settings(model, &encoder), &porto(), limit, |_| {}).await.unwrap();
    assert!(encoder.requests().is_empty(), "nothing is stored, so nothing is embedded");
    report
}

fn counted(value: &Value, keys: &[&str]) -> Vec<u64> {
    keys.iter().map(|key| value[key].as_u64().unwrap()).collect()
}

#[tokio::test]
async fn what_is_invented_is_found_by_the_model_and_in_part_without_it() {
    let model = ModelServer::start().await;
    model.answer_with(|body| if asks_for_memories(body) { drawn(body) } else { judged(body) });
    let report = report(&model, None).await;
    let value = report.to_value();
    assert_eq!(counted(&value, &["conversations", "sessions", "turns", "windows", "failed_windows"]), [1, 2, 4, 2, 0]);
    assert_eq!(counted(&value, &["memories", "without_sources", "dropped", "claims", "judged"]), [4, 0, 1, 5, 5]);
    assert_eq!(counted(&value, &["supported_by_model", "supported_by_check", "supported_by_both"]), [3, 4, 3]);
    assert_eq!((&value["share_by_model"], &value["share_by_check"]), (&json!(0.6), &json!(0.8)));
    assert!(report.dropped[0].reason.contains("Siemens"), "{:?}", report.dropped);

    let unsupported = value["unsupported"].as_array().unwrap();
    let claims: Vec<&str> = unsupported.iter().map(|one| one["claim"].as_str().unwrap()).collect();
    assert_eq!(claims, [BUDGET, "Anna moved because she hated Tom."]);
    assert_eq!(
        (&unsupported[0]["supported_by_check"], &unsupported[1]["supported_by_check"]),
        (&json!(false), &json!(true))
    );
    assert_eq!(unsupported[1]["reason_of_model"], "no reason is given");
    let source = json!({"id": "D1:1", "speaker": "Anna", "time": "2023-05-08T13:56:00",
                        "text": "Hi Tom! I moved to Porto yesterday with my 3 dogs."});
    assert_eq!(unsupported[0]["sources"], json!([source]));

    let tokens = (report.drawing, report.judging);
    assert_eq!((tokens.0.requests, tokens.0.answers, tokens.1.requests, tokens.1.answers), (2, 2, 4, 4));
    assert!(tokens.0.prompt > 0 && tokens.0.completion > 0 && tokens.1.prompt > 0 && tokens.1.completion > 0);
    assert_eq!(report.problems(), Vec::<String>::new());
    assert!(report.table().contains("3 of 5 (0.600)"), "{}", report.table());
    let judging = model.requests().into_iter().find(|request| !asks_for_memories(&request.body)).unwrap();
    let asked = question(&judging.body);
    assert!(asked.starts_with("Messages:\n[1] Anna (2023-05-08T13:56:00): Hi Tom! I moved"), "{asked}");
}

#[tokio::test]
async fn prose_instead_of_verdicts_is_counted() {
    let model = ModelServer::start().await;
    model.answer_with(|body| match asks_for_memories(body) {
        true => drawn(body),
        false if question(body).contains("Maria visits Anna") => Reply::text("Of course they do."),
        false => judged(body),
    });
    let report = report(&model, None).await;
    let value = report.to_value();
    assert_eq!(counted(&value, &["claims", "judged", "failed_judgements", "supported_by_model"]), [5, 4, 1, 2]);
    assert_eq!(report.judge_failures[0].memory, "Maria visits Anna in June.");
    assert!(report.judge_failures[0].reason.contains("3 attempts"), "{:?}", report.judge_failures);
    assert_eq!((report.judging.requests, report.judging.answers), (6, 6), "three attempts at one of four");
    assert_eq!(value["share_by_model"], json!(0.5), "of those that were judged");
    assert!(report.problems().is_empty() && report.table().contains("not judged: porto: Maria"), "{}", report.table());
}

#[tokio::test]
async fn prose_instead_of_memories_is_a_failed_window() {
    let model = ModelServer::start().await;
    model.answer_with(|body| match asks_for_memories(body) {
        true if question(body).contains("Porto") => Reply::text("They talk about Porto."),
        true => drawn(body),
        false => judged(body),
    });
    let report = report(&model, None).await;
    let value = report.to_value();
    assert_eq!(counted(&value, &["windows", "failed_windows", "memories", "claims", "judged"]), [2, 1, 1, 1, 1]);
    assert_eq!((report.drawing.requests, report.drawing.answers), (4, 4));
    let failed = &value["failures"][0];
    assert_eq!(
        (&failed["session"], &failed["first"], &failed["last"]),
        (&json!("session_1"), &json!("D1:1"), &json!("D1:3"))
    );
    assert!(failed["reason"].as_str().unwrap().contains("3 attempts"), "{failed}");
}

#[tokio::test]
async fn a_server_that_fails_is_told() {
    let model = ModelServer::start().await;
    model.answer_with(|body| if asks_for_memories(body) { drawn(body) } else { judged(body) });
    let down = || Fault::Status(503, json!({"error": {"message": "overloaded"}}));
    model.fault(down());
    let one = report(&model, None).await;
    assert_eq!((one.failures.len(), one.memories.len(), one.n_windows), (1, 1, 2));
    assert_eq!((one.failures[0].session.as_str(), one.drawing.requests, one.drawing.answers), ("session_1", 2, 1));
    assert!(one.problems().is_empty(), "{:?}", one.problems());

    model.fault(down());
    let all = report(&model, Some(1)).await;
    assert_eq!((all.n_sessions, all.failures.len(), all.memories.len()), (1, 1, 0));
    assert!(all.problems()[0].contains("no memory was drawn from 1 windows: 1 windows failed"), "{:?}", all.problems());
    assert_eq!(all.to_value()["share_by_model"], Value::Null);
}
