//! The gateway is killed again and again, at moments of one seed, while a fleet publishes and a dashboard listens that
//! comes back each time. From the vehicles' queues to the dashboard: every event arrives, in order, and is in the log
//! once.
//!
//! LONGHAUL_KILLS says how often, LONGHAUL_KILLS_SEED repeats a run.

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use common::listener::Listener;
use common::{Dashboard, Gateway, PATIENCE, setting, start};
use longhaul_vehicle::{Event, Vehicle};

const VEHICLES: usize = 6;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whenever_the_gateway_is_killed() {
    let seed = setting("LONGHAUL_KILLS_SEED", fastrand::u64(..));
    let kills = setting("LONGHAUL_KILLS", 50);
    eprintln!("LONGHAUL_KILLS_SEED={seed}");
    let mut rng = fastrand::Rng::with_seed(seed);
    let settings = ["--set", "events.free_bytes_min=0"];
    let mut gateway = Gateway::start_with(&settings);
    let folder = tempfile::tempdir().expect("a folder");
    let listener = Listener::start(
        gateway.listen(),
        gateway.token("dashboard", "listener", "1h", &[]),
    );
    let over = Arc::new(AtomicBool::new(false));
    let fleet: Vec<_> = (0..VEHICLES)
        .map(|n| {
            let id = format!("truck-{n}");
            let vehicle = start(&gateway, folder.path(), &id);
            let driving = tokio::spawn(drive(
                vehicle.clone(),
                fastrand::Rng::with_seed(seed ^ n as u64),
                Arc::clone(&over),
            ));
            (id, vehicle, driving)
        })
        .collect();
    for _ in 0..kills {
        // From before anybody is back to in the middle of everything.
        tokio::time::sleep(Duration::from_millis(rng.u64(0..600))).await;
        gateway = gateway.restart(&settings);
    }
    over.store(true, Ordering::Release);
    let mut published = Vec::new();
    for (id, vehicle, driving) in fleet {
        let count = driving.await.expect("it drives");
        let left = vehicle.close(PATIENCE).await;
        assert_eq!(left, 0, "{id} is stuck: {:?}", vehicle.counters());
        published.push((id, count));
    }
    let total: usize = published.iter().map(|(_, count)| count).sum();
    let asked = Instant::now();
    let is_complete = || {
        let heard = listener.heard();
        heard.texts.values().map(Vec::len).sum::<usize>() >= total
    };
    while !is_complete() && asked.elapsed() < PATIENCE {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let in_log = Dashboard::replay(&gateway, "auditor").await;
    common::eventually("the whole log is read", || {
        in_log.seen().events.len() >= total
    })
    .await;
    let heard = listener.heard();
    for (id, count) in &published {
        let expected: Vec<_> = (0..*count).map(|n| n.to_string()).collect();
        assert_eq!(
            heard.texts.get(id),
            Some(&expected),
            "{id}: each once, in order"
        );
        assert_eq!(in_log.seen().texts_of(id), expected, "{id} in the log");
    }
    assert_eq!(
        in_log.seen().events.len(),
        total,
        "nothing else is in the log"
    );
    eprintln!(
        "{total} events over {kills} kills; the listener had {} connections and heard {} events again",
        heard.connections, heard.again
    );
    assert!(total > VEHICLES * kills as usize, "{total} events");
}

/// Publishes all the time, at an uneven pace. Gives how many.
async fn drive(vehicle: Vehicle, mut rng: fastrand::Rng, over: Arc<AtomicBool>) -> usize {
    let mut count = 0;
    while !over.load(Ordering::Acquire) {
        let mut pending = Vec::new();
        for _ in 0..rng.usize(1..4) {
            let event = Event::new("trip").text(count.to_string());
            pending.push(vehicle.submit(event).await.expect("it is open"));
            count += 1;
        }
        for event in pending {
            event.durable().await.expect("there is room");
        }
        tokio::time::sleep(Duration::from_millis(rng.u64(..150))).await;
    }
    count
}
