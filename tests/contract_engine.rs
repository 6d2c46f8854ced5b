//! What the agent believes of the container engine and of the database in it, checked with the same functions against
//! the pretend one and the real one, so that the pretence cannot drift from the truth.
#![allow(
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    reason = "a test that cannot go on, or meets anything else, fails"
)]

use genesis_agent::core::stack;
use genesis_agent::ports::stack::{ContainerPhase, Containers, Database, Port};
use genesis_agent::ports::{EffectError, ErrorKind};
use genesis_shared::secret::Secret;
use genesis_shared::stack::{ImageRef, Service};
use genesis_tests::engine::{Lab, Pretend, Stage};

fn code<T: std::fmt::Debug>(answer: Result<T, EffectError>) -> (&'static str, ErrorKind) {
    let error = answer.unwrap_err();
    assert!(!error.message.is_empty());
    (error.code, error.kind)
}

fn unknown() -> ImageRef {
    format!("127.0.0.1:1/genesis/nothing@{}", genesis_shared::id::Digest::of(b"nothing")).parse().unwrap()
}

async fn containers_keep_the_contract(stage: &impl Stage) {
    the_engine_says_what_it_is(stage).await;
    an_image_is_found_and_a_pull_of_one_that_is_here_does_nothing(stage).await;
    what_is_not_there_is_told_by_its_code(stage).await;
    a_container_is_made_started_stopped_and_removed_each_twice(stage).await;
    a_create_takes_the_place_of_what_is_there(stage).await;
    a_taken_port_is_told_by_its_code(stage).await;
    a_secret_has_to_be_placed_before_it_is_mounted(stage).await;
    a_program_answers_what_it_wrote_or_how_it_failed(stage).await;
    a_log_is_bounded_in_lines_bytes_and_time(stage).await;
    the_end_of_the_stack_can_be_asked_for_twice(stage).await;
}

async fn the_engine_says_what_it_is(stage: &impl Stage) {
    let engine = stage.engine().engine().await.unwrap();
    assert!(engine.version.starts_with(|c: char| c.is_ascii_digit()), "{engine:?}");
    assert!(engine.limits_memory && !engine.log_driver.is_empty() && engine.free_mb.is_some(), "{engine:?}");
}

async fn an_image_is_found_and_a_pull_of_one_that_is_here_does_nothing(stage: &impl Stage) {
    for image in stage.settings().images.values() {
        let found = stage.engine().image(image).await.unwrap().unwrap();
        assert!(found.id.starts_with("sha256:") && found.size_mb > 0, "{found:?}");
        assert_eq!(stage.engine().pull(image).await.unwrap(), found);
    }
}

async fn what_is_not_there_is_told_by_its_code(stage: &impl Stage) {
    let engine = stage.engine();
    assert_eq!(engine.image(&unknown()).await.unwrap(), None);
    let mut spec = stage.idle(0);
    spec.image = unknown();
    assert_eq!(code(engine.create(&spec).await), ("image_missing", ErrorKind::Permanent));
    assert_eq!(engine.container(Service::Caddy).await.unwrap(), None);
    assert_eq!(code(engine.start(Service::Caddy).await), ("container_missing", ErrorKind::Permanent));
    assert_eq!(code(engine.run(Service::Caddy, &["true"]).await), ("container_missing", ErrorKind::Permanent));
    assert_eq!(code(engine.logs(Service::Caddy, 1, None, 10).await), ("container_missing", ErrorKind::Permanent));
    assert_eq!(engine.stop(Service::Caddy).await.unwrap(), None);
    engine.remove(Service::Caddy).await.unwrap();
}

async fn a_container_is_made_started_stopped_and_removed_each_twice(stage: &impl Stage) {
    let (engine, spec) = (stage.engine(), stage.idle(7));
    engine.ensure_network().await.unwrap();
    engine.ensure_network().await.unwrap();
    engine.create(&spec).await.unwrap();
    let made = engine.container(Service::Caddy).await.unwrap().unwrap();
    assert_eq!((made.phase, made.spec_digest), (ContainerPhase::Created, spec.digest().to_string()));
    assert_eq!(made.image_id, engine.image(&spec.image).await.unwrap().unwrap().id);
    assert_eq!((made.pid, made.started_at), (None, None));
    assert_eq!(engine.stop(Service::Caddy).await.unwrap(), Some(0), "one that never ran");

    engine.start(Service::Caddy).await.unwrap();
    let first = engine.container(Service::Caddy).await.unwrap().unwrap();
    engine.start(Service::Caddy).await.unwrap();
    let second = engine.container(Service::Caddy).await.unwrap().unwrap();
    assert_eq!(first, second, "a second start starts nothing");
    assert_eq!(first.phase, ContainerPhase::Running);
    assert!(first.pid.is_some() && first.started_at.is_some() && !first.oom_killed, "{first:?}");

    assert_eq!(engine.stop(Service::Caddy).await.unwrap(), Some(7));
    assert_eq!(engine.stop(Service::Caddy).await.unwrap(), Some(7));
    let stopped = engine.container(Service::Caddy).await.unwrap().unwrap();
    assert_eq!(stopped.phase, ContainerPhase::Exited(7));
    assert_eq!(code(engine.run(Service::Caddy, &["true"]).await), ("container_stopped", ErrorKind::Transient));
    engine.start(Service::Caddy).await.unwrap();
    engine.remove(Service::Caddy).await.unwrap();
    engine.remove(Service::Caddy).await.unwrap();
    assert_eq!(engine.container(Service::Caddy).await.unwrap(), None);
}

