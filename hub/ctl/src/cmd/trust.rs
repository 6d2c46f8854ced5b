//! `genesisctl trust`: the ceremony around the trust root.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use genesis_shared::command::Class;
use genesis_shared::id::{Digest, KeyId};
use genesis_shared::trust::{Allowance, OperatorKey, TrustRoot};
use serde_json::{Value, json};

use super::{Global, wait};
use crate::ceremony::{self, DAY_MS, Request};
use crate::error::Error;
use crate::files;
use crate::keys::{Kind, PublicFile, SigningKey};
use crate::output::Format;
use crate::progress::Progress;
use crate::sign::Document;
use crate::system;

const INIT: &str = "\
Example:
  genesisctl trust init --root-key root-1.pub --root-key root-2.pub --root-key root-3.pub --threshold 2 \\
    --operator ops-1.pub:read,operate,change --operator web.pub:read,RESTART_N8N,queue=health \\
    --delivery hub-1=KEY --recovery recovery-1.pub --expires-days 365 --out root.json";

#[derive(Debug, Subcommand)]
#[command(after_help = INIT)]
pub(super) enum Verb {
    /// Draft a trust root; nobody has signed it yet
    #[command(after_help = INIT)]
    Init(Init),
    /// Add one root key's signature; done by each person on their own machine
    #[command(after_help = "Example:\n  genesisctl trust sign --key root-1.key root.json")]
    Sign {
        /// Private file of a root key
        #[arg(long, value_name = "FILE")]
        key: PathBuf,
        /// The trust root; the signature is added to this file
        file: PathBuf,
    },
    /// Print what a trust root says, without verifying it
    #[command(after_help = "Example:\n  genesisctl trust show root.json")]
    Show {
        /// The trust root
        file: PathBuf,
    },
    /// Check every signature, the threshold and, if given, the digest
    #[command(after_help = "Example:\n  genesisctl trust verify --pin sha256:0123… root.json")]
    Verify {
        /// The digest that droplets pin
        #[arg(long, value_name = "DIGEST")]
        pin: Option<Digest>,
        /// The trust root
        file: PathBuf,
    },
    /// Verify a trust root and give it to the hub
    #[command(after_help = "Example:\n  genesisctl trust push root.json --hub https://hub.example.com")]
    Push {
        /// The trust root
        file: PathBuf,
    },
}

#[derive(Debug, Args)]
pub(super) struct Init {
    /// Public file of a root key; repeat it
    #[arg(long = "root-key", value_name = "FILE.pub", required = true)]
    root_keys: Vec<PathBuf>,
    /// How many root keys must sign
    #[arg(long, value_name = "K")]
    threshold: usize,
    /// Public file of an operator and what it may ask: classes (read, operate, change, destroy), actions by name,
    /// and limits (workspace=ID, queue=NAME); repeat it
    #[arg(long = "operator", value_name = "FILE.pub:SCOPE,…", required = true)]
    operators: Vec<String>,
    /// The hub's delivery key: a public file, or kid=KEY as `genesis-hub init` prints them
    #[arg(long, value_name = "FILE.pub|KID=KEY")]
    delivery: String,
    /// Public file of the recovery key
    #[arg(long, value_name = "FILE.pub")]
    recovery: PathBuf,
    /// Distinct operators that must sign, per class
    #[arg(long, default_value = "read=1,operate=1,change=1,destroy=2", value_name = "CLASS=N,…")]
    signers: String,
    /// Days until it expires; the operators' keys expire with it
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i64).range(1..=3650))]
    expires_days: i64,
    /// File for the draft; never overwritten
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

pub(super) fn run(verb: Verb, global: &Global) -> Result<(), Error> {
    let format = global.output;
    match verb {
        Verb::Init(init) => self::init(&init, format),
        Verb::Sign { key, file } => sign(&key, &file, format),
        Verb::Show { file } => {
            let (root, digest, signed) = read(&file)?;
            format.result(&describe(&root, digest, &signed), |_| text(&root, digest, &signed));
            Ok(())
        }
        Verb::Verify { pin, file } => {
            let root = TrustRoot::verify(&files::read(&file)?, pin)?;
            let signed: Vec<_> = root.signers().iter().cloned().collect();
            format.result(&describe(root.get(), root.digest(), &signed), |_| {
                format!("verified\n{}", text(root.get(), root.digest(), &signed))
            });
            Ok(())
        }
        Verb::Push { file } => {
            let bytes = files::read(&file)?;
            let root = TrustRoot::verify(&bytes, None)?;
            let client = global.client()?;
            let progress = Progress::start("giving the trust root to the hub");
            wait(client.put_trust_root(&bytes))?;
            drop(progress);
            let result = json!({ "version": root.get().version, "digest": root.digest() });
            format.result(&result, |_| format!("the hub has version {} ({})", root.get().version, root.digest()));
            Ok(())
        }
    }
}

