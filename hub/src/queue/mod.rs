//! The rules of the queue: pure, no I/O, no clock. `job.rs` has the only state machine of a job, `governor.rs` decides
//! which job may start, `retry.rs` when one that was lost starts again.
//!
//! ```text
//!             lease                accepted              result
//!   queued ----------> leased ------------> accepted ------------> succeeded failed rejected expired stuck
//!     ^  ^               |  \___________________________________/        ^
//!     |  '-- expire, ----'        result (refused at admission)          |
//!     |      take back            |                                      |
//!     |                           '-- too many hand-outs --> dead        |
//!     '------------------- requeue --------------------------'           |
//!   queued, leased -- bundle's not_after --> expired                     |
//!   queued, leased -- cancel --> cancelled      what the droplet says it did beats what the hub
//!   accepted -- droplet re-installed --> stuck  supposed: dead, expired, cancelled, stuck without a result
//! ```

mod governor;
mod job;
mod limits;
pub mod retry;

pub use governor::{Asker, Candidate, Governor, Load};
pub use job::{Event, Illegal, Job, apply, final_state, is_due};
pub use limits::{Limits, NoQueue, Queue};
