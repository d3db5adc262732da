//! Events that must arrive: acknowledged when durable, in order, once in the log; delivered, resumed, told when missing.

use longhaul_codec::{
    AckKind, Error, ErrorCode, Event, EventAck, EventRange, Message, ResumePoint, Subscribe,
    SubscribeMode, Unsubscribe,
};
use tempfile::TempDir;

use crate::common::{
    client::{Client, fix, of, watch, watch_all},
    eventually,
    gateway::Gateway,
    http::Metrics,
};

mod common;

/// A gateway with an event log in `folder`.
fn start(shards: usize, folder: &TempDir, settings: &[&str]) -> Gateway {
    let directory = folder.path().join("events");
    let directory = format!(
        "events.directory={}",
        directory
            .to_str()
            .expect("temporary folders have plain names")
    );
    let mut arguments = vec!["--set", &directory, "--set", "events.free_bytes_min=0"];
    for setting in settings {
        arguments.extend(["--set", setting]);
    }
    Gateway::start_with(shards, &arguments)
}

fn folder() -> TempDir {
    TempDir::new().expect("a folder for the test")
}

fn event(message_id: u64, topic: &str) -> Event {
    Event {
        topic: topic.to_owned(),
        qos: 1,
        message_id,
        time_ms: 1_000 + message_id,
        content_type: Some("text/plain".to_owned()),
        payload: format!("{topic} {message_id}").into_bytes(),
        ..Event::default()
    }
}

/// Publishes, and waits for the Ack.
fn publish(vehicle: &mut Client, event: Event) {
    let id = event.message_id;
    vehicle.send(&event.into());
    acked(vehicle, id);
}

fn acked(vehicle: &mut Client, id: u64) {
    match vehicle.next() {
        Message::Ack(ack) => assert_eq!((ack.kind, ack.id), (AckKind::Event, id)),
        other => panic!("no Ack of {id}: {other:?}"),
    }
}

fn events_of(request: u64, topics: &[&str], qos: u8) -> Subscribe {
    Subscribe {
        topics: topics.iter().map(|topic| (*topic).to_owned()).collect(),
        qos,
        ..watch_all(request)
    }
}

fn next_event(dashboard: &mut Client) -> Event {
    loop {
        match dashboard.next() {
            Message::Event(event) => return event,
            Message::Names(_) => {}
            other => panic!("no event: {other:?}"),
        }
    }
}

/// Message ids and sequences of the next events.
fn numbers(dashboard: &mut Client, count: usize) -> Vec<(u64, u64)> {
    (0..count)
        .map(|_| next_event(dashboard))
        .map(|event| (event.message_id, event.sequence))
        .collect()
}

fn ack(dashboard: &mut Client, sequence: u64) {
    let epoch = dashboard.welcome().epoch;
    dashboard.send(&EventAck { epoch, sequence }.into());
}

fn resume(request: u64, epoch: u64, sequence: u64) -> Subscribe {
    Subscribe {
        resume: Some(ResumePoint { epoch, sequence }),
        ..events_of(request, &["events"], 1)
    }
}

fn consumer(request: u64, name: &str) -> Subscribe {
    Subscribe {
        consumer: Some(name.to_owned()),
        ..events_of(request, &["events"], 1)
    }
}

/// The next message, which is this error. Names may come first.
#[track_caller]
fn error_of(client: &mut Client, code: ErrorCode) -> Error {
    loop {
        match client.next() {
            Message::Names(_) => {}
            Message::Error(error) if error.code == code => return error,
            other => panic!("no error {code:?}: {other:?}"),
        }
    }
}

/// Nothing came but names.
#[track_caller]
fn quiet(client: &mut Client) {
    let mut rest = client.drain();
    rest.retain(|message| !matches!(message, Message::Names(_)));
    assert!(rest.is_empty(), "{rest:?}");
}

