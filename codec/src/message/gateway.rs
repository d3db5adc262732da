//! Messages from the gateway. `Event` and `Command`, which it passes on, are with those who send them first.

use flatbuffers::{UnionWIPOffset, WIPOffset};
use serde::{Deserialize, Serialize};

use super::{Builder, Write, owned, write_text};
use crate::fix::Fix;
use crate::values::{AckKind, ErrorCode, PresenceState, Role};
use crate::wire;

/// The first message on every connection.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Welcome {
    /// What the token makes of the peer.
    #[serde(default)]
    pub role: Role,
    /// The token's fleet.
    pub fleet: String,
    /// The token's subject: a vehicle's id, or a dashboard's user.
    pub subject: String,
    /// A vehicle's own index; 0 for a dashboard.
    #[serde(default)]
    pub vehicle: u32,
    /// The gateway's clock: milliseconds since the Unix epoch.
    #[serde(default)]
    pub gateway_time_ms: u64,
    /// How often either side should be heard, in milliseconds.
    #[serde(default)]
    pub heartbeat_ms: u32,
    /// The longest message that the gateway takes from this peer.
    #[serde(default)]
    pub message_bytes_max: u32,
    /// When the token ends: milliseconds since the Unix epoch.
    #[serde(default)]
    pub expires_ms: u64,
    /// The gateway's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// Epoch of the fleet's event log; 0: none.
    #[serde(default)]
    pub epoch: u64,
    /// Events with qos 1 that may be without an `Ack` at one time.
    #[serde(default)]
    pub event_window: u32,
}

impl From<wire::Welcome<'_>> for Welcome {
    fn from(view: wire::Welcome<'_>) -> Self {
        Self {
            role: view.role().try_into().unwrap_or_default(),
            fleet: view.fleet().to_owned(),
            subject: view.subject().to_owned(),
            vehicle: view.vehicle(),
            gateway_time_ms: view.gateway_time_ms(),
            heartbeat_ms: view.heartbeat_ms(),
            message_bytes_max: view.message_bytes_max(),
            expires_ms: view.expires_ms(),
            node: owned(view.node()),
            epoch: view.epoch(),
            event_window: view.event_window(),
        }
    }
}

impl Write for Welcome {
    fn write(&self, builder: &mut Builder) -> WIPOffset<UnionWIPOffset> {
        let args = wire::WelcomeArgs {
            role: self.role.into(),
            fleet: Some(builder.create_string(&self.fleet)),
            subject: Some(builder.create_string(&self.subject)),
            vehicle: self.vehicle,
            gateway_time_ms: self.gateway_time_ms,
            heartbeat_ms: self.heartbeat_ms,
            message_bytes_max: self.message_bytes_max,
            expires_ms: self.expires_ms,
            node: write_text(builder, self.node.as_ref()),
            epoch: self.epoch,
            event_window: self.event_window,
        };
        wire::Welcome::create(builder, &args).as_union_value()
    }
}

/// Which index stands for which vehicle. Both lists are of one length; if they are not, what is beyond the shorter
/// one is not written.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Names {
    /// Indexes.
    pub vehicles: Vec<u32>,
    /// The vehicle id of each.
    pub ids: Vec<String>,
}

impl From<wire::Names<'_>> for Names {
    fn from(view: wire::Names<'_>) -> Self {
        Self {
            vehicles: view.vehicles().iter().collect(),
            ids: view.ids().iter().map(str::to_owned).collect(),
        }
    }
}

impl Write for Names {
    fn write(&self, builder: &mut Builder) -> WIPOffset<UnionWIPOffset> {
        let pairs = self.vehicles.len().min(self.ids.len());
        let ids: Vec<_> = self.ids[..pairs]
            .iter()
            .map(|id| builder.create_string(id))
            .collect();
        let args = wire::NamesArgs {
            vehicles: Some(builder.create_vector(&self.vehicles[..pairs])),
            ids: Some(builder.create_vector(&ids)),
        };
        wire::Names::create(builder, &args).as_union_value()
    }
}

/// Where vehicles are.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Positions {
    /// One fix per vehicle, unless each one was asked for.
    pub fixes: Vec<Fix>,
    /// The gateway's clock when it encoded this: milliseconds since the Unix epoch.
    #[serde(default)]
    pub gateway_time_ms: u64,
    /// In a snapshot: one for each fix, in the same order. Otherwise empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub last_known: Vec<LastKnown>,
}

/// What the gateway knows about a last known position, for whoever was not there when it came.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LastKnown {
    /// Milliseconds since the gateway took the fix, by its own clock; `u32::MAX`: as much or more.
    pub age_ms: u32,
    /// Whether the vehicle is connected, and reports.
    pub state: PresenceState,
}

impl From<&wire::LastKnown> for LastKnown {
    fn from(view: &wire::LastKnown) -> Self {
        Self {
            age_ms: view.age_ms(),
            state: view.state().try_into().unwrap_or_default(),
        }
    }
}

impl From<wire::Positions<'_>> for Positions {
    fn from(view: wire::Positions<'_>) -> Self {
        let last_known = view.last_known().into_iter().flatten();
        Self {
            fixes: view.fixes().iter().map(Fix::from).collect(),
            gateway_time_ms: view.gateway_time_ms(),
            last_known: last_known.map(LastKnown::from).collect(),
        }
    }
}

impl Write for Positions {
    fn write(&self, builder: &mut Builder) -> WIPOffset<UnionWIPOffset> {
        let fixes: Vec<wire::Fix> = self.fixes.iter().map(wire::Fix::from).collect();
        let last_known: Vec<_> = self
            .last_known
            .iter()
            .map(|known| wire::LastKnown::new(known.age_ms, known.state.into()))
            .collect();
        let args = wire::PositionsArgs {
            last_known: (!last_known.is_empty()).then(|| builder.create_vector(&last_known)),
            fixes: Some(builder.create_vector(&fixes)),
            gateway_time_ms: self.gateway_time_ms,
        };
        wire::Positions::create(builder, &args).as_union_value()
    }
}

