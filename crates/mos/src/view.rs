//! One or several cubes used as one: what is written goes to each of them, what is read comes from all.

use mos_core::{CubeId, UserId};

use crate::error::{Error, Result};
use crate::facade::{Add, Added, Chat, ChatReply, MemoryListing, Mos, Remember, Remembered, Search, SearchResult};

/// The most cubes of a view: each is written to and searched for itself.
const MAX_CUBES: usize = 100;

/// Cubes of a user that are used together: a single view of one cube, or a composite one of several. Made by [`Mos::view`].
///
/// Rights are checked when it is made, and again by every operation: who loses the right to a cube loses its view.
#[derive(Clone, Debug)]
pub struct CubeView {
    mos: Mos,
    user: UserId,
    cubes: Vec<CubeId>,
}

/// What became of a write in one cube of a view.
#[derive(Debug)]
pub struct ViewWrite<T> {
    /// The cube.
    pub cube_id: CubeId,
    /// What was stored there, or why nothing was.
    pub stored: Result<T>,
}

impl Mos {
    /// Returns a view of registered cubes, in this order, without repetitions. The user must be allowed to read each.
    ///
    /// # Errors
    /// [`Error::Invalid`] for no cubes and for more than a hundred; [`Error::UnknownUser`]; [`Error::NoAccess`];
    /// [`Error::NotRegistered`].
    pub async fn view(&self, user: &UserId, cubes: impl IntoIterator<Item = CubeId>) -> Result<CubeView> {
        let mut distinct: Vec<CubeId> = Vec::new();
        for cube in cubes {
            if !distinct.contains(&cube) {
                distinct.push(cube);
            }
            if distinct.len() > MAX_CUBES {
                return Err(Error::Invalid(format!("a view has at most {MAX_CUBES} cubes; make several views")));
            }
        }
        if distinct.is_empty() {
            return Err(Error::Invalid("a view needs a cube; name at least one".to_owned()));
        }
        let view = CubeView { mos: self.clone(), user: user.clone(), cubes: distinct };
        for cube in &view.cubes {
            self.readable_cube(user, cube).await?;
        }
        Ok(view)
    }
}

impl CubeView {
    /// Whose view it is.
    pub fn user(&self) -> &UserId {
        &self.user
    }

    /// The cubes, in the order in which they are written to.
    pub fn cubes(&self) -> &[CubeId] {
        &self.cubes
    }

    /// Stores memories in every cube as [`Mos::add_and_learn`] does, one cube after the other, and returns what became of it in
    /// each, in the order of the cubes. A failure in one does not keep the others from being written to. User and cube
    /// that `add` names are not heeded.
    ///
    /// # Errors
    /// Rights to any of the cubes; nothing is stored then.
    pub async fn add(&self, add: Add) -> Result<Vec<ViewWrite<Added>>> {
        self.check_writes().await?;
        let mut written = Vec::with_capacity(self.cubes.len());
        for cube_id in &self.cubes {
            let add = add.clone().user(self.user.clone()).cube(cube_id.clone());
            let stored = self.mos.add_and_learn(add).await;
            written.push(ViewWrite { cube_id: cube_id.clone(), stored });
        }
        Ok(written)
    }

    /// Reads input as [`Mos::remember`] does, for every cube by itself, and returns as [`CubeView::add`] does.
    ///
    /// # Errors
    /// Rights to any of the cubes; nothing is stored then.
    pub async fn remember(&self, what: Remember) -> Result<Vec<ViewWrite<Remembered>>> {
        self.check_writes().await?;
        let mut written = Vec::with_capacity(self.cubes.len());
        for cube_id in &self.cubes {
            let what = what.clone().user(self.user.clone()).cube(cube_id.clone());
            let stored = self.mos.remember(what).await;
            written.push(ViewWrite { cube_id: cube_id.clone(), stored });
        }
        Ok(written)
    }

    /// Returns what fits a question, cube by cube; [`SearchResult::best`] names the cube of each hit. User and cubes that
    /// `search` names are not heeded.
    ///
    /// # Errors
    /// As [`Mos::search`] of cubes that are named.
    pub async fn search(&self, search: Search) -> Result<SearchResult> {
        self.mos.search(search.user(self.user.clone()).cubes(self.cubes.iter().cloned())).await
    }

    /// Answers with the help of the memories of all cubes; [`ChatReply::memories`] names the cube of each. What is told is
    /// remembered in the first cube, when [`Chat::remember`] asks for it. User and cubes that `chat` names are not heeded.
    ///
    /// # Errors
    /// As [`Mos::chat`].
    pub async fn chat(&self, chat: Chat) -> Result<ChatReply> {
        self.mos.chat(chat.user(self.user.clone()).cubes(self.cubes.iter().cloned())).await
    }

    /// Returns every memory of every cube, as [`Mos::get_all`] does, in the order of the cubes.
    ///
    /// # Errors
    /// As [`Mos::get_all`], of any of the cubes.
    pub async fn get_all(&self) -> Result<MemoryListing> {
        let (mut text_mem, mut act_mem) = (Vec::with_capacity(self.cubes.len()), Vec::new());
        for cube in &self.cubes {
            let listing = self.mos.get_all(&self.user, Some(cube)).await?;
            text_mem.extend(listing.text_mem);
            act_mem.extend(listing.act_mem);
        }
        Ok(MemoryListing { text_mem, act_mem })
    }

    /// Refuses unless the user may write to every cube.
    async fn check_writes(&self) -> Result<()> {
        for cube in &self.cubes {
            self.mos.cube(&self.user, cube).await?;
        }
        Ok(())
    }
}
