//! Jobs per second through the hub's store: stored, handed out and ended, each step durable; beside BullMQ on Redis.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use genesis_hub::store::Store;
use genesis_hub::store::enrolment::{Handshake, HandshakeContext};
use genesis_hub::store::results::{Sender, Stored};
use genesis_shared::bundle::{Bundle, Targets};
use genesis_shared::command::CommandWire;
use genesis_shared::id::{Digest, DropletId, JobId, WorkspaceId};
use genesis_shared::report::{CommandResult, OutboxRecord, OutcomeState, Record};
use genesis_shared::trust::NamedKey;
use genesis_shared::wire::{DropletCreate, HandshakeRequest, Preflight, TrustRootView};
use genesis_tests::operator::{Operator, named, now as wall, random, signing_key};
use genesis_tests::process::Process;
use genesis_tests::swarm::now;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::task::JoinSet;

use super::{Failure, say};

#[derive(clap::Args)]
pub struct Options {
    /// Jobs in each run; a multiple of 100.
    #[arg(long, default_value_t = 50_000)]
    jobs: u32,
    /// A folder with node_modules/bullmq.
    #[arg(long, env = "GENESIS_BULLMQ")]
    bullmq: Option<PathBuf>,
    /// Where the files of both are; a disk, not memory.
    #[arg(long)]
    folder: Option<PathBuf>,
}

/// Droplets that the jobs are for, and targets of one bundle: what BullMQ gets as one bulk.
const DROPLETS: u32 = 1_000;
const BULK: u32 = 100;
/// Pushes that are under way at once, as many as BullMQ's bulks.
const PUSHES: usize = 16;
/// Droplets that fetch and report at once, as many as BullMQ's workers.
const FETCHERS: u32 = 200;

pub fn run(options: &Options) -> Result<Value, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let mut figures = runtime.block_on(measure(options))?;
    let ours = figures["end_to_end_per_s"].as_f64().unwrap_or_default();
    let theirs = match bullmq(options) {
        Ok(theirs) => {
            say(&format!("BullMQ: {theirs}"));
            figures["bullmq"] = theirs.clone();
            theirs["end_to_end_per_s"].as_f64()
        }
        Err(why) => {
            say(&format!("BullMQ was left out: {why}"));
            figures["bullmq_left_out"] = why.to_string().into();
            None
        }
    };
    figures["bullmq_end_to_end_per_s"] = json!(theirs.map(f64::round));
    figures["ratio"] = json!(theirs.map(|theirs| (ours / theirs * 100.0).round() / 100.0));
    Ok(figures)
}

fn folder(options: &Options) -> Result<TempDir, Failure> {
    Ok(match &options.folder {
        Some(folder) => TempDir::with_prefix_in("genesis-queue-", folder)?,
        None => TempDir::with_prefix("genesis-queue-")?,
    })
}

struct Scene {
    store: Store,
    operator: Operator,
    senders: Vec<Sender>,
}

async fn measure(options: &Options) -> Result<Value, Failure> {
    let folder = folder(options)?;
    let scene = Arc::new(scene(&folder.path().join("hub.db")).await?);
    say(&format!("{DROPLETS} droplets are enrolled"));
    let per_s = |from: std::time::Instant| (f64::from(options.jobs) / from.elapsed().as_secs_f64()).round();
    let from = now();
    enqueue(&scene, options.jobs).await?;
    let enqueue_per_s = per_s(from);
    say(&format!("stored {enqueue_per_s} a second"));
    let commits = scene.store.commits();
    let from = now();
    work(&scene, options.jobs, 0).await?;
    let process_per_s = per_s(from);
    let commits = scene.store.commits() - commits;
    say(&format!("handed out and ended {process_per_s} a second in {commits} commits"));
    let from = now();
    let begun = options.jobs / DROPLETS;
    let (stored, ended) = tokio::join!(enqueue(&scene, options.jobs), work(&scene, options.jobs, begun));
    stored?;
    ended?;
    let end_to_end_per_s = per_s(from);
    Ok(json!({
        "enqueue_per_s": enqueue_per_s,
        "process_per_s": process_per_s,
        "end_to_end_per_s": end_to_end_per_s,
        "jobs": options.jobs,
        "method": format!("the hub's store with synchronous=FULL and group commit, in this process: signed bundles for {BULK} tenants each, {PUSHES} pushes at once; {FETCHERS} droplets at once ask, lease up to 4 jobs and report acceptance and result, every answer after its commit. BullMQ: bulks of {BULK}, 16 at once, one worker with {FETCHERS} jobs at once, Redis with appendfsync always; each in the same run on the same disk"),
    }))
}

