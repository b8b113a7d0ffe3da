//! Knowledge bases: cubes that files are read into.

use mos_core::{CubeId, Expected, Scope as RecordScope};
use serde::Serialize;
use serde_json::json;

use super::super::app::Product;
use super::super::caller::Scope;
use super::super::error::{ProductError, ProductResult};
use super::super::reach::Reached;
use super::super::reply::Reply;
use crate::facade::{KNOWLEDGE_BASE, NewCube, is_knowledge_base};

/// The longest name, in characters.
const MAX_NAME_CHARS: usize = 200;

/// The longest description, in characters.
const MAX_DESCRIPTION_CHARS: usize = 2_000;

/// The most knowledge bases of one user.
const MAX_OF_USER: usize = 1_000;

/// The most knowledge bases that one request may name.
const MAX_NAMED: usize = 20;

/// The document of a knowledge base that holds its description.
const DESCRIPTION: &str = "knowledge-base";

request! {
    /// A knowledge base to make.
    pub struct CreateKnowledgeBaseRequest as CreateKnowledgeBaseRequest {
        /// What it is called.
        required knowledgebase_name: String;
        /// What it holds.
        optional knowledgebase_description: String;
        /// Whose it is; without this that of who calls, of a program that of the settings.
        optional user_id: String;
    }
}

/// A knowledge base.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct KnowledgeBase {
    /// Its id, which is that of its cube.
    pub id: CubeId,
    /// What it is called.
    pub name: String,
    /// What it holds; null when nobody said.
    pub description: Option<String>,
}

impl Product {
    /// Makes an empty knowledge base.
    ///
    /// # Errors
    /// Status 400 for a name or a description that is empty or too long, for too many knowledge bases, and where nothing keeps
    /// descriptions; 403 without the right to make cubes.
    pub async fn create_knowledge_base(
        &self,
        request: CreateKnowledgeBaseRequest,
    ) -> ProductResult<Reply<KnowledgeBase>> {
        self.caller.check(Scope::Write)?;
        let (name, description) = checked(&request)?;
        let owner = self.mos().user_or_default(self.acting(request.user_id.as_deref())?.as_ref());
        let parts = &self.mos().parts;
        if description.is_some() && parts.state.is_none() {
            return Err(ProductError::bad_value(
                "this installation keeps no descriptions, which need a queue in the settings; leave it out",
            ));
        }
        let id = CubeId::new(format!("{KNOWLEDGE_BASE}{}", parts.ids.next_uuid()));
        self.caller.check_cube(&id)?;
        self.mos().ensure_user(&owner).await?;
        let known = parts.users.cubes(Some(&owner)).await?;
        if known.iter().filter(|cube| cube.owner_id == owner && is_knowledge_base(&cube.cube_id)).count() >= MAX_OF_USER
        {
            return Err(ProductError::bad_value(format!("a user has at most {MAX_OF_USER} knowledge bases")));
        }
        let new =
            NewCube { cube_id: id.clone(), name: Some(name.clone()), config: Some(self.cube_config(&owner, &id)?) };
        self.mos().create_cube(&owner, new).await?;
        if let (Some(text), Some(state)) = (&description, &parts.state) {
            let document = json!({"description": text});
            if let Err(error) = state.write(&RecordScope::of(&id), DESCRIPTION, &document, Expected::Anything).await {
                // Whoever asks again would have two.
                if let Err(second) = self.mos().delete_cube(&owner, &id).await {
                    tracing::error!(cube = %id, error = %second, "a knowledge base that was not made whole is still there");
                }
                return Err(error.into());
            }
        }
        tracing::info!(cube = %id, "a knowledge base was made");
        Ok(Reply::new("Knowledge base created successfully", KnowledgeBase { id, name, description }))
    }

    /// Removes a knowledge base with all that was read into it.
    ///
    /// # Errors
    /// Status 404 when there is none of this id that the caller may use; 403 unless its owner asks.
    pub async fn delete_knowledge_base(&self, knowledge_base: &str) -> ProductResult<Reply<()>> {
        let reached = self.knowledge_base(Scope::Write, knowledge_base).await?;
        let cube = &reached.cube.cube_id;
        self.mos().delete_cube(&reached.user, cube).await?;
        tracing::info!(%cube, "a knowledge base was deleted");
        Ok(Reply::new("Knowledge base deleted successfully", ()))
    }

