//! Who the agent is to n8n: the owner account and the API key, made without a browser (n8n facts, §1).
//!
//! Two ways lead to a key: a fresh n8n lets the agent set up its owner; one that has an owner lets the agent log in
//! with the password that it keeps since. The password is on disk before n8n hears of it, and a key is replaced by
//! its label, so a crash at any point leaves one of the two ways open.

use std::cell::{Cell, RefCell};

use genesis_shared::secret::Secret;
use serde_json::{Value, json};

use super::answer::{self, no_answer};
use super::{Answer, N8n, Request, Transport};
use crate::ports::{EffectError, Entropy, ErrorKind, Files};

/// Secret files.
const PASSWORD_FILE: &str = "n8n-owner-password";
const KEY_FILE: &str = "n8n-api-key";
/// Kept over restarts, because n8n allows few logins per minute, and a crash loop must not lock the agent out.
const COOKIE_FILE: &str = "n8n-session";

/// Label of the agent's key in n8n.
const KEY_LABEL: &str = "genesis-agent";

/// What is known so far.
#[derive(Default)]
pub(super) struct Session {
    key: RefCell<Option<Secret<String>>>,
    cookie: RefCell<Option<Secret<String>>>,
    locked: Cell<bool>,
    /// One lane at a time makes a key: two would delete each other's.
    making: tokio::sync::Mutex<()>,
}

impl Session {
    /// Whether the last attempt to get in failed for good.
    pub(super) fn is_locked(&self) -> bool {
        self.locked.get()
    }
}

impl<T: Transport, F: Files, E: Entropy> N8n<T, F, E> {
    /// A call of the public API. A key that n8n no longer knows is replaced, once.
    pub(super) async fn api(&self, request: Request) -> Result<Answer, EffectError> {
        let key = self.key().await?;
        match self.call(request.clone(), Some(("X-N8N-API-KEY", key.clone()))).await {
            Err(error) if error.code == "n8n_unauthorised" => {
                let key = self.another_key(Some(&key)).await?;
                self.call(request, Some(("X-N8N-API-KEY", key))).await
            }
            other => other,
        }
    }

    /// A call of the editor's API. A session that n8n no longer knows is renewed, once.
    pub(super) async fn rest(&self, request: Request) -> Result<Answer, EffectError> {
        let cookie = self.cookie().await?;
        match self.call(request.clone(), Some(("Cookie", cookie))).await {
            Ok(answer) if !is_public_form(&request, &answer) => Ok(answer),
            Err(error) if error.code != "n8n_unauthorised" => Err(error),
            Ok(_) | Err(_) => {
                let cookie = self.new_cookie().await?;
                self.call(request, Some(("Cookie", cookie))).await
            }
        }
    }

