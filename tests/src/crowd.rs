//! A hub in this process whose time the test sets, filled with a fleet of any size through its own handlers.

use axum::Router;
use axum::body::Body;
use axum::http::{Method, Request, StatusCode, header};
use genesis_hub::clock::Clock;
use genesis_hub::config::{Raw, Settings};
use genesis_hub::serve::{self, Running};
use genesis_hub::setup::{self, Wanted};
use genesis_shared::id::{Digest, DropletId, WorkspaceId};
use genesis_shared::timestamp::Timestamp;
use genesis_shared::trust::NamedKey;
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::task::JoinSet;
use tower::ServiceExt;

use crate::hub::handshake;
use crate::operator::{Operator, random};

/// The hub, listening, and its fleet.
pub struct Crowd {
    /// The hub.
    pub running: Running,
    /// Its time.
    pub clock: Clock,
    /// A token for everything.
    pub admin: String,
    /// Signs bundles.
    pub operator: Operator,
    /// Everybody.
    pub droplets: Vec<Member>,
    router: Router,
    folder: TempDir,
}

/// One of them.
#[derive(Clone)]
pub struct Member {
    /// Its id.
    pub id: DropletId,
    /// Its tenant.
    pub workspace: WorkspaceId,
    /// Its token.
    pub token: String,
}

impl Crowd {
    /// A hub that believes that it is `at`.
    pub async fn at(at: Timestamp) -> Self {
        let folder = TempDir::with_prefix("genesis-test-").unwrap();
        let data_dir = folder.path().join("hub");
        let delivery_kid = "hub-1".parse().unwrap();
        let wanted = Wanted { data_dir: data_dir.clone(), hosts: vec![], tls: None, delivery_kid };
        let made = setup::init(&wanted, at).await.unwrap();
        let raw: Raw = Raw { api_rate_per_s: Some(1_000_000), api_burst: Some(1_000_000), ..Raw::default() };
        let settings = Settings::new(&data_dir, "127.0.0.1:0".parse().unwrap(), raw).unwrap();
        let clock = Clock::manual(at);
        let running = serve::start_with(settings, clock.clone()).await.unwrap();
        let router = genesis_hub::api::router(running.hub.clone());
        let admin = "genesis_api_test".to_owned();
        let digest = Digest::of(admin.as_bytes());
        assert!(running.hub.store.create_api_token("test".into(), "admin".into(), digest, at).await.unwrap());
        let delivery = NamedKey { kid: "hub-1".parse().unwrap(), public_key: made.delivery_public_key };
        let operator = Operator::at(delivery, at);
        let crowd = Self { running, clock, admin, operator, droplets: Vec::new(), router, folder };
        let root = crowd.operator.root_document.clone();
        assert_eq!(crowd.call(Method::PUT, "/api/v1/trust-root", &crowd.admin, root).await.0, StatusCode::OK);
        crowd
    }

    /// Asks the hub's handlers, without a connection.
    pub async fn call(&self, method: Method, path: &str, token: &str, body: String) -> (StatusCode, Value) {
        call(&self.router, method, path, token, body).await
    }

    /// Registers and enrols these, many at a time.
    pub async fn enrol(&mut self, droplets: Vec<Value>) {
        let mut tasks = JoinSet::new();
        for droplet in droplets {
            let (router, admin) = (self.router.clone(), self.admin.clone());
            tasks.spawn(async move { member(&router, &admin, droplet).await });
            if tasks.len() >= 512 {
                self.droplets.push(tasks.join_next().await.unwrap().unwrap());
            }
        }
        self.droplets.extend(tasks.join_all().await);
        self.droplets.sort_by(|a, b| a.id.cmp(&b.id));
    }

    /// Each of these reports its health; `beat` says how it is.
    pub async fn beat(&self, members: &[Member], beat: impl Fn(&Member) -> Value) {
        let mut tasks = JoinSet::new();
        for member in members {
            let (router, token, beat) = (self.router.clone(), member.token.clone(), beat(member).to_string());
            tasks.spawn(async move {
                let path = "/api/v1/sidecar/heartbeat";
                let (status, answer) = call(&router, Method::POST, path, &token, beat).await;
                assert_eq!(status, StatusCode::OK, "{answer}");
            });
            if tasks.len() >= 512 {
                tasks.join_next().await.unwrap().unwrap();
            }
        }
        tasks.join_all().await;
    }

    /// Pushes commands to these targets on this queue; the number of jobs.
    pub async fn push(&self, targets: Value, queue: &str, commands: Value) -> usize {
        let mut bundle =
            self.operator.bundle_at(random_workspace(), serde_json::from_value(commands).unwrap(), self.clock.now());
        bundle.targets = serde_json::from_value(targets).unwrap();
        bundle.queue = queue.to_owned();
        let (status, answer) =
            self.call(Method::POST, "/api/v1/bundles", &self.admin, self.operator.sign(&bundle)).await;
        assert_eq!(status, StatusCode::OK, "{answer}");
        answer["job_ids"].as_array().unwrap().len()
    }

    /// What a droplet is given now.
    pub async fn poll(&self, member: &Member) -> Vec<Value> {
        let path = "/api/v1/sidecar/commands?wait=0&nonce=0123456789abcdef";
        let (_, answer) = self.call(Method::GET, path, &member.token, String::new()).await;
        answer["commands"].as_array().cloned().unwrap_or_default()
    }

    /// A droplet delivers these records, the first with this number.
    pub async fn deliver(&self, member: &Member, first: u64, records: Vec<Value>) {
        let at = self.clock.now();
        let records: Vec<_> = records
            .into_iter()
            .zip(first..)
            .map(|(record, seq)| json!({"seq": seq, "at": at, "record": record}))
            .collect();
        let body = json!({ "records": records }).to_string();
        let (status, answer) = self.call(Method::POST, "/api/v1/sidecar/results", &member.token, body).await;
        assert_eq!(status, StatusCode::OK, "{answer}");
    }

    /// The folder of the test.
    pub fn folder(&self) -> &std::path::Path {
        self.folder.path()
    }
}

fn random_workspace() -> WorkspaceId {
    WorkspaceId::from_random(random())
}

async fn member(router: &Router, admin: &str, droplet: Value) -> Member {
    let (id, workspace): (DropletId, _) =
        (droplet["droplet_id"].as_str().unwrap().parse().unwrap(), random_workspace());
    let mut create = droplet;
    create["workspace_id"] = json!(workspace);
    let (status, issued) = call(router, Method::POST, "/api/v1/droplets", admin, create.to_string()).await;
    assert_eq!(status, StatusCode::CREATED, "{issued}");
    let token = issued["provisioning_token"].as_str().unwrap().to_owned();
    let request = serde_json::to_string(&handshake(workspace, &id, token)).unwrap();
    let (status, answer) = call(router, Method::POST, "/api/v1/sidecar/handshake", "", request).await;
    assert_eq!(status, StatusCode::OK, "{answer}");
    Member { id, workspace, token: answer["sidecar_token"].as_str().unwrap().to_owned() }
}

async fn call(router: &Router, method: Method, path: &str, token: &str, body: String) -> (StatusCode, Value) {
    let mut request = Request::builder().method(method).uri(path).header(header::CONTENT_TYPE, "application/json");
    if !token.is_empty() {
        request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
    }
    let answer = router.clone().oneshot(request.body(Body::from(body)).unwrap()).await.unwrap();
    let (status, bytes) = (answer.status(), answer.into_body().collect().await.unwrap().to_bytes());
    (status, serde_json::from_slice(&bytes).unwrap_or_default())
}
