//! Every bound in one place. What may be set is a setting of `[limits]`, with a default; the rest are constants, and so is
//! how far a setting goes, because code relies on the relations between them, which are asserted at compile time below.
//!
//! - `limits/settings.rs`: what may be set
//! - `limits/hard.rs`: how far that goes
//! - `limits/connections.rs`: who comes in, who is kept out, how a connection ends
//! - `limits/messages.rs`: what connections say and are told
//! - `limits/log.rs`: events that must arrive, and commands
//! - `limits/credentials.rs`: tokens, grants, keys, revocations
//! - `limits/control.rs`: the control plane and the audit log
//! - `limits/descriptors.rs`: what the kernel allows
//! - `limits/budget.rs`: what all of them mean in memory
#![forbid(unsafe_code)]

pub mod budget;
mod connections;
mod control;
mod credentials;
mod descriptors;
mod hard;
mod log;
mod messages;
mod settings;

pub use self::{
    connections::*, control::*, credentials::*, descriptors::*, hard::*, log::*, messages::*,
    settings::Limits,
};

// Every key of the configuration that has no `kid` can be tried.
const _: () = assert!(crate::config::KEYS_HARD_MAX <= KEYS_TRIED_MAX);

// The last index is `u32::MAX - 1`: `u32::MAX` stands for "the whole fleet" in Ack.watching.
const _: () = assert!(VEHICLES_HARD_MAX < u32::MAX as u64);
// The largest batch that a setting can allow fits the largest message that a setting can allow.
const _: () =
    assert!(POSITION_BATCH_HARD_MAX * FIX_BYTES + MESSAGE_OVERHEAD_BYTES <= MESSAGE_BYTES_HARD_MAX);
// So does the largest Positions message.
const _: () = assert!(
    POSITIONS_PER_FRAME_HARD_MAX * FIX_BYTES + MESSAGE_OVERHEAD_BYTES <= MESSAGE_BYTES_HARD_MAX
);
// The echo endpoint is never the stricter one.
const _: () = assert!(MESSAGE_BYTES_HARD_MAX <= ECHO_MESSAGE_BYTES_HARD_MAX);
const _: () = assert!(FRAMES_PER_MESSAGE_HARD_MAX <= ECHO_FRAMES_PER_MESSAGE_HARD_MAX);
// The control plane cannot use up the descriptors that are kept back for everything but clients.
const _: () = assert!(2 * CONTROL_CONNECTIONS_MAX as u64 <= DESCRIPTORS_RESERVED);
// The overhead covers the longest vehicle id.
const _: () = assert!(VEHICLE_ID_BYTES_HARD_MAX + 128 <= MESSAGE_OVERHEAD_BYTES);

// The smallest room for commands has room for the largest one: payload, name, media type, and the ids of vehicle and user.
const _: () = assert!(
    COMMAND_PAYLOAD_BYTES_HARD_MAX
        + (COMMAND_NAME_BYTES_MAX + CONTENT_TYPE_BYTES_MAX) as u64
        + 2 * VEHICLE_ID_BYTES_HARD_MAX
        <= COMMANDS_BYTES_HARD_MIN
);
// What is left of a command's life fits the protocol's ttl_ms.
const _: () = assert!(COMMAND_TTL_MS_HARD_MAX <= u32::MAX as u64);
