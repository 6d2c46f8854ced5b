//! The certificate: read at start, and again whenever its files change, without a connection being cut.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use genesis_shared::chain::Chain;
use genesis_shared::id::Digest;
use rustls::ServerConfig;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tokio::time::MissedTickBehavior;

use crate::hub::Hub;

/// Why a certificate and its key cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file.
    #[error("cannot read {0}")]
    File(PathBuf, #[source] std::io::Error),
    /// A PEM file.
    #[error("{0} is not the PEM file that it should be; `genesis-hub init` makes one")]
    Pem(PathBuf, #[source] rustls::pki_types::pem::Error),
    /// A PEM file without a certificate.
    #[error("{0} holds no certificate")]
    Empty(PathBuf),
    /// The two do not belong together, or the key is of a kind that nobody uses.
    #[error("the TLS certificate and key cannot be used")]
    Unusable(#[source] rustls::Error),
}

/// What became of a look at the files.
#[derive(Debug)]
pub enum Reload {
    /// They are as they were at the last look.
    Unchanged,
    /// Connections from now on get the new certificate.
    Done,
    /// The new ones cannot be used; the hub goes on with what it has.
    Failed(TlsError),
}

/// The certificate in use.
#[derive(Debug)]
pub struct Certificate {
    cert: PathBuf,
    key: PathBuf,
    provider: Arc<CryptoProvider>,
    current: RwLock<Arc<CertifiedKey>>,
    /// Digest of both files as they were looked at last, good or not.
    seen: Mutex<Digest>,
}

impl ResolvesServerCert for Certificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner)))
    }
}

impl Certificate {
    /// Reads it.
    ///
    /// # Errors
    /// [`TlsError`].
    pub fn read(cert: &Path, key: &Path) -> Result<Self, TlsError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let (certs, pkcs8) = (bytes(cert)?, bytes(key)?);
        let current = RwLock::new(Arc::new(certified(&provider, (cert, &certs), (key, &pkcs8))?));
        let seen = Mutex::new(digest(&certs, &pkcs8));
        Ok(Self { cert: cert.to_owned(), key: key.to_owned(), provider, current, seen })
    }

    /// A server that presents it, whichever it is by then.
    ///
    /// # Errors
    /// [`TlsError::Unusable`].
    pub fn server(self: &Arc<Self>) -> Result<ServerConfig, TlsError> {
        let builder = ServerConfig::builder_with_provider(Arc::clone(&self.provider));
        let builder = builder.with_safe_default_protocol_versions().map_err(TlsError::Unusable)?;
        let mut config = builder.with_no_client_auth().with_cert_resolver(Arc::clone(self) as _);
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(config)
    }

    /// Looks at the files, by their content: whoever renews a certificate writes, renames or links, and always in two
    /// steps, between which the halves do not fit.
    pub fn reload(&self) -> Reload {
        match self.look() {
            Ok(None) => Reload::Unchanged,
            Ok(Some(new)) => {
                *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(new);
                Reload::Done
            }
            Err(error) => Reload::Failed(error),
        }
    }

    fn look(&self) -> Result<Option<CertifiedKey>, TlsError> {
        let (certs, pkcs8) = (bytes(&self.cert)?, bytes(&self.key)?);
        let found = digest(&certs, &pkcs8);
        let before = std::mem::replace(&mut *self.seen.lock().unwrap_or_else(PoisonError::into_inner), found);
        if before == found {
            return Ok(None);
        }
        certified(&self.provider, (&self.cert, &certs), (&self.key, &pkcs8)).map(Some)
    }
}

fn bytes(path: &Path) -> Result<Vec<u8>, TlsError> {
    std::fs::read(path).map_err(|e| TlsError::File(path.to_owned(), e))
}

fn digest(cert: &[u8], key: &[u8]) -> Digest {
    // The digest of the key's file, and not the key, is what stays in memory.
    Digest::of(&[*Digest::of(cert).as_bytes(), *Digest::of(key).as_bytes()].concat())
}

fn certified(
    provider: &CryptoProvider,
    (cert, certs): (&Path, &[u8]),
    (key, pkcs8): (&Path, &[u8]),
) -> Result<CertifiedKey, TlsError> {
    let pem = |path: &Path| {
        let path = path.to_owned();
        move |e| TlsError::Pem(path, e)
    };
    let certs = CertificateDer::pem_slice_iter(certs).collect::<Result<Vec<_>, _>>().map_err(pem(cert))?;
    if certs.is_empty() {
        return Err(TlsError::Empty(cert.to_owned()));
    }
    let key = PrivateKeyDer::from_pem_slice(pkcs8).map_err(pem(key))?;
    // Compares the two as well.
    CertifiedKey::from_der(certs, key, provider).map_err(TlsError::Unusable)
}

/// Looks once, and says what came of it.
pub fn reload(hub: &Hub, certificate: &Certificate) {
    match certificate.reload() {
        Reload::Unchanged => tracing::debug!("the TLS certificate is as it was"),
        Reload::Done => {
            hub.metrics.reloaded(true);
            tracing::info!(code = "tls_reloaded", "new connections get the new TLS certificate");
        }
        Reload::Failed(error) => {
            hub.metrics.reloaded(false);
            let error = Chain(&error);
            tracing::error!(code = "tls_reload_failed", %error, "the hub goes on with the TLS certificate that it has");
        }
    }
}

/// Looks at the files at the configured interval until the hub stops.
pub async fn watch(hub: Hub, certificate: Arc<Certificate>) {
    let mut ticks = tokio::time::interval(hub.settings.tls_watch);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            biased;
            () = hub.stopped() => return,
            _ = ticks.tick() => reload(&hub, &certificate),
        }
    }
}
