//! Restarts: one that is killed finds its last positions again, and one that is replaced leaves no gap.

use std::path::Path;
use std::time::Duration;

use longhaul_codec::PresenceState;

use crate::common::client::{Client, fix, watch_all};
use crate::common::eventually;
use crate::common::gateway::Gateway;
use crate::common::http::Metrics;

mod common;

/// A gateway that keeps state in this folder.
fn start(folder: &Path) -> Gateway {
    let state = format!("state.directory={:?}", folder.to_str().expect("plain"));
    Gateway::start_with(
        2,
        &[
            "--set",
            &state,
            "--set",
            "state.snapshot_every_ms=1000",
            "--set",
            "limits.messages_per_second_max=0",
        ],
    )
}

/// Which report a fix is; no other fix is one.
#[track_caller]
fn report_of(seen: longhaul_codec::Fix) -> u32 {
    let n = ((seen.time_ms - fix(0).time_ms) / 1_000) as u32;
    let expected = longhaul_codec::Fix {
        vehicle: seen.vehicle,
        ..fix(n)
    };
    assert_eq!(seen, expected, "no vehicle has ever sent this");
    n
}

/// kill -9 at random moments, under load: the next start is clean, and knows what the last snapshot knew.
#[test]
fn killed_at_random_moments_it_finds_its_last_positions_again() {
    const VEHICLES: usize = 20;
    const KILLS: u32 = 20;
    let folder = tempfile::TempDir::new().expect("a folder for the test");
    let mut random = fastrand::Rng::with_seed(7);
    let mut sent = 0;
    // By vehicle: the newest report that a finished snapshot is certain to have.
    let mut kept = [0; VEHICLES];
    let mut restored = 0;
    for round in 0..=KILLS {
        let mut gateway = start(folder.path());
        assert!(!gateway.log().contains("refused"), "{}", gateway.log());
        let mut dashboard = Client::dashboard(&gateway, "me");
        dashboard.subscribe(watch_all(1));
        let known = Metrics::of(gateway.control()).value("longhaul_state_restored_positions");
        let mut seen = std::collections::HashMap::new();
        while (seen.len() as u64) < known {
            for (name, fix) in dashboard.positions() {
                let vehicle: usize = name["truck-".len()..].parse().expect("a number");
                seen.insert(vehicle, report_of(fix));
            }
        }
        for (vehicle, report) in &seen {
            assert!(
                (kept[*vehicle]..=sent).contains(report),
                "round {round}: truck-{vehicle} is at {report}, a snapshot had {}, {sent} were sent",
                kept[*vehicle]
            );
        }
        restored = seen.len();
        if round == KILLS {
            break;
        }
        let mut trucks: Vec<_> = (0..VEHICLES)
            .map(|n| Client::vehicle(&gateway, &format!("truck-{n}")))
            .collect();
        let written = || Metrics::of(gateway.control()).value("longhaul_state_snapshots_total");
        let began = written();
        let until = std::time::Instant::now() + Duration::from_millis(random.u64(0..2_500));
        let mut first = None;
        while std::time::Instant::now() < until {
            sent += 1;
            for truck in &mut trucks {
                truck.report(fix(sent));
            }
            if first.is_none() {
                assert_eq!(trucks[VEHICLES - 1].drain(), []);
                for truck in &mut trucks {
                    assert_eq!(truck.drain(), []);
                }
                first = Some((sent, written()));
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        // Two snapshots were finished after the first report had been taken: the second one began after it.
        if let Some((report, then)) = first
            && written() >= then.max(began) + 2
        {
            kept.fill(report);
        }
        gateway.signal(rustix::process::Signal::KILL);
        gateway.wait();
    }
    assert_eq!(restored, VEHICLES, "all of them, in the end");
    assert!(
        kept[0] > 0,
        "no snapshot was ever certain: the test saw nothing"
    );
}

/// An orderly end keeps everything; a damaged or foreign file is set aside, and the start is clean.
#[test]
fn an_orderly_end_keeps_the_newest_and_a_damaged_file_is_set_aside() {
    let folder = tempfile::TempDir::new().expect("a folder for the test");
    let mut gateway = start(folder.path());
    let mut truck = Client::vehicle(&gateway, "truck-1");
    truck.report(fix(41));
    assert_eq!(truck.drain(), []);
    gateway.signal(rustix::process::Signal::TERM);
    assert_eq!(truck.closed().0, 1012);
    assert_eq!(gateway.wait().code(), Some(0));

    let mut gateway = start(folder.path());
    let mut dashboard = Client::connect_json(&gateway, &gateway.dashboard_token("me"));
    dashboard.subscribe(watch_all(1));
    let (name, last) = dashboard.position();
    assert_eq!((name.as_str(), report_of(last)), ("truck-1", 41));
    drop(dashboard);
    gateway.signal(rustix::process::Signal::KILL);
    gateway.wait();

    let snapshot = folder.path().join("positions.snapshot");
    let mut bytes = std::fs::read(&snapshot).expect("there is one");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&snapshot, &bytes).expect("the folder takes it");
    let gateway = start(folder.path());
    eventually("it says so", || gateway.log().contains("refused"));
    let mut dashboard = Client::dashboard(&gateway, "me");
    dashboard.subscribe(watch_all(1));
    assert_eq!(dashboard.drain(), [], "nothing of it was taken");
    let mut truck = Client::vehicle(&gateway, "truck-1");
    truck.report(fix(1));
    assert_eq!(report_of(dashboard.position().1), 1, "and it works");
}

/// A position from the future would hide all that follow it; a restart must not keep it alive.
#[test]
fn a_position_from_the_future_is_not_restored() {
    let folder = tempfile::TempDir::new().expect("a folder for the test");
    let state = format!(
        "state.directory={:?}",
        folder.path().to_str().expect("plain")
    );
    let lax = [
        "--set",
        &state,
        "--set",
        "limits.clock_ahead_ms_max=86400000",
    ];
    let mut gateway = Gateway::start_with(1, &lax);
    let now = Client::vehicle(&gateway, "truck-2")
        .welcome()
        .gateway_time_ms;
    let mut truck = Client::vehicle(&gateway, "truck-1");
    truck.report(longhaul_codec::Fix {
        time_ms: now + 20 * 3_600_000,
        ..fix(1)
    });
    assert_eq!(truck.drain(), []);
    gateway.signal(rustix::process::Signal::TERM);
    assert_eq!(gateway.wait().code(), Some(0));

    let gateway = Gateway::start_with(1, &["--set", &state]);
    let mut dashboard = Client::dashboard(&gateway, "me");
    dashboard.subscribe(watch_all(1));
    let mut truck = Client::vehicle(&gateway, "truck-1");
    let report = longhaul_codec::Fix {
        time_ms: now + 1_000,
        ..fix(2)
    };
    truck.report(report);
    assert_eq!(dashboard.position().1.time_ms, report.time_ms);
}

/// Who connects while the old process still lets clients in is expected by the new one, like everybody else.
#[test]
fn a_vehicle_that_came_in_the_grace_period_is_online_for_the_successor() {
    let folder = tempfile::TempDir::new().expect("a folder for the test");
    let state = format!(
        "state.directory={:?}",
        folder.path().to_str().expect("plain")
    );
    let settings = [
        "--set",
        &state,
        "--set",
        "drain.grace_ms=2000",
        "--set",
        "drain.window_ms=1000",
    ];
    let mut old = Gateway::start_at("127.0.0.1:0", 1, &settings);
    let connect = |gateway: &Gateway, role: &str, subject: &str| {
        Client::connect(gateway, &gateway.token(role, "demo", subject))
    };
    let _before = connect(&old, "vehicle", "before");
    old.signal(rustix::process::Signal::TERM);
    let handovers = || Metrics::of(old.control()).value("longhaul_state_handovers_total");
    eventually("it has handed over once", || handovers() > 0);
    let _during = connect(&old, "vehicle", "during");
    let listen = old.listen().to_string();
    let new = Gateway::start_at(&listen, 1, &settings);
    assert_eq!(old.wait().code(), Some(0));
    eventually("both are online for those who ask the new one", || {
        let mut dashboard = connect(&new, "dashboard", "me");
        dashboard.subscribe(longhaul_codec::Subscribe {
            topics: vec!["presence".to_owned()],
            ..watch_all(1)
        });
        let fleet = dashboard.presence();
        let online = |change: &&(String, PresenceState, u64)| change.1 == PresenceState::Online;
        fleet.iter().filter(online).count() == 2
    });
}
