//! Tests of the first boot's rendering: nothing that a tenant is called gets out of its place.

use proptest::prelude::*;
use serde_json::Value;

use super::*;

const TOKEN: &str = "6f1ed002ab5595859014ebf0951522d96f1ed002ab5595859014ebf0951522d9";

fn fleet() -> FirstBoot {
    let text = r#"
        hub_url = "https://hub.example.com:8443"
        hub_ca_file = "ca.pem"
        trust_root_digest = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        ssh = false
        [package]
        url = "https://example.com/genesis-agent.deb"
        sha256 = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
        [stack]
        zone = "tenants.example.com"
        [stack.images]
        n8n = "n8nio/n8n:2.8.4@sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    "#;
    toml::from_str(text).unwrap()
}

fn user_data(fleet: &FirstBoot, id: &str, labels: &BTreeMap<String, String>) -> Result<String, FirstBootError> {
    let droplet_id: DropletId = id.parse().unwrap();
    let workspace_id = "0192f0a1-1111-7000-8000-000000000001".parse().unwrap();
    let pem = Some("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
    let droplet =
        NewDroplet { workspace_id, droplet_id: &droplet_id, labels, provisioning_token: TOKEN, hub_ca_pem: pem };
    fleet.user_data(&droplet)
}

fn parsed(text: &str) -> Value {
    serde_json::from_str(text.strip_prefix("#cloud-config\n").unwrap()).unwrap()
}

/// The content of the file that is written to a path.
fn written<'a>(config: &'a Value, path: &str) -> &'a str {
    let files = config["write_files"].as_array().unwrap();
    files.iter().find(|file| file["path"] == path).unwrap()["content"].as_str().unwrap()
}

#[test]
fn holds_the_token_once_in_a_private_file_and_no_other_secret() {
    let text = user_data(&fleet(), "412", &BTreeMap::new()).unwrap();
    assert!(text.len() <= USER_DATA_BYTES_MAX, "{}", text.len());
    assert_eq!(text.matches(TOKEN).count(), 1);
    let config = parsed(&text);
    let files = config["write_files"].as_array().unwrap();
    let token = files.iter().find(|file| file["content"].as_str().unwrap().contains(TOKEN)).unwrap();
    assert_eq!(token["permissions"], "0600");
    assert!(files.iter().all(|file| file["permissions"].is_string()), "a number would be read as decimal");
    for word in ["POSTGRES_PASSWORD", "ENCRYPTION_KEY", "PRIVATE KEY"] {
        assert!(!text.contains(word), "{word}");
    }
}

#[test]
fn vendor_data_cannot_switch_it_off_and_a_power_cut_does_not_end_it() {
    let config = parsed(&user_data(&fleet(), "412", &BTreeMap::new()).unwrap());
    assert_eq!(config["vendor_data"]["enabled"], false);
    assert!(config["bootcmd"][0][2].as_str().unwrap().contains("first-boot.done"));
    assert!(written(&config, "/etc/systemd/system/genesis-first-boot.service").contains("Restart=on-failure"));
}

#[test]
fn the_engine_has_log_limits_and_no_live_restore() {
    let config = parsed(&user_data(&fleet(), "412", &BTreeMap::new()).unwrap());
    let engine: Value = serde_json::from_str(written(&config, "/etc/docker/daemon.json")).unwrap();
    assert_eq!(engine["log-opts"]["max-size"], "10m");
    assert!(engine.get("live-restore").is_none());
}

#[test]
fn the_droplets_name_follows_from_the_zone() {
    let config = parsed(&user_data(&fleet(), "Web-412", &BTreeMap::new()).unwrap());
    let agent: toml::Table = written(&config, AGENT_TOML).parse().unwrap();
    assert_eq!(agent["stack"]["host"].as_str(), Some("web-412.tenants.example.com"));
    let mut fleet = fleet();
    fleet.stack.as_mut().unwrap().zone = None;
    let config = parsed(&user_data(&fleet, "412", &BTreeMap::new()).unwrap());
    let agent: toml::Table = written(&config, AGENT_TOML).parse().unwrap();
    assert_eq!(agent["stack"]["bootstrap"].as_str(), Some("ip"));
    assert_eq!(agent["droplet_ip"].as_str(), Some("metadata"));
}

#[test]
fn what_cannot_be_used_is_named() {
    let none = BTreeMap::new();
    let plain = FirstBoot { hub_url: "http://hub".into(), ..fleet() };
    assert_eq!(user_data(&plain, "412", &none).unwrap_err().code(), "first_boot_setting");
    let mut file = fleet();
    file.package.as_mut().unwrap().url = "file:///etc/passwd".into();
    assert!(user_data(&file, "412", &none).unwrap_err().to_string().contains("package.url"));
    let labels: BTreeMap<String, String> = (0..32).map(|n| (format!("{n:0128}"), "é".repeat(64))).collect();
    assert_eq!(user_data(&fleet(), "412", &labels).unwrap_err().code(), "user_data_too_large");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// Whatever labels hold, every other line of the droplet's files is what it is without them, and they come back whole.
    #[test]
    fn no_label_breaks_out_of_its_place(labels in prop::collection::btree_map(any::<String>(), any::<String>(), 0..4)) {
        let text = user_data(&fleet(), "412", &labels).unwrap();
        prop_assert!(text.lines().skip(1).all(|line| !line.starts_with('#')), "no second header");
        let (config, plain) = (parsed(&text), parsed(&user_data(&fleet(), "412", &BTreeMap::new()).unwrap()));
        prop_assert_eq!(&config["runcmd"], &plain["runcmd"]);
        prop_assert_eq!(&config["bootcmd"], &plain["bootcmd"]);
        let mut agent: toml::Table = written(&config, AGENT_TOML).parse().unwrap();
        let expected: toml::Table = written(&plain, AGENT_TOML).parse().unwrap();
        let found = agent.remove("labels").map_or_else(BTreeMap::new, |found| found.try_into().unwrap());
        prop_assert_eq!(found, labels);
        prop_assert_eq!(agent, expected);
        let rest = |config: &Value| {
            let files = config["write_files"].as_array().unwrap().clone();
            files.into_iter().filter(|file| file["path"] != AGENT_TOML).collect::<Vec<_>>()
        };
        prop_assert_eq!(rest(&config), rest(&plain));
        let readable = |c: char| matches!(c, '\n' | ' '..='~' | '\u{10000}'..='\u{10ffff}');
        prop_assert!(text.chars().all(readable), "readers of YAML 1.1 refuse the rest");
    }
}
