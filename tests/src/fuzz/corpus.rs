//! The kept corpus: documents that are accepted, and forms of them that are refused; made once from fixed keys.

use std::collections::BTreeMap;

use genesis_agent::core::admit::{Handed, Situation, Verdict, admit};
use genesis_shared::audit::{self, CHECKPOINT_TYP, Checkpoint, Note, event};
use genesis_shared::bundle::{Bundle, Targets};
use genesis_shared::command::CommandWire;
use genesis_shared::delivery::{AUDIENCE, Claims, Expected, ISSUER};
use genesis_shared::grant::{Grant, Level};
use genesis_shared::id::{BundleId, Digest, DropletId, JobId, LeaseId, PublicKey, WorkspaceId};
use genesis_shared::jws::Jws;
use genesis_shared::report::{CommandResult, Heartbeat, N8nStatus, OutboxRecord, OutcomeState, Record};
use genesis_shared::timestamp::Timestamp;
use genesis_shared::trust::TrustRoot;
use genesis_shared::{bundle, grant, limits, trust, wire};
use genesisctl::sign::Document;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::Target;
use crate::attack::stage::{self, Stage, encode, first_root, follow, key, sign_bytes, sign_root};
use crate::attack::{Act, cases};
use crate::operator::{named, sign_with};

/// The nonce of the one poll.
pub const NONCE: &str = "0123456789abcdef0123456789abcdef";

/// Refused forms larger than this are not kept: they are one byte many times.
const KEPT_BYTES_MAX: usize = 16 * 1024;

/// One kept input.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Entry {
    /// What it is.
    pub name: String,
    /// Whether it is accepted.
    pub good: bool,
    /// The input.
    pub text: String,
}

/// All kept inputs.
pub struct Corpus(Vec<(Target, Vec<Entry>)>);

impl Corpus {
    /// As kept in `tests/corpus/`.
    pub fn kept() -> Self {
        let text = |target: Target| match target {
            Target::Bundle => include_str!("../../corpus/bundle.jsonl"),
            Target::Root => include_str!("../../corpus/root.jsonl"),
            Target::Grant => include_str!("../../corpus/grant.jsonl"),
            Target::Token => include_str!("../../corpus/token.jsonl"),
            Target::Checkpoint => include_str!("../../corpus/checkpoint.jsonl"),
            Target::Wire => include_str!("../../corpus/wire.jsonl"),
        };
        let read = |target| text(target).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        Self(Target::ALL.map(|target| (target, read(target))).into())
    }

    /// The inputs of a target.
    pub fn of(&self, target: Target) -> &[Entry] {
        self.0.iter().find(|(other, _)| *other == target).map_or(&[], |(_, entries)| entries)
    }

    /// All inputs.
    pub fn entries(&self) -> impl Iterator<Item = (Target, &Entry)> {
        self.0.iter().flat_map(|(target, entries)| entries.iter().map(move |entry| (*target, entry)))
    }

    /// What is accepted.
    pub fn good(&self, target: Target) -> impl Iterator<Item = &str> {
        self.of(target).iter().filter(|entry| entry.good).map(|entry| entry.text.as_str())
    }

    /// Digests of every signed content that may be accepted.
    pub fn originals(&self) -> std::collections::BTreeSet<Digest> {
        let kinds = [
            (Target::Bundle, bundle::TYP),
            (Target::Root, trust::TYP),
            (Target::Grant, grant::TYP),
            (Target::Checkpoint, CHECKPOINT_TYP),
        ];
        let digest = |text: &str, typ| Jws::parse(text.as_bytes(), typ, limits::BUNDLE_BYTES_MAX).unwrap().digest();
        kinds.iter().flat_map(|(target, typ)| self.good(*target).map(|text| digest(text, typ))).collect()
    }

    /// Makes it anew: the lines of each file.
    pub async fn make() -> Vec<(&'static str, String)> {
        let ground = Ground::new();
        let lines = |entries: Vec<Entry>| {
            entries.iter().map(|entry| serde_json::to_string(entry).unwrap() + "\n").collect::<String>()
        };
        let stage = Stage::new().await;
        let mut bundles = ground.bundles();
        let mut roots = ground.roots();
        for case in cases() {
            match &case.act {
                Act::Bundle(make) => {
                    keep(&mut bundles, &case.name, make(&stage));
                    // What was signed before the attacker had it: a mutation may well restore it.
                    let signed = stage.signed_log.take();
                    let rightful = |text: &String| ground.admits(text.as_bytes(), &Handed::ByHand).is_some();
                    let rightful = signed.into_iter().filter(rightful);
                    bundles.extend(rightful.map(|text| good(&format!("before: {}", case.name), text)));
                }
                Act::Roots(make) => {
                    let (forged, _) = make(&stage);
                    forged.documents.into_iter().for_each(|text| keep(&mut roots, &case.name, text));
                }
                Act::Token(_) | Act::Story(_) => {}
            }
        }
        vec![
            ("bundle", lines(bundles)),
            ("root", lines(roots)),
            ("grant", lines(ground.grants())),
            ("token", lines(ground.tokens())),
            ("checkpoint", lines(ground.checkpoints())),
            ("wire", lines(ground.wires())),
        ]
    }
}

