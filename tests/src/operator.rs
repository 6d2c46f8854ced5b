//! The operator of a test: keys, trust root, signed bundles.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use genesis_shared::bundle::{Bundle, Force, TYP, Targets};
use genesis_shared::command::{Class, CommandWire};
use genesis_shared::grant::Level;
use genesis_shared::id::{BundleId, Digest, PublicKey, WorkspaceId};
use genesis_shared::seal::SealingKey;
use genesis_shared::secret::Secret;
use genesis_shared::timestamp::Timestamp;
use genesis_shared::trust::{self, Allowance, NamedKey, OperatorKey, RootKeys, Signers, TrustRoot};
use genesisctl::ignition::{self, Template, Tenant};
use genesisctl::keys::{Kind, PrivateKey, SigningKey};
use genesisctl::sealing::Recipient;
use genesisctl::sign::Document;

use crate::canary::canary;

const HOUR_MS: i64 = 3_600_000;

/// Random bytes.
pub fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    ring::rand::SecureRandom::fill(&ring::rand::SystemRandom::new(), &mut bytes).unwrap();
    bytes
}

/// The system's time.
pub fn now() -> Timestamp {
    #[allow(clippy::disallowed_methods, reason = "a test's operator lives in real time")]
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    Timestamp::from_millis(i64::try_from(since.as_millis()).unwrap())
}

/// A signing key of this name.
pub fn signing_key(kid: &str) -> SigningKey {
    PrivateKey::new(kid.parse().unwrap(), Kind::Signing, random()).signing().unwrap()
}

/// What every test's trust root names as its recovery key.
pub fn recovery_key() -> SealingKey {
    SealingKey::from_private(Secret::new([9; 32])).unwrap()
}

/// The same as a key file in a folder; its path.
pub fn write_recovery_key(folder: &Path) -> PathBuf {
    PrivateKey::new("recovery-1".parse().unwrap(), Kind::Recovery, [9; 32]).save(folder).unwrap().0
}

/// Keys and a trust root that knows them.
pub struct Operator {
    /// May ask everything.
    pub key: SigningKey,
    /// A second operator with the same rights.
    pub second: SigningKey,
    /// The one root key.
    pub root: SigningKey,
    /// The signed trust root.
    pub root_document: String,
    /// What droplets pin.
    pub pin: Digest,
}

impl Operator {
    /// Fresh keys, and a root with this delivery key of the hub.
    pub fn new(delivery: NamedKey) -> Self {
        Self::at(delivery, now())
    }

    /// The same at another time than the system's.
    pub fn at(delivery: NamedKey, now: Timestamp) -> Self {
        Self::with(["root-1", "ops-1", "ops-2"].map(signing_key), delivery, now)
    }

    /// The same with these keys: root key, operator, second operator.
    pub fn with([root_key, key, second]: [SigningKey; 3], delivery: NamedKey, now: Timestamp) -> Self {
        let root = TrustRoot {
            version: 1,
            issued_at: now.plus_millis(-HOUR_MS),
            expires_at: now.plus_millis(1000 * 24 * HOUR_MS),
            root: RootKeys { keys: vec![named(&root_key)], threshold: 1 },
            operators: [&key, &second].map(|key| everything_at(key, now)).into(),
            signers: Signers { read: 1, operate: 1, change: 1, destroy: 2 },
            delivery: vec![delivery],
            recovery: NamedKey { kid: "recovery-1".parse().unwrap(), public_key: recovery_key().public() },
            revoked: vec![],
        };
        let payload = serde_json::to_vec(&root).unwrap();
        let mut document = Document::draft(&payload);
        document.sign(trust::TYP, &root_key).unwrap();
        Self { key, second, root: root_key, root_document: document.to_text(), pin: Digest::of(&payload) }
    }

    /// A bundle for one workspace, valid for an hour.
    pub fn bundle(&self, workspace: WorkspaceId, commands: Vec<CommandWire>) -> Bundle {
        self.bundle_at(workspace, commands, now())
    }

    /// The same at another time than the system's.
    pub fn bundle_at(&self, workspace: WorkspaceId, commands: Vec<CommandWire>, now: Timestamp) -> Bundle {
        Bundle {
            id: BundleId::from_random(random()),
            issuer: self.key.kid().clone(),
            issued_at: now,
            not_before: now.plus_millis(-HOUR_MS / 60),
            not_after: now.plus_millis(24 * HOUR_MS),
            targets: Targets::Workspaces(vec![workspace]),
            queue: "template".into(),
            priority: 3,
            rollout: None,
            commands,
            force: None,
            grant: None,
        }
    }

