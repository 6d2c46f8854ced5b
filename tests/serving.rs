//! The hub as a service: metrics, logs, certificates that change, systemd, and an end in order. Real processes.
#![allow(
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    reason = "a test that cannot go on, or meets anything else, fails"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::net::UnixDatagram;
use std::path::Path;

use genesis_tests::hub::BareHub;
use genesis_tests::until;
use rustix::process::Signal;
use serde_json::Value;

/// A page of metrics by the rules of the format: each family has its HELP and TYPE, once, before its samples, and each
/// series is there once. Answers the value of each series.
fn metrics(text: &str) -> BTreeMap<String, f64> {
    let (mut kinds, mut helped, mut series) = (BTreeMap::new(), BTreeSet::new(), BTreeMap::new());
    assert!(text.ends_with('\n'));
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, help) = rest.split_once(' ').unwrap();
            assert!(helped.insert(name.to_owned()) && help.ends_with('.'), "{line}");
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            assert!(helped.contains(name) && kinds.insert(name.to_owned(), kind.to_owned()).is_none(), "{line}");
        } else {
            let (key, value) = line.rsplit_once(' ').unwrap();
            let name = key.split('{').next().unwrap();
            let bare = ["_bucket", "_sum", "_count"].iter().find_map(|suffix| name.strip_suffix(suffix));
            let kind = kinds.get(name).or_else(|| kinds.get(bare?).filter(|kind| *kind == "histogram"));
            let kind = kind.unwrap_or_else(|| panic!("{line} belongs to no family"));
            assert!(kind != "counter" || name.ends_with("_total"), "{line}");
            assert!(name.starts_with("genesis_hub_") || name.starts_with("process_"), "{line}");
            assert!(series.insert(key.to_owned(), value.parse().unwrap()).is_none(), "{line} is there twice");
        }
    }
    series
}

#[tokio::test]
async fn a_scraper_gets_metrics_with_a_token_or_on_the_address_for_scrapers() {
    let hub = BareHub::start("metrics_listen = \"127.0.0.1:0\"\n").await;
    hub.enrol("412001").await;
    let refused = hub.http().get(hub.url("/metrics")).send().await.unwrap();
    assert_eq!(refused.status(), 401);
    let with_token = metrics(&hub.text("/metrics").await);
    let state = |state: &str| with_token[&format!("genesis_hub_droplets{{state=\"{state}\"}}")];
    assert_eq!((state("INITIALIZING"), state("ZOMBIE")), (1.0, 0.0));
    let handshake = "{method=\"post\",route=\"/api/v1/sidecar/handshake\"";
    assert_eq!(with_token[&format!("genesis_hub_http_requests_total{handshake},status=\"200\"}}")], 1.0);
    let duration = format!("genesis_hub_http_request_duration_seconds_bucket{handshake},le=\"+Inf\"}}");
    assert_eq!(with_token[&duration], 1.0);
    assert!(with_token["process_resident_memory_bytes"] > 1e6 && with_token["process_open_fds"] > 3.0);
    assert!(with_token["genesis_hub_http_requests_in_flight"] >= 1.0, "this very request");

    // In the clear: the same numbers, and no other path.
    let out = std::fs::read_to_string(hub.folder().join("hub.out")).unwrap();
    let line: Value = serde_json::from_str(out.lines().next().unwrap()).unwrap();
    let address = line["metrics"].as_str().unwrap();
    let open = hub.http().get(format!("http://{address}/metrics")).send().await.unwrap();
    assert_eq!(open.headers()["content-type"], "text/plain; version=0.0.4; charset=utf-8");
    let open = metrics(&open.text().await.unwrap());
    assert_eq!(open["genesis_hub_http_requests_total{method=\"get\",route=\"/metrics\",status=\"401\"}"], 1.0);
    for path in ["/", "/api/v1/jobs", "/api/v1/droplets", "/openapi.json"] {
        let answer = hub.http().get(format!("http://{address}{path}")).bearer_auth(&hub.admin).send().await.unwrap();
        assert_eq!(answer.status(), 404, "{path}");
    }
}

#[tokio::test]
async fn each_line_of_the_log_is_json_and_names_its_request() {
    let mut hub = BareHub::start("").await;
    let answer = hub.http().get(hub.url("/api/v1/jobs/x")).header("x-request-id", "ci-77").bearer_auth(&hub.admin);
    let answer = answer.send().await.unwrap();
    assert_eq!((answer.status().as_u16(), answer.headers()["x-request-id"].to_str().unwrap()), (400, "ci-77"));
    hub.enrol("412001").await;
    assert!(hub.process.terminate().await.success());
    let log = hub.process.log();
    let lines: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).expect(line)).collect();
    assert!(lines.iter().all(|line| line["timestamp"].is_string() && line["level"].is_string()));
    let refused = lines.iter().find(|line| line["fields"]["message"] == "refused").unwrap();
    assert_eq!((&refused["span"]["request_id"], &refused["fields"]["code"]), (&"ci-77".into(), &"malformed".into()));
    // What the store says, on its own thread, names it as well.
    let enrolled = lines.iter().find(|line| line["fields"]["message"] == "enrolled").unwrap();
    assert_eq!(enrolled["span"]["request_id"].as_str().unwrap().len(), 36);
    assert!(!log.contains(&hub.admin), "no token is ever logged");
}

