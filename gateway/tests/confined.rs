//! Under the seccomp profile for containers (`tuning/seccomp.json`), as an ordinary user, everything works: whatever
//! system call the profile does not name ends the process.
//!
//! With `LONGHAUL_TEST_CONFINED=1` in the environment, the gateways of all other tests are confined as well.

use std::process::Command;

use longhaul_codec::{AckKind, Event, EventAck, Message, Subscribe};
use rustix::process::Signal;

use crate::common::client::{Client, fix, watch_all};
use crate::common::gateway::{Gateway, PROFILE, confine};
use crate::common::http::{Metrics, get};

mod common;

/// The value of a line of `/proc/PID/status`.
fn status(gateway: &Gateway, name: &str) -> String {
    let path = format!("/proc/{}/status", gateway.pid());
    let status = std::fs::read_to_string(path).expect("it runs");
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix(name))
        .expect("the kernel says so");
    line.trim().to_owned()
}

#[test]
fn everything_works() {
    let mut gateway = Gateway::start_confined(2, &["--set", "drain.window_ms=200"]);
    assert_eq!(status(&gateway, "Seccomp:"), "2");
    assert_eq!(status(&gateway, "NoNewPrivs:"), "1");
    assert_eq!(status(&gateway, "CapEff:"), "0000000000000000");

    let mut truck = Client::vehicle(&gateway, "truck-1");
    let mut dashboard = Client::dashboard(&gateway, "me");
    dashboard.subscribe(Subscribe {
        topics: vec!["positions".to_owned(), "events".to_owned()],
        qos: 1,
        ..watch_all(1)
    });
    truck.report(fix(1_000));
    loop {
        match dashboard.next() {
            Message::Positions(_) => break,
            Message::Names(_) => {}
            other => panic!("no position: {other:?}"),
        }
    }
    let event = Event {
        topic: "door".to_owned(),
        qos: 1,
        message_id: 7,
        time_ms: 1_000,
        payload: b"open".to_vec(),
        ..Event::default()
    };
    truck.ask(AckKind::Event, 7, event);
    let sequence = loop {
        match dashboard.next() {
            Message::Event(event) => break event.sequence,
            Message::Names(_) | Message::Positions(_) => {}
            other => panic!("no event: {other:?}"),
        }
    };
    let epoch = dashboard.welcome().epoch;
    dashboard.send(&EventAck { epoch, sequence }.into());

    assert_eq!(get(gateway.control(), "/readyz").status, 200);
    let metrics = Metrics::of(gateway.control());
    assert!(metrics.value("longhaul_event_acks_out_total") >= 1);
    gateway.signal(Signal::TERM);
    let ended = gateway.wait();
    assert!(ended.success(), "{ended}: {}", gateway.log());
    assert!(gateway.folder().join("events").is_dir() && gateway.folder().join("state").is_dir());
}

/// The test above would prove nothing if the profile let everything through.
#[test]
fn what_is_not_named_ends_the_process() {
    let run = |program: &[&str]| {
        Command::new(confine())
            .arg(PROFILE)
            .args(program)
            .status()
            .expect("the example is built beside the tests")
    };
    assert!(run(&["/bin/true"]).success());
    for forbidden in [
        &["/bin/chown", "nobody", "/dev/null"][..],
        &["/usr/bin/unshare", "--user", "/bin/true"],
        &["/usr/sbin/chroot", "/", "/bin/true"],
    ] {
        assert!(!run(forbidden).success(), "{forbidden:?}");
    }
}
