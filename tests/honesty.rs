//! What a result says is true, and nothing sealed is in it: cases in which it would be easy to claim too much.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use genesis_agent::sim::n8n::{Answer, Fault, Kind};
use genesis_shared::command::CommandWire;
use genesis_shared::limits::RECORD_BYTES_MAX;
use genesis_shared::report::OutcomeState;
use genesis_shared::secret::Secret;
use genesis_tests::canary::{canary, holds};
use genesis_tests::droplet::{Droplet, wait_for};
use genesis_tests::operator::random;
use genesisctl::sealing::{self, Recipient};
use serde_json::{Value, json};

async fn recipient(droplet: &Droplet) -> Recipient {
    Recipient { workspace: droplet.workspace, key: droplet.sealing_key().await }
}

fn header(recipient: Recipient, value: &str) -> CommandWire {
    let data = Secret::new(json!({"name": "X-Key", "value": value}).to_string().into_bytes());
    let (name, kind) = ("key".parse().unwrap(), "httpHeaderAuth".parse().unwrap());
    sealing::credential(recipient, &name, &kind, &data, random()).unwrap()
}

/// A workflow that n8n refuses to activate: it has no trigger.
fn doomed() -> Vec<CommandWire> {
    let workflow = json!({"name": "Idle", "nodes": [], "connections": {}, "settings": {}});
    let deploy = json!({"key": "idle", "workflow_json": workflow});
    let command = |action: &str, payload: Value| CommandWire { action: action.into(), payload: Some(payload) };
    vec![command("DEPLOY_WORKFLOW", deploy), command("ACTIVATE_WORKFLOW", json!({"key": "idle"}))]
}

fn refuse_always(droplet: &Droplet, method: &str, path: &str) {
    let answer = Answer::json(400, &json!({"message": "no"}));
    let fault = Fault { count: None, ..Fault::once(method, path, Kind::Answer(answer)) };
    droplet.outside.n8n.borrow_mut().faults.push(fault);
}

fn held_value(droplet: &Droplet) -> String {
    droplet.outside.n8n.borrow().n8n.credentials[0].data["value"].as_str().unwrap().to_owned()
}

#[tokio::test(start_paused = true)]
async fn after_a_stuck_command_a_credential_is_written_again_although_its_data_seem_the_same() {
    let droplet = Droplet::new(1);
    let to = recipient(&droplet).await;
    assert_eq!(droplet.run(vec![header(to, "first-value")]).await.state, OutcomeState::Succeeded);

    // The second value gets in, a later step fails, and the first value cannot be put back.
    let answer = Answer::json(400, &json!({"message": "no"}));
    let fault = Fault { skip: 1, count: None, ..Fault::once("PATCH", "/api/v1/credentials", Kind::Answer(answer)) };
    droplet.outside.n8n.borrow_mut().faults.push(fault);
    let result = droplet.run([vec![header(to, "second-value")], doomed()].concat()).await;
    assert_eq!(result.state, OutcomeState::Stuck, "{}", result.message);
    assert_eq!(held_value(&droplet), "second-value");

    droplet.outside.n8n.borrow_mut().faults.clear();
    let result = droplet.run(vec![header(to, "first-value")]).await;
    assert_eq!((result.state, &result.output[0]["changed"]), (OutcomeState::Succeeded, &json!(true)));
    assert_eq!(held_value(&droplet), "first-value");
}

#[tokio::test(start_paused = true)]
async fn does_not_claim_to_have_put_back_what_it_cannot_know() {
    let droplet = Droplet::new(1);
    let to = recipient(&droplet).await;
    assert_eq!(droplet.run(vec![header(to, "first-value")]).await.state, OutcomeState::Succeeded);
    droplet.lose_journal();
    let result = droplet.run([vec![header(to, "second-value")], doomed()].concat()).await;
    assert_eq!((result.state, result.code.as_str()), (OutcomeState::Stuck, "cannot_restore"), "{}", result.message);
}

