//! `kill -9` of agent and hub at random moments of every scenario, over a running n8n: what was lost, what is there
//! twice, and how long the agent takes to come back.

use std::collections::BTreeSet;
use std::time::Duration;

use genesis_shared::command::{Action, CommandError, CommandWire};
use genesis_shared::id::JobId;
use genesis_shared::report::{CommandResult, OutcomeState};
use genesisctl::sealing::Recipient;
use serde_json::{Value, json};

use crate::PATIENCE;
use crate::operator::now;
use crate::proofs::Wrong;
use crate::rig::Rig;
use crate::scenario::{Held, Scenario, runs_and_shown, scenarios};
use crate::until;

/// Kills of one bundle at most: the hub hands a bundle out five times, and each kill may cost it one.
const KILLS_PER_BUNDLE_MAX: u64 = 4;

/// How often every scenario is played at most, should an action never be met by a kill.
const CYCLES_MAX: usize = 12;

/// A small generator whose seed is printed, so that a run can be repeated.
pub struct Dice(pub u64);

impl Dice {
    /// A number below this.
    pub fn roll(&mut self, below: u64) -> u64 {
        // SplitMix64 (Steele, Lea, Flood 2014).
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % below
    }
}

/// What a run came to.
#[derive(Debug, Default)]
pub struct Figures {
    /// Kills, each while a bundle was open.
    pub kills: u32,
    /// Of them, kills of the hub.
    pub hub_kills: u32,
    /// Bundles that were pushed.
    pub bundles: u32,
    /// Bundles without an outcome, or without its effect.
    pub lost: u32,
    /// Bundles after which something was there twice.
    pub doubled: u32,
    /// Longest time from a start of the agent until the hub heard of it, in milliseconds.
    pub recovery_ms_max: u64,
    /// Actions that were open at a kill.
    pub actions: BTreeSet<String>,
    /// What was wrong, for people.
    pub wrongs: Vec<Wrong>,
}

/// Whether an action can be carried out in the process rig: without a stack, and without the launcher that an update of
/// the agent needs. What needs these the crash proofs cut off at every point, and `genesis-bench swap --failures` and
/// `genesis-bench self-update` where they are real.
fn is_of_the_rig(action: Action) -> bool {
    !action.needs_stack() && action != Action::UpdateAgent
}

/// Every action that this version carries out there.
pub fn supported_actions() -> BTreeSet<String> {
    let is_supported = |action: &&Action| {
        let wire = CommandWire { action: action.name().into(), payload: None };
        is_of_the_rig(**action) && !matches!(wire.parse(), Err(CommandError::Unsupported(_)))
    };
    Action::ALL.iter().filter(is_supported).map(|action| action.name().to_owned()).collect()
}

/// Who kills.
pub struct Killer {
    rig: Rig,
    dice: Dice,
    wanted: u32,
    generation: u64,
    recipient: Recipient,
    figures: Figures,
}

impl Killer {
    /// Over a scene whose n8n holds nothing yet.
    ///
    /// # Errors
    /// It holds something.
    pub async fn new(rig: Rig, seed: u64, kills: u32) -> Result<Self, String> {
        let key = rig.enrolled().await.sealing_key.unwrap();
        let recipient = Recipient { workspace: rig.workspace, key };
        let (dice, figures) = (Dice(seed), Figures::default());
        let mut killer = Self { rig, dice, wanted: kills, generation: 0, recipient, figures };
        // The first look makes the agent's key to n8n.
        let look = CommandWire { action: Action::HealthCheck.name().into(), payload: None };
        killer.ask(vec![look], 0).await.ok_or("the first look has no outcome")?;
        match killer.held().await {
            held if held == Held::default() => Ok(killer),
            held => Err(format!("n8n has to be a fresh one, this one holds {held:?}")),
        }
    }

    /// Plays every scenario again and again until there were enough kills and every action has met one.
    pub async fn run(mut self) -> Figures {
        let mut scenarios = scenarios();
        scenarios.retain(|scenario| {
            let fits = scenario.actions.iter().all(|name| name.parse().is_ok_and(is_of_the_rig));
            fits && !scenario.is_new && !scenario.is_old_n8n && !scenario.needs_stack()
        });
        let first = usize::try_from(self.dice.roll(scenarios.len() as u64)).unwrap();
        for scenario in scenarios.iter().cycle().skip(first).take(CYCLES_MAX * scenarios.len()) {
            let is_met = scenario.actions.iter().all(|action| self.figures.actions.contains(action));
            if self.figures.kills < self.wanted || !is_met {
                self.round(scenario, scenarios.len()).await;
            } else if supported_actions().is_subset(&self.figures.actions) {
                break;
            }
        }
        self.figures
    }

    async fn round(&mut self, scenario: &Scenario, scenarios: usize) {
        self.clear().await;
        // Where kills are scarce they are for the scenarios themselves.
        let many = self.wanted.saturating_sub(self.figures.kills) as usize > 2 * scenarios;
        let kills = if many { self.dice.roll(2) } else { 0 };
        let earlier = scenario.earlier(self.recipient);
        if !earlier.is_empty() {
            self.ask(earlier, kills).await;
        }
        let before = self.held().await;
        let kills = 1 + self.dice.roll(KILLS_PER_BUNDLE_MAX);
        let Some(result) = self.ask(scenario.commands_to(self.recipient), kills).await else { return };
        let what = format!("{} after {} kills", scenario.name, self.figures.kills);
        if result.state != scenario.outcome {
            let why = format!("{what}: {:?}, {}: {}", result.state, result.code, result.message);
            return self.note(Wrong::Lost(why));
        }
        let expected = if result.state == OutcomeState::Succeeded { scenario.after().without_values() } else { before };
        let held = self.held().await;
        self.compare(&held, &expected, &what);
    }