/// Done, and durable where that was promised.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ack {
    /// What is acknowledged.
    #[serde(default)]
    pub kind: AckKind,
    /// Its `message_id`, `request` or `command_id`.
    #[serde(default)]
    pub id: u64,
    /// How many vehicles the connection now watches; [`Ack::WHOLE_FLEET`]: all.
    #[serde(default)]
    pub watching: u32,
}

impl Ack {
    /// `watching` of a connection that watches the whole fleet.
    pub const WHOLE_FLEET: u32 = u32::MAX;
}

impl From<wire::Ack<'_>> for Ack {
    fn from(view: wire::Ack<'_>) -> Self {
        Self {
            kind: view.kind().try_into().unwrap_or_default(),
            id: view.id(),
            watching: view.watching(),
        }
    }
}

impl Write for Ack {
    fn write(&self, builder: &mut Builder) -> WIPOffset<UnionWIPOffset> {
        let args = wire::AckArgs {
            kind: self.kind.into(),
            id: self.id,
            watching: self.watching,
        };
        wire::Ack::create(builder, &args).as_union_value()
    }
}

/// Since when a vehicle is in a state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PresenceChange {
    /// Milliseconds since the Unix epoch.
    pub since_ms: u64,
    /// The vehicle's index.
    pub vehicle: u32,
    /// The state.
    pub state: PresenceState,
}

/// Vehicles that came, went or fell silent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Presence {
    /// The changes.
    pub changes: Vec<PresenceChange>,
}

impl From<wire::Presence<'_>> for Presence {
    fn from(view: wire::Presence<'_>) -> Self {
        let changes = view.changes().iter().map(|change| PresenceChange {
            since_ms: change.since_ms(),
            vehicle: change.vehicle(),
            state: change.state().try_into().unwrap_or_default(),
        });
        Self {
            changes: changes.collect(),
        }
    }
}

impl Write for Presence {
    fn write(&self, builder: &mut Builder) -> WIPOffset<UnionWIPOffset> {
        let changes: Vec<_> = self
            .changes
            .iter()
            .map(|c| wire::PresenceChange::new(c.since_ms, c.vehicle, c.state.into()))
            .collect();
        let args = wire::PresenceArgs {
            changes: Some(builder.create_vector(&changes)),
        };
        wire::Presence::create(builder, &args).as_union_value()
    }
}

/// This node is going away: reconnect after the delay, to the alternative if there is one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Drain {
    /// The delay, in milliseconds.
    #[serde(default)]
    pub reconnect_after_ms: u32,
    /// URL of another node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alternative: Option<String>,
    /// Why, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

impl From<wire::Drain<'_>> for Drain {
    fn from(view: wire::Drain<'_>) -> Self {
        Self {
            reconnect_after_ms: view.reconnect_after_ms(),
            alternative: owned(view.alternative()),
            reason: owned(view.reason()),
        }
    }
}

impl Write for Drain {
    fn write(&self, builder: &mut Builder) -> WIPOffset<UnionWIPOffset> {
        let args = wire::DrainArgs {
            reconnect_after_ms: self.reconnect_after_ms,
            alternative: write_text(builder, self.alternative.as_ref()),
            reason: write_text(builder, self.reason.as_ref()),
        };
        wire::Drain::create(builder, &args).as_union_value()
    }
}

/// The token of this connection ends soon.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenExpiring {
    /// When it ends: milliseconds since the Unix epoch.
    pub expires_ms: u64,
}

impl From<wire::TokenExpiring<'_>> for TokenExpiring {
    fn from(view: wire::TokenExpiring<'_>) -> Self {
        Self {
            expires_ms: view.expires_ms(),
        }
    }
}

impl Write for TokenExpiring {
    fn write(&self, builder: &mut Builder) -> WIPOffset<UnionWIPOffset> {
        let args = wire::TokenExpiringArgs {
            expires_ms: self.expires_ms,
        };
        wire::TokenExpiring::create(builder, &args).as_union_value()
    }
}

/// Events of one log, from `first` to `last`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EventRange {
    /// Which log the numbers count in.
    pub epoch: u64,
    /// The first event's number.
    pub first: u64,
    /// The last one's; [`u64::MAX`]: nobody knows how many there were.
    pub last: u64,
}

/// What the gateway did not do.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Error {
    /// Why, for programs.
    #[serde(default)]
    pub code: ErrorCode,
    /// What was wrong, where, and what to do, for people.
    pub message: String,
    /// The request, message or command that this answers; 0: none.
    #[serde(default)]
    pub id: u64,
    /// With the code `Gap`: the events that cannot be delivered any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub missing: Option<EventRange>,
}

impl From<wire::Error<'_>> for Error {
    fn from(view: wire::Error<'_>) -> Self {
        Self {
            code: view.code().try_into().unwrap_or_default(),
            message: view.message().to_owned(),
            id: view.id(),
            missing: view.missing().map(|range| EventRange {
                epoch: range.epoch(),
                first: range.first(),
                last: range.last(),
            }),
        }
    }
}

impl Write for Error {
    fn write(&self, builder: &mut Builder) -> WIPOffset<UnionWIPOffset> {
        let missing = self
            .missing
            .map(|range| wire::EventRange::new(range.epoch, range.first, range.last));
        let args = wire::ErrorArgs {
            code: self.code.into(),
            message: Some(builder.create_string(&self.message)),
            id: self.id,
            missing: missing.as_ref(),
        };
        wire::Error::create(builder, &args).as_union_value()
    }
}
