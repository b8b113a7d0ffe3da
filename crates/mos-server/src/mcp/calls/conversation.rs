//! Chats.

use mos::Chat;
use mos::product::{ProductError, ProductResult, split_reasoning};
use mos_core::SessionId;
use serde_json::{Value, json};

use super::super::answers::Answer;
use super::super::call::Call;

/// Answers a question; programs learn which memories the answer was made from.
pub(super) async fn chat(call: &Call<'_>) -> ProductResult<Answer> {
    if !call.app().options().chats {
        return Err(ProductError::new(503, "chat is not enabled here; set ENABLE_CHAT_API=true"));
    }
    let user = call.user()?;
    let mut chat = Chat::new(call.arguments.needed("query")?).user(user.clone());
    if let Some(cubes) = call.cubes(&user).await? {
        chat = chat.cubes(cubes);
    }
    if let Some(session) = call.arguments.text("session_id") {
        chat = chat.session(SessionId::parse(session)?);
    }
    if call.caller.cubes.is_some() {
        // What was said elsewhere may tell of cubes that this caller may not use.
        chat = chat.history([]);
    }
    let reply = call.mos().chat(chat).await?;
    let memories: Vec<Value> =
        reply.memories.iter().map(|(cube, found)| json!({"cube_id": cube, "memory_id": found.item.id})).collect();
    let (answer, _) = reply.complete().await?;
    // What the model thinks before it answers is no part of the answer.
    let (_, answer) = split_reasoning(&answer);
    Ok(Answer::sentence(answer, json!({"memories": memories})))
}

/// Forgets what was said in chats.
pub(super) async fn clear(call: &Call<'_>) -> ProductResult<Answer> {
    let user = call.user()?;
    if call.caller.cubes.is_some() {
        let why = "a key that is restricted to cubes cannot forget what was said about others";
        return Err(ProductError::forbidden(why));
    }
    call.mos().clear_messages(&user).await?;
    Ok(Answer::sentence(format!("Chat history cleared for user: {user}"), json!({"user_id": user})))
}