    /// Commands as a signed bundle: what destroys is counted, and signed by two.
    pub fn ask(&self, workspace: WorkspaceId, commands: Vec<CommandWire>, now: Timestamp) -> String {
        let count = |action: &str| commands.iter().filter(|command| command.action == action).count() as u64;
        let expect = [
            ("workflows_deleted", count("DELETE_WORKFLOW")),
            ("credentials_deleted", count("DELETE_CREDENTIAL")),
            ("databases_restored", count("RESTORE")),
        ];
        let expect: BTreeMap<String, u64> = expect.into_iter().map(|(name, count)| (name.to_owned(), count)).collect();
        let mut bundle = self.bundle_at(workspace, commands, now);
        if expect.values().any(|count| *count > 0) {
            bundle.force = Some(Force { reason: "a test".into(), expect });
        }
        sign_with(&bundle, &[&self.key, &self.second])
    }

    /// The bundle's text, signed.
    pub fn sign(&self, bundle: &Bundle) -> String {
        sign_with(bundle, &[&self.key])
    }
}

/// Signs whatever it is given, also what a careful tool would refuse.
pub fn sign_with(bundle: &Bundle, keys: &[&SigningKey]) -> String {
    let mut document = Document::draft(&serde_json::to_vec(bundle).unwrap());
    for key in keys {
        document.sign(TYP, key).unwrap();
    }
    document.to_text()
}

/// A key as a root names it.
pub fn named(key: &SigningKey) -> NamedKey {
    NamedKey { kid: key.kid().clone(), public_key: key.public() }
}

/// An entry that allows everything.
pub fn everything(key: &SigningKey) -> OperatorKey {
    everything_at(key, now())
}

/// The same at another time than the system's.
pub fn everything_at(key: &SigningKey, now: Timestamp) -> OperatorKey {
    let classes = [Class::Read, Class::Operate, Class::Change, Class::Destroy];
    let classes = classes.map(Allowance::Class).into_iter();
    OperatorKey {
        kid: key.kid().clone(),
        public_key: key.public(),
        allow: classes.chain(Level::ALL.map(Allowance::Support)).collect(),
        workspaces: None,
        queues: None,
        not_before: now.plus_millis(-24 * HOUR_MS),
        not_after: now.plus_millis(1000 * 24 * HOUR_MS),
    }
}

/// A tenant whose every secret is a canary, and whose every name is awkward.
pub fn tenant(workspace: WorkspaceId, sealing_key: PublicKey) -> Tenant {
    let oauth = |what: &str| {
        format!(
            r#"{{"clientId":"id","clientSecret":"{}","serverUrl":"","sendAdditionalBodyProperties":false,"additionalBodyProperties":""}}"#,
            canary(what)
        )
    };
    let credentials = [
        ("TEMPLATE_GMAIL_UUID", oauth("gmail")),
        (
            "TEMPLATE_SMTP_UUID",
            format!(r#"{{"host":"127.0.0.1","port":587,"user":"u","password":"{}","secure":true}}"#, canary("smtp")),
        ),
        ("TEMPLATE_OPENAI_UUID", format!(r#"{{"apiKey":"{}","header":false}}"#, canary("openai"))),
        (
            "TEMPLATE_LEADS_DB_UUID",
            format!(
                r#"{{"host":"127.0.0.1","database":"d","user":"u","password":"{}","port":1,"ssl":"disable","sshTunnel":false}}"#,
                canary("db")
            ),
        ),
        ("TEMPLATE_DASHBOARD_UUID", format!(r#"{{"name":"X-Key","value":"{}"}}"#, canary("dashboard"))),
        ("TEMPLATE_TAVILY_UUID", format!(r#"{{"name":"Authorization","value":"{}"}}"#, canary("tavily"))),
    ];
    let variables = [
        ("YOUR_DASHBOARD_URL", "https://app.example.com"),
        ("YOUR_SENDER_EMAIL", "zoë@example.com"),
        ("YOUR_NAME", "Zoë \"Z\" O'Brien $& \\ \n2nd line"),
        ("YOUR_COMPANY_NAME", "Müller & Söhne <GmbH>"),
        ("YOUR_CALENDLY_LINK_1", "https://calendly.example/x?a=1&b=2"),
        ("YOUR_SUPABASE_URL", "https://db.example.com"),
        ("YOUR_WORKSPACE_ID", "0192f0a1-1111-7000-8000-000000000001"),
        ("YOUR_LEADS_TABLE", "genesis.leads_p_zoe"),
    ];
    Tenant {
        recipient: Recipient { workspace, key: sealing_key },
        credentials: credentials.map(|(name, data)| (name.to_owned(), Secret::new(data.into_bytes()))).into(),
        variables: variables.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
        secret_variables: BTreeMap::from([("YOUR_WEBHOOK_TOKEN".to_owned(), Secret::new(canary("token")))]),
    }
}

/// The commands that ignite the Golden Template for [`tenant`].
pub fn ignition(workspace: WorkspaceId, sealing_key: PublicKey) -> Vec<CommandWire> {
    let template = Template::golden().unwrap();
    ignition::commands(&template, &tenant(workspace, sealing_key), || Ok(random())).unwrap()
}
