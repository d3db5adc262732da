//! What a command goes through, one rule at a time.

use super::Seen::{Delivered, Refused, Taken, Told};
use super::*;
use crate::limits::{COMMANDS_IN_FLIGHT_MAX, RESULT_KEPT_MS};
use CommandStatus::{Done, Expired};

const VEHICLE: u64 = 70;

#[test]
fn a_command_is_taken_delivered_and_answered() {
    let mut bench = Bench::new(bounds());
    let seen = bench.submit(1, command(5, 7), Some(VEHICLE));
    let number = bench.last();
    assert_eq!(number, START_MS * 1_000, "the time, so that it is new");
    assert_eq!(seen, [Taken(5), Delivered(VEHICLE, number, false)]);
    assert_eq!((bench.disk.len(), bench.commands.waiting()), (1, 1));
    let (answer, seen) = bench.result(7, done(number));
    assert_eq!((answer, seen), (Ok(true), vec![Told(1, 5, Done)]));
    assert_eq!(
        bench.result(7, done(number)),
        (Ok(false), vec![]),
        "once is enough"
    );
    assert_eq!((bench.commands.waiting(), bench.disk.len()), (0, 1));
    assert_eq!(bench.expire_at(START_MS + RESULT_KEPT_MS - 1), []);
    assert_eq!(bench.disk.len(), 1);
    assert_eq!(bench.expire_at(START_MS + RESULT_KEPT_MS), []);
    bench.assert_empty();
    // The number is never given again.
    bench.now_ms = START_MS;
    bench.submit(1, command(5, 7), None);
    assert_eq!(bench.last(), number + 1);
}

#[test]
fn what_the_vehicle_and_the_sender_get_is_what_was_sent() {
    let (mut commands, mut out) = (Commands::new(bounds()), Vec::new());
    let asker = Asker {
        fleet: FleetId(1),
        user: "ops".into(),
        at: holder(1),
    };
    commands.submit(
        asker.clone(),
        "fleet-1",
        command(5, 7),
        None,
        START_MS,
        &mut out,
    );
    out.clear();
    let later_ms = START_MS + 1_000;
    commands.vehicle_here(VehicleIndex(7), holder(VEHICLE), later_ms, &mut out);
    let Some(Effect::Deliver {
        command: sent,
        expires_ms,
        ..
    }) = out.pop()
    else {
        panic!("it is delivered")
    };
    let expected = Command {
        command_id: START_MS * 1_000,
        vehicle_id: None,
        name: "lock".to_owned(),
        ttl_ms: 59_000,
        content_type: Some("text/plain".to_owned()),
        payload: b"now".to_vec(),
        accepted_ms: START_MS,
        redelivered: false,
    };
    assert_eq!((&*sent, expires_ms), (&expected, START_MS + 60_000));
    let answer = CommandResult {
        status: CommandStatus::Refused,
        content_type: Some("text/html".to_owned()),
        // The vehicle's word for itself does not count.
        vehicle: 99,
        ..done(sent.command_id)
    };
    let taken = commands.result(VehicleIndex(7), answer.clone(), later_ms, &mut out);
    assert_eq!(taken, Ok(true));
    let told = Effect::Tell {
        number: sent.command_id,
        fleet: asker.fleet,
        user: asker.user,
        at: asker.at,
        result: CommandResult {
            command_id: 5,
            vehicle: 7,
            ..answer
        },
    };
    assert_eq!(out.last(), Some(&told));
}

#[test]
fn a_command_that_is_wrong_is_refused_with_what_to_do() {
    let with = |change: fn(&mut NewCommand)| {
        let mut wrong = command(5, 7);
        change(&mut wrong);
        wrong
    };
    use ErrorCode::{LimitReached, Malformed, TooLarge};
    for (wrong, code, words) in [
        (with(|c| c.command_id = 0), Malformed, "at least 1"),
        (with(|c| c.name.clear()), Malformed, "1 to 128 bytes"),
        (with(|c| c.name = "x".repeat(129)), Malformed, "129 bytes"),
        (with(|c| c.name.push('\n')), Malformed, "control"),
        (
            with(|c| c.content_type = Some("x".repeat(129))),
            Malformed,
            "content_type",
        ),
        (
            with(|c| c.payload = vec![0; 16_385]),
            TooLarge,
            "limits.command_payload_bytes_max",
        ),
        (with(|c| c.ttl_ms = 0), Malformed, "1 to 86400000"),
        (
            with(|c| c.ttl_ms = 86_400_001),
            LimitReached,
            "limits.command_ttl_ms_max",
        ),
    ] {
        let refusal = bounds().check(&wrong).expect_err(words);
        assert_eq!(refusal.code(), code, "{refusal}");
        assert!(refusal.to_string().contains(words), "{refusal}");
        let (id, mut bench) = (wrong.command_id, Bench::new(bounds()));
        assert_eq!(
            bench.submit(1, wrong, Some(VEHICLE)),
            [Refused(id, code)],
            "{words}"
        );
        bench.assert_empty();
    }
    let good = with(|c| {
        (c.name, c.payload, c.ttl_ms) = ("x".repeat(128), vec![0; 16_384], 86_400_000);
        c.content_type = None;
    });
    assert_eq!(bounds().check(&good), Ok(()));
}

