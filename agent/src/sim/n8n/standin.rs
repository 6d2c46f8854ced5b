//! The stand-in: a pretend n8n, its faults, and a log of what was asked of it.

use std::{collections::BTreeMap, time::Duration};

use serde_json::{Value, json};

use super::{
    answer::{Answer, Request},
    faults::{Fault, Faults, Kind, Phase},
    model::{Config, N8n},
    seed::iso,
};

/// What a caller sees of one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seen {
    /// An answer.
    Answer(Answer),
    /// An answer that comes late.
    Late(Duration, Answer),
    /// An answer whose body breaks off in the middle; it holds the whole.
    Half(Answer),
    /// No answer, and the connection stays open.
    Nothing,
    /// The connection closed without an answer; whether the request was handled, only the stand-in knows.
    Closed,
    /// No connection.
    Refused,
}

/// A pretend n8n with faults. A clone is a snapshot.
#[derive(Clone, Debug)]
pub struct Standin {
    /// The n8n itself.
    pub n8n: N8n,
    /// What goes wrong.
    pub faults: Faults,
    /// How far its start has come.
    pub phase: Phase,
    log: BTreeMap<(String, String), u64>,
    done: BTreeMap<(String, String), u64>,
    /// Requests that are taken and not carried out yet, each with the number of requests that come first.
    taken: Vec<(u32, Request)>,
    seed: u64,
}

impl Standin {
    /// A fresh one. The same seed gives the same ids.
    pub fn new(config: Config, seed: u64) -> Self {
        let n8n = N8n::new(config, seed);
        Self {
            n8n,
            faults: Faults::default(),
            phase: Phase::Up,
            log: BTreeMap::new(),
            done: BTreeMap::new(),
            taken: Vec::new(),
            seed,
        }
    }

    /// Handles one request, faults included.
    pub fn handle(&mut self, request: &Request) -> Seen {
        if self.phase == Phase::Refusing {
            return Seen::Refused;
        }
        self.carry_out_what_is_due();
        *self.log.entry((request.method.clone(), request.path.clone())).or_default() += 1;
        if let Some(answer) = self.phase.answer(request) {
            return Seen::Answer(answer);
        }
        match self.faults.hit(request) {
            None => Seen::Answer(self.carry_out(request)),
            Some(Kind::Answer(answer)) => Seen::Answer(answer),
            Some(Kind::Hang) => Seen::Nothing,
            Some(Kind::DropBefore) => Seen::Closed,
            Some(Kind::DropAfter) => {
                self.carry_out(request);
                Seen::Closed
            }
            Some(Kind::HalfBody) => Seen::Half(self.carry_out(request)),
            Some(Kind::HandledLater(requests)) => {
                self.taken.push((requests, request.clone()));
                Seen::Nothing
            }
            Some(Kind::Delay(time)) => Seen::Late(time, self.carry_out(request)),
        }
    }

    fn carry_out(&mut self, request: &Request) -> Answer {
        let answer = self.n8n.handle(request);
        if answer.status < 300 {
            *self.done.entry((request.method.clone(), request.path.clone())).or_default() += 1;
        }
        answer
    }

    fn carry_out_what_is_due(&mut self) {
        self.taken.iter_mut().for_each(|(requests, _)| *requests = requests.saturating_sub(1));
        let due: Vec<_> = self.taken.extract_if(.., |(requests, _)| *requests == 0).collect();
        for (_, request) in due {
            self.carry_out(&request);
        }
    }

    /// How often that method and path were asked for.
    pub fn count(&self, method: &str, path: &str) -> u64 {
        self.log.get(&(method.to_owned(), path.to_owned())).copied().unwrap_or(0)
    }

    /// How often a request of that method and path was carried out with success, whether its answer arrived or not.
    pub fn count_done(&self, method: &str, path: &str) -> u64 {
        self.done.get(&(method.to_owned(), path.to_owned())).copied().unwrap_or(0)
    }

    /// How often requests with that method and beginning of a path were seen.
    pub fn count_prefix(&self, method: &str, prefix: &str) -> u64 {
        let fits = |(known, path): &(String, String)| known == method && path.starts_with(prefix);
        self.log.iter().filter(|(key, _)| fits(key)).map(|(_, count)| count).sum()
    }

