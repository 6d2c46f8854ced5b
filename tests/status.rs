//! What a person on the droplet sees: status, journal, doctor, diag, metrics. Read-only, and without a secret.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::process::Output;

use genesis_tests::canary::MARK;
use genesis_tests::n8n::Kind;
use genesis_tests::rig::Rig;
use genesis_tests::until;
use serde_json::Value;

fn show(rig: &Rig, args: &[&str]) -> Output {
    rig.agent_command(args).output().unwrap()
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[tokio::test]
async fn status_journal_and_diag_tell_what_runs_and_hold_no_secret() {
    let rig = Rig::new(Kind::StandIn).await;
    let commands = rig.ignition().await;
    rig.run(commands).await;
    let status = until("the agent to have heard of the hub", || async {
        let output = show(&rig, &["status"]);
        text(&output).contains("hub         heard").then_some(output)
    })
    .await;
    assert!(status.status.success(), "{}", text(&status));
    for word in ["n8n         running", "0 open", "doctor"] {
        assert!(text(&status).contains(word), "{word}: {}", text(&status));
    }
    // What the machine itself is short of is none of this test's doing.
    assert!(!text(&status).contains("n8n_down") && !text(&status).contains("hub_not_heard"), "{}", text(&status));
    let journal = text(&show(&rig, &["journal"]));
    assert!(journal.contains("succeeded") && journal.contains("INJECT_CREDENTIAL"), "{journal}");
    let diag = show(&rig, &["diag"]);
    let parsed: Value = serde_json::from_slice(&diag.stdout).unwrap();
    // Whether the machine that runs this has little to spare is none of its doing; anything else would be wrong.
    let state = parsed["status"]["state"].as_str().unwrap();
    assert!(["ACTIVE_HEALTHY", "ACTIVE_DEGRADED"].contains(&state), "{state}");
    assert_eq!(parsed["journal"][0]["state"], "succeeded");
    for output in [text(&diag), journal, text(&status)] {
        assert!(!output.contains(MARK), "{output}");
    }
}

#[tokio::test]
async fn doctor_names_what_is_wrong_and_says_so_in_its_exit_code() {
    let mut rig = Rig::new(Kind::StandIn).await;
    rig.n8n.kill();
    let output = until("the doctor to notice", || async {
        let output = show(&rig, &["doctor"]);
        text(&output).contains("n8n_down").then_some(output)
    })
    .await;
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    rig.agent.kill();
    let gone = show(&rig, &["doctor"]);
    assert_eq!(gone.status.code(), Some(7), "{}", text(&gone));
    assert!(text(&gone).contains("is the service running?"), "{}", text(&gone));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scraper_gets_metrics_over_the_socket_and_nothing_else() {
    let rig = Rig::new(Kind::StandIn).await;
    let get = |path: &str| {
        let mut stream = UnixStream::connect(rig.agent_dir().join("agent.sock")).unwrap();
        stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: agent\r\n\r\n").as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    };
    let metrics = tokio::task::block_in_place(|| get("/metrics"));
    assert!(metrics.starts_with("HTTP/1.1 200 OK"), "{metrics}");
    assert!(metrics.contains("\ngenesis_n8n_up 1\n"), "{metrics}");
    let typed = metrics.lines().filter(|line| line.starts_with("# TYPE genesis_")).count();
    let helped = metrics.lines().filter(|line| line.starts_with("# HELP genesis_")).count();
    assert!(typed > 10 && typed == helped, "{metrics}");
    assert!(tokio::task::block_in_place(|| get("/")).starts_with("HTTP/1.1 404"));
}
