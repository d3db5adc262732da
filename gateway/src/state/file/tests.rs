use std::io::Cursor;

use proptest::{collection::vec, option, prelude::*};

use super::*;

/// A vehicle as a file has it, owned.
type Vehicle = (String, Option<(Fix, u64)>, Option<Presence>);

fn write(header: &Header, fleets: &[(String, Vec<Vehicle>)]) -> Vec<u8> {
    let mut writer = Writer::begin(Vec::new(), header).unwrap();
    for (name, vehicles) in fleets {
        writer.fleet(name).unwrap();
        for (id, position, presence) in vehicles {
            let record = Record {
                vehicle: id,
                position: *position,
                presence: *presence,
            };
            writer.vehicle(&record).unwrap();
        }
    }
    writer.finish().unwrap().0
}

type Content = (Header, Vec<(String, Vec<Vehicle>)>);

fn read(bytes: &[u8]) -> Result<Content, FileError> {
    let checked = Checked::check(Cursor::new(bytes))?;
    let (header, vehicles) = (checked.header, checked.vehicles);
    let mut fleets: Vec<(String, Vec<Vehicle>)> = Vec::new();
    checked.read(|entry| match entry {
        Entry::Fleet(name) => fleets.push((name.to_owned(), Vec::new())),
        Entry::Vehicle(record) => fleets.last_mut().expect("a fleet comes first").1.push((
            record.vehicle.to_owned(),
            record.position,
            record.presence,
        )),
    })?;
    let count: usize = fleets.iter().map(|(_, vehicles)| vehicles.len()).sum();
    assert_eq!(vehicles, count as u64);
    Ok((header, fleets))
}

fn header() -> Header {
    Header {
        kind: Kind::Handover,
        instance: 0x0123_4567_89ab_cdef,
        written_ms: 1_800_000_000_000,
        expect_until_ms: 1_800_000_060_000,
    }
}

fn small() -> Vec<u8> {
    let fix = Fix {
        time_ms: 1_799_999_999_000,
        lat_e7: 525_200_000,
        lon_e7: 134_050_000,
        ..Fix::default()
    };
    let online = Presence {
        state: PresenceState::Online,
        since_ms: 1_799_999_000_000,
    };
    let trucks = vec![
        (
            "truck-1".to_owned(),
            Some((fix, 1_799_999_999_100)),
            Some(online),
        ),
        ("truck-2".to_owned(), None, None),
    ];
    write(&header(), &[("berlin".to_owned(), trucks)])
}

fn any_vehicle() -> impl Strategy<Value = Vehicle> {
    let fix = any::<(u64, i32, i32, u16, u16)>().prop_map(
        |(time_ms, lat_e7, lon_e7, speed_cm_s, heading_cdeg)| Fix {
            time_ms,
            vehicle: 0,
            lat_e7,
            lon_e7,
            speed_cm_s,
            heading_cdeg,
        },
    );
    let state = prop_oneof![
        Just(PresenceState::Offline),
        Just(PresenceState::Online),
        Just(PresenceState::Stale)
    ];
    let presence = (state, any::<u64>()).prop_map(|(state, since_ms)| Presence { state, since_ms });
    (
        "\\PC{1,60}|[a-z]{255}",
        option::of((fix, any::<u64>())),
        option::of(presence),
    )
        .prop_filter("an id's bytes are bounded", |(id, ..)| id.len() <= 255)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_is_written_is_read(
        snapshot: bool,
        numbers: (u64, u64, u64),
        fleets in vec(("[a-z]{1,64}|é{127}", vec(any_vehicle(), 0..20)), 0..5),
    ) {
        let header = Header {
            kind: if snapshot { Kind::Snapshot } else { Kind::Handover },
            instance: numbers.0,
            written_ms: numbers.1,
            expect_until_ms: numbers.2,
        };
        let bytes = write(&header, &fleets);
        prop_assert_eq!(read_header(bytes.as_slice()).unwrap(), header);
        prop_assert_eq!(read(&bytes).unwrap(), (header, fleets));
    }

    #[test]
    fn arbitrary_frames_are_refused_without_harm(bytes in vec(any::<u8>(), 0..2_000)) {
        let mut file = small()[..10].to_vec();
        file.extend_from_slice(&bytes);
        prop_assert!(read(&file).is_err());
    }
}

#[test]
fn every_truncation_is_refused() {
    let whole = small();
    assert!(read(&whole).is_ok());
    for length in 0..whole.len() {
        let error = read(&whole[..length]).expect_err("a part of it");
        assert!(matches!(error, FileError::Truncated), "{length}: {error}");
    }
}

#[test]
fn every_other_byte_is_refused() {
    let whole = small();
    for at in 0..whole.len() {
        for mask in [0x01, 0x80, 0xff] {
            let mut flipped = whole.clone();
            flipped[at] ^= mask;
            assert!(read(&flipped).is_err(), "byte {at} with {mask:#x}");
        }
    }
}

#[test]
fn what_is_no_whole_file_is_refused_by_its_kind() {
    let mut newer = small();
    newer[8..10].copy_from_slice(&2u16.to_le_bytes());
    assert!(matches!(read(&newer), Err(FileError::Version(2))));
    assert!(matches!(
        read_header(newer.as_slice()),
        Err(FileError::Version(2))
    ));
    assert!(matches!(
        read(b"[server]\nlisten = \"0.0.0.0:9400\"\n"),
        Err(FileError::Foreign)
    ));
    let mut longer = small();
    longer.push(0);
    assert!(matches!(read(&longer), Err(FileError::Damaged(_))));
}

#[test]
fn frames_out_of_order_are_refused() {
    let record = Record {
        vehicle: "truck",
        position: None,
        presence: None,
    };
    let mut writer = Writer::begin(Vec::new(), &header()).unwrap();
    writer.vehicle(&record).unwrap();
    assert!(read(&writer.finish().unwrap().0).is_err(), "of no fleet");

    let mut writer = Writer::begin(Vec::new(), &header()).unwrap();
    writer.frame(&Frame::Header(header())).unwrap();
    assert!(read(&writer.finish().unwrap().0).is_err(), "two headers");

    let mut writer = Writer::begin(Vec::new(), &header()).unwrap();
    writer.vehicles = 1;
    assert!(read(&writer.finish().unwrap().0).is_err(), "a wrong count");

    for name in [String::new(), "a".repeat(256)] {
        let mut writer = Writer::begin(Vec::new(), &header()).unwrap();
        writer.fleet(&name).unwrap();
        assert!(read(&writer.finish().unwrap().0).is_err(), "{name}");
    }
}
