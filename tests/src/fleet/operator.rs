//! The operators of the fleet, and those who would like to be.

use std::cell::RefCell;
use std::collections::BTreeMap;

use data_encoding::BASE64URL_NOPAD;
use genesis_agent::ports::Entropy;
use genesis_agent::sim::SimEntropy;
use genesis_shared::bundle::{Bundle, Force};
use genesis_shared::command::CommandWire;
use genesis_shared::id::{BundleId, Digest, PublicKey, WorkspaceId};
use genesis_shared::timestamp::Timestamp;
use genesis_shared::trust::NamedKey;
use genesisctl::keys::{Kind, PrivateKey, SigningKey};
use genesisctl::sealing::Recipient;

use super::transition::Forgery;
use super::wish::Wish;
use crate::operator::{Operator, sign_with};

/// A bundle as it is pushed.
#[derive(Clone)]
pub struct Signed {
    /// Its id.
    pub id: BundleId,
    /// Its text.
    pub document: String,
}

/// Two operators, and a stranger with a key.
pub struct Operators {
    honest: Operator,
    stranger: SigningKey,
    entropy: SimEntropy,
    /// What was pushed in good faith, for whom, in order; a replay is taken from here.
    pushed: RefCell<Vec<(WorkspaceId, Signed)>>,
}

impl Operators {
    /// Keys that follow from the seed.
    pub fn new(seed: u64, delivery: NamedKey, now: Timestamp) -> Self {
        let entropy = SimEntropy::new(!seed);
        let key = |kid: &str| {
            let mut bytes = [0; 32];
            entropy.fill(&mut bytes);
            PrivateKey::new(kid.parse().unwrap(), Kind::Signing, bytes).signing().unwrap()
        };
        let honest = Operator::with(["root-1", "ops-1", "ops-2"].map(key), delivery, now);
        let stranger = key("ops-9");
        Self { honest, stranger, entropy, pushed: RefCell::default() }
    }

    /// For the hub.
    pub fn root_document(&self) -> &str {
        &self.honest.root_document
    }

    /// For the droplets.
    pub fn pin(&self) -> Digest {
        self.honest.pin
    }

    fn random<const N: usize>(&self) -> [u8; N] {
        let mut bytes = [0; N];
        self.entropy.fill(&mut bytes);
        bytes
    }

    fn bundle(&self, workspace: WorkspaceId, key: PublicKey, wishes: &[Wish], now: Timestamp) -> Bundle {
        let recipient = Recipient { workspace, key };
        let commands: Vec<CommandWire> = wishes.iter().map(|wish| wish.wire(recipient, self.random())).collect();
        let count = |action: &str| commands.iter().filter(|command| command.action == action).count() as u64;
        let expect = [("workflows_deleted", "DELETE_WORKFLOW"), ("credentials_deleted", "DELETE_CREDENTIAL")];
        let expect: BTreeMap<String, u64> =
            expect.iter().map(|(name, action)| ((*name).to_owned(), count(action))).collect();
        let mut bundle = self.honest.bundle_at(workspace, commands, now);
        bundle.id = BundleId::from_random(self.random());
        if expect.values().any(|count| *count > 0) {
            bundle.force = Some(Force { reason: "the simulation wants it".into(), expect });
        }
        bundle
    }

    /// A bundle in order, signed by two.
    pub fn sign(&self, workspace: WorkspaceId, key: PublicKey, wishes: &[Wish], now: Timestamp) -> Signed {
        let bundle = self.bundle(workspace, key, wishes, now);
        let document = sign_with(&bundle, &[&self.honest.key, &self.honest.second]);
        let signed = Signed { id: bundle.id, document };
        self.pushed.borrow_mut().push((workspace, signed.clone()));
        signed
    }

    /// A bundle that must be refused; none where there is nothing yet to make it of. `accepted` tells which ids were.
    pub fn forge(
        &self,
        kind: Forgery,
        [workspace, other]: [WorkspaceId; 2],
        key: PublicKey,
        now: Timestamp,
        accepted: impl Fn(BundleId) -> bool,
    ) -> Option<Signed> {
        let honest = [&self.honest.key, &self.honest.second];
        let evil = [Wish::Inject("alpha", 666), Wish::Deploy("hook-1", 666, "alpha"), Wish::Activate("hook-1")];
        let mut bundle = self.bundle(workspace, key, &evil, now);
        let document = match kind {
            Forgery::UnknownKey => {
                bundle.issuer = self.stranger.kid().clone();
                sign_with(&bundle, &[&self.stranger])
            }
            Forgery::Tampered => tampered(&sign_with(&bundle, &honest)),
            Forgery::TooFewSigners => {
                let wishes = [Wish::DeleteWorkflow("hook-1"), Wish::DeleteCredential("alpha")];
                bundle = self.bundle(workspace, key, &wishes, now);
                sign_with(&bundle, &[&self.honest.key])
            }
            Forgery::Expired => {
                let minutes = |n: i64| now.plus_millis(-n * 60_000);
                (bundle.issued_at, bundle.not_before, bundle.not_after) = (minutes(50), minutes(50), minutes(20));
                sign_with(&bundle, &honest)
            }
            Forgery::ForOther => sign_with(&self.bundle(other, key, &evil, now), &honest),
            Forgery::Replayed => {
                let pushed = self.pushed.borrow();
                return pushed
                    .iter()
                    .rev()
                    .find(|(to, old)| *to == workspace && accepted(old.id))
                    .map(|(_, old)| old.clone());
            }
        };
        Some(Signed { id: bundle.id, document })
    }
}

/// The same signatures under another payload.
fn tampered(document: &str) -> String {
    let mut jws: serde_json::Value = serde_json::from_str(document).unwrap();
    let payload = BASE64URL_NOPAD.decode(jws["payload"].as_str().unwrap().as_bytes()).unwrap();
    let payload = String::from_utf8(payload).unwrap().replace("ACTIVATE_WORKFLOW", "DEACTIVATE_WORKFLOW");
    jws["payload"] = BASE64URL_NOPAD.encode(payload.as_bytes()).into();
    jws.to_string()
}
