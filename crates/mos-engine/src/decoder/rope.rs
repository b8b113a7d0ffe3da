//! Rotary position embedding.

use std::f32::consts::PI;

use serde::{Deserialize, Serialize};

/// Which values of a head are rotated together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RopeLayout {
    /// Neighbours, `2 i` and `2 i + 1`: Llama in GGUF files.
    Interleaved,
    /// `i` and `i + head_dim / 2`: Llama in safetensors files.
    Halves,
}

/// How the rotation is stretched beyond the context that the model was first trained with.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case", tag = "type")]
pub enum RopeScaling {
    /// Not at all.
    None,
    /// Positions divided by a factor.
    Linear {
        /// The factor.
        factor: f32,
    },
    /// Slow rotations divided by a factor, fast ones kept, those between mixed.
    Llama3 {
        /// The factor.
        factor: f32,
        /// Rotations slower than `original_context / low_freq_factor` are divided.
        low_freq_factor: f32,
        /// Rotations faster than `original_context / high_freq_factor` are kept.
        high_freq_factor: f32,
        /// The context that the model was first trained with.
        original_context: usize,
    },
    /// A divisor for each pair, from the model's file.
    Factors {
        /// `head_dim / 2` divisors.
        factors: Vec<f32>,
    },
}

/// The rotation of a model.
#[derive(Clone, Debug)]
pub(crate) struct Rope {
    layout: RopeLayout,
    /// Radians per position, for each pair.
    speeds: Vec<f32>,
}

impl Rope {
    pub(crate) fn new(layout: RopeLayout, head_dim: usize, theta: f32, scaling: &RopeScaling) -> Self {
        let speed = |pair: usize| 1.0 / theta.powf(2.0 * pair as f32 / head_dim as f32);
        let speeds = (0..head_dim / 2).map(|pair| scaled(speed(pair), pair, scaling)).collect();
        Self { layout, speeds }
    }

    /// Returns cosines and sines, each `[positions, head_dim / 2]`.
    pub(crate) fn angles(&self, positions: impl IntoIterator<Item = usize>) -> (Vec<f32>, Vec<f32>) {
        positions
            .into_iter()
            .flat_map(|position| self.speeds.iter().map(move |speed| (position as f32 * speed).sin_cos()))
            .map(|(sine, cosine)| (cosine, sine))
            .unzip()
    }

    /// Returns cosines and sines, each `[head_dim / 2]`, that turn a rotated head on by `shift` positions.
    pub(crate) fn turn(&self, shift: i64) -> (Vec<f32>, Vec<f32>) {
        let angle = |speed: &f32| (shift as f64 * f64::from(*speed)).sin_cos();
        self.speeds.iter().map(angle).map(|(sine, cosine)| (cosine as f32, sine as f32)).unzip()
    }

    /// Rotates the heads of one token.
    pub(crate) fn rotate(&self, heads: &mut [f32], cosines: &[f32], sines: &[f32]) {
        let half = self.speeds.len();
        for head in heads.chunks_exact_mut(2 * half) {
            match self.layout {
                RopeLayout::Interleaved => {
                    for ((pair, cosine), sine) in head.chunks_exact_mut(2).zip(cosines).zip(sines) {
                        let (x, y) = (pair[0], pair[1]);
                        pair[0] = x * cosine - y * sine;
                        pair[1] = x * sine + y * cosine;
                    }
                }
                RopeLayout::Halves => {
                    let (first, second) = head.split_at_mut(half);
                    for (((x, y), cosine), sine) in first.iter_mut().zip(second).zip(cosines).zip(sines) {
                        (*x, *y) = (*x * cosine - *y * sine, *x * sine + *y * cosine);
                    }
                }
            }
        }
    }
}

fn scaled(speed: f32, pair: usize, scaling: &RopeScaling) -> f32 {
    match scaling {
        RopeScaling::None => speed,
        RopeScaling::Linear { factor } => speed / factor,
        RopeScaling::Factors { factors } => speed / factors[pair],
        RopeScaling::Llama3 { factor, low_freq_factor, high_freq_factor, original_context } => {
            let context = *original_context as f32;
            let wavelength = 2.0 * PI / speed;
            if wavelength < context / high_freq_factor {
                speed
            } else if wavelength > context / low_freq_factor {
                speed / factor
            } else {
                let share = (context / wavelength - low_freq_factor) / (high_freq_factor - low_freq_factor);
                (1.0 - share) * speed / factor + share * speed
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_layouts_rotate_the_same_pairs() {
        let (theta, none) = (10_000.0, RopeScaling::None);
        let interleaved = Rope::new(RopeLayout::Interleaved, 8, theta, &none);
        let halves = Rope::new(RopeLayout::Halves, 8, theta, &none);
        let values: Vec<f32> = (0..8).map(|i| i as f32 - 3.0).collect();
        let (cosines, sines) = interleaved.angles([5]);
        let mut expected = values.clone();
        interleaved.rotate(&mut expected, &cosines, &sines);
        let mut split: Vec<f32> = (0..4).map(|i| values[2 * i]).chain((0..4).map(|i| values[2 * i + 1])).collect();
        halves.rotate(&mut split, &cosines, &sines);
        let joined: Vec<f32> = (0..4).flat_map(|i| [split[i], split[i + 4]]).collect();
        assert_eq!(joined, expected);
        assert_ne!(expected, values);
    }

    #[test]
    fn turning_on_is_being_rotated_by_a_later_position_and_turning_back_undoes_it() {
        for layout in [RopeLayout::Interleaved, RopeLayout::Halves] {
            let rope = Rope::new(layout, 16, 10_000.0, &RopeScaling::None);
            let values: Vec<f32> = (0..16).map(|i| (i * 5 % 7) as f32 - 3.0).collect();
            let rotated = |(cosines, sines): (Vec<f32>, Vec<f32>), values: &[f32]| {
                let mut values = values.to_vec();
                rope.rotate(&mut values, &cosines, &sines);
                values
            };
            let (early, late) = (rotated(rope.angles([40]), &values), rotated(rope.angles([165]), &values));
            let turned = rotated(rope.turn(125), &early);
            let near = |a: &[f32], b: &[f32]| a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-4);
            assert!(near(&turned, &late) && !near(&early, &late), "{turned:?} {late:?}");
            assert!(near(&rotated(rope.turn(-125), &turned), &early));
        }
    }

    #[test]
    fn linear_scaling_divides_positions() {
        let plain = Rope::new(RopeLayout::Halves, 16, 10_000.0, &RopeScaling::None);
        let linear = Rope::new(RopeLayout::Halves, 16, 10_000.0, &RopeScaling::Linear { factor: 4.0 });
        assert_eq!(linear.angles([12]), plain.angles([3]));
    }
}
