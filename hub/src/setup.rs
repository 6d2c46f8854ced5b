//! What `genesis-hub init` makes: the data folder, the delivery key, the database, and a local certificate.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use genesis_shared::id::{KeyId, PublicKey};
use genesis_shared::timestamp::Timestamp;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};
use ring::rand::SystemRandom;
use ring::signature::Ed25519KeyPair;
use serde::Serialize;

use crate::delivery::{self, DeliveryError};
use crate::store::{Store, StoreError};

/// Hosts of the local certificate where none are named.
const DEFAULT_HOSTS: &[&str] = &["127.0.0.1", "localhost"];
/// Years that the local certificates last. Nothing renews them: they are for one machine or a trial; a public hub
/// brings its own with `--tls-cert`.
const CERTIFICATE_YEARS: i32 = 10;

/// Where the database is.
pub fn database(data_dir: &Path) -> PathBuf {
    data_dir.join("hub.db")
}

/// Where the delivery key is.
pub fn delivery_key(data_dir: &Path) -> PathBuf {
    data_dir.join("delivery.key")
}

/// What to set up.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// The folder.
    pub data_dir: PathBuf,
    /// Names and addresses in the local certificate; none means 127.0.0.1 and localhost.
    pub hosts: Vec<String>,
    /// A certificate chain and its key to use instead of a local one.
    pub tls: Option<(PathBuf, PathBuf)>,
    /// Name of the delivery key.
    pub delivery_kid: KeyId,
}

/// What there is now; `init` prints it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Made {
    /// What clients trust; absent where the certificate was brought along.
    pub ca_file: Option<PathBuf>,
    /// The hub's certificate chain.
    pub tls_cert: PathBuf,
    /// The hub's TLS key.
    pub tls_key: PathBuf,
    /// For the trust root's `delivery` list.
    pub delivery_public_key: PublicKey,
    /// For the trust root's `delivery` list.
    pub delivery_kid: KeyId,
}

/// Why it could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// A file or folder.
    #[error("cannot make or read {0}")]
    File(PathBuf, #[source] std::io::Error),
    /// The delivery key that is there.
    #[error("cannot use the delivery key {0}")]
    Key(PathBuf, #[source] DeliveryError),
    /// Key generation.
    #[error("the system gave no random bytes for a key")]
    Random,
    /// The certificate.
    #[error("cannot make a certificate for {0:?}")]
    Certificate(Vec<String>, #[source] rcgen::Error),
    /// The certificate that is there is for other hosts.
    #[error("{file} is for {there}; remove it to get one for {wanted}")]
    OtherHosts {
        /// The certificate.
        file: PathBuf,
        /// Its hosts.
        there: String,
        /// The hosts named now.
        wanted: String,
    },
    /// The database.
    #[error("cannot make the database")]
    Store(#[from] StoreError),
}

/// Makes what is missing and leaves what is there; the second run changes nothing.
///
/// # Errors
/// [`SetupError`].
pub async fn init(wanted: &Wanted, now: Timestamp) -> Result<Made, SetupError> {
    let dir = &wanted.data_dir;
    DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(|e| SetupError::File(dir.clone(), e))?;
    std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o700))
        .map_err(|e| SetupError::File(dir.clone(), e))?;

    let key_file = delivery_key(dir);
    if !key_file.exists() {
        let pkcs8 = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).map_err(|_| SetupError::Random)?;
        write(&key_file, pkcs8.as_ref(), 0o600)?;
    }
    let pkcs8 = std::fs::read(&key_file).map_err(|e| SetupError::File(key_file.clone(), e))?;
    let delivery_public_key = delivery::public_key(&pkcs8).map_err(|e| SetupError::Key(key_file, e))?;

    let database = database(dir);
    Store::open(&database)?.close().await?;
    // The files that SQLite puts beside it take over its mode.
    std::fs::set_permissions(&database, std::fs::Permissions::from_mode(0o600))
        .map_err(|e| SetupError::File(database, e))?;

    let (ca_file, tls_cert, tls_key) = match &wanted.tls {
        Some((cert, key)) => (None, cert.clone(), key.clone()),
        None => {
            let (ca, cert, key) = local_certificate(dir, &wanted.hosts, now)?;
            (Some(ca), cert, key)
        }
    };
    Ok(Made { ca_file, tls_cert, tls_key, delivery_public_key, delivery_kid: wanted.delivery_kid.clone() })
}

