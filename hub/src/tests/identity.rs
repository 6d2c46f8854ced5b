//! Restored and cloned droplets: noticed, quarantined, resumed; no record of theirs is swallowed.

use axum::body::Body;
use axum::http::{Method, Request, StatusCode, header};
use genesis_shared::life::{BOOT_EPOCH_HEADER, HIGH_WATER_HEADER};
use serde_json::{Value, json};

use super::world::*;

/// Twice the heartbeat interval of the tests' hub.
const GRACE_MS: i64 = 120_000;

/// One life of a droplet's agent.
struct Life<'a> {
    world: &'a World,
    droplet: &'a Droplet,
    epoch: &'a str,
    /// What its journal had used when it began.
    high_water: u64,
}

impl Life<'_> {
    async fn call(&self, method: Method, path: &str, body: Value) -> Answer {
        let request = Request::builder()
            .method(method)
            .uri(format!("/api/v1/sidecar/{path}"))
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::AUTHORIZATION, format!("Bearer {}", self.droplet.token))
            .header(BOOT_EPOCH_HEADER, self.epoch)
            .header(HIGH_WATER_HEADER, self.high_water);
        let body = if body.is_null() { Body::empty() } else { Body::from(body.to_string()) };
        self.world.send(request.body(body).unwrap()).await
    }
    async fn poll(&self) -> Answer {
        self.call(Method::GET, "commands?wait=0&nonce=0123456789abcdef", Value::Null).await
    }
    /// The jobs that a poll gives, and whether it speaks of a quarantine.
    async fn jobs(&self) -> (Vec<String>, bool) {
        let answer = self.poll().await;
        if answer.status == StatusCode::NO_CONTENT {
            return (Vec::new(), false);
        }
        let body = answer.ok();
        let commands = body["commands"].as_array().unwrap().iter();
        (commands.map(|c| c["job_id"].as_str().unwrap().to_owned()).collect(), body["quarantined"].as_bool().unwrap())
    }
    async fn deliver(&self, records: &[(u64, Value)]) -> Answer {
        let records: Vec<_> =
            records.iter().map(|(seq, record)| json!({"seq": seq, "at": START, "record": record})).collect();
        self.call(Method::POST, "results", json!({"records": records})).await
    }
    async fn beat(&self, high_water: u64) -> Value {
        let mut beat = self.droplet.heartbeat();
        beat["journal_high_water"] = high_water.into();
        self.call(Method::POST, "heartbeat", beat).await.ok()
    }
}

fn life<'a>(world: &'a World, droplet: &'a Droplet, epoch: &'a str, high_water: u64) -> Life<'a> {
    Life { world, droplet, epoch, high_water }
}

fn event(code: &str) -> Value {
    json!({"event": {"code": code, "message": "something happened"}})
}

/// Queues a command that changes something.
async fn queue_change(world: &World, droplet: &Droplet) -> String {
    let mut payload = world.payload(json!({"workspaces": [droplet.workspace]}));
    payload["commands"] = json!([{"action": "DEACTIVATE_WORKFLOW", "payload": {"key": "a"}}]);
    world.push(&world.sign(&payload)).await.ok()["job_ids"][0].as_str().unwrap().to_owned()
}

async fn resume(world: &World, body: Value) -> Answer {
    world.post("/api/v1/droplets/d1/resume", body.to_string()).await
}

async fn shown(world: &World) -> Value {
    world.get("/api/v1/droplets/d1").await.ok()
}

async fn is_quarantined(world: &World) -> bool {
    !shown(world).await["quarantine"].is_null()
}

#[tokio::test]
async fn a_restart_is_no_clone_and_a_request_overtaken_by_newer_records_is_no_restoration() {
    let world = World::new().await;
    let droplet = world.enrol("d1").await;
    let first = life(&world, &droplet, "1", 0);
    first.deliver(&[(1, event("a")), (2, event("b"))]).await.ok();
    // Written before the delivery and heard after it: it speaks of the life's beginning, and its report is just old.
    assert_eq!(first.beat(1).await["quarantined"], false);
    let second = life(&world, &droplet, "2", 2);
    assert_eq!(second.jobs().await, (vec![], false));
    second.deliver(&[(3, event("c"))]).await.ok();
    // The last word of the life before, held up on its way.
    world.clock.advance(GRACE_MS - 1);
    assert_eq!(first.beat(2).await["quarantined"], false);
    let job = queue_change(&world, &droplet).await;
    assert_eq!(first.jobs().await, (vec![], false), "a life that was succeeded takes nothing with it");
    assert_eq!(second.jobs().await, (vec![job], false));
    assert_eq!(shown(&world).await["lives"][0]["boot_epoch"], "2");
    assert_eq!(world.events().await, ["c", "b", "a"]);
}

