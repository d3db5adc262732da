//! The attacks: what one costs its attacker, and which of the gateway's counters it must move.

use serde::Serialize;

/// One way to attack.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Upgrades with tokens whose signature is wrong.
    BadTokens,
    /// Connections that say nothing.
    Silence,
    /// Requests that come byte by byte and never end.
    Slowloris,
    /// Requests with 32 KiB of headers.
    Headers,
    /// Bytes that are no HTTP.
    Garbage,
    /// Frames that announce a gigabyte.
    HugeFrames,
    /// Messages, far faster than a client may send them.
    FrameFlood,
    /// Pings, as fast.
    PingFlood,
    /// Messages of two thousand empty fragments.
    FragmentBombs,
    /// Messages that are begun and not ended.
    Unfinished,
    /// Subscriptions to a million ids that nobody has.
    SubscribeBombs,
    /// Requests for the whole fleet and for nothing, in turns: short ones that cost a walk over the fleet.
    Toggles,
    /// Binary messages of noise.
    FlatBuffers,
    /// Text messages that are almost JSON.
    Json,
}

/// All of them, in this order.
pub const ALL: [Kind; 14] = [
    Kind::BadTokens,
    Kind::Silence,
    Kind::Slowloris,
    Kind::Headers,
    Kind::Garbage,
    Kind::HugeFrames,
    Kind::FrameFlood,
    Kind::PingFlood,
    Kind::FragmentBombs,
    Kind::Unfinished,
    Kind::SubscribeBombs,
    Kind::Toggles,
    Kind::FlatBuffers,
    Kind::Json,
];

impl Kind {
    /// In the report.
    pub fn name(self) -> &'static str {
        match self {
            Kind::BadTokens => "bad tokens",
            Kind::Silence => "handshake and silence",
            Kind::Slowloris => "slowloris",
            Kind::Headers => "oversized headers",
            Kind::Garbage => "no HTTP",
            Kind::HugeFrames => "oversized frames",
            Kind::FrameFlood => "frame flood",
            Kind::PingFlood => "ping flood",
            Kind::FragmentBombs => "fragment bombs",
            Kind::Unfinished => "unfinished messages",
            Kind::SubscribeBombs => "subscribe bombs",
            Kind::Toggles => "whole-fleet toggles",
            Kind::FlatBuffers => "malformed FlatBuffers",
            Kind::Json => "malformed JSON",
        }
    }

    /// Connections that attack, per second. Attackers and gateway may share this machine's cores: more would measure them.
    pub fn per_second(self) -> u32 {
        match self {
            Kind::BadTokens | Kind::Silence | Kind::Garbage => 400,
            Kind::Slowloris | Kind::Headers | Kind::HugeFrames | Kind::Unfinished => 100,
            Kind::FragmentBombs | Kind::FlatBuffers | Kind::Json => 20,
            Kind::FrameFlood | Kind::PingFlood | Kind::Toggles => 10,
            Kind::SubscribeBombs => 2,
        }
    }

    /// Counters of the gateway, one of which must grow.
    pub fn counters(self) -> &'static [&'static str] {
        match self {
            Kind::BadTokens => &["longhaul_offences_total{kind=\"token\"}"],
            Kind::Silence | Kind::Slowloris => {
                &["longhaul_limit_hits_total{limit=\"handshake_timeout_ms\"}"]
            }
            Kind::Headers => &["longhaul_limit_hits_total{limit=\"header_bytes_max\"}"],
            Kind::Garbage => &["longhaul_offences_total{kind=\"request\"}"],
            Kind::HugeFrames => &["longhaul_limit_hits_total{limit=\"message_bytes_max\"}"],
            Kind::FrameFlood => &["longhaul_limit_hits_total{limit=\"messages_per_second_max\"}"],
            // Whichever is first: pongs that nobody reads, or the rate.
            Kind::PingFlood => &[
                "longhaul_limit_hits_total{limit=\"control_queue_max\"}",
                "longhaul_limit_hits_total{limit=\"messages_per_second_max\"}",
            ],
            Kind::FragmentBombs => &["longhaul_limit_hits_total{limit=\"frames_per_message_max\"}"],
            Kind::Unfinished => &["longhaul_limit_hits_total{limit=\"message_timeout_ms\"}"],
            Kind::SubscribeBombs => &[
                "longhaul_limit_hits_total{limit=\"subscription_vehicles_max\"}",
                "longhaul_limit_hits_total{limit=\"vehicles_max\"}",
                "longhaul_limit_hits_total{limit=\"requests_in_flight\"}",
                "longhaul_limit_hits_total{limit=\"bytes_per_second_max\"}",
            ],
            Kind::Toggles => &[
                "longhaul_limit_hits_total{limit=\"bulk_time\"}",
                "longhaul_limit_hits_total{limit=\"requests_in_flight\"}",
                "longhaul_limit_hits_total{limit=\"messages_per_second_max\"}",
            ],
            Kind::FlatBuffers | Kind::Json => &["longhaul_messages_in_total{kind=\"malformed\"}"],
        }
    }
}
