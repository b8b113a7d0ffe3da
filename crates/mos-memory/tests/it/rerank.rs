//! Rerankers without a model, and the wrappers around those that are one.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use mos_core::memory::SourceMessage;
use mos_core::{
    Embedder, EmbeddingSpace, MemoryError, MemoryType, ModelError, Ranked, RerankCandidate, RerankQuery, Reranker,
};
use mos_memory::rerank::{
    CosineReranker, DocumentStrategy, KeepOrderOnFailure, MemoryReasoner, NoReranker, StrategyReranker,
};
use mos_testkit::chat::ScriptedChat;
use mos_testkit::contracts;
use mos_testkit::embedder::WordEmbedder;

const DIMENSION: usize = 64;

fn embedder() -> Arc<dyn Embedder> {
    Arc::new(WordEmbedder::new("words", DIMENSION))
}

async fn embed(text: &str) -> Vec<f32> {
    embedder().embed(&[text.to_owned()]).await.unwrap().remove(0)
}

fn cosine(embedder: Option<Arc<dyn Embedder>>, weights: &[(&str, f64)]) -> CosineReranker {
    let weights: BTreeMap<String, f64> = weights.iter().map(|(level, weight)| ((*level).to_owned(), *weight)).collect();
    CosineReranker::new(embedder, weights).unwrap()
}

fn places(ranked: &[Ranked]) -> Vec<usize> {
    ranked.iter().map(|one| one.index).collect()
}

/// Counts the common words of question and text; that is all it knows.
#[derive(Debug)]
struct CommonWords;

#[async_trait]
impl Reranker for CommonWords {
    fn name(&self) -> &str {
        "common_words"
    }

    async fn rerank(
        &self,
        query: RerankQuery<'_>,
        candidates: &[RerankCandidate<'_>],
        top_k: usize,
    ) -> Result<Vec<Ranked>, ModelError> {
        let score = |text: &str| query.text.split(' ').filter(|word| text.contains(word)).count() as f32;
        let ranked =
            candidates.iter().enumerate().map(|(index, one)| Ranked { index, score: score(one.text) }).collect();
        Ok(Ranked::best_first(ranked, top_k))
    }
}

/// A server that is away.
#[derive(Debug)]
struct Away;

#[async_trait]
impl Reranker for Away {
    fn name(&self) -> &str {
        "away"
    }

    async fn rerank(&self, _: RerankQuery<'_>, _: &[RerankCandidate<'_>], _: usize) -> Result<Vec<Ranked>, ModelError> {
        Err(ModelError::Unavailable("nobody answers".to_owned()))
    }
}

/// An encoder that must not be asked.
#[derive(Debug)]
struct NeverAsked;

#[async_trait]
impl Embedder for NeverAsked {
    async fn embed(&self, texts: &[String]) -> Result<Vec<Vec<f32>>, ModelError> {
        Err(ModelError::Invalid(format!("asked for {texts:?}")))
    }

    async fn space(&self) -> Result<EmbeddingSpace, ModelError> {
        Ok(EmbeddingSpace { model: "never".to_owned(), dimension: DIMENSION })
    }
}

/// An encoder to which every question is one after stock prices, and which reads memories as they are.
#[derive(Debug)]
struct AfterStocks;

#[async_trait]
impl Embedder for AfterStocks {
    async fn embed(&self, texts: &[String]) -> Result<Vec<Vec<f32>>, ModelError> {
        embedder().embed(texts).await
    }

    async fn embed_queries(&self, queries: &[String]) -> Result<Vec<Vec<f32>>, ModelError> {
        embedder().embed(&vec!["stock prices".to_owned(); queries.len()]).await
    }

    async fn space(&self) -> Result<EmbeddingSpace, ModelError> {
        embedder().space().await
    }
}

#[tokio::test]
async fn a_question_without_an_embedding_is_embedded_as_a_question() {
    let candidates = [RerankCandidate::new("the dog"), RerankCandidate::new("stock prices")];
    let reranker = cosine(Some(Arc::new(AfterStocks)), &[]);
    let ranked = reranker.rerank("the dog".into(), &candidates, 5).await.unwrap();
    assert_eq!(places(&ranked), [1, 0]);
}

