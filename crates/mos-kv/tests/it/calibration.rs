//! Verdicts on lossy strategies, and what they change.

use std::sync::Arc;

use mos_engine::CancelToken;
use mos_kv::{
    Calibration, CalibrationCase, CalibrationFolder, CalibrationLimits, KvCacheMemory, KvCacheMemoryOptions, KvError,
    MergeChoice, MergeStrategy, calibrate,
};
use mos_testkit::clock::SetClock;

use crate::support::{memory, options, smol, tiny, words};

fn case(memories: &[&str], question: &str) -> CalibrationCase {
    CalibrationCase { memories: memories.iter().map(|&text| text.to_owned()).collect(), question: question.to_owned() }
}

fn measure(
    memory: &KvCacheMemory,
    cases: &[CalibrationCase],
    limits: CalibrationLimits,
) -> Result<Calibration, KvError> {
    let strategies =
        [MergeStrategy::LOSSY.as_slice(), &[MergeStrategy::Lego { k: 1000 }, MergeStrategy::Blend { ratio: 1.0 }]]
            .concat();
    calibrate(memory.extractor(), cases, &strategies, limits, &SetClock::default(), &CancelToken::default())
}

#[test]
fn recomputing_all_is_the_truth_and_leaving_out_memories_is_far_from_it() {
    let model = smol();
    let memory = memory(&model);
    let cases = [
        case(
            &["Anna lives in Porto.", "Tom keeps bees near Braga.", "The meeting is on Tuesday."],
            "Where does Anna live?",
        ),
        case(&["The red box holds screws.", "The blue box holds nails."], "What is in the blue box?"),
    ];
    let limits = CalibrationLimits { max_mean_kl: 1e-4, min_top1: 1.0, answer_tokens: 8 };
    let found = measure(&memory, &cases, limits).unwrap();
    println!("without: {:?}", found.without_memories);
    for verdict in &found.verdicts {
        println!(
            "{}: KL {:.4}, top-1 {:.3}, passed {}",
            verdict.strategy, verdict.mean_kl, verdict.top1, verdict.passed
        );
    }
    assert!(found.passed(MergeStrategy::Lego { k: 1000 }) && found.passed(MergeStrategy::Blend { ratio: 1.0 }));
    for verdict in &found.verdicts[..4] {
        assert!(!verdict.passed && verdict.mean_kl > 1e-4, "{verdict:?}");
        assert!(verdict.mean_kl < found.without_memories.0, "{verdict:?}");
    }
    assert!(found.n_tokens > 2 * 8 && found.n_cases == 2);
}

#[test]
fn automatic_choice_waits_for_a_verdict() {
    let tiny = tiny(1);
    let folder = tempfile::tempdir().unwrap();
    let open = || {
        let options = KvCacheMemoryOptions { calibration_folder: Some(folder.path().to_owned()), ..options() };
        KvCacheMemory::open(Arc::clone(&tiny.model), options).unwrap()
    };
    let memory = open();
    let items: Vec<_> = (0..2).map(|at| memory.extract(words(at, 12)).unwrap()).collect();
    memory.add(items.clone()).unwrap();
    let ids: Vec<&str> = items.iter().map(|item| item.id.as_str()).collect();
    assert!(memory.get_cache_with(&ids, MergeChoice::Auto).unwrap().unwrap().is_exact());
    let cases = [case(&[&words(1, 9), &words(2, 9)], "w5")];
    let limits = CalibrationLimits { max_mean_kl: 1e9, min_top1: 0.0, answer_tokens: 2 };
    let found = measure(&memory, &cases, limits).unwrap();
    assert_eq!(found.cheapest_passed(), Some(MergeStrategy::Shifted));
    memory.set_calibration(found.clone()).unwrap();
    // What is stored exactly already stays the first choice.
    assert!(memory.get_cache_with(&ids, MergeChoice::Auto).unwrap().unwrap().is_exact());
    let reversed = [ids[1], ids[0]];
    assert!(!memory.get_cache_with(&reversed, MergeChoice::Auto).unwrap().unwrap().is_exact());
    // The verdict is there again after a restart, for this model only.
    assert_eq!(open().calibration(), Some(found.clone()));
    let other = crate::support::tiny(2);
    let verdicts = CalibrationFolder::new(folder.path().to_owned());
    assert!(verdicts.read(other.model.identity()).unwrap().is_none());
    // One that cannot be read is none; the next calibration replaces it.
    for entry in std::fs::read_dir(folder.path()).unwrap() {
        std::fs::write(entry.unwrap().path(), b"{").unwrap();
    }
    let reopened = open();
    assert_eq!(reopened.calibration(), None);
    reopened.set_calibration(found.clone()).unwrap();
    assert_eq!(open().calibration(), Some(found.clone()));
    let foreign = crate::support::memory(&other.model);
    assert!(matches!(foreign.set_calibration(found), Err(KvError::ForeignModel { .. })));
}

