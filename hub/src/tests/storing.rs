//! The store's contract: group commit, and a full disk that loses nothing.

use std::future::poll_fn;
use std::task::Poll;
use std::time::Duration;

use serde_json::json;

use super::world::*;

/// Runs futures at the same time on this task.
async fn join_all(futures: impl Iterator<Item = impl Future>) {
    let mut running: Vec<_> = futures.map(Box::pin).collect();
    poll_fn(|context| {
        running.retain_mut(|future| future.as_mut().poll(context).is_pending());
        if running.is_empty() { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
}

#[tokio::test]
async fn concurrent_writes_share_commits() {
    const WRITES: usize = 200;
    let world = World::new().await;
    let before = world.hub.store.commits();
    let one = async |n: usize| world.api_token(&format!("t{n}"), "read").await;
    join_all((0..WRITES).map(one)).await;
    let commits = world.hub.store.commits() - before;
    assert!(commits < WRITES as u64 / 2, "{commits} commits for {WRITES} writes");
    assert_eq!(world.hub.store.api_tokens().await.unwrap().len(), WRITES + 1);
}

#[tokio::test]
async fn a_full_disk_acknowledges_nothing_says_so_and_works_again_when_there_is_space() {
    let world = World::new().await;
    let droplet = world.enrol("d1").await;
    world.hub.store.limit_pages(Some(1)).await.unwrap();
    // Large, so that it cannot fit into pages that the file has already.
    let padding = " ".repeat(300_000);
    let bundle = padding + &world.sign(&world.payload(json!({"workspaces": [droplet.workspace]})));
    let answer = world.push(&bundle).await;
    assert!(answer.headers.contains_key("retry-after"));
    assert_eq!(answer.refused(503, "store_unavailable")["retryable"], true);
    assert_eq!(world.get("/api/v1/jobs").await.ok()["items"], json!([]));
    world.hub.store.limit_pages(None).await.unwrap();
    let pushed = world.push(&bundle).await.ok();
    assert_eq!(world.poll(&droplet).await[0]["job_id"], pushed["job_ids"][0]);
}

#[tokio::test]
async fn one_failing_or_panicking_change_spoils_no_other() {
    let world = World::new().await;
    let (fails, panics) = (world.hub.store.fail_after_write("a"), world.hub.store.panic_after_write("b"));
    let (failed, panicked, token) = tokio::join!(fails, panics, world.api_token("good", "read"));
    assert!(failed.is_err() && panicked.is_err());
    assert!(!token.is_empty());
    let names: Vec<_> = world.hub.store.api_tokens().await.unwrap().into_iter().map(|token| token.name).collect();
    assert_eq!(names, ["admin", "good"], "what failed left no trace");
}

#[tokio::test]
async fn a_closed_store_says_so() {
    let world = World::new().await;
    world.hub.store.close().await.unwrap();
    let droplets = tokio::time::timeout(Duration::from_secs(5), world.get("/api/v1/droplets")).await.unwrap();
    droplets.refused(503, "store_unavailable");
    let ready = world.get("/readyz").await;
    ready.refused(503, "store_unavailable");
}
