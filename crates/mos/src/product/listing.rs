//! The memories of a cube, a page at a time.

use mos_core::{CubeId, Filter, MemoryType, Paging, RecordStore};
use serde::Serialize;
use serde_json::{Map, Value};

use super::app::Product;
use super::caller::Scope;
use super::error::ProductResult;
use super::filters::one_filter;
use super::hits::{Shelf, node_value};
use super::reply::Reply;

/// The most memories of one list of an answer.
const MAX_LISTED: usize = 10_000;

/// How many memories are on a page whose size makes no sense.
const DEFAULT_PAGE_SIZE: usize = 10;

/// The metadata field that tells the list which a memory is in.
const MEMORY_TYPE: &str = "memory_type";

/// Makes a request for lists of memories; what it takes of a cube comes first, everything else is the same for all of them.
macro_rules! listing_request {
    ($(#[$doc:meta])* pub struct $name:ident of { $(#[$cube_doc:meta])* $kind:ident mem_cube_id }) => {
        request! {
            $(#[$doc])*
            pub struct $name as $name {
                $(#[$cube_doc])*
                $kind mem_cube_id: String;
                /// Who asks, and whose memories are wanted; without this everybody's.
                optional user_id: String;
                /// Whether preferences are listed.
                #[schema(required = false, default = true)]
                default include_preference: bool = true;
                /// Whether memories of tools are listed.
                #[schema(required = false, default = true)]
                default include_tool_memory: bool = true;
                /// Whether skills are listed.
                #[schema(required = false, default = true)]
                default include_skill_memory: bool = true;
                /// Conditions on the memories.
                #[schema(value_type = Option<Object>)]
                optional filter: Map<String, Value>;
                /// Which page, from 1; goes with `page_size`.
                optional page: i64;
                /// How many memories of each list are on a page; goes with `page`.
                optional page_size: i64;
            }
        }

        impl $name {
            /// Which lists are wanted.
            pub(super) fn shelves(&self) -> impl Iterator<Item = Shelf> + use<> {
                shelves(self.include_preference, self.include_tool_memory, self.include_skill_memory)
            }

            /// Which part of each.
            pub(super) fn paging(&self) -> Paging {
                page_of(self.page, self.page_size)
            }
        }
    };
}

listing_request! {
    /// Asks for the memories of a cube.
    pub struct GetMemoryRequest of {
        /// The cube.
        required mem_cube_id
    }
}

listing_request! {
    /// Asks for memories of one cube or of all, and how many there are.
    pub struct GetMemoryDashboardRequest of {
        /// The cube; without this every cube of the user, or of the caller.
        optional mem_cube_id
    }
}

impl Default for GetMemoryDashboardRequest {
    fn default() -> Self {
        Self::new()
    }
}

/// Memories of one cube.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct MemoryList {
    /// The cube.
    pub cube_id: CubeId,
    /// The memories as `{"id", "memory", "metadata"}`, newest first.
    pub memories: Vec<Value>,
    /// How many there are.
    pub total_nodes: usize,
}

/// Memories by their kind, then by cube.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct MemoryLists {
    /// Facts: working, long-term, user and outer memory.
    pub text_mem: Vec<MemoryList>,
    /// Preferences.
    pub pref_mem: Vec<MemoryList>,
    /// Descriptions of tools, and how they were used.
    pub tool_mem: Vec<MemoryList>,
    /// Skills.
    pub skill_mem: Vec<MemoryList>,
}

impl MemoryLists {
    /// The lists of one kind.
    pub(super) fn of_mut(&mut self, shelf: Shelf) -> &mut Vec<MemoryList> {
        match shelf {
            Shelf::Text => &mut self.text_mem,
            Shelf::Preference => &mut self.pref_mem,
            Shelf::Tool => &mut self.tool_mem,
            Shelf::Skill => &mut self.skill_mem,
        }
    }
}

/// How many memories of each kind a cube has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) text: usize,
    pub(super) preference: usize,
    pub(super) tool: usize,
    pub(super) skill: usize,
}

