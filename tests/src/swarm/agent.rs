//! One light agent: enrols, polls, beats, reports.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use data_encoding::{BASE64URL_NOPAD, HEXLOWER};
use genesis_agent::core::timer;
use genesis_shared::audit::{Checkpoint, droplet_chain};
use genesis_shared::id::{Digest, DropletId, JobId, PublicKey, WorkspaceId};
use genesis_shared::life::{BOOT_EPOCH_HEADER, HIGH_WATER_HEADER};
use genesis_shared::report::{CommandResult, Heartbeat, N8nStatus, OutboxRecord, OutcomeState, Record};
use genesis_shared::wire::{
    CommandsAnswer, DropletCreate, HandshakeAnswer, HandshakeRequest, Preflight, ResultsAnswer, ResultsRequest,
    SIDECAR_PATH, handshake_proof,
};
use genesisctl::client::HubClient;
use http_body_util::Full;
use hyper::body::Bytes;
use hyper::{Method, Request, StatusCode};
use ring::signature::{Ed25519KeyPair, KeyPair};
use serde::Serialize;
use serde_json::json;
use tokio::sync::{Mutex, Notify, watch};

use super::ledger::Ledger;
use super::link::{Link, Way};
use super::script::Script;
use crate::operator::{now, random};

/// Time for an answer that is not a long poll, as the agent has it.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// Droplets of one region in a row.
const REGIONS: [&str; 3] = ["fra1", "nyc3", "sgp1"];

/// How often an agent speaks.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// Between heartbeats.
    pub beat: Duration,
    /// A poll waits so long.
    pub poll_wait: Duration,
}

impl Pace {
    /// What the protocol says.
    pub const USUAL: Self = Self { beat: Duration::from_secs(60), poll_wait: Duration::from_secs(25) };
}

/// An enrolled droplet and what stands for its journal.
pub struct Droplet {
    /// From 0.
    pub number: u32,
    /// Its tenant.
    pub workspace: WorkspaceId,
    /// Its name.
    pub id: DropletId,
    script: Script,
    link: Link,
    token: String,
    identity: Ed25519KeyPair,
    epoch: String,
    outbox: Mutex<Outbox>,
    mail: Notify,
    beats: AtomicU64,
}

#[derive(Default)]
struct Outbox {
    last_seq: u64,
    waiting: Vec<OutboxRecord>,
}

impl Droplet {
    /// Registers and enrols droplet `number`.
    ///
    /// # Errors
    /// What the hub said instead.
    pub async fn enrol(client: &HubClient, way: &Arc<Way>, number: u32, script: Script) -> Result<Self, String> {
        let (id, workspace) = (super::droplet_id(number), WorkspaceId::from_random(random()));
        let region = REGIONS[number as usize % REGIONS.len()];
        let create = DropletCreate {
            workspace_id: workspace,
            droplet_id: id.clone(),
            name: None,
            region: Some(region.to_owned()),
            labels: [("ring".to_owned(), (number % 10).to_string())].into(),
        };
        let issued = client.add_droplet(&create).await.map_err(|e| e.to_string())?;
        let identity = Ed25519KeyPair::from_seed_unchecked(&random::<32>()).map_err(|e| e.to_string())?;
        // 127.0.x.y with x and y from 1 on: a source address of its own for each.
        let [_, _, high, low] = (number % 60_000 + 0x0101).to_be_bytes();
        let link = Link::new(Arc::clone(way), Ipv4Addr::new(127, 0, high, low));
        let mut droplet = Self {
            number,
            workspace,
            id,
            script,
            link,
            token: String::new(),
            identity,
            epoch: HEXLOWER.encode(&random::<16>()),
            outbox: Mutex::default(),
            mail: Notify::new(),
            beats: AtomicU64::new(0),
        };
        let request = droplet.handshake(issued.provisioning_token);
        let answer = droplet.post("handshake", &request, || {}).await?;
        let answer: HandshakeAnswer = serde_json::from_slice(&answer).map_err(|e| e.to_string())?;
        droplet.token = answer.sidecar_token;
        // It lives from its start on; a swarm enrols long before.
        droplet.link.hang_up().await;
        Ok(droplet)
    }

    fn handshake(&self, provisioning_token: String) -> HandshakeRequest {
        let public = self.identity.public_key().as_ref().try_into().expect("an Ed25519 key has 32 bytes");
        let mut request = HandshakeRequest {
            provisioning_token,
            workspace_id: self.workspace,
            droplet_id: self.id.clone(),
            droplet_ip: None,
            webhook_url: None,
            agent_version: "swarm".into(),
            n8n_version: None,
            identity_key: PublicKey::from_bytes(public),
            sealing_key: PublicKey::from_bytes(public),
            boot_epoch: self.epoch.clone(),
            journal_high_water: 0,
            outbox_next: 1,
            preflight: Preflight::default(),
            proof: String::new(),
        };
        request.proof = self.sign(&handshake_proof(&request));
        request
    }

