//! Pages of memories, and how many there are: ordered and cut by the server, so that no more is sent than is told of.
//!
//! Each node says what lists ask for most: `mos_listed` is the JSON text of the listed fields as conditions see them,
//! `mos_made_at` what an export orders by, `mos_is_apart` that the memory is kept apart. The server tells which texts of
//! listed fields a cube has, a filter is asked about each of these here, and the texts that pass are a parameter of the
//! page. Conditions on other fields need each memory that passes the first, and are sent portions of these.
//!
//! Invariant: where a node does not say it (another program wrote it, or its values are too long for an index or have no
//! order that both know), [`Listing`](super::groups::Listing) says so, and the caller looks through the whole cube.

use std::collections::HashSet;

use mos_core::{Direction, Filter, GroupCount, MemoryId, MemoryItem, Page, Paging, StoreError, field_value};
use neo4rs::BoltType;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::connection::Connection;
use super::graph;
use super::groups::Groups;
use super::layout::{ItemRow, necessary};
use super::statements::{self, query};
use super::values::integer;
use crate::graph::{GroupCounter, created_at};
use crate::listed::{LISTED, is_listed, taken_apart};

/// The property with the listed fields.
pub(super) const LISTED_PROPERTY: &str = "mos_listed";
/// The property that an export orders by.
pub(super) const MADE_AT_PROPERTY: &str = "mos_made_at";
/// The property of a memory that is kept apart.
pub(super) const APART_PROPERTY: &str = "mos_is_apart";

/// Stands for listed fields that the server cannot list by.
pub(super) const UNTOLD: &str = "";
/// Begins the time of a memory that has one; without a time it is empty, which comes before.
const HAS_TIME: char = 't';
/// Comes after every time.
const AFTER_EVERY_TIME: &str = "u";
/// The most bytes of a time: keys of an index are bounded.
const MAX_TIME_BYTES: usize = 256;
/// The most bytes of the texts of listed fields.
const MAX_LISTED_BYTES: usize = 1024;
/// The first character that comes at another place where texts are compared in parts of 16 bits.
const FIRST_ODD_CHARACTER: char = '\u{e000}';
/// The most memories that the server sends at a time.
const PORTION: usize = 1000;

/// Returns the properties of a memory that lists are answered from.
pub(super) fn properties(id: &str, metadata: &Map<String, Value>) -> Vec<(&'static str, BoltType)> {
    let made_at = created_at(metadata).map_or_else(String::new, |text| format!("{HAS_TIME}{text}"));
    let value = |field: &&str| field_value(field, "", metadata).map_or(Value::Null, |value| value.into_owned());
    let listed = Value::Array(LISTED.iter().map(value).collect()).to_string();
    let has_order = |text: &str| text.chars().all(|character| character < FIRST_ODD_CHARACTER);
    let is_told =
        listed.len() <= MAX_LISTED_BYTES && made_at.len() <= MAX_TIME_BYTES && has_order(&made_at) && has_order(id);
    let mut properties: Vec<(&'static str, BoltType)> = match is_told {
        true => vec![(LISTED_PROPERTY, listed.into()), (MADE_AT_PROPERTY, made_at.into())],
        false => vec![(LISTED_PROPERTY, UNTOLD.into()), (MADE_AT_PROPERTY, UNTOLD.into())],
    };
    if may_be_apart(metadata) {
        properties.push((APART_PROPERTY, true.into()));
    }
    properties
}

/// Whether a memory is kept apart, by itself or as a working copy.
fn may_be_apart(metadata: &Map<String, Value>) -> bool {
    metadata.get(mos_core::memory::QUARANTINE).is_some_and(Value::is_string)
}

/// In which order memories are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    /// That of their first writes.
    Oldest,
    /// The same turned round.
    Latest,
    /// That of an export.
    Newest,
}

