//! A hub, operators and droplets for the tests.

use std::path::PathBuf;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, Method, Request, StatusCode, header};
use data_encoding::BASE64URL_NOPAD;
use genesis_shared::id::{DropletId, PublicKey, WorkspaceId};
use genesis_shared::jws::signing_input;
use genesis_shared::timestamp::Timestamp;
use genesis_shared::wire::{HandshakeRequest, Preflight, handshake_proof};
use genesis_shared::{bundle, id::Digest, trust};
use http_body_util::BodyExt;
use ring::signature::{Ed25519KeyPair, KeyPair};
use serde_json::{Value, json};
use tower::ServiceExt;

use crate::api;
use crate::clock::Clock;
use crate::config::{Raw, Settings};
use crate::hub::Hub;
use crate::random;
use crate::setup::{self, Wanted};

/// When the tests begin.
pub const START: &str = "2026-11-24T12:00:00Z";
/// No test waits longer for an answer.
const PATIENCE: Duration = Duration::from_secs(20);

/// An Ed25519 key with a name.
pub struct Key {
    pub kid: String,
    pub pkcs8: Vec<u8>,
    pair: Ed25519KeyPair,
}

impl Key {
    pub fn new(kid: &str) -> Self {
        let pkcs8 = Ed25519KeyPair::generate_pkcs8(&ring::rand::SystemRandom::new()).unwrap().as_ref().to_vec();
        let pair = Ed25519KeyPair::from_pkcs8(&pkcs8).unwrap();
        Self { kid: kid.to_owned(), pkcs8, pair }
    }
    pub fn public(&self) -> PublicKey {
        PublicKey::from_bytes(self.pair.public_key().as_ref().try_into().unwrap())
    }
    pub fn sign(&self, message: &[u8]) -> String {
        BASE64URL_NOPAD.encode(self.pair.sign(message).as_ref())
    }
    /// A JWS in flattened JSON serialisation.
    pub fn jws(&self, typ: &str, payload: &Value) -> String {
        let protected = json!({"alg": "EdDSA", "kid": self.kid, "typ": typ}).to_string();
        let (protected, payload) =
            (BASE64URL_NOPAD.encode(protected.as_bytes()), BASE64URL_NOPAD.encode(payload.to_string().as_bytes()));
        let signature = self.sign(&signing_input(&protected, &payload));
        json!({"payload": payload, "protected": protected, "signature": signature}).to_string()
    }
}

/// An answer.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Value,
}

impl Answer {
    pub fn code(&self) -> &str {
        self.body["code"].as_str().unwrap_or("")
    }
    #[track_caller]
    pub fn ok(self) -> Value {
        assert!(self.status.is_success(), "{} {}", self.status, self.body);
        self.body
    }
    #[track_caller]
    pub fn refused(self, status: u16, code: &str) -> Value {
        assert_eq!((self.status.as_u16(), self.code()), (status, code), "{}", self.body);
        assert!(self.body["message"].as_str().is_some_and(|message| message.len() > 10), "{}", self.body);
        assert_eq!(self.body["request_id"].as_str(), self.headers["x-request-id"].to_str().ok());
        assert_eq!(self.headers[header::CONTENT_TYPE], "application/problem+json");
        assert_eq!((self.body["status"].as_u64(), &self.body["detail"]), (Some(status.into()), &self.body["message"]));
        assert_eq!(self.body["type"], format!("urn:genesis:problem:{code}"));
        self.body
    }
}

/// A hub with its operators.
pub struct World {
    pub _dir: tempfile::TempDir,
    pub clock: Clock,
    pub hub: Hub,
    pub router: Router,
    pub root: Key,
    pub operator: Key,
    pub admin: String,
}

pub fn settings(data_dir: &std::path::Path) -> Settings {
    let raw = Raw { lease_ttl_ms: Some(60_000), ..Raw::default() };
    Settings::new(data_dir, "127.0.0.1:0".parse().unwrap(), raw).unwrap()
}

impl World {
    /// With a trust root.
    pub async fn new() -> Self {
        let world = Self::without_trust_root().await;
        world.put_root(&world.root_document(1)).await.ok();
        world
    }

    pub async fn without_trust_root() -> Self {
        Self::configured(|_| {}).await
    }

    /// With other settings than the tests' usual ones, and no trust root.
    pub async fn configured(change: impl FnOnce(&mut Settings)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let start: Timestamp = START.parse().unwrap();
        let data_dir: PathBuf = dir.path().join("hub");
        let wanted =
            Wanted { data_dir: data_dir.clone(), hosts: vec![], tls: None, delivery_kid: "hub-1".parse().unwrap() };
        setup::init(&wanted, start).await.unwrap();
        let clock = Clock::manual(start);
        let mut settings = settings(&data_dir);
        change(&mut settings);
        let hub = Hub::open(settings, clock.clone()).unwrap();
        let router = api::router(hub.clone());
        let mut world = Self {
            _dir: dir,
            clock,
            hub,
            router,
            root: Key::new("root-1"),
            operator: Key::new("ops-1"),
            admin: String::new(),
        };
        world.admin = world.api_token("admin", "admin").await;
        world
    }

