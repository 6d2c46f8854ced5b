//! What a new droplet is given at its first boot: a fleet's settings and one droplet's token -> cloud-init's user-data and
//! the agent's configuration.
//!
//! The user-data is a `#cloud-config` written as JSON, which YAML includes; every value goes through a serialiser, so no
//! name can break out of its place. The only secret in it is the one-time token: whoever can ask the provider's metadata
//! service reads it, for as long as the droplet lives.
//!
//! What cloud-init is asked to do is little, and on purpose not split over its modules: it marks a module as done *before*
//! it runs, so after a power cut the rest of it would never happen. It writes files and starts a unit that works until it
//! has succeeded once (`cloud-init/first-boot.sh`); until then `bootcmd`, which runs at every boot, takes those marks away.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::host::HostName;
use crate::id::{Digest, DropletId, WorkspaceId};
use crate::limits::USER_DATA_BYTES_MAX;
use crate::stack::{ImageRef, Service};

/// The agent's configuration on the droplet.
const AGENT_TOML: &str = "/etc/genesis/agent.toml";
/// The hub's authority on the droplet, where it is not a public one.
const CA_FILE: &str = "/etc/genesis/ca.pem";
/// Where the agent looks for the token.
const TOKEN_FILE: &str = "/etc/genesis/provisioning.token";
/// What the script of the first boot reads.
const WISHES: &str = "/etc/genesis/first-boot";
/// The agent's data folder.
const DATA_DIR: &str = "/var/lib/genesis";

const SCRIPT: &str = include_str!("../../cloud-init/first-boot.sh");
const UNIT: &str = include_str!("../../cloud-init/genesis-first-boot.service");

/// Docker's log limits. No `live-restore`: containers that outlive the engine hold up a power-off for 90 s.
const DAEMON_JSON: &str =
    "{\"log-driver\": \"json-file\", \"log-opts\": {\"max-size\": \"10m\", \"max-file\": \"3\"}}\n";

/// With 1 GB, what is idle may be swapped out, but not what works.
const SYSCTL: &str = "vm.swappiness = 10\n";

/// Takes cloud-init's marks away until the first boot is done.
const AGAIN: &str = "test -e /var/lib/genesis/first-boot.done || rm -f /var/lib/cloud/instance/sem/config_write_files \
                     /var/lib/cloud/instance/sem/config_runcmd /var/lib/cloud/instance/sem/config_scripts_user";

/// cloud-init's copies of the user-data, and so of the token; all of them can be read by root only.
const COPIES: [&str; 8] = [
    "/etc/genesis/first-boot/token",
    "/var/lib/cloud/instance/user-data.txt",
    "/var/lib/cloud/instance/user-data.txt.i",
    "/var/lib/cloud/instance/cloud-config.txt",
    "/var/lib/cloud/instance/obj.pkl",
    "/run/cloud-init/instance-data-sensitive.json",
    "/run/cloud-init/combined-cloud-config.json",
    "/run/cloud-init/cloud.cfg",
];
/// cloud-init writes it when it will read none of them any more, at this boot.
const CLOUD_INIT_DONE: &str = "/run/cloud-init/result.json";

/// What all droplets of a fleet have in common: the table `[first_boot]` of the hub's configuration, or a file for
/// `genesisctl`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FirstBoot {
    /// `https://…`, as droplets reach the hub.
    pub hub_url: String,
    /// The hub's own authority (PEM); absent where it has a public certificate.
    pub hub_ca_file: Option<PathBuf>,
    /// The pin: digest of the first trust root.
    pub trust_root_digest: Digest,
    /// The agent's package; absent where the image has it.
    pub package: Option<Package>,
    /// Whether port 22 stays open.
    #[serde(default = "yes")]
    pub ssh: bool,
    /// The stack; absent where somebody else looks after n8n.
    pub stack: Option<FleetStack>,
}

fn yes() -> bool {
    true
}

