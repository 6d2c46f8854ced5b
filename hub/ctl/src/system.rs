//! The system's clock and randomness: the only file of this crate that asks for either.

use genesis_shared::timestamp::Timestamp;
use ring::rand::{SecureRandom, SystemRandom};

use crate::error::Error;

/// The wall clock.
#[expect(clippy::disallowed_methods, reason = "this is the clock of a binary; everything below takes time as a value")]
pub fn now() -> Timestamp {
    let since_epoch = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_millis(i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX))
}

/// Fresh random bytes from the operating system.
///
/// # Errors
/// [`Error::Entropy`] when the system gives none.
pub fn random<const N: usize>() -> Result<[u8; N], Error> {
    let mut bytes = [0; N];
    SystemRandom::new().fill(&mut bytes).map_err(|_| Error::Entropy)?;
    Ok(bytes)
}