fn init(init: &Init, format: Format) -> Result<(), Error> {
    let now = system::now();
    let expires_at = now.plus_millis(init.expires_days * DAY_MS);
    let named = |path: &PathBuf, kind| PublicFile::load(path, kind).map(ceremony::named);
    let request = Request {
        root_keys: init.root_keys.iter().map(|path| named(path, Kind::Signing)).collect::<Result<_, _>>()?,
        threshold: init.threshold,
        operators: init
            .operators
            .iter()
            .map(|text| ceremony::operator(text, now, expires_at))
            .collect::<Result<_, _>>()?,
        delivery: ceremony::named_key(&init.delivery)?,
        recovery: named(&init.recovery, Kind::Recovery)?,
        signers: ceremony::signers(&init.signers)?,
        issued_at: now,
        expires_at,
    };
    let draft = ceremony::draft(request.into())?;
    files::create_public(&init.out, format!("{}\n", draft.document.to_text()).as_bytes())?;
    let (root, digest) = (&draft.root, draft.digest);
    format.result(&describe(root, digest, &[]), |_| {
        let next = format!(
            "next: each of {} people runs `genesisctl trust sign --key root-N.key {}`",
            root.root.threshold,
            init.out.display()
        );
        format!("{}\n{next}", text(root, digest, &[]))
    });
    Ok(())
}

fn sign(key: &Path, file: &Path, format: Format) -> Result<(), Error> {
    let key = SigningKey::load(key)?;
    let mut document = Document::parse(&files::read(file)?)?;
    ceremony::sign(&mut document, &key)?;
    files::replace(file, format!("{}\n", document.to_text()).as_bytes())?;
    let (root, digest) = ceremony::read_unverified(&document)?;
    let signed = document.claimed_signers();
    format.result(&describe(&root, digest, &signed), |_| text(&root, digest, &signed));
    Ok(())
}

fn read(file: &Path) -> Result<(TrustRoot, Digest, Vec<KeyId>), Error> {
    let document = Document::parse(&files::read(file)?)?;
    let (root, digest) = ceremony::read_unverified(&document)?;
    Ok((root, digest, document.claimed_signers()))
}

fn describe(root: &TrustRoot, digest: Digest, signed: &[KeyId]) -> Value {
    json!({ "digest": digest, "signed_by": signed, "complete": signed.len() >= root.root.threshold, "root": root })
}

fn text(root: &TrustRoot, digest: Digest, signed: &[KeyId]) -> String {
    let kids = |list: &[KeyId]| list.iter().map(KeyId::as_str).collect::<Vec<_>>().join(", ");
    let mut lines = vec![
        format!("trust root version {}, {} to {}", root.version, root.issued_at, root.expires_at),
        format!("  pin       {digest}"),
    ];
    lines.extend(root.root.keys.iter().map(|key| format!("  root      {} {}", key.kid, key.public_key)));
    lines.push(format!("  signed    {} of {} needed: {}", signed.len(), root.root.threshold, kids(signed)));
    lines.extend(root.operators.iter().map(|key| format!("  operator  {} {} {}", key.kid, key.public_key, scope(key))));
    lines.extend(root.delivery.iter().map(|key| format!("  delivery  {} {}", key.kid, key.public_key)));
    lines.push(format!("  recovery  {} {}", root.recovery.kid, root.recovery.public_key));
    let signers = root.signers;
    lines.push(format!(
        "  signers   read {}, operate {}, change {}, destroy {}",
        signers.read, signers.operate, signers.change, signers.destroy
    ));
    let able = |class| root.operators.iter().filter(|key| key.allow.contains(&Allowance::Class(class))).count();
    let (can_destroy, needed) = (able(Class::Destroy), signers.needed(Class::Destroy));
    if can_destroy > 0 && can_destroy < needed {
        lines.push(format!("  note      {needed} must sign what destroys, but only {can_destroy} may"));
    }
    lines.join("\n")
}

fn scope(key: &OperatorKey) -> String {
    let allow = key.allow.iter().map(|allowance| match allowance {
        Allowance::Class(class) => format!("{class:?}").to_lowercase(),
        Allowance::Action(name) => name.clone(),
    });
    let workspaces = key.workspaces.iter().flatten().map(|id| format!("workspace={id}"));
    let queues = key.queues.iter().flatten().map(|queue| format!("queue={queue}"));
    allow.chain(workspaces).chain(queues).collect::<Vec<_>>().join(",")
}
