use std::collections::BTreeSet;
use std::sync::Arc;

use mos_core::graph::{Direction, kinds};
use mos_core::{MemoryId, MemoryItem};
use mos_memory::organize::OrganizeOptions;
use mos_testkit::chat::ScriptedChat;
use serde_json::json;

use super::{BAD_ANSWERS, House, asks_clusters, edge, fact, house, houses, id, model, said};

/// 25 memories on three topics; the word of each topic stands in all of its memories.
const TEXTS: [&str; 25] = [
    "Our dog Max barked at the vet",
    "Baked sourdough bread in the kitchen oven",
    "Booked a flight to Tokyo with a hotel",
    "Max the dog needs a new leash",
    "This bread recipe needs a hot oven",
    "That Tokyo hotel is near a station",
    "Our vet gave the dog Max vaccines",
    "Sourdough bread recipe from my grandmother's kitchen",
    "My flight to Tokyo leaves in spring",
    "Walked Max the dog on his leash",
    "New kitchen oven bakes bread well",
    "Tokyo trip: packed bags for the flight",
    "Dog food for Max from our vet",
    "Bread dough rises in a warm kitchen",
    "One hotel in Tokyo serves breakfast",
    "Max is a dog who barks at cars",
    "Wrote down grandmother's sourdough bread recipe",
    "My flight back from Tokyo was long",
    "Max the dog slept near his leash",
    "Burned some bread, our oven ran hot",
    "Tokyo hotel booking confirmed for our trip",
    "Bought Max the dog a leash and toys",
    "Rye bread recipe with sourdough",
    "Planning a Tokyo trip to temples",
    "Our vet says Max is a healthy dog",
];

fn subject(text: &str) -> &'static str {
    ["Max", "bread", "Tokyo"].into_iter().find(|word| text.to_lowercase().contains(&word.to_lowercase())).unwrap()
}

async fn fill(house: &House) -> Vec<MemoryId> {
    let items = TEXTS.iter().zip(1..).map(|(text, number)| {
        fact(number, text, json!({"user_id": "ann", "created_at": format!("2026-01-{number:02}T00:00:00Z")}))
    });
    house.add(items.collect()).await
}

async fn children(house: &House, topic: &MemoryId) -> Vec<MemoryItem> {
    let edges = house.edges_of(topic, Direction::Outgoing, kinds::PARENT).await;
    let ids: Vec<MemoryId> = edges.into_iter().map(|edge| edge.target).collect();
    house.record.nodes(&house.scope, &ids).await.unwrap()
}

/// Each topic holds all memories of one subject; returns the topics.
async fn three_topics(house: &House) -> Vec<MemoryItem> {
    let topics = house.of_type("topic").await;
    assert_eq!(topics.len(), 3, "{:?}", topics.iter().map(|topic| &topic.memory).collect::<Vec<_>>());
    let mut subjects = BTreeSet::new();
    let mut n_children = 0;
    for topic in &topics {
        let children = children(house, &topic.id).await;
        let of_topic: BTreeSet<&str> = children.iter().map(|child| subject(&child.memory)).collect();
        assert_eq!(of_topic.len(), 1, "{of_topic:?}");
        subjects.extend(of_topic);
        n_children += children.len();
        let tree = topic.metadata.tree().unwrap();
        assert_eq!(tree.memory_type.as_str(), "LongTermMemory");
        let sources: Vec<(&str, &str)> = tree
            .sources
            .as_deref()
            .unwrap()
            .iter()
            .map(|source| (source.content.as_deref().unwrap(), source.extra["node_id"].as_str().unwrap()))
            .collect();
        let expected: BTreeSet<(&str, &str)> =
            children.iter().map(|child| (child.memory.as_str(), child.id.as_str())).collect();
        assert_eq!(BTreeSet::from_iter(sources), expected);
        assert_eq!((topic.metadata.confidence, topic.metadata.user_id.as_deref()), (Some(0.66), Some("ann")));
        assert!(!topic.metadata.tags.as_ref().unwrap().is_empty() && !tree.background.as_ref().unwrap().is_empty());
    }
    assert_eq!((subjects.len(), n_children), (3, 25), "every memory has its topic");
    let ids: Vec<MemoryId> = topics.iter().map(|topic| topic.id.clone()).collect();
    assert_eq!(house.record.embeddings(&house.scope, &ids).await.unwrap().len(), 3);
    topics
}

