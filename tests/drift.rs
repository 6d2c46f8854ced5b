//! Somebody changes n8n behind the agent's back: it becomes what it should be again, and what is the tenant's stays.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::time::Duration;

use genesis_agent::agent::by_hand::ByHand;
use genesis_agent::sim::n8n::{Fault, Kind};
use genesis_shared::command::CommandWire;
use genesis_shared::report::{OutcomeState, Record};
use genesis_tests::droplet::{Droplet, wait_for};
use genesis_tests::scenario::{Held, deploy, held, hook_held, recipient, small_tenant};
use serde_json::{Value, json};

/// A droplet with the Golden Template.
async fn ignited() -> Droplet {
    let droplet = Droplet::new(1);
    let commands = droplet.ignition().await;
    assert_eq!(droplet.run(commands).await.state, OutcomeState::Succeeded);
    droplet
}

fn events(droplet: &Droplet) -> Vec<(String, String)> {
    let records = droplet.outside.hub.records().into_iter();
    let events = records.filter_map(|record| if let Record::Event(event) = record.record { Some(event) } else { None });
    events.map(|event| (event.code, event.message)).collect()
}

/// Lets the agent live for longer than a round of reconciliation, which comes every 15 minutes or a little later.
async fn a_round(droplet: &Droplet) {
    droplet.while_running(tokio::time::sleep(Duration::from_secs(1200))).await;
}

/// n8n without what changes by itself.
fn content(droplet: &Droplet) -> Vec<(String, Value, bool)> {
    let standin = droplet.outside.n8n.borrow();
    let workflows =
        standin.n8n.workflows.iter().map(|w| (w.name.clone(), w.nodes.clone(), w.active_version_id.is_some()));
    let mut all: Vec<_> = workflows.collect();
    all.sort_by(|a, b| a.0.cmp(&b.0));
    all
}

/// Deletes a workflow as a user of n8n would, its webhooks with it.
fn delete_workflow(droplet: &Droplet, index: usize) {
    let mut standin = droplet.outside.n8n.borrow_mut();
    let gone = standin.n8n.workflows.remove(index);
    standin.n8n.webhooks.retain(|webhook| webhook.workflow_id != gone.id);
}

#[tokio::test(start_paused = true)]
async fn what_is_in_order_is_left_alone() {
    let droplet = ignited().await;
    let writes = |droplet: &Droplet| {
        let standin = droplet.outside.n8n.borrow();
        ["POST", "PUT", "PATCH", "DELETE"].map(|method| standin.count_prefix(method, "/api/v1/")).iter().sum::<u64>()
    };
    let before = writes(&droplet);
    a_round(&droplet).await;
    assert_eq!(writes(&droplet), before);
    assert!(events(&droplet).is_empty(), "{:?}", events(&droplet));
}

