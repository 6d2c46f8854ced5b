//! The rules of the queue: pure, no I/O, no clock. `job.rs` has the only state machine of a job.
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

mod job;

pub use job::{Event, Illegal, Job, apply, final_state, is_due};
