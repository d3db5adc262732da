//! What a dashboard may ask for. Pure: a message in, a request or a rejection out.

use longhaul_codec::{ErrorCode, MessageRef, wire};

use super::rejection::Rejection;

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
    },
}

/// A list of vehicle ids as it lies in the message.
#[derive(Debug, Clone, Copy, Default)]
pub struct Ids<'a>(Option<flatbuffers::Vector<'a, flatbuffers::ForwardsUOffset<&'a str>>>);

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
pub fn understand(message: MessageRef<'_>, rules: SubscriptionRules) -> Result<DashboardRequest<'_>, Rejection> {
    match message {
        MessageRef::Subscribe(subscribe) => {
            let request = subscribe.request();
            served(request, &unserved_of(&subscribe))?;
            let interval = subscribe.min_interval_ms();
            if interval > rules.min_interval_ms_max {
                let limit = rules.min_interval_ms_max;
                let says = format!("min_interval_ms is {interval}, the limit is {limit}");
                return Err(Rejection::new(ErrorCode::LimitReached, request, says));
            }
            Ok(DashboardRequest::Subscribe {
                request,
                replace: subscribe.mode() == wire::SubscribeMode::Replace,
                whole_fleet: subscribe.whole_fleet(),
                vehicles: checked(subscribe.vehicles(), request, rules)?,
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
            })
        }
        MessageRef::Command(command) => Err(Rejection::new(
            ErrorCode::NotSupported,
            command.command_id(),
            "this gateway delivers no commands: it was not passed on",
        )),
        MessageRef::EventAck(_) => {
            Err(Rejection::new(ErrorCode::NotSupported, 0, "this gateway has no event log: there is nothing to acknowledge"))
        }
        _ => Err(Rejection::new(
            ErrorCode::NotAllowed,
            0,
            "dashboards send Subscribe, Unsubscribe, EventAck and Command; this message is not one of them",
        )),
    }
}

/// The fields of a Subscribe that are set and that this gateway does not serve: refused by name, never ignored.
fn unserved_of(subscribe: &wire::Subscribe<'_>) -> Vec<&'static str> {
    let set = [
        (subscribe.groups().is_some_and(|groups| !groups.is_empty()), "groups"),
        (subscribe.viewport().is_some(), "viewport"),
        (subscribe.topics().is_some_and(|topics| !topics.is_empty()), "topics"),
        (subscribe.delivery() == wire::Delivery::Every, "delivery Every"),
        (subscribe.resume().is_some(), "resume"),
        (subscribe.consumer().is_some_and(|consumer| !consumer.is_empty()), "consumer"),
    ];
    set.into_iter().filter_map(|(set, name)| set.then_some(name)).collect()
}

fn served(request: u64, unserved: &[&'static str]) -> Result<(), Rejection> {
    if unserved.is_empty() {
        return Ok(());
    }
    let says = format!(
        "this gateway does not serve {} in Subscribe; use vehicles or whole_fleet, with delivery Latest",
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
        return Err(Rejection::new(ErrorCode::LimitReached, request, says));
    }
    for (at, id) in ids.iter().enumerate() {
        if let Err(wrong) = check_id(id, rules.id_bytes_max) {
            return Err(Rejection::new(ErrorCode::Malformed, request, format!("vehicles[{at}] {wrong}")));
        }
    }
    Ok(ids)
}

fn check_id(id: &str, bytes_max: usize) -> Result<(), String> {
    if id.is_empty() {
        return Err("is empty".to_owned());
    }
    if id.len() > bytes_max {
        return Err(format!("has {} bytes, the limit is {bytes_max} (limits.vehicle_id_bytes_max)", id.len()));
    }
    if id.chars().any(char::is_control) {
        return Err("has a control character".to_owned());
    }
    Ok(())
}
