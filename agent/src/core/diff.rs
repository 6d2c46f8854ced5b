//! Desired state vs. observed state -> what differs. Content counts, never timestamps or counters of n8n.

use genesis_shared::id::{CredentialName, WorkflowKey};
use serde::Serialize;
use serde_json::Value;

use crate::core::step::{CredentialRow, WorkflowRow};
use crate::core::workflow;
use crate::ports::{CredentialInfo, WorkflowInfo};

/// One difference.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Drift {
    /// A managed credential is not in n8n, or not of its type.
    MissingCredential {
        /// Managed name.
        name: CredentialName,
    },
    /// A managed workflow is not in n8n.
    MissingWorkflow {
        /// Managed key.
        key: WorkflowKey,
    },
    /// A managed workflow has other content than was deployed.
    ModifiedWorkflow {
        /// Managed key.
        key: WorkflowKey,
    },
    /// A managed workflow points to other credentials than the managed ones, as it does once one was made anew.
    StaleReferences {
        /// Managed key.
        key: WorkflowKey,
    },
    /// A managed workflow runs and should not.
    UnexpectedActive {
        /// Managed key.
        key: WorkflowKey,
    },
    /// A managed workflow should run and does not.
    UnexpectedInactive {
        /// Managed key.
        key: WorkflowKey,
    },
    /// The proxy runs with another configuration than it should, or does not say with which. The round over the stack
    /// mends it.
    ProxyDrift,
    /// A workflow that nobody manages: the tenant's own. Reported, never touched.
    UnmanagedWorkflow {
        /// n8n's id.
        id: String,
    },
}

impl Drift {
    /// Whether it is a difference that a repair of n8n would mend.
    pub fn is_repairable(&self) -> bool {
        !matches!(self, Self::UnmanagedWorkflow { .. } | Self::ProxyDrift)
    }
}

/// How the content of a managed workflow in n8n compares with what was deployed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// It is what was deployed, or nobody can tell any more what that was.
    AsDeployed,
    /// It differs in the credentials that its nodes refer to, and in nothing else.
    OtherReferences,
    /// It differs.
    Differs,
}

impl Content {
    /// Compares what n8n holds with the body that it is to hold.
    pub fn compare(actual: &Value, wanted: &Value) -> Self {
        if workflow::holds(actual, wanted) {
            Self::AsDeployed
        } else if workflow::holds_but_for_credentials(actual, wanted) {
            Self::OtherReferences
        } else {
            Self::Differs
        }
    }
}

/// A managed workflow: its row, and what became of its content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Managed {
    /// The journal's row.
    pub row: WorkflowRow,
    /// Compared one by one: a small droplet has no room for all contents at once.
    pub content: Content,
}

/// n8n as it is.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Observed {
    /// Every credential.
    pub credentials: Vec<CredentialInfo>,
    /// Every workflow.
    pub workflows: Vec<WorkflowInfo>,
}

/// Everything that differs, in a fixed order: what others need comes first.
pub fn diff(credentials: &[CredentialRow], workflows: &[Managed], observed: &Observed) -> Vec<Drift> {
    let mut drifts = Vec::new();
    for row in credentials {
        let there =
            |info: &&CredentialInfo| info.id == row.n8n_id && info.credential_type == row.credential_type.as_str();
        if !observed.credentials.iter().any(|info| there(&info)) {
            drifts.push(Drift::MissingCredential { name: row.name.clone() });
        }
    }
    for managed in workflows {
        let key = managed.row.key.clone();
        let Some(info) = observed.workflows.iter().find(|info| info.id == managed.row.n8n_id) else {
            drifts.push(Drift::MissingWorkflow { key });
            continue;
        };
        // An older version may run while the draft is as deployed; that is a difference too.
        let pinned = info.active && info.active_version_id.is_some() && info.active_version_id != info.version_id;
        match managed.content {
            Content::OtherReferences => drifts.push(Drift::StaleReferences { key: key.clone() }),
            Content::Differs => drifts.push(Drift::ModifiedWorkflow { key: key.clone() }),
            Content::AsDeployed if pinned => drifts.push(Drift::ModifiedWorkflow { key: key.clone() }),
            Content::AsDeployed => {}
        }
        match (info.active, managed.row.active) {
            (true, false) => drifts.push(Drift::UnexpectedActive { key }),
            (false, true) => drifts.push(Drift::UnexpectedInactive { key }),
            (true, true) | (false, false) => {}
        }
    }
    let managed = |info: &&WorkflowInfo| workflows.iter().any(|managed| managed.row.n8n_id == info.id);
    let unmanaged = observed.workflows.iter().filter(|info| !managed(info));
    drifts.extend(unmanaged.map(|info| Drift::UnmanagedWorkflow { id: info.id.clone() }));
    drifts
}

