//! Edges inside the writer's transaction.

use mos_core::{Edge, MemoryId};
use rusqlite::{OptionalExtension, params};

use super::apply::{Writing, execute};
use super::fault::Fault;
use crate::prepare::loose_edge;

/// The edges at the node `n`, sorted, in the form of `codec::edges_text`.
macro_rules! edges_of_node {
    () => {
        "(SELECT nullif(json_group_array(json_array(source, target, kind)), '[]') FROM (
             SELECT s.id AS source, t.id AS target, e.kind AS kind FROM edges AS e
             JOIN nodes AS s ON s.node_key = e.source JOIN nodes AS t ON t.node_key = e.target
             WHERE e.source = n.node_key OR e.target = n.node_key ORDER BY 1, 2, 3))"
    };
}
pub(super) use edges_of_node;

impl Writing<'_> {
    /// The edges at a memory, as they are kept with its removal.
    pub(super) fn edges_at(&self, id: &MemoryId) -> Result<Option<String>, Fault> {
        let sql = concat!("SELECT ", edges_of_node!(), " FROM nodes AS n WHERE scope = ?1 AND id = ?2");
        let mut statement = self.connection.prepare_cached(sql)?;
        let values = params![self.scope_key, id.as_str()];
        let edges: Option<Option<String>> = statement.query_row(values, |row| row.get(0)).optional()?;
        Ok(edges.flatten())
    }

    pub(super) fn remove_edge(&self, edge: &Edge) -> Result<(), Fault> {
        let (Some(source), Some(target)) = (self.node(&edge.source)?, self.node(&edge.target)?) else {
            return Ok(());
        };
        execute(
            self.connection,
            "DELETE FROM edges WHERE source = ?1 AND target = ?2 AND kind = ?3",
            params![source, target, edge.kind],
        )
    }

    pub(super) fn put_edge(&self, edge: &Edge) -> Result<(), Fault> {
        let end = |id| self.node(id)?.ok_or_else(|| Fault::from(loose_edge(edge, id)));
        let (source, target) = (end(&edge.source)?, end(&edge.target)?);
        execute(
            self.connection,
            "INSERT OR IGNORE INTO edges (source, target, kind) VALUES (?1, ?2, ?3)",
            params![source, target, edge.kind],
        )
    }

    /// Lets readers know that the scope may have edges from now on.
    pub(super) fn note_edges(&self) -> Result<(), Fault> {
        let sql = "UPDATE scopes SET may_have_edges = 1 WHERE scope_key = ?1 AND may_have_edges = 0";
        execute(self.connection, sql, [self.scope_key])
    }
}
