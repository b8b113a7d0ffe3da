//! What reranking servers take and return.

use serde_json::{Value, json};

/// Returns a request for the scores of all documents.
pub(super) fn request(model: &str, query: &str, documents: &[&str]) -> Value {
    json!({"model": model, "query": query, "documents": documents, "top_n": documents.len()})
}

/// Reads one score per document from any of the shapes that servers answer in: a list under `results` or `data`, or
/// alone, of entries with `relevance_score` or `score`. Entries name their document by `index`, or stand in the order
/// of the documents.
///
/// # Errors
/// What is wrong with the answer, as the end of a sentence.
pub(super) fn scores(answer: &Value, n_documents: usize) -> Result<Vec<f32>, String> {
    let entries = [&answer["results"], &answer["data"], answer]
        .into_iter()
        .find_map(Value::as_array)
        .ok_or("holds no list of results")?;
    let mut scores = vec![None; n_documents];
    for (place, entry) in entries.iter().enumerate() {
        let index = match &entry["index"] {
            Value::Null => place,
            index => index
                .as_u64()
                .and_then(|index| usize::try_from(index).ok())
                .ok_or("has a result whose index is no whole number")?,
        };
        let slot = scores
            .get_mut(index)
            .ok_or_else(|| format!("has a result with index {index} where {n_documents} documents were sent"))?;
        if slot.is_some() {
            return Err(format!("has two results for index {index}"));
        }
        *slot = Some(score(entry).ok_or_else(|| format!("has no number as score of index {index}"))?);
    }
    let n_answered = scores.iter().flatten().count();
    scores
        .into_iter()
        .collect::<Option<Vec<f32>>>()
        .ok_or_else(|| format!("has {n_answered} results for {n_documents} documents"))
}

fn score(entry: &Value) -> Option<f32> {
    let number = entry["relevance_score"].as_f64().or_else(|| entry["score"].as_f64())?;
    Some(number as f32).filter(|score| score.is_finite())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_known_shape_is_read() {
        for answer in [
            json!({"results": [{"index": 1, "relevance_score": 0.5}, {"index": 0, "relevance_score": -2}]}),
            json!({"data": [{"index": 1, "score": 0.5}, {"index": 0, "score": -2}]}),
            json!({"data": [{"score": -2.0}, {"score": 0.5}]}),
            json!([{"index": 1, "score": 0.5}, {"index": 0, "score": -2.0}]),
        ] {
            assert_eq!(scores(&answer, 2).unwrap(), [-2.0, 0.5], "{answer}");
        }
    }

    #[test]
    fn answers_that_do_not_fit_say_why() {
        for (answer, why) in [
            (json!({"error": "no"}), "no list"),
            (json!({"results": [{"index": 2, "score": 1}, {"index": 0, "score": 1}]}), "index 2 where 2"),
            (json!({"results": [{"index": -1, "score": 1}]}), "no whole number"),
            (json!({"results": [{"index": 0, "score": 1}]}), "1 results for 2"),
            (json!({"results": [{"index": 0, "score": 1}, {"index": 0, "score": 1}]}), "two results"),
            (json!({"results": [{"index": 0, "score": "NaN"}, {"index": 1, "score": 1}]}), "no number"),
            (json!({"results": [{"index": 0, "score": 1e300}, {"index": 1, "score": 1}]}), "no number"),
            (json!({"results": [{"score": 1}, {"score": 1}, {"score": 1}]}), "index 2 where 2"),
        ] {
            let error = scores(&answer, 2).unwrap_err();
            assert!(error.contains(why), "{answer}: {error}");
        }
    }
}
