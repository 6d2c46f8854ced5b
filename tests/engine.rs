//! What only the real container engine can show: the specs of the core come up as they are written, an engine that is
//! away is told from one that is silent, and sequences that were cut between two statements are finished.
#![allow(
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    reason = "a test that cannot go on, or meets anything else, fails"
)]

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use bollard::models::{ContainerCreateBody, HostConfig, NetworkCreateRequest};
use bollard::query_parameters::{CreateContainerOptionsBuilder, InspectContainerOptions, ListNetworksOptions};
use genesis_agent::core::stack;
use genesis_agent::ports::ErrorKind;
use genesis_agent::ports::stack::{ContainerPhase, ContainerSpec, Containers, Database, Port, STOP_MARGIN};
use genesis_shared::secret::Secret;
use genesis_shared::stack::Service;
use genesis_tests::engine::{Lab, Stage, docker_at};
use genesis_tests::registry::Registry;

#[tokio::test(start_paused = true)]
async fn an_engine_that_is_away_is_told_from_one_that_is_silent() {
    let folder = tempfile::tempdir().unwrap();
    let socket = |name: &str| folder.path().join(name).to_string_lossy().into_owned();
    let code = async |name: &str| {
        let docker = docker_at(&socket(name));
        let error = docker.engine().await.unwrap_err();
        assert_eq!(
            docker
                .pull(&"a@sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855".parse().unwrap())
                .await
                .unwrap_err()
                .code,
            error.code
        );
        (error.code, error.kind)
    };
    assert_eq!(code("nothing").await, ("engine_unreachable", ErrorKind::Transient));
    drop(tokio::net::UnixListener::bind(socket("left")).unwrap());
    assert_eq!(code("left").await, ("engine_unreachable", ErrorKind::Transient));

    let hangs = tokio::net::UnixListener::bind(socket("hangs")).unwrap();
    let taken = tokio::spawn(async move {
        let mut taken = Vec::new();
        while let Ok((connection, _)) = hangs.accept().await {
            taken.push(connection);
        }
    });
    assert_eq!(code("hangs").await, ("engine_silent", ErrorKind::Ambiguous));
    taken.abort();
    let closes = tokio::net::UnixListener::bind(socket("closes")).unwrap();
    let closing = tokio::spawn(async move {
        while let Ok((connection, _)) = closes.accept().await {
            drop(connection);
        }
    });
    assert_eq!(code("closes").await, ("engine_silent", ErrorKind::Ambiguous));
    closing.abort();
}

/// A container of the proxy's image that runs a script.
fn script(lab: &Lab, script: &str) -> ContainerSpec {
    let mut spec = lab.idle(0);
    spec.command[2] = script.into();
    spec
}

async fn start(lab: &Lab, spec: &ContainerSpec) {
    lab.engine().ensure_network().await.unwrap();
    lab.engine().create(spec).await.unwrap();
    lab.engine().start(spec.service).await.unwrap();
}

mod real_engine {
    use super::*;

    /// n8n as the core has it, with its secrets placed.
    fn n8n(lab: &Lab) -> ContainerSpec {
        let place = |name: &str, text: &str| {
            lab.engine().place_secret(name, stack::N8N_UID, &Secret::new(text.as_bytes().to_vec())).unwrap();
        };
        place(stack::N8N_DATABASE_PASSWORD, "a-password-of-nobody");
        place(stack::N8N_ENCRYPTION_KEY, "an-encryption-key-of-nobody-at-all");
        lab.spec(Service::N8n)
    }

