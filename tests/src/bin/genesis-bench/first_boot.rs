//! From an empty droplet of the lab to a tenant whose workflows run: how long, and how much of it was the agent's own.

use std::time::Instant;

use genesis_shared::report::N8nStatus;
use genesis_shared::wire::JobState;
use genesis_tests::lab::{Lab, Machine};
use genesis_tests::until;
use serde_json::{Value, json};

use super::{Failure, say};

pub fn run() -> Result<Value, Failure> {
    // Several threads: the package is served while a script of the lab is waited for.
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(measure())
}

async fn measure() -> Result<Value, Failure> {
    let lab = Lab::new().await;
    let droplet = lab.register("bench").await;
    let user_data = droplet.answer.user_data.clone().ok_or("the hub renders no user-data")?;
    #[allow(clippy::disallowed_methods, reason = "a bench measures time")]
    let began = Instant::now();
    let mut timeline = Vec::new();
    let mut mark = |what: &str| {
        let ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        say(&format!("{ms:>8} ms  {what}"));
        timeline.push(json!({"ms": ms, "what": what}));
        ms
    };
    let machine = Machine::up_with_images("bench", &user_data, None);
    mark("switched on, with the stack's images in its engine");
    until("the agent's service", || async { machine.try_sh("systemctl is-active genesis-agent") }).await;
    let agent_began = mark("cloud-init has installed the agent, and it runs");
    lab.droplet(&droplet.id, "the droplet to enrol", |view| view.sealing_key.is_some()).await;
    mark("enrolled");
    let runs = |status: Option<N8nStatus>| status == Some(N8nStatus::Running);
    lab.droplet(&droplet.id, "n8n to run", |view| runs(view.health.as_ref().map(|health| health.n8n_status))).await;
    let n8n_up = mark("PostgreSQL, n8n and Caddy run");
    let commands = lab.ignition(droplet.workspace, &droplet.id).await;
    let job = lab.run(droplet.workspace, commands).await;
    if job.state != JobState::Succeeded {
        return Err(format!("the ignition ended as {:?}", job.result).into());
    }
    mark("credentials injected, seven workflows deployed and activated");
    let view = lab.droplet(&droplet.id, "the droplet to be healthy", |view| view.state == "ACTIVE_HEALTHY").await;
    let total_ms = mark("ACTIVE_HEALTHY");
    // User and system time in hundredths of a second (proc(5)).
    let ticks = machine.sh("awk '{ print ($14 + $15) * 10 }' /proc/$(pidof genesis-agent)/stat");
    let agent_share_ms = ticks.trim().parse::<u64>()?;
    let memory = machine.sh("grep -h VmRSS /proc/$(pidof genesis-agent)/status");
    Ok(json!({
        "state": view.state,
        "total_ms": total_ms,
        "agent_share_ms": agent_share_ms,
        "from_agent_start_ms": total_ms - agent_began,
        "waited_for_stack_ms": n8n_up - agent_began,
        "agent_rss_kb": memory.split_whitespace().nth(1).and_then(|kb| kb.parse::<u64>().ok()),
        "timeline": timeline,
        "method": "a container droplet of the lab; agent_share_ms is the processor time of the agent's service until ACTIVE_HEALTHY, all else is waiting for others",
    }))
}