#[test]
fn an_event_is_acknowledged_and_reaches_those_who_watch() {
    for shards in [1, 3] {
        let folder = folder();
        let gateway = start(shards, &folder, &[]);
        let mut truck = Client::vehicle(&gateway, "truck-1");
        let mut bus = Client::connect_json(&gateway, &gateway.vehicle_token("bus-1"));
        let mut all = Client::dashboard(&gateway, "all");
        let mut one = Client::connect_json(&gateway, &gateway.dashboard_token("one"));
        let mut doors = Client::dashboard(&gateway, "doors");
        let mut none = Client::dashboard(&gateway, "none");
        all.subscribe(events_of(1, &["events"], 1));
        one.subscribe(Subscribe {
            whole_fleet: false,
            vehicles: vec!["bus-1".to_owned()],
            ..events_of(1, &["events", "positions"], 0)
        });
        doors.subscribe(events_of(1, &["door"], 1));
        none.subscribe(watch_all(1));
        assert_eq!(truck.welcome().event_window, 32);
        assert_ne!(truck.welcome().epoch, 0);

        publish(&mut truck, event(5, "door"));
        publish(&mut bus, event(5, "fence"));
        publish(&mut truck, event(6, "fence"));
        publish(&mut truck, event(5, "door"));
        publish(&mut truck, event(9, "door"));

        let first = next_event(&mut all);
        assert_eq!(all.name(first.vehicle), "truck-1");
        let epoch = all.welcome().epoch;
        let expected = Event {
            sequence: 1,
            epoch,
            vehicle: first.vehicle,
            ..event(5, "door")
        };
        assert_eq!(first, expected, "as it was sent, with its number");
        assert_eq!(numbers(&mut all, 3), [(5, 2), (6, 3), (9, 4)]);
        let seen = next_event(&mut one);
        assert_eq!((seen.sequence, seen.topic.as_str()), (2, "fence"));
        assert_eq!(one.name(seen.vehicle), "bus-1");
        assert_eq!(numbers(&mut doors, 2), [(5, 1), (9, 4)]);
        for client in [&mut all, &mut one, &mut doors, &mut none, &mut truck] {
            quiet(client);
        }
        let metrics = Metrics::of(gateway.control());
        assert_eq!(metrics.value("longhaul_event_log_events_total"), 4);
        assert_eq!(metrics.value("longhaul_event_log_duplicates_total"), 1);
        assert_eq!(metrics.value("longhaul_event_acks_out_total"), 5);
    }
}

#[test]
fn an_event_with_qos_0_passes_by() {
    for (shards, folder) in [(1, None), (3, None), (3, Some(folder()))] {
        let gateway = match &folder {
            None => Gateway::start(shards),
            Some(folder) => start(shards, folder, &[]),
        };
        let mut truck = Client::vehicle(&gateway, "truck-1");
        let mut dashboard = Client::dashboard(&gateway, "me");
        dashboard.subscribe(events_of(1, &["door"], 0));
        for id in 0..3 {
            truck.send(
                &Event {
                    qos: 0,
                    ..event(id, "door")
                }
                .into(),
            );
        }
        for id in 0..3 {
            let seen = next_event(&mut dashboard);
            assert_eq!((seen.message_id, seen.sequence, seen.epoch), (id, 0, 0));
        }
        quiet(&mut truck);
    }
}

#[test]
fn without_a_log_nothing_is_promised() {
    let gateway = Gateway::start(1);
    let mut truck = Client::vehicle(&gateway, "truck-1");
    assert_eq!(truck.welcome().epoch, 0);
    truck.send(&event(7, "door").into());
    let error = truck.error(ErrorCode::NotDurable);
    assert_eq!(error.id, 7);
    assert!(error.message.contains("events.directory"), "{error:?}");
    let mut dashboard = Client::dashboard(&gateway, "me");
    dashboard.send(&events_of(3, &["events"], 1).into());
    assert_eq!(dashboard.error(ErrorCode::NotDurable).id, 3);
}

