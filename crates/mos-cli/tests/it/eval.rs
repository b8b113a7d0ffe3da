//! `mos eval`: that it measures what it says.

use mos_testkit::model_server::{ModelServer, Reply, schema_of};
use serde_json::{Value, json as object};

use crate::{failure, json, stdout, write};

/// Two sessions; the second question names a turn that does not exist beside one that does, the last has no evidence.
fn conversations() -> Value {
    let turn = |id: &str, speaker: &str, text: &str| object!({"dia_id": id, "speaker": speaker, "text": text});
    object!([{
        "sample_id": "garden",
        "conversation": {
            "speaker_a": "Ida", "speaker_b": "Ben",
            "session_1_date_time": "9:15 am on 2 March, 2024",
            "session_1": [
                turn("D1:1", "Ida", "Good morning, Ben!"),
                turn("D1:2", "Ben", "Morning. I planted three apple trees behind the shed yesterday."),
                turn("D1:3", "Ida", "Lovely. My cello teacher moved to Lisbon, so I have no lessons now."),
            ],
            "session_2_date_time": "6:40 pm on 11 April, 2024",
            "session_2": [
                turn("D2:1", "Ben", "The apple trees have leaves already."),
                {"dia_id": "D2:2", "speaker": "Ida", "text": "Look at this.", "blip_caption": "a red canoe on a lake"},
            ],
        },
        "qa": [
            {"question": "Where did Ida's cello teacher move to?", "category": 4, "evidence": ["D1:3"]},
            {"question": "What did Ben plant behind the shed?", "category": 1, "evidence": ["D1:02; D9:9", "D2:1"]},
            {"question": "What colour is the canoe on the lake?", "category": 4, "evidence": ["D2:2"]},
            {"question": "Who won the election?", "category": 5, "evidence": []},
        ],
    }])
}

#[test]
fn evidence_is_found_and_counted() {
    let data = tempfile::tempdir().unwrap();
    let data = data.path();
    let file = write(data, "conversations.json", &conversations().to_string());
    let report = json(data, &["eval", "locomo", &file, "--dev"]);
    assert_eq!((&report["all"]["n"], &report["cats_1_4"]["n"]), (&object!(3), &object!(3)));
    assert_eq!((&report["cat_5"], &report["cat_2"]), (&Value::Null, &Value::Null));
    // Five turns are all among the first ten; the first result answers both easy questions.
    assert_eq!((&report["all"]["recall@10"], &report["all"]["all@5"]), (&object!(1.0), &object!(1.0)));
    assert_eq!((&report["cat_4"]["mrr"], &report["cat_4"]["hit@1"]), (&object!(1.0), &object!(1.0)));
    assert_eq!(report["cat_1"]["recall@1"], 0.5);
    assert_eq!(report["speed"]["turns"], 5);
    assert_eq!((&report["conversations"]["garden"]["all"]["n"], &report["missed"]), (&object!(3), &object!([])));
    // Nothing of it stays in the data folder.
    let left: Vec<_> = std::fs::read_dir(data).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["conversations.json"]);

    let table = stdout(data, &["eval", "locomo", &file]);
    assert!(table.contains("cats_1_4") && table.contains("5 turns stored"), "{table}");
}

/// Draws one memory from the session that speaks of a cello, and finds every claim supported.
fn answer(body: &Value) -> Reply {
    let is_about_cello = body["messages"].to_string().contains("cello");
    let memory = object!({"key": "Cello teacher", "memory_type": "LongTermMemory", "type": "event",
        "value": "Ida's cello teacher moved to Lisbon.", "tags": [], "background": "", "messages": [3]});
    let memories = if is_about_cello { vec![memory] } else { Vec::new() };
    let answer = match schema_of(body).is_some_and(|schema| schema["properties"]["memory list"].is_object()) {
        true => object!({"memory list": memories, "summary": "A chat."}),
        false => object!({"results": [{"number": 1, "supported": true, "reason": ""}]}),
    };
    Reply::text(answer.to_string())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_model_draws_is_searched_and_judged() {
    let server = ModelServer::start().await;
    server.answer_with(answer);
    let data = tempfile::tempdir().unwrap();
    let data = data.path();
    let settings = object!({"chat_model": {"backend": "openai", "config": {
        "model_name_or_path": "scripted", "api_key": "sk-test", "api_base": server.openai_url(), "max_retries": 0}}});
    let settings = write(data, "settings.json", &settings.to_string());
    let file = write(data, "conversations.json", &conversations().to_string());
    // Programs wait in threads of their own, so that the server goes on.
    tokio::task::block_in_place(|| {
        let fine = ["eval", "locomo", &file, "--fine", "--config", &settings];
        let report = json(data, &fine);
        assert_eq!(
            (&report["raw"]["all"]["recall@10"], &report["raw"]["speed"]["turns"]),
            (&object!(1.0), &object!(5))
        );
        assert_eq!((&report["fine"]["all"]["n"], &report["fine"]["all"]["recall@10"]), (&object!(3), &object!(1.0)));
        let made = &report["fine_mode"];
        assert_eq!(
            (&made["windows"], &made["memories"], &made["turns_named"]),
            (&object!(2), &object!(1), &object!(1))
        );
        assert_eq!((&made["lost_turns"], &report["problems"]), (&object!(0), &object!([])));
        assert!(stdout(data, &fine).contains("raw turns and fine memories"));

        let extraction = ["eval", "extraction", &file, "--limit", "1", "--config", &settings];
        let report = json(data, &extraction);
        assert_eq!((&report["sessions"], &report["claims"]), (&object!(1), &object!(1)));
        assert_eq!((&report["supported_by_model"], &report["supported_by_check"]), (&object!(1), &object!(1)));
        assert!(stdout(data, &extraction).contains("1 of 1 (1.000)"));
        for _ in 0..3 {
            server.reply(Reply::text("I cannot do that."));
        }
        assert!(failure(data, &extraction).contains("no memory was drawn from 1 windows: 1 windows failed"));
    });
}

#[test]
fn what_is_no_conversation_is_told() {
    let data = tempfile::tempdir().unwrap();
    let data = data.path();
    assert!(failure(data, &["eval", "locomo", "missing.json"]).contains("cannot read missing.json"));
    let file = write(data, "text.json", "[{\"conversation\": {}}]");
    assert!(failure(data, &["eval", "locomo", &file]).contains("nothing was said"));
}
