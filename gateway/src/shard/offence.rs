//! What clients do wrong, held against their addresses: the shard's end of the penalty box.

use http::StatusCode;

use super::{Core, ring::Key};
use crate::{
    limits::{MALFORMED_PER_OFFENCE, PENALTY_LOG_EVERY_MS},
    session::penalty::Offence,
    websocket::Refusal,
};

/// What keeps a flood of addresses from filling the log.
#[derive(Debug, Default)]
pub struct PenaltyLog {
    /// When the next line may be written (the shard's clock, ms).
    next_ms: u64,
    /// Addresses that got none.
    unsaid: u64,
}

impl PenaltyLog {
    /// Whether to write a line now, and how many were left out before it.
    fn admit(&mut self, now_ms: u64) -> Option<u64> {
        if now_ms < self.next_ms {
            self.unsaid += 1;
            return None;
        }
        self.next_ms = now_ms + PENALTY_LOG_EVERY_MS;
        Some(std::mem::take(&mut self.unsaid))
    }
}

impl Core {
    /// A client does something that it should not. To be called while it still has its socket.
    #[cold]
    pub(super) fn offend(&mut self, key: Key, offence: Offence) {
        self.metrics.offence(offence);
        if !self.penalties.is_on() {
            return;
        }
        // One whose address the kernel has forgotten was reset, and is gone.
        let Some(address) = self.peer_of(key) else {
            return;
        };
        let now_ms = self.now.mono_ms;
        let Some(stay_ms) = self.penalties.offend(address, offence, now_ms) else {
            return;
        };
        self.metrics.penalties.inc();
        self.witness_penalty(key, offence, stay_ms);
        if let Some(unsaid) = self.penalty_log.admit(now_ms) {
            tracing::warn!(
                %address,
                offence = offence.name(),
                seconds = stay_ms.div_ceil(1_000),
                others = unsaid,
                "an address is put into the penalty box; its new connections are refused for a while"
            );
        }
    }

    /// A message that is none of the protocol's: one of many is held against its sender's address.
    #[cold]
    pub(super) fn offend_now_and_then(&mut self, key: Key) {
        if fastrand::u8(..MALFORMED_PER_OFFENCE) == 0 {
            self.offend(key, Offence::Malformed);
        }
    }

    /// What an upgrade that is refused says of its client.
    pub(super) fn offend_by(&mut self, key: Key, status: StatusCode) {
        let offence = match status {
            StatusCode::UNAUTHORIZED => Offence::Token,
            StatusCode::REQUEST_TIMEOUT => Offence::Timeout,
            StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE | StatusCode::URI_TOO_LONG => {
                Offence::TooLong
            }
            // What this node has no room for, or a page's fault, is none of its client's.
            StatusCode::SERVICE_UNAVAILABLE
            | StatusCode::TOO_MANY_REQUESTS
            | StatusCode::FORBIDDEN => return,
            _ => Offence::Request,
        };
        self.offend(key, offence);
    }
}

/// The answer to a connection from an address in the box.
pub(super) fn kept_out(left_ms: u64) -> Refusal {
    let seconds = u32::try_from(left_ms.div_ceil(1_000)).unwrap_or(u32::MAX);
    Refusal::new(
        StatusCode::TOO_MANY_REQUESTS,
        "Too many bad connections came from your address: it is kept out for a while ([abuse] in the configuration).",
    )
    .retry_after(seconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_writes_a_line_a_second_and_says_how_many_there_were() {
        let mut log = PenaltyLog::default();
        let lines: Vec<u64> = (0..2_500).filter_map(|ms| log.admit(ms)).collect();
        assert_eq!(lines, [0, 999, 999]);
    }
}
