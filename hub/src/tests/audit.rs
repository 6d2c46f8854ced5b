//! The hub's audit: what it notes of itself, what it keeps of droplets, and that it says where a chain breaks.

use axum::body::Body;
use axum::http::Method;
use genesis_shared::audit::{
    self, CHECKPOINT_TYP, Checkpoint, Entry, Expected, Head, Line, Note, droplet_chain, event,
};
use genesis_shared::id::Digest;
use genesis_shared::limits::{CHECKPOINTS_KEPT, DENIALS_WINDOW_MS};
use genesis_shared::timestamp::Timestamp;
use serde_json::{Value, json};

use super::world::*;
use crate::random;
use crate::store::Store;

/// Every line of a chain, page by page.
async fn lines(world: &World, chain: &str) -> Vec<Line> {
    let (mut lines, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = world.get(&format!("/api/v1/audit?chain={chain}&limit=3{cursor}")).await.ok();
        lines.extend(serde_json::from_value::<Vec<Line>>(page["items"].clone()).unwrap());
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return lines,
        }
    }
}

fn entries(lines: &[Line]) -> Vec<Entry> {
    let entry = |line: &Line| if let Line::Entry(entry) = line { Some(entry.clone()) } else { None };
    lines.iter().filter_map(entry).collect()
}

fn checkpoints(lines: &[Line]) -> Vec<Checkpoint> {
    let texts = lines.iter().filter_map(|line| if let Line::Checkpoint(text) = line { Some(text) } else { None });
    texts.map(|text| Checkpoint::read_unverified(text.as_bytes()).unwrap()).collect()
}

fn verified(lines: &[Line]) -> Head {
    let Line::Chain(name) = &lines[0] else { panic!("the name comes first") };
    audit::verify(name, Expected::WHOLE, entries(lines), &checkpoints(lines)).unwrap()
}

/// A droplet's chain of so many entries.
fn chain_of(droplet: &Droplet, length: usize) -> Vec<Entry> {
    let name = droplet_chain(droplet.workspace, &droplet.id);
    let mut entries: Vec<Entry> = Vec::new();
    for n in 0..length {
        let event = if n == 0 { event::CHAIN_STARTED } else { event::COMMAND_REFUSED };
        let last = entries.last().map(Entry::link);
        entries.push(Entry::next(&name, last, &Note::new(event, json!({ "n": n })), Timestamp::from_millis(7)));
    }
    entries
}

async fn deliver(world: &World, droplet: &Droplet, from: u64, entries: &[Entry]) {
    let numbered = (from..).zip(entries).map(|(seq, entry)| (seq, json!({ "audit": entry })));
    world.deliver(droplet, numbered.collect()).await.ok();
}

async fn beat(world: &World, droplet: &Droplet, entry: &Entry, signer: &Key) -> Value {
    let held = Checkpoint {
        chain: droplet_chain(droplet.workspace, &droplet.id),
        seq: entry.seq,
        hash: entry.hash,
        at: Timestamp::from_millis(9),
    };
    let mut beat = droplet.heartbeat();
    beat["audit_checkpoint"] = signer.jws(CHECKPOINT_TYP, &serde_json::to_value(held).unwrap()).into();
    world.call(Method::POST, "/api/v1/sidecar/heartbeat", &droplet.token, beat.to_string()).await.ok()
}

#[tokio::test]
async fn an_entry_with_a_number_that_no_chain_reaches_is_refused_and_breaks_nothing() {
    let world = World::new().await;
    let droplet = world.enrol("d1").await;
    let digest = format!("sha256:{}", "0".repeat(64));
    let entry = |seq: u64| json!({"audit": {"seq": seq, "at": START, "event": "X", "detail": "{}", "prev": digest, "hash": digest}});
    world.deliver(&droplet, vec![(1, entry(u64::MAX))]).await.refused(400, "malformed");
    assert_eq!(world.deliver(&droplet, vec![(1, entry(9))]).await.ok()["stored_up_to"], 1);
}

