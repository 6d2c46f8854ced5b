//! The first boot: what cloud-init says to the user-data, and whole droplets that boot with it until the tenant's
//! workflows run.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test that cannot go on fails; figures are printed")]

use std::collections::BTreeMap;
use std::io::Write;
use std::process::{Command, Stdio};

use genesis_shared::first_boot::{FirstBoot, NewDroplet};
use genesis_shared::id::{DropletId, WorkspaceId};
use genesis_shared::report::N8nStatus;
use genesis_shared::wire::{DropletView, JobState};
use genesis_tests::lab::{Lab, Machine, Registered};
use genesis_tests::until;

/// What a name may be, from people who are called that and from people who try.
const NAMES: [&str; 12] = [
    "Müller & Söhne \"GmbH\"",
    "O'Hara: the café # 1",
    "$(reboot)`reboot`${HOME}",
    "a\nruncmd:\n  - reboot",
    "\"}],\"runcmd\":[[\"reboot\"]],\"x\":[{\"a\":\"",
    "'; DROP TABLE droplets; --",
    "{{ v1.local_hostname }}",
    "\u{0}\u{1}\u{7f}\u{85}\u{9f}\u{2028}\u{feff}\u{fffe}",
    "日本語 🚀 \u{10ffff}",
    "## template: jinja",
    "\t- &a *a !!python/object/apply:os.system [reboot]",
    "EOF\n#cloud-config\n",
];

fn user_data(labels: &BTreeMap<String, String>) -> String {
    let fleet = FirstBoot {
        hub_url: "https://hub.example.com".into(),
        hub_ca_file: None,
        trust_root_digest: genesis_shared::id::Digest::of(b"root"),
        package: None,
        ssh: true,
        stack: None,
    };
    let droplet_id: DropletId = "412".parse().unwrap();
    let workspace_id = "0192f0a1-1111-7000-8000-000000000001".parse().unwrap();
    let (provisioning_token, hub_ca_pem) = ("0".repeat(64), None);
    let droplet = NewDroplet {
        workspace_id,
        droplet_id: &droplet_id,
        labels,
        provisioning_token: &provisioning_token,
        hub_ca_pem,
    };
    fleet.user_data(&droplet).unwrap()
}

fn labels(name: &str) -> BTreeMap<String, String> {
    [(name.to_owned(), "x".to_owned()), ("name".to_owned(), name.to_owned())].into()
}

