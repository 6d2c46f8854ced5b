//! `genesis-agent apply`: a signed bundle by hand, with the hub stopped, with the service stopped, with real processes.
#![allow(
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    reason = "a test that cannot go on, or meets anything else, fails"
)]

use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::process::{Output, Stdio};

use genesis_shared::bundle::{Bundle, Targets};
use genesis_shared::command::CommandWire;
use genesis_shared::id::WorkspaceId;
use genesis_shared::limits::{BUNDLE_BYTES_MAX, LOCAL_REQUEST_BYTES_MAX};
use genesis_shared::report::{CommandResult, OutcomeState};
use genesis_shared::wire::JobState;
use genesis_tests::n8n::Kind;
use genesis_tests::operator::{now, random, sign_with, signing_key};
use genesis_tests::rig::Rig;
use genesis_tests::until;
use serde_json::{Value, json};

const HOUR_MS: i64 = 3_600_000;

fn look() -> Vec<CommandWire> {
    vec![CommandWire { action: "HEALTH_CHECK".into(), payload: None }]
}

/// A workflow that n8n refuses to activate: it has no trigger.
fn doomed() -> Vec<CommandWire> {
    let workflow = json!({"name": "Idle", "nodes": [], "connections": {}, "settings": {}});
    let command = |action: &str, payload: Value| CommandWire { action: action.into(), payload: Some(payload) };
    let deploy = json!({"key": "idle", "workflow_json": workflow});
    vec![command("DEPLOY_WORKFLOW", deploy), command("ACTIVATE_WORKFLOW", json!({"key": "idle"}))]
}

/// What a person sees.
struct Seen {
    code: i32,
    out: String,
    err: String,
}

fn seen(output: &Output) -> Seen {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let seen = Seen { code: output.status.code().unwrap(), out: text(&output.stdout), err: text(&output.stderr) };
    #[allow(clippy::print_stderr, reason = "what people see is shown where a test fails")]
    {
        eprintln!("--- exit {}\n{}{}", seen.code, seen.out, seen.err);
    }
    seen
}

/// Gives a bundle on standard input.
async fn apply(rig: &Rig, bundle: &str, more: &[&str]) -> Seen {
    let mut command = rig.apply_command(&[&["-"], more].concat());
    let bundle = bundle.to_owned();
    let run = move || {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        // A refusal may come before all of it was read.
        drop(child.stdin.take().unwrap().write_all(bundle.as_bytes()));
        child.wait_with_output().unwrap()
    };
    seen(&tokio::task::spawn_blocking(run).await.unwrap())
}

async fn apply_json(rig: &Rig, bundle: &str) -> (i32, CommandResult) {
    let seen = apply(rig, bundle, &["--json"]).await;
    (seen.code, serde_json::from_str(&seen.out).unwrap())
}

fn bundle(rig: &Rig, commands: Vec<CommandWire>) -> Bundle {
    rig.operator.bundle(rig.workspace, commands)
}

/// The events of the hub that tell of bundles applied by hand: what happened, in the words of the droplet.
async fn told(rig: &Rig) -> Vec<String> {
    let page = rig.client.events(&[("limit", "200")]).await.unwrap();
    assert!(page.next_cursor.is_none(), "a test makes few events");
    let by_hand = page.items.into_iter().filter(|event| event.code == "applied_by_hand");
    by_hand.map(|event| event.message).collect()
}

async fn told_once(rig: &Rig, bundles: &[&Bundle]) {
    until("the hub to hear of it", || async { (told(rig).await.len() >= bundles.len()).then_some(()) }).await;
    // A look that ends after it shows that nothing more was on its way.
    let job = rig.run(look()).await;
    assert_eq!(job.state, JobState::Succeeded);
    let told = told(rig).await;
    assert_eq!(told.len(), bundles.len(), "{told:?}");
    for bundle in bundles {
        assert!(told.iter().any(|message| message.contains(&bundle.id.to_string())), "{told:?}");
    }
}

