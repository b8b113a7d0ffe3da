//! What an index must do here, and what is measured of it.

use std::path::Path;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::data::{Data, N_CHECKED, N_NEAREST, N_TIMED, part_asked};

/// A kind of index.
pub trait Subject {
    /// Returns an index of all vectors, on disk as far as it ever is.
    fn build(&self, data: &Data, folder: &Path) -> anyhow::Result<Box<dyn Index>>;
    /// Opens what was built.
    fn open(&self, data: &Data, folder: &Path) -> anyhow::Result<Box<dyn Index>>;
    /// How thoroughly it can search, in its own terms; one empty name when there is no choice.
    fn efforts(&self) -> Vec<usize>;
}

/// An index that can be searched.
pub trait Index {
    /// Returns the numbers of the ten nearest, best first, those of one part when it is given.
    fn nearest(&self, query: &[f32], part: Option<u64>, effort: usize) -> anyhow::Result<Vec<usize>>;
    /// How many vectors it has.
    fn count(&self) -> anyhow::Result<usize>;
    /// Seconds of the build that were spent on the index alone, where it is made from something else.
    fn index_s(&self) -> Option<f64> {
        None
    }
}

/// What was measured of an index that was just built.
#[derive(Debug, Serialize, Deserialize)]
pub struct Built {
    pub build_s: f64,
    pub index_s: Option<f64>,
    pub disk_bytes: u64,
    pub ram_bytes: u64,
    pub searches: Vec<Searches>,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct Searches {
    pub effort: usize,
    pub all: Figures,
    pub part: Figures,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct Figures {
    pub p50_ms: f64,
    pub p99_ms: f64,
    pub recall: f64,
}

/// What was measured of an index whose process was killed.
#[derive(Debug, Serialize, Deserialize)]
pub struct Opened {
    /// Until the first search was answered.
    pub open_s: f64,
    pub n_vectors: usize,
}

pub fn build(subject: &dyn Subject, data: &Data, folder: &Path) -> anyhow::Result<Built> {
    let start = Instant::now();
    let index = subject.build(data, folder)?;
    let build_s = start.elapsed().as_secs_f64();
    let mut searches = Vec::new();
    for effort in subject.efforts() {
        let all = figures(&*index, data, effort, false)?;
        searches.push(Searches { effort, all, part: figures(&*index, data, effort, true)? });
    }
    let built = Built { build_s, index_s: index.index_s(), disk_bytes: bytes_in(folder)?, ram_bytes: ram()?, searches };
    // It must not be closed before the process is killed.
    std::mem::forget(index);
    Ok(built)
}

pub fn open(subject: &dyn Subject, data: &Data, folder: &Path) -> anyhow::Result<Opened> {
    let effort = *subject.efforts().first().unwrap_or(&0);
    let start = Instant::now();
    let index = subject.open(data, folder)?;
    let found = index.nearest(&data.query(0), None, effort)?;
    let open_s = start.elapsed().as_secs_f64();
    anyhow::ensure!(!found.is_empty(), "nothing is found after it was opened");
    Ok(Opened { open_s, n_vectors: index.count()? })
}

fn figures(index: &dyn Index, data: &Data, effort: usize, in_part: bool) -> anyhow::Result<Figures> {
    let part = |query| in_part.then(|| part_asked(query));
    let truth = if in_part { &data.truth.part } else { &data.truth.all };
    let (mut n_found, mut n_right) = (0, 0);
    for query in 0..N_CHECKED {
        let found = index.nearest(&data.query(query), part(query), effort)?;
        anyhow::ensure!(found.len() <= N_NEAREST, "{} were found, {N_NEAREST} asked for", found.len());
        n_found += truth[query].iter().filter(|number| found.contains(number)).count();
        n_right += truth[query].len();
    }
    let mut times = Vec::new();
    for number in 0..N_TIMED {
        let query = data.query(number);
        let start = Instant::now();
        index.nearest(&query, part(number), effort)?;
        times.push(start.elapsed());
    }
    times.sort();
    let ms = |percent: usize| -> f64 { Duration::as_secs_f64(&times[(N_TIMED - 1) * percent / 100]) * 1e3 };
    Ok(Figures { p50_ms: ms(50), p99_ms: ms(99), recall: n_found as f64 / n_right as f64 })
}

fn bytes_in(folder: &Path) -> anyhow::Result<u64> {
    let mut sum = 0;
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        sum += if metadata.is_dir() { bytes_in(&entry.path())? } else { used_bytes(&metadata) };
    }
    Ok(sum)
}

/// Blocks that are used: some files have holes.
#[cfg(unix)]
fn used_bytes(metadata: &std::fs::Metadata) -> u64 {
    std::os::unix::fs::MetadataExt::blocks(metadata) * 512
}

#[cfg(not(unix))]
fn used_bytes(metadata: &std::fs::Metadata) -> u64 {
    metadata.len()
}

/// Memory of this process, files that are mapped included.
fn ram() -> anyhow::Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib: u64 = line.and_then(|line| line.split_whitespace().next()).unwrap_or("0").parse()?;
    Ok(kib * 1024)
}
