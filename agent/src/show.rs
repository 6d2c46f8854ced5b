//! `genesis-agent status|journal|doctor|diag|metrics`: what a person on the droplet sees. All of it asks the running
//! agent over its socket, changes nothing and shows no secret.

use std::io::{self, Write};
use std::path::Path;

use genesis_shared::chain::Chain;
use genesis_shared::report::N8nStatus;
use genesis_shared::timestamp::Timestamp;
use serde_json::json;

use crate::agent::status::{Finding, JournalLine, Status};
use crate::config::Settings;
use crate::local::ask::{AskError, ask};
use crate::local::{Answer, Request, metrics};

/// Exit code of a doctor that found something.
const EXIT_FOUND: u8 = 1;
/// Exit code where the agent cannot be asked.
const EXIT_UNREACHABLE: u8 = 7;

/// What is to be shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Show {
    /// Where everything stands.
    Status {
        /// As JSON.
        json: bool,
    },
    /// The last commands.
    Journal {
        /// At most so many.
        lines: u32,
        /// As JSON.
        json: bool,
    },
    /// What is wrong and what to do.
    Doctor {
        /// As JSON.
        json: bool,
    },
    /// All of it in one JSON object, to be sent to somebody.
    Diag,
    /// The text format of Prometheus.
    Metrics,
}

/// Asks and shows; the process' exit code: 0, 1 for a doctor that found something, 7 where no agent can be asked.
pub async fn run(settings: &Settings, show: Show) -> u8 {
    let shown = match show {
        Show::Status { json } => status(&settings.data_dir).await.map(|(status, findings)| match json {
            true => (json!(status).to_string(), 0),
            false => (status_text(&status, &findings), 0),
        }),
        Show::Doctor { json } => status(&settings.data_dir).await.map(|(_, findings)| {
            let code = if findings.is_empty() { 0 } else { EXIT_FOUND };
            (if json { json!(findings).to_string() } else { doctor_text(&findings) }, code)
        }),
        Show::Journal { lines, json } => journal(&settings.data_dir, lines).await.map(|lines| match json {
            true => (json!(lines).to_string(), 0),
            false => (journal_text(&lines), 0),
        }),
        Show::Diag => diag(settings).await.map(|text| (text, 0)),
        Show::Metrics => status(&settings.data_dir).await.map(|(status, _)| (metrics::text(&status), 0)),
    };
    let (text, code) = match shown {
        Ok(shown) => shown,
        Err(error) => {
            tracing::error!(
                "agent_unreachable: {}; is the service running? (systemctl status genesis-agent)",
                Chain(&error)
            );
            return EXIT_UNREACHABLE;
        }
    };
    // Nobody listens any more: there is nowhere to say so.
    drop(writeln!(io::stdout().lock(), "{}", text.trim_end()));
    code
}

async fn status(data_dir: &Path) -> Result<(Status, Vec<Finding>), AskError> {
    let answer = ask(data_dir, &Request::Status).await?.first().await?;
    if let Answer::Status { status, findings } = answer { Ok((*status, findings)) } else { Err(strange(&answer)) }
}

async fn journal(data_dir: &Path, lines: u32) -> Result<Vec<JournalLine>, AskError> {
    let answer = ask(data_dir, &Request::Journal { lines }).await?.first().await?;
    if let Answer::Journal(lines) = answer { Ok(lines) } else { Err(strange(&answer)) }
}

fn strange(answer: &Answer) -> AskError {
    let words =
        if let Answer::Error { message, .. } = answer { message } else { "it answered something else than was asked" };
    AskError::Strange(serde::de::Error::custom(words))
}

async fn diag(settings: &Settings) -> Result<String, AskError> {
    let (status, findings) = status(&settings.data_dir).await?;
    let journal = journal(&settings.data_dir, 20).await?;
    let stack = settings.stack.as_ref().map(|stack| {
        json!({"name": stack.name, "host": stack.host, "images": stack.images, "acme_directory": stack.acme_directory})
    });
    let diag = json!({
        "status": status,
        "findings": findings,
        "journal": journal,
        "configuration": {
            "hub_url": settings.hub_url,
            "data_dir": settings.data_dir,
            "trust_root_digest": settings.trust_root_digest,
            "labels": settings.labels,
            "n8n_url": settings.n8n.url,
            "stack": stack,
        },
    });
    Ok(serde_json::to_string_pretty(&diag).unwrap_or_else(|_| diag.to_string()))
}

