//! Organising that goes on until it is done, or long enough.

use mos_scheduler::Organized;
use mos_scheduler::event::{ARCHIVE_MEMORY, MERGE_MEMORY};
use mos_scheduler::handlers::refining::WorkOptions;
use mos_scheduler::label::MEM_ORGANIZE;
use mos_scheduler::message::MAX_DEPTH;

use crate::support_work::{Models, World, list};

#[tokio::test]
async fn what_organising_did_is_told() {
    let world = World::new(WorkOptions::default(), &Models::default());
    let ids = world.facts(&["Ann lives in Rome.", "Ann moved to Porto."]).await;
    let done = Organized { merged: vec![ids[1].clone()], archived: vec![ids[0].clone()], is_unfinished: false };
    world.work.organized.lock().unwrap().push_back(done);
    world.done(MEM_ORGANIZE, list(&ids)).await;
    assert_eq!(*world.work.asked.lock().unwrap(), [Some(ids.clone())]);
    let events = world.events().await;
    let labels: Vec<&str> = events.iter().map(|event| event.label.as_str()).collect();
    assert_eq!(labels, [MERGE_MEMORY, ARCHIVE_MEMORY]);
    let told = events[0].memcube_log_content.as_ref().unwrap();
    assert_eq!(
        (told[0]["content"].as_str(), told[0]["ref_id"].as_str()),
        (Some("Ann moved to Porto."), Some(ids[1].as_str()))
    );
    world.done(MEM_ORGANIZE, "").await;
    assert_eq!(world.work.asked.lock().unwrap().last(), Some(&None), "without ids everything is meant");
}

#[tokio::test]
async fn unfinished_work_goes_on_and_not_for_ever() {
    let world = World::new(WorkOptions::default(), &Models::default());
    let ids = world.facts(&["Ann lives in Rome."]).await;
    let unfinished = Organized { is_unfinished: true, ..Organized::default() };
    world.work.organized.lock().unwrap().extend([unfinished.clone(), unfinished.clone()]);
    world.done(MEM_ORGANIZE, list(&ids)).await;
    assert_eq!(world.work.asked.lock().unwrap().len(), 3);
    world.work.organized.lock().unwrap().extend(vec![unfinished; 50]);
    world.done(MEM_ORGANIZE, list(&ids)).await;
    assert_eq!(world.work.asked.lock().unwrap().len(), 3 + usize::from(MAX_DEPTH) + 1);
}