impl Counts {
    pub(super) fn of(&self, shelf: Shelf) -> usize {
        match shelf {
            Shelf::Text => self.text,
            Shelf::Preference => self.preference,
            Shelf::Tool => self.tool,
            Shelf::Skill => self.skill,
        }
    }

    fn add(&mut self, kind: Option<MemoryType>, count: usize) {
        match kind {
            Some(MemoryType::Preference) => self.preference += count,
            Some(MemoryType::ToolSchema | MemoryType::ToolTrajectory) => self.tool += count,
            Some(MemoryType::Skill) => self.skill += count,
            Some(MemoryType::RawFile | MemoryType::Context) => {}
            // Memories of flat backends have no type.
            Some(MemoryType::Working | MemoryType::LongTerm | MemoryType::User | MemoryType::Outer) | None => {
                self.text += count;
            }
        }
    }
}

/// Reads what a request lists out of the record, which filters, counts and pages.
pub(super) struct Listing<'a> {
    record: &'a dyn RecordStore,
    filter: Filter,
}

impl Listing<'_> {
    /// Counts the memories of a cube.
    pub(super) async fn counts(&self, cube: &CubeId) -> ProductResult<Counts> {
        let mut counts = Counts::default();
        for (kind, count) in self.types(cube).await? {
            counts.add(kind.as_deref().and_then(MemoryType::parse), count);
        }
        Ok(counts)
    }

    /// Counts the memories of a cube by type; those without one have none.
    pub(super) async fn types(&self, cube: &CubeId) -> ProductResult<Vec<(Option<String>, usize)>> {
        let scope = mos_core::Scope::of(cube);
        let groups = self.record.count_by(&scope, &[MEMORY_TYPE.to_owned()], &self.filter).await?;
        let kind = |values: &[Value]| values.first().and_then(Value::as_str).map(str::to_owned);
        Ok(groups.iter().map(|group| (kind(&group.values), group.count)).collect())
    }

    /// Returns a part of one list of a cube, newest first.
    pub(super) async fn part(&self, cube: &CubeId, shelf: Shelf, paging: Paging) -> ProductResult<Vec<Value>> {
        let filter = self.filter.clone().and(of_shelf(shelf));
        let page = self.record.newest(&mos_core::Scope::of(cube), &filter, paging).await?;
        Ok(page.iter().map(|item| node_value(item, cube)).collect())
    }
}

impl Product {
    /// Returns what reads the memories that pass a request's filter, of one user or of all; never those that are marked as
    /// deleted, and preferences only while textual memory is off.
    ///
    /// # Errors
    /// Status 400 for a filter that cannot be understood.
    pub(super) fn listing(
        &self,
        filter: Option<&Map<String, Value>>,
        user_id: Option<&str>,
    ) -> ProductResult<Listing<'_>> {
        let mut wanted = not_deleted();
        if let Some(map) = filter.filter(|map| !map.is_empty()) {
            wanted = wanted.and(one_filter(map)?);
        }
        if let Some(user_id) = user_id {
            wanted = wanted.and(Filter::equals("user_id", user_id));
        }
        if !self.mos().settings().enable_textual_memory {
            wanted = wanted.and(of_shelf(Shelf::Preference));
        }
        Ok(Listing { record: self.mos().parts.record.as_ref(), filter: wanted })
    }

    /// Returns the memories of a cube by kind: newest first (by `created_at`, then by id), without those that are marked as
    /// deleted. `total_nodes` counts all pages. Without paging at most the 10,000 newest of each kind are returned; a cube
    /// that does not exist has none.
    ///
    /// # Errors
    /// Status 400 for a filter that cannot be understood, 403 without the right to read.
    pub async fn get_memory(&self, request: GetMemoryRequest) -> ProductResult<Reply<MemoryLists>> {
        let cube = CubeId::parse(request.mem_cube_id.as_str())?;
        let reached = self.existing(Scope::Read, request.user_id.as_deref(), &cube).await?;
        let listing = self.listing(request.filter.as_ref(), request.user_id.as_deref())?;
        let counts = match reached {
            Some(_) => listing.counts(&cube).await?,
            None => Counts::default(),
        };
        let mut lists = MemoryLists::default();
        for shelf in request.shelves() {
            // Some records look through the whole cube for a list, so that empty ones are not asked for.
            let memories = match counts.of(shelf) {
                0 => Vec::new(),
                _ => listing.part(&cube, shelf, request.paging()).await?,
            };
            lists.of_mut(shelf).push(MemoryList { cube_id: cube.clone(), memories, total_nodes: counts.of(shelf) });
        }
        Ok(Reply::new("Memories retrieved successfully", lists))
    }
}

