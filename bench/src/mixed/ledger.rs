//! What was really sent in a day, of a schedule in which every vehicle always reports: a vehicle that is parked, in a
//! tunnel or still connecting sends nothing, and nobody is owed what was never sent.
//!
//! For the checker this is the schedule: an update's sequence number is its place among those that its vehicle sent, so
//! that what was left out is neither lost nor conflated. The process that sends is the one that checks.

use std::cell::RefCell;

use longhaul_codec::Fix;

use crate::schedule::{Identity, Plan, Synthetic, Update};

/// See the module.
pub struct Ledger {
    plan: Synthetic,
    book: RefCell<Book>,
}

#[derive(Default)]
struct Book {
    /// All sends: vehicle and sequence number.
    order: Vec<(u32, u32)>,
    /// Per vehicle, each of its sends.
    sent: Vec<Vec<Sent>>,
}

#[derive(Clone, Copy)]
struct Sent {
    /// Its place in the schedule, from 1.
    slot: u32,
    /// Its place among all sends, from 0.
    number: u64,
}

impl Ledger {
    /// Nothing of `plan` has been sent.
    pub fn new(plan: Synthetic) -> Self {
        let sent = vec![Vec::new(); plan.vehicles() as usize];
        let order = Vec::new();
        Self {
            plan,
            book: RefCell::new(Book { order, sent }),
        }
    }

    /// The schedule in which everybody always reports.
    pub fn slots(&self) -> &Synthetic {
        &self.plan
    }

    /// An update of that schedule was sent. A vehicle's are sent in their order.
    pub fn note(&self, slot: &Update) {
        let book = &mut *self.book.borrow_mut();
        let of_vehicle = &mut book.sent[slot.vehicle as usize];
        of_vehicle.push(Sent {
            slot: slot.sequence,
            number: book.order.len() as u64,
        });
        book.order.push((slot.vehicle, of_vehicle.len() as u32));
    }

    /// Updates sent so far.
    pub fn sends(&self) -> u64 {
        self.book.borrow().order.len() as u64
    }

    /// Updates that each vehicle sent.
    pub fn counts(&self) -> Vec<u32> {
        let book = self.book.borrow();
        book.sent.iter().map(|sent| sent.len() as u32).collect()
    }

    fn slot(&self, vehicle: u32, sequence: u32) -> u32 {
        self.book.borrow().sent[vehicle as usize][sequence as usize - 1].slot
    }
}

impl Plan for Ledger {
    fn vehicles(&self) -> u32 {
        self.plan.vehicles()
    }

    fn id(&self, vehicle: u32) -> String {
        self.plan.id(vehicle)
    }

    fn vehicle_of(&self, id: &str) -> Option<u32> {
        self.plan.vehicle_of(id)
    }

    fn update(&self, number: u64) -> Option<Update> {
        let at = usize::try_from(number).ok()?;
        let (vehicle, sequence) = *self.book.borrow().order.get(at)?;
        Some(Update {
            due_ns: self.due_ns(vehicle, sequence),
            vehicle,
            sequence,
        })
    }

    fn planned(&self, vehicle: u32) -> u32 {
        self.book.borrow().sent[vehicle as usize].len() as u32
    }

    fn due_ns(&self, vehicle: u32, sequence: u32) -> u64 {
        self.plan.due_ns(vehicle, self.slot(vehicle, sequence))
    }

    fn fix(&self, vehicle: u32, sequence: u32, wall_ms: u64) -> Fix {
        let slot = self.slot(vehicle, sequence);
        self.plan.fix(vehicle, slot, wall_ms)
    }

    fn identify(&self, vehicle: u32, last: u32, fix: &Fix, wall_ms: u64) -> Identity {
        let slot = match self.plan.identify(vehicle, 0, fix, wall_ms) {
            Identity::Sequence(slot) => slot,
            other => return other,
        };
        let book = self.book.borrow();
        let sent = &book.sent[vehicle as usize];
        // Nearly always it is the one after the last.
        let at = match sent.get(last as usize) {
            Some(next) if next.slot == slot => Ok(last as usize),
            _ => sent.binary_search_by_key(&slot, |sent| sent.slot),
        };
        at.map_or(Identity::Unknown, |at| Identity::Sequence(at as u32 + 1))
    }

