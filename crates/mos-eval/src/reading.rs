//! Reading conversations in fine mode, and what went wrong with it.

use std::collections::HashMap;

use anyhow::Context;
use mos::{Mos, Remember};
use mos_core::{ReadInput, ReadMode, Reading};
use serde::Serialize;

use crate::locomo::{Conversation, Session};
use crate::run::{CUBE, USER, message_ids, messages};

/// A part of a conversation that a model was shown and that could not be refined, or not be checked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FailedWindow {
    /// The conversation's name.
    pub conversation: String,
    /// The session's name.
    pub session: String,
    /// The id of its first turn.
    pub first: String,
    /// The id of its last turn.
    pub last: String,
    /// Why.
    pub reason: String,
}

/// What came of a session.
#[derive(Debug)]
pub(crate) struct SessionReading {
    pub(crate) reading: Reading,
    pub(crate) failures: Vec<FailedWindow>,
}

/// Returns what fine mode makes of a session, as [`Mos::remember`] would store it; `None` for a session in which nobody spoke.
pub(crate) async fn read_session(
    mos: &Mos,
    conversation: &Conversation,
    session: &Session,
) -> anyhow::Result<Option<SessionReading>> {
    let messages = messages(conversation, session);
    if messages.is_empty() {
        return Ok(None);
    }
    let what = Remember::new(ReadInput::messages(messages))
        .user(USER)
        .cube(CUBE)
        .session(session.name.as_str())
        .mode(ReadMode::Fine);
    let told = || format!("reading {} of {} in fine mode", session.name, conversation.id);
    let reading = mos.read(what).await.with_context(told)?;
    let failures = failures(conversation, session, &reading);
    Ok(Some(SessionReading { reading, failures }))
}

/// The windows of which every turn is reported as kept as it was.
fn failures(conversation: &Conversation, session: &Session, reading: &Reading) -> Vec<FailedWindow> {
    let mut reasons: HashMap<&str, &str> = HashMap::new();
    for item in reading.report.items.iter().filter(|item| item.outcome == mos_core::Outcome::Raw) {
        let turn = number(&item.item).and_then(|number| session.turns.get(number.checked_sub(1)?));
        if let Some(turn) = turn {
            reasons.insert(&turn.id, item.reason.as_deref().unwrap_or("no reason was given"));
        }
    }
    let failed = reading.raw.iter().filter_map(|window| {
        let turns = message_ids(window);
        let (first, last) = (turns.first()?, turns.last()?);
        if !turns.iter().all(|turn| reasons.contains_key(turn.as_str())) {
            return None;
        }
        // Windows overlap, and a turn keeps the reason of the first: the last turn tells that of this one.
        let reason = reasons.get(last.as_str())?;
        Some(FailedWindow {
            conversation: conversation.id.clone(),
            session: session.name.clone(),
            first: first.clone(),
            last: last.clone(),
            reason: (*reason).to_owned(),
        })
    });
    failed.collect()
}

/// The number in `item 3`.
fn number(item: &str) -> Option<usize> {
    let digits = item.split(|letter: char| !letter.is_ascii_digit()).find(|part| !part.is_empty())?;
    digits.parse().ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use mos_core::{ItemReport, MemoryItem, Outcome};
    use serde_json::json;

    use super::*;

    #[test]
    fn windows_fail_whole_and_tell_their_own_reason() {
        let said = |n: u32| json!({"speaker": "Ann", "dia_id": format!("D1:{n}"), "text": "hello"});
        let sample = json!([{"sample_id": "s", "conversation": {
            "session_1": [said(1), said(2), said(3), said(4)], "session_1_date_time": "1:56 pm on 8 May, 2023",
        }, "qa": []}]);
        let conversations = crate::locomo::parse(sample).unwrap();
        let window = |turns: &[u32]| {
            let sources: Vec<_> = turns
                .iter()
                .map(|n| json!({"type": "chat", "role": "user", "message_id": format!("D1:{n}")}))
                .collect();
            let value = json!({"memory": "x", "metadata": {"memory_type": "UserMemory", "sources": sources}});
            MemoryItem::from_value(value, || "00000000-0000-4000-8000-000000000001".to_owned()).unwrap()
        };
        let item = |n: usize, reason: Option<&str>| ItemReport {
            item: format!("item {n}"),
            outcome: if reason.is_some() { Outcome::Raw } else { Outcome::Kept },
            reason: reason.map(str::to_owned),
        };
        let mut reading =
            Reading { raw: vec![window(&[1, 2]), window(&[2, 3]), window(&[3, 4])], ..Reading::default() };
        reading.report.items =
            vec![item(1, Some("down")), item(2, Some("down")), item(3, Some("prose")), item(4, None)];
        let failed = failures(&conversations[0], &conversations[0].sessions[0], &reading);
        let told: Vec<(&str, &str)> = failed.iter().map(|one| (one.last.as_str(), one.reason.as_str())).collect();
        assert_eq!(told, [("D1:2", "down"), ("D1:3", "prose")]);
        assert_eq!(number("item 12, part 2 (file a.md)"), Some(12));
    }
}