async fn scene(path: &Path) -> Result<Scene, Failure> {
    let store = Store::open(path)?;
    let delivery = signing_key("hub-1");
    let operator = Operator::new(NamedKey { kid: "hub-1".parse()?, public_key: named(&delivery).public_key });
    let root = TrustRootView { version: 1, digest: operator.pin, document: operator.root_document.clone() };
    store.put_trust_root(root, "bench".into(), wall()).await?;
    let mut senders = Vec::new();
    for number in 0..DROPLETS {
        senders.push(enrol(&store, &delivery.public(), number).await?);
    }
    Ok(Scene { store, operator, senders })
}

async fn enrol(store: &Store, key: &genesis_shared::id::PublicKey, number: u32) -> Result<Sender, Failure> {
    let (workspace, droplet): (_, DropletId) = (WorkspaceId::from_random(random()), format!("q-{number}").parse()?);
    let create = DropletCreate {
        workspace_id: workspace,
        droplet_id: droplet.clone(),
        name: None,
        region: None,
        labels: Default::default(),
    };
    let token = format!("{number}");
    store.register_droplet(create, Digest::of(token.as_bytes()), "bench".into(), wall()).await?;
    let request = HandshakeRequest {
        provisioning_token: token,
        workspace_id: workspace,
        droplet_id: droplet.clone(),
        droplet_ip: None,
        webhook_url: None,
        agent_version: "bench".into(),
        n8n_version: None,
        identity_key: *key,
        sealing_key: *key,
        boot_epoch: "1".into(),
        journal_high_water: 0,
        outbox_next: 1,
        preflight: Preflight::default(),
        proof: String::new(),
    };
    let context = HandshakeContext { sidecar_token: Digest::of(&number.to_be_bytes()), peer_ip: None, now: wall() };
    let answer = store.handshake(request, context).await?;
    if !matches!(answer, Handshake::Enrolled(..)) {
        return Err(format!("{answer:?}").into());
    }
    Ok(Sender { droplet, workspace, enrolment: 1, epoch: Some("1".into()) })
}

fn bundle(scene: &Scene, first: u32) -> (Bundle, String) {
    let looks = vec![CommandWire { action: "HEALTH_CHECK".into(), payload: None }];
    let mut bundle = scene.operator.bundle(WorkspaceId::from_random([0; 16]), looks);
    let tenants = (first..first + BULK).map(|number| scene.senders[(number % DROPLETS) as usize].workspace);
    bundle.targets = Targets::Workspaces(tenants.collect());
    let document = scene.operator.sign(&bundle);
    (bundle, document)
}

async fn enqueue(scene: &Arc<Scene>, jobs: u32) -> Result<(), Failure> {
    let mut pushes = JoinSet::new();
    for first in (0..jobs).step_by(BULK as usize) {
        let scene = Arc::clone(scene);
        let (bundle, document) = bundle(&scene, first);
        if pushes.len() >= PUSHES
            && let Some(pushed) = pushes.join_next().await
        {
            pushed??;
        }
        pushes.spawn(async move {
            let never = Arc::new(BTreeSet::new());
            scene.store.push(bundle, document, "bench".into(), never, wall()).await.map(drop)
        });
    }
    while let Some(pushed) = pushes.join_next().await {
        pushed??;
    }
    Ok(())
}

