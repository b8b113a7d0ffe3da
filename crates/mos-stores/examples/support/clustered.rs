//! Vectors that lie as sentence embeddings do, always the same for the same seed.
//!
//! A sentence encoder puts texts on a few broad subjects with many narrow ones in them, in far fewer directions than it has
//! numbers. So: a vector in 64 hidden directions of falling weight, made of what all texts share, a subject, a narrower
//! subject in it and something of its own; turned into `dimension` numbers by a fixed random matrix; a little noise; unit
//! length. Uniform noise would be no test: in it every vector is equally far from every other.

const N_HIDDEN: usize = 64;
const N_SUBJECTS: u64 = 40;
const PER_CLUSTER: usize = 50;

/// A small generator (splitmix64).
#[derive(Clone, Debug)]
pub(crate) struct Numbers(u64);

impl Numbers {
    /// Returns a generator; the same seed gives the same numbers.
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Returns the next number.
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// Returns a whole number below `end`.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    /// Returns a number of the normal distribution, nearly: the sum of twelve uniform ones.
    fn normal(&mut self) -> f32 {
        let sum: f32 = (0..6)
            .map(|_| {
                let pair = self.next();
                ((pair & 0xFF_FFFF) + (pair >> 40)) as f32 / (1 << 24) as f32
            })
            .sum();
        sum - 6.0
    }
}

/// Where vectors come from.
#[derive(Debug)]
pub(crate) struct Clustered {
    /// `f32[N_HIDDEN, dimension]`.
    directions: Vec<f32>,
    dimension: usize,
    n_clusters: u64,
}

impl Clustered {
    /// Returns the source of about `n` vectors of `dimension` numbers: one narrow subject for every fifty.
    pub(crate) fn new(dimension: usize, n: usize) -> Self {
        let mut numbers = Numbers::new(1);
        let directions = (0..N_HIDDEN * dimension).map(|_| numbers.normal()).collect();
        Self { directions, dimension, n_clusters: (n / PER_CLUSTER).max(1) as u64 }
    }

    /// Returns vector number `number`.
    pub(crate) fn vector(&self, number: u64) -> Vec<f32> {
        let cluster = Numbers::new(number ^ 0xC0FF_EE00).below(self.n_clusters);
        self.in_cluster(cluster, &mut Numbers::new(number.wrapping_mul(3) ^ 0x5EED))
    }

    /// Returns query number `number`: a text that was not stored, about a subject that was.
    pub(crate) fn query(&self, number: u64) -> Vec<f32> {
        let mut numbers = Numbers::new(number ^ 0xA5CE_D000_0000);
        let cluster = numbers.below(self.n_clusters);
        self.in_cluster(cluster, &mut numbers)
    }

    fn in_cluster(&self, cluster: u64, own: &mut Numbers) -> Vec<f32> {
        let (mut shared, mut subject) = (Numbers::new(2), Numbers::new(1000 + cluster % N_SUBJECTS));
        let mut narrower = Numbers::new(1_000_000 + cluster);
        let mut vector = vec![0.0_f32; self.dimension];
        for (at, direction) in self.directions.chunks_exact(self.dimension).enumerate() {
            let weight = 1.0 / (1.0 + at as f32 / 16.0);
            let hidden = weight
                * (0.4 * shared.normal() + 0.6 * subject.normal() + 0.55 * narrower.normal() + 0.45 * own.normal());
            vector.iter_mut().zip(direction).for_each(|(number, part)| *number += hidden * part);
        }
        vector.iter_mut().for_each(|number| *number += 0.4 * own.normal());
        let length = vector.iter().map(|number| number * number).sum::<f32>().sqrt();
        vector.iter_mut().for_each(|number| *number /= length);
        vector
    }
}
