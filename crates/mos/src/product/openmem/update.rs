//! Changing one memory by its id.

use mos_core::{CubeId, MemoryItem, Status};
use serde_json::Value;

use super::super::app::Product;
use super::super::caller::Scope;
use super::super::error::{ProductError, ProductResult};
use super::super::hits::{Shelf, node_value};
use super::super::reach::memory_ids;
use super::super::reply::Reply;

/// The longest text of a memory, in bytes.
const MAX_TEXT_BYTES: usize = 64 * 1024;

/// The longest title, in characters.
const MAX_TITLE_CHARS: usize = 500;

request! {
    /// What is changed of a memory; what is not given stays.
    pub struct UpdateMemoryRequest as UpdateMemoryRequest {
        /// The memory.
        required memory_id: String;
        /// Its text.
        optional content: String;
        /// Its title.
        optional title: String;
        /// `activated`, `resolving` or `archived`; searches find activated memories only.
        optional status: String;
    }
}

/// What is changed, checked.
#[derive(Debug, PartialEq)]
struct Change<'a> {
    content: Option<&'a str>,
    title: Option<&'a str>,
    status: Option<Status>,
}

impl<'a> Change<'a> {
    fn of(request: &'a UpdateMemoryRequest) -> ProductResult<Self> {
        let given = |text: &'a Option<String>| text.as_deref().map(str::trim).filter(|text| !text.is_empty());
        let (content, title) = (given(&request.content), given(&request.title));
        let status = given(&request.status).map(status_of).transpose()?;
        if content.is_none() && title.is_none() && status.is_none() {
            return Err(ProductError::bad_value("there is nothing to change; give `content`, `title` or `status`"));
        }
        if content.is_some_and(|text| text.len() > MAX_TEXT_BYTES) {
            return Err(ProductError::bad_value(format!("the text of a memory has at most {MAX_TEXT_BYTES} bytes")));
        }
        if title.is_some_and(|text| text.chars().count() > MAX_TITLE_CHARS) {
            return Err(ProductError::bad_value(format!("a title has at most {MAX_TITLE_CHARS} characters")));
        }
        Ok(Self { content, title, status })
    }

    /// # Errors
    /// Status 400 for a status that would let out what is kept apart.
    fn apply(&self, item: &mut MemoryItem) -> ProductResult<()> {
        let stays = matches!(self.status, None | Some(Status::Archived));
        if item.quarantine_reason().is_some() && !stays {
            return Err(ProductError::bad_value(
                "this memory is kept apart because it reads like orders of a stranger; look at it, and let it out with \
                 `mos quarantine --release`",
            ));
        }
        if let Some(content) = self.content {
            item.memory = content.to_owned();
        }
        if let Some(title) = self.title {
            item.metadata.key = Some(title.to_owned());
        }
        if let Some(status) = self.status {
            item.metadata.status = Some(status);
        }
        Ok(())
    }
}

fn status_of(word: &str) -> ProductResult<Status> {
    match Status::parse(word.to_ascii_lowercase().as_str()) {
        Some(Status::Deleted) => {
            Err(ProductError::bad_value("a memory is not deleted by its status; use the call that deletes memories"))
        }
        Some(status) => Ok(status),
        None => Err(ProductError::bad_value("`status` must be activated, resolving or archived")),
    }
}

impl Product {
    /// Changes text, title or status of a memory and returns it as `{"id", "memory", "metadata"}`. Its id stays, its earlier state
    /// is in its history.
    ///
    /// # Errors
    /// Status 404 when there is none of this id that the caller may read; 403 without the right to write; 400 when nothing
    /// that can be done is asked for, and for preferences, which corrections change.
    pub async fn update_memory(&self, request: UpdateMemoryRequest) -> ProductResult<Reply<Value>> {
        self.caller.check(Scope::Write)?;
        let change = Change::of(&request)?;
        let unknown = || ProductError::new(404, format!("Memory with ID {} not found", request.memory_id));
        let (cube, item) = self.of_id(&request.memory_id).await?.ok_or_else(unknown)?;
        let reached = self.existing(Scope::Write, None, &cube).await?.ok_or_else(unknown)?;
        if Shelf::of(&item) == Shelf::Preference {
            return Err(ProductError::bad_value("preferences are changed by corrections; send feedback instead"));
        }
        let change = |item: &mut MemoryItem| change.apply(item);
        let item = self.mos().update_with(&reached.user, Some(&cube), item, change).await?;
        tracing::info!(%cube, id = %item.id, "a memory was changed");
        Ok(Reply::new("Memory updated successfully", node_value(&item, &cube)))
    }

    /// Returns a memory that the caller may see, and its cube.
    async fn of_id(&self, memory_id: &str) -> ProductResult<Option<(CubeId, MemoryItem)>> {
        let ids = memory_ids(&[memory_id.to_owned()])?;
        if ids.is_empty() {
            return Ok(None);
        }
        let held = self.holding(self.within_reach().await?, &ids, true).await?;
        let first = held.into_iter().next();
        Ok(first.and_then(|(cube, items)| Some((cube.cube_id, items.into_iter().next()?))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(content: &str, title: &str, status: &str) -> UpdateMemoryRequest {
        let some = |text: &str| Some(text.to_owned());
        UpdateMemoryRequest {
            content: some(content),
            title: some(title),
            status: some(status),
            ..UpdateMemoryRequest::new("a".to_owned())
        }
    }

    #[test]
    fn a_change_says_what_is_changed_and_nothing_impossible() {
        let all = request(" tea ", "Drinks", "Archived");
        let expected = Change { content: Some("tea"), title: Some("Drinks"), status: Some(Status::Archived) };
        assert_eq!(Change::of(&all).unwrap(), expected);
        let long = "x".repeat(MAX_TEXT_BYTES + 1);
        for bad in [
            request("", " ", ""),
            request("", "", "deleted"),
            request("", "", "lost"),
            request(&long, "", ""),
            request("", &long, ""),
        ] {
            assert_eq!(Change::of(&bad).unwrap_err().status, 400);
        }
    }
}