#[tokio::test(start_paused = true)]
async fn a_sealed_text_leaves_the_droplet_in_no_address_and_no_error() {
    let droplet = Droplet::new(1);
    let to = recipient(&droplet).await;
    let (key, secret) = ("hook".parse().unwrap(), canary("path"));
    let text = Secret::new(json!({"YOUR_TOKEN": secret}).to_string().into_bytes());
    let node = json!({"id": "a", "name": "Hook", "type": "n8n-nodes-base.webhook", "typeVersion": 2, "position": [0, 0],
                      "webhookId": "w", "parameters": {"path": "in/YOUR_TOKEN", "httpMethod": "POST"}});
    let deploy = |sealed| {
        let workflow = json!({"name": "Hook", "nodes": [node.clone()], "connections": {}, "settings": {}});
        let payload = json!({"key": "hook", "workflow_json": workflow, "sealed_variables": sealed});
        vec![CommandWire { action: "DEPLOY_WORKFLOW".into(), payload: Some(payload) }]
    };
    let sealed = sealing::variables(to, &key, &text, random()).unwrap();
    let result = droplet.run(deploy(sealed.clone())).await;
    assert_eq!(result.state, OutcomeState::Succeeded, "{}", result.message);
    assert!(result.output[0]["webhook_url"].as_str().unwrap().contains("[sealed]"), "{}", result.output);

    // n8n quotes the secret in its refusal.
    let answer = Answer::json(400, &json!({"message": format!("path in/{secret} is taken")}));
    let fault = Fault { count: None, ..Fault::once("PUT", "/api/v1/workflows", Kind::Answer(answer)) };
    droplet.outside.n8n.borrow_mut().faults.push(fault);
    let other = Secret::new(json!({"YOUR_TOKEN": format!("{secret}x")}).to_string().into_bytes());
    let result = droplet.run(deploy(sealing::variables(to, &key, &other, random()).unwrap())).await;
    assert_eq!(result.state, OutcomeState::Failed);
    for record in droplet.outside.hub.records() {
        assert!(!holds(&serde_json::to_vec(&record).unwrap()), "{record:?}");
    }
    assert!(!holds(&droplet.journal_bytes()), "the journal holds sealed bytes only");
}

#[tokio::test(start_paused = true)]
async fn a_refusal_of_any_length_fits_a_record() {
    let droplet = Droplet::new(1);
    droplet.sealing_key().await;
    let header = json!({"alg": "x".repeat(40_000), "kid": "ops-1", "typ": "genesis-bundle+json"}).to_string();
    let encode = |bytes: &[u8]| data_encoding::BASE64URL_NOPAD.encode(bytes);
    let bundle =
        json!({"payload": encode(b"{}"), "signatures": [{"protected": encode(header.as_bytes()), "signature": ""}]});
    let job = droplet.outside.hub.push(&bundle.to_string());
    let result = droplet.while_running(droplet.result(job)).await;
    assert_eq!((result.state, result.code.as_str()), (OutcomeState::Rejected, "a1_shape"));
    for record in droplet.outside.hub.records() {
        assert!(serde_json::to_vec(&record).unwrap().len() <= RECORD_BYTES_MAX);
    }
}

#[tokio::test(start_paused = true)]
async fn a_droplet_that_the_hub_forgot_enrols_anew_with_a_new_token() {
    let droplet = Droplet::new(1);
    droplet.sealing_key().await;
    droplet.outside.hub.forget();
    let enrolled = || async { droplet.outside.hub.enrolled() };
    droplet
        .while_running(async {
            tokio::time::sleep(std::time::Duration::from_secs(600)).await;
            assert!(droplet.outside.hub.enrolled().is_none(), "without a token it stays a stranger");
            droplet.new_token();
            wait_for(enrolled).await;
        })
        .await;
    let look = vec![CommandWire { action: "HEALTH_CHECK".into(), payload: None }];
    assert_eq!(droplet.run(look).await.state, OutcomeState::Succeeded);
}

#[tokio::test(start_paused = true)]
async fn a_failing_n8n_leaves_nothing_behind_and_says_so() {
    let droplet = Droplet::new(1);
    let commands = [vec![header(recipient(&droplet).await, "first-value")], doomed()].concat();
    refuse_always(&droplet, "POST", "/api/v1/workflows");
    let result = droplet.run(commands).await;
    assert_eq!(result.state, OutcomeState::Failed);
    assert!(result.message.contains("was undone") && droplet.is_empty());
}
