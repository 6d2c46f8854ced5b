//! Time and randomness of the system; the only file of the agent that asks for either.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use genesis_shared::timestamp::Timestamp;
use ring::rand::{SecureRandom, SystemRandom};

use crate::ports::{Clock, Entropy};

/// The system's clocks.
#[derive(Debug, Clone)]
pub struct RealClock {
    started: Instant,
}

impl Default for RealClock {
    fn default() -> Self {
        #[allow(clippy::disallowed_methods, reason = "this is the port that others are told to use")]
        let started = Instant::now();
        Self { started }
    }
}

impl Clock for RealClock {
    fn now(&self) -> Timestamp {
        #[allow(clippy::disallowed_methods, reason = "this is the port that others are told to use")]
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Timestamp::from_millis(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
    }
    fn monotonic(&self) -> Duration {
        self.started.elapsed()
    }
    async fn sleep(&self, duration: Duration) {
        tokio::time::sleep(duration).await;
    }
}

/// The system's random numbers.
#[derive(Debug, Clone, Copy)]
pub struct RealEntropy;

impl Entropy for RealEntropy {
    fn fill(&self, bytes: &mut [u8]) {
        // Without randomness no key or nonce can be made; the kernel only fails this call before it has booted.
        SystemRandom::new().fill(bytes).expect("the kernel gives random numbers");
    }
}