fn local_certificate(dir: &Path, named: &[String], now: Timestamp) -> Result<(PathBuf, PathBuf, PathBuf), SetupError> {
    let files = (dir.join("ca.pem"), dir.join("tls-cert.pem"), dir.join("tls-key.pem"));
    let (ca_file, cert_file, key_file) = &files;
    let hosts_file = dir.join("tls-hosts");
    let defaults = || DEFAULT_HOSTS.iter().map(|&host| host.to_owned()).collect();
    let hosts: Vec<String> = if named.is_empty() { defaults() } else { named.to_vec() };
    // The certificate is written last, so where it is, all is.
    if cert_file.exists() {
        let there = std::fs::read_to_string(&hosts_file).map_err(|e| SetupError::File(hosts_file, e))?;
        let covered = named.iter().all(|host| there.lines().any(|line| line == host));
        if !covered {
            let (there, wanted) = (there.trim().replace('\n', ", "), named.join(", "));
            return Err(SetupError::OtherHosts { file: cert_file.clone(), there, wanted });
        }
        return Ok(files);
    }
    let made = certificates(&hosts, now).map_err(|e| SetupError::Certificate(hosts.clone(), e))?;
    write(key_file, made.key.as_bytes(), 0o600)?;
    write(ca_file, made.ca.as_bytes(), 0o644)?;
    write(&hosts_file, hosts.join("\n").as_bytes(), 0o644)?;
    write(cert_file, made.cert.as_bytes(), 0o644)?;
    Ok(files)
}

struct Pem {
    ca: String,
    cert: String,
    key: String,
}

/// A CA and one certificate by it. The CA's key is dropped here: a CA that cannot sign again is safe to trust.
fn certificates(hosts: &[String], now: Timestamp) -> Result<Pem, rcgen::Error> {
    let year: i32 = now.to_string().get(..4).and_then(|year| year.parse().ok()).unwrap_or(2026);
    let not_after = rcgen::date_time_ymd(year + CERTIFICATE_YEARS, 1, 1);

    let mut ca = CertificateParams::default();
    ca.not_after = not_after;
    ca.distinguished_name.push(DnType::CommonName, "Genesis hub, local CA");
    ca.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    ca.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let ca_key = KeyPair::generate()?;
    let ca_pem = ca.self_signed(&ca_key)?.pem();
    let issuer = Issuer::new(ca, ca_key);

    let mut leaf = CertificateParams::new(hosts.to_vec())?;
    leaf.not_after = not_after;
    leaf.distinguished_name.push(DnType::CommonName, "Genesis hub");
    leaf.use_authority_key_identifier_extension = true;
    leaf.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let key = KeyPair::generate()?;
    let cert = leaf.signed_by(&key, &issuer)?.pem();
    Ok(Pem { ca: ca_pem, cert, key: key.serialize_pem() })
}

/// Writes a file whole or not at all, durably.
fn write(path: &Path, bytes: &[u8], mode: u32) -> Result<(), SetupError> {
    let half = path.with_extension("new");
    let put = || -> std::io::Result<()> {
        match std::fs::remove_file(&half) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&half)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        std::fs::rename(&half, path)?;
        match path.parent() {
            Some(dir) => File::open(dir)?.sync_all(),
            None => Ok(()),
        }
    };
    put().map_err(|e| SetupError::File(path.to_owned(), e))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_second_init_changes_nothing_and_other_hosts_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let data_dir = dir.path().join("hub");
        let mut wanted = Wanted { data_dir, hosts: vec![], tls: None, delivery_kid: "hub-1".parse().unwrap() };
        let now: Timestamp = "2026-11-24T00:00:00Z".parse().unwrap();
        let first = init(&wanted, now).await.unwrap();
        let key = std::fs::read(&first.tls_key).unwrap();
        assert_eq!(init(&wanted, now).await.unwrap(), first);
        assert_eq!(std::fs::read(&first.tls_key).unwrap(), key);
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&wanted.data_dir), 0o700);
        assert_eq!(mode(&delivery_key(&wanted.data_dir)), 0o600);
        assert_eq!(mode(&first.tls_key), 0o600);
        assert_eq!(mode(&database(&wanted.data_dir)), 0o600);
        wanted.hosts = vec!["hub.example".into()];
        assert!(matches!(init(&wanted, now).await, Err(SetupError::OtherHosts { .. })));
    }
}
