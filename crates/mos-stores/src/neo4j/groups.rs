//! Which listed fields the memories of a cube have, and how many have the same.

use mos_core::{Filter, GroupCount, StoreError};
use neo4rs::BoltType;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::connection::Connection;
use super::listing::{LISTED_PROPERTY, UNTOLD};
use super::statements::{self, query};
use super::values::{integer, texts};
use crate::graph::GroupCounter;
use crate::listed::{LISTED, is_listed};

/// The most different texts of listed fields of a cube that pages are made with.
const MAX_GROUPS: usize = 5000;

/// What the server can tell about the listed fields of a cube.
#[derive(Debug)]
pub(super) enum Listing {
    /// All there is to know.
    Told(Groups),
    /// Some memories do not say theirs yet.
    Unfilled,
    /// Some memories have values that the server cannot list by, or there are too many different ones.
    Untold,
}

/// The different listed fields of a cube's memories.
#[derive(Debug)]
pub(super) struct Groups(Vec<Group>);

#[derive(Debug)]
struct Group {
    /// As the nodes say it.
    text: String,
    metadata: Map<String, Value>,
    count: usize,
}

#[derive(Debug, Deserialize)]
struct GroupRow {
    listed: Option<String>,
    count: u64,
}

impl Listing {
    /// Asks the server.
    ///
    /// # Errors
    /// Those of the server; [`StoreError::Corrupt`].
    pub(super) async fn read(connection: &Connection, tenant: &str) -> Result<Self, StoreError> {
        let statement = query(statements::LISTED).param("tenant", tenant).param("limit", integer(MAX_GROUPS + 1));
        let rows: Vec<GroupRow> = connection.read(statement).await?;
        if rows.iter().any(|row| row.listed.is_none()) {
            return Ok(Self::Unfilled);
        }
        if rows.len() > MAX_GROUPS || rows.iter().any(|row| row.listed.as_deref() == Some(UNTOLD)) {
            return Ok(Self::Untold);
        }
        Ok(Self::Told(Groups(rows.into_iter().map(group).collect::<Result<_, _>>()?)))
    }
}

fn group(row: GroupRow) -> Result<Group, StoreError> {
    let text = row.listed.unwrap_or_default();
    let values: Vec<Value> = serde_json::from_str(&text).map_err(|error| StoreError::Corrupt {
        what: format!("`{LISTED_PROPERTY}` of a memory"),
        detail: format!("{error}; remove the property, then it is made anew"),
    })?;
    let named = LISTED.iter().zip(values).filter(|(_, value)| !value.is_null());
    let metadata = named.map(|(field, value)| ((*field).to_owned(), value)).collect();
    Ok(Group { text, metadata, count: usize::try_from(row.count).unwrap_or(usize::MAX) })
}

impl Groups {
    fn passing<'a>(&'a self, filter: &'a Filter) -> impl Iterator<Item = &'a Group> {
        self.0.iter().filter(move |group| filter.matches("", &group.metadata))
    }

    /// Returns how many memories pass a filter that asks for listed fields only.
    pub(super) fn count(&self, filter: &Filter) -> usize {
        self.passing(filter).map(|group| group.count).sum()
    }

    /// Returns the texts that pass a filter as a parameter; null where all do.
    pub(super) fn parameter(&self, filter: &Filter) -> BoltType {
        match filter {
            Filter::Everything => BoltType::Null(neo4rs::BoltNull),
            filter => texts(self.passing(filter).map(|group| group.text.as_str())),
        }
    }

    /// Counts the memories that pass a filter by the values of some fields; `None` when listed fields do not tell.
    pub(super) fn count_by(&self, fields: &[String], filter: &Filter) -> Option<Vec<GroupCount>> {
        if !is_listed(filter) || !fields.iter().all(|field| LISTED.contains(&field.as_str())) {
            return None;
        }
        let mut counter = GroupCounter::new(fields);
        self.passing(filter).for_each(|group| counter.add_many("", &group.metadata, group.count));
        Some(counter.finish())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_is_asked_about_each_kind_once() {
        let group_of = |text: &str, count| group(GroupRow { listed: Some(text.to_owned()), count }).unwrap();
        let groups =
            Groups(vec![group_of(r#"["UserMemory","archived",null]"#, 3), group_of(r#"[null,"activated","ann"]"#, 2)]);
        let archived = Filter::equals("status", "archived");
        assert_eq!((groups.count(&archived), groups.count(&Filter::Everything)), (3, 5));
        assert_eq!(groups.count(&Filter::Not(Box::new(Filter::equals("memory_type", "UserMemory")))), 2);
        assert!(matches!(groups.parameter(&Filter::Everything), BoltType::Null(_)));
        assert_eq!(groups.parameter(&archived), texts([r#"["UserMemory","archived",null]"#]));
        let by = |field: &str| groups.count_by(&[field.to_owned()], &Filter::Everything);
        assert_eq!(by("user_id").unwrap()[0].values, [Value::Null]);
        assert!(by("key").is_none());
    }
}
