//! Events that must arrive, and commands: the log's thread, and the shards' part of it.

/// Bytes of a durable consumer's name.
pub const CONSUMER_NAME_BYTES_MAX: usize = 128;
/// Events that one durable write takes at most.
pub const COMMIT_EVENTS_MAX: usize = 8_192;
/// Bytes of them.
pub const COMMIT_BYTES_MAX: usize = 8 << 20;
/// Batches from shards that wait for the log's thread; a shard whose batch finds no room refuses its events.
pub const LOG_REQUESTS_MAX: usize = 4_096;
/// Requests that one durable write takes at most.
pub const COMMIT_REQUESTS_MAX: usize = 4_096;
/// Requests for old events that wait for their reader; a dashboard asks again in its next turn.
pub const REPLAYS_WAITING_MAX: usize = 4_096;
/// Events of the log that one step of a replay looks at.
pub const REPLAY_SCAN_MAX: usize = 4_096;
/// Bytes of them.
pub const REPLAY_SCAN_BYTES_MAX: usize = 2 << 20;
/// The newest events of a fleet that a shard keeps for dashboards that catch up.
pub const TAIL_EVENTS_MAX: usize = 4_096;
/// Bytes of them.
pub const TAIL_BYTES_MAX: usize = 4 << 20;
/// Bytes of events in one frame to a dashboard, beyond the first: live positions wait for no more than that.
pub const EVENTS_PER_FRAME_BYTES: usize = 32_768;
/// Bytes of events that a shard sends in one tick to dashboards that catch up; the others go first.
pub const REPLAY_BYTES_PER_TICK: usize = 262_144;
/// Connections whose later events are refused because an earlier one was, at one time.
pub const HOLDS_MAX: usize = 1_000_000;
/// How long at most, in milliseconds: a client that goes back ends it at once.
pub const HOLD_MS: u64 = 60_000;
/// Letters for one shard that found its inbox full, kept by the log's thread and delivered together. A shard that takes
/// nothing for so long is not alive, which /healthz says; the oldest are dropped.
pub const LOG_LETTERS_MAX: usize = 262_144;
/// Commands and results of one shard that wait for the log's thread; beyond, they are refused.
pub const COMMAND_NEWS_MAX: usize = 65_536;
/// Bytes of what they say.
pub const COMMAND_NEWS_BYTES_MAX: usize = 16 << 20;
/// Vehicles whose last message ids are kept in memory; those of the others are read from the log when they publish.
pub const SENDERS_CACHED_MAX: usize = 262_144;
/// Commands at one vehicle without a result; the next one goes when a result comes, or when one of them expires.
pub const COMMANDS_IN_FLIGHT_MAX: usize = 8;
/// Bytes that a command takes on the wire beside its payload.
pub const COMMAND_OVERHEAD_BYTES: usize = 1_024;
/// Bytes of a command's name.
pub const COMMAND_NAME_BYTES_MAX: usize = 128;
/// Results that are kept for one user; beyond, the oldest is forgotten.
pub const RESULTS_PER_USER_MAX: usize = 256;
/// How long a result is kept for a user who is not there, and a command recognised when it is sent again.
pub const RESULT_KEPT_MS: u64 = 3_600_000;
