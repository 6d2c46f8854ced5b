//! The whole state of one pretend n8n and the door to it: `handle`, a function of state and request.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::{
    answer::{Answer, Request},
    js, public, rest,
    seed::Seed,
    webhooks,
};

/// n8n's default limit for a body, 16 MiB.
pub const BODY_BYTES_MAX: usize = 16 << 20;

/// What may differ between the versions of n8n that the stand-in plays.
#[derive(Clone, Debug)]
pub struct Config {
    /// `versionCli` in the long settings.
    pub version: String,
    /// `urlBaseWebhook` in the long settings, with a slash at its end.
    pub webhook_base: String,
    /// Whether `GET /api/v1/credentials` exists: true from 2.8 on, else 405.
    pub credentials_list: bool,
    /// Whether `PATCH /api/v1/credentials/{id}` exists: true from 2.7 on, else 405.
    pub credentials_update: bool,
    /// Whether numbers pass through doubles, as they do in the real n8n.
    pub js_numbers: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            version: "stand-in".to_owned(),
            webhook_base: "http://localhost:5678/".to_owned(),
            credentials_list: true,
            credentials_update: true,
            js_numbers: true,
        }
    }
}

/// The owner of the instance.
#[derive(Clone, Debug)]
pub struct Owner {
    /// The uuid of the user.
    pub id: String,
    /// The id of the owner's personal project.
    pub project_id: String,
    /// The address to log in with.
    pub email: String,
    /// The first name.
    pub first_name: String,
    /// The last name.
    pub last_name: String,
    /// The password, in clear: nobody's real one.
    pub password: String,
    /// When it was set up.
    pub created_at: u64,
}

/// A key of the public API.
#[derive(Clone, Debug)]
pub struct ApiKey {
    /// The id by which it is deleted.
    pub id: String,
    /// The label, unique.
    pub label: String,
    /// The key itself.
    pub raw: String,
    /// Unix seconds after which it is refused.
    pub expires_at: Option<u64>,
    /// When it was made.
    pub created_at: u64,
}

/// A stored credential.
#[derive(Clone, Debug)]
pub struct Credential {
    /// Its id.
    pub id: String,
    /// Its name, not unique.
    pub name: String,
    /// Its type.
    pub kind: String,
    /// The secret data, which no answer carries.
    pub data: Map<String, Value>,
    /// Whether it says that it has resolvable fields.
    pub resolvable: bool,
    /// When it was made.
    pub created_at: u64,
    /// When it was last changed.
    pub updated_at: u64,
}

/// A saved version of a workflow.
#[derive(Clone, Debug)]
pub struct Version {
    /// The versionId.
    pub id: String,
    /// The nodes as saved.
    pub nodes: Value,
    /// The connections as saved.
    pub connections: Value,
    /// The name given when it was published, if any.
    pub name: Value,
    /// When it was saved.
    pub created_at: u64,
}

/// A stored workflow; its draft is its newest version.
#[derive(Clone, Debug)]
pub struct Workflow {
    /// Its id.
    pub id: String,
    /// Its name, not unique.
    pub name: String,
    /// The draft's nodes.
    pub nodes: Value,
    /// The draft's connections.
    pub connections: Value,
    /// The settings, merged over all saves.
    pub settings: Map<String, Value>,
    /// The static data.
    pub static_data: Value,
    /// The draft's version.
    pub version_id: String,
    /// The published version; a workflow is active if there is one.
    pub active_version_id: Option<String>,
    /// Counts every write.
    pub version_counter: u64,
    /// How many triggers the last publication had.
    pub trigger_count: usize,
    /// Every version ever saved.
    pub versions: Vec<Version>,
    /// Publications: number, versionId, activated or deactivated, time.
    pub history: Vec<(u64, String, &'static str, u64)>,
    /// Ids of its tags.
    pub tags: Vec<String>,
    /// When it was made.
    pub created_at: u64,
    /// When it was last saved.
    pub updated_at: u64,
}

impl Workflow {
    /// The version with that id.
    pub fn version(&self, id: &str) -> Option<&Version> {
        self.versions.iter().find(|version| version.id == id)
    }

