//! What is remembered of a connection's token beside its end, in one byte for each connection: whether its peer was told
//! that it ends, and how often the peer presented another, since checking one costs CPU. Pure.
#![forbid(unsafe_code)]

use crate::limits::RENEWALS_PER_MINUTE_MAX;

/// A bit for the warning; the attempts of the present minute; which minute that is, modulo 16. A connection that presents
/// its next token exactly 16 minutes later may find the count of then: it is told to come back, and nothing worse.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TokenNotes(u8);

const COUNT: u8 = 0b0000_0111;
const MINUTE: u8 = 0b0111_1000;
const WARNED: u8 = 0b1000_0000;

const _: () = assert!(RENEWALS_PER_MINUTE_MAX <= COUNT);

impl TokenNotes {
    /// Counts one more attempt; false if there have been too many in this minute.
    pub fn attempt(&mut self, unix_s: u64) -> bool {
        let minute = ((unix_s / 60) as u8) << MINUTE.trailing_zeros() & MINUTE;
        let count = if self.0 & MINUTE == minute {
            self.0 & COUNT
        } else {
            0
        };
        if count >= RENEWALS_PER_MINUTE_MAX {
            return false;
        }
        self.0 = self.0 & WARNED | minute | (count + 1);
        true
    }

    /// Whether the peer was told that its token ends, or is not to be told.
    pub fn is_warned(self) -> bool {
        self.0 & WARNED != 0
    }

    /// Notes that.
    pub fn set_warned(&mut self, warned: bool) {
        self.0 = self.0 & !WARNED | if warned { WARNED } else { 0 };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_a_minute_and_no_more_whoever_was_warned() {
        let mut notes = TokenNotes::default();
        for minute in [0, 1, 2, 17, 1_000_000] {
            for second in 0..RENEWALS_PER_MINUTE_MAX {
                let warned = second % 2 == 0;
                notes.set_warned(warned);
                assert!(notes.attempt(minute * 60 + u64::from(second)), "{minute}");
                assert_eq!(notes.is_warned(), warned);
            }
            assert!(!notes.attempt(minute * 60 + 59), "{minute}");
        }
    }
}