    fn sent_by(&self, vehicle: u32, sends: u64) -> u32 {
        let book = self.book.borrow();
        book.sent[vehicle as usize].partition_point(|sent| sent.number < sends) as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audience::{Audience, Watch};
    use crate::checker::{Checker, Counts, Epoch};

    const EPOCH: Epoch = Epoch {
        start_ns: 0,
        wall_ms: 1_790_000_000_000,
    };

    /// One vehicle, ten slots, of which these are sent.
    fn ledger(slots: &[u32]) -> Ledger {
        let ledger = Ledger::new(Synthetic::new(1, 10, 1.0).unwrap());
        send(&ledger, slots);
        ledger
    }

    fn send(ledger: &Ledger, slots: &[u32]) {
        for &slot in slots {
            let update = ledger.slots().update(u64::from(slot) - 1).unwrap();
            ledger.note(&update);
        }
    }

    fn checker() -> Checker {
        let audience = Audience::new(1, 1, Watch::All, 0, 1);
        let mut checker = Checker::new(&audience, &[0], 1).unwrap();
        checker.begin(EPOCH);
        assert_eq!(checker.name(0, 0, 0), Ok(true));
        checker
    }

    fn deliver(checker: &mut Checker, ledger: &Ledger, slots: &[u32]) {
        for &slot in slots {
            let fix = ledger.slots().fix(0, slot, EPOCH.wall_ms);
            checker.positions(ledger, 0, [fix].into_iter(), 10, 2_000_000_000);
        }
    }

    #[test]
    fn what_was_never_sent_is_no_gap_and_cannot_arrive() {
        let ledger = ledger(&[1, 2, 7, 8, 9]);
        let mut checker = checker();
        deliver(&mut checker, &ledger, &[1, 2, 7, 9]);
        let right = Counts {
            delivered: 4,
            conflated: 1,
            frames: 4,
            bytes: 40,
            ..Counts::default()
        };
        assert_eq!(checker.counts, right);
        deliver(&mut checker, &ledger, &[5]);
        assert_eq!(checker.counts.corrupted, 1);
        let numbers: Vec<_> = (0..).map_while(|number| ledger.update(number)).collect();
        assert_eq!(numbers.len(), 5);
        assert_eq!(
            (numbers[2].sequence, numbers[2].due_ns),
            (3, ledger.slots().due_ns(0, 7))
        );
    }

    #[test]
    fn a_dashboard_is_owed_what_is_sent_while_it_watches() {
        let ledger = ledger(&[1, 2, 3]);
        let mut checker = checker();
        // Not acknowledged yet, then acknowledged.
        checker.watch_from(0, u64::MAX);
        deliver(&mut checker, &ledger, &[1]);
        checker.watch_from(0, ledger.sends());
        deliver(&mut checker, &ledger, &[3]);
        let counts = checker.counts;
        assert_eq!(
            (counts.snapshot, counts.delivered, counts.conflated),
            (2, 0, 0)
        );
        send(&ledger, &[4, 5, 6]);
        deliver(&mut checker, &ledger, &[5]);
        checker.watch_until(0, ledger.sends());
        send(&ledger, &[7, 8]);
        deliver(&mut checker, &ledger, &[8]);
        // 4 was replaced by 5, and 6 by 8, which came when nobody owed it any more; so was 7.
        let counts = checker.counts;
        assert_eq!(
            (counts.delivered, counts.conflated, counts.snapshot),
            (1, 2, 3)
        );
        assert_eq!(checker.accounted[0], 3);
        deliver(&mut checker, &ledger, &[8, 2]);
        assert_eq!(
            (checker.counts.duplicates, checker.counts.out_of_order),
            (1, 1)
        );
        assert_eq!((checker.counts.delivered, checker.accounted[0]), (1, 3));
    }

    #[test]
    fn a_snapshot_that_is_missing_hides_nothing() {
        let ledger = ledger(&[1, 2, 3]);
        let mut checker = checker();
        checker.watch_from(0, ledger.sends());
        send(&ledger, &[4, 5]);
        deliver(&mut checker, &ledger, &[4]);
        let counts = checker.counts;
        assert_eq!((counts.delivered, counts.conflated), (1, 0));
        // 5 never comes: one is owed that nothing accounts for.
        assert_eq!(ledger.sent_by(0, ledger.sends()) - ledger.sent_by(0, 3), 2);
        assert_eq!(checker.accounted[0], 1);
    }
}