    /// The process ends and a new one opens the folder.
    pub async fn restart(&mut self) {
        self.restart_with(|_| ()).await;
    }

    /// The same with other settings.
    pub async fn restart_with(&mut self, change: impl FnOnce(&mut Settings)) {
        let mut settings = self.hub.settings.clone();
        change(&mut settings);
        self.hub.store.close().await.unwrap();
        self.hub = Hub::open(settings, self.clock.clone()).unwrap();
        self.router = api::router(self.hub.clone());
    }

    /// The process dies without a word, and another finds the files as they were at that moment.
    pub fn crash(&mut self) {
        let mut settings = self.hub.settings.clone();
        let (before, after) = (settings.data_dir.clone(), settings.data_dir.with_extension("after"));
        std::fs::create_dir(&after).unwrap();
        for file in ["hub.db", "hub.db-wal", "delivery.key"] {
            std::fs::copy(before.join(file), after.join(file)).unwrap();
        }
        settings.data_dir = after;
        self.hub = Hub::open(settings, self.clock.clone()).unwrap();
        self.router = api::router(self.hub.clone());
    }

    pub async fn api_token(&self, name: &str, scopes: &str) -> String {
        let token = random::token();
        let digest = Digest::of(token.as_bytes());
        assert!(self.hub.store.create_api_token(name.into(), scopes.into(), digest, self.clock.now()).await.unwrap());
        token
    }

    pub async fn send(&self, request: Request<Body>) -> Answer {
        let answer = tokio::time::timeout(PATIENCE, self.router.clone().oneshot(request)).await.expect("an answer");
        let (parts, body) = answer.unwrap().into_parts();
        // A stream has no end to wait for.
        let streams = parts.headers.get(header::CONTENT_TYPE).is_some_and(|kind| kind == "text/event-stream");
        let bytes = if streams { Bytes::new() } else { body.collect().await.unwrap().to_bytes() };
        let kind = parts.headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or("");
        let body = match bytes.is_empty() {
            true => Value::Null,
            false if kind.ends_with("json") => serde_json::from_slice(&bytes).expect("JSON"),
            false => Value::String(String::from_utf8(bytes.to_vec()).expect("UTF-8")),
        };
        Answer { status: parts.status, headers: parts.headers, body }
    }

