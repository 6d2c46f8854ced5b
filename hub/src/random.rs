//! Random bytes from the system, and the tokens and ids made of them.

use data_encoding::{BASE64URL_NOPAD, HEXLOWER};
use genesis_shared::id::{BundleId, JobId, LeaseId, RequestId};
use ring::rand::{SecureRandom, SystemRandom};

/// `N` random bytes.
///
/// # Panics
/// If the system has no randomness to give: every token made then would be guessable, so there is no way on.
pub fn bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    #[cfg(feature = "sim")]
    if crate::sim::fill(&mut bytes) {
        return bytes;
    }
    SystemRandom::new().fill(&mut bytes).expect("the operating system gives random bytes");
    bytes
}

/// Any number, for jitter.
pub fn number() -> u64 {
    u64::from_le_bytes(bytes())
}

/// A bearer token or JWT id: 32 random bytes in base64url.
pub fn token() -> String {
    BASE64URL_NOPAD.encode(&bytes::<32>())
}

/// A provisioning token: 32 random bytes as 64 hex digits, which survive every shell and YAML file.
pub fn provisioning_token() -> String {
    HEXLOWER.encode(&bytes::<32>())
}

/// A new job id.
pub fn job_id() -> JobId {
    JobId::from_random(bytes())
}

/// A new lease id.
pub fn lease_id() -> LeaseId {
    LeaseId::from_random(bytes())
}

/// A new request id.
pub fn request_id() -> RequestId {
    RequestId::from_random(bytes())
}

/// A new bundle id, for what never had one.
pub fn bundle_id() -> BundleId {
    BundleId::from_random(bytes())
}
