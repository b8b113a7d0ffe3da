//! What was said in a conversation, as events.

use jiff::Timestamp;
use serde_json::json;

use crate::event::{ADD_MESSAGE, Event};
use crate::message::ScheduleMessage;
use crate::monitor::clipped;

/// The most characters of a message in an event.
const MAX_SHOWN: usize = 4_000;

/// The event of a message of a conversation.
pub(super) fn said(message: &ScheduleMessage, role: &str, at: Timestamp) -> Event {
    let content = clipped(&message.content, MAX_SHOWN);
    let entry = json!({"content": content, "ref_id": message.item_id, "role": role});
    let details = json!({"session_id": message.session_id, "said_at": message.timestamp});
    Event::of(message, ADD_MESSAGE, role, content, at).about(vec![entry], vec![details])
}
