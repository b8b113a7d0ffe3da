//! Filters and ids, from the protocol to the engine. Filters go by way of the JSON of Qdrant's REST protocol, which the
//! engine reads itself.

use mos_testkit::qdrant_server::wire::condition::ConditionOneOf;
use mos_testkit::qdrant_server::wire::r#match::MatchValue;
use mos_testkit::qdrant_server::wire::point_id::PointIdOptions;
use mos_testkit::qdrant_server::{Status, unknown, wire};
use qdrant_edge::external::serde_json::{self, Map, Value as Json, json};
use qdrant_edge::external::uuid::Uuid;
use qdrant_edge::{Filter, PointId};

/// # Errors
/// For an id that is none.
pub(crate) fn point_id(id: &wire::PointId) -> Result<PointId, Status> {
    match &id.point_id_options {
        Some(PointIdOptions::Num(number)) => Ok(PointId::NumId(*number)),
        Some(PointIdOptions::Uuid(text)) => Uuid::parse_str(text)
            .map(PointId::Uuid)
            .map_err(|error| Status::invalid_argument(format!("Unable to parse UUID: {text}: {error}"))),
        None => Err(Status::invalid_argument("Wrong input: a point has no id")),
    }
}

/// # Errors
/// For conditions that are not translated, and for those that the engine refuses.
pub(crate) fn filter(filter: &wire::Filter) -> Result<Filter, Status> {
    serde_json::from_value(conditions(filter)?)
        .map_err(|error| Status::invalid_argument(format!("Wrong input: the filter is not understood: {error}")))
}

fn conditions(filter: &wire::Filter) -> Result<Json, Status> {
    if filter.min_should.is_some() {
        return Err(unknown("min_should"));
    }
    let mut object = Map::new();
    for (name, parts) in [("must", &filter.must), ("must_not", &filter.must_not), ("should", &filter.should)] {
        // One that is there but empty may mean something else than one that is not.
        if !parts.is_empty() {
            let parts = parts.iter().map(condition).collect::<Result<Vec<Json>, Status>>()?;
            object.insert(name.to_owned(), Json::Array(parts));
        }
    }
    Ok(Json::Object(object))
}

fn condition(condition: &wire::Condition) -> Result<Json, Status> {
    match &condition.condition_one_of {
        Some(ConditionOneOf::Filter(filter)) => conditions(filter),
        Some(ConditionOneOf::IsEmpty(empty)) => Ok(json!({"is_empty": {"key": empty.key}})),
        Some(ConditionOneOf::HasId(ids)) => {
            let ids = ids.has_id.iter().map(id_value).collect::<Result<Vec<Json>, Status>>()?;
            Ok(json!({"has_id": ids}))
        }
        Some(ConditionOneOf::Field(field)) => of_field(field),
        _ => Err(unknown("this condition")),
    }
}

fn id_value(id: &wire::PointId) -> Result<Json, Status> {
    Ok(match point_id(id)? {
        PointId::NumId(number) => Json::from(number),
        PointId::Uuid(id) => Json::from(id.to_string()),
    })
}

fn of_field(field: &wire::FieldCondition) -> Result<Json, Status> {
    if let Some(range) = &field.range {
        let mut bounds = Map::new();
        for (name, bound) in [("lt", range.lt), ("gt", range.gt), ("gte", range.gte), ("lte", range.lte)] {
            if let Some(bound) = bound {
                bounds.insert(name.to_owned(), Json::from(bound));
            }
        }
        return Ok(json!({"key": field.key, "range": bounds}));
    }
    let wanted = match field.r#match.as_ref().and_then(|one| one.match_value.as_ref()) {
        Some(MatchValue::Keyword(text)) => json!({"value": text}),
        Some(MatchValue::Integer(number)) => json!({"value": number}),
        Some(MatchValue::Boolean(flag)) => json!({"value": flag}),
        Some(MatchValue::Keywords(texts)) => json!({"any": texts.strings}),
        Some(MatchValue::Integers(numbers)) => json!({"any": numbers.integers}),
        _ => return Err(unknown("this match")),
    };
    Ok(json!({"key": field.key, "match": wanted}))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_say_what_the_protocol_says() {
        let id = "67e55044-10b1-426f-9247-bb680e5fe0c8";
        let range = wire::Range { gte: Some(1.5), lte: Some(2.0), ..wire::Range::default() };
        let either = wire::Filter::should([
            wire::Condition::matches("metadata.tags", vec!["a".to_owned(), "b".to_owned()]),
            wire::Condition::is_empty("metadata.none"),
        ]);
        let asked = wire::Filter {
            must: vec![
                wire::Condition::matches("cube", "c".to_owned()),
                wire::Condition::range("sequence", range),
                wire::Condition { condition_one_of: Some(ConditionOneOf::Filter(either)) },
            ],
            must_not: vec![wire::Condition::has_id([wire::PointId::from(id)])],
            ..wire::Filter::default()
        };
        let expected = json!({
            "must": [
                {"key": "cube", "match": {"value": "c"}},
                {"key": "sequence", "range": {"gte": 1.5, "lte": 2.0}},
                {"should": [
                    {"key": "metadata.tags", "match": {"any": ["a", "b"]}},
                    {"is_empty": {"key": "metadata.none"}}
                ]}
            ],
            "must_not": [{"has_id": [id]}]
        });
        assert_eq!(conditions(&asked).unwrap(), expected);
        let understood = filter(&asked).unwrap();
        assert_eq!(understood.must.map(|parts| parts.len()), Some(3));
        assert_eq!(understood.must_not.map(|parts| parts.len()), Some(1));
        assert_eq!(understood.should, None);
    }

    #[test]
    fn what_is_not_translated_is_refused() {
        let text = wire::Filter::must([wire::Condition::matches_text("memory", "words")]);
        assert_eq!(filter(&text).unwrap_err().code() as i32, 12, "unimplemented");
        let bad = wire::Filter::must([wire::Condition::has_id([wire::PointId::from("no uuid")])]);
        assert_eq!(filter(&bad).unwrap_err().code() as i32, 3, "invalid argument");
    }
}
