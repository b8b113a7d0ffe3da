//! Removing memories: by their ids, by their files, or by conditions.

use mos_core::{Cube, CubeId, Filter, MemoryId, MemoryItem, MemoryType, Operator, UserId};
use serde::Serialize;
use serde_json::{Map, Value};

use super::app::Product;
use super::caller::Scope;
use super::error::{ProductError, ProductResult};
use super::filters::{of_file, one_filter};
use super::reach::memory_ids;
use super::reply::Reply;
use super::shared_types::session_of;

/// The most cubes and files that one request may name.
const MAX_NAMED: usize = 1000;

/// What names a working memory in the background of the memory that it shows, in cubes that MemOS wrote.
const BINDING: &str = "[working_binding:";

request! {
    /// Removes memories. Exactly one is given: `memory_ids`, `file_ids`, or conditions.
    pub struct DeleteMemoryRequest as DeleteMemoryRequest {
        /// The cubes; without this all that are the user's.
        optional writable_cube_ids: Vec<String>;
        /// The memories.
        optional memory_ids: Vec<String>;
        /// The files whose memories go; a key for everybody names their cubes.
        optional file_ids: Vec<String>;
        /// Conditions on the memories.
        #[schema(value_type = Option<Object>)]
        optional filter: Map<String, Value>;
        /// A condition: whose memories.
        optional user_id: String;
        /// A condition: of which conversation.
        optional session_id: String;
        /// Another name of `session_id`.
        optional conversation_id: String;
        /// Also removes the working memories that show the memories that are removed by their ids.
        #[schema(required = false, default = false)]
        default auto_cleanup_working: Option<bool> = Some(false);
    }
}

impl Default for DeleteMemoryRequest {
    fn default() -> Self {
        Self::new()
    }
}

/// Whether memories were removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum DeletionStatus {
    /// What was meant is gone; it may have been nothing.
    Success,
    /// The request does not say what is meant; nothing was removed.
    Failure,
}

/// What came of a deletion.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Deletion {
    /// Whether it was done.
    pub status: DeletionStatus,
}

impl Deletion {
    /// Returns what is answered when it was done.
    pub(super) fn success() -> Self {
        Self { status: DeletionStatus::Success }
    }
}

/// Which memories are meant.
#[derive(Debug, PartialEq)]
enum Meant {
    Ids(Vec<MemoryId>),
    Files(Vec<String>),
    Passing(Filter),
}

impl Product {
    /// Removes memories, of any kind and status, and with them what was computed of them. They are looked for in the cubes that
    /// are named, else in all that are the user's; by ids, in all that the caller may use, as files of a user are. A request
    /// that does not say what is meant is answered with the status `failure` and why, and so are a program's files without
    /// cubes, and its conditions without cubes or a user; then nothing was removed.
    ///
    /// # Errors
    /// Status 400 for too many ids, 403 without the right to write, 422 when `session_id` and `conversation_id` differ.
    pub async fn delete_memory(&self, request: DeleteMemoryRequest) -> ProductResult<Reply<Deletion>> {
        self.caller.check(Scope::Write)?;
        let session = session_of(request.session_id.as_deref(), request.conversation_id.as_deref())?;
        let user = self.acting(request.user_id.as_deref())?;
        let named = cubes_named(request.writable_cube_ids.as_deref())?;
        let why = match meant(&request, session.as_deref())? {
            Ok(meant) => {
                let (names_user, cleans) = (request.user_id.is_some(), request.auto_cleanup_working == Some(true));
                self.delete_meant(&meant, user, named, names_user, cleans).await?
            }
            Err(why) => Some(why),
        };
        Ok(match why {
            None => Reply::new("Memories deleted successfully", Deletion::success()),
            Some(why) => Reply::new(why, Deletion { status: DeletionStatus::Failure }),
        })
    }

    /// Removes what is meant from the cubes that are named, else from all that it may be in; returns why it was not done.
    async fn delete_meant(
        &self,
        meant: &Meant,
        user: Option<UserId>,
        named: Option<Vec<CubeId>>,
        names_user: bool,
        cleans: bool,
    ) -> ProductResult<Option<String>> {
        let are_named = named.is_some();
        let cubes = match (named, meant, &user) {
            (Some(named), _, _) => named,
            (None, Meant::Ids(ids), _) => {
                let held = self.holding(self.within_reach().await?, ids, false).await?;
                held.into_iter().map(|(cube, _)| cube.cube_id).collect()
            }
            (None, Meant::Files(_), Some(_)) => ids_of(self.within_reach().await?),
            // Clients choose the ids of files, so that the files of two users can have one.
            (None, Meant::Files(_), None) => {
                return Ok(Some("name the cubes of the files in `writable_cube_ids`".to_owned()));
            }
            // The name is one of the conditions.
            (None, Meant::Passing(_), Some(user)) if names_user => ids_of(self.cubes_open_to(user).await?),
            (None, Meant::Passing(_), Some(user)) => {
                // Without a name the conditions also meet what others keep in cubes that are shared.
                let mut cubes = self.cubes_of(user).await?;
                cubes.retain(|cube| cube.owner_id == *user);
                ids_of(cubes)
            }
            // Conditions alone would reach into the cubes of everybody.
            (None, Meant::Passing(_), None) => {
                return Ok(Some("name the cubes in `writable_cube_ids`, or whose memories go in `user_id`".to_owned()));
            }
        };
        for (cube, user) in self.to_clean(user.as_ref(), &cubes, are_named).await? {
            let n_deleted = match meant {
                Meant::Ids(ids) => self.delete_ids(&user, cube, ids, cleans).await?,
                Meant::Files(files) => {
                    let of_files = Filter::Any(files.iter().map(|file| of_file(file)).collect());
                    self.mos().delete_by_filter(&user, Some(cube), &of_files).await?
                }
                Meant::Passing(filter) => self.mos().delete_by_filter(&user, Some(cube), filter).await?,
            };
            tracing::info!(%cube, n_deleted, "memories were deleted");
        }
        Ok(None)
    }

