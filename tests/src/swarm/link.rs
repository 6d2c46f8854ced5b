//! One HTTP/2 connection over TLS from an address of its own, made anew when it is lost.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::client::conn::http2::{self, SendRequest};
use hyper::{Request, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpSocket;
use tokio::sync::Mutex;
use tokio_rustls::TlsConnector;

/// Time for a connection with its TLS handshake, as the agent has it.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Flow-control window: the smallest that HTTP/2 knows suffices, and is what bounds a connection's memory.
const WINDOW_BYTES: u32 = 65_535;

/// How to reach a hub; shared by all agents.
pub struct Way {
    addr: SocketAddr,
    name: ServerName<'static>,
    tls: TlsConnector,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// No connection.
    #[error("cannot connect: {0}")]
    Connect(#[from] std::io::Error),
    /// The connection broke.
    #[error("the connection broke: {0}")]
    Http(#[from] hyper::Error),
    /// It took too long.
    #[error("no answer in time")]
    Timeout,
}

impl Way {
    /// To a hub at `addr` whose certificate is by this authority.
    ///
    /// # Errors
    /// The PEM text holds no usable authority.
    pub fn new(addr: SocketAddr, ca_pem: &[u8]) -> Result<Self, String> {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(ca_pem) {
            roots.add(certificate.map_err(|e| e.to_string())?).map_err(|e| e.to_string())?;
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let versions = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let mut config = versions.map_err(|e| e.to_string())?.with_root_certificates(roots).with_no_client_auth();
        config.alpn_protocols = vec![b"h2".to_vec()];
        // Each agent is a machine of its own: none has a session to resume after a restart of the hub.
        config.resumption = rustls::client::Resumption::disabled();
        Ok(Self { addr, name: ServerName::from(addr.ip()), tls: TlsConnector::from(Arc::new(config)) })
    }

    async fn connect(&self, source: Ipv4Addr) -> Result<SendRequest<Full<Bytes>>, LinkError> {
        let socket = TcpSocket::new_v4()?;
        socket.bind(SocketAddr::from((source, 0)))?;
        let stream = socket.connect(self.addr).await?;
        stream.set_nodelay(true)?;
        let stream = self.tls.connect(self.name.clone(), stream).await?;
        let mut builder = http2::Builder::new(TokioExecutor::new());
        builder.initial_stream_window_size(WINDOW_BYTES).initial_connection_window_size(WINDOW_BYTES);
        let (sender, connection) = builder.handshake(TokioIo::new(stream)).await?;
        tokio::spawn(async move {
            // Its end shows in the requests.
            drop(connection.await);
        });
        Ok(sender)
    }
}

/// An agent's way to the hub.
pub struct Link {
    way: Arc<Way>,
    source: Ipv4Addr,
    sender: Mutex<Option<SendRequest<Full<Bytes>>>>,
}

impl Link {
    /// From this address; connects when first used.
    pub fn new(way: Arc<Way>, source: Ipv4Addr) -> Self {
        Self { way, source, sender: Mutex::new(None) }
    }

    /// Sends a request and reads the answer whole; `connected` is told of a new connection.
    ///
    /// # Errors
    /// [`LinkError`]; the connection is then given up.
    pub async fn call(
        &self,
        request: Request<Full<Bytes>>,
        patience: Duration,
        connected: impl FnOnce(),
    ) -> Result<(StatusCode, Bytes), LinkError> {
        let mut sender = self.sender(connected).await?;
        let exchange = async {
            sender.ready().await?;
            let response = sender.send_request(request).await?;
            let status = response.status();
            Ok::<_, hyper::Error>((status, response.into_body().collect().await?.to_bytes()))
        };
        let answer = match tokio::time::timeout(patience, exchange).await {
            Ok(answer) => answer.map_err(LinkError::from),
            Err(_) => Err(LinkError::Timeout),
        };
        if answer.is_err() {
            self.hang_up().await;
        }
        answer
    }

    async fn sender(&self, connected: impl FnOnce()) -> Result<SendRequest<Full<Bytes>>, LinkError> {
        let mut sender = self.sender.lock().await;
        if let Some(sender) = sender.as_ref().filter(|sender| !sender.is_closed()) {
            return Ok(sender.clone());
        }
        let made = tokio::time::timeout(CONNECT_TIMEOUT, self.way.connect(self.source)).await;
        let made = made.map_err(|_| LinkError::Timeout)??;
        connected();
        *sender = Some(made.clone());
        Ok(made)
    }

    /// Drops the connection, and lets none be made while the answer is held.
    pub async fn cut(&self) -> impl Drop + '_ {
        let mut sender = self.sender.lock().await;
        *sender = None;
        sender
    }

    /// Drops the connection.
    pub async fn hang_up(&self) {
        *self.sender.lock().await = None;
    }
}
