//! The name of a request, in its answer and in the log.

use std::io;
use std::sync::{Arc, Mutex};

use mos::product::ProductError;
use mos_core::ModelError;
use mos_server::ServerOptions;
use reqwest::Client;

use crate::house::House;

async fn named(house: &House, path: &str, headers: &[(&str, &str)]) -> String {
    let mut request = Client::new().get(format!("{}{path}", house.url));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.send().await.unwrap().headers()["x-trace-id"].to_str().unwrap().to_owned()
}

#[tokio::test]
async fn an_answer_has_the_name_that_its_request_had() {
    let house = House::open(ServerOptions::default()).await;
    let both = [("x-trace-id", "second"), ("g-trace-id", "first"), ("trace-id", "third")];
    assert_eq!(named(&house, "/health", &both).await, "first");
    assert_eq!(named(&house, "/nowhere", &both[..1]).await, "second");
    let parent = [("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")];
    assert_eq!(named(&house, "/health", &parent).await, "4bf92f3577b34da6a3ce929d0e0e4736");
    let made = named(&house, "/health", &[("x-trace-id", "not a name")]).await;
    assert_eq!(made.len(), 32);
    assert_ne!(made, named(&house, "/health", &[]).await);
    let refused = named(&house, "/health", &[("x-trace-id", "seen"), ("host", "evil.example")]).await;
    assert_eq!(refused, "seen", "who is refused can be found in the log as well");
    house.close().await;
}

/// What was logged.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn the_log_names_the_request_and_tells_nothing_that_it_asked() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_ansi(false)
        .with_max_level(tracing::Level::INFO)
        .with_writer(move || writer.clone())
        .finish();
    // For all tests of this program: what others log first, without a subscriber, would keep places from telling this one.
    tracing::subscriber::set_global_default(subscriber).unwrap();
    let house = House::open(ServerOptions::default()).await;
    named(&house, "/health?q=the-garage-code", &[("x-trace-id", "request-7")]).await;
    house.close().await;
    // Such an error quotes the model, which may repeat what it was told.
    let quoted = ModelError::BadAnswer("the model gave no JSON. It began: \"the garage code is 7391\"".to_owned());
    let told = ProductError::from(quoted);
    assert!(told.status == 500 && !told.message.contains("garage"), "{told}");
    let text = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    let line = text
        .lines()
        .find(|line| line.contains("answered") && line.contains("request-7"))
        .unwrap_or_else(|| panic!("{text}"));
    assert!(line.contains("/health") && line.contains("200"), "{line}");
    assert!(text.contains("the answer of a model broke off or could not be used"), "{text}");
    assert!(!text.contains("garage"), "{text}");
}
