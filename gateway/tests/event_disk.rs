//! The event log's disk: full, torn, taken by another process. Events are refused aloud, positions and reads go on.

use std::{fs, io::Write, path::Path, process::Command};

use longhaul_codec::{AckKind, ErrorCode, Event, Message, ResumePoint, Subscribe};
use tempfile::TempDir;

use crate::common::{
    client::{Client, fix, of, watch_all},
    eventually,
    gateway::Gateway,
    http::{Metrics, post},
};

mod common;

/// A file system of its own, of this many bytes; unmounted in the end.
struct SmallDisk(TempDir);

impl SmallDisk {
    /// `None`, and a word of it, without the right to mount.
    fn or_skip(bytes: u64) -> Option<SmallDisk> {
        if !rustix::process::geteuid().is_root() {
            eprintln!("skipped: mounting a small file system takes root");
            return None;
        }
        let folder = TempDir::new().expect("a folder for the test");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={bytes}"), "tmpfs"])
            .arg(folder.path())
            .status()
            .expect("mount is there");
        assert!(mounted.success(), "a tmpfs can be mounted");
        Some(SmallDisk(folder))
    }

    fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount")
            .args(["-l"])
            .arg(self.path())
            .status();
    }
}

fn start(shards: usize, folder: &Path, settings: &[&str]) -> Gateway {
    let directory = folder.join("events");
    let directory = directory
        .to_str()
        .expect("temporary folders have plain names");
    let directory = format!("events.directory={directory}");
    let mut arguments = vec!["--set", &directory];
    for setting in settings {
        arguments.extend(["--set", setting]);
    }
    Gateway::start_with(shards, &arguments)
}

fn event(message_id: u64) -> Event {
    Event {
        topic: "door".to_owned(),
        qos: 1,
        message_id,
        payload: vec![message_id as u8; 16_000],
        ..Event::default()
    }
}

/// Publishes one; whether it was taken.
fn publish(vehicle: &mut Client, message_id: u64) -> bool {
    vehicle.send(&event(message_id).into());
    match vehicle.next() {
        Message::Ack(ack) => {
            assert_eq!((ack.kind, ack.id), (AckKind::Event, message_id));
            true
        }
        Message::Error(error) => {
            assert_eq!((error.code, error.id), (ErrorCode::NotDurable, message_id));
            assert!(error.message.contains("disk"), "{error:?}");
            false
        }
        other => panic!("{other:?}"),
    }
}

fn from_the_beginning(gateway: &Gateway, user: &str) -> Client {
    let mut dashboard = Client::dashboard(gateway, user);
    dashboard.subscribe(Subscribe {
        topics: vec!["events".to_owned()],
        resume: Some(ResumePoint::default()),
        ..watch_all(1)
    });
    dashboard
}

/// Reads this many events, and acknowledges each.
fn numbers(dashboard: &mut Client, count: u64) -> Vec<u64> {
    let mut numbers = Vec::new();
    while (numbers.len() as u64) < count {
        match dashboard.next() {
            Message::Event(event) => {
                let (epoch, sequence) = (event.epoch, event.sequence);
                dashboard.send(&longhaul_codec::EventAck { epoch, sequence }.into());
                numbers.push(event.message_id);
            }
            Message::Names(_) => {}
            other => panic!("{other:?}"),
        }
    }
    numbers
}

