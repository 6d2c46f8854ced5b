//! One scenario per kind of command: what is there before, what is asked, what must be there after.

use genesis_agent::sim::n8n::{Answer, CHANGE, Fault, Kind};
use genesis_shared::command::CommandWire;
use genesis_shared::id::{CredentialName, CredentialType};
use genesis_shared::report::OutcomeState;
use genesis_shared::secret::Secret;
use genesisctl::sealing::{self, Recipient};
use serde_json::{Value, json};

use crate::droplet::Droplet;
use crate::operator::random;

/// What a droplet's n8n holds, as far as a tenant would notice: (name, secret value) and (name, active, path of its
/// webhook).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// Sorted, doubles kept.
    pub credentials: Vec<(String, String)>,
    /// Sorted, doubles kept.
    pub workflows: Vec<(String, bool, String)>,
}

/// A command in its surroundings.
pub struct Scenario {
    /// For messages.
    pub name: &'static str,
    /// What it covers.
    pub actions: Vec<String>,
    /// How it ends.
    pub outcome: OutcomeState,
    /// Whether pairs of crashes are enumerated too.
    pub is_small: bool,
    /// Whether it plays on an n8n that cannot update credentials (before 2.7).
    pub is_old_n8n: bool,
    earlier: fn(Recipient) -> Vec<CommandWire>,
    asked: fn(Recipient) -> Vec<CommandWire>,
    after: fn() -> Held,
}

impl Scenario {
    /// Brings the droplet to where the scenario begins and answers what n8n holds there.
    pub async fn prepare(&self, droplet: &Droplet) -> Held {
        droplet.outside.n8n.borrow_mut().n8n.config.credentials_update = !self.is_old_n8n;
        let recipient = recipient(droplet).await;
        let earlier = (self.earlier)(recipient);
        if !earlier.is_empty() {
            let result = droplet.run(earlier).await;
            assert_eq!(result.state, OutcomeState::Succeeded, "{}: {}", self.name, result.message);
        }
        held(droplet)
    }

    /// What is asked.
    pub async fn commands(&self, droplet: &Droplet) -> Vec<CommandWire> {
        (self.asked)(recipient(droplet).await)
    }

    /// Checks what n8n holds in the end.
    pub fn check(&self, droplet: &Droplet, before: &Held, what: &str) {
        let expected = match self.outcome {
            OutcomeState::Succeeded => (self.after)(),
            OutcomeState::Failed | OutcomeState::Rejected | OutcomeState::Expired | OutcomeState::Stuck => {
                before.clone()
            }
        };
        assert_eq!(held(droplet), expected, "{what}");
    }

    /// Refuses each changing request of the scenario for good, one after the other, with each undo disturbed
    /// `disturbances - 1` times: the command fails, and n8n holds what it held before.
    pub async fn every_failure_unwinds(&self, disturbances: u32) {
        let mut n = 0;
        loop {
            let droplet = Droplet::new(7);
            let before = self.prepare(&droplet).await;
            let commands = self.commands(&droplet).await;
            let changing = ["POST", "PUT", "PATCH"];
            let requests = |droplet: &Droplet| {
                let standin = droplet.outside.n8n.borrow();
                changing.map(|method| standin.count_prefix(method, "/api/v1/")).iter().sum::<u64>()
            };
            let earlier = requests(&droplet);
            let counted = droplet.run(commands).await;
            assert_eq!(counted.state, OutcomeState::Succeeded);
            let total = requests(&droplet) - earlier;
            if n == total {
                break;
            }
            self.refuse_nth(n, disturbances, &before).await;
            n += 1;
        }
    }

    async fn refuse_nth(&self, n: u64, disturbances: u32, before: &Held) {
        let droplet = Droplet::new(7);
        self.prepare(&droplet).await;
        let commands = self.commands(&droplet).await;
        let refusal = Kind::Answer(Answer::json(400, &json!({"message": "refused for the test"})));
        let push = |fault| droplet.outside.n8n.borrow_mut().faults.push(fault);
        push(Fault::nth(u32::try_from(n + 1).unwrap(), CHANGE, "/api/v1/", refusal));
        for _ in 1..disturbances {
            push(Fault::once("DELETE", "/api/v1/", Kind::DropAfter));
            push(Fault::once("POST", "/api/v1/workflows/", Kind::DropAfter));
        }
        let result = droplet.run(commands).await;
        let what = format!("{}: change {n} refused", self.name);
        assert_eq!(result.state, OutcomeState::Failed, "{what}: {}", result.message);
        assert_eq!(result.code, "n8n_refused", "{what}: it failed there");
        assert_eq!(&held(&droplet), before, "{what}");
    }
}