    #[tokio::test]
    async fn an_image_is_pulled_by_its_digest_and_pruned_when_nobody_needs_it() {
        let lab = Lab::from_env();
        let (engine, registry) = (lab.engine(), Registry::start(&lab.settings().name).await);
        let image = &registry.image;
        assert_eq!(engine.image(image).await.unwrap(), None);
        let error = engine.pull(&registry.absent).await.unwrap_err();
        assert_eq!((error.code, error.kind), ("image_not_found", ErrorKind::Permanent), "{error}");
        let gone = format!("127.0.0.1:1/small@{}", image.digest()).parse().unwrap();
        let error = engine.pull(&gone).await.unwrap_err();
        assert_eq!((error.code, error.kind), ("registry_unreachable", ErrorKind::Transient), "{error}");

        let pulled = engine.pull(image).await.unwrap();
        assert_eq!(pulled.env["KIND"], "registry");
        assert_eq!(engine.pull(image).await.unwrap(), pulled);
        assert_eq!(engine.image(image).await.unwrap().unwrap(), pulled);
        let by_id = format!("anything@{}", pulled.id).parse().unwrap();
        assert_eq!(engine.image(&by_id).await.unwrap().unwrap(), pulled, "the id does as well");

        let others = lab.images_but(image).await;
        let kept = [&others[..], std::slice::from_ref(image)].concat();
        engine.prune(&kept).await.unwrap();
        assert!(engine.image(image).await.unwrap().is_some(), "one that is to be kept is kept");
        engine.create(&ContainerSpec { image: image.clone(), ..lab.idle(0) }).await.unwrap();
        engine.prune(&lab.images_but(image).await).await.unwrap();
        assert!(engine.image(image).await.unwrap().is_some(), "one that a stopped container uses is kept");
        engine.remove(Service::Caddy).await.unwrap();
        engine.prune(&lab.images_but(image).await).await.unwrap();
        assert_eq!(engine.image(image).await.unwrap(), None);
        for image in lab.settings().images.values() {
            assert!(engine.image(image).await.unwrap().is_some());
        }
    }

    #[tokio::test]
    async fn a_container_that_does_not_hear_is_killed_after_its_grace() {
        let lab = Lab::from_env();
        let deaf = ContainerSpec { stop_grace_s: 1, ..script(&lab, "trap '' TERM; while :; do sleep 1; done") };
        start(&lab, &deaf).await;
        let stopped = tokio::time::timeout(STOP_MARGIN, lab.engine().stop(Service::Caddy)).await;
        assert_eq!(stopped.unwrap().unwrap(), Some(137));
    }

    #[tokio::test]
    async fn a_container_is_what_its_spec_says() {
        let lab = Lab::from_env();
        let mut spec = lab.idle(0);
        let folder = format!("{}/extra", lab.settings().folder);
        let mount = genesis_agent::ports::stack::Mount {
            source: folder.clone(),
            target: "/extra".into(),
            read_only: false,
            owner_uid: 1000,
        };
        spec.mounts.push(mount);
        spec.env.insert("KEY".into(), "value=1".into());
        start(&lab, &spec).await;
        let name = format!("{}-caddy", lab.settings().name);
        let found = lab.client().inspect_container(&name, None::<InspectContainerOptions>).await.unwrap();
        let (config, host) = (found.config.unwrap(), found.host_config.unwrap());
        let labels = config.labels.unwrap();
        assert_eq!(labels["genesis.spec"], spec.digest().to_string());
        assert_eq!(labels["genesis.stack"], lab.settings().name);
        assert_eq!(config.stop_timeout, Some(10));
        assert_eq!(host.memory, Some(96 * 1024 * 1024));
        assert_eq!((host.cpu_shares, host.oom_score_adj), (Some(2048), Some(100)));
        assert_eq!(host.restart_policy.unwrap().name.unwrap().to_string(), "unless-stopped");
        let log = host.log_config.unwrap();
        assert_eq!(log.typ.as_deref(), Some("json-file"));
        let options = log.config.unwrap();
        assert_eq!((options["max-size"].as_str(), options["max-file"].as_str()), ("10m", "3"));
        assert_eq!(host.security_opt.unwrap(), ["no-new-privileges"]);
        assert_eq!(host.cap_drop.unwrap(), ["ALL"]);
        assert!(host.port_bindings.unwrap().contains_key("443/udp"));

        let run = async |argv: &[&str]| lab.engine().run(Service::Caddy, argv).await.unwrap();
        assert_eq!(run(&["sh", "-c", "echo $KEY"]).await, "value=1\n");
        assert_eq!(run(&["hostname"]).await, "caddy\n");
        assert_eq!(run(&["stat", "-c", "%u %a", "/extra"]).await, "1000 700\n");
        assert_eq!(std::fs::metadata(&folder).unwrap().permissions().mode() & 0o777, 0o700);
        let limit = "cat /sys/fs/cgroup/memory.max /sys/fs/cgroup/memory/memory.limit_in_bytes 2>/dev/null || true";
        assert_eq!(run(&["sh", "-c", limit]).await, format!("{}\n", 96 * 1024 * 1024));
        lab.engine().remove(Service::Caddy).await.unwrap();
        assert!(Path::new(&folder).is_dir(), "its folders stay");
    }

