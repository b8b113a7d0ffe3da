//! The vectors, the queries, and what is right.

#[path = "../../../crates/mos-stores/examples/support/clustered.rs"]
mod clustered;

use std::fs::File;
use std::io::{BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use clustered::{Clustered, Numbers};

pub const DIMENSION: usize = 384;
pub const N_NEAREST: usize = 10;
/// Queries whose answers are checked.
pub const N_CHECKED: usize = 100;
/// Queries whose times are taken.
pub const N_TIMED: usize = 1000;
/// The filter keeps one part.
const N_PARTS: u64 = 100;
/// Vectors in memory at a time.
const CHUNK: usize = 10_000;

/// The numbers of the right vectors for each checked query, without and with the filter.
#[derive(Debug, Serialize, Deserialize)]
pub struct Truth {
    pub all: Vec<Vec<usize>>,
    pub part: Vec<Vec<usize>>,
}

#[derive(Debug)]
pub struct Data {
    vectors: PathBuf,
    source: Clustered,
    pub size: usize,
    pub truth: Truth,
}

/// The part that a vector belongs to, whatever it looks like.
pub fn part_of(number: usize) -> u64 {
    Numbers::new(number as u64 ^ 0x9A47).below(N_PARTS)
}

/// The part that a query asks for.
pub fn part_asked(query: usize) -> u64 {
    query as u64 % N_PARTS
}

impl Data {
    /// Writes vectors and truth to files, so that every index reads the same.
    pub fn write(folder: &Path, size: usize) -> anyhow::Result<()> {
        let source = Clustered::new(DIMENSION, size);
        let queries: Vec<Vec<f32>> = (0..N_CHECKED).map(|number| source.query(number as u64)).collect();
        let mut file = BufWriter::new(File::create(folder.join("vectors"))?);
        let (mut all, mut part) = (vec![Vec::new(); N_CHECKED], vec![Vec::new(); N_CHECKED]);
        for first in (0..size).step_by(CHUNK) {
            let numbers = first..size.min(first + CHUNK);
            let vectors: Vec<Vec<f32>> = numbers.into_par_iter().map(|number| source.vector(number as u64)).collect();
            for number in vectors.iter().flatten() {
                file.write_all(&number.to_le_bytes())?;
            }
            let best = queries.par_iter().zip(all.par_iter_mut().zip(&mut part)).enumerate();
            best.for_each(|(query, (numbers, (all, part)))| {
                for (at, vector) in vectors.iter().enumerate() {
                    let score: f64 = numbers.iter().zip(vector).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
                    keep(all, score, first + at);
                    if part_of(first + at) == part_asked(query) {
                        keep(part, score, first + at);
                    }
                }
            });
        }
        file.flush()?;
        let numbers = |best: Vec<Vec<(f64, usize)>>| {
            best.into_iter().map(|one| one.into_iter().map(|(_, number)| number).collect()).collect()
        };
        let truth = Truth { all: numbers(all), part: numbers(part) };
        serde_json::to_writer(File::create(folder.join("truth.json"))?, &truth)?;
        Ok(())
    }

    pub fn open(folder: &Path, size: usize) -> anyhow::Result<Self> {
        let truth = serde_json::from_reader(BufReader::new(File::open(folder.join("truth.json"))?))?;
        Ok(Self { vectors: folder.join("vectors"), source: Clustered::new(DIMENSION, size), size, truth })
    }

    pub fn query(&self, number: usize) -> Vec<f32> {
        self.source.query(number as u64)
    }

    /// Calls `visit` with the number of the first vector and the vectors, chunk by chunk.
    pub fn each_chunk(&self, mut visit: impl FnMut(usize, Vec<Vec<f32>>) -> anyhow::Result<()>) -> anyhow::Result<()> {
        let mut file = BufReader::new(File::open(&self.vectors)?);
        let mut bytes = vec![0; DIMENSION * size_of::<f32>()];
        for first in (0..self.size).step_by(CHUNK) {
            let mut vectors = Vec::new();
            for _ in first..self.size.min(first + CHUNK) {
                file.read_exact(&mut bytes)?;
                vectors.push(bytes.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect());
            }
            visit(first, vectors)?;
        }
        Ok(())
    }
}

fn keep(best: &mut Vec<(f64, usize)>, score: f64, number: usize) {
    if best.len() < N_NEAREST || best.last().is_some_and(|worst| score > worst.0) {
        let place = best.partition_point(|one| one.0 >= score);
        best.insert(place, (score, number));
        best.truncate(N_NEAREST);
    }
}
