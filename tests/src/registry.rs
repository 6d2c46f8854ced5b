//! A registry with one small image, as far as an engine asks one (OCI distribution specification, "Pull"). An engine
//! speaks plain HTTP with registries on the loopback.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use genesis_shared::id::Digest;
use genesis_shared::stack::ImageRef;
use serde_json::{Value, json};

const MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
const CONFIG: &str = "application/vnd.docker.container.image.v1+json";
const LAYER: &str = "application/vnd.docker.image.rootfs.diff.tar.gzip";

type Content = Arc<BTreeMap<String, (&'static str, Vec<u8>)>>;

/// A running registry; it ends with the test's runtime.
pub struct Registry {
    /// The image in it.
    pub image: ImageRef,
    /// An image that is not in it.
    pub absent: ImageRef,
}

impl Registry {
    /// Starts one whose image holds this text in its one file, so that no other test has the same.
    pub async fn start(text: &str) -> Self {
        let layer = tar_of("text", text.as_bytes());
        let config = json!({
            "architecture": "amd64", "os": "linux", "config": {"Env": ["KIND=registry"], "Cmd": ["/text"]},
            "rootfs": {"type": "layers", "diff_ids": [Digest::of(&layer).to_string()]},
        });
        let config = config.to_string().into_bytes();
        let part = |kind: &str, bytes: &[u8]| -> Value {
            json!({"mediaType": kind, "size": bytes.len(), "digest": Digest::of(bytes).to_string()})
        };
        let manifest = json!({
            "schemaVersion": 2, "mediaType": MANIFEST,
            "config": part(CONFIG, &config), "layers": [part(LAYER, &layer)],
        });
        let manifest = manifest.to_string().into_bytes();
        let digest = Digest::of(&manifest);
        let all = [(MANIFEST, manifest), (CONFIG, config), (LAYER, layer)];
        let content = all.map(|(kind, bytes)| (Digest::of(&bytes).to_string(), (kind, bytes)));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let routes = Router::new()
            .route("/v2/", get(async || "{}"))
            .route("/v2/small/{kind}/{digest}", get(find))
            .with_state(Arc::new(BTreeMap::from(content)));
        tokio::spawn(async move { axum::serve(listener, routes).await });
        let image = |digest: Digest| format!("127.0.0.1:{port}/small:1@{digest}").parse().unwrap();
        Self { image: image(digest), absent: image(Digest::of(b"nothing")) }
    }
}

async fn find(State(content): State<Content>, Path((_, digest)): Path<(String, String)>) -> Response {
    let Some((kind, bytes)) = content.get(&digest) else {
        let errors = json!({"errors": [{"code": "MANIFEST_UNKNOWN", "message": "manifest unknown"}]});
        return (StatusCode::NOT_FOUND, [(header::CONTENT_TYPE, "application/json")], errors.to_string())
            .into_response();
    };
    let digest_header = ("docker-content-digest", digest.as_str());
    ([(header::CONTENT_TYPE.as_str(), *kind), digest_header], bytes.clone()).into_response()
}

/// A tar archive with one file (POSIX.1-1988 ustar).
fn tar_of(name: &str, content: &[u8]) -> Vec<u8> {
    let mut head = [0_u8; 512];
    let mut put = |at: usize, text: &str| head[at..at + text.len()].copy_from_slice(text.as_bytes());
    put(0, name);
    put(100, "0000644\0");
    put(108, "0000000\0");
    put(116, "0000000\0");
    put(124, &format!("{:011o}\0", content.len()));
    put(136, "00000000000\0");
    put(148, "        0");
    put(257, "ustar\u{0}00");
    let sum: u32 = head.iter().map(|&byte| u32::from(byte)).sum();
    head[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    let mut tar = head.to_vec();
    tar.extend_from_slice(content);
    tar.resize(tar.len().next_multiple_of(512) + 1024, 0);
    tar
}
