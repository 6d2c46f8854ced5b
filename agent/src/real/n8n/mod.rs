//! n8n over its HTTP API; nothing else of the agent knows how n8n speaks.
//!
//! The public API (`/api/v1`) does the work with a key that is made here and never leaves the droplet; the internal
//! one (`/rest`) sets up the owner, makes that key, and answers what the public one does not (see `session`).

mod answer;
mod session;
mod transport;

use std::rc::Rc;

use genesis_shared::id::CredentialType;
use genesis_shared::report::N8nStatus;
use genesis_shared::secret::Secret;
use genesis_shared::timestamp::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::config::N8nSettings;
use crate::core::metrics::Execution;
use crate::core::workflow;
use crate::ports::{CredentialInfo, EffectError, Entropy, ErrorKind, Files, WorkflowInfo, Workflows};

pub use answer::Answer;
pub use transport::{HttpTransport, Request, Transport, TransportError};

/// Items per page: the most that n8n gives. Its lists have no order, so fewer pages mean fewer overlaps.
const PAGE: usize = 250;

/// Pages of executions read at once: 5,000 executions, about 2 MB of answers one after the other.
const EXECUTION_PAGES_MAX: usize = 20;

/// Pages followed before a list counts as endless: 100,000 workflows.
const PAGES_MAX: usize = 400;

/// A client of one n8n.
pub struct N8n<T, F, E> {
    transport: T,
    files: Rc<F>,
    entropy: E,
    settings: N8nSettings,
    session: session::Session,
}

/// One page of a list of the public API.
#[derive(Deserialize)]
struct Page<T> {
    data: Vec<T>,
    #[serde(rename = "nextCursor")]
    next_cursor: Option<String>,
}

#[derive(Deserialize)]
struct ListedCredential {
    id: String,
    name: String,
    #[serde(rename = "type")]
    credential_type: String,
}

/// A workflow in a list; its nodes are read over and not kept.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ListedWorkflow {
    id: String,
    name: String,
    active: bool,
    version_id: Option<String>,
    active_version_id: Option<String>,
    static_data: Option<Value>,
}

impl From<ListedWorkflow> for WorkflowInfo {
    fn from(w: ListedWorkflow) -> Self {
        Self {
            key: workflow::marker_of(&json!({"staticData": w.static_data})),
            id: w.id,
            name: w.name,
            active: w.active,
            version_id: w.version_id,
            active_version_id: w.active_version_id,
        }
    }
}

/// An execution in a list; its data are not asked for.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ListedExecution {
    status: String,
    started_at: Option<Timestamp>,
    stopped_at: Option<Timestamp>,
}

impl From<ListedExecution> for Execution {
    fn from(e: ListedExecution) -> Self {
        Self { status: e.status, started_at: e.started_at, stopped_at: e.stopped_at }
    }
}

#[derive(Deserialize)]
struct Created {
    id: String,
}

impl<T: Transport, F: Files, E: Entropy> N8n<T, F, E> {
    /// A client; nothing is sent yet.
    pub fn new(transport: T, files: Rc<F>, entropy: E, settings: N8nSettings) -> Self {
        Self { transport, files, entropy, settings, session: session::Session::default() }
    }

    /// All pages of a list, each item once by its id.
    async fn list<I: serde::de::DeserializeOwned>(
        &self,
        path: &str,
        id: impl Fn(&I) -> &str,
    ) -> Result<Vec<I>, EffectError> {
        let mut items: Vec<I> = Vec::new();
        let mut cursor: Option<String> = None;
        let mut size = PAGE;
        for _ in 0..PAGES_MAX {
            let separator = if path.contains('?') { '&' } else { '?' };
            let mut url = format!("{path}{separator}limit={size}");
            if let Some(cursor) = &cursor {
                url.push_str("&cursor=");
                url.push_str(&percent_encode(cursor));
            }
            let page: Page<I> = match self.api(Request::get(&url)).await {
                Ok(answer) => answer.parse()?,
                // A cursor holds the size of its pages, so smaller ones begin at the beginning.
                Err(error) if error.code == "n8n_answer_too_long" && size > 1 => {
                    (size, cursor) = (size / 4 + 1, None);
                    continue;
                }
                Err(error) => return Err(error),
            };
            for item in page.data {
                if !items.iter().any(|known| id(known) == id(&item)) {
                    items.push(item);
                }
            }
            match page.next_cursor {
                Some(next) => cursor = Some(next),
                None => return Ok(items),
            }
        }
        let message = format!("n8n's list {path} does not end after {PAGES_MAX} pages");
        Err(EffectError::new(ErrorKind::Permanent, "n8n_answer", message))
    }
}

