//! Says what a bundle would do and whether its signers may ask it: what a droplet's admission will say, said before.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use genesis_shared::bundle::{Bundle, Targets};
use genesis_shared::command::{Action, Class, Command, CommandWire};
use genesis_shared::desired::DesiredDomains;
use genesis_shared::grant::Grant;
use genesis_shared::host::HostName;
use genesis_shared::id::{BundleId, KeyId};
use genesis_shared::jws::Verified;
use genesis_shared::limits::{BUNDLE_VALIDITY_MS_MAX, CLOCK_SKEW_S};
use genesis_shared::stack::StackCommand;
use genesis_shared::timestamp::Timestamp;
use genesis_shared::trust::{OperatorKey, TrustRoot};
use serde::Serialize;

/// What a bundle would do.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Summary {
    /// Its id.
    pub bundle_id: BundleId,
    /// Who issued it.
    pub issuer: KeyId,
    /// Who signed it.
    pub signers: Vec<KeyId>,
    /// Not before.
    pub not_before: Timestamp,
    /// Not after.
    pub not_after: Timestamp,
    /// For whom.
    pub targets: Targets,
    /// The hub's queue.
    pub queue: String,
    /// 1 critical to 4 low.
    pub priority: u8,
    /// Each command in words.
    pub commands: Vec<String>,
    /// The support grant that lets the issuer in, in words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub support: Option<String>,
}

impl Summary {
    /// From a bundle and the keys that signed it or claim to.
    pub fn new(bundle: &Bundle, signers: Vec<KeyId>) -> Self {
        Self {
            bundle_id: bundle.id,
            issuer: bundle.issuer.clone(),
            signers,
            not_before: bundle.not_before,
            not_after: bundle.not_after,
            targets: bundle.targets.clone(),
            queue: bundle.queue.clone(),
            priority: bundle.priority,
            commands: bundle.commands.iter().map(in_words).collect(),
            support: bundle.support().ok().flatten().map(|grant| {
                let (level, until) = (grant.level.name(), grant.not_after);
                format!("{level} access until {until} for {}: {}", grant.ticket, grant.reason)
            }),
        }
    }

    /// For people.
    pub fn to_text(&self) -> String {
        let signers = self.signers.iter().map(KeyId::as_str).collect::<Vec<_>>().join(", ");
        let mut text = format!(
            "bundle   {}\nissuer   {}\nsigners  {signers}\nvalid    {} to {}\ntargets  {}\nqueue    {} (priority {})\n",
            self.bundle_id,
            self.issuer,
            self.not_before,
            self.not_after,
            targets(&self.targets),
            self.queue,
            self.priority,
        );
        if let Some(support) = &self.support {
            // Writing into a String cannot fail.
            writeln!(text, "support  {support}").expect("a String takes any text");
        }
        for (n, command) in self.commands.iter().enumerate() {
            // Writing into a String cannot fail.
            writeln!(text, "{:>7}  {command}", n + 1).expect("a String takes any text");
        }
        text.truncate(text.trim_end().len());
        text
    }
}

fn targets(targets: &Targets) -> String {
    match targets {
        Targets::All(_) => "EVERY droplet".to_owned(),
        Targets::Labels(labels) => {
            let pairs: Vec<_> = labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
            format!("every droplet with {}", pairs.join(" and "))
        }
        Targets::Workspaces(list) => match list.as_slice() {
            [one] => format!("workspace {one}"),
            [first, rest @ ..] => format!("workspace {first} and {} more", rest.len()),
            [] => "nobody".to_owned(),
        },
    }
}

/// One command in words; a payload that cannot be read shows as its bare action.
pub fn in_words(wire: &CommandWire) -> String {
    let what = match wire.parse() {
        Ok(Command::HealthCheck | Command::ListState | Command::Verify) | Err(_) => String::new(),
        Ok(Command::CollectMetrics(wish)) => wish.since.map(|since| format!(" since {since}")).unwrap_or_default(),
        Ok(Command::ApplyState(state)) => {
            let (credentials, workflows) = (state.credentials.len(), state.workflows.len());
            let domains = state.domains.as_ref().map(domains_in_words).unwrap_or_default();
            format!(" generation {}: {credentials} credentials, {workflows} workflows{domains}", state.generation)
        }
        Ok(Command::InjectCredential(inject) | Command::RotateCredential(inject)) => {
            format!(" {} ({}), sealed to {}", inject.name, inject.credential_type, inject.sealed_data.recipient)
        }
        Ok(Command::DeployWorkflow(deploy) | Command::UpdateWorkflow(deploy)) => {
            let nodes = deploy.workflow_json.get("nodes").and_then(|n| n.as_array()).map_or(0, Vec::len);
            let (credentials, variables) = (deploy.credential_map.len(), deploy.variables.len());
            let sealed = if deploy.sealed_variables.is_some() { ", more of them sealed" } else { "" };
            format!(" {}: {nodes} nodes, {credentials} credentials, {variables} variables{sealed}", deploy.key)
        }
        Ok(
            Command::ActivateWorkflow(target) | Command::DeactivateWorkflow(target) | Command::DeleteWorkflow(target),
        ) => format!(" {}", target.key),
        Ok(Command::DeleteCredential(target)) => format!(" {}", target.name),
        Ok(Command::Stack(command)) => stack_in_words(&command),
        Ok(Command::UpdateAgent(wish)) => format!(" to {} ({} bytes) from {}", wish.sha256, wish.size, wish.url),
    };
    format!("{}{what}", wire.action)
}

