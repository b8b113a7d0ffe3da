//! Traces of a server as a collector of OpenTelemetry gets them.

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use serde_json::json as object;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, Runtime};

use crate::serving::Serving;
use crate::write;

/// What a program calls to hand spans over.
const EXPORT: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";

/// The trace that a caller is in, as it stands in a header and in what is sent.
const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const TRACE_BYTES: [u8; 16] = 0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736_u128.to_be_bytes();

/// Takes what programs send, and keeps the bytes.
struct Collector {
    _runtime: Runtime,
    address: SocketAddr,
    received: Arc<Mutex<Vec<u8>>>,
}

impl Collector {
    fn start() -> Self {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let (address, received) = (listener.local_addr().unwrap(), Arc::new(Mutex::new(Vec::new())));
        let kept = Arc::clone(&received);
        runtime.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(answer(stream, Arc::clone(&kept)));
            }
        });
        Self { _runtime: runtime, address, received }
    }

    fn has(&self, bytes: &[u8]) -> bool {
        self.received.lock().unwrap().windows(bytes.len()).any(|window| window == bytes)
    }
}

/// Answers every call of a connection as a server of gRPC does that takes everything.
async fn answer(stream: TcpStream, received: Arc<Mutex<Vec<u8>>>) {
    let mut connection = h2::server::handshake(stream).await.unwrap();
    while let Some(Ok((request, mut respond))) = connection.accept().await {
        let received = Arc::clone(&received);
        tokio::spawn(async move {
            assert_eq!(request.uri().path(), EXPORT);
            let mut body = request.into_body();
            while let Some(chunk) = body.data().await {
                let chunk = chunk.unwrap();
                body.flow_control().release_capacity(chunk.len()).unwrap();
                received.lock().unwrap().extend_from_slice(&chunk);
            }
            let head = http::Response::builder().header("content-type", "application/grpc").body(()).unwrap();
            let mut sending = respond.send_response(head, false).unwrap();
            // One message without fields.
            sending.send_data(vec![0_u8; 5].into(), false).unwrap();
            let mut trailers = http::HeaderMap::new();
            trailers.insert("grpc-status", http::HeaderValue::from_static("0"));
            sending.send_trailers(trailers).unwrap();
        });
    }
}

#[test]
fn a_collector_gets_the_spans_of_a_request_within_the_trace_of_its_caller() {
    let collector = Collector::start();
    let data = tempfile::tempdir().unwrap();
    let section = object!({"endpoint": format!("http://{}", collector.address), "service_name": "memories-of-a-test"});
    let settings = object!({"server": {"opentelemetry": section}}).to_string();
    let settings = write(data.path(), "settings.json", &settings);
    let server = Serving::start(data.path(), &["--config", &settings]);
    let parent = format!("traceparent: 00-{TRACE}-00f067aa0ba902b7-01\r\n");
    assert_eq!(server.get_with("/health?q=the-garage-code", &parent).0, 200);
    // Ending sends what is left.
    assert_eq!(server.signal("TERM"), Some(0));
    assert!(collector.has(&TRACE_BYTES), "the trace of the caller");
    for text in ["memories-of-a-test", "request", "/health", TRACE] {
        assert!(collector.has(text.as_bytes()), "{text}");
    }
    assert!(!collector.has(b"garage"), "what was asked stays here");
}

#[test]
fn a_collector_that_is_not_there_costs_nothing_but_traces() {
    let data = tempfile::tempdir().unwrap();
    let section = object!({"endpoint": "http://127.0.0.1:9"});
    let settings = object!({"server": {"opentelemetry": section}}).to_string();
    let settings = write(data.path(), "settings.json", &settings);
    let server = Serving::start(data.path(), &["--config", &settings]);
    assert_eq!(server.get_with("/health", "").0, 200);
    assert_eq!(server.signal("TERM"), Some(0));
}

#[test]
fn what_clients_of_the_tools_send_is_in_no_trace() {
    let collector = Collector::start();
    let data = tempfile::tempdir().unwrap();
    let section = object!({"endpoint": format!("http://{}", collector.address)});
    let settings = object!({"server": {"opentelemetry": section}}).to_string();
    let settings = write(data.path(), "settings.json", &settings);
    let server = Serving::start(data.path(), &["--compat-open", "--config", &settings]);
    let client = object!({"name": "quokkaburg", "version": "1"});
    let parameters = object!({"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": client});
    let body = object!({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": parameters}).to_string();
    let mut stream = std::net::TcpStream::connect(&server.address).unwrap();
    write!(
        stream,
        "POST /mcp HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\nAccept: application/json, \
         text/event-stream\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        server.address,
        body.len()
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert_eq!(server.signal("TERM"), Some(0));
    assert!(collector.has(b"/mcp"), "the request is there");
    assert!(!collector.has(b"quokkaburg"), "and nothing that it said");
}
