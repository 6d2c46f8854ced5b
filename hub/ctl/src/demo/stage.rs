//! Sets the stage: keys, hub, trust root, stand-in, and an agent that has enrolled.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use genesis_shared::id::{Digest, DropletId, KeyId, PublicKey, WorkspaceId};
use genesis_shared::secret::Secret;
use genesis_shared::trust::NamedKey;
use genesis_shared::wire::DropletCreate;
use serde::Deserialize;
use tokio::time::{Instant, sleep};

use super::Options;
use super::binaries::Binaries;
use super::owner;
use super::process::{self, LOOK, Processes};
use super::timeline::Timeline;
use crate::ceremony::{self, DAY_MS, Request};
use crate::client::HubClient;
use crate::error::Error;
use crate::files;
use crate::keys::{Kind, PrivateKey, SigningKey};
use crate::sealing::Recipient;
use crate::system;

/// How long the agent may take to enrol: it needs one request, and a slow machine some seconds to start.
const ENROL_S: u64 = 60;
/// The demo's droplet.
const DROPLET: &str = "demo-1";
/// The owner of the demo's n8n, where no other is asked for.
const OWNER_EMAIL: &str = "owner@example.com";

/// Everything that an ignition needs.
pub struct Stage {
    /// The hub.
    pub client: HubClient,
    /// The operator's key.
    pub operator: SigningKey,
    /// The droplet.
    pub droplet: DropletId,
    /// Whom to seal to.
    pub recipient: Recipient,
}

/// What `genesis-hub init` prints, as far as it matters here.
#[derive(Deserialize)]
struct HubInit {
    ca_file: PathBuf,
    delivery_public_key: PublicKey,
    delivery_kid: KeyId,
}

#[derive(Deserialize)]
struct HubToken {
    token: String,
}

/// What a server prints when it is ready.
#[derive(Deserialize)]
struct Listening {
    listening: String,
}

/// Starts everything, in the order in which an operator would.
///
/// # Errors
/// Whatever fails first.
pub async fn set(
    options: &Options,
    folder: &Path,
    binaries: &Binaries,
    processes: &mut Processes,
    timeline: &Timeline,
) -> Result<Stage, Error> {
    let keys = folder.join("keys");
    let root_key = new_key(&keys, "root-1", Kind::Signing)?;
    let operator = new_key(&keys, "ops-1", Kind::Signing)?;
    let recovery = new_key(&keys, "recovery-1", Kind::Recovery)?;
    timeline.say("keys made: root-1, ops-1, recovery-1");

    let (client, ca_file, hub_url, delivery) = start_hub(folder, binaries, processes, timeline).await?;
    let pin = publish_trust_root(&client, &root_key, &operator, &recovery, delivery).await?;
    timeline.say(&format!("trust root signed and given to the hub ({pin})"));

    let n8n_url = match (&options.n8n_url, &binaries.standin) {
        (Some(url), _) => url.clone(),
        (None, Some(standin)) => start_standin(folder, standin, processes, timeline).await?,
        (None, None) => return Err(Error::Template("neither a URL of n8n nor the stand-in".into())),
    };
    if let Some(url) = &options.n8n_url {
        timeline.say(&match owner::provide(url, &folder.join("agent"))? {
            Some(kept) => format!("password of this n8n's owner kept in {}", kept.display()),
            None => "no HOME to keep the password of this n8n's owner in: no later demo can log in to it".to_owned(),
        });
    }
    let workspace = WorkspaceId::from_random(system::random()?);
    let droplet: DropletId = DROPLET.parse()?;
    let create = DropletCreate {
        workspace_id: workspace,
        droplet_id: droplet.clone(),
        name: Some("demo".into()),
        region: Some("local".into()),
        labels: [("ring".to_owned(), "demo".to_owned())].into(),
    };
    let token = client.add_droplet(&create).await?;
    timeline.say(&format!("droplet {droplet} registered for workspace {workspace}"));

    let token_file = folder.join("provisioning-token");
    files::create_private(&token_file, token.provisioning_token.as_bytes())?;
    let owner = options.n8n_owner_email.as_deref().unwrap_or(OWNER_EMAIL);
    let config = format!(
        "hub_url = {}\nhub_ca_file = {}\nworkspace_id = {}\ndroplet_id = {}\ndata_dir = {}\ntrust_root_digest = {}\n\
         provisioning_token_file = {}\n\n[labels]\nring = \"demo\"\n\n[n8n]\nurl = {}\nowner_email = {}\n",
        quoted(&hub_url),
        quoted(&ca_file.display().to_string()),
        quoted(&workspace.to_string()),
        quoted(DROPLET),
        quoted(&folder.join("agent").display().to_string()),
        quoted(&pin.to_string()),
        quoted(&token_file.display().to_string()),
        quoted(&n8n_url),
        quoted(owner),
    );
    let config_file = folder.join("agent.toml");
    files::create_private(&config_file, config.as_bytes())?;
    let args = ["run", "--config"].map(OsStr::new).into_iter().chain([config_file.as_os_str()]).collect::<Vec<_>>();
    processes.start("agent", &binaries.agent, &args, folder)?;
    timeline.say("agent started");

    let key = enrolled(&client, &droplet, processes, timeline).await?;
    let operator = operator.signing()?;
    Ok(Stage { client, operator, droplet, recipient: Recipient { workspace, key } })
}

