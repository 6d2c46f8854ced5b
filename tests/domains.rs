//! Host names as commands: looked up before a certificate is asked for, kept through everything, put back when edited.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use genesis_agent::sim::{ADDRESS, ProxyFault};
use genesis_shared::command::CommandWire;
use genesis_shared::report::{CommandResult, OutcomeState, Record};
use genesis_tests::droplet::{Droplet, wait_for};
use serde_json::{Value, json};

fn command(action: &str, payload: Value) -> Vec<CommandWire> {
    vec![CommandWire { action: action.into(), payload: Some(payload) }]
}
fn add(hosts: &[&str]) -> Vec<CommandWire> {
    command("ADD_TRACKING_DOMAIN", json!({"hosts": hosts}))
}
fn remove(hosts: &[&str]) -> Vec<CommandWire> {
    command("REMOVE_TRACKING_DOMAIN", json!({"hosts": hosts}))
}
fn served(droplet: &Droplet) -> Value {
    droplet.outside.proxy.running()["apps"]["tls"]["automation"]["policies"][0]["subjects"].clone()
}
fn refused(result: &CommandResult, code: &str) {
    assert_eq!((result.state, result.code.as_str()), (OutcomeState::Failed, code), "{}", result.message);
}

#[tokio::test(start_paused = true)]
async fn a_host_name_is_served_told_with_its_certificate_and_outlives_the_agent() {
    let droplet = Droplet::with_stack(1);
    let result = droplet.run(add(&["a.example", "b.example"])).await;
    assert_eq!(result.state, OutcomeState::Succeeded, "{}", result.message);
    let expected =
        json!({"host": "b.example", "certificate": "issued", "certificate_expires_at": "2026-04-01T00:00:00.000Z"});
    assert_eq!(result.output[0]["domains"][1], expected, "{}", result.output);
    assert_eq!((&result.output[0]["primary"], &result.output[0]["changed"]), (&json!("droplet.example"), &json!(true)));
    let result = droplet.run(remove(&["a.example"])).await;
    assert_eq!(result.output[0]["domains"], json!([{"host": "a.example", "certificate": "removed"}]));
    assert_eq!(served(&droplet), json!(["droplet.example", "b.example"]));
}

#[tokio::test(start_paused = true)]
async fn adding_a_name_twice_changes_nothing() {
    let droplet = Droplet::with_stack(1);
    droplet.run(add(&["a.example"])).await;
    let again = droplet.run(add(&["a.example"])).await;
    assert_eq!((again.state, &again.output[0]["changed"]), (OutcomeState::Succeeded, &json!(false)));
}

#[tokio::test(start_paused = true)]
async fn refuses_a_name_that_leads_elsewhere_or_nowhere_or_here_and_elsewhere() {
    let droplet = Droplet::with_stack(1);
    let other = "198.51.100.1".parse().unwrap();
    let names = &droplet.outside.names;
    names.point("other.example", &[other]);
    names.point("none.example", &[]);
    names.point("both.example", &[ADDRESS, other]);
    for host in ["other.example", "none.example", "both.example"] {
        let result = droplet.run(add(&["good.example", host])).await;
        refused(&result, "domain_not_pointing_here");
        assert!(result.message.contains(host) && result.message.contains("192.0.2.7"), "{}", result.message);
    }
    assert_eq!(served(&droplet), json!(["droplet.example"]));
    assert_eq!(droplet.outside.proxy.loads(), 3, "only what the undos put back: no certificate was asked for");
}

#[tokio::test(start_paused = true)]
async fn refuses_to_remove_the_bootstrap_name_and_a_name_that_is_not_there() {
    let droplet = Droplet::with_stack(1);
    refused(&droplet.run(remove(&["droplet.example"])).await, "bootstrap_domain");
    refused(&droplet.run(remove(&["a.example"])).await, "unknown_domain");
}

#[tokio::test(start_paused = true)]
async fn refuses_host_names_where_there_is_no_stack() {
    refused(&Droplet::new(1).run(add(&["a.example"])).await, "no_stack");
}

