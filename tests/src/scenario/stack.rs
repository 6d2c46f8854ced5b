//! Commands for the stack, on a pretend engine: images that work, images that never do, and what must be there after.

use std::collections::BTreeMap;

use genesis_agent::core::stack::spec;
use genesis_agent::ports::Host;
use genesis_agent::ports::stack::{ContainerPhase, Database, Proxy};
use genesis_agent::sim::SimHost;
use genesis_agent::sim::engine::SimImage;
use genesis_shared::command::CommandWire;
use genesis_shared::report::OutcomeState;
use genesis_shared::stack::Service;
use serde_json::json;

use super::{Held, Scenario, command, hook_held, key_held, small_tenant};
use crate::droplet::{Droplet, image, wait_for};
use crate::proofs::Wrong;

/// What a stack is, as far as a tenant or an operator would notice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stack {
    /// Versions of the images of PostgreSQL, n8n and Caddy.
    pub versions: [u8; 3],
    /// Whether n8n runs; the others always do.
    pub n8n_runs: bool,
    /// Whether the journal says that n8n is to rest.
    pub rests: bool,
    /// Which n8n's tables the database has.
    pub schema: u64,
    /// What was written into the database.
    pub notes: Vec<String>,
    /// Whether a copy of the database is kept for a way back.
    pub has_copy: bool,
    /// Dumps of the database.
    pub dumps: usize,
    /// Images of n8n on the machine.
    pub images: usize,
}

/// What a scenario needs of the stack, and what it expects of it.
#[derive(Clone, Copy)]
pub struct Story {
    /// What happened to it before, without the agent.
    stage: Stage,
    /// What success leaves behind, made from what was there before.
    after: fn(&mut Stack),
}

/// What a stack is prepared for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Nothing.
    Plain,
    /// The second version of n8n is with the registry only.
    Away,
    /// The second version of this one ends as soon as it starts.
    Ends(Service),
    /// No n8n comes up on the second version of the database.
    Unfit,
    /// There is a dump, and something was written since.
    Dumped,
    /// The same, and the dump cannot be read to its end.
    BrokenDump,
    /// The proxy takes no other configuration.
    Stubborn,
}

/// The dump of [`Stage::Dumped`].
const BACKUP: &str = "0190a000-0000-7000-8000-000000000001";

impl Stage {
    fn offer(self, droplet: &Droplet) {
        let engine = droplet.outside.engine.as_ref().expect("a droplet with an engine");
        for (service, version) in Service::ALL.iter().flat_map(|service| [(*service, 1), (*service, 2)]) {
            let is_second = version == 2;
            let what = SimImage {
                env: BTreeMap::from([("PG_MAJOR".into(), "15".into())]),
                size_mb: 100,
                n8n_version: None,
                schema: u64::from(version),
                stays: None,
                is_unfit: is_second && self == Self::Unfit && service == Service::Postgres,
                exits: (is_second && self == Self::Ends(service)).then_some(1),
            };
            let is_here = self != Self::Away || service != Service::N8n || !is_second;
            engine.offer(&image(service, version), what, is_here);
        }
    }

    async fn set(self, droplet: &Droplet) {
        let (engine, database) = (droplet.outside.engine.as_ref().unwrap(), droplet.outside.database.as_ref().unwrap());
        let note = |text: &str| engine.state.borrow_mut().databases.content.notes.push(text.into());
        note("first");
        if matches!(self, Self::Dumped | Self::BrokenDump) {
            let file = format!("{BACKUP}.dump");
            database.dump(&file).await.unwrap();
            note("second");
            if self == Self::BrokenDump {
                engine.state.borrow_mut().databases.broken_dumps.push(file);
            }
        }
        droplet.outside.proxy.set_refusing(self == Self::Stubborn);
    }
}

impl Scenario {
    /// Lets the agent make the containers.
    pub(super) async fn prepare_stack(&self, droplet: &Droplet) {
        let Some(story) = self.stack else { return };
        let engine = droplet.outside.engine.clone().unwrap();
        let runs = |service| {
            let state = engine.state.borrow();
            state.containers.get(&service).is_some_and(|container| container.phase == ContainerPhase::Running)
        };
        wait_for(|| async { Service::ALL.into_iter().all(runs).then_some(()) }).await;
        story.stage.set(droplet).await;
    }

    /// Images for [`Self::prepare_stack`].
    pub(super) fn offer_images(&self, droplet: &Droplet) {
        if let Some(story) = self.stack {
            story.stage.offer(droplet);
        }
    }

    /// The stack is what it should be, and no round would change it.
    pub(super) fn check_stack(&self, droplet: &Droplet, before: &Stack, what: &str) -> Result<(), Wrong> {
        let Some(story) = self.stack else { return Ok(()) };
        let mut expected = before.clone();
        if self.outcome == OutcomeState::Succeeded {
            (story.after)(&mut expected);
        }
        let found = stack(droplet);
        if found != expected {
            return Err(Wrong::Lost(format!("{what}: {found:?} in place of {expected:?}")));
        }
        if droplet.outside.proxy.is_held().unwrap_or(true) {
            return Err(Wrong::Lost(format!("{what}: requests are held")));
        }
        let (row, settings) = (droplet.stack_row(), droplet.stack_settings());
        let machine_mb = SimHost::default().sample().memory_total_mb;
        for (service, container) in &droplet.outside.engine.as_ref().unwrap().state.borrow().containers {
            let wanted = spec(*service, row.image(*service, settings).unwrap(), settings, &row, machine_mb);
            if container.spec != wanted {
                return Err(Wrong::Lost(format!("{what}: {service} is not what the journal says")));
            }
        }
        Ok(())
    }
}

