//! n8n's database, by the tools in its own container: over the local socket, as n8n's user, without a password.
//!
//! Copies of the database are databases beside it. Making a database takes a while and cannot be part of a
//! transaction; renaming one takes a moment and can. So whatever replaces something is made whole under a name that
//! nobody looks for, and renamed last:
//!
//! | name | what it is | who may meet it after a crash |
//! |---|---|---|
//! | `n8n` | the database | always there, always whole |
//! | `n8n_before` | the copy | whole, or not there |
//! | `n8n_before_new` | a copy that was not finished, or not renamed yet | the next snapshot, which drops it |
//! | `n8n_restored` | a dump that was not read to its end | the next restore, which drops it |
//! | `n8n_gone` | what a copy replaced | the next call about copies, which drops it |
//! | `n8n_replaced` | what a dump replaced | the next restore of a dump or removal of the copy, which drops it |
//!
//! A program in the container goes on when the agent dies. So every sequence first takes a lock that lasts as long as
//! its session: the repetition waits until the first one has ended, and then finds what it left.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use data_encoding::HEXLOWER;
use genesis_shared::limits::BACKUPS_MAX;
use genesis_shared::stack::Service;
use genesis_shared::timestamp::Timestamp;

use crate::core::stack::{BACKUPS, BACKUPS_FOLDER, DATABASE, StackSettings};
use crate::ports::stack::{Containers, Database};
use crate::ports::{EffectError, ErrorKind};

/// The database that sessions about databases are opened on: it is always there, and nobody copies it.
const NEUTRAL: &str = "postgres";
/// Any number, the same in every session.
const LOCK: &str = "SELECT pg_advisory_lock(20260101)";
/// How the answer to a question begins, so that it is told from what else a sequence writes.
const ANSWER: &str = "genesis:";
/// Records of executions that stay when the disk runs full.
const EXECUTIONS_KEPT: u32 = 1_000;
/// Bytes that are read between two turns of everybody else.
const READ_BYTES: usize = 256 * 1024;

/// The database, through the engine.
pub struct Postgres<C> {
    containers: Rc<C>,
    backups: PathBuf,
}

impl<C: Containers> Postgres<C> {
    /// Of the stack of these settings.
    pub fn new(containers: Rc<C>, settings: &StackSettings) -> Self {
        Self { containers, backups: Path::new(&settings.folder).join(BACKUPS) }
    }

    async fn run(&self, argv: &[&str]) -> Result<String, EffectError> {
        self.containers.run(Service::Postgres, argv).await.map_err(told)
    }

    /// Statements one after the other in one session, each in a transaction of its own; stops at the first that fails.
    /// Answers what the last question among them said.
    async fn session(&self, database: &str, statements: &[&str]) -> Result<String, EffectError> {
        // `-w`: never asks for a password. `VERBOSITY`: errors carry their SQLSTATE.
        let head = ["psql", "-X", "-w", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-v", "VERBOSITY=verbose"];
        let mut argv = head.to_vec();
        argv.extend(["-U", DATABASE, "-d", database]);
        for &statement in statements {
            argv.extend(["-c", statement]);
        }
        let out = self.run(&argv).await?;
        Ok(out.lines().filter_map(|line| line.strip_prefix(ANSWER)).next_back().unwrap_or_default().to_owned())
    }

    async fn number(&self, database: &str, what: &str) -> Result<u64, EffectError> {
        let answer = self.session(database, &[&format!("SELECT '{ANSWER}' || ({what})")]).await?;
        answer.parse().map_err(|_| refused(format!("the database answered {answer:?} where a number was expected")))
    }

    /// All but the newest go.
    fn remove_old_dumps(&self) -> io::Result<()> {
        let mut dumps = Vec::new();
        for entry in fs::read_dir(&self.backups)? {
            let entry = entry?;
            if entry.path().extension().is_some_and(|extension| extension == "dump") {
                dumps.push((entry.metadata()?.modified()?, entry.path()));
            }
        }
        dumps.sort();
        let too_many = dumps.len().saturating_sub(BACKUPS_MAX);
        dumps.into_iter().take(too_many).try_for_each(|(_, path)| fs::remove_file(path))
    }

    /// The file of the backup folder as this machine and as the container call it.
    fn file(&self, name: &str) -> Result<(PathBuf, String), EffectError> {
        let is_plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
        let fits =
            (1..=200).contains(&name.len()) && name.as_bytes()[0].is_ascii_alphanumeric() && name.bytes().all(is_plain);
        if !fits {
            return Err(refused(format!("{name:?} is no name for a backup: letters, digits, dots and dashes only")));
        }
        Ok((self.backups.join(name), format!("{BACKUPS_FOLDER}/{name}")))
    }
}

fn drop_database(name: &str) -> String {
    // FORCE: throws out whoever is connected, such as a program that outlived the agent.
    format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)")
}

/// Sends away whoever is connected to n8n's database and to what is to take its place.
fn throw_out(other: &str) -> String {
    format!(
        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
         WHERE datname IN ('{DATABASE}', '{other}') AND pid <> pg_backend_pid()"
    )
}

