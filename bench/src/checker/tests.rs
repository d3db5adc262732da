//! The checker is itself checked: it is fed each fault that it exists to find.

use super::*;
use crate::audience::Watch;
use crate::schedule::Synthetic;

const WALL_MS: u64 = 1_790_000_000_000;
const START_NS: u64 = 5_000_000_000;

struct Bed {
    plan: Synthetic,
    checker: Checker,
    watched: u32,
    unwatched: u32,
}

/// One dashboard that watches 5 of 10 vehicles; vehicle v has gateway index v + 100.
fn bed() -> Bed {
    let plan = Synthetic::new(10, 100, 100.0).unwrap();
    let audience = Audience::new(10, 1, Watch::Count(5), 0, 3);
    let Filter::Some(watched) = audience.filter(0) else {
        panic!()
    };
    let mut checker = Checker::new(&audience, &[0], 1).unwrap();
    for vehicle in 0..10 {
        assert_eq!(
            checker.name(0, vehicle + 100, vehicle),
            Ok(watched.contains(&vehicle))
        );
    }
    checker.begin(Epoch {
        start_ns: START_NS,
        wall_ms: WALL_MS,
    });
    let unwatched = (0..10).find(|vehicle| !watched.contains(vehicle)).unwrap();
    Bed {
        plan,
        checker,
        watched: watched[0],
        unwatched,
    }
}

impl Bed {
    fn fix(&self, vehicle: u32, sequence: u32) -> Fix {
        Fix {
            vehicle: vehicle + 100,
            ..self.plan.fix(vehicle, sequence, WALL_MS)
        }
    }

    /// Delivers these updates of one vehicle, in this order, 2 ms after the last was due.
    fn deliver(&mut self, vehicle: u32, sequences: &[u32]) -> Counts {
        let fixes: Vec<Fix> = sequences.iter().map(|&s| self.fix(vehicle, s)).collect();
        let last = sequences.iter().max().copied().unwrap_or(1);
        let now_ns = START_NS + self.plan.due_ns(vehicle, last) + 2_000_000;
        self.checker
            .positions(&self.plan, 0, fixes.into_iter(), 100, now_ns);
        self.checker.counts
    }
}

#[test]
fn each_fault_is_noticed_and_nothing_else_is_reported() {
    let clean = Counts {
        frames: 1,
        bytes: 100,
        ..Counts::default()
    };
    let cases: &[(&str, &[u32], Counts)] = &[
        (
            "in order",
            &[1, 2, 3],
            Counts {
                delivered: 3,
                ..clean
            },
        ),
        (
            "conflated",
            &[1, 4],
            Counts {
                delivered: 2,
                conflated: 2,
                ..clean
            },
        ),
        (
            "first ones never came",
            &[3],
            Counts {
                delivered: 1,
                conflated: 2,
                ..clean
            },
        ),
        (
            "duplicate",
            &[1, 2, 2],
            Counts {
                delivered: 2,
                duplicates: 1,
                ..clean
            },
        ),
        (
            "older duplicate",
            &[1, 2, 3, 1],
            Counts {
                delivered: 3,
                duplicates: 1,
                ..clean
            },
        ),
        (
            "reordered",
            &[1, 3, 2],
            Counts {
                delivered: 3,
                out_of_order: 1,
                ..clean
            },
        ),
        (
            "reordered, then repeated",
            &[1, 3, 2, 2],
            Counts {
                delivered: 3,
                out_of_order: 1,
                duplicates: 1,
                ..clean
            },
        ),
    ];
    for (what, sequences, expected) in cases {
        let mut bed = bed();
        assert_eq!(bed.deliver(bed.watched, sequences), *expected, "{what}");
        assert_eq!(bed.checker.delivered[0], expected.delivered, "{what}");
    }
}

#[test]
fn an_update_outside_the_filter_is_wrong() {
    let mut bed = bed();
    let counts = bed.deliver(bed.unwatched, &[1, 2]);
    assert_eq!((counts.wrong, counts.delivered), (2, 0));
}

#[test]
fn an_update_without_a_name_is_noticed() {
    let mut bed = bed();
    let stranger = Fix {
        vehicle: 7,
        ..bed.fix(bed.watched, 1)
    };
    bed.checker
        .positions(&bed.plan, 0, [stranger].into_iter(), 0, START_NS);
    assert_eq!(
        (bed.checker.counts.unnamed, bed.checker.counts.delivered),
        (1, 0)
    );
}

#[test]
fn an_update_of_another_vehicle_or_with_another_content_is_corrupted() {
    let mut bed = bed();
    let good = bed.fix(bed.watched, 5);
    let others = [
        Fix {
            time_ms: good.time_ms + 1,
            ..good
        },
        Fix {
            lat_e7: good.lat_e7 + 1,
            ..good
        },
        Fix {
            heading_cdeg: 1,
            ..good
        },
        Fix {
            vehicle: good.vehicle,
            ..bed.fix((bed.watched + 1) % 10, 5)
        },
    ];
    bed.checker
        .positions(&bed.plan, 0, others.into_iter(), 0, START_NS);
    assert_eq!(
        (bed.checker.counts.corrupted, bed.checker.counts.delivered),
        (4, 0)
    );
}

#[test]
fn what_is_older_than_the_run_is_a_snapshot() {
    let mut bed = bed();
    let old = Fix {
        time_ms: WALL_MS - 1,
        ..bed.fix(bed.watched, 1)
    };
    bed.checker
        .positions(&bed.plan, 0, [old].into_iter(), 0, START_NS);
    assert_eq!(
        (bed.checker.counts.snapshot, bed.checker.counts.delivered),
        (1, 0)
    );
}

#[test]
fn an_index_that_changes_its_vehicle_is_refused() {
    let mut bed = bed();
    assert_eq!(
        bed.checker.name(0, 100, 1),
        Err(NameError::Moved {
            index: 100,
            was: 0,
            now: 1
        })
    );
    assert_eq!(
        bed.checker.name(0, u32::MAX, 1),
        Err(NameError::Range(u32::MAX))
    );
}

#[test]
fn latency_counts_from_the_due_instant() {
    let mut bed = bed();
    bed.deliver(bed.watched, &[1]);
    assert_eq!(bed.checker.latency_max_ns, 2_000_000);
    assert_eq!(bed.checker.latency_us.max(), 2_000);
    assert_eq!(bed.checker.latency_us.len(), 1);
}
