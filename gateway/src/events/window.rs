//! Which message ids of one vehicle are in the log. A vehicle that has not seen the Ack sends its event again: that is to
//! be acknowledged, and not to be logged again.
//!
//! A vehicle's ids grow, and only so many of them are under way at a time. So the newest few say everything: what is
//! above is new, what is among them is a retry, what lies between them was refused when later ones were not, and what is
//! below all of them comes from a vehicle that has lost its counter, which is said aloud rather than swallowed. They are
//! kept with the log, for as long as the log, whenever the retry comes.

/// How many ids of a vehicle are kept: as many as it may have under way.
pub const REACH: usize = 32;

/// What a message id is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Not logged yet.
    New,
    /// Logged before.
    Again,
    /// So far below the others that nobody can say.
    TooOld,
}

/// The newest ids of one vehicle.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Window {
    /// The newest first, at most [`REACH`].
    ids: Vec<u64>,
}

impl Window {
    /// Of what is kept with the log. `None` if that is none.
    #[must_use]
    pub fn read(bytes: &[u8]) -> Option<Window> {
        let mut ids: Vec<u64> = postcard::from_bytes(bytes).ok()?;
        for at in 1..ids.len() {
            ids[at] = ids[at - 1].checked_sub(ids[at])?;
        }
        (ids.len() <= REACH).then_some(Window { ids })
    }

    /// For the log: the newest one, and how far below it the next one is, and so on. Such numbers are short.
    #[must_use]
    pub fn write(&self) -> Vec<u8> {
        let mut steps = self.ids.clone();
        for at in (1..steps.len()).rev() {
            steps[at] = self.ids[at - 1] - self.ids[at];
        }
        // Into a vector, and of plain numbers: there is nothing that could fail.
        postcard::to_extend(&steps, Vec::new()).unwrap_or_default()
    }

    /// The highest id that is logged; 0: none.
    #[must_use]
    pub fn highest(&self) -> u64 {
        self.ids.first().copied().unwrap_or(0)
    }

    /// What `id` is.
    #[must_use]
    pub fn judge(&self, id: u64) -> Verdict {
        match self.ids.last() {
            _ if id > self.highest() => Verdict::New,
            _ if self.ids.contains(&id) => Verdict::Again,
            Some(lowest) if id < *lowest && self.ids.len() == REACH => Verdict::TooOld,
            _ => Verdict::New,
        }
    }

    /// `id` is logged from now on.
    pub fn record(&mut self, id: u64) {
        let at = self.ids.partition_point(|known| *known > id);
        self.ids.truncate(REACH.max(at + 1) - 1);
        self.ids.insert(at, id);
        self.ids.truncate(REACH);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_retry_is_recognised() {
        let mut window = Window::default();
        let begin = 1_700_000_000_000_000;
        for id in begin..begin + REACH as u64 {
            assert_eq!(window.judge(id), Verdict::New);
            window.record(id);
            assert_eq!(window.judge(id), Verdict::Again);
        }
        assert_eq!(window.judge(begin), Verdict::Again, "the oldest one");
        window.record(u64::MAX);
        assert_eq!(
            window.judge(3),
            Verdict::TooOld,
            "a lost counter is no retry"
        );
        assert_eq!(
            window.judge(begin + 1_000),
            Verdict::New,
            "refused when a later one was not"
        );
        assert_eq!(Window::read(&window.write()), Some(window));
        assert_eq!(Window::read(&[1]), None);
    }

    proptest! {
        /// Against a set that forgets nothing: a vehicle that sends what is not acknowledged again, in whatever order.
        #[test]
        fn nothing_logged_is_new_and_nothing_new_is_logged(
            ids in proptest::collection::vec(1u64..200, 1..300),
            wide in any::<bool>(),
        ) {
            let (mut window, mut logged) = (Window::default(), BTreeSet::new());
            for id in ids {
                let id = if wide { id << 40 } else { id };
                match window.judge(id) {
                    Verdict::New => {
                        prop_assert!(logged.insert(id));
                        window.record(id);
                    }
                    Verdict::Again => prop_assert!(logged.contains(&id)),
                    Verdict::TooOld => {
                        let above = logged.range(id..).count();
                        prop_assert!(above >= REACH);
                    }
                }
                let kept = Window::read(&window.write());
                prop_assert_eq!(kept.as_ref(), Some(&window));
            }
        }
    }
}