fn row(word: &str, text: &str) -> String {
    format!("{word:<12}{text}\n")
}

fn ago(at: Timestamp, now: Timestamp) -> String {
    let seconds = now.millis_since(at) / 1000;
    match seconds {
        0..=119 => format!("{seconds} s ago"),
        120..=7_199 => format!("{} min ago", seconds / 60),
        _ => at.to_string(),
    }
}

fn n8n_word(status: N8nStatus) -> &'static str {
    match status {
        N8nStatus::Running => "running",
        N8nStatus::Starting => "starting",
        N8nStatus::Down => "does not answer",
        N8nStatus::Locked => "does not let the agent in",
    }
}

fn status_text(status: &Status, findings: &[Finding]) -> String {
    let mut out = row("droplet", &format!("{} of workspace {}", status.droplet_id, status.workspace_id));
    out += &row("agent", &format!("{}, {}", status.agent_version, status.state));
    let heard = status
        .hub_heard_at
        .map_or("not heard since the agent started".to_owned(), |at| format!("heard {}", ago(at, status.timestamp)));
    out += &row("hub", &format!("{heard}; {} reports wait for it", status.outbox_depth));
    let version = status.n8n_version.as_deref().unwrap_or("");
    out += &row("n8n", format!("{} {version}", n8n_word(status.n8n_status)).trim_end());
    if let Some(stack) = &status.stack {
        let engine = stack.engine.as_ref().map_or_else(|error| error.clone(), |version| format!("Docker {version}"));
        out += &row("engine", &engine);
        for container in &stack.containers {
            let image = container.image.as_ref().map(ToString::to_string).unwrap_or_default();
            let restarts = match container.restarts {
                0 => String::new(),
                n => format!(", {n} restarts"),
            };
            out += &row(container.service.name(), &format!("{}{restarts}  {image}", container.state));
        }
        for (host, end) in &stack.hosts {
            let end = end.map_or("no certificate yet".to_owned(), |end| format!("certificate until {end}"));
            out += &row("host", &format!("{host}  {end}"));
        }
        if stack.held {
            out += &row("requests", "wait in the proxy");
        }
        for (service, image, until) in &stack.previous {
            out += &row("kept", &format!("{image} of {service} until {until}, for a way back"));
        }
    }
    let drift = status.drift_count.map_or("not looked yet".to_owned(), |count| format!("{count} differ"));
    out += &row("managed", &format!("generation {}; {drift}", status.desired_generation));
    out += &row("commands", &format!("{} open", status.open_commands));
    out += &row(
        "machine",
        &format!(
            "CPU {:.0} %, memory {} of {} MiB, swap {} MiB, disk {:.0} %",
            status.cpu_usage_percent,
            status.memory_usage_mb,
            status.memory_total_mb,
            status.swap_used_mb,
            status.disk_usage_percent
        ),
    );
    out + &doctor_text(findings)
}

fn doctor_text(findings: &[Finding]) -> String {
    if findings.is_empty() {
        return row("doctor", "nothing is wrong");
    }
    findings.iter().map(|finding| row("doctor", &format!("{}: {}", finding.code, finding.message))).collect()
}

fn journal_text(lines: &[JournalLine]) -> String {
    if lines.is_empty() {
        return row("journal", "no command yet");
    }
    let mut out = String::new();
    for line in lines {
        out += &format!("{:>6}  {}  {:<9}  {}\n", line.seq, line.accepted_at, line.state, line.actions);
        out += &format!("        job {}, bundle {}\n", line.job_id, line.bundle_id);
        if let Some((code, message)) = &line.ended
            && code != "ok"
        {
            out += &format!("        {code}: {message}\n");
        }
    }
    out
}
