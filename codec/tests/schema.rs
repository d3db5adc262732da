//! The committed code is what the pinned compiler makes of the schema, and the compiler can read what we write.

use std::path::{Path, PathBuf};
use std::process::Command;

use longhaul_codec::{Encoder, Event, Fix, Message, Names, Subscribe, Viewport, wire};
use serde_json::{Value, json};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Runs `scripts/generate-schema`, which installs the compiler if it is not there yet, and gives its output.
fn generate_schema(option: &str) -> String {
    let script = root().join("scripts/generate-schema");
    let output = Command::new(&script)
        .arg(option)
        .output()
        .unwrap_or_else(|error| panic!("cannot run {}: {error}", script.display()));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "scripts/generate-schema {option} ended with {}:\n{text}{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    text
}

#[test]
fn generated_code_matches_the_schema() {
    generate_schema("--check");
}

/// What the reference implementation reads in a message of ours, as its own JSON.
fn read_by_flatc(flatc: &str, name: &str, payload: &[u8]) -> Value {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let binary = folder.path().join(name).with_extension("bin");
    std::fs::write(&binary, payload).expect("the folder is writable");
    let output = Command::new(flatc)
        .args([
            "--json",
            "--strict-json",
            "--raw-binary",
            "--natural-utf8",
            "-o",
        ])
        .arg(folder.path())
        .arg(root().join("codec/schema/longhaul.fbs"))
        .arg("--")
        .arg(&binary)
        .output()
        .expect("the compiler runs");
    assert!(
        output.status.success(),
        "flatc refuses {name}: {}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    let text = std::fs::read_to_string(binary.with_extension("json")).expect("flatc wrote it");
    serde_json::from_str(&text).expect("flatc writes JSON")
}

#[test]
fn the_reference_implementation_reads_our_messages() {
    let flatc = generate_schema("--compiler");
    let flatc = flatc.trim();
    let mut encoder = Encoder::new();
    let fix = Fix {
        time_ms: 1_700_000_000_123,
        vehicle: 9,
        lat_e7: -525_200_000,
        lon_e7: 134_050_000,
        speed_cm_s: 1250,
        heading_cdeg: 35_999,
    };
    let fix_json = json!({
        "time_ms": 1_700_000_000_123_u64, "vehicle": 9, "lat_e7": -525_200_000, "lon_e7": 134_050_000,
        "speed_cm_s": 1250, "heading_cdeg": 35_999
    });

    let position = read_by_flatc(flatc, "position", encoder.position(&fix).payload());
    assert_eq!(
        position,
        json!({"message_type": "Position", "message": {"fix": fix_json}})
    );

    for count in [0, 1, 3] {
        let encoded = encoder.positions(77, std::iter::repeat_n(fix, count));
        let positions = read_by_flatc(flatc, "positions", encoded.payload());
        let fixes = vec![&fix_json; count];
        assert_eq!(
            positions,
            json!({"message_type": "Positions", "message": {"fixes": fixes, "gateway_time_ms": 77}})
        );
    }

    let messages: [(Message, Value); 3] = [
        (
            Names {
                vehicles: vec![3, 4],
                ids: vec!["bus-3".into(), "tram-ü".into()],
            }
            .into(),
            json!({"vehicles": [3, 4], "ids": ["bus-3", "tram-ü"]}),
        ),
        (
            Event {
                topic: "door".into(),
                qos: 1,
                message_id: u64::MAX,
                payload: vec![0, 255],
                ..Default::default()
            }
            .into(),
            json!({"topic": "door", "qos": 1, "message_id": u64::MAX, "payload": [0, 255]}),
        ),
        (
            Subscribe {
                request: 5,
                viewport: Some(Viewport {
                    south_e7: 1,
                    west_e7: 2,
                    north_e7: 3,
                    east_e7: 4,
                }),
                vehicles: vec!["bus-3".into()],
                ..Default::default()
            }
            .into(),
            json!({
                "request": 5, "vehicles": ["bus-3"],
                "viewport": {"south_e7": 1, "west_e7": 2, "north_e7": 3, "east_e7": 4}
            }),
        ),
    ];
    for (message, expected) in messages {
        let name = message.name();
        let value = read_by_flatc(flatc, name, encoder.message(&message).payload());
        assert_eq!(
            value,
            json!({"message_type": name, "message": expected}),
            "{name}"
        );
    }
}

/// The script checks the crate's version against the compiler's; this checks the structs' size against the promise.
#[test]
fn a_fix_has_24_bytes() {
    assert_eq!(size_of::<wire::Fix>(), Fix::WIRE_BYTES);
}