    #[tokio::test]
    async fn what_was_made_by_hand_is_not_ours_and_gives_way() {
        let lab = Lab::from_env();
        let name = format!("{}-caddy", lab.settings().name);
        let image = lab.engine().image(&lab.settings().images[&Service::Caddy]).await.unwrap().unwrap().id;
        let body = ContainerCreateBody {
            image: Some(image),
            tty: Some(true),
            stop_timeout: Some(1),
            cmd: Some(["sh", "-c", "printf '\\033[31mhello\\n'; sleep 600"].map(str::to_owned).to_vec()),
            host_config: Some(HostConfig { network_mode: Some("none".into()), ..HostConfig::default() }),
            ..ContainerCreateBody::default()
        };
        let options = CreateContainerOptionsBuilder::new().name(&name).build();
        lab.client().create_container(Some(options), body).await.unwrap();
        lab.engine().start(Service::Caddy).await.unwrap();
        assert_eq!(lab.engine().container(Service::Caddy).await.unwrap().unwrap().spec_digest, "");
        let log = genesis_tests::until("a log line", || async {
            Some(lab.engine().logs(Service::Caddy, 10, None, 1000).await.unwrap()).filter(|log| !log.is_empty())
        });
        assert!(log.await.ends_with("Z hello\n"), "a terminal's log, without what colours it");

        lab.client().pause_container(&name).await.unwrap();
        assert_eq!(lab.engine().container(Service::Caddy).await.unwrap().unwrap().phase, ContainerPhase::Other);
        lab.engine().start(Service::Caddy).await.unwrap();
        assert_eq!(lab.engine().container(Service::Caddy).await.unwrap().unwrap().phase, ContainerPhase::Running);
        lab.client().pause_container(&name).await.unwrap();
        let spec = lab.idle(0);
        start(&lab, &spec).await;
        let found = lab.engine().container(Service::Caddy).await.unwrap().unwrap();
        assert_eq!(found.spec_digest, spec.digest().to_string());
    }

    #[tokio::test]
    async fn two_networks_of_one_name_become_one() {
        let lab = Lab::from_env();
        let name = lab.settings().name.clone();
        lab.engine().ensure_network().await.unwrap();
        // Newer engines refuse this by themselves.
        let again = NetworkCreateRequest { name: name.clone(), ..NetworkCreateRequest::default() };
        drop(lab.client().create_network(again).await);
        start(&lab, &lab.idle(0)).await;
        let listed = lab.client().list_networks(None::<ListNetworksOptions>).await.unwrap();
        assert_eq!(listed.iter().filter(|network| network.name.as_ref() == Some(&name)).count(), 1);
    }

    #[tokio::test]
    async fn the_crash_journal_of_n8n_is_removed_before_its_start() {
        let lab = Lab::from_env();
        let spec = ContainerSpec {
            ports: Vec::<Port>::new(),
            image: lab.settings().images[&Service::Caddy].clone(),
            command: lab.idle(0).command,
            ..n8n(&lab)
        };
        lab.engine().ensure_network().await.unwrap();
        lab.engine().create(&spec).await.unwrap();
        let journal = Path::new(&lab.settings().folder).join("n8n/crash.journal");
        std::fs::write(&journal, "").unwrap();
        lab.engine().start(Service::N8n).await.unwrap();
        assert!(!journal.exists());
        std::fs::write(&journal, "").unwrap();
        lab.engine().start(Service::N8n).await.unwrap();
        assert!(journal.exists(), "that of a running one is its own");
    }

