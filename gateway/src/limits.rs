//! Every bound in one place. The defaults are settings in `[limits]`; the hard maxima are constants, because code relies
//! on the relations between them, which are asserted at compile time below. What they mean in memory is in
//! `limits/budget.rs`.
#![forbid(unsafe_code)]

use std::io;
use std::time::Duration;

use confique::Config;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::config::rules::within;

pub mod budget;

/// Shards of one process: an interest mask has 64 bits.
pub const SHARDS_MAX: usize = 64;
/// Ids in one `Names` message.
pub const NAMES_PER_MESSAGE_MAX: u32 = 4_096;
/// What the echo endpoint may owe one client, in bytes, beyond one message of the largest size.
pub const ECHO_BACKLOG_BYTES_MAX: usize = 16 << 20;
/// Connections that a shard accepts in one tick; the rest wait in the kernel. A storm of new connections costs those
/// who are connected this much of each tick and no more.
pub const ACCEPTS_PER_TICK_MAX: u32 = 8;
/// Upgrade requests, tokens to be checked among them, that a shard decides on in one tick; the rest wait their turn.
pub const UPGRADES_PER_TICK_MAX: usize = 8;
/// Connections over a limit that a shard is telling so at one time; beyond, they are closed without an answer.
pub const REFUSALS_IN_FLIGHT_MAX: usize = 1_024;
/// Groups in one `Subscribe` or `Unsubscribe`, and groups that one dashboard watches.
pub const SUBSCRIPTION_GROUPS_MAX: usize = 64;
/// Vehicles in the filters that a shard works out again in one tick after a group changed, beyond the first filter.
pub const REGRANTS_PER_TICK: u64 = 200_000;
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
/// Bytes of the body of a call that changes a group.
pub const GROUP_BODY_BYTES_MAX: usize = 4 << 20;
/// Groups in one answer to a call that lists them.
pub const GROUPS_LISTED_MAX: usize = 1_000;
/// Vehicles of a group in one answer.
pub const MEMBERS_LISTED_MAX: usize = 10_000;
/// Bytes of the file of groups in the state folder.
pub const GROUPS_FILE_BYTES_MAX: u64 = 1 << 30;
/// Topics in one `Subscribe` or `Unsubscribe`.
pub const TOPICS_MAX: usize = 16;
/// Fixes for `every` dashboards of another shard that wait for room in its inbox; beyond, the oldest is dropped.
pub const EVERY_BACKLOG_MAX: usize = 65_536;
/// Events with qos 0 for another shard that wait for room in its inbox; beyond, the oldest is dropped.
pub const EVENTS_BACKLOG_MAX: usize = 16_384;
/// Connections that were taken over and whose shard has no room in its inbox; beyond, the oldest is left to its heartbeat.
pub const TAKEN_OVER_BACKLOG_MAX: usize = 65_536;
/// Longest that a full token bucket takes to drain at its rate, in seconds: burst / rate.
pub const BURST_SECONDS_MAX: u64 = 500;
/// Changes in one `Presence`.
pub const PRESENCE_PER_MESSAGE_MAX: usize = 4_096;
/// Bytes of an event's topic.
pub const TOPIC_BYTES_MAX: usize = 128;
/// Bytes of an event's or a command's content type.
pub const CONTENT_TYPE_BYTES_MAX: usize = 128;
/// Bytes of a durable consumer's name.
pub const CONSUMER_NAME_BYTES_MAX: usize = 128;
/// Topics of events that one dashboard may list.
pub const EVENT_TOPICS_MAX: usize = 64;
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
/// Bytes of an alternative address in a `Drain`.
pub const DRAIN_TEXT_BYTES_MAX: usize = 256;
/// Bytes of a revocation's reason.
pub const REVOCATION_REASON_BYTES_MAX: usize = 256;
/// Bytes of a file of revocations.
pub const REVOCATION_FILE_BYTES_MAX: u64 = 64 << 20;
/// Hard maximum of `limits.revocations_max`.
pub const REVOCATIONS_HARD_MAX: u64 = 100_000;
/// Entries in one answer to a call that lists them.
pub const REVOCATIONS_LISTED_MAX: usize = 1_000;
/// Letters about revocations that wait for a shard whose inbox is full; beyond, an error is logged.
pub const PURGES_OWED_MAX: usize = 4_096;
/// Names of a letter that a shard looks up in one tick.
pub const PURGE_NAMES_PER_TICK_MAX: usize = 2_048;
/// Slots that a shard looks at in one tick for connections that are to be closed.
pub const PURGE_SLOTS_PER_TICK_MAX: u32 = 16_384;
/// Connections that it closes in one tick because of that.
pub const PURGE_CLOSES_PER_TICK_MAX: u32 = 2_048;
/// Bytes of one text in a line of the audit log.
pub const AUDIT_TEXT_BYTES_MAX: usize = 512;
/// Lines that one known user gets in a second in the audit log for what was refused or only asked; the rest is a number.
pub const AUDIT_SAME_PER_SECOND_MAX: u32 = 5;
/// Tokens of operators that were used for a call and have not ended; beyond, calls that change anything are refused.
pub const OPERATOR_TOKENS_SPENT_MAX: usize = 65_536;
/// Bytes of the file that they are kept in.
pub const OPERATOR_TOKENS_FILE_BYTES_MAX: u64 = 32 << 20;
/// Longest life of such a token, exp - iat, in seconds.
pub const OPERATOR_TOKEN_SECONDS_MAX: u64 = 600;
/// Bytes of an answer that `longhaul admin` reads.
pub const ADMIN_ANSWER_BYTES_MAX: u64 = 16 << 20;
/// Threads for what the control plane does that takes long: reading files, asking for keys.
pub const CONTROL_BLOCKING_THREADS_MAX: usize = 4;
/// Bytes of a request's body at the control plane.
pub const CONTROL_BODY_BYTES_MAX: usize = 4_096;
/// The shortest `Retry-After` of an upgrade that is refused for now, in seconds.
pub const RETRY_AFTER_MIN_S: u32 = 1;
/// The longest.
pub const RETRY_AFTER_MAX_S: u32 = 120;
/// Answers (errors, pongs) that may wait for one vehicle's socket.
pub const VEHICLE_ANSWERS_MAX: usize = 64;
/// Bytes of them.
pub const VEHICLE_ANSWER_BYTES_MAX: usize = 65_536;
/// `Positions` messages that one frame to a dashboard with an interval may hold: what gathered in the interval goes out
/// at its end.
pub const MESSAGES_PER_INTERVAL_MAX: usize = 16;
/// Answers that may wait for a client that asks for another subscription.
pub const REQUESTS_IN_FLIGHT_MAX: usize = 16;
/// What queued answers are joined to at most, in bytes, to go out in one send.
pub const JOINED_SEND_BYTES: usize = 65_536;
/// The text of an `Error`, which may quote what a client sent, in bytes.
pub const ERROR_TEXT_BYTES_MAX: usize = 512;
/// Milliseconds that a peer may take to end its half of the connection after the gateway's last frame.
pub const LINGER_MS: u64 = 2_000;
/// `Retry-After` where the registry is full: only a restart empties it.
pub const RETRY_FULL_REGISTRY_S: u32 = 60;
/// `Retry-After` where a user has too many connections, in seconds: until a tab is closed.
pub const RETRY_FULL_IDENTITY_S: u32 = 30;
/// `Retry-After` where the node shuts down.
pub const RETRY_STOPPING_S: u32 = 5;
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
/// `Retry-After` of an upgrade whose token may be of a key that has not been fetched yet, in seconds.
pub const RETRY_KEYS_S: u32 = 5;
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
/// Hard maximum of `limits.event_window`: so many message ids of a vehicle are kept to recognise a retry.
pub const EVENT_WINDOW_HARD_MAX: u64 = crate::events::window::REACH as u64;
/// Hard maximum of `limits.position_batch_max`.
pub const POSITION_BATCH_HARD_MAX: u64 = 8_192;
/// Hard maximum of `limits.positions_per_frame_max`.
pub const POSITIONS_PER_FRAME_HARD_MAX: u64 = 65_536;
/// Size of one position fix on the wire.
pub const FIX_BYTES: u64 = 24;
/// Room that a message needs beside its fixes: envelope, tables and the optional vehicle id.
pub const MESSAGE_OVERHEAD_BYTES: u64 = 512;
/// Descriptors of a process or shard that are no client connections: listeners, rings, doorbells, logs, control plane.
pub const DESCRIPTORS_RESERVED: u64 = 256;
/// How long a shard works on TLS handshakes in one tick, about: live traffic waits no longer for them. One that has begun
/// is ended.
pub const TLS_HANDSHAKE_TIME_PER_TICK: Duration = Duration::from_micros(1_000);
/// Bytes that a shard receives in one tick, about; the rest stays in the kernel until the next. What one peer has sent at
/// once could otherwise take all of a shard's receive buffers, and a tick only to be copied.
pub const RECEIVED_PER_TICK_MAX: usize = 512 << 10;
/// How long a shard works on long messages in one tick, about: live traffic waits no longer for them. A piece that takes
/// longer is paid for by later ticks.
pub const BULK_TIME_PER_TICK: Duration = Duration::from_micros(1_000);
/// And where ticks are long.
pub const BULK_TIME_PER_TICK_MAX: Duration = Duration::from_millis(4);
/// The most that later ticks pay for: a machine that stood still is no reason to hold anybody back.
pub const BULK_DEBT_MAX: Duration = Duration::from_millis(20);
/// Bytes of long messages that a shard holds back. Beyond that, who waits is given turns, whatever time that takes.
pub const BULK_HELD_BYTES_MAX: usize = 8 << 20;
/// What keeps a piece of them, in bytes.
pub const BULK_PIECE_OVERHEAD: usize = 64;
/// What keeps a connection's pieces, in bytes.
pub const BULK_BACKLOG_OVERHEAD: usize = 256;
/// Connections that the control plane serves at once; further ones wait in the kernel's backlog.
pub const CONTROL_CONNECTIONS_MAX: usize = 64;
/// Bytes of a request's line and headers at the control plane.
pub const CONTROL_HEADER_BYTES_MAX: usize = 16_384;
/// How long the control plane waits for a request's headers, on a kept-alive connection too.
pub const CONTROL_HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the control plane works on an answer.
pub const CONTROL_REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a stopping control plane waits for answers under way.
pub const CONTROL_STOP_TIMEOUT: Duration = Duration::from_secs(2);

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

