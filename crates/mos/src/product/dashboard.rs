//! What a page that watches over memories shows: memories of several cubes, and how many there are.

use mos_core::{CubeId, Paging};
use serde::Serialize;

use super::app::Product;
use super::caller::Scope;
use super::error::ProductResult;
use super::hits::Shelf;
use super::listing::{Counts, GetMemoryDashboardRequest, Listing, MemoryList, MemoryLists};
use super::reply::Reply;

/// How many memories there are on all pages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct MemoryStatistics {
    /// Facts.
    pub total_text_nodes: usize,
    /// Memories of tools.
    pub total_tool_nodes: usize,
    /// Skills.
    pub total_skill_nodes: usize,
    /// Preferences.
    pub total_preference_nodes: usize,
}

/// A page of memories by kind and cube, and how many there are in all.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct MemoryDashboard {
    /// The page. `total_nodes` of each cube is how many of its memories are on it.
    #[serde(flatten)]
    pub lists: MemoryLists,
    /// What all pages hold.
    pub statistics: MemoryStatistics,
}

impl Product {
    /// Returns memories by kind and by the cube that they are in, and how many there are. The cubes come one after the other,
    /// the newest first, and a page may go across them; within a cube the newest memories come first.
    ///
    /// # Errors
    /// Status 400 for a filter that cannot be understood, 403 without the right to read.
    pub async fn get_memory_dashboard(
        &self,
        request: GetMemoryDashboardRequest,
    ) -> ProductResult<Reply<MemoryDashboard>> {
        let cubes = self.shown_cubes(request.mem_cube_id.as_deref(), request.user_id.as_deref()).await?;
        let listing = self.listing(request.filter.as_ref(), request.user_id.as_deref())?;
        let mut counted = Vec::with_capacity(cubes.len());
        let mut statistics = MemoryStatistics::default();
        for cube in cubes {
            let counts = listing.counts(&cube).await?;
            statistics.total_text_nodes += counts.text;
            statistics.total_tool_nodes += counts.tool;
            statistics.total_skill_nodes += counts.skill;
            statistics.total_preference_nodes += counts.preference;
            counted.push((cube, counts));
        }
        let mut lists = MemoryLists::default();
        for shelf in request.shelves() {
            *lists.of_mut(shelf) = across(&listing, &counted, shelf, request.paging()).await?;
        }
        Ok(Reply::new("Memories retrieved successfully", MemoryDashboard { lists, statistics }))
    }

    /// The cubes that a dashboard shows.
    async fn shown_cubes(&self, cube: Option<&str>, user_id: Option<&str>) -> ProductResult<Vec<CubeId>> {
        self.caller.check(Scope::Read)?;
        if let Some(cube) = cube {
            let cube = CubeId::parse(cube)?;
            let reached = self.existing(Scope::Read, user_id, &cube).await?;
            return Ok(reached.map(|_| cube).into_iter().collect());
        }
        let cubes = match self.acting(user_id)? {
            // Of a user who is named nothing but its own memories is shown.
            Some(user) if user_id.is_some() => self.cubes_open_to(&user).await?,
            Some(user) => self.cubes_of(&user).await?,
            None => self.within_reach().await?,
        };
        Ok(cubes.into_iter().map(|cube| cube.cube_id).collect())
    }
}

/// Returns one page of the lists of several cubes, which stand one after the other. Cubes that have nothing on it are left out.
async fn across(
    listing: &Listing<'_>,
    cubes: &[(CubeId, Counts)],
    shelf: Shelf,
    paging: Paging,
) -> ProductResult<Vec<MemoryList>> {
    let Paging { offset: mut before, limit: mut left } = paging;
    let mut lists = Vec::new();
    for (cube, counts) in cubes {
        let count = counts.of(shelf);
        if before >= count {
            before -= count;
            continue;
        }
        if left == 0 {
            break;
        }
        let memories = listing.part(cube, shelf, Paging { offset: before, limit: left }).await?;
        before = 0;
        left = left.saturating_sub(memories.len());
        if !memories.is_empty() {
            lists.push(MemoryList { cube_id: cube.clone(), total_nodes: memories.len(), memories });
        }
    }
    Ok(lists)
}
