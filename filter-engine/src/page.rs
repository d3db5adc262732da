//! The index's unit of storage: the watchers of 8 neighbouring vehicles.
//!
//! A `Vec` per vehicle would cost 24 bytes and an allocation for a list that often holds a dozen 2-byte
//! entries. Here the lists of 8 vehicles lie back to back, and the order within a list means nothing. So a
//! place is opened in one list by moving a single entry from the front to the back of each list behind
//! it, and closed the other way round: at most 7 moves, however long the lists are.
//!
//! A page is one cache line, so that finding a list costs one miss. Many watchers lie in chunks of one size: buffers that
//! grow leave others of their old sizes behind, half used, which with all pages growing at once was as much again.

/// Vehicles per page.
pub(crate) const PAGE: u32 = 8;
/// Entries per chunk: 128 bytes.
const CHUNK: usize = 64;
/// A page with so few has them in one buffer again.
const FEW: usize = CHUNK / 2;

type Chunk = Box<[u16; CHUNK]>;

#[derive(Debug)]
#[repr(align(64))]
pub(crate) struct Page {
    /// Where each vehicle's list ends; the next one starts there.
    ends: [u32; PAGE as usize],
    watchers: Watchers,
}

#[derive(Debug)]
enum Watchers {
    Few(Vec<u16>),
    /// All of them full but the last.
    Many(Vec<Chunk>),
}

/// The watchers of a vehicle.
#[derive(Clone, Copy, Debug)]
pub(crate) enum List<'a> {
    One(&'a [u16]),
    Chunks {
        chunks: &'a [Chunk],
        start: usize,
        end: usize,
    },
}

impl<'a> List<'a> {
    pub(crate) const EMPTY: List<'static> = List::One(&[]);

    pub(crate) fn len(self) -> usize {
        match self {
            List::One(list) => list.len(),
            List::Chunks { start, end, .. } => end - start,
        }
    }

    pub(crate) fn is_empty(self) -> bool {
        self.len() == 0
    }

    /// One of them, if there is one.
    #[inline]
    pub(crate) fn first(self) -> Option<u16> {
        match self {
            List::One(list) => list.first().copied(),
            List::Chunks { chunks, start, end } => {
                (start < end).then(|| chunks[start / CHUNK][start % CHUNK])
            }
        }
    }

    /// All of them, slice by slice.
    #[inline]
    pub(crate) fn slices(self) -> impl Iterator<Item = &'a [u16]> {
        let (one, chunks, start, end) = match self {
            List::One(list) => (Some(list), &[][..], 0, 0),
            List::Chunks { chunks, start, end } => (None, chunks, start, end),
        };
        let numbers = start / CHUNK..end.div_ceil(CHUNK);
        one.into_iter().chain(numbers.map(move |number| {
            let first = number * CHUNK;
            &chunks[number][start.saturating_sub(first)..(end - first).min(CHUNK)]
        }))
    }

    /// Where `watcher` is.
    fn position(self, watcher: u16) -> Option<usize> {
        let mut before = 0;
        for slice in self.slices() {
            if let Some(at) = position(slice, watcher) {
                return Some(before + at);
            }
            before += slice.len();
        }
        None
    }
}

impl Default for Page {
    fn default() -> Self {
        Self {
            ends: [0; PAGE as usize],
            watchers: Watchers::Few(Vec::new()),
        }
    }
}

impl Page {
    /// The watchers of the vehicle at `place` in this page, in no order.
    #[inline]
    pub(crate) fn list(&self, place: usize) -> List<'_> {
        let (start, end) = (self.start(place), self.ends[place] as usize);
        match &self.watchers {
            Watchers::Few(watchers) => List::One(&watchers[start..end]),
            Watchers::Many(chunks) => List::Chunks { chunks, start, end },
        }
    }

    #[inline]
    fn start(&self, place: usize) -> usize {
        place.checked_sub(1).map_or(0, |before| self.ends[before]) as usize
    }

    fn len(&self) -> usize {
        self.ends[PAGE as usize - 1] as usize
    }

    /// Adds a watcher that the list does not have yet.
    pub(crate) fn insert(&mut self, place: usize, watcher: u16) {
        let mut hole = self.len();
        self.watchers.push(hole, watcher);
        let (behind, last) = self.ends[place..].split_at_mut(PAGE as usize - 1 - place);
        last[0] += 1;
        for end in behind.iter_mut().rev() {
            let front = *end as usize;
            self.watchers.copy(front, hole);
            hole = front;
            *end += 1;
        }
        self.watchers.set(hole, watcher);
    }

    /// Removes a watcher; false if the list does not have it.
    pub(crate) fn remove(&mut self, place: usize, watcher: u16) -> bool {
        let Some(at) = self.list(place).position(watcher) else {
            return false;
        };
        let mut hole = self.start(place) + at;
        for end in &mut self.ends[place..] {
            *end -= 1;
            let last = *end as usize;
            self.watchers.copy(last, hole);
            hole = last;
        }
        self.watchers.truncate(self.len());
        true
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Memory that is kept, in entries.
    pub(crate) fn capacity(&self) -> usize {
        match &self.watchers {
            Watchers::Few(watchers) => watchers.capacity(),
            Watchers::Many(chunks) => {
                chunks.len() * CHUNK + chunks.capacity() * size_of::<Chunk>() / size_of::<u16>()
            }
        }
    }
}