/// A memory, and where it is in its order.
#[derive(Debug, Deserialize)]
struct PlacedRow {
    made_at: String,
    place: i64,
    item: ItemRow,
}

#[derive(Debug, Deserialize)]
struct PlacedId {
    made_at: String,
    id: String,
}

/// How far a list was read.
#[derive(Debug)]
enum Cursor {
    After(i64),
    Before(i64),
    EarlierThan { made_at: String, id: String },
}

impl Cursor {
    fn begin(order: Order) -> Self {
        match order {
            Order::Oldest => Self::After(-1),
            Order::Latest => Self::Before(i64::MAX),
            Order::Newest => Self::EarlierThan { made_at: AFTER_EVERY_TIME.to_owned(), id: String::new() },
        }
    }

    fn pass(&mut self, row: &PlacedRow) {
        match self {
            Self::After(place) | Self::Before(place) => *place = row.place,
            Self::EarlierThan { made_at, id } => {
                made_at.clone_from(&row.made_at);
                id.clone_from(&row.item.id);
            }
        }
    }

    fn statement(&self) -> neo4rs::Query {
        match self {
            Self::After(place) => query(statements::OLDEST).param("after", *place),
            Self::Before(place) => query(statements::LATEST).param("before", *place),
            Self::EarlierThan { made_at, id } => {
                query(statements::NEWEST).param("made_at", made_at.as_str()).param("id", id.as_str())
            }
        }
    }
}

/// A cube whose listed fields are told.
#[derive(Clone, Copy, Debug)]
pub(super) struct Listed<'a> {
    pub(super) connection: &'a Connection,
    pub(super) tenant: &'a str,
    pub(super) groups: &'a Groups,
}

