//! The index's unit of storage: the watchers of 8 neighbouring vehicles in one buffer.
//!
//! A `Vec` per vehicle would cost 24 bytes and an allocation for a list that often holds a dozen 2-byte
//! entries. Here the lists of 8 vehicles lie back to back, and the order within a list means nothing. So a
//! place is opened in one list by moving a single entry from the front to the back of each list behind
//! it, and closed the other way round: at most 7 moves, however long the lists are.
//!
//! A page is one cache line, so that finding a list costs one miss.

/// Vehicles per page.
pub(crate) const PAGE: u32 = 8;

#[derive(Debug, Default)]
#[repr(align(64))]
pub(crate) struct Page {
    /// Where each vehicle's list starts in `watchers`; it ends where the next one starts.
    starts: [u32; PAGE as usize + 1],
    watchers: Vec<u16>,
}

impl Page {
    /// The watchers of the vehicle at `place` in this page, in no order.
    #[inline]
    pub(crate) fn list(&self, place: usize) -> &[u16] {
        &self.watchers[self.starts[place] as usize..self.starts[place + 1] as usize]
    }

    /// Adds a watcher that the list does not have yet.
    pub(crate) fn insert(&mut self, place: usize, watcher: u16) {
        if self.watchers.len() == self.watchers.capacity() {
            self.watchers.reserve_exact(slack(self.watchers.len()));
        }
        let mut hole = self.watchers.len();
        self.watchers.push(watcher);
        let (starts, end) = self.starts.split_at_mut(PAGE as usize);
        end[0] += 1;
        for start in starts[place + 1..].iter_mut().rev() {
            let front = *start as usize;
            self.watchers[hole] = self.watchers[front];
            hole = front;
            *start += 1;
        }
        self.watchers[hole] = watcher;
    }

    /// Removes a watcher; false if the list does not have it.
    pub(crate) fn remove(&mut self, place: usize, watcher: u16) -> bool {
        let Some(at) = position(self.list(place), watcher) else {
            return false;
        };
        let mut hole = self.starts[place] as usize + at;
        for end in &mut self.starts[place + 1..] {
            *end -= 1;
            let last = *end as usize;
            self.watchers[hole] = self.watchers[last];
            hole = last;
        }
        self.watchers.pop();
        let roomy = self.watchers.len() + 2 * slack(self.watchers.len());
        if self.watchers.capacity() > roomy {
            self.watchers.shrink_to(roomy);
        }
        true
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.watchers.is_empty()
    }

    /// Entries that fit without asking for memory.
    pub(crate) fn capacity(&self) -> usize {
        self.watchers.capacity()
    }
}

/// Where `watcher` is in `list`. By blocks without an early way out, which compile to vector compares: a
/// vehicle that everybody watches has tens of thousands of entries to look through.
fn position(list: &[u16], watcher: u16) -> Option<usize> {
    const BLOCK: usize = 64;
    let has = |block: &[u16]| {
        block
            .iter()
            .fold(false, |has, &entry| has | (entry == watcher))
    };
    let start = BLOCK * list.chunks(BLOCK).position(has)?;
    let within = list[start..].iter().position(|&entry| entry == watcher)?;
    Some(start + within)
}

/// How much room to add to `len` entries: an eighth, not as much again. Entries are most of what a
/// dashboard costs, and the copying is still paid for by the entries that were added.
fn slack(len: usize) -> usize {
    (len / 8).max(4)
}

const _: () = assert!(size_of::<Option<Page>>() == 64);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn finds_a_watcher_wherever_it_is() {
        let list: Vec<u16> = (0..300).collect();
        for watcher in 0..300 {
            assert_eq!(position(&list, watcher), Some(usize::from(watcher)));
        }
        assert_eq!(position(&list, 300), None);
        assert_eq!(position(&[], 0), None);
    }

    proptest! {
        #[test]
        fn a_page_is_eight_sets(
            history in prop::collection::vec((0..PAGE as usize, 0_u16..6), 0..400)
        ) {
            let mut page = Page::default();
            let mut model = vec![BTreeSet::new(); PAGE as usize];
            for (place, watcher) in history {
                if model[place].insert(watcher) {
                    page.insert(place, watcher);
                } else {
                    model[place].remove(&watcher);
                    prop_assert!(page.remove(place, watcher));
                    prop_assert!(!page.remove(place, watcher));
                }
                for (place, expected) in model.iter().enumerate() {
                    let list = page.list(place);
                    prop_assert_eq!(list.len(), expected.len());
                    prop_assert_eq!(&list.iter().copied().collect::<BTreeSet<_>>(), expected);
                }
                prop_assert_eq!(page.is_empty(), model.iter().all(BTreeSet::is_empty));
            }
        }
    }
}
