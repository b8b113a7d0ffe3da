//! First come, first served.

use std::sync::{Condvar, Mutex, PoisonError};

/// Turns at something that only one may use at a time, in the order in which they were asked for.
///
/// A plain lock is often taken again at once by whoever gave it back; a single question would wait for all batches of
/// another call.
#[derive(Debug, Default)]
pub(crate) struct Turns {
    line: Mutex<Line>,
    moved: Condvar,
}

#[derive(Debug, Default)]
struct Line {
    /// The number of the next one who asks.
    next: u64,
    /// The number whose turn it is.
    current: u64,
}

/// A turn; it ends when this is dropped.
#[must_use]
pub(crate) struct Turn<'a>(&'a Turns);

impl Turns {
    /// Waits for a turn.
    pub(crate) fn wait(&self) -> Turn<'_> {
        // Both numbers are written at once, so a line that somebody left in panic is as good as any.
        let mut line = self.line.lock().unwrap_or_else(PoisonError::into_inner);
        let mine = line.next;
        line.next += 1;
        let line = self.moved.wait_while(line, |line| line.current != mine).unwrap_or_else(PoisonError::into_inner);
        drop(line);
        Turn(self)
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut line = self.0.line.lock().unwrap_or_else(PoisonError::into_inner);
        line.current += 1;
        drop(line);
        self.0.moved.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

    use super::*;

    fn waiting(turns: &Turns) -> u64 {
        let line = turns.line.lock().unwrap();
        line.next - line.current
    }

    #[test]
    fn turns_come_in_the_order_in_which_they_were_asked_for() {
        let (turns, order) = (Turns::default(), Mutex::new(Vec::new()));
        let first = turns.wait();
        std::thread::scope(|scope| {
            for number in 0..4 {
                scope.spawn({
                    let (turns, order) = (&turns, &order);
                    move || {
                        let _turn = turns.wait();
                        order.lock().unwrap().push(number);
                    }
                });
                // The next one asks when this one stands in line.
                while waiting(&turns) < number + 2 {
                    std::thread::yield_now();
                }
            }
            drop(first);
        });
        assert_eq!(*order.lock().unwrap(), [0, 1, 2, 3]);
    }

    #[test]
    fn only_one_has_a_turn_and_a_panic_ends_it() {
        let (turns, inside) = (Turns::default(), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for number in 0..8 {
                let (turns, inside) = (&turns, &inside);
                scope.spawn(move || {
                    for _ in 0..100 {
                        let _turn = turns.wait();
                        assert_eq!(inside.fetch_add(1, SeqCst), 0);
                        std::thread::yield_now();
                        inside.fetch_sub(1, SeqCst);
                    }
                    let failed = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                        let _turn = turns.wait();
                        assert!(number > 8, "everybody fails once");
                    }));
                    assert!(failed.is_err());
                });
            }
        });
        assert_eq!(waiting(&turns), 0);
    }
}
