//! `mos kv bench`: that it measures what it says, and says what is wrong with its arguments.

use mos_testkit::model_server::{Fault, ModelServer};
use serde_json::{Value, json as object};

use crate::{failure, json, run, stdout, write};

const CELL: [&str; 15] = [
    "bound",
    "build_s",
    "context",
    "decode_tokens_per_s",
    "direct_ttft_s",
    "identical",
    "kl",
    "kv_cold_ttft_s",
    "kv_ttft_s",
    "max_logit_difference",
    "pct_of_bound",
    "prefill_tokens_per_s",
    "prompts",
    "query",
    "speedup",
];

fn cells(report: &Value) -> &Vec<Value> {
    report["cells"].as_array().unwrap()
}

#[test]
fn a_model_is_measured_drawn_and_shown_again() {
    let data = tempfile::tempdir().unwrap();
    let data = data.path();
    let sizes = ["--contexts", "40,90", "--queries", "8,16", "--runs", "1", "--prompts", "3"];
    let svg = data.join("table.svg").display().to_string();
    let report = json(data, &[&["kv", "bench", "--svg", &svg], &sizes[..]].concat());
    assert_eq!(
        (&report["model"], &report["random_weights"]),
        (&object!("SmolLM2-135M-Instruct.Q4_1"), &object!(false))
    );
    let order: Vec<_> = cells(&report).iter().map(|cell| (cell["context"].clone(), cell["query"].clone())).collect();
    let pair = |context, query| (object!(context), object!(query));
    assert_eq!(order, [pair(40, 8), pair(40, 16), pair(90, 8), pair(90, 16)]);
    for cell in cells(&report) {
        let mut fields: Vec<&String> = cell.as_object().unwrap().keys().collect();
        fields.sort();
        assert_eq!(fields, CELL);
        assert_eq!((&cell["identical"], &cell["prompts"]), (&object!(true), &object!(3)), "{cell}");
        assert!(cell["kv_ttft_s"].as_f64().unwrap() > 0.0, "{cell}");
    }
    let drawn = std::fs::read_to_string(&svg).unwrap();
    assert!(drawn.starts_with("<svg") && drawn.contains("90 × 16"), "{drawn}");

    let file = write(data, "report.json", &report.to_string());
    let again = data.join("again.svg").display().to_string();
    assert_eq!(json(data, &["kv", "bench", "--from", &file, "--svg", &again]), report);
    assert_eq!(std::fs::read_to_string(again).unwrap(), drawn);
    assert!(stdout(data, &["kv", "bench", "--from", &file]).contains("identical"));

    let prompts = data.join("prompts.json");
    let told = json(data, &[&["kv", "bench", "--write-prompts", &prompts.display().to_string()], &sizes[..]].concat());
    assert_eq!((&told["texts"], &told["tokens"]), (&object!(3), &object!(90 + 16)));
    let written: Value = serde_json::from_str(&std::fs::read_to_string(prompts).unwrap()).unwrap();
    let texts = written["texts"].as_array().unwrap();
    assert!(texts.len() == 3 && texts.iter().all(|text| text.as_array().unwrap().len() == 106));
    assert_ne!(texts[0], texts[1]);
}

#[test]
fn merging_is_measured() {
    let data = tempfile::tempdir().unwrap();
    let report = json(data.path(), &["kv", "bench", "--merge", "3x20", "--runs", "2"]);
    let merge = report["merge"].as_object().unwrap();
    let fields: Vec<&String> = merge.keys().collect();
    let known = ["items", "merge_s", "merged_ttft_s", "query", "ratio", "single_ttft_s", "tokens_per_item"];
    assert_eq!(fields.len(), known.len());
    assert!(known.iter().all(|field| merge[*field].as_f64().unwrap() > 0.0), "{report}");
    assert_eq!((&merge["items"], &merge["tokens_per_item"]), (&object!(3), &object!(20)));
    let line = stdout(data.path(), &["kv", "bench", "--merge", "2x10", "--runs", "1"]);
    assert!(line.contains("2 items of 10 tokens merged with shifted"), "{line}");
}

