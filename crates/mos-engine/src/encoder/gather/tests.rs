//! A computation that stops where a test wants it to.

use std::sync::mpsc::{Receiver, Sender, channel};

use futures::FutureExt;
use futures::future::BoxFuture;

use super::*;

/// A text with this token cannot be computed.
const BAD: u32 = 13;
/// A text with this token shows a defect.
const DEFECT: u32 = 14;

/// A gatherer whose runs are told, and wait until they may go on.
struct Stopped {
    gatherer: Gatherer,
    /// The first token of every text of a run, when it begins.
    begun: Receiver<Vec<u32>>,
    /// One for each run that may go on; all may when it is gone.
    go: Mutex<Option<Sender<()>>>,
}

impl Stopped {
    fn new(limit: usize) -> Self {
        let ((tell, begun), (go, wait)) = (channel(), channel::<()>());
        let compute = move |texts: &[&[u32]]| {
            // A test that has ended listens no more.
            let _ = tell.send(texts.iter().map(|text| text[0]).collect());
            let _ = wait.recv();
            assert!(!texts.iter().any(|text| text.contains(&DEFECT)), "a defect");
            if texts.iter().any(|text| text.contains(&BAD)) {
                return Err(ModelError::Invalid(format!("one of {} texts is bad", texts.len())));
            }
            Ok(texts.iter().map(|text| vec![text.iter().sum::<u32>() as f32]).collect())
        };
        Self { gatherer: Gatherer::start(limit, compute).unwrap(), begun, go: Mutex::new(Some(go)) }
    }

    /// Asks for texts of `n_tokens` that begin with these tokens; they are in line when this returns.
    fn ask(&self, line: Line, firsts: &[u32], n_tokens: usize) -> BoxFuture<'_, Result<Vec<Vec<f32>>, ModelError>> {
        let texts = firsts.iter().map(|first| {
            let mut text = vec![0; n_tokens];
            text[0] = *first;
            text
        });
        let texts: Vec<Vec<u32>> = texts.collect();
        let gatherer = &self.gatherer;
        let mut asked = async move { gatherer.places(line, texts.len()).await?.vectors(texts).await }.boxed();
        assert!((&mut asked).now_or_never().is_none(), "nothing is computed yet");
        asked
    }

    /// Returns the texts of the next run.
    fn run(&self) -> Vec<u32> {
        self.begun.recv().unwrap()
    }

    /// Lets the present run go on.
    fn go_on(&self) {
        self.go.lock().unwrap().as_ref().unwrap().send(()).unwrap();
    }

    /// Lets all runs go on.
    fn finish(&self) {
        *self.go.lock().unwrap() = None;
    }
}

fn numbers(vectors: Vec<Vec<f32>>) -> Vec<f32> {
    vectors.concat()
}

#[tokio::test]
async fn a_text_alone_is_computed_at_once_and_what_comes_meanwhile_together() {
    let stopped = Stopped::new(100);
    let first = stopped.ask(Line::Short, &[1], 4);
    assert_eq!(stopped.run(), [1], "it waits for nobody");
    let _others = [2, 3, 4].map(|number| stopped.ask(Line::Short, &[number, number + 10], 4));
    stopped.go_on();
    assert_eq!(numbers(first.await.unwrap()), [1.0]);
    assert_eq!(stopped.run(), [2, 12, 3, 13, 4, 14]);
}

#[tokio::test]
async fn everybody_gets_the_vectors_of_their_own_texts() {
    let stopped = Stopped::new(10);
    stopped.finish();
    let gatherer = &stopped.gatherer;
    let calls = [20_u32, 30, 40].map(|number| async move {
        let texts: Vec<Vec<u32>> = (0..7).map(|more| vec![number + more, 100]).collect();
        let places = gatherer.places(Line::Long, texts.len()).await.unwrap();
        (number, places.vectors(texts).await.unwrap())
    });
    for (number, vectors) in futures::future::join_all(calls).await {
        let expected: Vec<f32> = (0..7).map(|more| (number + more + 100) as f32).collect();
        assert_eq!(numbers(vectors), expected);
    }
}

