//! Attacks by content, target and time of what is rightly signed (A4, A7, A8, A12).

use std::collections::BTreeMap;

use genesis_shared::bundle::{Bundle, Targets};
use genesis_shared::command::CommandWire;
use genesis_shared::id::WorkspaceId;
use serde_json::{Value, json};

use super::stage::{HEADER, HOUR_MS, MINUTE_MS, command, force, raw, stop};
use super::{Case, bundle};
use crate::scenario::inject;

const CONTENT: &str = "a4_content";
const TARGET: &str = "a7_target";
const TIME: &str = "a8_time";
const UNSUPPORTED: &str = "a12_unsupported";

pub fn cases() -> Vec<Case> {
    let mut cases = contents();
    cases.extend(counts());
    cases.extend(payloads());
    cases.extend(targets());
    cases.extend(times());
    cases
}

fn signed(name: &str, rule: &'static str, keys: &'static [&'static str], change: fn(&mut Bundle)) -> Case {
    bundle(name, rule, move |s| s.signed(keys, change))
}

fn contents() -> Vec<Case> {
    let look = |action: &str| vec![CommandWire { action: action.into(), payload: None }];
    let action = |name: &str, rule, action: &'static str| {
        bundle(name, rule, move |s| s.signed(&["ops-1", "ops-2"], |b| b.commands.extend(look(action))))
    };
    vec![
        action("an action that is none", CONTENT, "FORMAT_DISK"),
        action("an action in other letters", CONTENT, "health_check"),
        action("an action in Greek letters", CONTENT, "ΗEALTH_CHECK"),
        action("an action with a space", CONTENT, "HEALTH_CHECK "),
        signed("an end of the tenant behind a command that works", UNSUPPORTED, &["ops-1", "ops-2"], |b| {
            b.commands.push(bare("DECOMMISSION"));
            b.force = force(0);
        }),
        signed("an end of the tenant that this version cannot bring about", UNSUPPORTED, &["ops-1", "ops-2"], |b| {
            b.commands = vec![bare("DECOMMISSION")];
            b.force = force(0);
        }),
        signed("no command", CONTENT, &["ops-1"], |b| b.commands.clear()),
        signed("too many commands", CONTENT, &["ops-1"], |b| b.commands = vec![stop().remove(0); 65]),
        signed("a key that leads out of its folder", CONTENT, &["ops-1"], |b| {
            b.commands = vec![command("DEACTIVATE_WORKFLOW", json!({"key": "../../etc/passwd"}))];
        }),
        signed("a parameter that is none", CONTENT, &["ops-1"], |b| {
            b.commands = vec![command("DEACTIVATE_WORKFLOW", json!({"key": "hook", "also": "x"}))];
        }),
        signed("a queue that is none", CONTENT, &["ops-1"], |b| b.queue = "no-such-queue".into()),
        signed("a priority that is none", CONTENT, &["ops-1"], |b| b.priority = 0),
        signed("targets of nobody", CONTENT, &["ops-1"], |b| b.targets = Targets::Workspaces(vec![])),
        signed("targets of not all", CONTENT, &["ops-1"], |b| b.targets = Targets::All(false)),
        signed("targets of no label", CONTENT, &["ops-1"], |b| b.targets = Targets::Labels(BTreeMap::new())),
        bundle("sealed secrets for everybody", CONTENT, |s| {
            let key = s.hub().enrolled().unwrap().sealing_key;
            let to = genesisctl::sealing::Recipient { workspace: s.droplet.workspace, key };
            s.signed(&["ops-1"], |b| {
                b.targets = Targets::All(true);
                b.commands = vec![inject(to, "other")];
            })
        }),
    ]
}

fn bare(action: &str) -> CommandWire {
    CommandWire { action: action.into(), payload: None }
}

fn counts() -> Vec<Case> {
    let delete = |name: &str, change: fn(&mut Bundle)| {
        bundle(name, CONTENT, move |s| {
            s.signed(&["ops-1", "ops-2"], |b| {
                b.commands = vec![command("DELETE_WORKFLOW", json!({"key": "hook"}))];
                change(b);
            })
        })
    };
    vec![
        delete("destruction without a count", |b| b.force = None),
        delete("destruction, wrong class count: fewer", |b| b.force = force(0)),
        delete("destruction, wrong class count: more", |b| b.force = force(2)),
        delete("destruction, counted as something else", |b| {
            b.force = force(0);
            if let Some(force) = &mut b.force {
                force.expect = [("credentials_deleted".to_owned(), 1)].into();
            }
        }),
    ]
}

