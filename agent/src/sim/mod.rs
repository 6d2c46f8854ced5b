//! A pretend droplet: the ports over plain memory, with faults on demand.

pub mod n8n;
