//! Golden bytes: what is signed, sealed and sent looks exactly as it did when droplets in the field learned it.
//!
//! `UPDATE_GOLDEN=1` writes the files anew; a difference in review is a change of the protocol.
#![allow(
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    reason = "a test that cannot go on, or meets anything else, fails"
)]

use std::path::{Path, PathBuf};

use genesis_agent::core::routes;
use genesis_agent::core::stack::{StackRow, StackSettings};
use genesis_shared::bundle::{self, Bundle, Targets};
use genesis_shared::command::{Action, Class, CommandWire};
use genesis_shared::delivery::Claims;
use genesis_shared::id::{BundleId, Digest, JobId, PublicKey, WorkspaceId};
use genesis_shared::report::{CommandResult, OutboxRecord, OutcomeState, Record, StepTrace};
use genesis_shared::seal::{Context, SealingKey, seal};
use genesis_shared::secret::Secret;
use genesis_shared::timestamp::Timestamp;
use genesis_shared::trust::{self, Allowance, NamedKey, OperatorKey, RootKeys, Signers, TrustRoot};
use genesis_tests::droplet::stack_settings;
use genesisctl::keys::{Kind, PrivateKey, SigningKey};
use genesisctl::sign::Document;
use serde_json::json;

fn golden(name: &str, actual: &str) {
    let path: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden").join(name);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, format!("{actual}\n")).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(format!("{actual}\n"), expected, "{name} differs from what is in the field (UPDATE_GOLDEN=1 writes it)");
}

#[test]
fn the_proxys_configuration_keeps_its_shape() {
    let settings = StackSettings { acme_directory: None, ..stack_settings() };
    let domains = [("a.example".to_owned(), true), ("b.example".to_owned(), false)].into();
    let config = routes::config(&settings, &StackRow { domains, ..StackRow::default() });
    golden("caddy.json", &serde_json::to_string_pretty(&config).unwrap());
}

fn key(kid: &str, seed: u8) -> SigningKey {
    PrivateKey::new(kid.parse().unwrap(), Kind::Signing, [seed; 32]).signing().unwrap()
}
fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}
fn workspace() -> WorkspaceId {
    "0192f0a1-1111-7000-8000-000000000001".parse().unwrap()
}

fn root() -> (TrustRoot, String) {
    let named = |kid: &str, seed| NamedKey { kid: kid.parse().unwrap(), public_key: key(kid, seed).public() };
    let root = TrustRoot {
        version: 1,
        issued_at: at("2026-01-01T00:00:00Z"),
        expires_at: at("2027-01-01T00:00:00Z"),
        root: RootKeys { keys: vec![named("root-1", 1), named("root-2", 2)], threshold: 2 },
        operators: vec![OperatorKey {
            kid: "ops-1".parse().unwrap(),
            public_key: key("ops-1", 3).public(),
            allow: vec![Allowance::Class(Class::Change), Allowance::Action("HEALTH_CHECK".into())],
            workspaces: None,
            queues: None,
            not_before: at("2026-01-01T00:00:00Z"),
            not_after: at("2027-01-01T00:00:00Z"),
        }],
        signers: Signers { read: 1, operate: 1, change: 1, destroy: 2 },
        delivery: vec![named("hub-1", 4)],
        recovery: NamedKey { kid: "recovery-1".parse().unwrap(), public_key: PublicKey::from_bytes([5; 32]) },
        revoked: vec![],
    };
    let mut document = Document::draft(&serde_json::to_vec(&root).unwrap());
    document.sign(trust::TYP, &key("root-1", 1)).unwrap();
    document.sign(trust::TYP, &key("root-2", 2)).unwrap();
    (root, document.to_text())
}

#[test]
fn a_signed_trust_root() {
    let (root, text) = root();
    golden("trust-root.jws", &text);
    let verified = TrustRoot::verify(text.as_bytes(), None).unwrap();
    assert_eq!(verified.get(), &root);
    assert_eq!(verified.signers().len(), 2);
    assert!(TrustRoot::verify(text.as_bytes(), Some(Digest::of(b"another"))).is_err());
}

#[test]
fn a_signed_bundle() {
    let bundle = Bundle {
        id: BundleId::from_random([6; 16]),
        issuer: "ops-1".parse().unwrap(),
        issued_at: at("2026-02-01T00:00:00Z"),
        not_before: at("2026-02-01T00:00:00Z"),
        not_after: at("2026-02-02T00:00:00Z"),
        targets: Targets::Workspaces(vec![workspace()]),
        queue: "template".into(),
        priority: 3,
        rollout: None,
        commands: vec![
            CommandWire { action: Action::ActivateWorkflow.name().into(), payload: Some(json!({"key": "email-1"})) },
            CommandWire { action: Action::HealthCheck.name().into(), payload: None },
        ],
        force: None,
        grant: None,
    };
    let mut document = Document::draft(&serde_json::to_vec(&bundle).unwrap());
    document.sign(bundle::TYP, &key("ops-1", 3)).unwrap();
    golden("bundle.jws", &document.to_text());
    let verified = Bundle::verify(document.to_text().as_bytes(), &root().0).unwrap();
    assert_eq!(verified.get(), &bundle);
}

#[test]
fn a_sealed_credential() {
    let recipient = SealingKey::from_private(Secret::new([7; 32])).unwrap();
    let context = Context::credential(workspace(), &"mail".parse().unwrap(), &"smtp".parse().unwrap());
    let plaintext = Secret::new(br#"{"password":"zo\u00eb"}"#.to_vec());
    let sealed = seal(recipient.public(), &context, &plaintext, [8; 32]).unwrap();
    golden("sealed-credential.json", &serde_json::to_string(&sealed).unwrap());
    assert_eq!(recipient.open(&sealed, &context).unwrap().expose(), plaintext.expose());
}

#[test]
fn the_claims_of_a_delivery_token_and_an_outbox_record() {
    let claims = Claims {
        iss: "genesis-hub".into(),
        sub: workspace(),
        aud: "sidecar".into(),
        iat: 1_770_000_000,
        exp: 1_770_000_300,
        jti: "j".into(),
        action: "HEALTH_CHECK".into(),
        droplet_id: "412".parse().unwrap(),
        bundle: Digest::of(b"bundle"),
        nonce: "n".into(),
    };
    golden("delivery-claims.json", &serde_json::to_string(&claims).unwrap());
    let result = CommandResult {
        job_id: JobId::from_random([1; 16]),
        bundle_id: Some(BundleId::from_random([2; 16])),
        state: OutcomeState::Succeeded,
        code: "ok".into(),
        message: "done".into(),
        retryable: false,
        started_at: at("2026-02-01T00:00:00Z"),
        finished_at: at("2026-02-01T00:00:01.500Z"),
        steps: vec![StepTrace { name: "check_health".into(), state: "done".into(), ms: 12, attempts: 1 }],
        output: json!([{"n8n_status": "running"}]),
    };
    let record = OutboxRecord { seq: 7, at: at("2026-02-01T00:00:02Z"), record: Record::Result(result) };
    golden("outbox-record.json", &serde_json::to_string(&record).unwrap());
}
