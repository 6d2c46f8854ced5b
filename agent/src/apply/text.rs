//! What `genesis-agent apply` says to people: a word in front of each line, the outcome, and what to do next.

use genesis_shared::command::{Action, Class, grouped};
use genesis_shared::report::{CommandResult, N8nStatus, OutcomeState};
use serde_json::Value;

use super::Runner;
use crate::agent::by_hand::{Accepted, Progress, state_word};

/// A line with its word.
fn row(word: &str, text: &str) -> String {
    format!("{word:<10}{text}").trim_end().to_owned()
}

pub(super) fn accepted(accepted: &Accepted, runner: Runner) -> String {
    let (who, how_to_stop) = match runner {
        Runner::Service => ("the running agent", "Ctrl-C stops waiting, not the work"),
        Runner::Alone => ("this command, for no agent runs", "what Ctrl-C cuts off, the agent finishes when it starts"),
    };
    let word = if accepted.resumed { "resumed" } else { "accepted" };
    let earlier = if accepted.resumed { " (it was accepted earlier and is still under way)" } else { "" };
    [
        row("bundle", &accepted.bundle_id.to_string()),
        row("commands", &grouped(&accepted.action)),
        row(word, &format!("by {who}; {how_to_stop}{earlier}")),
    ]
    .join("\n")
}

pub(super) fn progress(progress: &Progress) -> String {
    let n8n = |status: N8nStatus| match status {
        N8nStatus::Running => "",
        N8nStatus::Starting => "; n8n is starting",
        N8nStatus::Down => "; n8n does not answer",
        N8nStatus::Locked => "; n8n does not let the agent in",
    };
    match progress {
        Progress::Waits { behind, n8n: status } => {
            row("waits", &format!("for bundle {behind}, which was accepted earlier{}", n8n(*status)))
        }
        Progress::Step { n, of, name, undo, n8n: status } => {
            let word = if *undo { "undoes" } else { "runs" };
            row(word, &format!("step {n} of {of}: {name}{}", n8n(*status)))
        }
    }
}

pub(super) fn result(result: &CommandResult, accepted: Option<&Accepted>, runner: Runner) -> String {
    let mut lines = Vec::new();
    let width = result.steps.iter().map(|step| step.name.chars().count()).max().unwrap_or(0);
    for step in &result.steps {
        if step.state == "pending" {
            lines.push(row(&step.state, &step.name));
            continue;
        }
        let tries = if step.attempts > 1 { format!("  {} tries", step.attempts) } else { String::new() };
        lines.push(row(&step.state, &format!("{:<width$}  {:>6} ms{tries}", step.name, step.ms)));
    }
    if let Some(accepted) = accepted {
        lines.extend(answers(result, &accepted.action));
    }
    let word = state_word(result.state);
    lines.push(match result.state {
        OutcomeState::Succeeded => {
            let ms = result.finished_at.millis_since(result.started_at);
            row(word, &format!("all of it, in {ms} ms"))
        }
        OutcomeState::Failed | OutcomeState::Rejected | OutcomeState::Expired | OutcomeState::Stuck => {
            row(word, &format!("{}: {}", result.code, result.message))
        }
    });
    if accepted.is_some() {
        let when = match runner {
            Runner::Service => "as soon as the hub can be reached",
            Runner::Alone => "when the agent runs again and can reach the hub",
        };
        lines.push(row("report", &format!("is sent {when}, as job {}", result.job_id)));
    }
    lines.extend(next_step(result).map(|next| row("next", next)));
    lines.join("\n")
}

/// What was looked at, and how many of the other commands found something to change. `--json` has every answer.
fn answers(result: &CommandResult, actions: &str) -> Vec<String> {
    let answers = result.output.as_array().into_iter().flatten();
    let pairs: Vec<_> = actions.split(',').zip(answers).filter(|(_, answer)| !answer.is_null()).collect();
    let looks = |action: &str| action.parse::<Action>().is_ok_and(|action| action.class() == Class::Read);
    let mut lines: Vec<String> = pairs
        .iter()
        .filter(|(action, _)| looks(action))
        .map(|(action, answer)| row("answer", &format!("{action}{}", members(answer))))
        .collect();
    let changes = pairs.iter().filter(|(action, _)| !looks(action)).count();
    if changes > 0 {
        let changed = pairs.iter().filter(|(_, answer)| answer["changed"] == false).count();
        lines.push(row("changed", &format!("{} of {changes} things; the others were so already", changes - changed)));
    }
    lines
}

