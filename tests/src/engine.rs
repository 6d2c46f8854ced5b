//! The container engine under test: a stack of its own on the real one, or the pretend one; both behind [`Stage`].
#![allow(async_fn_in_trait, reason = "one task drives a test; its futures need not be Send")]

use std::cell::RefCell;
use std::net::TcpListener;
use std::rc::Rc;

use genesis_agent::core::stack::{self, StackRow, StackSettings};
use genesis_agent::ports::stack::{ContainerSpec, Containers, Database};
use genesis_agent::real::database::Postgres;
use genesis_agent::real::docker::Docker;
use genesis_agent::sim::engine::SimImage;
use genesis_agent::sim::n8n::{Config, Standin};
use genesis_agent::sim::{Crash, SimClock, SimDatabase, SimEngine};
use genesis_shared::id::Digest;
use genesis_shared::secret::Secret;
use genesis_shared::stack::{ImageRef, Service};
use tempfile::TempDir;

/// Address of the engine, `unix:///…`.
pub const HOST_VARIABLE: &str = "DOCKER_HOST";
/// The image of n8n that tests run.
pub const N8N_VARIABLE: &str = "GENESIS_IMAGE_N8N";
/// An older n8n, for swaps.
pub const N8N_OLD_VARIABLE: &str = "GENESIS_IMAGE_N8N_OLD";
/// The image of the database.
pub const POSTGRES_VARIABLE: &str = "GENESIS_IMAGE_POSTGRES";
/// The image of the proxy.
pub const CADDY_VARIABLE: &str = "GENESIS_IMAGE_CADDY";

/// What a test of the engine's contract needs, whichever engine it is.
pub trait Stage {
    /// The engine.
    type Engine: Containers;
    /// The database.
    type Base: Database;
    /// The engine.
    fn engine(&self) -> &Self::Engine;
    /// The database in its container.
    fn database(&self) -> &Self::Base;
    /// How the stack is set up.
    fn settings(&self) -> &StackSettings;
    /// A container of the proxy's image that does nothing, and ends with this code when it is asked to stop.
    fn idle(&self, stop_code: i64) -> ContainerSpec;
    /// A line in that container's log.
    async fn say(&self, line: &str);
    /// Writes a note into n8n's database.
    async fn note(&self, text: &str);
    /// The notes in n8n's database, joined by commas.
    async fn notes(&self) -> String;
    /// Makes a dump unreadable from its middle on.
    fn break_dump(&self, file: &str);

    /// The database's container as the core has it, with what it mounts.
    fn postgres(&self) -> ContainerSpec {
        let secret = Secret::new(b"a-password-of-nobody".to_vec());
        self.engine().place_secret(stack::DATABASE_PASSWORD, stack::POSTGRES_UID, &secret).unwrap();
        self.spec(Service::Postgres)
    }
    /// A container as the core has it.
    fn spec(&self, service: Service) -> ContainerSpec {
        let settings = self.settings();
        stack::spec(service, &settings.images[&service], settings, &StackRow::default(), 972)
    }
    /// The database's container, until it takes connections.
    async fn start_postgres(&self) {
        self.engine().ensure_network().await.unwrap();
        self.engine().create(&self.postgres()).await.unwrap();
        self.engine().start(Service::Postgres).await.unwrap();
        crate::until("the database to take connections", || async { self.database().is_ready().await.then_some(()) })
            .await;
    }
}

/// A stack of its own on the real engine: unique name, free ports, a temporary folder; all of it is removed when
/// dropped.
pub struct Lab {
    settings: StackSettings,
    docker: Rc<Docker>,
    database: Postgres<Docker>,
    _folder: TempDir,
}

impl Lab {
    /// With the engine and the images that the environment names.
    ///
    /// # Panics
    /// One of them is not named: tests of the real engine are left out by name where there is none, so that none
    /// passes unseen.
    pub fn from_env() -> Self {
        let folder = tempfile::tempdir().unwrap();
        // Unique on an engine that others use, too.
        let unique = folder.path().file_name().unwrap().to_string_lossy().to_lowercase();
        let unique: String = unique.chars().filter(char::is_ascii_alphanumeric).collect();
        let name = format!("genesis-{unique}-{}", std::process::id());
        let settings = settings(&name, &folder.path().join("stack").to_string_lossy(), &variable(HOST_VARIABLE));
        let settings = StackSettings {
            images: [
                (Service::Postgres, image_from_env(POSTGRES_VARIABLE)),
                (Service::N8n, image_from_env(N8N_VARIABLE)),
                (Service::Caddy, image_from_env(CADDY_VARIABLE)),
            ]
            .into(),
            ..settings
        };
        let docker = Rc::new(Docker::new(&settings));
        let database = Postgres::new(Rc::clone(&docker), &settings);
        Self { settings, docker, database, _folder: folder }
    }

    /// The engine, for whoever keeps it.
    pub fn docker(&self) -> Rc<Docker> {
        Rc::clone(&self.docker)
    }

    /// A statement in a database, as n8n's user.
    pub async fn sql(&self, database: &str, statement: &str) -> String {
        let argv = ["psql", "-X", "-w", "-q", "-A", "-t", "-U", "n8n", "-d", database, "-c", statement];
        self.docker.run(Service::Postgres, &argv).await.unwrap().trim().to_owned()
    }

    /// Every image of the engine but this one: what a test must not prune.
    pub async fn images_but(&self, image: &ImageRef) -> Vec<ImageRef> {
        let id = self.docker.image(image).await.unwrap().map(|found| found.id);
        let all = self.client().list_images(None::<bollard::query_parameters::ListImagesOptions>).await.unwrap();
        let others = all.into_iter().map(|found| found.id).filter(|other| Some(other) != id.as_ref());
        others.map(|id| format!("kept@{id}").parse().unwrap()).collect()
    }

