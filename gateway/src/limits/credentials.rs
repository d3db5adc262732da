//! Tokens and what they grant, the keys that they are checked with, and their end before their time.

use std::time::Duration;

/// Bytes of a key's file.
pub const KEY_FILE_BYTES_MAX: u64 = 65_536;
/// Sets of keys in the configuration.
pub const KEY_SETS_MAX: usize = 8;
/// Keys in one set.
pub const KEYS_PER_SET_MAX: usize = 64;
/// Bytes of a set, in a file or as fetched.
pub const KEY_SET_BYTES_MAX: u64 = 262_144;
/// Bytes of a key's id (`kid`).
pub const KID_BYTES_MAX: usize = 256;
/// Keys that one token is checked with at most: the first that fit it, in the order of the configuration.
pub const KEYS_TRIED_MAX: usize = 16;
/// How long fetching a set of keys may take in all.
pub const KEY_FETCH_TIMEOUT: Duration = Duration::from_secs(10);
/// The shortest time between two fetches of a set because of tokens whose key is not known.
pub const KEY_FETCH_EARLY: Duration = Duration::from_secs(10);
/// The first pause after a fetch that failed; each further one is twice as long.
pub const KEY_FETCH_RETRY_MIN: Duration = Duration::from_secs(1);
/// The longest.
pub const KEY_FETCH_RETRY_MAX: Duration = Duration::from_secs(60);
/// Fresh tokens that one connection may present in a minute.
pub const RENEWALS_PER_MINUTE_MAX: u8 = 6;
/// Bytes of a token. An upgrade request holds none longer than `limits.header_bytes_max`.
pub const TOKEN_BYTES_MAX: usize = 65_536;
/// Entries of a token's claim `grants`.
pub const GRANTS_MAX: usize = 64;
/// Vehicles, groups and topics that the entries of one token name in all.
pub const GRANT_NAMES_MAX: usize = 4_096;
/// Bytes of these names.
pub const GRANT_BYTES_MAX: usize = 65_536;
/// Groups in a token's claim `groups`.
pub const GROUPS_PER_TOKEN_MAX: usize = 32;
/// Bytes of a group's name.
pub const GROUP_NAME_BYTES_MAX: usize = 64;
/// Vehicles in the filters that a shard works out again in one tick after a group changed, beyond the first filter.
pub const REGRANTS_PER_TICK: u64 = 200_000;
/// Bytes of a revocation's reason.
pub const REVOCATION_REASON_BYTES_MAX: usize = 256;
/// Bytes of a file of revocations.
pub const REVOCATION_FILE_BYTES_MAX: u64 = 64 << 20;
/// Letters about revocations that wait for a shard whose inbox is full; beyond, an error is logged.
pub const PURGES_OWED_MAX: usize = 4_096;
/// Names of a letter that a shard looks up in one tick.
pub const PURGE_NAMES_PER_TICK_MAX: usize = 2_048;
/// Slots that a shard looks at in one tick for connections that are to be closed.
pub const PURGE_SLOTS_PER_TICK_MAX: u32 = 16_384;
/// Connections that it closes in one tick because of that.
pub const PURGE_CLOSES_PER_TICK_MAX: u32 = 2_048;