impl Listed<'_> {
    /// Returns how many memories pass a filter.
    pub(super) async fn count(&self, filter: &Filter) -> Result<usize, StoreError> {
        if is_listed(filter) {
            return Ok(self.groups.count(filter));
        }
        let mut total = 0;
        self.each_passing(filter, Order::Oldest, |_, _| {
            total += 1;
            Ok(true)
        })
        .await?;
        Ok(total)
    }

    /// Counts the memories that pass a filter by the values of some fields.
    pub(super) async fn count_by(&self, fields: &[String], filter: &Filter) -> Result<Vec<GroupCount>, StoreError> {
        if let Some(counts) = self.groups.count_by(fields, filter) {
            return Ok(counts);
        }
        let mut counter = GroupCounter::new(fields);
        self.each_passing(filter, Order::Oldest, |row, metadata| {
            counter.add(&row.memory, &metadata);
            Ok(true)
        })
        .await?;
        Ok(counter.finish())
    }

    /// Returns a page in the order of first writes, and how many memories pass.
    pub(super) async fn list(&self, filter: &Filter, paging: Paging) -> Result<Page<MemoryItem>, StoreError> {
        if is_listed(filter) {
            let entries = self.page(filter, paging, Order::Oldest).await?;
            return Ok(Page { entries, total: self.groups.count(filter) });
        }
        let (mut entries, mut total) = (Vec::new(), 0);
        let end = paging.offset.saturating_add(paging.limit);
        self.each_passing(filter, Order::Oldest, |row, _| {
            if (paging.offset..end).contains(&total) {
                entries.push(row.item()?);
            }
            total += 1;
            Ok(true)
        })
        .await?;
        Ok(Page { entries, total })
    }

    /// Returns a page in some order. Where listed fields decide, the server cuts it out.
    pub(super) async fn page(
        &self,
        filter: &Filter,
        paging: Paging,
        order: Order,
    ) -> Result<Vec<MemoryItem>, StoreError> {
        let mut entries = Vec::new();
        if paging.limit == 0 {
            return Ok(entries);
        }
        if is_listed(filter) {
            let (mut cursor, mut offset) = (Cursor::begin(order), paging.offset);
            loop {
                let wanted = PORTION.min(paging.limit - entries.len());
                let rows = self.portion(&cursor, filter, std::mem::take(&mut offset), wanted).await?;
                let is_last = rows.len() < wanted;
                for row in rows {
                    cursor.pass(&row);
                    entries.push(row.item.item()?);
                }
                if is_last || entries.len() >= paging.limit {
                    return Ok(entries);
                }
            }
        }
        let mut before = paging.offset;
        self.each_passing(filter, order, |row, _| {
            if before > 0 {
                before -= 1;
            } else {
                entries.push(row.item()?);
            }
            Ok(entries.len() < paging.limit)
        })
        .await?;
        Ok(entries)
    }

    /// Returns the ids of the memories that pass, in the order of an export.
    pub(super) async fn newest_ids(&self, filter: &Filter) -> Result<Vec<MemoryId>, StoreError> {
        let mut ids = Vec::new();
        if !is_listed(filter) {
            self.each_passing(filter, Order::Newest, |row, _| {
                ids.push(MemoryId::new(row.id));
                Ok(true)
            })
            .await?;
            return Ok(ids);
        }
        let (mut made_at, mut id) = (AFTER_EVERY_TIME.to_owned(), String::new());
        loop {
            let statement = query(statements::NEWEST_IDS)
                .param("tenant", self.tenant)
                .param("made_at", made_at.as_str())
                .param("id", id.as_str())
                .param("listed", self.groups.parameter(filter))
                .param("limit", integer(PORTION));
            let rows: Vec<PlacedId> = self.connection.read(statement).await?;
            let is_last = rows.len() < PORTION;
            if let Some(last) = rows.last() {
                made_at.clone_from(&last.made_at);
                id.clone_from(&last.id);
            }
            ids.extend(rows.into_iter().map(|row| MemoryId::new(row.id)));
            if is_last {
                return Ok(ids);
            }
        }
    }

    /// Returns the first memories that pass and have no edge of a type, in the order of first writes. Edges are asked for of each
    /// portion: asked for memories without edges, the server may look at every relationship there is.
    pub(super) async fn without_edges(
        &self,
        kind: &str,
        limit: usize,
        filter: &Filter,
    ) -> Result<Vec<MemoryItem>, StoreError> {
        let (_, rest) = taken_apart(filter);
        let (mut cursor, mut found) = (Cursor::begin(Order::Oldest), Vec::new());
        while found.len() < limit {
            let rows = self.portion(&cursor, filter, 0, PORTION).await?;
            let is_last = rows.len() < PORTION;
            let mut passing: Vec<(MemoryId, ItemRow)> = Vec::new();
            for row in rows {
                cursor.pass(&row);
                if rest.matches(&row.item.memory, &row.item.metadata()?) {
                    passing.push((MemoryId::new(&row.item.id), row.item));
                }
            }
            let ids: Vec<MemoryId> = passing.iter().map(|(id, _)| id.clone()).collect();
            let edges = graph::edges(self.connection, self.tenant, &ids, Direction::Any, Some(kind)).await?;
            let joined: HashSet<MemoryId> = edges.into_iter().flat_map(|edge| [edge.source, edge.target]).collect();
            for (id, row) in passing {
                if found.len() < limit && !joined.contains(&id) {
                    found.push(row.item()?);
                }
            }
            if is_last {
                break;
            }
        }
        Ok(found)
    }

    /// Visits the memories that pass a filter, until a visit answers false.
    pub(super) async fn each_passing(
        &self,
        filter: &Filter,
        order: Order,
        mut visit: impl FnMut(ItemRow, Map<String, Value>) -> Result<bool, StoreError> + Send,
    ) -> Result<(), StoreError> {
        let (_, rest) = taken_apart(filter);
        let mut cursor = Cursor::begin(order);
        loop {
            let rows = self.portion(&cursor, filter, 0, PORTION).await?;
            let is_last = rows.len() < PORTION;
            for row in rows {
                cursor.pass(&row);
                let metadata = row.item.metadata()?;
                if rest.matches(&row.item.memory, &metadata) && !visit(row.item, metadata)? {
                    return Ok(());
                }
            }
            if is_last {
                return Ok(());
            }
        }
    }

    /// Returns the next memories that pass what listed fields answer of a filter, and may pass the rest.
    async fn portion(
        &self,
        cursor: &Cursor,
        filter: &Filter,
        offset: usize,
        limit: usize,
    ) -> Result<Vec<PlacedRow>, StoreError> {
        let (listed, rest) = taken_apart(filter);
        // The server adds the two.
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let offset = i64::try_from(offset).unwrap_or(i64::MAX).min(i64::MAX - limit);
        let statement = cursor
            .statement()
            .param("tenant", self.tenant)
            .param("listed", self.groups.parameter(&listed))
            .param("necessary", necessary(&rest))
            .param("offset", offset)
            .param("limit", limit);
        self.connection.read(statement).await
    }
}