#[tokio::test]
async fn every_reranker_keeps_the_contract() {
    let vector = embed("Ann lives in Berlin.").await;
    contracts::rerank::run(&NoReranker, &vector).await;
    contracts::rerank::run(&cosine(None, &[]), &vector).await;
    contracts::rerank::run(&cosine(Some(embedder()), &[("UserMemory", 2.0)]), &vector).await;
    contracts::rerank::run(&KeepOrderOnFailure::new(Arc::new(CommonWords)), &vector).await;
    for name in DocumentStrategy::NAMES {
        let strategy = DocumentStrategy::parse(name).unwrap();
        contracts::rerank::run(&StrategyReranker::new(Arc::new(CommonWords), strategy, 100), &vector).await;
    }
}

#[tokio::test]
async fn cosine_orders_by_similarity_without_embedding_anything_again() {
    let (query, near, far) = (embed("a dog in the park").await, embed("the dog").await, embed("stock prices").await);
    let with = |vector| RerankCandidate { embedding: Some(vector), ..RerankCandidate::new("text") };
    let candidates = [with(&far[..]), with(&near[..])];
    let reranker = cosine(Some(Arc::new(NeverAsked)), &[]);
    let query = RerankQuery::new("a dog in the park", Some(&query));
    let ranked = reranker.rerank(query, &candidates, 5).await.unwrap();
    assert_eq!(places(&ranked), [1, 0]);
    assert!(ranked[0].score > 0.3 && ranked[1].score < 0.1, "{ranked:?}");
}

#[tokio::test]
async fn what_has_no_embedding_is_embedded() {
    let (near, short) = (embed("the dog").await, [1.0]);
    let candidates = [
        RerankCandidate::new("stock prices"),
        RerankCandidate { embedding: Some(&near), ..RerankCandidate::new("unused") },
        RerankCandidate { embedding: Some(&short), ..RerankCandidate::new("a dog in the park") },
    ];
    let vector = embed("a dog in the park").await;
    let query = RerankQuery::new("a dog in the park", Some(&vector));
    let ranked = cosine(Some(embedder()), &[]).rerank(query, &candidates, 5).await.unwrap();
    assert_eq!(places(&ranked), [2, 1, 0]);
    assert!((ranked[0].score - 1.0).abs() < 1e-6);
    // The question without its embedding is embedded as well.
    let same = cosine(Some(embedder()), &[]).rerank("a dog in the park".into(), &candidates[..2], 5).await.unwrap();
    assert_eq!(places(&same), [1, 0]);
}

#[tokio::test]
async fn without_an_encoder_what_has_no_embedding_keeps_its_place() {
    let (near, far) = (embed("the dog").await, embed("stock prices").await);
    let candidates = [
        RerankCandidate { embedding: Some(&far), ..RerankCandidate::new("far") },
        RerankCandidate::new("unknown"),
        RerankCandidate { embedding: Some(&near), ..RerankCandidate::new("near") },
        RerankCandidate::new("unknown too"),
    ];
    let vector = embed("a dog").await;
    let reranker = cosine(None, &[]);
    let ranked = reranker.rerank(RerankQuery::new("a dog", Some(&vector)), &candidates, 9).await.unwrap();
    assert_eq!(places(&ranked), [2, 1, 0, 3]);
    let error = reranker.rerank("a dog".into(), &candidates, 9).await.unwrap_err();
    assert!(matches!(&error, ModelError::Invalid(text) if text.contains("encoder")), "{error}");
}

#[tokio::test]
async fn levels_weigh_by_type_and_kind() {
    let vector = embed("a dog").await;
    let of = |memory_type, kind| RerankCandidate {
        embedding: Some(&vector),
        memory_type: Some(memory_type),
        kind,
        ..RerankCandidate::new("a dog")
    };
    let candidates = [
        of(MemoryType::LongTerm, None),
        of(MemoryType::LongTerm, Some("topic")),
        of(MemoryType::User, None),
        of(MemoryType::User, Some("topic")),
    ];
    let reranker = cosine(None, &[("UserMemory", 2.0), ("topic", 0.75)]);
    let ranked = reranker.rerank(RerankQuery::new("a dog", Some(&vector)), &candidates, 9).await.unwrap();
    assert_eq!(places(&ranked), [2, 3, 0, 1]);
    let scores: Vec<i32> = ranked.iter().map(|one| (one.score * 100.0).round() as i32).collect();
    assert_eq!(scores, [200, 150, 100, 75]);
    let weights = BTreeMap::from([("fact".to_owned(), -1.0)]);
    assert!(matches!(CosineReranker::new(None, weights), Err(ModelError::Invalid(text)) if text.contains("fact")));
}

