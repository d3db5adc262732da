//! Events with QoS 1 against the real gateway: durable here, acknowledged there, in order.

mod common;

use std::collections::HashSet;
use std::time::Duration;

use common::{Dashboard, Gateway, PATIENCE, config, connected, eventually, start};
use longhaul_codec::ErrorCode;
use longhaul_vehicle::{Event, Notice, Vehicle};
use tokio::sync::broadcast;

/// Reads notices until one fits.
async fn notice(
    notices: &mut broadcast::Receiver<Notice>,
    fits: impl Fn(&Notice) -> bool,
) -> Notice {
    let next = async {
        loop {
            let notice = notices.recv().await.expect("none is missed");
            if fits(&notice) {
                return notice;
            }
        }
    };
    let found = tokio::time::timeout(PATIENCE, next).await;
    found.expect("the notice comes")
}

#[tokio::test]
async fn an_event_is_acknowledged_and_reaches_a_dashboard_as_it_was() {
    let gateway = Gateway::start();
    let dashboard = Dashboard::open(&gateway, "me", &["events"]).await;
    let vehicle = start(&gateway, gateway.folder(), "truck-1");
    let mut notices = vehicle.notices();
    let event = Event::new("door").text("open").at(1_700_000_000_123);
    let id = vehicle.publish(event).await.expect("there is room");
    notice(&mut notices, |notice| *notice == Notice::Acked { id }).await;
    eventually("the event", || !dashboard.seen().events.is_empty()).await;
    {
        let seen = dashboard.seen();
        let (who, event) = &seen.events[0];
        assert_eq!((who.as_str(), event.topic.as_str()), ("truck-1", "door"));
        assert_eq!(
            (event.time_ms, event.payload.as_slice()),
            (1_700_000_000_123, &b"open"[..])
        );
        assert_eq!(event.content_type.as_deref(), Some("text/plain"));
        assert!(event.sequence > 0);
    }
    assert_eq!(vehicle.counters().queued, 0);
    // At most once, while connected.
    connected(&vehicle).await;
    assert!(
        vehicle
            .send(Event::new("door").text("ajar"))
            .expect("it is well-formed")
    );
    eventually("the event with qos 0", || {
        dashboard
            .seen()
            .texts_of("truck-1")
            .contains(&"ajar".to_owned())
    })
    .await;
    assert_eq!(vehicle.close(PATIENCE).await, 0);
}

#[tokio::test]
async fn what_was_published_offline_comes_later_in_order_with_its_own_times() {
    let gateway = Gateway::start();
    let dashboard = Dashboard::open(&gateway, "me", &["events"]).await;
    // Nobody is there.
    let token = gateway.vehicle_token("truck-1");
    let nowhere = config("ws://127.0.0.1:9/v1", &token, gateway.folder(), "truck-1");
    let (vehicle, _commands) = Vehicle::start(nowhere).expect("it starts");
    let mut pending = Vec::new();
    for n in 0..300u64 {
        let event = Event::new("trip")
            .text(n.to_string())
            .at(1_700_000_000_000 + n);
        pending.push(vehicle.submit(event).await.expect("it is open"));
    }
    for event in pending {
        event.durable().await.expect("there is room");
    }
    assert!(
        !vehicle.send(Event::new("now")).expect("it is well-formed"),
        "no connection"
    );
    assert_eq!(vehicle.close(Duration::from_millis(100)).await, 300);

    let vehicle = start(&gateway, gateway.folder(), "truck-1");
    assert_eq!(vehicle.opened().events, 300);
    assert_eq!(vehicle.close(PATIENCE).await, 0, "the gateway has all");
    eventually("all events", || dashboard.seen().events.len() >= 300).await;
    let seen = dashboard.seen();
    let expected: Vec<_> = (0..300).map(|n| n.to_string()).collect();
    assert_eq!(seen.texts_of("truck-1"), expected);
    let times = seen.events.iter().map(|(_, event)| event.time_ms);
    assert!(times.eq((0..300).map(|n| 1_700_000_000_000 + n)));
}

#[tokio::test]
async fn a_gateway_that_is_killed_again_and_again_loses_nothing() {
    let mut gateway = Gateway::start();
    let folder = tempfile::tempdir().expect("a folder");
    let vehicle = start(&gateway, folder.path(), "truck-1");
    let publisher = tokio::spawn({
        let vehicle = vehicle.clone();
        async move {
            for n in 0..400u32 {
                let event = Event::new("trip").text(n.to_string());
                vehicle.publish(event).await.expect("there is room");
            }
        }
    });
    for _ in 0..4 {
        tokio::time::sleep(Duration::from_millis(300)).await;
        gateway = gateway.restart(&[]);
    }
    publisher.await.expect("it publishes");
    assert_eq!(vehicle.close(PATIENCE).await, 0);
    let dashboard = Dashboard::replay(&gateway, "me").await;
    let expected: Vec<_> = (0..400).map(|n| n.to_string()).collect();
    eventually("all events", || dashboard.seen().events.len() >= 400).await;
    assert_eq!(dashboard.seen().texts_of("truck-1"), expected);
}

