//! Adding to knowledge bases and searching them, beside the memories of a user.

use serde_json::{Map, Value};

use super::super::add::AddRequest;
use super::super::app::Product;
use super::super::caller::Scope;
use super::super::error::ProductResult;
use super::super::reach::Reached;
use super::super::reply::Reply;
use super::super::search::SearchRequest;

/// The cube of a knowledge base, as requests name cubes.
fn named(reached: &Reached) -> Option<Vec<String>> {
    Some(vec![reached.cube.cube_id.to_string()])
}

impl Product {
    /// Returns what [`Product::search`] does, and what fits in knowledge bases, whose entries follow in `text_mem`. `filter` says
    /// which memories of the knowledge bases are meant; the one of the request is about the user's.
    ///
    /// # Errors
    /// As [`Product::search`]; status 404 for a knowledge base that the caller may not use, and 400 for too many.
    pub async fn search_with_knowledge(
        &self,
        request: SearchRequest,
        knowledge_bases: &[String],
        filter: Option<Map<String, Value>>,
    ) -> ProductResult<Reply<Value>> {
        let bases = self.knowledge_bases(Scope::Read, knowledge_bases).await?;
        let of_base = |reached: &Reached| SearchRequest {
            user_id: reached.user.to_string(),
            readable_cube_ids: named(reached),
            mem_cube_id: None,
            session_id: None,
            conversation_id: None,
            include_preference: false,
            search_tool_memory: false,
            include_skill_memory: false,
            internet_search: false,
            filter: filter.clone(),
            ..request.clone()
        };
        let mut reply = self.search(request.clone()).await?;
        for base in &bases {
            let mut found = self.search(of_base(base)).await?;
            if let (Some(all), Some(more)) =
                (reply.data["text_mem"].as_array_mut(), found.data["text_mem"].as_array_mut())
            {
                all.append(more);
            }
        }
        Ok(reply)
    }

    /// Adds what [`Product::add`] does, to knowledge bases too; each of them is looked at before anything is added.
    ///
    /// # Errors
    /// As [`Product::add`]; status 404 for a knowledge base that the caller may not use, 403 for one that it may only read,
    /// and 400 for too many.
    pub async fn add_with_knowledge(
        &self,
        request: AddRequest,
        knowledge_bases: &[String],
    ) -> ProductResult<Reply<Vec<Value>>> {
        let bases = self.knowledge_bases(Scope::Write, knowledge_bases).await?;
        if bases.is_empty() {
            return self.add(request).await;
        }
        let of_base = |reached: &Reached| AddRequest {
            user_id: reached.user.to_string(),
            writable_cube_ids: named(reached),
            mem_cube_id: None,
            ..request.clone()
        };
        // Copied one at a time, and only when it was taken: it may be large.
        let mut reply = self.add(request.clone()).await?;
        for base in &bases {
            reply.data.extend(self.add(of_base(base)).await?.data);
        }
        Ok(reply)
    }

    /// Returns the cubes that a chat of a user may use, with knowledge bases: the user must be allowed to read them.
    ///
    /// # Errors
    /// Status 404 for a knowledge base that the caller may not use, 403 for one that the user may not read, and 400 for too
    /// many.
    pub async fn cubes_with_knowledge(&self, user_id: &str, knowledge_bases: &[String]) -> ProductResult<Vec<String>> {
        let (user, own) = self.to_read(user_id, None).await?;
        let mut cubes: Vec<String> = own.iter().map(ToString::to_string).collect();
        for reached in self.knowledge_bases(Scope::Read, knowledge_bases).await? {
            let cube = &reached.cube.cube_id;
            self.let_in(&user).await?;
            self.mos().check_reads(&user, cube).await?;
            cubes.push(cube.to_string());
        }
        Ok(cubes)
    }
}