/// A Debian package of the agent.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Package {
    /// Where it is.
    pub url: String,
    /// What it must be.
    pub sha256: Digest,
}

/// The stack of a fleet's droplets.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FleetStack {
    /// Each droplet is `ID.zone`; absent means its address itself.
    pub zone: Option<HostName>,
    /// Images by digest.
    #[serde(default)]
    pub images: BTreeMap<Service, ImageRef>,
    /// Time zone of schedules.
    pub timezone: Option<String>,
    /// The certificate authority's ACME directory, or `internal`; absent means Let's Encrypt.
    pub acme_directory: Option<String>,
}

/// One droplet.
#[derive(Clone, Debug)]
pub struct NewDroplet<'a> {
    /// The tenant.
    pub workspace_id: WorkspaceId,
    /// The droplet.
    pub droplet_id: &'a DropletId,
    /// Its labels, which a bundle's targets may name.
    pub labels: &'a BTreeMap<String, String>,
    /// The one-time token.
    pub provisioning_token: &'a str,
    /// The content of [`FirstBoot::hub_ca_file`].
    pub hub_ca_pem: Option<&'a str>,
}

/// Why there is no user-data.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FirstBootError {
    /// A setting that cannot be used.
    #[error("first_boot.{key}: {why}")]
    Setting {
        /// Which.
        key: &'static str,
        /// What is wrong with it.
        why: &'static str,
    },
    /// More than providers take.
    #[error("the user-data has {0} bytes, at most {USER_DATA_BYTES_MAX} are taken; use fewer or shorter labels")]
    TooLarge(usize),
}

impl FirstBootError {
    /// Stable machine-readable name.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Setting { .. } => "first_boot_setting",
            Self::TooLarge(_) => "user_data_too_large",
        }
    }
}

#[derive(Serialize)]
struct AgentToml<'a> {
    hub_url: &'a str,
    hub_ca_file: Option<&'a str>,
    workspace_id: WorkspaceId,
    droplet_id: &'a DropletId,
    droplet_ip: &'a str,
    data_dir: &'a str,
    trust_root_digest: Digest,
    provisioning_token_file: &'a str,
    block_metadata: bool,
    forget: Forget<'a>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    labels: &'a BTreeMap<String, String>,
    stack: Option<StackToml<'a>>,
}

#[derive(Serialize)]
struct Forget<'a> {
    once: &'a str,
    files: &'a [&'a str],
}

#[derive(Serialize)]
struct StackToml<'a> {
    bootstrap: &'a str,
    host: Option<String>,
    timezone: Option<&'a str>,
    acme_directory: Option<&'a str>,
    images: &'a BTreeMap<Service, ImageRef>,
}

impl FirstBoot {
    /// The agent's configuration for a droplet.
    ///
    /// # Errors
    /// [`FirstBootError::Setting`].
    pub fn agent_toml(&self, droplet: &NewDroplet<'_>) -> Result<String, FirstBootError> {
        if !self.hub_url.starts_with("https://") {
            return Err(FirstBootError::Setting { key: "hub_url", why: "it must begin with https://" });
        }
        let stack = self.stack.as_ref().map(|stack| stack_toml(stack, droplet.droplet_id)).transpose()?;
        let config = AgentToml {
            hub_url: &self.hub_url,
            hub_ca_file: droplet.hub_ca_pem.map(|_| CA_FILE),
            workspace_id: droplet.workspace_id,
            droplet_id: droplet.droplet_id,
            droplet_ip: "metadata",
            data_dir: DATA_DIR,
            trust_root_digest: self.trust_root_digest,
            provisioning_token_file: TOKEN_FILE,
            block_metadata: true,
            forget: Forget { once: CLOUD_INIT_DONE, files: &COPIES },
            labels: droplet.labels,
            stack,
        };
        Ok(toml::to_string(&config).expect("tables of strings have a TOML form"))
    }

