//! Updates of the agent that fail in every way, on real processes with the real launcher: none may leave a droplet without an
//! agent, and the old version must be back in time.

use genesis_tests::updates::{Failing, Story};
use serde_json::{Value, json};

use super::{Failure, say};

#[derive(clap::Args)]
pub struct Options {
    /// How many updates that fail.
    #[arg(long, default_value_t = 200)]
    failures: usize,
    /// How many droplets at once: most of the time passes in waiting for a probation to end.
    #[arg(long, default_value_t = 10)]
    droplets: usize,
}

pub fn run(options: &Options) -> Result<Value, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(measure(options))
}

async fn measure(options: &Options) -> Result<Value, Failure> {
    let mut droplets = Vec::new();
    for n in 0..options.droplets.max(1) {
        let mine: Vec<Failing> = (0..options.failures)
            .filter(|failure| failure % options.droplets == n)
            .map(|failure| Failing::nth(failure / options.droplets + failure % options.droplets))
            .collect();
        droplets.push(tokio::task::spawn(Story::play(n, mine)));
    }
    let (mut failures, mut bricks, mut longest, mut kinds) = (0, 0, 0, std::collections::BTreeMap::new());
    for droplet in droplets {
        for ended in droplet.await? {
            failures += 1;
            bricks += u64::from(!ended.is_back);
            longest = longest.max(ended.rollback_ms);
            let kind: &mut (u64, u64) = kinds.entry(ended.failing.name()).or_default();
            *kind = (kind.0 + 1, kind.1.max(ended.rollback_ms));
            if !ended.is_back {
                say(&format!("brick: {}: {}", ended.failing.name(), ended.why));
            }
        }
    }
    let kinds: Value =
        kinds.into_iter().map(|(name, (count, ms))| (name, json!({"count": count, "rollback_ms_max": ms}))).collect();
    let figures = json!({
        "failures": failures,
        "bricks": bricks,
        "rollback_ms_max": longest,
        "kinds": kinds,
        "method": "hub, launcher and agent as processes, started again at once whenever they end; from the moment the new version was started to the old one's answer, in running time; each droplet then takes an update that is right",
    });
    if bricks == 0 && longest <= 60_000 { Ok(figures) } else { Err(figures.to_string().into()) }
}