#[test]
fn a_dashboard_that_was_away_goes_on_where_it_was() {
    for shards in [1, 3] {
        let folder = folder();
        let gateway = start(shards, &folder, &[]);
        let mut truck = Client::vehicle(&gateway, "truck-1");
        let mut bus = Client::vehicle(&gateway, "bus-1");
        // By name, before anything was published: it begins now.
        let mut named = Client::dashboard(&gateway, "ada");
        named.subscribe(consumer(1, "desk"));
        for id in 1..=3 {
            publish(&mut truck, event(id, "door"));
        }
        assert_eq!(numbers(&mut named, 3), [(1, 1), (2, 2), (3, 3)]);
        ack(&mut named, 2);
        named.close();
        for id in 4..=300 {
            publish(
                if id % 3 == 0 { &mut bus } else { &mut truck },
                event(id, "door"),
            );
        }
        // What it has not acknowledged comes again, and says so; then the rest.
        let mut named = Client::dashboard(&gateway, "ada");
        named.subscribe(consumer(1, "desk"));
        let again = next_event(&mut named);
        assert_eq!((again.sequence, again.redelivered), (3, true));
        // As many as may be in flight; then, with every acknowledgement, more.
        for sequence in 4..=300 {
            let event = next_event(&mut named);
            assert_eq!((event.sequence, event.redelivered), (sequence, false));
            ack(&mut named, sequence);
        }
        publish(&mut truck, event(301, "door"));
        assert_eq!(numbers(&mut named, 1), [(301, 301)], "and live");
        quiet(&mut named);
        // By a sequence that the client kept, with a filter.
        let mut kept = Client::dashboard(&gateway, "bob");
        let epoch = kept.welcome().epoch;
        kept.subscribe(Subscribe {
            whole_fleet: false,
            vehicles: vec!["bus-1".to_owned()],
            ..resume(1, epoch, 290)
        });
        let of_the_bus = [(291, 291), (294, 294), (297, 297), (300, 300)];
        assert_eq!(numbers(&mut kept, 4), of_the_bus);
        publish(&mut truck, event(302, "door"));
        publish(&mut bus, event(303, "door"));
        assert_eq!(numbers(&mut kept, 1), [(303, 303)]);
        // The same name of another user is another consumer: it begins now.
        let mut other = Client::dashboard(&gateway, "eve");
        other.subscribe(consumer(1, "desk"));
        quiet(&mut other);
    }
}

#[test]
fn a_consumer_has_one_connection() {
    let folder = folder();
    let gateway = start(2, &folder, &[]);
    let mut truck = Client::vehicle(&gateway, "truck-1");
    let mut first = Client::dashboard(&gateway, "ada");
    first.subscribe(consumer(1, "desk"));
    let mut second = Client::dashboard(&gateway, "ada");
    second.subscribe(consumer(1, "desk"));
    error_of(&mut first, ErrorCode::NotAllowed);
    publish(&mut truck, event(1, "door"));
    assert_eq!(numbers(&mut second, 1), [(1, 1)]);
    quiet(&mut first);
}

#[test]
fn what_is_not_acknowledged_is_sent_again() {
    let folder = folder();
    let settings = ["events.ack_wait_ms=1000", "limits.events_in_flight_max=3"];
    let gateway = start(1, &folder, &settings);
    let mut truck = Client::vehicle(&gateway, "truck-1");
    let mut dashboard = Client::dashboard(&gateway, "me");
    dashboard.subscribe(events_of(1, &["events"], 1));
    assert_eq!(dashboard.welcome().event_window, 3);
    for id in 1..=5 {
        publish(&mut truck, event(id, "door"));
    }
    assert_eq!(numbers(&mut dashboard, 3), [(1, 1), (2, 2), (3, 3)]);
    ack(&mut dashboard, 1);
    assert_eq!(
        numbers(&mut dashboard, 1),
        [(4, 4)],
        "there is room for one"
    );
    let again: Vec<_> = (0..3)
        .map(|_| next_event(&mut dashboard))
        .map(|event| (event.sequence, event.redelivered))
        .collect();
    assert_eq!(again, [(2, true), (3, true), (4, true)]);
    ack(&mut dashboard, 4);
    assert_eq!(numbers(&mut dashboard, 1), [(5, 5)]);
    ack(&mut dashboard, 9);
    let error = dashboard.error(ErrorCode::Malformed);
    assert!(error.message.contains("was not sent yet"), "{error:?}");
}