#[test]
fn cloud_config_is_what_cloud_init_takes() {
    let file = tempfile::NamedTempFile::new().unwrap();
    for name in NAMES {
        std::fs::write(file.path(), user_data(&labels(name))).unwrap();
        let ran = Command::new("cloud-init").args(["schema", "--config-file"]).arg(file.path()).output().unwrap();
        let said = [ran.stdout, ran.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
        assert!(ran.status.success() && said.contains("Valid"), "{name:?}: {said}");
    }
}

/// cloud-init reads YAML 1.1; what we wrote as JSON must mean the same there.
#[test]
fn cloud_config_means_the_same_to_a_reader_of_yaml() {
    const SAME: &str = "import json, sys, yaml\nfor text in json.load(sys.stdin):\n    assert yaml.safe_load(text) == json.loads(text.split('\\n', 1)[1]), text";
    let texts: Vec<String> = NAMES.iter().map(|name| user_data(&labels(name))).collect();
    let mut python = Command::new("/usr/bin/python3").args(["-c", SAME]).stdin(Stdio::piped()).spawn().unwrap();
    python.stdin.take().unwrap().write_all(serde_json::to_string(&texts).unwrap().as_bytes()).unwrap();
    assert!(python.wait().unwrap().success());
}

fn user_data_of(droplet: &Registered) -> &str {
    droplet.answer.user_data.as_deref().unwrap()
}

/// The Golden Template, on a droplet whose stack may still be starting.
async fn ignite(lab: &Lab, workspace: WorkspaceId, id: &DropletId) {
    lab.droplet(id, "n8n to run", |view| view.health.as_ref().is_some_and(|h| h.n8n_status == N8nStatus::Running))
        .await;
    let job = lab.run(workspace, lab.ignition(workspace, id).await).await;
    assert_eq!(job.state, JobState::Succeeded, "{:?}", job.result);
    // The heartbeat before the ignition may have said that all is well, too.
    let has_seven = |view: &DropletView| view.health.as_ref().is_some_and(|health| health.active_workflows == Some(7));
    lab.droplet(id, "the droplet to be at work", |view| is_at_work(view) && has_seven(view)).await;
}

/// A machine that runs other tests meanwhile makes a healthy droplet one whose processor is busy.
fn is_at_work(view: &DropletView) -> bool {
    let is_busy = view.health.as_ref().is_some_and(|health| health.cpu_usage_percent > 70.0);
    view.state == "ACTIVE_HEALTHY" || (is_busy && view.state == "ACTIVE_DEGRADED")
}

/// While Docker changes the tables, `ufw status` cannot read them and says inactive.
async fn firewall_is_up(machine: &Machine) {
    until("the firewall", || async { machine.try_sh("ufw status | grep 'Status: active'") }).await;
}

/// Nothing of the first boot's secret is anywhere.
fn no_trace_of(token: &str, machine: &Machine) {
    let places = "/etc /var/lib /var/log /run /root /usr/local";
    let command = format!("grep -rlsF --exclude-dir=overlay2 --exclude-dir=docker -e {token} {places} || true");
    assert_eq!(machine.sh(&command), "", "files");
    assert_eq!(machine.sh(&format!("journalctl --no-pager | grep -cF {token} || true")).trim(), "0", "the journal");
    // Written so that the search does not find its own command line.
    let (first, rest) = token.split_at(1);
    let environments = format!(
        "cat /proc/[0-9]*/environ /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' '\\n' | grep -c '[{first}]{rest}' || true"
    );
    assert_eq!(machine.sh(&environments).trim(), "0", "environments and command lines");
}

// The package is served while a script of the lab is waited for.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whole_droplet_boots_to_healthy_with_vendor_data_that_switches_modules_off() {
    let lab = Lab::new().await;
    let droplet = lab.register("w1").await;
    // With this sample cloud-init says done and never runs runcmd, unless the user-data says otherwise.
    let machine = Machine::up_with_images("w1", user_data_of(&droplet), Some("vendor-data-docs-sample.yaml"));
    ignite(&lab, droplet.workspace, &droplet.id).await;
    println!("{}", machine.wait());

    firewall_is_up(&machine).await;
    assert_eq!(machine.sh("stat -c %a /etc/genesis/agent.toml").trim(), "600");
    assert!(machine.sh("cat /etc/genesis/agent.toml").contains("$(reboot)"), "the label came through");
    // It had one token, and that is gone; what cloud-init kept of it follows with the next heartbeat.
    until("cloud-init's copies to be gone", || async {
        machine.try_sh("test ! -e /var/lib/cloud/instance/user-data.txt")
    })
    .await;
    no_trace_of(&droplet.answer.provisioning_token, &machine);
    // Containers do not reach the metadata service; the machine itself does.
    let ask = "wget -q -T 3 -O - http://169.254.169.254/metadata/v1/id";
    assert_eq!(machine.try_sh(&format!("docker exec genesis-caddy {ask}")), None);
    machine.sh("curl -fsS -m 3 http://169.254.169.254/metadata/v1/id");
    // No swap can be had here, and cloud-init is content all the same: the agent looks for itself. What it takes for the
    // droplet's memory is the whole machine's where the lab has no lxcfs, and that is enough without swap.
    let sees =
        machine.sh("genesis-agent status | sed -n 's/^machine.*memory [0-9]* of \\([0-9]*\\) MiB, swap 0 MiB.*/\\1/p'");
    let has_little = sees.trim().parse::<u64>().is_ok_and(|mib| mib < 4_000);
    assert_eq!(machine.sh("genesis-agent doctor || true").contains("swap_small"), has_little);

    // A clean reboot: everything is back by itself, also what the kernel forgot.
    machine.power_off();
    machine.power_on();
    until("the agent to be back", || async { machine.try_sh("genesis-agent status") }).await;
    lab.droplet(&droplet.id, "the droplet to be healthy again", is_at_work).await;
    until("n8n to be back", || async { machine.try_sh("docker exec genesis-caddy true") }).await;
    assert_eq!(machine.try_sh(&format!("docker exec genesis-caddy {ask}")), None);
    until("cloud-init's new copies to be gone", || async {
        machine.try_sh("test -e /run/cloud-init/result.json && test ! -e /var/lib/cloud/instance/obj.pkl")
    })
    .await;
    no_trace_of(&droplet.answer.provisioning_token, &machine);
}