fn listed(hosts: &[HostName]) -> String {
    hosts.iter().map(HostName::as_str).collect::<Vec<_>>().join(", ")
}

fn primary_in_words(primary: Option<&HostName>) -> String {
    primary.map(|host| format!(", primary {host}")).unwrap_or_default()
}

/// Whoever signs is to see that what is not named goes.
fn domains_in_words(domains: &DesiredDomains) -> String {
    if domains.hosts.is_empty() {
        return ", no host name but the configured one".to_owned();
    }
    format!(
        ", no host names but the configured one and {}{}",
        listed(&domains.hosts),
        primary_in_words(domains.primary.as_ref())
    )
}

fn stack_in_words(command: &StackCommand) -> String {
    match command {
        StackCommand::PullImage(target) => format!(" {} for {}", target.image, target.service),
        StackCommand::SwapContainer(target) => format!(" {} to {}", target.service, target.image),
        StackCommand::GetLogs(wish) => {
            let sealed = if wish.recipient.is_some() { "sealed" } else { "readable by the hub" };
            format!(" the last {} lines of {}, {sealed}", wish.lines, wish.container)
        }
        StackCommand::Restore(wish) => format!(" n8n's database from backup {}", wish.backup),
        StackCommand::AddDomains(wish) => {
            format!(" {}{}", listed(&wish.hosts), primary_in_words(wish.primary.as_ref()))
        }
        StackCommand::RemoveDomains(wish) => format!(" {}", listed(&wish.hosts)),
        StackCommand::RestartN8n
        | StackCommand::Backup
        | StackCommand::Quiesce
        | StackCommand::Suspend
        | StackCommand::ResumeService => String::new(),
    }
}

/// Why admission would refuse a correctly signed bundle, each with the droplet's name of the rule; empty when it would
/// not. What only a droplet knows (its labels, what it has seen, the delivery) cannot be said here.
pub fn objections(verified: &Verified<Bundle>, root: &TrustRoot, now: Timestamp) -> Vec<String> {
    let bundle = verified.get();
    let actions = bundle.actions().unwrap_or_default();
    let mut found = BTreeSet::new();
    if let Ok(Some(grant)) = bundle.support() {
        found.extend(beyond_grant(&grant, bundle, &actions, now).map(|why| format!("a13_grant: {why}")));
        found.extend(times(bundle, now).map(|why| format!("a8_time: {why}")));
        return found.into_iter().collect();
    }
    for action in &actions {
        let (signed, needed) = (verified.signers().len(), root.signers.needed(action.class()));
        if signed < needed {
            found.insert(format!("a5_signers: {action} needs {needed} distinct signers, {signed} signed"));
        }
    }
    if !verified.signers().contains(&bundle.issuer) {
        found.insert(format!("a6_scope: the issuer {} did not sign", bundle.issuer));
    }
    for key in verified.signers().iter().filter_map(|kid| root.operator(kid)) {
        out_of_scope(key, bundle, &actions, now, &mut found);
    }
    found.extend(times(bundle, now).map(|why| format!("a8_time: {why}")));
    if now > root.expires_at && actions.iter().any(|action| action.class() != Class::Read) {
        found.insert(format!("a9_trust_root_expired: the trust root expired at {}", root.expires_at));
    }
    found.into_iter().collect()
}

fn beyond_grant(grant: &Grant, bundle: &Bundle, actions: &[Action], now: Timestamp) -> Option<String> {
    if bundle.targets.single() != Some(grant.workspace) {
        return Some(format!("{} is for workspace {} alone", grant.ticket, grant.workspace));
    }
    if let Some(action) = actions.iter().find(|action| !grant.level.may(**action)) {
        return Some(format!("{} access does not cover {action}", grant.level.name()));
    }
    (now > grant.not_after).then(|| format!("{} ended at {}", grant.ticket, grant.not_after))
}

/// Every signer must be in scope, not only enough of them: a signature that may not be there has no reason to be.
fn out_of_scope(key: &OperatorKey, bundle: &Bundle, actions: &[Action], now: Timestamp, found: &mut BTreeSet<String>) {
    let mut object = |why: String| found.insert(format!("a6_scope: key {} {why}", key.kid));
    for action in actions.iter().filter(|action| !key.may(**action)) {
        object(format!("may not ask {action}"));
    }
    match &bundle.targets {
        Targets::Workspaces(list) => {
            let outside = list.iter().filter(|workspace| !key.may_address(**workspace)).count();
            if outside > 0 {
                object(format!("may not address {outside} of the {} workspaces", list.len()));
            }
        }
        Targets::Labels(_) | Targets::All(_) if key.workspaces.is_some() => {
            object("may address some workspaces only, all others refuse".to_owned());
        }
        Targets::Labels(_) | Targets::All(_) => {}
    }
    if !key.may_use_queue(&bundle.queue) {
        object(format!("may not use queue {}", bundle.queue));
    }
    if !key.was_good_at(bundle.issued_at) || !key.was_good_at(now) {
        object(format!("is valid from {} to {} only", key.not_before, key.not_after));
    }
}

