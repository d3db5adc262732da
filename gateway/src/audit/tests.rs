use std::{fs, net::IpAddr, path::Path, time::SystemTime};

use serde_json::Value;

use super::{file::AuditFile, writer::BATCH_BYTES, *};
use crate::config::Config;

const NEVER: Rules = Rules {
    bytes_max: u64::MAX,
    age_max: None,
    keep: 100,
};

fn act(n: u64) -> Act {
    Act {
        who: Who {
            role: Some(Role::Vehicle),
            fleet: Some("north".into()),
            subject: Some(format!("truck-{n}").into()),
            token_id: Some("t-1".into()),
        },
        ..Act::new(Kind::Connect, 1_767_225_600_123 + n)
    }
}

fn line(act: &Act) -> Value {
    let mut out = Vec::new();
    act.write("edge-1", &mut out);
    assert_eq!(out.iter().filter(|&&byte| byte == b'\n').count(), 1);
    serde_json::from_slice(&out).expect("it is JSON")
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(folder)
        .expect("it is there")
        .map(|entry| entry.expect("an entry").file_name().into_string().unwrap())
        .collect();
    names.sort_unstable();
    names
}

#[test]
fn a_line_has_what_is_known_and_nothing_else() {
    let full = Act {
        peer: Some("::ffff:10.0.0.7".parse::<IpAddr>().unwrap()),
        connection: Some(crate::shard::connection::holder(
            3,
            crate::shard::ring::Key {
                slot: 17,
                generation: 2,
            },
        )),
        status: 403,
        what: Some("x\ny".into()),
        why: Some("because".into()),
        ..act(0)
    };
    let expected = serde_json::json!({
        "time": "2026-01-01T00:00:00.123Z", "node": "edge-1", "act": "connect", "role": "vehicle", "fleet": "north",
        "subject": "truck-0", "token_id": "t-1", "peer": "10.0.0.7", "connection": "3-17-2", "status": 403,
        "what": "x\ny", "why": "because",
    });
    assert_eq!(line(&full), expected);
    let bare = serde_json::json!({"time": "1970-01-01T00:00:00.000Z", "node": "edge-1", "act": "not_allowed"});
    assert_eq!(line(&Act::new(Kind::NotAllowed, 0)), bare);
}

#[test]
fn strangers_are_bounded_and_others_are_not() {
    let refusals = Budget::new(3);
    let admitted = |second| (0..10).filter(|_| refusals.admit(second)).count();
    assert_eq!(admitted(100), 3);
    assert_eq!(admitted(101), 3);
    assert_eq!((0..10).filter(|_| Budget::new(0).admit(1)).count(), 10);
}

fn taking(queue_max: usize, refusals_per_second_max: u32) -> Audit {
    let mut limits = Config::defaults().expect("defaults are good").limits;
    limits.audit_queue_max = queue_max;
    limits.audit_refusals_per_second_max = refusals_per_second_max;
    let (orders, _ordered) = channel();
    Audit {
        on: Some(On::new(&limits, orders)),
    }
}

#[test]
fn nobody_known_can_wash_it_away_and_what_was_done_is_always_there() {
    let audit = taking(1_000, 2);
    let on = audit.on.as_ref().unwrap();
    let same = |kind, status, what: &'static str| Act {
        kind,
        status,
        what: Some(what.into()),
        unix_ms: 7_000,
        ..act(1)
    };
    for _ in 0..20 {
        audit.record(same(Kind::NotAllowed, 0, ""));
        audit.record(same(Kind::Refuse, 401, ""));
        audit.record(same(Kind::Admin, 409, "POST /admin/reload"));
        audit.record(same(Kind::Admin, 200, "GET /admin/revocations"));
    }
    let max = u64::from(AUDIT_SAME_PER_SECOND_MAX);
    assert_eq!(on.queue.len() as u64, max);
    assert_eq!(on.lost.repeats.load(Relaxed), 80 - max);
    for _ in 0..20 {
        audit.record(same(Kind::Admin, 200, "POST /admin/reload"));
        audit.record(same(Kind::Admin, 500, "POST /admin/reload"));
        audit.record(same(Kind::Command, 0, ""));
    }
    assert_eq!(on.queue.len() as u64, max + 60);
    let later = Act {
        unix_ms: 8_000,
        ..same(Kind::NotAllowed, 0, "")
    };
    audit.record(later);
    assert_eq!(on.queue.len() as u64, max + 61);
}

#[test]
fn strangers_among_clients_do_not_hide_those_at_the_control_plane() {
    let audit = taking(100, 2);
    let on = audit.on.as_ref().unwrap();
    for _ in 0..50 {
        audit.record(Act::new(Kind::Refuse, 7_000));
    }
    assert_eq!(on.queue.len(), 2);
    for _ in 0..50 {
        audit.record(Act::new(Kind::Admin, 7_000));
    }
    assert_eq!(on.queue.len(), 4);
    assert_eq!(on.lost.refusals.load(Relaxed), 96);
}

#[test]
fn a_full_queue_counts_what_it_does_not_take() {
    let audit = taking(16, 2);
    for n in 0..20 {
        audit.record(act(n));
    }
    for _ in 0..5 {
        audit.record(Act::new(Kind::Refuse, 7_000));
    }
    let on = audit.on.as_ref().unwrap();
    assert_eq!(on.queue.len(), 16);
    // Two strangers were let through to a queue that is full.
    assert_eq!(on.lost.dropped.load(Relaxed), 4 + 2);
    assert_eq!(on.lost.refusals.load(Relaxed), 3);
}

