//! What every reranker must do, whatever it thinks of the candidates.

use mos_core::{Ranked, RerankCandidate, RerankQuery, Reranker};

/// Runs the suite. `query_embedding` and the embeddings of candidates are of one length.
///
/// # Panics
/// With the claim that does not hold.
pub async fn run(reranker: &dyn Reranker, query_embedding: &[f32]) {
    let query = RerankQuery::new("Where does Ann live?", Some(query_embedding));
    let texts = [
        "Ann lives in Berlin.",
        "Bob likes tea.",
        "",
        "🐶",
        "Ann lives in Berlin.",
        "安住在柏林。",
        "A very long text. A very long text. A very long text. A very long text. A very long text.",
    ];
    let candidates: Vec<RerankCandidate<'_>> = texts
        .iter()
        .map(|text| RerankCandidate { embedding: Some(query_embedding), ..RerankCandidate::new(text) })
        .collect();
    assert!(!reranker.name().is_empty(), "a reranker has a name");
    assert_eq!(reranker.rerank(query, &[], 5).await.expect("no candidates are no error"), []);
    assert_eq!(reranker.rerank(query, &candidates, 0).await.expect("a top_k of 0 is no error"), []);
    let all = reranker.rerank(query, &candidates, 100).await.expect("candidates are put in order");
    assert_eq!(all.len(), candidates.len(), "every candidate has its place");
    check(&all, candidates.len());
    let again = reranker.rerank(query, &candidates, 100).await.expect("the same once more");
    assert_eq!(all, again, "the same question has the same answer");
    let two = reranker.rerank(query, &candidates, 2).await.expect("the best two");
    let places: Vec<usize> = two.iter().map(|one| one.index).collect();
    let expected: Vec<usize> = all.iter().take(2).map(|one| one.index).collect();
    assert_eq!(places, expected, "the best two are the first two of all");
    let place = |index: usize| all.iter().position(|one| one.index == index).expect("checked above");
    assert!(place(0) < place(4), "equal candidates keep their order");
}

fn check(ranked: &[Ranked], n_candidates: usize) {
    let mut seen = vec![false; n_candidates];
    for one in ranked {
        assert!(one.index < n_candidates, "there is no candidate {}", one.index);
        assert!(!seen[one.index], "candidate {} comes twice", one.index);
        assert!(one.score.is_finite(), "candidate {} has the score {}", one.index, one.score);
        seen[one.index] = true;
    }
    for pair in ranked.windows(2) {
        let is_ordered =
            pair[0].score > pair[1].score || (pair[0].score == pair[1].score && pair[0].index < pair[1].index);
        assert!(is_ordered, "{pair:?} is not best first, ties in the order given");
    }
}