fn times(bundle: &Bundle, now: Timestamp) -> Option<String> {
    let (from, to) = (bundle.not_before, bundle.not_after);
    if to.millis_since(from) > BUNDLE_VALIDITY_MS_MAX || to <= from {
        return Some("the span of its validity must be positive and at most 30 days".to_owned());
    }
    if bundle.issued_at > now.plus_millis(CLOCK_SKEW_S * 1000) {
        return Some(format!("it was signed at {}, which is ahead of now, {now}", bundle.issued_at));
    }
    if now < from {
        return Some(format!("it may not run before {from}"));
    }
    (now > to).then(|| format!("it expired at {to}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::{Kind, PrivateKey, SigningKey};
    use crate::orders;
    use genesis_shared::trust::{NamedKey, RootKeys, Signers};
    use serde_json::json;

    fn key(kid: &str, seed: u8) -> SigningKey {
        PrivateKey::new(kid.parse().unwrap(), Kind::Signing, [seed; 32]).signing().unwrap()
    }
    fn now() -> Timestamp {
        "2026-11-24T22:00:00Z".parse().unwrap()
    }

    fn root(allow: serde_json::Value, workspaces: serde_json::Value, change: usize) -> TrustRoot {
        let operator = |key: &SigningKey| OperatorKey {
            kid: key.kid().clone(),
            public_key: key.public(),
            allow: serde_json::from_value(allow.clone()).unwrap(),
            workspaces: serde_json::from_value(workspaces.clone()).unwrap(),
            queues: None,
            not_before: now().plus_millis(-1000),
            not_after: now().plus_millis(1000),
        };
        let named = |key: &SigningKey| NamedKey { kid: key.kid().clone(), public_key: key.public() };
        TrustRoot {
            version: 1,
            issued_at: now(),
            expires_at: now().plus_millis(3_600_000),
            root: RootKeys { keys: vec![named(&key("root-1", 9))], threshold: 1 },
            operators: vec![operator(&key("ops-1", 1)), operator(&key("ops-2", 2))],
            signers: Signers { read: 1, operate: 1, change, destroy: 2 },
            delivery: vec![named(&key("hub-1", 8))],
            recovery: named(&key("recovery-1", 7)),
            revoked: vec![],
        }
    }

    fn signed(keys: &[SigningKey], root: &TrustRoot) -> Verified<Bundle> {
        let spec = json!({"targets": {"all": true}, "commands": [
            {"action": "HEALTH_CHECK"}, {"action": "ACTIVATE_WORKFLOW", "payload": {"key": "email-1"}}]});
        let id = BundleId::from_random([1; 16]);
        let (_, document) = orders::sign(serde_json::from_value(spec).unwrap(), keys, id, now()).unwrap();
        Bundle::verify(document.to_text().as_bytes(), root).unwrap()
    }

    #[test]
    fn has_nothing_to_say_against_a_bundle_within_its_signers_scopes() {
        let root = root(json!([{"class": "read"}, {"action": "ACTIVATE_WORKFLOW"}]), json!(null), 1);
        assert_eq!(objections(&signed(&[key("ops-1", 1)], &root), &root, now()), Vec::<String>::new());
    }

    #[test]
    fn names_missing_scopes_missing_signers_and_wrong_times() {
        let everything = json!([{"class": "read"}, {"class": "change"}]);
        let tenant = json!(["0192f0a1-1111-7000-8000-000000000001"]);
        let only_read = root(json!([{"class": "read"}]), json!(null), 1);
        let only_one_tenant = root(everything.clone(), tenant, 1);
        let two_signers = root(everything, json!(null), 2);
        let one = [key("ops-1", 1)];

        let found = objections(&signed(&one, &only_read), &only_read, now());
        assert_eq!(found, ["a6_scope: key ops-1 may not ask ACTIVATE_WORKFLOW"]);
        let found = objections(&signed(&one, &only_one_tenant), &only_one_tenant, now());
        assert_eq!(found, ["a6_scope: key ops-1 may address some workspaces only, all others refuse"]);
        let found = objections(&signed(&one, &two_signers), &two_signers, now());
        assert_eq!(found, ["a5_signers: ACTIVATE_WORKFLOW needs 2 distinct signers, 1 signed"]);
        let both = signed(&[key("ops-1", 1), key("ops-2", 2)], &two_signers);
        assert!(objections(&both, &two_signers, now()).is_empty());
        let late = objections(&both, &two_signers, now().plus_millis(25 * 3_600_000));
        assert!(late.iter().any(|o| o.starts_with("a8_time: it expired")), "{late:?}");
    }
}