/// Bounds. What goes over one is refused or closed, and the peer is told why where that is possible.
#[derive(Debug, Clone, PartialEq, Config)]
#[config(layer_attr(serde(deny_unknown_fields)))]
pub struct Limits {
    /// Connections of this node, over all shards. A further one gets 503.
    /// Allowed: 1 to 1024000000.
    #[config(default = 16_000_000, validate = within::<1, CONNECTIONS_HARD_MAX>)]
    pub connections_max: u64,

    /// Connections per shard. The process's descriptor limit (RLIMIT_NOFILE) bounds them as well.
    /// Allowed: 1 to 16000000.
    #[config(default = 1_000_000, validate = within::<1, CONNECTIONS_PER_SHARD_HARD_MAX>)]
    pub connections_per_shard_max: usize,

    /// Connections from one address (IPv6: one /64). A further one gets 429. 0: no limit, because mobile networks put
    /// whole fleets behind one address.
    /// Allowed: 0 to 16000000.
    #[config(default = 0, validate = within::<0, CONNECTIONS_PER_SHARD_HARD_MAX>)]
    pub connections_per_address_max: u32,

    /// Connections of one dashboard user (token subject), tabs and devices together. A further one gets 429. A vehicle
    /// has one connection: a newer one takes over.
    /// Allowed: 1 to 16000000.
    #[config(default = 100, validate = within::<1, CONNECTIONS_PER_SHARD_HARD_MAX>)]
    pub connections_per_identity_max: u32,

