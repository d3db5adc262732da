//! Messages from dashboards.

use flatbuffers::{UnionWIPOffset, WIPOffset};
use serde::{Deserialize, Serialize};

use super::{Builder, Write, owned, owned_bytes, owned_list, write_bytes, write_list, write_text};
use crate::json::base64;
use crate::values::{Delivery, SubscribeMode};
use crate::wire;

/// A rectangle in 1e-7 degree. West greater than east crosses the antimeridian.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "the edges, which their names say")]
pub struct Viewport {
    pub south_e7: i32,
    pub west_e7: i32,
    pub north_e7: i32,
    pub east_e7: i32,
}

/// The last event that a dashboard has seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ResumePoint {
    /// Which log `sequence` counts in.
    pub epoch: u64,
    /// The event's number.
    pub sequence: u64,
}

/// What a dashboard wants to see.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Subscribe {
    /// The client's number for this request; `Ack` or `Error` carries it back.
    #[serde(default)]
    pub request: u64,
    /// In addition to what it watches, or in place of it.
    #[serde(default)]
    pub mode: SubscribeMode,
    /// The whole fleet, vehicles that join later included.
    #[serde(default)]
    pub whole_fleet: bool,
    /// Vehicle ids, also of vehicles that never connected yet.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub vehicles: Vec<String>,
    /// Names of groups of vehicles.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<String>,
    /// Vehicles that are inside of a rectangle.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub viewport: Option<Viewport>,
    /// Topics of events. Empty: positions only.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub topics: Vec<String>,
    /// The newest position per vehicle, or each one.
    #[serde(default)]
    pub delivery: Delivery,
    /// Positions and presence at most once per this many milliseconds; 0: as fast as the gateway ticks.
    #[serde(default)]
    pub min_interval_ms: u32,
    /// Send the events after this one first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resume: Option<ResumePoint>,
    /// Name of a durable consumer whose cursor the gateway keeps.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub consumer: Option<String>,
    /// Events: 0 at most once, 1 at least once and acknowledged.
    #[serde(default)]
    pub qos: u8,
}

impl From<wire::Subscribe<'_>> for Subscribe {
    fn from(view: wire::Subscribe<'_>) -> Self {
        Self {
            request: view.request(),
            mode: view.mode().try_into().unwrap_or_default(),
            whole_fleet: view.whole_fleet(),
            vehicles: owned_list(view.vehicles()),
            groups: owned_list(view.groups()),
            viewport: view.viewport().map(|port| Viewport {
                south_e7: port.south_e7(),
                west_e7: port.west_e7(),
                north_e7: port.north_e7(),
                east_e7: port.east_e7(),
            }),
            topics: owned_list(view.topics()),
            delivery: view.delivery().try_into().unwrap_or_default(),
            min_interval_ms: view.min_interval_ms(),
            resume: view.resume().map(|point| ResumePoint {
                epoch: point.epoch(),
                sequence: point.sequence(),
            }),
            consumer: owned(view.consumer()),
            qos: view.qos(),
        }
    }
}

impl Write for Subscribe {
    fn write(&self, builder: &mut Builder) -> WIPOffset<UnionWIPOffset> {
        let viewport = self
            .viewport
            .map(|v| wire::Viewport::new(v.south_e7, v.west_e7, v.north_e7, v.east_e7));
        let resume = self
            .resume
            .map(|point| wire::ResumePoint::new(point.epoch, point.sequence));
        let args = wire::SubscribeArgs {
            request: self.request,
            mode: self.mode.into(),
            whole_fleet: self.whole_fleet,
            vehicles: write_list(builder, &self.vehicles),
            groups: write_list(builder, &self.groups),
            viewport: viewport.as_ref(),
            topics: write_list(builder, &self.topics),
            delivery: self.delivery.into(),
            min_interval_ms: self.min_interval_ms,
            resume: resume.as_ref(),
            consumer: write_text(builder, self.consumer.as_ref()),
            qos: self.qos,
        };
        wire::Subscribe::create(builder, &args).as_union_value()
    }
}