/// Every droplet fetches and ends its share of the jobs, the first of which it reports under number `2 * begun + 1`.
async fn work(scene: &Arc<Scene>, jobs: u32, begun: u32) -> Result<(), Failure> {
    let share = jobs / DROPLETS;
    let mut fetchers = JoinSet::new();
    for fetcher in 0..FETCHERS {
        let scene = Arc::clone(scene);
        fetchers.spawn(async move {
            let mine: Vec<usize> = (fetcher..DROPLETS).step_by(FETCHERS as usize).map(|n| n as usize).collect();
            let mut seqs = vec![u64::from(2 * begun); mine.len()];
            let mut left = share as usize * mine.len();
            while left > 0 {
                let before = left;
                for (sender, seq) in mine.iter().map(|n| &scene.senders[*n]).zip(&mut seqs) {
                    left -= fetch(&scene.store, sender, seq).await?;
                }
                if left == before {
                    // Nothing was pushed for these meanwhile.
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
            }
            Ok::<_, genesis_hub::store::StoreError>(())
        });
    }
    while let Some(ended) = fetchers.join_next().await {
        ended??;
    }
    Ok(())
}

/// One poll and one report; how many jobs it ended.
async fn fetch(store: &Store, sender: &Sender, seq: &mut u64) -> Result<usize, genesis_hub::store::StoreError> {
    let at = wall();
    let due = store.due(sender.workspace, at).await?;
    let candidates: Vec<i64> = due.candidates.iter().map(|candidate| candidate.job).collect();
    if candidates.is_empty() {
        return Ok(0);
    }
    let leased = store.lease(candidates, at.plus_millis(60_000), at).await?;
    let mut records = Vec::new();
    for (_, leased) in &leased {
        for record in [Record::Accepted { job_id: leased.job }, Record::Result(result(leased.job))] {
            *seq += 1;
            records.push(OutboxRecord { seq: *seq, at, record });
        }
    }
    let stored = store.results(sender.clone(), records, at).await?;
    let is_all = matches!(&stored, Stored::UpTo(up_to, moved) if *up_to == *seq && moved.len() == 2 * leased.len());
    if is_all { Ok(leased.len()) } else { Err(genesis_hub::store::StoreError::Broken(format!("{stored:?}"))) }
}

fn result(job_id: JobId) -> CommandResult {
    CommandResult {
        job_id,
        bundle_id: None,
        state: OutcomeState::Succeeded,
        code: "ok".into(),
        message: "done".into(),
        retryable: false,
        started_at: wall(),
        finished_at: wall(),
        steps: vec![],
        output: json!([{"n8n_status": "running"}]),
    }
}

/// The same work on BullMQ.
fn bullmq(options: &Options) -> Result<Value, Failure> {
    let library = options.bullmq.clone().ok_or("GENESIS_BULLMQ names no folder with node_modules/bullmq")?;
    for (program, argument) in [("node", "--version"), ("redis-server", "--version")] {
        let there = Command::new(program).arg(argument).stdout(Stdio::null()).status();
        there.map_err(|e| format!("{program}: {e}"))?;
    }
    let folder = folder(options)?;
    // The system chooses a port; Redis takes it right after.
    let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port().to_string();
    let mut redis = Command::new("redis-server");
    redis.args([
        "--port",
        &port,
        "--bind",
        "127.0.0.1",
        "--appendonly",
        "yes",
        "--appendfsync",
        "always",
        "--save",
        "",
    ]);
    let _redis = Process::start("redis", redis.arg("--dir").arg(folder.path()), folder.path());
    let script = folder.path().join("bullmq.js");
    std::fs::write(&script, include_str!("bullmq.js"))?;
    let address = format!("127.0.0.1:{port}").parse()?;
    let from = now();
    while std::net::TcpStream::connect_timeout(&address, Duration::from_secs(1)).is_err() {
        if from.elapsed() > Duration::from_secs(20) {
            return Err("Redis does not listen".into());
        }
    }
    let (jobs, bulk, workers) = (options.jobs.to_string(), BULK.to_string(), FETCHERS.to_string());
    let output = Command::new("node").arg(&script).arg(&library).args([&port, &jobs, &bulk, &workers]).output()?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned().into());
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}
