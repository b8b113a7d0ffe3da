//! Mixture searches that are answered at once, and thoroughly the next time.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use mos::config::{GeneralMemCubeConfig, Setting};
use mos::{Add, Mos, NewCube, Search, Settings};
use mos_core::{Access, CubeId, SearchMode};
use mos_testkit::chat::ScriptedChat;
use mos_testkit::embedder::WordEmbedder;
use serde_json::json;

use crate::{ann, bob};

const REX: &str = "Rex sleeps in the kitchen";

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(60);

/// A model that knows what every question is after.
fn knowing() -> Arc<ScriptedChat> {
    let goal = json!({"memories": [REX], "rephrased_instruction": REX}).to_string();
    Arc::new(ScriptedChat::answering(move |_| goal.clone()))
}

/// A facade with a cube `notes` of ann's that bob may read, and a scheduler that handles nothing yet.
async fn house(folder: &Path, scheduler: &str, model: &Arc<ScriptedChat>) -> Mos {
    let settings = json!({"enable_mem_scheduler": true, "mem_scheduler": {"backend": scheduler, "config": {}}});
    let embedder = Arc::new(WordEmbedder::new("words", 256));
    let builder = Mos::builder(Settings::from_json(&settings).unwrap()).data_dir(folder).embedder(embedder);
    let mos = builder.chat_model(model.clone()).start_scheduler(false).build().await.unwrap();
    for user in ["ann", "bob"] {
        mos.create_user(user, None).await.unwrap();
    }
    let text_mem = json!({"backend": "tree_text", "config": {}});
    let config = GeneralMemCubeConfig::from_json(&json!({"user_id": "ann", "text_mem": text_mem})).unwrap();
    mos.create_cube(&ann(), NewCube { cube_id: notes(), name: None, config: Some(config) }).await.unwrap();
    mos.share_cube_with(&ann(), &notes(), &bob(), Access::Reader).await.unwrap();
    mos
}

fn notes() -> CubeId {
    CubeId::from("notes")
}

/// What a mixture search finds that fits, and whether a part of it was prepared.
async fn asked(mos: &Mos, user: &str) -> (Vec<String>, bool) {
    let search = Search::new("and hers?").user(user).cubes([notes()]).top_k(3).relevance(0.4);
    let found = mos.search(search.mode(SearchMode::Mixture)).await.unwrap();
    let texts = found.best().into_iter().map(|(_, hit)| hit.item.memory.clone()).collect();
    let is_mixed = found.notes().any(|(_, note)| note.contains("come from the thorough search"));
    (texts, is_mixed)
}

/// Has the scheduler handle what waits, and stops it again.
async fn work(mos: &Mos) {
    mos.wait_for_sending().await;
    mos.mem_scheduler_on().unwrap();
    assert!(mos.scheduler().unwrap().wait_until_idle(PATIENCE).await.unwrap(), "something is still to be done");
    mos.mem_scheduler_off().await;
}

#[tokio::test]
async fn a_mixture_search_is_answered_at_once_and_the_next_one_with_what_was_prepared() {
    let (folder, model) = (tempfile::tempdir().unwrap(), knowing());
    let mos = house(folder.path(), "optimized_scheduler", &model).await;
    mos.add(Add::text("my kayak is blue").user("ann")).await.unwrap();
    let rex = mos.add(Add::text(REX).user("ann")).await.unwrap();
    work(&mos).await;
    let n_before = model.requests().len();

    assert_eq!(asked(&mos, "ann").await, (Vec::new(), false), "its words say nothing of what it is after");
    assert_eq!(model.requests().len(), n_before, "nobody waits for a model");
    work(&mos).await;
    assert!(model.requests().len() > n_before, "the thorough search was done in the background");
    let n_prepared = model.requests().len();
    assert_eq!(asked(&mos, "ann").await, (vec![REX.to_owned()], true));
    assert_eq!(model.requests().len(), n_prepared);

    // Nothing is stored for who only reads: the model is asked at once.
    assert_eq!(asked(&mos, "bob").await, (vec![REX.to_owned()], false));
    assert_eq!(model.requests().len(), n_prepared + 1);

    mos.delete(&ann(), None, &rex[0]).await.unwrap();
    assert_eq!(asked(&mos, "ann").await, (Vec::new(), false), "what was removed does not come back");
}

#[tokio::test]
async fn a_question_that_is_repeated_is_prepared_once() {
    let (folder, model) = (tempfile::tempdir().unwrap(), knowing());
    let mos = house(folder.path(), "optimized_scheduler", &model).await;
    mos.add(Add::text("my kayak is blue").user("ann")).await.unwrap();
    mos.add(Add::text(REX).user("ann")).await.unwrap();
    work(&mos).await;
    let n_sent = async || {
        mos.wait_for_sending().await;
        mos.scheduler().unwrap().metrics().get("api_mix_search").map_or(0, |counts| counts.submitted)
    };
    for _ in 0..3 {
        asked(&mos, "ann").await;
    }
    assert_eq!(n_sent().await, 1, "its answer is being prepared");
    work(&mos).await;
    for _ in 0..3 {
        assert_eq!(asked(&mos, "ann").await, (vec![REX.to_owned()], true));
    }
    assert_eq!(n_sent().await, 1, "its answer is fresh");
}

#[tokio::test]
async fn without_the_optimized_scheduler_a_mixture_search_does_both_at_once() {
    let (folder, model) = (tempfile::tempdir().unwrap(), knowing());
    let mos = house(folder.path(), "general_scheduler", &model).await;
    mos.add(Add::text(REX).user("ann")).await.unwrap();
    let n_before = model.requests().len();
    assert_eq!(asked(&mos, "ann").await, (vec![REX.to_owned()], false));
    assert_eq!(model.requests().len(), n_before + 1);
}
