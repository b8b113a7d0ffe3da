//! Requests of chats. All have the same fields; two have some of their own.

use serde_json::{Map, Value};

use super::shared_types::{SearchMode, cubes_of};

/// What every chat asks, whichever request it came with.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) user_id: String,
    pub(super) query: String,
    pub(super) readable: Option<Vec<String>>,
    pub(super) writable: Option<Vec<String>>,
    pub(super) history: Option<Vec<Value>>,
    pub(super) mode: SearchMode,
    pub(super) system_prompt: Option<String>,
    pub(super) top_k: usize,
    pub(super) session_id: Option<String>,
    pub(super) include_preference: bool,
    pub(super) pref_top_k: usize,
    pub(super) model: Option<String>,
    pub(super) max_tokens: Option<usize>,
    pub(super) temperature: Option<f64>,
    pub(super) top_p: Option<f64>,
    pub(super) add_message_on_answer: bool,
    pub(super) relativity: f64,
    pub(super) filter: Option<Map<String, Value>>,
    pub(super) internet_search: bool,
    pub(super) threshold: f64,
}

/// Makes the request of a chat: the common fields, and then its own.
macro_rules! chat_request {
    ($(#[$doc:meta])* $name:ident as $schema:ident { $($own:tt)* }) => {
        request! {
            $(#[$doc])*
            pub struct $name as $schema {
                /// Who asks.
                required user_id: String;
                /// The question.
                required query: String;
                /// The cubes whose memories may be used; without this the one of the user's name.
                optional readable_cube_ids: Vec<String>;
                /// The cubes that the turn is added to; without this the one of the user's name.
                optional writable_cube_ids: Vec<String>;
                /// What was said before, oldest first; the last 20 messages are used.
                #[schema(value_type = Option<Vec<Object>>)]
                optional history: Vec<Value>;
                /// How memories are looked for.
                #[schema(required = false, default = "fast")]
                default mode: SearchMode = SearchMode::Fast;
                /// Instructions for the model; `{memories}` marks where the memories go.
                optional system_prompt: String;
                /// The most memories, from 1 to 100; what is beyond counts as the nearest of these.
                #[schema(required = false, default = 10)]
                default top_k: usize = 10;
                /// The conversation; its memories come first.
                optional session_id: String;
                /// Whether the user's preferences stand in the prompt.
                #[schema(required = false, default = true)]
                default include_preference: bool = true;
                /// The most preferences of each type. More than 100 count as 100.
                #[schema(required = false, default = 6)]
                default pref_top_k: usize = 6;
                /// The name of a model that is configured; without this the first.
                optional model_name_or_path: String;
                /// The most tokens of the answer.
                optional max_tokens: usize, at least 1.0;
                /// How random the answer is, from 0 to 2.
                optional temperature: f64, at least 0.0;
                /// Among how likely words is chosen, above 0 up to 1.
                optional top_p: f64, at least 0.0;
                /// Whether the turn is remembered.
                #[schema(required = false, default = true)]
                default add_message_on_answer: bool = true;
                /// Accepted; it has no effect.
                optional manager_user_id: String;
                /// Accepted; it has no effect.
                optional project_id: String;
                /// The least relativity of memories that are found, from 0 (no limit) to 1.
                #[schema(required = false, default = 0.45)]
                default relativity: f64 = 0.45, at least 0.0;
                /// Only memories that pass: conditions, `and` and `or`, or a filter for each cube.
                #[schema(value_type = Option<Object>)]
                optional filter: Map<String, Value>;
                /// Whether the internet is searched too.
                #[schema(required = false, default = false)]
                default internet_search: bool = false;
                /// The least relativity of memories in the prompt; the best three stand there however little they fit.
                #[schema(required = false, default = 0.5)]
                default threshold: f64 = 0.5;
                /// The cube, when no list names one.
                optional mem_cube_id: String;
                /// Accepted; it has no effect.
                #[schema(required = false, default = false)]
                default moscube: bool = false;
                $($own)*
            }
        }

        impl From<$name> for Asked {
            fn from(request: $name) -> Self {
                Self {
                    readable: cubes_of(request.readable_cube_ids.as_deref(), request.mem_cube_id.as_ref()),
                    writable: cubes_of(request.writable_cube_ids.as_deref(), request.mem_cube_id.as_ref()),
                    user_id: request.user_id,
                    query: request.query,
                    history: request.history,
                    mode: request.mode,
                    system_prompt: request.system_prompt,
                    top_k: request.top_k,
                    session_id: request.session_id,
                    include_preference: request.include_preference,
                    pref_top_k: request.pref_top_k,
                    model: request.model_name_or_path,
                    max_tokens: request.max_tokens,
                    temperature: request.temperature,
                    top_p: request.top_p,
                    add_message_on_answer: request.add_message_on_answer,
                    relativity: request.relativity,
                    filter: request.filter,
                    internet_search: request.internet_search,
                    threshold: request.threshold,
                }
            }
        }
    };
}

chat_request! {
    /// A question that is answered as a whole.
    ChatCompleteRequest as APIChatCompleteRequest {}
}

chat_request! {
    /// A question that is answered in pieces.
    ChatRequest as ChatRequest {}
}

chat_request! {
    /// A question whose answer comes with what it was made from.
    ChatPlaygroundRequest as ChatPlaygroundRequest {
        /// Accepted; it has no effect.
        optional beginner_guide_step: String;
    }
}

chat_request! {
    /// A question of a business, which has a key of its own.
    ChatBusinessRequest as ChatBusinessRequest {
        /// One of the keys that are configured.
        required business_key: String;
        /// Whether memories are looked for.
        #[schema(required = false, default = false)]
        default need_search: bool = false;
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::product::Request;

    #[test]
    fn cubes_are_those_of_the_list_else_that_of_the_old_field() {
        let body = json!({"user_id": "ann", "query": "hi", "mem_cube_id": "old", "readable_cube_ids": ["a", "b"]});
        let asked = Asked::from(ChatRequest::from_json(&body).unwrap());
        assert_eq!(asked.readable, Some(vec!["a".to_owned(), "b".to_owned()]));
        assert_eq!(asked.writable, Some(vec!["old".to_owned()]));
        let plain = Asked::from(ChatRequest::new("ann".to_owned(), "hi".to_owned()));
        assert_eq!((plain.readable, plain.top_k, plain.relativity), (None, 10, 0.45));
    }

    #[test]
    fn a_business_key_is_needed_and_modes_are_words() {
        let body = json!({"user_id": "ann", "query": "hi", "mode": "quick", "max_tokens": 0});
        let error = ChatBusinessRequest::from_json(&body).unwrap_err();
        let kinds: Vec<&str> = error.detail.iter().map(|issue| issue.kind.as_str()).collect();
        assert_eq!(kinds, ["enum", "missing", "greater_than_equal"]);
    }
}