#[test]
fn a_full_disk_refuses_events_and_nothing_else() {
    // Refused ahead of time by the bound, and met by the write itself.
    for free_bytes_min in ["4194304", "0"] {
        let Some(disk) = SmallDisk::or_skip(24 << 20) else {
            return;
        };
        let setting = format!("events.free_bytes_min={free_bytes_min}");
        let settings = [
            &*setting,
            "limits.bytes_per_second_max=0",
            "limits.messages_per_second_max=0",
        ];
        let gateway = start(2, disk.path(), &settings);
        let mut truck = Client::vehicle(&gateway, "truck-1");
        // Somebody else needs the disk as well.
        let ballast = disk.path().join("ballast");
        fs::write(&ballast, vec![0; 10 << 20]).expect("there is room");
        let mut taken = 0;
        while publish(&mut truck, taken + 1) {
            taken += 1;
            assert!(taken < 2_000, "the disk never gets full");
        }
        assert!(taken > 10, "{taken} events");
        // The operator is told, positions go on, what is there can be read.
        eventually("the log says that it cannot write", || {
            let metrics = Metrics::of(gateway.control());
            metrics.value("longhaul_event_log_writable") == 0
                && metrics.value("longhaul_event_log_errors_total") > 0
        });
        assert!(gateway.log().contains("the event log cannot write"));
        let mut watcher = Client::dashboard(&gateway, "watcher");
        watcher.subscribe(watch_all(1));
        truck.report(fix(1));
        assert_eq!(
            watcher.position(),
            ("truck-1".to_owned(), of(&truck, fix(1)))
        );
        let all: Vec<_> = (1..=taken).collect();
        let mut reader = from_the_beginning(&gateway, "reader");
        assert_eq!(numbers(&mut reader, taken), all);
        // A bad vehicle that goes on regardless is refused as well: order is kept.
        assert!(!publish(&mut truck, taken + 1));
        // With room again, the vehicle's retry is taken, and the dashboard that waits gets it.
        fs::remove_file(&ballast).expect("it is there");
        eventually("it writes again", || publish(&mut truck, taken + 1));
        assert_eq!(numbers(&mut reader, 1), [taken + 1]);
        drop(gateway);
        let gateway = start(1, disk.path(), &settings);
        let all: Vec<_> = (1..=taken + 1).collect();
        let mut reader = from_the_beginning(&gateway, "reader");
        assert_eq!(numbers(&mut reader, taken + 1), all, "after a restart");
    }
}

#[test]
fn a_torn_file_keeps_what_was_acknowledged_or_says_what_is_lost() {
    let folder = TempDir::new().expect("a folder for the test");
    let mut gateway = start(1, folder.path(), &["events.free_bytes_min=0"]);
    let mut truck = Client::vehicle(&gateway, "truck-1");
    let epoch = truck.welcome().epoch;
    for id in 1..=20 {
        assert!(publish(&mut truck, id));
    }
    gateway.signal(rustix::process::Signal::KILL);
    gateway.wait();
    let directory = folder.path().join("events");
    let file = fs::read_dir(&directory)
        .expect("the log's folder")
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.is_file())
        .max_by_key(|path| path.metadata().map_or(0, |data| data.len()))
        .expect("the log's file");
    // Half a record that was being written behind the end when power went.
    let mut torn = fs::OpenOptions::new()
        .append(true)
        .open(&file)
        .expect("the file");
    torn.write_all(&[0xA5; 3_000]).expect("there is room");
    let mut gateway = start(1, folder.path(), &["events.free_bytes_min=0"]);
    let mut reader = from_the_beginning(&gateway, "reader");
    assert_eq!(reader.welcome().epoch, epoch);
    assert_eq!(numbers(&mut reader, 20), (1..=20).collect::<Vec<_>>());
    let mut named = Client::dashboard(&gateway, "ada");
    named.subscribe(by_name(1));
    gateway.signal(rustix::process::Signal::KILL);
    gateway.wait();

    // Nobody could read this any more: set aside, and said.
    fs::write(&file, vec![0x5A; 100_000]).expect("the file");
    let gateway = start(1, folder.path(), &["events.free_bytes_min=0"]);
    let mut reader = Client::dashboard(&gateway, "reader");
    assert!(reader.welcome().epoch > epoch, "another history");
    reader.subscribe(Subscribe {
        topics: vec!["events".to_owned()],
        resume: Some(ResumePoint {
            epoch,
            sequence: 20,
        }),
        ..watch_all(1)
    });
    let gap = reader.error(ErrorCode::Gap).missing.expect("a range");
    assert_eq!((gap.epoch, gap.first, gap.last), (epoch, 21, u64::MAX));
    let metrics = Metrics::of(gateway.control());
    assert_eq!(metrics.value("longhaul_event_log_set_aside_total"), 1);
    assert!(gateway.log().contains("has been set aside"));
    let mut truck = Client::vehicle(&gateway, "truck-1");
    assert!(publish(&mut truck, 21));
    assert_eq!(numbers(&mut reader, 1), [21]);
    // The cursors were in the file as well. Whoever comes by a name that nobody knows may have had one.
    let mut named = Client::dashboard(&gateway, "ada");
    named.subscribe(by_name(1));
    let gap = error_of(&mut named, ErrorCode::Gap)
        .missing
        .expect("a range");
    assert_eq!((gap.epoch, gap.last), (epoch, u64::MAX));
    assert_eq!(numbers(&mut named, 1), [21]);
}