#[tokio::test(start_paused = true)]
async fn a_refused_configuration_leaves_the_old_one_running() {
    let droplet = Droplet::with_stack(1);
    droplet.outside.proxy.fail(&[ProxyFault::Refused]);
    refused(&droplet.run(add(&["a.example"])).await, "proxy_refused_config");
    assert_eq!(served(&droplet), json!(["droplet.example"]));
    assert_eq!(droplet.outside.proxy.kept(), droplet.outside.proxy.running());
}

#[tokio::test(start_paused = true)]
async fn a_proxy_that_is_away_or_does_not_answer_is_asked_again() {
    let droplet = Droplet::with_stack(1);
    droplet.outside.proxy.fail(&[ProxyFault::Unreachable, ProxyFault::NoAnswer]);
    assert_eq!(droplet.run(add(&["a.example"])).await.state, OutcomeState::Succeeded);
    assert_eq!(served(&droplet), json!(["droplet.example", "a.example"]));
}

fn state(generation: u64, domains: Value) -> Vec<CommandWire> {
    command("APPLY_STATE", json!({"generation": generation, "domains": domains}))
}

#[tokio::test(start_paused = true)]
async fn a_desired_state_says_which_host_names_there_are_all_or_none() {
    let droplet = Droplet::with_stack(1);
    droplet.run(add(&["a.example", "b.example"])).await;
    let result = droplet.run(state(1, json!({"hosts": ["b.example", "c.example"], "primary": "c.example"}))).await;
    assert_eq!(result.state, OutcomeState::Succeeded, "{}", result.message);
    assert_eq!(served(&droplet), json!(["droplet.example", "b.example", "c.example"]));
    let output = &result.output[0];
    assert_eq!((&output["generation"], &output["primary"]), (&json!(1), &json!("c.example")), "{output}");
    assert_eq!(output["changed"], json!(["put_domains"]));
    assert_eq!(output["domains"][2], json!({"host": "a.example", "certificate": "removed"}));
    // One that leads elsewhere: nothing of the document is done, and its generation may come again.
    droplet.outside.names.point("other.example", &["198.51.100.1".parse().unwrap()]);
    refused(&droplet.run(state(2, json!({"hosts": ["other.example"]}))).await, "domain_not_pointing_here");
    assert_eq!(served(&droplet), json!(["droplet.example", "b.example", "c.example"]));
    let result = droplet.run(state(2, json!({"hosts": []}))).await;
    assert_eq!((result.state, served(&droplet)), (OutcomeState::Succeeded, json!(["droplet.example"])));
    refused(&Droplet::new(1).run(state(1, json!({"hosts": []}))).await, "no_stack");
}

#[tokio::test(start_paused = true)]
async fn a_look_says_when_the_proxy_runs_with_something_else() {
    let droplet = Droplet::with_stack(1);
    droplet.run(add(&["a.example"])).await;
    let drifts = || async {
        droplet.outside.proxy.edit(json!({"apps": {}}));
        let look = droplet.push(command("VERIFY", json!({})));
        droplet.result(look).await.output[0]["drifts"].clone()
    };
    let scene = async {
        // The first round over the stack is over, and the next sample of it is some seconds away.
        tokio::time::sleep(std::time::Duration::from_secs(65)).await;
        drifts().await
    };
    assert_eq!(droplet.while_running(scene).await, json!([{"kind": "proxy_drift"}]));
    let look = droplet.run(command("VERIFY", json!({}))).await;
    assert_eq!(look.output[0]["drifts"], json!([]), "the next life's first round has put it right");
}

#[tokio::test(start_paused = true)]
async fn an_edited_configuration_is_put_back_and_reported() {
    let droplet = Droplet::with_stack(1);
    droplet.run(add(&["a.example"])).await;
    let wanted = droplet.outside.proxy.running();
    droplet.outside.proxy.edit(json!({"apps": {}}));
    let mended = || async { (droplet.outside.proxy.running() == wanted).then_some(()) };
    let told = || async {
        let records = droplet.outside.hub.records();
        records
            .into_iter()
            .find(|record| matches!(&record.record, Record::Event(event) if event.message.contains("proxy_drift")))
    };
    droplet
        .while_running(async {
            wait_for(mended).await;
            wait_for(told).await;
        })
        .await;
}
