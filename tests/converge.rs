//! A real stack that somebody broke by hand is put right without being asked, and what runs in n8n's container reaches
//! nothing of the droplet but what it needs.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod real_engine {
    use std::path::Path;

    use bollard::query_parameters::{InspectContainerOptions, RemoveContainerOptionsBuilder, StopContainerOptions};
    use genesis_agent::ports::stack::{ContainerPhase, Containers, Proxy};
    use genesis_agent::real::caddy::Caddy;
    use genesis_shared::stack::Service;
    use genesis_tests::engine::Stage;
    use genesis_tests::stack::{StackRig, patiently};
    use serde_json::{Value, json};

    async fn runs(rig: &StackRig, service: Service) {
        patiently(&format!("{service} to run"), || async {
            let info = rig.lab.engine().container(service).await.ok()??;
            (info.phase == ContainerPhase::Running).then_some(())
        })
        .await;
    }

    #[tokio::test]
    async fn containers_that_are_removed_stopped_or_edited_and_a_changed_proxy_are_put_right() {
        let rig = StackRig::new().await;
        let (engine, name) = (rig.lab.client(), rig.lab.settings().name.clone());
        let by_force = || Some(RemoveContainerOptionsBuilder::new().force(true).build());
        for service in [Service::N8n, Service::Caddy, Service::Postgres] {
            engine.remove_container(&format!("{name}-{service}"), by_force()).await.unwrap();
        }
        rig.serves().await;
        for service in Service::ALL {
            engine.stop_container(&format!("{name}-{service}"), None::<StopContainerOptions>).await.unwrap();
            runs(&rig, service).await;
        }
        rig.serves().await;
        // One made by hand under the stack's name is none of ours.
        let ours =
            patiently("n8n's container", || async { rig.lab.engine().container(Service::N8n).await.ok()? }).await;
        let mut by_hand = rig.lab.spec(Service::N8n);
        by_hand.env.insert("N8N_BASIC_AUTH_ACTIVE".into(), "false".into());
        rig.lab.engine().create(&by_hand).await.unwrap();
        rig.lab.engine().start(Service::N8n).await.unwrap();
        patiently("n8n's container to be ours again", || async {
            let info = rig.lab.engine().container(Service::N8n).await.ok()??;
            (info.spec_digest == ours.spec_digest).then_some(())
        })
        .await;
        rig.serves().await;
        // Somebody puts another configuration in.
        let proxy = Caddy::new(rig.lab.settings()).unwrap();
        let config = proxy.config().await.unwrap();
        let mut edited = config.clone();
        edited["apps"]["http"]["servers"]["public"]["routes"] = json!([]);
        proxy.load(&edited).await.unwrap();
        patiently("the proxy to be ours again", || async { (proxy.config().await.ok()? == config).then_some(()) })
            .await;
        rig.serves().await;
    }

    /// Run by n8n's own Node within its container: what can be connected to, and which sockets are among its files.
    const LOOK_AROUND: &str = r#"
        const net = require('net'), fs = require('fs');
        const reach = (host, port) => new Promise(resolve => {
            const socket = net.connect({host, port, timeout: 3000});
            const end = found => { socket.destroy(); resolve([`${host}:${port}`, found]); };
            socket.on('connect', () => end(true)); socket.on('timeout', () => end(false)); socket.on('error', () => end(false));
        });
        const gateway = fs.readFileSync('/proc/net/route', 'utf8').split('\n').map(l => l.split('\t')).filter(l => l[1] === '00000000')
            .map(l => l[2].match(/../g).reverse().map(h => parseInt(h, 16)).join('.'))[0];
        const sockets = fs.readFileSync('/proc/net/unix', 'utf8').split('\n').map(l => l.split(' ').pop()).filter(p => p.startsWith('/'));
        const files = ['/var/run/docker.sock', '/run/docker.sock', '/run/genesis', '/run/genesis/admin.sock', '/run/genesis/agent.sock',
            '/var/lib/genesis', '/run/containerd/containerd.sock'].filter(p => fs.existsSync(p));
        Promise.all([reach('postgres', 5432), reach('caddy', 2019), reach('caddy', 9099), reach(gateway, 2375), reach(gateway, 2376),
            reach(gateway, 2019), reach(gateway, 5432), reach(gateway, 22)])
            .then(found => console.log(JSON.stringify({gateway, sockets, files, reached: Object.fromEntries(found)})));
    "#;

    #[tokio::test]
    async fn nothing_of_the_droplet_is_in_reach_of_n8ns_container_but_its_database() {
        let rig = StackRig::new().await;
        // The engine's own socket is where no container sees it; the proxy's is where only the proxy does.
        assert!(Path::new(&rig.lab.settings().folder).join("proxy/admin.sock").exists());
        let text = rig.lab.engine().run(Service::N8n, &["node", "-e", LOOK_AROUND]).await.unwrap();
        let seen: Value = serde_json::from_str(text.trim()).unwrap();
        assert_eq!(seen["files"], json!([]), "{seen}");
        assert_eq!(seen["sockets"], json!([]), "{seen}");
        for (address, reached) in seen["reached"].as_object().unwrap() {
            let is_needed = address == "postgres:5432";
            assert_eq!(reached, &json!(is_needed), "{address} from n8n's container: {seen}");
        }
        let (engine, name) = (rig.lab.client(), format!("{}-n8n", rig.lab.settings().name));
        let inspected = engine.inspect_container(&name, None::<InspectContainerOptions>).await.unwrap();
        let inspected = serde_json::to_string(&inspected).unwrap();
        for secret in ["postgres-password", "n8n-encryption-key"] {
            let text = std::fs::read_to_string(rig.rig.agent_dir().join("secrets").join(secret)).unwrap();
            assert!(!inspected.contains(text.trim()), "{secret} in docker inspect");
        }
    }
}
