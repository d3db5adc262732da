//! How far the settings of `[limits]` go: their hard maxima and minima.

use super::SHARDS_MAX;

/// Hard maximum of `limits.connections_max`.
pub const CONNECTIONS_HARD_MAX: u64 = SHARDS_MAX as u64 * CONNECTIONS_PER_SHARD_HARD_MAX;
/// Hard maximum of `limits.connections_per_shard_max`.
pub const CONNECTIONS_PER_SHARD_HARD_MAX: u64 = 16_000_000;
/// Hard maximum of `limits.message_bytes_max`.
pub const MESSAGE_BYTES_HARD_MAX: u64 = 16_777_216;
/// Smallest `limits.message_bytes_max`: every protocol message has room for its fixed fields.
pub const MESSAGE_BYTES_HARD_MIN: u64 = 4_096;
/// Hard maximum of `limits.echo_message_bytes_max`.
pub const ECHO_MESSAGE_BYTES_HARD_MAX: u64 = 67_108_864;
/// Hard maximum of `limits.frames_per_message_max`.
pub const FRAMES_PER_MESSAGE_HARD_MAX: u64 = 65_536;
/// Hard maximum of `limits.echo_frames_per_message_max`.
pub const ECHO_FRAMES_PER_MESSAGE_HARD_MAX: u64 = 1_048_576;
/// Hard maximum of `limits.vehicles_max`.
pub const VEHICLES_HARD_MAX: u64 = 16_000_000;
/// Hard maximum of `limits.vehicle_id_bytes_max`.
pub const VEHICLE_ID_BYTES_HARD_MAX: u64 = 255;
/// Hard maximum of `limits.fleet_id_bytes_max`.
pub const FLEET_ID_BYTES_HARD_MAX: u64 = 255;
/// Hard maximum of `limits.position_batch_max`.
pub const POSITION_BATCH_HARD_MAX: u64 = 8_192;
/// Hard maximum of `limits.positions_per_frame_max`.
pub const POSITIONS_PER_FRAME_HARD_MAX: u64 = 65_536;
/// Hard maximum of `limits.event_window`: so many message ids of a vehicle are kept to recognise a retry.
pub const EVENT_WINDOW_HARD_MAX: u64 = crate::events::window::REACH as u64;
/// Hard maximum of `limits.commands_per_vehicle_max`.
pub const COMMANDS_PER_VEHICLE_HARD_MAX: u64 = 4_096;
/// Hard maximum of `limits.commands_max`.
pub const COMMANDS_HARD_MAX: u64 = 16_000_000;
/// Hard maximum of `limits.commands_bytes_max`.
pub const COMMANDS_BYTES_HARD_MAX: u64 = 17_179_869_184;
/// Smallest `limits.commands_bytes_max`.
pub const COMMANDS_BYTES_HARD_MIN: u64 = 2_097_152;
/// Hard maximum of `limits.command_payload_bytes_max`.
pub const COMMAND_PAYLOAD_BYTES_HARD_MAX: u64 = 1_048_576;
/// Hard maximum of `limits.command_ttl_ms_max`: 30 days.
pub const COMMAND_TTL_MS_HARD_MAX: u64 = 2_592_000_000;
/// Hard maximum of `limits.revocations_max`.
pub const REVOCATIONS_HARD_MAX: u64 = 100_000;
