//! The brain: pure, synchronous, total. It cannot fail for outside reasons.
//!
//! ```text
//! bytes --admit--> Verified<Bundle> --plan--> Plan of Steps --saga--> one Outcome
//!
//!            Started(n)          Done(n)                       last Done
//! Running{n} ----------> Running{n} ------> Running{n+1} ... ------------> Finished(succeeded)
//!      |  Failed(n)
//!      v              UndoStarted(n) UndoDone(n)               no step left
//! Undoing{n} ------------------------------------> Undoing{n-1} ... -----> Finished(failed)
//!      |  UndoFailed(n)
//!      v
//! Finished(stuck)      (also from any state, when resumed too often without progress)
//! ```
//!
//! **Invariant:** no tokio, files, network, processes, clock or randomness; time and randomness come in as arguments.

pub mod admit;
pub mod audit;
pub mod diff;
pub mod domains;
pub mod health;
pub mod mapper;
pub mod metrics;
pub mod plan;
pub mod routes;
pub mod saga;
pub mod stack;
pub mod step;
pub mod survival;
pub mod swap;
pub mod timer;
pub mod update;
pub mod workflow;
