//! The hub's operator plane as a client sees it: one method per call of the API.

use std::time::Duration;

use genesis_shared::audit::Line;
use genesis_shared::id::{BundleId, DropletId, JobId};
use genesis_shared::life::ResumeRequest;
use genesis_shared::report::Escrow;
use genesis_shared::secret::Secret;
use genesis_shared::wire::{
    DropletCreate, DropletView, ErrorBody, EventView, JobView, OPERATOR_PATH, Page, ProvisioningToken, PushAnswer,
    TrustRootView,
};
use reqwest::{Method, Response};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::error::Error;

/// Longest wait for one answer. The hub answers operators at once; a minute covers a slow upload of 1 MiB.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);
/// Longest wait for a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Items that one page of a list may have.
pub const PAGE_ITEMS: &str = "100";

/// A hub and the token to use with it.
#[derive(Debug, Clone)]
pub struct HubClient {
    base: String,
    http: reqwest::Client,
    token: Secret<String>,
}

/// Makes ring the crypto provider of this process; any number of calls is fine, the first one counts.
pub fn install_crypto_provider() {
    // An error means that a provider is there already, which is what is wanted.
    drop(rustls::crypto::ring::default_provider().install_default());
}

impl HubClient {
    /// A client for the hub at `base`. With `ca_pem` only certificates by that authority are trusted, and the system's
    /// are not asked; without it only the system's are.
    ///
    /// # Errors
    /// [`Error::Client`] for a CA that is not PEM or a system without any, [`Error::Argument`] for a base that is not
    /// HTTPS.
    pub fn new(base: &str, ca_pem: Option<&[u8]>, token: Secret<String>) -> Result<Self, Error> {
        if !base.starts_with("https://") {
            let why = format!("{base:?} does not begin with https://");
            return Err(Error::Argument { what: "--hub".into(), why });
        }
        install_crypto_provider();
        let mut builder = reqwest::Client::builder()
            .user_agent(concat!("genesisctl/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(ANSWER_TIMEOUT)
            // A redirect would carry the token to whoever is named.
            .redirect(reqwest::redirect::Policy::none())
            .https_only(true);
        if let Some(pem) = ca_pem {
            let authorities = reqwest::Certificate::from_pem_bundle(pem).map_err(Error::Client)?;
            if authorities.is_empty() {
                return Err(Error::Argument { what: "--ca".into(), why: "holds no PEM certificate".into() });
            }
            builder = builder.tls_certs_only(authorities);
        }
        let http = builder.build().map_err(Error::Client)?;
        Ok(Self { base: base.trim_end_matches('/').to_owned(), http, token })
    }

    async fn call(
        &self,
        method: Method,
        path: &str,
        query: &[(&str, &str)],
        body: Option<Vec<u8>>,
    ) -> Result<Answer, Error> {
        let url = format!("{}{OPERATOR_PATH}/{path}", self.base);
        let mut request = self.http.request(method, &url).bearer_auth(self.token.expose()).query(query);
        if let Some(body) = body {
            request = request.header("content-type", "application/json").body(body);
        }
        let unreachable =
            |source: reqwest::Error| Error::Unreachable { url: url.clone(), source: source.without_url() };
        let response: Response = request.send().await.map_err(unreachable)?;
        let status = response.status();
        let bytes = response.bytes().await.map_err(unreachable)?.to_vec();
        if status.is_success() {
            return Ok(Answer { url, status: status.as_u16(), bytes });
        }
        match serde_json::from_slice::<ErrorBody>(&bytes) {
            Ok(body) => Err(Error::Hub { status: status.as_u16(), body: Box::new(body) }),
            Err(_) => Err(Error::Answer { url, status: status.as_u16(), why: "not the hub's form of an error".into() }),
        }
    }

    async fn get<T: DeserializeOwned>(&self, path: &str, query: &[(&str, &str)]) -> Result<T, Error> {
        self.call(Method::GET, path, query, None).await?.read()
    }

    /// Registers a droplet; the answer holds its one-time token.
    ///
    /// # Errors
    /// [`Error::Hub`], [`Error::Unreachable`], [`Error::Answer`], as for every call.
    pub async fn add_droplet(&self, droplet: &DropletCreate) -> Result<ProvisioningToken, Error> {
        let body = serde_json::to_vec(droplet).expect("a droplet has a JSON form");
        self.call(Method::POST, "droplets", &[], Some(body)).await?.read()
    }

    /// A new provisioning token for a droplet; earlier ones end.
    ///
    /// # Errors
    /// As for every call.
    pub async fn provisioning_token(&self, id: &DropletId) -> Result<ProvisioningToken, Error> {
        self.call(Method::POST, &format!("droplets/{id}/provisioning-token"), &[], None).await?.read()
    }

    /// One droplet.
    ///
    /// # Errors
    /// As for every call.
    pub async fn droplet(&self, id: &DropletId) -> Result<DropletView, Error> {
        self.get(&format!("droplets/{id}"), &[]).await
    }

    /// Ends a droplet's quarantine.
    ///
    /// # Errors
    /// As for every call.
    pub async fn resume_droplet(&self, id: &DropletId, request: &ResumeRequest) -> Result<DropletView, Error> {
        let body = serde_json::to_vec(request).expect("a request has a JSON form");
        self.call(Method::POST, &format!("droplets/{id}/resume"), &[], Some(body)).await?.read()
    }

    /// What a droplet deposited for the recovery key last; needs an admin token.
    ///
    /// # Errors
    /// As for every call.
    pub async fn escrow(&self, id: &DropletId) -> Result<Escrow, Error> {
        self.get(&format!("droplets/{id}/escrow"), &[]).await
    }

    /// One page of droplets; `query` filters, and carries the cursor of the page before.
    ///
    /// # Errors
    /// As for every call.
    pub async fn droplets(&self, query: &[(&str, &str)]) -> Result<Page<DropletView>, Error> {
        self.get("droplets", query).await
    }

    /// Pushes a signed bundle, byte for byte. The same bundle again gives the same answer, so a retry is safe.
    ///
    /// # Errors
    /// As for every call.
    pub async fn push(&self, bundle: &[u8]) -> Result<PushAnswer, Error> {
        self.call(Method::POST, "bundles", &[], Some(bundle.to_vec())).await?.read()
    }

    /// One job.
    ///
    /// # Errors
    /// As for every call.
    pub async fn job(&self, id: JobId) -> Result<JobView, Error> {
        self.get(&format!("jobs/{id}"), &[]).await
    }

    /// One page of jobs.
    ///
    /// # Errors
    /// As for every call.
    pub async fn jobs(&self, query: &[(&str, &str)]) -> Result<Page<JobView>, Error> {
        self.get("jobs", query).await
    }

    /// What the governor of the queues goes by, and how each is doing.
    ///
    /// # Errors
    /// As for every call.
    pub async fn queues(&self) -> Result<Value, Error> {
        self.get("queues", &[]).await
    }

    /// Sets what the governor of the queues goes by; answers how they are then.
    ///
    /// # Errors
    /// As for every call.
    pub async fn set_limits(&self, limits: &Value) -> Result<Value, Error> {
        self.call(Method::PUT, "queues", &[], Some(limits.to_string().into_bytes())).await?.read()
    }

    /// The latest rollouts, newest first.
    ///
    /// # Errors
    /// As for every call.
    pub async fn rollouts(&self) -> Result<Vec<Value>, Error> {
        self.get("rollouts", &[]).await
    }

    /// One rollout.
    ///
    /// # Errors
    /// As for every call.
    pub async fn rollout(&self, id: BundleId) -> Result<Value, Error> {
        self.get(&format!("rollouts/{id}"), &[]).await
    }

    /// `pause`, `resume` or `abort`; answers the rollout then.
    ///
    /// # Errors
    /// As for every call.
    pub async fn steer_rollout(&self, id: BundleId, wish: &str) -> Result<Value, Error> {
        self.call(Method::POST, &format!("rollouts/{id}/{wish}"), &[], None).await?.read()
    }

    /// One page of events, newest first.
    ///
    /// # Errors
    /// As for every call.
    pub async fn events(&self, query: &[(&str, &str)]) -> Result<Page<EventView>, Error> {
        self.get("events", query).await
    }

    /// One page of an audit chain, oldest entry first; `query` names it.
    ///
    /// # Errors
    /// As for every call.
    pub async fn audit(&self, query: &[(&str, &str)]) -> Result<Page<Line>, Error> {
        self.get("audit", query).await
    }

    /// Gives the hub a signed trust root.
    ///
    /// # Errors
    /// As for every call.
    pub async fn put_trust_root(&self, document: &[u8]) -> Result<(), Error> {
        // What it answers is of no interest: an error would have had an error's status.
        self.call(Method::PUT, "trust-root", &[], Some(document.to_vec())).await.map(drop)
    }

    /// The trust root that the hub hands to droplets.
    ///
    /// # Errors
    /// As for every call.
    pub async fn trust_root(&self) -> Result<TrustRootView, Error> {
        self.get("trust-root", &[]).await
    }
}

/// Collects every page of a list.
///
/// # Errors
/// Those of `page`, which is given the query with the cursor added.
pub async fn all_pages<T>(
    filter: &[(&str, &str)],
    mut page: impl AsyncFnMut(&[(&str, &str)]) -> Result<Page<T>, Error>,
) -> Result<Vec<T>, Error> {
    let (mut items, mut cursor) = (Vec::new(), None::<String>);
    loop {
        let mut query = filter.to_vec();
        query.push(("limit", PAGE_ITEMS));
        if let Some(cursor) = &cursor {
            query.push(("cursor", cursor.as_str()));
        }
        let next = page(&query).await?;
        items.extend(next.items);
        match next.next_cursor {
            // A hub that repeats a cursor would keep this going for ever.
            Some(next) if Some(&next) != cursor.as_ref() => cursor = Some(next),
            Some(_) | None => return Ok(items),
        }
    }
}

struct Answer {
    url: String,
    status: u16,
    bytes: Vec<u8>,
}

impl Answer {
    fn read<T: DeserializeOwned>(self) -> Result<T, Error> {
        let Self { url, status, bytes } = self;
        serde_json::from_slice(&bytes).map_err(|e| Error::Answer { url, status, why: e.to_string() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_a_hub_without_tls_and_a_ca_that_is_none() {
        let new = |base: &str, ca: Option<&[u8]>| HubClient::new(base, ca, Secret::new("t".into()));
        assert!(matches!(new("http://127.0.0.1:1", None), Err(Error::Argument { .. })));
        assert!(new("https://127.0.0.1:1", Some(b"not a certificate")).is_err());
    }

    #[test]
    fn a_list_is_read_to_its_last_page_and_a_repeated_cursor_ends_it() {
        let run = |pages: &[(&str, Option<&str>)]| {
            let mut pages = pages.iter();
            let page = async |query: &[(&str, &str)]| {
                assert!(query.contains(&("state", "queued")) && query.contains(&("limit", PAGE_ITEMS)));
                let (item, next) = pages.next().expect("no page is asked for after the last");
                Ok(Page { items: vec![(*item).to_owned()], next_cursor: next.map(str::to_owned) })
            };
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            runtime.block_on(all_pages(&[("state", "queued")], page)).unwrap()
        };
        assert_eq!(run(&[("a", Some("1")), ("b", Some("2")), ("c", None)]), ["a", "b", "c"]);
        assert_eq!(run(&[("a", Some("1")), ("b", Some("1"))]), ["a", "b"]);
    }
}
