//! Progress bars on standard error; silent when it is not a terminal.

use std::sync::Mutex;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use mos::fetch::Progress;

/// How often something moves.
const TICK: Duration = Duration::from_millis(100);

/// A spinner with a message, while something takes its time.
pub(crate) fn spinner(message: impl Into<String>) -> ProgressBar {
    let bar = ProgressBar::new_spinner().with_message(message.into());
    bar.enable_steady_tick(TICK);
    bar
}

/// Shows a spinner with a message until the work is done.
pub(crate) async fn spinning<T>(message: impl Into<String>, work: impl Future<Output = T>) -> T {
    let bar = spinner(message);
    let done = work.await;
    bar.finish_and_clear();
    done
}

/// A bar that counts things of a known number.
pub(crate) fn counter(total: usize, message: &str) -> ProgressBar {
    let bar = ProgressBar::new(total as u64).with_message(message.to_owned());
    if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} {wide_bar} {pos}/{len}") {
        bar.set_style(style);
    }
    // The first thing loads the encoder: something moves meanwhile.
    bar.enable_steady_tick(TICK);
    bar
}

/// Bars for the files of a download, one at a time.
#[derive(Debug, Default)]
pub(crate) struct Downloads {
    current: Mutex<Option<(String, ProgressBar)>>,
}

impl Progress for Downloads {
    fn note(&self, text: &str) {
        self.finish();
        crate::output::Output::default().note(text);
    }

    fn bytes(&self, file: &str, done: u64, total: Option<u64>) {
        let mut current = self.current.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if current.as_ref().is_none_or(|(name, _)| name != file) {
            let bar = ProgressBar::new(total.unwrap_or(0)).with_message(file.to_owned());
            if let Ok(style) = ProgressStyle::with_template("  {msg} {wide_bar} {bytes}/{total_bytes} {eta}") {
                bar.set_style(style);
            }
            *current = Some((file.to_owned(), bar));
        }
        if let Some((_, bar)) = current.as_ref() {
            bar.set_position(done);
        }
    }
}

impl Downloads {
    /// Removes the bar.
    pub(crate) fn finish(&self) {
        let mut current = self.current.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some((_, bar)) = current.take() {
            bar.finish_and_clear();
        }
    }
}