/// An answer's members one beside the other, which reads better than JSON; `--json` has it exactly.
fn members(answer: &Value) -> String {
    let plain = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    match answer {
        Value::Object(members) => members.iter().map(|(name, value)| format!("  {name}={}", plain(value))).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
            format!("  {}", plain(answer))
        }
    }
}

fn next_step(result: &CommandResult) -> Option<&'static str> {
    match result.state {
        OutcomeState::Succeeded => None,
        OutcomeState::Failed => Some("n8n is as it was before; mend what the message names and sign a new bundle"),
        OutcomeState::Expired => Some("nothing was changed; sign a new bundle with a later not_after"),
        OutcomeState::Stuck => {
            Some("look at n8n: the steps above say what was done and not undone; then deploy again what is to stay")
        }
        OutcomeState::Rejected => Some(match result.code.as_str() {
            "no_trust_root" => "enrol the droplet first: start the agent where it can reach the hub",
            "quarantined" => "stop the machine that is not wanted, then genesisctl droplet resume; looks still run",
            "disk_full" => "free some space, then run the same command again",
            "a1_shape" => "give the whole file as `genesisctl bundle sign` wrote it",
            "a2_unknown_key" | "a3_signature" | "a6_scope" => {
                "have it signed by a key that the trust root allows this (genesisctl trust show)"
            }
            "a4_content" => "mend the bundle and sign it anew (genesisctl bundle verify says the same)",
            "a5_signers" => "have another operator add a signature: genesisctl bundle sign --add",
            "a7_target" => "check that this is the right droplet; its workspace and labels are in its configuration",
            "a8_time" => "check this droplet's clock (timedatectl); if it is right, sign a new bundle",
            "a9_trust_root_expired" => "push a newer trust root; looks still run under this one",
            "a10_replay" => "nothing more is needed if it succeeded; else sign a new bundle",
            "a13_grant" => "ask an operator for a grant that covers it (genesisctl support grant --help)",
            "journal_busy" => "wait until some of the accepted commands have ended, then run the same command again",
            "journal_damaged" => "look at what the bundle left in n8n; if it is to run again, sign a new one",
            "a12_unsupported" => "update the agent, or use another action",
            _ => "nothing was changed; see the message",
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::admit::Rule;
    use genesis_shared::report::StepTrace;
    use genesis_shared::timestamp::Timestamp;

    fn ended(state: OutcomeState, code: &str) -> CommandResult {
        let step =
            |name: &str, state: &str, ms, attempts| StepTrace { name: name.into(), state: state.into(), ms, attempts };
        CommandResult {
            job_id: "0192f0a1-1111-7000-8000-000000000001".parse().unwrap(),
            bundle_id: None,
            state,
            code: code.into(),
            message: "why".into(),
            retryable: false,
            started_at: Timestamp::from_millis(1000),
            finished_at: Timestamp::from_millis(1023),
            steps: vec![step("put_credential smtp", "done", 3, 1), step("activate a", "done", 1204, 3)],
            output: serde_json::json!([
                {"credential_id": "c1", "changed": true},
                {"changed": false},
                {"n8n_status": "running", "active_workflows": 7},
            ]),
        }
    }

    #[test]
    fn a_success_reads_from_top_to_bottom_with_its_columns_in_line() {
        let accepted = Accepted {
            bundle_id: "0192f0a1-1111-7000-8000-000000000002".parse().unwrap(),
            job_id: "0192f0a1-1111-7000-8000-000000000001".parse().unwrap(),
            action: "INJECT_CREDENTIAL,ACTIVATE_WORKFLOW,HEALTH_CHECK".into(),
            read_only: false,
            resumed: false,
        };
        let text = result(&ended(OutcomeState::Succeeded, "ok"), Some(&accepted), Runner::Service);
        let expected = "\
done      put_credential smtp       3 ms
done      activate a             1204 ms  3 tries
answer    HEALTH_CHECK  n8n_status=running  active_workflows=7
changed   1 of 2 things; the others were so already
succeeded all of it, in 23 ms
report    is sent as soon as the hub can be reached, as job 0192f0a1-1111-7000-8000-000000000001";
        assert_eq!(text, expected);
    }

    #[test]
    fn every_refusal_by_a_rule_has_a_next_step_of_its_own() {
        for rule in Rule::ALL.iter().filter(|rule| **rule != Rule::A11Delivery) {
            let next = next_step(&ended(OutcomeState::Rejected, rule.code())).unwrap();
            assert!(!next.contains("see the message"), "{rule:?}");
        }
    }
}
