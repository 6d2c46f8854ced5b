//! The audit from end to end: what a droplet notes, that neither it nor its hub can rewrite what the other has seen
//! signed, and that the operator's tool says where a chain was touched.
#![allow(
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    clippy::print_stdout,
    reason = "a test that cannot go on, or meets anything else, fails; figures are printed"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use genesis_agent::agent::by_hand::ByHand;
use genesis_agent::core::admit::Rule;
use genesis_agent::ports::Clock;
use genesis_shared::audit::{self, Broken, Checkpoint, Entry, Expected, What, event};
use genesis_shared::bundle::{Bundle, Targets};
use genesis_shared::command::CommandWire;
use genesis_shared::grant::Level;
use genesis_shared::id::{BundleId, Digest, WorkspaceId};
use genesis_shared::report::OutcomeState;
use genesis_tests::droplet::{Droplet, wait_for};
use genesis_tests::n8n::Kind;
use genesis_tests::operator::{named, random, sign_with, signing_key};
use genesis_tests::rig::Rig;
use genesis_tests::{canary, until};
use genesisctl::access::{self, Wish};
use genesisctl::keys::{Kind as KeyKind, PrivateKey};
use genesisctl::orders::{self, Spec};
use rusqlite::Connection;
use serde_json::{Value, json};

fn look() -> Vec<CommandWire> {
    vec![CommandWire { action: "HEALTH_CHECK".into(), payload: None }]
}

fn detail(entry: &Entry) -> Value {
    serde_json::from_str(&entry.detail).unwrap()
}

fn of<'a>(entries: &'a [Entry], event: &'a str) -> Vec<Value> {
    entries.iter().filter(|entry| entry.event == event).map(detail).collect()
}

fn holds(droplet: &Droplet, entries: &[Entry]) {
    audit::verify(&droplet.chain(), Expected::WHOLE, entries.to_vec(), &[]).unwrap();
}

/// Bundles that break one rule each.
fn bad_bundles(droplet: &Droplet) -> Vec<String> {
    let operator = &droplet.operator;
    let now = droplet.outside.clock.now();
    let fresh = |change: &dyn Fn(&mut Bundle)| {
        let mut bundle = operator.bundle_at(droplet.workspace, look(), now);
        change(&mut bundle);
        bundle
    };
    let stranger = signing_key("stranger");
    let impostor = signing_key(operator.key.kid().as_str());
    let action = |name: &'static str| {
        move |bundle: &mut Bundle| {
            bundle.commands = vec![CommandWire { action: name.into(), payload: Some(json!({"key": "a"})) }];
        }
    };
    vec![
        "no json".into(),
        sign_with(&fresh(&|_| {}), &[&stranger]),
        sign_with(&fresh(&|_| {}), &[&impostor]),
        operator.sign(&fresh(&action("FORMAT_DISK"))),
        operator.sign(&fresh(&|bundle| {
            action("DELETE_WORKFLOW")(bundle);
            let expect = BTreeMap::from([("workflows_deleted".to_owned(), 1)]);
            bundle.force = Some(genesis_shared::bundle::Force { reason: "a test".into(), expect });
        })),
        operator.sign(&fresh(&|bundle| bundle.issuer = "ops-9".parse().unwrap())),
        operator.sign(&fresh(&|bundle| bundle.targets = Targets::Workspaces(vec![WorkspaceId::from_random(random())]))),
        operator.sign(&fresh(&|bundle| bundle.not_after = bundle.not_before.plus_millis(40 * 24 * 3_600_000))),
        sign_with(
            &fresh(&|bundle| {
                bundle.commands = vec![CommandWire { action: "DECOMMISSION".into(), payload: None }];
                bundle.force = Some(genesis_shared::bundle::Force { reason: "a test".into(), expect: BTreeMap::new() });
            }),
            &[&operator.key, &operator.second],
        ),
    ]
}