/// What is there; the usual without an engine.
pub fn stack(droplet: &Droplet) -> Stack {
    let Some(engine) = &droplet.outside.engine else { return usual() };
    let (state, row) = (engine.state.borrow(), droplet.stack_row());
    let container = |service| state.containers.get(&service);
    let version = |service| {
        let found = container(service).map(|container| container.spec.image.clone());
        (1..=2).find(|version| found.as_ref() == Some(&image(service, *version))).unwrap_or(0)
    };
    let runs = |service| container(service).is_some_and(|container| container.phase == ContainerPhase::Running);
    let others_run = runs(Service::Postgres) && runs(Service::Caddy);
    Stack {
        versions: if others_run { Service::ALL.map(version) } else { [0; 3] },
        n8n_runs: runs(Service::N8n),
        rests: row.suspended || row.quiesced,
        schema: state.databases.content.schema,
        notes: state.databases.content.notes.clone(),
        has_copy: state.databases.before.is_some(),
        dumps: state.databases.dumps.len(),
        images: state.images.keys().filter(|image| image.name().starts_with("n8n:")).count(),
    }
}

fn usual() -> Stack {
    Stack {
        versions: [1; 3],
        n8n_runs: true,
        rests: false,
        schema: 1,
        notes: vec!["first".into()],
        has_copy: false,
        dumps: 0,
        images: 2,
    }
}

fn swap(service: Service) -> CommandWire {
    command("SWAP_CONTAINER", json!({"service": service, "image": image(service, 2)}))
}

fn bare(action: &str) -> CommandWire {
    command(action, json!({}))
}

/// Everything that can be asked of a stack, and each kind of failure that is taken back.
pub(super) fn scenarios() -> Vec<Scenario> {
    let story = |name: &str, is_small, stage, asked, after| {
        let plain = super::scenario(name, is_small, |_| vec![bare("HEALTH_CHECK")], asked, Held::default);
        Scenario { stack: Some(Story { stage, after }), ..plain }
    };
    let failing = |scenario| Scenario { outcome: OutcomeState::Failed, ..scenario };
    let swapped = |scenario| Scenario { stack: Some(Story { stage: Stage::Plain, after: n8n_swapped }), ..scenario };
    vec![
        story(
            "an image",
            true,
            Stage::Away,
            |_| vec![command("PULL_IMAGE", json!({"image": image(Service::N8n, 2)}))],
            |s| {
                s.images = 2;
            },
        ),
        story("a swap of n8n", true, Stage::Plain, |_| vec![swap(Service::N8n)], n8n_swapped),
        swapped(super::scenario(
            "a swap under workflows",
            false,
            small_tenant,
            |_| vec![swap(Service::N8n)],
            || Held { credentials: key_held("one"), workflows: hook_held(true, "one") },
        )),
        failing(story(
            "a swap to an n8n that ends",
            true,
            Stage::Ends(Service::N8n),
            |_| vec![swap(Service::N8n)],
            |_| {},
        )),
        story(
            "a swap of the database",
            false,
            Stage::Plain,
            |_| vec![swap(Service::Postgres)],
            |s| {
                (s.versions[0], s.has_copy) = (2, true);
            },
        ),
        failing(story(
            "a swap to a database that ends",
            false,
            Stage::Ends(Service::Postgres),
            |_| vec![swap(Service::Postgres)],
            |_| {},
        )),
        failing(story(
            "a swap to a database on which n8n does not run",
            true,
            Stage::Unfit,
            |_| vec![swap(Service::Postgres)],
            |_| {},
        )),
        story("a swap of the proxy", false, Stage::Plain, |_| vec![swap(Service::Caddy)], |s| s.versions[2] = 2),
        failing(story(
            "a swap to a proxy that ends",
            false,
            Stage::Ends(Service::Caddy),
            |_| vec![swap(Service::Caddy)],
            |_| {},
        )),
        story("a restart", true, Stage::Plain, |_| vec![bare("RESTART_N8N")], |_| {}),
        story("logs", true, Stage::Plain, |_| vec![bare("GET_LOGS")], |_| {}),
        story("a dump", true, Stage::Plain, |_| vec![bare("BACKUP")], |s| s.dumps = 1),
        story(
            "a restoration",
            true,
            Stage::Dumped,
            |_| vec![command("RESTORE", json!({"backup": BACKUP}))],
            |s| {
                (s.notes, s.has_copy) = (vec!["first".into()], true);
            },
        ),
        failing(story(
            "a restoration of a broken dump",
            true,
            Stage::BrokenDump,
            |_| vec![command("RESTORE", json!({"backup": BACKUP}))],
            |_| {},
        )),
        story("a quiet for a power-off", true, Stage::Plain, |_| vec![bare("QUIESCE")], resting),
        failing(story(
            "a quiet that the proxy does not take",
            false,
            Stage::Stubborn,
            |_| vec![bare("QUIESCE")],
            |_| {},
        )),
        story("a suspension", true, Stage::Plain, |_| vec![bare("SUSPEND")], resting),
        Scenario {
            earlier: |_| vec![bare("SUSPEND")],
            ..story(
                "a resumption",
                true,
                Stage::Plain,
                |_| vec![bare("RESUME_SERVICE")],
                |s| {
                    (s.n8n_runs, s.rests) = (true, false);
                },
            )
        },
    ]
}

fn n8n_swapped(stack: &mut Stack) {
    (stack.versions[1], stack.schema, stack.has_copy) = (2, 2, true);
}

fn resting(stack: &mut Stack) {
    (stack.n8n_runs, stack.rests) = (false, true);
}
