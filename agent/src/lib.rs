//! The agent of one droplet: a pure core decides, a journal remembers, an interpreter acts through ports.
//!
//! Reading order: [`core`] (the brain), [`journal`] (the memory), [`ports`] (the hands), [`exec`] (journal and ports
//! together), [`agent`] (the lanes that drive it), [`daemon`], [`config`]; [`local`], [`apply`] and [`show`] for people on the
//! droplet. [`real`] and `sim` implement the ports.

pub mod agent;
pub mod apply;
pub mod audit;
pub mod cli;
pub mod config;
pub mod core;
pub mod daemon;
pub mod exec;
pub mod identity;
pub mod journal;
pub mod local;
pub mod ports;
pub mod real;
pub mod show;
#[cfg(feature = "sim")]
pub mod sim;
pub mod stack_secrets;