#[tokio::test(start_paused = true)]
async fn every_refusal_is_in_the_audit_once_with_its_rule_by_the_hub_and_by_hand() {
    let droplet = Droplet::new(21);
    let hub = &droplet.outside.hub;
    let good = droplet.signed(look());
    let (mut told, mut by_hand) = (Vec::new(), Vec::new());
    let first = hub.push(&good);
    assert_eq!(droplet.while_running(droplet.result(first)).await.state, OutcomeState::Succeeded);
    let bad = [bad_bundles(&droplet), vec![good]].concat();
    for bundle in &bad {
        let job = hub.push(bundle);
        told.push(droplet.while_running(droplet.result(job)).await);
        let agent = droplet.agent();
        match agent.apply(bundle.as_bytes()).unwrap() {
            ByHand::Refused(result) => by_hand.push(*result),
            ByHand::Accepted(_) => panic!("{bundle}"),
        }
    }
    let entries = droplet.audit();
    holds(&droplet, &entries);
    let refused = of(&entries, event::COMMAND_REFUSED);
    assert_eq!(refused.len(), 2 * bad.len());
    for ((bundle, result), own) in bad.iter().zip(&told).zip(&by_hand) {
        assert_eq!((result.state, own.state), (OutcomeState::Rejected, OutcomeState::Rejected), "{bundle}");
        let digest = json!(Digest::of(bundle.as_bytes()));
        for (result, by_hand) in [(result, false), (own, true)] {
            let found = refused.iter().filter(|entry| {
                entry["digest"] == digest && entry["rule"] == json!(result.code) && entry["by_hand"] == by_hand
            });
            assert_eq!(found.count(), 1, "{}: {}", result.code, result.message);
        }
    }
    let rules: BTreeSet<_> = refused.iter().map(|entry| entry["rule"].as_str().unwrap().to_owned()).collect();
    let known: BTreeSet<_> = Rule::ALL.iter().map(|rule| rule.code().to_owned()).collect();
    assert!(rules.is_subset(&known) && rules.len() == bad.len(), "each breaks a rule of its own: {rules:?}");
    println!("{{\"refusals\":{},\"rules\":{},\"in_audit\":{}}}", 2 * bad.len(), rules.len(), refused.len());
}

#[tokio::test(start_paused = true)]
async fn every_use_of_support_access_is_in_the_audit_with_its_ticket() {
    let droplet = Droplet::new(22);
    let now = droplet.outside.clock.now();
    let key = |seed| PrivateKey::new("sup-1".parse().unwrap(), KeyKind::Signing, seed).signing().unwrap();
    let seed = random();
    let support = named(&key(seed));
    let (ticket, reason, workspace) = ("SUP-7".to_owned(), "leads stuck".to_owned(), droplet.workspace);
    let level = Level::ReadOnly;
    let wish = Wish { ticket, reason, workspace, level, support: support.clone(), minutes: None };
    let (_, mut grant) = access::grant(wish, &[], now).unwrap();
    access::add_signature(&mut grant, &droplet.operator.key).unwrap();
    for _ in 0..3 {
        let targets = Targets::Workspaces(vec![droplet.workspace]);
        let spec = Spec::of(targets, "security", 1, look());
        let id = BundleId::from_random(random());
        let bundle = orders::sign_under_grant(spec, key(seed), &grant, id, now).unwrap().1.to_text();
        let job = droplet.outside.hub.push(&bundle);
        assert_eq!(droplet.while_running(droplet.result(job)).await.state, OutcomeState::Succeeded);
    }
    assert_eq!(droplet.run(look()).await.state, OutcomeState::Succeeded, "an operator needs no grant");
    let entries = droplet.audit();
    holds(&droplet, &entries);
    let used = of(&entries, event::SUPPORT_ACTION_TAKEN);
    assert_eq!((used.len(), of(&entries, event::COMMAND_ACCEPTED).len()), (3, 4));
    for entry in used {
        assert_eq!((&entry["ticket"], &entry["level"]), (&json!("SUP-7"), &json!("read_only")));
        assert_eq!((&entry["support"], &entry["support_key"]), (&json!("sup-1"), &json!(support.public_key)));
    }
}

