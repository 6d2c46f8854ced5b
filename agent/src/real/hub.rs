//! The hub over HTTPS. Errors of the network never change an outcome; they only mean "later".

use std::cell::OnceCell;
use std::path::{Path, PathBuf};
use std::time::Duration;

use genesis_shared::id::DropletId;
use genesis_shared::life::{BOOT_EPOCH_HEADER, HIGH_WATER_HEADER, Life, QUARANTINED};
use genesis_shared::limits::{POLL_ANSWER_BYTES_MAX, TRUST_ROOTS_BYTES_MAX};
use genesis_shared::report::{Heartbeat, OutboxRecord};
use genesis_shared::secret::Secret;
use genesis_shared::wire::{
    CommandsAnswer, ErrorBody, HandshakeAnswer, HandshakeRequest, HeartbeatAnswer, RenewAnswer, RenewRequest,
    ResultsAnswer, ResultsRequest, SIDECAR_PATH, TrustRootChain,
};
use reqwest::{Certificate, Client, Method, RequestBuilder, Response, StatusCode};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::ports::{EffectError, ErrorKind, HubLink, RENEWALS_USED_UP};

/// Time for a connection, and for an answer that is not a long poll.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// Largest answer but for commands.
const ANSWER_BYTES_MAX: usize = 1024 * 1024;

/// Why there can be no client.
#[derive(Debug, thiserror::Error)]
pub enum HubSetupError {
    /// The CA file cannot be read.
    #[error("cannot read the hub's CA file {path}")]
    CaFile {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The CA file holds no certificate, or the client cannot be made.
    #[error("cannot make a client for the hub")]
    Client(#[from] reqwest::Error),
}

/// The hub's agent plane.
#[derive(Debug)]
pub struct RealHub {
    client: Client,
    base: String,
    life: OnceCell<Life>,
}

impl RealHub {
    /// A client for the hub at `url`; with `ca_file`, only that authority is believed.
    ///
    /// # Errors
    /// Every [`HubSetupError`].
    pub fn new(url: &str, ca_file: Option<&Path>) -> Result<Self, HubSetupError> {
        let mut builder = Client::builder()
            .https_only(true)
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(ANSWER_TIMEOUT)
            // One connection is enough, and an idle one is not kept for ever behind a load balancer.
            .pool_max_idle_per_host(2)
            .pool_idle_timeout(Duration::from_secs(90))
            .tcp_keepalive(Duration::from_secs(30))
            .user_agent(concat!("genesis-agent/", env!("CARGO_PKG_VERSION")));
        if let Some(path) = ca_file {
            let pem = std::fs::read(path).map_err(|source| HubSetupError::CaFile { path: path.to_owned(), source })?;
            builder = builder.tls_certs_only(Certificate::from_pem_bundle(&pem)?);
        }
        let base = format!("{}{SIDECAR_PATH}", url.trim_end_matches('/'));
        Ok(Self { client: builder.build()?, base, life: OnceCell::new() })
    }

    fn request(&self, method: Method, path: &str, token: Option<&Secret<String>>) -> RequestBuilder {
        let mut request = self.client.request(method, format!("{}{path}", self.base));
        if let Some(life) = self.life.get() {
            request =
                request.header(BOOT_EPOCH_HEADER, &life.boot_epoch).header(HIGH_WATER_HEADER, life.journal_high_water);
        }
        match token {
            Some(token) => request.bearer_auth(token.expose()),
            None => request,
        }
    }

    async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        token: Option<&Secret<String>>,
        body: &impl Serialize,
    ) -> Result<T, EffectError> {
        let body = serde_json::to_vec(body).map_err(|e| permanent("hub_request", e.to_string()))?;
        let request = self.request(Method::POST, path, token).header("content-type", "application/json").body(body);
        let response = accepted(request.send().await.map_err(|e| unreachable_hub(&e))?).await?;
        parse(&read(response, ANSWER_BYTES_MAX).await?)
    }
}

impl HubLink for RealHub {
    fn begin_life(&self, life: Life) {
        // A process is one life; who asks twice has the first.
        self.life.get_or_init(|| life);
    }

    async fn handshake(&self, request: &HandshakeRequest) -> Result<HandshakeAnswer, EffectError> {
        self.post("/handshake", None, request).await
    }

    async fn renew(&self, _droplet: &DropletId, assertion: String) -> Result<RenewAnswer, EffectError> {
        self.post("/renew", None, &RenewRequest { assertion }).await
    }