impl<T: Transport, F: Files, E: Entropy> Workflows for N8n<T, F, E> {
    async fn status(&self) -> N8nStatus {
        match self.transport.send(Request::get("/rest/settings")).await {
            Err(_) => N8nStatus::Down,
            Ok(answer) if answer.is_json() && answer.status == 200 => {
                if self.session.is_locked() {
                    N8nStatus::Locked
                } else {
                    N8nStatus::Running
                }
            }
            // While it migrates and loads it answers text with 200 and 404, without its database 503.
            Ok(_) => N8nStatus::Starting,
        }
    }

    async fn version(&self) -> Result<String, EffectError> {
        let settings = self.rest(Request::get("/rest/settings")).await?.json()?;
        let version = settings["data"]["versionCli"].as_str();
        version.map(str::to_owned).ok_or_else(|| answer::unexpected("the settings have no versionCli"))
    }

    async fn webhook_base(&self) -> Result<String, EffectError> {
        let settings = self.rest(Request::get("/rest/settings")).await?.json()?;
        let data = &settings["data"];
        let (Some(base), Some(endpoint)) = (data["urlBaseWebhook"].as_str(), data["endpointWebhook"].as_str()) else {
            return Err(answer::unexpected("the settings have no urlBaseWebhook"));
        };
        let base = self.settings.public_url.as_deref().unwrap_or(base);
        Ok(format!("{}/{endpoint}", base.trim_end_matches('/')))
    }

    async fn credentials(&self) -> Result<Vec<CredentialInfo>, EffectError> {
        let listed: Vec<ListedCredential> = match self.list("/api/v1/credentials", |c: &ListedCredential| &c.id).await {
            // Before 2.8 the public API could not list them; the editor's own can.
            Err(error) if error.code == "n8n_no_such_method" => {
                #[derive(Deserialize)]
                struct All {
                    data: Vec<ListedCredential>,
                }
                self.rest(Request::get("/rest/credentials")).await?.parse::<All>()?.data
            }
            other => other?,
        };
        let info = |c: ListedCredential| CredentialInfo { id: c.id, name: c.name, credential_type: c.credential_type };
        Ok(listed.into_iter().map(info).collect())
    }

    async fn create_credential(
        &self,
        name: &str,
        credential_type: &CredentialType,
        data: &Secret<Vec<u8>>,
    ) -> Result<String, EffectError> {
        let envelope = json!({"name": name, "type": credential_type});
        let body = with_data(&envelope, data);
        Ok(self.api(Request::secret("POST", "/api/v1/credentials", body)).await?.parse::<Created>()?.id)
    }

    async fn update_credential(&self, id: &str, data: &Secret<Vec<u8>>) -> Result<(), EffectError> {
        let body = with_data(&json!({}), data);
        let path = format!("/api/v1/credentials/{}", percent_encode(id));
        match self.api(Request::secret("PATCH", &path, body)).await {
            Err(error) if error.code == "n8n_no_such_method" => Err(EffectError::new(
                ErrorKind::Permanent,
                "n8n_cannot_update_credentials",
                "this n8n cannot update a credential in place",
            )),
            other => other.map(drop),
        }
    }

    async fn delete_credential(&self, id: &str) -> Result<(), EffectError> {
        gone_is_done(self.api(Request::new("DELETE", &format!("/api/v1/credentials/{}", percent_encode(id)))).await)
    }

    async fn workflows(&self) -> Result<Vec<WorkflowInfo>, EffectError> {
        let path = "/api/v1/workflows?excludePinnedData=true";
        let listed: Vec<ListedWorkflow> = self.list(path, |w: &ListedWorkflow| &w.id).await?;
        Ok(listed.into_iter().map(WorkflowInfo::from).collect())
    }