#[tokio::test]
async fn what_happens_at_the_hub_is_one_chain_that_verifies_and_holds_no_secret() {
    let world = World::new().await;
    let droplet = world.enrol("d1").await;
    world.post("/api/v1/droplets/d1/provisioning-token", Body::empty()).await.ok();
    let job = world.queue(&droplet).await;
    world.post(&format!("/api/v1/jobs/{job}/cancel"), Body::empty()).await.ok();
    let stolen = world.enrol("d2").await;
    let mut second = stolen.handshake();
    second.identity_key = Key::new("thief").public();
    world.handshake(&second).await.refused(401, "bad_proof");
    let foreign = world.queue(&droplet).await;
    world.deliver(&stolen, vec![(1, accepted(&foreign))]).await.ok();
    assert!(world.hub.store.revoke_api_token("admin".into(), world.clock.now()).await.unwrap());
    world.get("/api/v1/jobs").await.refused(401, "unauthenticated");

    let admin = world.api_token("second", "admin").await;
    let page = world.call(Method::GET, "/api/v1/audit?chain=hub&limit=200", &admin, Body::empty()).await.ok();
    let lines: Vec<Line> = serde_json::from_value(page["items"].clone()).unwrap();
    let head = verified(&lines);
    assert_eq!((head.confirmed, head.runs), (Some(head.seq), 1), "the hub's own checkpoint is of its head");
    let names: Vec<String> = entries(&lines).into_iter().map(|entry| entry.event).collect();
    for name in [
        event::CHAIN_STARTED,
        event::TOKEN_CREATED,
        event::TRUST_ROOT_STORED,
        event::DROPLET_CREATED,
        event::DROPLET_ENROLLED,
        event::PROVISIONING_TOKEN_ISSUED,
        event::BUNDLE_PUSHED,
        event::JOB_CANCELLED,
        event::LOGIN_FAILED,
        event::SUSPICIOUS_ACTIVITY,
        event::TOKEN_REVOKED,
    ] {
        assert!(names.iter().any(|found| found == name), "{name} is not in {names:?}");
    }
    let text = page.to_string();
    for secret in [&world.admin, &admin, &droplet.token, &droplet.provisioning, &stolen.token] {
        assert!(!text.contains(secret.as_str()));
    }
}

#[tokio::test]
async fn a_droplets_chain_is_kept_as_it_came_and_a_break_is_stored_and_said() {
    let world = World::new().await;
    let droplet = world.enrol("d1").await;
    let chain = chain_of(&droplet, 9);
    deliver(&world, &droplet, 1, &chain[..4]).await;
    beat(&world, &droplet, &chain[3], &droplet.identity).await;
    assert_eq!(verified(&lines(&world, "d1").await).confirmed, Some(4));
    assert!(!world.events().await.contains(&"audit_chain_broken".into()));

    // One is missing, one was changed, and the chain begins anew.
    deliver(&world, &droplet, 5, &chain[5..6]).await;
    let changed = Entry { detail: "{}".into(), ..chain[6].clone() };
    deliver(&world, &droplet, 6, &[changed]).await;
    deliver(&world, &droplet, 7, &chain[..1]).await;
    let broken = world.events().await.iter().filter(|code| *code == "audit_chain_broken").count();
    let stored = entries(&lines(&world, "d1").await);
    assert_eq!((broken, stored.len()), (3, 7), "each is stored all the same");
    let own = entries(&lines(&world, "hub").await);
    assert_eq!(own.iter().filter(|entry| entry.event == event::SUSPICIOUS_ACTIVITY).count(), 3);
}

#[tokio::test]
async fn checkpoints_are_held_when_they_are_the_droplets_own_and_compared_with_what_is_stored() {
    let world = World::new().await;
    let droplet = world.enrol("d1").await;
    let chain = chain_of(&droplet, 50);
    deliver(&world, &droplet, 1, &chain).await;
    for entry in chain.iter().chain(&chain[49..]) {
        let answer = beat(&world, &droplet, entry, &droplet.identity).await;
        let held = answer["audit_checkpoint"].as_str().unwrap();
        assert_eq!(Checkpoint::read_unverified(held.as_bytes()).unwrap().chain[..4], *"hub/");
    }
    let held = checkpoints(&lines(&world, "d1").await);
    assert_eq!(held.len(), CHECKPOINTS_KEPT + 1, "the first and the latest, each once");
    assert_eq!((held[0].seq, held[CHECKPOINTS_KEPT].seq), (1, 50));
    assert!(!world.events().await.contains(&"audit_chain_broken".into()));
    beat(&world, &droplet, &chain[5], &Key::new("identity")).await;
    let other = Entry { hash: Digest::of(b"other"), ..chain[49].clone() };
    beat(&world, &droplet, &other, &droplet.identity).await;
    assert_eq!(world.events().await.iter().filter(|code| *code == "audit_chain_broken").count(), 2);
    assert_eq!(checkpoints(&lines(&world, "d1").await).len(), CHECKPOINTS_KEPT + 1, "the forged one is not held");
    let health = &world.get("/api/v1/droplets/d1").await.ok()["health"];
    assert!(health["audit_checkpoint"].is_null(), "{health}");
}

