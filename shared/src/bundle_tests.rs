//! A bundle that is read in one pass is as strict as one that is read into a value first.

use proptest::prelude::*;
use serde_json::json;

use super::*;

fn text() -> String {
    let workflow =
        json!({"name": "W", "nodes": [{"id": "1", "position": [0, -1.50]}], "connections": {"a": {"b": null}}});
    json!({
        "id": "0192f0a1-1111-7000-8000-000000000001", "issuer": "ops-1", "issued_at": "2026-01-01T00:00:00Z",
        "not_before": "2026-01-01T00:00:00Z", "not_after": "2026-01-02T00:00:00Z",
        "targets": {"labels": {"ring": "canary", "region": "fra1"}}, "queue": "template", "priority": 3,
        "rollout": {"waves": [1, "25%"], "pause_s": 30},
        "commands": [{"action": "DEPLOY_WORKFLOW", "payload": {"key": "a", "workflow_json": workflow}}, {"action": "VERIFY"}],
        "force": {"reason": "a \"test\"", "expect": {"workflows_deleted": 3}}, "grant": null,
    })
    .to_string()
}

/// Both ways; they must come to the same.
fn read(text: &[u8]) -> Option<Bundle> {
    let (one, two) = (json::read_as::<Bundle>(text).ok(), json::parse_as::<Bundle>(text).ok());
    assert_eq!(one, two, "{}", String::from_utf8_lossy(text));
    one
}

#[test]
fn reads_what_is_there_with_every_digit() {
    let bundle = read(text().as_bytes()).unwrap();
    assert_eq!(
        json!(bundle)["commands"][0]["payload"]["workflow_json"]["nodes"][0]["position"].to_string(),
        "[0,-1.5]"
    );
    let digits = text().replace("-1.5", "-1.5000000000000000000000000000001e+400");
    assert!(json!(read(digits.as_bytes()).unwrap()).to_string().contains("-1.5000000000000000000000000000001e+400"));
}

#[test]
fn refuses_a_key_twice_wherever_it_stands() {
    let text = text();
    let mut tried = 0;
    for (at, _) in text.match_indices('{') {
        let member = text[at + 1..].split_inclusive(':').next().filter(|name| name.starts_with('"'));
        let Some(name) = member else { continue };
        let twice = format!("{}{name}null,{}", &text[..=at], &text[at + 1..]);
        assert_eq!(read(twice.as_bytes()), None, "{twice}");
        let escaped = twice.replacen(&name[..2], &format!("\"\\u{:04x}", name.as_bytes()[1]), 1);
        assert_eq!(read(escaped.as_bytes()), None, "{escaped}");
        tried += 1;
    }
    assert_eq!(tried, 13, "every object of the document");
}

#[test]
fn refuses_nesting_beyond_the_limit_in_a_payload_and_a_rollout_as_deep_as_anywhere_else() {
    let nested = |n: usize| format!("{}{}", "[".repeat(n), "]".repeat(n));
    let deepest = |before: &str, levels: usize| {
        let with = |n| text().replacen(before, &format!("{before}\"deep\":{},", nested(n)), 1);
        let most = crate::limits::JSON_DEPTH_MAX - levels;
        assert!(read(with(most).as_bytes()).is_some(), "{before} {most}");
        assert!(read(with(most + 1).as_bytes()).is_none(), "{before} {most}");
    };
    deepest("\"payload\":{", 4);
    deepest("\"rollout\":{", 2);
}

#[test]
fn refuses_unknown_members_other_shapes_and_what_comes_after() {
    for (from, to) in [
        ("\"queue\"", "\"sudo\":1,\"queue\""),
        ("\"reason\"", "\"x\":{},\"reason\""),
        ("\"action\":\"VERIFY\"", "\"action\":\"VERIFY\",\"x\":1"),
        ("{\"labels\"", "{\"all\":true,\"labels\""),
        ("\"priority\":3", "\"priority\":3.0"),
        ("\"priority\":3", "\"priority\":300"),
        ("\"ring\":\"canary\"", "\"ring\":1"),
        ("\"expect\":{\"workflows_deleted\":3}", "\"expect\":[3]"),
    ] {
        let changed = text().replacen(from, to, 1);
        assert_ne!(changed, text(), "{from}");
        assert_eq!(read(changed.as_bytes()), None, "{changed}");
    }
    assert_eq!(read(format!("{} {{}}", text()).as_bytes()), None);
    assert_eq!(read(&text().as_bytes()[..text().len() - 1]), None);
}

proptest! {
    #[test]
    fn both_ways_agree_on_damaged_documents(
        changes in prop::collection::vec((any::<prop::sample::Index>(), "[\\[\\]{}\",:0-9a-z\\\\ ]{0,3}"), 1..4),
    ) {
        let mut text = text();
        for (at, piece) in changes {
            let at = at.index(text.len());
            text.replace_range(at..=at, &piece);
        }
        read(text.as_bytes());
    }
}
