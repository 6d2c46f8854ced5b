//! The user-data that the hub renders for a new droplet.

use genesis_shared::first_boot::FirstBoot;
use genesis_shared::id::WorkspaceId;
use serde_json::{Value, json};

use super::world::*;
use crate::random;

const FLEET: &str = r#"
    hub_url = "https://hub.example.com:8443"
    trust_root_digest = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    [stack]
    zone = "tenants.example.com"
"#;

async fn world() -> World {
    let first_boot: FirstBoot = toml::from_str(FLEET).unwrap();
    World::configured(|settings| settings.first_boot = Some((first_boot, Some("PEM".into())))).await
}

fn droplet(id: &str, labels: Value) -> String {
    let workspace = WorkspaceId::from_random(random::bytes());
    json!({"workspace_id": workspace, "droplet_id": id, "name": "a\"; reboot #", "labels": labels}).to_string()
}

#[tokio::test]
async fn a_new_droplet_is_answered_with_user_data_that_holds_its_token() {
    let world = world().await;
    let answer = world.post("/api/v1/droplets", droplet("412", json!({"ring": "a\"\n[stack]\nx = 1"}))).await.ok();
    let text = answer["user_data"].as_str().unwrap();
    let config: Value = serde_json::from_str(text.strip_prefix("#cloud-config\n").unwrap()).unwrap();
    let files = config["write_files"].as_array().unwrap();
    let token = answer["provisioning_token"].as_str().unwrap();
    assert_eq!(files.iter().filter(|file| file["content"].as_str().unwrap().contains(token)).count(), 1);
    let agent = files.iter().find(|file| file["path"] == "/etc/genesis/agent.toml").unwrap();
    let agent: toml::Table = agent["content"].as_str().unwrap().parse().unwrap();
    assert_eq!(agent["labels"]["ring"].as_str(), Some("a\"\n[stack]\nx = 1"));
    assert_eq!(agent["stack"]["host"].as_str(), Some("412.tenants.example.com"));
}

#[tokio::test]
async fn a_droplet_without_a_name_in_the_zone_is_refused_and_not_registered() {
    let world = world().await;
    world.post("/api/v1/droplets", droplet("a_b", json!({}))).await.refused(422, "first_boot_setting");
    world.get("/api/v1/droplets/a_b").await.refused(404, "not_found");
}

#[tokio::test]
async fn without_settings_there_is_no_user_data() {
    let world = World::without_trust_root().await;
    assert!(world.post("/api/v1/droplets", droplet("412", json!({}))).await.ok().get("user_data").is_none());
}
