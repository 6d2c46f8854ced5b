//! The parts of a tenant's stack and their images, as commands, reports and the agent name them.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::command::Action;
use crate::host::HostName;
use crate::id::{Digest, IdError, PublicKey};
use crate::limits::{DOMAINS_PER_COMMAND_MAX, LOG_LINES};
use crate::timestamp::Timestamp;

/// One container of the stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum Service {
    /// The database, started first.
    Postgres,
    /// The workflow engine.
    N8n,
    /// The proxy in front of it, the only one that the world reaches.
    Caddy,
}

impl Service {
    /// Every service in the order in which they start.
    pub const ALL: [Self; 3] = [Self::Postgres, Self::N8n, Self::Caddy];

    /// The name on the wire, and its host name on the stack's network.
    pub fn name(self) -> &'static str {
        match self {
            Self::Postgres => "postgres",
            Self::N8n => "n8n",
            Self::Caddy => "caddy",
        }
    }
}

impl fmt::Display for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// An image pinned by digest, `repository[:tag]@sha256:…` (OCI distribution specification, "Pulling manifests").
///
/// The digest is what counts; the tag is for people. An engine that was filled without a registry knows no digest of a
/// manifest: there the image's own id stands for it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ImageRef {
    name: String,
    digest: Digest,
}

impl ImageRef {
    /// Repository and tag, without the digest.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Repository without tag and digest.
    pub fn repository(&self) -> &str {
        match self.name.rfind(':') {
            // A colon before the last slash is a registry's port.
            Some(colon) if !self.name[colon..].contains('/') => &self.name[..colon],
            _ => &self.name,
        }
    }

    /// What pins it.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// `repository@sha256:…`, what a pull asks for.
    pub fn pinned(&self) -> String {
        format!("{}@{}", self.repository(), self.digest)
    }
}

impl fmt::Display for ImageRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.name, self.digest)
    }
}

impl FromStr for ImageRef {
    type Err = IdError;
    fn from_str(text: &str) -> Result<Self, IdError> {
        let refused = || IdError::new(text, "an image with its digest: repository[:tag]@sha256:…");
        let (name, digest) = text.split_once('@').ok_or_else(refused)?;
        let is_plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-' | b'/' | b':');
        let fits = (1..=255).contains(&name.len())
            && name.as_bytes()[0].is_ascii_alphanumeric()
            && name.bytes().all(is_plain)
            && !name.contains("//");
        if !fits {
            return Err(refused());
        }
        Ok(Self { name: name.to_owned(), digest: digest.parse().map_err(|_| refused())? })
    }
}

impl Serialize for ImageRef {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ImageRef {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

/// A command for the stack (protocol.md, "Actions").
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StackCommand {
    /// Brings an image to the droplet, for a later swap.
    PullImage(ImageTarget),
    /// Puts a service on another image, without a lost request, or leaves it as it was.
    SwapContainer(ImageTarget),
    /// Stops n8n and starts it again, while requests wait.
    RestartN8n,
    /// Answers with the last lines of a container's log.
    GetLogs(GetLogs),
    /// Writes a dump of n8n's database on the droplet.
    Backup,
    /// Puts n8n's database back to what a dump holds.
    Restore(BackupRef),
    /// Finishes what runs and stops n8n, so that the machine may be switched off.
    Quiesce,
    /// Stops n8n until the service is resumed.
    Suspend,
    /// Ends a suspension or a quiet that no power-off followed.
    ResumeService,
    /// Lets more host names lead to n8n.
    AddDomains(AddDomains),
    /// Takes host names away again.
    RemoveDomains(RemoveDomains),
}

impl StackCommand {
    /// Which action this is.
    pub fn action(&self) -> Action {
        match self {
            Self::PullImage(_) => Action::PullImage,
            Self::SwapContainer(_) => Action::SwapContainer,
            Self::RestartN8n => Action::RestartN8n,
            Self::GetLogs(_) => Action::GetLogs,
            Self::Backup => Action::Backup,
            Self::Restore(_) => Action::Restore,
            Self::Quiesce => Action::Quiesce,
            Self::Suspend => Action::Suspend,
            Self::ResumeService => Action::ResumeService,
            Self::AddDomains(_) => Action::AddTrackingDomain,
            Self::RemoveDomains(_) => Action::RemoveTrackingDomain,
        }
    }