/// Which lists a request wants.
fn shelves(preferences: bool, tools: bool, skills: bool) -> impl Iterator<Item = Shelf> {
    let all = [(Shelf::Text, true), (Shelf::Preference, preferences), (Shelf::Tool, tools), (Shelf::Skill, skills)];
    all.into_iter().filter_map(|(shelf, is_wanted)| is_wanted.then_some(shelf))
}

/// What is not marked as deleted.
pub(super) fn not_deleted() -> Filter {
    Filter::Not(Box::new(Filter::equals("status", "deleted")))
}

/// What one list of an answer holds.
pub(super) fn of_shelf(shelf: Shelf) -> Filter {
    let of_types = |types: &[MemoryType]| Filter::one_of(MEMORY_TYPE, types.iter().map(|kind| kind.as_str()));
    match shelf {
        Shelf::Text => Filter::Not(Box::new(of_types(&[
            MemoryType::Preference,
            MemoryType::ToolSchema,
            MemoryType::ToolTrajectory,
            MemoryType::Skill,
            MemoryType::RawFile,
            MemoryType::Context,
        ]))),
        Shelf::Preference => of_types(&[MemoryType::Preference]),
        Shelf::Tool => of_types(&[MemoryType::ToolSchema, MemoryType::ToolTrajectory]),
        Shelf::Skill => of_types(&[MemoryType::Skill]),
    }
}

/// Returns which part of a list a page is. Without one of the two numbers there are no pages; numbers below 1 are the first
/// page, and pages of 10.
fn page_of(page: Option<i64>, page_size: Option<i64>) -> Paging {
    let (Some(page), Some(page_size)) = (page, page_size) else { return Paging { offset: 0, limit: MAX_LISTED } };
    let at_least_one = |number: i64| usize::try_from(number).ok().filter(|number| *number > 0);
    let limit = at_least_one(page_size).unwrap_or(DEFAULT_PAGE_SIZE).min(MAX_LISTED);
    let before = at_least_one(page).unwrap_or(1) - 1;
    Paging { offset: before.saturating_mul(limit), limit }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_need_both_numbers_and_forgive_small_ones() {
        let paging = |page, size| {
            let Paging { offset, limit } = page_of(page, size);
            (offset, limit)
        };
        assert_eq!(paging(None, Some(5)), (0, MAX_LISTED));
        assert_eq!(paging(Some(3), None), (0, MAX_LISTED));
        assert_eq!(paging(Some(3), Some(5)), (10, 5));
        assert_eq!(paging(Some(0), Some(5)), (0, 5));
        assert_eq!(paging(Some(-7), Some(-1)), (0, 10));
        assert_eq!(paging(Some(i64::MAX), Some(i64::MAX)).1, MAX_LISTED);
    }

    #[test]
    fn every_type_is_counted_in_the_list_that_holds_it() {
        for word in MemoryType::WORDS {
            let kind = MemoryType::parse(word).unwrap();
            let metadata = Map::from_iter([(MEMORY_TYPE.to_owned(), Value::from(*word))]);
            let mut counts = Counts::default();
            counts.add(Some(kind), 1);
            for shelf in shelves(true, true, true) {
                assert_eq!(of_shelf(shelf).matches("", &metadata), counts.of(shelf) == 1, "{word} in {shelf:?}");
            }
        }
        assert!(of_shelf(Shelf::Text).matches("", &Map::new()), "memories of flat backends have no type");
    }
}
