//! Arithmetic with embeddings, `f32[dimension]` of unit length.

/// The dot product; the cosine, when both have unit length.
pub(super) fn dot(left: &[f32], right: &[f32]) -> f32 {
    left.iter().zip(right).map(|(left, right)| left * right).sum()
}

/// The mean of some vectors, not of unit length: its dot product with another vector is the average cosine with all of
/// them. Empty for none.
pub(super) fn mean<'a>(vectors: impl IntoIterator<Item = &'a [f32]>) -> Vec<f32> {
    let mut sum: Vec<f32> = Vec::new();
    let mut n_vectors = 0_usize;
    for vector in vectors {
        if sum.is_empty() {
            sum = vec![0.0; vector.len()];
        }
        sum.iter_mut().zip(vector).for_each(|(sum, value)| *sum += value);
        n_vectors += 1;
    }
    sum.iter_mut().for_each(|value| *value /= n_vectors as f32);
    sum
}

/// Brings a vector to unit length; one without a direction stays as it is.
pub(super) fn normalise(vector: &mut [f32]) {
    let length = dot(vector, vector).sqrt();
    if length > 0.0 && length.is_finite() {
        vector.iter_mut().for_each(|value| *value /= length);
    }
}
