//! `hnsw_rs`: a graph in memory, written to files as a whole.

use std::path::Path;

use hnsw_rs::prelude::{AnnT, DistDot, Hnsw, HnswIo};

use crate::data::{Data, N_NEAREST, part_of};
use crate::subject::{Index, Subject};

const MAX_CONNECTIONS: usize = 16;
const MAX_LAYERS: usize = 16;
const EF_CONSTRUCTION: usize = 200;
const NAME: &str = "graph";

pub struct HnswRs;

struct Graph(Hnsw<'static, f32, DistDot>);

impl Subject for HnswRs {
    fn build(&self, data: &Data, folder: &Path) -> anyhow::Result<Box<dyn Index>> {
        let mut graph = Hnsw::new(MAX_CONNECTIONS, data.size, MAX_LAYERS, EF_CONSTRUCTION, DistDot {});
        data.each_chunk(|first, vectors| {
            let numbered: Vec<(&[f32], usize)> = vectors.iter().map(Vec::as_slice).zip(first..).collect();
            graph.parallel_insert_slice(&numbered);
            Ok(())
        })?;
        graph.set_searching_mode(true);
        graph.file_dump(folder, NAME)?;
        Ok(Box::new(Graph(graph)))
    }

    fn open(&self, _: &Data, folder: &Path) -> anyhow::Result<Box<dyn Index>> {
        // What is loaded borrows from the loader; both live as long as the process.
        let loader = Box::leak(Box::new(HnswIo::new(folder, NAME)));
        let mut graph = loader.load_hnsw::<f32, DistDot>()?;
        graph.set_searching_mode(true);
        Ok(Box::new(Graph(graph)))
    }

    fn efforts(&self) -> Vec<usize> {
        vec![64, 256]
    }
}

impl Index for Graph {
    fn nearest(&self, query: &[f32], part: Option<u64>, effort: usize) -> anyhow::Result<Vec<usize>> {
        let found = match part {
            None => self.0.search(query, N_NEAREST, effort),
            Some(part) => {
                let passes = move |number: &usize| part_of(*number) == part;
                self.0.search_filter(query, N_NEAREST, effort, Some(&passes))
            }
        };
        Ok(found.into_iter().map(|one| one.d_id).collect())
    }

    fn count(&self) -> anyhow::Result<usize> {
        Ok(self.0.get_nb_point())
    }
}
