//! The stack's secrets are made on the droplet and leave it only sealed to the recovery key; whoever holds that key can
//! restore a tenant.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use genesis_shared::report::{Escrow, EscrowContent, Record};
use genesis_shared::seal::{Context, SealingKey};
use genesis_shared::secret::Secret;
use genesis_shared::trust::{self, NamedKey, TrustRoot};
use genesis_tests::droplet::{Droplet, wait_for};
use genesis_tests::operator::recovery_key;
use genesisctl::sign::Document;
use genesisctl::succession::{Change, successor};

fn deposits(droplet: &Droplet) -> Vec<Escrow> {
    let records = droplet.outside.hub.records().into_iter();
    records.filter_map(|record| if let Record::Escrow(escrow) = record.record { Some(escrow) } else { None }).collect()
}

fn open(droplet: &Droplet, key: &SealingKey, escrow: &Escrow) -> EscrowContent {
    let context = Context::escrow(droplet.workspace, &"412".parse().unwrap());
    serde_json::from_slice(key.open(&escrow.sealed, &context).unwrap().expose()).unwrap()
}

#[tokio::test(start_paused = true)]
async fn one_deposit_is_made_and_the_recovery_key_opens_it() {
    let droplet = Droplet::new(4);
    for _ in 0..2 {
        droplet.while_running(tokio::time::sleep(std::time::Duration::from_secs(120))).await;
    }
    let deposits = deposits(&droplet);
    assert_eq!(deposits.len(), 1, "once, also over a restart");
    let content = open(&droplet, &recovery_key(), &deposits[0]);
    assert_eq!((content.n8n_encryption_key.len(), content.postgres_password.len()), (64, 64));
    assert_ne!(content.n8n_encryption_key, content.postgres_password);
    let journal = String::from_utf8_lossy(&droplet.journal_bytes()).into_owned();
    assert!(!journal.contains(&content.n8n_encryption_key) && !journal.contains(&content.postgres_password));
    let stranger = SealingKey::from_private(Secret::new([77; 32])).unwrap();
    let context = Context::escrow(droplet.workspace, &"412".parse().unwrap());
    assert!(stranger.open(&deposits[0].sealed, &context).is_err());
    let elsewhere = Context::escrow(droplet.workspace, &"413".parse().unwrap());
    assert!(recovery_key().open(&deposits[0].sealed, &elsewhere).is_err(), "it is this droplet's alone");
}

#[tokio::test(start_paused = true)]
async fn a_new_recovery_key_gets_a_deposit_of_the_same_secrets() {
    let droplet = Droplet::new(4);
    droplet.while_running(wait_for(|| async { deposits(&droplet).first().cloned() })).await;
    let current = TrustRoot::reread(droplet.operator.root_document.as_bytes()).unwrap();
    let newer = SealingKey::from_private(Secret::new([42; 32])).unwrap();
    let recovery = NamedKey { kid: "recovery-2".parse().unwrap(), public_key: newer.public() };
    let next =
        successor(&current, Change { recovery: Some(recovery), ..Change::default() }, current.issued_at).unwrap();
    let mut document = Document::draft(&serde_json::to_vec(&next).unwrap());
    document.sign(trust::TYP, &droplet.operator.root).unwrap();
    droplet.outside.hub.put_root(2, &document.to_text());
    // A root is taken in with the next command.
    let look = genesis_shared::command::CommandWire { action: "HEALTH_CHECK".into(), payload: None };
    droplet.run(vec![look]).await;
    droplet.while_running(wait_for(|| async { deposits(&droplet).get(1).cloned() })).await;
    let deposits = deposits(&droplet);
    assert_eq!(deposits[1].recovery.as_str(), "recovery-2");
    assert_eq!(open(&droplet, &newer, &deposits[1]), open(&droplet, &recovery_key(), &deposits[0]));
}

mod stand_in {
    use std::process::Command;

    use genesis_tests::n8n::Kind;
    use genesis_tests::operator::write_recovery_key;
    use genesis_tests::process::binary;
    use genesis_tests::rig::Rig;
    use genesis_tests::until;

    /// The drill of the README, word by word.
    #[tokio::test]
    async fn a_droplets_secrets_are_restored_with_the_recovery_key_alone() {
        let rig = Rig::new(Kind::StandIn).await;
        let key = write_recovery_key(rig.folder());
        let out = rig.folder().join("recovered");
        until("the deposit to be opened", || async {
            let mut command = Command::new(binary("genesisctl"));
            command.args(["recovery", "open", "--droplet", "412001", "--key"]).arg(&key).arg("--out").arg(&out);
            command
                .args(["--hub", &rig.hub_url()])
                .arg("--ca")
                .arg(rig.ca_file())
                .env("GENESIS_TOKEN", rig.admin_token());
            command.output().unwrap().status.success().then_some(())
        })
        .await;
        for name in ["n8n-encryption-key", "postgres-password"] {
            let recovered = std::fs::read(out.join(name)).unwrap();
            assert_eq!(recovered, std::fs::read(rig.agent_dir().join("secrets").join(name)).unwrap(), "{name}");
        }
    }
}