#[tokio::test(start_paused = true)]
async fn an_ignition_is_told_by_the_specifications_names_and_without_a_secret() {
    let droplet = Droplet::new(23);
    let commands = droplet.ignition().await;
    assert_eq!(droplet.run(commands).await.state, OutcomeState::Succeeded);
    let entries = droplet.audit();
    holds(&droplet, &entries);
    let names = |event| of(&entries, event).iter().map(|e| e["names"].as_array().unwrap().len()).sum::<usize>();
    assert_eq!(names(event::CREDENTIAL_CREATED), 6);
    assert_eq!((names(event::WORKFLOW_DEPLOYED), names(event::WORKFLOW_ACTIVATED)), (7, 7));
    for event in [event::CHAIN_STARTED, event::TRUST_ROOT_CHANGED, event::DROPLET_ENROLLED, event::COMMAND_SUCCEEDED] {
        assert_eq!(of(&entries, event).len(), 1, "{event}");
    }
    assert!(!canary::holds(&serde_json::to_vec(&entries).unwrap()));
    let longest = entries.iter().map(|entry| entry.detail.len()).max().unwrap();
    println!("{{\"entries\":{},\"longest_detail\":{longest}}}", entries.len());
}

#[tokio::test(start_paused = true)]
async fn a_lost_journal_begins_a_new_run_and_the_hub_hears_that_it_does() {
    let droplet = Droplet::new(24);
    assert_eq!(droplet.run(look()).await.state, OutcomeState::Succeeded);
    droplet.lose_journal();
    assert_eq!(droplet.run(look()).await.state, OutcomeState::Succeeded);
    holds(&droplet, &droplet.audit());
    let heard = droplet.outside.hub.audit();
    let verify = |runs| audit::verify(&droplet.chain(), Expected { runs, pruned: false }, heard.clone(), &[]);
    assert_eq!(verify(1).unwrap_err(), Broken { at_seq: 1, what: What::Restarted });
    assert_eq!(verify(2).unwrap().runs, 2);
}

#[tokio::test(start_paused = true)]
async fn a_hub_that_goes_back_behind_its_own_word_is_noted_and_its_word_is_kept() {
    let droplet = Droplet::new(25);
    let hub = &droplet.outside.hub;
    let at = |seq: u64, text: &str| Checkpoint {
        chain: "hub/1".into(),
        seq,
        hash: Digest::of(text.as_bytes()),
        at: droplet.outside.clock.now(),
    };
    let beats = async |count: u64| {
        let until = hub.beats() + count;
        wait_for(|| async { (hub.beats() >= until).then_some(()) }).await;
    };
    let forks = |droplet: &Droplet| of(&droplet.outside.hub.audit(), event::HUB_AUDIT_FORKED).len();
    droplet
        .while_running(async {
            for checkpoint in [at(5, "a"), at(5, "a"), at(9, "b")] {
                hub.set_checkpoint(checkpoint);
                beats(2).await;
            }
            assert_eq!(forks(&droplet), 0);
            for (n, checkpoint) in [at(9, "c"), at(8, "d")].into_iter().enumerate() {
                hub.set_checkpoint(checkpoint);
                beats(2).await;
                assert_eq!(forks(&droplet), n + 1);
            }
        })
        .await;
    let agent = droplet.agent();
    let (lines, _) = agent.audit_lines(i64::MAX).unwrap();
    let kept = lines.iter().filter_map(|line| if let audit::Line::Checkpoint(text) = line { Some(text) } else { None });
    let seqs: Vec<u64> = kept.map(|text| Checkpoint::read_unverified(text.as_bytes()).unwrap().seq).collect();
    assert_eq!(seqs[..4], [5, 9, 9, 8], "each once, the contradiction too; then the droplet's own");
    assert_eq!(seqs.len(), 5);
}

#[tokio::test(start_paused = true)]
async fn a_trust_root_that_does_not_follow_is_noted_once_however_often_it_is_given() {
    let droplet = Droplet::new(26);
    let hub = &droplet.outside.hub;
    assert_eq!(droplet.run(look()).await.state, OutcomeState::Succeeded);
    let mut root = genesis_shared::trust::TrustRoot::reread(droplet.operator.root_document.as_bytes()).unwrap();
    root.version = 2;
    let mut forged = genesisctl::sign::Document::draft(&serde_json::to_vec(&root).unwrap());
    forged.sign(genesis_shared::trust::TYP, &signing_key("root-1")).unwrap();
    hub.put_root(2, &forged.to_text());
    droplet.push(look());
    let noted = || of(&hub.audit(), event::TRUST_ROOT_REFUSED).len();
    droplet.while_running(tokio::time::sleep(Duration::from_secs(3600))).await;
    let entries = droplet.audit();
    holds(&droplet, &entries);
    assert_eq!((of(&entries, event::TRUST_ROOT_REFUSED).len(), noted()), (1, 1));
    assert_eq!(of(&entries, event::COMMAND_ACCEPTED).len(), 1, "nothing is admitted meanwhile");
}

