//! What a user would do otherwise: `docker compose up -d` with the new tag behind a plain reverse proxy, under the same
//! load; how many requests fail meanwhile.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use genesis_agent::core::stack::{self, StackRow, StackSettings};
use genesis_shared::stack::{ImageRef, Service};
use genesis_tests::engine::Stage;
use genesis_tests::stack::{LEDGER_PATH, StackRig};
use genesis_tests::traffic::Traffic;
use serde_json::{Value, json};

use super::{Failure, say};

/// The load before and after the change.
const AROUND: Duration = Duration::from_secs(5);

/// Requests that failed during one change of version, or a reason why nobody could tell.
pub async fn failed(rig: &mut StackRig, images: &[ImageRef; 2], rate: u32) -> Result<Value, Failure> {
    let Some(compose) = compose_command() else {
        return Ok(json!("not measured: neither docker compose nor docker-compose is installed"));
    };
    // From here on the stack is nobody's but compose's.
    rig.rig.agent.kill();
    let settings = rig.lab.settings().clone();
    docker(&settings, &["rm", "-f", &format!("{}-n8n", settings.name)])?;
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("compose.json");
    let up = |image: &ImageRef| -> Result<(), Failure> {
        std::fs::write(&file, project(&settings, image).to_string())?;
        let mut command = Command::new(compose[0]);
        command.args(&compose[1..]).args(["-p", &settings.name, "-f"]).arg(&file).args(["up", "-d"]);
        run(command.env("DOCKER_HOST", format!("unix://{}", settings.engine_socket)))
    };
    up(&images[1])?;
    plain_proxy(&settings)?;
    rig.serves().await;
    say("compose runs n8n behind a plain proxy");
    let traffic = Traffic::start(rig.caller.clone(), rig.url(&format!("/webhook/{LEDGER_PATH}")), "compose", rate);
    tokio::time::sleep(AROUND).await;
    let image = images[0].clone();
    // Blocking, in a thread: the load must go on.
    let (settings_there, file_there) = (settings.clone(), file.clone());
    let (program, rest) = (compose[0], compose[1..].to_vec());
    tokio::task::spawn_blocking(move || -> Result<(), String> {
        std::fs::write(&file_there, project(&settings_there, &image).to_string()).map_err(|e| e.to_string())?;
        let mut command = Command::new(program);
        command.args(rest).args(["-p", &settings_there.name, "-f"]).arg(&file_there).args(["up", "-d"]);
        command.env("DOCKER_HOST", format!("unix://{}", settings_there.engine_socket));
        run(&mut command).map_err(|error| error.to_string())
    })
    .await??;
    rig.serves().await;
    tokio::time::sleep(AROUND).await;
    let calls = traffic.finish().await;
    let ids = rig.ledger_ids().await;
    let swallowed =
        calls.iter().filter(|(id, call)| call.outcome == Ok(200) && !ids.iter().any(|other| other == *id)).count();
    let failed = calls.values().filter(|call| call.outcome != Ok(200)).count();
    let name = format!("{}-n8n", settings.name);
    docker(&settings, &["rm", "-f", &name])?;
    say(&format!("compose: {failed} of {} failed, {swallowed} more were answered 200 and lost", calls.len()));
    Ok(json!(failed + swallowed))
}

fn compose_command() -> Option<Vec<&'static str>> {
    let works = |command: &[&str]| {
        let output = Command::new(command[0]).args(&command[1..]).arg("version").output();
        output.is_ok_and(|output| output.status.success())
    };
    [vec!["docker", "compose"], vec!["docker-compose"]].into_iter().find(|command| works(command))
}

/// The project of one service, with what the agent gives it.
fn project(settings: &StackSettings, image: &ImageRef) -> Value {
    let spec = stack::spec(Service::N8n, image, settings, &StackRow::default(), 972);
    let volumes = spec
        .mounts
        .iter()
        .map(|mount| format!("{}:{}{}", mount.source, mount.target, if mount.read_only { ":ro" } else { "" }));
    json!({
        "version": "2.4",
        "services": {"n8n": {
            "image": image.name(),
            "container_name": format!("{}-n8n", settings.name),
            "environment": spec.env,
            "volumes": volumes.collect::<Vec<_>>(),
            "mem_limit": format!("{}m", spec.memory_mb),
            "restart": "unless-stopped",
            "stop_grace_period": format!("{}s", spec.stop_grace_s),
            "networks": {"stack": {"aliases": ["n8n"]}},
        }},
        "networks": {"stack": {"external": true, "name": settings.name}},
    })
}

/// The proxy as most people have it.
fn plain_proxy(settings: &StackSettings) -> Result<(), Failure> {
    let mut config = genesis_agent::core::routes::config(settings, &StackRow::default());
    let proxy = json!({"handler": "reverse_proxy", "upstreams": [{"dial": "n8n:5678"}]});
    let route = json!({"match": [{"host": [settings.host]}], "handle": [proxy], "terminal": true});
    config["apps"]["http"]["servers"] = json!({"public": {"listen": [":443"], "routes": [route]}});
    let file = Path::new(&settings.folder).join("proxy/plain.json");
    std::fs::write(file, config.to_string())?;
    let caddy = format!("{}-caddy", settings.name);
    let socket = "unix//run/genesis/admin.sock";
    docker(settings, &["exec", &caddy, "caddy", "reload", "--config", "/run/genesis/plain.json", "--address", socket])
}

fn docker(settings: &StackSettings, args: &[&str]) -> Result<(), Failure> {
    run(Command::new("docker").args(args).env("DOCKER_HOST", format!("unix://{}", settings.engine_socket)))
}

fn run(command: &mut Command) -> Result<(), Failure> {
    let output = command.output()?;
    match output.status.success() {
        true => Ok(()),
        false => Err(format!("{command:?}: {}", String::from_utf8_lossy(&output.stderr)).into()),
    }
}