async fn a_create_takes_the_place_of_what_is_there(stage: &impl Stage) {
    let (engine, mut spec) = (stage.engine(), stage.idle(0));
    engine.create(&spec).await.unwrap();
    engine.start(Service::Caddy).await.unwrap();
    let before = engine.container(Service::Caddy).await.unwrap().unwrap();
    spec.cpu_shares += 1;
    engine.create(&spec).await.unwrap();
    let after = engine.container(Service::Caddy).await.unwrap().unwrap();
    assert_ne!(before.id, after.id);
    assert_ne!(before.spec_digest, after.spec_digest);
    assert_eq!(after.phase, ContainerPhase::Created);
    engine.remove(Service::Caddy).await.unwrap();
}

async fn a_taken_port_is_told_by_its_code(stage: &impl Stage) {
    let (engine, mut spec) = (stage.engine(), stage.idle(0));
    // The database's container of the same stack has it.
    let port =
        Port { host_ip: "127.0.0.1".into(), host_port: spec.ports[0].host_port, container_port: 9, protocol: "tcp" };
    engine.create(&spec).await.unwrap();
    engine.start(Service::Caddy).await.unwrap();
    spec.service = Service::N8n;
    spec.ports = vec![port];
    engine.create(&spec).await.unwrap();
    assert_eq!(code(engine.start(Service::N8n).await), ("port_taken", ErrorKind::Transient));
    engine.stop(Service::Caddy).await.unwrap();
    engine.start(Service::N8n).await.unwrap();
    engine.remove(Service::N8n).await.unwrap();
    engine.remove(Service::Caddy).await.unwrap();
}

async fn a_secret_has_to_be_placed_before_it_is_mounted(stage: &impl Stage) {
    let (engine, spec) = (stage.engine(), stage.spec(Service::Postgres));
    assert_eq!(code(engine.create(&spec).await), ("mount_missing", ErrorKind::Permanent));
    for text in ["one", "one", "two"] {
        engine
            .place_secret(stack::DATABASE_PASSWORD, stack::POSTGRES_UID, &Secret::new(text.as_bytes().to_vec()))
            .unwrap();
    }
    engine.create(&spec).await.unwrap();
    engine.remove(Service::Postgres).await.unwrap();
}

async fn a_program_answers_what_it_wrote_or_how_it_failed(stage: &impl Stage) {
    let engine = stage.engine();
    engine.create(&stage.idle(0)).await.unwrap();
    engine.start(Service::Caddy).await.unwrap();
    assert_eq!(engine.run(Service::Caddy, &["echo", "a", "b"]).await.unwrap(), "a b\n");
    assert_eq!(engine.run(Service::Caddy, &["true"]).await.unwrap(), "");
    for program in ["false", "/no/such/program"] {
        let error = engine.run(Service::Caddy, &[program]).await.unwrap_err();
        assert_eq!((error.code, error.kind), ("program_failed", ErrorKind::Permanent), "{error}");
        assert!(error.message.contains(program), "{error}");
    }
    engine.remove(Service::Caddy).await.unwrap();
}

async fn a_log_is_bounded_in_lines_bytes_and_time(stage: &impl Stage) {
    let engine = stage.engine();
    engine.create(&stage.idle(0)).await.unwrap();
    engine.start(Service::Caddy).await.unwrap();
    for line in ["one", "two", "three"] {
        stage.say(line).await;
    }
    let log = async |lines, since, bytes| engine.logs(Service::Caddy, lines, since, bytes).await.unwrap();
    let all = genesis_tests::until("the log to be written", || async {
        Some(log(100, None, 10_000).await).filter(|text| text.lines().count() == 3)
    });
    let all = all.await;
    let words: Vec<_> = all.lines().map(|line| line.split_once(' ').unwrap()).collect();
    assert_eq!(words.iter().map(|(_, word)| *word).collect::<Vec<_>>(), ["one", "two", "three"]);
    let last = all.lines().last().unwrap();
    assert_eq!(log(1, None, 10_000).await, format!("{last}\n"));
    assert_eq!(log(100, None, last.len() + 1).await, format!("{last}\n"), "the newest is kept");
    let third = words[2].0.parse().unwrap();
    assert_eq!(log(100, Some(third), 10_000).await, format!("{last}\n"));
    engine.remove(Service::Caddy).await.unwrap();
}

