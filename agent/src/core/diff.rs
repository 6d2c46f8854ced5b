//! Desired state vs. observed state -> what differs. Content counts, never timestamps or counters of n8n.

use std::collections::BTreeMap;

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
    /// A workflow that nobody manages: the tenant's own. Reported, never touched.
    UnmanagedWorkflow {
        /// n8n's id.
        id: String,
    },
}

impl Drift {
    /// Whether it is a difference that a repair would mend.
    pub fn is_repairable(&self) -> bool {
        !matches!(self, Self::UnmanagedWorkflow { .. })
    }
}

/// A workflow as it should be.
#[derive(Clone, Debug, PartialEq)]
pub struct Desired {
    /// The journal's row.
    pub row: WorkflowRow,
    /// The body that n8n is to hold; `None` where the journal cannot tell any more.
    pub body: Option<Value>,
}

/// n8n as it is.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Observed {
    /// Every credential.
    pub credentials: Vec<CredentialInfo>,
    /// Every workflow.
    pub workflows: Vec<WorkflowInfo>,
    /// The content of the managed ones, by n8n's id.
    pub bodies: BTreeMap<String, Value>,
}

/// Everything that differs, in a fixed order: what others need comes first.
pub fn diff(credentials: &[CredentialRow], workflows: &[Desired], observed: &Observed) -> Vec<Drift> {
    let mut drifts = Vec::new();
    for row in credentials {
        let there =
            |info: &&CredentialInfo| info.id == row.n8n_id && info.credential_type == row.credential_type.as_str();
        if !observed.credentials.iter().any(|info| there(&info)) {
            drifts.push(Drift::MissingCredential { name: row.name.clone() });
        }
    }
    for desired in workflows {
        let key = desired.row.key.clone();
        let Some(info) = observed.workflows.iter().find(|info| info.id == desired.row.n8n_id) else {
            drifts.push(Drift::MissingWorkflow { key });
            continue;
        };
        let differs = match (&desired.body, observed.bodies.get(&info.id)) {
            (Some(wanted), Some(actual)) => !workflow::holds(actual, wanted),
            (Some(_) | None, _) => false,
        };
        // An older version may run while the draft is as deployed; that is a difference too.
        let pinned = info.active && info.active_version_id.is_some() && info.active_version_id != info.version_id;
        let references_only = match (&desired.body, observed.bodies.get(&info.id)) {
            (Some(wanted), Some(actual)) if differs => workflow::holds_but_for_credentials(actual, wanted),
            (Some(_) | None, _) => false,
        };
        if references_only {
            drifts.push(Drift::StaleReferences { key: key.clone() });
        } else if differs || pinned {
            drifts.push(Drift::ModifiedWorkflow { key: key.clone() });
        }
        match (info.active, desired.row.active) {
            (true, false) => drifts.push(Drift::UnexpectedActive { key }),
            (false, true) => drifts.push(Drift::UnexpectedInactive { key }),
            (true, true) | (false, false) => {}
        }
    }
    let managed = |info: &&WorkflowInfo| workflows.iter().any(|desired| desired.row.n8n_id == info.id);
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
    fn body(name: &str) -> Value {
        json!({"name": name, "nodes": [], "connections": {}, "settings": {}})
    }
    fn desired(active: bool) -> Desired {
        let row = WorkflowRow {
            key: "a".parse().unwrap(),
            n8n_id: "w1".into(),
            source: Source { bundle: 1, command: 1 },
            active,
        };
        Desired { row, body: Some(body("A")) }
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
    fn observed(workflows: Vec<WorkflowInfo>, held: &str) -> Observed {
        let credentials =
            vec![CredentialInfo { id: "c1".into(), name: "genesis/mail".into(), credential_type: "smtp".into() }];
        Observed { credentials, workflows, bodies: BTreeMap::from([("w1".to_owned(), body(held))]) }
    }
    fn kinds(workflows: &[Desired], observed: &Observed) -> Vec<String> {
        let drifts = diff(&[credential()], workflows, observed);
        drifts.iter().map(|d| serde_json::to_value(d).unwrap()["kind"].as_str().unwrap().to_owned()).collect()
    }

    #[test]
    fn nothing_differs_where_all_is_as_deployed() {
        assert!(kinds(&[desired(true)], &observed(vec![info("w1", true)], "A")).is_empty());
    }

    #[test]
    fn names_every_kind_of_difference() {
        let gone = Observed::default();
        assert_eq!(kinds(&[desired(true)], &gone), ["missing_credential", "missing_workflow"]);
        let modified = observed(vec![info("w1", true), info("w2", true)], "B");
        assert_eq!(kinds(&[desired(true)], &modified), ["modified_workflow", "unmanaged_workflow"]);
        assert_eq!(kinds(&[desired(false)], &observed(vec![info("w1", true)], "A")), ["unexpected_active"]);
        assert_eq!(kinds(&[desired(true)], &observed(vec![info("w1", false)], "A")), ["unexpected_inactive"]);
        let mut pinned = info("w1", true);
        pinned.active_version_id = Some("v1".into());
        assert_eq!(kinds(&[desired(true)], &observed(vec![pinned], "A")), ["modified_workflow"]);
    }

    #[test]
    fn other_credentials_alone_are_stale_references() {
        let with = |id: &str| {
            let node = json!({"name": "N", "credentials": {"smtp": {"id": id, "name": "genesis/mail"}}});
            json!({"name": "A", "nodes": [node], "connections": {}, "settings": {}})
        };
        let wanted = Desired { body: Some(with("c1")), ..desired(true) };
        let mut actual = observed(vec![info("w1", true)], "A");
        actual.bodies.insert("w1".into(), with("c0"));
        assert_eq!(kinds(&[wanted], &actual), ["stale_references"]);
        assert!(!is_too_much(&vec![Drift::StaleReferences { key: "a".parse().unwrap() }; 9], 9));
    }

    #[test]
    fn a_credential_of_another_type_is_a_missing_one() {
        let mut other = observed(vec![info("w1", true)], "A");
        other.credentials[0].credential_type = "postgres".into();
        assert_eq!(kinds(&[desired(true)], &other), ["missing_credential"]);
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