#[tokio::test]
async fn a_whole_ignition_by_hand_with_the_hub_stopped_is_reported_once_when_it_is_back() {
    let mut rig = Rig::new(Kind::StandIn).await;
    let ignition = bundle(&rig, rig.ignition().await);
    assert!(rig.hub.terminate().await.success());

    let ran = apply(&rig, &rig.operator.sign(&ignition), &[]).await;
    assert_eq!(ran.code, 0, "{}", ran.err);
    for part in [
        "accepted  by the running agent",
        "done      put_workflow",
        "answer    HEALTH_CHECK  n8n_status=running",
        "succeeded all of it",
    ] {
        assert!(ran.out.contains(part), "{part:?} is in:\n{}", ran.out);
    }
    let content = rig.n8n.content(&rig.n8n_key()).await;
    assert_eq!((content.credentials.len(), content.workflows.len()), (6, 7));

    let (again, result) = apply_json(&rig, &rig.operator.sign(&ignition)).await;
    assert_eq!((again, result.code.as_str()), (5, "a10_replay"));

    let failing = bundle(&rig, doomed());
    let ran = apply(&rig, &rig.operator.sign(&failing), &[]).await;
    assert_eq!(ran.code, 6);
    for part in [
        "undone    put_workflow idle",
        "undone    activate idle",
        "failed    n8n_refused: ",
        "next      n8n is as it was before",
    ] {
        assert!(ran.out.contains(part), "{part:?} is in:\n{}", ran.out);
    }
    rig.start_hub().await;
    told_once(&rig, &[&ignition, &failing]).await;
}

#[tokio::test]
async fn with_the_service_stopped_the_command_runs_the_bundle_and_the_service_reports_it_later() {
    let mut rig = Rig::new(Kind::StandIn).await;
    let ignition = bundle(&rig, rig.ignition().await);
    assert!(rig.agent.terminate().await.success());

    // From a file, this time.
    let file = rig.folder().join("ignition.jws");
    std::fs::write(&file, rig.operator.sign(&ignition)).unwrap();
    let mut command = rig.apply_command(&[file.to_str().unwrap()]);
    let ran = seen(&tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap());
    assert_eq!(ran.code, 0, "{}", ran.err);
    assert!(ran.out.contains("accepted  by this command, for no agent runs"), "{}", ran.out);
    assert_eq!(rig.n8n.content(&rig.n8n_key()).await.workflows.len(), 7);
    assert!(told(&rig).await.is_empty());

    let (code, result) = apply_json(&rig, &rig.operator.sign(&ignition)).await;
    assert_eq!((code, result.code.as_str()), (5, "a10_replay"), "the journal remembers");
    rig.start_agent();
    told_once(&rig, &[&ignition]).await;
}

#[tokio::test]
async fn what_the_rules_refuse_is_refused_by_its_rules_name_and_changes_nothing() {
    let mut rig = Rig::new(Kind::StandIn).await;
    let sign = |change: &dyn Fn(&mut Bundle)| {
        let mut bundle = bundle(&rig, look());
        change(&mut bundle);
        rig.operator.sign(&bundle)
    };
    let destroy = json!([{"action": "DELETE_CREDENTIAL", "payload": {"name": "smtp"}}]);
    let destroy: Vec<CommandWire> = serde_json::from_value(destroy).unwrap();
    let force = json!({"reason": "a test", "expect": {"credentials_deleted": 1}});
    let cases = [
        ("a1_shape", "not a bundle".to_owned()),
        ("a1_shape", "x".repeat(BUNDLE_BYTES_MAX + 1)),
        ("a2_unknown_key", sign_with(&bundle(&rig, look()), &[&signing_key("nobody")])),
        (
            "a5_signers",
            sign(&|b| (b.commands, b.force) = (destroy.clone(), serde_json::from_value(force.clone()).unwrap())),
        ),
        ("a7_target", sign(&|b| b.targets = Targets::Workspaces(vec![WorkspaceId::from_random(random())]))),
        (
            "a8_time",
            sign(&|b| (b.not_before, b.not_after) = (now().plus_millis(-3 * HOUR_MS), now().plus_millis(-HOUR_MS))),
        ),
    ];
    for (rule, text) in &cases {
        let (code, result) = apply_json(&rig, text).await;
        assert_eq!(
            (code, result.state, result.code.as_str()),
            (5, OutcomeState::Rejected, *rule),
            "{}",
            result.message
        );
    }
    let shown = apply(&rig, &cases[4].1, &[]).await;
    assert!(shown.out.starts_with("refused   a7_target: ") && shown.out.contains("\nnext      "), "{}", shown.out);
    // The same verdicts without the service.
    assert!(rig.agent.terminate().await.success());
    for (rule, text) in &cases {
        let (code, result) = apply_json(&rig, text).await;
        assert_eq!((code, result.code.as_str()), (5, *rule), "{}", result.message);
    }
    rig.start_agent();
    told_once(&rig, &[]).await;
}