fn new_key(folder: &Path, kid: &str, kind: Kind) -> Result<PrivateKey, Error> {
    let key = PrivateKey::new(kid.parse()?, kind, system::random()?);
    key.save(folder)?;
    Ok(key)
}

/// A TOML string. JSON's escapes are a subset of TOML's.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

async fn start_hub(
    folder: &Path,
    binaries: &Binaries,
    processes: &mut Processes,
    timeline: &Timeline,
) -> Result<(HubClient, PathBuf, String, NamedKey), Error> {
    let data = folder.join("hub");
    let config = folder.join("hub.toml");
    // A health report each second, so that the demo need not wait a minute for its result.
    files::create_private(&config, b"heartbeat_interval_s = 1\n")?;
    let with_data = |words: &[&'static str]| -> Vec<&OsStr> {
        words.iter().map(|word| OsStr::new(*word)).chain([OsStr::new("--data-dir"), data.as_os_str()]).collect()
    };
    let init: HubInit = process::one_shot(&binaries.hub, &with_data(&["init"])).await?;
    let mut args = with_data(&["token", "create"]);
    args.extend(["--name", "demo", "--scope", "admin"].map(OsStr::new));
    let token: HubToken = process::one_shot(&binaries.hub, &args).await?;
    timeline.say("hub set up: delivery key, certificate, API token");

    let mut args = with_data(&["serve"]);
    args.extend([OsStr::new("--listen"), OsStr::new("127.0.0.1:0"), OsStr::new("--config"), config.as_os_str()]);
    let out = processes.start("hub", &binaries.hub, &args, folder)?;
    let Listening { listening } = processes.first_line("hub", &out).await?;
    timeline.say(&format!("hub listens on {listening}"));

    let url = format!("https://{listening}");
    let client = HubClient::new(&url, Some(&files::read(&init.ca_file)?), Secret::new(token.token))?;
    let delivery = NamedKey { kid: init.delivery_kid, public_key: init.delivery_public_key };
    Ok((client, init.ca_file, url, delivery))
}

async fn start_standin(
    folder: &Path,
    standin: &Path,
    processes: &mut Processes,
    timeline: &Timeline,
) -> Result<String, Error> {
    let args = ["--listen", "127.0.0.1:0"].map(OsStr::new);
    let out = processes.start("standin", standin, &args, folder)?;
    let Listening { listening } = processes.first_line("standin", &out).await?;
    timeline.say(&format!("stand-in for n8n listens on {listening}"));
    Ok(format!("http://{listening}"))
}

async fn publish_trust_root(
    client: &HubClient,
    root_key: &PrivateKey,
    operator: &PrivateKey,
    recovery: &PrivateKey,
    delivery: NamedKey,
) -> Result<Digest, Error> {
    let now = system::now();
    let ops = operator.public()?;
    let request = Request {
        root_keys: vec![ceremony::named(root_key.public()?)],
        threshold: 1,
        operators: vec![ceremony::operator_key(ops, "read,operate,change", now, now.plus_millis(DAY_MS))?],
        delivery,
        recovery: ceremony::named(recovery.public()?),
        signers: ceremony::signers("destroy=2")?,
        issued_at: now,
        expires_at: now.plus_millis(DAY_MS),
    };
    let mut draft = ceremony::draft(request.into())?;
    ceremony::sign(&mut draft.document, &root_key.signing()?, None)?;
    client.put_trust_root(draft.document.to_text().as_bytes()).await?;
    Ok(draft.digest)
}

async fn enrolled(
    client: &HubClient,
    droplet: &DropletId,
    processes: &mut Processes,
    timeline: &Timeline,
) -> Result<PublicKey, Error> {
    timeline.doing("waiting for the agent to enrol");
    let deadline = Instant::now() + Duration::from_secs(ENROL_S);
    loop {
        if let Some(key) = client.droplet(droplet).await?.sealing_key {
            timeline.say("agent enrolled: handshake done, sealing key known");
            return Ok(key);
        }
        processes.check()?;
        if Instant::now() > deadline {
            let what = format!("the agent's handshake; its last lines:\n{}\nIt", processes.log_tail("agent"));
            return Err(Error::Timeout { what, seconds: ENROL_S });
        }
        sleep(LOOK).await;
    }
}