/// Whom to seal to.
pub async fn recipient(droplet: &Droplet) -> Recipient {
    Recipient { workspace: droplet.workspace, key: droplet.sealing_key().await }
}

/// What n8n holds.
pub fn held(droplet: &Droplet) -> Held {
    let standin = droplet.outside.n8n.borrow();
    let credentials = standin.n8n.credentials.iter().map(|c| {
        let value = c.data.get("value").and_then(Value::as_str).unwrap_or_default();
        (c.name.clone(), value.to_owned())
    });
    let workflows = standin.n8n.workflows.iter().map(|w| {
        // What runs is what the tenant notices; what is not active is compared by its draft.
        let nodes = match w.active_version() {
            Some(version) => &version.nodes,
            None => &w.nodes,
        };
        let path = nodes[0]["parameters"]["path"].as_str().unwrap_or_default().to_owned();
        (w.name.clone(), w.active_version_id.is_some(), path)
    });
    let (mut credentials, mut workflows): (Vec<_>, Vec<_>) = (credentials.collect(), workflows.collect());
    credentials.sort();
    workflows.sort();
    Held { credentials, workflows }
}

fn command(action: &str, payload: Value) -> CommandWire {
    CommandWire { action: action.to_owned(), payload: Some(payload) }
}

/// The credential `key` with this secret value.
pub fn inject(recipient: Recipient, value: &str) -> CommandWire {
    let (name, kind): (CredentialName, CredentialType) = ("key".parse().unwrap(), "httpHeaderAuth".parse().unwrap());
    let data = Secret::new(json!({"name": "X-Key", "value": value}).to_string().into_bytes());
    sealing::credential(recipient, &name, &kind, &data, random()).unwrap()
}

/// A new secret value for it.
pub fn rotate(recipient: Recipient, value: &str) -> CommandWire {
    CommandWire { action: "ROTATE_CREDENTIAL".into(), ..inject(recipient, value) }
}

/// The small tenant as a desired state: this secret value, this webhook path.
pub fn apply(recipient: Recipient, generation: u64, value: &str, path: &str, active: bool) -> CommandWire {
    let mut workflow = deploy(path).payload.unwrap();
    workflow["active"] = json!(active);
    let credential = inject(recipient, value).payload.unwrap();
    let payload = json!({"generation": generation, "credentials": [credential], "workflows": [workflow]});
    command("APPLY_STATE", payload)
}

fn deploy(path: &str) -> CommandWire {
    let node = json!({
        "id": "11111111-1111-4111-8111-111111111111", "name": "Hook", "type": "n8n-nodes-base.webhook",
        "typeVersion": 2, "position": [0, 0], "webhookId": "hook",
        "parameters": {"path": path, "httpMethod": "POST", "authentication": "headerAuth"},
        "credentials": {"httpHeaderAuth": {"id": "TEMPLATE_KEY_UUID", "name": "TEMPLATE_KEY"}},
    });
    let workflow = json!({"name": "Hook", "nodes": [node], "connections": {}, "settings": {}});
    let payload = json!({"key": "hook", "workflow_json": workflow, "credential_map": {"TEMPLATE_KEY_UUID": "key"}});
    command("DEPLOY_WORKFLOW", payload)
}

fn activate() -> CommandWire {
    command("ACTIVATE_WORKFLOW", json!({"key": "hook"}))
}

fn key_held(value: &str) -> Vec<(String, String)> {
    vec![("genesis/key".into(), value.into())]
}
fn hook_held(active: bool, path: &str) -> Vec<(String, bool, String)> {
    vec![("Hook".into(), active, path.into())]
}

/// A tenant with one credential and one active workflow that uses it.
pub fn small_tenant(recipient: Recipient) -> Vec<CommandWire> {
    vec![inject(recipient, "one"), deploy("one"), activate()]
}