#[test]
fn a_command_sent_again_is_not_done_again() {
    let mut bench = Bench::new(bounds());
    bench.submit(1, command(5, 7), Some(VEHICLE));
    let number = bench.last();
    let again = |ttl_ms| NewCommand {
        ttl_ms,
        ..command(5, 7)
    };
    assert_eq!(bench.submit(1, again(9), Some(VEHICLE)), [Taken(5)]);
    // The same number of another user is another command.
    let seen = bench.submit(2, command(5, 7), Some(VEHICLE));
    assert_eq!(
        seen,
        [Taken(5), Delivered(VEHICLE, bench.last(), false)],
        "another user"
    );
    bench.result(7, done(number)).0.expect("it is good");
    assert_eq!(
        bench.submit(1, again(9), None),
        [Taken(5), Told(1, 5, Done)]
    );
    // The same number for something else is a mistake that must not look like a success.
    let other = NewCommand {
        name: "unlock".to_owned(),
        ..command(5, 7)
    };
    for other in [other, command(5, 8)] {
        let seen = bench.submit(1, other, None);
        assert_eq!(seen, [Refused(5, ErrorCode::Malformed)]);
    }
    bench.restart();
    assert_eq!(
        bench.submit(1, again(9), None),
        [Taken(5), Told(1, 5, Done)],
        "after a restart, too"
    );
}

#[test]
fn a_vehicle_has_a_window_and_gets_all_of_it_again_when_it_comes_back() {
    let mut bench = Bench::new(bounds());
    let numbers: Vec<u64> = (1..=10)
        .map(|id| {
            bench.submit(1, command(id, 7), None);
            bench.last()
        })
        .collect();
    let first: Vec<_> = numbers[..COMMANDS_IN_FLIGHT_MAX]
        .iter()
        .map(|&number| Delivered(VEHICLE, number, false))
        .collect();
    assert_eq!(bench.vehicle_here(7, VEHICLE), first);
    assert_eq!(bench.vehicle_here(7, VEHICLE), [], "it has them");
    // Answers in any order make room, one each.
    let (_, seen) = bench.result(7, done(numbers[2]));
    let next = Delivered(VEHICLE, numbers[8], false);
    assert_eq!(seen, [Told(1, 3, Done), next]);
    // What was not sent is no question, and another vehicle's is none either.
    for (vehicle, number) in [(7, numbers[9]), (8, numbers[0]), (7, 1)] {
        let ignored = bench.result(vehicle, done(number));
        assert_eq!(ignored, (Ok(false), vec![]), "{vehicle} {number}");
    }
    let again: Vec<_> = [0, 1, 3, 4, 5, 6, 7, 8]
        .into_iter()
        .map(|place| Delivered(VEHICLE + 1, numbers[place], true))
        .collect();
    assert_eq!(bench.vehicle_here(7, VEHICLE + 1), again);
}

#[test]
fn a_connection_that_is_gone_gives_its_commands_back() {
    let mut bench = Bench::new(bounds());
    bench.submit(1, command(1, 7), Some(VEHICLE));
    let number = bench.last();
    let gone = |bench: &mut Bench, at| {
        bench
            .commands
            .not_delivered(VehicleIndex(7), holder(at), number);
    };
    gone(&mut bench, VEHICLE);
    assert_eq!(bench.submit(1, command(2, 7), None), [Taken(2)]);
    let second = bench.last();
    let fresh = |at| [Delivered(at, number, false), Delivered(at, second, false)];
    assert_eq!(bench.vehicle_here(7, VEHICLE + 1), fresh(VEHICLE + 1));
    // The older connection says so late.
    bench.vehicle_here(7, VEHICLE + 2);
    gone(&mut bench, VEHICLE + 1);
    let seen = bench.submit(1, command(3, 7), None);
    assert_eq!(
        seen,
        [Taken(3), Delivered(VEHICLE + 2, bench.last(), false)]
    );
}

#[test]
fn what_expires_is_reported_and_not_delivered() {
    let mut bench = Bench::new(bounds());
    let short = |id, ttl_ms| NewCommand {
        ttl_ms,
        ..command(id, 7)
    };
    for id in 1..=8 {
        bench.submit(1, short(id, 100), Some(VEHICLE));
    }
    bench.submit(1, short(9, 100), None);
    bench.submit(1, short(10, 200), None);
    let last = bench.last();
    assert_eq!(bench.commands.next_expiry(), Some(START_MS + 100));
    assert_eq!(bench.expire_at(START_MS + 99), []);
    let mut expected: Vec<_> = (1..=9).map(|id| Told(1, id, Expired)).collect();
    expected.push(Delivered(VEHICLE, last, false));
    assert_eq!(bench.expire_at(START_MS + 100), expected);
    // Whoever asks sees to it, whether the timer came or not.
    bench.now_ms = START_MS + 200;
    let (late, seen) = bench.result(7, done(last));
    assert_eq!((late, seen), (Ok(false), vec![Told(1, 10, Expired)]));
}

