//! Clients that mean no good: they say nothing, or little, or garbage, or too much, or ask and never listen.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::hub::BareHub;

/// Between two bytes of a client that takes its time.
const DRIP: Duration = Duration::from_millis(100);

/// How a client misbehaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Evil {
    /// Connects, and says nothing, not even TLS.
    Mute,
    /// Shakes hands, and asks nothing.
    Idle,
    /// Asks once, and then holds the connection.
    Lingering,
    /// Sends its request head a byte at a time, and never ends it.
    Slowloris,
    /// Announces a body, and sends it a byte at a time.
    SlowBody,
    /// Sends bytes that are no TLS.
    Noise,
    /// Speaks HTTP in the clear.
    Plain,
    /// Shakes hands, and then sends bytes that are no HTTP.
    Babble,
    /// Sends ten megabytes where two are taken.
    Oversized,
    /// Sends a head without end, as fast as it can.
    Endless,
    /// Asks again and again, and never reads an answer.
    Deaf,
}

impl Evil {
    /// Every kind.
    pub const ALL: [Self; 11] = [
        Self::Mute,
        Self::Idle,
        Self::Lingering,
        Self::Slowloris,
        Self::SlowBody,
        Self::Noise,
        Self::Plain,
        Self::Babble,
        Self::Oversized,
        Self::Endless,
        Self::Deaf,
    ];
}

/// Where to, and whose certificate is good.
#[derive(Clone)]
pub struct Target {
    address: SocketAddr,
    from: IpAddr,
    tls: TlsConnector,
}

impl Target {
    /// A hub, attacked from this address of the machine.
    pub fn new(hub: &BareHub, from: IpAddr) -> Self {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(hub.ca_file()).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider);
        let config = config.with_safe_default_protocol_versions().unwrap().with_root_certificates(roots);
        let tls = TlsConnector::from(Arc::new(config.with_no_client_auth()));
        Self { address: hub.address, from, tls }
    }

    /// A connection without TLS.
    ///
    /// # Errors
    /// The system's.
    pub async fn connect(&self) -> io::Result<TcpStream> {
        let socket = TcpSocket::new_v4()?;
        socket.bind(SocketAddr::new(self.from, 0))?;
        socket.connect(self.address).await
    }

    /// A connection with TLS.
    ///
    /// # Errors
    /// The system's, or the hub wants none.
    pub async fn shake(&self) -> io::Result<TlsStream<TcpStream>> {
        let name = ServerName::try_from("127.0.0.1").unwrap();
        self.tls.connect(name, self.connect().await?).await
    }

    /// Misbehaves until the hub has had enough. What it says to it, and how, does not matter.
    pub async fn attack(self, evil: Evil) {
        // It ends with an error or at the end of the stream, as the hub likes.
        drop(self.misbehave(evil).await);
    }

    async fn misbehave(&self, evil: Evil) -> io::Result<()> {
        const POST: &str = "POST /api/v1/sidecar/handshake HTTP/1.1\r\nhost: h\r\ncontent-type: application/json\r\n";
        let head = |length: usize| format!("{POST}content-length: {length}\r\n\r\n");
        match evil {
            Evil::Mute => end(self.connect().await?).await,
            Evil::Idle => end(self.shake().await?).await,
            Evil::Lingering => {
                let mut stream = self.shake().await?;
                stream.write_all(b"GET /healthz HTTP/1.1\r\nhost: h\r\n\r\n").await?;
                end(stream).await
            }
            Evil::Slowloris => drip(self.shake().await?, "GET /healthz HTTP/1.1\r\nhost: h\r\nx-a: ").await,
            Evil::SlowBody => drip(self.shake().await?, &head(10_000)).await,
            Evil::Noise => {
                let mut stream = self.connect().await?;
                stream.write_all(&crate::operator::random::<4096>()).await?;
                end(stream).await
            }
            Evil::Plain => {
                let mut stream = self.connect().await?;
                stream.write_all(b"GET / HTTP/1.1\r\nhost: h\r\n\r\n").await?;
                end(stream).await
            }
            Evil::Babble => {
                let mut stream = self.shake().await?;
                stream.write_all(&crate::operator::random::<4096>()).await?;
                end(stream).await
            }
            Evil::Oversized => {
                let mut stream = self.shake().await?;
                stream.write_all(head(10 << 20).as_bytes()).await?;
                for _ in 0..640 {
                    stream.write_all(&[b' '; 16 * 1024]).await?;
                }
                end(stream).await
            }
            Evil::Endless => {
                let mut stream = self.shake().await?;
                stream.write_all(b"GET / HTTP/1.1\r\nx-a: ").await?;
                loop {
                    stream.write_all(&[b'a'; 16 * 1024]).await?;
                }
            }
            Evil::Deaf => {
                let mut stream = self.shake().await?;
                loop {
                    stream.write_all(b"GET /api/v1/openapi.json HTTP/1.1\r\nhost: h\r\n\r\n").await?;
                }
            }
        }
    }
}

/// Reads what comes and throws it away, to the end.
async fn end(mut stream: impl tokio::io::AsyncRead + Unpin) -> io::Result<()> {
    let mut bytes = [0; 4096];
    while stream.read(&mut bytes).await? > 0 {}
    Ok(())
}

/// Says the beginning, and then a byte at a time.
async fn drip(mut stream: TlsStream<TcpStream>, beginning: &str) -> io::Result<()> {
    stream.write_all(beginning.as_bytes()).await?;
    loop {
        tokio::time::sleep(DRIP).await;
        stream.write_all(b"a").await?;
        stream.flush().await?;
    }
}