/// A document's payloads, each with every choice of its signatures, in clean form.
pub fn rebuilt(text: &str) -> Vec<String> {
    let values = |name: &str| -> Vec<String> {
        let marker = format!("\"{name}\":\"");
        let parts = text.split(&marker).skip(1);
        parts.filter_map(|part| part.split('"').next()).map(|value| value.trim_end_matches('=').to_owned()).collect()
    };
    let (payloads, headers, signatures) = (values("payload"), values("protected"), values("signature"));
    let pairs: Vec<_> = headers.iter().zip(&signatures).take(4).collect();
    let choice = |payload: &String, chosen: u32| {
        let list: Vec<_> = (0..pairs.len()).filter(|n| chosen & (1 << n) != 0).map(|n| pairs[n]).collect();
        let list: Vec<_> =
            list.iter().map(|(header, value)| json!({"protected": header, "signature": value})).collect();
        json!({"payload": payload, "signatures": list}).to_string()
    };
    let choices = 1..1_u32 << pairs.len();
    payloads
        .iter()
        .flat_map(|payload| choices.clone().map(|chosen| choice(payload, chosen)).collect::<Vec<_>>())
        .collect()
}

fn keep(entries: &mut Vec<Entry>, name: &str, text: String) {
    if text.len() <= KEPT_BYTES_MAX {
        entries.push(Entry { name: name.to_owned(), good: false, text });
    }
}

fn good(name: &str, text: String) -> Entry {
    Entry { name: name.to_owned(), good: true, text }
}

/// The droplet that all of it is about.
pub struct Ground {
    /// The root in force.
    pub root: TrustRoot,
    /// Its digest.
    pub pin: Digest,
    /// The time.
    pub now: Timestamp,
    /// The tenant.
    pub workspace: WorkspaceId,
    /// The droplet.
    pub droplet: DropletId,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
}

impl Default for Ground {
    fn default() -> Self {
        Self::new()
    }
}

impl Ground {
    /// Always the same.
    pub fn new() -> Self {
        let began: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let root = first_root(named(&key("hub-1")), began);
        Self {
            pin: Digest::of(&serde_json::to_vec(&root).unwrap()),
            root,
            now: began.plus_millis(stage::MINUTE_MS),
            workspace: WorkspaceId::from_random([3; 16]),
            droplet: "412".parse().unwrap(),
            labels: BTreeMap::from([("ring".to_owned(), "stable".to_owned())]),
        }
    }

    /// Runs admission on a bundle: the digest of what was accepted.
    pub fn admits(&self, bytes: &[u8], handed: &Handed<'_>) -> Option<Digest> {
        let situation = Situation {
            root: &self.root,
            workspace_id: self.workspace,
            droplet_id: &self.droplet,
            labels: &self.labels,
            now: self.now,
            time_floor: Timestamp::from_millis(0),
        };
        match admit(bytes, handed, &situation, |_| None) {
            Verdict::Accept(admitted) => Some(admitted.bundle.digest()),
            Verdict::Duplicate(_) | Verdict::Reject(_) => None,
        }
    }

    /// A bundle with this number.
    pub fn bundle(&self, number: u8, commands: Vec<CommandWire>) -> Bundle {
        Bundle {
            id: BundleId::from_random([number; 16]),
            issuer: "ops-1".parse().unwrap(),
            issued_at: self.now,
            not_before: self.now.plus_millis(-stage::MINUTE_MS),
            not_after: self.now.plus_millis(stage::HOUR_MS),
            targets: Targets::Workspaces(vec![self.workspace]),
            queue: "template".into(),
            priority: 3,
            rollout: None,
            commands,
            force: None,
            grant: None,
        }
    }

    /// The bundle of the delivery token.
    pub fn plain(&self) -> String {
        sign_with(&self.bundle(1, stage::stop()), &[&key("ops-1")])
    }

