//! What the server tells about itself.

use std::time::Duration;

use mos::keys::NewKey;
use mos::{Add, Chat, NewCube};
use mos_core::{ClaimRequest, CubeId, Failed, JobId, NewJob, Scope, UserId, Weights};
use mos_server::{AuthMode, ServerOptions};
use mos_testkit::model_server::{ModelServer, Reply};
use reqwest::StatusCode;
use serde_json::json;

use crate::guarded::Guarded;
use crate::house::{House, open_to_all, scripted_model};

#[tokio::test]
async fn numbers_are_told_without_naming_anybody() {
    let house = House::open(ServerOptions { auth: AuthMode::Open, ..ServerOptions::default() }).await;
    let (user, cube) = ("ursula-7f3a", "diary-91cc");
    house.app.mos().create_user(user, None).await.unwrap();
    house.app.mos().create_cube(&UserId::from(user), NewCube::new(cube)).await.unwrap();
    house.app.mos().add(Add::text("the garage code is 7391").user(user).cube(cube)).await.unwrap();
    reqwest::get(format!("{}/health", house.url)).await.unwrap();
    reqwest::get(format!("{}/nowhere/{user}", house.url)).await.unwrap();
    let answer = reqwest::get(format!("{}/metrics", house.url)).await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    assert!(answer.headers()["content-type"].to_str().unwrap().starts_with("text/plain; version=0.0.4"));
    let text = answer.text().await.unwrap();
    for line in [
        r#"mos_http_requests_total{method="GET",route="/health",status="200"} 1"#,
        r#"mos_http_requests_total{method="GET",route="unmatched",status="404"} 1"#,
        r#"mos_http_request_seconds_count{method="GET",route="/health"} 1"#,
        "mos_http_requests_under_way 1",
        "# TYPE mos_http_request_seconds histogram",
        r#"mos_queue_jobs{state="waiting"}"#,
        "mos_kv_saved_prefill_tokens_total 0",
        "mos_kv_hits_total 0",
        "mos_build_info{version=",
    ] {
        assert!(text.contains(line), "{line}\n{text}");
    }
    for secret in [user, cube, "garage"] {
        assert!(!text.contains(secret), "{secret}\n{text}");
    }
    house.close().await;
}

#[tokio::test]
async fn what_a_kept_state_saved_and_a_job_that_was_given_up_are_counted() {
    let model = ModelServer::start().await;
    let house = House::with_settings(open_to_all(), scripted_model(&model)).await;
    let mos = house.app.mos();
    mos.create_user("ann", None).await.unwrap();
    mos.create_cube(&UserId::from("ann"), NewCube::new("diary")).await.unwrap();
    let (queue, scope) = (mos.queue().unwrap(), Scope::of(&CubeId::from("diary")));
    queue.push(&scope, vec![NewJob::new(JobId::from("hopeless"), "count", json!({}))]).await.unwrap();
    let (consumer, lease) = ("a test".to_owned(), Duration::from_secs(60));
    let claimed = queue.claim(&ClaimRequest { consumer, limit: 1, lease, weights: Weights::default() }).await.unwrap();
    let failed = queue.fail(&claimed[0].ticket, "it cannot be done", None).await.unwrap();
    assert_eq!(failed, Failed::Dead);
    model.reply(Reply { cached_tokens: 5, ..Reply::text("Max.") });
    model.reply(Reply::text("Three."));
    for question in ["What is the name of my good old dog?", "How old is my good old dog by now?"] {
        mos.chat(Chat::new(question).user("ann")).await.unwrap().complete().await.unwrap();
    }
    let text = reqwest::get(format!("{}/metrics", house.url)).await.unwrap().text().await.unwrap();
    for line in [
        "mos_kv_hits_total 1\n",
        "mos_kv_saved_prefill_tokens_total 5\n",
        "mos_model_answers_total{model=\"scripted\"} 2\n",
        "mos_queue_jobs{state=\"dead\"} 1\n",
    ] {
        assert!(text.contains(line), "{line}\n{text}");
    }
    house.close().await;
}

#[tokio::test]
async fn who_has_no_key_sees_the_numbers_only_where_they_are_open() {
    let house = House::open(ServerOptions::default()).await;
    let refused = reqwest::get(format!("{}/metrics", house.url)).await.unwrap();
    assert_eq!(refused.status(), StatusCode::UNAUTHORIZED);
    house.close().await;
    let house = House::open(ServerOptions { metrics_open: true, ..ServerOptions::default() }).await;
    let shown = reqwest::get(format!("{}/metrics", house.url)).await.unwrap();
    assert_eq!(shown.status(), StatusCode::OK);
    house.close().await;
}

#[tokio::test]
async fn a_key_without_the_scope_admin_does_not_see_the_numbers() {
    let house = Guarded::open().await;
    let user = house.key(NewKey::user("ann")).await;
    assert_eq!(house.get("/metrics", &user).await.0, 403);
    assert_eq!(house.get("/metrics", &house.root).await.0, 200);
    house.close().await;
}
