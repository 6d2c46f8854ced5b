//! The same over a socket: real bytes, several connections, faults that close them.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::timeout,
};

use super::super::{Config, Fault, Kind, Phase, Shared, Standin};
use super::owner;

const PATIENCE: Duration = Duration::from_secs(10);

async fn ask(address: &str, method: &str, path: &str, body: &Value) -> String {
    let exchange = async {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let body = body.to_string();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut bytes = Vec::new();
        // A connection that is reset reads as one that ends.
        drop(stream.read_to_end(&mut bytes).await);
        String::from_utf8(bytes).unwrap()
    };
    timeout(PATIENCE, exchange).await.expect("the stand-in answers or closes")
}

async fn start() -> (Shared, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let shared = Shared::new(Standin::new(Config::default(), 1));
    let server = shared.clone();
    tokio::spawn(async move { server.serve(listener).await });
    (shared, address)
}

#[tokio::test]
async fn answers_over_http_and_shows_its_state() {
    let (shared, address) = start().await;
    let made = ask(&address, "POST", "/rest/owner/setup", &owner()).await;
    assert!(made.starts_with("HTTP/1.1 200 OK\r\n"), "{made}");
    assert!(made.contains("set-cookie: n8n-auth=eyJ"));
    let state = ask(&address, "GET", "/__standin/state", &json!({})).await;
    assert!(state.contains(r#""owner":"o@example.com""#) && state.contains(r#""path":"/rest/owner/setup","count":1"#));
    assert!(ask(&address, "POST", "/__standin/reset", &json!({})).await.contains(r#"{"ok":true}"#));
    assert!(shared.lock().n8n.owner.is_none());
}

#[tokio::test]
async fn the_ambiguous_fault_handles_and_then_closes() {
    let (shared, address) = start().await;
    let fault = json!({ "method": "POST", "path": "/rest/owner/setup", "kind": "drop_after" });
    assert!(ask(&address, "POST", "/__standin/faults", &fault).await.contains("200 OK"));
    assert_eq!(ask(&address, "POST", "/rest/owner/setup", &owner()).await, "");
    assert!(shared.lock().n8n.owner.is_some());
}

#[tokio::test]
async fn half_a_body_breaks_off_before_its_length() {
    let (shared, address) = start().await;
    shared.lock().faults.push(Fault::once("GET", "/rest/settings", Kind::HalfBody));
    let whole = ask(&address, "GET", "/__standin/state", &json!({})).await;
    assert!(whole.ends_with('}'));
    let half = ask(&address, "GET", "/rest/settings", &json!({})).await;
    let (head, body) = half.split_once("\r\n\r\n").unwrap_or((half.as_str(), ""));
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
    assert_eq!(body.len(), length.parse::<usize>().unwrap() / 2);
}

#[tokio::test]
async fn a_hanging_request_ends_when_released() {
    let (shared, address) = start().await;
    shared.lock().faults.push(Fault::once("GET", "/healthz", Kind::Hang));
    let hanging = tokio::spawn({
        let address = address.clone();
        async move { ask(&address, "GET", "/healthz", &json!({})).await }
    });
    while shared.lock().count("GET", "/healthz") == 0 {
        tokio::task::yield_now().await;
    }
    assert!(!hanging.is_finished());
    assert!(ask(&address, "GET", "/healthz/readiness", &json!({})).await.contains("200 OK"));
    shared.release();
    assert_eq!(timeout(PATIENCE, hanging).await.unwrap().unwrap(), "");
}

#[tokio::test]
async fn a_refusing_process_closes_connections() {
    let (shared, address) = start().await;
    shared.lock().phase = Phase::Refusing;
    let mut stream = timeout(PATIENCE, TcpStream::connect(&address)).await.unwrap().unwrap();
    let mut bytes = Vec::new();
    drop(timeout(PATIENCE, stream.read_to_end(&mut bytes)).await.unwrap());
    assert!(bytes.is_empty());
}