/// Whether so much differs at once that a repair could be the mistake: more than a quarter of what is managed, and
/// more than two things, since of a handful one is a quarter already. Stale references do not count: one credential
/// that was made anew makes all of them.
pub fn is_too_much(drifts: &[Drift], managed: usize) -> bool {
    let counts = |drift: &&Drift| drift.is_repairable() && !matches!(drift, Drift::StaleReferences { .. });
    let repairable = drifts.iter().filter(counts).count();
    repairable > 2 && repairable * 4 > managed
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::step::Source;
    use serde_json::json;

    fn credential() -> CredentialRow {
        CredentialRow {
            name: "mail".parse().unwrap(),
            credential_type: "smtp".parse().unwrap(),
            n8n_id: "c1".into(),
            fingerprint: "f".into(),
            source: Source { bundle: 1, command: 0 },
        }
    }
    fn managed(active: bool, content: Content) -> Managed {
        let row = WorkflowRow {
            key: "a".parse().unwrap(),
            n8n_id: "w1".into(),
            source: Source { bundle: 1, command: 1 },
            active,
        };
        Managed { row, content }
    }
    fn info(id: &str, active: bool) -> WorkflowInfo {
        WorkflowInfo {
            id: id.into(),
            name: "A".into(),
            active,
            version_id: Some("v2".into()),
            active_version_id: active.then(|| "v2".into()),
            key: None,
        }
    }
    fn observed(workflows: Vec<WorkflowInfo>) -> Observed {
        let credentials =
            vec![CredentialInfo { id: "c1".into(), name: "genesis/mail".into(), credential_type: "smtp".into() }];
        Observed { credentials, workflows }
    }
    fn kinds(managed: Managed, observed: &Observed) -> Vec<String> {
        let drifts = diff(&[credential()], &[managed], observed);
        drifts.iter().map(|d| serde_json::to_value(d).unwrap()["kind"].as_str().unwrap().to_owned()).collect()
    }

    #[test]
    fn nothing_differs_where_all_is_as_deployed() {
        assert!(kinds(managed(true, Content::AsDeployed), &observed(vec![info("w1", true)])).is_empty());
    }

    #[test]
    fn names_every_kind_of_difference() {
        let same = Content::AsDeployed;
        assert_eq!(kinds(managed(true, same), &Observed::default()), ["missing_credential", "missing_workflow"]);
        let two = observed(vec![info("w1", true), info("w2", true)]);
        assert_eq!(kinds(managed(true, Content::Differs), &two), ["modified_workflow", "unmanaged_workflow"]);
        let one = observed(vec![info("w1", true)]);
        assert_eq!(kinds(managed(false, same), &one), ["unexpected_active"]);
        assert_eq!(kinds(managed(true, Content::OtherReferences), &one), ["stale_references"]);
        assert_eq!(kinds(managed(true, same), &observed(vec![info("w1", false)])), ["unexpected_inactive"]);
        let mut pinned = info("w1", true);
        pinned.active_version_id = Some("v1".into());
        assert_eq!(kinds(managed(true, same), &observed(vec![pinned])), ["modified_workflow"]);
    }

    #[test]
    fn content_is_compared_by_what_counts() {
        let with = |name: &str, id: &str| {
            let node = json!({"name": "N", "credentials": {"smtp": {"id": id, "name": "genesis/mail"}}});
            json!({"name": name, "nodes": [node], "connections": {}, "settings": {}})
        };
        assert_eq!(Content::compare(&with("A", "c1"), &with("A", "c1")), Content::AsDeployed);
        assert_eq!(Content::compare(&with("A", "c0"), &with("A", "c1")), Content::OtherReferences);
        assert_eq!(Content::compare(&with("B", "c1"), &with("A", "c1")), Content::Differs);
        assert!(!is_too_much(&vec![Drift::StaleReferences { key: "a".parse().unwrap() }; 9], 9));
    }

    #[test]
    fn a_credential_of_another_type_is_a_missing_one() {
        let mut other = observed(vec![info("w1", true)]);
        other.credentials[0].credential_type = "postgres".into();
        assert_eq!(kinds(managed(true, Content::AsDeployed), &other), ["missing_credential"]);
    }

    #[test]
    fn more_than_a_quarter_is_too_much_unless_it_is_a_thing_or_two() {
        let drifts = |count: usize| vec![Drift::MissingWorkflow { key: "a".parse().unwrap() }; count];
        assert!(!is_too_much(&drifts(2), 2));
        assert!(!is_too_much(&drifts(3), 12));
        assert!(is_too_much(&drifts(4), 12));
        assert!(!is_too_much(&vec![Drift::UnmanagedWorkflow { id: "x".into() }; 50], 4));
    }
}
