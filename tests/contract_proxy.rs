//! The proxy's contract, held against the pretend one and against the real Caddy; and what only the real one can show:
//! requests that wait, streams that go on, certificates.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]
#![allow(clippy::print_stdout, reason = "how long requests waited is worth reading")]
#![allow(async_fn_in_trait, reason = "one task drives a test; its futures need not be Send")]

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use genesis_agent::core::routes;
use genesis_agent::core::stack::{StackRow, StackSettings};
use genesis_agent::ports::ErrorKind;
use genesis_agent::ports::stack::Proxy;
use genesis_agent::real::caddy::Caddy;
use genesis_agent::sim::{Crash, ProxyFault, SimProxy};
use genesis_shared::id::Digest;
use genesis_tests::caddy::{CaddyLab, HOST};
use genesis_tests::droplet::stack_settings;
use genesis_tests::until;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// What the contract needs of a proxy, whichever it is. It begins with the configuration of its settings.
trait Stage {
    type Proxy: Proxy;
    fn proxy(&self) -> &Self::Proxy;
    fn settings(&self) -> &StackSettings;
    /// A configuration that it will refuse when it is loaded next.
    fn refusable(&self) -> Value;
    /// Starts it again.
    async fn restart(&self);

    fn config(&self, hosts: &[&str]) -> Value {
        let domains = hosts.iter().map(|host| ((*host).to_owned(), false)).collect();
        routes::config(self.settings(), &StackRow { domains, ..StackRow::default() })
    }
}

impl Stage for CaddyLab {
    type Proxy = Caddy;
    fn proxy(&self) -> &Caddy {
        &self.proxy
    }
    fn settings(&self) -> &StackSettings {
        &self.settings
    }
    fn refusable(&self) -> Value {
        let mut config = self.desired();
        config["apps"]["http"]["servers"]["public"]["routes"][0]["handle"][0]["handler"] = json!("no_such_handler");
        config
    }
    async fn restart(&self) {
        self.engine("restart");
        self.answers().await;
    }
}

struct Pretend(SimProxy, StackSettings);

impl Pretend {
    fn start() -> Self {
        let stage = Self(SimProxy::new(Crash::default()), stack_settings());
        let config = stage.config(&[]);
        stage.0.keep_config(&config).unwrap();
        stage.0.restart();
        stage
    }
}

impl Stage for Pretend {
    type Proxy = SimProxy;
    fn proxy(&self) -> &SimProxy {
        &self.0
    }
    fn settings(&self) -> &StackSettings {
        &self.1
    }
    fn refusable(&self) -> Value {
        self.0.fail(&[ProxyFault::Refused]);
        json!({})
    }
    async fn restart(&self) {
        self.0.restart();
    }
}

