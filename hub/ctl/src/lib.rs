//! The operator's side of Genesis: makes keys, signs, seals, and talks to the hub; the binary is a thin shell over it.
//!
//! Reading order: [`system`], [`error`], [`exit`], [`files`], [`keys`], [`sign`], [`ceremony`], [`succession`], [`access`],
//! [`orders`], [`inspect`], [`sealing`],
//! [`ignition`], [`first_boot`], [`client`], [`watch`], [`output`], [`progress`], [`cmd`], [`demo`].
//!
//! **Invariant:** [`sign`] is the only signer of bundles and trust roots in the whole project, and no part of the hub's
//! server or of the agent may import this crate: a stolen hub cannot forge a command.

pub mod access;
pub mod audit;
pub mod ceremony;
pub mod client;
pub mod cmd;
pub mod demo;
pub mod error;
pub mod exit;
pub mod files;
pub mod first_boot;
pub mod ignition;
pub mod inspect;
pub mod keys;
pub mod orders;
pub mod output;
pub mod progress;
pub mod sealing;
pub mod sign;
pub mod succession;
pub mod system;
pub mod watch;

pub use error::Error;
pub use exit::Exit;