    /// Whether it stops or replaces something, so that nothing else may be in its bundle: what follows would have to be
    /// undone over a stack that is not the one it was done on.
    pub fn must_be_alone(&self) -> bool {
        match self {
            Self::PullImage(_) | Self::GetLogs(_) | Self::Backup | Self::AddDomains(_) | Self::RemoveDomains(_) => {
                false
            }
            Self::SwapContainer(_)
            | Self::RestartN8n
            | Self::Restore(_)
            | Self::Quiesce
            | Self::Suspend
            | Self::ResumeService => true,
        }
    }
}

fn n8n() -> Service {
    Service::N8n
}

fn log_lines() -> u32 {
    LOG_LINES
}

/// Payload of `PULL_IMAGE` and `SWAP_CONTAINER`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImageTarget {
    /// Which container; n8n if it is not said.
    #[serde(default = "n8n")]
    pub service: Service,
    /// The image, pinned by digest.
    pub image: ImageRef,
}

/// Payload of `ADD_TRACKING_DOMAIN`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AddDomains {
    /// From 1 to [`DOMAINS_PER_COMMAND_MAX`], each once. One that is there already stays.
    pub hosts: Vec<HostName>,
    /// The one of them that n8n is to name in its webhook addresses from now on; absent means that this stays as it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub primary: Option<HostName>,
}

impl AddDomains {
    /// Checks what the shape alone does not say.
    ///
    /// # Errors
    /// What is wrong, for people.
    pub fn check(&self) -> Result<(), String> {
        check_hosts(&self.hosts)?;
        match &self.primary {
            Some(primary) if !self.hosts.contains(primary) => {
                Err(format!("primary is {primary}, which is not in hosts"))
            }
            Some(_) | None => Ok(()),
        }
    }
}

/// Payload of `REMOVE_TRACKING_DOMAIN`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RemoveDomains {
    /// From 1 to [`DOMAINS_PER_COMMAND_MAX`], each once.
    pub hosts: Vec<HostName>,
}

impl RemoveDomains {
    /// Checks what the shape alone does not say.
    ///
    /// # Errors
    /// What is wrong, for people.
    pub fn check(&self) -> Result<(), String> {
        check_hosts(&self.hosts)
    }
}

fn check_hosts(hosts: &[HostName]) -> Result<(), String> {
    let count = hosts.len();
    if !(1..=DOMAINS_PER_COMMAND_MAX).contains(&count) {
        return Err(format!("{count} hosts; from 1 to {DOMAINS_PER_COMMAND_MAX} are accepted"));
    }
    let mut seen = BTreeSet::new();
    match hosts.iter().find(|host| !seen.insert(*host)) {
        Some(twice) => Err(format!("{twice} is given twice")),
        None => Ok(()),
    }
}

/// Payload of `GET_LOGS`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GetLogs {
    /// Which container; n8n if it is not said.
    #[serde(default = "n8n")]
    pub container: Service,
    /// How many lines, the newest; at most [`crate::limits::LOG_LINES_MAX`].
    #[serde(default = "log_lines")]
    pub lines: u32,
    /// Only lines since this moment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
    /// The key of who asks: the lines are then sealed, and the hub stores what it cannot read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recipient: Option<PublicKey>,
}

/// Payload of `RESTORE`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BackupRef {
    /// What `BACKUP` answered as `backup`.
    pub backup: BackupId,
}

/// The name of a backup: the id of the bundle that asked for it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BackupId(String);

impl BackupId {
    /// The name as text, fit for a file's name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for BackupId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for BackupId {
    type Err = IdError;
    fn from_str(text: &str) -> Result<Self, IdError> {
        let is_plain = |b: u8| b.is_ascii_alphanumeric() || b == b'-';
        match (1..=64).contains(&text.len()) && text.bytes().all(is_plain) {
            true => Ok(Self(text.to_owned())),
            false => Err(IdError::new(text, "the id of a backup: 1 to 64 of A-Z a-z 0-9 -")),
        }
    }
}

impl Serialize for BackupId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for BackupId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn an_image_is_pinned_by_its_digest_whatever_its_tag() {
        let image: ImageRef = format!("registry.example:5000/n8nio/n8n:2.8.4@{DIGEST}").parse().unwrap();
        assert_eq!(image.repository(), "registry.example:5000/n8nio/n8n");
        assert_eq!(image.pinned(), format!("registry.example:5000/n8nio/n8n@{DIGEST}"));
        let untagged: ImageRef = format!("registry.example:5000/caddy@{DIGEST}").parse().unwrap();
        assert_eq!(untagged.repository(), "registry.example:5000/caddy");
        let json = serde_json::to_string(&image).unwrap();
        assert_eq!(serde_json::from_str::<ImageRef>(&json).unwrap(), image);
    }

    #[test]
    fn refuses_an_image_without_a_digest_or_with_a_strange_name() {
        for text in ["n8nio/n8n:latest", "n8nio/n8n@sha256:12", "@sha256:12", "a b@", &format!("-x@{DIGEST}")] {
            assert!(text.parse::<ImageRef>().is_err(), "{text}");
        }
        assert!(format!("a//b@{DIGEST}").parse::<ImageRef>().is_err());
    }
}