impl Watchers {
    /// Adds one behind the `len` that there are.
    fn push(&mut self, len: usize, watcher: u16) {
        match self {
            Self::Few(watchers) if len < CHUNK => {
                if len == watchers.capacity() {
                    watchers.reserve_exact(SLACK);
                }
                watchers.push(watcher);
            }
            Self::Few(watchers) => {
                let mut chunk = Box::new([0; CHUNK]);
                chunk.copy_from_slice(watchers);
                let mut next = Box::new([0; CHUNK]);
                next[0] = watcher;
                *self = Self::Many(vec![chunk, next]);
            }
            Self::Many(chunks) => {
                if len == chunks.len() * CHUNK {
                    if chunks.len() == chunks.capacity() {
                        chunks.reserve_exact(SLACK);
                    }
                    chunks.push(Box::new([0; CHUNK]));
                }
                chunks[len / CHUNK][len % CHUNK] = watcher;
            }
        }
    }

    /// Keeps the first `len`.
    fn truncate(&mut self, len: usize) {
        match self {
            Self::Few(watchers) => {
                watchers.truncate(len);
                if watchers.capacity() > len + 2 * SLACK {
                    watchers.shrink_to(len + 2 * SLACK);
                }
            }
            Self::Many(chunks) if len <= FEW => {
                *self = Self::Few(chunks[0][..len].to_vec());
            }
            Self::Many(chunks) => {
                chunks.truncate(len.div_ceil(CHUNK));
                if chunks.capacity() > 4 * chunks.len() {
                    chunks.shrink_to(2 * chunks.len());
                }
            }
        }
    }

    fn set(&mut self, at: usize, watcher: u16) {
        match self {
            Self::Few(watchers) => watchers[at] = watcher,
            Self::Many(chunks) => chunks[at / CHUNK][at % CHUNK] = watcher,
        }
    }

    fn copy(&mut self, from: usize, to: usize) {
        let watcher = match self {
            Self::Few(watchers) => watchers[from],
            Self::Many(chunks) => chunks[from / CHUNK][from % CHUNK],
        };
        self.set(to, watcher);
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

/// Room that a buffer of few is given at a time.
const SLACK: usize = 4;

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
            watchers in prop_oneof![Just(6_u16), Just(40), Just(300)],
            history in prop::collection::vec((0..PAGE as usize, any::<u16>()), 0..1_500),
        ) {
            let mut page = Page::default();
            let mut model = vec![BTreeSet::new(); PAGE as usize];
            for (place, watcher) in history {
                let watcher = watcher % watchers;
                if model[place].insert(watcher) {
                    page.insert(place, watcher);
                } else {
                    model[place].remove(&watcher);
                    prop_assert!(page.remove(place, watcher));
                    prop_assert!(!page.remove(place, watcher));
                }
                let (list, expected) = (page.list(place), &model[place]);
                prop_assert_eq!(list.len(), expected.len());
                prop_assert_eq!(list.first().is_some(), !expected.is_empty());
                let kept = page.capacity();
                prop_assert!(kept <= page.len() * 3 / 2 + 2 * CHUNK, "{kept} for {}", page.len());
            }
            for (place, expected) in model.iter().enumerate() {
                let list = page.list(place);
                let told: Vec<u16> = list.slices().flatten().copied().collect();
                prop_assert_eq!(told.len(), expected.len());
                prop_assert_eq!(list.len(), expected.len());
                prop_assert_eq!(&told.into_iter().collect::<BTreeSet<_>>(), expected);
            }
            prop_assert_eq!(page.is_empty(), model.iter().all(BTreeSet::is_empty));
        }
    }
}
