use super::*;

fn moment(text: &str, cpu: (f64, f64), resident: (f64, f64)) -> Moment {
    Moment {
        metrics: Metrics::parse(text),
        cpu_seconds: Some(cpu),
        resident_bytes: Some(resident),
    }
}

#[test]
fn counts_must_be_equal() {
    let right = Pair::new("updates in", POSITIONS_IN, 1_000.0, 1_000.0, 0.0);
    assert_eq!((right.agrees, right.failure()), (Some(true), None));
    let wrong = Pair::new("updates in", POSITIONS_IN, 1_000.0, 999.0, 0.0);
    let says = wrong.failure().unwrap();
    assert!(
        says.contains("1000") && says.contains("999") && says.contains(POSITIONS_IN),
        "{says}"
    );
    assert!(line(std::slice::from_ref(&right)).contains("agree: updates in"));
    assert_eq!(line(&[right, wrong]), "DISAGREE in 1 of 2");
    // Nothing was sent, and the gateway counts something.
    let nothing = |gateway| Pair::new("updates in", POSITIONS_IN, 0.0, gateway, 0.0);
    assert_eq!(nothing(0.0).agrees, Some(true));
    assert_eq!(nothing(1.0).agrees, Some(false));
}

#[test]
fn what_is_as_small_as_its_tolerance_is_not_compared() {
    let pair = |outside, gateway| Pair::new("CPU seconds", CPU, outside, gateway, 0.02);
    for (outside, gateway, agrees) in [
        (0.05, 0.04, Some(true)),
        (0.05, 0.02, Some(false)),
        (0.04, 0.03, None),
        (0.0, 0.0, None),
        (0.04, 0.07, Some(false)),
    ] {
        let found = pair(outside, gateway);
        assert_eq!(found.agrees, agrees, "{found:?}");
        assert_eq!(found.failure().is_some(), agrees == Some(false));
    }
    let (enough, little) = (pair(0.05, 0.05), pair(0.01, 0.01));
    assert_eq!(
        line(&[enough.clone(), little.clone()]),
        "agree: CPU seconds; too little to compare: CPU seconds"
    );
    assert_eq!(
        line(std::slice::from_ref(&little)),
        "too little to compare: CPU seconds"
    );
    assert_eq!(
        line(&[enough, little, pair(0.04, 0.07)]),
        "DISAGREE in 1 of 3"
    );
}

#[test]
fn nothing_that_is_not_a_number_agrees() {
    for (outside, gateway) in [(f64::NAN, 1.0), (1.0, f64::NAN), (1.0, f64::INFINITY)] {
        let pair = Pair::new("x", CPU, outside, gateway, 1e9);
        assert_eq!(pair.agrees, Some(false), "{pair:?}");
    }
}

#[test]
fn cpu_time_lies_between_the_looks_around_it() {
    let before = moment("process_cpu_seconds_total 1.00\n", (0.99, 1.01), (0.0, 0.0));
    let end = |says: &str| {
        let text = format!("process_cpu_seconds_total {says}\n");
        moment(&text, (3.00, 3.10), (0.0, 0.0))
    };
    // From 1.99 to 2.11 seconds, and a tick at either end.
    for (says, agrees) in [
        ("2.96", false),
        ("2.98", true),
        ("3.05", true),
        ("3.12", true),
        ("3.15", false),
    ] {
        let pair = cpu(&before, &end(says)).unwrap();
        assert!((pair.outside - 2.05).abs() < 1e-9);
        assert_eq!(pair.agrees, Some(agrees), "{pair:?}");
    }
    let unknown = Moment {
        cpu_seconds: None,
        ..end("3")
    };
    assert!(cpu(&before, &unknown).is_none());
}

#[test]
fn resident_memory_in_pages_is_not_taken_for_bytes() {
    let bytes = (64u64 << 30) as f64;
    let says = |value: f64| {
        let text = format!("process_resident_memory_bytes {value}\n");
        resident(&moment(&text, (0.0, 0.0), (bytes, bytes)))
            .unwrap()
            .agrees
            .unwrap()
    };
    assert!(says(bytes) && says(bytes * 1.009) && says(bytes * 0.991));
    assert!(!says(bytes / 4_096.0) && !says(0.0) && !says(bytes * 2.0));
}

#[test]
fn more_cores_keep_more_pages_to_themselves() {
    let page = rustix::param::page_size() as f64;
    assert_eq!(not_added_up(2), 3.0 * 2.0 * 32.0 * page);
    assert_eq!(not_added_up(64), 3.0 * 64.0 * 128.0 * page);
}

#[test]
fn what_other_dashboards_get_is_not_counted() {
    let witness = |text: &str| Witness {
        control: ([127, 0, 0, 1], 1).into(),
        pid: None,
        before: Metrics::parse(text),
        began: None,
        pairs: Vec::new(),
    };
    let traffic = Traffic {
        sent: 7,
        received: Some(21),
    };
    let alone = witness("longhaul_connections_open{role=\"vehicle\"} 9\n");
    let counts = alone.counts(traffic);
    assert_eq!(
        counts,
        [
            ("updates in", POSITIONS_IN, 7),
            ("updates out", POSITIONS_OUT, 21)
        ]
    );
    let beside = witness("longhaul_connections_open{role=\"dashboard\"} 9\n");
    assert_eq!(beside.counts(traffic).len(), 1);
    let unknown = Traffic {
        received: None,
        ..traffic
    };
    assert_eq!(alone.counts(unknown).len(), 1);
}
