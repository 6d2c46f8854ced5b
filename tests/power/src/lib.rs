//! A disk in memory for SQLite, whose power can be cut and whose space can run out at any call.
//!
//! SQLite reaches it as the file layer ("VFS") [`VFS`]; a [`Disk`] says under which path. [`model`] knows what a cut
//! leaves of writes that were not synced, [`vfs`] carries SQLite's calls there.

pub mod model;
pub mod vfs;

pub use model::{Failure, Op, Platter, Survival};
pub use vfs::{Disk, VFS};