    /// Returns a knowledge base that the caller may use in this way, and who acts in it. Nobody learns of those of others.
    ///
    /// # Errors
    /// Status 404 when there is none that the caller may use; 403 for one that the caller may only read.
    pub(super) async fn knowledge_base(&self, scope: Scope, id: &str) -> ProductResult<Reached> {
        self.caller.check(scope)?;
        let unknown = || ProductError::new(404, format!("there is no knowledge base `{id}` that you may use"));
        let cube = CubeId::parse(id).ok().filter(is_knowledge_base).ok_or_else(unknown)?;
        let refused = match self.existing(scope, None, &cube).await {
            Ok(Some(reached)) => return Ok(reached),
            Ok(None) => return Err(unknown()),
            // A user who was never seen is a stranger as any other.
            Err(error) if matches!(error.status, 400 | 403) => error,
            Err(error) => return Err(error),
        };
        let is_read = scope != Scope::Read && matches!(self.existing(Scope::Read, None, &cube).await, Ok(Some(_)));
        Err(if is_read { refused } else { unknown() })
    }

    /// As [`Product::knowledge_base`], for several, each once.
    ///
    /// # Errors
    /// Status 400 for too many; as [`Product::knowledge_base`] for the first that cannot be used.
    pub(super) async fn knowledge_bases(&self, scope: Scope, ids: &[String]) -> ProductResult<Vec<Reached>> {
        if ids.len() > MAX_NAMED {
            return Err(ProductError::bad_value(format!("at most {MAX_NAMED} knowledge bases can be named at once")));
        }
        let mut reached: Vec<Reached> = Vec::with_capacity(ids.len());
        for id in ids {
            if !reached.iter().any(|known| known.cube.cube_id.as_str() == id) {
                reached.push(self.knowledge_base(scope, id).await?);
            }
        }
        Ok(reached)
    }

    /// Returns what a knowledge base is.
    pub(super) async fn described(&self, reached: &Reached) -> ProductResult<KnowledgeBase> {
        let cube = &reached.cube;
        let document = match &self.mos().parts.state {
            Some(state) => state.read(&RecordScope::of(&cube.cube_id), DESCRIPTION).await?,
            None => None,
        };
        let description = document.and_then(|known| known.value["description"].as_str().map(str::to_owned));
        Ok(KnowledgeBase { id: cube.cube_id.clone(), name: cube.cube_name.clone(), description })
    }
}

/// Returns name and description of a new knowledge base.
fn checked(request: &CreateKnowledgeBaseRequest) -> ProductResult<(String, Option<String>)> {
    let name = request.knowledgebase_name.trim();
    let n_chars = name.chars().count();
    if n_chars == 0 || n_chars > MAX_NAME_CHARS || name.contains(char::is_control) {
        let reason = format!("`knowledgebase_name` has 1 to {MAX_NAME_CHARS} characters in one line");
        return Err(ProductError::bad_value(reason));
    }
    let description = request.knowledgebase_description.as_deref().map(str::trim).filter(|text| !text.is_empty());
    if description.is_some_and(|text| text.chars().count() > MAX_DESCRIPTION_CHARS) {
        let reason = format!("`knowledgebase_description` has at most {MAX_DESCRIPTION_CHARS} characters");
        return Err(ProductError::bad_value(reason));
    }
    Ok((name.to_owned(), description.map(str::to_owned)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knowledge_bases_are_known_by_their_ids_and_have_a_name() {
        assert!(is_knowledge_base(&CubeId::from("kb-00000000-0000-4000-8000-000000000001")));
        assert!(!is_knowledge_base(&CubeId::from("ann")) && !is_knowledge_base(&CubeId::from("kb-")));
        let request = |name: &str| CreateKnowledgeBaseRequest::new(name.to_owned());
        assert_eq!(checked(&request(" Manuals ")).unwrap(), ("Manuals".to_owned(), None));
        for bad in [" ", "a\nb", &"x".repeat(MAX_NAME_CHARS + 1)] {
            assert_eq!(checked(&request(bad)).unwrap_err().status, 400);
        }
    }
}
