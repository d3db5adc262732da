//! A small fleet behind a proxy that misbehaves, from one seed: nothing that was acknowledged is lost, nothing is
//! stuck, every queue ends empty, and each vehicle's events stay in order.
//!
//! LONGHAUL_CHAOS_SEED repeats a run, LONGHAUL_CHAOS_SECONDS makes it longer.

mod common;

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use common::proxy::Proxy;
use common::{Dashboard, Gateway, PATIENCE, config, setting};
use longhaul_vehicle::{Event, Fix, Notice, Vehicle};
use tokio::sync::broadcast::error::RecvError;

const VEHICLES: u64 = 8;

/// Says the seed if the test fails.
struct Seed(u64);

impl Drop for Seed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("repeat this with LONGHAUL_CHAOS_SEED={}", self.0);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_the_network_does() {
    let seed = Seed(setting("LONGHAUL_CHAOS_SEED", fastrand::u64(..)));
    let time = Duration::from_secs(setting("LONGHAUL_CHAOS_SECONDS", 20));
    let gateway = Gateway::start_with(&["--set", "connection.heartbeat_ms=1000"]);
    let proxy = Proxy::start(gateway.listen(), seed.0).await;
    let folder = tempfile::tempdir().expect("a folder");
    let until = Instant::now() + time;

    let mut fleet = Vec::new();
    for n in 0..VEHICLES {
        let id = format!("truck-{n}");
        let mut config = config(
            &proxy.url(),
            &gateway.vehicle_token(&id),
            folder.path(),
            &id,
        );
        config.connect_within = Duration::from_secs(2);
        config.pong_within = Duration::from_millis(500);
        config.ack_within = Duration::from_secs(3);
        config.steady_after = Duration::from_secs(1);
        let (vehicle, commands) = Vehicle::start(config).expect("it starts");
        let rng = fastrand::Rng::with_seed(seed.0 ^ (n + 1));
        fleet.push((
            id,
            vehicle.clone(),
            tokio::spawn(drive(vehicle, rng, until)),
            commands,
        ));
    }
    let mut published = HashMap::new();
    for (id, vehicle, driving, _commands) in &mut fleet {
        let ids = driving.await.expect("it drives");
        published.insert(id.clone(), (ids, vehicle.clone()));
    }
    proxy.calm();
    for (id, (_, vehicle)) in &published {
        assert_eq!(
            vehicle.close(PATIENCE).await,
            0,
            "{id}: {:?}",
            vehicle.counters()
        );
    }

    let emptied = until.elapsed();
    let dashboard = Dashboard::replay(&gateway, "me").await;
    let count = published.values().map(|(ids, _)| ids.len()).sum();
    let all_there = || dashboard.seen().events.len() >= count;
    let asked = Instant::now();
    while !all_there() && asked.elapsed() < PATIENCE {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let seen = dashboard.seen();
    for (id, (ids, _)) in &published {
        let there: HashSet<u64> = seen.ids_of(id).collect();
        let lost: Vec<_> = ids.iter().filter(|id| !there.contains(id)).collect();
        assert!(
            lost.is_empty(),
            "{id} has lost {lost:?} of {}: {:?}",
            ids.len(),
            seen.errors
        );
        let expected: Vec<_> = (0..ids.len()).map(|n| n.to_string()).collect();
        assert_eq!(seen.texts_of(id), expected, "{id}: each once, in order");
    }
    let reconnects: u64 = published
        .values()
        .map(|(_, vehicle)| vehicle.counters().reconnects)
        .sum();
    eprintln!(
        "{count} events; {emptied:?} until all were acknowledged, {:?} until all were seen; {} connections through the \
         proxy, {reconnects} of them welcomed again",
        until.elapsed(),
        proxy.connections()
    );
    assert!(reconnects > VEHICLES, "the proxy did not misbehave");
}

/// Publishes and reports for a while, at uneven times. Gives the numbers of all events.
async fn drive(vehicle: Vehicle, mut rng: fastrand::Rng, until: Instant) -> Vec<u64> {
    let mut notices = vehicle.notices();
    let listening = tokio::spawn(async move {
        let mut acked = Vec::new();
        loop {
            match notices.recv().await {
                Ok(Notice::Acked { id }) => acked.push(id),
                Ok(other) => panic!("nothing is refused or dropped here: {other:?}"),
                Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return acked,
            }
        }
    });
    let mut ids = Vec::new();
    while Instant::now() < until {
        let fix = Fix {
            lat_e7: rng.i32(-900_000_000..900_000_000),
            ..Fix::default()
        };
        vehicle.report(fix).expect("a place on earth");
        let mut pending = Vec::new();
        for _ in 0..rng.usize(0..10) {
            let text = (ids.len() + pending.len()).to_string();
            let event = Event::new("trip").text(text);
            pending.push(vehicle.submit(event).await.expect("it is open"));
        }
        for event in pending {
            ids.push(event.durable().await.expect("there is room"));
        }
        tokio::time::sleep(Duration::from_millis(rng.u64(..300))).await;
    }
    assert!(!listening.is_finished(), "nothing was refused");
    listening.abort();
    assert!(ids.is_sorted());
    ids
}
