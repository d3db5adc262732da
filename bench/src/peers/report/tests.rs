use super::*;
use anyhow::anyhow;

fn measured(lost: u64) -> Measured {
    Measured {
        inbound: 1_000,
        expected: 2_000,
        delivered: 2_000 - lost,
        lost,
        conflated: 0,
        wrong: 0,
        duplicates: 0,
        out_of_order: 0,
        corrupted: 0,
        disconnected: 0,
        unconfirmed: 0,
        errors: 0,
        reasons: Vec::new(),
        cpu_us_per_inbound: Some(12.0),
        cpu_us_per_delivery: Some(6.0),
        cpu_percent: Some(50.0),
        latency_us: Percentiles {
            p50: 420,
            p99: 12_345,
            p999: 1_234_567,
            max: 2_000_000,
        },
        send_late_us: Percentiles::default(),
        generator_cpu_percent: 20.0,
        generator_limited: false,
        seconds: 1.0,
        others_percent: Some(3.0),
        passed: lost == 0,
    }
}

fn table(rows: Vec<Row>) -> Table {
    Table {
        command: "peers",
        vehicles: 10_000,
        rate: 20_000,
        dashboards: 200,
        watch: "50".to_owned(),
        all_dashboards: 10,
        seconds: 10.0,
        warm_up: 2.0,
        message_bytes: 64,
        seed: 1,
        rows,
    }
}

fn row(peer: Peer, some: Option<Measured>) -> Row {
    Row {
        some,
        ..Row::new(peer, "1.2".to_owned())
    }
}

#[test]
fn every_row_has_as_many_cells_as_there_are_heads() {
    let mut second = row(Peer::Nats, None);
    second.idle = Some(Idle {
        connections: 10,
        rss_bytes_per_connection: 41_328.6,
        pss_bytes_per_connection: -3.0,
    });
    let rows = vec![
        row(Peer::Longhaul, Some(measured(3))),
        second,
        Row::missing(Peer::Mosquitto, "it is not there".to_owned()),
    ];
    let text = table(rows).markdown();
    let lines: Vec<&str> = text.lines().filter(|line| line.starts_with('|')).collect();
    assert_eq!(lines.len(), 5, "{text}");
    let cells = |line: &str| line.matches('|').count();
    assert!(
        lines.iter().all(|line| cells(line) == cells(lines[0])),
        "{text}"
    );
    assert!(
        lines[2]
            .starts_with("| longhaul (1.2) | 12.00 µs | 6.00 µs | 0.42 / 12.3 / 1,234 | 3 | – |")
    );
    assert!(lines[3].ends_with("| 41,329 / 0 |"), "{text}");
    assert!(text.contains("64 bytes") && text.contains("- mosquitto: it is not there\n"));
}

#[test]
fn what_is_not_right_is_said() {
    let mut load = measured(0);
    load.generator_limited = true;
    load.others_percent = Some(40.0);
    load.duplicates = 2;
    load.reasons.push("cut off as too slow".to_owned());
    let mut peer = row(Peer::Nats, Some(load));
    peer.failed("idle connections", &anyhow!("refused:\n  log"));
    let text = table(vec![peer]).markdown();
    for said in [
        "0.42 / 12.3 / 1,234 * |",
        "| 12.00 µs † | 6.00 µs † |",
        "other programs used more than 15 %",
        "| 0, 2 faults |",
        "- nats: cut off as too slow\n",
        "- nats: not measured: idle connections: refused: log\n",
        "the generator was at its limit",
    ] {
        assert!(text.contains(said), "{said}: {text}");
    }
}

/// What a peer loses is a result; what the gateway loses, or what could not be measured, is a failure.
#[test]
fn only_the_gateway_must_keep_its_promises() {
    let whole = |rows| table(rows).is_whole();
    assert!(whole(vec![
        row(Peer::Longhaul, Some(measured(0))),
        row(Peer::Nats, Some(measured(5))),
        Row::missing(Peer::Mosquitto, "it is not there".to_owned()),
    ]));
    assert!(!whole(vec![row(Peer::Longhaul, Some(measured(5)))]));
    let mut failed = row(Peer::Nats, None);
    failed.failed("idle connections", &anyhow!("refused"));
    assert!(!whole(vec![failed]));
}