/// What a dashboard does not want to see any more.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Unsubscribe {
    /// The client's number for this request; `Ack` or `Error` carries it back.
    #[serde(default)]
    pub request: u64,
    /// All that this connection watches.
    #[serde(default)]
    pub everything: bool,
    /// Only the whole-fleet wish; single vehicles stay.
    #[serde(default)]
    pub whole_fleet: bool,
    /// Vehicle ids.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub vehicles: Vec<String>,
    /// Names of groups of vehicles.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<String>,
    /// Topics of events.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub topics: Vec<String>,
}

impl From<wire::Unsubscribe<'_>> for Unsubscribe {
    fn from(view: wire::Unsubscribe<'_>) -> Self {
        Self {
            request: view.request(),
            everything: view.everything(),
            whole_fleet: view.whole_fleet(),
            vehicles: owned_list(view.vehicles()),
            groups: owned_list(view.groups()),
            topics: owned_list(view.topics()),
        }
    }
}

impl Write for Unsubscribe {
    fn write(&self, builder: &mut Builder) -> WIPOffset<UnionWIPOffset> {
        let args = wire::UnsubscribeArgs {
            request: self.request,
            everything: self.everything,
            whole_fleet: self.whole_fleet,
            vehicles: write_list(builder, &self.vehicles),
            groups: write_list(builder, &self.groups),
            topics: write_list(builder, &self.topics),
        };
        wire::Unsubscribe::create(builder, &args).as_union_value()
    }
}

/// Every event of this epoch up to and including `sequence` has been processed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EventAck {
    /// Which log `sequence` counts in.
    #[serde(default)]
    pub epoch: u64,
    /// The last processed event's number.
    #[serde(default)]
    pub sequence: u64,
}

impl From<wire::EventAck<'_>> for EventAck {
    fn from(view: wire::EventAck<'_>) -> Self {
        Self {
            epoch: view.epoch(),
            sequence: view.sequence(),
        }
    }
}

impl Write for EventAck {
    fn write(&self, builder: &mut Builder) -> WIPOffset<UnionWIPOffset> {
        let args = wire::EventAckArgs {
            epoch: self.epoch,
            sequence: self.sequence,
        };
        wire::EventAck::create(builder, &args).as_union_value()
    }
}

/// Something for a vehicle to do, from a dashboard to the gateway and from the gateway to the vehicle.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Command {
    /// The client's number for this command; its result carries it back.
    #[serde(default)]
    pub command_id: u64,
    /// Which vehicle. Absent on the way to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vehicle_id: Option<String>,
    /// What to do.
    pub name: String,
    /// Not to be delivered later than this many milliseconds after it was sent.
    #[serde(default)]
    pub ttl_ms: u32,
    /// Media type of the payload.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_type: Option<String>,
    /// Any bytes; base64 (RFC 4648 §4) in JSON.
    #[serde(default, with = "base64", skip_serializing_if = "Vec::is_empty")]
    pub payload: Vec<u8>,
    /// Set by the gateway only: when it took the command, milliseconds since the Unix epoch.
    #[serde(default)]
    pub accepted_ms: u64,
    /// Set by the gateway only: this may have been delivered before.
    #[serde(default)]
    pub redelivered: bool,
}

impl From<wire::Command<'_>> for Command {
    fn from(view: wire::Command<'_>) -> Self {
        Self {
            command_id: view.command_id(),
            vehicle_id: owned(view.vehicle_id()),
            name: view.name().to_owned(),
            ttl_ms: view.ttl_ms(),
            content_type: owned(view.content_type()),
            payload: owned_bytes(view.payload()),
            accepted_ms: view.accepted_ms(),
            redelivered: view.redelivered(),
        }
    }
}

impl Write for Command {
    fn write(&self, builder: &mut Builder) -> WIPOffset<UnionWIPOffset> {
        let args = wire::CommandArgs {
            command_id: self.command_id,
            vehicle_id: write_text(builder, self.vehicle_id.as_ref()),
            name: Some(builder.create_string(&self.name)),
            ttl_ms: self.ttl_ms,
            content_type: write_text(builder, self.content_type.as_ref()),
            payload: write_bytes(builder, &self.payload),
            accepted_ms: self.accepted_ms,
            redelivered: self.redelivered,
        };
        wire::Command::create(builder, &args).as_union_value()
    }
}
