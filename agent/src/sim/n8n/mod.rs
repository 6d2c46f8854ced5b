//! A stand-in for n8n 2.8.4: its HTTP API as far as the agent uses it, in memory, with faults on demand.
//!
//! ```text
//! Shared (http.rs, sockets) ──► Standin (standin.rs: faults, log) ──► N8n (model.rs: state, `handle`)
//!                                                                      ├─ rest         owner, login, api keys
//!                                                                      ├─ public       routes and generic errors
//!                                                                      │   workflows · publish · references
//!                                                                      │   credentials · executions · tags
//!                                                                      └─ webhooks     /webhook/*
//! ```
//!
//! Everything below `Standin` is pure: no I/O, ids and time from a seeded counter. A simulation calls
//! [`Standin::handle`] directly; tests of real clients put a [`Shared`] on a socket. What it does was copied from a
//! real n8n 2.8.4, answer by answer.

mod answer;
mod body_schema;
mod credential_schema;
mod credentials;
mod executions;
mod faults;
mod http;
mod js;
mod model;
mod node_types;
mod public;
mod publish;
mod references;
mod rest;
mod seed;
mod standin;
mod tags;
mod webhooks;
mod workflows;

#[cfg(test)]
mod tests;

pub use answer::{Answer, Request};
pub use faults::{CHANGE, Fault, Faults, Kind, Phase};
pub use http::Shared;
pub use model::{ApiKey, Config, Credential, Execution, N8n, Owner, Tag, Version, Webhook, Workflow};
pub use seed::Seed;
pub use standin::{Seen, Standin};
