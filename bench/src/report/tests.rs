use super::*;

fn setting() -> Setting {
    Setting {
        command: "fanout",
        parameters: Value::Null,
        watchers: vec![2, 0, 3],
        shards: Some(1),
        start_ns: 0,
        gateway_cpu_us: Some(1_000),
        gateway_rss_bytes: None,
        gateway_outside: None,
        names_missing: 0,
        interrupted: false,
        seconds: Seconds::new().unwrap(),
    }
}

/// Two processes: vehicles 0 and 2 in the first, vehicle 1 in the second. 2 × 10 + 3 × 10 deliveries are expected.
fn done(counts: Counts) -> [Done; 2] {
    let times = Done {
        sent_ns: 1_000_000_000,
        received_ns: 2_000_000_000,
        ..Done::default()
    };
    let first = Done {
        counts,
        sent: vec![10, 10],
        latency: vec![(500, 50)],
        latency_max_ns: 900_000,
        ..times.clone()
    };
    let second = Done {
        sent: vec![5],
        ..times
    };
    [first, second]
}

#[test]
fn processes_are_merged() {
    let counts = Counts {
        delivered: 50,
        frames: 10,
        bytes: 1_000,
        ..Counts::default()
    };
    let report = Report::new(setting(), &done(counts)).unwrap();
    assert_eq!(
        (
            report.inbound,
            report.expected,
            report.delivered,
            report.lost
        ),
        (25, 50, 50, 0)
    );
    assert_eq!(
        report.latency_us,
        Percentiles {
            p50: 500,
            p99: 500,
            p999: 500,
            max: 900
        }
    );
    assert_eq!(report.gateway_cpu_us_per_inbound, Some(40.0));
    assert_eq!(report.gateway_cpu_us_per_delivery, Some(20.0));
    assert!(report.passed && !report.generator_limited);
    let json = serde_json::to_value(&report).unwrap();
    for key in [
        "inbound",
        "expected",
        "delivered",
        "lost",
        "wrong",
        "duplicates",
        "frames",
        "bytes_out",
    ] {
        assert!(json[key].is_u64(), "{key}");
    }
    assert_eq!(json["latency_us"]["p999"], 500);
}

#[test]
fn only_conflation_may_lose() {
    let lost = Counts {
        delivered: 45,
        conflated: 5,
        ..Counts::default()
    };
    assert!(Report::new(setting(), &done(lost)).unwrap().passed);
    let lost = Counts {
        delivered: 45,
        conflated: 4,
        ..Counts::default()
    };
    assert!(!Report::new(setting(), &done(lost)).unwrap().passed);
}

#[test]
fn every_fault_fails_the_run() {
    let good = Counts {
        delivered: 50,
        ..Counts::default()
    };
    let faults = [
        Counts { wrong: 1, ..good },
        Counts {
            duplicates: 1,
            ..good
        },
        Counts {
            out_of_order: 1,
            ..good
        },
        Counts {
            corrupted: 1,
            ..good
        },
        Counts { unnamed: 1, ..good },
    ];
    for counts in faults {
        assert!(
            !Report::new(setting(), &done(counts)).unwrap().passed,
            "{counts:?}"
        );
    }
    let mut parts = done(good);
    parts[1].disconnected = 1;
    assert!(!Report::new(setting(), &parts).unwrap().passed);
    let mut parts = done(good);
    parts[0].unconfirmed = 1;
    assert!(!Report::new(setting(), &parts).unwrap().passed);
}

#[test]
fn a_generator_that_cannot_keep_up_says_so() {
    let mut parts = done(Counts {
        delivered: 50,
        ..Counts::default()
    });
    parts[1].cpu_us = 970_000;
    assert!(Report::new(setting(), &parts).unwrap().generator_limited);
    let mut parts = done(Counts {
        delivered: 50,
        ..Counts::default()
    });
    parts[1].late = vec![(150_000, 10)];
    assert!(Report::new(setting(), &parts).unwrap().generator_limited);
}

#[test]
fn numbers_are_grouped() {
    for (count, text) in [
        (0, "0"),
        (999, "999"),
        (1_000, "1,000"),
        (1_234_567, "1,234,567"),
    ] {
        assert_eq!(grouped(count), text);
    }
}

#[test]
fn a_gateway_that_counts_otherwise_fails_the_run() {
    let good = Counts {
        delivered: 50,
        ..Counts::default()
    };
    let pair = |gateway: f64| Pair {
        what: "updates in",
        metric: "longhaul_positions_in_total",
        outside: 25.0,
        gateway,
        tolerance: 0.0,
        agrees: Some(gateway == 25.0),
    };
    let mut report = Report::new(setting(), &done(good)).unwrap();
    report.agree(Ok(vec![pair(25.0)]));
    assert!(report.passed && report.failures.is_empty());
    report.agree(Ok(vec![pair(25.0), pair(24.0)]));
    assert!(!report.passed);
    assert_eq!(report.failures.len(), 1);
    let json = serde_json::to_value(&report).unwrap();
    assert_eq!(json["agreement"][1]["agrees"], false);
    let mut report = Report::new(setting(), &done(good)).unwrap();
    report.agree(Err(anyhow::anyhow!("nobody answers")));
    assert!(!report.passed && report.failures == ["nobody answers"]);
}