/// Returns at most `limit` memories that are kept apart, the oldest first, of a cube whose nodes all say it; no others are
/// sent.
pub(super) async fn kept_apart(
    connection: &Connection,
    tenant: &str,
    limit: usize,
) -> Result<Vec<MemoryItem>, StoreError> {
    let (mut found, mut after) = (Vec::new(), -1_i64);
    while found.len() < limit {
        let statement = query(statements::KEPT_APART)
            .param("tenant", tenant)
            .param("after", after)
            .param("limit", integer(PORTION));
        let rows: Vec<PlacedRow> = connection.read(statement).await?;
        let is_last = rows.len() < PORTION;
        for row in rows {
            after = row.place;
            let item = row.item.item()?;
            if item.is_kept_apart() && found.len() < limit {
                found.push(item);
            }
        }
        if is_last {
            break;
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn text(id: &str, metadata: &Value, name: &str) -> Option<String> {
        let found = properties(id, metadata.as_object().unwrap()).into_iter().find(|(key, _)| *key == name);
        found.map(|(_, value)| match value {
            BoltType::String(text) => text.value,
            other => format!("{other:?}"),
        })
    }

    #[test]
    fn nodes_say_what_conditions_see() {
        let metadata = json!({"memory_type": "UserMemory", "info": {"user_id": 7, "memory_type": "hidden"},
            "created_at": "2026-01-02"});
        assert_eq!(text("a", &metadata, LISTED_PROPERTY).unwrap(), r#"["UserMemory",null,7]"#);
        assert_eq!(text("a", &metadata, MADE_AT_PROPERTY).unwrap(), "t2026-01-02");
        assert_eq!(text("a", &json!({}), MADE_AT_PROPERTY).unwrap(), "");
        assert_eq!(text("a", &json!({"created_at": ""}), MADE_AT_PROPERTY).unwrap(), "t", "after none at all");
        assert_eq!(text("a", &metadata, APART_PROPERTY), None);
        assert!(text("a", &json!({"quarantine": "orders"}), APART_PROPERTY).is_some());
    }

    #[test]
    fn what_the_server_cannot_list_by_says_so() {
        let long = "x".repeat(MAX_LISTED_BYTES);
        for (id, metadata) in [
            ("a", json!({"user_id": long})),
            ("a", json!({"created_at": long})),
            ("a", json!({"created_at": "\u{1f600}"})),
            ("\u{ff21}", json!({})),
        ] {
            assert_eq!(text(id, &metadata, LISTED_PROPERTY).as_deref(), Some(UNTOLD), "{id} {metadata}");
            assert_eq!(text(id, &metadata, MADE_AT_PROPERTY).as_deref(), Some(UNTOLD), "{id} {metadata}");
        }
        assert_ne!(text("记", &json!({"user_id": "记"}), LISTED_PROPERTY).as_deref(), Some(UNTOLD));
    }
}
