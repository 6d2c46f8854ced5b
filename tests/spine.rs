//! From a signed bundle to a changed n8n: the main job, end to end, with real processes.
#![allow(
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    reason = "a test that cannot go on, or meets anything else, fails"
)]

use std::collections::BTreeMap;

use genesis_shared::report::OutcomeState;
use genesis_shared::wire::JobState;
use genesis_tests::canary;
use genesis_tests::n8n::{Content, Kind};
use genesis_tests::rig::Rig;
use genesisctl::ignition::{Template, credential_name};
use serde_json::{Value, json};

/// The main job, and that doing it again changes nothing.
async fn ignites_and_changes_nothing_the_second_time(kind: Kind) {
    let rig = Rig::new(kind).await;
    let job = rig.run(rig.ignition().await).await;
    let result = job.result.clone().unwrap();
    assert_eq!((job.state, result.code.as_str()), (JobState::Succeeded, "ok"), "{}", result.message);
    let output = result.output.as_array().unwrap();
    let changed = |output: &[Value]| output.iter().filter(|answer| answer["changed"] == true).count();
    assert_eq!(changed(output), 6 + 7 + 7);
    assert_eq!(output.last().unwrap()["active_workflows"], 7);

    let first = rig.n8n.content(&rig.n8n_key()).await;
    assert_eq!((first.credentials.len(), first.workflows.len()), (6, 7));
    assert!(first.workflows.iter().all(|workflow| workflow["active"] == true));
    every_reference_is_the_intended_one(&first);

    let (status, body) = rig.n8n.call("GET", "/webhook/opt-out").await;
    match kind {
        Kind::Real | Kind::RealOld => {
            assert_eq!(status, 400, "the opt-out link without a token is refused by its own workflow: {body}")
        }
        Kind::StandIn => assert_eq!(status, 200, "{body}"),
    }

    let again = rig.run(rig.ignition().await).await;
    let result = again.result.unwrap();
    assert_eq!(again.state, JobState::Succeeded, "{}", result.message);
    assert_eq!(changed(result.output.as_array().unwrap()), 0, "{}", result.output);
    assert_eq!(rig.n8n.content(&rig.n8n_key()).await.comparable(), first.comparable());

    no_secret_is_anywhere(&rig).await;
    stops_cleanly(rig).await;
}

/// Compares each node's stored reference with the credential that its template placeholder stands for.
fn every_reference_is_the_intended_one(content: &Content) {
    let ids: BTreeMap<&str, &str> = content
        .credentials
        .iter()
        .map(|credential| (credential["name"].as_str().unwrap(), credential["id"].as_str().unwrap()))
        .collect();
    let mut compared = 0;
    for template in Template::golden().unwrap().workflows {
        let name = template.workflow_json["name"].as_str().unwrap();
        let stored = content.workflows.iter().find(|workflow| workflow["name"] == name).unwrap();
        for node in template.workflow_json["nodes"].as_array().unwrap() {
            let stored = stored["nodes"].as_array().unwrap().iter().find(|n| n["name"] == node["name"]).unwrap();
            for (slot, reference) in node["credentials"].as_object().into_iter().flatten() {
                let managed = credential_name(reference["id"].as_str().unwrap()).unwrap();
                let intended = ids[format!("genesis/{managed}").as_str()];
                assert_eq!(stored["credentials"][slot]["id"], intended, "{name}, {}", node["name"]);
                compared += 1;
            }
        }
    }
    assert!(compared >= 20, "the template has many references, {compared} were compared");
}

/// Greps every file that hub and agent wrote, and every answer of the hub's API.
async fn no_secret_is_anywhere(rig: &Rig) {
    // n8n's own database holds what it was given: that is where secrets belong.
    let found = canary::find(rig.folder(), &["n8n"]);
    assert!(found.is_empty(), "secrets in {found:?}");
    let jobs = rig.client.jobs(&[]).await.unwrap();
    let droplet = rig.client.droplet(&rig.droplet).await.unwrap();
    assert!(!canary::holds(&serde_json::to_vec(&jobs).unwrap()));
    assert!(!canary::holds(&serde_json::to_vec(&droplet).unwrap()));
    // The check itself can find something: the canary is in n8n, in clear, as part of a workflow.
    let held = rig.n8n.content(&rig.n8n_key()).await;
    assert!(canary::holds(&serde_json::to_vec(&held.workflows).unwrap()));
}

async fn stops_cleanly(mut rig: Rig) {
    assert!(rig.agent.terminate().await.success(), "{}", rig.agent.log());
    assert!(rig.hub.terminate().await.success(), "{}", rig.hub.log());
}

