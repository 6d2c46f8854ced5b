//! A restart loses nothing that was acknowledged.

use serde_json::json;

use super::world::*;

#[tokio::test]
async fn everything_acknowledged_is_there_after_a_restart() {
    everything_is_there_after(End::InOrder).await;
}

#[tokio::test]
async fn everything_acknowledged_is_there_after_a_crash() {
    everything_is_there_after(End::Crash).await;
}

enum End {
    InOrder,
    Crash,
}

async fn everything_is_there_after(end: End) {
    let mut world = World::new().await;
    let droplet = world.enrol("d1").await;
    let (done, out, waiting) = (world.queue(&droplet).await, world.queue(&droplet).await, world.register("d2").await);
    let leased = world.poll(&droplet).await;
    assert_eq!(leased.len(), 2);
    world.deliver(&droplet, vec![(1, accepted(&done)), (2, result(&done, "succeeded"))]).await.ok();
    let bundle = world.sign(&world.payload(json!({"workspaces": [droplet.workspace]})));
    let pushed = world.push(&bundle).await.ok();
    let root = world.get("/api/v1/trust-root").await.ok();
    let before = (world.job(&done).await, world.get("/api/v1/droplets/d1").await.ok());

    match end {
        End::InOrder => world.restart().await,
        End::Crash => world.crash(),
    }

    assert_eq!((world.job(&done).await, world.get("/api/v1/droplets/d1").await.ok()), before);
    assert_eq!(world.get("/api/v1/trust-root").await.ok(), root);
    assert_eq!(world.push(&bundle).await.ok(), pushed);
    assert_eq!(world.state(&out).await, "leased");
    assert_eq!(world.deliver(&droplet, vec![]).await.ok()["stored_up_to"], 2);
    // What was out and unconfirmed comes again, the token of before still good, in the order of before.
    let again: Vec<_> = world.poll(&droplet).await.iter().map(|command| command["job_id"].clone()).collect();
    assert_eq!(again, [json!(out), pushed["job_ids"][0].clone()]);
    world.handshake(&waiting.handshake()).await.ok();
}

#[tokio::test]
async fn no_credential_is_in_the_database() {
    let world = World::new().await;
    let droplet = world.enrol("d1").await;
    let mut whole = Vec::new();
    for file in ["hub.db", "hub.db-wal"] {
        whole.extend(std::fs::read(world.hub.settings.data_dir.join(file)).unwrap());
    }
    for secret in [&droplet.token, &droplet.provisioning, &world.admin] {
        assert!(!whole.windows(secret.len()).any(|window| window == secret.as_bytes()));
    }
    assert!(whole.windows(2).any(|window| window == b"d1"), "the test looks at the right files");
}