    async fn call(
        &self,
        mut request: Request,
        authorisation: Option<(&'static str, Secret<String>)>,
    ) -> Result<Answer, EffectError> {
        let changing = request.method != "GET";
        request.authorisation = authorisation;
        let answer = self.transport.send(request).await.map_err(|e| no_answer(&e, changing))?;
        answer.checked(changing)
    }

    async fn key(&self) -> Result<Secret<String>, EffectError> {
        if let Some(key) = self.session.key.borrow().clone() {
            return Ok(key);
        }
        if let Some(key) = self.read(KEY_FILE)? {
            self.session.key.replace(Some(key.clone()));
            return Ok(key);
        }
        self.another_key(None).await
    }

    /// A key other than the one that was refused: the one that another lane has made meanwhile, or a new one.
    async fn another_key(&self, refused: Option<&Secret<String>>) -> Result<Secret<String>, EffectError> {
        let _guard = self.session.making.lock().await;
        let current = self.session.key.borrow().clone();
        match current {
            Some(current) if refused.is_none_or(|refused| refused.expose() != current.expose()) => Ok(current),
            _ => self.new_key().await,
        }
    }

    /// Makes an API key and keeps it. n8n shows a key once, so one that was lost on the way is deleted by its label.
    async fn new_key(&self) -> Result<Secret<String>, EffectError> {
        self.session.key.replace(None);
        let listed = self.rest(Request::get("/rest/api-keys")).await?.json()?;
        for old in listed["data"].as_array().into_iter().flatten().filter(|key| key["label"] == KEY_LABEL) {
            let id = old["id"].as_str().ok_or_else(|| answer::unexpected("an API key without an id"))?;
            self.rest(Request::new("DELETE", &format!("/rest/api-keys/{}", super::percent_encode(id)))).await?;
        }
        let wish = json!({"label": KEY_LABEL, "scopes": ["workflow:read"], "expiresAt": Value::Null});
        let made = self.rest(Request::json("POST", "/rest/api-keys", &wish)).await?.json()?;
        let key =
            made["data"]["rawApiKey"].as_str().ok_or_else(|| answer::unexpected("an API key without its text"))?;
        let key = Secret::new(key.to_owned());
        self.write(KEY_FILE, &key)?;
        self.session.key.replace(Some(key.clone()));
        tracing::info!("made an API key in n8n");
        Ok(key)
    }

    async fn cookie(&self) -> Result<Secret<String>, EffectError> {
        if let Some(cookie) = self.session.cookie.borrow().clone() {
            return Ok(cookie);
        }
        if let Some(cookie) = self.read(COOKIE_FILE)? {
            self.session.cookie.replace(Some(cookie.clone()));
            return Ok(cookie);
        }
        self.new_cookie().await
    }

    async fn new_cookie(&self) -> Result<Secret<String>, EffectError> {
        self.session.cookie.replace(None);
        let entered = self.enter().await;
        let locked = |error: &EffectError| error.kind == ErrorKind::Permanent;
        self.session.locked.set(entered.as_ref().err().is_some_and(locked));
        let cookie = entered?;
        self.write(COOKIE_FILE, &cookie)?;
        self.session.cookie.replace(Some(cookie.clone()));
        Ok(cookie)
    }

    /// Sets up the owner, or logs in as it.
    async fn enter(&self) -> Result<Secret<String>, EffectError> {
        let settings = self.call(Request::get("/rest/settings"), None).await?.json()?;
        let fresh = settings["data"]["userManagement"]["showSetupOnFirstLoad"] == true;
        let kept = self.read(PASSWORD_FILE)?;
        let email = &self.settings.owner_email;
        if fresh {
            let password = match kept {
                Some(password) => password,
                None => self.new_password()?,
            };
            let owner =
                json!({"email": email, "firstName": "Genesis", "lastName": "Agent", "password": password.expose()});
            match self.call(Request::json("POST", "/rest/owner/setup", &owner), None).await {
                Ok(answer) => {
                    tracing::info!("set up the owner of n8n");
                    return session_cookie(&answer);
                }
                // Set up by an earlier try whose answer was lost.
                Err(error) if error.message.contains("already setup") => return self.log_in(&password).await,
                Err(error) => return Err(error),
            }
        }
        match kept {
            Some(password) => self.log_in(&password).await,
            None => Err(EffectError::new(
                ErrorKind::Permanent,
                "n8n_locked",
                "n8n has an owner whose password this agent does not know; run `n8n user-management:reset` in it, the agent then sets up its own",
            )),
        }
    }

    async fn log_in(&self, password: &Secret<String>) -> Result<Secret<String>, EffectError> {
        let login = json!({"emailOrLdapLoginId": self.settings.owner_email, "password": password.expose()});
        match self.call(Request::json("POST", "/rest/login", &login), None).await {
            Ok(answer) => session_cookie(&answer),
            Err(error) if error.code == "n8n_unauthorised" => Err(EffectError::new(
                ErrorKind::Permanent,
                "n8n_locked",
                format!(
                    "n8n does not accept the agent's password for {}; run `n8n user-management:reset` in it",
                    self.settings.owner_email
                ),
            )),
            Err(error) => Err(error),
        }
    }

    /// A password that satisfies n8n (8 to 64 characters, a digit, a capital), on disk before it is used.
    fn new_password(&self) -> Result<Secret<String>, EffectError> {
        let mut bytes = [0; 24];
        self.entropy.fill(&mut bytes);
        let password = Secret::new(format!("{}A1", data_encoding::BASE64URL_NOPAD.encode(&bytes)));
        self.write(PASSWORD_FILE, &password)?;
        Ok(password)
    }

    fn read(&self, name: &str) -> Result<Option<Secret<String>>, EffectError> {
        let content = self.files.read_secret(name).map_err(file_failed)?;
        // A damaged file is as good as none: both ways of getting in write a new one.
        Ok(content.and_then(|bytes| String::from_utf8(bytes.expose().clone()).ok()).map(Secret::new))
    }

    fn write(&self, name: &str, text: &Secret<String>) -> Result<(), EffectError> {
        self.files.write_secret(name, &Secret::new(text.expose().clone().into_bytes())).map_err(file_failed)
    }
}

/// Without a session `/rest/settings` answers a short form instead of an error.
fn is_public_form(request: &Request, answer: &Answer) -> bool {
    request.path == "/rest/settings" && answer.json().is_ok_and(|body| body["data"]["versionCli"].is_null())
}

/// The session cookie. It is marked `Secure`, which a cookie jar would not send over the loopback's plain HTTP.
fn session_cookie(answer: &Answer) -> Result<Secret<String>, EffectError> {
    let cookies = answer.cookies.iter().map(|c| c.expose().split(';').next().unwrap_or_default());
    let mut sessions = cookies.filter(|cookie| cookie.starts_with("n8n-auth="));
    sessions.next().map(|c| Secret::new(c.to_owned())).ok_or_else(|| answer::unexpected("no session cookie"))
}

fn file_failed(error: crate::ports::FileError) -> EffectError {
    let message = genesis_shared::chain::Chain(&error).to_string();
    EffectError::new(ErrorKind::Transient, "secret_file", message)
}