    /// Returns the cubes that something is removed from, with who acts in each: the user, else its owner. Rights are asked for
    /// before anything changes; cubes that nobody has named and that the user may not write to are passed over.
    async fn to_clean<'a>(
        &self,
        user: Option<&UserId>,
        cubes: &'a [CubeId],
        are_named: bool,
    ) -> ProductResult<Vec<(&'a CubeId, UserId)>> {
        let mut reached = Vec::with_capacity(cubes.len());
        for cube in cubes {
            match self.existing(Scope::Write, user.map(UserId::as_str), cube).await {
                Ok(found) => reached.extend(found.map(|found| (cube, found.user))),
                Err(error) if error.status == 403 && !are_named => {}
                Err(error) => return Err(error),
            }
        }
        Ok(reached)
    }

    async fn delete_ids(&self, user: &UserId, cube: &CubeId, ids: &[MemoryId], cleans: bool) -> ProductResult<usize> {
        let mut ids = ids.to_vec();
        if cleans {
            let bound = self.bound_to(cube, &ids).await?;
            ids.extend(bound);
        }
        Ok(self.mos().delete_many(user, Some(cube), &ids).await?)
    }

    /// The working memories that memories of a cube name as showing them.
    async fn bound_to(&self, cube: &CubeId, ids: &[MemoryId]) -> ProductResult<Vec<MemoryId>> {
        let (record, scope) = (&self.mos().parts.record, mos_core::Scope::of(cube));
        let mut bound: Vec<MemoryId> = record.nodes(&scope, ids).await?.iter().flat_map(bindings).collect();
        bound.retain(|id| !ids.contains(id));
        let shows = |item: &MemoryItem| item.metadata.memory_type() == Some(MemoryType::Working);
        let found = record.nodes(&scope, &bound).await?;
        Ok(found.into_iter().filter(shows).map(|item| item.id).collect())
    }
}

/// Returns the cubes that a request names, without repetitions; `None` when it names none.
fn cubes_named(cubes: Option<&[String]>) -> ProductResult<Option<Vec<CubeId>>> {
    let Some(cubes) = cubes.filter(|cubes| !cubes.is_empty()) else { return Ok(None) };
    check_number(cubes.len(), "cubes")?;
    let mut named: Vec<CubeId> = Vec::with_capacity(cubes.len());
    for cube in cubes {
        let cube = CubeId::parse(cube.as_str())?;
        if !named.contains(&cube) {
            named.push(cube);
        }
    }
    Ok(Some(named))
}

fn check_number(number: usize, of_what: &str) -> ProductResult<()> {
    if number > MAX_NAMED {
        return Err(ProductError::bad_value(format!("at most {MAX_NAMED} {of_what} can be named at once")));
    }
    Ok(())
}

/// Returns which memories a request means; the inner error says why that cannot be known.
fn meant(request: &DeleteMemoryRequest, session: Option<&str>) -> ProductResult<Result<Meant, String>> {
    let user_id = request.user_id.as_deref();
    let has_conditions = request.filter.is_some() || user_id.is_some() || session.is_some();
    match (&request.memory_ids, &request.file_ids, has_conditions) {
        (Some(ids), None, false) => Ok(Ok(Meant::Ids(memory_ids(ids)?))),
        (None, Some(files), false) => {
            check_number(files.len(), "files")?;
            Ok(Ok(Meant::Files(files.clone())))
        }
        (None, None, true) => Ok(conditions(request.filter.as_ref(), user_id, session).map(Meant::Passing)),
        _ => {
            let why = "exactly one must be given: `memory_ids`, `file_ids`, or conditions (`filter`, `user_id`, `session_id`)";
            Ok(Err(why.to_owned()))
        }
    }
}

fn ids_of(cubes: Vec<Cube>) -> Vec<CubeId> {
    cubes.into_iter().map(|cube| cube.cube_id).collect()
}