#[tokio::test]
async fn a_droplet_restored_from_a_snapshot_is_quarantined_by_its_first_word_and_only_looks() {
    let world = World::new().await;
    let droplet = world.enrol("d1").await;
    let (change, look) = (queue_change(&world, &droplet).await, world.queue(&droplet).await);
    life(&world, &droplet, "1", 0).deliver(&[(1, event("a")), (2, event("b")), (3, event("c"))]).await.ok();

    let restored = life(&world, &droplet, "2", 1);
    assert_eq!(restored.jobs().await, (vec![], true), "told at once, before it gets anything");
    assert_eq!(world.events().await[0], "droplet_restored");
    let view = shown(&world).await;
    assert_eq!((&view["state"], &view["quarantine"]["code"]), (&json!("QUARANTINED"), &json!("droplet_restored")));
    assert_eq!(view["lives"][0]["journal_high_water"], 1);

    assert_eq!(restored.jobs().await, (vec![look.clone()], true), "looks go on");
    let batch = [(2, event("new")), (3, accepted(&look)), (4, result(&look, "succeeded"))];
    assert_eq!(restored.deliver(&batch).await.refused(409, "quarantined")["retryable"], true);
    assert_eq!(world.state(&look).await, "succeeded", "and are answered, though no record is taken yet");
    assert_eq!(world.events().await[0], "droplet_restored", "nothing else was taken");
    assert_eq!(world.state(&change).await, "queued");
    let beat = restored.beat(4).await;
    assert_eq!((&beat["quarantined"], &beat["work_waiting"]), (&json!(true), &json!(false)));
    // However often it starts again, and though it has overtaken the old journal meanwhile.
    assert_eq!(life(&world, &droplet, "3", 9).jobs().await, (vec![], true));
    // Whatever the first word of a new life is: an agent that heard otherwise would go on.
    assert_eq!(life(&world, &droplet, "4", 9).beat(9).await["quarantined"], true);
}

#[tokio::test]
async fn a_resumed_droplet_that_starts_again_before_it_has_reported_anything_is_not_quarantined_once_more() {
    let world = World::new().await;
    let droplet = world.enrol("d1").await;
    life(&world, &droplet, "1", 0).deliver(&[(1, event("a")), (2, event("b")), (3, event("c"))]).await.ok();
    assert!(life(&world, &droplet, "2", 1).jobs().await.1);
    resume(&world, json!({"reason": "restored the backup of Monday"})).await.ok();
    // Its journal is as old as it was when an operator vouched for it.
    assert!(!life(&world, &droplet, "3", 1).jobs().await.1);
    assert!(!is_quarantined(&world).await);
}

#[tokio::test]
async fn after_a_resumption_every_record_of_the_restored_journal_arrives_under_numbers_used_before() {
    let world = World::new().await;
    let droplet = world.enrol("d1").await;
    let first = life(&world, &droplet, "1", 0);
    let done = queue_change(&world, &droplet).await;
    assert_eq!(first.jobs().await.0, std::slice::from_ref(&done));
    first.deliver(&[(1, event("a")), (2, accepted(&done)), (3, result(&done, "succeeded"))]).await.ok();
    let begun = queue_change(&world, &droplet).await;
    assert_eq!(first.jobs().await.0, std::slice::from_ref(&begun));
    first.deliver(&[(4, accepted(&begun))]).await.ok();
    let next = queue_change(&world, &droplet).await;

    // The snapshot is from before the second record.
    let restored = life(&world, &droplet, "2", 1);
    restored.poll().await.ok();
    restored.deliver(&[(2, event("new-2"))]).await.refused(409, "quarantined");
    let view = resume(&world, json!({"reason": "restored the backup of Monday"})).await.ok();
    assert_eq!((&view["quarantine"], &view["state"]), (&Value::Null, &json!("INITIALIZING")));
    let events = world.hub.store.events(None, 1).await.unwrap();
    assert!(events[0].code == "job_orphaned" || events[0].code == "droplet_resumed");
    let resumed = events.iter().chain(&world.hub.store.events(None, 9).await.unwrap()).any(|event| {
        event.code == "droplet_resumed" && event.message.contains("by admin: restored the backup of Monday")
    });
    assert!(resumed);

    let stored = restored.deliver(&[(2, event("new-2")), (3, event("new-3"))]).await.ok();
    assert_eq!(stored["stored_up_to"], 3);
    restored.deliver(&[(4, event("new-4")), (5, event("new-5"))]).await.ok();
    for code in ["a", "new-2", "new-3", "new-4", "new-5"] {
        assert_eq!(world.events().await.iter().filter(|event| *event == code).count(), 1, "{code}");
    }
    // What was done after the snapshot is not done again; what the lost journal had begun needs a look; the rest comes.
    assert_eq!(restored.jobs().await, (vec![next], false));
    assert_eq!((world.state(&done).await, world.state(&begun).await), ("succeeded".into(), "stuck".into()));
    // And from here on a restart is a restart again, and a second restoration is noticed again.
    assert!(!life(&world, &droplet, "3", 5).jobs().await.1);
    assert!(life(&world, &droplet, "4", 1).jobs().await.1);
}

