//! The close codes that Longhaul sends. docs/protocol.md lists them for clients.
//!
//! One rule that clients can rely on: 4000–4499 reconnect with backoff, 4500–4999 do not come back with the same
//! credentials. The codes below 4000 are RFC 6455 §7.4.1.

/// A close code and the reason that goes with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Close {
    /// RFC 6455 §7.4.
    pub code: u16,
    /// Plain words, at most 123 bytes.
    pub reason: &'static str,
}

/// This node shuts down or restarts (registered with IANA after RFC 6455: "Service Restart").
pub const RESTARTING: Close = Close {
    code: 1012,
    reason: "the gateway shuts down or restarts; reconnect",
};
/// A text message on the binary subprotocol or the other way round.
pub const WRONG_KIND: Close = Close {
    code: 1003,
    reason: "longhaul.v1 takes binary messages (FlatBuffers), longhaul.v1.json takes text messages (JSON)",
};
/// Nothing was heard from the peer for `connection.dead_after_ms`.
pub const SILENT: Close = Close {
    code: 4000,
    reason: "nothing heard for too long; send something, or answer pings",
};
/// An operator has closed this connection, and the peer may come back.
pub const EVICTED: Close = Close {
    code: 4003,
    reason: "closed by an operator; reconnect",
};
/// The peer reads slower than the gateway has to write.
pub const SLOW_CONSUMER: Close = Close {
    code: 4008,
    reason: "slow consumer: what was sent is not read; reconnect, and read faster",
};
/// A message was begun and not ended within `connection.message_timeout_ms`.
pub const UNFINISHED: Close = Close {
    code: 4010,
    reason: "a message was begun and not ended in time; reconnect, and send messages whole",
};
/// The peer has gone on sending after it was told that it sends too much.
pub const RATE_LIMITED: Close = Close {
    code: 4029,
    reason: "too many messages or bytes per second; send less, and reconnect",
};
/// A newer connection of the same vehicle has taken over.
pub const TAKEN_OVER: Close = Close {
    code: 4502,
    reason: "taken over: this vehicle has a newer connection; do not reconnect",
};
/// The token's `exp` has passed.
pub const TOKEN_EXPIRED: Close = Close {
    code: 4501,
    reason: "the token has expired; reconnect with a new one",
};
/// The token has been revoked.
pub const REVOKED: Close = Close {
    code: 4503,
    reason: "the token has been revoked; do not come back with it",
};
