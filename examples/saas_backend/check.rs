//! A short session over HTTP: two users, two cubes, and what each of them may do.

use std::net::SocketAddr;

use anyhow::Context;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// The service that is asked.
struct Service {
    address: SocketAddr,
}

impl Service {
    /// Asks, tells what was answered, and refuses another status than the one expected.
    async fn call(&self, key: &str, route: &str, body: Value, expected: u16) -> anyhow::Result<Value> {
        let (status, answer) = post(self.address, route, key, &body).await?;
        // Keys are for those who use them.
        let shown = if answer.get("key").is_some() { "(a key)".to_owned() } else { answer.to_string() };
        println!("{status} {route} {shown}");
        anyhow::ensure!(status == expected, "{route} answered {status}, not {expected}");
        Ok(answer)
    }
}

/// Plays the session.
///
/// # Errors
/// Answers that are not as they should be.
pub(crate) async fn play(address: SocketAddr, operator_key: &str) -> anyhow::Result<()> {
    println!("Checking the service at http://{address}.");
    let service = Service { address };
    let ann = service.call(operator_key, "/users", json!({"user_id": "ann"}), 200).await?;
    let bob = service.call(operator_key, "/users", json!({"user_id": "bob"}), 200).await?;
    let (ann, bob) = (text(&ann, "key")?, text(&bob, "key")?);
    println!("Without a key nobody gets in, and users make no users:");
    service.call("guessed", "/search", json!({"query": "code"}), 401).await?;
    service.call(ann, "/users", json!({"user_id": "eve"}), 401).await?;

    println!("Each user tells a cube of their own something:");
    let told =
        [(ann, "ann/house", "The garage code is in the blue notebook."), (bob, "bob/work", "The demo is on Friday.")];
    for (key, cube, fact) in told {
        service.call(key, "/cubes", json!({"cube_id": cube}), 200).await?;
        let messages = json!([{"role": "user", "content": fact}]);
        service.call(key, "/add", json!({"cube_id": cube, "messages": messages}), 200).await?;
    }

    println!("Bob cannot read what is Ann's, and cannot give himself the right:");
    let asked = json!({"query": "Where is the garage code?", "cube_ids": ["ann/house"]});
    service.call(bob, "/search", asked.clone(), 403).await?;
    service.call(bob, "/share", json!({"cube_id": "ann/house", "user_id": "bob"}), 403).await?;

    println!("Ann shares her cube, and Bob finds it and is answered from it:");
    service.call(ann, "/share", json!({"cube_id": "ann/house", "user_id": "bob"}), 200).await?;
    let found = service.call(bob, "/search", asked.clone(), 200).await?;
    let best = found.pointer("/text_mem/0/memories/0/memory").and_then(Value::as_str).unwrap_or_default();
    anyhow::ensure!(best.contains("blue notebook"), "Bob should find the notebook, not `{best}`");
    let answered = service.call(bob, "/chat", asked, 200).await?;
    let cube = answered.pointer("/memories/0/cube_id").and_then(Value::as_str).unwrap_or_default();
    anyhow::ensure!(cube == "ann/house", "the answer should rest on Ann's cube, not on `{cube}`");
    println!("All answers were as they should be.");
    Ok(())
}

fn text<'a>(answer: &'a Value, field: &str) -> anyhow::Result<&'a str> {
    answer.get(field).and_then(Value::as_str).with_context(|| format!("the answer has no `{field}`"))
}

/// Sends one request on a connection of its own and returns the status and the body of the answer.
async fn post(address: SocketAddr, route: &str, key: &str, body: &Value) -> anyhow::Result<(u16, Value)> {
    let body = body.to_string();
    let mut stream = TcpStream::connect(address).await?;
    let head = format!(
        "POST {route} HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {key}\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(body.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    let (head, body) = answer.split_once("\r\n\r\n").context("the answer broke off")?;
    let status = head.split(' ').nth(1).context("the answer has no status")?;
    let body = serde_json::from_str(body).with_context(|| format!("the answer is no JSON: {body}"))?;
    Ok((status.parse()?, body))
}
