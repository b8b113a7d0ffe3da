//! What can go wrong with a server, and what is said then.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use mos_core::{Filter, GraphStore, RecordStore, StoreError, SystemClock, WriteBatch};
use mos_stores::{Neo4jOptions, Neo4jStore, Tenancy};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

use super::record::{batch, item, scope};
use super::server::Neo4jServer;
use crate::support::full_text;

async fn opened(options: Neo4jOptions) -> Result<Arc<Neo4jStore>, StoreError> {
    Neo4jStore::open(options, Arc::new(SystemClock)).await
}

fn assert_unavailable<T: std::fmt::Debug>(result: Result<T, StoreError>, advice: &str) {
    let error = result.unwrap_err();
    assert!(matches!(error, StoreError::Unavailable { backend: "neo4j", .. }), "{}", full_text(&error));
    let text = full_text(&error);
    assert!(text.contains(advice), "{advice}: {text}");
    assert!(!text.contains("hunter2"), "no secret is shown: {text}");
}

/// What a line does when it sees certain bytes from the client.
#[derive(Clone, Copy, Debug)]
enum Cut {
    /// It breaks before they arrive.
    Before,
    /// It breaks once they are answered, and does not let the answer through.
    After,
}

/// A line to the server that breaks as often as it is told when it sees `mark`, and returns its address.
async fn line(server: &Neo4jServer, mark: Vec<u8>, cut: Cut, n_cuts: usize) -> String {
    let target = server.uri.split("://").nth(1).unwrap().to_owned();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("bolt://{}", listener.local_addr().unwrap());
    let left = Arc::new(AtomicUsize::new(n_cuts));
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let (target, mark, left) = (target.clone(), mark.clone(), Arc::clone(&left));
            tokio::spawn(async move { carry(client, &target, &mark, cut, &left).await });
        }
    });
    address
}

async fn carry(client: TcpStream, target: &str, mark: &[u8], cut: Cut, left: &AtomicUsize) {
    let Ok(server) = TcpStream::connect(target).await else { return };
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let (is_cut, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(Notify::new()));
    let back = tokio::spawn({
        let (is_cut, answered) = (Arc::clone(&is_cut), Arc::clone(&answered));
        async move {
            let mut bytes = vec![0; 1 << 16];
            while let Ok(n) = from_server.read(&mut bytes).await
                && n > 0
            {
                if is_cut.load(Ordering::SeqCst) {
                    answered.notify_one();
                    break;
                }
                if to_client.write_all(&bytes[..n]).await.is_err() {
                    break;
                }
            }
            // The client is to wait until the line is broken, not to be told.
            std::future::pending::<()>().await;
        }
    });
    let mut bytes = vec![0; 1 << 16];
    let mut seen: Vec<u8> = Vec::new();
    while let Ok(n) = from_client.read(&mut bytes).await
        && n > 0
    {
        seen.extend(&bytes[..n]);
        let is_seen = seen.windows(mark.len()).any(|window| window == mark);
        let breaks = is_seen && left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1)).is_ok();
        if breaks && matches!(cut, Cut::After) {
            is_cut.store(true, Ordering::SeqCst);
            let _ = to_server.write_all(&bytes[..n]).await;
            answered.notified().await;
        }
        if breaks || to_server.write_all(&bytes[..n]).await.is_err() {
            break;
        }
        let keep = seen.len().saturating_sub(mark.len());
        seen.drain(..keep);
    }
    back.abort();
}

/// A COMMIT as it goes over the line.
fn commit_message() -> Vec<u8> {
    vec![0x00, 0x02, 0xb0, 0x12, 0x00, 0x00]
}

#[tokio::test]
async fn a_server_that_does_not_answer_is_named() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let nobody = opened(Neo4jOptions::at(format!("bolt://{free}"), "neo4j", "hunter2")).await;
    assert_unavailable(nobody, &free.to_string());
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let uri = format!("bolt://{}", silent.local_addr().unwrap());
    let options = Neo4jOptions {
        connect_timeout: Duration::from_millis(100),
        answer_timeout: Duration::from_millis(100),
        ..Neo4jOptions::at(uri, "neo4j", "hunter2")
    };
    assert_unavailable(opened(options).await, "in time");
}

#[tokio::test]
async fn another_protocol_is_named() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let uri = format!("bolt://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let _ = client.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
        }
    });
    let error = opened(Neo4jOptions::at(uri, "neo4j", "hunter2")).await.unwrap_err();
    assert!(matches!(&error, StoreError::Invalid(text) if text.contains("7687")), "{}", full_text(&error));
}

#[tokio::test]
async fn a_wrong_password_or_database_is_named() {
    let Some(server) = Neo4jServer::given() else { return };
    let refused = opened(Neo4jOptions::at(&server.uri, &server.user, "hunter2")).await;
    assert_unavailable(refused, "password");
    let options = Neo4jOptions { database: Some("nowhere".to_owned()), ..server.options() };
    let error = opened(options).await.unwrap_err();
    assert!(matches!(&error, StoreError::Invalid(text) if text.contains("db_name")), "{}", full_text(&error));
}