/// One function, two tests.
macro_rules! contract {
    ($($name:ident)*) => {
        mod real {
            use super::*;
            $(#[tokio::test] async fn $name() { super::$name(&CaddyLab::start().await).await; })*
        }
        mod pretend {
            use super::*;
            $(#[tokio::test] async fn $name() { super::$name(&Pretend::start()).await; })*
        }
    };
}

contract! {
    runs_with_what_was_loaded_and_does_so_after_a_restart
    a_refused_configuration_leaves_the_old_one_running_and_kept
    an_edited_configuration_differs_until_it_is_loaded_again
    is_held_until_released_however_often_it_is_said_and_over_a_restart
    a_new_host_gets_a_certificate_whose_end_is_told_and_no_other_host_does
}

async fn runs_with_what_was_loaded_and_does_so_after_a_restart(stage: &impl Stage) {
    let (proxy, wanted) = (stage.proxy(), stage.config(&["a.test"]));
    assert_eq!(proxy.config().await.unwrap(), stage.config(&[]));
    proxy.load(&wanted).await.unwrap();
    proxy.load(&wanted).await.unwrap();
    assert_eq!(proxy.config().await.unwrap(), wanted);
    stage.restart().await;
    assert_eq!(proxy.config().await.unwrap(), wanted);
}

async fn a_refused_configuration_leaves_the_old_one_running_and_kept(stage: &impl Stage) {
    let (proxy, former) = (stage.proxy(), stage.config(&[]));
    let refusal = proxy.load(&stage.refusable()).await.unwrap_err();
    assert_eq!((refusal.kind, refusal.code), (ErrorKind::Permanent, "proxy_refused_config"), "{refusal}");
    assert_eq!(proxy.config().await.unwrap(), former);
    stage.restart().await;
    assert_eq!(proxy.config().await.unwrap(), former);
}

async fn an_edited_configuration_differs_until_it_is_loaded_again(stage: &impl Stage) {
    let (proxy, wanted) = (stage.proxy(), stage.config(&[]));
    let mut edited = wanted.clone();
    edited["apps"]["http"]["servers"]["public"]["routes"] = json!([]);
    proxy.load(&edited).await.unwrap();
    assert_ne!(proxy.config().await.unwrap(), wanted);
    proxy.load(&wanted).await.unwrap();
    assert_eq!(proxy.config().await.unwrap(), wanted);
}

async fn is_held_until_released_however_often_it_is_said_and_over_a_restart(stage: &impl Stage) {
    let proxy = stage.proxy();
    proxy.release().unwrap();
    assert!(!proxy.is_held().unwrap());
    proxy.hold().await.unwrap();
    proxy.hold().await.unwrap();
    stage.restart().await;
    proxy.load(&stage.config(&["a.test"])).await.unwrap();
    assert!(proxy.is_held().unwrap());
    proxy.release().unwrap();
    proxy.release().unwrap();
    assert!(!proxy.is_held().unwrap());
}

async fn a_new_host_gets_a_certificate_whose_end_is_told_and_no_other_host_does(stage: &impl Stage) {
    let proxy = stage.proxy();
    assert_eq!(proxy.certificate_expires_at("a.test").await, None);
    proxy.load(&stage.config(&["a.test"])).await.unwrap();
    let end = until("a certificate", || async { proxy.certificate_expires_at("a.test").await }).await;
    assert!(end.to_string().starts_with("20"), "{end}");
    assert_eq!(proxy.certificate_expires_at("b.test").await, None);
    assert!(proxy.certificate_expires_at(&stage.settings().host).await.is_some(), "the bootstrap name stays");
}

/// Posts bodies, each under an id of its own, and answers a task for each.
fn post(lab: &CaddyLab, ids: std::ops::Range<u32>) -> Vec<tokio::task::JoinHandle<(u16, bool)>> {
    let send = |id: u32| {
        let (client, url) = (lab.client(), lab.url("/webhook/x"));
        let body: Vec<u8> = (0..5_000 + id).map(|n| u8::try_from(n.wrapping_mul(id) % 251).unwrap()).collect();
        tokio::spawn(async move {
            let digest = Digest::of(&body).to_string();
            let answer = client.post(url).header("x-id", id.to_string()).body(body).send().await.unwrap();
            let status = answer.status().as_u16();
            let echoed: Value = serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap_or_default();
            (status, echoed["digest"] == digest)
        })
    };
    ids.map(send).collect()
}

async fn all_arrived(tasks: Vec<tokio::task::JoinHandle<(u16, bool)>>) {
    for task in tasks {
        assert_eq!(task.await.unwrap(), (200, true));
    }
}

/// How many ids the upstream has seen, each of them once.
async fn seen(lab: &CaddyLab) -> usize {
    let seen = lab.upstream("seen").await;
    let seen = seen.as_object().unwrap();
    let twice: BTreeSet<&String> = seen.iter().filter(|(_, count)| **count != 1).map(|(id, _)| id).collect();
    assert!(twice.is_empty(), "seen more than once: {twice:?}");
    seen.len()
}

#[tokio::test]
async fn what_comes_while_held_waits_and_arrives_whole_and_once() {
    let lab = CaddyLab::start().await;
    all_arrived(post(&lab, 0..20)).await;
    lab.proxy.hold().await.unwrap();
    let before = seen(&lab).await;
    let held = post(&lab, 100..200);
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!((seen(&lab).await, lab.proxy.in_flight().await), (before, Some(0)), "nothing passes a closed gate");
    #[allow(clippy::disallowed_methods, reason = "the pause of a held request is measured")]
    let released = Instant::now();
    lab.proxy.release().unwrap();
    all_arrived(held).await;
    println!("100 held requests answered {} ms after the release", released.elapsed().as_millis());
    assert_eq!(seen(&lab).await, before + 100);
}

#[tokio::test]
async fn nothing_passes_a_closed_gate_while_the_proxy_is_killed_and_starts_again() {
    let lab = CaddyLab::start().await;
    lab.proxy.hold().await.unwrap();
    lab.engine("kill");
    lab.engine("start");
    lab.answers().await;
    let held = post(&lab, 0..20);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(seen(&lab).await, 0);
    lab.proxy.release().unwrap();
    all_arrived(held).await;
}

#[tokio::test]
async fn an_n8n_that_is_still_starting_gets_no_request() {
    let lab = CaddyLab::start().await;
    for mode in ["migrating", "loading"] {
        lab.upstream(&format!("mode/{mode}")).await;
        let unready = || async {
            let get = lab.client().get(lab.url("/x")).timeout(Duration::from_millis(1_500)).send();
            get.await.is_err().then_some(())
        };
        until("the proxy to notice", unready).await;
        let before = seen(&lab).await;
        let held = post(&lab, if mode == "loading" { 0..10 } else { 10..20 });
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(seen(&lab).await, before);
        lab.upstream("mode/up").await;
        all_arrived(held).await;
    }
}

#[tokio::test]
async fn a_request_that_waits_too_long_is_told_when_to_come_again() {
    let lab = CaddyLab::start().await;
    let short = lab.desired().to_string().replace("180s", "1s");
    lab.proxy.load(&serde_json::from_str(&short).unwrap()).await.unwrap();
    lab.proxy.hold().await.unwrap();
    let answer = lab.client().post(lab.url("/x")).body("x").send().await.unwrap();
    assert_eq!(answer.status(), 503);
    assert_eq!(answer.headers()["retry-after"], "10");
    let body: Value = serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap();
    assert_eq!(body["code"], "n8n_unavailable");
}

#[tokio::test]
async fn a_request_that_n8n_may_have_taken_is_not_sent_again() {
    let lab = CaddyLab::start().await;
    let answer = lab.client().get(lab.url("/die")).header("x-id", "once").send().await.unwrap();
    assert_eq!(answer.status(), 503);
    assert_eq!(lab.upstream("seen").await["once"], 1);
}

#[tokio::test]
async fn streams_and_websockets_go_on_over_a_reload() {
    let lab = CaddyLab::start().await;
    let mut events = lab.client().get(lab.url("/events")).send().await.unwrap();
    let upgrade = lab.client().get(lab.url("/push")).header("connection", "upgrade").header("upgrade", "websocket");
    let mut socket = upgrade.send().await.unwrap().upgrade().await.unwrap();
    for hosts in [&["a.test"][..], &["a.test", "b.test"], &[]] {
        lab.proxy.load(&lab.desired_with(hosts)).await.unwrap();
        assert!(events.chunk().await.unwrap().is_some());
        socket.write_all(b"ping").await.unwrap();
        let mut echo = [0; 4];
        socket.read_exact(&mut echo).await.unwrap();
        assert_eq!(&echo, b"ping");
    }
}

#[tokio::test]
async fn n8n_is_told_the_client_by_the_proxy_and_by_nobody_else() {
    let lab = CaddyLab::start().await;
    let claim = lab.client().get(lab.url("/x")).header("x-forwarded-for", "203.0.113.9").header("x-genesis-check", "1");
    let answer: Value = serde_json::from_slice(&claim.send().await.unwrap().bytes().await.unwrap()).unwrap();
    let headers = &answer["headers"];
    assert_eq!(headers["x-forwarded-proto"], "https");
    assert!(headers["x-forwarded-host"].as_str().unwrap().starts_with(HOST), "{headers}");
    let client = headers["x-forwarded-for"].as_str().unwrap();
    assert!(client.parse::<std::net::IpAddr>().is_ok() && client != "203.0.113.9", "{headers}");
    assert!(headers.get("x-genesis-check").is_none(), "{headers}");
}

#[tokio::test]
async fn the_admin_socket_and_the_configuration_are_for_the_owner_alone() {
    use std::os::unix::fs::PermissionsExt;
    let lab = CaddyLab::start().await;
    for file in ["admin.sock", "n8n.sock", "caddy.json"] {
        let mode = std::fs::metadata(lab.shared().join(file)).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{file}");
    }
}