#[tokio::test]
async fn a_failure_keeps_the_order_of_recall() {
    let candidates = [RerankCandidate::new("a"), RerankCandidate::new("b"), RerankCandidate::new("c")];
    let reranker = KeepOrderOnFailure::new(Arc::new(Away));
    let ranked = reranker.rerank("q".into(), &candidates, 2).await.unwrap();
    assert_eq!(ranked, Ranked::as_given(3, 2));
    assert_eq!(reranker.name(), "away");
}

#[tokio::test]
async fn the_best_turn_of_a_conversation_counts() {
    let said = |role: &str, content: &str| SourceMessage {
        kind: "chat".to_owned(),
        role: Some(role.to_owned()),
        content: Some(content.to_owned()),
        ..SourceMessage::default()
    };
    let first = [said("user", "red"), said("assistant", "blue"), said("user", "green")];
    let second = [said("user", "red blue green")];
    let candidates = [
        RerankCandidate { sources: &first, ..RerankCandidate::new("one") },
        RerankCandidate { sources: &second, ..RerankCandidate::new("two") },
        RerankCandidate { background: "red blue green", ..RerankCandidate::new("red") },
    ];
    let reranker = |strategy| StrategyReranker::new(Arc::new(CommonWords), strategy, 100);
    let query = RerankQuery::from("red blue green");
    let single = reranker(DocumentStrategy::SingleTurn).rerank(query, &candidates, 9).await.unwrap();
    let scores: Vec<(usize, f32)> = single.iter().map(|one| (one.index, one.score)).collect();
    assert_eq!(scores, [(1, 3.0), (0, 2.0), (2, 1.0)]);
    let background = reranker(DocumentStrategy::Background).rerank(query, &candidates, 1).await.unwrap();
    assert_eq!(background, [Ranked { index: 2, score: 3.0 }]);
}

#[tokio::test]
async fn a_model_picks_memories_by_their_ids() {
    let items =
        [crate::item(1, "Ann lives in Berlin"), crate::item(2, "Bob likes tea"), crate::item(3, "Ann has a dog")];
    let reasoner = |answers: &[&str]| MemoryReasoner::new(Arc::new(ScriptedChat::new(answers.iter().copied())), 3);
    let (one, three) = (items[0].id.as_str(), items[2].id.as_str());
    let json = format!("{{\"selected_ids\": [\"{three}\", \"{one}\"]}}");
    assert_eq!(reasoner(&[&json]).select("Who is Ann?", &items, 5).await.unwrap(), [2, 0]);
    assert_eq!(reasoner(&[&json]).select("Who is Ann?", &items, 1).await.unwrap(), [2]);
    let list = format!("{one}\n{three}");
    let second = reasoner(&["", &list]).select("Who is Ann?", &items, 5).await.unwrap();
    assert_eq!(second, [0, 2], "a bad answer is asked for again");
    assert_eq!(reasoner(&["[]"]).select("Who is Eve?", &items, 5).await.unwrap(), [0_usize; 0]);
    assert_eq!(reasoner(&[]).select("Who is Ann?", &items, 0).await.unwrap(), [0_usize; 0], "nobody is asked");
    let error = reasoner(&["no", "none", "nothing", &json]).select("Who is Ann?", &items, 5).await.unwrap_err();
    let MemoryError::Model(ModelError::BadAnswer(text)) = &error else { panic!("{error:?}") };
    assert!(text.contains("3 attempts") && text.contains("nothing"), "{text}");
    let away = reasoner(&[]).select("Who is Ann?", &items, 5).await.unwrap_err();
    assert!(matches!(away, MemoryError::Model(ModelError::Unavailable(_))), "{away:?}");
}
