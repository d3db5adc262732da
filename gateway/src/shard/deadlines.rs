//! When a token's next moment comes, by slot: its peer is to be warned, or it ends. Four bytes a slot that lie side by
//! side, so that all of them are looked at four times a second for next to nothing, where the sweep, which looks at the
//! connections themselves, takes seconds.

use super::{Core, clock::Now, ring::Key, sweep::Sweep};
use crate::session::close;

/// How long it takes at most until a moment is noticed, in milliseconds.
const PERIOD_MS: u64 = 250;
/// No connection, or none whose token has a next moment.
const NEVER: u32 = u32::MAX;

/// The moments.
#[derive(Debug, Default)]
pub struct Deadlines {
    /// In seconds since the Unix epoch.
    at: Vec<u32>,
    progress: Sweep,
    next: usize,
}

/// What a slot's moment weighs.
pub const DEADLINE_BYTES: usize = size_of::<u32>();

impl Deadlines {
    fn set(&mut self, slot: u32, at: u32) {
        let slot = slot as usize;
        if self.at.len() <= slot {
            self.at.resize(slot + 1, NEVER);
        }
        self.at[slot] = at;
    }

    /// The next slot whose moment has come, of those that are to be looked at in this tick. `left`: how many of these
    /// are left.
    fn due(&mut self, left: &mut usize, unix_s: u32) -> Option<u32> {
        while *left > 0 && !self.at.is_empty() {
            if self.next >= self.at.len() {
                self.next = 0;
            }
            let until = self.at.len().min(self.next.saturating_add(*left));
            let slice = self.at.get(self.next..until)?;
            let found = slice.iter().position(|at| *at <= unix_s);
            let passed = found.map_or(slice.len(), |found| found + 1);
            self.next += passed;
            *left -= passed;
            if let Some(found) = found {
                return u32::try_from(until - slice.len() + found).ok();
            }
        }
        None
    }
}

impl Core {
    /// A token is in force at a connection, from now until its end: `expires_unix`, in seconds since the Unix epoch.
    pub(super) fn token_in_force(&mut self, key: Key, expires_unix: u64, now: Now) {
        let Some(connection) = self.connections.get_mut(key) else {
            return;
        };
        let ends = expires_unix.saturating_add(self.config.leeway_s);
        connection.expires_s = u32::try_from(ends).unwrap_or(u32::MAX);
        let end = connection.expires_s;
        let warn_s = warn_s(self.config.warn_before_s, expires_unix, now.unix_ms / 1_000);
        connection.token.set_warned(warn_s == 0);
        let at = match warn_s {
            0 => end,
            before => u32::try_from(expires_unix - before).unwrap_or(end),
        };
        self.deadlines.set(key.slot, at);
    }

    /// A connection has ended: nothing is due in its slot.
    pub(super) fn no_deadline(&mut self, key: Key) {
        if (key.slot as usize) < self.deadlines.at.len() {
            self.deadlines.set(key.slot, NEVER);
        }
    }

    /// Looks at this tick's slice of the moments.
    pub(super) fn look_at_deadlines(&mut self, now: Now) {
        let slots = self.deadlines.at.len() as u32;
        let progress = &mut self.deadlines.progress;
        let mut left = progress.due(now.mono_ms, slots, PERIOD_MS) as usize;
        let unix_s = u32::try_from(now.unix_ms / 1_000).unwrap_or(u32::MAX - 1);
        while let Some(slot) = self.deadlines.due(&mut left, unix_s) {
            match self.connections.slot_mut(slot) {
                Some((key, connection)) if connection.phase == super::connection::Phase::Open => {
                    let end = connection.expires_s;
                    if end <= unix_s {
                        self.deadlines.set(slot, NEVER);
                        self.close(key, close::TOKEN_EXPIRED);
                    } else {
                        self.deadlines.set(slot, end);
                        if !connection.token.is_warned() {
                            self.warn_of_end(key);
                        }
                    }
                }
                _ => self.deadlines.set(slot, NEVER),
            }
        }
    }
}

/// How long before a token's end its peer is warned, in seconds: as configured, or a tenth of what is left of a token
/// that does not last much longer than that.
fn warn_s(before_s: u16, expires_unix: u64, unix_s: u64) -> u64 {
    u64::from(before_s).min(expires_unix.saturating_sub(unix_s) / 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_moment_is_found_once_it_has_come() {
        let mut deadlines = Deadlines::default();
        for slot in 0..1_000 {
            deadlines.set(slot, 100 + slot % 10);
        }
        deadlines.set(5_000, 7);
        for unix_s in [6, 7, 99, 104] {
            let mut found = Vec::new();
            // In slices of odd sizes, twice around.
            for slice in [1, 999, 3, 4_001, 17, 5_000, 3] {
                let mut left = slice;
                while let Some(slot) = deadlines.due(&mut left, unix_s) {
                    found.push(slot);
                    deadlines.set(slot, NEVER);
                }
            }
            found.sort_unstable();
            let expected: Vec<u32> = match unix_s {
                7 => vec![5_000],
                104 => (0..1_000).filter(|slot| slot % 10 <= 4).collect(),
                _ => vec![],
            };
            assert_eq!(found, expected, "{unix_s}");
        }
        let mut left = 3;
        assert_eq!(Deadlines::default().due(&mut left, 5), None);
    }

    #[test]
    fn a_short_token_is_warned_of_late() {
        for (before, left, expected) in [
            (60, 3_600, 60),
            (60, 600, 60),
            (60, 599, 59),
            (60, 25, 2),
            (60, 9, 0),
            (0, 3_600, 0),
            (3_600, u64::MAX, 3_600),
        ] {
            assert_eq!(
                warn_s(before, 1_000u64.saturating_add(left), 1_000),
                expected,
                "{before} {left}"
            );
        }
        assert_eq!(warn_s(60, 5, 1_000), 0, "in its leeway");
    }
}