    /// Deletes everything that the agent says it manages; then nothing may be left.
    async fn clear(&mut self) {
        let list = CommandWire { action: Action::ListState.name().into(), payload: None };
        let Some(listed) = self.ask(vec![list], 0).await else { return };
        let of = |kind: &str| listed.output[0][kind].as_array().cloned().unwrap_or_default();
        let delete = |action: Action, payload| CommandWire { action: action.name().into(), payload: Some(payload) };
        let workflows = of("workflows").into_iter().map(|w| delete(Action::DeleteWorkflow, json!({"key": w["key"]})));
        let credentials =
            of("credentials").into_iter().map(|c| delete(Action::DeleteCredential, json!({"name": c["name"]})));
        let commands: Vec<CommandWire> = workflows.chain(credentials).collect();
        if !commands.is_empty() {
            self.ask(commands, 0).await;
        }
        let held = self.held().await;
        self.compare(&held, &Held::default(), "cleared");
    }

    /// Pushes commands, kills up to so many times while they are open, and waits for their outcome.
    async fn ask(&mut self, mut commands: Vec<CommandWire>, kills: u64) -> Option<CommandResult> {
        for command in commands.iter_mut().filter(|command| command.action == Action::ApplyState.name()) {
            self.generation += 1;
            command.payload.as_mut().unwrap()["generation"] = self.generation.into();
        }
        let actions: Vec<String> = commands.iter().map(|command| command.action.clone()).collect();
        let bundle = self.rig.operator.ask(self.rig.workspace, commands, now());
        // A hub that was killed a moment ago may have to be asked twice; it takes the same bundle for the same.
        let push = || async { Some(self.rig.client.push(bundle.as_bytes()).await.ok()?.job_ids[0]) };
        let job = until("the hub to take a bundle", push).await;
        self.figures.bundles += 1;
        let is_new = actions.iter().any(|action| !self.figures.actions.contains(action));
        for _ in 0..kills.max(u64::from(is_new)).min(KILLS_PER_BUNDLE_MAX) {
            // Early more often than late: most of what can be cut short is short.
            let longest_ms = 1 << self.dice.roll(10);
            tokio::time::sleep(Duration::from_millis(self.dice.roll(longest_ms))).await;
            if self.outcome(job).await.is_some() {
                break;
            }
            self.figures.actions.extend(actions.iter().cloned());
            self.kill().await;
        }
        let waited = tokio::time::timeout(PATIENCE, async {
            loop {
                if let Some(result) = self.outcome(job).await {
                    return result;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        });
        match waited.await {
            Ok(result) => Some(result),
            Err(_) => {
                let log = self.rig.agent.log();
                let end = log.len().saturating_sub(2000);
                self.note(Wrong::Lost(format!("{actions:?}: no outcome\n{}", log.get(end..).unwrap_or_default())));
                None
            }
        }
    }

    /// The outcome, if there is one and the hub answers.
    async fn outcome(&self, job: JobId) -> Option<CommandResult> {
        self.rig.client.job(job).await.ok()?.result
    }

    async fn kill(&mut self) {
        self.figures.kills += 1;
        if self.dice.roll(3) == 0 {
            self.figures.hub_kills += 1;
            return self.rig.crash_hub().await;
        }
        let restarted_at = now();
        self.rig.crash_agent();
        // Now and then the next kill comes while it is still starting.
        if self.dice.roll(2) == 0 {
            return;
        }
        let heard = tokio::time::timeout(PATIENCE, async {
            loop {
                let view = self.rig.client.droplet(&self.rig.droplet).await;
                let heard_at = view.ok().and_then(|view| view.last_seen_at).filter(|at| *at > restarted_at);
                if let Some(heard_at) = heard_at {
                    return heard_at.millis_since(restarted_at).unsigned_abs();
                }
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        });
        match heard.await {
            Ok(recovery_ms) => self.figures.recovery_ms_max = self.figures.recovery_ms_max.max(recovery_ms),
            Err(_) => self.note(Wrong::Lost("the agent did not come back".into())),
        }
    }

    async fn held(&self) -> Held {
        let content = self.rig.n8n.content(&self.rig.n8n_key()).await;
        let name = |item: &Value| item["name"].as_str().unwrap_or_default().to_owned();
        let mut credentials: Vec<_> = content.credentials.iter().map(|c| (name(c), String::new())).collect();
        let path = |nodes: &Value| nodes[0]["parameters"]["path"].as_str().unwrap_or_default().to_owned();
        let workflow = |w: &Value| {
            let is_active = w["active"] == true;
            let runs = if is_active { &w["activeVersion"]["nodes"] } else { &w["nodes"] };
            (name(w), is_active, runs_and_shown(path(runs), path(&w["nodes"])))
        };
        let mut workflows: Vec<_> = content.workflows.iter().map(workflow).collect();
        credentials.sort();
        workflows.sort();
        Held { credentials, workflows }
    }

    fn compare(&mut self, held: &Held, expected: &Held, what: &str) {
        if held.has_doubles() {
            self.note(Wrong::Doubled(format!("{what}: {held:?}")));
        } else if held != expected {
            self.note(Wrong::Lost(format!("{what}: {held:?} in place of {expected:?}")));
        }
    }

    fn note(&mut self, wrong: Wrong) {
        match wrong {
            Wrong::Lost(_) => self.figures.lost += 1,
            Wrong::Doubled(_) => self.figures.doubled += 1,
        }
        self.figures.wrongs.push(wrong);
    }
}