#[tokio::test(start_paused = true)]
async fn a_hub_that_hands_out_and_never_listens_cannot_fill_the_disk() {
    let droplet = Droplet::new(27);
    let hub = &droplet.outside.hub;
    assert_eq!(droplet.run(look()).await.state, OutcomeState::Succeeded);
    hub.set_deaf(true);
    // Something waits already, and fills the outbox but for some kilobytes.
    assert!(matches!(droplet.agent().apply(b"no json").unwrap(), ByHand::Refused(_)));
    let nearly = genesis_shared::limits::OUTBOX_BYTES_MAX - 8 * 1024;
    droplet.execute(&format!("UPDATE outbox SET bytes = {nearly} WHERE seq = (SELECT min(seq) FROM outbox)"));
    hub.push("no json");
    droplet.while_running(tokio::time::sleep(Duration::from_secs(3600))).await;
    let refusals = || of(&droplet.audit(), event::COMMAND_REFUSED).len();
    let before = refusals();
    assert!((3..20).contains(&before), "{before}: the same is handed out again and again, until the outbox is full");
    droplet.while_running(tokio::time::sleep(Duration::from_secs(3600))).await;
    assert_eq!(refusals(), before, "the hub is not even asked any more");
    hub.set_deaf(false);
    droplet.while_running(tokio::time::sleep(Duration::from_secs(3600))).await;
    holds(&droplet, &droplet.audit());
    assert_eq!(droplet.run(look()).await.state, OutcomeState::Succeeded);
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn done(command: &mut Command) -> Output {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}{}", text(&output.stdout), text(&output.stderr));
    output
}

/// What a forger at the hub does to entry N of a chain, as SQL over `audit`; and what is to be said of it.
fn forgeries(own: &str, n: u64, end: u64) -> Vec<(&'static str, String, String)> {
    let row = |seq: u64| format!("(SELECT number FROM audit WHERE {own} AND seq = {seq})");
    let (a, b) = (row(n), row(n + 1));
    let columns = "droplet_id, seq, at, event, detail, prev, hash";
    vec![
        (
            "flip",
            format!("UPDATE audit SET detail = replace(detail, '{{', '{{ ') WHERE {own} AND seq = {n}"),
            format!("entry {n} was changed"),
        ),
        ("delete", format!("DELETE FROM audit WHERE {own} AND seq = {n}"), format!("entry {n} was deleted")),
        (
            "insert",
            format!(
                "CREATE TEMP TABLE place AS SELECT {b} AS number;
                 UPDATE audit SET number = -number - 1 WHERE number >= (SELECT number FROM place);
                 UPDATE audit SET number = -number WHERE number < 0;
                 INSERT INTO audit (number, {columns})
                 SELECT (SELECT number FROM place), {columns} FROM audit WHERE {own} AND seq = {n};"
            ),
            format!("entry {n} was inserted"),
        ),
        (
            "reorder",
            format!(
                "CREATE TEMP TABLE pair AS SELECT {a} AS a, {b} AS b;
                 UPDATE audit SET number = -number WHERE number IN ((SELECT a FROM pair), (SELECT b FROM pair));
                 UPDATE audit SET number = (SELECT a FROM pair) WHERE number = -(SELECT b FROM pair);
                 UPDATE audit SET number = (SELECT b FROM pair) WHERE number = -(SELECT a FROM pair);"
            ),
            format!("entry {n} was moved"),
        ),
        (
            "truncate",
            format!("DELETE FROM audit WHERE {own} AND seq > {n}"),
            format!("entry {end} is known to a checkpoint"),
        ),
    ]
}

