//! What connections say and are told: how long a message is, how many wait, how much of a tick they take.

use std::time::Duration;

/// Ids in one `Names` message.
pub const NAMES_PER_MESSAGE_MAX: u32 = 4_096;
/// Changes in one `Presence`.
pub const PRESENCE_PER_MESSAGE_MAX: usize = 4_096;
/// `Positions` messages that one frame to a dashboard with an interval may hold: what gathered in the interval goes out
/// at its end.
pub const MESSAGES_PER_INTERVAL_MAX: usize = 16;
/// Size of one position fix on the wire.
pub const FIX_BYTES: u64 = 24;
/// Room that a message needs beside its fixes: envelope, tables and the optional vehicle id.
pub const MESSAGE_OVERHEAD_BYTES: u64 = 512;
/// The text of an `Error`, which may quote what a client sent, in bytes.
pub const ERROR_TEXT_BYTES_MAX: usize = 512;
/// Topics in one `Subscribe` or `Unsubscribe`.
pub const TOPICS_MAX: usize = 16;
/// Topics of events that one dashboard may list.
pub const EVENT_TOPICS_MAX: usize = 64;
/// Bytes of an event's topic.
pub const TOPIC_BYTES_MAX: usize = 128;
/// Bytes of an event's or a command's content type.
pub const CONTENT_TYPE_BYTES_MAX: usize = 128;
/// Groups in one `Subscribe` or `Unsubscribe`, and groups that one dashboard watches.
pub const SUBSCRIPTION_GROUPS_MAX: usize = 64;
/// Answers that may wait for a client that asks for another subscription.
pub const REQUESTS_IN_FLIGHT_MAX: usize = 16;
/// Answers (errors, pongs) that may wait for one vehicle's socket.
pub const VEHICLE_ANSWERS_MAX: usize = 64;
/// Bytes of them.
pub const VEHICLE_ANSWER_BYTES_MAX: usize = 65_536;
/// What queued answers are joined to at most, in bytes, to go out in one send.
pub const JOINED_SEND_BYTES: usize = 65_536;
/// What the echo endpoint may owe one client, in bytes, beyond one message of the largest size.
pub const ECHO_BACKLOG_BYTES_MAX: usize = 16 << 20;
/// Fixes for `every` dashboards of another shard that wait for room in its inbox; beyond, the oldest is dropped.
pub const EVERY_BACKLOG_MAX: usize = 65_536;
/// Events with qos 0 for another shard that wait for room in its inbox; beyond, the oldest is dropped.
pub const EVENTS_BACKLOG_MAX: usize = 16_384;
/// Longest that a full token bucket takes to drain at its rate, in seconds: burst / rate.
pub const BURST_SECONDS_MAX: u64 = 500;
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
