//! A cube as a tree, for a page that draws it: a sample of all memories, or those around a question.

use std::collections::{BTreeMap, HashSet};

use mos_core::graph::kinds::PARENT;
use mos_core::{
    CubeId, Direction, Edge, Filter, FoundBy, MemoryId, MemoryItem, MemoryType, Paging, SearchRequest, SubgraphRequest,
    TextMemory,
};
use serde::Serialize;
use serde_json::Value;

use super::app::Product;
use super::caller::Scope;
use super::error::ProductResult;
use super::hits::{Shelf, memory_type, node_value};
use super::listing::{not_deleted, of_shelf};
use super::reach::Reached;
use super::reply::Reply;
use super::tree_structure::tree_structure;

/// The most memories that are drawn.
const MAX_DRAWN: usize = 200;

/// How many memories are found before what lies around them is added.
const N_FOUND: usize = 20;

/// How many edges lie between what is found and what is drawn, at most.
const DEPTH: usize = 2;

/// How many of the drawn memories are from each shelf when all shelves are full; the others share what these leave.
const SAMPLE: [(MemoryType, usize); 3] =
    [(MemoryType::Working, 40), (MemoryType::LongTerm, 80), (MemoryType::User, 80)];

words! {
    /// Which memories of a cube are drawn.
    literal_error pub enum DrawnMemory as DrawnMemory {
        /// Textual memories.
        Text = "text_mem",
        /// Activation memories, of which there is nothing to draw.
        Activation = "act_mem",
        /// Parametric memories, of which there is nothing to draw.
        Parametric = "param_mem",
        /// Another word for parametric memories.
        Para = "para_mem",
    }
}

words! {
    /// How memories are found that are drawn.
    literal_error pub enum DrawnBy as DrawnBy {
        /// By what they mean.
        Embedding = "embedding",
        /// By the words they hold.
        FullText = "fulltext",
    }
}

request! {
    /// Asks for a cube as a tree.
    pub struct GetMemoryPlaygroundRequest as GetMemoryPlaygroundRequest {
        /// Who asks.
        required user_id: String;
        /// Which memories.
        required memory_type: DrawnMemory;
        /// The cube; of several the first. Without this the one of the user's name.
        optional mem_cube_ids: Vec<String>;
        /// What the memories are about; without this all are meant.
        optional search_query: String;
        /// How they are found.
        #[schema(required = false, default = "fulltext")]
        default search_type: DrawnBy = DrawnBy::FullText;
    }
}

/// A cube as a tree.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct DrawnCube {
    /// The cube.
    pub cube_id: CubeId,
    /// One part: the memories and the tree of them.
    pub memories: Vec<DrawnMemories>,
    /// How many memories there are of each type; with a question, of those that are drawn.
    pub memory_statistics: BTreeMap<String, usize>,
}

/// Memories and the tree of them.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct DrawnMemories {
    /// The memories as `{"id", "memory", "metadata"}`.
    pub nodes: Vec<Value>,
    /// The same memories below each other, from a node `root` down.
    pub tree_structure: Value,
}

/// What is drawn, before it is.
#[derive(Default)]
struct Drawn {
    nodes: Vec<MemoryItem>,
    edges: Vec<Edge>,
    statistics: BTreeMap<String, usize>,
}

impl Product {
    /// Returns the textual memories of a cube as a tree of at most 200: the newest of each shelf, or those that fit a question
    /// and what lies around them. Of other memories there is nothing to draw, and the list is empty.
    ///
    /// # Errors
    /// Status 403 without the right to read; errors of the encoder for a question by meaning.
    pub async fn get_all(&self, request: GetMemoryPlaygroundRequest) -> ProductResult<Reply<Vec<DrawnCube>>> {
        let named = request.mem_cube_ids.as_deref().and_then(<[String]>::first);
        let cube = CubeId::parse(named.unwrap_or(&request.user_id).as_str())?;
        let reached = self.existing(Scope::Read, Some(request.user_id.as_str()), &cube).await?;
        let message = "Memories retrieved successfully";
        if request.memory_type != DrawnMemory::Text {
            return Ok(Reply::new(message, Vec::new()));
        }
        let query = request.search_query.as_deref().map(str::trim).filter(|query| !query.is_empty());
        let drawn = match (reached, query) {
            (None, _) => Drawn::default(),
            (Some(_), _) if !self.mos().settings().enable_textual_memory => Drawn::default(),
            (Some(_), None) => self.drawn_sample(&cube).await?,
            (Some(reached), Some(query)) => self.drawn_around(&reached, query, request.search_type).await?,
        };
        let part = DrawnMemories {
            nodes: drawn.nodes.iter().map(|item| node_value(item, &cube)).collect(),
            tree_structure: tree_structure(&drawn.nodes, &drawn.edges),
        };
        let drawn = DrawnCube { cube_id: cube, memories: vec![part], memory_statistics: drawn.statistics };
        Ok(Reply::new(message, vec![drawn]))
    }

    /// The newest memories of each shelf.
    async fn drawn_sample(&self, cube: &CubeId) -> ProductResult<Drawn> {
        let mut statistics: BTreeMap<String, usize> = BTreeMap::new();
        let mut counts = [0_usize; 4];
        for (kind, count) in self.listing(None, None)?.types(cube).await? {
            if let Some(place) = group_of(kind.as_deref()) {
                counts[place] += count;
            }
            let kind = kind.unwrap_or_else(|| MemoryType::LongTerm.as_str().to_owned());
            *statistics.entry(kind).or_default() += count;
        }
        let (record, scope) = (&self.mos().parts.record, mos_core::Scope::of(cube));
        let mut nodes = Vec::new();
        for (group, limit) in groups().into_iter().zip(shares(counts)) {
            if limit > 0 {
                let paging = Paging { offset: 0, limit };
                nodes.extend(record.newest(&scope, &visible().and(group), paging).await?);
            }
        }
        let edges = self.topics_of(cube, &nodes).await?;
        Ok(Drawn { nodes, edges, statistics })
    }