/// What cannot be mapped is refused with the whole list, and n8n is as it was.
async fn refuses_what_cannot_be_mapped_before_writing(kind: Kind) {
    let rig = Rig::new(kind).await;
    let mut commands = rig.ignition().await;
    let deploy = commands.iter_mut().find(|command| command.action == "DEPLOY_WORKFLOW").unwrap();
    let payload = deploy.payload.as_mut().unwrap();
    payload["variables"].as_object_mut().unwrap().remove("YOUR_NAME");
    payload["credential_map"]["TEMPLATE_OPENAI_UUID"] = json!("smtp");
    let result = rig.run(commands).await.result.unwrap();
    assert_eq!((result.state, result.code.as_str()), (OutcomeState::Failed, "cannot_map"));
    assert!(result.message.contains("YOUR_NAME") && result.message.contains("openAiApi"), "{}", result.message);
    // Nothing was asked of n8n yet, so the agent has not even made itself a key; it makes one to look.
    let look = rig.run(serde_json::from_value(json!([{"action": "HEALTH_CHECK"}])).unwrap()).await;
    assert_eq!(look.state, JobState::Succeeded);
    let content = rig.n8n.content(&rig.n8n_key()).await;
    assert_eq!((content.credentials.len(), content.workflows.len()), (0, 0));
}

/// n8n refuses the last step of a bundle: everything before it is taken back.
async fn takes_everything_back_when_a_later_step_is_refused(kind: Kind) {
    let rig = Rig::new(kind).await;
    let mut commands = rig.ignition().await;
    // Its trigger is gone, which n8n notices on activation only.
    let last = commands.iter_mut().rfind(|command| command.action == "DEPLOY_WORKFLOW").unwrap();
    for node in last.payload.as_mut().unwrap()["workflow_json"]["nodes"].as_array_mut().unwrap() {
        node["disabled"] = json!(true);
    }
    let result = rig.run(commands).await.result.unwrap();
    assert_eq!((result.state, result.code.as_str()), (OutcomeState::Failed, "n8n_refused"), "{}", result.message);
    assert!(result.message.contains("was undone"), "{}", result.message);
    assert!(result.steps.iter().any(|step| step.state == "undone"));
    let content = rig.n8n.content(&rig.n8n_key()).await;
    assert_eq!((content.credentials.len(), content.workflows.len()), (0, 0));
}

/// An update that n8n refuses although it has gone live already: the old version serves again.
async fn an_update_that_is_refused_leaves_the_old_version_serving(kind: Kind) {
    let rig = Rig::new(kind).await;
    let hook = |node_type: &str| {
        json!([
            {"action": "DEPLOY_WORKFLOW", "payload": {"key": "hook", "workflow_json": {
                "name": "Hook", "connections": {}, "settings": {},
                "nodes": [{"id": "a", "name": "Hook", "type": node_type, "typeVersion": 2, "position": [0, 0],
                           "webhookId": "hook", "parameters": {"path": "hook", "httpMethod": "POST"}}]}}},
            {"action": "ACTIVATE_WORKFLOW", "payload": {"key": "hook"}}
        ])
    };
    let commands = |value: Value| serde_json::from_value(value).unwrap();
    let first = rig.run(commands(hook("n8n-nodes-base.webhook"))).await;
    assert_eq!(first.state, JobState::Succeeded, "{:?}", first.result);
    assert_eq!(rig.n8n.call("POST", "/webhook/hook").await.0, 200);

    let result = rig.run(commands(hook("n8n-nodes-base.doesNotExist"))).await.result.unwrap();
    assert_eq!((result.state, result.code.as_str()), (OutcomeState::Failed, "n8n_refused"), "{}", result.message);
    assert_eq!(rig.n8n.call("POST", "/webhook/hook").await.0, 200, "the tenant notices nothing");
    let workflows = rig.n8n.content(&rig.n8n_key()).await.workflows;
    assert_eq!(workflows[0]["nodes"][0]["type"], "n8n-nodes-base.webhook");
}

macro_rules! on_both {
    ($($test:ident),* $(,)?) => {
        mod stand_in {
            $(#[tokio::test] async fn $test() { super::$test(super::Kind::StandIn).await; })*
        }
        mod real_n8n {
            $(#[tokio::test] async fn $test() { super::$test(super::Kind::Real).await; })*
        }
    };
}

on_both!(
    ignites_and_changes_nothing_the_second_time,
    refuses_what_cannot_be_mapped_before_writing,
    takes_everything_back_when_a_later_step_is_refused,
    an_update_that_is_refused_leaves_the_old_version_serving,
);
