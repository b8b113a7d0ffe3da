//! Searching cubes from where no handler runs.

use std::sync::Arc;

use mos_core::{CubeId, Filter, Found, MemoryError, Message, SearchMode, SearchRequest, SessionId, UserId};

use crate::cube::{Cubes, OpenError, SchedulerCube};

/// How a cube is searched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SearchMethod {
    /// A tree, as the question stands.
    Tree,
    /// A tree, after a model said what the question is after.
    TreeFine,
    /// Any textual memory, as the question stands.
    Text,
}

impl SearchMethod {
    /// MemOS' words for them.
    pub const WORDS: [&'static str; 3] =
        ["tree_text_memory_search", "tree_text_memory_fine_search", "text_memory_search"];

    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tree => Self::WORDS[0],
            Self::TreeFine => Self::WORDS[1],
            Self::Text => Self::WORDS[2],
        }
    }

    /// Returns the method of a word.
    ///
    /// # Errors
    /// [`MemoryError::Invalid`], with the known words, for another one.
    pub fn parse(word: &str) -> Result<Self, MemoryError> {
        let methods = [Self::Tree, Self::TreeFine, Self::Text];
        methods.into_iter().find(|method| method.as_str() == word).ok_or_else(|| {
            MemoryError::Invalid(format!("there is no search method `{word}`; use {}", Self::WORDS.join(", ")))
        })
    }
}

/// What a search may be told besides.
#[derive(Clone, Debug, PartialEq)]
pub struct SearchArgs {
    /// How much is thought before; `None`: as the method says.
    pub mode: Option<SearchMode>,
    /// Which memories are looked at.
    pub filter: Filter,
    /// What was said before, oldest first.
    pub conversation: Vec<Message>,
    /// Memories of this conversation come earlier.
    pub session: Option<SessionId>,
    /// Whether the internet is searched too.
    pub internet: bool,
}

impl Default for SearchArgs {
    fn default() -> Self {
        Self { mode: None, filter: Filter::Everything, conversation: Vec::new(), session: None, internet: false }
    }
}

/// Searches the cubes that a scheduler works on, each for a user who may read it.
#[derive(Clone, Debug)]
pub struct Retriever {
    cubes: Arc<dyn Cubes>,
}

impl Retriever {
    /// Returns a retriever of these cubes.
    pub fn new(cubes: Arc<dyn Cubes>) -> Self {
        Self { cubes }
    }

    /// Returns the memories of a cube that fit a question, best first; none, with a note, where textual memory is off. Without a
    /// method that of [`Retriever::search_method`] is taken.
    ///
    /// # Errors
    /// [`MemoryError::Invalid`] for an unknown method, an empty question, and a cube that is gone or that the user may not
    /// read; [`MemoryError::Unsupported`] for a tree's method and a cube that is none; what opening and searching can meet.
    pub async fn search(
        &self,
        query: &str,
        user: &UserId,
        cube: &CubeId,
        top_k: usize,
        method: Option<&str>,
        args: SearchArgs,
    ) -> Result<Found, MemoryError> {
        let method = method.map(SearchMethod::parse).transpose()?;
        let cube = self.open(user, cube).await?;
        if let Some(why) = self.cubes.why_no_texts() {
            let mut nothing = Found::default();
            nothing.note(why);
            return Ok(nothing);
        }
        let method = method.unwrap_or_else(|| fitting(&cube));
        if method != SearchMethod::Text && cube.text.as_tree().is_none() {
            return Err(MemoryError::Unsupported(format!(
                "`{}` searches trees, and cube `{}` is of backend `{}`; use `{}`",
                method.as_str(),
                cube.info.cube_id,
                cube.text.backend(),
                SearchMethod::Text.as_str()
            )));
        }
        let mode = if method == SearchMethod::TreeFine { SearchMode::Fine } else { SearchMode::Fast };
        let SearchArgs { mode: wanted, filter, conversation, session, internet } = args;
        let mode = wanted.unwrap_or(mode);
        let request =
            SearchRequest { mode, filter, conversation, session, internet, ..SearchRequest::new(query, top_k) };
        cube.text.search(&request).await
    }

    /// Returns the method that fits a cube: that of trees for a tree, that of any text otherwise.
    ///
    /// # Errors
    /// [`MemoryError::Invalid`] for a cube that is gone or that the user may not read; what opening can meet.
    pub async fn search_method(&self, user: &UserId, cube: &CubeId) -> Result<SearchMethod, MemoryError> {
        Ok(fitting(&*self.open(user, cube).await?))
    }

    async fn open(&self, user: &UserId, cube: &CubeId) -> Result<Arc<SchedulerCube>, MemoryError> {
        self.cubes.open_to_read(user, cube).await.map_err(|error| match error {
            OpenError::Gone(reason) => MemoryError::Invalid(reason),
            OpenError::Failed(reason) => {
                MemoryError::Store(mos_core::StoreError::Unavailable { backend: "cube", source: reason.into() })
            }
        })
    }
}

fn fitting(cube: &SchedulerCube) -> SearchMethod {
    if cube.text.as_tree().is_some() { SearchMethod::Tree } else { SearchMethod::Text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn methods_have_the_words_of_memos_and_others_are_refused() {
        for word in SearchMethod::WORDS {
            assert_eq!(SearchMethod::parse(word).unwrap().as_str(), word);
        }
        let error = SearchMethod::parse("grep").unwrap_err().to_string();
        assert!(error.contains("`grep`") && error.contains("text_memory_search"), "{error}");
    }
}