#[test]
fn cases_that_measure_nothing_are_refused() {
    let tiny = tiny(1);
    let memory = memory(&tiny.model);
    let limits = CalibrationLimits::default();
    assert!(matches!(measure(&memory, &[], limits), Err(KvError::Invalid(_))));
    assert!(matches!(measure(&memory, &[case(&["w1"], "w2")], limits), Err(KvError::Invalid(_))));
    assert!(matches!(measure(&memory, &[case(&["w1", " "], "w2")], limits), Err(KvError::Empty(_))));
    let cases = [case(&["w1", "w2"], "w3")];
    let endless = CalibrationLimits { max_mean_kl: f64::INFINITY, ..limits };
    assert!(matches!(measure(&memory, &cases, endless), Err(KvError::Invalid(_))));
    let exact = [MergeStrategy::PrefixTree];
    let refused = calibrate(memory.extractor(), &cases, &exact, limits, &SetClock::default(), &CancelToken::default());
    assert!(matches!(refused, Err(KvError::Invalid(_))));
}

#[test]
fn a_damaged_verdict_is_named() {
    let tiny = tiny(1);
    let folder = tempfile::tempdir().unwrap();
    let memory = memory(&tiny.model);
    let found = measure(&memory, &[case(&["w1", "w2"], "w3")], CalibrationLimits::default()).unwrap();
    let verdicts = CalibrationFolder::new(folder.path().to_owned());
    verdicts.write(&found).unwrap();
    let path = std::fs::read_dir(folder.path()).unwrap().next().unwrap().unwrap().path();
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, &text[..text.len() / 2]).unwrap();
    assert!(matches!(verdicts.read(tiny.model.identity()), Err(KvError::Damaged { .. })));
    std::fs::write(&path, text.replace("calibration/1", "calibration/2")).unwrap();
    assert!(matches!(verdicts.read(tiny.model.identity()), Err(KvError::Newer { .. })));
}

/// What was logged, as text.
#[derive(Clone, Default)]
pub(crate) struct Log(pub(crate) Arc<std::sync::Mutex<Vec<u8>>>);

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_named_strategy_is_obeyed_with_one_warning_until_it_has_passed() {
    let tiny = tiny(1);
    let memory = memory(&tiny.model);
    let items: Vec<_> = (0..2).map(|at| memory.extract(words(at, 12)).unwrap()).collect();
    memory.add(items.clone()).unwrap();
    let ids: Vec<&str> = items.iter().map(|item| item.id.as_str()).collect();
    let warnings = || {
        let log = Log::default();
        let writer = log.clone();
        let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).finish();
        tracing::subscriber::with_default(subscriber, || {
            for _ in 0..3 {
                let cache = memory.get_cache_with(&ids, MergeStrategy::Shifted).unwrap().unwrap();
                assert!(!cache.is_exact());
            }
            memory.get_cache_with(&ids, MergeStrategy::PrefixTree).unwrap();
            memory.get_cache_with(&ids[..1], MergeStrategy::Lego { k: 3 }).unwrap();
        });
        let text = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
        text.matches("has not passed a calibration").count()
    };
    assert_eq!(warnings(), 1);
    assert_eq!(warnings(), 0);
    let limits = CalibrationLimits { max_mean_kl: 1e9, min_top1: 0.0, answer_tokens: 2 };
    memory.set_calibration(measure(&memory, &[case(&["w1", "w2"], "w3")], limits).unwrap()).unwrap();
    assert_eq!(warnings(), 0);
}
