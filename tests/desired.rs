//! Desired states and rotations: a tenant becomes what a signed document says, and its workflows never stand without
//! their credentials meanwhile.
#![allow(
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    reason = "a test that cannot go on, or meets anything else, fails"
)]

use genesis_agent::sim::n8n::{CHANGE, Fault, Kind as FaultKind};
use genesis_shared::command::CommandWire;
use genesis_shared::report::OutcomeState;
use genesis_shared::wire::JobState;
use genesis_tests::droplet::Droplet;
use genesis_tests::n8n::Kind;
use genesis_tests::rig::Rig;
use genesis_tests::scenario::{apply, held, inject, recipient, rotate, small_tenant};
use genesisctl::sealing::Recipient;
use serde_json::{Value, json};

/// A droplet whose n8n is older than 2.7 and holds a small tenant.
async fn old_n8n() -> (Droplet, Recipient) {
    let droplet = Droplet::new(5);
    droplet.outside.n8n.borrow_mut().n8n.config.credentials_update = false;
    let to = recipient(&droplet).await;
    assert_eq!(droplet.run(small_tenant(to)).await.state, OutcomeState::Succeeded);
    (droplet, to)
}

/// Every credential that a workflow's draft or running version refers to and that is not in n8n.
fn dangling(droplet: &Droplet) -> Vec<String> {
    let standin = droplet.outside.n8n.borrow();
    let mut missing = Vec::new();
    for workflow in &standin.n8n.workflows {
        let running = workflow.active_version().map(|version| version.nodes.clone());
        for nodes in [Some(workflow.nodes.clone()), running].into_iter().flatten() {
            for reference in nodes.as_array().into_iter().flatten().filter_map(|node| node["credentials"].as_object()) {
                let ids = reference.values().filter_map(|value| value["id"].as_str());
                let known = |id: &&str| standin.n8n.credentials.iter().any(|credential| credential.id == *id);
                missing.extend(ids.filter(|id| !known(id)).map(str::to_owned));
            }
        }
    }
    missing
}

#[tokio::test(start_paused = true)]
async fn a_rotation_on_an_old_n8n_leaves_no_workflow_without_its_credential_at_any_moment() {
    let (droplet, to) = old_n8n().await;
    let first = droplet.outside.n8n.borrow().n8n.credentials[0].id.clone();
    let job = droplet.push(vec![rotate(to, "two")]);
    let mut looks = 0;
    let result = droplet
        .while_running(async {
            loop {
                assert!(dangling(&droplet).is_empty(), "after {looks} looks");
                looks += 1;
                tokio::select! {
                    biased;
                    result = droplet.result(job) => break result,
                    () = tokio::task::yield_now() => {}
                }
            }
        })
        .await;
    assert_eq!(result.state, OutcomeState::Succeeded, "{}", result.message);
    assert!(looks > 10, "looked at between the requests: {looks}");
    let standin = droplet.outside.n8n.borrow();
    assert_eq!(standin.n8n.credentials.len(), 1, "the old one went last");
    assert_ne!(standin.n8n.credentials[0].id, first);
    assert_eq!(result.output[0]["credential_id"], standin.n8n.credentials[0].id.as_str());
}

#[tokio::test(start_paused = true)]
async fn a_rotation_on_an_old_n8n_is_refused_while_a_workflow_of_the_tenants_own_uses_the_credential() {
    let (droplet, to) = old_n8n().await;
    {
        let mut standin = droplet.outside.n8n.borrow_mut();
        let mut own = standin.n8n.workflows[0].clone();
        (own.id, own.name, own.static_data, own.active_version_id) = ("own".into(), "Mine".into(), Value::Null, None);
        standin.n8n.workflows.push(own);
    }
    let before = held(&droplet);
    let result = droplet.run(vec![rotate(to, "two")]).await;
    assert_eq!((result.state, result.code.as_str()), (OutcomeState::Failed, "credential_in_use"));
    assert!(result.message.contains("\"Mine\""), "{}", result.message);
    assert_eq!(held(&droplet), before);
}

#[tokio::test(start_paused = true)]
async fn a_rotation_asks_for_a_credential_that_is_there() {
    let droplet = Droplet::new(5);
    let to = recipient(&droplet).await;
    assert_eq!(droplet.run(vec![rotate(to, "one")]).await.code, "unknown_credential");
    assert!(droplet.is_empty());
}

#[tokio::test(start_paused = true)]
async fn refuses_a_desired_state_that_is_not_newer() {
    let droplet = Droplet::new(5);
    let to = recipient(&droplet).await;
    assert_eq!(droplet.run(vec![apply(to, 7, "one", "one", true)]).await.state, OutcomeState::Succeeded);
    for generation in [7, 6] {
        let result = droplet.run(vec![apply(to, generation, "two", "two", true)]).await;
        assert_eq!((result.state, result.code.as_str()), (OutcomeState::Failed, "generation_not_newer"));
    }
    assert_eq!(held(&droplet).credentials[0].1, "one");
    assert_eq!(droplet.run(vec![apply(to, 8, "two", "two", true)]).await.state, OutcomeState::Succeeded);
}

