//! Faults hit what they were scripted for, and phases play a start.

use std::time::Duration;

use serde_json::json;

use super::super::{Answer, Config, Fault, Kind, Phase, Request, Seen, Standin};
use super::owner;

fn standin() -> Standin {
    Standin::new(Config::default(), 1)
}

fn setup() -> Request {
    Request::new("POST", "/rest/owner/setup").json(&owner())
}

#[test]
fn each_kind_handles_or_does_not_handle_the_request() {
    let answer = Answer::message(502, "no");
    let rows = [
        (Kind::Answer(answer.clone()), false),
        (Kind::Hang, false),
        (Kind::DropBefore, false),
        (Kind::DropAfter, true),
        (Kind::HalfBody, true),
        (Kind::Delay(Duration::from_secs(1)), true),
    ];
    for (kind, handled) in rows {
        let mut standin = standin();
        standin.faults.push(Fault::once("POST", "/rest/owner", kind.clone()));
        let seen = standin.handle(&setup());
        assert_eq!(standin.n8n.owner.is_some(), handled, "{kind:?}");
        assert!(!standin.faults.any_left());
        match kind {
            Kind::Answer(_) => assert_eq!(seen, Seen::Answer(answer.clone())),
            Kind::Hang | Kind::HandledLater(_) => assert_eq!(seen, Seen::Nothing),
            Kind::DropBefore | Kind::DropAfter => assert_eq!(seen, Seen::Closed),
            Kind::HalfBody => assert!(matches!(seen, Seen::Half(_))),
            Kind::Delay(time) => assert!(matches!(seen, Seen::Late(late, _) if late == time)),
        }
        let again = standin.handle(&setup());
        assert!(matches!(again, Seen::Answer(ref answer) if answer.status == if handled { 400 } else { 200 }));
        assert_eq!(standin.count("POST", "/rest/owner/setup"), 2);
    }
}

#[test]
fn what_was_taken_is_carried_out_after_so_many_further_requests() {
    let mut standin = standin();
    standin.faults.push(Fault::once("POST", "/rest/owner", Kind::HandledLater(2)));
    assert_eq!(standin.handle(&setup()), Seen::Nothing);
    let get = Request::new("GET", "/healthz");
    standin.handle(&get);
    assert!(standin.n8n.owner.is_none());
    standin.handle(&get);
    assert!(standin.n8n.owner.is_some());
}

#[test]
fn the_nth_match_is_counted_by_method_and_prefix() {
    let mut standin = standin();
    standin.faults.push(Fault::nth(2, "GET", "/healthz", Kind::DropBefore));
    let (get, post) = (Request::new("GET", "/healthz"), Request::new("POST", "/healthz"));
    assert!(matches!(standin.handle(&get), Seen::Answer(_)));
    assert!(matches!(standin.handle(&post), Seen::Answer(_)));
    assert_eq!(standin.handle(&Request::new("GET", "/healthz/readiness")), Seen::Closed);
    assert!(matches!(standin.handle(&get), Seen::Answer(_)));
    assert_eq!(standin.count_prefix("GET", "/healthz"), 3);
}

#[test]
fn a_start_goes_through_the_real_phases() {
    let mut standin = standin();
    let mut look = |phase: Phase, path: &str| {
        standin.phase = phase;
        let Seen::Answer(answer) = standin.handle(&Request::new("POST", path)) else { return (0, false) };
        (answer.status, answer.content_type.is_some_and(|kind| kind.starts_with("text/html")))
    };
    assert_eq!(look(Phase::Refusing, "/healthz"), (0, false));
    assert_eq!(look(Phase::Migrating, "/healthz"), (200, false));
    assert_eq!(look(Phase::Migrating, "/healthz/readiness"), (503, false));
    assert_eq!(look(Phase::Migrating, "/webhook/a"), (200, true));
    assert_eq!(look(Phase::Loading, "/healthz/readiness"), (200, false));
    assert_eq!(look(Phase::Loading, "/webhook/a"), (404, true));
    assert_eq!(look(Phase::Up, "/webhook/a"), (404, false));
}

#[test]
fn faults_are_read_from_json() {
    let sent =
        json!({ "method": "post", "path": "/api", "nth": 3, "kind": "answer", "status": 503, "body": { "a": 1 } });
    let wanted = Fault::nth(3, "POST", "/api", Kind::Answer(Answer::json(503, &json!({ "a": 1 }))));
    assert_eq!(Fault::from_json(&sent), Ok(wanted));
    assert_eq!(Fault::from_json(&json!({ "kind": "hang", "count": null })).unwrap().count, None);
    assert!(Fault::from_json(&json!({ "kind": "explode" })).is_err());
}

#[test]
fn a_reset_forgets_all_but_the_config() {
    let mut standin = standin();
    standin.handle(&setup());
    standin.reset();
    assert!(standin.n8n.owner.is_none());
    assert_eq!(standin.state()["requests"], json!([]));
}