    /// Forgets everything but what it plays.
    pub fn reset(&mut self) {
        *self = Self::new(self.n8n.config.clone(), self.seed);
    }

    /// Answers under `/__standin/`, where faults do not reach; none for any other path.
    pub fn control(&mut self, request: &Request) -> Option<Answer> {
        let path = request.path.strip_prefix("/__standin/")?;
        let body: Value = serde_json::from_slice(&request.body).unwrap_or_default();
        let done = Answer::ok(&json!({ "ok": true }));
        Some(match (request.method.as_str(), path) {
            ("GET", "state") => Answer::ok(&self.state()),
            ("POST", "reset") => {
                self.reset();
                done
            }
            ("POST", "advance") => {
                self.n8n.seed.advance(body.get("ms").and_then(Value::as_u64).unwrap_or(0));
                done
            }
            ("POST", "executions") => {
                let word = |name: &str| body.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
                let id = self.n8n.add_execution(&word("workflowId"), &word("status"), &word("mode"));
                Answer::ok(&json!({ "id": id }))
            }
            ("POST", "phase") => match body.get("phase").and_then(Value::as_str).and_then(Phase::from_name) {
                Some(phase) => {
                    self.phase = phase;
                    done
                }
                None => Answer::message(400, "phase must be refusing, migrating, loading or up"),
            },
            ("DELETE", "faults") => {
                self.faults.clear();
                done
            }
            ("POST", "faults") => {
                let list = body.as_array().cloned().unwrap_or_else(|| vec![body]);
                match list.iter().map(Fault::from_json).collect::<Result<Vec<_>, _>>() {
                    Ok(faults) => {
                        faults.into_iter().for_each(|fault| self.faults.push(fault));
                        done
                    }
                    Err(complaint) => Answer::message(400, complaint),
                }
            }
            _ => Answer::cannot(&request.method, &request.path),
        })
    }

    /// The whole state, for a test to look at; secrets included, for they are nobody's.
    pub fn state(&self) -> Value {
        let n8n = &self.n8n;
        let workflows = n8n.workflows.iter().map(|workflow| {
            json!({
                "id": workflow.id, "name": workflow.name, "nodes": workflow.nodes,
                "connections": workflow.connections, "settings": workflow.settings,
                "staticData": workflow.static_data, "versionId": workflow.version_id,
                "activeVersionId": workflow.active_version_id, "versionCounter": workflow.version_counter,
                "versions": workflow.versions.iter().map(|version| &version.id).collect::<Vec<_>>(),
                "tags": workflow.tags, "updatedAt": iso(workflow.updated_at)
            })
        });
        let credentials = n8n.credentials.iter().map(|credential| {
            json!({ "id": credential.id, "name": credential.name, "type": credential.kind, "data": credential.data })
        });
        let webhooks = n8n.webhooks.iter().map(|hook| {
            json!({ "method": hook.method, "path": hook.path, "workflowId": hook.workflow_id, "node": hook.node })
        });
        let executions = n8n
            .executions
            .iter()
            .map(|run| json!({ "id": run.id, "workflowId": run.workflow_id, "status": run.status, "mode": run.mode }));
        let requests =
            self.log.iter().map(|((method, path), count)| json!({ "method": method, "path": path, "count": count }));
        json!({
            "owner": n8n.owner.as_ref().map(|owner| &owner.email),
            "apiKeys": n8n.api_keys.iter().map(|key| json!({ "id": key.id, "label": key.label })).collect::<Vec<_>>(),
            "workflows": workflows.collect::<Vec<_>>(), "credentials": credentials.collect::<Vec<_>>(),
            "webhooks": webhooks.collect::<Vec<_>>(), "executions": executions.collect::<Vec<_>>(),
            "tags": n8n.tags.iter().map(|tag| json!({ "id": tag.id, "name": tag.name })).collect::<Vec<_>>(),
            "requests": requests.collect::<Vec<_>>(), "faultsLeft": self.faults.any_left()
        })
    }
}