async fn the_end_of_the_stack_can_be_asked_for_twice(stage: &impl Stage) {
    let engine = stage.engine();
    engine.create(&stage.idle(0)).await.unwrap();
    engine.start(Service::Caddy).await.unwrap();
    engine.remove_data().await.unwrap();
    engine.remove_data().await.unwrap();
    for service in Service::ALL {
        assert_eq!(engine.container(service).await.unwrap(), None);
    }
    assert_eq!(code(engine.create(&stage.spec(Service::Postgres)).await).0, "mount_missing", "secrets are gone, too");
}

async fn the_database_keeps_the_contract(stage: &impl Stage) {
    let database = stage.database();
    assert!(!database.is_ready().await);
    assert_eq!(code(database.size_mb().await), ("database_unreachable", ErrorKind::Transient));
    stage.start_postgres().await;
    assert_eq!(database.running_executions().await.unwrap(), 0);
    assert!(database.size_mb().await.unwrap() > 0);
    a_copy_comes_back_once(stage).await;
    a_dump_comes_back_whole_or_not_at_all(stage).await;
    data_outlive_the_container(stage).await;
    stage.engine().stop(Service::Postgres).await.unwrap();
    assert_eq!(code(database.snapshot().await), ("database_unreachable", ErrorKind::Transient));
    assert!(!database.is_ready().await);
}

async fn a_copy_comes_back_once(stage: &impl Stage) {
    let database = stage.database();
    assert!(!database.restore_snapshot().await.unwrap(), "there is none");
    stage.note("first").await;
    database.snapshot().await.unwrap();
    stage.note("second").await;
    database.snapshot().await.unwrap();
    stage.note("third").await;
    assert!(database.restore_snapshot().await.unwrap());
    assert_eq!(stage.notes().await, "first,second", "the newer copy took the place of the older");
    assert!(!database.restore_snapshot().await.unwrap());
    assert_eq!(stage.notes().await, "first,second");
    database.snapshot().await.unwrap();
    database.drop_snapshot().await.unwrap();
    database.drop_snapshot().await.unwrap();
    stage.note("third").await;
    assert!(!database.restore_snapshot().await.unwrap());
    assert_eq!(stage.notes().await, "first,second,third");
}

async fn a_dump_comes_back_whole_or_not_at_all(stage: &impl Stage) {
    let database = stage.database();
    assert_eq!(code(database.restore_dump("none.dump").await), ("dump_missing", ErrorKind::Permanent));
    let (bytes, digest) = database.dump("a.dump").await.unwrap();
    assert!(bytes > 0 && digest.starts_with("sha256:"), "{bytes} {digest}");
    stage.note("fourth").await;
    database.restore_dump("a.dump").await.unwrap();
    assert_eq!(stage.notes().await, "first,second,third");
    database.restore_dump("a.dump").await.unwrap();
    assert_eq!(stage.notes().await, "first,second,third");
    stage.note("fifth").await;
    stage.break_dump("a.dump");
    assert_eq!(code(database.restore_dump("a.dump").await), ("database_refused", ErrorKind::Permanent));
    assert_eq!(stage.notes().await, "first,second,third,fifth");
}

async fn data_outlive_the_container(stage: &impl Stage) {
    stage.start_postgres().await;
    assert_eq!(stage.notes().await, "first,second,third,fifth");
    stage.engine().remove(Service::Postgres).await.unwrap();
    stage.start_postgres().await;
    assert_eq!(stage.notes().await, "first,second,third,fifth");
}

mod pretend_engine {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn containers_keep_the_contract() {
        super::containers_keep_the_contract(&Pretend::new()).await;
    }

    #[tokio::test(start_paused = true)]
    async fn the_database_keeps_the_contract() {
        super::the_database_keeps_the_contract(&Pretend::new()).await;
    }
}

mod real_engine {
    use super::*;

    #[tokio::test]
    async fn containers_keep_the_contract() {
        super::containers_keep_the_contract(&Lab::from_env()).await;
    }

    #[tokio::test]
    async fn the_database_keeps_the_contract() {
        super::the_database_keeps_the_contract(&Lab::from_env()).await;
    }
}