    /// New connections per second and shard, after a burst of a second's worth. Over it, an upgrade gets 503 with a
    /// Retry-After. 0: no limit.
    /// Allowed: 0 to 1000000.
    #[config(default = 5_000, validate = within::<0, 1_000_000>)]
    pub accepts_per_second_max: u32,

    /// Connections per shard whose upgrade request has not been answered; each may hold twice header_bytes_max and
    /// some 8 KiB. A further one gets 503.
    /// Allowed: 1 to 16000000.
    #[config(default = 8_192, validate = within::<1, CONNECTIONS_PER_SHARD_HARD_MAX>)]
    pub handshakes_per_shard_max: u64,

    /// Messages per second from one connection, pings among them. 0: no limit.
    /// Allowed: 0 to 1000000.
    #[config(default = 100, validate = within::<0, 1_000_000>)]
    pub messages_per_second_max: u32,

    /// Messages that one connection may send at once before that rate holds. Over it, a message is refused with an
    /// Error; over twice as many, the connection is closed.
    /// Allowed: 1 to 1000000.
    #[config(default = 1_000, validate = within::<1, 1_000_000>)]
    pub messages_burst: u32,

    /// Bytes per second from one connection. 0: no limit.
    /// Allowed: 0 to 1073741824.
    #[config(default = 262_144, validate = within::<0, 1_073_741_824>)]
    pub bytes_per_second_max: u32,

