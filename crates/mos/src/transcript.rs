//! What was said before, per user and session, bounded.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use mos_core::{Message, SessionId, UserId};

/// How many conversations are remembered at a time; the one unused for longest goes first.
const MAX_TRANSCRIPTS: usize = 1024;

/// How a conversation is cut when it has too many turns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trim {
    /// The oldest turn goes: the window always holds as many turns as allowed.
    OldestTurn,
    /// The older half goes: most turns then leave the front unchanged, so that a local model's kept state fits.
    OlderHalf,
}

#[derive(Debug, Default)]
struct Transcript {
    messages: Vec<Message>,
    used: u64,
}

/// Conversations by user and session.
#[derive(Debug, Default)]
pub(crate) struct Transcripts {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    by_session: HashMap<(UserId, Option<SessionId>), Transcript>,
    uses: u64,
}

impl Transcripts {
    /// Returns what was said, oldest first.
    pub(crate) fn get(&self, user: &UserId, session: Option<&SessionId>) -> Vec<Message> {
        let mut inner = self.lock();
        inner.uses += 1;
        let now = inner.uses;
        match inner.by_session.get_mut(&(user.clone(), session.cloned())) {
            None => Vec::new(),
            Some(transcript) => {
                transcript.used = now;
                transcript.messages.clone()
            }
        }
    }

    /// Adds a turn (question and answer) and keeps at most `max_turns`.
    pub(crate) fn push(
        &self,
        user: &UserId,
        session: Option<&SessionId>,
        question: Message,
        answer: Message,
        max_turns: usize,
        trim: Trim,
    ) {
        let mut inner = self.lock();
        inner.uses += 1;
        let now = inner.uses;
        let transcript = inner.by_session.entry((user.clone(), session.cloned())).or_default();
        transcript.used = now;
        transcript.messages.extend([question, answer]);
        let n_turns = transcript.messages.len() / 2;
        if n_turns > max_turns {
            let keep = match trim {
                Trim::OldestTurn => max_turns,
                Trim::OlderHalf => max_turns / 2,
            };
            transcript.messages.drain(..(n_turns - keep) * 2);
        }
        if inner.by_session.len() > MAX_TRANSCRIPTS {
            let oldest = inner.by_session.iter().min_by_key(|(_, transcript)| transcript.used);
            if let Some(key) = oldest.map(|(key, _)| key.clone()) {
                inner.by_session.remove(&key);
            }
        }
    }

    /// Forgets the oldest messages of a conversation.
    pub(crate) fn forget_oldest(&self, user: &UserId, session: Option<&SessionId>, n_messages: usize) {
        if let Some(transcript) = self.lock().by_session.get_mut(&(user.clone(), session.cloned())) {
            transcript.messages.drain(..n_messages.min(transcript.messages.len()));
        }
    }

    /// Forgets every conversation of a user.
    pub(crate) fn clear(&self, user: &UserId) {
        self.lock().by_session.retain(|(owner, _), _| owner != user);
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // A panic while the lock is held leaves at worst one turn unadded; the map itself is whole.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn talk(n_turns: usize, max_turns: usize, trim: Trim) -> Vec<String> {
        let transcripts = Transcripts::default();
        let user = UserId::from("ann");
        for turn in 0..n_turns {
            let (question, answer) = (Message::user(format!("q{turn}")), Message::assistant(format!("a{turn}")));
            transcripts.push(&user, None, question, answer, max_turns, trim);
        }
        transcripts.get(&user, None).iter().map(Message::text).collect()
    }

    #[test]
    fn the_window_drops_the_oldest_turn() {
        assert_eq!(talk(4, 2, Trim::OldestTurn), ["q2", "a2", "q3", "a3"]);
        assert!(talk(3, 0, Trim::OldestTurn).is_empty());
    }

    #[test]
    fn halving_leaves_room_for_turns_that_keep_the_front() {
        assert_eq!(talk(5, 4, Trim::OlderHalf), ["q3", "a3", "q4", "a4"]);
        assert_eq!(talk(6, 4, Trim::OlderHalf)[0], "q3");
    }

    #[test]
    fn sessions_and_users_do_not_mix_and_clear_forgets_all_of_a_user() {
        let transcripts = Transcripts::default();
        let (ann, bob, work) = (UserId::from("ann"), UserId::from("bob"), SessionId::from("work"));
        let turn = || (Message::user("q"), Message::assistant("a"));
        for (user, session) in [(&ann, None), (&ann, Some(&work)), (&bob, None)] {
            let (question, answer) = turn();
            transcripts.push(user, session, question, answer, 9, Trim::OldestTurn);
        }
        transcripts.clear(&ann);
        assert!(transcripts.get(&ann, None).is_empty() && transcripts.get(&ann, Some(&work)).is_empty());
        assert_eq!(transcripts.get(&bob, None).len(), 2);
    }

    #[test]
    fn the_number_of_conversations_is_bounded() {
        let transcripts = Transcripts::default();
        for index in 0..=MAX_TRANSCRIPTS {
            let user = UserId::new(format!("user{index}"));
            transcripts.push(&user, None, Message::user("q"), Message::assistant("a"), 9, Trim::OldestTurn);
        }
        assert!(transcripts.get(&UserId::from("user0"), None).is_empty(), "the oldest is forgotten");
        assert_eq!(transcripts.get(&UserId::from("user1"), None).len(), 2);
    }
}