#[test]
fn a_shape_with_random_weights_tells_how_far_its_logits_are_apart() {
    let data = tempfile::tempdir().unwrap();
    let shape = ["kv", "bench", "--random-weights", "qwen3-0.6b", "--contexts", "64", "--queries", "32", "--runs", "1"];
    let report = json(data.path(), &[&shape[..], &["--prompts", "2"]].concat());
    assert_eq!((&report["model"], &report["random_weights"]), (&object!("qwen3-0.6b"), &object!(true)));
    let cell = &cells(&report)[0];
    assert_eq!(cells(&report).len(), 1);
    let (difference, kl) = (cell["max_logit_difference"].as_f64().unwrap(), cell["kl"].as_f64().unwrap());
    assert!((0.0..1e-2).contains(&difference) && (0.0..1e-3).contains(&kl), "{cell}");
    let file = write(data.path(), "report.json", &report.to_string());
    let table = stdout(data.path(), &["kv", "bench", "--from", &file]);
    assert!(table.contains("random weights: largest logit difference"), "{table}");
}

#[test]
fn arguments_that_make_no_sense_are_named() {
    let data = tempfile::tempdir().unwrap();
    let data = data.path();
    let bench = |arguments: &[&str]| failure(data, &[&["kv", "bench"], arguments].concat());
    let largest = usize::MAX.to_string();
    for arguments in [
        &["--contexts", &largest][..],
        &["--queries", &largest],
        &["--contexts", "8000"],
        &["--merge", &format!("{largest}x2")],
        &["--merge", "100x100"],
    ] {
        let error = bench(arguments);
        assert!(error.contains("the model takes 8192"), "{arguments:?}: {error}");
    }
    assert!(bench(&["--runs", "0"]).contains("must be at least 1"));
    assert!(bench(&["--merge", "0x9"]).contains("must be at least 1"));
    assert!(bench(&["--model", "no-such-model"]).contains("no-such-model"));
    assert!(bench(&["--random-weights", "qwen9"]).contains("qwen3-0.6b"));
    let text = write(data, "no-table.json", "{}");
    assert!(bench(&["--from", &text]).contains("no-table.json"));
    assert!(bench(&["--from", "nowhere.json"]).contains("nowhere.json"));
    let server = ["--vllm", "http://127.0.0.1:9/v1"];
    assert!(bench(&[&server[..], &["--memories", &largest]].concat()).contains("more than any server takes"));
    for arguments in [&["--merge", "30"][..], &["--merge", "ax2"], &["--from", &text, "--runs", "2"]] {
        let arguments = [&["kv", "bench"], arguments].concat();
        assert_eq!(run(data, &arguments).status.code(), Some(2), "{arguments:?}");
    }
}

#[test]
fn a_server_is_measured_with_its_memories_shown_before_and_without() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let server = runtime.block_on(ModelServer::start());
    let data = tempfile::tempdir().unwrap();
    let measure = ["kv", "bench", "--vllm", &server.openai_url(), "--model", "served", "--runs", "1"];
    let report = json(data.path(), &measure);
    assert_eq!(report["model"], "served");
    let order: Vec<(u64, u64)> = cells(&report)
        .iter()
        .map(|cell| (cell["memory"].as_u64().unwrap(), cell["context"].as_u64().unwrap()))
        .collect();
    let expected: Vec<(u64, u64)> = [500, 1000, 2000]
        .into_iter()
        .flat_map(|memory| [500, 1000, 2000, 4000].map(|context| (memory, context)))
        .collect();
    assert_eq!(order, expected);
    for cell in cells(&report) {
        let value = |field: &str| cell[field].as_f64().unwrap();
        assert!(value("without_s") > 0.0 && value("with_s") > 0.0, "{cell}");
        assert!((value("speedup") - value("without_s") / value("with_s")).abs() < 1e-9, "{cell}");
        assert!((value("difference_s") - (value("without_s") - value("with_s"))).abs() < 1e-9, "{cell}");
        assert_eq!(cell.as_object().unwrap().len(), 6, "{cell}");
    }
    // Per cell: one question about new memories, then other memories alone, and the question about those.
    let requests = server.requests();
    assert_eq!(requests.len(), 12 * 3);
    for cell in requests.chunks(3) {
        let system = |at: usize| cell[at].body["messages"][0]["content"].as_str().unwrap();
        assert_ne!(system(0), system(1), "new memories every time");
        assert_eq!(system(1), system(2), "the memories that were shown before");
        assert_eq!(cell[1].body["max_tokens"], 1);
        assert_ne!(cell[1].body["messages"][1], cell[2].body["messages"][1]);
    }
    let table = stdout(data.path(), &[&measure[..], &["--memories", "10,20", "--contexts", "10"]].concat());
    assert_eq!(table.lines().count(), 3, "{table}");

    server.fault(Fault::Status(400, object!({"error": {"message": "the prompt is too long"}})));
    let error = failure(data.path(), &measure);
    assert!(error.contains("the prompt is too long"), "{error}");
}
