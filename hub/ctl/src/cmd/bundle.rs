//! `genesisctl bundle`: signs, checks and pushes bundles.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use genesis_shared::bundle::Bundle;
use genesis_shared::command::grouped;
use genesis_shared::id::BundleId;
use genesis_shared::trust::TrustRoot;
use serde_json::json;

use super::{Global, job, wait};
use crate::error::Error;
use crate::files;
use crate::inspect::{self, Summary};
use crate::keys::SigningKey;
use crate::orders::{self, Spec};
use crate::output::Format;
use crate::progress::Progress;
use crate::sign::Document;
use crate::system;

const SIGN: &str = "\
SPEC.json: {\"targets\": {\"workspaces\": [\"…\"]}, \"commands\": [{\"action\": \"HEALTH_CHECK\"}]}
and, if wanted, queue (template), priority (3), validity_hours (24), not_before, rollout, force.

Example:
  genesisctl bundle sign --key ops-1.key spec.json --out b.jws
  genesisctl bundle sign --add --key ops-2.key b.jws";

#[derive(Debug, Subcommand)]
#[command(after_help = SIGN)]
pub(super) enum Verb {
    /// Sign a spec, or add a signature to a signed bundle
    #[command(after_help = SIGN)]
    Sign(Sign),
    /// Check signatures, content, scopes and times as a droplet would, and say what it would do
    #[command(after_help = "Example:\n  genesisctl bundle verify --trust-root root.json b.jws")]
    Verify {
        /// The signed trust root
        #[arg(long, value_name = "FILE")]
        trust_root: PathBuf,
        /// The signed bundle
        file: PathBuf,
    },
    /// Give a signed bundle to the hub
    #[command(after_help = "Example:\n  genesisctl bundle push b.jws --watch --hub https://hub.example.com")]
    Push {
        /// The signed bundle
        file: PathBuf,
        /// Wait for the droplets' answers; the exit code says how it went
        #[arg(long)]
        watch: bool,
    },
}

#[derive(Debug, Args)]
pub(super) struct Sign {
    /// Private file of an operator's key; repeat it for more signatures. The first is the issuer
    #[arg(long = "key", value_name = "FILE", required = true)]
    keys: Vec<PathBuf>,
    /// FILE is a signed bundle: add signatures to it
    #[arg(long)]
    add: bool,
    /// The support grant that lets this one key in; the bundle ends with it
    #[arg(long, value_name = "FILE", conflicts_with = "add")]
    grant: Option<PathBuf>,
    /// The spec, `-` for standard input; with --add the signed bundle
    #[arg(value_name = "SPEC.json")]
    file: PathBuf,
    /// File for the signed bundle; with --add the bundle itself when not given
    #[arg(long, value_name = "FILE", required_unless_present = "add")]
    out: Option<PathBuf>,
}

pub(super) fn run(verb: Verb, global: &Global) -> Result<(), Error> {
    match verb {
        Verb::Sign(args) => sign(&args, global.output),
        Verb::Verify { trust_root, file } => verify(&trust_root, &file, global.output),
        Verb::Push { file, watch } => push(&file, watch, global),
    }
}

fn sign(args: &Sign, format: Format) -> Result<(), Error> {
    let keys = args.keys.iter().map(|path| SigningKey::load(path)).collect::<Result<Vec<_>, _>>()?;
    let (bundle, document) = if args.add {
        let mut document = Document::parse(&files::read(&args.file)?)?;
        let mut bundle = orders::read_unverified(&document)?;
        for key in &keys {
            bundle = orders::add_signature(&mut document, key)?;
        }
        (bundle, document)
    } else {
        let spec: Spec = files::read_json(&args.file)?;
        if let Some(grant) = &args.grant {
            let grant = Document::parse(&files::read(grant)?)?;
            let [key] = <[SigningKey; 1]>::try_from(keys).map_err(|_| Error::Argument {
                what: "--key".into(),
                why: "a support grant lets one key in, so one key signs".into(),
            })?;
            orders::sign_under_grant(spec, key, &grant, BundleId::from_random(system::random()?), system::now())?
        } else {
            orders::sign(spec, &keys, BundleId::from_random(system::random()?), system::now())?
        }
    };
    let text = format!("{}\n", document.to_text());
    match &args.out {
        Some(out) => files::create_public(out, text.as_bytes())?,
        None => files::replace(&args.file, text.as_bytes())?,
    }
    let out = args.out.as_deref().unwrap_or(&args.file);
    let summary = Summary::new(&bundle, document.claimed_signers());
    let result = json!({ "file": out, "bundle": summary });
    format.result(&result, |_| format!("{}\nsigned   {}", summary.to_text(), out.display()));
    Ok(())
}

fn verify(trust_root: &Path, file: &Path, format: Format) -> Result<(), Error> {
    let root = TrustRoot::verify_alone(&files::read(trust_root)?)?;
    let bundle = Bundle::verify(&files::read(file)?, root.get())?;
    bundle.get().check()?;
    let objections = inspect::objections(&bundle, root.get(), system::now());
    if !objections.is_empty() {
        return Err(Error::NotAllowed(objections.join("; ")));
    }
    let summary = Summary::new(bundle.get(), bundle.signers().iter().cloned().collect());
    let result = json!({ "verified": true, "trust_root": root.digest(), "bundle": summary });
    format.result(&result, |_| format!("verified against trust root {}\n{}", root.digest(), summary.to_text()));
    Ok(())
}

fn push(file: &Path, watch: bool, global: &Global) -> Result<(), Error> {
    let bytes = files::read(file)?;
    let client = global.client()?;
    // Read only to refuse here what is no bundle at all; the hub and the droplet check the rest.
    let bundle = orders::read_unverified(&Document::parse(&bytes)?)?;
    let format = global.output;
    wait(async {
        let progress = Progress::start("pushing");
        let answer = client.push(&bytes).await?;
        drop(progress);
        if !watch {
            format.result(&answer, |answer| {
                let jobs = answer.job_ids.iter().map(|id| format!("job      {id}"));
                let left_out = answer.excluded.iter().map(|id| format!("excluded {id}"));
                let lines: Vec<_> = jobs.chain(left_out).collect();
                format!("bundle   {}\n{}", answer.bundle_id, lines.join("\n"))
            });
            return Ok(());
        }
        let actions = grouped(&bundle.action_label());
        format.news(&format!("bundle {} ({actions}): {} jobs", bundle.id, answer.job_ids.len()));
        let jobs = job::watch_all(&client, &answer.job_ids, format).await?;
        format.result(&json!({ "bundle_id": answer.bundle_id, "jobs": jobs }), |_| job::tally(&jobs));
        jobs.iter().try_for_each(crate::watch::outcome)
    })
}
