//! The measurements, on models that are small enough to be measured in a moment.

use mos_kv::KvError;
use mos_kv::bench::{
    BenchOptions, BenchReport, MergeBenchOptions, bench, bench_merge, bench_texts, bound, picture, prose,
};

use crate::support::tiny;

/// Tokens of the tiny model's vocabulary, others for every number.
fn tokens(number: usize, count: usize) -> Result<Vec<u32>, KvError> {
    Ok((0..count + 3).map(|at| 5 + ((at * 11 + number * 17 + at / 7) % 45) as u32).collect())
}

fn options(folder: &tempfile::TempDir) -> BenchOptions {
    BenchOptions {
        contexts: vec![20, 60],
        queries: vec![3, 9, 5],
        runs: 2,
        prompts: 5,
        answer_tokens: 8,
        ..BenchOptions::new(folder.path())
    }
}

#[test]
fn every_cell_is_measured_and_both_ways_answer_alike() {
    let (tiny, folder) = (tiny(3), tempfile::tempdir().unwrap());
    let options = options(&folder);
    let mut told = Vec::new();
    let progress = &mut |text: &str| told.push(text.to_owned());
    let cells = bench(tiny.model.decoder(), tiny.model.identity(), &tokens, &options, progress).unwrap();
    let order: Vec<_> = cells.iter().map(|cell| (cell.context, cell.query)).collect();
    assert_eq!(order, [(20, 3), (20, 9), (20, 5), (60, 3), (60, 9), (60, 5)]);
    for cell in &cells {
        let times = [cell.direct_ttft_s, cell.kv_ttft_s, cell.kv_cold_ttft_s, cell.build_s];
        assert!(times.iter().all(|time| *time > 0.0), "{cell:?}");
        assert!(cell.decode_tokens_per_s > 0.0 && cell.prefill_tokens_per_s > 0.0, "{cell:?}");
        assert!(cell.speedup > 0.0, "{cell:?}");
        assert_eq!(cell.bound, bound(tiny.model.decoder().spec(), cell.context, cell.query));
        assert_eq!((cell.identical, cell.prompts), (true, 5), "{cell:?}");
        assert!(cell.max_logit_difference < 1e-4 && cell.kl < 1e-6, "{cell:?}");
    }
    assert_eq!(told.len(), 10, "five texts of two contexts");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "the files of the cold way are gone");

    let report = BenchReport { model: "<m>".into(), random_weights: false, cpu: "c".into(), threads: 1, cells };
    let again: BenchReport = serde_json::from_str(&serde_json::to_string(&report).unwrap()).unwrap();
    assert_eq!(again.cells.len(), 6);
    let svg = picture(&again);
    assert_eq!(svg.matches("<line ").count(), 6);
    assert!(svg.contains("&lt;m&gt;") && !svg.contains("<m>"));
}

/// The median over one text is that text's.
#[test]
fn the_speed_up_is_that_of_a_text() {
    let (tiny, folder) = (tiny(3), tempfile::tempdir().unwrap());
    let options = BenchOptions { runs: 1, prompts: 1, ..options(&folder) };
    let cells = bench(tiny.model.decoder(), tiny.model.identity(), &tokens, &options, &mut |_| ()).unwrap();
    assert_eq!(cells.len(), 6);
    for cell in &cells {
        assert_eq!(cell.speedup, cell.direct_ttft_s / cell.kv_ttft_s);
        assert_eq!(cell.pct_of_bound, 100.0 * cell.speedup / cell.bound);
    }
}

#[test]
fn another_engine_gets_the_same_tokens() {
    let (tiny, folder) = (tiny(3), tempfile::tempdir().unwrap());
    let texts = bench_texts(tiny.model.decoder(), &tokens, &options(&folder)).unwrap();
    assert_eq!(texts.len(), 5);
    for (number, text) in texts.iter().enumerate() {
        assert_eq!(text, &tokens(number, 69).unwrap()[..69]);
    }
}

#[test]
fn options_that_make_no_sense_are_refused() {
    let (tiny, folder) = (tiny(3), tempfile::tempdir().unwrap());
    let (decoder, identity) = (tiny.model.decoder(), tiny.model.identity());
    let refused = |change: &dyn Fn(&mut BenchOptions)| {
        let mut options = options(&folder);
        change(&mut options);
        assert!(bench_texts(decoder, &tokens, &options).is_err());
        bench(decoder, identity, &tokens, &options, &mut |_| {}).unwrap_err()
    };
    let too_long = [
        refused(&|options| options.contexts = vec![usize::MAX]),
        refused(&|options| options.queries = vec![1, usize::MAX]),
        refused(&|options| options.answer_tokens = usize::MAX),
        refused(&|options| options.contexts = vec![240]),
    ];
    for error in too_long {
        assert!(matches!(error, KvError::TooLong { limit: 256, .. }), "{error}");
    }
    let invalid = [
        refused(&|options| options.contexts.clear()),
        refused(&|options| options.queries = vec![0]),
        refused(&|options| options.runs = 0),
        refused(&|options| options.prompts = 0),
    ];
    for error in invalid {
        assert!(matches!(error, KvError::Invalid(_)), "{error}");
    }
    // Texts that are shorter than they should be: at once, and only for the longest cell.
    for most in [10, 65] {
        let short = |number: usize, count: usize| tokens(number, count.min(most)).map(|mut all| all.split_off(3));
        let error = bench(decoder, identity, &short, &options(&folder), &mut |_| {}).unwrap_err();
        assert!(matches!(&error, KvError::Invalid(text) if text.contains("are needed")), "{error}");
    }
}

#[test]
fn merging_is_measured_next_to_one_item_of_that_length() {
    let tiny = tiny(3);
    let decoder = tiny.model.decoder();
    let options = MergeBenchOptions { query: 4, runs: 3, ..MergeBenchOptions::new(6, 10) };
    let merge = bench_merge(decoder, &tokens, options, &mut |_| {}).unwrap();
    assert_eq!((merge.items, merge.tokens_per_item, merge.query), (6, 10, 4));
    assert!(merge.merge_s > 0.0 && merge.merged_ttft_s > 0.0 && merge.single_ttft_s > 0.0, "{merge:?}");
    assert_eq!(merge.ratio, merge.merged_ttft_s / merge.single_ttft_s);
    let refused = |options| bench_merge(decoder, &tokens, options, &mut |_| {}).unwrap_err();
    for (items, tokens_per_item) in [(usize::MAX, 2), (2, usize::MAX), (26, 10)] {
        let error = refused(MergeBenchOptions::new(items, tokens_per_item));
        assert!(matches!(error, KvError::TooLong { limit: 256, .. }), "{error}");
    }
    for options in [MergeBenchOptions::new(0, 5), MergeBenchOptions { runs: 0, ..options }] {
        assert!(matches!(refused(options), KvError::Invalid(_)));
    }
}

#[test]
fn the_texts_are_prose() {
    let text = prose(0, 2000);
    assert!(text.contains("White Rabbit with pink eyes"), "{text}");
}
