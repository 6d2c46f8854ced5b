//! What the agent believes of n8n, checked with the same functions against the stand-in and the real one, so that the
//! stand-in cannot drift from the truth.
#![allow(
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    reason = "a test that cannot go on, or meets anything else, fails"
)]

use std::rc::Rc;

use genesis_agent::config::N8nSettings;
use genesis_agent::ports::{ErrorKind, Workflows};
use genesis_agent::real::clock::RealEntropy;
use genesis_agent::real::files::RealFiles;
use genesis_agent::real::n8n::{HttpTransport, N8n as Client};
use genesis_shared::report::N8nStatus;
use genesis_shared::secret::Secret;
use genesis_tests::n8n::{Kind, N8n};
use serde_json::{Value, json};
use tempfile::TempDir;

type Port = Client<HttpTransport, RealFiles, RealEntropy>;

struct Scene {
    n8n: N8n,
    folder: TempDir,
}

impl Scene {
    async fn new(kind: Kind) -> Self {
        genesis_agent::real::install_crypto();
        let folder = tempfile::tempdir().unwrap();
        Self { n8n: N8n::start(kind, folder.path()).await, folder }
    }
    /// The port as after a start of the agent: what it knows is what is on disk.
    fn port(&self) -> Port {
        let files = Rc::new(RealFiles::new(self.folder.path()).unwrap());
        let settings = N8nSettings {
            url: self.n8n.url.clone(),
            owner_email: "owner@genesis.internal".into(),
            public_url: None,
            answer_timeout_s: 60,
        };
        let transport = HttpTransport::new(&self.n8n.url, std::time::Duration::from_secs(60)).unwrap();
        Client::new(transport, files, RealEntropy, settings)
    }
    fn forget(&self, file: &str) {
        std::fs::remove_file(self.folder.path().join("secrets").join(file)).unwrap();
    }
}

fn webhook(path: &str) -> Value {
    json!({"id": "11111111-1111-4111-8111-111111111111", "name": "Hook", "type": "n8n-nodes-base.webhook",
           "typeVersion": 2, "position": [0, 0], "webhookId": path,
           "parameters": {"path": path, "httpMethod": "POST", "authentication": "none"}})
}

fn body(name: &str, nodes: Value) -> Value {
    json!({"name": name, "nodes": nodes, "connections": {}, "settings": {"executionOrder": "v1"}})
}

/// Everything, in one life of one n8n: starting the real one takes longer than all of this.
async fn contract(kind: Kind) {
    let scene = Scene::new(kind).await;
    gets_in_without_a_browser_and_again_after_any_loss(&scene).await;
    lists_credentials_without_their_data_and_deletes_twice(&scene).await;
    refuses_credential_data_that_do_not_fit(&scene).await;
    keeps_the_marker_of_a_workflow_through_updates(&scene).await;
    lists_executions_without_their_data(&scene).await;
    re_points_an_unknown_credential_by_its_name(&scene).await;
    refuses_to_activate_without_a_trigger_and_on_a_conflict(&scene).await;
    a_refused_update_of_an_active_workflow_goes_live_and_the_old_version_comes_back(&scene).await;
    follows_pages_to_the_end(&scene).await;
    what_is_gone_is_told_from_what_fails(&scene).await;
}

async fn gets_in_without_a_browser_and_again_after_any_loss(scene: &Scene) {
    let port = scene.port();
    assert_eq!(port.status().await, N8nStatus::Running);
    assert!(port.workflows().await.unwrap().is_empty());
    assert!(!port.version().await.unwrap().is_empty());
    assert!(port.webhook_base().await.unwrap().ends_with("/webhook"));
    // The key is lost: it is made anew through the owner's password.
    scene.forget("n8n-api-key");
    scene.port().workflows().await.unwrap();
    // The key is another n8n's: the same.
    std::fs::write(scene.folder.path().join("secrets/n8n-api-key"), "eyJ.not.mine").unwrap();
    scene.port().workflows().await.unwrap();
}

