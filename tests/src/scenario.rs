//! One scenario per kind of command: what is there before, what is asked, what must be there after.

mod stack;
pub mod update;

use genesis_agent::sim::n8n::{Answer, CHANGE, Fault, Kind};
use genesis_shared::command::{Action, Class, CommandWire};
use genesis_shared::id::{CredentialName, CredentialType};
use genesis_shared::report::OutcomeState;
use genesis_shared::secret::Secret;
use genesisctl::sealing::{self, Recipient};
use serde_json::{Value, json};

use crate::droplet::{Droplet, wait_for};
use crate::operator::random;
use crate::proofs::Wrong;

/// What a droplet's n8n holds, as far as a tenant would notice: (name, secret value) and (name, active, path of its
/// webhook).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// Sorted, doubles kept.
    pub credentials: Vec<(String, String)>,
    /// Sorted, doubles kept.
    pub workflows: Vec<(String, bool, String)>,
}

/// A command in its surroundings.
pub struct Scenario {
    /// For messages.
    pub name: String,
    /// What it covers.
    pub actions: Vec<String>,
    /// How it ends.
    pub outcome: OutcomeState,
    /// Whether pairs of crashes are enumerated too.
    pub is_small: bool,
    /// Whether the droplet still has to enrol.
    pub is_new: bool,
    /// Whether it plays on an n8n that cannot update credentials (before 2.7).
    pub is_old_n8n: bool,
    /// Whether the new version of the agent does not prove itself.
    pub is_rejected: bool,
    /// The host names beside the configured one, before and after; `None` on a droplet without a stack.
    pub hosts: Option<[&'static [&'static str]; 2]>,
    stack: Option<stack::Story>,
    earlier: fn(Recipient) -> Vec<CommandWire>,
    asked: fn(Recipient) -> Vec<CommandWire>,
    after: fn() -> Held,
}

impl Scenario {
    /// Brings the droplet to where the scenario begins and answers what n8n holds there.
    pub async fn prepare(&self, droplet: &Droplet) -> Before {
        if self.is_new {
            return Before::of(droplet);
        }
        droplet.outside.n8n.borrow_mut().n8n.config.credentials_update = !self.is_old_n8n;
        // One life for all of it: this is played some ten thousand times.
        let scene = async {
            self.prepare_stack(droplet).await;
            let key = wait_for(|| async { droplet.outside.hub.enrolled() }).await.sealing_key;
            let earlier = (self.earlier)(Recipient { workspace: droplet.workspace, key });
            if !earlier.is_empty() {
                let result = droplet.result(droplet.push(earlier)).await;
                assert_eq!(result.state, OutcomeState::Succeeded, "{}: {}", self.name, result.message);
            }
        };
        droplet.while_running(scene).await;
        Before::of(droplet)
    }

    /// What is asked.
    pub async fn commands(&self, droplet: &Droplet) -> Vec<CommandWire> {
        self.commands_to(if self.is_new { nobody() } else { recipient(droplet).await })
    }

    /// What is asked of this recipient.
    pub fn commands_to(&self, recipient: Recipient) -> Vec<CommandWire> {
        let mut commands = (self.asked)(recipient);
        // An update is alone in its bundle, and fails by itself.
        if self.outcome == OutcomeState::Failed && self.stack.is_none() && !self.is_rejected {
            commands.push(refused(recipient));
        }
        commands
    }

    /// What was asked of this recipient before the scenario begins.
    pub fn earlier(&self, recipient: Recipient) -> Vec<CommandWire> {
        (self.earlier)(recipient)
    }

    /// What n8n holds after it has succeeded.
    pub fn after(&self) -> Held {
        (self.after)()
    }

    /// The same with one more command at its end, which n8n refuses for good: all of it is taken back. `None` if it
    /// changes nothing, or what cannot be taken back.
    pub fn spoiled(&self) -> Option<Self> {
        let is =
            |class| self.actions.iter().any(|name| name.parse().is_ok_and(|action: Action| action.class() == class));
        (self.stack.is_none() && is(Class::Change) && !is(Class::Destroy)).then(|| Self {
            name: format!("{}, taken back", self.name),
            actions: self.actions.clone(),
            outcome: OutcomeState::Failed,
            ..*self
        })
    }

    /// Checks what n8n holds in the end.
    ///
    /// # Errors
    /// It is not what it should be.
    pub fn check(&self, droplet: &Droplet, before: &Before, what: &str) -> Result<(), Wrong> {
        let expected = match self.outcome {
            OutcomeState::Succeeded => (self.after)(),
            OutcomeState::Failed | OutcomeState::Rejected | OutcomeState::Expired | OutcomeState::Stuck => {
                before.held.clone()
            }
        };
        let held = held(droplet);
        if held.has_doubles() {
            return Err(Wrong::Doubled(format!("{what}: {held:?}")));
        }
        if held != expected {
            return Err(Wrong::Lost(format!("{what}: {held:?} in place of {expected:?}")));
        }
        self.check_hosts(droplet, what)?;
        self.check_stack(droplet, &before.stack, what)?;
        self.check_agent(droplet, what)?;
        match droplet.outside.n8n.borrow().n8n.api_keys.len() {
            0 | 1 => Ok(()),
            keys => Err(Wrong::Doubled(format!("{what}: {keys} API keys"))),
        }
    }