    fn sign(&self, message: &[u8]) -> String {
        BASE64URL_NOPAD.encode(self.identity.sign(message).as_ref())
    }

    fn request(&self, method: Method, path: &str, body: Bytes) -> Request<Full<Bytes>> {
        let mut request = Request::builder()
            .method(method)
            .uri(format!("https://hub{SIDECAR_PATH}/{path}"))
            .header("user-agent", "genesis-agent/swarm")
            .header(BOOT_EPOCH_HEADER, &self.epoch)
            .header(HIGH_WATER_HEADER, "0");
        if !self.token.is_empty() {
            request = request.header("authorization", format!("Bearer {}", self.token));
        }
        if !body.is_empty() {
            request = request.header("content-type", "application/json");
        }
        request.body(Full::new(body)).expect("a request of fixed parts")
    }

    async fn post(&self, path: &str, body: &impl Serialize, connected: impl FnOnce()) -> Result<Bytes, String> {
        let body = serde_json::to_vec(body).map_err(|e| e.to_string())?;
        let request = self.request(Method::POST, path, body.into());
        let (status, body) = self.link.call(request, ANSWER_TIMEOUT, connected).await.map_err(|e| e.to_string())?;
        if status.is_success() {
            return Ok(body);
        }
        Err(format!("{path}: {status} {}", String::from_utf8_lossy(&body)))
    }

    fn heartbeat(&self, outbox_depth: u64, high_water: u64) -> Heartbeat {
        let checkpoint = Checkpoint {
            chain: droplet_chain(self.workspace, &self.id),
            seq: 1,
            hash: Digest::of(self.epoch.as_bytes()),
            at: now(),
        };
        let kid = "identity".parse().expect("a key's name");
        let signed = checkpoint.sign(&kid, |bytes| Ok::<_, std::convert::Infallible>(self.sign(bytes)));
        Heartbeat {
            workspace_id: self.workspace,
            droplet_id: self.id.clone(),
            timestamp: now(),
            state: "ACTIVE_HEALTHY".into(),
            n8n_status: N8nStatus::Running,
            n8n_version: Some("2.8.4".into()),
            active_workflows: Some(7),
            cpu_usage_percent: 12.5,
            memory_usage_mb: 612,
            memory_total_mb: 961,
            disk_usage_percent: 41.0,
            swap_used_mb: 120,
            uptime_seconds: 60 * self.beats.fetch_add(1, Ordering::Relaxed),
            agent_version: "0.1.0".into(),
            boot_epoch: self.epoch.clone(),
            journal_high_water: high_water,
            outbox_depth,
            desired_generation: 3,
            drift_count: Some(0),
            n8n_pid: Some(4711),
            pending_executions: Some(0),
            last_execution_at: Some(now()),
            oom_kills: Some(0),
            certificate_expires_at: Some(now()),
            clock_offset_ms: Some(3),
            audit_checkpoint: signed.ok(),
        }
    }

    async fn put(&self, records: impl IntoIterator<Item = Record>) {
        let mut outbox = self.outbox.lock().await;
        for record in records {
            outbox.last_seq += 1;
            let seq = outbox.last_seq;
            outbox.waiting.push(OutboxRecord { seq, at: now(), record });
        }
        drop(outbox);
        self.mail.notify_one();
    }

    fn result(&self, job_id: JobId) -> CommandResult {
        let failed = self.script == Script::Failing;
        CommandResult {
            job_id,
            bundle_id: None,
            state: if failed { OutcomeState::Failed } else { OutcomeState::Succeeded },
            code: if failed { "scripted" } else { "ok" }.into(),
            message: "done".into(),
            retryable: false,
            started_at: now(),
            finished_at: now(),
            steps: vec![],
            output: json!([{"n8n_status": "running", "disk_usage": 41.0}]),
        }
    }
}

/// Everything an agent does, side by side.
pub(super) async fn run(
    droplet: Arc<Droplet>,
    ledger: Arc<Ledger>,
    pace: Pace,
    first: Duration,
    mut stop: watch::Receiver<bool>,
) {
    let life = async {
        tokio::time::sleep(first).await;
        tokio::join!(
            polls(&droplet, &ledger, pace),
            beats(&droplet, &ledger, pace),
            mails(&droplet, &ledger, pace),
            flaps(&droplet)
        );
    };
    tokio::select! {
        () = life => {}
        // An error means that the swarm is gone.
        _ = stop.wait_for(|stop| *stop) => {}
    }
    droplet.link.hang_up().await;
}