async fn lists_credentials_without_their_data_and_deletes_twice(scene: &Scene) {
    let port = scene.port();
    let data = Secret::new(br#"{"name":"X-A","value":"s3cret"}"#.to_vec());
    let kind = "httpHeaderAuth".parse().unwrap();
    let id = port.create_credential("genesis/header", &kind, &data).await.unwrap();
    let listed = port.credentials().await.unwrap();
    let found = listed.iter().find(|c| c.id == id).unwrap();
    assert_eq!((found.name.as_str(), found.credential_type.as_str()), ("genesis/header", "httpHeaderAuth"));
    port.update_credential(&id, &data).await.unwrap();
    port.delete_credential(&id).await.unwrap();
    port.delete_credential(&id).await.unwrap();
    assert!(!port.credentials().await.unwrap().iter().any(|c| c.id == id));
}

async fn refuses_credential_data_that_do_not_fit(scene: &Scene) {
    let port = scene.port();
    let create = |kind: &str, data: &str| {
        let (port, kind, data) = (&port, kind.parse().unwrap(), Secret::new(data.as_bytes().to_vec()));
        async move { port.create_credential("genesis/x", &kind, &data).await.unwrap_err() }
    };
    for (kind, data) in [("noSuchType", "{}"), ("openAiApi", r#"{"header":false}"#), ("smtp", r#"{"port":"587"}"#)] {
        let error = create(kind, data).await;
        assert_eq!((error.kind, error.code), (ErrorKind::Permanent, "n8n_refused"), "{kind}: {error}");
    }
}

async fn keeps_the_marker_of_a_workflow_through_updates(scene: &Scene) {
    let port = scene.port();
    let key = "contract".parse().unwrap();
    let first = body("Marked", json!([webhook("marked")]));
    let id = port.create_workflow(&genesis_agent::core::workflow::with_marker(&first, &key)).await.unwrap();
    let second = body("Marked again", json!([webhook("marked-2")]));
    port.update_workflow(&id, &second).await.unwrap();
    port.activate_workflow(&id, None).await.unwrap();
    port.activate_workflow(&id, None).await.unwrap();
    assert_eq!(scene.n8n.call("POST", "/webhook/marked-2").await.0, 200);

    let listed = port.workflows().await.unwrap();
    let info = listed.iter().find(|w| w.id == id).unwrap();
    assert_eq!(info.key.as_ref(), Some(&key));
    assert!(info.active && info.active_version_id.is_some() && info.active_version_id == info.version_id);
    assert!(genesis_agent::core::workflow::holds(&port.workflow(&id).await.unwrap().unwrap(), &second));

    port.deactivate_workflow(&id).await.unwrap();
    port.deactivate_workflow(&id).await.unwrap();
    assert_eq!(scene.n8n.call("POST", "/webhook/marked-2").await.0, 404);
    port.delete_workflow(&id).await.unwrap();
    port.delete_workflow(&id).await.unwrap();
}

async fn lists_executions_without_their_data(scene: &Scene) {
    let port = scene.port();
    let id = port.create_workflow(&body("Counted", json!([webhook("counted")]))).await.unwrap();
    port.activate_workflow(&id, None).await.unwrap();
    let began = genesis_tests::operator::now().plus_millis(-60_000);
    assert_eq!(scene.n8n.call("POST", "/webhook/counted").await.0, 200);
    // n8n answers before the execution is stored.
    let ended = genesis_tests::until("the execution to be listed", || async {
        let (executions, truncated) = port.executions(began).await.unwrap();
        assert!(!truncated);
        executions.into_iter().find(|execution| execution.status == "success")
    });
    let ended = ended.await;
    assert!(ended.started_at.is_some() && ended.stopped_at >= ended.started_at);
    port.delete_workflow(&id).await.unwrap();
}

async fn re_points_an_unknown_credential_by_its_name(scene: &Scene) {
    let port = scene.port();
    let data = Secret::new(br#"{"name":"X-A","value":"s"}"#.to_vec());
    let real = port.create_credential("genesis/named", &"httpHeaderAuth".parse().unwrap(), &data).await.unwrap();
    let node = |id: &str, name: &str| {
        let mut node = webhook("creds");
        node["credentials"] = json!({"httpHeaderAuth": {"id": id, "name": name}});
        body("Refs", json!([node]))
    };
    let stored = |id: String| {
        let port = &port;
        async move {
            let workflow = port.workflow(&id).await.unwrap().unwrap();
            genesis_agent::core::workflow::references(&workflow)[0].2.clone()
        }
    };
    let by_name = port.create_workflow(&node("doesNotExist1234", "genesis/named")).await.unwrap();
    assert_eq!(stored(by_name.clone()).await, real, "this is why references are read back");
    let unknown = port.create_workflow(&node("doesNotExist1234", "nobody")).await.unwrap();
    assert_eq!(stored(unknown.clone()).await, "doesNotExist1234");
    port.activate_workflow(&unknown, None).await.expect("n8n activates what cannot run");
    for id in [by_name, unknown] {
        port.delete_workflow(&id).await.unwrap();
    }
    port.delete_credential(&real).await.unwrap();
}

async fn refuses_to_activate_without_a_trigger_and_on_a_conflict(scene: &Scene) {
    let port = scene.port();
    let idle = port.create_workflow(&body("Idle", json!([]))).await.unwrap();
    let error = port.activate_workflow(&idle, None).await.unwrap_err();
    assert_eq!((error.kind, error.code), (ErrorKind::Permanent, "n8n_refused"), "{error}");
    let first = port.create_workflow(&body("One", json!([webhook("taken")]))).await.unwrap();
    let second = port.create_workflow(&body("Two", json!([webhook("taken")]))).await.unwrap();
    port.activate_workflow(&first, None).await.unwrap();
    let error = port.activate_workflow(&second, None).await.unwrap_err();
    assert!(error.message.contains("conflict"), "{error}");
    for id in [idle, first, second] {
        port.delete_workflow(&id).await.unwrap();
    }
}

async fn a_refused_update_of_an_active_workflow_goes_live_and_the_old_version_comes_back(scene: &Scene) {
    let port = scene.port();
    let id = port.create_workflow(&body("Live", json!([webhook("live")]))).await.unwrap();
    port.activate_workflow(&id, None).await.unwrap();
    let before = port.workflows().await.unwrap().into_iter().find(|w| w.id == id).unwrap();

    let mut broken = webhook("live");
    broken["type"] = json!("n8n-nodes-base.doesNotExist");
    let error = port.update_workflow(&id, &body("Live", json!([broken]))).await.unwrap_err();
    assert_eq!((error.kind, error.code), (ErrorKind::Permanent, "n8n_refused"), "{error}");
    let after = port.workflows().await.unwrap().into_iter().find(|w| w.id == id).unwrap();
    assert_ne!(after.version_id, before.version_id, "the refused content was stored all the same");

    port.activate_workflow(&id, before.active_version_id.as_deref()).await.unwrap();
    assert_eq!(scene.n8n.call("POST", "/webhook/live").await.0, 200);
    port.delete_workflow(&id).await.unwrap();
}

async fn follows_pages_to_the_end(scene: &Scene) {
    let port = scene.port();
    let mut ids = Vec::new();
    for n in 0..260 {
        ids.push(port.create_workflow(&body(&format!("W{n}"), json!([]))).await.unwrap());
    }
    let listed = port.workflows().await.unwrap();
    assert!(ids.iter().all(|id| listed.iter().filter(|w| w.id == *id).count() == 1));
    for id in ids {
        port.delete_workflow(&id).await.unwrap();
    }
}

async fn what_is_gone_is_told_from_what_fails(scene: &Scene) {
    let port = scene.port();
    assert_eq!(port.workflow("nope").await.unwrap(), None);
    let error = port.update_workflow("nope", &body("X", json!([]))).await.unwrap_err();
    assert_eq!((error.kind, error.code), (ErrorKind::Permanent, "n8n_not_found"));
    let with_meta = json!({"name": "X", "nodes": [], "connections": {}, "settings": {}, "meta": {}});
    assert_eq!(port.create_workflow(&with_meta).await.unwrap_err().code, "n8n_refused");
}

mod stand_in {
    use super::*;

    #[tokio::test]
    async fn keeps_the_contract() {
        contract(Kind::StandIn).await;
    }

    #[tokio::test]
    async fn an_n8n_that_is_away_is_down_and_asks_for_patience() {
        let mut scene = Scene::new(Kind::StandIn).await;
        scene.n8n.kill();
        let port = scene.port();
        assert_eq!(port.status().await, N8nStatus::Down);
        let error = port.workflows().await.unwrap_err();
        assert_eq!((error.kind, error.code), (ErrorKind::Transient, "n8n_unreachable"));
    }
}

mod real_n8n {
    use super::*;

    #[tokio::test]
    async fn keeps_the_contract() {
        contract(Kind::Real).await;
    }
}
