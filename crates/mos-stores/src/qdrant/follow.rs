//! Following the record's feed, which is the outbox of everything that must come to the server.
//!
//! A collection holds the cursor of each cube: how far it has followed. Whoever searches goes on from there, whichever
//! program was there before; doing a page of the feed twice is the same as doing it once. A follower that was held up
//! may write over what another one has written meanwhile; therefore the feed is read to its end after the last write,
//! which tells everything that is newer, before the cursor moves. Removals never touch what is newer than them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use mos_core::{Change, EmbeddingSpace, Scope, StoreError};

use super::calls::Calls;
use super::condition::{everything_of, these};
use super::fault::{BACKEND, Fault};
use super::point::{self, Cursor};
use super::{Inner, collections};

/// Changes read at a time.
const PAGE: usize = 1000;
/// How many short pages are followed while writers keep adding to the feed, and how often work begins again because what
/// it is about was changed meanwhile.
pub(super) const MAX_ROUNDS: usize = 16;
/// The most cubes whose cursors are remembered as right.
const MAX_REMEMBERED: usize = 10_000;

/// What following a feed has found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum News {
    /// Nothing: the collection was up to date.
    None,
    /// Some, which are in the collection now; or the cube has got another embedding space.
    Some,
}

/// One follower per cube in this process: others wait for it.
#[derive(Debug, Default)]
pub(super) struct Turns(Mutex<HashMap<Scope, Weak<tokio::sync::Mutex<()>>>>);

impl Turns {
    pub(super) fn of(&self, scope: &Scope) -> Arc<tokio::sync::Mutex<()>> {
        let mut turns = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(turn) = turns.get(scope).and_then(Weak::upgrade) {
            return turn;
        }
        turns.retain(|_, turn| turn.strong_count() > 0);
        let turn = Arc::default();
        turns.insert(scope.clone(), Arc::downgrade(&turn));
        turn
    }
}

/// Cursors that were compared with the record, or come from here.
#[derive(Debug, Default)]
pub(super) struct Remembered(Mutex<HashMap<(String, Scope), Cursor>>);

impl Remembered {
    fn is(&self, collection: &str, scope: &Scope, cursor: &Cursor) -> bool {
        let remembered = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        remembered.get(&(collection.to_owned(), scope.clone())) == Some(cursor)
    }

    fn set(&self, collection: &str, scope: &Scope, cursor: Cursor) {
        let mut remembered = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if remembered.len() >= MAX_REMEMBERED {
            remembered.clear();
        }
        remembered.insert((collection.to_owned(), scope.clone()), cursor);
    }
}

impl Inner {
    /// Brings the collection of a space up to the record's present state of a cube.
    pub(super) async fn follow(self: &Arc<Self>, scope: &Scope, space: &EmbeddingSpace) -> Result<News, StoreError> {
        if self.is_up_to_date(scope, space).await? {
            return Ok(News::None);
        }
        let (this, scope, space) = (Arc::clone(self), scope.clone(), space.clone());
        // What was sent cannot be taken back when the caller goes away; better to do it to its end.
        let task = tokio::spawn(async move {
            let turn = this.turns.of(&scope);
            let _mine = turn.lock().await;
            this.follow_alone(&scope, &space).await
        });
        finished(task.await)
    }

    async fn is_up_to_date(&self, scope: &Scope, space: &EmbeddingSpace) -> Result<bool, StoreError> {
        let collection = collections::name(&self.prefix, space);
        match self.calls(&collection).cursor(scope).await {
            Ok(Some(cursor)) if self.remembered.is(&collection, scope, &cursor) => {
                Ok(self.record.changes(scope, cursor.sequence, 1).await?.is_empty())
            }
            Ok(_) => Ok(false),
            Err(Fault::NoCollection) => {
                self.forget_collection(&collection);
                Ok(false)
            }
            Err(Fault::Store(error)) => Err(error),
        }
    }