#[tokio::test]
async fn a_restored_journal_that_has_overtaken_the_old_one_loses_none_of_its_records_either() {
    let world = World::new().await;
    let droplet = world.enrol("d1").await;
    life(&world, &droplet, "1", 0).deliver(&[(1, event("a")), (2, event("old-2")), (3, event("old-3"))]).await.ok();
    // It wrote four records before it could reach the hub, so its high-water mark gives nothing away.
    let restored = life(&world, &droplet, "2", 6);
    let batch = [(2, event("new-2")), (3, event("new-3")), (4, event("d")), (5, event("e")), (6, event("f"))];
    restored.deliver(&batch).await.refused(409, "quarantined");
    assert_eq!(shown(&world).await["quarantine"]["code"], "journal_diverged");
    resume(&world, json!({"reason": "restored"})).await.ok();
    assert_eq!(restored.deliver(&batch).await.ok()["stored_up_to"], 6);
    assert_eq!(restored.deliver(&batch).await.ok()["stored_up_to"], 6, "once, however often it is delivered");
    let events = world.events().await;
    for code in ["new-2", "new-3", "d", "e", "f", "old-2"] {
        assert_eq!(events.iter().filter(|event| *event == code).count(), 1, "{code}: {events:?}");
    }
    // The leave to differ was used up.
    restored.deliver(&[(6, event("another"))]).await.refused(409, "quarantined");
}

#[tokio::test]
async fn a_clone_beside_the_original_is_noticed_when_both_have_spoken_and_neither_changes_anything_then() {
    let world = World::new().await;
    let droplet = world.enrol("d1").await;
    let (original, clone) = (life(&world, &droplet, "1", 0), life(&world, &droplet, "2", 1));
    original.deliver(&[(1, event("a"))]).await.ok();
    original.beat(1).await;
    clone.poll().await;
    world.clock.advance(GRACE_MS);
    let job = queue_change(&world, &droplet).await;
    assert_eq!(original.jobs().await, (vec![], true));
    assert_eq!(clone.jobs().await, (vec![], true));
    assert_eq!(world.events().await[0], "droplet_cloned");

    // The operator knows which machine is the right one, and forgets to stop the other.
    resume(&world, json!({"reason": "d1 is the old machine", "boot_epoch": "1"})).await.ok();
    assert_eq!(original.jobs().await, (vec![job.clone()], false));
    assert_eq!(clone.jobs().await, (vec![], false), "it may be about to end");
    world.clock.advance(GRACE_MS);
    assert_eq!(clone.jobs().await, (vec![], true));
    assert_eq!(original.jobs().await, (vec![], true));
    assert_eq!(world.state(&job).await, "leased");
}

#[tokio::test]
async fn a_clone_that_restarts_all_the_time_hides_the_original_no_longer_than_one_that_does_not() {
    let world = World::new().await;
    let droplet = world.enrol("d1").await;
    let original = life(&world, &droplet, "1", 0);
    for restart in 0..3 {
        life(&world, &droplet, &format!("clone-{restart}"), 0).poll().await;
        world.clock.advance(GRACE_MS / 3);
    }
    assert_eq!(original.jobs().await, (vec![], true));
    assert_eq!(world.events().await[0], "droplet_cloned");
}