/// The whole chain from N on, hashed anew: what the keeper can do whom no checkpoint binds.
fn rewrite(database: &Connection, own: &str, n: u64) {
    let sql = format!(
        "SELECT number, seq, at, event, detail, prev, hash FROM audit WHERE {own} AND seq >= {n} ORDER BY number"
    );
    let mut query = database.prepare(&sql).unwrap();
    let rows = query.query_map([], |row| {
        let entry = Entry {
            seq: row.get::<_, i64>(1)?.unsigned_abs(),
            at: genesis_shared::timestamp::Timestamp::from_millis(row.get(2)?),
            event: row.get(3)?,
            detail: row.get(4)?,
            prev: row.get::<_, String>(5)?.parse().unwrap(),
            hash: row.get::<_, String>(6)?.parse().unwrap(),
        };
        Ok((row.get::<_, i64>(0)?, entry))
    });
    let mut before: Option<Digest> = None;
    for row in rows.unwrap().collect::<Result<Vec<_>, _>>().unwrap() {
        let (number, mut entry) = row;
        entry.prev = before.unwrap_or(entry.prev);
        if before.is_none() {
            entry.detail = "{}".into();
        }
        entry.hash = entry.digest();
        before = Some(entry.hash);
        let sql = "UPDATE audit SET detail = ?, prev = ?, hash = ? WHERE number = ?";
        let values = (entry.detail, entry.prev.to_string(), entry.hash.to_string(), number);
        database.execute(sql, values).unwrap();
    }
}

/// The number of the last entry that the file's checkpoints vouch for, of one keeper's chain.
fn vouched(file: &Path, chain: &str) -> u64 {
    let lines = std::fs::read_to_string(file).unwrap();
    let lines = lines.lines().map(|line| serde_json::from_str::<audit::Line>(line).unwrap());
    let held = lines.filter_map(|line| if let audit::Line::Checkpoint(text) = line { Some(text) } else { None });
    let held = held.map(|text| Checkpoint::read_unverified(text.as_bytes()).unwrap());
    held.filter(|held| held.chain.starts_with(chain)).map(|held| held.seq).max().unwrap_or(0)
}

/// A hub and a droplet with some history, both stopped, and what the droplet has kept.
struct History {
    rig: Rig,
    droplet_file: PathBuf,
    identity_key: String,
    root: PathBuf,
}

impl History {
    async fn new() -> Self {
        let mut rig = Rig::new(Kind::StandIn).await;
        let job = rig.run(rig.ignition().await).await;
        assert_eq!(job.result.unwrap().code, "ok");
        let droplet_file = rig.folder().join("droplet.jsonl");
        // Both have heard of each other's last entry.
        let whole = rig.export("hub").await;
        let printed = until("the droplet to hold the hub's last checkpoint", || async {
            let output = done(&mut rig.agent_command(&["audit"]));
            std::fs::write(&droplet_file, &output.stdout).unwrap();
            (vouched(&droplet_file, "hub/") >= vouched(&whole, "hub/")).then_some(output)
        })
        .await;
        let identity_key = text(&printed.stderr).trim().rsplit(' ').next().unwrap().to_owned();
        until("the hub to have the droplet's last entry", || async {
            let file = rig.export("412001").await;
            let entries = std::fs::read_to_string(file).unwrap().matches("\"entry\"").count() as u64;
            (entries >= vouched(&droplet_file, "droplet/")).then_some(())
        })
        .await;
        assert!(rig.agent.terminate().await.success());
        let root = rig.folder().join("root.json");
        std::fs::write(&root, &rig.operator.root_document).unwrap();
        Self { rig, droplet_file, identity_key, root }
    }

    /// Exports a chain and verifies it against what the droplet has kept.
    async fn verdict(&self, chain: &str) -> Output {
        let file = self.rig.export(chain).await;
        let paths = [&file, &self.droplet_file, &self.root].map(|path| path.to_str().unwrap());
        let [file, kept, root] = paths;
        let args = ["audit", "verify", file, "--checkpoint", kept, "--trust-root", root];
        let args = [&args[..], &["--identity-key", &self.identity_key, "--output", "json"]].concat();
        self.rig.ctl_command(&args).output().unwrap()
    }
}

trait Export {
    async fn export(&self, chain: &str) -> PathBuf;
}