#[test]
fn long_texts_are_cut_at_a_letter() {
    let mut long = Act {
        what: Some("ü".repeat(400).into()),
        why: Some(format!("x{}", "ü".repeat(400)).into()),
        ..act(0)
    };
    shorten(&mut long);
    assert_eq!(long.what.unwrap().len(), AUDIT_TEXT_BYTES_MAX);
    assert_eq!(long.why.unwrap().len(), AUDIT_TEXT_BYTES_MAX - 1);
}

#[test]
fn a_file_is_set_aside_by_size_and_by_age_and_old_ones_go() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("audit.jsonl");
    // Of somebody else, and never touched.
    for other in ["audit.jsonl.bak", "audit.jsonl.20261122", "other"] {
        fs::write(folder.path().join(other), "x").expect("room");
    }
    let rules = Rules {
        bytes_max: 10,
        age_max: Some(Duration::from_secs(3_600)),
        keep: 2,
    };
    let mut file = AuditFile::open(&path, rules).expect("it opens");
    let now = SystemTime::now();
    for n in 0..4 {
        assert_eq!(file.append(b"123456789\n").bytes, 10);
        assert!(file.rotate(now).expect("it rotates"), "{n}: by size");
        assert!(!file.rotate(now).expect("it is empty"), "{n}");
    }
    assert_eq!(file.append(b"1\n").bytes, 2);
    assert!(!file.rotate(now).expect("no need"));
    assert!(
        file.rotate(now + Duration::from_secs(7_200))
            .expect("it rotates"),
        "by age"
    );
    let names = names(folder.path());
    let aside: Vec<_> = names
        .iter()
        .filter(|name| name.len() > 20 && name.starts_with("audit.jsonl."))
        .collect();
    assert_eq!(aside.len(), 2, "{names:?}");
    assert_eq!(names.len(), 2 + 1 + 3, "{names:?}");
    assert_eq!(
        fs::read(folder.path().join(aside[1])).unwrap(),
        b"1\n",
        "the newest"
    );
}

#[test]
fn two_processes_share_a_file_and_follow_its_name() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("audit.jsonl");
    let rules = Rules {
        bytes_max: 4,
        ..NEVER
    };
    let mut one = AuditFile::open(&path, rules).expect("it opens");
    let mut two = AuditFile::open(&path, NEVER).expect("it opens");
    one.append(b"a\n");
    two.append(b"b\n");
    one.append(b"c\n");
    assert_eq!(fs::read(&path).unwrap(), b"a\nb\nc\n");
    assert!(one.rotate(SystemTime::now()).expect("it rotates"));
    two.follow().expect("there is another file");
    two.append(b"d\n");
    assert_eq!(fs::read(&path).unwrap(), b"d\n");
    fs::rename(&path, folder.path().join("taken")).expect("it is there");
    two.follow().expect("it makes one");
    two.append(b"e\n");
    assert_eq!(fs::read(&path).unwrap(), b"e\n");
}

#[test]
fn the_file_is_its_owners_alone() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("audit.jsonl");
    AuditFile::open(&path, NEVER).expect("it opens");
    assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    assert!(AuditFile::open(&folder.path().join("no/such/audit.jsonl"), NEVER).is_err());
}

#[test]
fn a_full_disk_is_said_and_counted() {
    let mut file = AuditFile::open(Path::new("/dev/full"), NEVER).expect("it opens");
    let written = file.append(b"a\nb\n");
    assert_eq!(written.bytes, 0);
    assert_eq!(
        written.failed.map(|error| error.kind()),
        Some(std::io::ErrorKind::StorageFull)
    );
    assert!(
        !file
            .rotate(SystemTime::now())
            .expect("nothing to set aside")
    );
}

#[test]
fn everything_arrives_and_what_was_lost_is_told() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut config = Config::defaults().expect("defaults are good");
    config.audit.file = Some(folder.path().join("audit.jsonl"));
    config.limits.audit_queue_max = 16;
    let metrics = Arc::new(AuditMetrics::default());
    let (audit, handle) = Audit::start(
        &config.audit,
        &config.limits,
        "edge-1",
        Arc::clone(&metrics),
    )
    .expect("it starts");
    const ACTS: u64 = 5_000;
    for n in 0..ACTS {
        audit.record(act(n));
    }
    audit.reopen().expect("it opens");
    handle.expect("it is on").stop();
    let text = fs::read_to_string(config.audit.file.unwrap()).expect("it is text");
    let lines: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).expect("each line is JSON"))
        .collect();
    let connects = lines.iter().filter(|line| line["act"] == "connect").count() as u64;
    let dropped: u64 = lines
        .iter()
        .filter(|line| line["act"] == "dropped")
        .map(|line| line["count"].as_u64().expect("a number"))
        .sum();
    assert_eq!(connects + dropped, ACTS);
    assert!(dropped > 0, "the queue has room for 16");
    assert_eq!(metrics.dropped.get(), dropped);
    assert_eq!(metrics.acts.get(), connects);
    const { assert!(BATCH_BYTES > 4_096) };
}

#[test]
fn where_there_is_no_file_nothing_is_kept() {
    let audit = Audit::off();
    assert!(!audit.is_on());
    audit.record(act(1));
    assert!(
        audit
            .reopen()
            .expect("nothing to do")
            .contains("audit.file")
    );
}
