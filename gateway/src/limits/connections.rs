//! Who comes in, who is kept out, and how a connection ends.

use std::time::Duration;

/// Shards of one process: an interest mask has 64 bits.
pub const SHARDS_MAX: usize = 64;
/// Connections that a shard accepts in one tick; the rest wait in the kernel. A storm of new connections costs those
/// who are connected this much of each tick and no more.
pub const ACCEPTS_PER_TICK_MAX: u32 = 8;
/// Upgrade requests, tokens to be checked among them, that a shard decides on in one tick; the rest wait their turn.
pub const UPGRADES_PER_TICK_MAX: usize = 8;
/// Connections over a limit that a shard is telling so at one time; beyond, they are closed without an answer.
pub const REFUSALS_IN_FLIGHT_MAX: usize = 1_024;
/// Of those, connections from addresses in the penalty box; beyond, they are closed without an answer.
pub const PENALTY_ANSWERS_MAX: usize = 64;
/// Addresses that the penalty box remembers offences of, and as many whose good connections it remembers.
pub const PENALTY_ADDRESSES_MAX: usize = 65_536;
/// Of so many messages that are none of the protocol's, one is held against its sender's address: a broken client sends
/// them as often as a good one sends positions.
pub const MALFORMED_PER_OFFENCE: u8 = 16;
/// Lines in a shard's log for addresses that are put into the penalty box: one in so many milliseconds, with how many
/// there were.
pub const PENALTY_LOG_EVERY_MS: u64 = 1_000;
/// Bytes of a PROXY protocol header, its TLVs among them.
pub const PROXY_HEADER_BYTES_MAX: usize = 2_048;
/// Networks in `abuse.exempt`, and in `server.proxy_protocol`.
pub const NETWORKS_MAX: usize = 256;
/// Entries of `server.origins`.
pub const ORIGINS_MAX: usize = 256;
/// How long a shard works on TLS handshakes in one tick, about: live traffic waits no longer for them. One that has begun
/// is ended.
pub const TLS_HANDSHAKE_TIME_PER_TICK: Duration = Duration::from_micros(1_000);
/// Connections that were taken over and whose shard has no room in its inbox; beyond, the oldest is left to its heartbeat.
pub const TAKEN_OVER_BACKLOG_MAX: usize = 65_536;
/// Bytes of an alternative address in a `Drain`.
pub const DRAIN_TEXT_BYTES_MAX: usize = 256;
/// Milliseconds that a peer may take to end its half of the connection after the gateway's last frame.
pub const LINGER_MS: u64 = 2_000;
/// The shortest `Retry-After` of an upgrade that is refused for now, in seconds.
pub const RETRY_AFTER_MIN_S: u32 = 1;
/// The longest.
pub const RETRY_AFTER_MAX_S: u32 = 120;
/// `Retry-After` where the registry is full: only a restart empties it.
pub const RETRY_FULL_REGISTRY_S: u32 = 60;
/// `Retry-After` where a user has too many connections, in seconds: until a tab is closed.
pub const RETRY_FULL_IDENTITY_S: u32 = 30;
/// `Retry-After` where the node shuts down.
pub const RETRY_STOPPING_S: u32 = 5;
/// `Retry-After` of an upgrade whose token may be of a key that has not been fetched yet, in seconds.
pub const RETRY_KEYS_S: u32 = 5;