    async fn reach(&self) -> Result<(), EffectError> {
        // Any answer will do, also that of a hub in trouble: it came over a connection that proved whose it is.
        let url = format!("{}/healthz", self.base.trim_end_matches(SIDECAR_PATH));
        self.client.get(url).timeout(CONNECT_TIMEOUT).send().await.map(drop).map_err(|e| unreachable_hub(&e))
    }

    async fn heartbeat(&self, token: &Secret<String>, beat: &Heartbeat) -> Result<HeartbeatAnswer, EffectError> {
        self.post("/heartbeat", Some(token), beat).await
    }

    async fn poll(&self, token: &Secret<String>, wait: Duration, nonce: &str) -> Result<CommandsAnswer, EffectError> {
        let wait_s = wait.as_secs().to_string();
        let request = self
            .request(Method::GET, "/commands", Some(token))
            .query(&[("wait", wait_s.as_str()), ("nonce", nonce)])
            .timeout(wait + ANSWER_TIMEOUT);
        let response = accepted(request.send().await.map_err(|e| unreachable_hub(&e))?).await?;
        if response.status() == StatusCode::NO_CONTENT {
            return Ok(CommandsAnswer { commands: vec![], trust_root_version: 0, quarantined: false });
        }
        parse(&read(response, POLL_ANSWER_BYTES_MAX).await?)
    }

    async fn trust_roots(&self, token: &Secret<String>, after: u64) -> Result<TrustRootChain, EffectError> {
        let request = self.request(Method::GET, "/trust-root", Some(token)).query(&[("after", after)]);
        let response = accepted(request.send().await.map_err(|e| unreachable_hub(&e))?).await?;
        parse(&read(response, TRUST_ROOTS_BYTES_MAX).await?)
    }

    async fn results(&self, token: &Secret<String>, records: &[OutboxRecord]) -> Result<ResultsAnswer, EffectError> {
        self.post("/results", Some(token), &ResultsRequest { records: records.to_vec() }).await
    }
}

/// The response, if it is a success; else the hub's own words as an error.
async fn accepted(response: Response) -> Result<Response, EffectError> {
    let status = response.status();
    if status.is_success() {
        return Ok(response);
    }
    let retry_after = response.headers().get("retry-after").and_then(|v| v.to_str().ok()?.parse().ok());
    // Without its words the status alone says enough.
    let body = read(response, ANSWER_BYTES_MAX).await.unwrap_or_default();
    Err(refusal(status, retry_after, &body))
}

/// What an answer other than a success means.
pub fn refusal(status: StatusCode, retry_after: Option<u64>, body: &[u8]) -> EffectError {
    let words = serde_json::from_slice::<ErrorBody>(body).map(|body| format!("{}: {}", body.code, body.message));
    let message = format!("the hub answered {status} {}", words.unwrap_or_default());
    let (kind, code) = match status {
        StatusCode::UNAUTHORIZED => (ErrorKind::Permanent, "hub_unauthorised"),
        StatusCode::CONFLICT if message.contains(RENEWALS_USED_UP) => (ErrorKind::Permanent, RENEWALS_USED_UP),
        StatusCode::CONFLICT if message.contains(QUARANTINED) => (ErrorKind::Permanent, QUARANTINED),
        StatusCode::TOO_MANY_REQUESTS => (ErrorKind::Transient, "hub_busy"),
        _ if status.is_server_error() => (ErrorKind::Transient, "hub_failing"),
        _ => (ErrorKind::Permanent, "hub_refused"),
    };
    EffectError { kind, code, message, retry_after: retry_after.map(Duration::from_secs) }
}

async fn read(mut response: Response, bytes_max: usize) -> Result<Vec<u8>, EffectError> {
    let mut bytes = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|e| unreachable_hub(&e))? {
        if bytes.len() + chunk.len() > bytes_max {
            return Err(permanent("hub_answer", format!("the hub's answer is longer than {bytes_max} bytes")));
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}

fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, EffectError> {
    serde_json::from_slice(bytes).map_err(|e| {
        EffectError::new(ErrorKind::Transient, "hub_answer", format!("the hub's answer cannot be read: {e}"))
    })
}

/// Nothing reached us. For every call of this port that is as good as "it did not happen": all are idempotent.
fn unreachable_hub(error: &reqwest::Error) -> EffectError {
    let message = format!("no answer from the hub: {}", genesis_shared::chain::Chain(error));
    EffectError::new(ErrorKind::Transient, "hub_unreachable", message)
}

fn permanent(code: &'static str, message: String) -> EffectError {
    EffectError::new(ErrorKind::Permanent, code, message)
}
