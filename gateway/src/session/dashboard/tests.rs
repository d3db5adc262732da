use longhaul_codec::{
    Delivery, Encoder, Message, ResumePoint, Subscribe, SubscribeMode, Unsubscribe, decode,
};

use super::*;

const RULES: SubscriptionRules = SubscriptionRules {
    vehicles_max: 3,
    id_bytes_max: 4,
    min_interval_ms_max: 1_000,
};

/// What `understand` says of a message, with `see` looking at the request while the bytes live.
fn ask<T>(message: Message, see: impl Fn(DashboardRequest<'_>) -> T) -> Result<T, Rejection> {
    let mut encoder = Encoder::new();
    let encoded = encoder.message(&message);
    understand(
        decode(encoded.payload()).expect("it was just encoded"),
        RULES,
    )
    .map(see)
}

fn subscribe(of: Subscribe) -> Result<(), Rejection> {
    ask(Message::Subscribe(Subscribe { request: 9, ..of }), |_| ())
}

fn ids(ids: &[&str]) -> Vec<String> {
    ids.iter().map(|id| (*id).to_owned()).collect()
}

#[test]
fn wishes_are_understood() {
    let wish = Subscribe {
        request: 5,
        mode: SubscribeMode::Replace,
        whole_fleet: true,
        vehicles: ids(&["a", "b"]),
        min_interval_ms: 1_000,
        ..Subscribe::default()
    };
    let seen = ask(Message::Subscribe(wish), |request| match request {
        DashboardRequest::Subscribe {
            request,
            replace,
            whole_fleet,
            vehicles,
            min_interval_ms,
            ..
        } => (
            request,
            replace,
            whole_fleet,
            vehicles.iter().map(str::to_owned).collect(),
            min_interval_ms,
        ),
        other => panic!("{other:?}"),
    });
    assert_eq!(seen, Ok((5, true, true, ids(&["a", "b"]), 1_000)));

    let less = Unsubscribe {
        request: 6,
        everything: true,
        vehicles: ids(&["c"]),
        groups: ids(&["night"]),
        topics: ids(&["presence"]),
        ..Unsubscribe::default()
    };
    let seen = ask(Message::Unsubscribe(less), |request| match request {
        DashboardRequest::Unsubscribe {
            request,
            everything,
            whole_fleet,
            vehicles,
            groups,
            topics,
        } => (
            (
                request,
                everything,
                whole_fleet,
                vehicles.len() + groups.len(),
            ),
            (topics.positions, topics.presence, topics.wants_events()),
        ),
        other => panic!("{other:?}"),
    });
    assert_eq!(seen, Ok(((6, true, false, 2), (false, true, false))));
}

#[test]
fn what_is_not_served_or_out_of_bounds_is_refused_by_name() {
    use ErrorCode::{LimitReached, Malformed, NotSupported};
    let cases = [
        (
            Subscribe {
                viewport: Some(longhaul_codec::Viewport::default()),
                ..Subscribe::default()
            },
            NotSupported,
            "viewport",
        ),
        (
            Subscribe {
                groups: ids(&["night", ""]),
                ..Subscribe::default()
            },
            Malformed,
            "groups[1] is empty",
        ),
        (
            Subscribe {
                groups: vec!["night".to_owned(); 65],
                ..Subscribe::default()
            },
            LimitReached,
            "65 groups",
        ),
        (
            Subscribe {
                topics: ids(&["door", ""]),
                ..Subscribe::default()
            },
            Malformed,
            "topics[1] is empty",
        ),
        (
            Subscribe {
                topics: ids(&["events"]),
                qos: 2,
                ..Subscribe::default()
            },
            Malformed,
            "qos is 2",
        ),
        (
            Subscribe {
                topics: ids(&["presence"]),
                qos: 1,
                ..Subscribe::default()
            },
            Malformed,
            "topics names none",
        ),
        (
            Subscribe {
                topics: vec!["positions".to_owned(); 17],
                ..Subscribe::default()
            },
            LimitReached,
            "17 topics",
        ),
        (
            Subscribe {
                resume: Some(ResumePoint {
                    epoch: 1,
                    sequence: 1,
                }),
                ..Subscribe::default()
            },
            Malformed,
            "topics names none",
        ),
        (
            Subscribe {
                topics: ids(&["events"]),
                consumer: Some("me\0".to_owned()),
                ..Subscribe::default()
            },
            Malformed,
            "consumer",
        ),
        (
            Subscribe {
                min_interval_ms: 1_001,
                ..Subscribe::default()
            },
            LimitReached,
            "1001",
        ),
        (
            Subscribe {
                vehicles: ids(&["a", "b", "c", "d"]),
                ..Subscribe::default()
            },
            LimitReached,
            "4 vehicles",
        ),
        (
            Subscribe {
                vehicles: ids(&["a", ""]),
                ..Subscribe::default()
            },
            Malformed,
            "vehicles[1] is empty",
        ),
        (
            Subscribe {
                vehicles: ids(&["abcde"]),
                ..Subscribe::default()
            },
            Malformed,
            "5 bytes",
        ),
        (
            Subscribe {
                vehicles: ids(&["a\n"]),
                ..Subscribe::default()
            },
            Malformed,
            "control character",
        ),
    ];
    for (wish, code, says) in cases {
        let rejection = subscribe(wish).expect_err(says);
        assert_eq!((rejection.code, rejection.id), (code, 9), "{says}");
        assert!(
            rejection.message.contains(says),
            "{} lacks {says}",
            rejection.message
        );
    }
    assert_eq!(
        subscribe(Subscribe::default()),
        Ok(()),
        "an empty wish is one"
    );
}

#[test]
fn without_topics_positions_are_meant() {
    let asked = |topics: &[&str], delivery| {
        let wish = Subscribe {
            topics: ids(topics),
            delivery,
            ..Subscribe::default()
        };
        ask(Message::Subscribe(wish), |request| match request {
            DashboardRequest::Subscribe { topics, every, .. } => {
                (topics.positions, topics.presence, every)
            }
            other => panic!("{other:?}"),
        })
    };
    assert_eq!(asked(&[], Delivery::Latest), Ok((true, false, false)));
    assert_eq!(
        asked(&["presence"], Delivery::Every),
        Ok((false, true, true))
    );
    let both = ["presence", "positions"];
    assert_eq!(asked(&both, Delivery::Latest), Ok((true, true, false)));
}

#[test]
fn events_are_asked_for_by_topic() {
    let asked = |of: Subscribe| {
        ask(Message::Subscribe(of), |request| match request {
            DashboardRequest::Subscribe { topics, events, .. } => (
                (topics.positions, topics.all_events),
                topics.of_events().map(str::to_owned).collect::<Vec<_>>(),
                (events.acknowledged, events.consumer.map(str::to_owned)),
            ),
            other => panic!("{other:?}"),
        })
    };
    let some = Subscribe {
        topics: ids(&["door", "positions", "fence"]),
        ..Subscribe::default()
    };
    assert_eq!(
        asked(some),
        Ok(((true, false), ids(&["door", "fence"]), (false, None)))
    );
    let all = Subscribe {
        topics: ids(&["events"]),
        consumer: Some("desk".to_owned()),
        ..Subscribe::default()
    };
    assert_eq!(
        asked(all),
        Ok(((false, true), ids(&[]), (true, Some("desk".to_owned()))))
    );
}

#[test]
fn a_vehicles_message_is_not_a_dashboards() {
    let rejection = ask(
        Message::Position(longhaul_codec::Position::default()),
        |_| (),
    )
    .expect_err("refused");
    assert_eq!(rejection.code, ErrorCode::NotAllowed);
}