    /// The whole user-data: a `#cloud-config`.
    ///
    /// # Errors
    /// Every [`FirstBootError`].
    pub fn user_data(&self, droplet: &NewDroplet<'_>) -> Result<String, FirstBootError> {
        let wish = |name: &str, content: String| file(&format!("{WISHES}/{name}"), &content, "0600");
        let mut files = vec![
            file("/etc/docker/daemon.json", DAEMON_JSON, "0644"),
            file("/etc/sysctl.d/60-genesis.conf", SYSCTL, "0644"),
            file(AGENT_TOML, &self.agent_toml(droplet)?, "0600"),
            wish("token", format!("{}\n", droplet.provisioning_token)),
            wish("ssh", if self.ssh { "yes" } else { "no" }.to_owned()),
            file("/usr/local/lib/genesis/first-boot.sh", SCRIPT, "0755"),
            file("/etc/systemd/system/genesis-first-boot.service", UNIT, "0644"),
        ];
        if let Some(pem) = droplet.hub_ca_pem {
            files.push(file(CA_FILE, pem, "0644"));
        }
        if let Some(package) = &self.package {
            if !package.url.starts_with("https://") && !package.url.starts_with("http://") {
                return Err(FirstBootError::Setting { key: "package.url", why: "it must begin with https://" });
            }
            files.push(wish("package-url", package.url.clone()));
            let hex = package.sha256.to_string();
            files.push(wish("package-sha256", hex.trim_start_matches("sha256:").to_owned()));
        }
        let unit = "genesis-first-boot.service";
        let config = json!({
            // Vendor data can switch the modules off that the rest needs, and then `cloud-init status` still says done.
            "vendor_data": {"enabled": false},
            // What DigitalOcean's vendor data would have said.
            "disable_root": false,
            "bootcmd": [["sh", "-c", AGAIN]],
            "write_files": files,
            "runcmd": [
                ["systemctl", "daemon-reload"],
                ["systemctl", "enable", unit],
                ["systemctl", "start", unit],
            ],
        });
        let text = format!("#cloud-config\n{}\n", yaml(&config));
        if text.len() > USER_DATA_BYTES_MAX {
            return Err(FirstBootError::TooLarge(text.len()));
        }
        Ok(text)
    }
}

fn stack_toml<'a>(stack: &'a FleetStack, id: &DropletId) -> Result<StackToml<'a>, FirstBootError> {
    let host = match &stack.zone {
        None => None,
        Some(zone) => {
            let name = format!("{}.{zone}", id.to_string().to_ascii_lowercase());
            let why = "the droplet's id and this zone make no host name; ids of letters, digits and - do";
            Some(name.parse::<HostName>().map_err(|_| FirstBootError::Setting { key: "stack.zone", why })?.to_string())
        }
    };
    Ok(StackToml {
        bootstrap: if host.is_some() { "zone" } else { "ip" },
        host,
        timezone: stack.timezone.as_deref(),
        acme_directory: stack.acme_directory.as_deref(),
        images: &stack.images,
    })
}

fn file(path: &str, content: &str, permissions: &str) -> Value {
    json!({"path": path, "permissions": permissions, "owner": "root:root", "content": content})
}

/// JSON that readers of YAML 1.1 understand too: what they take for a line break or refuse is escaped. Characters beyond
/// the first plane are left as they are, for YAML knows no pairs of surrogates.
fn yaml(value: &Value) -> String {
    let text = serde_json::to_string_pretty(value).expect("a value has a JSON form");
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '\n' | ' '..='~' => escaped.push(character),
            '\u{10000}'..='\u{10ffff}' => escaped.push(character),
            // Outside of strings there are none.
            _ => escaped.push_str(&format!("\\u{:04x}", u32::from(character))),
        }
    }
    escaped
}

#[cfg(test)]
#[path = "first_boot_tests.rs"]
mod tests;