#[tokio::test(start_paused = true)]
async fn changed_deleted_and_stopped_workflows_come_back() {
    let droplet = ignited().await;
    let before = content(&droplet);
    {
        let mut standin = droplet.outside.n8n.borrow_mut();
        let n8n = &mut standin.n8n;
        n8n.workflows[1].nodes[0]["parameters"]["meddled"] = json!(true);
        n8n.workflows[2].active_version_id = None;
    }
    delete_workflow(&droplet, 0);
    assert!(content(&droplet) != before);
    a_round(&droplet).await;
    assert!(content(&droplet) == before, "{:?}", events(&droplet));
    let (code, message) = events(&droplet).remove(0);
    assert_eq!(code, "drift_repaired");
    for kind in ["missing_workflow", "modified_workflow", "unexpected_inactive"] {
        assert!(message.contains(kind), "{kind} in {message}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_deleted_credential_comes_back_and_its_workflows_point_to_it_again() {
    let droplet = ignited().await;
    let gone = droplet.outside.n8n.borrow_mut().n8n.credentials.remove(0);
    a_round(&droplet).await;
    let standin = droplet.outside.n8n.borrow();
    let back = standin.n8n.credentials.iter().find(|credential| credential.name == gone.name).unwrap();
    assert_eq!(back.data, gone.data);
    assert_ne!(back.id, gone.id);
    let text = |value: &Value| value.to_string();
    let nodes: String = standin.n8n.workflows.iter().map(|workflow| text(&workflow.nodes)).collect();
    assert!(nodes.contains(&back.id) && !nodes.contains(&gone.id));
}

#[tokio::test(start_paused = true)]
async fn more_than_a_quarter_at_once_waits_for_an_operator() {
    let droplet = ignited().await;
    droplet.outside.n8n.borrow_mut().n8n.workflows.clear();
    a_round(&droplet).await;
    assert!(droplet.outside.n8n.borrow().n8n.workflows.is_empty());
    let reported = events(&droplet);
    assert_eq!(reported.len(), 1, "the same is not said again and again: {reported:?}");
    assert_eq!(reported[0].0, "drift_too_much");
}

#[tokio::test(start_paused = true)]
async fn what_the_tenant_made_is_reported_when_asked_and_never_touched() {
    let droplet = ignited().await;
    let id = {
        let mut standin = droplet.outside.n8n.borrow_mut();
        let mut own = standin.n8n.workflows[0].clone();
        (own.id, own.name, own.static_data) = ("tenantsOwn000001".into(), "Mine".into(), Value::Null);
        own.active_version_id = None;
        standin.n8n.workflows.push(own.clone());
        own.id
    };
    a_round(&droplet).await;
    assert!(droplet.outside.n8n.borrow().n8n.workflows.iter().any(|workflow| workflow.id == id));
    let verify = vec![CommandWire { action: "VERIFY".into(), payload: None }];
    let result = droplet.run(verify).await;
    assert_eq!(result.output[0]["drifts"], json!([{"kind": "unmanaged_workflow", "id": id}]));
}

#[tokio::test(start_paused = true)]
async fn a_crash_anywhere_in_a_repair_is_made_good_by_the_next_round() {
    let mut point = 1;
    loop {
        let droplet = Droplet::new(1);
        let commands = small_tenant(recipient(&droplet).await);
        assert_eq!(droplet.run(commands).await.state, OutcomeState::Succeeded);
        let before = held(&droplet);
        delete_workflow(&droplet, 0);
        droplet.outside.n8n.borrow_mut().n8n.credentials.remove(0);

        let crash = droplet.outside.crash.clone();
        crash.plan(Some(point));
        let repaired = wait_for(|| async { (held(&droplet) == before).then_some(()) });
        let scene = async {
            tokio::select! {
                () = repaired => {}
                () = crash.happened() => {}
            }
        };
        droplet.one_life(scene).await;
        let crashed = crash.has_happened();
        crash.plan(None);
        a_round(&droplet).await;
        assert_eq!(held(&droplet), before, "crash at {point}");
        if !crashed {
            break;
        }
        point += 1;
    }
    assert!(point > 20, "a repair passes many points, {point} were tried");
}

/// A droplet whose agent died between making a credential anew and noting its id, with these commands accepted.
async fn behind(asked: Vec<CommandWire>) -> Droplet {
    let droplet = Droplet::new(1);
    let commands = small_tenant(recipient(&droplet).await);
    assert_eq!(droplet.run(commands).await.state, OutcomeState::Succeeded);
    {
        let mut standin = droplet.outside.n8n.borrow_mut();
        standin.n8n.credentials.clear();
        standin.faults.push(Fault::once("POST", "/api/v1/credentials", Kind::DropAfter));
    }
    let is_made = || async { (!droplet.outside.n8n.borrow().n8n.credentials.is_empty()).then_some(()) };
    droplet.while_running(wait_for(is_made)).await;
    let bundle = droplet.signed(asked);
    assert!(matches!(droplet.agent().apply(bundle.as_bytes()).unwrap(), ByHand::Accepted(_)));
    droplet
}

#[tokio::test(start_paused = true)]
async fn a_workflow_refers_to_what_a_round_has_made_and_could_not_note() {
    let droplet = behind(vec![deploy("two")]).await;
    let expected = Held { credentials: vec![("genesis/key".into(), "one".into())], workflows: hook_held(true, "two") };
    droplet.while_running(wait_for(|| async { (held(&droplet) == expected).then_some(()) })).await;
    let standin = droplet.outside.n8n.borrow();
    assert!(standin.n8n.workflows[0].nodes.to_string().contains(&standin.n8n.credentials[0].id));
}

#[tokio::test(start_paused = true)]
async fn a_deletion_deletes_what_a_round_has_made_and_could_not_note() {
    let delete = |action: &str, payload| CommandWire { action: action.into(), payload: Some(payload) };
    let workflow = delete("DELETE_WORKFLOW", json!({"key": "hook"}));
    let droplet = behind(vec![workflow, delete("DELETE_CREDENTIAL", json!({"name": "key"}))]).await;
    droplet.while_running(wait_for(|| async { droplet.is_empty().then_some(()) })).await;
}

#[tokio::test(start_paused = true)]
async fn a_look_that_ends_after_a_change_takes_nothing_of_it_back() {
    let droplet = Droplet::new(1);
    let mut tenant = small_tenant(recipient(&droplet).await);
    let activation = tenant.pop().unwrap();
    assert_eq!(droplet.run(tenant).await.state, OutcomeState::Succeeded);
    // n8n takes its time with the look; meanwhile the workflow is activated.
    let late = Fault::once("GET", "/api/v1/executions", Kind::Delay(Duration::from_secs(20)));
    droplet.outside.n8n.borrow_mut().faults.push(late);
    droplet
        .while_running(async {
            let look = droplet.push(vec![CommandWire { action: "COLLECT_METRICS".into(), payload: Some(json!({})) }]);
            tokio::time::sleep(Duration::from_secs(5)).await;
            let change = droplet.push(vec![activation]);
            let (change, look) = (droplet.result(change).await, droplet.result(look).await);
            assert_eq!((change.state, look.state), (OutcomeState::Succeeded, OutcomeState::Succeeded));
            assert!(look.finished_at > change.finished_at, "the look ends last");
        })
        .await;
    a_round(&droplet).await;
    assert!(content(&droplet)[0].2, "the workflow still runs");
    assert!(events(&droplet).is_empty(), "{:?}", events(&droplet));
}

#[tokio::test(start_paused = true)]
async fn what_is_deleted_and_deployed_again_by_one_bundle_is_managed() {
    let droplet = Droplet::new(1);
    let tenant = small_tenant(recipient(&droplet).await);
    assert_eq!(droplet.run(tenant.clone()).await.state, OutcomeState::Succeeded);
    let delete = CommandWire { action: "DELETE_WORKFLOW".into(), payload: Some(json!({"key": "hook"})) };
    let result = droplet.run([vec![delete], tenant[1..].to_vec()].concat()).await;
    assert_eq!(result.state, OutcomeState::Succeeded, "{}", result.message);
    let verify = vec![CommandWire { action: "VERIFY".into(), payload: Some(json!({})) }];
    let result = droplet.run(verify).await;
    assert_eq!(result.output[0], json!({"managed": 2, "drifts": []}));
}
