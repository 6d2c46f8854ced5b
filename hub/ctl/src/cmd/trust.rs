//! `genesisctl trust`: the ceremony around the trust root.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use genesis_shared::command::Class;
use genesis_shared::id::{Digest, KeyId};
use genesis_shared::trust::{Allowance, OperatorKey, RootKeys, TrustRoot};
use serde_json::{Value, json};

use super::{Global, wait};
use crate::ceremony::{self, DAY_MS, Request};
use crate::error::Error;
use crate::files;
use crate::keys::{Kind, PublicFile, SigningKey};
use crate::output::Format;
use crate::progress::Progress;
use crate::sign::Document;
use crate::succession::{self, Change};
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
    /// Draft the root that follows, with one more operator, or another scope for a known one
    #[command(
        after_help = "Example:\n  genesisctl trust add-operator --from root.json --operator ops-3.pub:read,change --out root-2.json\n\nNext: as many people as both roots ask for run `genesisctl trust sign`."
    )]
    AddOperator {
        #[command(flatten)]
        next: Next,
        /// Public file of an operator and what it may ask, as for `trust init`; repeat it
        #[arg(long = "operator", value_name = "FILE.pub:SCOPE,…", required = true)]
        operators: Vec<String>,
    },
    /// Draft the root that follows, without a key that was lost or stolen
    #[command(after_help = REVOKE)]
    Revoke {
        #[command(flatten)]
        next: Next,
        /// Name of an operator's, root or delivery key; repeat it
        #[arg(long = "kid", value_name = "KID", required = true)]
        kids: Vec<KeyId>,
    },
    /// Draft the root that follows, with other root keys, another delivery or recovery key, or a longer life
    #[command(after_help = ROTATE)]
    Rotate(Rotate),
    /// Add one root key's signature; done by each person on their own machine
    #[command(after_help = "Example:\n  genesisctl trust sign --key root-1.key root.json")]
    Sign {
        /// Private file of a root key
        #[arg(long, value_name = "FILE")]
        key: PathBuf,
        /// The root before it; needed to sign with a root key that the new one does not have any more
        #[arg(long, value_name = "FILE")]
        previous: Option<PathBuf>,
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
        #[arg(long, value_name = "DIGEST", conflicts_with = "previous")]
        pin: Option<Digest>,
        /// The root before it, which you trust: checks the succession as a droplet does
        #[arg(long, value_name = "FILE")]
        previous: Option<PathBuf>,
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

const REVOKE: &str = "\
Droplets take the new root in before their next command, and refuse what the key signed from then on.

Example:
  genesisctl trust revoke --from root.json --kid ops-2 --out root-2.json
  genesisctl trust sign --key root-1.key root-2.json      (as many people as must sign)
  genesisctl trust verify --previous root.json root-2.json
  genesisctl trust push root-2.json --hub https://hub.example.com";

const ROTATE: &str = "\
Example, after root key 2 was lost (the threshold is met by keys 1 and 3):
  genesisctl trust rotate --from root.json --root-key root-1.pub --root-key root-3.pub --root-key root-4.pub \\
    --threshold 2 --revoke root-2 --out root-2.json
Example, for another year:
  genesisctl trust rotate --from root.json --expires-days 365 --out root-2.json";

/// What every following root is drafted from.
#[derive(Debug, Args)]
pub(super) struct Next {
    /// The trust root in force
    #[arg(long, value_name = "FILE")]
    from: PathBuf,
    /// File for the draft; never overwritten
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

#[derive(Debug, Args)]
pub(super) struct Rotate {
    #[command(flatten)]
    next: Next,
    /// Public file of a root key of the new root, all of them; repeat it
    #[arg(long = "root-key", value_name = "FILE.pub", requires = "threshold")]
    root_keys: Vec<PathBuf>,
    /// How many of them must sign
    #[arg(long, value_name = "K", requires = "root_keys")]
    threshold: Option<usize>,
    /// The hub's new delivery key, beside the one in force
    #[arg(long, value_name = "FILE.pub|KID=KEY")]
    delivery: Option<String>,
    /// Public file of the new recovery key
    #[arg(long, value_name = "FILE.pub")]
    recovery: Option<PathBuf>,
    /// Days until the new root expires; operators' keys keep their own ends
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i64).range(1..=3650))]
    expires_days: Option<i64>,
    /// Name of a key to revoke in the same root; repeat it
    #[arg(long, value_name = "KID")]
    revoke: Vec<KeyId>,
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
    /// support access that it may grant (support=LEVEL), and limits (workspace=ID, queue=NAME); repeat it
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
        Verb::AddOperator { next, operators } => {
            let (now, current) = (system::now(), ceremony::load(&next.from)?);
            let read = |text: &String| ceremony::operator(text, now, current.expires_at);
            let operators = operators.iter().map(read).collect::<Result<_, _>>()?;
            follow(&next, Change { operators, ..Change::default() }, format)
        }
        Verb::Revoke { next, kids } => follow(&next, Change { revoke: kids, ..Change::default() }, format),
        Verb::Rotate(rotate) => self::rotate(rotate, format),
        Verb::Sign { key, previous, file } => sign(&key, previous.as_deref(), &file, format),
        Verb::Show { file } => {
            let (root, digest, signed) = read(&file)?;
            format.result(&describe(&root, digest, &signed), |_| text(&root, digest, &signed));
            Ok(())
        }
        Verb::Verify { pin, previous, file } => {
            let bytes = files::read(&file)?;
            let root = match previous {
                Some(previous) => ceremony::load(&previous)?.verify_successor(&bytes)?,
                None if pin.is_some() => TrustRoot::verify(&bytes, pin)?,
                None => TrustRoot::verify_alone(&bytes)?,
            };
            let signed: Vec<_> = root.signers().iter().cloned().collect();
            format.result(&describe(root.get(), root.digest(), &signed), |_| {
                format!("verified\n{}", text(root.get(), root.digest(), &signed))
            });
            Ok(())
        }
        Verb::Push { file } => {
            let bytes = files::read(&file)?;
            let root = TrustRoot::verify_alone(&bytes)?;
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

fn rotate(rotate: Rotate, format: Format) -> Result<(), Error> {
    let named = |path: &PathBuf, kind| PublicFile::load(path, kind).map(ceremony::named);
    let keys: Vec<_> = rotate.root_keys.iter().map(|path| named(path, Kind::Signing)).collect::<Result<_, _>>()?;
    let change = Change {
        root: rotate.threshold.map(|threshold| RootKeys { keys, threshold }),
        delivery: rotate.delivery.as_deref().map(ceremony::named_key).transpose()?,
        recovery: rotate.recovery.as_ref().map(|path| named(path, Kind::Recovery)).transpose()?,
        expires_at: rotate.expires_days.map(|days| system::now().plus_millis(days * DAY_MS)),
        revoke: rotate.revoke,
        operators: vec![],
    };
    follow(&rotate.next, change, format)
}

/// Drafts the root that follows and says who has to sign it.
fn follow(next: &Next, change: Change, format: Format) -> Result<(), Error> {
    let current = ceremony::load(&next.from)?;
    let draft = ceremony::draft(succession::successor(&current, change, system::now())?)?;
    files::create_public(&next.out, format!("{}\n", draft.document.to_text()).as_bytes())?;
    let (root, digest) = (&draft.root, draft.digest);
    format.result(&describe(root, digest, &[]), |_| {
        let (former, own, out) = (current.root.threshold, root.root.threshold, next.out.display());
        let next = format!(
            "next: {former} of the root keys of version {} and {own} of version {} sign it (one signature counts for both):\n  \
             genesisctl trust sign --key root-N.key --previous {} {out}",
            current.version,
            root.version,
            next.from.display()
        );
        format!("{}\n{next}", text(root, digest, &[]))
    });
    Ok(())
}

fn sign(key: &Path, previous: Option<&Path>, file: &Path, format: Format) -> Result<(), Error> {
    let key = SigningKey::load(key)?;
    let previous = previous.map(ceremony::load).transpose()?;
    let mut document = Document::parse(&files::read(file)?)?;
    ceremony::sign(&mut document, &key, previous.as_ref())?;
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
    if !root.revoked.is_empty() {
        lines.push(format!("  revoked   {}", kids(&root.revoked)));
    }
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
        Allowance::Support(level) => format!("support={}", level.name()),
    });
    let workspaces = key.workspaces.iter().flatten().map(|id| format!("workspace={id}"));
    let queues = key.queues.iter().flatten().map(|queue| format!("queue={queue}"));
    allow.chain(workspaces).chain(queues).collect::<Vec<_>>().join(",")
}