#[test]
fn what_was_acknowledged_survives_a_kill_and_a_retry_is_still_one() {
    let folder = folder();
    let mut gateway = start(2, &folder, &[]);
    let mut truck = Client::vehicle(&gateway, "truck-1");
    for id in 1..=40 {
        publish(&mut truck, event(id, "door"));
    }
    let epoch = truck.welcome().epoch;
    gateway.signal(rustix::process::Signal::KILL);
    gateway.wait();

    let gateway = start(1, &folder, &[]);
    let mut truck = Client::vehicle(&gateway, "truck-1");
    assert_eq!(truck.welcome().epoch, epoch, "the same history");
    publish(&mut truck, event(40, "door"));
    publish(&mut truck, event(41, "door"));
    let mut dashboard = Client::dashboard(&gateway, "me");
    dashboard.subscribe(resume(1, 0, 0));
    let all: Vec<_> = (1..=41).map(|n| (n, n)).collect();
    assert_eq!(
        numbers(&mut dashboard, 41),
        all,
        "all there is, from the beginning"
    );
    // A dashboard of an earlier history is told what it lost.
    let mut stranger = Client::dashboard(&gateway, "stranger");
    stranger.subscribe(resume(1, epoch - 1, 17));
    let gap = error_of(&mut stranger, ErrorCode::Gap);
    let missing = EventRange {
        epoch: epoch - 1,
        first: 18,
        last: u64::MAX,
    };
    assert_eq!(gap.missing, Some(missing));
    assert_eq!(numbers(&mut stranger, 1), [(1, 1)]);
}

#[test]
fn live_positions_and_events_come_on_one_connection() {
    let folder = folder();
    let gateway = start(1, &folder, &[]);
    let mut truck = Client::vehicle(&gateway, "truck-1");
    let mut dashboard = Client::dashboard(&gateway, "me");
    // Positions once a minute; events at once.
    dashboard.subscribe(Subscribe {
        min_interval_ms: 60_000,
        topics: vec!["positions".to_owned(), "door".to_owned()],
        ..watch(1, &["truck-1"])
    });
    truck.report(fix(1));
    assert_eq!(
        dashboard.position(),
        ("truck-1".to_owned(), of(&truck, fix(1)))
    );
    truck.report(fix(2));
    publish(&mut truck, event(1, "door"));
    let seen = next_event(&mut dashboard);
    assert_eq!(
        (seen.sequence, dashboard.name(seen.vehicle).as_str()),
        (1, "truck-1")
    );
    dashboard.ask(
        AckKind::Unsubscribe,
        2,
        Unsubscribe {
            request: 2,
            topics: vec!["door".to_owned()],
            ..Unsubscribe::default()
        },
    );
    publish(&mut truck, event(2, "door"));
    quiet(&mut dashboard);
}

#[test]
fn after_a_refusal_a_vehicle_goes_back_and_order_is_kept() {
    let folder = folder();
    let gateway = start(1, &folder, &["limits.event_window=2"]);
    let mut truck = Client::vehicle(&gateway, "truck-1");
    let mut dashboard = Client::dashboard(&gateway, "me");
    dashboard.subscribe(events_of(1, &["events"], 0));
    // Many at once, over the window: some are refused, and everything behind the first of those as well.
    for id in 1..=20 {
        truck.send(&event(id, "door").into());
    }
    let (mut taken, mut refused) = (Vec::new(), Vec::new());
    while taken.len() + refused.len() < 20 {
        match truck.next() {
            Message::Ack(ack) => taken.push(ack.id),
            Message::Error(error) => refused.push(error.id),
            other => panic!("{other:?}"),
        }
    }
    let first_refused = *refused.first().expect("the window is 2");
    taken.sort_unstable();
    assert_eq!(taken, (1..first_refused).collect::<Vec<_>>());
    for id in first_refused..=20 {
        publish(&mut truck, event(id, "door"));
    }
    let all: Vec<_> = (1..=20).map(|n| (n, n)).collect();
    assert_eq!(numbers(&mut dashboard, 20), all);
}