#[tokio::test]
async fn a_thousand_refused_logins_are_two_entries() {
    let world = World::new().await;
    let admin = world.admin.clone();
    for _ in 0..1000 {
        world.call(Method::GET, "/api/v1/jobs", &random::token(), Body::empty()).await.refused(401, "unauthenticated");
    }
    let failed = async || {
        let all = entries(&lines(&world, "hub").await);
        all.into_iter().filter(|e| e.event == event::LOGIN_FAILED).map(|e| e.detail).collect::<Vec<_>>()
    };
    assert_eq!(failed().await.len(), 1, "the first at once");
    world.clock.advance(DENIALS_WINDOW_MS);
    world.hub.sweep().await;
    let told = failed().await;
    assert!(told.len() == 2 && told[1].contains("\"count\":999"), "{told:?}");
    world.hub.sweep().await;
    assert_eq!(failed().await.len(), 2);
    let reader = world.api_token("reader", "read").await;
    world.call(Method::PUT, "/api/v1/trust-root", &reader, world.root_document(1)).await.refused(403, "scope_missing");
    let all = entries(&lines(&world, "hub").await);
    assert!(all.iter().any(|entry| entry.event == event::PERMISSION_DENIED && entry.detail.contains("scope_missing")));
    assert!(all.iter().all(|entry| !entry.detail.contains(&admin)));
}

#[tokio::test]
async fn a_chain_that_is_not_there_is_404_and_a_name_that_is_none_400() {
    let world = World::new().await;
    world.get("/api/v1/audit?chain=d1").await.refused(404, "not_found");
    world.get("/api/v1/audit?chain=a%2Fb").await.refused(400, "malformed");
    world.get("/api/v1/audit?chain=hub&cursor=x").await.refused(400, "malformed");
    world.register("hub").await;
    let own = lines(&world, "hub").await;
    let droplets = lines(&world, "droplet:hub").await;
    assert_eq!(droplets.len(), 1, "it has no entries yet");
    assert_ne!(own[0], droplets[0]);
}

#[tokio::test]
async fn a_restart_and_a_crash_go_on_with_the_chain() {
    let mut world = World::new().await;
    let before = verified(&lines(&world, "hub").await);
    world.restart().await;
    world.register("d1").await;
    world.crash();
    world.register("d2").await;
    let after = lines(&world, "hub").await;
    let head = verified(&after);
    assert_eq!((head.runs, head.seq), (1, before.seq + 2));
}

#[tokio::test]
async fn a_database_of_version_1_gets_its_chains_and_keeps_what_it_has() {
    let dir = tempfile::tempdir().unwrap();
    let (old, new) = (dir.path().join("old.db"), dir.path().join("new.db"));
    {
        let file = rusqlite::Connection::open(&old).unwrap();
        file.execute_batch(include_str!("../store/schema.sql")).unwrap();
        file.execute("INSERT INTO api_token VALUES (x'01', 'ci', 'read', 7, NULL)", []).unwrap();
        file.pragma_update(None, "user_version", 1).unwrap();
    }
    let store = Store::open(&old).unwrap();
    assert_eq!(store.api_tokens().await.unwrap().len(), 1);
    assert_eq!(store.audit_head().await.unwrap(), None);
    store.note(event::SUSPICIOUS_ACTIVITY, json!({}), Timestamp::from_millis(1)).await.unwrap();
    assert_eq!(store.audit_head().await.unwrap().unwrap().1.seq, 2);
    store.close().await.unwrap();
    Store::open(&new).unwrap().close().await.unwrap();
    let schema = |path: &std::path::Path| {
        let file = rusqlite::Connection::open(path).unwrap();
        let mut query = file.prepare("SELECT sql FROM sqlite_schema WHERE sql NOT NULL ORDER BY 1").unwrap();
        let rows = query.query_map([], |row| row.get::<_, String>(0)).unwrap();
        rows.collect::<Result<Vec<_>, _>>().unwrap()
    };
    assert_eq!(schema(&old), schema(&new), "both ways lead to one schema");
}