#[tokio::test]
async fn what_will_never_be_taken_is_told_and_holds_up_nothing() {
    let gateway = Gateway::start_with(&["--set", "limits.event_payload_bytes_max=1024"]);
    let vehicle = start(&gateway, gateway.folder(), "truck-1");
    let mut notices = vehicle.notices();
    let first = vehicle
        .publish(Event::new("a"))
        .await
        .expect("there is room");
    let large = Event::new("b").payload("x/y", vec![7; 5_000]);
    let large = vehicle.publish(large).await.expect("there is room");
    let huge = Event::new("c").payload("x/y", vec![7; 100_000]);
    let huge = vehicle.publish(huge).await.expect("there is room");
    let last = vehicle
        .publish(Event::new("d"))
        .await
        .expect("there is room");
    let mut said = Vec::new();
    while said.len() < 4 {
        said.push(notice(&mut notices, |_| true).await);
    }
    for id in [first, last] {
        assert!(said.contains(&Notice::Acked { id }), "{said:?}");
    }
    for (id, code) in [(large, ErrorCode::TooLarge), (huge, ErrorCode::TooLarge)] {
        let refused = |notice: &Notice| matches!(notice, Notice::Refused { id: is, code: said, why } if (*is, *said) == (id, code) && !why.is_empty());
        assert!(said.iter().any(refused), "{said:?}");
    }
    assert_eq!(
        (vehicle.counters().refused, vehicle.counters().queued),
        (2, 0)
    );
}

#[tokio::test]
async fn a_gateway_without_a_log_makes_the_vehicle_wait_and_not_forget() {
    let mut gateway = Gateway::start_with_events(false);
    let vehicle = start(&gateway, gateway.folder(), "truck-1");
    connected(&vehicle).await;
    for n in 0..100u32 {
        let event = Event::new("trip").text(n.to_string());
        vehicle.publish(event).await.expect("there is room");
    }
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(vehicle.counters().queued, 100);
    gateway = gateway.restart(&[]);
    assert_eq!(vehicle.close(PATIENCE).await, 0);
    let dashboard = Dashboard::replay(&gateway, "me").await;
    eventually("all events", || dashboard.seen().events.len() >= 100).await;
    let expected: Vec<_> = (0..100).map(|n| n.to_string()).collect();
    assert_eq!(dashboard.seen().texts_of("truck-1"), expected);
}

/// Many vehicles in one process, each with positions and events, and a dashboard that sees all of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_small_fleet() {
    const VEHICLES: usize = 20;
    const EVENTS: usize = 30;
    let gateway = Gateway::start();
    let dashboard = Dashboard::open(&gateway, "me", &["positions", "presence", "events"]).await;
    let mut fleet = Vec::new();
    for n in 0..VEHICLES {
        let vehicle = start(&gateway, gateway.folder(), &format!("truck-{n}"));
        fleet.push(tokio::spawn(async move {
            for event in 0..EVENTS {
                let lat_e7 = (n * 1_000 + event) as i32;
                let fix = longhaul_vehicle::Fix {
                    lat_e7,
                    ..Default::default()
                };
                vehicle.report(fix).expect("a place on earth");
                let event = Event::new("trip").text(event.to_string());
                vehicle.publish(event).await.expect("there is room");
            }
            vehicle.close(PATIENCE).await
        }));
    }
    for vehicle in fleet {
        assert_eq!(
            vehicle.await.expect("it drives"),
            0,
            "every event is at the gateway"
        );
    }
    eventually("all events", || {
        dashboard.seen().events.len() >= VEHICLES * EVENTS
    })
    .await;
    let expected: Vec<_> = (0..EVENTS).map(|n| n.to_string()).collect();
    for n in 0..VEHICLES {
        let id = format!("truck-{n}");
        assert_eq!(dashboard.seen().texts_of(&id), expected, "{id}");
        let last = (n * 1_000 + EVENTS - 1) as i32;
        eventually("the last position", || {
            dashboard.seen().fixes.get(&id).map(|fix| fix.lat_e7) == Some(last)
        })
        .await;
    }
    let seen = dashboard.seen();
    let numbers: HashSet<_> = seen
        .events
        .iter()
        .map(|(_, event)| event.sequence)
        .collect();
    assert_eq!(numbers.len(), VEHICLES * EVENTS);
}
