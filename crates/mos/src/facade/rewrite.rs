//! Questions that refer to what was said before, made clear on their own.

use mos_core::ask::ask_json;
use mos_core::language::detect;
use mos_core::{Message, ModelError, SessionId, UserId};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::Mos;
use crate::asking::{self, Beside};
use crate::error::{Error, Result};

/// How often a model is asked before its answer is given up.
const ATTEMPTS: usize = 2;

/// How many characters longer than the question a rewritten one may be: an answer is no question.
const MAX_LONGER: usize = 1_000;

/// A question as it is clear without the conversation before it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RewrittenQuery {
    /// The question; as it was asked, when it refers to nothing.
    pub query: String,
    /// Whether it is another than the one that was asked.
    pub is_rewritten: bool,
    /// Why it could not be rewritten, when the model's answer was of no use.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

impl RewrittenQuery {
    fn unchanged(query: &str) -> Self {
        Self { query: query.to_owned(), is_rewritten: false, note: None }
    }
}

#[derive(Debug, Deserialize)]
struct Answer {
    #[serde(default = "yes")]
    refers_back: bool,
    question: String,
}

fn yes() -> bool {
    true
}

fn answer_schema() -> Value {
    json!({
        "type": "object",
        "properties": {"refers_back": {"type": "boolean"}, "question": {"type": "string"}},
        "required": ["refers_back", "question"],
        "additionalProperties": false,
    })
}

impl Mos {
    /// Returns a question so that it is clear without what was said before in a user's conversation, which a model is shown.
    /// Without a conversation no model is asked. When the model's answer is of no use, the question stays as it was asked, and
    /// [`RewrittenQuery::note`] says so.
    ///
    /// # Errors
    /// [`Error::UnknownUser`]; [`Error::Invalid`] for an empty question; errors of the model other than a useless answer.
    pub async fn query_rewrite(
        &self,
        query: &str,
        user: &UserId,
        session: Option<&SessionId>,
    ) -> Result<RewrittenQuery> {
        if query.trim().is_empty() {
            return Err(Error::Invalid("the question is empty; say something".to_owned()));
        }
        let earlier = self.chat_history(user, session).await?;
        if earlier.is_empty() {
            return Ok(RewrittenQuery::unchanged(query));
        }
        let language = detect(query);
        let asked = asking::question(language, Beside::Conversation, &asking::conversation(&earlier), query);
        let messages = vec![Message::system(asking::rewrite(language)), asked];
        let model = self.metered(self.parts.reading.of_settings(), user, None);
        match ask_json::<Answer>(model.as_ref(), messages, Some(&answer_schema()), ATTEMPTS).await {
            Ok(answer) => Ok(rewritten(query, &answer)),
            Err(ModelError::BadAnswer(_)) => {
                // The error holds the answer, which no log may have.
                tracing::warn!("a question could not be rewritten: the model gave no usable answer");
                let note = "the model gave no usable answer; the question stands as it was asked".to_owned();
                Ok(RewrittenQuery { note: Some(note), ..RewrittenQuery::unchanged(query) })
            }
            Err(error) => Err(error.into()),
        }
    }
}

fn rewritten(query: &str, answer: &Answer) -> RewrittenQuery {
    let question = answer.question.trim();
    if !answer.refers_back || question.is_empty() || question == query.trim() {
        return RewrittenQuery::unchanged(query);
    }
    if question.chars().count() > query.chars().count() + MAX_LONGER {
        let note = "the model's question was far longer than the one that was asked, which stands as it was".to_owned();
        return RewrittenQuery { note: Some(note), ..RewrittenQuery::unchanged(query) };
    }
    RewrittenQuery { query: question.to_owned(), is_rewritten: true, note: None }
}