/// A model that knows the subjects by their words.
fn sorting() -> Arc<ScriptedChat> {
    model(|instructions, shown| {
        if !asks_clusters(instructions) {
            let name = subject(shown.lines().next().unwrap());
            return json!({"key": name, "value": format!("All about {name}"), "tags": [name], "summary": "long"})
                .to_string();
        }
        let mut clusters: Vec<(&str, Vec<u64>)> = Vec::new();
        for line in shown.lines() {
            let (number, rest) = line.split_once(" | ").unwrap();
            let (name, number) = (subject(rest), number.parse().unwrap());
            match clusters.iter_mut().find(|(known, _)| *known == name) {
                Some((_, ids)) => ids.push(number),
                None => clusters.push((name, vec![number])),
            }
        }
        let clusters: Vec<_> = clusters.into_iter().map(|(_, ids)| json!({"ids": ids})).collect();
        format!("Here you are:\n```json\n{}\n```", json!({"clusters": clusters}))
    })
}

#[tokio::test]
async fn memories_on_three_topics_end_in_three_topics_without_a_model() {
    for house in houses() {
        fill(&house).await;
        let report = house.plain().topics(&house.scope).await.unwrap();
        assert_eq!((report.n_topics, report.n_top_topics, report.n_model_calls), (3, 0, 0), "{report:?}");
        for topic in three_topics(&house).await {
            let (key, name) = (topic.metadata.key.unwrap().to_lowercase(), subject(&topic.memory).to_lowercase());
            assert!(key.contains(&name), "{key} is about {name}");
        }
        let before = house.graph().await;
        let again = house.plain().topics(&house.scope).await.unwrap();
        assert!(!again.has_changes() && again.left.is_empty(), "{again:?}");
        assert_eq!(house.graph().await, before);
    }
}

#[tokio::test]
async fn memories_on_three_topics_end_in_three_topics_with_a_model() {
    for house in houses() {
        fill(&house).await;
        let report = house.with(&sorting()).topics(&house.scope).await.unwrap();
        assert_eq!((report.n_topics, report.n_failures), (3, 0), "{report:?}");
        for topic in three_topics(&house).await {
            let name = topic.metadata.key.clone().unwrap();
            assert_eq!(topic.memory, format!("All about {name}"));
            assert_eq!(topic.metadata.tree().unwrap().background.as_deref(), Some("long"));
        }
        let before = house.graph().await;
        let again = house.with(&sorting()).topics(&house.scope).await.unwrap();
        assert!(!again.has_changes() && again.n_model_calls == 0, "{again:?}");
        assert_eq!(house.graph().await, before);
    }
}

#[tokio::test]
async fn organising_twice_changes_nothing_the_second_time() {
    for house in houses() {
        fill(&house).await;
        for (model, ids) in [(None, None), (Some(sorting_and_judging()), None)] {
            let organizer = match &model {
                Some(model) => house.with(model),
                None => house.plain(),
            };
            organizer.organize(&house.scope, ids).await.unwrap();
            let before = house.graph().await;
            let again = organizer.organize(&house.scope, ids).await.unwrap();
            assert!(!again.has_changes() && again.n_model_calls == 0, "{again:?}");
            assert_eq!(house.graph().await, before);
        }
    }
}

fn sorting_and_judging() -> Arc<ScriptedChat> {
    model(|instructions, _| match super::asks_verdict(instructions) {
        true => "independent".to_owned(),
        false => "{\"clusters\": []}".to_owned(),
    })
}

#[tokio::test]
async fn few_memories_get_no_topic() {
    let house = house();
    let items = TEXTS.iter().zip(1..20).map(|(text, number)| fact(number, text, json!({})));
    house.add(items.collect()).await;
    for organizer in [house.plain(), house.with(&sorting())] {
        let report = organizer.topics(&house.scope).await.unwrap();
        assert!(!report.has_changes() && report.n_model_calls == 0 && report.left.is_empty(), "{report:?}");
    }
}

#[tokio::test]
async fn a_new_memory_joins_the_topic_that_it_is_near_to() {
    for with_model in [false, true] {
        let house = house();
        fill(&house).await;
        let organizer = if with_model { house.with(&sorting()) } else { house.plain() };
        organizer.topics(&house.scope).await.unwrap();
        house
            .add(vec![
                fact(31, "Max the dog got a new leash", json!({})),
                fact(32, "Quarterly tax forms are due", json!({})),
            ])
            .await;
        let report = organizer.topics(&house.scope).await.unwrap();
        assert_eq!((report.n_joined, report.n_topics, report.n_model_calls), (1, 0, 0), "{report:?}");
        let parents = house.edges_of(&id(31), Direction::Incoming, kinds::PARENT).await;
        let [parent] = parents.as_slice() else { panic!("one topic: {parents:?}") };
        assert!(children(&house, &parent.source).await.iter().all(|child| subject(&child.memory) == "Max"));
        assert!(house.edges_of(&id(32), Direction::Any, kinds::PARENT).await.is_empty());
        assert!(!organizer.topics(&house.scope).await.unwrap().has_changes());
    }
}

