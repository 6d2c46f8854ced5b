//! The listener: connections with TLS and limits around the router, and a stop in order.

use std::fs::{File, TryLockError};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use genesis_shared::chain::Chain;
use hyper::server::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::io::AsyncBufReadExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tower::ServiceExt;

use crate::addresses::{Addresses, Place};
use crate::api::{self, Peer};
use crate::clock::Clock;
use crate::config::Settings;
use crate::hub::{Hub, OpenError};
use crate::metrics::Dropped;
use crate::patience::Patient;
use crate::store::StoreError;
use crate::sweep;
use crate::tls::{self, Certificate, TlsError};
use crate::{pace, rollouts, watching};

/// Streams that one HTTP/2 connection may hold open at once: a droplet needs a poll and two reports.
const STREAMS_MAX: u32 = 64;
/// Connections to the address for scrapers at once.
const SCRAPERS_MAX: usize = 16;
/// Pause after an `accept` that failed, most likely because the process has no file descriptor left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Open files that are none of the connections: the database with its readers, logs, the runtime's own.
const OTHER_FILES: u64 = 64;

/// A running hub.
#[derive(Debug)]
pub struct Running {
    /// Where it listens.
    pub addr: SocketAddr,
    /// Where it listens for scrapers, if it does.
    pub metrics_addr: Option<SocketAddr>,
    /// Its parts; tests look into the store through them.
    pub hub: Hub,
    certificate: Arc<Certificate>,
    task: JoinHandle<Result<(), ServeError>>,
}

/// Why the hub cannot serve.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// Database or keys.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// Another hub has the data folder.
    #[error("another hub runs on {0}")]
    Locked(PathBuf),
    /// A file.
    #[error("cannot use {0}")]
    File(PathBuf, #[source] std::io::Error),
    /// The certificate and key.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The address.
    #[error("cannot listen on {0}")]
    Listen(SocketAddr, #[source] std::io::Error),
    /// Closing the store.
    #[error("the store did not close in order")]
    Close(#[source] StoreError),
    /// A bug.
    #[error("the server's task panicked")]
    Panicked,
}

impl Running {
    /// Asks the hub to stop: it accepts nothing more, answers waiting polls with 204, ends event streams, finishes
    /// requests, and closes the store. [`Running::wait`] tells when that is done.
    pub fn stop(&self) {
        self.hub.stop();
    }

    /// Looks for a new certificate now.
    pub fn reload(&self) {
        tls::reload(&self.hub, &self.certificate);
    }

    /// Waits until the hub has stopped.
    ///
    /// # Errors
    /// [`ServeError`].
    pub async fn wait(self) -> Result<(), ServeError> {
        self.task.await.unwrap_or(Err(ServeError::Panicked))
    }
}

/// Starts a hub by the system's clock; it serves until [`Running::stop`].
///
/// # Errors
/// [`ServeError`].
pub async fn start(settings: Settings) -> Result<Running, ServeError> {
    start_with(settings, Clock::system()).await
}

/// Starts a hub by any clock.
///
/// # Errors
/// [`ServeError`].
pub async fn start_with(settings: Settings, clock: Clock) -> Result<Running, ServeError> {
    let lock = lock(&settings.data_dir)?;
    let certificate = Arc::new(Certificate::read(&settings.tls_cert, &settings.tls_key)?);
    let acceptor = TlsAcceptor::from(Arc::new(certificate.server()?));
    let (listener, addr) = listen(settings.listen).await?;
    let scrapers = match settings.metrics_listen {
        Some(address) => Some(listen(address).await?),
        None => None,
    };
    let metrics_addr = scrapers.as_ref().map(|(_, address)| *address);
    let hub = Hub::open(settings, clock)?;
    let mut others = vec![
        tokio::spawn(sweep::run(hub.clone())),
        tokio::spawn(pace::run(hub.clone())),
        tokio::spawn(rollouts::run(hub.clone())),
        tokio::spawn(watching::run(hub.clone())),
        tokio::spawn(tls::watch(hub.clone(), Arc::clone(&certificate))),
    ];
    if let Some((listener, _)) = scrapers {
        others.push(tokio::spawn(scrape(hub.clone(), listener)));
    }
    let served = hub.clone();
    let task = tokio::spawn(async move {
        accept(&served, listener, acceptor).await;
        for other in others {
            if other.await.is_err() {
                tracing::error!("a task beside the server panicked");
            }
        }
        let closed = served.store.close().await.map_err(ServeError::Close);
        // Held until here: a second hub on the folder would hand jobs out without waking this one's polls.
        drop(lock);
        closed
    });
    Ok(Running { addr, metrics_addr, hub, certificate, task })
}

async fn listen(address: SocketAddr) -> Result<(TcpListener, SocketAddr), ServeError> {
    let failed = |e| ServeError::Listen(address, e);
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    Ok((listener, address))
}

/// Takes as many open files as the system lets this process have, and says so where connections would need more.
pub fn raise_file_limit(connections_max: usize) {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::warn!(%error, "the limit of open files stays as it is");
    }
    let files = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    if files < (connections_max as u64).saturating_add(OTHER_FILES) {
        tracing::warn!(
            files,
            connections_max,
            "fewer open files are allowed than connections (LimitNOFILE, ulimit -n)"
        );
    }
}

fn lock(data_dir: &Path) -> Result<File, ServeError> {
    let path = data_dir.join("hub.lock");
    let file = File::options().create(true).truncate(false).write(true).open(&path);
    let file = file.map_err(|e| ServeError::File(path.clone(), e))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(ServeError::Locked(data_dir.to_owned())),
        Err(TryLockError::Error(error)) => Err(ServeError::File(path, error)),
    }
}