    /// The memories that fit a question and what lies around them.
    async fn drawn_around(&self, reached: &Reached, query: &str, by: DrawnBy) -> ProductResult<Drawn> {
        let cube = &reached.cube.cube_id;
        let memory = self.mos().text_memory_for(&reached.user, &reached.cube)?;
        let mut nodes = match memory.as_tree() {
            Some(tree) => {
                let by = match by {
                    DrawnBy::Embedding => FoundBy::Embedding,
                    DrawnBy::FullText => FoundBy::FullText,
                };
                let request = SubgraphRequest { top_k: N_FOUND, depth: DEPTH, by, ..SubgraphRequest::new(query) };
                tree.relevant_subgraph(&request).await?.graph.nodes
            }
            None => self.drawn_flat(cube, memory.as_ref(), query, by).await?,
        };
        let wanted = visible();
        // No question finds what is in quarantine, nor as something that lies around.
        nodes
            .retain(|item| item.quarantine_reason().is_none() && wanted.matches(&item.memory, &item.metadata.to_map()));
        nodes.truncate(MAX_DRAWN);
        let mut statistics: BTreeMap<String, usize> = BTreeMap::new();
        for item in &nodes {
            *statistics.entry(memory_type(item).to_owned()).or_default() += 1;
        }
        let edges = self.topics_of(cube, &nodes).await?;
        Ok(Drawn { nodes, edges, statistics })
    }

    /// The memories of a cube without edges that fit a question.
    async fn drawn_flat(
        &self,
        cube: &CubeId,
        memory: &dyn TextMemory,
        query: &str,
        by: DrawnBy,
    ) -> ProductResult<Vec<MemoryItem>> {
        match by {
            DrawnBy::Embedding => {
                let request = SearchRequest { rerank: false, ..SearchRequest::new(query, N_FOUND) };
                let found = memory.search(&request).await?;
                Ok(found.hits.into_iter().map(|hit| hit.item).collect())
            }
            DrawnBy::FullText => {
                let (record, scope) = (&self.mos().parts.record, mos_core::Scope::of(cube));
                let found = record.full_text(&scope, query, N_FOUND, &visible()).await?;
                let ids: Vec<MemoryId> = found.into_iter().map(|scored| scored.id).collect();
                Ok(record.nodes(&scope, &ids).await?)
            }
        }
    }

    /// The edges from topics to what belongs to them, among some memories.
    async fn topics_of(&self, cube: &CubeId, nodes: &[MemoryItem]) -> ProductResult<Vec<Edge>> {
        let ids: Vec<MemoryId> = nodes.iter().map(|item| item.id.clone()).collect();
        let record = &self.mos().parts.record;
        let mut edges = record.edges(&mos_core::Scope::of(cube), &ids, Direction::Outgoing, Some(PARENT)).await?;
        let members: HashSet<&MemoryId> = ids.iter().collect();
        edges.retain(|edge| members.contains(&edge.target));
        Ok(edges)
    }
}

/// What may be drawn.
fn visible() -> Filter {
    not_deleted().and(of_shelf(Shelf::Text))
}

/// The shelves of [`SAMPLE`], then everything else.
fn groups() -> [Filter; 4] {
    let of = |kind: MemoryType| Filter::equals("memory_type", kind.as_str());
    let [(working, _), (long_term, _), (user, _)] = SAMPLE;
    let named = Filter::one_of("memory_type", [working, long_term, user].map(MemoryType::as_str));
    [of(working), of(long_term), of(user), Filter::Not(Box::new(named))]
}

/// The place among [`groups`] of memories of a type; `None` for those that are not drawn.
fn group_of(kind: Option<&str>) -> Option<usize> {
    match kind.and_then(MemoryType::parse) {
        Some(MemoryType::Working) => Some(0),
        Some(MemoryType::LongTerm) => Some(1),
        Some(MemoryType::User) => Some(2),
        // Memories of flat backends have no type.
        Some(MemoryType::Outer) | None => Some(3),
        Some(_) => None,
    }
}

/// How many memories of each group are drawn: as many as [`SAMPLE`] says, and where there are fewer, more of the others.
fn shares(counts: [usize; 4]) -> [usize; 4] {
    let wanted = [SAMPLE[0].1, SAMPLE[1].1, SAMPLE[2].1, 0];
    let mut shares: [usize; 4] = std::array::from_fn(|place| counts[place].min(wanted[place]));
    // Long-term memory first: it tells most of what a cube holds.
    for place in [1, 2, 3, 0] {
        let left = MAX_DRAWN - shares.iter().sum::<usize>();
        shares[place] += left.min(counts[place] - shares[place]);
    }
    shares
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shelf_has_its_share_and_what_one_leaves_goes_to_the_others() {
        assert_eq!(shares([500, 500, 500, 500]), [40, 80, 80, 0]);
        assert_eq!(shares([0, 500, 10, 500]), [0, 190, 10, 0]);
        assert_eq!(shares([500, 0, 0, 30]), [170, 0, 0, 30]);
        assert_eq!(shares([3, 2, 1, 4]), [3, 2, 1, 4]);
        assert_eq!(shares([0, 0, 0, 0]), [0; 4]);
    }
}