#[test]
fn a_result_waits_for_its_user() {
    let mut bench = Bench::new(bounds());
    for id in 1..=3 {
        bench.submit(1, command(id, 7), Some(VEHICLE));
    }
    let numbers: Vec<u64> = (0..3).map(|n| START_MS * 1_000 + n).collect();
    let result = |bench: &mut Bench, of: usize| bench.result(7, done(numbers[of])).1;
    // The sender is gone, and nobody else is there.
    assert_eq!(result(&mut bench, 0), [Told(1, 1, Done)]);
    assert_eq!(bench.not_told(numbers[0], 1), []);
    assert_eq!(bench.user_here(2, 5), [], "another user");
    assert_eq!(bench.user_here(1, 6), [Told(6, 1, Done)]);
    assert_eq!(bench.user_here(1, 7), [], "once");
    // The sender is gone, and somebody is there.
    assert_eq!(result(&mut bench, 1), [Told(1, 2, Done)]);
    assert_eq!(bench.not_told(numbers[1], 1), [Told(7, 2, Done)]);
    assert_eq!(bench.not_told(numbers[1], 1), [], "that is known");
    bench.told(numbers[1]);
    assert_eq!(bench.not_told(numbers[1], 7), [], "it was told");
    // A restart knows what was told, and what was not known to be.
    assert_eq!(result(&mut bench, 2), [Told(1, 3, Done)]);
    bench.restart();
    let seen = bench.user_here(1, 8);
    assert_eq!(seen, [Told(8, 1, Done), Told(8, 3, Done)]);
}

#[test]
fn a_restart_loses_nothing_and_numbers_go_on() {
    let mut bench = Bench::new(bounds());
    bench.submit(1, command(1, 7), Some(VEHICLE));
    let first = bench.last();
    bench.submit(1, command(2, 7), Some(VEHICLE));
    let expiring = NewCommand {
        ttl_ms: 10,
        ..command(3, 7)
    };
    bench.submit(1, expiring, None);
    bench.disk.insert([0; 8], vec![9, 9]);
    let mut damaged = bench.disk[&first.to_be_bytes()].clone();
    damaged.pop();
    bench.disk.insert([1; 8], damaged);
    // The clock stands still, or runs back, over the restart.
    bench.now_ms = START_MS - 1_000;
    assert_eq!(bench.restart(), 2);
    assert_eq!(bench.disk.len(), 3, "what is no command is gone");
    bench.submit(1, command(4, 8), None);
    assert!(bench.last() > first + 2);
    bench.now_ms = START_MS + 10;
    assert_eq!(bench.restart(), 0);
    let again = [first, first + 1].map(|number| Delivered(VEHICLE, number, true));
    assert_eq!(bench.vehicle_here(7, VEHICLE), again);
    assert_eq!(bench.user_here(1, 5), [Told(5, 3, Expired)]);
    assert_eq!(bench.result(7, done(first)).1, [Told(5, 1, Done)]);
}

#[test]
fn an_answer_that_is_wrong_leaves_the_question_open() {
    let mut bench = Bench::new(bounds());
    bench.submit(1, command(1, 7), Some(VEHICLE));
    let number = bench.last();
    let large = CommandResult {
        payload: vec![0; 16_385],
        ..done(number)
    };
    let expired = CommandResult {
        status: Expired,
        ..done(number)
    };
    for (wrong, code) in [
        (large, ErrorCode::TooLarge),
        (expired, ErrorCode::Malformed),
    ] {
        let (answer, seen) = bench.result(7, wrong);
        assert_eq!((answer.expect_err("wrong").code(), seen), (code, vec![]));
    }
    assert_eq!(bench.result(7, done(number)).1, [Told(1, 1, Done)]);
}

#[test]
fn what_is_not_durable_was_not_taken() {
    let mut bench = Bench::new(bounds());
    bench.submit(1, command(1, 7), Some(VEHICLE));
    let first = bench.last();
    let (mut batch, mut out) = (Vec::new(), Vec::new());
    let asker = Asker {
        fleet: FleetId(1),
        user: "user-1".into(),
        at: holder(1),
    };
    let now_ms = bench.now_ms;
    let submit = |bench: &mut Bench, id, batch: &mut Vec<Effect>| {
        let to = asker.clone();
        bench
            .commands
            .submit(to, "fleet-1", command(id, 7), None, now_ms, batch);
    };
    submit(&mut bench, 2, &mut batch);
    submit(&mut bench, 2, &mut batch);
    let answer = bench
        .commands
        .result(VehicleIndex(7), done(first), now_ms, &mut batch);
    assert_eq!(answer, Ok(true));
    bench.commands.not_durable(batch, now_ms, &mut out);
    let refused = Refused(2, ErrorCode::NotDurable);
    let seen = bench.carry_out(out);
    assert_eq!(seen, [refused.clone(), refused, Told(1, 1, Done)]);
    assert_eq!((bench.commands.waiting(), bench.disk.len()), (0, 1));
    let seen = bench.submit(1, command(2, 7), Some(VEHICLE));
    assert_eq!(seen, [Taken(2), Delivered(VEHICLE, bench.last(), false)]);
}