    /// Bytes that one connection may send at once before that rate holds. Over it, it is warned with an Error; over
    /// twice as many, it is closed. At least message_bytes_max.
    /// Allowed: 4096 to 1073741824.
    #[config(default = 2_097_152, validate = within::<MESSAGE_BYTES_HARD_MIN, 1_073_741_824>)]
    pub bytes_burst: u32,

    /// Bytes of an upgrade request: request line and headers, the token among them.
    /// Allowed: 1024 to 65536.
    #[config(default = 8_192, validate = within::<1_024, 65_536>)]
    pub header_bytes_max: usize,

    /// Bytes of one message from a client.
    /// Allowed: 4096 to 16777216.
    #[config(default = 65_536, validate = within::<MESSAGE_BYTES_HARD_MIN, MESSAGE_BYTES_HARD_MAX>)]
    pub message_bytes_max: usize,

    /// Frames that one message may be split into.
    /// Allowed: 1 to 65536.
    #[config(default = 1_024, validate = within::<1, FRAMES_PER_MESSAGE_HARD_MAX>)]
    pub frames_per_message_max: usize,

    /// Bytes of one message at the echo endpoint, which exists with --dev only. At least message_bytes_max.
    /// Allowed: 4096 to 67108864.
    #[config(default = 20_000_000, validate = within::<MESSAGE_BYTES_HARD_MIN, ECHO_MESSAGE_BYTES_HARD_MAX>)]
    pub echo_message_bytes_max: usize,

    /// Frames per message at the echo endpoint. At least frames_per_message_max.
    /// Allowed: 1 to 1048576.
    #[config(default = 131_072, validate = within::<1, ECHO_FRAMES_PER_MESSAGE_HARD_MAX>)]
    pub echo_frames_per_message_max: usize,

    /// Vehicles that this node knows, connected or not, over all fleets.
    /// Allowed: 1 to 16000000.
    #[config(default = 2_000_000, validate = within::<1, VEHICLES_HARD_MAX>)]
    pub vehicles_max: u32,

    /// Vehicle ids that dashboards asked for and that never connected, over all fleets: made-up ids cannot keep vehicles
    /// out. One user may have as many as are left for all others: at most half.
    /// Allowed: 1 to 16000000.
    #[config(default = 200_000, validate = within::<1, VEHICLES_HARD_MAX>)]
    pub unseen_vehicles_max: u32,

    /// Fleets that this node knows.
    /// Allowed: 1 to 65535.
    #[config(default = 1_024, validate = within::<1, 65_535>)]
    pub fleets_max: u32,

    /// Groups of vehicles that this node knows, over all fleets.
    /// Allowed: 1 to 1000000.
    #[config(default = 20_000, validate = within::<1, 1_000_000>)]
    pub groups_max: u32,

    /// Groups of one fleet. At most half of them may be names that a dashboard asked for and that no vehicle has.
    /// Allowed: 2 to 1000000.
    #[config(default = 4_096, validate = within::<2, 1_000_000>)]
    pub groups_per_fleet_max: u32,

    /// Vehicles in groups, over all groups: one that is in three counts three times.
    /// Allowed: 1 to 100000000.
    #[config(default = 8_000_000, validate = within::<1, 100_000_000>)]
    pub group_memberships_max: u64,

    /// Bytes of a vehicle's id, and of any other token subject.
    /// Allowed: 1 to 255.
    #[config(default = 128, validate = within::<1, VEHICLE_ID_BYTES_HARD_MAX>)]
    pub vehicle_id_bytes_max: usize,

    /// Bytes of a fleet's id.
    /// Allowed: 1 to 255.
    #[config(default = 64, validate = within::<1, FLEET_ID_BYTES_HARD_MAX>)]
    pub fleet_id_bytes_max: usize,

