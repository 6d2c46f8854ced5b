//! A bundle: what operators ask of droplets, signed (protocol.md, "Bundle").

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::command::{Action, Class, Command, CommandError, CommandWire};
use crate::grant::{self, Grant, GrantError};
use crate::id::{BundleId, KeyId, WorkspaceId};
use crate::json::{self, JsonError};
use crate::jws::{Document, Jws, JwsError, Verified};
use crate::limits::{BUNDLE_BYTES_MAX, BUNDLE_COMMANDS_MAX, BUNDLE_WORKSPACES_MAX, GRANT_BYTES_MAX};
use crate::mutant::Check;
use crate::stack::StackCommand;
use crate::timestamp::Timestamp;
use crate::trust::TrustRoot;

/// JOSE `typ` of a signed bundle.
pub const TYP: &str = "genesis-bundle+json";

/// Whom a bundle is for. Exactly one member is present.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Targets {
    /// These tenants.
    Workspaces(Vec<WorkspaceId>),
    /// Every droplet that carries all these labels in its own configuration.
    Labels(#[serde(deserialize_with = "json::distinct")] BTreeMap<String, String>),
    /// Every droplet; the value must be `true`.
    All(bool),
}

impl Targets {
    /// Whether a droplet with this tenant and these labels is meant. Labels are the droplet's own, never the hub's
    /// word for them.
    pub fn include(&self, workspace: WorkspaceId, labels: &BTreeMap<String, String>) -> bool {
        match self {
            Self::Workspaces(list) => list.contains(&workspace),
            Self::Labels(wanted) => {
                !wanted.is_empty() && wanted.iter().all(|(name, value)| labels.get(name) == Some(value))
            }
            Self::All(all) => *all,
        }
    }

    /// The one tenant addressed by name, if it is exactly one.
    pub fn single(&self) -> Option<WorkspaceId> {
        match self {
            Self::Workspaces(list) if list.len() == 1 => list.first().copied(),
            Self::Workspaces(_) | Self::Labels(_) | Self::All(_) => None,
        }
    }
}

/// A destructive bundle's second look: why, and how much is expected to go.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Force {
    /// For the audit.
    pub reason: String,
    /// What is destroyed, counted; a different count refuses the bundle.
    #[serde(deserialize_with = "json::distinct")]
    pub expect: BTreeMap<String, u64>,
}

/// The signed payload.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bundle {
    /// Unique for ever; a second bundle with it is a replay.
    pub id: BundleId,
    /// One of the signing keys.
    pub issuer: KeyId,
    /// When it was signed.
    pub issued_at: Timestamp,
    /// Not to be run before.
    pub not_before: Timestamp,
    /// Not to be accepted after.
    pub not_after: Timestamp,
    /// For whom.
    pub targets: Targets,
    /// Which of the hub's queues (protocol.md, "Queues").
    #[serde(default = "default_queue")]
    pub queue: String,
    /// 1 critical to 4 low.
    #[serde(default = "default_priority")]
    pub priority: u8,
    /// Waves, for the hub; a droplet does not read it.
    #[serde(default, deserialize_with = "json::value_at::<1, _>", skip_serializing_if = "Option::is_none")]
    pub rollout: Option<serde_json::Value>,
    /// What to do, in order, all or nothing.
    pub commands: Vec<CommandWire>,
    /// Needed where anything is destroyed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub force: Option<Force>,
    /// The signed support grant (see [`crate::grant`]) where a support key asks, instead of operators.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grant: Option<String>,
}

/// What has to be known of a stranger's bundle before its signature can be checked. The rest is read when it was.
#[derive(Deserialize)]
struct Claimed {
    grant: Option<String>,
}

impl Document for Claimed {}

/// The one document that may be large, so it is read in one pass: every object in it is strict by its type.
impl Document for Bundle {
    fn read(payload: &[u8]) -> Result<Self, JsonError> {
        json::read_as(payload)
    }
}

fn default_queue() -> String {
    "template".to_owned()
}
fn default_priority() -> u8 {
    3
}

/// The hub's queues (protocol.md, "Queues").
pub const QUEUES: &[&str] = &["ignition", "security", "reboot", "template", "health", "metric"];

/// Why a bundle's content is not acceptable whoever signed it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BundleError {
    /// A member with an impossible value.
    #[error("{0}")]
    Invalid(String),
    /// A command that cannot be run; the number counts from 0.
    #[error("command {0} cannot be run")]
    Command(usize, #[source] CommandError),
}

impl Bundle {
    /// Verifies received bytes: a JWS whose every signature is by an unrevoked operator key of `root`, or whose one
    /// signature is by the support key of the grant that it carries, which such operators have signed.
    ///
    /// Whether those keys **may** ask this is admission's business (scope, class, time, target, replay).
    ///
    /// # Errors
    /// Every [`JwsError`].
    pub fn verify(bytes: &[u8], root: &TrustRoot) -> Result<Verified<Self>, JwsError> {
        let jws = Jws::parse(bytes, TYP, BUNDLE_BYTES_MAX)?;
        let by_operators = || jws.verify(|kid| root.operator(kid).map(|key| key.public_key));
        // Nothing is read before its signatures are checked, unless a stranger signed: then only who let him in.
        if jws.kids().all(|kid| root.operator(kid).is_some()) {
            let verified: Verified<Self> = by_operators()?;
            // Nobody has checked that grant, and it would take the place of the operators' own scope.
            if verified.get().grant.is_some() && Check::A13Operators.holds() {
                let why = "operators ask in their own name; a grant is for a support key".to_owned();
                return Err(JwsError::Grant(GrantError::Invalid(why)));
            }
            return Ok(verified);
        }
        let Ok(Claimed { grant: Some(grant) }) = jws.unverified() else { return by_operators() };
        let grant = Grant::verify(grant.as_bytes(), root).map_err(JwsError::Grant)?;
        let support = &grant.get().support;
        jws.verify(|kid| (*kid == support.kid).then_some(support.public_key))
    }

