//! Evidence through fine memories and raw turns.

use mos_eval::locomo::Conversation;
use mos_eval::{FineReport, evaluate_fine};
use mos_testkit::model_server::{Fault, ModelServer, Reply};
use serde_json::json;

use crate::scripted::{answer, asks_for_memories, memory, notes, question};
use crate::{conversations, settings, turn};

/// Two sessions of ten turns in all; four of them answer questions.
fn garden() -> Vec<Conversation> {
    conversations(json!([{
        "sample_id": "garden",
        "conversation": {
            "session_1_date_time": "9:15 am on 2 March, 2024",
            "session_1": [
                turn("D1:1", "Ida", "Good morning, Ben!"),
                turn("D1:2", "Ben", "Morning. I planted three apple trees behind the shed yesterday."),
                turn("D1:3", "Ida", "Lovely. My cello teacher moved to Lisbon, so I have no lessons now."),
                turn("D1:4", "Ben", "Will you look for another one?"),
                turn("D1:5", "Ida", "I'd rather practise alone until the autumn."),
            ],
            "session_2_date_time": "6:40 pm on 11 April, 2024",
            "session_2": [
                turn("D2:1", "Ben", "The apple trees have leaves already."),
                {"dia_id": "D2:2", "speaker": "Ida", "text": "Look at what I bought.", "blip_caption": "a red canoe on a lake"},
                turn("D2:3", "Ben", "Where will you keep it?"),
                turn("D2:4", "Ida", "My uncle's boathouse has room for it."),
                turn("D2:5", "Ben", "Great!"),
            ],
        },
        "qa": [
            {"question": "Where did Ida's cello teacher move to?", "category": 4, "evidence": ["D1:3"]},
            {"question": "What did Ben plant behind the shed?", "category": 1, "evidence": ["D1:2"]},
            {"question": "What does the canoe on the lake look like?", "category": 4, "evidence": ["D2:2"]},
            {"question": "Whose boathouse has room?", "category": 2, "evidence": ["D2:4"]},
            {"question": "Who won the election?", "category": 5, "evidence": []},
        ],
    }]))
}

async fn report(model: &ModelServer) -> FineReport {
    let encoder = ModelServer::start().await;
    evaluate_fine(&settings(model, &encoder), &garden(), |_| {}).await.unwrap()
}

fn recall_at_10(report: &mos_eval::Report) -> f64 {
    report.summary(&[1, 2, 3, 4]).unwrap().recall[2]
}

#[tokio::test]
async fn evidence_is_found_through_both_and_none_is_lost() {
    let model = ModelServer::start().await;
    model.answer_with(notes);
    let report = report(&model).await;
    assert_eq!(report.problems(), Vec::<String>::new());
    let drawn = &report.drawn;
    // Two greetings are too short, two turns are questions.
    assert_eq!((drawn.n_windows, drawn.n_memories, drawn.n_turns, drawn.n_turns_named), (2, 6, 10, 6), "{drawn:?}");
    assert_eq!((drawn.n_evidence, drawn.n_evidence_named), (4, 4));
    assert!(drawn.failures.is_empty() && drawn.dropped.is_empty(), "{drawn:?}");
    // Ten turns are all among the first ten; with sixteen memories the evidence must come before the rest.
    assert_eq!((recall_at_10(&report.raw), recall_at_10(&report.by_new_turns)), (1.0, 1.0));
    assert_eq!((recall_at_10(&report.fine), recall_at_10(&report.by_results)), (1.0, 1.0));
    let asked = model.requests();
    assert_eq!(asked.len(), 2, "one question per window");
    assert!(asked.iter().all(|request| request.path == "/v1/chat/completions" && asks_for_memories(&request.body)));
    assert_eq!(report.to_value(true)["fine"]["conversations"]["garden"]["all"]["n"], 4);
}

#[tokio::test]
async fn a_memory_stands_for_all_the_turns_that_it_names() {
    let model = ModelServer::start().await;
    model.answer_with(|body| match question(body).contains("cello") {
        true => answer(&[
            memory("Ben planted three apple trees, and Ida's cello teacher moved to Lisbon.", &[2, 3]),
            memory("Ida works for Siemens.", &[3]),
        ]),
        false => answer(&[]),
    });
    let report = report(&model).await;
    let drawn = &report.drawn;
    assert_eq!((drawn.n_memories, drawn.n_turns_named, drawn.n_evidence_named), (1, 2, 2), "{drawn:?}");
    assert_eq!((drawn.dropped.len(), drawn.lost.len(), drawn.without_sources.len()), (1, 0, 0));
    assert!(drawn.dropped[0].reason.contains("Siemens"), "{drawn:?}");
    // It is one result, and takes the places of both turns.
    let places = |report: &mos_eval::Report| report.asked[0].outcome.places.clone();
    assert!(places(&report.fine) <= vec![2], "{:?}", places(&report.fine));
    assert!(places(&report.by_results) <= places(&report.fine));
    assert!(report.n_shown_drawn > 0, "{}", report.table());
    assert_eq!(report.problems(), Vec::<String>::new());
}

#[tokio::test]
async fn windows_that_fail_are_told_and_lose_nothing() {
    let model = ModelServer::start().await;
    model.answer_with(|body| match question(body).contains("cello") {
        true => Reply::text("Sure, I am happy to help with that."),
        false => notes(body),
    });
    let report = report(&model).await;
    let [failed] = report.drawn.failures.as_slice() else { panic!("{:?}", report.drawn) };
    assert_eq!((failed.session.as_str(), failed.first.as_str(), failed.last.as_str()), ("session_1", "D1:1", "D1:5"));
    assert!(failed.reason.contains("3 attempts"), "{}", failed.reason);
    assert_eq!((report.drawn.n_memories, report.drawn.lost.len()), (3, 0));
    assert_eq!(model.requests().len(), 4, "three attempts and the other window");
    assert!(report.problems().is_empty() && report.table().contains("failed: garden session_1"), "{}", report.table());
}

#[tokio::test]
async fn a_server_that_fails_leaves_nothing_to_compare() {
    let model = ModelServer::start().await;
    for _ in 0..2 {
        model.fault(Fault::Status(500, json!({"error": {"message": "out of memory"}})));
    }
    let report = report(&model).await;
    assert_eq!((report.drawn.failures.len(), report.drawn.n_memories, report.drawn.lost.len()), (2, 0, 0));
    assert!(report.problems()[0].contains("2 windows failed"), "{:?}", report.problems());
    assert_eq!(recall_at_10(&report.raw), recall_at_10(&report.fine));
}