/// The file is damaged while the gateway runs: another history begins, and nobody takes its first events for known.
#[test]
fn a_log_that_is_lost_under_way_begins_anew() {
    let Some(disk) = SmallDisk::or_skip(24 << 20) else {
        return;
    };
    let settings = [
        "events.free_bytes_min=0",
        // The dashboard reads when all is published, however long that takes.
        "connection.send_timeout_ms=60000",
        "limits.bytes_per_second_max=0",
        "limits.messages_per_second_max=0",
    ];
    let gateway = start(2, disk.path(), &settings);
    let mut truck = Client::vehicle(&gateway, "truck-1");
    let mut named = Client::dashboard(&gateway, "ada");
    let epoch = named.welcome().epoch;
    named.subscribe(by_name(1));
    let ballast = disk.path().join("ballast");
    fs::write(&ballast, vec![0; 16 << 20]).expect("there is room");
    let mut taken = 0;
    while publish(&mut truck, taken + 1) {
        taken += 1;
    }
    numbers(&mut named, taken);
    // Writing has failed. Before it can go on, the file goes bad.
    let file = disk.path().join("events/events.redb");
    fs::write(&file, vec![0x5A; 100_000]).expect("the file");
    fs::remove_file(&ballast).expect("it is there");
    assert_eq!(named.closed().0, 1012, "to begin anew");
    eventually("it writes again", || publish(&mut truck, taken + 1));
    let mut named = Client::dashboard(&gateway, "ada");
    assert!(named.welcome().epoch > epoch);
    named.subscribe(by_name(1));
    let gap = error_of(&mut named, ErrorCode::Gap)
        .missing
        .expect("a range");
    assert_eq!((gap.epoch, gap.last), (epoch, u64::MAX));
    for id in taken + 2..taken + 5 {
        assert!(publish(&mut truck, id));
    }
    let all: Vec<_> = (taken + 1..taken + 5).collect();
    assert_eq!(numbers(&mut named, 4), all);
}

fn by_name(request: u64) -> Subscribe {
    Subscribe {
        topics: vec!["events".to_owned()],
        consumer: Some("desk".to_owned()),
        ..watch_all(request)
    }
}

/// The next message, which is this error. Names may come first.
#[track_caller]
fn error_of(client: &mut Client, code: ErrorCode) -> longhaul_codec::Error {
    loop {
        match client.next() {
            Message::Names(_) => {}
            Message::Error(error) if error.code == code => return error,
            other => panic!("no error {code:?}: {other:?}"),
        }
    }
}

#[test]
fn a_log_is_handed_from_process_to_process() {
    let folder = TempDir::new().expect("a folder for the test");
    let settings = [
        "events.free_bytes_min=0",
        "drain.grace_ms=0",
        "drain.window_ms=4000",
        "limits.messages_per_second_max=0",
    ];
    let mut old = start(2, folder.path(), &settings);
    let mut truck = Client::vehicle(&old, "truck-1");
    assert!(publish(&mut truck, 1));
    let new = start(2, folder.path(), &settings);
    assert!(new.log().contains("another process has the event log"));
    let mut early = Client::vehicle(&new, "bus-1");
    assert_eq!(early.welcome().epoch, 0, "not yet");
    early.send(&event(1).into());
    assert_eq!(early.error(ErrorCode::NotDurable).id, 1);
    assert_eq!(
        post(old.control(), "/drain", "{}").status,
        202,
        "it is to go"
    );
    // It is sent again until the log is here, well before the old process has gone.
    eventually("the new process takes events", || {
        early.send(&event(1).into());
        matches!(early.next(), Message::Ack(_))
    });
    let mut reader = from_the_beginning(&new, "reader");
    assert_ne!(reader.welcome().epoch, 0);
    assert_eq!(numbers(&mut reader, 2), [1, 1], "of both processes");
    assert!(old.wait().success());
    // A vehicle that did not see its Ack sends it again, to the new process: it is the same one.
    let mut truck = Client::vehicle(&new, "truck-1");
    assert!(publish(&mut truck, 1));
    assert!(publish(&mut truck, 2));
    assert_eq!(numbers(&mut reader, 1), [2]);
}
