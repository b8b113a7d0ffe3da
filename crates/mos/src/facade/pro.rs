//! Hard questions: split into smaller ones, each answered from memories, and the answers put together.
//!
//! A question that is split leads to one call of the model for splitting, one for each smaller question and one for the answer.
//! What was found for the smaller questions stands in the prompt beside what was found for the whole one.

use futures::{StreamExt, TryStreamExt, stream};
use mos_core::ask::ask_json;
use mos_core::language::{Language, detect};
use mos_core::{ChatRequest, CubeId, Message, UserId};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{FoundMemory, Mos, Search};
use crate::asking::{self, Beside};
use crate::error::{Error, Result};
use crate::prompt;

/// The most questions that one is split into.
pub const MAX_SUB_QUESTIONS: usize = 6;

/// Memories that a smaller question is answered from.
const TOP_K: usize = 3;

/// Smaller questions that are answered at the same time.
const MAX_PARALLEL: usize = 3;

/// How often a model is asked to split before its answer is given up.
const ATTEMPTS: usize = 2;

/// Whether a question needs several facts, and the smaller questions that ask for them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Decomposition {
    /// Whether it is several questions.
    pub is_complex: bool,
    /// The smaller questions, at most [`MAX_SUB_QUESTIONS`]; none when it is not complex.
    pub sub_questions: Vec<String>,
}

/// A smaller question and its answer. Serialises without the memories.
#[derive(Clone, Debug, Serialize)]
pub struct SubAnswer {
    /// The question.
    pub question: String,
    /// What the model answered.
    pub answer: String,
    /// The memories that it was answered from, best first, with their cubes.
    #[serde(skip)]
    pub memories: Vec<(CubeId, FoundMemory)>,
}

/// What splitting a question of a chat led to.
#[derive(Debug, Default)]
pub(super) struct Thought {
    /// None for a question that was not split.
    pub(super) sub_answers: Vec<SubAnswer>,
    /// Why it was not split although it was to be looked at.
    pub(super) note: Option<String>,
}

impl Thought {
    fn noted(note: impl Into<String>) -> Self {
        Self { sub_answers: Vec::new(), note: Some(note.into()) }
    }

    /// Returns the smaller questions and their answers as they stand in the prompt; empty for none.
    pub(super) fn told(&self, language: Language) -> String {
        if self.sub_answers.is_empty() {
            return String::new();
        }
        let heading = match language {
            Language::English => "## Parts of the question, each answered from memories (use them where they help):",
            Language::Chinese => "## 问题的各个部分，均已根据记忆作答（有帮助时请使用）：",
        };
        let mut lines = vec![heading.to_owned()];
        for (index, part) in self.sub_answers.iter().enumerate() {
            let (question, answer) = (asking::shown(&part.question), asking::shown(&part.answer));
            lines.push(format!("{}. {question}\n   {answer}", index + 1));
        }
        lines.join("\n")
    }
}

#[derive(Debug, Deserialize)]
struct Answer {
    is_complex: bool,
    #[serde(default)]
    sub_questions: Vec<String>,
}

fn answer_schema() -> Value {
    json!({
        "type": "object",
        "properties": {
            "is_complex": {"type": "boolean"},
            "sub_questions": {"type": "array", "items": {"type": "string"}},
        },
        "required": ["is_complex", "sub_questions"],
        "additionalProperties": false,
    })
}

impl Mos {
    /// Asks the model whether a question needs several facts, and for the smaller questions that ask for them.
    ///
    /// # Errors
    /// [`Error::UnknownUser`]; [`Error::Invalid`] for an empty question; errors of the model, also for an answer that is of no
    /// use.
    pub async fn decompose(&self, query: &str, user: &UserId) -> Result<Decomposition> {
        self.checked_user(user).await?;
        self.decomposed(query, user, None).await
    }

    /// Answers smaller questions, at most [`MAX_SUB_QUESTIONS`], each from the three memories that fit it best, in their order.
    /// How memories are looked for, `search` says, but for its question, its mode and its number: `Search::new("")` looks in
    /// every registered cube of the user.
    ///
    /// # Errors
    /// Rights; [`Error::Invalid`] for too many questions or an empty one; store and model errors.
    pub async fn sub_answers(&self, sub_questions: &[String], search: Search, user: &UserId) -> Result<Vec<SubAnswer>> {
        self.checked_user(user).await?;
        self.answered_parts(sub_questions, &search, user, None).await
    }

