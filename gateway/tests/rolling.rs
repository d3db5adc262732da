//! A rolling restart under load, by the script that operators use, with clients that follow the gateway's hint.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use longhaul_codec::{
    AckKind, Encoder, ErrorCode, Event, EventAck, Message, Position, ResumePoint, Subscribe,
};
use rustix::process::{Pid, Signal, kill_process};
use tungstenite::Message as Frame;

use crate::common::PATIENCE;
use crate::common::client::{Wire, fix, watch_all};
use crate::common::elsewhere::Elsewhere;
use crate::common::eventually;
use crate::common::gateway::{Gateway, bound_to_this_thread};
use crate::common::http::get;

mod common;

const VEHICLES: usize = 40;
const DASHBOARDS: usize = 10;
/// Who come and go all the time. (Without net.ipv4.tcp_migrate_req one run in five resets one of them.)
const VISITORS: usize = 4;
const WINDOW_MS: u32 = 4_000;

/// What all clients share.
struct Load {
    listen: SocketAddr,
    stop: AtomicBool,
    /// The newest report of each vehicle.
    reported: Vec<AtomicU32>,
    /// The newest event of each vehicle that was acknowledged: it has sent all before that one.
    acked: Vec<AtomicU32>,
    /// Events that were refused, and sent again.
    refused: AtomicU32,
    /// Connections that were opened because of a Drain.
    moved: AtomicU32,
}

/// One event of a vehicle at a time: sent until it is acknowledged.
struct Publishing {
    id: u32,
    send_at: Option<Instant>,
}

impl Publishing {
    fn event(&self) -> Message {
        Event {
            topic: "door".to_owned(),
            qos: 1,
            message_id: u64::from(self.id),
            ..Event::default()
        }
        .into()
    }
}

impl Load {
    fn is_over(&self) -> bool {
        self.stop.load(Ordering::Acquire)
    }

    /// Reports until the end. Told to go, it opens its new connection when it is time, and closes the old one then.
    fn drive(&self, number: usize, token: &str, parked: bool) {
        let mut wire = Wire::open(self.listen, token);
        let mut encoder = Encoder::new();
        let (mut go_at, mut n) = (None, 0);
        let mut publishing = Publishing {
            id: 1,
            send_at: Some(Instant::now()),
        };
        while !self.is_over() {
            if go_at.is_some_and(|at| at <= Instant::now()) {
                wire = Wire::open(self.listen, token);
                self.moved.fetch_add(1, Ordering::Relaxed);
                go_at = None;
                publishing.send_at = Some(Instant::now());
            }
            if publishing.send_at.is_some_and(|at| at <= Instant::now()) {
                wire.ask(publishing.event());
                publishing.send_at = None;
            }
            // A parked one reports no more once it is told to go: what it has said is all there will ever be.
            if !(parked && (go_at.is_some() || self.moved.load(Ordering::Relaxed) > 0)) {
                n += 1;
                let position = Message::Position(Position {
                    fix: fix(n),
                    vehicle_id: None,
                });
                let payload = encoder.message(&position).payload().to_vec();
                wire.send(Frame::binary(payload)).expect("it is taken");
                self.reported[number].store(n, Ordering::Release);
            }
            match wire.try_next(Duration::from_millis(10)) {
                None => {}
                Some(Message::Drain(drain)) => go_at = Some(after(drain.reconnect_after_ms)),
                Some(Message::Welcome(_)) => {}
                Some(Message::Ack(ack)) => {
                    assert_eq!((ack.kind, ack.id), (AckKind::Event, publishing.id.into()));
                    self.acked[number].store(publishing.id, Ordering::Release);
                    publishing.id += 1;
                    publishing.send_at = Some(after(20));
                }
                Some(Message::Error(error)) if error.code == ErrorCode::NotDurable => {
                    self.refused.fetch_add(1, Ordering::Relaxed);
                    publishing.send_at = Some(after(50));
                }
                Some(other) => panic!("vehicle {number} was told {other:?}"),
            }
        }
    }

    /// Watches everything until it has seen the last report of every vehicle. Returns how often it moved.
    fn watch(&self, number: usize, token: &str) -> u32 {
        let mut wire = Wire::open(self.listen, token);
        wire.ask(watch_all(1));
        let (mut go_at, mut moved, mut over) = (None, 0, None);
        let mut names: HashMap<u32, String> = HashMap::new();
        let mut last: HashMap<String, u64> = HashMap::new();
        loop {
            if go_at.is_some_and(|at| at <= Instant::now()) {
                wire = Wire::open(self.listen, token);
                wire.ask(watch_all(1));
                names.clear();
                self.moved.fetch_add(1, Ordering::Relaxed);
                (go_at, moved) = (None, moved + 1);
            }
            match wire.try_next(Duration::from_millis(10)) {
                Some(Message::Names(new)) => {
                    names.extend(new.vehicles.into_iter().zip(new.ids));
                }
                Some(Message::Positions(positions)) => {
                    for fix in positions.fixes {
                        let newest = last.entry(names[&fix.vehicle].clone()).or_default();
                        // A reconnect may begin a little behind; the newest is what counts.
                        *newest = fix.time_ms.max(*newest);
                    }
                }
                Some(Message::Drain(drain)) => go_at = Some(after(drain.reconnect_after_ms)),
                Some(Message::Welcome(_) | Message::Ack(_)) | None => {}
                Some(other) => panic!("dashboard {number} was told {other:?}"),
            }
            if self.is_over() {
                let missing: Vec<_> = (0..VEHICLES)
                    .filter(|&vehicle| {
                        let report = self.reported[vehicle].load(Ordering::Acquire);
                        last.get(&format!("truck-{vehicle}")) != Some(&fix(report).time_ms)
                    })
                    .collect();
                if missing.is_empty() {
                    return moved;
                }
                let since = *over.get_or_insert_with(Instant::now);
                assert!(
                    since.elapsed() < PATIENCE / 2,
                    "dashboard {number} never got the last of vehicles {missing:?}"
                );
            }
        }
    }