    /// The published version.
    pub fn active_version(&self) -> Option<&Version> {
        self.version(self.active_version_id.as_deref()?)
    }
}

/// A tag.
#[derive(Clone, Debug)]
pub struct Tag {
    /// Its id.
    pub id: String,
    /// Its name, unique.
    pub name: String,
    /// When it was made.
    pub created_at: u64,
}

/// One execution; only what the list shows.
#[derive(Clone, Debug)]
pub struct Execution {
    /// Its number.
    pub id: u64,
    /// The workflow that ran.
    pub workflow_id: String,
    /// One of n8n's words: success, error, running, waiting, canceled, crashed, new.
    pub status: String,
    /// How it was started, such as webhook.
    pub mode: String,
    /// When it started.
    pub started_at: u64,
}

/// One registered production webhook.
#[derive(Clone, Debug)]
pub struct Webhook {
    /// The method in upper case.
    pub method: String,
    /// The path under `/webhook/`.
    pub path: String,
    /// The workflow that answers.
    pub workflow_id: String,
    /// The node that answers.
    pub node: String,
}

/// One pretend n8n. A clone is a snapshot.
#[derive(Clone, Debug)]
pub struct N8n {
    /// What it plays.
    pub config: Config,
    /// Ids and time.
    pub seed: Seed,
    /// The owner, once set up.
    pub owner: Option<Owner>,
    /// Valid session cookies.
    pub sessions: Vec<String>,
    /// Attempts to log in by address: since when, how many.
    pub logins: BTreeMap<String, (u64, u32)>,
    /// The keys of the public API.
    pub api_keys: Vec<ApiKey>,
    /// All credentials, oldest first.
    pub credentials: Vec<Credential>,
    /// All workflows, oldest first.
    pub workflows: Vec<Workflow>,
    /// All tags.
    pub tags: Vec<Tag>,
    /// All executions, oldest first.
    pub executions: Vec<Execution>,
    /// What is registered under `/webhook/`.
    pub webhooks: Vec<Webhook>,
    /// How many publications there were.
    pub publications: u64,
}

impl N8n {
    /// A fresh instance without an owner.
    pub fn new(config: Config, seed: u64) -> Self {
        Self {
            config,
            seed: Seed::new(seed),
            owner: None,
            sessions: Vec::new(),
            logins: BTreeMap::new(),
            api_keys: Vec::new(),
            credentials: Vec::new(),
            workflows: Vec::new(),
            tags: Vec::new(),
            executions: Vec::new(),
            webhooks: Vec::new(),
            publications: 0,
        }
    }

    /// Answers one request; takes one millisecond of its own clock.
    pub fn handle(&mut self, request: &Request) -> Answer {
        self.seed.advance(1);
        let first = request.path.trim_start_matches('/').split('/').next().unwrap_or_default();
        match first {
            "healthz" => match (request.method.as_str(), request.path.as_str()) {
                ("GET" | "HEAD", "/healthz" | "/healthz/readiness") => {
                    Answer::ok(&serde_json::json!({ "status": "ok" }))
                }
                _ => Answer::cannot(&request.method, &request.path),
            },
            "rest" => rest::handle(self, request).unwrap_or_else(|refusal| refusal),
            "api" => public::handle(self, request).unwrap_or_else(|refusal| refusal),
            "webhook" | "webhook-test" => webhooks::handle(self, request),
            _ => Answer::cannot(&request.method, &request.path),
        }
    }

    /// Puts an execution in the list and returns its number.
    pub fn add_execution(&mut self, workflow_id: &str, status: &str, mode: &str) -> u64 {
        let id = self.executions.last().map_or(1, |last| last.id + 1);
        let (workflow_id, status, mode) = (workflow_id.to_owned(), status.to_owned(), mode.to_owned());
        self.executions.push(Execution { id, workflow_id, status, mode, started_at: self.seed.now_ms() });
        id
    }

    /// The body of a request as n8n's parser leaves it: absent if the type is not JSON.
    ///
    /// # Errors
    /// The pages of express for a body that is too large or broken.
    pub fn parse_body(&self, request: &Request) -> Result<Option<Value>, Answer> {
        if request.body.len() > BODY_BYTES_MAX {
            return Err(Answer::page(413, "Payload Too Large"));
        }
        let is_json = request.header_value("content-type").is_some_and(|kind| kind.starts_with("application/json"));
        if !is_json {
            return Ok(None);
        }
        if request.body.is_empty() {
            return Ok(Some(Value::Object(Map::new())));
        }
        let body = serde_json::from_slice(&request.body).map_err(|_| Answer::page(500, "Internal Server Error"))?;
        let body = if body == Value::Null { Value::Object(Map::new()) } else { body };
        Ok(Some(if self.config.js_numbers { js::round_trip(body) } else { body }))
    }
}
