//! A program within a running container, to its end.

use std::time::Duration;

use bollard::container::LogOutput;
use bollard::exec::StartExecResults;
use bollard::models::{ExecConfig, ExecInspectResponse};
use futures_util::StreamExt;
use genesis_shared::stack::Service;

use super::failure::{Fate, failed, refused, silent};
use super::{Docker, LOOK_INTERVAL};
use crate::ports::{EffectError, ErrorKind};

/// How long a program may take: a dump of 10 GB at 10 MB/s is 17 minutes, twice that.
const PROGRAM_TIMEOUT: Duration = Duration::from_secs(2100);
/// How long the engine may take to tell the exit code after the end of the output.
const END_TIMEOUT: Duration = Duration::from_secs(10);
/// Most of a program's output that is kept. The longest answer is a list of some lines.
const OUTPUT_BYTES_MAX: usize = 256 * 1024;
/// How much of what it complained of is told.
const LAST_WORDS_BYTES: usize = 1000;

impl Docker {
    pub(super) async fn run_program(&self, service: Service, argv: &[&str]) -> Result<String, EffectError> {
        let name = self.name(service);
        let config = ExecConfig {
            attach_stdout: Some(true),
            attach_stderr: Some(true),
            cmd: Some(argv.iter().map(|&word| word.to_owned()).collect()),
            ..ExecConfig::default()
        };
        let call = |client: bollard::Docker| async move { client.create_exec(&name, config).await };
        let id = match self.settle("prepare a program", call).await? {
            Fate::Done(made) => made.id,
            Fate::Missing => return Err(self.missing(service)),
            Fate::Already => return Err(stopped(&self.name(service))),
        };
        let program = argv.first().copied().unwrap_or_default();
        let run = self.follow(&id, program);
        let (out, complaints) = match tokio::time::timeout(PROGRAM_TIMEOUT, run).await {
            Ok(ended) => ended?,
            Err(_) => return Err(silent(&format!("run {program}"), PROGRAM_TIMEOUT)),
        };
        match self.exit_code(&id, program).await? {
            0 => Ok(String::from_utf8_lossy(&out).into_owned()),
            code => Err(program_failed(program, &format!("ended with code {code}"), &complaints, &out)),
        }
    }

    /// What it writes to its end, and what it complains of.
    async fn follow(&self, id: &str, program: &str) -> Result<(Vec<u8>, Vec<u8>), EffectError> {
        let doing = format!("run {program}");
        let client = self.client(super::ANSWER_TIMEOUT)?;
        let started = client.start_exec(id, None).await.map_err(|error| not_started(program, &doing, &error))?;
        let StartExecResults::Attached { mut output, .. } = started else {
            return Err(refused(&doing, "it did not attach to its output"));
        };
        let (mut out, mut complaints) = (Vec::new(), Vec::new());
        while let Some(piece) = output.next().await {
            match piece.map_err(|error| failed(&doing, &error))? {
                LogOutput::StdErr { message } => {
                    complaints.extend_from_slice(&message);
                    let surplus = complaints.len().saturating_sub(LAST_WORDS_BYTES);
                    complaints.drain(..surplus);
                }
                LogOutput::StdOut { message } | LogOutput::Console { message } | LogOutput::StdIn { message } => {
                    out.extend_from_slice(&message);
                }
            }
            if out.len() > OUTPUT_BYTES_MAX {
                let what = format!("wrote more than {} KiB", OUTPUT_BYTES_MAX / 1024);
                return Err(program_failed(program, &what, &complaints, &[]));
            }
        }
        Ok((out, complaints))
    }

    /// The engine may still call it running when its output has ended.
    async fn exit_code(&self, id: &str, program: &str) -> Result<i64, EffectError> {
        let doing = format!("tell how {program} ended");
        let look = async {
            loop {
                let call = |client: bollard::Docker| async move { client.inspect_exec(id).await };
                let found: ExecInspectResponse = self.ask(&doing, call).await?;
                match (found.running, found.exit_code) {
                    (Some(false), Some(code)) => return Ok(code),
                    _ => tokio::time::sleep(LOOK_INTERVAL).await,
                }
            }
        };
        match tokio::time::timeout(END_TIMEOUT, look).await {
            Ok(code) => code,
            Err(_) => Err(silent(&doing, END_TIMEOUT)),
        }
    }
}

fn stopped(name: &str) -> EffectError {
    let message = format!("the container {name} does not run; start it first");
    EffectError::new(ErrorKind::Transient, "container_stopped", message)
}

/// A program that is not there is the container's fault, not the engine's.
fn not_started(program: &str, doing: &str, error: &bollard::errors::Error) -> EffectError {
    let failed = failed(doing, error);
    let is_program = ["executable file not found", "exec failed", "no such file or directory"];
    if failed.code == "engine_refused" && is_program.iter().any(|words| failed.message.contains(words)) {
        return program_failed(program, "cannot be started", failed.message.as_bytes(), &[]);
    }
    failed
}

fn program_failed(program: &str, what: &str, complaints: &[u8], out: &[u8]) -> EffectError {
    let words = if complaints.is_empty() { out } else { complaints };
    let words = &words[words.len().saturating_sub(LAST_WORDS_BYTES)..];
    let words = String::from_utf8_lossy(words);
    let message = format!("{program} {what}: {}", words.trim());
    EffectError::new(ErrorKind::Permanent, "program_failed", message)
}
