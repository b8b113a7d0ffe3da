//! Which messages this process has put into the queue lately: queues find a message by its name, and people ask for all of
//! theirs.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Mutex, PoisonError};

use jiff::Timestamp;
use mos_core::{CubeId, UserId};

use crate::message::ScheduleMessage;
use crate::status::ItemState;

/// How many messages are remembered; the oldest one goes first.
const KEPT: usize = 4_000;

/// How long they are remembered: a week, as MemOS does.
const KEPT_SECONDS: i64 = 7 * 24 * 60 * 60;

/// A message that was sent lately. Whether it was accepted, and what became of it, the queue says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecentMessage {
    /// Its name.
    pub item_id: String,
    /// For whom.
    pub user_id: UserId,
    /// For which cube.
    pub mem_cube_id: CubeId,
    /// What is to be done.
    pub label: String,
    /// The task of the application that it belongs to.
    pub task_id: Option<String>,
    /// When it was made.
    pub timestamp: Timestamp,
    /// Whether it was seen to be done, which stays so.
    pub is_completed: bool,
}

/// The messages that were sent lately, oldest first.
#[derive(Debug, Default)]
pub(crate) struct Recent {
    messages: Mutex<VecDeque<RecentMessage>>,
}

impl Recent {
    pub(crate) fn note(&self, message: &ScheduleMessage) {
        let mut messages = self.messages.lock().unwrap_or_else(PoisonError::into_inner);
        if messages.len() >= KEPT {
            messages.pop_front();
        }
        messages.push_back(RecentMessage {
            item_id: message.item_id.clone(),
            user_id: message.user_id.clone(),
            mem_cube_id: message.mem_cube_id.clone(),
            label: message.label.clone(),
            task_id: message.task_id.clone().filter(|task| !task.is_empty()),
            timestamp: message.timestamp,
            is_completed: false,
        });
    }

    /// Remembers those that are done, so that the queue is not asked for them again.
    pub(crate) fn note_completed(&self, states: &[(RecentMessage, ItemState)]) {
        let is_new =
            |(message, state): &&(RecentMessage, ItemState)| !message.is_completed && *state == ItemState::Completed;
        let completed: HashSet<(&CubeId, &str)> =
            states.iter().filter(is_new).map(|(message, _)| (&message.mem_cube_id, message.item_id.as_str())).collect();
        if completed.is_empty() {
            return;
        }
        let mut messages = self.messages.lock().unwrap_or_else(PoisonError::into_inner);
        for message in messages.iter_mut() {
            message.is_completed |= completed.contains(&(&message.mem_cube_id, message.item_id.as_str()));
        }
    }

    pub(crate) fn all(&self, now: Timestamp) -> Vec<RecentMessage> {
        let is_recent =
            |message: &&RecentMessage| now.as_second().saturating_sub(message.timestamp.as_second()) <= KEPT_SECONDS;
        let messages = self.messages.lock().unwrap_or_else(PoisonError::into_inner);
        let sent: Vec<RecentMessage> = messages.iter().filter(is_recent).cloned().collect();
        drop(messages);
        let mut recent: Vec<RecentMessage> = Vec::with_capacity(sent.len());
        let mut places: HashMap<(CubeId, String), usize> = HashMap::new();
        for message in sent {
            match places.entry((message.mem_cube_id.clone(), message.item_id.clone())) {
                // Sent again, it is the same message; the queue may have forgotten that it was done, and do it again.
                Entry::Occupied(place) => recent[*place.get()].is_completed = message.is_completed,
                Entry::Vacant(place) => {
                    place.insert(recent.len());
                    recent.push(message);
                }
            }
        }
        recent
    }
}

#[cfg(test)]
mod tests {
    use mos_core::{Clock, RandomIds, SystemClock};

    use super::*;
    use crate::label::ADD;

    #[test]
    fn that_a_message_is_done_is_remembered_until_it_is_sent_again() {
        let recent = Recent::default();
        let message = |item: &str| {
            let message = ScheduleMessage::new(ADD, "ann", "notes", "", &SystemClock, &RandomIds);
            ScheduleMessage { item_id: item.to_owned(), ..message }
        };
        for item in ["done", "waits", "failed"] {
            recent.note(&message(item));
        }
        let states = [ItemState::Completed, ItemState::Waiting, ItemState::Failed];
        let all = || recent.all(SystemClock.now());
        let is_completed = || all().iter().map(|message| message.is_completed).collect::<Vec<_>>();
        recent.note_completed(&all().into_iter().zip(states).collect::<Vec<_>>());
        assert_eq!(is_completed(), [true, false, false], "what was given up can be retried");
        recent.note(&message("done"));
        assert_eq!(is_completed(), [false, false, false]);
    }

    #[test]
    fn messages_are_remembered_once_for_a_week_and_boundedly() {
        let recent = Recent::default();
        let mut first = ScheduleMessage::new(ADD, "ann", "notes", "", &SystemClock, &RandomIds);
        first.item_id = "first".to_owned();
        recent.note(&first);
        recent.note(&first);
        let now = SystemClock.now();
        assert_eq!(recent.all(now).len(), 1);
        let later = Timestamp::from_second(now.as_second() + KEPT_SECONDS + 60).unwrap();
        assert!(recent.all(later).is_empty());
        for index in 0..KEPT {
            recent.note(&ScheduleMessage { item_id: index.to_string(), ..first.clone() });
        }
        let kept = recent.all(now);
        assert_eq!((kept.len(), kept[0].item_id.as_str()), (KEPT, "0"), "the oldest is forgotten");
    }
}