    async fn workflow_info(&self, id: &str) -> Result<Option<WorkflowInfo>, EffectError> {
        match self.api(Request::get(&format!("{}?excludePinnedData=true", workflow_path(id, "")))).await {
            Ok(answer) => answer.parse::<ListedWorkflow>().map(|workflow| Some(workflow.into())),
            Err(error) if error.code == "n8n_not_found" => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn workflow(&self, id: &str) -> Result<Option<Value>, EffectError> {
        match self.api(Request::get(&workflow_path(id, ""))).await {
            Ok(answer) => answer.json().map(Some),
            Err(error) if error.code == "n8n_not_found" => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn create_workflow(&self, body: &Value) -> Result<String, EffectError> {
        Ok(self.api(Request::json("POST", "/api/v1/workflows", body)).await?.parse::<Created>()?.id)
    }

    async fn update_workflow(&self, id: &str, body: &Value) -> Result<(), EffectError> {
        self.api(Request::json("PUT", &workflow_path(id, ""), body)).await.map(drop)
    }

    async fn activate_workflow(&self, id: &str, version_id: Option<&str>) -> Result<(), EffectError> {
        let request = match version_id {
            Some(version) => Request::json("POST", &workflow_path(id, "/activate"), &json!({"versionId": version})),
            None => Request::new("POST", &workflow_path(id, "/activate")),
        };
        self.api(request).await.map(drop)
    }

    async fn deactivate_workflow(&self, id: &str) -> Result<(), EffectError> {
        gone_is_done(self.api(Request::new("POST", &workflow_path(id, "/deactivate"))).await)
    }

    async fn executions(&self, since: Timestamp) -> Result<(Vec<Execution>, bool), EffectError> {
        let mut executions = Vec::new();
        let mut cursor = String::new();
        for _ in 0..EXECUTION_PAGES_MAX {
            let url = format!("/api/v1/executions?limit={PAGE}{cursor}");
            let page: Page<ListedExecution> = self.api(Request::get(&url)).await?.parse()?;
            executions.extend(page.data.into_iter().map(Execution::from));
            // Newest first: once one is too old, so are all that follow.
            let is_old = executions.last().is_some_and(|e| e.started_at.is_some_and(|at| at < since));
            match page.next_cursor {
                Some(next) if !is_old => cursor = format!("&cursor={}", percent_encode(&next)),
                Some(_) | None => return Ok((executions, false)),
            }
        }
        Ok((executions, true))
    }

    async fn delete_workflow(&self, id: &str) -> Result<(), EffectError> {
        gone_is_done(self.api(Request::new("DELETE", &workflow_path(id, ""))).await)
    }

    async fn knows_webhook(&self, method: &'static str, path: &str) -> Result<bool, EffectError> {
        let answer = self.transport.send(Request::new(method, &format!("/webhook/{path}"))).await;
        let answer = answer.map_err(|error| answer::no_answer(&error, false))?;
        // "The requested webhook … is not registered." is the other answer.
        let words = String::from_utf8_lossy(&answer.body).into_owned();
        Ok(answer.status == 404 && answer.is_json() && words.contains("is not registered for"))
    }
}

fn workflow_path(id: &str, rest: &str) -> String {
    format!("/api/v1/workflows/{}{rest}", percent_encode(id))
}

/// An object with `data` added as it was sealed, byte for byte: the secret is never parsed into values that would not
/// be wiped.
fn with_data(envelope: &Value, data: &Secret<Vec<u8>>) -> Secret<Vec<u8>> {
    let mut body = envelope.to_string().into_bytes();
    body.pop();
    if body.len() > 1 {
        body.push(b',');
    }
    body.extend_from_slice(b"\"data\":");
    body.extend_from_slice(data.expose());
    body.push(b'}');
    Secret::new(body)
}

fn gone_is_done(result: Result<Answer, EffectError>) -> Result<(), EffectError> {
    match result {
        Err(error) if error.code == "n8n_not_found" => Ok(()),
        other => other.map(drop),
    }
}

/// Percent-encodes everything but unreserved characters (RFC 3986 §2.3).
fn percent_encode(text: &str) -> String {
    let encode = |byte: u8| match byte {
        b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    };
    text.bytes().map(encode).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secret_data_goes_into_the_body_as_it_is() {
        let data = Secret::new(br#"{"a":1.50}"#.to_vec());
        assert_eq!(with_data(&json!({"name": "x"}), &data).expose(), br#"{"name":"x","data":{"a":1.50}}"#);
        assert_eq!(with_data(&json!({}), &data).expose(), br#"{"data":{"a":1.50}}"#);
    }

    #[test]
    fn an_id_cannot_leave_its_path_segment() {
        assert_eq!(workflow_path("../x?y=1", "/activate"), "/api/v1/workflows/..%2Fx%3Fy%3D1/activate");
    }
}