    /// Splits the question of a chat when it needs several facts, and answers its parts. What fails is a note: the question is
    /// answered as it stands then.
    pub(super) async fn think_in_parts(
        &self,
        query: &str,
        search: &Search,
        user: &UserId,
        cube: Option<&CubeId>,
    ) -> Thought {
        if !self.parts.settings.enable_textual_memory {
            return Thought::noted("the question was not split: textual memory is off (enable_textual_memory)");
        }
        let parts = async {
            let split = self.decomposed(query, user, cube).await?;
            self.answered_parts(&split.sub_questions, search, user, cube).await
        };
        match parts.await {
            Ok(sub_answers) => Thought { sub_answers, note: None },
            Err(error) => {
                // The error may hold the beginning of an answer, which no log may have.
                tracing::warn!("a question could not be answered in parts; it is answered as it stands");
                Thought::noted(format!("the question could not be answered in parts: {error}"))
            }
        }
    }

    async fn decomposed(&self, query: &str, user: &UserId, cube: Option<&CubeId>) -> Result<Decomposition> {
        if query.trim().is_empty() {
            return Err(Error::Invalid("the question is empty; say something".to_owned()));
        }
        let model = self.metered(self.parts.reading.of_settings(), user, cube);
        let messages = vec![Message::system(asking::decompose(detect(query))), Message::user(query)];
        let answer: Answer = ask_json(model.as_ref(), messages, Some(&answer_schema()), ATTEMPTS).await?;
        Ok(decomposition(query, answer))
    }

    async fn answered_parts(
        &self,
        sub_questions: &[String],
        search: &Search,
        user: &UserId,
        cube: Option<&CubeId>,
    ) -> Result<Vec<SubAnswer>> {
        if sub_questions.len() > MAX_SUB_QUESTIONS {
            return Err(Error::Invalid(format!(
                "{} smaller questions are too many; at most {MAX_SUB_QUESTIONS} are answered at once",
                sub_questions.len()
            )));
        }
        let answering: Vec<_> = sub_questions
            .iter()
            .map(|question| {
                let search = search.clone().user(user.clone()).for_part(question, TOP_K);
                self.clone().sub_answer(question.clone(), search, user.clone(), cube.cloned())
            })
            .collect();
        stream::iter(answering).buffered(MAX_PARALLEL).try_collect().await
    }

    async fn sub_answer(
        self,
        question: String,
        search: Search,
        user: UserId,
        cube: Option<CubeId>,
    ) -> Result<SubAnswer> {
        let found = self.search(search).await?;
        let memories: Vec<(CubeId, FoundMemory)> =
            found.best().into_iter().take(TOP_K).map(|(cube, memory)| (cube.clone(), memory.clone())).collect();
        let language = detect(&question);
        let notes = prompt::Notes::on(&question, self.parts.clock.now_text());
        let told = notes.numbered(memories.iter().map(|(_, memory)| &memory.item));
        let asked = asking::question(language, Beside::Memories, &told, &question);
        let request = ChatRequest {
            messages: vec![Message::system(asking::sub_answer(language)), asked],
            no_cache: true,
            cache_scope: user.to_string(),
            ..ChatRequest::default()
        };
        let model = self.metered(self.parts.reading.of_settings(), &user, cube.as_ref());
        let (answer, _) = model.complete(request).await?;
        Ok(SubAnswer { question, answer: answer.trim().to_owned(), memories })
    }
}

/// What of a model's answer counts: questions that say something, each once, and not the one that was to be split.
fn decomposition(query: &str, answer: Answer) -> Decomposition {
    let mut sub_questions: Vec<String> = Vec::new();
    for question in answer.sub_questions.iter().map(|one| one.trim()) {
        let is_new =
            !question.is_empty() && question != query.trim() && !sub_questions.iter().any(|one| one == question);
        if is_new && sub_questions.len() < MAX_SUB_QUESTIONS {
            sub_questions.push(question.to_owned());
        }
    }
    if !answer.is_complex || sub_questions.is_empty() {
        return Decomposition::default();
    }
    Decomposition { is_complex: true, sub_questions }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_questions_that_say_something_new_are_taken_and_not_without_end() {
        let answer = |is_complex, all: &[&str]| Answer {
            is_complex,
            sub_questions: all.iter().map(|&one| one.to_owned()).collect(),
        };
        let split =
            decomposition("whole?", answer(true, &["a?", " a? ", "", "whole?", "b?", "c?", "d?", "e?", "f?", "g?"]));
        assert_eq!(split.sub_questions, ["a?", "b?", "c?", "d?", "e?", "f?"]);
        assert!(split.is_complex);
        assert_eq!(decomposition("whole?", answer(false, &["a?"])), Decomposition::default());
        assert_eq!(decomposition("whole?", answer(true, &["whole?"])), Decomposition::default(), "nothing was split");
    }

    #[test]
    fn parts_stand_in_the_prompt_one_a_line() {
        let part = SubAnswer { question: "a?".to_owned(), answer: "x\ny".to_owned(), memories: Vec::new() };
        let thought = Thought { sub_answers: vec![part], note: None };
        assert!(thought.told(Language::English).ends_with(":\n1. a?\n   x y"));
        assert_eq!(Thought::default().told(Language::English), "");
    }
}