    /// Vehicles that one dashboard may list by id. Watching the whole fleet does not count. At most vehicles_max.
    /// Allowed: 1 to 16000000.
    #[config(default = 100_000, validate = within::<1, VEHICLES_HARD_MAX>)]
    pub subscription_vehicles_max: u32,

    /// Fixes in one PositionBatch. They must fit message_bytes_max, at 24 bytes each.
    /// Allowed: 1 to 8192.
    #[config(default = 256, validate = within::<1, POSITION_BATCH_HARD_MAX>)]
    pub position_batch_max: usize,

    /// Fixes in one Positions message to a dashboard; what is left over goes into the next.
    /// Allowed: 1 to 65536.
    #[config(default = 2_000, validate = within::<1, POSITIONS_PER_FRAME_HARD_MAX>)]
    pub positions_per_frame_max: usize,

    /// Batches that wait in a shard's inbox for it to take them.
    /// Allowed: 16 to 65536.
    #[config(default = 1_024, validate = within::<16, 65_536>)]
    pub inbox_batches_max: usize,

    /// Control frames and answers that wait for one connection's socket.
    /// Allowed: 4 to 65536.
    #[config(default = 1_024, validate = within::<4, 65_536>)]
    pub control_queue_max: usize,

    /// Bytes of them. Room for the names of everything that one dashboard may list.
    /// Allowed: 65536 to 1073741824.
    #[config(default = 16_777_216, validate = within::<65_536, 1_073_741_824>)]
    pub control_queue_bytes_max: usize,

    /// Bytes of positions that wait for one dashboard with delivery Every; beyond, the oldest is dropped.
    /// Allowed: 4096 to 1073741824.
    #[config(default = 1_048_576, validate = within::<4_096, 1_073_741_824>)]
    pub every_queue_bytes_max: usize,

    /// Largest min_interval_ms that a subscription may ask for.
    /// Allowed: 0 to 3600000.
    #[config(default = 60_000, validate = within::<0, 3_600_000>)]
    pub min_interval_ms_max: u32,

    /// Bytes of one event's payload. It must fit message_bytes_max.
    /// Allowed: 1 to 1048576.
    #[config(default = 16_384, validate = within::<1, 1_048_576>)]
    pub event_payload_bytes_max: usize,

    /// Events with qos 1 of one vehicle that may wait for their Ack; told to it in Welcome.
    /// Allowed: 1 to 32.
    #[config(default = 32, validate = within::<1, EVENT_WINDOW_HARD_MAX>)]
    pub event_window: u32,

    /// Events with qos 1 that wait to be written, over all shards. A further one is refused, and its vehicle comes back
    /// with it.
    /// Allowed: 1 to 10000000.
    #[config(default = 100_000, validate = within::<1, 10_000_000>)]
    pub events_pending_max: usize,

    /// Bytes of them.
    /// Allowed: 65536 to 1073741824.
    #[config(default = 67_108_864, validate = within::<65_536, 1_073_741_824>)]
    pub events_pending_bytes_max: usize,

    /// Events with qos 1 that may be sent to one dashboard and not acknowledged by it; told to it in Welcome.
    /// Allowed: 1 to 65536.
    #[config(default = 256, validate = within::<1, 65_536>)]
    pub events_in_flight_max: u32,

    /// Bytes of events that wait for one dashboard's socket; beyond, those with qos 0 are dropped and the others wait
    /// in the log.
    /// Allowed: 65536 to 1073741824.
    #[config(default = 1_048_576, validate = within::<65_536, 1_073_741_824>)]
    pub event_queue_bytes_max: usize,

    /// Durable consumers of this node, over all fleets.
    /// Allowed: 0 to 1000000.
    #[config(default = 10_000, validate = within::<0, 1_000_000>)]
    pub consumers_max: usize,

    /// Durable consumers of one user of a fleet.
    /// Allowed: 0 to 1000000.
    #[config(default = 100, validate = within::<0, 1_000_000>)]
    pub consumers_per_user_max: usize,

    /// Milliseconds that a fix's time may lie ahead of the gateway's clock.
    /// Allowed: 0 to 86400000.
    #[config(default = 300_000, validate = within::<0, 86_400_000>)]
    pub clock_ahead_ms_max: u64,

