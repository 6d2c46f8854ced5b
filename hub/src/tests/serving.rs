//! The real listener with TLS: answers, connection rules, graceful stop.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use genesis_shared::timestamp::Timestamp;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::world::{World, settings};
use crate::serve::{self, Running, ServeError};
use crate::setup::{self, Wanted};

async fn started() -> (tempfile::TempDir, Running) {
    let dir = tempfile::tempdir().unwrap();
    let data_dir = dir.path().to_owned();
    let wanted =
        Wanted { data_dir: data_dir.clone(), hosts: vec![], tls: None, delivery_kid: "hub-1".parse().unwrap() };
    setup::init(&wanted, Timestamp::from_millis(1_790_000_000_000)).await.unwrap();
    let running = serve::start(settings(&data_dir)).await.unwrap();
    (dir, running)
}

async fn connect(dir: &Path, running: &Running) -> TlsStream<TcpStream> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(dir.join("ca.pem")).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = config.with_root_certificates(roots).with_no_client_auth();
    let stream = TcpStream::connect(running.addr).await.unwrap();
    let name = ServerName::try_from("127.0.0.1").unwrap();
    TlsConnector::from(Arc::new(config)).connect(name, stream).await.unwrap()
}

async fn exchange(stream: &mut TlsStream<TcpStream>, request: &[u8]) -> String {
    stream.write_all(request).await.unwrap();
    let mut answer = Vec::new();
    let read = stream.read_to_end(&mut answer);
    // A server may close without the TLS farewell; what it said before counts.
    drop(tokio::time::timeout(Duration::from_secs(20), read).await.expect("an end"));
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn serves_over_tls_and_stops_in_order() {
    let (dir, running) = started().await;
    let mut stream = connect(dir.path(), &running).await;
    let answer = exchange(&mut stream, b"GET /readyz HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("x-request-id"), "{answer}");

    let second = serve::start(settings(dir.path())).await;
    assert!(matches!(second, Err(ServeError::Locked(_))), "one hub per folder");

    let addr = running.addr;
    running.stop();
    tokio::time::timeout(Duration::from_secs(20), running.wait()).await.expect("a stop").unwrap();
    assert!(TcpStream::connect(addr).await.is_err());
    let again = serve::start(settings(dir.path())).await.unwrap();
    again.stop();
    again.wait().await.unwrap();
}

#[tokio::test]
async fn a_client_that_sends_ten_megabytes_reads_its_refusal() {
    let (dir, running) = started().await;
    let mut stream = connect(dir.path(), &running).await;
    let size = 10 * 1024 * 1024;
    let head = format!(
        "POST /api/v1/sidecar/handshake HTTP/1.1\r\nhost: h\r\ncontent-type: application/json\r\n\
         content-length: {size}\r\nconnection: close\r\n\r\n"
    );
    let mut request = head.into_bytes();
    request.resize(request.len() + size, b' ');
    let answer = exchange(&mut stream, &request).await;
    assert!(answer.starts_with("HTTP/1.1 413") && answer.contains("too_large"), "{answer}");
    running.stop();
    running.wait().await.unwrap();
}

#[tokio::test]
async fn a_stop_answers_a_waiting_poll_and_does_not_wait_for_silent_connections() {
    let world = World::new().await;
    let droplet = world.enrol("d1").await;
    let running = serve::start_with(world.hub.settings.clone(), world.clock.clone()).await.unwrap();
    let dir = &world.hub.settings.data_dir;
    let _silent = connect(dir, &running).await;
    let mut stream = connect(dir, &running).await;
    let request = format!(
        "GET /api/v1/sidecar/commands?wait=25&nonce=0123456789abcdef HTTP/1.1\r\nhost: h\r\nauthorization: Bearer {}\r\n\r\n",
        droplet.token
    );
    let stop = async {
        while running.hub.notifier.waiting() == 0 {
            tokio::task::yield_now().await;
        }
        running.stop();
    };
    let both = async { tokio::join!(exchange(&mut stream, request.as_bytes()), stop) };
    let (answer, ()) = tokio::time::timeout(Duration::from_secs(5), both).await.expect("an answer long before 25 s");
    assert!(answer.starts_with("HTTP/1.1 204"), "{answer}");
    tokio::time::timeout(Duration::from_secs(5), running.wait()).await.expect("a stop within the grace").unwrap();
}