#[tokio::test]
async fn a_record_with_another_content_under_a_used_number_is_not_taken_for_the_one_that_is_stored() {
    let world = World::new().await;
    let droplet = world.enrol("d1").await;
    // No agent that names its life: the content alone gives it away.
    world.deliver(&droplet, vec![(1, event("a"))]).await.ok();
    world.deliver(&droplet, vec![(1, event("a"))]).await.ok();
    // A record that was damaged in the journal since is no other branch of it.
    world.deliver(&droplet, vec![(1, event("journal_damaged"))]).await.ok();
    world.deliver(&droplet, vec![(1, event("b")), (2, event("c"))]).await.refused(409, "quarantined");
    assert_eq!(world.events().await, ["journal_diverged", "a"]);
    resume(&world, json!({"reason": "looked at it"})).await.ok();
    assert_eq!(world.deliver(&droplet, vec![(1, event("b")), (2, event("c"))]).await.ok()["stored_up_to"], 2);
}

#[tokio::test]
async fn waiting_polls_hear_at_once_of_a_quarantine_and_of_its_end() {
    let world = World::new().await;
    let droplet = world.enrol("d1").await;
    let original = life(&world, &droplet, "1", 0);
    original.deliver(&[(1, event("a"))]).await.ok();
    let long = "commands?wait=25&nonce=0123456789abcdef";
    let alarm = async {
        tokio::task::yield_now().await;
        original.deliver(&[(1, event("other"))]).await.refused(409, "quarantined");
    };
    let (answer, ()) = tokio::join!(original.call(Method::GET, long, Value::Null), alarm);
    assert_eq!(answer.ok()["quarantined"], true);
    let end = async {
        tokio::task::yield_now().await;
        resume(&world, json!({"reason": "x"})).await.ok();
    };
    let (answer, ()) = tokio::join!(original.call(Method::GET, long, Value::Null), end);
    assert_eq!(answer.status, StatusCode::NO_CONTENT);
}

#[tokio::test]
async fn a_resumption_needs_a_quarantine_a_reason_and_a_life_that_is_known() {
    let world = World::new().await;
    let droplet = world.enrol("d1").await;
    resume(&world, json!({"reason": "x"})).await.refused(409, "not_quarantined");
    life(&world, &droplet, "1", 0).deliver(&[(1, event("a"))]).await.ok();
    life(&world, &droplet, "2", 0).poll().await.ok();
    resume(&world, json!({"reason": " "})).await.refused(422, "resume_invalid");
    resume(&world, json!({"reason": "x".repeat(513)})).await.refused(422, "resume_invalid");
    resume(&world, json!({"reason": "x", "boot_epoch": "7"})).await.refused(422, "resume_invalid");
    resume(&world, json!({})).await.refused(400, "malformed");
    assert!(is_quarantined(&world).await);
    world.post("/api/v1/droplets/d9/resume", json!({"reason": "x"}).to_string()).await.refused(404, "not_found");
    resume(&world, json!({"reason": "x"})).await.ok();
    assert!(!is_quarantined(&world).await);
}

#[tokio::test]
async fn a_quarantine_survives_a_restart_of_the_hub_and_ends_with_a_new_enrolment() {
    let mut world = World::new().await;
    let mut droplet = world.enrol("d1").await;
    life(&world, &droplet, "1", 0).deliver(&[(1, event("a"))]).await.ok();
    life(&world, &droplet, "2", 0).poll().await.ok();
    world.restart().await;
    assert!(life(&world, &droplet, "2", 0).jobs().await.1);
    let answer = world.post("/api/v1/droplets/d1/provisioning-token", Body::empty()).await.ok();
    droplet.provisioning = answer["provisioning_token"].as_str().unwrap().into();
    let mut request = droplet.handshake();
    request.boot_epoch = "2".into();
    droplet.token = world.handshake(&request).await.ok()["sidecar_token"].as_str().unwrap().into();
    assert!(!is_quarantined(&world).await);
    assert_eq!(life(&world, &droplet, "2", 0).deliver(&[(1, event("new"))]).await.ok()["stored_up_to"], 1);
    assert_eq!(world.events().await, ["new", "droplet_resumed", "droplet_restored", "a"]);
}

#[tokio::test]
async fn headers_that_name_no_life_are_refused() {
    let world = World::new().await;
    let droplet = world.enrol("d1").await;
    for epoch in ["", &"x".repeat(129)] {
        life(&world, &droplet, epoch, 0).poll().await.refused(400, "malformed");
    }
}