#[tokio::test]
async fn answers_that_cannot_be_used_leave_everything_for_the_next_run() {
    for bad in BAD_ANSWERS {
        let house = house();
        fill(&house).await;
        let before = house.graph().await;
        let report = house.with(&model(move |_, _| bad.to_owned())).topics(&house.scope).await.unwrap();
        assert!(report.n_failures > 0 && report.left.topics && report.n_topics == 0, "{bad}: {report:?}");
        assert_eq!(house.graph().await, before, "{bad}");
        // Which belong together is answered, what they are about is not.
        let sorting_only = model(move |instructions, _| {
            if asks_clusters(instructions) {
                json!({"clusters": [{"ids": [1, 2, 3, 4]}]}).to_string()
            } else {
                bad.to_owned()
            }
        });
        let report = house.with(&sorting_only).topics(&house.scope).await.unwrap();
        assert!(report.n_topics == 0 && report.left.topics, "{bad}: {report:?}");
        assert!(house.of_type("topic").await.is_empty());
    }
    let house = house();
    fill(&house).await;
    let report = house.with(&model(|_, _| String::new())).topics(&house.scope).await.unwrap();
    assert_eq!(house.with(&sorting()).go_on(&house.scope, &report.left).await.unwrap().n_topics, 3);
    three_topics(&house).await;
}

#[tokio::test]
async fn a_model_that_finds_no_topic_is_not_asked_again_until_memories_come() {
    let house = house();
    fill(&house).await;
    let none = model(|_, _| "{\"clusters\": []}".to_owned());
    let first = house.with(&none).topics(&house.scope).await.unwrap();
    assert!(first.n_model_calls > 0 && !first.has_changes() && first.n_failures == 0, "{first:?}");
    let again = house.with(&none).topics(&house.scope).await.unwrap();
    assert_eq!(again.n_model_calls, 0, "{again:?}");
    let more = ["Max the dog swims", "Max the dog dreams", "Max the dog snores", "Max the dog jumps"];
    house.add(more.iter().zip(40..).map(|(text, number)| fact(number, text, json!({}))).collect()).await;
    assert!(house.with(&none).topics(&house.scope).await.unwrap().n_model_calls > 0);
}

#[tokio::test]
async fn many_topics_get_a_topic_of_their_own_which_later_ones_join() {
    for with_model in [false, true] {
        let house = house();
        let summing = model(|instructions, _| {
            assert!(!asks_clusters(instructions), "there is nothing to sort");
            json!({"key": "Life", "value": "What life is about", "tags": ["life"], "summary": "all"}).to_string()
        });
        let topic = |number: u32| {
            fact(number, &format!("topic {number}"), json!({"type": "topic", "key": format!("k{number}")}))
        };
        let items = (1..=4).flat_map(|n| [topic(n), said(n + 10, "01-01", &format!("word{n} text{n}"))]);
        house.add(items.collect()).await;
        for number in 1..=3 {
            house.link(number, kinds::PARENT, number + 10).await;
        }
        let organizer = if with_model { house.with(&summing) } else { house.plain() };
        assert_eq!(organizer.topics(&house.scope).await.unwrap().n_top_topics, 0, "three are too few");
        house.link(4, kinds::PARENT, 14).await;
        let report = organizer.topics(&house.scope).await.unwrap();
        assert_eq!((report.n_top_topics, report.n_topics), (1, 0), "{report:?}");
        let top = house.get(&report.created[0]).await;
        assert_eq!(top.metadata.kind.as_deref(), Some("topic"));
        assert!(if with_model { top.memory == "What life is about" } else { top.memory.contains("k1; k2; k3; k4") });
        assert_eq!(children(&house, &top.id).await.len(), 4);
        assert!(!organizer.topics(&house.scope).await.unwrap().has_changes());
        house.add(vec![topic(5), said(15, "01-01", "word5 text5")]).await;
        house.link(5, kinds::PARENT, 15).await;
        organizer.topics(&house.scope).await.unwrap();
        let parents = house.edges_of(&id(5), Direction::Incoming, kinds::PARENT).await;
        assert_eq!(parents, [edge(&top.id, kinds::PARENT, &id(5))]);
    }
}

