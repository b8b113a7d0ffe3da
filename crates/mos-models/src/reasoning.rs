//! Answers without the reasoning that stands before them.

use std::sync::Arc;

use async_trait::async_trait;
use futures::{StreamExt, stream};
use mos_core::{ChatEvent, ChatModel, ChatRequest, ChatStream, ModelError};

use crate::think::Think;

/// A model that thinks in a `<think>` block before it answers, and whose block is left out, with the white space after it.
/// Models behind servers leave it out themselves.
#[derive(Debug)]
pub struct WithoutReasoning {
    model: Arc<dyn ChatModel>,
}

impl WithoutReasoning {
    /// Returns a model that answers without its reasoning. Its tokens are counted all the same.
    pub fn open(model: Arc<dyn ChatModel>) -> Arc<dyn ChatModel> {
        Arc::new(Self { model })
    }
}

#[async_trait]
impl ChatModel for WithoutReasoning {
    fn name(&self) -> &str {
        self.model.name()
    }

    fn is_local(&self) -> bool {
        self.model.is_local()
    }

    fn context_length(&self) -> Option<usize> {
        self.model.context_length()
    }

    async fn stream(&self, request: ChatRequest) -> Result<ChatStream, ModelError> {
        let answer = self.model.stream(request).await?;
        let mut think = Think::new(true);
        Ok(answer.flat_map(move |event| stream::iter(shown(&mut think, event))).boxed())
    }
}

/// Returns what is shown of an event, in order.
fn shown(think: &mut Think, event: Result<ChatEvent, ModelError>) -> Vec<Result<ChatEvent, ModelError>> {
    let (text, end) = match event {
        Ok(ChatEvent::Text(piece)) => (think.text(&piece), None),
        Ok(ChatEvent::Done(usage)) => (think.finish(), Some(Ok(ChatEvent::Done(usage)))),
        Err(error) => (String::new(), Some(Err(error))),
    };
    let text = Some(text).filter(|text| !text.is_empty()).map(|text| Ok(ChatEvent::Text(text)));
    text.into_iter().chain(end).collect()
}

#[cfg(test)]
mod tests {
    use mos_core::Message;
    use mos_testkit::chat::ScriptedChat;

    use super::*;

    #[tokio::test]
    async fn a_block_before_the_answer_is_left_out_and_the_end_still_comes() {
        for (answer, expected) in [
            ("<think>What is asked?</think>\n\nMax.", "Max."),
            ("Max <think> is a dog.", "Max <think> is a dog."),
            (" <th", " <th"),
            ("<think>and on and on", ""),
        ] {
            let model = WithoutReasoning::open(Arc::new(ScriptedChat::new([answer])));
            let request = ChatRequest { messages: vec![Message::user("Who?")], ..ChatRequest::default() };
            let (text, _) = model.complete(request.clone()).await.unwrap();
            assert_eq!(text, expected);
            assert!(model.complete(request).await.is_err(), "errors pass");
        }
    }
}
