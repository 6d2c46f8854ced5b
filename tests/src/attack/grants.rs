//! Attacks with support grants: forged, stretched, borrowed (A13).

use genesis_shared::bundle::{Bundle, Targets};
use genesis_shared::grant::{Grant, Level, TYP};
use genesis_shared::id::WorkspaceId;
use genesisctl::keys::SigningKey;
use genesisctl::sign::Document;
use serde_json::json;

use super::stage::{HOUR_MS, MINUTE_MS, Stage, command, force, key, key_as, sign_root};
use super::{Case, bundle, story};
use crate::operator::{named, sign_with};

const GRANT: &str = "a13_grant";

/// What the attacker makes of an otherwise rightful grant and bundle.
struct Plan {
    signers: &'static [&'static str],
    level: Level,
    support: fn() -> SigningKey,
    grant: fn(&mut Grant),
    bundle: fn(&mut Bundle),
    sender: fn() -> SigningKey,
}

fn support() -> SigningKey {
    key("sup-1")
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            signers: &["ops-1", "ops-2"],
            level: Level::Write,
            support,
            grant: |_| {},
            bundle: |_| {},
            sender: support,
        }
    }
}

impl Plan {
    fn document(&self, stage: &Stage) -> String {
        let now = stage.now();
        let mut grant = Grant {
            ticket: "SUP-7".into(),
            reason: "a test".into(),
            workspace: stage.droplet.workspace,
            level: self.level,
            support: named(&(self.support)()),
            issued_at: now,
            not_after: now.plus_millis(self.level.minutes_max() * MINUTE_MS),
        };
        (self.grant)(&mut grant);
        let mut document = Document::draft(&serde_json::to_vec(&grant).unwrap());
        for signer in self.signers {
            document.sign(TYP, &key(signer)).unwrap();
        }
        document.to_text()
    }

    fn play(&self, stage: &Stage) -> String {
        let sender = (self.sender)();
        let mut bundle = stage.bundle(super::stage::stop());
        bundle.issuer = sender.kid().clone();
        bundle.not_after = bundle.issued_at.plus_millis(10 * MINUTE_MS);
        bundle.grant = Some(self.document(stage));
        (self.bundle)(&mut bundle);
        sign_with(&bundle, &[&sender])
    }
}

fn with(name: &str, rule: &'static str, plan: Plan) -> Case {
    bundle(name, rule, move |s| plan.play(s))
}

pub fn cases() -> Vec<Case> {
    let mut cases = vec![
        // What an operator's key may not ask, asked under a grant that nobody but its holder ever saw.
        with(
            "an operator lets himself in",
            GRANT,
            Plan { signers: &["reader"], support: || key("reader"), sender: || key("reader"), ..Plan::default() },
        ),
        with(
            "an operator with a rightful grant for himself",
            GRANT,
            Plan { support: || key("reader"), sender: || key("reader"), ..Plan::default() },
        ),
        with("a grant that nobody signed", GRANT, Plan { signers: &[], ..Plan::default() }),
        with("a grant below its threshold", GRANT, Plan { signers: &["ops-1"], ..Plan::default() }),
        with("a grant by its own support key", GRANT, Plan { signers: &["sup-1"], ..Plan::default() }),
        with("a grant by a root key", GRANT, Plan { signers: &["root-1", "root-2"], ..Plan::default() }),
        with("a grant by a revoked operator", GRANT, Plan { signers: &["ops-1", "gone"], ..Plan::default() }),
        with("a grant by one who may not grant", GRANT, Plan { signers: &["ops-1", "reader"], ..Plan::default() }),
        with("a grant by one of another tenant", GRANT, Plan { signers: &["ops-1", "elsewhere"], ..Plan::default() }),
        with("a grant by a key not valid yet", GRANT, Plan { signers: &["ops-1", "early"], ..Plan::default() }),
        with("a grant by an expired key", GRANT, Plan { signers: &["ops-1", "late"], ..Plan::default() }),
        with(
            "a grant for a thief's key under a known name",
            GRANT,
            Plan { support: || key_as("ops-1", "thief"), sender: || key_as("ops-1", "thief"), ..Plan::default() },
        ),
    ];
    cases[11].rule = "a3_signature";
    cases.extend(documents());
    cases.extend(bundles());
    cases.extend(stories());
    cases
}

