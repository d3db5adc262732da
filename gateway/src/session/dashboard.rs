//! What a dashboard may ask for. Pure: a message in, a request or a rejection out.

use longhaul_codec::{ErrorCode, MessageRef, ResumePoint, wire};

use super::{
    event::check_name,
    rejection::{Bound, Rejection},
    topics::{EventWish, Topics},
};
use crate::limits::{GROUP_NAME_BYTES_MAX, SUBSCRIPTION_GROUPS_MAX};

/// A dashboard's message, understood and within bounds.
#[derive(Debug, Clone, Copy)]
pub enum DashboardRequest<'a> {
    /// Watch more, or something else.
    Subscribe {
        /// The client's number for it.
        request: u64,
        /// Instead of what it watches now, or on top.
        replace: bool,
        /// The whole fleet, vehicles to come included.
        whole_fleet: bool,
        /// Vehicle ids.
        vehicles: Ids<'a>,
        /// Names of groups.
        groups: Ids<'a>,
        /// What of them.
        topics: Topics<'a>,
        /// How events come, if the topics ask for some.
        events: EventWish<'a>,
        /// Each position, or the newest one.
        every: bool,
        /// Milliseconds between two `Positions` at least; 0: every tick.
        min_interval_ms: u32,
    },
    /// Watch less.
    Unsubscribe {
        /// The client's number for it.
        request: u64,
        /// All of it.
        everything: bool,
        /// The whole-fleet wish.
        whole_fleet: bool,
        /// Vehicle ids.
        vehicles: Ids<'a>,
        /// Names of groups.
        groups: Ids<'a>,
        /// These of what it is told of them.
        topics: Topics<'a>,
    },
    /// Every event of this epoch up to and including this one is done with.
    EventAck(ResumePoint),
    /// Something for a vehicle to do.
    Command(wire::Command<'a>),
    /// A fresh token.
    Authenticate(wire::Authenticate<'a>),
}

/// A list of vehicle ids as it lies in the message.
#[derive(Debug, Clone, Copy, Default)]
pub struct Ids<'a>(
    pub(super) Option<flatbuffers::Vector<'a, flatbuffers::ForwardsUOffset<&'a str>>>,
);

impl<'a> Ids<'a> {
    /// Each id in order.
    pub fn iter(self) -> impl Iterator<Item = &'a str> {
        self.0.into_iter().flatten()
    }

    /// How many.
    #[must_use]
    pub fn len(self) -> usize {
        self.0.map_or(0, |ids| ids.len())
    }
}

/// The bounds that a request is held against.
#[derive(Debug, Clone, Copy)]
pub struct SubscriptionRules {
    /// Ids in one message, and vehicles that one dashboard watches.
    pub vehicles_max: usize,
    /// Bytes of one vehicle id.
    pub id_bytes_max: usize,
    /// The longest interval between frames, in milliseconds.
    pub min_interval_ms_max: u32,
}

/// Says what `message` asks for.
///
/// # Errors
/// A message that dashboards do not send, that this gateway does not serve, or that is out of bounds.
pub fn understand(
    message: MessageRef<'_>,
    rules: SubscriptionRules,
) -> Result<DashboardRequest<'_>, Rejection> {
    match message {
        MessageRef::Subscribe(subscribe) => {
            let request = subscribe.request();
            served(request, &unserved_of(&subscribe))?;
            let interval = subscribe.min_interval_ms();
            if interval > rules.min_interval_ms_max {
                let limit = rules.min_interval_ms_max;
                let says = format!(
                    "min_interval_ms is {interval}, the limit is {limit} (limits.min_interval_ms_max)"
                );
                let rejection = Rejection::new(ErrorCode::LimitReached, request, says);
                return Err(rejection.over(Bound::MinInterval));
            }
            let mut topics = Topics::named(subscribe.topics(), request)?;
            topics.positions |= topics.is_empty();
            let events = EventWish::of(&subscribe, topics)?;
            Ok(DashboardRequest::Subscribe {
                request,
                topics,
                events,
                every: subscribe.delivery() == wire::Delivery::Every,
                replace: subscribe.mode() == wire::SubscribeMode::Replace,
                whole_fleet: subscribe.whole_fleet(),
                vehicles: checked(subscribe.vehicles(), request, rules)?,
                groups: checked_groups(subscribe.groups(), request)?,
                min_interval_ms: interval,
            })
        }
        MessageRef::Unsubscribe(unsubscribe) => {
            let request = unsubscribe.request();
            Ok(DashboardRequest::Unsubscribe {
                request,
                everything: unsubscribe.everything(),
                whole_fleet: unsubscribe.whole_fleet(),
                vehicles: checked(unsubscribe.vehicles(), request, rules)?,
                groups: checked_groups(unsubscribe.groups(), request)?,
                topics: Topics::named(unsubscribe.topics(), request)?,
            })
        }
        MessageRef::Command(command) => Ok(DashboardRequest::Command(command)),
        MessageRef::Authenticate(fresh) => Ok(DashboardRequest::Authenticate(fresh)),
        MessageRef::EventAck(ack) => Ok(DashboardRequest::EventAck(ResumePoint {
            epoch: ack.epoch(),
            sequence: ack.sequence(),
        })),
        _ => Err(Rejection::new(
            ErrorCode::NotAllowed,
            0,
            "dashboards send Subscribe, Unsubscribe, EventAck, Command and Authenticate; this message is not one of them",
        )),
    }
}

