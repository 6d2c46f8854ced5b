//! The hub: queues signed bytes for droplets, paces their delivery and stores what they answer.
//!
//! Reading order: [`config`], [`queue`] (pure rules), [`store`] (what is durable), [`auth`], [`api`] (one file per
//! resource), [`sweep`], [`serve`] (TLS, limits, graceful stop), [`setup`] (what `genesis-hub init` makes),
//! [`cli`].
//!
//! **Invariant:** the hub holds bytes that it cannot forge. Its only private keys are the TLS key and the delivery key,
//! which says "handed to this droplet just now" and nothing else; a stolen hub cannot make a command.

pub mod addresses;
pub mod api;
pub mod auth;
pub mod backup;
pub mod cached;
pub mod cli;
pub mod clock;
pub mod config;
pub mod delivery;
pub mod denials;
pub mod error;
pub mod history;
pub mod hub;
pub mod metrics;
pub mod notify;
pub mod pace;
pub mod patience;
pub mod queue;
pub mod random;
pub mod rate;
pub mod rollout;
pub mod rollouts;
pub mod serve;
pub mod setup;
#[cfg(feature = "sim")]
pub mod sim;
pub mod state;
pub mod store;
pub mod sweep;
pub mod systemd;
#[cfg(test)]
mod tests;
pub mod tls;
pub mod watch;
pub mod watching;