/// Payloads that no tool of ours would write, rightly signed: a stolen operator laptop.
fn payloads() -> Vec<Case> {
    let text = |name: &str, change: fn(Value) -> String| {
        bundle(name, CONTENT, move |s| raw(change(s.apart().1).as_bytes(), HEADER, "ops-1"))
    };
    vec![
        text("signed: no bundle", |_| r#"{"hello":"world"}"#.into()),
        text("signed: no JSON", |_| "hello".into()),
        text("signed: commands twice", |v| v.to_string().replacen('{', r#"{"commands":[],"#, 1)),
        text("signed: a key twice in a parameter", |v| v.to_string().replace(r#"{"key":"#, r#"{"key":"x","key":"#)),
        text("signed: a label twice", |v| {
            let all = v.to_string();
            let (from, to) = (all.find(r#""targets":"#).unwrap(), all.find(r#""queue":"#).unwrap());
            format!(r#"{}"targets":{{"labels":{{"ring":"none","ring":"canary"}}}},{}"#, &all[..from], &all[to..])
        }),
        text("signed: an expected count twice", |v| {
            v.to_string().replacen('{', r#"{"force":{"reason":"r","expect":{"a":1,"a":1}},"#, 1)
        }),
        text("signed: a member that is none", |v| v.to_string().replacen('{', r#"{"sudo":true,"#, 1)),
        text("signed: two kinds of targets", |mut v| {
            v["targets"]["all"] = json!(true);
            v.to_string()
        }),
        text("signed: deep nesting", |mut v| {
            let mut deep = json!([]);
            for _ in 0..100 {
                deep = json!([deep]);
            }
            v["rollout"] = deep;
            v.to_string()
        }),
        text("signed: a priority beyond any number", |v| {
            v.to_string().replace(r#""priority":3"#, r#""priority":1e999"#)
        }),
        text("signed: a time that is none", |mut v| {
            v["not_after"] = json!("2026-02-30T00:00:00Z");
            v.to_string()
        }),
        text("signed: an id with braces", |mut v| {
            v["id"] = json!("{0192f0a1-1111-7000-8000-000000000001}");
            v.to_string()
        }),
    ]
}

fn targets() -> Vec<Case> {
    vec![
        signed("cross-device replay: a bundle of another tenant", TARGET, &["ops-1"], |b| {
            b.targets = Targets::Workspaces(vec![WorkspaceId::from_random([9; 16])]);
        }),
        signed("a label that this droplet has not", TARGET, &["ops-1"], |b| {
            b.targets = Targets::Labels([("ring".to_owned(), "canary".to_owned())].into());
        }),
        bundle("sealed for another tenant", TARGET, |s| {
            let workspace = WorkspaceId::from_random([9; 16]);
            let key = genesis_shared::seal::SealingKey::from_private(genesis_shared::secret::Secret::new([7; 32]));
            let to = genesisctl::sealing::Recipient { workspace, key: key.unwrap().public() };
            s.signed(&["ops-1"], |b| {
                b.targets = Targets::Workspaces(vec![workspace]);
                b.commands = vec![inject(to, "other")];
            })
        }),
    ]
}

fn times() -> Vec<Case> {
    vec![
        signed("expired", TIME, &["ops-1"], |b| {
            (b.not_before, b.not_after) = (b.issued_at.plus_millis(-2 * HOUR_MS), b.issued_at.plus_millis(-MINUTE_MS));
        }),
        signed("not yet valid", TIME, &["ops-1"], |b| b.not_before = b.issued_at.plus_millis(HOUR_MS)),
        signed("valid for too long", TIME, &["ops-1"], |b| {
            b.not_after = b.not_before.plus_millis(31 * 24 * HOUR_MS);
        }),
        signed("valid for ever", TIME, &["ops-1"], |b| {
            b.not_after = "9999-12-31T23:59:59Z".parse().unwrap();
        }),
        signed("valid from later to earlier", TIME, &["ops-1"], |b| {
            std::mem::swap(&mut b.not_before, &mut b.not_after);
        }),
        signed("signed in the future", TIME, &["ops-1"], |b| b.issued_at = b.issued_at.plus_millis(HOUR_MS)),
    ]
}
