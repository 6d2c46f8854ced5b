//! One HTTP exchange with n8n, without any meaning.

use std::time::Duration;

use genesis_shared::chain::Chain;
use genesis_shared::limits::N8N_ANSWER_BYTES_MAX;
use genesis_shared::secret::Secret;
use reqwest::Client;
use reqwest::redirect::Policy;
use serde_json::Value;

use super::Answer;

/// A request. Its body may hold secrets and is wiped after use.
#[derive(Debug, Clone)]
pub struct Request {
    /// `GET`, `POST`, …
    pub method: &'static str,
    /// Path and query.
    pub path: String,
    /// JSON, if any.
    pub body: Option<Secret<Vec<u8>>>,
    /// Name and secret value of the header that authorises it.
    pub authorisation: Option<(&'static str, Secret<String>)>,
}

impl Request {
    /// Without a body.
    pub fn new(method: &'static str, path: &str) -> Self {
        Self { method, path: path.to_owned(), body: None, authorisation: None }
    }
    /// A `GET`.
    pub fn get(path: &str) -> Self {
        Self::new("GET", path)
    }
    /// With a JSON body.
    pub fn json(method: &'static str, path: &str, body: &Value) -> Self {
        Self::secret(method, path, Secret::new(body.to_string().into_bytes()))
    }
    /// With a JSON body that holds secrets.
    pub fn secret(method: &'static str, path: &str, body: Secret<Vec<u8>>) -> Self {
        Self { body: Some(body), ..Self::new(method, path) }
    }
}

/// No whole answer came.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TransportError {
    /// The request did not leave.
    #[error("n8n cannot be reached: {0}")]
    NotSent(String),
    /// The request left; whether it was heard is not known.
    #[error("n8n gave no answer: {0}")]
    NoAnswer(String),
    /// The answer exceeds what this agent reads.
    #[error("n8n's answer is longer than {0} bytes")]
    TooLong(usize),
}

/// Something that carries requests to an n8n.
#[allow(async_fn_in_trait, reason = "one task drives the agent; its futures need not be Send")]
pub trait Transport {
    /// One exchange.
    async fn send(&self, request: Request) -> Result<Answer, TransportError>;
}

/// Over the network; normally the droplet's own loopback.
#[derive(Debug)]
pub struct HttpTransport {
    client: Client,
    base: String,
}

impl HttpTransport {
    /// For the n8n at `url`.
    ///
    /// # Errors
    /// The client cannot be made.
    pub fn new(url: &str, answer_timeout: Duration) -> reqwest::Result<Self> {
        let client = Client::builder()
            .connect_timeout(Duration::from_secs(5))
            .timeout(answer_timeout)
            .redirect(Policy::none())
            .pool_max_idle_per_host(1)
            .pool_idle_timeout(Duration::from_secs(4))
            .no_proxy()
            .build()?;
        Ok(Self { client, base: url.trim_end_matches('/').to_owned() })
    }
}

impl Transport for HttpTransport {
    async fn send(&self, request: Request) -> Result<Answer, TransportError> {
        let method = request.method.parse().map_err(|_| TransportError::NotSent("no such method".into()))?;
        let mut builder = self.client.request(method, format!("{}{}", self.base, request.path));
        if let Some((name, value)) = &request.authorisation {
            builder = builder.header(*name, value.expose());
        }
        if let Some(body) = &request.body {
            builder = builder.header("content-type", "application/json").body(body.expose().clone());
        }
        let mut response = builder.send().await.map_err(|e| classify(&e))?;
        let header = |name: &str| response.headers().get(name).and_then(|v| v.to_str().ok()).map(str::to_owned);
        let mut answer = Answer {
            status: response.status().as_u16(),
            content_type: header("content-type").unwrap_or_default(),
            retry_after: header("retry-after"),
            cookies: {
                let all = response.headers().get_all("set-cookie").iter();
                all.filter_map(|v| v.to_str().ok()).map(|text| Secret::new(text.to_owned())).collect()
            },
            body: Vec::new(),
        };
        while let Some(chunk) = response.chunk().await.map_err(|e| classify(&e))? {
            if answer.body.len() + chunk.len() > N8N_ANSWER_BYTES_MAX {
                return Err(TransportError::TooLong(N8N_ANSWER_BYTES_MAX));
            }
            answer.body.extend_from_slice(&chunk);
        }
        Ok(answer)
    }
}

fn classify(error: &reqwest::Error) -> TransportError {
    // Without the URL: the agent's log need not repeat it, and a query could hold a cursor.
    let why = Chain(error).to_string();
    if error.is_connect() || error.is_builder() { TransportError::NotSent(why) } else { TransportError::NoAnswer(why) }
}