    /// A client of the engine's own, for what no port can do.
    pub fn client(&self) -> bollard::Docker {
        bollard::Docker::connect_with_unix(&self.settings.engine_socket, 60, bollard::API_DEFAULT_VERSION).unwrap()
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        let settings = self.settings.clone();
        // In a thread and a runtime of its own: a test that panics drops this in the middle of its runtime.
        let removal = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(Docker::new(&settings).remove_data())
        });
        match removal.join() {
            Ok(Ok(())) => {}
            Ok(Err(error)) if std::thread::panicking() => tracing::error!(%error, "the stack of a test stays behind"),
            Ok(Err(error)) => panic!("the stack of a test stays behind: {error}"),
            Err(_) => tracing::error!("the stack of a test stays behind"),
        }
    }
}

impl Stage for Lab {
    type Engine = Docker;
    type Base = Postgres<Docker>;
    fn engine(&self) -> &Docker {
        &self.docker
    }
    fn database(&self) -> &Postgres<Docker> {
        &self.database
    }
    fn settings(&self) -> &StackSettings {
        &self.settings
    }
    fn idle(&self, stop_code: i64) -> ContainerSpec {
        let script = format!("trap 'exit {stop_code}' TERM; while :; do sleep 0.05; done");
        ContainerSpec { command: vec!["sh".into(), "-c".into(), script], ..self.spec(Service::Caddy) }
    }
    async fn say(&self, line: &str) {
        let script = format!("echo '{line}' >/proc/1/fd/1");
        self.docker.run(Service::Caddy, &["sh", "-c", &script]).await.unwrap();
    }
    async fn note(&self, text: &str) {
        let insert = format!("CREATE TABLE IF NOT EXISTS notes (note text); INSERT INTO notes VALUES ('{text}')");
        self.sql("n8n", &insert).await;
    }
    async fn notes(&self) -> String {
        self.sql("n8n", "SELECT string_agg(note, ',') FROM notes").await
    }
    fn break_dump(&self, file: &str) {
        let path = std::path::Path::new(&self.settings.folder).join("backups").join(file);
        let content = std::fs::read(&path).unwrap();
        std::fs::write(&path, &content[..content.len() - 200]).unwrap();
    }
}

/// The pretend engine with images for everything.
pub struct Pretend {
    /// The engine and its knobs.
    pub engine: SimEngine,
    database: SimDatabase,
    settings: StackSettings,
}

impl Pretend {
    /// A fresh one.
    #[allow(clippy::new_without_default, reason = "it begins at a moment, which a default does not suggest")]
    pub fn new() -> Self {
        let standin = Rc::new(RefCell::new(Standin::new(Config::default(), 1)));
        let engine = SimEngine::new(standin, SimClock::new(), Crash::default());
        let settings = settings("genesis", "/var/lib/genesis/stack", "/run/docker.sock");
        let image = |service: Service| format!("{service}:1@{}", Digest::of(service.name().as_bytes()));
        let images = Service::ALL.map(|service| (service, image(service).parse::<ImageRef>().unwrap()));
        for (_, image) in &images {
            engine.offer(image, SimImage { size_mb: 100, ..SimImage::default() }, true);
        }
        let database = SimDatabase::new(engine.clone());
        Self { engine, database, settings: StackSettings { images: images.into(), ..settings } }
    }
}

impl Stage for Pretend {
    type Engine = SimEngine;
    type Base = SimDatabase;
    fn engine(&self) -> &SimEngine {
        &self.engine
    }
    fn database(&self) -> &SimDatabase {
        &self.database
    }
    fn settings(&self) -> &StackSettings {
        &self.settings
    }
    fn idle(&self, stop_code: i64) -> ContainerSpec {
        self.engine.state.borrow_mut().stop_codes.insert(Service::Caddy, stop_code);
        self.spec(Service::Caddy)
    }
    async fn say(&self, line: &str) {
        // No two lines at the same moment.
        tokio::time::advance(std::time::Duration::from_millis(1)).await;
        self.engine.say(Service::Caddy, line);
    }
    async fn note(&self, text: &str) {
        self.engine.state.borrow_mut().databases.content.notes.push(text.into());
    }
    async fn notes(&self) -> String {
        self.engine.state.borrow().databases.content.notes.join(",")
    }
    fn break_dump(&self, file: &str) {
        self.engine.state.borrow_mut().databases.broken_dumps.push(file.into());
    }
}

/// The port to an engine at any socket.
pub fn docker_at(socket: &str) -> Docker {
    Docker::new(&settings("genesis-nowhere", "/nonexistent/genesis/stack", socket))
}

fn settings(name: &str, folder: &str, socket: &str) -> StackSettings {
    StackSettings {
        name: name.into(),
        folder: folder.into(),
        engine_socket: socket.trim_start_matches("unix://").into(),
        images: [].into(),
        host: "tenant.example".into(),
        publish_ip: "127.0.0.1".into(),
        public_ip: None,
        http_port: free_port(),
        https_port: free_port(),
        n8n_port: free_port(),
        postgres_port: free_port(),
        memory_mb: None,
        acme_directory: None,
        acme_ca_file: None,
        timezone: "Etc/UTC".into(),
    }
}

/// An image that an environment variable names.
///
/// # Panics
/// It is not set, or names no image with a digest.
pub fn image_from_env(name: &str) -> ImageRef {
    variable(name).parse().unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set; tests/run.sh sets it"))
}

/// A port that is free now. The engine wants a number; it is taken so soon afterwards that another process hardly can.
fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}