#[test]
fn what_cannot_be_an_event_is_refused_by_number() {
    let folder = folder();
    let gateway = start(1, &folder, &["limits.event_payload_bytes_max=100"]);
    let mut truck = Client::vehicle(&gateway, "truck-1");
    let cases = [
        (event(7, "positions"), ErrorCode::Malformed),
        (
            Event {
                payload: vec![0; 101],
                ..event(8, "door")
            },
            ErrorCode::TooLarge,
        ),
    ];
    for (wrong, code) in cases {
        let id = wrong.message_id;
        truck.send(&wrong.into());
        assert_eq!(truck.error(code).id, id);
    }
    for id in 1_001..=1_040 {
        publish(&mut truck, event(id, "door"));
    }
    truck.send(&event(3, "door").into());
    let error = truck.error(ErrorCode::Malformed);
    assert!(error.message.contains("ids must grow"), "{error:?}");
    eventually("it is counted", || {
        Metrics::of(gateway.control())
            .value("longhaul_limit_hits_total{limit=\"event_payload_bytes_max\"}")
            == 1
    });
}

#[test]
fn an_answer_to_an_older_question_is_no_answer() {
    let folder = folder();
    let settings = [
        "limits.events_in_flight_max=65536",
        "limits.messages_per_second_max=0",
    ];
    let gateway = start(1, &folder, &settings);
    let mut a = Client::vehicle(&gateway, "a");
    let mut b = Client::vehicle(&gateway, "b");
    let count = 600;
    for id in (1..=count / 2).step_by(30) {
        for vehicle in [&mut a, &mut b] {
            for id in id..id + 30 {
                vehicle.send(&event(id, "door").into());
            }
            for id in id..id + 30 {
                acked(vehicle, id);
            }
        }
    }
    for _ in 0..20 {
        let mut dashboard = Client::dashboard(&gateway, "me");
        let epoch = dashboard.welcome().epoch;
        let narrow = Subscribe {
            whole_fleet: false,
            vehicles: vec!["a".to_owned()],
            ..resume(1, epoch, 0)
        };
        let wide = Subscribe {
            mode: SubscribeMode::Replace,
            ..resume(2, epoch, 0)
        };
        dashboard.send(&narrow.into());
        dashboard.send(&wide.into());
        let mut last = 0;
        while last < count {
            if let Message::Event(event) = dashboard.next() {
                // What the first wish brought may come first.
                assert!(
                    event.sequence <= last + 1 || last == 0,
                    "{event:?} behind {last}"
                );
                last = if event.sequence == 1 {
                    1
                } else {
                    event.sequence.max(last)
                };
            }
        }
    }
}

#[test]
fn an_event_that_can_never_be_taken_is_not_waited_for() {
    let folder = folder();
    let settings = [
        "limits.event_window=1",
        "limits.event_payload_bytes_max=100",
    ];
    let gateway = start(1, &folder, &settings);
    let mut truck = Client::vehicle(&gateway, "truck-1");
    for id in 1..=2 {
        truck.send(&event(id, "door").into());
    }
    assert_eq!(truck.error(ErrorCode::LimitReached).id, 2);
    acked(&mut truck, 1);
    truck.send(&event(3, "door").into());
    let held = truck.error(ErrorCode::NotDurable);
    assert!(held.message.contains("go back to it"), "{held:?}");
    let too_large = Event {
        payload: vec![0; 101],
        ..event(2, "door")
    };
    truck.send(&too_large.into());
    assert_eq!(truck.error(ErrorCode::TooLarge).id, 2);
    publish(&mut truck, event(3, "door"));
}

#[test]
fn an_event_that_comes_too_fast_holds_those_behind_it_back() {
    let folder = folder();
    let settings = [
        "limits.messages_per_second_max=50",
        "limits.messages_burst=10",
    ];
    let gateway = start(1, &folder, &settings);
    let mut truck = Client::vehicle(&gateway, "truck-1");
    for id in 1..=15 {
        truck.send(&event(id, "door").into());
    }
    let refused = loop {
        match truck.next() {
            Message::Ack(_) => {}
            Message::Error(error) if error.id > 0 => break error,
            Message::Error(error) => assert_eq!(error.code, ErrorCode::LimitReached),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(refused.code, ErrorCode::LimitReached);
    std::thread::sleep(std::time::Duration::from_millis(500));
    truck.send(&event(15, "door").into());
    let held = loop {
        match truck.next() {
            Message::Error(error) if error.code == ErrorCode::NotDurable => break error,
            _ => {}
        }
    };
    assert_eq!(held.id, 15, "behind one that was not taken");
    publish(&mut truck, event(refused.id, "door"));
}
