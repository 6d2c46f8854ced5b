//! The event stream: nothing is missed, nothing comes twice, and a slow reader harms only itself.

use std::time::Duration;

use axum::body::Body;
use axum::http::{Request, StatusCode};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tower::ServiceExt;

use super::world::*;

/// A reader of the stream.
struct Reader {
    body: Body,
    text: String,
}

/// One event as it came.
#[derive(Debug, PartialEq)]
struct Said {
    id: Option<i64>,
    name: String,
    data: Value,
}

impl Reader {
    async fn open(world: &World, query: &str, last: Option<i64>) -> Self {
        let mut request = Request::get(format!("/api/v1/events/stream{query}"));
        request = request.header("authorization", format!("Bearer {}", world.admin));
        if let Some(last) = last {
            request = request.header("last-event-id", last.to_string());
        }
        let answer = world.router.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK);
        assert_eq!(answer.headers()["content-type"], "text/event-stream");
        Self { body: answer.into_body(), text: String::new() }
    }

    /// The next event; `None` at the end.
    async fn next(&mut self) -> Option<Said> {
        loop {
            while let Some((block, rest)) = self.text.split_once("\n\n") {
                let (block, rest) = (block.to_owned(), rest.to_owned());
                self.text = rest;
                let field = |name: &str| block.lines().find_map(|line| line.strip_prefix(name)).map(str::to_owned);
                if let Some(data) = field("data: ") {
                    let id = field("id: ").map(|id| id.parse().unwrap());
                    let data = serde_json::from_str(&data).expect("JSON");
                    return Some(Said { id, name: field("event: ").unwrap(), data });
                }
            }
            let frame = tokio::time::timeout(Duration::from_secs(20), self.body.frame()).await.expect("a frame");
            self.text.push_str(std::str::from_utf8(frame?.unwrap().data_ref().unwrap()).unwrap());
        }
    }

    async fn codes(&mut self, count: usize) -> Vec<String> {
        let mut codes = Vec::new();
        for _ in 0..count {
            codes.push(self.next().await.expect("an event").data["code"].as_str().unwrap().to_owned());
        }
        codes
    }
}

/// Delivers events with these codes; `first` is the number of the first record.
async fn happen(world: &World, droplet: &Droplet, first: u64, codes: &[String]) {
    for (at, chunk) in codes.chunks(100).enumerate() {
        let records = chunk.iter().zip(first + 100 * at as u64..);
        let records = records.map(|(code, seq)| (seq, json!({"event": {"code": code, "message": "m"}})));
        world.deliver(droplet, records.collect()).await.ok();
    }
}

fn codes(from: usize, to: usize) -> Vec<String> {
    (from..to).map(|n| format!("e{n}")).collect()
}

#[tokio::test]
async fn whoever_comes_back_with_the_last_number_misses_nothing_and_hears_nothing_twice() {
    let world = World::new().await;
    let droplet = world.enrol("d1").await;
    happen(&world, &droplet, 1, &codes(0, 3)).await;
    // Without a number it begins with what happens next.
    let mut reader = Reader::open(&world, "", None).await;
    let later = codes(3, 5);
    let (said, ()) = tokio::join!(reader.codes(2), happen(&world, &droplet, 4, &later));
    assert_eq!(said, codes(3, 5));
    happen(&world, &droplet, 6, &codes(5, 6)).await;
    let last = reader.next().await.unwrap();
    assert_eq!((last.name.as_str(), last.data["droplet_id"].as_str()), ("e5", Some("d1")));
    drop(reader);
    // More than a page happens while it is away.
    happen(&world, &droplet, 7, &codes(6, 256)).await;
    let mut reader = Reader::open(&world, "", last.id).await;
    assert_eq!(reader.codes(250).await, codes(6, 256));
    // The header wins over the address, and 0 is the beginning of everything.
    let mut reader = Reader::open(&world, "?after=250", Some(0)).await;
    assert_eq!(reader.codes(256).await, codes(0, 256));
    let mut reader = Reader::open(&world, "?after=0&code=e7", None).await;
    assert_eq!(reader.codes(1).await, ["e7"]);
    let later = ["x".to_owned(), "e7".to_owned()];
    let (said, ()) = tokio::join!(reader.codes(1), happen(&world, &droplet, 257, &later));
    assert_eq!(said, ["e7"]);
}