/// Every scenario.
pub fn scenarios() -> Vec<Scenario> {
    let scenario = |name, is_small, earlier, asked: fn(Recipient) -> Vec<CommandWire>, after| {
        // The actions are read off the commands; the key is of no interest for that.
        let workspace = genesis_shared::id::WorkspaceId::from_random([0; 16]);
        let key = genesis_shared::seal::SealingKey::from_private(Secret::new([7; 32])).unwrap().public();
        let actions = asked(Recipient { workspace, key }).into_iter().map(|command| command.action).collect();
        Scenario { name, actions, outcome: OutcomeState::Succeeded, is_small, is_old_n8n: false, earlier, asked, after }
    };
    vec![
        scenario(
            "a look",
            true,
            |_| vec![],
            |_| vec![command("HEALTH_CHECK", json!({}))],
            || Held { credentials: vec![], workflows: vec![] },
        ),
        scenario(
            "a first credential",
            true,
            |_| vec![],
            |r| vec![inject(r, "one")],
            || Held { credentials: key_held("one"), workflows: vec![] },
        ),
        scenario(
            "new data for a credential",
            true,
            |r| vec![inject(r, "one")],
            |r| vec![inject(r, "two")],
            || Held { credentials: key_held("two"), workflows: vec![] },
        ),
        scenario(
            "a first workflow",
            true,
            |r| vec![inject(r, "one")],
            |_| vec![deploy("one")],
            || Held { credentials: key_held("one"), workflows: hook_held(false, "one") },
        ),
        scenario(
            "an activation",
            true,
            |r| vec![inject(r, "one"), deploy("one")],
            |_| vec![activate()],
            || Held { credentials: key_held("one"), workflows: hook_held(true, "one") },
        ),
        scenario(
            "an update of an active workflow",
            true,
            |r| vec![inject(r, "one"), deploy("one"), activate()],
            |_| vec![deploy("two"), activate()],
            || Held { credentials: key_held("one"), workflows: hook_held(true, "two") },
        ),
        scenario(
            "an update by name",
            false,
            |r| vec![inject(r, "one"), deploy("one")],
            |_| vec![CommandWire { action: "UPDATE_WORKFLOW".into(), ..deploy("two") }],
            || Held { credentials: key_held("one"), workflows: hook_held(false, "two") },
        ),
        scenario(
            "a deactivation",
            true,
            |r| vec![inject(r, "one"), deploy("one"), activate()],
            |_| vec![command("DEACTIVATE_WORKFLOW", json!({"key": "hook"}))],
            || Held { credentials: key_held("one"), workflows: hook_held(false, "one") },
        ),
        scenario(
            "a deletion of everything",
            true,
            |r| vec![inject(r, "one"), deploy("one"), activate()],
            |_| {
                vec![
                    command("DELETE_WORKFLOW", json!({"key": "hook"})),
                    command("DELETE_CREDENTIAL", json!({"name": "key"})),
                ]
            },
            || Held { credentials: vec![], workflows: vec![] },
        ),
        scenario(
            "a rotation",
            true,
            small_tenant,
            |r| vec![rotate(r, "two")],
            || Held { credentials: key_held("two"), workflows: hook_held(true, "one") },
        ),
        Scenario {
            is_old_n8n: true,
            ..scenario(
                "a rotation where n8n cannot update credentials",
                true,
                small_tenant,
                |r| vec![rotate(r, "two")],
                || Held { credentials: key_held("two"), workflows: hook_held(true, "one") },
            )
        },
        scenario(
            "a first desired state",
            true,
            |_| vec![],
            |r| vec![apply(r, 1, "one", "one", true)],
            || Held { credentials: key_held("one"), workflows: hook_held(true, "one") },
        ),
        scenario(
            "a newer desired state",
            false,
            |r| vec![apply(r, 1, "one", "one", true)],
            |r| vec![apply(r, 2, "two", "two", false)],
            || Held { credentials: key_held("two"), workflows: hook_held(false, "two") },
        ),
        Scenario {
            is_old_n8n: true,
            ..scenario(
                "a newer desired state where n8n cannot update credentials",
                false,
                |r| vec![apply(r, 1, "one", "one", true)],
                |r| vec![apply(r, 2, "two", "two", true)],
                || Held { credentials: key_held("two"), workflows: hook_held(true, "two") },
            )
        },
        scenario(
            "three looks",
            false,
            |r| vec![inject(r, "one"), deploy("one"), activate()],
            |_| ["LIST_STATE", "VERIFY", "COLLECT_METRICS"].map(|action| command(action, json!({}))).into(),
            || Held { credentials: key_held("one"), workflows: hook_held(true, "one") },
        ),
        scenario(
            "a whole tenant at once",
            false,
            |_| vec![],
            |r| vec![inject(r, "one"), deploy("one"), activate(), command("HEALTH_CHECK", json!({}))],
            || Held { credentials: key_held("one"), workflows: hook_held(true, "one") },
        ),
    ]
}
