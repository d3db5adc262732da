//! What the end of a connection, or of an attempt at one, means: docs/protocol.md, "Refused upgrades" and "Close
//! codes", as one table.

use std::time::Duration;

use longhaul_codec::ErrorCode;
use thiserror::Error;

/// The longest `Retry-After` that is believed. The gateway's are 1 to 120 s; a proxy may say anything.
pub(crate) const RETRY_AFTER_MAX: Duration = Duration::from_secs(3_600);

/// How a connection, or an attempt, ended.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub(crate) enum Ended {
    /// A close frame (RFC 6455 §5.5.1); 1005 if it had no code.
    #[error("closed with {code}: {reason}")]
    Closed { code: u16, reason: String },
    /// An HTTP answer in place of the upgrade.
    #[error("refused with HTTP {status}: {body}")]
    Refused {
        status: u16,
        retry_after: Option<Duration>,
        body: String,
    },
    /// No route, no name, TLS, a time-out, the end of the stream: 1006 of RFC 6455 §7.1.5.
    #[error("{0}")]
    Lost(String),
    /// There is no token to come with.
    #[error("no token: {0}")]
    NoToken(String),
}

/// What to do about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Come back with backoff.
    Back,
    /// Come back after the longest wait: it will be of no use until somebody has changed something.
    BackSlowly,
    /// Come back after exactly this time.
    After(Duration),
    /// Come back with a new token. `spent`: never with the same one.
    NewToken { spent: bool },
    /// Never come back.
    TakenOver,
}

/// Says what to do. A vehicle in the field has nobody who restarts it, so whatever could ever be mended from the other
/// side is worth another attempt, however late; only a takeover is final.
pub(crate) fn verdict(ended: &Ended) -> Verdict {
    match ended {
        Ended::Closed { code, .. } => match code {
            4501 | 4503..=4999 | 4500 => Verdict::NewToken { spent: true },
            4502 => Verdict::TakenOver,
            // Our frames are wrong, or a message is too long: a fault of this program, or of a proxy.
            1002 | 1003 | 1007 | 1009 => Verdict::BackSlowly,
            // 4000..=4499 and 1012 by the protocol, 1006 by common sense, the rest from proxies.
            _ => Verdict::Back,
        },
        Ended::Refused {
            status,
            retry_after,
            ..
        } => match (status, retry_after) {
            (401, _) => Verdict::NewToken { spent: false },
            // Nothing is added: the gateway has drawn a time for each client already.
            (_, Some(after)) => Verdict::After((*after).min(RETRY_AFTER_MAX)),
            (408 | 425 | 429 | 500..=504, None) => Verdict::Back,
            _ => Verdict::BackSlowly,
        },
        Ended::Lost(_) | Ended::NoToken(_) => Verdict::Back,
    }
}

/// What to do about an event that was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// Keep it, and send it again later.
    Transient,
    /// It will never be taken.
    Permanent,
}

/// Which of both an error is that names an event. What is not known to be permanent keeps the event.
pub(crate) fn refusal(code: ErrorCode) -> Refusal {
    match code {
        ErrorCode::Malformed
        | ErrorCode::TooLarge
        | ErrorCode::NotAllowed
        | ErrorCode::NotSupported => Refusal::Permanent,
        _ => Refusal::Transient,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn closed(code: u16) -> Verdict {
        let reason = String::new();
        verdict(&Ended::Closed { code, reason })
    }

    fn refused(status: u16, retry_after_s: Option<u64>) -> Verdict {
        verdict(&Ended::Refused {
            status,
            retry_after: retry_after_s.map(Duration::from_secs),
            body: String::new(),
        })
    }

    #[test]
    fn every_close_code_has_its_rule() {
        for code in 4000..=4499 {
            assert_eq!(closed(code), Verdict::Back, "{code}");
        }
        for code in 4500..=4999 {
            let expected = match code {
                4502 => Verdict::TakenOver,
                _ => Verdict::NewToken { spent: true },
            };
            assert_eq!(closed(code), expected, "{code}");
        }
        for code in [1000, 1001, 1005, 1006, 1011, 1012, 1013, 3999] {
            assert_eq!(closed(code), Verdict::Back, "{code}");
        }
        for code in [1002, 1003, 1007, 1009] {
            assert_eq!(closed(code), Verdict::BackSlowly, "{code}");
        }
    }

    #[test]
    fn every_refusal_has_its_rule() {
        assert_eq!(refused(401, None), Verdict::NewToken { spent: false });
        for status in [408, 429, 500, 502, 503, 504] {
            assert_eq!(refused(status, None), Verdict::Back, "{status}");
        }
        for status in [301, 400, 403, 404, 405, 414, 426, 431, 505] {
            assert_eq!(refused(status, None), Verdict::BackSlowly, "{status}");
        }
        for status in [429, 503, 404] {
            let after = Verdict::After(Duration::from_secs(7));
            assert_eq!(refused(status, Some(7)), after, "{status}");
        }
        let longest = Verdict::After(RETRY_AFTER_MAX);
        assert_eq!(refused(503, Some(u64::MAX)), longest);
    }

    #[test]
    fn only_what_is_surely_useless_drops_an_event() {
        use ErrorCode::*;
        for code in [Malformed, TooLarge, NotAllowed, NotSupported] {
            assert_eq!(refusal(code), Refusal::Permanent);
        }
        for code in [NotDurable, LimitReached, Internal] {
            assert_eq!(refusal(code), Refusal::Transient);
        }
    }
}