#[tokio::test]
async fn runs_are_bounded_and_a_text_that_is_too_large_runs_alone() {
    let stopped = Stopped::new(10);
    let _busy = stopped.ask(Line::Short, &[1], 4);
    assert_eq!(stopped.run(), [1]);
    let _small = stopped.ask(Line::Short, &[2, 3, 4], 4);
    let _large = stopped.ask(Line::Short, &[5], 40);
    for expected in [&[2, 3][..], &[4], &[5]] {
        stopped.go_on();
        assert_eq!(stopped.run(), expected);
    }
}

#[tokio::test]
async fn a_question_goes_between_the_texts_of_a_long_request() {
    let stopped = Stopped::new(8);
    let _document = stopped.ask(Line::Long, &[1, 2, 3, 4, 5, 6, 7, 8], 4);
    assert_eq!(stopped.run(), [1, 2], "all of the run, where nobody else waits");
    let _question = stopped.ask(Line::Short, &[20], 4);
    stopped.go_on();
    assert_eq!(stopped.run(), [20, 3]);
    stopped.go_on();
    assert_eq!(stopped.run(), [4, 5]);
}

#[tokio::test]
async fn many_questions_do_not_keep_a_long_request_from_being_computed() {
    let stopped = Stopped::new(8);
    let _questions = stopped.ask(Line::Short, &[1, 2, 3, 4, 5, 6, 7, 8, 9], 4);
    assert_eq!(stopped.run(), [1, 2]);
    let _document = stopped.ask(Line::Long, &[20, 21], 4);
    for expected in [[20, 3], [4, 5], [21, 6]] {
        stopped.go_on();
        assert_eq!(stopped.run(), expected);
    }
}

#[tokio::test]
async fn long_requests_take_turns() {
    let stopped = Stopped::new(8);
    let _one = stopped.ask(Line::Long, &[1, 2, 3, 4], 4);
    assert_eq!(stopped.run(), [1, 2]);
    let _other = stopped.ask(Line::Long, &[5, 6, 7, 8], 4);
    let _third = stopped.ask(Line::Long, &[9], 4);
    for expected in [&[3, 4][..], &[5, 6], &[9, 7], &[8]] {
        stopped.go_on();
        assert_eq!(stopped.run(), expected);
    }
}

#[tokio::test]
async fn texts_whose_callers_have_gone_are_not_computed() {
    let stopped = Stopped::new(100);
    let _busy = stopped.ask(Line::Short, &[1], 4);
    assert_eq!(stopped.run(), [1]);
    let gone = [stopped.ask(Line::Short, &[2], 4), stopped.ask(Line::Long, &[3, 4], 4)];
    let _waiting = stopped.ask(Line::Short, &[5], 4);
    drop(gone);
    stopped.go_on();
    assert_eq!(stopped.run(), [5]);
}

#[tokio::test]
async fn a_text_that_fails_fails_its_own_caller_only() {
    let stopped = Stopped::new(100);
    let busy = stopped.ask(Line::Short, &[1], 4);
    assert_eq!(stopped.run(), [1]);
    let (before, bad) = (stopped.ask(Line::Short, &[2], 4), stopped.ask(Line::Short, &[BAD], 4));
    let (defect, after) = (stopped.ask(Line::Short, &[DEFECT], 4), stopped.ask(Line::Short, &[3], 4));
    stopped.finish();
    let (busy, before, bad, defect, after) = (busy.await, before.await, bad.await, defect.await, after.await);
    for (outcome, expected) in [(busy, 1.0), (before, 2.0), (after, 3.0)] {
        assert_eq!(numbers(outcome.unwrap()), [expected]);
    }
    assert!(matches!(bad.unwrap_err(), ModelError::Invalid(text) if text == "one of 1 texts is bad"));
    let defect = defect.unwrap_err();
    assert!(matches!(&defect, ModelError::Internal { source, .. } if source.to_string() == "a defect"), "{defect}");
}