#[tokio::test]
async fn a_reader_that_falls_behind_is_cut_off_with_a_word_and_one_that_resumes_far_back_is_not() {
    let mut world = World::new().await;
    let droplet = world.enrol("d1").await;
    world.restart_with(|settings| settings.event_lag_max = 150).await;
    happen(&world, &droplet, 1, &codes(0, 1)).await;
    let mut slow = Reader::open(&world, "", None).await;
    happen(&world, &droplet, 2, &codes(1, 301)).await;
    let cut = slow.next().await.unwrap();
    assert_eq!((cut.name.as_str(), cut.id, cut.data["code"].as_str()), ("hub:cut", None, Some("too_slow")));
    assert_eq!(slow.next().await, None, "it was the last word");
    // It held a place, and gives it back.
    let mut resumed = Reader::open(&world, "", Some(0)).await;
    assert_eq!(resumed.codes(301).await, codes(0, 301));
    assert_eq!(world.hub.streams.available_permits(), crate::hub::EVENT_STREAMS_MAX - 1);
    drop((slow, resumed));
    assert_eq!(world.hub.streams.available_permits(), crate::hub::EVENT_STREAMS_MAX);
}

#[tokio::test]
async fn what_is_no_longer_kept_is_named_and_a_hub_that_stops_says_so() {
    let world = World::new().await;
    let droplet = world.enrol("d1").await;
    happen(&world, &droplet, 1, &codes(0, 5)).await;
    world.hub.store.forget_events_before(4).await.unwrap();
    let mut reader = Reader::open(&world, "", Some(1)).await;
    let gap = reader.next().await.unwrap();
    assert_eq!((gap.name.as_str(), &gap.data["from"], &gap.data["to"]), ("hub:gap", &json!(2), &json!(3)));
    assert_eq!(reader.codes(2).await, codes(3, 5));
    world.hub.stop();
    let end = reader.next().await.unwrap();
    assert_eq!((end.name.as_str(), end.data["code"].as_str()), ("hub:end", Some("stopping")));
    assert_eq!(reader.next().await, None);
}

#[tokio::test]
async fn a_droplets_code_writes_no_line_of_the_stream_and_speaks_not_in_the_hubs_name() {
    let world = World::new().await;
    let droplet = world.enrol("d1").await;
    let mut reader = Reader::open(&world, "?after=0", None).await;
    for (seq, code) in [(1, "hub:cut"), (2, "a\nid: 99\ndata: {}\n\n"), (3, "")] {
        happen(&world, &droplet, seq, &[code.into()]).await;
        let said = reader.next().await.unwrap();
        assert_eq!((said.name.as_str(), said.id, said.data["code"].as_str()), ("event", Some(seq as i64), Some(code)));
    }
}

#[tokio::test]
async fn a_silent_stream_shows_that_it_lives_and_ends_with_its_token() {
    let mut world = World::new().await;
    world.restart_with(|settings| settings.event_keep_alive = Duration::from_millis(1)).await;
    let token = world.api_token("short", "read").await;
    let request = Request::get("/api/v1/events/stream").header("authorization", format!("Bearer {token}"));
    let answer = world.router.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
    let mut body = answer.into_body();
    let mut frame = async || String::from_utf8(body.frame().await.unwrap().unwrap().into_data().unwrap().to_vec());
    assert_eq!(frame().await.unwrap(), "retry: 2000\n\n");
    assert_eq!(frame().await.unwrap(), ":\n\n");
    world.hub.store.revoke_api_token("short".into(), world.clock.now()).await.unwrap();
    let end = loop {
        let text = frame().await.unwrap();
        if text != ":\n\n" {
            break text;
        }
    };
    assert!(end.contains("hub:end") && end.contains("unauthenticated"), "{end}");
}

#[tokio::test]
async fn a_reader_too_many_is_refused_with_a_time_to_come_back() {
    let world = World::new().await;
    let all =
        world.hub.streams.clone().try_acquire_many_owned(crate::hub::EVENT_STREAMS_MAX.try_into().unwrap()).unwrap();
    let refused = world.get("/api/v1/events/stream").await;
    assert_eq!(refused.headers["retry-after"], "30");
    refused.refused(429, "too_many_streams");
    drop(all);
    Reader::open(&world, "", None).await;
}
