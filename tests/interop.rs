//! Others can speak our formats: a bundle by `jose` verifies, a credential by `@hpke/core` opens.
#![allow(
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    reason = "a test that cannot go on, or meets anything else, fails"
)]

use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use data_encoding::BASE64URL_NOPAD;
use genesis_shared::bundle::Bundle;
use genesis_shared::id::WorkspaceId;
use genesis_shared::seal::{Context, Sealed, SealingKey};
use genesis_shared::secret::Secret;
use genesis_shared::trust::TrustRoot;
use genesis_tests::operator::{Operator, everything, named, random, signing_key};
use genesisctl::keys::{Kind, PrivateKey};
use serde_json::{Value, json};

/// Runs a script of `tests/interop` in the folder where its libraries are installed.
fn node(script: &str, input: &Value) -> String {
    let folder = std::env::var_os("GENESIS_INTEROP_DIR").expect("GENESIS_INTEROP_DIR is not set; tests/run.sh sets it");
    let mut command = Command::new("node");
    command.arg(script).current_dir(PathBuf::from(folder)).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.to_string().as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn a_bundle_signed_by_jose_verifies_in_both_serialisations() {
    let operator = Operator::new(named(&signing_key("hub-1")));
    let root = TrustRoot::verify(operator.root_document.as_bytes(), Some(operator.pin)).unwrap();
    let seed: [u8; 32] = random();
    let key = PrivateKey::new("dashboard-1".parse().unwrap(), Kind::Signing, seed).signing().unwrap();
    let mut root = root.into_inner();
    root.operators.push(everything(&key));

    let workspace = WorkspaceId::from_random(random());
    let mut bundle = operator.bundle(workspace, serde_json::from_value(json!([{"action": "HEALTH_CHECK"}])).unwrap());
    bundle.issuer = key.kid().clone();
    for form in ["general", "flattened"] {
        let signed = node(
            "sign.mjs",
            &json!({"payload": bundle, "private_key": BASE64URL_NOPAD.encode(&seed), "public_key": key.public(),
                    "kid": key.kid(), "form": form}),
        );
        let verified = Bundle::verify(signed.as_bytes(), &root).unwrap();
        assert_eq!(verified.get(), &bundle, "{form}");
        assert!(verified.signers().contains(key.kid()));
    }
}

#[test]
fn a_credential_sealed_by_hpke_core_opens() {
    let key = SealingKey::from_private(Secret::new(random())).unwrap();
    let workspace = WorkspaceId::from_random(random());
    let context = Context::credential(workspace, &"mail".parse().unwrap(), &"smtp".parse().unwrap());
    let aad = String::from_utf8(context.aad().to_vec()).unwrap();
    let plaintext = r#"{"password":"zoë"}"#;
    let sealed = node("seal.mjs", &json!({"recipient": key.public(), "aad": aad, "plaintext": plaintext}));
    let sealed: Sealed = serde_json::from_str(&sealed).unwrap();
    assert_eq!(key.open(&sealed, &context).unwrap().expose(), plaintext.as_bytes());
}
