//! `siege`: thousands of idle connections and every kind of bad client, and what others notice of it.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use genesis_tests::hub::BareHub;
use genesis_tests::siege::{Evil, Target};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::{Failure, say};

/// Idle connections of one address; the hub lets one have half of its places.
const PER_ADDRESS: usize = 5_000;

#[derive(clap::Args)]
pub struct Options {
    /// Connections that are opened and then say nothing.
    #[arg(long, default_value_t = 10_000)]
    idle: usize,
    /// Bad clients of each other kind at a time; one that is cut off is followed by the next.
    #[arg(long, default_value_t = 10)]
    evil: usize,
    /// Requests of the good client, one after the other.
    #[arg(long, default_value_t = 500)]
    requests: usize,
}

pub fn run(options: &Options) -> Result<Value, Failure> {
    raise_limit()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(measure(options))
}

/// One file descriptor for each connection, here as in the hub.
fn raise_limit() -> Result<(), Failure> {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    Ok(setrlimit(Resource::Nofile, limit)?)
}

#[allow(clippy::disallowed_methods, reason = "a bench measures real time")]
async fn measure(options: &Options) -> Result<Value, Failure> {
    // Long enough that all of them stand at the same time.
    let hub = BareHub::start("slow_client_s = 120\n").await;
    let droplet = hub.enrol("412001").await;
    let alone = ask(&hub, &droplet.token, options.requests).await?;
    let (resident, _) = hub.process.resident_bytes();

    let began = std::time::Instant::now();
    let mut held = Vec::with_capacity(options.idle);
    for at in 0..options.idle {
        let from = IpAddr::V4(Ipv4Addr::new(127, 0, 1, u8::try_from(at / PER_ADDRESS + 1)?));
        held.push(Target::new(&hub, from).shake().await?);
        if at % 2_000 == 1_999 {
            say(&format!("{} idle", at + 1));
        }
    }
    let opened_s = began.elapsed().as_secs_f64();
    let (under, _) = hub.process.resident_bytes();
    let idle = ask(&hub, &droplet.token, options.requests).await?;

    let target = Target::new(&hub, IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2)));
    let mut bad = JoinSet::new();
    for evil in Evil::ALL.into_iter().cycle().take(Evil::ALL.len() * options.evil) {
        let target = target.clone();
        bad.spawn(async move {
            loop {
                target.clone().attack(evil).await;
                // Some are cut off at once; a flood of those measures the machine's processor and no more.
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        });
    }
    let evil = ask(&hub, &droplet.token, options.requests).await?;
    bad.shutdown().await;
    let open = hub
        .text("/metrics")
        .await
        .lines()
        .find_map(|line| line.strip_prefix("genesis_hub_connections ")?.parse::<f64>().ok());
    let still_open = open.unwrap_or(0.0);
    #[allow(clippy::cast_precision_loss, reason = "far below 2^52")]
    if still_open < options.idle as f64 {
        return Err(format!("only {still_open} of {} idle connections stood to the end", options.idle).into());
    }
    Ok(json!({
        "idle": held.len(), "opened_s": round(opened_s), "requests": options.requests,
        "alone": alone, "with_idle": idle, "with_idle_and_bad_clients": evil,
        "bad_clients_at_a_time": Evil::ALL.len() * options.evil,
        "hub_bytes_per_idle": under.saturating_sub(resident) / held.len().max(1) as u64,
        "method": "one hub process; idle connections have shaken hands and ask nothing; the good client asks /readyz and an empty poll in turn over one connection, each tenth time over a new one; every request must be answered",
    }))
}

/// How long the good client waits for its answers. An answer that is none is a failure of the whole bench.
#[allow(clippy::disallowed_methods, reason = "a bench measures real time")]
async fn ask(hub: &BareHub, token: &str, requests: usize) -> Result<Value, Failure> {
    let mut client = hub.http();
    let mut took = Vec::with_capacity(requests);
    for at in 0..requests {
        if at % 10 == 9 {
            client = hub.http();
        }
        let began = std::time::Instant::now();
        let request = if at % 2 == 0 {
            client.get(hub.url("/readyz"))
        } else {
            client.get(hub.url("/api/v1/sidecar/commands?wait=0&nonce=0123456789abcdef")).bearer_auth(token)
        };
        let status = request.send().await?.status();
        took.push(began.elapsed().as_secs_f64() * 1000.0);
        if !status.is_success() {
            return Err(format!("a good client was answered {status}").into());
        }
        // The droplet's own measure is 20 a second.
        tokio::time::sleep(Duration::from_millis(30)).await;
    }
    took.sort_by(f64::total_cmp);
    let at = |share: usize| round(took[(took.len() - 1) * share / 100]);
    Ok(json!({"p50_ms": at(50), "p99_ms": at(99), "max_ms": at(100)}))
}

fn round(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}