    async fn follow_alone(&self, scope: &Scope, space: &EmbeddingSpace) -> Result<News, StoreError> {
        let mut starts_again = 0;
        loop {
            match self.follow_once(scope, space).await {
                Ok(news) => return Ok(news),
                // It was removed since it was seen: it is made again.
                Err(Fault::NoCollection) if starts_again < MAX_ROUNDS => {
                    starts_again += 1;
                    self.forget_collection(&collections::name(&self.prefix, space));
                }
                Err(fault) => return Err(fault.into_store_error()),
            }
        }
    }

    async fn follow_once(&self, scope: &Scope, space: &EmbeddingSpace) -> Result<News, Fault> {
        let collection = self.collection(space).await?;
        let calls = self.calls(&collection);
        let cursor = self.starting_point(&calls, scope).await?;
        let mut news = News::None;
        let (mut at, mut n_short) = (cursor, 0);
        // Cursor after the page before the last one: what is newer than that page has been read by then, mostly.
        let mut done: Option<Cursor> = None;
        loop {
            let page = self.record.changes(scope, at.sequence, PAGE).await?;
            let Some(last) = page.last().map(cursor_of) else { break };
            n_short += usize::from(page.len() < PAGE);
            if n_short > MAX_ROUNDS {
                // Writers are as fast as this. All that was there at the beginning is in the collection.
                break;
            }
            news = News::Some;
            if page.iter().any(|change| !fits(change, space)) {
                return Ok(news);
            }
            if let Some(done) = done.take() {
                self.move_cursor(&calls, scope, space, done).await?;
            }
            apply(&calls, scope, page).await?;
            at = last.clone();
            done = Some(last);
        }
        if let Some(done) = done {
            self.move_cursor(&calls, scope, space, done).await?;
        }
        Ok(news)
    }

    /// Returns the cursor of a cube. One that the record cannot have given does not count: then the record is another one
    /// than the collection has followed, and what the collection has of the cube goes.
    async fn starting_point(&self, calls: &Calls<'_>, scope: &Scope) -> Result<Cursor, Fault> {
        let Some(cursor) = calls.cursor(scope).await? else {
            // The cube is new here: it may have been embedded in another space before.
            self.leave_other_collections(scope, calls.collection).await?;
            return Ok(Cursor::default());
        };
        if cursor.sequence == 0 {
            return Ok(cursor);
        }
        if self.remembered.is(calls.collection, scope, &cursor) {
            return Ok(cursor);
        }
        // The memory of the change has that change, or a later one.
        let told = self.record.changes(scope, cursor.sequence - 1, 1).await?;
        if told.first().map(cursor_of).is_some_and(|first| is_of(&cursor, &first)) {
            self.remembered.set(calls.collection, scope, cursor.clone());
            return Ok(cursor);
        }
        tracing::warn!(%scope.cube, collection = calls.collection, "the record is not the one that was followed; starting again");
        calls.delete(everything_of(scope, None)).await?;
        Ok(Cursor::default())
    }

    async fn move_cursor(
        &self,
        calls: &Calls<'_>,
        scope: &Scope,
        space: &EmbeddingSpace,
        cursor: Cursor,
    ) -> Result<(), Fault> {
        calls.put(vec![cursor.to_point(scope, space)]).await?;
        self.remembered.set(calls.collection, scope, cursor);
        Ok(())
    }

    /// Moves the cursor of a cube back, so that the changes from this one on are done again.
    pub(super) async fn rewind(&self, scope: &Scope, space: &EmbeddingSpace, to: u64) -> Result<(), StoreError> {
        let collection = collections::name(&self.prefix, space);
        let calls = self.calls(&collection);
        let turn = self.turns.of(scope);
        let _mine = turn.lock().await;
        let cursor = Cursor { sequence: to.saturating_sub(1), last: None };
        match self.rewind_alone(&calls, scope, space, cursor).await {
            Ok(()) | Err(Fault::NoCollection) => Ok(()),
            Err(Fault::Store(error)) => Err(error),
        }
    }