    #[tokio::test]
    async fn the_stack_of_the_core_comes_up_with_few_rights_and_stops_cleanly() {
        let lab = Lab::from_env();
        let settings = lab.settings();
        lab.start_postgres().await;
        start(&lab, &n8n(&lab)).await;
        let proxy = lab.spec(Service::Caddy);
        lab.engine().create(&proxy).await.unwrap();
        let config = r#"{"admin": {"disabled": true}, "apps": {"http": {"servers": {"all": {"listen": [":80"],
            "routes": [{"handle": [{"handler": "reverse_proxy", "upstreams": [{"dial": "n8n:5678"}]}]}]}}}}}"#;
        std::fs::write(Path::new(&settings.folder).join("proxy/caddy.json"), config).unwrap();
        lab.engine().start(Service::Caddy).await.unwrap();

        genesis_agent::real::install_crypto();
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let url = format!("http://127.0.0.1:{}/rest/settings", settings.http_port);
        genesis_tests::until("n8n to answer through the proxy", || async {
            let text = client.get(&url).send().await.ok()?.text().await.ok()?;
            text.contains("userManagement").then_some(())
        })
        .await;
        assert_eq!(lab.database().running_executions().await.unwrap(), 0, "with n8n's own tables");
        let error = lab.database().snapshot().await.unwrap_err();
        assert_eq!((error.code, error.kind), ("database_in_use", ErrorKind::Transient), "{error}");
        for service in [Service::Caddy, Service::N8n, Service::Postgres] {
            assert_eq!(lab.engine().stop(service).await.unwrap(), Some(0), "{service}");
            assert!(!lab.engine().container(service).await.unwrap().unwrap().oom_killed);
        }
    }

    #[tokio::test]
    async fn a_sequence_that_was_cut_between_two_statements_is_finished_by_the_next() {
        let lab = Lab::from_env();
        let database = lab.database();
        lab.start_postgres().await;
        lab.note("first").await;
        let sql = async |statement: &str| lab.sql("postgres", statement).await;
        let names = "SELECT string_agg(datname, ',' ORDER BY datname) FROM pg_database WHERE datname LIKE 'n8n%'";

        // A snapshot cut off before its last rename: no copy yet.
        sql("CREATE DATABASE n8n_before_new TEMPLATE n8n").await;
        assert!(!database.restore_snapshot().await.unwrap());
        database.snapshot().await.unwrap();
        assert_eq!(sql(names).await, "n8n,n8n_before");
        // A restore cut off after its renames: the next one has only to tidy up, and says that there was a copy.
        lab.note("second").await;
        sql("BEGIN; ALTER DATABASE n8n RENAME TO n8n_gone; ALTER DATABASE n8n_before RENAME TO n8n; COMMIT").await;
        assert!(database.restore_snapshot().await.unwrap());
        assert_eq!((lab.notes().await.as_str(), sql(names).await.as_str()), ("first", "n8n"));
        assert!(!database.restore_snapshot().await.unwrap());
        // The same, and no restore follows but another snapshot.
        sql("CREATE DATABASE n8n_gone TEMPLATE n8n").await;
        database.snapshot().await.unwrap();
        assert_eq!(sql(names).await, "n8n,n8n_before");
        // A restore of a dump cut off before and after its renames.
        database.dump("a.dump").await.unwrap();
        lab.note("third").await;
        sql("CREATE DATABASE n8n_restored TEMPLATE template0").await;
        sql("CREATE DATABASE n8n_replaced TEMPLATE template0").await;
        database.restore_dump("a.dump").await.unwrap();
        assert_eq!((lab.notes().await.as_str(), sql(names).await.as_str()), ("first", "n8n,n8n_before"));
        // An agent that died and came back: the first sequence still runs when the second begins.
        let (one, two) = tokio::join!(database.snapshot(), database.snapshot());
        one.unwrap();
        two.unwrap();
        assert!(database.restore_snapshot().await.unwrap());
        assert_eq!((lab.notes().await.as_str(), sql(names).await.as_str()), ("first", "n8n"));
        // A dump cut off leaves nothing that could be taken for one.
        let folder = Path::new(&lab.settings().folder).join("backups");
        std::fs::write(folder.join(".b.dump.new"), "half").unwrap();
        assert_eq!(database.restore_dump("b.dump").await.unwrap_err().code, "dump_missing");
        for name in ["../a.dump", ".b.dump.new", "-a", ""] {
            assert_eq!(database.dump(name).await.unwrap_err().code, "database_refused", "{name:?}");
        }
        let (bytes, digest) = database.dump("b.dump").await.unwrap();
        let content = std::fs::read(folder.join("b.dump")).unwrap();
        assert_eq!((bytes, digest), (content.len() as u64, genesis_shared::id::Digest::of(&content).to_string()));
        assert!(!folder.join(".b.dump.new").exists());
    }
}