fn documents() -> Vec<Case> {
    vec![
        with(
            "a grant for too long",
            GRANT,
            Plan { grant: |g| g.not_after = g.issued_at.plus_millis(24 * HOUR_MS), ..Plan::default() },
        ),
        with("a grant for no ticket", GRANT, Plan { grant: |g| g.ticket = " ".into(), ..Plan::default() }),
        with("a grant with a story in it", GRANT, Plan { grant: |g| g.reason = "x".repeat(600), ..Plan::default() }),
        with(
            "a grant for an operator's key under another name",
            GRANT,
            Plan { support: || key_as("sup-2", "ops-2"), sender: || key_as("sup-2", "ops-2"), ..Plan::default() },
        ),
        bundle("a grant changed after it was signed", GRANT, |s| {
            let plan = Plan { signers: &["ops-1"], level: Level::ReadOnly, ..Plan::default() };
            let mut document: serde_json::Value = serde_json::from_str(&plan.document(s)).unwrap();
            let wide: serde_json::Value = serde_json::from_str(&Plan::default().document(s)).unwrap();
            document["payload"] = wide["payload"].clone();
            let mut bundle = s.bundle(super::stage::stop());
            bundle.issuer = "sup-1".parse().unwrap();
            bundle.not_after = bundle.issued_at.plus_millis(10 * MINUTE_MS);
            bundle.grant = Some(document.to_string());
            sign_with(&bundle, &[&support()])
        }),
        bundle("a bundle in the place of a grant", GRANT, |s| {
            let mut bundle = s.bundle(super::stage::stop());
            bundle.issuer = "sup-1".parse().unwrap();
            bundle.grant = Some(s.signed(&["ops-1", "ops-2"], |_| {}));
            sign_with(&bundle, &[&support()])
        }),
    ]
}

fn bundles() -> Vec<Case> {
    vec![
        with(
            "an action beyond the grant",
            GRANT,
            Plan { signers: &["ops-1"], level: Level::ReadOnly, ..Plan::default() },
        ),
        with(
            "destruction under the widest grant",
            GRANT,
            Plan {
                level: Level::Emergency,
                bundle: |b| {
                    b.commands = vec![command("DELETE_WORKFLOW", json!({"key": "hook"}))];
                    b.force = force(1);
                },
                ..Plan::default()
            },
        ),
        with(
            "a grant of another tenant",
            GRANT,
            Plan { grant: |g| g.workspace = WorkspaceId::from_random([9; 16]), ..Plan::default() },
        ),
        with("a grant for everybody", GRANT, Plan { bundle: |b| b.targets = Targets::All(true), ..Plan::default() }),
        with(
            "a bundle under a grant in an operator's name",
            GRANT,
            Plan { bundle: |b| b.issuer = "ops-1".parse().unwrap(), ..Plan::default() },
        ),
        with(
            "a bundle that outlasts its grant",
            GRANT,
            Plan { bundle: |b| b.not_after = b.issued_at.plus_millis(24 * HOUR_MS), ..Plan::default() },
        ),
        with(
            "a bundle signed before its grant",
            GRANT,
            Plan { bundle: |b| b.issued_at = b.issued_at.plus_millis(-30 * MINUTE_MS), ..Plan::default() },
        ),
        with("a stolen grant", "a2_unknown_key", Plan { sender: || key("thief"), ..Plan::default() }),
        with(
            "a stolen grant under the support key's name",
            "a3_signature",
            Plan { sender: || key_as("sup-1", "thief"), ..Plan::default() },
        ),
    ]
}

fn stories() -> Vec<Case> {
    vec![
        story("a bundle held back until its grant had ended", GRANT, |s| {
            Box::pin(async move {
                let kept = Plan::default().play(s);
                tokio::time::sleep(std::time::Duration::from_secs(40 * 60)).await;
                s.refuses(GRANT, &kept).await;
            })
        }),
        story("a support key that was revoked", GRANT, |s| {
            Box::pin(async move {
                let next = s.next(|root| root.revoked.push("sup-1".parse().unwrap()));
                s.hub().put_root(2, &sign_root(&next, &["root-1", "root-2"].map(key)));
                s.refuses(GRANT, &Plan::default().play(s)).await;
            })
        }),
    ]
}