    async fn rewind_alone(
        &self,
        calls: &Calls<'_>,
        scope: &Scope,
        space: &EmbeddingSpace,
        cursor: Cursor,
    ) -> Result<(), Fault> {
        match calls.cursor(scope).await? {
            Some(now) if now.sequence > cursor.sequence => self.move_cursor(calls, scope, space, cursor).await,
            _ => Ok(()),
        }
    }

    /// Removes what the collections of other spaces hold of a cube.
    pub(super) async fn leave_other_collections(&self, scope: &Scope, own: &str) -> Result<(), Fault> {
        for other in collections::ours(&self.connection, &self.prefix).await?.iter().filter(|other| *other != own) {
            match self.calls(other).delete(everything_of(scope, None)).await {
                Ok(()) | Err(Fault::NoCollection) => {}
                Err(fault) => return Err(fault),
            }
        }
        Ok(())
    }

    /// Removes what a collection holds of a cube that has no embeddings there any more. What a later cube of the same id
    /// writes meanwhile stays: its changes have larger numbers.
    pub(super) async fn leave(&self, scope: &Scope, collection: &str) -> Result<(), StoreError> {
        let turn = self.turns.of(scope);
        let _mine = turn.lock().await;
        let mut last = 0;
        loop {
            let page = self.record.changes(scope, last, PAGE).await?;
            let Some(cursor) = page.last().map(cursor_of) else { break };
            last = cursor.sequence;
        }
        // A record that tells nothing of the cube never knew it.
        let up_to = (last > 0).then_some(last);
        match self.calls(collection).delete(everything_of(scope, up_to)).await {
            Ok(()) | Err(Fault::NoCollection) => Ok(()),
            Err(Fault::Store(error)) => Err(error),
        }
    }
}

/// Returns what a task of ours returned.
pub(super) fn finished<T>(result: Result<Result<T, StoreError>, tokio::task::JoinError>) -> Result<T, StoreError> {
    match result {
        Ok(result) => result,
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        Err(error) => Err(StoreError::Unavailable { backend: BACKEND, source: error.into() }),
    }
}

fn cursor_of(change: &Change) -> Cursor {
    let (sequence, id) = match change {
        Change::Put { sequence, id, .. } | Change::Deleted { sequence, id } => (*sequence, id.clone()),
    };
    Cursor { sequence, last: Some(id) }
}

/// Whether a record whose feed goes on with `first`, from the cursor's own change on, is the one that the cursor is of.
fn is_of(cursor: &Cursor, first: &Cursor) -> bool {
    let is_same = first.sequence == cursor.sequence && (cursor.last.is_none() || first.last == cursor.last);
    is_same || first.sequence > cursor.sequence
}

/// Whether a change is of the space. Another one's vectors mean that the cube was embedded anew meanwhile.
fn fits(change: &Change, space: &EmbeddingSpace) -> bool {
    match change {
        Change::Put { point: Some(point), .. } => point.vector.len() == space.dimension,
        Change::Put { point: None, .. } | Change::Deleted { .. } => true,
    }
}

/// Does a page of the feed. Each memory is in it once.
async fn apply(calls: &Calls<'_>, scope: &Scope, page: Vec<Change>) -> Result<(), Fault> {
    let Some(last) = page.last().map(cursor_of) else { return Ok(()) };
    let (mut put, mut gone) = (Vec::new(), Vec::new());
    for change in page {
        match change {
            Change::Put { sequence, point: Some(point), .. } => put.push(point::memory(scope, sequence, &point)),
            Change::Put { id, point: None, .. } | Change::Deleted { id, .. } => gone.push(id),
        }
    }
    if !gone.is_empty() {
        let points = gone.iter().map(|id| point::point_id(point::memory_point(scope, id))).collect();
        calls.delete(these(scope, points, last.sequence)).await?;
    }
    calls.put(put).await
}