    /// Whether it is about the stack.
    pub fn needs_stack(&self) -> bool {
        self.hosts.is_some() || self.stack.is_some()
    }

    /// A droplet on which it can be played.
    pub fn droplet(&self) -> Droplet {
        if self.stack.is_some() {
            let droplet = Droplet::with_engine(7);
            self.offer_images(&droplet);
            return droplet;
        }
        let droplet = if self.hosts.is_some() { Droplet::with_stack(7) } else { Droplet::new(7) };
        if self.is_rejected {
            droplet.outside.slots.reject("scripted");
        }
        droplet
    }

    /// The proxy serves the host names that it should, and would after a restart.
    fn check_hosts(&self, droplet: &Droplet, what: &str) -> Result<(), Wrong> {
        let Some([before, after]) = self.hosts else { return Ok(()) };
        let expected = if self.outcome == OutcomeState::Succeeded { after } else { before };
        let expected: Vec<&str> = [droplet.host()].into_iter().chain(expected.iter().copied()).collect();
        let proxy = &droplet.outside.proxy;
        for config in [proxy.running(), proxy.kept()] {
            let hosts = &config["apps"]["tls"]["automation"]["policies"][0]["subjects"];
            if *hosts != json!(expected) {
                return Err(Wrong::Lost(format!("{what}: {hosts} in place of {expected:?}")));
            }
        }
        Ok(())
    }

    /// Refuses each changing request of the scenario for good, one after the other, with each undo disturbed
    /// `disturbances - 1` times: the command fails, and n8n holds what it held before.
    pub async fn every_failure_unwinds(&self, disturbances: u32) {
        let droplet = self.droplet();
        let before = self.prepare(&droplet).await;
        let commands = self.commands(&droplet).await;
        let requests = || {
            let standin = droplet.outside.n8n.borrow();
            ["POST", "PUT", "PATCH"].map(|method| standin.count_prefix(method, "/api/v1/")).iter().sum::<u64>()
        };
        let earlier = requests();
        let counted = droplet.run(commands).await;
        assert_eq!(counted.state, OutcomeState::Succeeded, "{}: {}", self.name, counted.message);
        for n in 0..requests() - earlier {
            self.refuse_nth(n, disturbances, &before).await;
        }
    }

    async fn refuse_nth(&self, n: u64, disturbances: u32, before: &Before) {
        let droplet = self.droplet();
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
        assert_eq!(held(&droplet), before.held, "{what}");
    }
}

/// What is there before a scenario.
pub struct Before {
    held: Held,
    stack: stack::Stack,
}

impl Before {
    fn of(droplet: &Droplet) -> Self {
        Self { held: held(droplet), stack: stack::stack(droplet) }
    }
}

impl Held {
    /// The same without the credentials' values, which n8n shows to nobody.
    #[must_use]
    pub fn without_values(mut self) -> Self {
        self.credentials.iter_mut().for_each(|(_, value)| value.clear());
        self
    }

    /// Whether any name is there twice.
    pub fn has_doubles(&self) -> bool {
        // They are sorted.
        let doubles = |names: Vec<&String>| names.windows(2).any(|pair| pair[0] == pair[1]);
        doubles(self.credentials.iter().map(|(name, _)| name).collect())
            || doubles(self.workflows.iter().map(|(name, ..)| name).collect())
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
        let path = |nodes: &Value| nodes[0]["parameters"]["path"].as_str().unwrap_or_default().to_owned();
        let runs = w.active_version().map_or(&w.nodes, |version| &version.nodes);
        let path = runs_and_shown(path(runs), path(&w.nodes));
        (w.name.clone(), w.active_version_id.is_some(), path)
    });
    let (mut credentials, mut workflows): (Vec<_>, Vec<_>) = (credentials.collect(), workflows.collect());
    credentials.sort();
    workflows.sort();
    Held { credentials, workflows }
}