impl Export for Rig {
    /// `genesisctl audit export` into a new file.
    async fn export(&self, chain: &str) -> PathBuf {
        let file = self.folder().join(format!("{chain}.jsonl"));
        drop(std::fs::remove_file(&file));
        done(&mut self.ctl_command(&["audit", "export", "--chain", chain, "--out", file.to_str().unwrap()]));
        file
    }
}

#[tokio::test]
async fn a_hub_that_tampers_with_its_database_is_found_out_by_what_a_droplet_has_kept() {
    let mut history = History::new().await;
    let database = genesis_hub::setup::database(&history.rig.hub_dir());
    let base = history.rig.folder().join("base.db");
    for chain in ["hub", "412001"] {
        let verdict = history.verdict(chain).await;
        assert!(verdict.status.success(), "{}{}", text(&verdict.stdout), text(&verdict.stderr));
        let head: Value = serde_json::from_slice(&verdict.stdout).unwrap();
        assert_eq!(head["checked"], head["checkpoints"], "{head}");
        assert!(head["confirmed"].as_u64().unwrap() > 4, "{head}");
    }
    assert!(history.rig.hub.terminate().await.success());
    std::fs::copy(&database, &base).unwrap();
    let mut found = 0;
    for (chain, own, kept) in [("hub", "droplet_id IS NULL", "hub/"), ("412001", "droplet_id = '412001'", "droplet/")] {
        let end = vouched(&history.droplet_file, kept);
        let mut cases = forgeries(own, 4, end);
        cases.push(("rewrite", String::new(), "the chain was rewritten there or before".into()));
        for (name, sql, expected) in cases {
            std::fs::copy(&base, &database).unwrap();
            {
                let forged = Connection::open(&database).unwrap();
                // What droplets signed is no obstacle to whoever owns the file.
                forged.execute("DELETE FROM audit_checkpoint", []).unwrap();
                forged.execute_batch(&sql).unwrap();
                if name == "rewrite" {
                    rewrite(&forged, own, 4);
                }
            }
            history.rig.start_hub().await;
            let verdict = history.verdict(chain).await;
            let said = text(&verdict.stderr);
            assert_eq!(verdict.status.code(), Some(3), "{chain}, {name}: {}", text(&verdict.stdout));
            assert!(said.contains("audit_broken") && said.contains(&expected), "{chain}, {name}: {said}");
            assert!(history.rig.hub.terminate().await.success());
            found += 1;
        }
    }
    let leaked = canary::find(history.rig.folder(), &["n8n"]);
    assert!(leaked.is_empty(), "secrets in {leaked:?}");
    println!("{{\"forgeries\":{found},\"found\":{found}}}");
}

#[tokio::test]
async fn a_droplets_audit_can_be_read_while_its_service_runs_and_while_it_does_not() {
    let mut rig = Rig::new(Kind::StandIn).await;
    let running = done(&mut rig.agent_command(&["audit"]));
    assert!(rig.agent.terminate().await.success());
    let stopped = done(&mut rig.agent_command(&["audit"]));
    let entries = |output: &Output| {
        let lines = text(&output.stdout);
        lines.lines().filter(|line| line.starts_with("{\"entry\"")).map(str::to_owned).collect::<Vec<_>>()
    };
    assert!(entries(&running).len() >= 3, "{}", text(&running.stdout));
    assert!(entries(&stopped).starts_with(&entries(&running)));
    assert_eq!(running.stderr, stopped.stderr, "the same identity key");
    let file = rig.folder().join("own.jsonl");
    std::fs::write(&file, &stopped.stdout).unwrap();
    done(&mut rig.ctl_command(&["audit", "verify", file.to_str().unwrap()]));
    let cut: Vec<_> =
        text(&stopped.stdout).lines().filter(|line| !line.contains("\"seq\":1,")).map(str::to_owned).collect();
    std::fs::write(&file, cut.join("\n")).unwrap();
    assert!(!rig.ctl_command(&["audit", "verify", file.to_str().unwrap()]).output().unwrap().status.success());
    done(&mut rig.ctl_command(&["audit", "verify", "--pruned", file.to_str().unwrap()]));
}
