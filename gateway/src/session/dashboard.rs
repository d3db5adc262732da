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
mod tests;
