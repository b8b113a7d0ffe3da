//! The tree as a graph.

use std::collections::{BTreeMap, HashSet};

use mos_core::{
    Direction, Edge, Filter, FoundBy, Graph, GraphPage, MemoryError, MemoryId, MemoryItem, MemoryType, Origin, Page,
    Paging, RelevantSubgraph, Scored, SubgraphRequest, WriteBatch,
};
use serde_json::Value;

use super::TreeText;
use super::change::not_deleted;
use crate::shelf::{check_query, textual};

/// The most memories of a subgraph.
const MAX_SUBGRAPH: usize = 1000;

impl TreeText {
    pub(super) async fn graph_page(&self, filter: &Filter, paging: Paging) -> Result<GraphPage, MemoryError> {
        let mut page = self.record().export(self.scope(), &not_deleted().and(textual(filter)), paging).await?;
        page.graph.nodes = self.shown(page.graph.nodes).await?;
        Ok(page)
    }

    /// Returns a page without edges, and how many memories there are in all.
    pub(super) async fn newest(&self, filter: &Filter, paging: Paging) -> Result<Page<MemoryItem>, MemoryError> {
        let wanted = not_deleted().and(textual(filter));
        let total = self.record().count(self.scope(), &wanted).await?;
        let entries = self.shown(self.record().newest(self.scope(), &wanted, paging).await?).await?;
        Ok(Page { entries, total })
    }

    /// Counts memories by type.
    pub(super) async fn counts(&self) -> Result<BTreeMap<MemoryType, usize>, MemoryError> {
        let filter = not_deleted().and(textual(&Filter::Everything));
        let groups = self.record().count_by(self.scope(), &["memory_type".to_owned()], &filter).await?;
        let typed = groups.into_iter().filter_map(|group| {
            let kind = group.values.first().and_then(Value::as_str).and_then(MemoryType::parse)?;
            Some((kind, group.count))
        });
        Ok(typed.collect())
    }

    pub(super) async fn connect(&self, edges: Vec<Edge>, origin: Origin) -> Result<(), MemoryError> {
        if let Some(edge) = edges.iter().find(|edge| edge.kind.trim().is_empty()) {
            return Err(MemoryError::Invalid(format!(
                "the edge from `{}` to `{}` has no type; name one, for example RELATE",
                edge.source, edge.target
            )));
        }
        if edges.is_empty() {
            return Ok(());
        }
        let batch = WriteBatch { put_edges: edges, ..WriteBatch::new(origin) };
        self.record().apply(self.scope(), batch).await?;
        Ok(())
    }

    pub(super) async fn subgraph_of(&self, request: &SubgraphRequest) -> Result<RelevantSubgraph, MemoryError> {
        check_query(&request.query)?;
        let centers = self.centers(request).await?;
        let (mut nodes, mut seen): (Vec<MemoryItem>, HashSet<MemoryId>) = (Vec::new(), HashSet::new());
        let (mut core, mut is_cut) = (None, false);
        let filter = not_deleted();
        for center in centers {
            if nodes.len() >= MAX_SUBGRAPH {
                is_cut = true;
                break;
            }
            let found = self.record().subgraph(self.scope(), &center, request.depth, MAX_SUBGRAPH, &filter).await?;
            // It may have been removed since it was found.
            let Some(found) = found else { continue };
            core.get_or_insert(center);
            is_cut |= found.is_cut;
            let around = std::iter::once(found.center).chain(found.around.nodes);
            nodes.extend(around.filter(|item| seen.insert(item.id.clone())));
        }
        if nodes.len() > MAX_SUBGRAPH {
            nodes.truncate(MAX_SUBGRAPH);
            is_cut = true;
        }
        let ids: Vec<MemoryId> = nodes.iter().map(|item| item.id.clone()).collect();
        let members: HashSet<&MemoryId> = ids.iter().collect();
        let mut edges = self.record().edges(self.scope(), &ids, Direction::Outgoing, None).await?;
        edges.retain(|edge| members.contains(&edge.target));
        Ok(RelevantSubgraph { core, graph: Graph { nodes: self.shown(nodes).await?, edges }, is_cut })
    }

    async fn nearest(&self, request: &SubgraphRequest, filter: &Filter) -> Result<Vec<Scored>, MemoryError> {
        if self.record().embedding_space(self.scope()).await?.is_none() {
            return Ok(Vec::new());
        }
        let space = self.inner.check_space().await?;
        let query = self.inner.embed_query(&request.query).await?;
        Ok(self.vectors.nearest(self.scope(), &space, &query, request.top_k, filter).await?)
    }

    /// The memories that fit best; originals in place of their working copies.
    async fn centers(&self, request: &SubgraphRequest) -> Result<Vec<MemoryId>, MemoryError> {
        let filter = match request.center_status {
            Some(status) => Filter::equals("status", status.as_str()),
            None => not_deleted(),
        };
        let hits: Vec<Scored> = match request.by {
            FoundBy::FullText => self.record().full_text(self.scope(), &request.query, request.top_k, &filter).await?,
            FoundBy::Embedding => self.nearest(request, &filter).await?,
        };
        let ids: Vec<MemoryId> = hits.into_iter().map(|hit| hit.id).collect();
        let mut seen = HashSet::new();
        let found = self.shelf().get_by_ids(&ids).await?.into_iter();
        let originals = found.map(|item| item.working_copy_of().map_or_else(|| item.id.clone(), MemoryId::from));
        Ok(originals.filter(|id| seen.insert(id.clone())).collect())
    }
}
