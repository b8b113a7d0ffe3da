//! `pref_add`: preferences are learned from conversations.

use mos_core::{AddRequest, ConversationInfo, Message, SessionId};
use serde_json::Value;

use super::steps::{Failures, about, of_batch};
use crate::event::{ADD_MEMORY, Event, counted};
use crate::handler::{HandlerContext, HandlerError};
use crate::message::ScheduleMessage;

/// Handles `pref_add` messages: a JSON list of conversations, each a list of messages; one conversation may stand alone.
pub(crate) async fn handle(context: &HandlerContext, messages: &[ScheduleMessage]) -> Result<(), HandlerError> {
    for (index, message) in messages.iter().enumerate() {
        learn(context, message).await.map_err(|error| of_batch(index, error))?;
    }
    Ok(())
}

async fn learn(context: &HandlerContext, message: &ScheduleMessage) -> Result<(), HandlerError> {
    let conversations = conversations(&message.content)?;
    let mut failures = Failures::default();
    for (index, conversation) in conversations.iter().enumerate() {
        if let Err(error) = learn_one(context, message, index, conversation).await {
            failures.add(&format!("conversation {}", index + 1), &error);
        }
    }
    failures.into_result()
}

async fn learn_one(
    context: &HandlerContext,
    message: &ScheduleMessage,
    index: usize,
    conversation: &[Message],
) -> Result<(), HandlerError> {
    let Some(preferences) = &context.cube.preferences else {
        let reason =
            "the cube has no preference memory; give it one (`pref_mem` in its configuration) to learn preferences";
        return Err(HandlerError::give_up(reason));
    };
    let session = Some(message.session_id.as_str()).filter(|session| !session.is_empty()).map(SessionId::from);
    let info = ConversationInfo { user: Some(message.user_id.clone()), session };
    let found = preferences.extract(conversation, &info).await?;
    if found.is_empty() {
        return Ok(());
    }
    let key = context.key(message, &format!("preferences {index}"));
    let request = AddRequest { origin: context.origin(message), idempotency_key: Some(key), ..AddRequest::default() };
    let ids = preferences.add(found, request).await?;
    let items = context.cube.text.get_by_ids(&ids).await?;
    let said = format!("{} learned", counted(ids.len(), "preference was", "preferences were"));
    let event = Event::of(message, ADD_MEMORY, &format!("preferences {index}"), said, context.clock.now());
    context.record(vec![about(event, &items)]).await
}

fn conversations(content: &str) -> Result<Vec<Vec<Message>>, HandlerError> {
    let refused = |why: &str| {
        HandlerError::GiveUp(format!("the content of a `pref_add` message is a list of conversations; {why}"))
    };
    let value: Value =
        serde_json::from_str(content).map_err(|error| refused(&format!("this one is no JSON: {error}")))?;
    let is_one = value.as_array().is_some_and(|list| list.iter().any(Value::is_object));
    let value = if is_one { Value::Array(vec![value]) } else { value };
    let all: Vec<Vec<Message>> =
        serde_json::from_value(value).map_err(|error| refused(&format!("this one holds something else: {error}")))?;
    Ok(all.into_iter().filter(|conversation| !conversation.is_empty()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_conversation_may_stand_alone() {
        let message = r#"{"role": "user", "content": "I like tea."}"#;
        for content in [format!("[[{message}], []]"), format!("[{message}]")] {
            let all = conversations(&content).unwrap();
            assert_eq!((all.len(), all[0][0].text().as_str()), (1, "I like tea."));
        }
        for bad in ["tea", "[7]", r#"[[{"role": "robot"}]]"#] {
            assert!(matches!(conversations(bad), Err(HandlerError::GiveUp(_))), "{bad}");
        }
    }
}