/// The fields of a Subscribe that are set and that this gateway does not serve: refused by name, never ignored.
fn unserved_of(subscribe: &wire::Subscribe<'_>) -> Vec<&'static str> {
    let set = [(subscribe.viewport().is_some(), "viewport")];
    named(set)
}

fn named<const N: usize>(set: [(bool, &'static str); N]) -> Vec<&'static str> {
    set.into_iter()
        .filter_map(|(set, name)| set.then_some(name))
        .collect()
}

fn served(request: u64, unserved: &[&'static str]) -> Result<(), Rejection> {
    if unserved.is_empty() {
        return Ok(());
    }
    let says = format!(
        "this gateway does not serve {}; use vehicles, groups or whole_fleet",
        unserved.join(", ")
    );
    Err(Rejection::new(ErrorCode::NotSupported, request, says))
}

fn checked<'a>(
    ids: Option<flatbuffers::Vector<'a, flatbuffers::ForwardsUOffset<&'a str>>>,
    request: u64,
    rules: SubscriptionRules,
) -> Result<Ids<'a>, Rejection> {
    let ids = Ids(ids);
    if ids.len() > rules.vehicles_max {
        let says = format!(
            "{} vehicles in one message, the limit is {} (limits.subscription_vehicles_max)",
            ids.len(),
            rules.vehicles_max
        );
        let rejection = Rejection::new(ErrorCode::LimitReached, request, says);
        return Err(rejection.over(Bound::SubscriptionVehicles));
    }
    for (at, id) in ids.iter().enumerate() {
        if let Err(wrong) = check_id(id, rules.id_bytes_max) {
            let says = format!("vehicles[{at}] {wrong}");
            let rejection = Rejection::new(ErrorCode::Malformed, request, says);
            return Err(if id.len() > rules.id_bytes_max {
                rejection.over(Bound::VehicleIdBytes)
            } else {
                rejection
            });
        }
    }
    Ok(ids)
}

fn checked_groups<'a>(
    names: Option<flatbuffers::Vector<'a, flatbuffers::ForwardsUOffset<&'a str>>>,
    request: u64,
) -> Result<Ids<'a>, Rejection> {
    let names = Ids(names);
    if names.len() > SUBSCRIPTION_GROUPS_MAX {
        let says = format!(
            "{} groups in one message, the limit is {SUBSCRIPTION_GROUPS_MAX}",
            names.len()
        );
        let rejection = Rejection::new(ErrorCode::LimitReached, request, says);
        return Err(rejection.over(Bound::SubscriptionGroups));
    }
    for (at, name) in names.iter().enumerate() {
        check_name(name, GROUP_NAME_BYTES_MAX).map_err(|wrong| {
            let says = format!("groups[{at}] {wrong}");
            Rejection::new(ErrorCode::Malformed, request, says)
        })?;
    }
    Ok(names)
}

fn check_id(id: &str, bytes_max: usize) -> Result<(), String> {
    if id.is_empty() {
        return Err("is empty".to_owned());
    }
    if id.len() > bytes_max {
        return Err(format!(
            "has {} bytes, the limit is {bytes_max} (limits.vehicle_id_bytes_max)",
            id.len()
        ));
    }
    if id.chars().any(char::is_control) {
        return Err("has a control character".to_owned());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
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
}