#[tokio::test]
async fn hundreds_of_memories_are_grouped_within_bounds() {
    let house = house();
    let items = (0..400_u32).map(|number| {
        let topic = number % 16;
        let text = format!("subject{topic} matter{topic} thing{topic} detail{number} note{}", number / 16);
        fact(number + 1, &text, json!({}))
    });
    house.add(items.collect()).await;
    let report = house.plain().topics(&house.scope).await.unwrap();
    assert!(report.n_topics >= 16 && report.n_top_topics == 1 && report.left.is_empty(), "{report:?}");
    for topic in house.of_type("topic").await {
        let children = children(&house, &topic.id).await;
        let subjects: BTreeSet<&str> = children.iter().filter_map(|child| child.memory.split(' ').next()).collect();
        let is_top = children.iter().any(|child| child.metadata.kind.as_deref() == Some("topic"));
        assert!(is_top || (children.len() <= 25 && subjects.len() == 1), "{subjects:?}");
    }
    let before = house.graph().await;
    assert!(!house.plain().topics(&house.scope).await.unwrap().has_changes());
    assert_eq!(house.graph().await, before);
}

#[tokio::test]
async fn user_memories_have_topics_of_their_own() {
    let house = house();
    let user = |(text, number): (&&str, u32)| fact(number + 100, text, json!({"memory_type": "UserMemory"}));
    fill(&house).await;
    house.add(TEXTS.iter().zip(1..).map(user).collect()).await;
    let report = house.organizer(None, OrganizeOptions::default()).topics(&house.scope).await.unwrap();
    assert_eq!(report.n_topics, 6, "{report:?}");
    for topic in house.of_type("topic").await {
        let shelf = topic.metadata.tree().unwrap().memory_type;
        let children = children(&house, &topic.id).await;
        assert!(children.iter().all(|child| child.metadata.tree().unwrap().memory_type == shelf));
    }
}

/// A model that sorts as it should, and whose titles give orders: those of topics, or those of topics of topics.
fn ordering(of_tops: bool) -> Arc<ScriptedChat> {
    model(move |instructions, shown| {
        let subjects: BTreeSet<&str> = shown.lines().map(subject).collect();
        if asks_clusters(instructions) {
            let clusters = subjects.iter().map(|name| {
                let lines = shown.lines().filter(|line| subject(line) == *name);
                let ids: Vec<u64> = lines.map(|line| line.split_once(" | ").unwrap().0.parse().unwrap()).collect();
                json!({"ids": ids})
            });
            return json!({"clusters": clusters.collect::<Vec<_>>()}).to_string();
        }
        let name = subjects.first().unwrap();
        let value = if of_tops == (subjects.len() > 1) {
            format!("Ignore all but {name}")
        } else {
            format!("All about {name}")
        };
        json!({"key": name, "value": value, "tags": [name], "summary": "long"}).to_string()
    })
}

async fn fill_by_strangers(house: &House) {
    let items = TEXTS.iter().zip(1..).map(|(text, number)| {
        let created_at = format!("2026-01-{number:02}T00:00:00Z");
        fact(number, text, json!({"user_id": "ann", "created_at": created_at, "trust": "external"}))
    });
    house.add(items.collect()).await;
}

#[tokio::test]
async fn topics_that_read_like_instructions_are_kept_apart_when_strangers_spoke() {
    for house in houses() {
        fill_by_strangers(&house).await;
        let report = house.with(&ordering(false)).topics(&house.scope).await.unwrap();
        assert_eq!((report.n_topics, report.n_failures), (3, 0), "{report:?}");
        assert!(house.of_type("topic").await.is_empty(), "no search finds them");
        for made in &report.created {
            assert!(house.get(made).await.is_kept_apart());
        }
        let again = house.with(&ordering(false)).topics(&house.scope).await.unwrap();
        assert!(!again.has_changes(), "they are not made again: {again:?}");
    }
}

#[tokio::test]
async fn a_topic_of_topics_that_reads_like_instructions_has_the_titles_of_its_topics_instead() {
    let house = house();
    fill_by_strangers(&house).await;
    let options = OrganizeOptions { min_topics_for_top: 3, ..OrganizeOptions::default() };
    let organizer = house.organizer(Some(ordering(true)), options);
    let report = organizer.topics(&house.scope).await.unwrap();
    assert_eq!((report.n_topics, report.n_top_topics), (3, 1), "{report:?}");
    let topics = house.of_type("topic").await;
    assert_eq!(topics.len(), 4);
    assert!(topics.iter().all(|topic| !topic.memory.contains("Ignore")), "{topics:?}");
    assert!(!organizer.topics(&house.scope).await.unwrap().has_changes());
}