    /// The support grant of a verified bundle.
    ///
    /// # Errors
    /// The bundle was not verified, and carries something else.
    pub fn support(&self) -> Result<Option<Grant>, JwsError> {
        let read = |text: &String| Jws::parse(text.as_bytes(), grant::TYP, GRANT_BYTES_MAX)?.unverified();
        self.grant.as_ref().map(read).transpose()
    }

    /// Reads a bundle that was verified when it was accepted, from the journal that has kept its bytes since. Its keys
    /// may have expired meanwhile; what was accepted is finished all the same.
    ///
    /// # Errors
    /// The bytes were damaged.
    pub fn reread(accepted: &[u8]) -> Result<Self, JwsError> {
        Jws::parse(accepted, TYP, BUNDLE_BYTES_MAX)?.unverified()
    }

    /// The actions in order.
    ///
    /// # Errors
    /// The first command whose action is not in the protocol.
    pub fn actions(&self) -> Result<Vec<Action>, BundleError> {
        let parse = |(n, command): (usize, &CommandWire)| {
            command.action.parse::<Action>().map_err(|e| BundleError::Command(n, e))
        };
        self.commands.iter().enumerate().map(parse).collect()
    }

    /// The action names joined by commas: the delivery token's `action`.
    pub fn action_label(&self) -> String {
        self.commands.iter().map(|command| command.action.as_str()).collect::<Vec<_>>().join(",")
    }

    /// What is destroyed is counted by the operator too: a slip of the hand is noticed before it reaches a droplet.
    fn check_counts(&self, actions: &[Action]) -> Result<(), BundleError> {
        let Some(force) = &self.force else { return Ok(()) };
        for (action, name) in [
            (Action::DeleteWorkflow, "workflows_deleted"),
            (Action::DeleteCredential, "credentials_deleted"),
            (Action::Restore, "databases_restored"),
        ] {
            let counted = actions.iter().filter(|other| **other == action).count() as u64;
            let expected = force.expect.get(name).copied().unwrap_or(0);
            if counted != expected {
                let what = format!("force.expect.{name} is {expected}, the bundle has {counted}");
                return Err(BundleError::Invalid(what));
            }
        }
        Ok(())
    }

    /// Checks what needs neither keys nor a clock. Hub (early refusal) and agent run the same code.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn check(&self) -> Result<(), BundleError> {
        self.checked().map(drop)
    }

    /// The same, and the commands as they were understood in passing. One of a later version stands there as what
    /// refuses it: that is for the agent to do, for the hub may be older than the agent.
    ///
    /// # Errors
    /// As [`Bundle::check`].
    pub fn checked(&self) -> Result<Vec<Result<Command, CommandError>>, BundleError> {
        self.check_members()?;
        let mut commands = Vec::with_capacity(self.commands.len());
        for (n, wire) in self.commands.iter().enumerate() {
            let command = wire.parse();
            match &command {
                Ok(command) if command.is_sealed() && self.targets.single().is_none() => {
                    let what = format!("command {n} carries a sealed secret, so targets must be one workspace");
                    return Err(BundleError::Invalid(what));
                }
                Ok(Command::Stack(StackCommand::Restore(_))) if self.targets.single().is_none() => {
                    let what = format!("command {n} names a backup of one droplet, so targets must be one workspace");
                    return Err(BundleError::Invalid(what));
                }
                Ok(_) | Err(CommandError::Unsupported(_)) => commands.push(command),
                Err(error) => return Err(BundleError::Command(n, error.clone())),
            }
        }
        Ok(commands)
    }

    /// Everything but what the commands say.
    fn check_members(&self) -> Result<(), BundleError> {
        let invalid = |what: String| Err(BundleError::Invalid(what));
        if self.commands.is_empty() || self.commands.len() > BUNDLE_COMMANDS_MAX {
            return invalid(format!("{} commands; from 1 to {BUNDLE_COMMANDS_MAX} are accepted", self.commands.len()));
        }
        if !QUEUES.contains(&self.queue.as_str()) {
            return invalid(format!("no queue is called {:?}; there are {}", self.queue, QUEUES.join(", ")));
        }
        if !(1..=4).contains(&self.priority) {
            return invalid(format!("priority {} is not within 1 to 4", self.priority));
        }
        match &self.targets {
            Targets::All(false) => return invalid("targets.all must be true".into()),
            Targets::Labels(labels) if labels.is_empty() => return invalid("targets.labels names no label".into()),
            Targets::Workspaces(list) if list.is_empty() || list.len() > BUNDLE_WORKSPACES_MAX => {
                return invalid(format!("{} workspaces; from 1 to {BUNDLE_WORKSPACES_MAX}", list.len()));
            }
            Targets::All(true) | Targets::Labels(_) | Targets::Workspaces(_) => {}
        }
        let actions = self.actions()?;
        if actions.iter().any(|action| action.class() == Class::Destroy) && self.force.is_none() {
            return invalid("a destructive action needs `force` with a reason and the expected count".into());
        }
        self.check_counts(&actions)
    }
}

#[cfg(test)]
#[path = "bundle_tests.rs"]
mod tests;
