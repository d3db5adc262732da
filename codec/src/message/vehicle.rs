//! Messages from vehicles.

use flatbuffers::{UnionWIPOffset, WIPOffset};
use serde::{Deserialize, Serialize};

use super::{Builder, Write, owned, owned_bytes, write_bytes, write_text};
use crate::fix::Fix;
use crate::json::base64;
use crate::values::CommandStatus;
use crate::wire;

/// Where the sender is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Position {
    /// The fix.
    pub fix: Fix,
    /// If given, it must be the token's subject.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vehicle_id: Option<String>,
}

impl From<wire::Position<'_>> for Position {
    fn from(view: wire::Position<'_>) -> Self {
        Self {
            fix: view.fix().into(),
            vehicle_id: owned(view.vehicle_id()),
        }
    }
}

impl Write for Position {
    fn write(&self, builder: &mut Builder) -> WIPOffset<UnionWIPOffset> {
        let vehicle_id = write_text(builder, self.vehicle_id.as_ref());
        let args = wire::PositionArgs {
            fix: Some(&self.fix.into()),
            vehicle_id,
        };
        wire::Position::create(builder, &args).as_union_value()
    }
}

/// Several fixes of the sender, oldest first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PositionBatch {
    /// The fixes.
    pub fixes: Vec<Fix>,
    /// If given, it must be the token's subject.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vehicle_id: Option<String>,
}

impl From<wire::PositionBatch<'_>> for PositionBatch {
    fn from(view: wire::PositionBatch<'_>) -> Self {
        Self {
            fixes: view.fixes().iter().map(Fix::from).collect(),
            vehicle_id: owned(view.vehicle_id()),
        }
    }
}

impl Write for PositionBatch {
    fn write(&self, builder: &mut Builder) -> WIPOffset<UnionWIPOffset> {
        let vehicle_id = write_text(builder, self.vehicle_id.as_ref());
        let fixes: Vec<wire::Fix> = self.fixes.iter().map(wire::Fix::from).collect();
        let args = wire::PositionBatchArgs {
            fixes: Some(builder.create_vector(&fixes)),
            vehicle_id,
        };
        wire::PositionBatch::create(builder, &args).as_union_value()
    }
}

/// Something that happened, from a vehicle to the gateway and from the gateway to dashboards.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Event {
    /// What it is about; dashboards subscribe to topics.
    pub topic: String,
    /// 0: delivered at most once. 1: at least once, acknowledged when durable.
    #[serde(default)]
    pub qos: u8,
    /// The vehicle's own number for a qos 1 event.
    #[serde(default)]
    pub message_id: u64,
    /// When it happened, by the vehicle's clock: milliseconds since the Unix epoch.
    #[serde(default)]
    pub time_ms: u64,
    /// Media type of the payload.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_type: Option<String>,
    /// Any bytes; base64 (RFC 4648 §4) in JSON.
    #[serde(default, with = "base64", skip_serializing_if = "Vec::is_empty")]
    pub payload: Vec<u8>,
    /// Set by the gateway only: the sender's index.
    #[serde(default)]
    pub vehicle: u32,
    /// Set by the gateway only: the event's number within the fleet and epoch.
    #[serde(default)]
    pub sequence: u64,
    /// Set by the gateway only: which log `sequence` counts in.
    #[serde(default)]
    pub epoch: u64,
    /// Set by the gateway only: this may have been delivered before.
    #[serde(default)]
    pub redelivered: bool,
    /// Set by the gateway only: the sender, where there is no index for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vehicle_id: Option<String>,
}

impl From<wire::Event<'_>> for Event {
    fn from(view: wire::Event<'_>) -> Self {
        Self {
            topic: view.topic().to_owned(),
            qos: view.qos(),
            message_id: view.message_id(),
            time_ms: view.time_ms(),
            content_type: owned(view.content_type()),
            payload: owned_bytes(view.payload()),
            vehicle: view.vehicle(),
            sequence: view.sequence(),
            epoch: view.epoch(),
            redelivered: view.redelivered(),
            vehicle_id: owned(view.vehicle_id()),
        }
    }
}

impl Write for Event {
    fn write(&self, builder: &mut Builder) -> WIPOffset<UnionWIPOffset> {
        let args = wire::EventArgs {
            topic: Some(builder.create_string(&self.topic)),
            qos: self.qos,
            message_id: self.message_id,
            time_ms: self.time_ms,
            content_type: write_text(builder, self.content_type.as_ref()),
            payload: write_bytes(builder, &self.payload),
            vehicle: self.vehicle,
            sequence: self.sequence,
            epoch: self.epoch,
            redelivered: self.redelivered,
            vehicle_id: write_text(builder, self.vehicle_id.as_ref()),
        };
        wire::Event::create(builder, &args).as_union_value()
    }
}

/// What became of a command, from the vehicle that got it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CommandResult {
    /// The number that the command came with.
    #[serde(default)]
    pub command_id: u64,
    /// Whether it was done.
    #[serde(default)]
    pub status: CommandStatus,
    /// Media type of the payload.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_type: Option<String>,
    /// Any bytes; base64 (RFC 4648 §4) in JSON.
    #[serde(default, with = "base64", skip_serializing_if = "Vec::is_empty")]
    pub payload: Vec<u8>,
    /// Set by the gateway only: the sender's index.
    #[serde(default)]
    pub vehicle: u32,
}

impl From<wire::CommandResult<'_>> for CommandResult {
    fn from(view: wire::CommandResult<'_>) -> Self {
        Self {
            command_id: view.command_id(),
            status: view.status().try_into().unwrap_or_default(),
            content_type: owned(view.content_type()),
            payload: owned_bytes(view.payload()),
            vehicle: view.vehicle(),
        }
    }
}

impl Write for CommandResult {
    fn write(&self, builder: &mut Builder) -> WIPOffset<UnionWIPOffset> {
        let args = wire::CommandResultArgs {
            command_id: self.command_id,
            status: self.status.into(),
            content_type: write_text(builder, self.content_type.as_ref()),
            payload: write_bytes(builder, &self.payload),
            vehicle: self.vehicle,
        };
        wire::CommandResult::create(builder, &args).as_union_value()
    }
}
