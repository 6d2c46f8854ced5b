//! The served OpenAPI document against the hub that serves it, by Schemathesis: whatever it makes of the document, no
//! answer is a 5xx or of another shape than described, what fits the document is taken, and what does not is refused.
#![allow(
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    reason = "a test that cannot go on, or meets anything else, fails"
)]

use std::process::Command;

use genesis_tests::hub::BareHub;

/// As much as 15 seconds of each plane; `GENESIS_SCHEMATHESIS_EXAMPLES` looks longer.
const EXAMPLES: &str = "25";
/// Two checks are left out. `ignored_auth` takes any answer but 401 for an open door, and is asked of each route against
/// each caller by the hub's own table; `use_after_free` has nothing to look for, as nothing can be deleted.
const CHECKS: &str = "not_a_server_error,status_code_conformance,content_type_conformance,response_headers_conformance,\
    response_schema_conformance,negative_data_rejection,positive_data_acceptance,missing_required_header,\
    unsupported_method,allow_header_conformance,ensure_resource_availability";
/// Schemathesis need not guess what a hub knows, and must not lift the limits that it tests.
const CONFIG: &str = "poll_wait_s = 1\napi_rate_per_s = 1000000\napi_burst = 1000000\nsidecar_rate_per_s = 1000000\n\
    sidecar_burst = 1000000\n";
/// A well-formed request may be refused for what it asks: the thing is not there, not newer, not the caller's.
const ACCEPTED: &str = "[checks]\npositive_data_acceptance.expected-statuses = [\"2xx\", 401, 403, 404, 409, 422]\n";

/// Runs it on the paths that match; its whole output where it found something.
fn schemathesis(hub: &BareHub, whose: (&str, &[(&str, &str)]), ids: &str, plane: &[&str], seed: &str) {
    let (token, environment) = whose;
    let program =
        std::env::var_os("GENESIS_SCHEMATHESIS").expect("GENESIS_SCHEMATHESIS is not set; tests/run.sh sets it");
    let examples = std::env::var("GENESIS_SCHEMATHESIS_EXAMPLES").unwrap_or_else(|_| EXAMPLES.to_owned());
    let folder = hub.folder().join("schemathesis");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("schemathesis.toml"), format!("{ACCEPTED}[parameters]\n{ids}")).unwrap();
    let mut command = Command::new(program);
    command.current_dir(&folder).args(["--config-file", "schemathesis.toml", "run"]);
    command.env("SCHEMATHESIS_HOOKS", concat!(env!("CARGO_MANIFEST_DIR"), "/schemathesis_hooks.py"));
    command.envs(environment.iter().copied());
    command.arg(hub.url("/api/v1/openapi.json"));
    command.args(["--header", &format!("Authorization: Bearer {token}")]);
    command.arg("--tls-verify").arg(hub.ca_file());
    command.args(["--checks", CHECKS, "--phases", "examples,coverage,fuzzing", "--seed", seed]);
    command.args(["--max-examples", &examples, "--continue-on-failure", "--no-color", "--request-timeout", "20"]);
    let output = command.args(plane).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    print_last(&text);
}

#[allow(clippy::print_stderr, reason = "how much was tried is a figure that the test prints")]
fn print_last(text: &str) {
    let lines: Vec<_> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    eprintln!("{}", lines[lines.len().saturating_sub(12)..].join("\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn schemathesis_finds_no_answer_that_the_document_does_not_describe() {
    let mut hub = BareHub::start(CONFIG).await;
    let droplet = hub.enrol("412001").await;
    let commands = serde_json::from_str(r#"[{"action": "HEALTH_CHECK"}]"#).unwrap();
    let bundle = hub.operator.sign(&hub.operator.bundle(droplet.workspace, commands));
    let pushed = hub.client.push(bundle.as_bytes()).await.unwrap();
    let (job, bundle) = (pushed.job_ids[0], pushed.bundle_id);
    // What is there, or else most paths would lead nowhere.
    let ids = format!("droplet_id = \"412001\"\njob_id = \"{job}\"\nbundle_id = \"{bundle}\"\n");
    let seed = std::env::var("GENESIS_SEED").unwrap_or_else(|_| "1".to_owned());
    tokio::task::block_in_place(|| {
        // The stream has no end; its own tests read it.
        // JSON Schema takes 7.0 for an integer, and the hub does not: where bodies have integers, that it refuses some is
        // no finding.
        let (without, acceptance) = ("--exclude-checks", "positive_data_acceptance");
        let operators = [
            ["--exclude-path-regex", "^/api/v1/sidecar/"],
            ["--exclude-path", "/api/v1/events/stream"],
            ["--exclude-path", "/api/v1/queues"],
        ];
        let queues = ["--include-path", "/api/v1/queues", without, acceptance];
        schemathesis(&hub, (&hub.admin, &[]), &ids, &queues, &seed);
        schemathesis(&hub, (&hub.admin, &[]), &ids, operators.as_flattened(), &seed);
        let agents = ["--include-path-regex", "^/api/v1/sidecar/", without, acceptance];
        let (id, workspace) = (droplet.id.to_string(), droplet.workspace.to_string());
        let own = [("GENESIS_DROPLET", id.as_str()), ("GENESIS_WORKSPACE", workspace.as_str())];
        schemathesis(&hub, (&droplet.token, &own), "", &agents, &seed);
    });
    assert!(hub.process.is_running());
    let log = hub.process.log();
    let bad = log.lines().filter(|line| line.contains("\"ERROR\"") || line.contains("panicked"));
    assert_eq!(bad.collect::<Vec<_>>(), Vec::<&str>::new(), "nothing may go wrong inside either");
}
