//! Events that must arrive, and commands: what is durable before it is acknowledged.
//!
//! ```text
//!  vehicle ─► shard ─► log ─► store      one thread writes: many events, one fsync
//!                       │
//!                       ├─► shard ─► vehicle      Ack, when it is durable
//!                       └─► shards ─► dashboards  those who have caught up
//!  replay ─► shards ─► dashboards                 those who have not: from the store, at their pace
//! ```
//!
//! | file | what |
//! |---|---|
//! | `handle` | [`EventLog`]: what shards and the control plane see of it |
//! | `log` | the thread that writes: batches, verdicts, failure and recovery |
//! | `replay` | the thread that reads what is not in memory any more |
//! | `logged` | an event with its number, in memory and on disk |
//! | `window` | which message ids of a vehicle are logged: a retry is recognised |
//! | `hold` | after a refusal, later events of the same vehicle wait: order is kept |
//! | `consumers` | durable consumers and their cursors |
//! | `commands` | what dashboards ask vehicles to do, until it is done or too late |
//! | `store` | the disk |
//!
//! Promises and how they are kept: docs/delivery.md.
#![forbid(unsafe_code)]

pub mod commands;
pub mod consumers;
pub mod handle;
pub mod hold;
pub mod log;
pub mod logged;
pub mod replay;
pub mod store;
pub mod window;

pub use handle::{EventLog, LogState};
pub use logged::{Committed, Logged};