/// Puts another database in the place of n8n's, if it is there: both renames or none.
fn replace_by(other: &str, gone: &str) -> String {
    format!(
        "DO $$ BEGIN IF EXISTS (SELECT FROM pg_database WHERE datname = '{other}') THEN \
         ALTER DATABASE {DATABASE} RENAME TO {gone}; \
         ALTER DATABASE {other} RENAME TO {DATABASE}; END IF; END $$"
    )
}

impl<C: Containers> Database for Postgres<C> {
    async fn is_ready(&self) -> bool {
        // Over the network, also from within: while it makes its first files it listens on its socket alone.
        let argv = ["pg_isready", "-q", "-h", "127.0.0.1", "-U", DATABASE, "-d", DATABASE];
        self.run(&argv).await.is_ok()
    }

    async fn running_executions(&self) -> Result<u64, EffectError> {
        let count = "SELECT count(*) FROM execution_entity WHERE status IN ('new', 'running')";
        match self.number(DATABASE, count).await {
            // Before n8n's first start there is no such table.
            Err(error) if error.message.contains("42P01") => Ok(0),
            counted => counted,
        }
    }

    async fn snapshot(&self) -> Result<(), EffectError> {
        let (new, before) = (format!("{DATABASE}_before_new"), format!("{DATABASE}_before"));
        let sequence = [
            LOCK,
            &drop_database(&format!("{DATABASE}_gone")),
            &drop_database(&new),
            &format!("CREATE DATABASE {new} TEMPLATE {DATABASE}"),
            &drop_database(&before),
            // Cut off before this, there is no copy; never half of one.
            &format!("ALTER DATABASE {new} RENAME TO {before}"),
        ];
        self.session(NEUTRAL, &sequence).await.map(drop)
    }

    async fn restore_snapshot(&self) -> Result<bool, EffectError> {
        let (before, gone) = (format!("{DATABASE}_before"), format!("{DATABASE}_gone"));
        let sequence = [
            LOCK,
            // Where there is no copy but something that was replaced, an earlier call was cut off after the renames.
            &format!("SELECT '{ANSWER}' || count(*) FROM pg_database WHERE datname IN ('{before}', '{gone}')"),
            &drop_database(&gone),
            &throw_out(&before),
            &replace_by(&before, &gone),
            &drop_database(&gone),
        ];
        Ok(self.session(NEUTRAL, &sequence).await? != "0")
    }

    async fn drop_snapshot(&self) -> Result<(), EffectError> {
        let ends = ["_before", "_before_new", "_gone", "_replaced"];
        let drops = ends.map(|end| drop_database(&format!("{DATABASE}{end}")));
        let sequence: Vec<&str> = std::iter::once(LOCK).chain(drops.iter().map(String::as_str)).collect();
        self.session(NEUTRAL, &sequence).await.map(drop)
    }

    async fn dump(&self, file: &str) -> Result<(u64, String), EffectError> {
        let (path, _) = self.file(file)?;
        let new = format!(".{file}.new");
        let new_path = self.backups.join(&new);
        // A program that outlived the agent goes on writing into the file that has no name any more.
        remove_file(&new_path)?;
        let target = format!("{BACKUPS_FOLDER}/{new}");
        let argv = ["pg_dump", "-w", "-U", DATABASE, "-d", DATABASE, "-Fc", "-f", &target];
        if let Err(error) = self.run(&argv).await {
            // Half a dump only takes space.
            remove_file(&new_path)?;
            return Err(error);
        }
        let digest = digest_of_file(&new_path).await.map_err(|error| on_disk("read", &new_path, &error))?;
        let keep = || {
            File::open(&new_path)?.sync_all()?;
            fs::rename(&new_path, &path)?;
            File::open(&self.backups)?.sync_all()
        };
        keep().map_err(|error| on_disk("keep", &path, &error))?;
        self.remove_old_dumps().map_err(|error| on_disk("tidy up", &self.backups, &error))?;
        Ok(digest)
    }

    async fn restore_dump(&self, file: &str) -> Result<(), EffectError> {
        let (path, source) = self.file(file)?;
        if !path.is_file() {
            let message = format!("there is no backup {file} in {}", self.backups.display());
            return Err(EffectError::new(ErrorKind::Permanent, "dump_missing", message));
        }
        let (restored, gone) = (format!("{DATABASE}_restored"), format!("{DATABASE}_replaced"));
        let clear = drop_database(&restored);
        let create = format!("CREATE DATABASE {restored} TEMPLATE template0");
        self.session(NEUTRAL, &[LOCK, &clear, &drop_database(&gone), &create]).await?;
        let head = ["pg_restore", "-w", "-U", DATABASE, "-d", &restored];
        let argv =
            [&head[..], &["--exit-on-error", "--single-transaction", "--no-owner", "--no-acl", &source]].concat();
        if let Err(error) = self.run(&argv).await {
            self.session(NEUTRAL, &[LOCK, &clear]).await?;
            return Err(error);
        }
        let swap = [LOCK, &throw_out(&restored), &replace_by(&restored, &gone), &drop_database(&gone)];
        self.session(NEUTRAL, &swap).await.map(drop)
    }