/// Accepts until the hub stops, then lets running requests finish.
async fn accept(hub: &Hub, listener: TcpListener, acceptor: TlsAcceptor) {
    let router = api::router(hub.clone());
    let server = Arc::new(server(hub.settings.slow_client));
    let graceful = GracefulShutdown::new();
    let connections = Arc::new(Semaphore::new(hub.settings.connections_max));
    let addresses = Addresses::default();
    loop {
        // The permit first: over the cap, clients wait in the kernel's queue instead of in our memory.
        let next = async {
            let permit = Arc::clone(&connections).acquire_owned().await;
            (permit, listener.accept().await)
        };
        let (permit, accepted) = tokio::select! {
            next = next => next,
            () = hub.stopped() => break,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let Some(place) = addresses.enter(peer.ip(), hub.settings.connections_per_address_max) else {
            hub.metrics.dropped(Dropped::Address);
            tracing::debug!(%peer, "this address has as many connections as one may have");
            continue;
        };
        let connection =
            Connection { peer, _place: place, hub: hub.clone(), router: router.clone(), server: Arc::clone(&server) };
        let (acceptor, watcher, slow) = (acceptor.clone(), graceful.watcher(), hub.settings.slow_client);
        tokio::spawn(async move {
            connection.serve(stream, &acceptor, watcher, slow).await;
            drop(permit);
        });
    }
    drop(listener);
    if tokio::time::timeout(hub.settings.stop_grace, graceful.shutdown()).await.is_err() {
        tracing::warn!("some requests did not finish in time and were cut off");
    }
}

/// Serves scrapers in the clear until the hub stops: three paths, few connections, nothing that changes anything.
async fn scrape(hub: Hub, listener: TcpListener) {
    let router = api::metrics::router(hub.clone());
    let server = Arc::new(server(hub.settings.slow_client));
    let places = Arc::new(Semaphore::new(SCRAPERS_MAX));
    loop {
        let next = async { (Arc::clone(&places).acquire_owned().await, listener.accept().await) };
        let (place, accepted) = tokio::select! {
            next = next => next,
            () = hub.stopped() => return,
        };
        let stream = match accepted {
            Ok((stream, _)) => TokioIo::new(Patient::new(stream, hub.settings.slow_client)),
            Err(error) => {
                tracing::warn!(%error, "a scraper's connection could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let (router, server, hub) = (router.clone(), Arc::clone(&server), hub.clone());
        tokio::spawn(async move {
            let service = hyper::service::service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
                router.clone().oneshot(request.map(axum::body::Body::new))
            });
            tokio::select! {
                ended = server.http1.serve_connection(stream, service) => if let Err(error) = ended {
                    tracing::debug!(error = %Chain(&error), "a scraper's connection ended");
                },
                () = hub.stopped() => {}
            }
            drop(place);
        });
    }
}

/// Which of the two is spoken ALPN says, so that no connection carries the state of both.
struct Protocols {
    http1: http1::Builder,
    http2: http2::Builder<TokioExecutor>,
}

fn server(slow_client: Duration) -> Protocols {
    let (mut http1, mut http2) = (http1::Builder::new(), http2::Builder::new(TokioExecutor::new()));
    http1.timer(TokioTimer::new()).header_read_timeout(slow_client);
    http2.timer(TokioTimer::new()).max_concurrent_streams(STREAMS_MAX).keep_alive_interval(slow_client);
    Protocols { http1, http2 }
}

struct Connection {
    peer: SocketAddr,
    _place: Place,
    hub: Hub,
    router: Router,
    server: Arc<Protocols>,
}

impl Connection {
    /// The connection, once TLS is established and something is asked.
    async fn shake_hands(
        &self,
        stream: TcpStream,
        acceptor: &TlsAcceptor,
        slow: Duration,
    ) -> Option<Box<TlsStream<Patient<TcpStream>>>> {
        let peer = self.peer;
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%peer, %error, "no TCP_NODELAY");
        }
        let stream = Patient::new(stream, slow);
        let mut stream = match tokio::time::timeout(slow, acceptor.accept(stream)).await {
            Ok(Ok(stream)) => Box::new(stream),
            Ok(Err(error)) => {
                self.hub.metrics.dropped(Dropped::Tls);
                tracing::debug!(%peer, %error, "no TLS");
                return None;
            }
            Err(_) => {
                self.hub.metrics.dropped(Dropped::Tls);
                tracing::debug!(%peer, "the TLS handshake took too long");
                return None;
            }
        };
        // Waiting for the first bytes has no limit of its own in either protocol.
        let first = tokio::select! {
            first = tokio::time::timeout(slow, stream.fill_buf()) => first,
            () = self.hub.stopped() => return None,
        };
        if !matches!(first, Ok(Ok(_))) {
            self.hub.metrics.dropped(Dropped::Idle);
            tracing::debug!(%peer, "nothing was asked in time");
            return None;
        }
        Some(stream)
    }

    async fn serve(
        self,
        stream: TcpStream,
        acceptor: &TlsAcceptor,
        watcher: hyper_util::server::graceful::Watcher,
        slow: Duration,
    ) {
        let (peer, hub) = (self.peer, self.hub.clone());
        let _present = hub.metrics.connection();
        // Boxed, and gone when it is done: what a handshake needs would else lie in the task for as long as it lives.
        let Some(stream) = Box::pin(self.shake_hands(stream, acceptor, slow)).await else { return };
        let router = self.router;
        let service = hyper::service::service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
            let mut request = request.map(axum::body::Body::new);
            request.extensions_mut().insert(Peer(peer.ip()));
            router.clone().oneshot(request)
        });
        let is_http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
        let stream = TokioIo::new(stream);
        // Boxed: the larger of the two would else lie in every connection's task.
        let ended = if is_http2 {
            Box::pin(watcher.watch(self.server.http2.serve_connection(stream, service))).await
        } else {
            Box::pin(watcher.watch(self.server.http1.serve_connection(stream, service))).await
        };
        if let Err(error) = ended {
            hub.metrics.dropped(Dropped::Broken);
            tracing::debug!(%peer, error = %Chain(&error), "the connection ended");
        }
    }
}