#[tokio::test(start_paused = true)]
async fn a_desired_state_that_failed_may_be_sent_again() {
    let droplet = Droplet::new(5);
    let to = recipient(&droplet).await;
    let refused = FaultKind::Answer(genesis_agent::sim::n8n::Answer::json(400, &json!({"message": "no"})));
    droplet.outside.n8n.borrow_mut().faults.push(Fault::once(CHANGE, "/api/v1/workflows", refused));
    assert_eq!(droplet.run(vec![apply(to, 1, "one", "one", true)]).await.state, OutcomeState::Failed);
    assert!(droplet.is_empty());
    assert_eq!(droplet.run(vec![apply(to, 1, "one", "one", true)]).await.state, OutcomeState::Succeeded);
}

#[tokio::test(start_paused = true)]
async fn what_no_document_names_stays_and_is_listed() {
    let droplet = Droplet::new(5);
    let to = recipient(&droplet).await;
    assert_eq!(droplet.run(small_tenant(to)).await.state, OutcomeState::Succeeded);
    let only_a_credential = json!({"generation": 1, "credentials": [inject(to, "two").payload.unwrap()]});
    let command = CommandWire { action: "APPLY_STATE".into(), payload: Some(only_a_credential) };
    let result = droplet.run(vec![command]).await;
    assert_eq!(result.state, OutcomeState::Succeeded, "{}", result.message);
    assert_eq!(result.output[0]["not_in_document"], json!({"credentials": [], "workflows": ["hook"]}));
    assert_eq!(result.output[0]["changed"], json!(["put_credential key"]));
    assert_eq!(held(&droplet).workflows.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_second_step_on_the_same_thing_is_undone_to_what_the_first_one_made() {
    let droplet = Droplet::new(5);
    let to = recipient(&droplet).await;
    // Made and run by the bundle whose last command then fails.
    let mut commands = small_tenant(to);
    commands.push(inject(to, "two"));
    let refused = FaultKind::Answer(genesis_agent::sim::n8n::Answer::json(400, &json!({"message": "no"})));
    droplet.outside.n8n.borrow_mut().faults.push(Fault::nth(1, "PATCH", "/api/v1/credentials", refused));
    let result = droplet.run(commands).await;
    assert_eq!(result.state, OutcomeState::Failed, "{}", result.message);
    assert!(droplet.is_empty());
}

/// Applies, changes and rotates on a whole stack, and looks at n8n as a tenant's caller does.
async fn lives_by_its_document(rig: Rig) {
    let closed_max = if rig.n8n.kind == Kind::RealOld { 3 } else { 0 };
    let to = Recipient { workspace: rig.workspace, key: rig.enrolled().await.sealing_key.unwrap() };
    let run = async |command| {
        let view = rig.run(vec![command]).await;
        let result = view.result.unwrap();
        assert_eq!(view.state, JobState::Succeeded, "{}: {}", result.code, result.message);
        result.output[0].clone()
    };
    let first = run(apply(to, 1, "one", "one", true)).await;
    assert_eq!(first["changed"], json!(["put_credential key", "put_workflow hook", "activate hook"]));
    let call = async |path: &str, key: &str| rig.n8n.call_with_key(path, key).await;
    assert_eq!((call("/webhook/one", "one").await, call("/webhook/one", "two").await), (200, 403));
    let again = run(apply(to, 2, "one", "one", true)).await;
    assert_eq!(again["changed"], json!([]), "what is as it should be is not touched");
    run(apply(to, 3, "one", "two", false)).await;
    assert_eq!((call("/webhook/one", "one").await, call("/webhook/two", "one").await), (404, 404));
    run(apply(to, 4, "one", "two", true)).await;
    assert_eq!(call("/webhook/two", "one").await, 200);

    // Throughout a rotation one of the two keys opens the door.
    let mut calls = 0;
    let rotation = run(rotate(to, "three"));
    let caller = async {
        let mut closed = 0;
        loop {
            let is_open = call("/webhook/two", "one").await == 200 || call("/webhook/two", "three").await == 200;
            closed = if is_open { 0 } else { closed + 1 };
            // n8n 1.x takes a webhook down and up again for some milliseconds with each update of its workflow.
            assert!(closed <= closed_max, "after {calls} calls");
            calls += 1;
        }
    };
    let rotated = tokio::select! {
        rotated = rotation => rotated,
        () = caller => unreachable!(),
    };
    assert!(calls > 1, "called while it went on");
    assert_eq!((call("/webhook/two", "one").await, call("/webhook/two", "three").await), (403, 200));
    let list = rig.run(vec![CommandWire { action: "VERIFY".into(), payload: None }]).await.result.unwrap();
    assert_eq!(list.output[0]["drifts"], json!([]));
    assert!(rotated["credential_id"].is_string());
}

mod stand_in {
    use super::{Kind, Rig, lives_by_its_document};

    #[tokio::test]
    async fn a_tenant_lives_by_its_document() {
        lives_by_its_document(Rig::new(Kind::StandIn).await).await;
    }
}

mod real_n8n {
    use super::{Kind, Rig, lives_by_its_document};

    #[tokio::test]
    async fn a_tenant_lives_by_its_document() {
        lives_by_its_document(Rig::new(Kind::Real).await).await;
    }

    #[tokio::test]
    async fn a_tenant_lives_by_its_document_where_n8n_cannot_update_credentials() {
        lives_by_its_document(Rig::new(Kind::RealOld).await).await;
    }
}
