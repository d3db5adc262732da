//! There is never more than there may be.

use proptest::prelude::*;

use super::Seen::{Refused, Taken, Told};
use super::*;
use crate::limits::RESULTS_PER_USER_MAX;
use CommandStatus::Done;

const VEHICLE: u64 = 70;

#[test]
fn bounds_refuse_by_name_and_results_make_room() {
    let small = |commands_max, bytes_max| Bounds {
        per_vehicle_max: 2,
        commands_max,
        bytes_max,
        ..bounds()
    };
    // Each weighs 30 bytes, and its result 15.
    for (bounds, vehicles, words) in [
        (small(9, 900), [7, 7, 7], "limits.commands_per_vehicle_max"),
        (small(2, 900), [7, 8, 9], "limits.commands_max"),
        (small(9, 65), [7, 8, 9], "limits.commands_bytes_max"),
    ] {
        let mut bench = Bench::new(bounds);
        let submit = |bench: &mut Bench, id: u64| {
            bench.submit(1, command(id, vehicles[id as usize - 1]), Some(VEHICLE))
        };
        submit(&mut bench, 1);
        let number = bench.last();
        submit(&mut bench, 2);
        let seen = submit(&mut bench, 3);
        assert_eq!(seen, [Refused(3, ErrorCode::LimitReached)], "{words}");
        assert_eq!(submit(&mut bench, 1), [Taken(1)], "it is there already");
        bench.result(vehicles[0], done(number)).0.expect("good");
        assert_eq!(submit(&mut bench, 3)[0], Taken(3), "{words}");
        assert!(bench.commands.entries.len() <= bounds.commands_max);
        assert!(bench.commands.bytes() <= bounds.bytes_max);
    }
    for (refusal, words) in [
        (Refusal::VehicleFull(2), "limits.commands_per_vehicle_max"),
        (Refusal::NodeFull(2), "limits.commands_max"),
        (Refusal::BytesFull(65), "limits.commands_bytes_max"),
    ] {
        assert!(refusal.to_string().contains(words), "{refusal}");
    }
}

#[test]
fn a_user_has_so_many_results() {
    let mut bench = Bench::new(bounds());
    for id in 0..=RESULTS_PER_USER_MAX as u64 {
        bench.submit(1, command(id + 1, 7), Some(VEHICLE));
        let number = bench.last();
        bench.result(7, done(number)).0.expect("good");
        bench.not_told(number, 1);
    }
    assert_eq!(bench.commands.kept_results(), RESULTS_PER_USER_MAX);
    assert_eq!(bench.disk.len(), RESULTS_PER_USER_MAX);
    let seen = bench.user_here(1, 5);
    assert_eq!(seen.len(), RESULTS_PER_USER_MAX);
    assert_eq!(seen[0], Told(5, 2, Done), "the oldest is forgotten");
}

proptest! {
    /// Results come and go, by count and by bytes, and the tables agree with each other and with the disk.
    #[test]
    fn tables_stay_within_their_bounds(
        steps in prop::collection::vec((0..10u8, 1..9u64, 1..5u32, 0..200usize), 1..100)
    ) {
        let bounds = Bounds { per_vehicle_max: 3, commands_max: 7, bytes_max: 600, ..bounds() };
        let mut bench = Bench::new(bounds);
        let mut numbers = Vec::new();
        for (what, which, vehicle, bytes) in steps {
            let payload = vec![0; bytes];
            match what {
                0..4 => {
                    let new = NewCommand { payload, ..command(which, vehicle) };
                    bench.submit(1 + which % 3, new, Some(VEHICLE));
                    numbers.push(bench.last());
                }
                4..8 if !numbers.is_empty() => {
                    let number = numbers[bytes % numbers.len()];
                    let result = CommandResult { payload, ..done(number) };
                    let _ = bench.result(vehicle, result);
                }
                8 => bench.now_ms += 9_000 * which,
                _ => drop(bench.restart()),
            }
            check(&bench.commands);
            let kept: Vec<Key> = bench.disk.keys().copied().collect();
            let mut held: Vec<Key> = bench.commands.entries.keys().map(|n| n.to_be_bytes()).collect();
            held.sort_unstable();
            prop_assert_eq!(kept, held);
        }
        bench.expire_at(bench.now_ms + 100_000_000);
        bench.expire_at(bench.now_ms + 100_000_000);
        bench.assert_empty();
    }
}