    /// Watches all events under a consumer's name, over the move, until it has each one that was acknowledged, in order.
    fn listen(&self, token: &str) -> usize {
        let mut wire = Wire::open(self.listen, token);
        let (mut go_at, mut over) = (None, None);
        let mut subscribe_at = Some(Instant::now());
        let mut names: HashMap<u32, String> = HashMap::new();
        let mut last: HashMap<String, u64> = HashMap::new();
        let (mut sequence, mut count) = (0, 0);
        loop {
            if go_at.is_some_and(|at| at <= Instant::now()) {
                wire = Wire::open(self.listen, token);
                names.clear();
                go_at = None;
                subscribe_at = Some(Instant::now());
            }
            if subscribe_at.is_some_and(|at| at <= Instant::now()) {
                wire.ask(Subscribe {
                    topics: vec!["door".to_owned()],
                    consumer: Some("desk".to_owned()),
                    resume: Some(ResumePoint::default()),
                    ..watch_all(1)
                });
                subscribe_at = None;
            }
            match wire.try_next(Duration::from_millis(10)) {
                Some(Message::Names(new)) => {
                    names.extend(new.vehicles.into_iter().zip(new.ids));
                }
                Some(Message::Event(event)) => {
                    let (epoch, id) = (event.epoch, event.message_id);
                    // What was acknowledged to the old process after it had handed the log on comes again.
                    assert!(event.sequence <= sequence + 1, "a gap behind {sequence}");
                    let newest = last.entry(names[&event.vehicle].clone()).or_default();
                    if event.sequence > sequence {
                        assert_eq!(id, *newest + 1, "each event of a vehicle, in order, once");
                        *newest = id;
                        sequence = event.sequence;
                        count += 1;
                    }
                    wire.ask(EventAck { epoch, sequence });
                }
                Some(Message::Error(error)) if error.code == ErrorCode::NotDurable => {
                    subscribe_at = Some(after(50));
                }
                Some(Message::Drain(drain)) => go_at = Some(after(drain.reconnect_after_ms)),
                Some(Message::Welcome(_) | Message::Ack(_)) | None => {}
                Some(other) => panic!("the listener was told {other:?}"),
            }
            if self.is_over() {
                let missing = |number: &usize| {
                    let acked = self.acked[*number].load(Ordering::Acquire);
                    let heard = last.get(&format!("truck-{number}")).copied();
                    heard.unwrap_or(0) < acked.into()
                };
                let missing: Vec<_> = (0..VEHICLES).filter(missing).collect();
                if missing.is_empty() {
                    return count;
                }
                let since = *over.get_or_insert_with(Instant::now);
                assert!(
                    since.elapsed() < PATIENCE / 2,
                    "events of vehicles {missing:?} were acknowledged and never came"
                );
            }
        }
    }

    /// Comes and goes the whole time, and is never refused. Returns how often.
    fn knock(&self, token: &str) -> u32 {
        let mut count = 0;
        while !self.is_over() {
            drop(Wire::open(self.listen, token));
            count += 1;
        }
        count
    }
}

fn after(ms: u32) -> Instant {
    Instant::now() + Duration::from_millis(ms.into())
}

#[test]
fn nothing_is_lost_and_nobody_is_refused() {
    let Some(elsewhere) = Elsewhere::or_skip() else {
        return;
    };
    // There, the setting that this needs can be made without touching the machine's.
    elsewhere.inside(replace_under_load);
}

