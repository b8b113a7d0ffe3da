//! Corrections that the scheduler does.

use mos::Mos;
use mos::scheduler::FeedbackRequest;
use serde_json::json;

use super::{builder, furnish, idle, notes};
use crate::{ann, bob};

async fn texts(mos: &Mos) -> Vec<String> {
    let listing = mos.get_all(&ann(), Some(&notes())).await.unwrap();
    let all = listing.text_mem.into_iter().flat_map(|cube| cube.memories);
    let mut texts: Vec<String> = all.filter(|item| item.working_copy_of().is_none()).map(|item| item.memory).collect();
    texts.sort();
    texts
}

#[tokio::test]
async fn corrections_of_two_users_may_have_one_name_and_each_is_done_once() {
    let folder = tempfile::tempdir().unwrap();
    let mos = builder(folder.path(), json!({})).build().await.unwrap();
    furnish(&mos).await;
    mos.share_cube_with_user(&ann(), &notes(), &bob()).await.unwrap();
    // Without a model that may judge, the words are kept.
    let said = ["Ann drinks tea now", "Bob drinks water now"];
    for _ in 0..2 {
        for (user, text) in [(ann(), said[0]), (bob(), said[1])] {
            let request = FeedbackRequest::new("today", user, text);
            assert!(mos.feedback_later(&notes(), &request, None).await.unwrap());
        }
    }
    idle(&mos.scheduler().unwrap()).await;
    assert_eq!(texts(&mos).await, said);
    let again = FeedbackRequest::new("today", ann(), said[0]);
    assert_eq!(mos.feedback(&notes(), &again).await.unwrap().added.len(), 1, "what was done is told again");
    assert_eq!(texts(&mos).await, said);
    mos.stop().await;
}