#[tokio::test]
async fn a_database_per_user_needs_the_enterprise_edition() {
    let Some(server) = Neo4jServer::given() else { return };
    let options =
        Neo4jOptions { database: Some("mostestann".to_owned()), tenancy: Tenancy::OwnDatabase, ..server.options() };
    match opened(options).await {
        Err(StoreError::Invalid(text)) => assert!(text.contains("use_multi_db: false"), "{text}"),
        Err(error) => panic!("{}", full_text(&error)),
        Ok(_) => {
            let drop = neo4rs::Query::new("DROP DATABASE mostestann IF EXISTS".to_owned());
            server.graph().run_on("system", drop).await.unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_line_that_breaks_in_a_write_is_mended_unseen() {
    let Some(server) = Neo4jServer::given() else { return };
    let uri = line(&server, b"the marked text".to_vec(), Cut::Before, 1).await;
    let store =
        opened(Neo4jOptions { tenant_prefix: server.options().tenant_prefix, ..at(&server, &uri) }).await.unwrap();
    store.apply(&scope("c"), batch(vec![item("a", "before")])).await.unwrap();
    let receipt = store.apply(&scope("c"), batch(vec![item("a", "the marked text")])).await.unwrap();
    assert_eq!(receipt.sequence, 2, "what was begun on the broken line was undone");
    assert_eq!(store.history(&scope("c"), &"a".into()).await.unwrap().len(), 2);
}

fn at(server: &Neo4jServer, uri: &str) -> Neo4jOptions {
    Neo4jOptions::at(uri, &server.user, &server.password)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_line_that_stays_broken_leaves_nothing_behind() {
    let Some(server) = Neo4jServer::given() else { return };
    let uri = line(&server, b"the marked text".to_vec(), Cut::Before, usize::MAX).await;
    let store =
        opened(Neo4jOptions { tenant_prefix: server.options().tenant_prefix, ..at(&server, &uri) }).await.unwrap();
    let write = || WriteBatch { idempotency_key: Some("k".to_owned()), ..batch(vec![item("a", "the marked text")]) };
    assert_unavailable(store.apply(&scope("c"), write()).await, "nothing was changed");
    let other = server.store().await;
    assert_eq!(GraphStore::count(&*other, &scope("c"), &Filter::Everything).await.unwrap(), 0);
    assert_eq!(other.history(&scope("c"), &"a".into()).await.unwrap(), []);
    let written = tokio::time::timeout(Duration::from_secs(20), other.apply(&scope("c"), write())).await;
    assert!(!written.unwrap().unwrap().replayed, "no lock is left, no key is used up");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_answer_to_a_commit_is_told_as_such() {
    let Some(server) = Neo4jServer::given() else { return };
    let direct = server.store().await;
    direct.apply(&scope("c"), batch(vec![item("first", "x")])).await.unwrap();
    let uri = line(&server, commit_message(), Cut::After, 1).await;
    let prefix = server.options().tenant_prefix;
    let store = opened(Neo4jOptions { tenant_prefix: prefix, ..at(&server, &uri) }).await.unwrap();
    assert_unavailable(store.apply(&scope("c"), batch(vec![item("a", "x")])).await, "may have happened or not");
    assert_eq!(direct.nodes(&scope("c"), &["a".into()]).await.unwrap().len(), 1, "this time it has");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_answer_to_a_commit_with_a_key_is_asked_for_again() {
    let Some(server) = Neo4jServer::given() else { return };
    let uri = line(&server, commit_message(), Cut::After, 1).await;
    let prefix = server.options().tenant_prefix;
    let store = opened(Neo4jOptions { tenant_prefix: prefix, ..at(&server, &uri) }).await.unwrap();
    let write = WriteBatch { idempotency_key: Some("k".to_owned()), ..batch(vec![item("a", "x")]) };
    let receipt = store.apply(&scope("c"), write).await.unwrap();
    assert!(receipt.replayed, "the first attempt had done it");
    assert_eq!(store.history(&scope("c"), &"a".into()).await.unwrap().len(), 1, "it was done once");
}

/// A request that is given up must not keep its cube locked.
#[tokio::test(flavor = "multi_thread")]
async fn a_caller_that_goes_away_leaves_no_lock() {
    let Some(server) = Neo4jServer::given() else { return };
    let store = server.store().await;
    for number in 0..20 {
        let task = tokio::spawn({
            let store = Arc::clone(&store);
            async move { store.apply(&scope("c"), batch(vec![item(&format!("{number}"), "x")])).await }
        });
        tokio::time::sleep(Duration::from_millis(number)).await;
        task.abort();
    }
    let ours = scope("c");
    let write = store.apply(&ours, batch(vec![item("last", "x")]));
    tokio::time::timeout(Duration::from_secs(20), write).await.unwrap().unwrap();
    let history = store.history(&scope("c"), &"last".into()).await.unwrap();
    assert_eq!(history.len(), 1);
}