/// Returns the filter that lets pass what all conditions mean, or why that cannot be known.
fn conditions(
    filter: Option<&Map<String, Value>>,
    user_id: Option<&str>,
    session: Option<&str>,
) -> Result<Filter, String> {
    let mut joined = match filter {
        None => Filter::Everything,
        Some(map) => {
            let filter = one_filter(map).map_err(|error| error.message)?;
            if filter.says_nothing() {
                return Err("the filter lets everything pass; name what is meant".to_owned());
            }
            filter
        }
    };
    for (field, value) in [("user_id", user_id), ("session_id", session)] {
        let Some(value) = value else { continue };
        if contradicts(&joined, field, value) {
            return Err(format!("the filter and `{field}` contradict each other; give it once"));
        }
        joined = joined.and(Filter::equals(field, value));
    }
    Ok(joined)
}

/// Whether a part of a filter wants another value of a field.
fn contradicts(filter: &Filter, field: &str, value: &str) -> bool {
    match filter {
        Filter::Everything | Filter::Not(_) => false,
        Filter::Is(condition) => {
            condition.field == field && condition.operator == Operator::Eq && condition.value.as_str() != Some(value)
        }
        Filter::All(parts) | Filter::Any(parts) => parts.iter().any(|part| contradicts(part, field, value)),
    }
}

/// The ids of working memories that a memory names.
fn bindings(item: &MemoryItem) -> Vec<MemoryId> {
    let background = item.metadata.tree().and_then(|fields| fields.background.as_deref()).unwrap_or_default();
    let in_background = background.split(BINDING).skip(1).filter_map(|rest| rest.split_once(']')).map(|(id, _)| id);
    let ids = item.metadata.working_binding.as_deref().into_iter().chain(in_background);
    ids.filter_map(|id| MemoryId::parse(id.trim()).ok()).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::product::Request;

    fn read(body: &Value) -> Result<Meant, String> {
        meant(&DeleteMemoryRequest::from_json(body).unwrap(), None).unwrap()
    }

    #[test]
    fn exactly_one_way_to_say_what_is_meant() {
        let id = "00000000-0000-4000-8000-000000000001";
        assert_eq!(read(&json!({"memory_ids": [id, id]})), Ok(Meant::Ids(vec![MemoryId::from(id)])));
        assert_eq!(read(&json!({"file_ids": ["f"]})), Ok(Meant::Files(vec!["f".to_owned()])));
        let ann = Filter::equals("user_id", "ann");
        assert_eq!(read(&json!({"user_id": "ann"})), Ok(Meant::Passing(ann.clone())));
        let both = Filter::equals("key", "tea").and(ann);
        assert_eq!(read(&json!({"user_id": "ann", "filter": {"key": "tea"}})), Ok(Meant::Passing(both)));
        for body in [
            json!({}),
            json!({"memory_ids": [id], "file_ids": ["f"]}),
            json!({"memory_ids": [id], "user_id": "ann"}),
            json!({"file_ids": ["f"], "filter": {"key": "tea"}}),
        ] {
            assert!(read(&body).unwrap_err().contains("exactly one"), "{body}");
        }
    }

    #[test]
    fn conditions_that_mean_nothing_or_contradict_each_other_are_refused() {
        for filter in [
            json!({}),
            json!({"and": []}),
            json!({"or": []}),
            json!({"or": [{"key": "tea"}, {}]}),
            json!({"and": [{}, {"and": [{}]}]}),
            json!({"key": {"near": "tea"}}),
            json!({"and": [{"key": "tea"}], "type": "fact"}),
        ] {
            assert!(read(&json!({"filter": filter, "user_id": "ann"})).is_err(), "{filter}");
        }
        let either = json!({"or": [{"key": "tea"}, {"user_id": "bob"}]});
        assert!(read(&json!({"filter": either, "user_id": "ann"})).unwrap_err().contains("contradict"));
        assert!(read(&json!({"filter": either, "user_id": "bob"})).is_ok());
        assert!(read(&json!({"filter": {"and": [{}, {"key": "tea"}]}})).is_ok());
    }

    #[test]
    fn conditions_hold_in_every_branch() {
        let body = json!({"filter": {"or": [{"key": "tea"}, {"key": "dog"}]}, "user_id": "ann"});
        let Ok(Meant::Passing(filter)) = read(&body) else { panic!("{body} means something") };
        let passes = |metadata: Value| filter.matches("", metadata.as_object().unwrap());
        assert!(passes(json!({"key": "dog", "user_id": "ann"})));
        assert!(!passes(json!({"key": "dog", "user_id": "bob"})) && !passes(json!({"user_id": "ann"})));
    }

    #[test]
    fn working_memories_are_named_in_two_places() {
        let item = |metadata: Value| {
            let value = json!({"id": "00000000-0000-4000-8000-000000000001", "memory": "x", "metadata": metadata});
            MemoryItem::from_value(value, String::new).unwrap()
        };
        let background = "[working_binding:a] told twice [working_binding: b ] [working_binding:open";
        let named = item(json!({"memory_type": "UserMemory", "background": background, "working_binding": "c"}));
        assert_eq!(bindings(&named), ["c", "a", "b"].map(MemoryId::from));
        assert!(bindings(&item(json!({"memory_type": "UserMemory"}))).is_empty());
    }
}