#[tokio::test]
async fn the_socket_is_the_owners_alone_and_no_client_can_hold_the_agent_up() {
    let mut rig = Rig::new(Kind::StandIn).await;
    let socket = rig.agent_dir().join("agent.sock");
    assert_eq!(std::fs::metadata(&socket).unwrap().permissions().mode() & 0o777, 0o600);

    // All connections but one are taken by clients that never say a thing.
    let silent: Vec<UnixStream> = (0..3).map(|_| UnixStream::connect(&socket).unwrap()).collect();
    assert_eq!(apply(&rig, &rig.operator.sign(&bundle(&rig, look())), &[]).await.code, 0);
    assert_eq!(rig.run(look()).await.state, JobState::Succeeded, "the hub's commands run beside them");
    drop(silent);

    let answer = |request: Vec<u8>| {
        let mut stream = UnixStream::connect(&socket).unwrap();
        tokio::task::spawn_blocking(move || {
            // It is refused before all of it was read.
            drop(stream.write_all(&request));
            let mut text = String::new();
            drop(stream.read_to_string(&mut text));
            text
        })
    };
    for request in [b"{\"erase\":{}}\n".to_vec(), b"\n".to_vec(), vec![b'x'; LOCAL_REQUEST_BYTES_MAX + 100_000]] {
        let text = answer(request).await.unwrap();
        assert!(text.is_empty() || text.contains("bad_request"), "{text}");
    }
    assert_eq!(apply(&rig, &rig.operator.sign(&bundle(&rig, look())), &[]).await.code, 0, "it serves on");

    // A crash leaves the socket behind; the next life puts its own there.
    rig.crash_agent();
    until("the new life to listen", || async { UnixStream::connect(&socket).ok() }).await;
    assert_eq!(apply(&rig, &rig.operator.sign(&bundle(&rig, look())), &[]).await.code, 0);
}

#[tokio::test]
async fn whoever_waits_is_told_when_the_agent_dies_and_the_next_life_finishes_what_was_accepted() {
    let mut rig = Rig::new(Kind::StandIn).await;
    rig.n8n.fault(json!({"path": "/", "kind": "answer", "status": 503, "body": "starting", "count": 12})).await;
    let slow = bundle(&rig, doomed()[..1].to_vec());
    let text = rig.operator.sign(&slow);
    let mut command = rig.apply_command(&["-"]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let mut first = [0; 8];
    let mut out = child.stdout.take().unwrap();
    out.read_exact(&mut first).unwrap();
    assert_eq!(&first, b"bundle  ");
    rig.agent.kill();
    let ended = seen(&child.wait_with_output().unwrap());
    assert_eq!(ended.code, 7, "{}", ended.err);
    assert!(ended.err.contains("agent_silent") && ended.err.contains("run the same command again"), "{}", ended.err);

    rig.start_agent();
    told_once(&rig, &[&slow]).await;
    assert_eq!(rig.n8n.content(&rig.n8n_key()).await.workflows.len(), 1);
}

#[tokio::test]
async fn a_droplet_without_a_journal_refuses_and_makes_no_files() {
    let mut rig = Rig::new(Kind::StandIn).await;
    let text = rig.operator.sign(&bundle(&rig, look()));
    assert!(rig.agent.terminate().await.success());
    std::fs::remove_dir_all(rig.agent_dir()).unwrap();
    let (code, result) = apply_json(&rig, &text).await;
    assert_eq!((code, result.code.as_str()), (5, "no_trust_root"));
    assert!(!rig.agent_dir().exists());

    let missing = seen(&rig.apply_command(&["/no/such/file"]).output().unwrap());
    assert_eq!(missing.code, 2);
    assert!(missing.err.contains("error[no_bundle]"), "{}", missing.err);
}