    /// What the token must say for a stop.
    pub fn expected(&self, bundle: &str) -> Expected<'_> {
        let bundle = Digest::of(bundle.as_bytes());
        Expected {
            workspace_id: self.workspace,
            droplet_id: &self.droplet,
            bundle,
            action: "DEACTIVATE_WORKFLOW",
            nonce: NONCE,
        }
    }

    /// A delivery token for these bytes and actions.
    pub fn token(&self, bundle: &str, action: &str) -> String {
        let claims = Claims {
            iss: ISSUER.into(),
            sub: self.workspace,
            aud: AUDIENCE.into(),
            iat: self.now.seconds(),
            exp: self.now.seconds() + limits::DELIVERY_TOKEN_TTL_S,
            jti: "j".into(),
            action: action.into(),
            droplet_id: self.droplet.clone(),
            bundle: Digest::of(bundle.as_bytes()),
            nonce: NONCE.into(),
        };
        let input =
            format!("{}.{}", encode(r#"{"alg":"EdDSA","kid":"hub-1","typ":"JWT"}"#), encode(json!(claims).to_string()));
        format!("{input}.{}", encode(sign_bytes("hub-1", input.as_bytes())))
    }

    fn bundles(&self) -> Vec<Entry> {
        let both = [&key("ops-1"), &key("ops-2")];
        let mut destroy = self.bundle(2, vec![stage::command("DELETE_WORKFLOW", json!({"key": "hook"}))]);
        destroy.force = stage::force(1);
        let mut wide = self.bundle(3, vec![CommandWire { action: "HEALTH_CHECK".into(), payload: None }]);
        wide.targets = Targets::All(true);
        let mut labelled = wide.clone();
        labelled.id = BundleId::from_random([4; 16]);
        labelled.targets = Targets::Labels(self.labels.clone());
        let workflow =
            json!({"name": "Ü \u{1F680}", "nodes": [], "connections": {}, "settings": {"n": 1.50, "e": 1e300}});
        let deploy =
            self.bundle(5, vec![stage::command("DEPLOY_WORKFLOW", json!({"key": "a", "workflow_json": workflow}))]);
        let mut support = self.bundle(6, stage::stop());
        support.issuer = "sup-1".parse().unwrap();
        support.not_after = self.now.plus_millis(10 * stage::MINUTE_MS);
        support.grant = Some(self.grant(Level::Write));
        let general: Value = serde_json::from_str(&self.plain()).unwrap();
        let signature = &general["signatures"][0];
        let flat = json!({"payload": general["payload"], "protected": signature["protected"],
                          "signature": signature["signature"]});
        vec![
            good("one signer", self.plain()),
            good("flattened", flat.to_string()),
            good("two signers destroy", sign_with(&destroy, &both)),
            good("for all", sign_with(&wide, &both[..1])),
            good("for a label", sign_with(&labelled, &both[..1])),
            good("a workflow", sign_with(&deploy, &both[..1])),
            good("under a grant", sign_with(&support, &[&key("sup-1")])),
        ]
    }

    fn grant(&self, level: Level) -> String {
        let grant = Grant {
            ticket: "SUP-7".into(),
            reason: "leads stuck".into(),
            workspace: self.workspace,
            level,
            support: named(&key("sup-1")),
            issued_at: self.now,
            not_after: self.now.plus_millis(level.minutes_max() * stage::MINUTE_MS),
        };
        let mut document = Document::draft(&serde_json::to_vec(&grant).unwrap());
        for key in [key("ops-1"), key("ops-2")].iter().take(level.signers()) {
            document.sign(grant::TYP, key).unwrap();
        }
        document.to_text()
    }

    fn grants(&self) -> Vec<Entry> {
        Level::ALL.map(|level| good(level.name(), self.grant(level))).into()
    }

    fn roots(&self) -> Vec<Entry> {
        let holders = ["root-1", "root-2"].map(key);
        let second = follow(&self.root, |root| root.revoked.push("soon".parse().unwrap()));
        vec![
            good("the first", sign_root(&self.root, &holders)),
            good("the second", sign_root(&second, &holders)),
            good("the second, by all", sign_root(&second, &["root-3", "root-1", "root-2"].map(key))),
        ]
    }

    fn tokens(&self) -> Vec<Entry> {
        let token = self.token(&self.plain(), "DEACTIVATE_WORKFLOW");
        let mut entries = vec![good("a token", token.clone())];
        keep(&mut entries, "for another action", self.token(&self.plain(), "HEALTH_CHECK"));
        keep(&mut entries, "for another bundle", self.token("", "DEACTIVATE_WORKFLOW"));
        keep(&mut entries, "without a signature", format!("{}.", token.rsplit_once('.').unwrap().0));
        entries
    }

    fn checkpoints(&self) -> Vec<Entry> {
        let held = self.checkpoint("hub-1");
        let line = audit::Line::Checkpoint(held.clone());
        let first = Note::new(event::CHAIN_STARTED, json!({"version": "0.1.0"}));
        let entry = audit::Line::Entry(audit::Entry::next("hub/1", None, &first, self.now));
        let mut entries = vec![good("a checkpoint", held.clone())];
        keep(&mut entries, "as a line of an export", json!(line).to_string());
        keep(&mut entries, "an entry", json!(entry).to_string());
        keep(&mut entries, "by a key that is none of the hub's", self.checkpoint("ops-1"));
        keep(&mut entries, "its signature left out", held.replace("\"signature\"", "\"nothing\""));
        entries
    }

    /// Signed by the key of that name.
    fn checkpoint(&self, kid: &str) -> String {
        let held = Checkpoint { chain: "hub/1".into(), seq: 7, hash: Digest::of(b"7"), at: self.now };
        let sign = |bytes: &[u8]| Ok::<_, std::convert::Infallible>(encode(sign_bytes(kid, bytes)));
        match held.sign(&kid.parse().unwrap(), sign) {
            Ok(text) => text,
        }
    }

    fn wires(&self) -> Vec<Entry> {
        let text = |name: &str, value: Value| good(name, value.to_string());
        let roots: Vec<String> = self.roots().into_iter().take(2).map(|entry| entry.text).collect();
        let plain = self.plain();
        let leased = wire::LeasedCommand {
            lease_id: LeaseId::from_random([7; 16]),
            job_id: JobId::from_random([8; 16]),
            delivery_token: self.token(&plain, "DEACTIVATE_WORKFLOW"),
            bundle: plain,
        };
        let answer = wire::CommandsAnswer { commands: vec![leased], trust_root_version: 1, quarantined: false };
        let config = wire::AgentConfig {
            heartbeat_interval_s: 60,
            poll_wait_s: 25,
            metrics_interval_s: 900,
            reconcile_interval_s: 900,
        };
        let handshake = wire::HandshakeAnswer {
            sidecar_token: "t".into(),
            token_expires_at: self.now,
            config,
            trust_root: roots.clone(),
        };
        let rotated = wire::RenewAnswer { sidecar_token: "t".into(), token_expires_at: self.now };
        let beat = wire::HeartbeatAnswer {
            work_waiting: true,
            next_interval_s: 60,
            hub_time: self.now,
            rotated: Some(rotated),
            quarantined: false,
            audit_checkpoint: Some(self.checkpoint("hub-1")),
        };
        let result = CommandResult {
            job_id: JobId::from_random([8; 16]),
            bundle_id: None,
            state: OutcomeState::Rejected,
            code: "a1_shape".into(),
            message: "m".into(),
            retryable: false,
            started_at: self.now,
            finished_at: self.now,
            steps: vec![],
            output: json!([]),
        };
        let records = vec![OutboxRecord { seq: 1, at: self.now, record: Record::Result(result) }];
        vec![
            text("commands", json!(answer)),
            text("trust roots", json!(wire::TrustRootChain { trust_root: roots })),
            text("handshake", json!(handshake)),
            text("heartbeat's answer", json!(beat)),
            text("records", json!(records)),
            text("results", json!(wire::ResultsRequest { records })),
            text("renewal", json!(wire::RenewRequest { assertion: "a.b.c".into() })),
            text("handshake's request", json!(self.handshake())),
            text("heartbeat", json!(self.beat())),
            text("error", json!({"code": "c", "message": "m", "retryable": true, "request_id": "r"})),
        ]
    }

    fn handshake(&self) -> wire::HandshakeRequest {
        wire::HandshakeRequest {
            provisioning_token: "0".repeat(64),
            workspace_id: self.workspace,
            droplet_id: self.droplet.clone(),
            droplet_ip: Some("192.0.2.1".into()),
            webhook_url: None,
            agent_version: "0.1.0".into(),
            n8n_version: None,
            identity_key: PublicKey::from_bytes([1; 32]),
            sealing_key: PublicKey::from_bytes([2; 32]),
            boot_epoch: "b".into(),
            journal_high_water: 0,
            outbox_next: 1,
            preflight: wire::Preflight::default(),
            proof: encode([0; 64]),
        }
    }

    fn beat(&self) -> Heartbeat {
        Heartbeat {
            workspace_id: self.workspace,
            droplet_id: self.droplet.clone(),
            timestamp: self.now,
            state: "ACTIVE_HEALTHY".into(),
            n8n_status: N8nStatus::Running,
            n8n_version: Some("2.8.4".into()),
            active_workflows: Some(7),
            cpu_usage_percent: 3.5,
            memory_usage_mb: 600,
            memory_total_mb: 972,
            disk_usage_percent: 20.0,
            swap_used_mb: 0,
            uptime_seconds: 1,
            agent_version: "0.1.0".into(),
            boot_epoch: "b".into(),
            journal_high_water: 1,
            outbox_depth: 0,
            desired_generation: 0,
            drift_count: None,
            n8n_pid: None,
            pending_executions: None,
            last_execution_at: None,
            oom_kills: None,
            certificate_expires_at: None,
            clock_offset_ms: None,
            audit_checkpoint: None,
        }
    }
}
