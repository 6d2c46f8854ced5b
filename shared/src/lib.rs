//! The vocabulary that agent, hub and operators share; no I/O, no async, no clock, no randomness.
//!
//! Reading order: [`limits`], [`id`], [`timestamp`], [`secret`], [`json`], [`jws`], [`trust`], [`command`],
//! [`bundle`], [`stack`], [`update`], [`delivery`], [`seal`], [`audit`], [`report`], [`life`], [`wire`], [`chain`].
//!
//! **Invariant:** everything here is a value or a pure function of its arguments. Time and random bytes come in as
//! arguments, so that every line can be tested without a clock.

pub mod audit;
pub mod bundle;
pub mod chain;
pub mod command;
pub mod delivery;
pub mod desired;
#[cfg(feature = "first-boot")]
pub mod first_boot;
pub mod grant;
pub mod host;
pub mod id;
pub mod json;
pub mod jws;
pub mod life;
pub mod limits;
pub mod mutant;
pub mod report;
pub mod seal;
pub mod secret;
pub mod stack;
pub mod timestamp;
pub mod trust;
pub mod update;
pub mod wire;