/// Waits as the agent does after `attempt` failures.
async fn pause(ledger: &Ledger, pace: Pace, attempt: u32) {
    ledger.unanswered.fetch_add(1, Ordering::Relaxed);
    tokio::time::sleep(timer::reconnect(pace.beat, attempt, u64::from_le_bytes(random()))).await;
}

async fn polls(droplet: &Arc<Droplet>, ledger: &Arc<Ledger>, pace: Pace) {
    let mut attempt = 0;
    loop {
        match poll(droplet, ledger, pace).await {
            Ok(()) => attempt = 0,
            Err(_) => {
                attempt += 1;
                pause(ledger, pace, attempt).await;
            }
        }
    }
}

async fn poll(droplet: &Arc<Droplet>, ledger: &Arc<Ledger>, pace: Pace) -> Result<(), String> {
    // As the agent does it: what was taken is confirmed before more is asked for.
    deliver(droplet, ledger).await?;
    let path = format!("commands?wait={}&nonce={}", pace.poll_wait.as_secs(), HEXLOWER.encode(&random::<16>()));
    let request = droplet.request(Method::GET, &path, Bytes::new());
    let answer = droplet.link.call(request, pace.poll_wait + ANSWER_TIMEOUT, || ledger.connected()).await;
    let (status, body) = answer.map_err(|e| e.to_string())?;
    if !status.is_success() {
        return Err(status.to_string());
    }
    ledger.heard(droplet.number);
    if status == StatusCode::NO_CONTENT {
        return Ok(());
    }
    let answer: CommandsAnswer = serde_json::from_slice(&body).map_err(|e| e.to_string())?;
    for job_id in answer.commands.iter().map(|command| command.job_id) {
        ledger.journal(job_id, droplet.number);
        droplet.put([Record::Accepted { job_id }]).await;
        let work = match droplet.script {
            Script::Prompt { work } => work,
            Script::Failing | Script::Flapping { .. } => Duration::ZERO,
            Script::Mute => continue,
        };
        if work.is_zero() {
            droplet.put([Record::Result(droplet.result(job_id))]).await;
        } else {
            let droplet = Arc::clone(droplet);
            tokio::spawn(async move {
                tokio::time::sleep(work).await;
                droplet.put([Record::Result(droplet.result(job_id))]).await;
            });
        }
    }
    Ok(())
}

async fn beats(droplet: &Droplet, ledger: &Ledger, pace: Pace) {
    tokio::time::sleep(timer::first_beat(pace.beat, u64::from_le_bytes(random()))).await;
    let mut attempt = 0;
    loop {
        let (depth, high_water) = {
            let outbox = droplet.outbox.lock().await;
            (outbox.waiting.len() as u64, outbox.last_seq)
        };
        match droplet.post("heartbeat", &droplet.heartbeat(depth, high_water), || ledger.connected()).await {
            Ok(_) => {
                attempt = 0;
                ledger.heard(droplet.number);
                ledger.beat();
                tokio::time::sleep(timer::beat_after(pace.beat, u64::from_le_bytes(random()))).await;
            }
            Err(_) => {
                attempt += 1;
                pause(ledger, pace, attempt).await;
            }
        }
    }
}

async fn mails(droplet: &Droplet, ledger: &Ledger, pace: Pace) {
    let mut attempt = 0;
    loop {
        droplet.mail.notified().await;
        while deliver(droplet, ledger).await.is_err() {
            attempt += 1;
            pause(ledger, pace, attempt).await;
        }
        attempt = 0;
    }
}

/// Posts what waits; one delivery at a time.
async fn deliver(droplet: &Droplet, ledger: &Ledger) -> Result<(), String> {
    let mut outbox = droplet.outbox.lock().await;
    while !outbox.waiting.is_empty() {
        let records = outbox.waiting.iter().take(genesis_shared::limits::RESULTS_BATCH_MAX).cloned().collect();
        let answer = droplet.post("results", &ResultsRequest { records }, || ledger.connected()).await?;
        ledger.heard(droplet.number);
        let stored: ResultsAnswer = serde_json::from_slice(&answer).map_err(|e| e.to_string())?;
        for record in outbox.waiting.iter().filter(|record| record.seq <= stored.stored_up_to) {
            if let Record::Result(result) = &record.record {
                ledger.reported(result.job_id);
            }
        }
        outbox.waiting.retain(|record| record.seq > stored.stored_up_to);
    }
    Ok(())
}

async fn flaps(droplet: &Droplet) {
    let Script::Flapping { up, down } = droplet.script else { return };
    loop {
        tokio::time::sleep(up).await;
        // Nothing can be asked while the link is held.
        let _held = droplet.link.cut().await;
        tokio::time::sleep(down).await;
    }
}
