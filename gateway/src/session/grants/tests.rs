use serde_json::json;

use super::*;

const ID_BYTES_MAX: usize = 16;

fn parse(claim: Value, bearer: Bearer) -> Result<Grants, TokenError> {
    let entries = serde_json::from_value(claim).expect("a list of objects");
    grants(entries, bearer, ID_BYTES_MAX)
}

fn of_dashboard(claim: Value) -> Result<Grants, TokenError> {
    parse(claim, Bearer::Dashboard)
}

fn one(entry: Value) -> Grant {
    let grants = of_dashboard(json!([entry])).expect("it is good");
    assert_eq!(grants.0.len(), 1);
    grants.0[0].clone()
}

fn boxed(names: &[&str]) -> Box<[Box<str>]> {
    names.iter().map(|name| Box::from(*name)).collect()
}

#[test]
fn an_entry_says_whom_what_and_until_when() {
    assert_eq!(
        one(json!({ "fleet": true })),
        Grant {
            vehicles: Whose::whole_fleet(),
            topics: TopicSet::All,
            read: true,
            publish: false,
            command: false,
            until_unix: None,
        }
    );
    assert_eq!(
        one(json!({
            "vehicles": ["b", "a", "b"], "groups": ["night"],
            "topics": ["positions", "doors", "doors"], "may": ["command", "fly"], "until": 1_900_000_000.5,
        })),
        Grant {
            vehicles: Whose {
                fleet: false,
                vehicles: boxed(&["a", "b"]),
                groups: boxed(&["night"]),
            },
            topics: TopicSet::Some {
                positions: true,
                presence: false,
                all_events: false,
                events: boxed(&["doors"]),
            },
            read: false,
            publish: false,
            command: true,
            until_unix: Some(1_900_000_000),
        }
    );
    let nothing = one(json!({ "vehicles": [], "topics": [], "may": [], "until": -5 }));
    assert_eq!(nothing.vehicles, Whose::default());
    assert!(!nothing.topics.positions() && !nothing.topics.event("doors"));
    assert!(!nothing.read && !nothing.command);
    assert_eq!(nothing.until_unix, Some(0));
    assert_eq!(of_dashboard(json!([])), Ok(Grants::default()));
}

#[test]
fn topics_are_what_they_say() {
    for (topics, positions, presence, doors, speed) in [
        (None, true, true, true, true),
        (
            Some(json!(["positions", "presence"])),
            true,
            true,
            false,
            false,
        ),
        (Some(json!(["events"])), false, false, true, true),
        (Some(json!(["doors"])), false, false, true, false),
        (Some(json!([])), false, false, false, false),
    ] {
        let mut entry = json!({ "fleet": true });
        if let Some(topics) = &topics {
            entry["topics"] = topics.clone();
        }
        let set = one(entry).topics;
        assert_eq!(
            (
                set.positions(),
                set.presence(),
                set.event("doors"),
                set.event("speed")
            ),
            (positions, presence, doors, speed),
            "{topics:?}"
        );
    }
}

#[test]
fn a_vehicle_is_granted_what_it_may_publish() {
    let grants = parse(
        json!([
            { "may": ["publish"], "topics": ["positions"] },
            { "fleet": true, "may": ["read", "command"] },
            {},
        ]),
        Bearer::Vehicle,
    )
    .expect("it is good");
    let publish: Vec<bool> = grants.0.iter().map(|grant| grant.publish).collect();
    assert_eq!(publish, [true, false, false]);
    assert!(grants.0.iter().all(|grant| !grant.read && !grant.command));
    for field in ["vehicles", "groups"] {
        let claim = json!([{ "may": ["publish"], field: ["truck-1"] }]);
        assert!(matches!(
            parse(claim, Bearer::Vehicle),
            Err(TokenError::Grant { at: 0, .. })
        ));
    }
    assert!(parse(json!([{ "fleet": false }]), Bearer::Vehicle).is_err());
}

#[test]
fn what_is_not_understood_is_refused_if_it_could_widen() {
    for (entry, says) in [
        (json!({ "fleet": true, "region": "north" }), "a field"),
        (json!({}), "names no vehicles"),
        (json!({ "may": ["read"] }), "names no vehicles"),
        (json!({ "fleet": 1 }), "neither true nor false"),
        (json!({ "fleet": null }), "neither true nor false"),
        (json!({ "vehicles": "a" }), "a list of names"),
        (json!({ "vehicles": [7] }), "a name"),
        (json!({ "vehicles": [""] }), "empty"),
        (json!({ "vehicles": ["x".repeat(17)] }), "too long"),
        (json!({ "groups": ["a\u{7}"] }), "control character"),
        (json!({ "groups": ["g".repeat(65)] }), "too long"),
        (json!({ "fleet": true, "topics": null }), "a list of names"),
        (
            json!({ "fleet": true, "topics": ["t".repeat(129)] }),
            "too long",
        ),
        (json!({ "fleet": true, "may": "read" }), "a list of names"),
        (json!({ "fleet": true, "until": "soon" }), "until"),
        (json!({ "fleet": true, "until": null }), "until"),
    ] {
        let error = of_dashboard(json!([{ "fleet": true }, entry])).expect_err("it is wrong");
        let TokenError::Grant { at: 1, wrong } = error else {
            panic!("{entry}: {error:?}")
        };
        assert!(wrong.contains(says), "{entry}: {wrong}");
    }
    let twice = r#"[{"vehicles":["a"],"vehicles":["b"]}]"#;
    assert!(serde_json::from_str::<Vec<Entry>>(twice).is_err());
}

#[test]
fn all_of_it_is_bounded() {
    let entries = |count: usize| Value::Array(vec![json!({ "fleet": true }); count]);
    assert!(of_dashboard(entries(GRANTS_MAX)).is_ok());
    assert_eq!(
        of_dashboard(entries(GRANTS_MAX + 1)),
        Err(TokenError::TooMany {
            claim: "grants",
            count: 65,
            count_max: 64
        })
    );
    let names = |count: usize| {
        let names: Vec<String> = (0..count).map(|number| format!("v{number}")).collect();
        json!([{ "vehicles": names }])
    };
    assert!(of_dashboard(names(GRANT_NAMES_MAX)).is_ok());
    assert_eq!(
        of_dashboard(names(GRANT_NAMES_MAX + 1)),
        Err(TokenError::TooMany {
            claim: "grants",
            count: 4_097,
            count_max: 4_096
        })
    );
    let long: Vec<String> = (0..GRANT_NAMES_MAX)
        .map(|number| format!("vehicle--{number:07}"))
        .collect();
    let full = GRANT_BYTES_MAX / GRANT_NAMES_MAX;
    assert_eq!(long[0].len(), full);
    assert!(of_dashboard(json!([{ "vehicles": long }])).is_ok());
}

#[test]
fn groups_are_names_each_once() {
    let named = |names: &[&str]| groups(names.iter().map(|name| (*name).to_owned()).collect());
    assert_eq!(
        named(&["night", "berlin", "night"]),
        Ok(boxed(&["berlin", "night"]))
    );
    assert_eq!(named(&[""]), Err(TokenError::Empty("groups")));
    assert!(matches!(
        named(&["x"; GROUPS_PER_TOKEN_MAX + 1]),
        Err(TokenError::TooMany { .. })
    ));
}