// The package is served while a script of the lab is waited for.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whole_droplet_waits_for_a_hub_that_is_away() {
    let mut lab = Lab::new().await;
    let droplet = lab.register("w2").await;
    lab.stop_hub();
    let machine = Machine::up("w2", user_data_of(&droplet), None);
    until("the agent to run", || async { machine.try_sh("systemctl is-active genesis-agent") }).await;
    assert!(machine.try_sh("test -s /etc/genesis/provisioning.token").is_some());
    lab.start_hub().await;
    lab.droplet(&droplet.id, "the droplet to enrol", |view| view.sealing_key.is_some()).await;
    assert!(machine.try_sh("test ! -e /etc/genesis/provisioning.token").is_some());
}

// The package is served while a script of the lab is waited for.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whole_droplet_with_an_expired_token_takes_a_new_one() {
    let lab = Lab::new().await;
    let droplet = lab.register("w3").await;
    let issue = || async { lab.client.provisioning_token(&droplet.id).await.unwrap().provisioning_token };
    // A newer token ends the one that is in the user-data.
    issue().await;
    let machine = Machine::up("w3", user_data_of(&droplet), None);
    until("the agent to say so", || async {
        machine.try_sh("journalctl -u genesis-agent --no-pager | grep hub_unauthorised")
    })
    .await;
    let newer = issue().await;
    machine.sh(&format!("umask 077; echo {newer} >/etc/genesis/provisioning.token"));
    lab.droplet(&droplet.id, "the droplet to enrol", |view| view.sealing_key.is_some()).await;
}

// The package is served while a script of the lab is waited for.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whole_droplet_by_hand_from_the_package() {
    let lab = Lab::new().await;
    let machine = Machine::up_with_images("w5", "#cloud-config\n{}\n", None);
    let folder = tempfile::TempDir::new().unwrap();
    let fleet = folder.path().join("fleet.toml");
    let table: toml::Table = std::fs::read_to_string(lab.hub_config()).unwrap().parse().unwrap();
    std::fs::write(&fleet, toml::to_string(&table["first_boot"]).unwrap()).unwrap();
    let (token, config) = (folder.path().join("token"), folder.path().join("agent.toml"));
    let workspace = "0192f0a1-1111-7000-8000-000000000005";
    let text = |path: &std::path::Path| path.to_str().unwrap().to_owned();
    let mut add =
        lab.ctl(&["droplet", "add", "--workspace", workspace, "--droplet-id", "w5", "--first-boot", &text(&fleet)]);
    let added = add.args(["--token-out", &text(&token), "--config-out", &text(&config)]).output().unwrap();
    assert!(added.status.success(), "{}", String::from_utf8_lossy(&added.stderr));
    machine.wait();
    machine.sh("mkdir -p /etc/genesis && chmod 755 /etc/genesis && systemctl start docker");
    machine.put(&token, "/etc/genesis/provisioning.token");
    machine.put(&config, "/etc/genesis/agent.toml");
    machine.put(&lab.ca_file(), "/etc/genesis/ca.pem");
    let url = lab.files.url("/genesis-agent.deb");
    machine.sh(&format!("curl -fsS -o /tmp/agent.deb {url} && dpkg -i /tmp/agent.deb"));
    let id: DropletId = "w5".parse().unwrap();
    ignite(&lab, workspace.parse().unwrap(), &id).await;
    machine.sh("dpkg -i /tmp/agent.deb && systemctl is-active genesis-agent");
    lab.droplet(&id, "the upgraded droplet", is_at_work).await;
    machine.sh("dpkg --purge genesis-agent && test ! -e /var/lib/genesis && test ! -e /usr/bin/genesis-agent");
    assert!(machine.try_sh("systemctl is-active genesis-agent").is_none());
}
