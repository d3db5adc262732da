use super::*;

fn defaults() -> Config {
    Config::defaults().expect("defaults are good")
}

fn load(connections: u64, dashboards: u64) -> Load {
    Load {
        connections,
        dashboards,
        shards: 2,
    }
}

fn total(config: &Config, load: Load, which: impl Fn(&Term) -> Weight) -> u64 {
    sum(&draw_up(config, load), |_| true, which)
}

fn gateway(config: &Config, load: Load) -> u64 {
    let terms = draw_up(config, load);
    sum(&terms, |part| part != Part::Kernel, |term| term.usual)
}

#[test]
fn terms_add_up_and_each_has_a_reason() {
    let (config, load) = (
        defaults(),
        load(CONNECTIONS, CONNECTIONS / CONNECTIONS_PER_DASHBOARD),
    );
    let terms = draw_up(&config, load);
    let by_hand: u64 = terms
        .iter()
        .map(|term| term.usual.count * term.usual.bytes_each)
        .sum();
    assert_eq!(by_hand, total(&config, load, |term| term.usual));
    let parts = [
        Part::Connections,
        Part::Vehicles,
        Part::Dashboards,
        Part::UnderWay,
        Part::Kernel,
    ];
    let of_parts: u64 = parts
        .into_iter()
        .map(|of| sum(&terms, |part| part == of, |term| term.usual))
        .sum();
    assert_eq!(of_parts, by_hand);
    let names: std::collections::HashSet<_> = terms.iter().map(|term| term.name).collect();
    assert_eq!(names.len(), terms.len(), "a name is a term's own");
    for term in &terms {
        assert!(term.why.len() > 10, "{}", term.name);
        // A receive is armed in place of a poll.
        let in_place = term.name == "armed polls";
        assert!(
            term.usual.bytes() <= term.at_most.bytes() || in_place,
            "{term:?}"
        );
    }
}

#[test]
fn more_of_anything_is_more_memory() {
    let config = defaults();
    let (mut usual, mut at_most) = (0, 0);
    for connections in [1_000, 10_000, 100_000, 1_000_000, 2_000_000] {
        let load = load(connections, connections / 50);
        let now = (
            total(&config, load, |term| term.usual),
            total(&config, load, |term| term.at_most),
        );
        assert!(now.0 > usual && now.1 > at_most, "{connections}");
        (usual, at_most) = now;
    }
    let dashboards = |dashboards| gateway(&config, load(100_000, dashboards));
    assert!(dashboards(1_000) < dashboards(50_000));
    let more_shards = Load {
        shards: 8,
        ..load(100_000, 2_000)
    };
    assert!(gateway(&config, load(100_000, 2_000)) < gateway(&config, more_shards));
}

#[test]
fn a_vehicle_costs_less_than_300_bytes() {
    let config = defaults();
    // Between two numbers, so that what is there anyway falls out; far enough apart for vectors that double.
    let (few, many) = (1 << 16, 1 << 20);
    let between = gateway(&config, load(many, 0)) - gateway(&config, load(few, 0));
    let each = between as f64 / (many - few) as f64;
    assert!((100.0..300.0).contains(&each), "{each}");
}

#[test]
fn limits_show_in_what_they_bound() {
    let at_most = |config: &Config, name: &str| {
        let terms = draw_up(config, load(100_000, 2_000));
        let term = terms.iter().find(|term| term.name == name);
        term.map_or(0, |term| term.at_most.bytes())
    };
    let before = defaults();
    let mut after = defaults();
    after.limits.message_bytes_max *= 2;
    after.limits.control_queue_bytes_max *= 2;
    after.limits.every_queue_bytes_max *= 2;
    after.limits.vehicles_max *= 2;
    after.limits.commands_max *= 2;
    after.limits.commands_bytes_max *= 2;
    after.limits.handshakes_per_shard_max /= 100;
    after.limits.connections_per_address_max = 1;
    for more in [
        "unfinished messages",
        "answers to dashboards",
        "queues of every position",
        "last positions",
        "pending sets",
        "addresses by slot",
        "commands",
        "what commands say",
    ] {
        assert!(at_most(&after, more) > at_most(&before, more), "{more}");
    }
    assert!(at_most(&after, "handshakes") < at_most(&before, "handshakes"));
    assert_eq!(
        at_most(&before, "addresses by slot"),
        0,
        "they are not counted"
    );
    assert_eq!(objections(&before, load(2_000_000, 0)), []);
    assert_eq!(objections(&before, load(2_000_001, 0)).len(), 2);
    after.limits.connections_max = 10;
    assert_eq!(
        objections(&after, load(11, 0)),
        [("limits.connections_max", 10)]
    );
}

/// Nothing overflows, whatever is asked for: in a debug build, an overflow would be a panic.
#[test]
fn the_largest_settings_and_loads_have_a_budget() {
    let mut config = defaults();
    let limits = &mut config.limits;
    limits.connections_max = crate::limits::CONNECTIONS_HARD_MAX;
    limits.connections_per_shard_max = crate::limits::CONNECTIONS_PER_SHARD_HARD_MAX as usize;
    limits.connections_per_address_max = u32::MAX;
    limits.handshakes_per_shard_max = crate::limits::CONNECTIONS_PER_SHARD_HARD_MAX;
    limits.header_bytes_max = 65_536;
    limits.message_bytes_max = crate::limits::MESSAGE_BYTES_HARD_MAX as usize;
    limits.vehicles_max = crate::limits::VEHICLES_HARD_MAX as u32;
    limits.subscription_vehicles_max = limits.vehicles_max;
    limits.vehicle_id_bytes_max = 255;
    limits.fleet_id_bytes_max = 255;
    limits.fleets_max = 65_535;
    limits.inbox_batches_max = 65_536;
    limits.control_queue_max = 65_536;
    limits.commands_max = crate::limits::COMMANDS_HARD_MAX as usize;
    limits.commands_bytes_max = crate::limits::COMMANDS_BYTES_HARD_MAX;
    limits.control_queue_bytes_max = 1 << 30;
    limits.every_queue_bytes_max = 1 << 30;
    config.receive.buffers = 32_768;
    config.receive.buffer_bytes = 65_536;
    config.state.directory = Some("state".into());
    for connections in [0, 1, crate::limits::CONNECTIONS_HARD_MAX, u64::MAX] {
        for dashboards in [0, connections / 2, connections] {
            for shards in [0, 1, 64] {
                let load = Load {
                    connections,
                    dashboards,
                    shards,
                };
                assert!(print(&config, load).contains("Memory for"), "{load:?}");
            }
        }
    }
}