/// Another certificate for the same names, by another authority; the authority's certificate.
fn another_certificate(folder: &Path) -> std::path::PathBuf {
    let other = folder.join("other");
    let mut init = std::process::Command::new(genesis_tests::process::binary("genesis-hub"));
    assert!(init.arg("init").arg("--data-dir").arg(&other).output().unwrap().status.success());
    other
}

/// Whether a new connection is trusted under this authority.
async fn trusted(hub: &BareHub, ca: &Path) -> bool {
    let ca = reqwest::Certificate::from_pem_bundle(&std::fs::read(ca).unwrap()).unwrap();
    let client = reqwest::Client::builder().tls_certs_only(ca).build().unwrap();
    client.get(hub.url("/healthz")).send().await.is_ok()
}

#[tokio::test]
async fn a_new_certificate_is_taken_in_on_a_signal_or_when_its_files_change_and_a_bad_one_is_not() {
    let mut hub = BareHub::start("tls_watch_interval_s = 86400\n").await;
    let before = hub.ca_file();
    let kept = hub.http();
    kept.get(hub.url("/healthz")).send().await.unwrap();
    let other = another_certificate(hub.folder());
    let own = hub.folder().join("hub");
    let saved: Vec<_> =
        ["tls-cert.pem", "tls-key.pem"].map(|name| (name, std::fs::read(own.join(name)).unwrap())).into();

    // Half of a change, and garbage: the hub goes on with what it has.
    std::fs::copy(other.join("tls-cert.pem"), own.join("tls-cert.pem")).unwrap();
    hub.signal(Signal::HUP);
    until("the log to tell of it", || async { hub.process.log().contains("tls_reload_failed").then_some(()) }).await;
    assert!(trusted(&hub, &before).await);
    std::fs::copy(other.join("tls-key.pem"), own.join("tls-key.pem")).unwrap();
    hub.signal(Signal::HUP);
    until("the new certificate", || async { trusted(&hub, &other.join("ca.pem")).await.then_some(()) }).await;
    assert!(!trusted(&hub, &before).await);
    // The connection that was there stays.
    assert!(kept.get(hub.url("/healthz")).send().await.unwrap().status().is_success());

    // Without a signal: the files alone.
    assert!(hub.process.terminate().await.success());
    std::fs::write(hub.folder().join("hub.toml"), "tls_watch_interval_s = 1\n").unwrap();
    hub.restart().await;
    for (name, bytes) in saved {
        std::fs::write(own.join(name), bytes).unwrap();
    }
    until("the old certificate again", || async { trusted(&hub, &before).await.then_some(()) }).await;
    let text = hub.text("/metrics").await;
    assert_eq!(metrics(&text)["genesis_hub_tls_reloads_total{outcome=\"done\"}"], 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn systemd_hears_when_the_hub_is_ready_alive_and_stopping() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(genesis_tests::PATIENCE)).unwrap();
    let environment = [("NOTIFY_SOCKET", path.to_str().unwrap()), ("WATCHDOG_USEC", "400000")];
    let mut hub = BareHub::start_with("", &environment).await;
    let hear = || {
        let mut bytes = [0; 512];
        let length = tokio::task::block_in_place(|| socket.recv(&mut bytes)).unwrap();
        String::from_utf8(bytes[..length].to_vec()).unwrap()
    };
    assert_eq!(hear(), format!("READY=1\nSTATUS=listening on {}", hub.address));
    assert_eq!((hear().as_str(), hear().as_str()), ("WATCHDOG=1", "WATCHDOG=1"));
    hub.signal(Signal::TERM);
    let last = std::iter::from_fn(|| Some(hear())).find(|said| said != "WATCHDOG=1").unwrap();
    assert!(last.starts_with("STOPPING=1"), "{last}");
    assert!(hub.process.exit().await.success());
}

#[tokio::test]
async fn a_stop_answers_whoever_waits_and_loses_nothing() {
    let mut hub = BareHub::start("").await;
    let droplet = hub.enrol("412001").await;
    let url = hub.url("/api/v1/sidecar/commands?wait=25&nonce=0123456789abcdef");
    let poll = hub.http().get(url).bearer_auth(&droplet.token).send();
    let stream = hub.http().get(hub.url("/api/v1/events/stream")).bearer_auth(&hub.admin).send().await.unwrap();
    let poll = tokio::spawn(poll);
    until("the poll to wait", || async {
        let waiting = metrics(&hub.text("/metrics").await)["genesis_hub_polls_waiting"];
        (waiting == 1.0).then_some(())
    })
    .await;
    assert!(hub.process.terminate().await.success());
    assert_eq!(poll.await.unwrap().unwrap().status(), 204);
    let said = stream.text().await.unwrap();
    assert!(said.ends_with("\n\n") && said.contains("event: hub:end\ndata: {\"code\":\"stopping\""), "{said}");
}
