//! When the certificate ends that a server shows for a host name: a TLS handshake, and the one date in it.
//!
//! Nothing is believed and nothing is sent: the certificate is read, whoever signed it, and the connection closed.

use std::sync::Arc;
use std::time::Duration;

use genesis_shared::timestamp::Timestamp;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use tokio::net::TcpStream;

/// The proxy is on this machine.
const TIMEOUT: Duration = Duration::from_secs(5);

/// The end of the certificate that the server at this address shows for this host; `None` if it shows none.
pub(super) async fn expires_at(address: &str, port: u16, host: &str) -> Option<Timestamp> {
    tokio::time::timeout(TIMEOUT, look(address, port, host)).await.ok().flatten()
}

async fn look(address: &str, port: u16, host: &str) -> Option<Timestamp> {
    let provider = rustls::crypto::ring::default_provider();
    let schemes = provider.signature_verification_algorithms.supported_schemes();
    let config = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_safe_default_protocol_versions()
        .ok()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(OnlyLooks(schemes)))
        .with_no_client_auth();
    let name = ServerName::try_from(host.to_owned()).ok()?;
    let stream = TcpStream::connect((address, port)).await.ok()?;
    let stream = tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, stream).await.ok()?;
    let chain = stream.get_ref().1.peer_certificates()?;
    not_after(chain.first()?)
}

/// Takes every certificate: it is read, not relied on.
#[derive(Debug)]
struct OnlyLooks(Vec<SignatureScheme>);

impl ServerCertVerifier for OnlyLooks {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }
    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }
    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }
    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.clone()
    }
}

/// Tags of DER that lie on the way (X.690, section 8).
const SEQUENCE: u8 = 0x30;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const EXPLICIT_VERSION: u8 = 0xa0;

/// `notAfter` of a certificate (RFC 5280, section 4.1): tbsCertificate ::= [version], serial, signature, issuer, validity.
fn not_after(certificate: &[u8]) -> Option<Timestamp> {
    let (_, certificate, _) = element(certificate).filter(|(tag, ..)| *tag == SEQUENCE)?;
    let (_, mut tbs, _) = element(certificate).filter(|(tag, ..)| *tag == SEQUENCE)?;
    let (tag, _, rest) = element(tbs)?;
    if tag == EXPLICIT_VERSION {
        tbs = rest;
    }
    for _ in ["serial", "signature", "issuer"] {
        tbs = element(tbs)?.2;
    }
    let (_, validity, _) = element(tbs).filter(|(tag, ..)| *tag == SEQUENCE)?;
    let (tag, text, _) = element(element(validity)?.2)?;
    let text = std::str::from_utf8(text).ok().filter(|text| text.is_ascii())?;
    let full = match tag {
        // Two digits of a year mean 1950 to 2049 (RFC 5280, section 4.1.2.5.1).
        UTC_TIME => format!("{}{text}", if text.get(..2)? < "50" { "20" } else { "19" }),
        GENERALIZED_TIME => text.to_owned(),
        _ => return None,
    };
    let part = |from: usize, to: usize| full.get(from..to);
    let (date, time) = ((part(0, 4)?, part(4, 6)?, part(6, 8)?), (part(8, 10)?, part(10, 12)?, part(12, 14)?));
    part(14, 15).filter(|zone| *zone == "Z")?;
    format!("{}-{}-{}T{}:{}:{}Z", date.0, date.1, date.2, time.0, time.1, time.2).parse().ok()
}

/// The first element of some DER: its tag, its content, and what follows it.
fn element(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = der.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (length, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        // A certificate has at most some kilobytes: three bytes of length are more than enough.
        0x81..=0x83 => {
            let (bytes, rest) = rest.split_at_checked(usize::from(first - 0x80))?;
            (bytes.iter().fold(0, |length, byte| length << 8 | usize::from(*byte)), rest)
        }
        _ => return None,
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some((tag, content, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A certificate down to its validity, with this end.
    fn certificate(tag: u8, end: &str) -> Vec<u8> {
        let wrap = |tag: u8, content: Vec<u8>| [vec![tag, u8::try_from(content.len()).unwrap()], content].concat();
        let validity = [wrap(UTC_TIME, b"260101000000Z".to_vec()), wrap(tag, end.into())].concat();
        let version = wrap(EXPLICIT_VERSION, vec![2, 1, 2]);
        let fields = [wrap(2, vec![1]), wrap(SEQUENCE, vec![]), wrap(SEQUENCE, vec![]), wrap(SEQUENCE, validity)];
        wrap(SEQUENCE, wrap(SEQUENCE, [version, fields.concat()].concat()))
    }

    #[test]
    fn reads_the_end_of_a_certificate_in_both_spellings() {
        let read = |tag, end: &str| not_after(&certificate(tag, end)).map(|at| at.to_string());
        assert!(read(UTC_TIME, "261125043000Z").unwrap().starts_with("2026-11-25T04:30:00"));
        assert!(read(GENERALIZED_TIME, "20510102030405Z").unwrap().starts_with("2051-01-02T03:04:05"));
        assert_eq!(read(UTC_TIME, "2611250430Z"), None);
        assert_eq!(read(2, "261125043000Z"), None);
    }

    #[test]
    fn a_certificate_that_is_cut_off_anywhere_has_no_end() {
        let whole = certificate(UTC_TIME, "261125043000Z");
        for length in 0..whole.len() {
            assert_eq!(not_after(&whole[..length]), None, "{length}");
        }
    }
}