/// The path under which a workflow runs; what the editor shows of it must be the same.
pub fn runs_and_shown(runs: String, shown: String) -> String {
    if runs == shown { runs } else { format!("{runs}, shown as {shown}") }
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

/// A credential that n8n refuses: its type has no such field.
fn refused(recipient: Recipient) -> CommandWire {
    let (name, kind): (CredentialName, CredentialType) = ("bad".parse().unwrap(), "httpHeaderAuth".parse().unwrap());
    let data = Secret::new(json!({"no-such-field": "x"}).to_string().into_bytes());
    sealing::credential(recipient, &name, &kind, &data, random()).unwrap()
}

/// A recipient for commands that are only looked at, or that carry nothing sealed.
fn nobody() -> Recipient {
    let workspace = genesis_shared::id::WorkspaceId::from_random([0; 16]);
    let key = genesis_shared::seal::SealingKey::from_private(Secret::new([7; 32])).unwrap().public();
    Recipient { workspace, key }
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

/// The workflow `hook` with this webhook path, bound to the credential `key`.
pub fn deploy(path: &str) -> CommandWire {
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

/// That workflow as [`Held`] shows it.
pub fn hook_held(active: bool, path: &str) -> Vec<(String, bool, String)> {
    vec![("Hook".into(), active, path.into())]
}

/// A tenant with one credential and one active workflow that uses it.
pub fn small_tenant(recipient: Recipient) -> Vec<CommandWire> {
    vec![inject(recipient, "one"), deploy("one"), activate()]
}

/// One for each kind of undo, and for each thing that it finds: nothing, an older one, an active one.
const TAKEN_BACK_IN_PAIRS: [&str; 7] = [
    "host names, taken back",
    "a first credential, taken back",
    "new data for a credential, taken back",
    "a first workflow, taken back",
    "an update of an active workflow, taken back",
    "a deactivation, taken back",
    "a rotation where n8n cannot update credentials, taken back",
];

/// Every scenario, and every one that can be taken back once more with a failure at its end.
pub fn scenarios() -> Vec<Scenario> {
    let mut scenarios = good_scenarios();
    let mut spoiled: Vec<Scenario> = scenarios.iter().filter_map(Scenario::spoiled).collect();
    // The others take back in the same ways, and have far more pairs; `genesis-bench crash-proofs --all-pairs` has them.
    spoiled.iter_mut().for_each(|scenario| scenario.is_small = TAKEN_BACK_IN_PAIRS.contains(&scenario.name.as_str()));
    scenarios.extend(spoiled);
    scenarios.extend(stack::scenarios());
    scenarios.push(update::taken_back());
    scenarios
}

fn scenario(
    name: &str,
    is_small: bool,
    earlier: fn(Recipient) -> Vec<CommandWire>,
    asked: fn(Recipient) -> Vec<CommandWire>,
    after: fn() -> Held,
) -> Scenario {
    // The actions are read off the commands.
    let actions = asked(nobody()).into_iter().map(|command| command.action).collect();
    let (name, outcome) = (name.to_owned(), OutcomeState::Succeeded);
    let (is_new, is_old_n8n, is_rejected, hosts, stack) = (false, false, false, None, None);
    Scenario { name, actions, outcome, is_small, is_new, is_old_n8n, is_rejected, hosts, stack, earlier, asked, after }
}

/// The scenarios that succeed.
pub fn good_scenarios() -> Vec<Scenario> {
    let look = |name: &str| {
        scenario(
            name,
            true,
            |_| vec![],
            |_| vec![command("HEALTH_CHECK", json!({}))],
            || Held { credentials: vec![], workflows: vec![] },
        )
    };
    vec![
        Scenario { is_new: true, ..look("an enrolment and a look") },
        scenario(
            "a first credential",
            true,
            |_| vec![command("HEALTH_CHECK", json!({}))],
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
            true,
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
            |_| vec![command("HEALTH_CHECK", json!({}))],
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
            true,
            |r| vec![inject(r, "one"), deploy("one"), activate()],
            |_| ["LIST_STATE", "VERIFY", "COLLECT_METRICS"].map(|action| command(action, json!({}))).into(),
            || Held { credentials: key_held("one"), workflows: hook_held(true, "one") },
        ),
        Scenario {
            hosts: Some([&["b.example"], &["a.example"]]),
            ..scenario(
                "host names",
                true,
                |_| vec![command("ADD_TRACKING_DOMAIN", json!({"hosts": ["b.example"], "primary": "b.example"}))],
                |_| {
                    vec![
                        command("ADD_TRACKING_DOMAIN", json!({"hosts": ["a.example"], "primary": "a.example"})),
                        command("REMOVE_TRACKING_DOMAIN", json!({"hosts": ["b.example"]})),
                    ]
                },
                Held::default,
            )
        },
        Scenario {
            hosts: Some([&["b.example"], &["a.example"]]),
            ..scenario(
                "a desired state with host names",
                true,
                |_| vec![command("ADD_TRACKING_DOMAIN", json!({"hosts": ["b.example"]}))],
                |_| vec![command("APPLY_STATE", json!({"generation": 1, "domains": {"hosts": ["a.example"]}}))],
                Held::default,
            )
        },
        update::good(),
        scenario(
            "a whole tenant at once",
            false,
            // Here it is the commands that first make an owner and a key in n8n.
            |_| vec![],
            |r| vec![inject(r, "one"), deploy("one"), activate(), command("HEALTH_CHECK", json!({}))],
            || Held { credentials: key_held("one"), workflows: hook_held(true, "one") },
        ),
    ]
}
