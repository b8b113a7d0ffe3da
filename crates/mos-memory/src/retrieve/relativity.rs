//! Scores from 0 to 1.

/// The fused score that stands for a relativity of `1 - 1/e`, which is 0.63. With it the threshold that MemOS' clients send, 0.45,
/// lies between what answers a question and what has nothing to do with it: measured on conversations, memories of single turns,
/// of whole windows, and alone in a cube.
const UNIT: f32 = 7.5;

/// Returns the relativity of a fused score: `1 - exp(-score / 7.5)`, 0 for scores below 0. Greater scores have greater
/// relativities, and equal ones the same, whatever the question.
pub(crate) fn of_score(score: f32) -> f32 {
    if score > 0.0 { 1.0 - (-score / UNIT).exp() } else { 0.0 }
}

/// Returns the relativities of the scores of one reranking. Scores of which none is above 1 or below -1 are probabilities or
/// cosines and stay what they are, with 0 for the negative ones; others are logits, which become the probabilities that they
/// stand for. Both keep the order.
pub(crate) fn of_reranked(scores: &[f32]) -> Vec<f32> {
    let are_logits = scores.iter().any(|score| score.abs() > 1.0);
    let relativity = |score: &f32| if are_logits { 1.0 / (1.0 + (-score).exp()) } else { score.max(0.0) };
    scores.iter().map(relativity).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_greater_score_is_a_greater_relativity_from_0_to_1() {
        let scores = [f32::NEG_INFINITY, -3.0, 0.0, 0.1, 5.0, 10.0, 30.0, 1e9];
        let relativities: Vec<f32> = scores.into_iter().map(of_score).collect();
        assert!(relativities.windows(2).all(|pair| pair[0] <= pair[1]), "{relativities:?}");
        assert_eq!((relativities[0], relativities[2], relativities[7]), (0.0, 0.0, 1.0));
        assert!((relativities[5] - 0.736).abs() < 1e-3 && relativities[3] > 0.0);
    }

    #[test]
    fn probabilities_stay_and_logits_become_probabilities() {
        assert_eq!(of_reranked(&[0.9, 0.2, -0.4]), [0.9, 0.2, 0.0]);
        let of_logits = of_reranked(&[4.0, 0.0, -8.0]);
        assert!(of_logits[0] > 0.98 && of_logits[1] == 0.5 && of_logits[2] < 0.001, "{of_logits:?}");
        assert!(of_reranked(&[]).is_empty());
    }
}