    /// Commands that wait for one vehicle, or for its results. A further one is refused.
    /// Allowed: 1 to 4096.
    #[config(default = 64, validate = within::<1, COMMANDS_PER_VEHICLE_HARD_MAX>)]
    pub commands_per_vehicle_max: usize,

    /// Commands that this node keeps: those that wait, and results that are kept for their users. Results make room for
    /// commands, the oldest first; if only waiting ones are left, a further one is refused.
    /// Allowed: 1 to 16000000.
    #[config(default = 100_000, validate = within::<1, COMMANDS_HARD_MAX>)]
    pub commands_max: usize,

    /// Bytes of their payloads and texts, by the same rule.
    /// Allowed: 2097152 to 17179869184.
    #[config(default = 67_108_864, validate = within::<COMMANDS_BYTES_HARD_MIN, COMMANDS_BYTES_HARD_MAX>)]
    pub commands_bytes_max: u64,

    /// Bytes of the payload of one command, and of its result.
    /// Allowed: 0 to 1048576.
    #[config(default = 16_384, validate = within::<0, COMMAND_PAYLOAD_BYTES_HARD_MAX>)]
    pub command_payload_bytes_max: usize,

    /// Largest ttl_ms that a command may have: how long it waits for its vehicle.
    /// Allowed: 1 to 2592000000.
    #[config(default = 86_400_000, validate = within::<1, COMMAND_TTL_MS_HARD_MAX>)]
    pub command_ttl_ms_max: u32,

    /// Entries of the list of revoked tokens, from the file of auth.revocations and from calls together. A further one is
    /// refused.
    /// Allowed: 1 to 100000.
    #[config(default = 10_000, validate = within::<1, REVOCATIONS_HARD_MAX>)]
    pub revocations_max: usize,

    /// Acts that wait to be written to the audit log. A further one is counted and lost.
    /// Allowed: 16 to 1048576.
    #[config(default = 16_384, validate = within::<16, 1_048_576>)]
    pub audit_queue_max: usize,

    /// Refused connections per second, of peers without a good token, that get a line each in the audit log; what is
    /// over it is there as a number, so that strangers cannot wash away what others did. 0: no limit.
    /// Allowed: 0 to 1000000.
    #[config(default = 100, validate = within::<0, 1_000_000>)]
    pub audit_refusals_per_second_max: u32,
}

impl Limits {
    /// How many connections a shard with a descriptor table of its own may hold, given the descriptors that
    /// [`raise_descriptor_limit`] found. At least 1, so that a tiny limit shows as refusals and not as a panic.
    pub fn connections_per_shard(&self, descriptors: u64) -> usize {
        let kept = DESCRIPTORS_RESERVED + REFUSALS_IN_FLIGHT_MAX as u64;
        let free = descriptors.saturating_sub(kept).max(1);
        self.connections_per_shard_max
            .min(usize::try_from(free).unwrap_or(usize::MAX))
    }
}

/// Raises the soft descriptor limit to the hard one, and says what it is now.
///
/// # Errors
/// The kernel's refusal; the limit is then as it was.
pub fn raise_descriptor_limit() -> io::Result<u64> {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current != maximum {
        setrlimit(
            Resource::Nofile,
            Rlimit {
                current: maximum,
                maximum,
            },
        )?;
    }
    // None stands for "no limit", which the kernel grants to no one for descriptors but may report elsewhere.
    Ok(maximum.unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use confique::Layer;

    use super::*;

    fn defaults() -> Limits {
        Limits::from_layer(<Limits as Config>::Layer::default_values())
            .expect("the defaults are complete")
    }

    #[test]
    fn connections_follow_the_smaller_of_setting_and_descriptors() {
        let mut limits = defaults();
        for (setting, descriptors, expected) in [
            (1_000_000, 20_000, 20_000 - 1_280),
            (1_000, 20_000, 1_000),
            (1_000_000, 10, 1),
            (1_000_000, u64::MAX, 1_000_000),
        ] {
            limits.connections_per_shard_max = setting;
            assert_eq!(
                limits.connections_per_shard(descriptors),
                expected,
                "{setting} {descriptors}"
            );
        }
    }

    #[test]
    fn raising_the_descriptor_limit_reaches_the_hard_one() {
        let raised = raise_descriptor_limit().expect("a process may raise its soft limit");
        assert_eq!(
            getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX),
            raised
        );
    }
}