    async fn last_execution_at(&self) -> Result<Option<Timestamp>, EffectError> {
        let newest = "SELECT coalesce((SELECT extract(epoch FROM \"startedAt\") * 1000 FROM execution_entity \
                      WHERE \"startedAt\" IS NOT NULL ORDER BY id DESC LIMIT 1), 0)::bigint";
        match self.number(DATABASE, newest).await {
            Ok(0) => Ok(None),
            Err(error) if error.message.contains("42P01") => Ok(None),
            Ok(millis) => Ok(i64::try_from(millis).ok().map(Timestamp::from_millis)),
            Err(error) => Err(error),
        }
    }

    async fn prune_executions(&self) -> Result<u64, EffectError> {
        // What belongs to an execution goes with it (foreign keys with ON DELETE CASCADE).
        let statement = format!(
            "WITH gone AS (DELETE FROM execution_entity WHERE status NOT IN ('new', 'running', 'waiting') AND id < \
             (SELECT min(id) FROM (SELECT id FROM execution_entity ORDER BY id DESC LIMIT {EXECUTIONS_KEPT}) AS newest) \
             RETURNING 1) SELECT '{ANSWER}' || count(*) FROM gone"
        );
        // A plain VACUUM lets the room be used again without another copy of the table, for which there is none.
        let answer = self.session(DATABASE, &[&statement, "VACUUM execution_data"]).await?;
        answer.parse().map_err(|_| refused(format!("the database answered {answer:?} where a number was expected")))
    }

    async fn size_mb(&self) -> Result<u64, EffectError> {
        self.number(NEUTRAL, &format!("SELECT pg_database_size('{DATABASE}') / 1048576")).await
    }
}

/// What a failure of a program or of the engine says about the database.
fn told(error: EffectError) -> EffectError {
    let (kind, code) = match error.code {
        "container_missing" | "container_stopped" => (ErrorKind::Transient, "database_unreachable"),
        "program_failed" => meaning(&error.message),
        _ => return error,
    };
    EffectError { kind, code, ..error }
}

/// By SQLSTATE where there is one (PostgreSQL documentation, appendix A), else by the words of its programs.
fn meaning(message: &str) -> (ErrorKind, &'static str) {
    let says = |words: &[&str]| words.iter().any(|words| message.contains(words));
    if says(&["53100", "No space left on device"]) {
        (ErrorKind::Transient, "disk_full")
    } else if says(&["55006", "is being accessed by other users"]) {
        (ErrorKind::Transient, "database_in_use")
    } else if says(&["57P01", "57P02", "57P03", "connection to server", "server closed the connection"]) {
        (ErrorKind::Transient, "database_unreachable")
    } else {
        (ErrorKind::Permanent, "database_refused")
    }
}

fn refused(message: String) -> EffectError {
    EffectError::new(ErrorKind::Permanent, "database_refused", message)
}

fn on_disk(doing: &str, path: &Path, error: &io::Error) -> EffectError {
    let is_full = matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded);
    let (kind, code) =
        if is_full { (ErrorKind::Transient, "disk_full") } else { (ErrorKind::Permanent, "database_refused") };
    EffectError::new(kind, code, format!("cannot {doing} {}: {error}", path.display()))
}

fn remove_file(path: &Path) -> Result<(), EffectError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(on_disk("remove", path, &error)),
        _ => Ok(()),
    }
}

/// Length and digest, read piece by piece so that nobody else waits for the whole.
async fn digest_of_file(path: &Path) -> io::Result<(u64, String)> {
    let (mut file, mut buffer) = (File::open(path)?, vec![0; READ_BYTES]);
    let (mut context, mut length) = (ring::digest::Context::new(&ring::digest::SHA256), 0);
    loop {
        let read = file.read(&mut buffer)?;
        if read == 0 {
            return Ok((length, format!("sha256:{}", HEXLOWER.encode(context.finish().as_ref()))));
        }
        context.update(&buffer[..read]);
        length += read as u64;
        tokio::task::yield_now().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_databases_words_become_codes() {
        let table = [
            (
                "psql ended with code 1: ERROR:  55006: source database \"n8n\" is being accessed by other users",
                "database_in_use",
            ),
            ("psql ended with code 1: ERROR:  53100: could not extend file: No space left on device", "disk_full"),
            (
                "psql ended with code 2: psql: error: connection to server on socket \"x\" failed: No such file",
                "database_unreachable",
            ),
            ("psql ended with code 1: ERROR:  42601: syntax error", "database_refused"),
        ];
        for (message, code) in table {
            let error = told(EffectError::new(ErrorKind::Permanent, "program_failed", message));
            assert_eq!(error.code, code, "{message}");
            let is_permanent = error.kind == ErrorKind::Permanent;
            assert_eq!(is_permanent, code == "database_refused", "{message}");
        }
        let away = told(EffectError::new(ErrorKind::Permanent, "container_missing", "x"));
        assert_eq!((away.kind, away.code), (ErrorKind::Transient, "database_unreachable"));
        let engine = EffectError::new(ErrorKind::Ambiguous, "engine_silent", "x");
        assert_eq!(told(engine.clone()), engine);
    }
}