fn replace_under_load() {
    let folder = tempfile::TempDir::new().expect("a folder for the test");
    let state = format!(
        "state.directory={:?}",
        folder.path().to_str().expect("plain")
    );
    let window = format!("drain.window_ms={WINDOW_MS}");
    let events = folder.path().join("events");
    let events = format!("events.directory={:?}", events.to_str().expect("plain"));
    let settings = [
        "--set",
        &events,
        "--set",
        "events.free_bytes_min=0",
        // The listener acknowledges each event by itself.
        "--set",
        "limits.messages_per_second_max=0",
        "--set",
        &state,
        "--set",
        "drain.grace_ms=500",
        "--set",
        &window,
    ];
    let mut old = Gateway::start_at("127.0.0.1:0", 2, &settings);
    let token = |role: &str, subject: &str| old.token(role, "demo", subject);
    let vehicles: Vec<_> = (0..VEHICLES)
        .map(|n| token("vehicle", &format!("truck-{n}")))
        .collect();
    let dashboards: Vec<_> = (0..DASHBOARDS)
        .map(|n| token("dashboard", &format!("user-{n}")))
        .collect();
    let listener = token("dashboard", "listener");
    let visitors: Vec<_> = (0..VISITORS)
        .map(|n| token("vehicle", &format!("visitor-{n}")))
        .collect();
    let load = Load {
        listen: old.listen(),
        stop: AtomicBool::new(false),
        reported: (0..VEHICLES).map(|_| AtomicU32::new(0)).collect(),
        acked: (0..VEHICLES).map(|_| AtomicU32::new(0)).collect(),
        refused: AtomicU32::new(0),
        moved: AtomicU32::new(0),
    };
    // The new process outlives the clients' threads.
    let _new = std::thread::scope(|scope| {
        for (number, token) in vehicles.iter().enumerate() {
            let load = &load;
            scope.spawn(move || load.drive(number, token, number % 4 == 0));
        }
        let watching: Vec<_> = dashboards
            .iter()
            .enumerate()
            .map(|(number, token)| {
                scope.spawn({
                    let load = &load;
                    move || load.watch(number, token)
                })
            })
            .collect();
        let listening = scope.spawn({
            let load = &load;
            let token = &listener;
            move || load.listen(token)
        });
        let knocking: Vec<_> = visitors
            .iter()
            .map(|token| {
                let load = &load;
                scope.spawn(move || load.knock(token))
            })
            .collect();
        eventually("everybody reports", || {
            let begun = |count: &AtomicU32| count.load(Ordering::Relaxed) > 10;
            load.reported.iter().all(begun) && load.acked.iter().all(begun)
        });
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let new = roll(&mut old, folder.path(), &settings);
            eventually("everybody has moved", || {
                load.moved.load(Ordering::Relaxed) as usize >= VEHICLES + DASHBOARDS
            });
            std::thread::sleep(Duration::from_millis(300));
            load.stop.store(true, Ordering::Release);
            let moves: Vec<u32> = watching
                .into_iter()
                .map(|dashboard| dashboard.join().expect("it has seen everything"))
                .collect();
            assert_eq!(moves, [1; DASHBOARDS], "each dashboard moved once");
            let events = listening.join().expect("it has heard everything");
            assert!(events > 10 * VEHICLES, "{events} events");
            let visits: u32 = knocking
                .into_iter()
                .map(|visitor| visitor.join().expect("it was always let in"))
                .sum();
            assert!(visits > 100, "{visits} visits");
            new
        }));
        load.stop.store(true, Ordering::Release);
        outcome.unwrap_or_else(|panic| {
            eprintln!("the old gateway's log:\n{}", old.log());
            std::panic::resume_unwind(panic);
        })
    });
}

/// Puts a new process in the place of `old` with the script, and gives it.
fn roll(old: &mut Gateway, folder: &Path, settings: &[&str]) -> Orphan {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../scripts/rolling-restart");
    let control: SocketAddr = {
        let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        free.local_addr().expect("it has one")
    };
    let log = folder.join("new.log");
    let key_folder = old.folder().to_str().expect("plain").to_owned();
    let mut script_run = bound_to_this_thread(script)
        .args(["--pid", &old.pid().to_string()])
        .args(["--control", &control.to_string()])
        .arg("--log")
        .arg(&log)
        .arg("--")
        .arg(env!("CARGO_BIN_EXE_longhaul"))
        .args(["run", "--config", &format!("{key_folder}/longhaul.toml")])
        .args(["--listen", &old.listen().to_string()])
        .args(["--control-listen", &control.to_string()])
        .args(["--shards", "2"])
        .args(settings)
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .expect("the script runs");
    let began = Instant::now();
    // The script waits for the old process to be gone, and a child has to be waited for.
    let status = old.wait();
    assert_eq!(status.code(), Some(0), "{status}");
    assert!(
        began.elapsed() < Duration::from_millis(u64::from(WINDOW_MS)) + PATIENCE / 2,
        "it took {:?}",
        began.elapsed()
    );
    assert!(script_run.wait().expect("it is a child").success());
    assert_eq!(get(control, "/readyz").status, 200);
    let mut said = String::new();
    std::io::Read::read_to_string(&mut script_run.stdout.take().expect("piped"), &mut said)
        .expect("it is text");
    let pid: i32 = said
        .trim()
        .parse()
        .expect("the script says the new process's number");
    Orphan(Pid::from_raw(pid).expect("it is one"))
}

/// A process that the script started and left running; it ends with this value.
struct Orphan(Pid);

impl Drop for Orphan {
    fn drop(&mut self) {
        let _ = kill_process(self.0, Signal::KILL);
    }
}