    pub async fn call(&self, method: Method, path: &str, token: &str, body: impl Into<Body>) -> Answer {
        let mut request = Request::builder().method(method).uri(path).header(header::CONTENT_TYPE, "application/json");
        if !token.is_empty() {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        self.send(request.body(body.into()).unwrap()).await
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.call(Method::GET, path, &self.admin, Body::empty()).await
    }
    pub async fn post(&self, path: &str, body: impl Into<Body>) -> Answer {
        self.call(Method::POST, path, &self.admin, body).await
    }

    pub fn root_document(&self, version: u64) -> String {
        let payload = json!({
            "version": version, "issued_at": START, "expires_at": "2030-01-01T00:00:00Z",
            "root": {"keys": [{"kid": "root-1", "public_key": self.root.public()}], "threshold": 1},
            "operators": [{"kid": "ops-1", "public_key": self.operator.public(),
                "allow": [{"class": "read"}, {"class": "change"}],
                "not_before": "2026-01-01T00:00:00Z", "not_after": "2030-01-01T00:00:00Z"}],
            "signers": {"read": 1, "operate": 1, "change": 1, "destroy": 2},
            "delivery": [{"kid": "hub-1", "public_key": self.delivery_key()}],
            "recovery": {"kid": "rec-1", "public_key": Key::new("rec-1").public()},
        });
        self.root.jws(trust::TYP, &payload)
    }

    fn delivery_key(&self) -> PublicKey {
        let pkcs8 = std::fs::read(setup::delivery_key(&self.hub.settings.data_dir)).unwrap();
        crate::delivery::public_key(&pkcs8).unwrap()
    }

    pub async fn put_root(&self, document: &str) -> Answer {
        self.call(Method::PUT, "/api/v1/trust-root", &self.admin, document.to_owned()).await
    }

    /// A bundle's payload that is acceptable; tests change it.
    pub fn payload(&self, targets: Value) -> Value {
        json!({
            "id": random::bundle_id(), "issuer": "ops-1", "issued_at": START, "not_before": START,
            "not_after": "2026-11-25T12:00:00Z", "targets": targets, "commands": [{"action": "HEALTH_CHECK"}],
        })
    }
    pub fn sign(&self, payload: &Value) -> String {
        self.operator.jws(bundle::TYP, payload)
    }
    pub async fn push(&self, document: &str) -> Answer {
        self.post("/api/v1/bundles", document.to_owned()).await
    }
    /// Queues one job and gives its id.
    pub async fn queue(&self, droplet: &Droplet) -> String {
        let document = self.sign(&self.payload(json!({"workspaces": [droplet.workspace]})));
        self.push(&document).await.ok()["job_ids"][0].as_str().unwrap().to_owned()
    }
    pub async fn job(&self, id: &str) -> Value {
        self.get(&format!("/api/v1/jobs/{id}")).await.ok()
    }
    pub async fn state(&self, id: &str) -> String {
        self.job(id).await["state"].as_str().unwrap().to_owned()
    }
    pub async fn events(&self) -> Vec<String> {
        self.hub.store.events(None, 100).await.unwrap().into_iter().map(|event| event.code).collect()
    }

    /// Registers a droplet; it has a provisioning token and no identity.
    pub async fn register(&self, name: &str) -> Droplet {
        let workspace = WorkspaceId::from_random(random::bytes());
        let body = json!({"workspace_id": workspace, "droplet_id": name, "region": "fra1", "labels": {"ring": name}});
        let answer = self.post("/api/v1/droplets", body.to_string()).await.ok();
        Droplet {
            id: name.parse().unwrap(),
            workspace,
            provisioning: answer["provisioning_token"].as_str().unwrap().to_owned(),
            identity: Key::new("identity"),
            token: String::new(),
        }
    }

    /// Registers and enrols a droplet.
    pub async fn enrol(&self, name: &str) -> Droplet {
        let mut droplet = self.register(name).await;
        let answer = self.handshake(&droplet.handshake()).await.ok();
        droplet.token = answer["sidecar_token"].as_str().unwrap().to_owned();
        droplet
    }

    pub async fn handshake(&self, request: &HandshakeRequest) -> Answer {
        let body = serde_json::to_string(request).unwrap();
        self.call(Method::POST, "/api/v1/sidecar/handshake", "", body).await
    }

    /// Polls without waiting.
    pub async fn poll(&self, droplet: &Droplet) -> Vec<Value> {
        let path = "/api/v1/sidecar/commands?wait=0&nonce=0123456789abcdef";
        let answer = self.call(Method::GET, path, &droplet.token, Body::empty()).await;
        if answer.status == StatusCode::NO_CONTENT {
            return Vec::new();
        }
        answer.ok()["commands"].as_array().unwrap().clone()
    }

    /// Delivers outbox records with these numbers.
    pub async fn deliver(&self, droplet: &Droplet, records: Vec<(u64, Value)>) -> Answer {
        let records: Vec<_> =
            records.into_iter().map(|(seq, record)| json!({"seq": seq, "at": START, "record": record})).collect();
        let body = json!({"records": records}).to_string();
        self.call(Method::POST, "/api/v1/sidecar/results", &droplet.token, body).await
    }
}

/// A droplet as it acts.
pub struct Droplet {
    pub id: DropletId,
    pub workspace: WorkspaceId,
    pub provisioning: String,
    pub identity: Key,
    pub token: String,
}

impl Droplet {
    pub fn handshake(&self) -> HandshakeRequest {
        let mut request = HandshakeRequest {
            provisioning_token: self.provisioning.clone(),
            workspace_id: self.workspace,
            droplet_id: self.id.clone(),
            droplet_ip: None,
            webhook_url: None,
            agent_version: "0.1.0".into(),
            n8n_version: None,
            identity_key: self.identity.public(),
            sealing_key: Key::new("sealing").public(),
            boot_epoch: "1".into(),
            journal_high_water: 0,
            outbox_next: 1,
            preflight: Preflight::default(),
            proof: String::new(),
        };
        self.prove(&mut request);
        request
    }
    pub fn prove(&self, request: &mut HandshakeRequest) {
        request.proof = self.identity.sign(&handshake_proof(request));
    }
    pub fn heartbeat(&self) -> Value {
        json!({
            "workspace_id": self.workspace, "droplet_id": self.id, "timestamp": START, "state": "ACTIVE_HEALTHY",
            "n8n_status": "running", "n8n_version": "2.8.4", "active_workflows": 7, "cpu_usage_percent": 1.5,
            "memory_usage_mb": 1, "memory_total_mb": 2, "disk_usage_percent": 3.0, "swap_used_mb": 0,
            "uptime_seconds": 9, "agent_version": "0.1.0", "boot_epoch": "1", "journal_high_water": 0, "outbox_depth": 0
        })
    }
}

/// A result's output with a number that no float holds.
pub const OUTPUT: &str = r#"[{"big":12345678901234567890123.45}]"#;

/// Record bodies.
pub fn accepted(job: &str) -> Value {
    json!({"accepted": {"job_id": job}})
}
pub fn result(job: &str, state: &str) -> Value {
    json!({"result": {
        "job_id": job, "bundle_id": null, "state": state, "code": "ok", "message": "done", "retryable": false,
        "started_at": START, "finished_at": START, "steps": [],
        "output": serde_json::from_str::<Value>(OUTPUT).unwrap()
    }})
}
